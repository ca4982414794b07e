//! Tables of situations and verdicts.

use std::time::Duration;

use pipectl_shared::snapshot::State;

use super::consumers::consumers;
use super::facts::{Facts, OldestPending};
use super::fixtures::{NOW, consumer, facts, id, spoil, stall, worker};
use super::judge::*;
use crate::store::{Lag, StageDepth, StoreError};

const MINUTE: Duration = Duration::from_secs(60);

struct Case {
    desc: &'static str,
    spoil: fn(&mut Facts),
    state: State,
    reason: &'static str,
    healthy: bool,
}

#[test]
fn a_stage_and_the_pipeline_say_how_they_are() {
    let cases = [
        Case {
            desc: "all is well",
            spoil: |_| {},
            state: State::Running,
            reason: "",
            healthy: true,
        },
        Case {
            desc: "draining goes before everything",
            spoil: |f| {
                f.draining = true;
                f.stages[1].trouble = Some("x".to_owned());
            },
            state: State::Draining,
            reason: "the daemon is draining",
            healthy: false,
        },
        Case {
            desc: "a paused stage is no fault",
            spoil: |f| f.stages[1].paused = true,
            state: State::Paused,
            reason: "stage enrich: paused by an operator",
            healthy: true,
        },
        Case {
            desc: "scaled to nothing",
            spoil: |f| (f.stages[1].wanted, f.stages[1].running) = (0, 0),
            state: State::Paused,
            reason: "stage enrich: scaled to 0 workers",
            healthy: true,
        },
        Case {
            desc: "trouble that a person must mend",
            spoil: |f| f.stages[1].trouble = Some("key {events}:counts holds a list".to_owned()),
            state: State::Failed,
            reason: "stage enrich: key {events}:counts holds a list",
            healthy: false,
        },
        Case {
            desc: "the store is away",
            spoil: |f| away(f, StoreError::Unavailable("connection refused".to_owned())),
            state: State::Degraded,
            reason: "redis is away: connection refused",
            healthy: false,
        },
        Case {
            desc: "the store loads",
            spoil: |f| away(f, StoreError::Loading("12 %".to_owned())),
            state: State::Degraded,
            reason: "redis is loading its data: 12 %",
            healthy: false,
        },
        Case {
            desc: "a group is missing",
            spoil: |f| spoil(f, |d| d.stages[2].present = false),
            state: State::Degraded,
            reason: "stage count: its stream or group does not exist (it is made again)",
            healthy: false,
        },
        Case {
            desc: "a group is missing while the daemon starts",
            spoil: |f| {
                f.uptime = Duration::from_secs(2);
                spoil(f, |d| d.stages[2].present = false);
            },
            state: State::Starting,
            reason: "stage count: its stream or group does not exist (it is made again)",
            healthy: false,
        },
        Case {
            desc: "no worker runs",
            spoil: |f| f.stages[0].running = 0,
            state: State::Degraded,
            reason: "stage check: no worker runs (1 wanted)",
            healthy: false,
        },
        Case {
            desc: "one of two workers runs: progress is made",
            spoil: |f| (f.stages[0].wanted, f.stages[0].short) = (2, MINUTE),
            state: State::Degraded,
            reason: "stage check: 1 of 2 workers run",
            healthy: true,
        },
        Case {
            desc: "a worker is being replaced",
            spoil: |f| (f.stages[0].wanted, f.stages[0].short) = (2, Duration::from_secs(2)),
            state: State::Running,
            reason: "",
            healthy: true,
        },
        Case {
            desc: "a read that never returns",
            spoil: |f| f.stages[0].last_read_ms = NOW - 41_000,
            state: State::Degraded,
            reason: "stage check: no read has returned for 41s",
            healthy: false,
        },
        Case {
            desc: "a paused stage does not read, and that is right",
            spoil: |f| (f.stages[0].last_read_ms, f.stages[0].paused) = (NOW - 41_000, true),
            state: State::Paused,
            reason: "stage check: paused by an operator",
            healthy: true,
        },
        Case {
            desc: "entries wait and none is read",
            spoil: |f| {
                f.stages[0].unread = Some(Duration::from_secs(40));
                spoil(f, |d| d.stages[0].lag = Lag::Known(12));
            },
            state: State::Degraded,
            reason: "stage check: 12 entries wait, none was read for 40s",
            healthy: false,
        },
        Case {
            desc: "the only worker hangs",
            spoil: |f| stall(f, 1, "a-enrich-0", 418, Duration::from_secs(372), true),
            state: State::Degraded,
            reason: "stage enrich: a-enrich-0 holds 418 entries, no progress for 6m12s",
            healthy: false,
        },
        Case {
            desc: "one of two workers hangs: the other makes progress",
            spoil: |f| {
                (f.stages[1].wanted, f.stages[1].running) = (2, 2);
                stall(f, 1, "a-enrich-0", 418, Duration::from_secs(372), true);
            },
            state: State::Degraded,
            reason: "stage enrich: a-enrich-0 holds 418 entries, no progress for 6m12s",
            healthy: true,
        },
        Case {
            desc: "long work within claim_after",
            spoil: |f| stall(f, 1, "a-enrich-0", 418, Duration::from_secs(59), true),
            state: State::Running,
            reason: "",
            healthy: true,
        },
        Case {
            desc: "an entry that waits for its next try",
            spoil: |f| stall(f, 1, "a-enrich-0", 1, Duration::from_secs(100), false),
            state: State::Running,
            reason: "",
            healthy: true,
        },
        Case {
            desc: "entries under a worker that does not know of them, longer than any back-off",
            spoil: |f| stall(f, 1, "a-enrich-0", 1, Duration::from_secs(125), false),
            state: State::Degraded,
            reason: "stage enrich: a-enrich-0 holds 1 entry, no worker has them in hand for 2m05s",
            healthy: false,
        },
        Case {
            desc: "a dead consumer holds entries",
            spoil: |f| {
                let mut dead = consumer("old-9", 7);
                dead.idle_ms = 31_000;
                let consumers = f.stages[1].consumers.as_mut().unwrap();
                std::sync::Arc::make_mut(consumers).push(dead);
            },
            state: State::Degraded,
            reason: "stage enrich: old-9 holds 7 entries and has not asked for 31s",
            healthy: true,
        },
        Case {
            desc: "a worker parked by a fault",
            spoil: |f| {
                let mut parked = worker("a-enrich-0", "parked");
                parked.since_ms = NOW - 45_000;
                f.stages[1].workers = vec![parked];
                stall(f, 1, "a-enrich-0", 3, Duration::from_secs(1), true);
            },
            state: State::Degraded,
            reason: "stage enrich: a-enrich-0 is parked by a fault for 45s and holds 3 entries",
            healthy: false,
        },
        Case {
            desc: "a worker that waits since redis is full",
            spoil: |f| {
                let mut waiting = worker("a-count-0", "waiting");
                waiting.reason = Some(StoreError::OutOfMemory("OOM".to_owned()).to_string());
                f.stages[2].workers = vec![waiting];
            },
            state: State::Degraded,
            reason: "stage count: a-count-0: redis is out of memory: OOM",
            healthy: false,
        },
        Case {
            desc: "the worst stage speaks for all",
            spoil: |f| {
                f.stages[0].paused = true;
                f.stages[1].last_read_ms = NOW - 41_000;
                f.stages[2].trouble = Some("broken".to_owned());
            },
            state: State::Failed,
            reason: "stage count: broken",
            healthy: false,
        },
    ];
    for case in cases {
        let mut facts = facts();
        (case.spoil)(&mut facts);
        let verdicts: Vec<_> = (0..3).map(|i| stage(&facts, i)).collect();
        let (state, reason) = pipeline(&facts, &verdicts);
        assert_eq!(
            (state, reason.as_deref().unwrap_or("")),
            (case.state, case.reason),
            "{}",
            case.desc
        );
        assert_eq!(is_healthy(&facts, &verdicts), case.healthy, "{}", case.desc);
    }
}

