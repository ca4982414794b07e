//! A heatmap of latencies: time from left to right, log rows of latency from bottom to top, counts as five shades. One
//! column a slot; the shades' scale is the same for the whole window, so that two columns compare.
//!
//! Rows are whole numbers of the buckets that travel (eight a decade from 1 us), never parts of them: one, two, four or
//! eight, the finest that fits. So every count stands in the row that it belongs to, which powers of two over these
//! buckets could not promise. A blank is a span in which nothing was counted there; a span that nobody looked at has a
//! mark of its own.

use pipectl_shared::snapshot::Bucket;
use ratatui::layout::Rect;

use super::Ink;
use crate::theme::Role;

/// Buckets that travel: 10^(i/8) us for i in 0..64 (contract of `latency.slots`).
pub(crate) const N_BUCKETS: usize = 64;

/// The bucket whose upper bound this is, or that holds it; `None` for what is no latency.
pub(crate) fn bucket_of(le_ms: f64) -> Option<usize> {
    if !le_ms.is_finite() || le_ms < 0.0 {
        return None;
    }
    // Bounds travel with four digits: nearer than a hundredth of a bucket.
    let at = ((le_ms * 1_000.0).log10() * 8.0 - 0.01).ceil();
    Some(at.clamp(0.0, (N_BUCKETS - 1) as f64) as usize)
}

/// Rows of a picture: which buckets stand in which row, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Buckets a row: 1, 2, 4 or 8.
    width: usize,
    /// Row of the lowest, counted from 1 us.
    first: usize,
    /// How many.
    pub(crate) n: usize,
}

impl Rows {
    /// The finest rows of which `height` hold every bucket that occurs; `None` when none does or there is no room.
    pub(crate) fn fit<'a>(
        buckets: impl IntoIterator<Item = &'a Bucket>,
        height: usize,
    ) -> Option<Self> {
        let mut ends: Option<(usize, usize)> = None;
        for bucket in buckets.into_iter().filter(|bucket| bucket.count > 0) {
            if let Some(at) = bucket_of(bucket.le_ms) {
                let (low, high) = ends.unwrap_or((at, at));
                ends = Some((low.min(at), high.max(at)));
            }
        }
        let (low, high) = ends?;
        for width in [1, 2, 4, 8] {
            let (first, last) = (Self::row(low, width), Self::row(high, width));
            let n = last - first + 1;
            if n > height {
                continue;
            }
            // Room that is left shows where nothing is, a row on either side, as a frame for the eye.
            let below = usize::from(first > 0 && n + 2 <= height);
            let above = usize::from(n + below < height);
            return Some(Self {
                width,
                first: first - below,
                n: n + below + above,
            });
        }
        // Fewer rows than decades: the slowest matter most.
        (height > 0).then(|| Self {
            width: 8,
            first: Self::row(high, 8) + 1 - height,
            n: height,
        })
    }

    /// The same with empty rows until `height` is full, slower ones first: so that a slow entry moves no row.
    fn grown(mut self, height: usize) -> Self {
        let above = Self::row(N_BUCKETS - 1, self.width).saturating_sub(self.first + self.n - 1);
        self.n += above.min(height.saturating_sub(self.n));
        let below = self.first.min(height.saturating_sub(self.n));
        self.first -= below;
        self.n += below;
        self
    }

    // The first bucket ends at 1 us; the one behind it begins there, and so does the first row.
    fn row(bucket: usize, width: usize) -> usize {
        bucket.saturating_sub(1) / width
    }

    /// The row of a bucket, lowest = 0; what is below the lowest row stands in it, what is above the highest in that.
    pub(crate) fn of(&self, le_ms: f64) -> Option<usize> {
        let row = Self::row(bucket_of(le_ms)?, self.width);
        Some(row.saturating_sub(self.first).min(self.n - 1))
    }

    /// The row that a value stands in; `None` outside of all rows.
    pub(crate) fn at_ms(&self, ms: f64) -> Option<usize> {
        let row = Self::row(bucket_of(ms)?, self.width).checked_sub(self.first)?;
        (row < self.n).then_some(row)
    }

    /// Milliseconds above which the values of a row are.
    pub(crate) fn lower_ms(&self, row: usize) -> f64 {
        10_f64.powf(((self.first + row) * self.width) as f64 / 8.0) / 1_000.0
    }

    /// Counts by row, lowest first.
    pub(crate) fn counts(&self, buckets: &[Bucket]) -> Vec<u64> {
        let mut counts = vec![0_u64; self.n];
        for bucket in buckets {
            if let Some(row) = self.of(bucket.le_ms) {
                counts[row] = counts[row].saturating_add(bucket.count);
            }
        }
        counts
    }
}

