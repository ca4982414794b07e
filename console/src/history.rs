//! Figures over time, one value a second for the last hour, under the names the daemon's own history uses (`in_per_s`,
//! `stage.<name>.lag`). Filled from Snapshots. A second without a Snapshot is a gap, not a zero.

use std::collections::{BTreeMap, VecDeque};

use pipectl_shared::snapshot::Snapshot;

/// Seconds kept.
pub(crate) const SECONDS_MAX: usize = 3_600;

/// Series kept; a daemon that keeps inventing stages must not fill the memory. 320 x 3,600 x 8 bytes = 9 MB at most.
const SERIES_MAX: usize = 320;

/// All series.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// The second (since 1970) of the newest value.
    newest_s: u64,
    series: BTreeMap<String, VecDeque<Option<f32>>>,
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
        }
    }

    /// Puts one value at its second; older than the newest by more than an hour, or from a clock that jumped: left out.
    pub(crate) fn put(&mut self, at_s: u64, name: &str, value: Option<f64>) {
        let value = value
            .filter(|value| value.is_finite())
            .map(|value| value as f32);
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
            series.push_front(None);
        }
        let at = series.len() - 1 - back;
        series[at] = value;
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
                series.push_back(None);
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
            let Some(value) = value else { continue };
            let slot = (back + offset) / step_s;
            if slot >= n {
                break;
            }
            let point = &mut points[n - 1 - slot];
            let value = f64::from(*value);
            *point = Some(point.map_or(value, |old: f64| old.max(value)));
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

#[cfg(test)]
mod tests {
    use super::*;

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
