//! Figures over the last five minutes, one below the other on one time axis, each with its own scale printed beside it.

use ratatui::layout::Rect;

use super::stages::{aged, aged_role, points};
use crate::model::Model;
use crate::output::human::or_unknown;
use crate::theme::Role;
use crate::widgets::{Ink, chart};

/// One figure.
pub(super) struct Trend {
    /// What it is, with its window.
    pub(super) label: String,
    /// Its name in the history.
    pub(super) series: String,
    /// How a value of it reads.
    pub(super) show: fn(f64) -> String,
    /// How it looks.
    pub(super) role: Role,
}

impl Trend {
    /// With its label, its series and how a value reads.
    pub(super) fn new(
        label: impl Into<String>,
        series: impl Into<String>,
        show: fn(f64) -> String,
    ) -> Self {
        Self {
            label: label.into(),
            series: series.into(),
            show,
            role: Role::First,
        }
    }

    /// Told apart from the others.
    pub(super) fn second(mut self) -> Self {
        self.role = Role::Second;
        self
    }
}

/// Seconds that are shown.
const SPAN_S: usize = 300;

/// Cells for the figures beside a trend: of one row, and of several.
const BESIDE: (u16, u16) = (21, 13);

/// Points and seconds a point for so many cells: five minutes, and less than a point more.
fn grid(width: u16) -> (usize, usize) {
    let width = usize::from(width).clamp(1, SPAN_S);
    let step_s = SPAN_S.div_ceil(width);
    (SPAN_S.div_ceil(step_s), step_s)
}

/// Where the parts of a trend stand.
struct Frame {
    label: u16,
    chart: u16,
    n: usize,
    step_s: usize,
    /// Rows of each trend.
    height: u16,
    /// Of so many one more.
    over: u16,
}

fn frame(ink: &Ink<'_>, width: u16, height: u16, trends: &[Trend]) -> Frame {
    let rows = u16::try_from(trends.len()).unwrap_or(u16::MAX).max(1);
    let all = height;
    let height = (all / rows).clamp(1, 6);
    // Trends of one row have their figures elsewhere than those of several: all or none.
    let over = if height == 1 || height == 6 {
        0
    } else {
        all.saturating_sub(height * rows)
    };
    let longest = trends.iter().map(|trend| ink.width_of(&trend.label)).max();
    let label = (longest.unwrap_or(0) + 1).min(width / 3);
    let beside = if height > 1 || width < 56 {
        BESIDE.1
    } else {
        BESIDE.0
    };
    let room = width.saturating_sub(label + beside);
    let (n, step_s) = grid(room);
    Frame {
        label,
        // `n` is at most `room`, or 1 where there is none.
        chart: u16::try_from(n).unwrap_or(room).min(room),
        n,
        step_s,
        height,
        over,
    }
}

/// The faults of the five minutes that are shown, the newest first; `true` = injected.
fn faults(model: &Model) -> Vec<(u64, bool)> {
    let Some(shown_ms) = model.facts.snapshot().map(|snapshot| snapshot.ts_ms) else {
        return Vec::new();
    };
    let from_ms = shown_ms.saturating_sub(SPAN_S as u64 * 1_000);
    model.facts.faults(from_ms, shown_ms)
}

/// Whether a row is for the faults: only while there is one, and where no trend goes for it. Elsewhere they stand in the
/// first trend, each in place of one cell.
fn has_faults(faults: &[(u64, bool)], height: u16, trends: &[Trend]) -> bool {
    !faults.is_empty() && usize::from(height) > trends.len()
}

/// The words of a title for trends drawn in this width: how long, and how fine.
pub(super) fn span(
    model: &Model,
    ink: &Ink<'_>,
    width: u16,
    height: u16,
    trends: &[Trend],
) -> String {
    let height = height - u16::from(has_faults(&faults(model), height, trends));
    let frame = frame(ink, width, height, trends);
    format!("last 5 min, {} s a cell, blank = unknown", frame.step_s)
}

