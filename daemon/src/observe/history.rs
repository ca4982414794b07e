//! Figures over time, columnar: one a second for an hour, one per 10 s for a day, in memory; older ones in `spill`'s files.
//!
//! Memory: (3,600 + 8,640) rows x (4 bytes a series + 8 bytes for the time). With the most series that are kept (320: 8
//! of the pipeline and 8 of each of 39 stages) that is 12,240 x 1,288 = 15.8 MB, below 16 MiB; with five stages 2.5 MB.
//! Values are 32-bit floats: seven digits are more than a chart shows. Not-a-number stands for unknown inside; outside it
//! is `None`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pipectl_shared::snapshot::Snapshot;
use serde::Serialize;

use super::window::PIPELINE;

/// Rows of one a second.
const FINE: usize = 3_600;
/// Rows of one per 10 s.
const COARSE: usize = 8_640;
/// Milliseconds of a coarse row.
const COARSE_MS: u64 = 10_000;
/// Series at most.
const N_SERIES: usize = 320;
/// Values in one answer at most: about 8 bytes each on the wire, where a line may have 1 MiB.
const N_VALUES: usize = 60_000;
/// Series in one answer at most; files may name stages that are gone.
const N_SERIES_ANSWER: usize = 1_000;
/// The furthest back that is looked, milliseconds: files are kept for 7 days.
const REACH_MS: u64 = 8 * 86_400_000;

/// Figures of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// End of each point, milliseconds since 1970, ascending; where the daemon was down there are none.
    pub ts_ms: Vec<u64>,
    /// Width of a point in milliseconds.
    pub step_ms: u64,
    /// By name: `in_per_s`, ... of the pipeline, `stage.<name>.lag`, ... of a stage. As long as `ts_ms`; `None` = unknown.
    pub series: BTreeMap<String, Vec<Option<f64>>>,
}

/// One row on its way to a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) ts_ms: u64,
    pub(super) values: Vec<f32>,
}

/// How several values of a series become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    /// Rates over equal spans.
    Mean,
    /// What must not be overlooked: the worst of percentiles and depths.
    Max,
    /// Levels.
    Last,
}

/// By the series' name, so that what stands in a file folds alike.
fn fold_of(name: &str) -> Fold {
    match name.rsplit('.').next().unwrap_or(name) {
        "in_per_s" | "out_per_s" | "cpu_cores" => Fold::Mean,
        "p99_ms" | "lag" | "lag_ms" | "pending" => Fold::Max,
        _ => Fold::Last,
    }
}

/// Several values of one series.
#[derive(Debug, Clone, Copy, Default)]
struct Folded {
    sum: f64,
    n: u32,
    max: f32,
    last: f32,
}

