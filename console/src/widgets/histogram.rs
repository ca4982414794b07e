//! A histogram lying on its side: a line per log row with its lower bound, a bar, the count and its share. Bars are linear
//! in the count; whatever was counted at all has at least the thinnest bar, so that a long tail is seen.

use pipectl_shared::snapshot::Bucket;
use ratatui::layout::Rect;

use super::Ink;
use super::heatmap::{Rows, bound};
use crate::output::human;
use crate::theme::Role;

const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A bar of at most `width` cells for a share from 0 to 1; only 0 is empty.
pub(crate) fn bar(share: f64, width: u16, is_ascii: bool) -> String {
    if share.is_nan() || share <= 0.0 || width == 0 {
        return String::new();
    }
    let width = usize::from(width);
    let eighths = ((share.min(1.0) * (width * 8) as f64).round() as usize).max(1);
    let (whole, rest) = (eighths / 8, eighths % 8);
    if is_ascii {
        let n = (eighths + 4) / 8;
        return if n == 0 {
            ".".to_owned()
        } else {
            "#".repeat(n)
        };
    }
    let mut text = "█".repeat(whole);
    if rest > 0 {
        text.push(EIGHTHS[rest]);
    }
    text
}

/// Digits as people write them, or rounded where that takes more than `width` cells.
pub(crate) fn short_count(n: u64, width: usize) -> String {
    let text = human::count(n);
    if text.len() <= width {
        text
    } else {
        human::bytes(n)
    }
}

/// Draws the finest rows that fit. `marks`: values in milliseconds with their names (`p99`), told at their row.
pub(crate) fn draw_histogram(
    ink: &mut Ink<'_>,
    area: Rect,
    buckets: &[Bucket],
    marks: &[(f64, &str)],
) {
    const LABEL: u16 = 6;
    const COUNT: u16 = 10;
    const SHARE: u16 = 7;
    if area.width < LABEL + 6 || area.height == 0 {
        return;
    }
    let Some(rows) = Rows::fit(buckets, usize::from(area.height)) else {
        ink.text(
            area.x,
            area.y,
            area.width,
            "nothing was measured",
            Role::Dim,
        );
        return;
    };
    let counts = rows.counts(buckets);
    let total = counts.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let greatest = counts.iter().copied().max().unwrap_or(0).max(1);
    let has_figures = area.width >= LABEL + COUNT + SHARE + 8;
    let right = if has_figures { COUNT + SHARE } else { 0 };
    let start = area.x + LABEL + 1;
    let room = area.width - LABEL - 1 - right;
    for (row, n) in counts.iter().enumerate() {
        let y = area.y + u16::try_from(row).unwrap_or(u16::MAX);
        let label = bound(rows.lower_ms(row));
        ink.right(area.x + LABEL, y, LABEL, &label, Role::Dim);
        ink.glyph(start - 1, y, '│', '|', Role::Frame);
        let share = *n as f64 / greatest as f64;
        let bar = bar(share, room, ink.is_ascii());
        let used = ink.text(start, y, room, &bar, Role::First);
        let here: Vec<&str> = marks
            .iter()
            .filter(|(ms, _)| rows.at_ms(*ms) == Some(row))
            .map(|(_, name)| *name)
            .collect();
        if !here.is_empty() {
            let text = format!(" {}", here.join(" "));
            let wanted = ink.width_of(&text);
            // At the right end over the bar, when it leaves no room behind it.
            let x = (start + used).min(start + room.saturating_sub(wanted));
            ink.text(x, y, room.min(wanted), &text, Role::Key);
        }
        if has_figures {
            let end = area.right() - SHARE;
            ink.right(end, y, COUNT, &short_count(*n, 9), Role::Plain);
            let share = *n as f64 / total.max(1) as f64 * 100.0;
            ink.right(area.right(), y, SHARE, &percent(share), Role::Dim);
        }
    }
}

/// `34.0%`; what is there but rounds to nothing is `<0.1%`.
pub(crate) fn percent(share: f64) -> String {
    if !share.is_finite() || share < 0.0 {
        return human::UNKNOWN.to_owned();
    }
    if share > 0.0 && share < 0.1 {
        return "<0.1%".to_owned();
    }
    format!("{share:.1}%")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::theme::{Charset, Depth, Theme};

    fn drawn(size: (u16, u16), buckets: &[Bucket], marks: &[(f64, &str)]) -> Vec<String> {
        let theme = Theme {
            depth: Depth::Mono,
            charset: Charset::Ascii,
        };
        let area = Rect::new(0, 0, size.0, size.1);
        let mut buffer = Buffer::empty(area);
        draw_histogram(&mut Ink::new(&mut buffer, theme), area, buckets, marks);
        (0..size.1)
            .map(|y| {
                let line: String = (0..size.0).map(|x| buffer[(x, y)].symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn a_bar_is_empty_only_for_nothing() {
        let table = [
            (0.0, false, ""),
            (f64::NAN, false, ""),
            (-1.0, false, ""),
            (1e-9, false, "▏"),
            (0.5, false, "██"),
            (0.53, false, "██▏"),
            (1.0, false, "████"),
            (9.0, false, "████"),
            (1e-9, true, "."),
            (0.5, true, "##"),
            (f64::INFINITY, true, "####"),
        ];
        for (share, is_ascii, expected) in table {
            assert_eq!(bar(share, 4, is_ascii), expected, "{share}");
        }
    }

    #[test]
    fn each_row_has_its_bound_count_share_and_percentiles() {
        let bucket = |le_ms, count| Bucket { le_ms, count };
        let buckets = [bucket(1.334, 900), bucket(1.778, 99), bucket(4.217, 1)];
        let lines = drawn((48, 5), &buckets, &[(1.2, "p50"), (1.7, "p99")]);
        assert_eq!(
            lines,
            [
                "   1ms|#################### p50       900  90.0%",
                " 1.3ms|### p99                         99   9.9%",
                " 1.8ms|                                 0   0.0%",
                " 2.4ms|                                 0   0.0%",
                " 3.2ms|.                                1   0.1%",
            ]
        );
        assert_eq!(drawn((30, 1), &[], &[])[0], "nothing was measured");
    }

    #[test]
    fn a_small_share_is_never_shown_as_none() {
        let table = [
            (0.0, "0.0%"),
            (0.0001, "<0.1%"),
            (12.34, "12.3%"),
            (100.0, "100.0%"),
            (f64::NAN, "?"),
        ];
        for (share, expected) in table {
            assert_eq!(percent(share), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_peer_sends_makes_it_panic(
            width in 0_u16..90,
            height in 0_u16..30,
            buckets in prop::collection::vec((any::<f64>(), any::<u64>()), 0..20),
            mark in any::<f64>(),
        ) {
            let buckets: Vec<Bucket> = buckets
                .into_iter()
                .map(|(le_ms, count)| Bucket { le_ms, count })
                .collect();
            drawn((width, height), &buckets, &[(mark, "p99")]);
        }
    }
}
