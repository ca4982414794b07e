//! Facts of a healthy pipeline of three stages, for tests that then spoil one thing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::snapshot;

use super::facts::{Facts, Fixed, FixedStage, StageFacts, StoreFacts};
use super::progress::Stall;
use super::window::PIPELINE;
use crate::record::EntryId;
use crate::runtime::WorkerView;
use crate::store::{Aggregates, ConsumerDepth, Depth, Lag, Ledger, Server, StageDepth};

/// Wall time and server time of the fixtures.
pub(super) const NOW: u64 = 1_700_000_000_000;

pub(super) fn id(ms: u64) -> EntryId {
    EntryId { ms, seq: 0 }
}

pub(super) fn fixed(names: &[&str]) -> Fixed {
    let last = names.len() - 1;
    let stage = |(i, name): (usize, &&str)| FixedStage {
        name: (*name).to_owned(),
        delivery: "shared".to_owned(),
        stream: if i == 0 {
            "events".to_owned()
        } else {
            format!("{{events}}:{}", names[i - 1])
        },
        group: (*name).to_owned(),
        from: if i == 0 {
            "source".to_owned()
        } else {
            names[i - 1].to_owned()
        },
        operators: vec!["validate".to_owned()],
        claim_after: Duration::from_secs(60),
        terminal: i == last,
        aggregates: i == last,
    };
    Fixed {
        pipeline: "shop".to_owned(),
        redis_url: "redis://db:6379".to_owned(),
        version: "1.2.3".to_owned(),
        instance: "a".to_owned(),
        stages: names.iter().enumerate().map(stage).collect(),
        backoff_max: Duration::from_secs(30),
        ..Fixed::default()
    }
}

pub(super) fn ledger() -> Ledger {
    Ledger {
        accepted: 100,
        applied: 90,
        dead: 4,
        pending: 6,
        applied_in_aggregates: 90,
        ..Ledger::default()
    }
}

/// A balanced reading.
pub(super) fn depth(n_stages: usize) -> Depth {
    let stage = StageDepth {
        present: true,
        length: 100,
        consumers: 1,
        lag: Lag::Known(0),
        last_delivered: id(NOW),
        last_id: id(NOW),
        ledger: Ledger {
            accepted: 100,
            applied: 100,
            ..Ledger::default()
        },
        ..StageDepth::default()
    };
    Depth {
        now_ms: NOW,
        stages: vec![stage; n_stages],
        ledger: ledger(),
        dead_length: 4,
        aggregated: 90,
        foreign: Vec::new(),
        memory: Some((1_000, 0)),
    }
}

pub(super) fn server() -> Server {
    Server {
        version: "7.0.15".to_owned(),
        flavour: "redis".to_owned(),
        mode: "standalone".to_owned(),
        eviction: "noeviction".to_owned(),
        append_only: true,
        ..Server::default()
    }
}

pub(super) fn worker(name: &str, state: &'static str) -> WorkerView {
    WorkerView {
        consumer: name.to_owned(),
        state,
        since_ms: NOW - 10,
        ..WorkerView::default()
    }
}

pub(super) fn consumer(name: &str, pending: u64) -> ConsumerDepth {
    ConsumerDepth {
        name: Bytes::copy_from_slice(name.as_bytes()),
        pending,
        idle_ms: 100,
        inactive_ms: Some(100),
        oldest: (pending > 0).then(|| id(NOW - 5_000)),
    }
}

/// All is well; the daemon has run for ten minutes.
pub(super) fn facts() -> Facts {
    let names = ["check", "enrich", "count"];
    let stage = |name: &&str| {
        let consumer_name = format!("a-{name}-0");
        StageFacts {
            running: 1,
            wanted: 1,
            workers: vec![worker(&consumer_name, "reading")],
            last_read_ms: NOW - 500,
            in_per_s: Some(10.0),
            out_per_s: Some(10.0),
            consumers: Some(Arc::new(vec![consumer(&consumer_name, 0)])),
            ..StageFacts::default()
        }
    };
    Facts {
        seq: 600,
        now_ms: NOW,
        uptime: Duration::from_secs(600),
        fixed: Arc::new(fixed(&names)),
        store: StoreFacts {
            depth: Some(Arc::new(depth(3))),
            server: Some(Arc::new(server())),
            aggregates: Some((
                Arc::new(Aggregates {
                    total: 90,
                    ..Aggregates::default()
                }),
                Duration::ZERO,
            )),
            ..StoreFacts::default()
        },
        in_per_s: Some(10.0),
        out_per_s: Some(10.0),
        stages: names.iter().map(stage).collect(),
        latency: vec![snapshot::Latency {
            stage: PIPELINE.to_owned(),
            measure: "end_to_end".to_owned(),
            count: 5,
            p50: Some(1.0),
            p95: Some(2.0),
            p99: Some(3.0),
            p999: Some(4.0),
            ..snapshot::Latency::default()
        }],
        ..Facts::default()
    }
}

/// Changes the depth in place.
pub(super) fn spoil(facts: &mut Facts, change: impl FnOnce(&mut Depth)) {
    let depth = facts.store.depth.as_mut().expect("the fixture has a depth");
    change(Arc::make_mut(depth));
}

/// A worker of ours (or a foreign consumer) that stands still with entries.
pub(super) fn stall(
    facts: &mut Facts,
    i: usize,
    name: &str,
    pending: u64,
    lasts: Duration,
    in_hand: bool,
) {
    let stage = &mut facts.stages[i];
    let mut consumers = stage.consumers.as_deref().cloned().unwrap_or_default();
    consumers.retain(|c| c.name != name);
    consumers.push(consumer(name, pending));
    stage.consumers = Some(Arc::new(consumers));
    let name = Bytes::copy_from_slice(name.as_bytes());
    stage.stalls.insert(name, Stall { lasts, in_hand });
}
