//! The gallery as a whole: every Spec is complete, every method is whole, takes back what it does, and stays in its limits.

use std::collections::BTreeSet;

use pipectl_shared::spec::ParamKind;
use serde_json::{Map, Value};

use super::*;
use crate::chaos::Order;

/// Families of `[chaos] allow`.
const FAMILIES: [&str; 7] = [
    "worker", "daemon", "redis", "net", "data", "lookup", "cache",
];

fn scene() -> Scene {
    let stage = |name: &str, stream: &str, has_next| SceneStage {
        name: name.to_owned(),
        stream: stream.to_owned(),
        group: format!("{name}-group"),
        owned: false,
        workers: (1..=4).map(|n| format!("here-{name}-{n}")).collect(),
        claim_after_ms: 2_000,
        has_lookup: name == "enrich",
        cache_entries: if name == "enrich" { 100 } else { 0 },
        has_next,
    };
    Scene {
        stages: vec![
            stage("enrich", "events", true),
            stage("count", "{events}:enrich", false),
        ],
        source: "events".to_owned(),
        dedupe_ms: Some(60_000),
        max_ms: 120_000,
        rate: 1_000,
        append_fsync: "everysec".to_owned(),
        seed: 7,
    }
}

/// The defaults of a Spec as its check would leave them.
fn defaults(experiment: &Experiment) -> Map<String, Value> {
    let params = (experiment.spec)().params.into_iter();
    params
        .filter_map(|param| {
            let text = param.default.filter(|text| !text.is_empty())?;
            let value = match param.kind {
                ParamKind::Integer { .. } => Value::from(text.parse::<i64>().unwrap()),
                ParamKind::Share { .. } => {
                    Value::from(text.trim_end_matches('%').parse::<u8>().unwrap())
                }
                _ => Value::from(text),
            };
            Some((param.name, value))
        })
        .collect()
}

fn method(experiment: &Experiment, scene: &Scene, for_ms: Option<u64>) -> Result<Method, String> {
    let given = defaults(experiment);
    (experiment.method)(
        scene,
        &Params {
            given: &given,
            for_ms,
        },
    )
}

#[test]
fn every_spec_is_complete_named_once_and_of_a_known_family() {
    let mut names = BTreeSet::new();
    for experiment in EXPERIMENTS {
        let spec = (experiment.spec)();
        let family = spec.name.split('.').next().unwrap();
        assert!(FAMILIES.contains(&family), "{}", spec.name);
        assert!(spec.summary.ends_with('.'), "{}", spec.name);
        assert!(experiment.claim.ends_with('.'), "{}", spec.name);
        for param in &spec.params {
            assert!(param.summary.ends_with('.'), "{} {}", spec.name, param.name);
            assert!(
                param.default.is_some(),
                "{} {} has no default",
                spec.name,
                param.name
            );
        }
        assert!(names.insert(spec.name.clone()), "{} twice", spec.name);
    }
    assert_eq!(names.len(), 22);
}

#[test]
fn every_method_acts_within_its_time_and_takes_back_what_it_does() {
    let scene = scene();
    for experiment in EXPERIMENTS {
        let name = (experiment.spec)().name;
        let method = method(experiment, &scene, None).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(
            !method.targets.is_empty() && !method.steps.is_empty(),
            "{name}"
        );
        assert!(method.steps.is_sorted_by_key(|step| step.at_ms), "{name}");
        for step in &method.steps {
            assert!(step.at_ms <= method.for_ms, "{name} acts after its end");
            let back = match &step.act {
                Act::Inside(_) => Revert::Inside,
                Act::KillDaemon { .. } => Revert::Daemon,
                Act::Load(_) => Revert::Load,
                Act::Server(ServerFault::Pause { .. }) => Revert::Unpause,
                Act::Server(ServerFault::Stop) => Revert::Continue,
                Act::Server(ServerFault::MaxMemory { .. }) => Revert::MaxMemory,
                Act::Server(ServerFault::DestroyGroup { .. } | ServerFault::DelConsumer { .. }) => {
                    Revert::Groups
                }
                Act::Server(ServerFault::Kill | ServerFault::ScriptFlush) => Revert::Server,
                // What is trimmed is gone: that is why it needs a copy.
                Act::Server(ServerFault::Trim { .. }) => {
                    assert!(experiment.copy_only, "{name} destroys data");
                    continue;
                }
            };
            assert!(
                method.reverts.contains(&back),
                "{name} does not take back {:?}",
                step.act
            );
        }
        let hurts_server = method
            .steps
            .iter()
            .any(|step| matches!(step.act, Act::Server(_)));
        assert_eq!(hurts_server, experiment.managed_only, "{name}");
    }
}

#[test]
fn no_experiment_lasts_longer_than_allowed() {
    let scene = scene();
    for experiment in EXPERIMENTS {
        let name = (experiment.spec)().name;
        let why = method(experiment, &scene, Some(scene.max_ms + 1_000)).expect_err(&name);
        assert!(why.contains("max_duration"), "{name}: {why}");
    }
}

