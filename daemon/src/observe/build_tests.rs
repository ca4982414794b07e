//! What a Snapshot says, and that it fits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::chaos::{Phase, Running};
use pipectl_shared::snapshot::{self, State};
use proptest::prelude::*;

use super::build::build;
use super::facts::{Facts, StageFacts};
use super::fit::{MAX_BYTES, size};
use super::fixtures::{NOW, consumer, depth, facts, fixed, id, spoil};
use crate::store::{ConsumerDepth, ForeignGroup, Lag, OwnerDepth, StoreError};

#[test]
fn the_owner_of_a_stage_is_who_the_store_says_and_only_a_worker_of_ours_is_here() {
    let owned_by = |consumer: Option<&str>| {
        let mut facts = facts();
        facts.stages[1].workers[0].held = vec![(id(NOW), NOW), (id(NOW + 1), NOW)];
        spoil(&mut facts, |d| {
            d.stages[1].owner = Some(OwnerDepth {
                consumer: consumer.map(str::to_owned),
                expired: false,
                epoch: 3,
                position: Some(id(NOW - 7)),
            });
        });
        build(&facts).status.stages[1].owner.clone().unwrap()
    };
    let here = owned_by(Some("a-enrich-0"));
    assert_eq!((here.here, here.in_flight, here.epoch), (true, Some(2), 3));
    assert_eq!(here.position, Some(id(NOW - 7).to_string()));
    let elsewhere = owned_by(Some("b-enrich-0"));
    assert_eq!((elsewhere.here, elsewhere.in_flight), (false, None));
    assert_eq!(owned_by(None).consumer, None);
    let mut facts = facts();
    assert_eq!(build(&facts).status.stages[1].owner, None, "shared");
    facts.store.depth = None;
    assert_eq!(build(&facts).status.stages[1].owner, None, "unknown");
}

#[test]
fn the_experiment_under_way_is_told_with_texts_that_fit() {
    let mut facts = facts();
    assert_eq!(build(&facts).status.chaos, None);
    let long = "x".repeat(100_000);
    facts.chaos = Some(Running {
        id: "1-worker.kill".to_owned(),
        experiment: "worker.kill".to_owned(),
        phase: Phase::During,
        started_ms: NOW,
        injected_ms: Some(NOW),
        reverted_ms: None,
        until_ms: None,
        targets: vec![long.clone(); 100],
        by: long,
    });
    let snapshot = build(&facts);
    let told = snapshot.status.chaos.as_ref().unwrap();
    assert_eq!(
        (told.experiment.as_str(), told.targets.len()),
        ("worker.kill", 10)
    );
    assert!(size(&snapshot) <= MAX_BYTES, "{}", size(&snapshot));
}

#[test]
fn a_snapshot_says_what_the_facts_say() {
    let mut facts = facts();
    spoil(&mut facts, |d| {
        d.stages[1].lag = Lag::Estimate(7);
        d.stages[1].first_undelivered = Some(id(NOW - 1_500));
        d.stages[1].pending = 2;
        d.stages[1].oldest_pending = Some(id(NOW - 2_500));
        d.foreign = vec![ForeignGroup {
            stream: "events".to_owned(),
            group: "theirs".to_owned(),
            ..ForeignGroup::default()
        }];
    });
    let s = build(&facts);
    assert_eq!((s.seq, s.ts_ms, s.status.state), (600, NOW, State::Running));
    let ledger = s.status.ledger.as_ref().unwrap();
    assert_eq!(
        (ledger.accepted, ledger.duplicated, ledger.balanced),
        (100, Some(0), true)
    );
    let stage = &s.status.stages[1];
    assert_eq!(
        (stage.lag, stage.lag_estimated, stage.lag_ms),
        (Some(7), true, Some(1_500))
    );
    assert_eq!(
        (stage.pending, stage.oldest_pending_ms),
        (Some(2), Some(2_500))
    );
    assert_eq!(s.status.latency_ms.p95, Some(2.0));
    assert_eq!(
        (
            s.status.redis.state.as_str(),
            s.status.redis.max_memory_bytes
        ),
        ("up", None)
    );
    assert_eq!(s.groups.len(), 4);
    assert_eq!(
        (s.groups[3].stage.as_deref(), s.groups[3].length),
        (None, 100)
    );
    assert_eq!(s.aggregates_age_ms, Some(0));
    assert!(s.truncated.is_empty());
}

#[test]
fn nothing_is_zero_that_is_unknown() {
    let mut facts = facts();
    facts.store.depth = None;
    facts.store.error = Some(StoreError::Unavailable("refused".to_owned()));
    facts.store.away = Some(Duration::from_secs(4));
    facts.in_per_s = None;
    facts.stages.iter_mut().for_each(|s| s.consumers = None);
    let s = build(&facts);
    assert_eq!(
        (s.status.redis.state.as_str(), s.status.redis.down_ms),
        ("down", Some(4_000))
    );
    assert_eq!(s.status.redis.used_memory_bytes, None);
    assert_eq!(
        (
            s.status.ledger.is_none(),
            s.status.throughput.in_per_s,
            s.status.healthy
        ),
        (true, None, false)
    );
    for stage in &s.status.stages {
        assert_eq!(
            (
                stage.lag,
                stage.lag_ms,
                stage.pending,
                stage.oldest_pending_ms
            ),
            (None, None, None, None)
        );
        assert!(stage.ledger.is_none());
        assert_eq!(stage.state, State::Degraded);
    }
    assert!(s.groups.is_empty());
    assert_eq!(
        s.consumers.len(),
        3,
        "our own workers are known without redis"
    );
    assert_eq!(
        s.aggregates_age_ms,
        Some(0),
        "older totals say how old they are"
    );
}

