//! Figures over time, one value a second for the last hour, under the names the daemon's own history uses (`in_per_s`,
//! `stage.<name>.lag`). Filled from Snapshots. A second without a Snapshot is a gap, not a zero.

use std::collections::{BTreeMap, VecDeque};

use pipectl_shared::snapshot::{self, Snapshot};

/// Seconds kept.
pub(crate) const SECONDS_MAX: usize = 3_600;

/// Series kept; a daemon that keeps inventing stages must not fill the memory. 320 x 3,600 x 8 bytes = 9 MB at most.
const SERIES_MAX: usize = 320;

/// All series.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// The second (since 1970) of the newest value.
    newest_s: u64,
    /// Not-a-number is a gap. 64 bits, because counters of billions must still show what a second adds.
    series: BTreeMap<String, VecDeque<f64>>,
}

impl History {
    /// Takes the figures of one instant.
    pub(crate) fn take(&mut self, snapshot: &Snapshot) {
        let at_s = snapshot.ts_ms / 1_000;
        let status = &snapshot.status;
        let ledger = status.ledger.as_ref();
        self.put(at_s, "in_per_s", status.throughput.in_per_s);
        self.put(at_s, "out_per_s", status.throughput.out_per_s);
        self.put(at_s, "p50_ms", status.latency_ms.p50);
        self.put(at_s, "p99_ms", status.latency_ms.p99);
        self.put(at_s, "pending", ledger.map(|l| l.pending as f64));
        self.put(at_s, "lag", ledger.map(|l| l.undelivered as f64));
        self.put(at_s, "dead", ledger.map(|l| l.dead as f64));
        self.put(at_s, "applied", ledger.map(|l| l.applied as f64));
        self.put(
            at_s,
            "redis.used_memory",
            status.redis.used_memory_bytes.map(|n| n as f64),
        );
        self.put(
            at_s,
            "daemon.rss",
            status.daemon.rss_bytes.map(|n| n as f64),
        );
        self.put(at_s, "daemon.cpu", status.daemon.cpu_cores);
        self.put(at_s, "host.cpu", snapshot.host.cpu);
        for stage in &status.stages {
            let name = |figure: &str| format!("stage.{}.{figure}", stage.name);
            self.put(at_s, &name("in_per_s"), stage.in_per_s);
            self.put(at_s, &name("out_per_s"), stage.out_per_s);
            self.put(at_s, &name("lag"), stage.lag.map(|n| n as f64));
            self.put(at_s, &name("pending"), stage.pending.map(|n| n as f64));
            self.put(at_s, &name("p99_ms"), stage.p99_ms);
        }
        if snapshot.aggregates_age_ms.is_some() {
            let results = &snapshot.aggregates;
            self.put(at_s, "results.total", Some(results.total_count as f64));
            self.put(at_s, "results.sessions", Some(results.sessions as f64));
            for (name, n) in &results.event_types {
                self.put(at_s, &format!("type.{name}"), Some(*n as f64));
            }
            // The greatest products change; those that were never leave room for the figures of stages.
            for (name, n) in &results.products {
                let name = format!("product.{name}");
                if self.series.len() < SERIES_MAX / 2 || self.series.contains_key(&name) {
                    self.put(at_s, &name, Some(*n as f64));
                }
            }
        }
    }

    /// Puts one value at its second; older than the newest by more than an hour, or from a clock that jumped: left out.
    pub(crate) fn put(&mut self, at_s: u64, name: &str, value: Option<f64>) {
        let value = value.filter(|value| value.is_finite()).unwrap_or(f64::NAN);
        if at_s > self.newest_s {
            self.advance(at_s);
        }
        let back = self.newest_s - at_s;
        if back >= SECONDS_MAX as u64 {
            return;
        }
        if !self.series.contains_key(name) {
            if self.series.len() >= SERIES_MAX {
                return;
            }
            self.series.insert(name.to_owned(), VecDeque::new());
        }
        let Some(series) = self.series.get_mut(name) else {
            return;
        };
        let back = back as usize;
        while series.len() <= back {
            series.push_front(f64::NAN);
        }
        let at = series.len() - 1 - back;
        series[at] = value;
    }

    /// Takes what the daemon remembers, where this console has nothing yet. A point stands for all its seconds.
    pub(crate) fn fill(&mut self, past: &snapshot::History) {
        let width_s = (past.step_ms.div_ceil(1_000) as usize).clamp(1, SECONDS_MAX);
        let Some(last_s) = past.ts_ms.last().map(|ms| ms / 1_000) else {
            return;
        };
        if last_s > self.newest_s {
            self.advance(last_s);
        }
        for (name, values) in &past.series {
            let name = here(name);
            if !self.series.contains_key(name) && self.series.len() >= SERIES_MAX {
                continue;
            }
            let series = self.series.entry(name.to_owned()).or_default();
            for (end_ms, value) in past.ts_ms.iter().zip(values) {
                let Some(value) = value.filter(|value| value.is_finite()) else {
                    continue;
                };
                let Some(back) = self.newest_s.checked_sub(end_ms / 1_000) else {
                    continue;
                };
                let from = usize::try_from(back).unwrap_or(usize::MAX);
                let upto = from.saturating_add(width_s).min(SECONDS_MAX);
                for back in from..upto {
                    while series.len() <= back {
                        series.push_front(f64::NAN);
                    }
                    let at = series.len() - 1 - back;
                    if series[at].is_nan() {
                        series[at] = value;
                    }
                }
            }
        }
    }

