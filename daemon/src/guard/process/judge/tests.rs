//! Histories by hand, and what must be made of them.

use super::*;
use crate::experiments::Amount;

/// A history of tenths of a second, well but for what a test changes.
struct History {
    begun: Instant,
    ticks: Vec<Tick>,
    probes: Vec<Probe>,
    books: Books,
    expects: Expects,
    ledger: Ledger,
    reverts: Vec<Reverted>,
    gone_ages_ms: Vec<u64>,
    hits: u64,
    taken: u64,
    signal: Option<(Instant, String)>,
    stopped: Option<&'static str>,
    failure: Option<&'static str>,
}

/// Fault from second 5 to second 8 of 30.
const INJECTED: f64 = 5.0;
const REVERTED: f64 = 8.0;

impl History {
    fn well() -> Self {
        let begun = Instant::now();
        let at = |n: u64| begun + Duration::from_millis(100 * n);
        Self {
            begun,
            ticks: (0..300)
                .map(|n| Tick {
                    at: at(n),
                    fresh: Duration::from_millis(10),
                    held: Duration::ZERO,
                    answered: true,
                    lag: Some(50),
                    settled: Some(n * 100),
                })
                .collect(),
            probes: (0..300)
                .map(|n| Probe {
                    due: at(n),
                    good: true,
                })
                .collect(),
            books: Books {
                acknowledged: 1_000,
                lost: Some(0),
                duplicated: Some(0),
                ..Books::default()
            },
            expects: Expects::default(),
            ledger: Ledger {
                duplicated: Some(0),
                balanced: true,
                ..Ledger::default()
            },
            reverts: vec![Reverted {
                what: "it".to_owned(),
                ok: true,
                found: "as before".to_owned(),
            }],
            gone_ages_ms: Vec::new(),
            hits: 1,
            taken: 0,
            signal: None,
            stopped: None,
            failure: None,
        }
    }

    fn at(&self, s: f64) -> Instant {
        self.begun + Duration::from_secs_f64(s)
    }

    /// Changes the ticks of a span in seconds.
    fn ticks(&mut self, from: f64, to: f64, change: impl Fn(&mut Tick)) -> &mut Self {
        let span = self.at(from)..self.at(to);
        self.ticks
            .iter_mut()
            .filter(|tick| span.contains(&tick.at))
            .for_each(change);
        self
    }

    fn no_probes(&mut self, from: f64, to: f64) -> &mut Self {
        let span = self.at(from)..self.at(to);
        self.probes
            .iter_mut()
            .filter(|probe| span.contains(&probe.due))
            .for_each(|probe| probe.good = false);
        self
    }

    fn judge(&self) -> Judged {
        let after = Ledger {
            lost: self.ledger.lost,
            unaccounted: self.ledger.unaccounted,
            ..self.ledger.clone()
        };
        let before = Ledger {
            lost: 0,
            ..Ledger::default()
        };
        Seen {
            ticks: &self.ticks,
            probes: &self.probes,
            target: Target {
                fresh: Duration::from_secs(2),
                held: Duration::from_secs(2),
                lag: 100,
                hold: Duration::from_secs(10),
            },
            has_canaries: true,
            injected: Some(self.at(INJECTED)),
            reverted: Some(self.at(REVERTED)),
            recover_from: Some(self.at(REVERTED)),
            signal: self.signal.clone(),
            latencies: [const { Vec::new() }; 3],
            books: Some(&self.books),
            gone_ages_ms: &self.gone_ages_ms,
            ledger_before: Some(&before),
            ledger_after: Some(&after),
            unaccounted: 0,
            expects: &self.expects,
            hits: self.hits,
            taken: self.taken,
            dropped: self.taken,
            copies_wanted: 0,
            was_claimed: false,
            backend_keys: None,
            rss: None,
            reverts: &self.reverts,
            stopped: self.stopped,
            failure: self.failure,
        }
        .judge()
    }

    #[track_caller]
    fn is(&self, verdict: Verdict, why: &str) -> Measurements {
        let judged = self.judge();
        assert_eq!(judged.verdict, verdict, "{}", judged.why);
        assert!(judged.why.contains(why), "{}", judged.why);
        judged.measurements
    }
}

