//! What was seen becomes figures, a hypothesis line by line, and a verdict. Pure: instants and counts in, a judgement out.
//!
//! Definitions are those of the design's chapter on measurements: well = a good probe, fresh canaries and a backlog as
//! before; recovered = well for the whole hold time, timed to the begin of that time.

use std::time::Duration;

use pipectl_shared::chaos::{Check, Measurements, Quantiles, Reverted, Verdict};
use pipectl_shared::snapshot::Ledger;
use tokio::time::Instant;

use super::books::Books;
use super::probe::Probe;
use crate::experiments::{Amount, Expects, Loss};

/// One tenth of a second, from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    pub(super) at: Instant,
    /// Age of the oldest canary that is not in effect.
    pub(super) fresh: Duration,
    /// Age of the oldest entry that is pending somewhere; zero = none is.
    pub(super) held: Duration,
    /// `None` = the server did not answer.
    pub(super) lag: Option<u64>,
    /// `None` = the server did not answer.
    pub(super) settled: Option<u64>,
}

/// What counts as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// A canary is in effect within this.
    pub(super) fresh: Duration,
    /// No pending entry is older than this: an event may wait in a dead worker's hands while others pass it.
    pub(super) held: Duration,
    /// The backlog is at most this.
    pub(super) lag: u64,
    /// It must be well for so long.
    pub(super) hold: Duration,
}

/// Everything seen.
pub(super) struct Seen<'a> {
    pub(super) ticks: &'a [Tick],
    /// In order of their due times.
    pub(super) probes: &'a [Probe],
    pub(super) target: Target,
    /// Whether the pipeline counts canaries at all.
    pub(super) has_canaries: bool,
    pub(super) injected: Option<Instant>,
    pub(super) reverted: Option<Instant>,
    /// From when on the recovery is timed.
    pub(super) recover_from: Option<Instant>,
    pub(super) signal: Option<(Instant, String)>,
    /// Canaries' times: before, during, after.
    pub(super) latencies: [Vec<Duration>; 3],
    pub(super) books: Option<&'a Books>,
    /// How long before the server's death each event that went with it had been acknowledged, milliseconds.
    pub(super) gone_ages_ms: &'a [u64],
    pub(super) ledger_before: Option<&'a Ledger>,
    pub(super) ledger_after: Option<&'a Ledger>,
    /// What the ledger could not account for while it ran, at worst, over several looks.
    pub(super) unaccounted: i64,
    pub(super) expects: &'a Expects,
    pub(super) hits: u64,
    /// Undelivered events of the run that were removed.
    pub(super) trimmed: u64,
    /// Events that were sent twice on purpose, and are in twice.
    pub(super) copies_wanted: u64,
    pub(super) was_claimed: bool,
    /// Keys asked of the lookup while the fault was in, and how many there are; `None` = not looked at.
    pub(super) backend_keys: Option<(u64, u64)>,
    pub(super) rss: Option<u64>,
    pub(super) reverts: &'a [Reverted],
    /// Why it was ended early.
    pub(super) stopped: Option<&'a str>,
    /// Why it could not be injected.
    pub(super) failure: Option<&'a str>,
}

/// The judgement.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) why: String,
    pub(super) hypothesis: Vec<Check>,
    pub(super) measurements: Measurements,
}

