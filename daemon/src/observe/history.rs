//! Figures over time: which there are, how several become one, and the answer to a question for a span of them. `rings`
//! keeps them in memory (one a second for an hour, one per 10 s for a day), `spill` in files.
//!
//! Memory: (3,600 + 8,640) rows x (4 bytes a series + 8 bytes for the time). With the most series that are kept (320: 8
//! of the pipeline and 8 of each of 39 stages) that is 12,240 x 1,288 = 15.8 MB, below 16 MiB; with five stages 2.5 MB.
//! Values are 32-bit floats: seven digits are more than a chart shows. Not-a-number stands for unknown inside; outside it
//! is `None`.

use std::collections::HashMap;
use std::sync::Arc;

pub(super) use pipectl_shared::snapshot::History;
use pipectl_shared::snapshot::Snapshot;

/// Series at most.
pub(super) const N_SERIES: usize = 320;
/// Values in one answer at most: about 8 bytes each on the wire, where a line may have 1 MiB.
const N_VALUES: usize = 60_000;
/// Series in one answer at most; files may name stages that are gone.
const N_SERIES_ANSWER: usize = 1_000;
/// The furthest back that is looked, milliseconds: files are kept for 7 days.
const REACH_MS: u64 = 8 * 86_400_000;

/// One row on its way to a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) ts_ms: u64,
    pub(super) values: Vec<f32>,
}

/// How several values of a series become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// Rates over equal spans.
    Mean,
    /// What must not be overlooked: the worst of percentiles and depths.
    Max,
    /// Levels.
    Last,
}

/// By the series' name, so that what stands in a file folds alike.
pub(super) fn fold_of(name: &str) -> Fold {
    match name.rsplit('.').next().unwrap_or(name) {
        "in_per_s" | "out_per_s" | "cpu_cores" => Fold::Mean,
        "p99_ms" | "lag" | "lag_ms" | "pending" => Fold::Max,
        _ => Fold::Last,
    }
}

/// Several values of one series.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Folded {
    sum: f64,
    n: u32,
    max: f32,
    last: f32,
}

impl Folded {
    pub(super) fn add(&mut self, value: f32) {
        if value.is_nan() {
            return;
        }
        self.max = if self.n == 0 {
            value
        } else {
            self.max.max(value)
        };
        self.sum += f64::from(value);
        self.last = value;
        self.n += 1;
    }

    pub(super) fn value(&self, fold: Fold) -> Option<f64> {
        if self.n == 0 {
            return None;
        }
        Some(match fold {
            Fold::Mean => self.sum / f64::from(self.n),
            Fold::Max => f64::from(self.max),
            Fold::Last => f64::from(self.last),
        })
    }
}

/// Names of the series, pipeline first; stages beyond the limit have none.
pub(super) fn names<'a>(stages: impl IntoIterator<Item = &'a str>) -> Arc<[String]> {
    let whole = [
        "in_per_s",
        "out_per_s",
        "p50_ms",
        "p99_ms",
        "dead",
        "rss_bytes",
        "cpu_cores",
        "redis_memory_bytes",
    ];
    let stage = [
        "in_per_s",
        "out_per_s",
        "p50_ms",
        "p99_ms",
        "lag",
        "lag_ms",
        "pending",
        "dead",
    ];
    let of_stages = stages
        .into_iter()
        .flat_map(|s| stage.map(|n| format!("stage.{s}.{n}")));
    whole
        .iter()
        .map(|n| (*n).to_owned())
        .chain(of_stages)
        .take(N_SERIES)
        .collect()
}

/// Rates of the last second; a Snapshot's are over 10 s.
#[derive(Debug, Clone, Default)]
pub(super) struct LastSecond {
    pub(super) in_per_s: Option<f64>,
    pub(super) out_per_s: Option<f64>,
    /// Per stage: in and out.
    pub(super) stages: Vec<(Option<f64>, Option<f64>)>,
}

/// The row of one Snapshot, in the order of [`names`].
pub(super) fn row(snapshot: &Snapshot, rates: &LastSecond) -> Row {
    let status = &snapshot.status;
    let float = |n: Option<u64>| n.map(|n| n as f64);
    let mut values: Vec<Option<f64>> = vec![
        rates.in_per_s,
        rates.out_per_s,
        status.latency_ms.p50,
        status.latency_ms.p99,
        float(status.ledger.as_ref().map(|l| l.dead)),
        float(status.daemon.rss_bytes),
        status.daemon.cpu_cores,
        float(status.redis.used_memory_bytes),
    ];
    for (i, stage) in status.stages.iter().enumerate() {
        let (in_per_s, out_per_s) = rates.stages.get(i).copied().unwrap_or_default();
        values.extend([in_per_s, out_per_s, stage.p50_ms, stage.p99_ms]);
        values.extend([
            float(stage.lag),
            float(stage.lag_ms),
            float(stage.pending),
            float(Some(stage.dead)),
        ]);
    }
    // Losing digits is the point; what is out of range becomes infinite and is unknown then.
    let narrow = |v: Option<f64>| v.map_or(f32::NAN, |v| v as f32);
    let values = values
        .into_iter()
        .map(narrow)
        .map(|v| if v.is_finite() { v } else { f32::NAN })
        .collect();
    Row {
        ts_ms: snapshot.ts_ms,
        values,
    }
}

