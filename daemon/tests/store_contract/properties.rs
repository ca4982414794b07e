//! Properties over random histories: on one store by its own record, on two stores word by word. The failing history is
//! printed, already made small.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::harness::{Backend, MemoryBackend};
use super::history::{History, Shape, Step, shapes, steps};

/// `n` cases, or what `PROPTEST_CASES` says.
pub(crate) fn runner(n: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(n);
    TestRunner::new(Config {
        cases,
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..Config::default()
    })
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs a history to its rest; its trace.
async fn lived(backend: &dyn Backend, shape: Shape, steps: &[Step]) -> Vec<String> {
    let mut history = History::new(backend, shape.layout()).await;
    for step in steps {
        history.run(step).await;
    }
    history.finish().await;
    history.trace
}

/// Runs the same history on both and compares the traces.
async fn both_agree(
    one: &dyn Backend,
    other: &dyn Backend,
    shape: Shape,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let (one, other) = (
        lived(one, shape, steps).await,
        lived(other, shape, steps).await,
    );
    for (i, (line, same)) in one.iter().zip(&other).enumerate() {
        prop_assert_eq!(line, same, "line {} of the trace", i);
    }
    prop_assert_eq!(one.len(), other.len());
    Ok(())
}

#[test]
fn in_any_history_every_entry_is_accounted_for_and_counted_once() {
    let runtime = runtime();
    let checked = runner(400).run(&(shapes(), steps(90)), |(shape, steps)| {
        runtime.block_on(async {
            let memory = MemoryBackend::start().await;
            lived(&memory, shape, &steps).await;
        });
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

/// The comparison itself, on two stores that must agree; with the Redis store it compares that one instead.
#[test]
fn the_same_history_gives_the_same_trace() {
    let runtime = runtime();
    let checked = runner(60).run(&(shapes(), steps(60)), |(shape, steps)| {
        runtime.block_on(async {
            let (one, other) = (MemoryBackend::start().await, MemoryBackend::start().await);
            both_agree(&one, &other, shape, &steps).await
        })
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

#[test]
fn memory_and_redis_live_the_same_history() {
    let runtime = runtime();
    let redis = runtime.block_on(super::on_redis::RedisBackend::start());
    let checked = runner(100).run(&(shapes(), steps(60)), |(shape, steps)| {
        runtime.block_on(async {
            redis.meddler().flush().await;
            let memory = MemoryBackend::start().await;
            let agreed = both_agree(&memory, &redis, shape, &steps);
            tokio::time::timeout(Duration::from_secs(60), agreed)
                .await
                .expect("a history takes too long")
        })
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
