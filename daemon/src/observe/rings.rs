//! Figures in memory: two rings, column by column. `history` says what the figures are; `spill` keeps older ones.

use std::collections::VecDeque;
use std::sync::Arc;

use super::history::{Folded, Points, Row, fold_of};

/// Rows of one a second.
const FINE: usize = 3_600;
/// Rows of one per 10 s.
const COARSE: usize = 8_640;
/// Milliseconds of a coarse row.
const COARSE_MS: u64 = 10_000;

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

    /// Adds the rows with `from <= ts < before`.
    fn fold(&self, names: &[String], from_ms: u64, before_ms: u64, into: &mut Points) {
        let position = |limit: u64| self.ts_ms.partition_point(|t| *t < limit);
        let rows = position(from_ms)..position(before_ms);
        if rows.is_empty() {
            return;
        }
        let points: Vec<_> = self
            .ts_ms
            .range(rows.clone())
            .map(|t| into.point(*t))
            .collect();
        for (name, column) in names.iter().zip(&self.columns) {
            let Some(series) = into.series(name) else {
                return;
            };
            for (point, value) in points.iter().zip(column.range(rows.clone())) {
                if let Some(point) = point {
                    into.add(*point, series, *value);
                }
            }
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

    /// Bytes in use once both rings are full.
    pub(super) fn bytes_max(&self) -> u64 {
        ((FINE + COARSE) * (8 + 4 * self.names.len())) as u64
    }

    /// Time of the first row in memory.
    pub(super) fn first_ms(&self) -> Option<u64> {
        let firsts = [self.coarse.ts_ms.front(), self.fine.ts_ms.front()];
        firsts.into_iter().flatten().copied().min()
    }

    /// Adds what is in memory: coarse rows up to where the fine ones begin.
    pub(super) fn fold(&self, into: &mut Points) {
        let (from, before) = (into.from_ms, into.to_ms.saturating_add(1));
        let seam = self.fine.ts_ms.front().copied().unwrap_or(u64::MAX);
        self.coarse.fold(&self.names, from, seam.min(before), into);
        self.fine.fold(&self.names, from.max(seam), before, into);
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{History, N_SERIES, names};
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