/// A bound as people read it, at most five cells: `1.8ms`, `320us`, `10s`.
pub(crate) fn bound(ms: f64) -> String {
    let (value, unit) = match ms {
        _ if !ms.is_finite() || ms < 0.0 => return "?".to_owned(),
        ..0.9995 => (ms * 1_000.0, "us"),
        ..999.5 => (ms, "ms"),
        _ => (ms / 1_000.0, "s"),
    };
    // 9.95 and not 10, or rounding would print 10.0.
    if value < 9.95 && (value - value.round()).abs() >= 0.05 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// The bucket that holds most: above what, up to what (milliseconds), and how many; the slower of equals.
pub(crate) fn fullest(buckets: &[Bucket]) -> Option<(f64, f64, u64)> {
    let known = buckets.iter().filter(|bucket| bucket.count > 0);
    let most = known
        .filter_map(|bucket| Some((bucket_of(bucket.le_ms)?, bucket.count)))
        .max_by_key(|(at, count)| (*count, *at))?;
    let edge = |at: usize| 10_f64.powf(at as f64 / 8.0) / 1_000.0;
    let low = most.0.checked_sub(1).map_or(0.0, edge);
    Some((low, edge(most.0), most.1))
}

/// Least counts of the four shades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale([u64; 4]);

impl Scale {
    /// The finest scale of round factors whose darkest shade does not hold all above a fourth power.
    pub(crate) fn of(greatest: u64) -> Self {
        let base = [2_u64, 3, 5, 10, 20, 50, 100, 1_000]
            .into_iter()
            .find(|base| u128::from(*base).pow(4) > u128::from(greatest))
            .unwrap_or(10_000);
        Self([1, base, base.pow(2), base.pow(3)])
    }

    /// 0 (nothing) to 4.
    pub(crate) fn shade(&self, count: u64) -> u8 {
        let n = self.0.iter().filter(|least| count >= **least).count();
        u8::try_from(n).unwrap_or(4)
    }
}

const UNICODE: [char; 5] = [' ', '░', '▒', '▓', '█'];
const ASCII: [char; 5] = [' ', '.', ':', '=', '#'];
const GAP: (char, char) = ('╎', '\'');
/// Cells left of the columns: a bound and the axis.
const LEFT: u16 = 7;
/// Lines below the rows: axis, times, legend.
const BELOW: u16 = 3;

/// What is drawn.
pub(crate) struct Heatmap<'a> {
    /// Columns, oldest first; `None` = nobody looked.
    pub(crate) columns: &'a [Option<&'a [Bucket]>],
    /// Ends of the columns, milliseconds since 1970.
    pub(crate) ends_ms: &'a [u64],
    /// Length of a column, milliseconds.
    pub(crate) step_ms: u64,
    /// Column under the time cursor.
    pub(crate) cursor: Option<usize>,
    /// When faults were injected (`true`) and taken back, milliseconds since 1970.
    pub(crate) faults: &'a [(u64, bool)],
}

