//! When alerts open and close, and that each is told once.

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::snapshot::{Alert, Source};

use super::alerts::{Book, Change};
use super::facts::Facts;
use super::fixtures::{NOW, facts, spoil, stall};
use crate::store::StoreError;

/// Runs one tick a second; `at` changes the healthy facts for a tick. Returns per tick the open alerts, and all changes.
fn run(n_ticks: u64, at: impl Fn(u64, &mut Facts)) -> (Vec<Vec<Alert>>, Vec<(u64, Change)>) {
    let mut book = Book::default();
    let (mut open, mut changes) = (Vec::new(), Vec::new());
    for tick in 0..n_ticks {
        let mut facts = facts();
        facts.now_ms = NOW + tick * 1_000;
        // Traffic by default: one entry a tick, settled at once.
        spoil(&mut facts, |d| {
            d.ledger.accepted += tick;
            d.ledger.applied += tick;
            d.ledger.applied_in_aggregates += tick;
            d.aggregated += tick;
        });
        at(tick, &mut facts);
        let (alerts, changed) = book.step(&facts);
        open.push(alerts);
        changes.extend(changed.into_iter().map(|c| (tick, c)));
    }
    (open, changes)
}

/// Ticks at which the alert opened and closed.
#[track_caller]
fn check(
    desc: &str,
    n_ticks: u64,
    at: impl Fn(u64, &mut Facts),
    name: &str,
    opened: &[u64],
    closed: &[u64],
) -> Vec<Vec<Alert>> {
    let (open, changes) = run(n_ticks, at);
    let of = |is_open: bool| {
        changes
            .iter()
            .filter(|(_, c)| c.name == name && c.opened == is_open)
            .map(|(t, _)| *t)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of(true), of(false)),
        (opened.to_vec(), closed.to_vec()),
        "{desc}"
    );
    let others: Vec<_> = changes.iter().filter(|(_, c)| c.name != name).collect();
    assert!(others.is_empty(), "{desc}: {others:?}");
    open
}

fn away(facts: &mut Facts) {
    facts.store.depth = None;
    facts.store.error = Some(StoreError::Unavailable("refused".to_owned()));
    facts.store.away = Some(Duration::from_secs(1));
    facts.stages.iter_mut().for_each(|s| s.consumers = None);
}

#[test]
fn a_healthy_pipeline_has_no_alerts() {
    let (open, changes) = run(200, |_, _| {});
    assert!(open.iter().all(Vec::is_empty) && changes.is_empty());
}

#[test]
fn redis_down_opens_at_the_second_miss_and_closes_after_two_answers() {
    let desc = "one miss is no outage; an outage is told once";
    let open = check(
        desc,
        30,
        |t, f| {
            if t == 3 || (10..20).contains(&t) {
                away(f);
            }
        },
        "redis.down",
        &[11],
        &[21],
    );
    let alert = &open[15][0];
    assert_eq!(
        (alert.name.as_str(), alert.severity.as_str()),
        ("redis.down", "critical")
    );
    assert_eq!(
        alert.since,
        crate::clock::rfc3339(NOW + 10_000),
        "since the first miss"
    );
}

#[test]
fn what_is_unknown_neither_opens_nor_closes() {
    let (_, changes) = run(60, |t, f| {
        if (10..40).contains(&t) {
            away(f);
        } else {
            spoil(f, |d| d.ledger.pending -= 1);
        }
    });
    let ledger: Vec<_> = changes
        .iter()
        .filter(|(_, c)| c.name == "ledger.unaccounted")
        .map(|(t, c)| (*t, c.opened))
        .collect();
    assert_eq!(ledger, [(2, true)]);
}

#[test]
fn a_residual_must_last_three_ticks() {
    let one_less = |t: u64, f: &mut Facts, ticks: std::ops::Range<u64>| {
        if ticks.contains(&t) {
            spoil(f, |d| d.ledger.pending -= 1);
        }
    };
    check(
        "two ticks",
        20,
        |t, f| one_less(t, f, 5..7),
        "ledger.unaccounted",
        &[],
        &[],
    );
    check(
        "three ticks",
        20,
        |t, f| one_less(t, f, 5..8),
        "ledger.unaccounted",
        &[7],
        &[10],
    );
}

#[test]
fn duplicates_are_critical() {
    let open = check(
        "one too many",
        10,
        |_, f| spoil(f, |d| d.aggregated += 1),
        "ledger.duplicated",
        &[2],
        &[],
    );
    assert_eq!(open[9][0].severity, "critical");
}

#[test]
fn growth_opens_at_once_and_closes_a_minute_after_it_ended() {
    let lost = |d: &mut crate::store::Depth, n: u64| {
        d.ledger.lost += n;
        d.ledger.accepted += n;
    };
    let open = check(
        "lost at ticks 5 and 20",
        100,
        |t, f| spoil(f, |d| lost(d, u64::from(t >= 5) + u64::from(t >= 20))),
        "lost",
        &[5],
        &[80],
    );
    assert!(
        open[25][0].message.contains("2 of them lately"),
        "{}",
        open[25][0].message
    );
    check(
        "lost before the start is no news",
        100,
        |_, f| spoil(f, |d| lost(d, 50)),
        "lost",
        &[],
        &[],
    );
    check(
        "dead letters",
        80,
        |t, f| {
            spoil(f, |d| {
                let n = i64::from(t >= 5);
                d.ledger.dead += n;
                d.ledger.accepted += n.unsigned_abs();
            });
        },
        "dead.growing",
        &[5],
        &[65],
    );
    check(
        "foreign acknowledgements",
        80,
        |t, f| f.stages[1].counters.not_pending = u64::from(t >= 5),
        "ack.foreign",
        &[5],
        &[65],
    );
    check(
        "a group that was set back",
        80,
        |t, f| f.stages[1].counters.redelivered = u64::from(t >= 5),
        "group.redelivered",
        &[5],
        &[65],
    );
}