/// Draws as many of the trends as fit, the first ones.
pub(super) fn draw_trends(model: &Model, ink: &mut Ink<'_>, area: Rect, trends: &[Trend]) {
    if area.width < 12 || area.height == 0 {
        return;
    }
    let faults = faults(model);
    let n_rows = u16::from(has_faults(&faults, area.height, trends));
    let frame = frame(ink, area.width, area.height - n_rows, trends);
    let mut y = area.y + n_rows;
    for (n, trend) in (0..).zip(trends) {
        // What is left over goes to the first ones, a row each.
        let height = frame.height + u16::from(n < frame.over);
        if y + height > area.bottom() {
            break;
        }
        let at = Rect::new(area.x, y, area.width, height);
        draw_trend(model, ink, at, &frame, trend);
        y += height;
    }
    if !faults.is_empty() {
        draw_faults(model, ink, area, &frame, &faults, n_rows > 0);
    }
}

/// Above the trends: `C` where a fault was injected, hatched while it was in, `c` where it was taken back.
fn draw_faults(
    model: &Model,
    ink: &mut Ink<'_>,
    area: Rect,
    frame: &Frame,
    faults: &[(u64, bool)],
    has_row: bool,
) {
    if has_row {
        let room = frame.label.saturating_sub(1);
        ink.text(area.x, area.y, room, "chaos", Role::Warn);
    }
    let step_s = frame.step_s.max(1) as u64;
    let shown_s = model.facts.snapshot().map_or(0, |s| s.ts_ms / 1_000);
    // Cells before the right end, as the points beneath are put into theirs.
    let column = |ms: u64| {
        let back = (shown_s / step_s).saturating_sub(ms / 1_000 / step_s);
        let back = u16::try_from(back).ok()?;
        let x = (area.x + frame.label + frame.chart).checked_sub(back + 1)?;
        (x >= area.x + frame.label).then_some(x)
    };
    // From the newest back: a fault is in up to its end, or to now.
    let mut end = area.x + frame.label + frame.chart;
    for (ms, is_begin) in faults {
        let Some(x) = column(*ms) else { break };
        if *is_begin {
            for x in (x..end).filter(|_| has_row) {
                ink.glyph(x, area.y, '▒', '=', Role::Warn);
            }
            ink.glyph(x, area.y, 'C', 'C', Role::Key);
        } else {
            ink.glyph(x, area.y, 'c', 'c', Role::Key);
        }
        end = x;
    }
    // The oldest that is known ended one whose begin is out of sight.
    if has_row && faults.last().is_some_and(|(_, is_begin)| !is_begin) {
        for x in area.x + frame.label..end {
            ink.glyph(x, area.y, '▒', '=', Role::Warn);
        }
    }
}

fn draw_trend(model: &Model, ink: &mut Ink<'_>, area: Rect, frame: &Frame, trend: &Trend) {
    let label = aged_role(ink, Role::Strong);
    ink.text(
        area.x,
        area.y,
        frame.label.saturating_sub(1),
        &trend.label,
        label,
    );
    let known = points(model, &trend.series, frame.n, frame.step_s);
    let at = Rect::new(area.x + frame.label, area.y, frame.chart, area.height);
    let role = aged_role(ink, trend.role);
    let greatest = chart(ink, at, &known, role);
    let now = points(model, &trend.series, 1, 1)
        .first()
        .copied()
        .flatten();
    let now = aged(ink, or_unknown(now, trend.show));
    let max = or_unknown(greatest, trend.show);
    let x = at.right() + 1;
    let room = area.right().saturating_sub(x);
    let max = format!("max {max}");
    let value = aged_role(ink, Role::Strong);
    if area.height > 1 {
        ink.text(x, area.y, room, &max, Role::Dim);
        let now = format!("now {now}");
        ink.text(x, area.bottom() - 1, room, &now, value);
    } else if room + 1 >= BESIDE.0 {
        ink.right(x + 8, area.y, 8, &now, value);
        ink.text(x + 9, area.y, room.saturating_sub(9), &max, Role::Dim);
    } else {
        ink.text(x, area.y, room, &max, Role::Dim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_five_minutes_to_the_point_whatever_the_cells() {
        let table = [
            (0, (1, 300)),
            (1, (1, 300)),
            (30, (30, 10)),
            (47, (43, 7)),
            (50, (50, 6)),
            (99, (75, 4)),
            (300, (300, 1)),
            (900, (300, 1)),
        ];
        for (width, expected) in table {
            assert_eq!(grid(width), expected, "{width}");
        }
        for width in 0..400 {
            let (n, step_s) = grid(width);
            assert!(n <= usize::from(width).max(1), "{width}");
            assert!((SPAN_S..SPAN_S + step_s).contains(&(n * step_s)), "{width}");
        }
    }
}