/// An answer in the making. Callers look up a point and a series once and add by their positions, since a week of
/// figures is some millions of values.
#[derive(Debug)]
pub(super) struct Points {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    step_ms: u64,
    ends: Vec<Option<u64>>,
    names: HashMap<String, usize>,
    columns: Vec<Vec<Folded>>,
}

impl Points {
    /// Both bounds included. `n_points_max` is lowered to what one answer may carry with `n_series`.
    pub(super) fn new(from_ms: u64, to_ms: u64, n_points_max: usize, n_series: usize) -> Self {
        let to_ms = to_ms.max(from_ms);
        let from_ms = from_ms.max(to_ms.saturating_sub(REACH_MS));
        let n = n_points_max.clamp(1, (N_VALUES / n_series.max(1)).max(1)) as u64;
        let span = (to_ms - from_ms).saturating_add(1);
        let step_ms = span.div_ceil(n).max(1);
        let n = usize::try_from(span.div_ceil(step_ms)).unwrap_or(1);
        let (ends, names, columns) = (vec![None; n], HashMap::new(), Vec::new());
        Self {
            from_ms,
            to_ms,
            step_ms,
            ends,
            names,
            columns,
        }
    }

    /// Position of the point that holds this instant, which is hereby known to have a row; `None` = out of bounds.
    pub(super) fn point(&mut self, ts_ms: u64) -> Option<usize> {
        if ts_ms < self.from_ms || ts_ms > self.to_ms {
            return None;
        }
        let i = usize::try_from((ts_ms - self.from_ms) / self.step_ms).ok()?;
        let end = self.ends.get_mut(i)?;
        *end = Some(end.map_or(ts_ms, |e| e.max(ts_ms)));
        Some(i)
    }

    /// Position of a series; `None` = there are too many already.
    pub(super) fn series(&mut self, name: &str) -> Option<usize> {
        if let Some(i) = self.names.get(name) {
            return Some(*i);
        }
        if self.columns.len() >= N_SERIES_ANSWER {
            return None;
        }
        self.names.insert(name.to_owned(), self.columns.len());
        self.columns.push(vec![Folded::default(); self.ends.len()]);
        Some(self.columns.len() - 1)
    }

    /// Adds a value; both positions are from the methods above.
    pub(super) fn add(&mut self, point: usize, series: usize, value: f32) {
        self.columns[series][point].add(value);
    }

    /// Points at which nothing was recorded are left out.
    pub(super) fn finish(self) -> History {
        let (ends, columns) = (self.ends, self.columns);
        let column = |(name, i): (String, usize)| {
            let fold = fold_of(&name);
            let known = columns[i]
                .iter()
                .zip(&ends)
                .filter(|(_, end)| end.is_some());
            // A thousandth is enough for a chart, and short on the wire.
            let round = |v: f64| (v * 1_000.0).round() / 1_000.0;
            (name, known.map(|(f, _)| f.value(fold).map(round)).collect())
        };
        let series = self.names.into_iter().map(column).collect();
        History {
            ts_ms: ends.iter().flatten().copied().collect(),
            step_ms: self.step_ms,
            series,
        }
    }
}

#[cfg(test)]
mod tests {
    use pipectl_shared::snapshot::Stage;

    use super::*;

    #[test]
    fn an_answer_is_bounded_whatever_was_asked() {
        let points = Points::new(0, u64::MAX, usize::MAX, 320);
        assert!(points.ends.len() * 320 <= N_VALUES);
        let points = Points::new(50, 10, 0, 0);
        assert_eq!(
            (points.from_ms, points.to_ms, points.ends.len()),
            (50, 50, 1)
        );
        let mut points = Points::new(0, 10, 10, 10);
        assert!(
            (0..2_000)
                .filter_map(|i| points.series(&format!("s{i}")))
                .count()
                == N_SERIES_ANSWER
        );
        assert_eq!(
            (points.point(11), points.point(10)),
            (None, Some(points.ends.len() - 1))
        );
    }

    #[test]
    fn a_row_has_a_value_for_every_name() {
        let stages = ["a", "b"];
        let stage = |name: &&str| Stage {
            name: (*name).to_owned(),
            lag: Some(7),
            ..Stage::default()
        };
        let mut snapshot = Snapshot {
            ts_ms: 5,
            ..Snapshot::default()
        };
        snapshot.status.stages = stages.iter().map(stage).collect();
        let (names, row) = (names(stages), row(&snapshot, &LastSecond::default()));
        assert_eq!(names.len(), row.values.len());
        for (name, value) in names.iter().zip(&row.values) {
            let expected = match name.as_str() {
                "stage.a.lag" | "stage.b.lag" => Some(7.0),
                "stage.a.dead" | "stage.b.dead" => Some(0.0),
                _ => None,
            };
            assert_eq!(Some(*value).filter(|v| !v.is_nan()), expected, "{name}");
        }
    }
}