fn near(figure: Option<f64>, wanted: f64) {
    let figure = figure.unwrap();
    assert!((figure - wanted).abs() < 101.0, "{figure}, not {wanted}");
}

#[test]
fn a_history_in_which_all_is_well_passes() {
    let m = History::well().is(Verdict::Pass, "held");
    assert_eq!(m.availability, Some(1.0));
    near(m.recover_ms, 0.0);
    assert_eq!((m.lost, m.duplicated), (Some(0), Some(0)));
}

#[test]
fn what_is_lost_or_doubled_deviates_whatever_else_happened() {
    let mut lost = History::well();
    lost.books.lost = Some(1);
    lost.is(Verdict::Deviated, "lost 1, not = 0");
    let mut doubled = History::well();
    doubled.books.duplicated = Some(2);
    doubled.is(Verdict::Deviated, "duplicated 2");
    // Neither an early end, a fault that could not be done, nor an excellent availability hides it.
    doubled.stopped = Some("stopped by ann");
    doubled.failure = Some("could not");
    doubled.is(Verdict::Deviated, "duplicated 2");
}

#[test]
fn recovery_counts_from_the_last_bad_moment_and_only_when_it_holds() {
    let mut slow = History::well();
    slow.ticks(5.0, 11.0, |tick| tick.lag = Some(1_000));
    near(slow.is(Verdict::Pass, "held").recover_ms, 3_000.0);
    // Well for nine seconds and a hiccup: the ten seconds begin anew.
    let mut hiccup = History::well();
    hiccup.ticks(17.0, 17.2, |tick| tick.fresh = Duration::from_secs(3));
    near(
        hiccup.is(Verdict::Deviated, "recovered").recover_ms,
        9_200.0,
    );
    // Not well at the end: not recovered at all.
    let mut never = History::well();
    never.ticks(8.0, 30.0, |tick| {
        (tick.answered, tick.lag) = (false, None);
    });
    assert_eq!(
        never.is(Verdict::Deviated, "recovered not").recover_ms,
        None
    );
}

#[test]
fn a_lag_that_redis_does_not_know_is_told_by_the_canaries() {
    let mut unknown = History::well();
    unknown.ticks(8.0, 14.0, |tick| tick.lag = None);
    near(unknown.is(Verdict::Pass, "held").recover_ms, 0.0);
    unknown.ticks(8.0, 12.0, |tick| tick.fresh = Duration::from_secs(3));
    near(unknown.is(Verdict::Pass, "held").recover_ms, 4_000.0);
}

#[test]
fn an_entry_in_a_dead_workers_hands_is_not_well_though_all_else_flows() {
    let mut held = History::well();
    held.ticks(8.0, 14.0, |tick| tick.held = Duration::from_secs(3));
    near(held.is(Verdict::Deviated, "recovered").recover_ms, 6_000.0);
}

#[test]
fn bad_probes_count_by_their_due_times() {
    let mut away = History::well();
    away.no_probes(5.0, 8.0);
    let m = away.is(Verdict::Deviated, "availability 90.00 %");
    assert_eq!((m.probes, m.probes_good), (300, 270));
    near(Some(m.unavailable_ms), 3_000.0);
}

#[test]
fn a_fault_that_hit_nothing_proves_nothing() {
    let mut nothing = History::well();
    nothing.hits = 0;
    nothing.is(Verdict::Inconclusive, "hit nothing");
    let mut unknown = History::well();
    unknown.books.lost = None;
    unknown.books.duplicated = None;
    unknown.is(Verdict::Inconclusive, "not measured: lost, duplicated");
}

#[test]
fn an_early_end_a_failed_injection_and_a_fault_left_in_have_their_own_verdicts() {
    let mut stopped = History::well();
    stopped.stopped = Some("stopped by ann: lunch");
    stopped.is(Verdict::Aborted, "lunch");
    let mut failed = History::well();
    failed.failure = Some("no group");
    failed.is(Verdict::Failed, "no group");
    let mut left_in = History::well();
    left_in.reverts[0].ok = false;
    left_in.reverts[0].found = "still there".to_owned();
    left_in.is(Verdict::Failed, "not taken back: it: still there");
}