impl Folded {
    fn add(&mut self, value: f32) {
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

    fn value(&self, fold: Fold) -> Option<f64> {
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
    let end_to_end = snapshot.latency.iter().find(|r| r.stage == PIPELINE);
    let float = |n: Option<u64>| n.map(|n| n as f64);
    let mut values: Vec<Option<f64>> = vec![
        rates.in_per_s,
        rates.out_per_s,
        end_to_end.and_then(|r| r.p50),
        end_to_end.and_then(|r| r.p99),
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

/// A ring of rows, column by column.
#[derive(Debug, Default)]
struct Ring {
    n_rows_max: usize,
    ts_ms: VecDeque<u64>,
    columns: Vec<VecDeque<f32>>,
}

impl Ring {
    fn new(n_rows_max: usize, n_series: usize) -> Self {
        // Exactly as much as will be needed: a deque that grows by doubling could take twice that.
        let columns = (0..n_series)
            .map(|_| VecDeque::with_capacity(n_rows_max))
            .collect();
        Self {
            n_rows_max,
            ts_ms: VecDeque::with_capacity(n_rows_max),
            columns,
        }
    }

    fn push(&mut self, row: &Row) {
        // The wall clock was set back: what it called the future is of no use.
        while self.ts_ms.back().is_some_and(|last| *last >= row.ts_ms) {
            self.ts_ms.pop_back();
            self.columns.iter_mut().for_each(|c| {
                c.pop_back();
            });
        }
        if self.ts_ms.len() == self.n_rows_max {
            self.ts_ms.pop_front();
            self.columns.iter_mut().for_each(|c| {
                c.pop_front();
            });
        }
        self.ts_ms.push_back(row.ts_ms);
        for (i, column) in self.columns.iter_mut().enumerate() {
            column.push_back(row.values.get(i).copied().unwrap_or(f32::NAN));
        }
    }

    fn push_front(&mut self, row: &Row) {
        if self.ts_ms.len() == self.n_rows_max
            || self.ts_ms.front().is_some_and(|first| *first <= row.ts_ms)
        {
            return;
        }
        self.ts_ms.push_front(row.ts_ms);
        for (i, column) in self.columns.iter_mut().enumerate() {
            column.push_front(row.values.get(i).copied().unwrap_or(f32::NAN));
        }
    }

    fn bytes(&self) -> u64 {
        (self.ts_ms.len() * (8 + 4 * self.columns.len())) as u64
    }

    /// Calls `each` for the rows with `from <= ts < before`.
    fn each(
        &self,
        from_ms: u64,
        before_ms: u64,
        mut each: impl FnMut(u64, &mut dyn FnMut(usize) -> f32),
    ) {
        let (first, end) = (
            self.ts_ms.partition_point(|t| *t < from_ms),
            self.ts_ms.partition_point(|t| *t < before_ms),
        );
        for row in first..end {
            each(self.ts_ms[row], &mut |column| self.columns[column][row]);
        }
    }
}

/// Both resolutions.
#[derive(Debug)]
pub(super) struct Rings {
    names: Arc<[String]>,
    fine: Ring,
    coarse: Ring,
    /// The coarse row in the making: its interval, its last time, its values so far.
    making: Option<(u64, u64, Vec<Folded>)>,
}

impl Rings {
    pub(super) fn new(names: Arc<[String]>) -> Self {
        let n = names.len();
        Self {
            names,
            fine: Ring::new(FINE, n),
            coarse: Ring::new(COARSE, n),
            making: None,
        }
    }

    /// Names in the order of a row's values.
    pub(super) fn names(&self) -> &Arc<[String]> {
        &self.names
    }

    /// Takes a row; returns a coarse row when its 10 s are over.
    pub(super) fn push(&mut self, row: &Row) -> Option<Row> {
        self.fine.push(row);
        let interval = row.ts_ms / COARSE_MS;
        let done = match &self.making {
            Some((making, ..)) if *making != interval => self.seal(),
            Some(_) | None => None,
        };
        let n = self.names.len();
        let (_, last, values) = self
            .making
            .get_or_insert_with(|| (interval, row.ts_ms, vec![Folded::default(); n]));
        *last = row.ts_ms;
        for (folded, value) in values.iter_mut().zip(&row.values) {
            folded.add(*value);
        }
        done
    }

    /// Ends the coarse row in the making, if there is one.
    pub(super) fn seal(&mut self) -> Option<Row> {
        let (_, ts_ms, folded) = self.making.take()?;
        let value =
            |(f, name): (&Folded, &String)| f.value(fold_of(name)).map_or(f32::NAN, |v| v as f32);
        let row = Row {
            ts_ms,
            values: folded.iter().zip(self.names.iter()).map(value).collect(),
        };
        self.coarse.push(&row);
        Some(row)
    }

    /// Puts rows of an earlier run (ascending) before what is there.
    pub(super) fn put_before(&mut self, rows: &[Row]) {
        for row in rows.iter().rev() {
            self.coarse.push_front(row);
        }
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        self.fine.bytes() + self.coarse.bytes()
    }

    /// Time of the first row in memory.
    pub(super) fn first_ms(&self) -> Option<u64> {
        let firsts = [self.coarse.ts_ms.front(), self.fine.ts_ms.front()];
        firsts.into_iter().flatten().copied().min()
    }

    /// Adds what is in memory: coarse rows up to where the fine ones begin.
    pub(super) fn fold(&self, into: &mut Points) {
        let (from, to) = (into.from_ms, into.to_ms);
        let seam = self.fine.ts_ms.front().copied().unwrap_or(u64::MAX);
        let names = &self.names;
        let mut add = |ts: u64, value: &mut dyn FnMut(usize) -> f32| {
            for (i, name) in names.iter().enumerate() {
                into.add(ts, name, value(i));
            }
        };
        self.coarse
            .each(from, seam.min(to.saturating_add(1)), &mut add);
        self.fine
            .each(from.max(seam), to.saturating_add(1), &mut add);
    }
}

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Points {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    step_ms: u64,
    ends: Vec<Option<u64>>,
    series: BTreeMap<String, Vec<Folded>>,
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
        Self {
            from_ms,
            to_ms,
            step_ms,
            ends: vec![None; n],
            series: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, ts_ms: u64, name: &str, value: f32) {
        if ts_ms < self.from_ms || ts_ms > self.to_ms {
            return;
        }
        let Ok(i) = usize::try_from((ts_ms - self.from_ms) / self.step_ms) else {
            return;
        };
        if !self.series.contains_key(name) {
            if self.series.len() >= N_SERIES_ANSWER {
                return;
            }
            self.series
                .insert(name.to_owned(), vec![Folded::default(); self.ends.len()]);
        }
        let (Some(end), Some(column)) = (self.ends.get_mut(i), self.series.get_mut(name)) else {
            return;
        };
        *end = Some(end.map_or(ts_ms, |e| e.max(ts_ms)));
        column[i].add(value);
    }

    /// Points at which nothing was recorded are left out.
    pub(super) fn finish(self) -> History {
        let ends = self.ends;
        let column = |(name, column): (String, Vec<Folded>)| {
            let fold = fold_of(&name);
            let known = column.iter().zip(&ends).filter(|(_, end)| end.is_some());
            // A thousandth is enough for a chart, and short on the wire.
            let values = known
                .map(|(f, _)| f.value(fold).map(|v| (v * 1_000.0).round() / 1_000.0))
                .collect();
            (name, values)
        };
        let series = self.series.into_iter().map(column).collect();
        History {
            ts_ms: ends.iter().flatten().copied().collect(),
            step_ms: self.step_ms,
            series,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings() -> Rings {
        Rings::new(["in_per_s", "p99_ms", "dead"].map(str::to_owned).into())
    }

    fn row(ts_ms: u64, values: [f32; 3]) -> Row {
        Row {
            ts_ms,
            values: values.to_vec(),
        }
    }

    fn range(rings: &Rings, from: u64, to: u64, n: usize) -> History {
        let mut points = Points::new(from, to, n, 3);
        rings.fold(&mut points);
        points.finish()
    }

    #[test]
    fn every_second_of_the_last_hour_is_there() {
        let mut rings = rings();
        for s in 1..=10_000u64 {
            rings.push(&row(s * 1_000, [s as f32, 1.0, f32::NAN]));
        }
        let history = range(&rings, 9_998_000, 10_000_000, 100);
        assert_eq!(history.ts_ms, [9_998_000, 9_999_000, 10_000_000]);
        assert_eq!(
            history.series["in_per_s"],
            [Some(9_998.0), Some(9_999.0), Some(10_000.0)]
        );
        assert_eq!(
            history.series["dead"],
            [None, None, None],
            "unknown stays unknown"
        );
    }

    #[test]
    fn older_figures_are_folded_by_what_they_mean() {
        let mut rings = rings();
        for s in 0..7_200u64 {
            let spike = if s == 5 { 900.0 } else { 1.0 };
            rings.push(&row(s * 1_000, [(s % 10) as f32, spike, s as f32]));
        }
        let history = range(&rings, 0, 9_999, 1);
        assert_eq!(history.series["in_per_s"], [Some(4.5)], "rates: the mean");
        assert_eq!(
            history.series["p99_ms"],
            [Some(900.0)],
            "percentiles: the worst"
        );
        assert_eq!(history.series["dead"], [Some(9.0)], "levels: the last");
    }

    #[test]
    fn no_row_is_counted_in_both_resolutions() {
        let mut rings = rings();
        for s in 0..7_200u64 {
            rings.push(&row(s * 1_000, [1.0, 1.0, 1.0]));
        }
        let history = range(&rings, 0, 7_200_000, 10_000);
        assert!(history.ts_ms.windows(2).all(|w| w[0] < w[1]));
        // One hour of seconds and one hour of tens; the coarse row that reaches over the seam is left to the fine ones.
        assert_eq!(history.ts_ms.len(), 3_600 + 360);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_break_the_order() {
        let mut rings = rings();
        for ts in [1_000, 2_000, 500_000, 3_000, 4_000] {
            rings.push(&row(ts, [1.0, 1.0, 1.0]));
        }
        assert_eq!(
            range(&rings, 0, 600_000, 1_000_000).ts_ms,
            [1_000, 2_000, 3_000, 4_000]
        );
    }

    #[test]
    fn memory_stays_below_sixteen_mebibytes() {
        let stages: Vec<_> = (0..1_000).map(|i| format!("s{i}")).collect();
        let mut rings = Rings::new(names(stages.iter().map(String::as_str)));
        assert_eq!(rings.names().len(), N_SERIES);
        let values = vec![1.0; N_SERIES];
        for i in 0..FINE as u64 + 10 {
            rings.fine.push(&Row {
                ts_ms: i + 1,
                values: values.clone(),
            });
        }
        for i in 0..COARSE as u64 + 10 {
            rings.coarse.push(&Row {
                ts_ms: i + 1,
                values: values.clone(),
            });
        }
        assert!(rings.bytes() < 16 << 20, "{}", rings.bytes());
        let capacity: usize = [&rings.fine, &rings.coarse]
            .iter()
            .flat_map(|r| &r.columns)
            .map(|c| c.capacity() * 4)
            .sum();
        assert!(capacity < 16 << 20, "{capacity}");
    }

    #[test]
    fn an_answer_is_bounded_whatever_was_asked() {
        let points = Points::new(0, u64::MAX, usize::MAX, 320);
        assert!(points.ends.len() * 320 <= N_VALUES);
        let points = Points::new(50, 10, 0, 0);
        assert_eq!(
            (points.from_ms, points.to_ms, points.ends.len()),
            (50, 50, 1)
        );
    }

    #[test]
    fn rows_of_an_earlier_run_come_first() {
        let mut rings = rings();
        rings.push(&row(50_000, [1.0; 3]));
        rings.put_before(&[
            row(10_000, [2.0; 3]),
            row(20_000, [3.0; 3]),
            row(60_000, [4.0; 3]),
        ]);
        assert_eq!(rings.first_ms(), Some(10_000));
        let history = range(&rings, 0, 100_000, 1_000);
        assert_eq!(history.ts_ms, [10_000, 20_000, 50_000]);
    }
}
