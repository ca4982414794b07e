//! What was seen becomes figures, a hypothesis line by line, and a verdict. Pure: instants and counts in, a judgement out.
//!
//! Definitions are those of the design's chapter on measurements: well = a good probe, fresh canaries and a backlog as
//! before; recovered = well for the whole hold time, timed to the begin of that time.

mod checks;

use std::time::Duration;

use pipectl_shared::chaos::{Check, Measurements, Quantiles, Reverted, Verdict};
use pipectl_shared::snapshot::Ledger;
use tokio::time::Instant;

use super::books::Books;
use super::probe::Probe;
use crate::experiments::{Expects, Loss};

/// One tenth of a second, from outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    pub(super) at: Instant,
    /// Age of the oldest canary that is not in effect.
    pub(super) fresh: Duration,
    /// Age of the oldest entry that is pending somewhere; zero = none is.
    pub(super) held: Duration,
    /// Whether the server answered.
    pub(super) answered: bool,
    /// `None` = the server did not answer, or does not know: after a group was made anew it does not for a while.
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
    /// Events of the run that were removed undelivered, or taken out of the pending list.
    pub(super) taken: u64,
    /// Entries that were taken out of the pending list, whosoever they were.
    pub(super) dropped: u64,
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
        // A lag that the server itself does not know is told by canaries alone: they wait behind whatever there is.
        let lag = match tick.lag {
            Some(lag) => lag <= self.target.lag,
            None => tick.answered && self.has_canaries,
        };
        good && fresh && tick.held <= self.target.held && lag
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
            Loss::None | Loss::Injected | Loss::Unaccounted => books.gone.len(),
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

#[cfg(test)]
mod tests;