fn away(facts: &mut Facts, error: StoreError) {
    facts.store.depth = None;
    facts.store.error = Some(error);
    facts.store.away = Some(Duration::from_secs(3));
    facts.stages.iter_mut().for_each(|s| s.consumers = None);
}

#[test]
fn the_server_has_six_states() {
    let waiting = |error: StoreError| {
        move |f: &mut Facts| {
            let mut view = worker("a-check-0", "waiting");
            view.reason = Some(error.to_string());
            f.stages[0].workers = vec![view];
        }
    };
    type Spoil = Box<dyn Fn(&mut Facts)>;
    let cases: [(&str, Spoil); 10] = [
        ("up", Box::new(|_| {})),
        (
            "down",
            Box::new(|f| away(f, StoreError::Unavailable("x".to_owned()))),
        ),
        ("down", Box::new(|f| f.store.depth = None)),
        (
            "loading",
            Box::new(|f| away(f, StoreError::Loading("x".to_owned()))),
        ),
        (
            "up",
            Box::new(|f| away(f, StoreError::Broken("x".to_owned()))),
        ),
        (
            "full",
            Box::new(|f| spoil(f, |d| d.memory = Some((100, 100)))),
        ),
        ("up", Box::new(|f| spoil(f, |d| d.memory = Some((100, 0))))),
        (
            "full",
            Box::new(waiting(StoreError::OutOfMemory("x".to_owned()))),
        ),
        (
            "readonly",
            Box::new(waiting(StoreError::ReadOnly("x".to_owned()))),
        ),
        (
            "misconf",
            Box::new(waiting(StoreError::DiskFull("x".to_owned()))),
        ),
    ];
    for (i, (state, change)) in cases.into_iter().enumerate() {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(redis_state(&facts), state, "case {i}");
    }
}