/// First of `n` columns that are shown when `width` fit: the newest, unless the cursor is older.
pub(crate) fn first_shown(n: usize, width: usize, cursor: Option<usize>) -> usize {
    let newest = n.saturating_sub(width);
    match cursor {
        Some(at) if at < newest => at.saturating_sub(width / 2).min(newest),
        _ => newest,
    }
}

/// Draws rows, axis, times and legend. Says how many rows there was room for; 0 = too little to draw anything.
pub(crate) fn draw_heatmap(ink: &mut Ink<'_>, area: Rect, map: &Heatmap<'_>) -> usize {
    if area.width < LEFT + 8 || area.height < BELOW + 2 {
        return 0;
    }
    let height = usize::from(area.height - BELOW);
    let every = || {
        map.columns
            .iter()
            .flatten()
            .flat_map(|buckets| buckets.iter())
    };
    // The whole window decides, not what is in view: scales and rows stand still while the cursor moves.
    let rows = Rows::fit(every(), height).map(|rows| rows.grown(height));
    let greatest = |rows: &Rows| {
        let cells = map.columns.iter().flatten();
        cells
            .filter_map(|buckets| rows.counts(buckets).into_iter().max())
            .max()
    };
    let scale = Scale::of(rows.as_ref().and_then(greatest).unwrap_or(0));
    let width = area.width - LEFT;
    let first = first_shown(map.columns.len(), usize::from(width), map.cursor);
    let shown = map.columns.len().min(first + usize::from(width)) - first;
    // The newest stands at the right end, as in every chart of this program.
    let start = area.right() - u16::try_from(shown).unwrap_or(width).min(width);
    let bottom = area.y + area.height - BELOW;
    for y in area.y..bottom {
        ink.glyph(area.x + LEFT - 1, y, '│', '|', Role::Frame);
    }
    if let Some(rows) = &rows {
        for row in 0..rows.n {
            let y = bottom - 1 - u16::try_from(row).unwrap_or(0);
            let label = bound(rows.lower_ms(row));
            ink.right(area.x + LEFT - 1, y, LEFT - 1, &label, Role::Dim);
        }
    }
    for (column, x) in map.columns[first..first + shown].iter().zip(start..) {
        let Some(buckets) = column else {
            for y in area.y..bottom {
                ink.glyph(x, y, GAP.0, GAP.1, Role::Frame);
            }
            continue;
        };
        let Some(rows) = &rows else { continue };
        for (row, count) in rows.counts(buckets).into_iter().enumerate() {
            let shade = scale.shade(count);
            let at = usize::from(shade);
            let y = bottom - 1 - u16::try_from(row).unwrap_or(0);
            ink.glyph(x, y, UNICODE[at], ASCII[at], Role::Heat(shade));
        }
    }
    draw_axis(ink, area, map, first, start);
    if let Some(at) = map.cursor.and_then(|at| at.checked_sub(first))
        && at < shown
    {
        let x = start + u16::try_from(at).unwrap_or(0);
        ink.paint(Rect::new(x, area.y, 1, bottom - area.y), Role::Cursor);
        ink.glyph(x, bottom, '▲', '^', Role::Key);
    }
    draw_legend(ink, area, map, scale);
    height
}