#[test]
fn an_injected_loss_must_be_found_to_the_last_event_and_be_in_the_ledger() {
    let mut trimmed = History::well();
    trimmed.expects.lost = Loss::Injected;
    (trimmed.taken, trimmed.hits) = (500, 500);
    trimmed.books.lost = Some(500);
    trimmed.ledger.lost = 500;
    trimmed.is(Verdict::Pass, "held");
    trimmed.ledger.lost = 499;
    trimmed.is(Verdict::Deviated, "ledger");
    trimmed.ledger.lost = 500;
    trimmed.books.lost = Some(501);
    trimmed.is(Verdict::Deviated, "lost 501, not = 500");
    trimmed.books.lost = Some(499);
    trimmed.is(Verdict::Deviated, "lost 499, not = 500");
}

#[test]
fn what_was_taken_from_the_pending_list_must_be_told_as_unaccounted_exactly() {
    let mut dropped = History::well();
    dropped.expects.lost = Loss::Unaccounted;
    (dropped.taken, dropped.hits) = (30, 1);
    dropped.books.lost = Some(30);
    dropped.ledger.unaccounted = 30;
    dropped.is(Verdict::Pass, "held");
    dropped.ledger.unaccounted = 29;
    dropped.is(Verdict::Deviated, "ledger");
    dropped.ledger.unaccounted = 30;
    dropped.books.lost = Some(31);
    dropped.is(Verdict::Deviated, "lost 31, not = 30");
}

#[test]
fn what_went_with_the_server_is_lost_unless_it_was_young_enough() {
    let mut killed = History::well();
    killed.books.gone = vec![1, 2];
    killed.gone_ages_ms = vec![900, 1_900];
    killed.is(Verdict::Deviated, "lost 2");
    killed.expects.lost = Loss::WithServer { ms: 2_000 };
    let m = killed.is(Verdict::Pass, "held");
    assert_eq!((m.gone, m.lost), (Some(2), Some(0)));
    killed.gone_ages_ms = vec![900, 2_100];
    killed.is(Verdict::Deviated, "lost 1");
}

#[test]
fn dead_letters_must_be_those_that_were_injected() {
    let mut poison = History::well();
    poison.books.poison = 3;
    poison.books.dead = vec!["1-0".to_owned(), "2-0".to_owned()];
    poison.is(Verdict::Deviated, "dead letters of the run 2, not = 0");
    poison.expects.dead = Amount::Injected;
    poison.is(Verdict::Deviated, "dead letters of the run 2, not = 3");
    poison.books.dead.push("3-0".to_owned());
    poison.is(Verdict::Pass, "held");
}

#[test]
fn mitigation_is_told_only_where_it_held_while_the_fault_was_in() {
    // The fault lasts three seconds: nothing can hold for ten in it.
    assert_eq!(History::well().is(Verdict::Pass, "").mitigate_ms, None);
    let mut signalled = History::well();
    signalled.signal = Some((signalled.at(5.5), "event redis.died".to_owned()));
    let m = signalled.is(Verdict::Pass, "");
    near(m.detect_ms, 500.0);
    assert_eq!(m.detected_by.as_deref(), Some("event redis.died"));
}

#[test]
fn a_backlog_is_drained_at_the_speed_at_which_it_shrank() {
    let mut burst = History::well();
    burst.ticks(5.0, 8.0, |tick| tick.lag = Some(10_100));
    burst.ticks(8.0, 10.0, |tick| tick.lag = Some(5_000));
    let m = burst.is(Verdict::Pass, "");
    assert_eq!(m.peak_lag, Some(10_100));
    let drain = m.drain_per_s.unwrap();
    assert!(
        (4_500.0..5_500.0).contains(&drain) || drain > 4_000.0,
        "{drain}"
    );
}

#[test]
fn quantiles_are_by_rank() {
    let values: Vec<_> = (1..=100).map(Duration::from_millis).collect();
    let q = quantiles(&values);
    assert_eq!(
        (q.n, q.p50, q.p99, q.max),
        (100, Some(50.0), Some(99.0), Some(100.0))
    );
    let none = quantiles(&[]);
    assert_eq!((none.n, none.p50, none.max), (0, None, None));
}