#[test]
fn lag_as_time_is_known_only_where_the_id_is_a_time() {
    let stage = |lag, first| StageDepth {
        lag,
        first_undelivered: first,
        ..StageDepth::default()
    };
    for (desc, depth, ms) in [
        ("nothing waits", stage(Lag::Known(0), None), Some(0)),
        (
            "one waits",
            stage(Lag::Known(1), Some(id(NOW - 70))),
            Some(70),
        ),
        (
            "an estimate",
            stage(Lag::Estimate(1), Some(id(NOW - 70))),
            Some(70),
        ),
        (
            "an id of the future",
            stage(Lag::Known(1), Some(id(NOW + 70))),
            Some(0),
        ),
        (
            "an id that a client chose",
            stage(Lag::Known(1), Some(id(5))),
            None,
        ),
        ("nobody knows", stage(Lag::Unknown, None), None),
    ] {
        assert_eq!(lag_ms(NOW, &depth), ms, "{desc}");
    }
}

#[test]
fn the_oldest_pending_age_takes_the_best_source() {
    let depth = StageDepth {
        pending: 3,
        oldest_pending: Some(id(NOW - 90_000)),
        ..StageDepth::default()
    };
    let mut facts = facts();
    assert_eq!(
        oldest_pending_ms(&facts, 0, &depth),
        Some(90_000),
        "by the id"
    );
    facts.stages[0].oldest = Some(OldestPending {
        id: id(NOW - 90_000),
        first_ms: NOW - 60_000,
    });
    assert_eq!(
        oldest_pending_ms(&facts, 0, &depth),
        Some(60_000),
        "by the store"
    );
    facts.stages[0].oldest = Some(OldestPending {
        id: id(NOW - 90_001),
        first_ms: NOW - 60_000,
    });
    assert_eq!(
        oldest_pending_ms(&facts, 0, &depth),
        Some(90_000),
        "that was another entry"
    );
    facts.stages[0].workers[0].held = vec![(id(NOW - 90_000), NOW - 50_000)];
    assert_eq!(
        oldest_pending_ms(&facts, 0, &depth),
        Some(50_000),
        "by the worker"
    );
    assert_eq!(
        oldest_pending_ms(&facts, 0, &StageDepth::default()),
        None,
        "nothing is pending"
    );
}

#[test]
fn consumers_are_called_by_what_they_do() {
    let mut facts = facts();
    let mut paused = worker("a-check-0", "paused");
    paused.reason = Some("paused by an operator".to_owned());
    facts.stages[0].workers = vec![
        paused,
        worker("a-check-1", "reading"),
        worker("a-check-2", "starting"),
    ];
    let mut quiet = consumer("quiet", 0);
    quiet.idle_ms = 20_000;
    let mut gone = consumer("gone", 0);
    gone.idle_ms = 700_000;
    let mut hostile = consumer("", 2);
    hostile.name = bytes::Bytes::from(vec![0xff; 10_000]);
    let list = vec![
        consumer("a-check-0", 0),
        consumer("a-check-1", 1),
        quiet,
        gone,
        hostile,
    ];
    facts.stages[0].consumers = Some(std::sync::Arc::new(list));
    let rows = consumers(&facts, 0);
    let states: Vec<_> = rows.iter().map(|r| (r.state.as_str(), r.ours)).collect();
    let expected = [
        ("idle", true),
        ("ok", true),
        ("idle", false),
        ("gone", false),
        ("ok", false),
        ("idle", true),
    ];
    assert_eq!(states, expected);
    assert!(rows.iter().all(|r| r.name.len() <= 120));
    assert_eq!(rows[1].oldest_ms, Some(5_000));
}