    fn advance(&mut self, to_s: u64) {
        let by = to_s - self.newest_s;
        let is_first = self.newest_s == 0;
        self.newest_s = to_s;
        if is_first || by >= SECONDS_MAX as u64 {
            self.series.clear();
            return;
        }
        for series in self.series.values_mut() {
            for _ in 0..by {
                series.push_back(f64::NAN);
            }
            while series.len() > SECONDS_MAX {
                series.pop_front();
            }
        }
    }

    /// The last `n` points, oldest first, each the greatest of `step_s` seconds; missing ones in front are `None`.
    pub(crate) fn last(&self, name: &str, n: usize, step_s: usize) -> Vec<Option<f64>> {
        let step_s = step_s.max(1);
        let mut points = vec![None; n];
        let Some(series) = self.series.get(name) else {
            return points;
        };
        // Aligned to multiples of the step, so that a point does not change as time goes on.
        let offset = (step_s - 1) - (self.newest_s as usize % step_s);
        for (back, value) in series.iter().rev().enumerate() {
            if value.is_nan() {
                continue;
            }
            let slot = (back + offset) / step_s;
            if slot >= n {
                break;
            }
            let point = &mut points[n - 1 - slot];
            *point = Some(point.map_or(*value, |old: f64| old.max(*value)));
        }
        points
    }

    /// Growth a second between neighbouring seconds of a counter; a counter that fell (a new daemon) is a gap.
    pub(crate) fn growth(&self, name: &str, n: usize, step_s: usize) -> Vec<Option<f64>> {
        let step = step_s.max(1);
        let values = self.last(name, n + 1, step);
        values
            .windows(2)
            .map(|pair| match (pair[0], pair[1]) {
                (Some(a), Some(b)) if b >= a => Some((b - a) / step as f64),
                _ => None,
            })
            .collect()
    }

    /// Second (since 1970) of the newest value; 0 before the first.
    pub(crate) fn newest_s(&self) -> u64 {
        self.newest_s
    }
}

/// The name that a figure of the daemon's history has in a Snapshot's terms.
fn here(name: &str) -> &str {
    match name {
        "rss_bytes" => "daemon.rss",
        "cpu_cores" => "daemon.cpu",
        "redis_memory_bytes" => "redis.used_memory",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_remembers_fills_what_is_missing_and_nothing_else() {
        let mut history = History::default();
        history.put(1_000, "in_per_s", Some(9.0));
        let past = snapshot::History {
            ts_ms: vec![990_000, 995_000, 1_000_500],
            step_ms: 5_000,
            series: [
                ("in_per_s".to_owned(), vec![None, Some(2.0), Some(3.0)]),
                ("rss_bytes".to_owned(), vec![Some(7.0)]),
            ]
            .into(),
        };
        history.fill(&past);
        assert_eq!(history.newest_s(), 1_000);
        let ends = history.last("in_per_s", 11, 1);
        assert_eq!(ends[0], None, "an unknown point is a gap");
        assert_eq!(ends[1..6], [Some(2.0); 5]);
        assert_eq!(ends[6..10], [Some(3.0); 4]);
        assert_eq!(ends[10], Some(9.0), "a Snapshot knows better");
        assert_eq!(history.last("daemon.rss", 11, 1)[0], Some(7.0));
    }

    #[test]
    fn a_past_that_lies_costs_no_memory() {
        let mut history = History::default();
        for step_ms in [0, 1, u64::MAX] {
            history.fill(&snapshot::History {
                ts_ms: vec![u64::MAX, 0, 5_000, u64::MAX],
                step_ms,
                series: (0..1_000)
                    .map(|n| (format!("s{n}"), vec![Some(f64::INFINITY), Some(1.0)]))
                    .collect(),
            });
        }
        assert!(history.series.len() <= SERIES_MAX);
        assert!(history.series.values().all(|s| s.len() <= SECONDS_MAX));
    }

    #[test]
    fn a_second_without_a_value_is_a_gap_and_no_zero() {
        let mut history = History::default();
        history.put(100, "a", Some(1.0));
        history.put(103, "a", Some(4.0));
        assert_eq!(
            history.last("a", 5, 1),
            [None, Some(1.0), None, None, Some(4.0)]
        );
        assert_eq!(history.last("b", 2, 1), [None, None]);
    }

    #[test]
    fn a_point_of_several_seconds_shows_the_greatest_and_stands_still() {
        let mut history = History::default();
        for (at, value) in [(100, 9.0), (104, 2.0), (105, 1.0)] {
            history.put(at, "a", Some(value));
        }
        assert_eq!(history.last("a", 2, 5), [Some(9.0), Some(1.0)]);
        history.put(106, "a", Some(3.0));
        assert_eq!(history.last("a", 2, 5), [Some(9.0), Some(3.0)]);
    }

    #[test]
    fn a_clock_that_jumps_ahead_or_back_costs_no_memory() {
        let mut history = History::default();
        history.put(100, "a", Some(1.0));
        history.put(u64::MAX, "a", Some(2.0));
        history.put(5, "a", Some(3.0));
        assert_eq!(history.last("a", 2, 1), [None, Some(2.0)]);
        for second in 0..10_000 {
            history.put(second, "b", None);
        }
        assert!(history.series.values().all(|s| s.len() <= SECONDS_MAX));
    }

    #[test]
    fn growth_is_by_the_second_and_a_fall_is_a_gap() {
        let mut history = History::default();
        for (at, value) in [(10, 5.0), (11, 8.0), (12, 1.0)] {
            history.put(at, "a", Some(value));
        }
        assert_eq!(history.growth("a", 2, 1), [Some(3.0), None]);
    }
}
