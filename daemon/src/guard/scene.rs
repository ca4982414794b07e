//! What runs, as experiments and the guard see it: from the configuration, the names in the store and the workers that
//! live at this instant.

use pipectl_shared::config::{By, Config, Durability, Operator};

use super::job::{KeyNames, Roles, Stops};
use crate::experiments::{Scene, SceneStage};
use crate::runtime::Handle;
use crate::store::Layout;

/// The scene of this instant.
pub(super) fn scene(
    config: &Config,
    layout: &Layout,
    handle: &Handle,
    rate: u64,
    seed: u64,
) -> Scene {
    let append_fsync = match (config.redis.url.as_str(), config.redis.durability) {
        ("managed", Durability::Aof) => "always".to_owned(),
        ("managed", Durability::Memory | Durability::Replica) => config.redis.append_fsync.clone(),
        _ => String::new(),
    };
    Scene {
        stages: layout
            .stages
            .iter()
            .map(|stage| {
                let settings = config.stages.iter().find(|s| s.name == stage.name);
                let operators = settings.map_or(&[][..], |settings| &settings.operators);
                let caches = operators.iter().filter_map(|operator| match operator {
                    Operator::Lookup(lookup) => Some(lookup.cache_entries),
                    _ => None,
                });
                SceneStage {
                    name: stage.name.clone(),
                    stream: stage.stream.clone(),
                    group: stage.group.clone(),
                    owned: stage.owned,
                    workers: workers(handle, &stage.name),
                    claim_after_ms: settings.map_or(0, |settings| millis(settings.claim_after)),
                    has_lookup: caches.clone().next().is_some(),
                    cache_entries: caches.sum(),
                    has_next: stage.output_readers > 0,
                }
            })
            .collect(),
        source: layout.source.clone(),
        dedupe_ms: layout.dedupe.map(|dedupe| millis(dedupe.window)),
        max_ms: millis(config.chaos.max_duration),
        rate,
        append_fsync,
        seed,
    }
}

/// Consumer names of the workers that work: one that stands by for an owned stage never comes to a point.
fn workers(handle: &Handle, stage: &str) -> Vec<String> {
    let Some((_, stage)) = handle.stage(stage) else {
        return Vec::new();
    };
    let views = stage.workers().into_iter();
    views
        .filter(|view| !matches!(view.state, "stopped" | "standby"))
        .map(|view| view.consumer)
        .collect()
}

/// When a run is stopped early.
pub(super) fn stops(config: &Config) -> Stops {
    Stops {
        availability: config.chaos.stop_availability,
        freshness_ms: millis(config.chaos.stop_freshness),
        memory: config.chaos.stop_memory,
    }
}

/// Field names of the roles.
pub(super) fn roles(config: &Config) -> Roles {
    let event = &config.event;
    Roles {
        id: event.id.clone(),
        key: event.key.clone(),
        kind: event.kind.clone(),
        time: event.time.clone(),
        value: event.value.clone(),
        product: event.product.clone(),
        session: event.session.clone(),
    }
}

/// Keys in the store.
pub(super) fn keys(config: &Config, layout: &Layout) -> KeyNames {
    let last = layout
        .stages
        .iter()
        .filter(|stage| stage.output_readers == 0);
    let by_session = last
        .filter_map(|stage| config.stages.iter().find(|s| s.name == stage.name))
        .flat_map(|stage| &stage.operators)
        .any(|operator| matches!(operator, Operator::Aggregate(a) if a.by.contains(&By::Session)));
    KeyNames {
        prefix: layout.key(""),
        dead: layout.key("dead"),
        by_session,
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::testkit::{Bench, WORKER, config, layout};
    use crate::runtime::WorkerView;

    #[tokio::test]
    async fn it_names_the_workers_that_run_and_no_others() {
        let mut bench = Bench::new().await;
        bench.worker();
        let stopped = WorkerView {
            consumer: "a-enrich-9".to_owned(),
            state: "stopped",
            ..WorkerView::default()
        };
        bench.setup.handle.stages[0].show_worker(stopped);
        let mut config = config();
        config.redis.durability = Durability::Aof;
        let scene = scene(&config, &layout(), &bench.setup.handle, 200, 7);
        let told: Vec<_> = scene
            .stages
            .iter()
            .map(|s| (s.name.as_str(), s.workers.clone(), s.has_next))
            .collect();
        let expected = [
            ("enrich", vec![WORKER.to_owned()], true),
            ("count", Vec::new(), false),
        ];
        assert_eq!(told, expected);
        assert_eq!((scene.rate, scene.seed, scene.max_ms), (200, 7, 120_000));
        assert_eq!(
            (scene.append_fsync.as_str(), scene.dedupe_ms),
            ("always", Some(3_600_000))
        );
        assert_eq!(keys(&config, &layout()).prefix, "{events}:");
    }
}