#[test]
fn a_stuck_consumer_is_named_with_what_it_holds_and_what_to_do() {
    let open = check(
        "stuck for ten ticks",
        30,
        |t, f| {
            if (5..15).contains(&t) {
                stall(f, 1, "a-enrich-0", 418, Duration::from_secs(372), true);
            }
        },
        "pending.stuck",
        &[6],
        &[17],
    );
    let alert = &open[10][0];
    assert_eq!(
        alert.message,
        "stage enrich: a-enrich-0 holds 418 entries, no progress for 6m12s"
    );
    assert_eq!(
        alert.hint.as_deref(),
        Some("pipectl pending ls --stage enrich --min-idle 60s")
    );
}

fn generator(state: &str) -> Source {
    Source {
        name: "users".to_owned(),
        kind: "generator".to_owned(),
        state: state.to_owned(),
        ..Source::default()
    }
}

/// No new entry since `from`.
fn silence(t: u64, from: u64, f: &mut Facts) {
    if t > from {
        spoil(f, |d| {
            let n = t - from;
            d.ledger.accepted -= n;
            d.ledger.applied -= n;
            d.ledger.applied_in_aggregates -= n;
            d.aggregated -= n;
        });
    }
}

#[test]
fn silence_is_remarkable_where_there_should_be_traffic() {
    check(
        "after traffic of a minute",
        200,
        |t, f| silence(t, 60, f),
        "traffic.none",
        &[120],
        &[],
    );
    check(
        "after traffic of ten seconds",
        200,
        |t, f| silence(t, 10, f),
        "traffic.none",
        &[],
        &[],
    );
    check(
        "there never was any",
        200,
        |t, f| silence(t, 0, f),
        "traffic.none",
        &[],
        &[],
    );
    let stalled = |state: &'static str| {
        move |t: u64, f: &mut Facts| {
            f.sources = vec![generator(state)];
            silence(t, 100, f);
        }
    };
    check(
        "a source that should send",
        200,
        stalled("running"),
        "traffic.none",
        &[160],
        &[],
    );
    check(
        "a source that an operator paused",
        200,
        stalled("paused"),
        "traffic.none",
        &[],
        &[],
    );
    check(
        "a source that has sent all",
        200,
        stalled("done"),
        "traffic.none",
        &[],
        &[],
    );
    let back = |t: u64, f: &mut Facts| silence(t.min(150), 60, f);
    check(
        "traffic comes back",
        200,
        back,
        "traffic.none",
        &[120],
        &[151],
    );
    check(
        "silence became usual",
        3_700,
        |t, f| silence(t, 40, f),
        "traffic.none",
        &[100],
        &[3_640],
    );
}

#[test]
fn memory_opens_high_and_closes_lower() {
    let share = |t: u64| match t {
        5..20 => 86,
        20..30 => 82,
        30.. => 79,
        _ => 50,
    };
    check(
        "85 and 80 %",
        60,
        |t, f| spoil(f, |d| d.memory = Some((share(t), 100))),
        "memory.high",
        &[7],
        &[34],
    );
    check(
        "no limit, no alert",
        60,
        |_, f| spoil(f, |d| d.memory = Some((1 << 40, 0))),
        "memory.high",
        &[],
        &[],
    );
}

#[test]
fn an_evicting_server_is_told_once() {
    let evicts = |_: u64, f: &mut Facts| {
        let server = Arc::make_mut(f.store.server.as_mut().unwrap());
        server.eviction = "allkeys-lru".to_owned();
        server.warnings = vec!["maxmemory-policy is allkeys-lru".to_owned()];
    };
    check(
        "not twice for the same thing",
        20,
        evicts,
        "eviction.policy",
        &[0],
        &[],
    );
}

#[test]
fn a_full_disk_alarms_by_share_and_by_size() {
    const GIB: u64 = 1 << 30;
    for (desc, free, total, severity) in [
        ("plenty", 50 * GIB, 100 * GIB, None),
        (
            "6 GiB of 8 TiB are enough for now",
            6 * GIB,
            8_192 * GIB,
            None,
        ),
        ("a small disk", GIB / 20, GIB, Some("warning")),
        ("4 GiB of 100", 4 * GIB, 100 * GIB, Some("warning")),
        (
            "400 MiB of 100 GiB",
            GIB * 2 / 5,
            100 * GIB,
            Some("critical"),
        ),
    ] {
        let (open, _) = run(5, |_, f| {
            (f.host.disk_free_bytes, f.host.disk_total_bytes) = (Some(free), Some(total));
        });
        assert_eq!(
            open[4].first().map(|a| a.severity.as_str()),
            severity,
            "{desc}"
        );
    }
}

#[test]
fn critical_alerts_come_first() {
    let (open, _) = run(20, |t, f| {
        spoil(f, |d| d.memory = Some((90, 100)));
        if t > 10 {
            f.stages[1].trouble = Some("broken".to_owned());
        }
    });
    let names: Vec<_> = open[19].iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["stage.failed", "memory.high"]);
}