/// `HH:MM` of an instant, UTC.
fn clock_of(ms: u64) -> String {
    let minutes = ms / 60_000 % 1_440;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn draw_axis(ink: &mut Ink<'_>, area: Rect, map: &Heatmap<'_>, first: usize, start: u16) {
    let y = area.y + area.height - BELOW;
    let left = area.x + LEFT - 1;
    ink.rule(left, y, area.right() - left, Role::Frame);
    ink.glyph(left, y, '└', '+', Role::Frame);
    ink.text(area.x, y + 1, LEFT - 1, "UTC", Role::Dim);
    let step_ms = map.step_ms.max(1);
    // A label takes seven cells with its surroundings: the shortest round interval that leaves them free.
    let every_min = [1, 2, 5, 10, 30, 60]
        .into_iter()
        .find(|minutes| minutes * 60_000 / step_ms >= 8)
        .unwrap_or(60);
    let mut free = left;
    for (end_ms, x) in map.ends_ms.iter().skip(first).zip(start..area.right()) {
        let interval = every_min * 60_000;
        // The column in which the minute begins.
        let begins = end_ms / interval * interval;
        if end_ms - begins >= step_ms || *end_ms < step_ms {
            continue;
        }
        ink.glyph(x, y, '┴', '+', Role::Frame);
        if x >= free && x + 5 <= area.right() {
            ink.text(x, y + 1, 5, &clock_of(begins), Role::Dim);
            free = x + 6;
        }
    }
    // Over the ticks: a fault matters more than a round minute.
    for (end_ms, x) in map.ends_ms.iter().skip(first).zip(start..area.right()) {
        let is_here =
            |fault: &&(u64, bool)| fault.0 <= *end_ms && end_ms.saturating_sub(fault.0) < step_ms;
        let mut here = map.faults.iter().filter(is_here).peekable();
        if here.peek().is_some() {
            let glyph = if here.any(|(_, is_begin)| *is_begin) {
                'C'
            } else {
                'c'
            };
            ink.glyph(x, y, glyph, glyph, Role::Warn);
        }
    }
}

fn draw_legend(ink: &mut Ink<'_>, area: Rect, map: &Heatmap<'_>, scale: Scale) {
    let y = area.bottom() - 1;
    let mut x = area.x;
    for (shade, least) in (1_u8..).zip(scale.0) {
        let at = usize::from(shade);
        ink.glyph(x, y, UNICODE[at], ASCII[at], Role::Heat(shade));
        let text = format!(" {}+  ", short(least));
        x += 1 + ink.text(
            x + 1,
            y,
            area.right().saturating_sub(x + 1),
            &text,
            Role::Dim,
        );
    }
    let rest = format!(
        "per cell and {}, same scale everywhere   ",
        bound(map.step_ms as f64)
    );
    x += ink.text(x, y, area.right().saturating_sub(x), &rest, Role::Dim);
    if x + 9 < area.right() {
        ink.glyph(x, y, GAP.0, GAP.1, Role::Frame);
        x += 1 + ink.text(x + 1, y, area.right() - x - 1, " no data", Role::Dim);
    }
    if !map.faults.is_empty() && x + 20 < area.right() {
        ink.text(x, y, area.right() - x, "   C fault in, c out", Role::Dim);
    }
}

/// `1`, `400`, `8k`, `1M`
fn short(n: u64) -> String {
    match n {
        ..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{}k", n / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", n / 1_000_000),
        _ => format!("{}G", n / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::theme::{Charset, Depth, Theme};

    fn bucket(le_ms: f64, count: u64) -> Bucket {
        Bucket { le_ms, count }
    }

    fn drawn(
        size: (u16, u16),
        columns: &[Option<&[Bucket]>],
        cursor: Option<usize>,
    ) -> Vec<String> {
        drawn_with(size, columns, cursor, &[])
    }

    fn drawn_with(
        size: (u16, u16),
        columns: &[Option<&[Bucket]>],
        cursor: Option<usize>,
        faults: &[(u64, bool)],
    ) -> Vec<String> {
        let theme = Theme {
            depth: Depth::Mono,
            charset: Charset::Ascii,
        };
        let area = Rect::new(0, 0, size.0, size.1);
        let mut buffer = Buffer::empty(area);
        // 14:00:00 UTC at the first column's end.
        let ends: Vec<u64> = (0..columns.len() as u64)
            .map(|n| 50_400_000 + n * 5_000)
            .collect();
        let map = Heatmap {
            columns,
            ends_ms: &ends,
            step_ms: 5_000,
            cursor,
            faults,
        };
        draw_heatmap(&mut Ink::new(&mut buffer, theme), area, &map);
        (0..size.1)
            .map(|y| {
                let line: String = (0..size.0).map(|x| buffer[(x, y)].symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn the_bounds_that_travel_find_their_buckets() {
        for at in 0..N_BUCKETS {
            let exact = 10_f64.powf(at as f64 / 8.0) / 1_000.0;
            let told: f64 = format!("{exact:.3e}").parse().unwrap();
            assert_eq!(bucket_of(told), Some(at), "{told}");
        }
        let table = [
            (0.0, Some(0)),
            (f64::MIN_POSITIVE, Some(0)),
            (f64::MAX, Some(63)),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ];
        for (le_ms, expected) in table {
            assert_eq!(bucket_of(le_ms), expected, "{le_ms}");
        }
    }

    #[test]
    fn rows_are_as_fine_as_fits_and_hold_all_buckets() {
        // 1 ms to 10 ms is a decade: eight buckets, with the one that ends at 1 ms nine.
        let buckets = [bucket(1.0, 1), bucket(10.0, 1)];
        let table = [
            (0, None),
            (1, Some((8, 1))),
            (2, Some((8, 2))),
            (3, Some((4, 3))),
            (5, Some((2, 5))),
            (9, Some((1, 9))),
            (20, Some((1, 11))),
        ];
        for (height, expected) in table {
            let rows = Rows::fit(&buckets, height);
            assert_eq!(rows.map(|r| (r.width, r.n)), expected, "{height}");
        }
        assert_eq!(Rows::fit(&[bucket(1.0, 0), bucket(f64::NAN, 9)], 9), None);
        let grown = |height| {
            let rows = Rows::fit(&buckets, 9).map(|rows| rows.grown(height));
            rows.map(|rows| (rows.first, rows.n))
        };
        // Above first, then below, then there is nothing left to show.
        assert_eq!(grown(9), Some((23, 9)));
        assert_eq!(grown(30), Some((23, 30)));
        assert_eq!(grown(50), Some((13, 50)));
        assert_eq!(grown(99), Some((0, 63)));
    }

    #[test]
    fn a_fault_stands_on_the_time_axis_in_the_column_it_began_in() {
        let one = [bucket(1.334, 5)];
        let columns = vec![Some(&one[..]); 20];
        // Columns end each 5 s from 50,400 s on: the third holds 50,405.001 to 50,410.000.
        let faults = [
            (50_405_001, true),
            (50_430_000, false),
            (1, true),
            (u64::MAX, true),
        ];
        let lines = drawn_with((40, 9), &columns, None, &faults);
        let axis = lines.iter().find(|line| line.contains('C')).unwrap();
        let start = 40 - 20;
        let at = |c: char| axis.chars().position(|other| other == c);
        assert_eq!(
            (at('C'), at('c')),
            (Some(start + 2), Some(start + 6)),
            "{axis}"
        );
        assert_eq!(axis.matches('C').count(), 1, "{axis}");
        // An injection is not hidden by the end of an earlier one.
        let faults = [(50_406_000, false), (50_407_000, true)];
        let lines = drawn_with((40, 9), &columns, None, &faults);
        assert!(lines.iter().any(|line| line.contains('C')), "{lines:?}");
    }

    #[test]
    fn a_row_is_labelled_by_the_bound_that_its_values_are_above() {
        let rows = Rows::fit(&[bucket(1.334, 5), bucket(10.0, 2)], 4).unwrap();
        assert_eq!(
            rows.counts(&[bucket(1.334, 5), bucket(10.0, 2)]),
            [5, 0, 0, 2]
        );
        let bounds: Vec<_> = (0..rows.n).map(|row| bound(rows.lower_ms(row))).collect();
        assert_eq!(bounds, ["1ms", "1.8ms", "3.2ms", "5.6ms"]);
    }

    #[test]
    fn bounds_read_like_people_write_them() {
        let table = [
            (0.001, "1us"),
            (0.0178, "18us"),
            (0.3162, "316us"),
            (0.9996, "1ms"),
            (1.7783, "1.8ms"),
            (9.99, "10ms"),
            (31.62, "32ms"),
            (1_000.0, "1s"),
            (17_782.8, "18s"),
            (f64::NAN, "?"),
            (f64::INFINITY, "?"),
        ];
        for (ms, expected) in table {
            assert_eq!(bound(ms), expected);
        }
    }

    #[test]
    fn the_scale_is_one_of_round_factors_and_never_overflows() {
        let table = [
            (0, [1, 2, 4, 8]),
            (15, [1, 2, 4, 8]),
            (16, [1, 3, 9, 27]),
            (9_999, [1, 10, 100, 1_000]),
            (10_000, [1, 20, 400, 8_000]),
            (u64::MAX, [1, 10_000, 100_000_000, 1_000_000_000_000]),
        ];
        for (greatest, expected) in table {
            assert_eq!(Scale::of(greatest), Scale(expected), "{greatest}");
        }
        let scale = Scale::of(9_999);
        let shades = [0, 1, 9, 10, 100, 999, 1_000, u64::MAX].map(|n| scale.shade(n));
        assert_eq!(shades, [0, 1, 1, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn nothing_counted_is_blank_and_nobody_looked_has_a_mark() {
        let (few, many) = (
            [bucket(1.334, 1)],
            [bucket(1.334, 9_000), bucket(2.371, 20)],
        );
        let columns: [Option<&[Bucket]>; 5] =
            [Some(&few), Some(&[]), None, Some(&many), Some(&few)];
        assert_eq!(
            drawn((40, 7), &columns, Some(3)),
            [
                " 2.4ms|                              '",
                " 1.8ms|                              ':",
                " 1.3ms|                              '",
                "   1ms|                            . '#.",
                "      +----------------------------+--^-",
                "UTC                                14:00",
                ". 1+  : 10+  = 100+  # 1k+  per cell an>",
            ]
        );
    }

    #[test]
    fn the_newest_columns_are_shown_unless_the_cursor_is_older() {
        let table = [
            (5, 10, None, 0),
            (100, 10, None, 90),
            (100, 10, Some(99), 90),
            (100, 10, Some(90), 90),
            (100, 10, Some(89), 84),
            (100, 10, Some(0), 0),
            (0, 10, None, 0),
        ];
        for (n, width, cursor, expected) in table {
            assert_eq!(
                first_shown(n, width, cursor),
                expected,
                "{n} {width} {cursor:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_peer_sends_makes_it_panic(
            width in 0_u16..120,
            height in 0_u16..40,
            columns in prop::collection::vec(prop::option::of(prop::collection::vec((any::<f64>(), any::<u64>()), 0..5)), 0..40),
            cursor in prop::option::of(0_usize..60),
        ) {
            let columns: Vec<Option<Vec<Bucket>>> = columns
                .into_iter()
                .map(|column| column.map(|buckets| buckets.into_iter().map(|(le, n)| bucket(le, n)).collect()))
                .collect();
            let columns: Vec<Option<&[Bucket]>> = columns.iter().map(Option::as_deref).collect();
            drawn((width, height), &columns, cursor);
        }

        #[test]
        fn no_count_is_lost_by_the_rows(
            buckets in prop::collection::vec((0_usize..N_BUCKETS, 1_u64..1_000), 1..30),
            height in 1_usize..70,
        ) {
            let buckets: Vec<Bucket> = buckets
                .into_iter()
                .map(|(at, n)| bucket(10_f64.powf(at as f64 / 8.0) / 1_000.0, n))
                .collect();
            let rows = Rows::fit(&buckets, height).unwrap();
            prop_assert!(rows.n <= height);
            let counted: u64 = rows.counts(&buckets).iter().sum();
            prop_assert_eq!(counted, buckets.iter().map(|b| b.count).sum::<u64>());
        }
    }
}