#[test]
fn the_same_seed_draws_the_same_targets_and_others_differ() {
    let kill = find("worker.kill").unwrap();
    let drawn = |seed| {
        method(kill, &Scene { seed, ..scene() }, None)
            .unwrap()
            .targets
    };
    assert_eq!(drawn(1), drawn(1));
    let all: BTreeSet<_> = (0..50).map(drawn).collect();
    assert_eq!(
        all.len(),
        8,
        "each of eight workers is drawn sometimes: {all:?}"
    );
}

#[test]
fn half_of_a_stage_is_the_most_that_is_taken() {
    let kill = find("worker.kill").unwrap();
    let given = |count: u64| {
        let mut given = defaults(kill);
        given.insert("count".to_owned(), count.into());
        given
    };
    let ask = |count| {
        (kill.method)(
            &scene(),
            &Params {
                given: &given(count),
                for_ms: None,
            },
        )
    };
    assert_eq!(ask(2).unwrap().targets.len(), 2);
    assert!(ask(3).unwrap_err().contains("half of them at most: 2"));
    let mut one = scene();
    one.stages
        .iter_mut()
        .for_each(|stage| stage.workers.truncate(1));
    assert!(
        method(kill, &one, None).is_ok(),
        "a stage of one worker can be tried too"
    );
}

#[test]
fn what_an_experiment_needs_is_told_where_it_is_missing() {
    let mut bare = scene();
    bare.dedupe_ms = None;
    for stage in &mut bare.stages {
        stage.owned = true;
        stage.has_lookup = false;
    }
    let table = [
        ("data.duplicate", "id window is off"),
        ("lookup.slow", "no stage has a lookup"),
        ("cache.flush", "no stage has a lookup with a cache"),
        ("redis.delconsumer", "delivery shared"),
        ("redis.trim", "owned"),
    ];
    for (name, why) in table {
        let told = method(find(name).unwrap(), &bare, None).unwrap_err();
        assert!(told.contains(why), "{name}: {told}");
    }
}

#[test]
fn churn_kills_again_and_again_within_its_time() {
    let method = method(find("worker.churn").unwrap(), &scene(), Some(9_000)).unwrap();
    let at: Vec<u64> = method.steps.iter().map(|step| step.at_ms).collect();
    assert_eq!(at, [0, 3_000, 6_000]);
    assert!(
        method
            .steps
            .iter()
            .all(|step| matches!(step.act, Act::Inside(Order::Kill { .. })))
    );
}

#[test]
fn two_at_once_are_laid_over_each_other_and_tolerate_what_either_does() {
    let scene = scene();
    let of = |name| method(find(name).unwrap(), &scene, None).unwrap();
    let (slow, kill, poison) = (of("net.latency"), of("redis.kill"), of("data.poison"));
    let all = together(vec![slow.clone(), kill.clone(), poison.clone()]).unwrap();
    assert_eq!(
        all.steps.len(),
        slow.steps.len() + kill.steps.len() + poison.steps.len()
    );
    assert!(all.steps.is_sorted_by_key(|step| step.at_ms));
    assert_eq!(all.for_ms, slow.for_ms.max(kill.for_ms).max(poison.for_ms));
    assert_eq!(
        all.reverts
            .iter()
            .filter(|revert| **revert == Revert::Inside)
            .count(),
        1
    );
    for part in [&slow, &kill, &poison] {
        assert!(
            part.reverts
                .iter()
                .all(|revert| all.reverts.contains(revert))
        );
    }
    assert_eq!(all.expects.lost, kill.expects.lost);
    assert_eq!(all.expects.dead, Amount::Injected);
    assert!(!all.expects.fresh_during);
    assert_eq!(together(Vec::new()), None);
}

#[test]
fn a_stage_of_one_worker_is_hurt_only_when_it_is_named_or_nobody_has_others() {
    let mut scene = scene();
    scene.stages[1].workers.truncate(1);
    let kill = find("worker.kill").unwrap();
    for seed in 0..20 {
        let drawn = method(
            kill,
            &Scene {
                seed,
                ..scene.clone()
            },
            None,
        )
        .unwrap();
        assert!(drawn.targets[0].contains("enrich"), "{:?}", drawn.targets);
        assert_eq!(drawn.expects.recover_ms, 4_000, "claim time and 2 s");
    }
    let mut given = defaults(kill);
    given.insert("stage".to_owned(), "count".into());
    let named = (kill.method)(
        &scene,
        &Params {
            given: &given,
            for_ms: None,
        },
    )
    .unwrap();
    assert!(named.targets[0].contains("count"));
    assert_eq!(
        named.expects.recover_ms,
        4_000 + 10_000,
        "away for 5 s, and as long to work it off, twice"
    );
}