impl Seen<'_> {
    fn well(&self, tick: &Tick) -> bool {
        let until = self.probes.partition_point(|probe| probe.due <= tick.at);
        let good = until
            .checked_sub(1)
            .and_then(|at| self.probes.get(at))
            .is_some_and(|probe| probe.good);
        let fresh = !self.has_canaries || tick.fresh <= self.target.fresh;
        good && fresh
            && tick.held <= self.target.held
            && tick.lag.is_some_and(|lag| lag <= self.target.lag)
    }

    /// The begin of the first stretch of the hold time, at or after `from`, in which it was well throughout; `None` = there
    /// is none yet before `until`.
    pub(super) fn well_since(&self, from: Instant, until: Option<Instant>) -> Option<Instant> {
        let mut since: Option<Instant> = None;
        let inside = |tick: &&Tick| tick.at >= from && until.is_none_or(|until| tick.at <= until);
        for tick in self.ticks.iter().filter(inside) {
            if !self.well(tick) {
                since = None;
                continue;
            }
            let begin = *since.get_or_insert(tick.at);
            if tick.at.duration_since(begin) >= self.target.hold {
                return Some(begin);
            }
        }
        None
    }

    fn measure(&self) -> Measurements {
        let since = |from: Option<Instant>, at: Option<Instant>| {
            Some(ms(at?.saturating_duration_since(from?)))
        };
        let good = self.probes.iter().filter(|probe| probe.good).count() as u64;
        let n = self.probes.len() as u64;
        let mitigated = self.injected.zip(self.reverted).and_then(|(from, to)| {
            let well = self.well_since(from, Some(to))?;
            Some(ms(well.saturating_duration_since(from)))
        });
        let names = ["before", "during", "after"];
        let recovered = self
            .recover_from
            .and_then(|from| self.well_since(from, None));
        Measurements {
            detect_ms: since(self.injected, self.signal.as_ref().map(|(at, _)| *at)),
            detected_by: self.signal.as_ref().map(|(_, what)| what.clone()),
            mitigate_ms: mitigated,
            recover_ms: since(self.recover_from, recovered),
            availability: (n > 0).then(|| share(good, n)),
            probes_good: good,
            probes: n,
            unavailable_ms: self.unavailable(),
            freshness_worst_ms: self.has_canaries.then(|| {
                self.ticks
                    .iter()
                    .map(|tick| ms(tick.fresh))
                    .fold(0.0, f64::max)
            }),
            lost: self.lost(),
            duplicated: self.books.and_then(|books| books.duplicated),
            gone: self.books.map(|books| books.gone.len() as u64),
            dead: self.books.map(|books| books.dead.len() as u64),
            peak_lag: self.ticks.iter().filter_map(|tick| tick.lag).max(),
            drain_per_s: self.drain(),
            peak_rss_bytes: self.rss,
            faults_injected: self.hits,
            acknowledged: self.books.map_or(0, |books| books.acknowledged),
            latency_ms: names
                .iter()
                .zip(&self.latencies)
                .map(|(name, values)| ((*name).to_owned(), quantiles(values)))
                .collect(),
        }
    }

    /// Longest time between two good probes, or between one and the end, in milliseconds.
    fn unavailable(&self) -> f64 {
        let mut worst = Duration::ZERO;
        let mut last = None;
        for probe in self.probes {
            if probe.good {
                last = None;
            } else {
                let begin = *last.get_or_insert(probe.due);
                worst = worst.max(probe.due.duration_since(begin) + super::probe::EVERY);
            }
        }
        ms(worst)
    }

    /// What is lost of what should not be.
    fn lost(&self) -> Option<u64> {
        let books = self.books?;
        let lost = books.lost?;
        let with_server = match self.expects.lost {
            Loss::WithServer { ms } => {
                let fits = self.gone_ages_ms.iter().filter(|age| **age <= ms).count();
                books.gone.len().saturating_sub(fits)
            }
            Loss::None | Loss::Injected => books.gone.len(),
        };
        Some(lost + with_server as u64)
    }

    /// Entries a second while the backlog shrank from its peak to what it was before.
    fn drain(&self) -> Option<f64> {
        let peak = self
            .ticks
            .iter()
            .filter_map(|tick| Some((tick.lag?, tick.at)))
            .max_by_key(|(lag, _)| *lag)?;
        if peak.0 <= self.target.lag {
            return None;
        }
        let done = self
            .ticks
            .iter()
            .find(|tick| tick.at > peak.1 && tick.lag.is_some_and(|lag| lag <= self.target.lag))?;
        let shrank = peak.0 - done.lag?;
        let s = done.at.duration_since(peak.1).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "entries of a minute")]
        (s > 0.0).then(|| shrank as f64 / s)
    }

    fn checks(&self, m: &Measurements) -> Vec<Check> {
        let e = self.expects;
        let mut checks = Vec::new();
        let mut add =
            |name: &str, tolerance: String, [before, during, after]: [Option<String>; 3], held| {
                checks.push(Check {
                    name: name.to_owned(),
                    tolerance,
                    before,
                    during,
                    after,
                    held,
                });
            };
        let count = |n: Option<u64>| n.map(|n| n.to_string());
        let wanted_loss = match e.lost {
            Loss::None | Loss::WithServer { .. } => 0,
            Loss::Injected => self.trimmed,
        };
        let tolerance = match e.lost {
            Loss::None => "= 0".to_owned(),
            Loss::Injected => format!("= {wanted_loss} (injected)"),
            Loss::WithServer { ms } => format!("= 0 beside what redis had for less than {ms} ms"),
        };
        add(
            "lost",
            tolerance,
            [None, None, count(m.lost)],
            m.lost.map(|n| n == wanted_loss),
        );
        add(
            "duplicated",
            "= 0".to_owned(),
            [None, None, count(m.duplicated)],
            m.duplicated.map(|n| n == 0),
        );
        let told = |ledger: Option<&Ledger>| {
            ledger.map(|l| format!("unaccounted {}, lost {}", l.unaccounted, l.lost))
        };
        let balanced = self.ledger_after.map(|after| {
            let lost = self
                .ledger_before
                .map_or(0, |before| after.lost.saturating_sub(before.lost));
            after.unaccounted == 0
                && after.duplicated.unwrap_or(0) == 0
                && (self.trimmed > 0 || lost == 0)
        });
        // The ledger also knows losses of others; it must know at least those that were injected.
        let knows = self
            .ledger_after
            .zip(self.ledger_before)
            .map(|(after, before)| after.lost.saturating_sub(before.lost) >= self.trimmed);
        add(
            "the product's ledger",
            if self.trimmed > 0 {
                format!("balanced, and knows {} lost", self.trimmed)
            } else {
                "balanced".to_owned()
            },
            [
                told(self.ledger_before),
                Some(format!("unaccounted {}", self.unaccounted)),
                told(self.ledger_after),
            ],
            balanced
                .zip(knows)
                .map(|(a, b)| a && b && self.unaccounted == 0),
        );
        add(
            "availability",
            format!(">= {:.1} %", e.availability * 100.0),
            [
                None,
                None,
                m.availability.map(|a| format!("{:.2} %", a * 100.0)),
            ],
            m.availability.map(|a| a >= e.availability),
        );
        let limit = ms_of(e.recover_ms);
        add(
            "recovered",
            format!("within {limit:.0} ms"),
            [
                None,
                None,
                Some(
                    m.recover_ms
                        .map_or_else(|| "not".to_owned(), |ms| format!("{ms:.0} ms")),
                ),
            ],
            self.recover_from
                .map(|_| m.recover_ms.is_some_and(|ms| ms <= limit)),
        );
        if self.has_canaries {
            let worst = |at: usize| {
                let max = self.latencies.get(at)?.iter().max()?;
                Some(format!("{:.0} ms", ms(*max)))
            };
            let held = e.fresh_during.then(|| {
                let during = self.latencies[1].iter().max();
                during.is_some_and(|max| *max <= self.target.fresh)
            });
            add(
                "slowest canary",
                if e.fresh_during {
                    format!("<= {:.0} ms", ms(self.target.fresh))
                } else {
                    "any while the fault is in".to_owned()
                },
                [worst(0), worst(1), worst(2)],
                Some(held.unwrap_or(true)),
            );
        }
        let books = self.books;
        let amount = |want: Amount, injected: u64, is: u64| match want {
            Amount::None => ("= 0".to_owned(), is == 0),
            Amount::Injected => (format!("= {injected} (injected)"), is == injected),
            Amount::Any => ("any".to_owned(), true),
        };
        if let Some(books) = books {
            let is = books.dead.len() as u64;
            let (tolerance, held) = amount(e.dead, books.poison, is);
            add(
                "dead letters of the run",
                tolerance,
                [None, None, Some(is.to_string())],
                Some(held),
            );
            if e.deduplicated != Amount::None {
                let (tolerance, held) = amount(e.deduplicated, self.copies_wanted, books.copies);
                add(
                    "copies that changed nothing",
                    tolerance,
                    [None, None, Some(books.copies.to_string())],
                    Some(held),
                );
            }
        }
        if e.claimed {
            let text = if self.was_claimed { "yes" } else { "no" };
            add(
                "entries went to another worker",
                "yes".to_owned(),
                [None, Some(text.to_owned()), None],
                Some(self.was_claimed),
            );
        }
        if let Some((asked, keys)) = self.backend_keys {
            add(
                "keys asked of the lookup",
                format!("<= {keys} (one a key and life)"),
                [None, Some(asked.to_string()), None],
                Some(asked <= keys),
            );
        }
        let back = self.reverts.iter().filter(|one| one.ok).count();
        add(
            "taken back",
            "all".to_owned(),
            [
                None,
                None,
                Some(format!("{back} of {}", self.reverts.len())),
            ],
            Some(back == self.reverts.len()),
        );
        checks
    }

    /// The judgement.
    pub(super) fn judge(&self) -> Judged {
        let measurements = self.measure();
        let hypothesis = self.checks(&measurements);
        let broken: Vec<String> = hypothesis
            .iter()
            .filter(|check| check.held == Some(false))
            .map(|check| {
                let is = check
                    .after
                    .as_deref()
                    .or(check.during.as_deref())
                    .unwrap_or("not measured");
                format!("{} {is}, not {}", check.name, check.tolerance)
            })
            .collect();
        let unknown: Vec<&str> = hypothesis
            .iter()
            .filter(|check| check.held.is_none())
            .map(|check| check.name.as_str())
            .collect();
        let of = |names: &[&str]| {
            hypothesis
                .iter()
                .any(|check| check.held == Some(false) && names.contains(&check.name.as_str()))
        };
        let (verdict, why) = if of(&["lost", "duplicated"]) {
            // What was lost or doubled is never hidden behind an early end.
            (Verdict::Deviated, broken.join("; "))
        } else if let Some(why) = self.failure {
            (Verdict::Failed, why.to_owned())
        } else if of(&["taken back"]) {
            let left: Vec<_> = self
                .reverts
                .iter()
                .filter(|one| !one.ok)
                .map(|one| format!("{}: {}", one.what, one.found))
                .collect();
            (
                Verdict::Failed,
                format!("not taken back: {}", left.join("; ")),
            )
        } else if let Some(why) = self.stopped {
            (Verdict::Aborted, why.to_owned())
        } else if self.hits == 0 {
            (Verdict::Inconclusive, "the fault hit nothing".to_owned())
        } else if !broken.is_empty() {
            (Verdict::Deviated, broken.join("; "))
        } else if !unknown.is_empty() {
            (
                Verdict::Inconclusive,
                format!("not measured: {}", unknown.join(", ")),
            )
        } else {
            (Verdict::Pass, "the hypothesis held".to_owned())
        };
        Judged {
            verdict,
            why,
            hypothesis,
            measurements,
        }
    }
}

pub(super) fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
fn ms_of(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "probes of an hour")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Quantiles by the nearest rank (the smallest value that so many are not above).
pub(super) fn quantiles(values: &[Duration]) -> Quantiles {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = |percent: usize| {
        let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(at).map(|value| ms(*value))
    };
    Quantiles {
        n: sorted.len() as u64,
        p50: rank(50),
        p95: rank(95),
        p99: rank(99),
        max: sorted.last().map(|value| ms(*value)),
    }
}