#[test]
fn a_group_that_is_missing_has_no_figures() {
    let mut facts = facts();
    spoil(&mut facts, |d| d.stages[0].present = false);
    let stage = build(&facts).status.stages.remove(0);
    assert_eq!((stage.pending, stage.lag, stage.ledger), (None, None, None));
}

#[test]
fn trouble_comes_first_and_the_rest_is_counted() {
    let mut facts = facts();
    let mut list: Vec<ConsumerDepth> = (0..80).map(|i| consumer(&format!("c{i:02}"), 0)).collect();
    let mut gone = consumer("zz", 5);
    gone.idle_ms = 100_000;
    list.push(gone);
    facts.stages[2].consumers = Some(Arc::new(list));
    let s = build(&facts);
    assert_eq!(
        (
            s.consumers.len(),
            s.consumers[0].name.as_str(),
            s.consumers[0].state.as_str()
        ),
        (50, "zz", "gone")
    );
    // Two of the other stages, 81 here and one worker that is no consumer yet.
    assert_eq!(s.truncated["consumers"], 84 - 50);
}

#[test]
fn top_lists_keep_the_greatest() {
    let mut facts = facts();
    let totals = crate::store::Aggregates {
        products: (0..40u64)
            .map(|i| (Bytes::from(format!("p{i}")), i))
            .collect(),
        products_left: 1_000,
        types: (0..60u64)
            .map(|i| (Bytes::from(vec![0xff, 0xfe, b'a' + (i % 2) as u8]), 1))
            .collect(),
        value: Some(12_345),
        ..crate::store::Aggregates::default()
    };
    facts.store.aggregates = Some((Arc::new(totals), Duration::from_millis(300)));
    let mut fixed = (*facts.fixed).clone();
    fixed.value_scale = 2;
    facts.fixed = Arc::new(fixed);
    let s = build(&facts);
    assert_eq!(
        (s.aggregates.products.len(), s.aggregates.products["p39"]),
        (20, 39)
    );
    assert_eq!(
        (s.truncated["products"], s.truncated["event_types"]),
        (1_020, 10)
    );
    assert_eq!(
        s.aggregates.event_types.values().sum::<u64>(),
        50,
        "names that look alike are added up"
    );
    assert_eq!(s.aggregates.total_value, Some(123.45));
}

prop_compose! {
    /// As many and as long as a hostile or huge world can make them.
    fn huge()(
        n_stages in 1usize..300,
        n_consumers in 0usize..300,
        n_workers in 0usize..20,
        text in prop_oneof!["[\\x00-\\x1f]{0,600}", "\\PC{0,600}", "[a-z\"\\\\]{0,600}"],
        n_foreign in 0usize..400,
        n_buckets in 0usize..64,
        n_sources in 0usize..300,
        n_alerts in 0usize..300,
        n_events in 0usize..40,
    ) -> (Facts, usize) {
        let mut facts = facts();
        let names: Vec<String> = (0..n_stages).map(|i| format!("stage-{i}-{}", "n".repeat(28))).collect();
        facts.fixed = Arc::new(fixed(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        let list: Vec<_> = (0..n_consumers).map(|i| consumer(&format!("{i}{text}"), u64::MAX)).collect();
        let consumers = Arc::new(list);
        let stage = StageFacts {
            running: 1,
            wanted: 1,
            trouble: Some(text.clone()),
            consumers: Some(consumers),
            workers: (0..n_workers).map(|i| super::fixtures::worker(&format!("{i}"), "working")).collect(),
            ..StageFacts::default()
        };
        facts.stages = vec![stage; n_stages];
        let mut all = depth(n_stages);
        let foreign = ForeignGroup { stream: text.clone(), group: text.clone(), ..ForeignGroup::default() };
        all.foreign = vec![foreign; n_foreign];
        facts.store.depth = Some(Arc::new(all));
        let bucket = snapshot::Bucket { le_ms: 0.001_334, count: u64::MAX };
        facts.latency = names.iter().flat_map(|stage| ["wait", "service", "total"].map(|measure| snapshot::Latency {
            stage: stage.clone(),
            measure: measure.to_owned(),
            buckets: vec![bucket; n_buckets],
            ..snapshot::Latency::default()
        })).collect();
        let source = snapshot::Source { name: text.clone(), reason: Some(text.clone()), ..snapshot::Source::default() };
        facts.sources = vec![source; n_sources];
        let alert = snapshot::Alert {
            name: "pending.stuck".to_owned(), severity: "critical".to_owned(), message: text.clone(),
            hint: Some(text.clone()), since: "2026-01-01T00:00:00.000Z".to_owned(),
        };
        facts.alerts = vec![alert; n_alerts];
        facts.events = vec![snapshot::Event { message: text, ..snapshot::Event::default() }; n_events];
        (facts, n_consumers * n_stages + n_workers * n_stages)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn every_snapshot_fits_and_says_what_it_left_out((facts, n_consumers) in huge()) {
        let s = build(&facts);
        prop_assert!(size(&s) <= MAX_BYTES, "{}", size(&s));
        let left = |name: &str| s.truncated.get(name).copied().unwrap_or(0) as usize;
        prop_assert_eq!(s.consumers.len() + left("consumers"), n_consumers);
        prop_assert_eq!(s.status.stages.len() + left("stages"), facts.stages.len());
        prop_assert_eq!(s.sources.len() + left("sources"), facts.sources.len());
        prop_assert_eq!(s.status.alerts.len() + left("alerts"), facts.alerts.len());
    }
}
