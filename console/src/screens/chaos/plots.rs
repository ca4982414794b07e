//! What a run looked like from outside, second by second: the phases, and beneath them one small plot a figure, all on one
//! time axis that begins with the run.
//!
//! ```text
//!         ..before......▒▒▒▒▒▒▒FAULT▒▒▒▒▒▒▒..after.....
//! in/s    ▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇   200/s max 204/s
//! canary  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▃▅▇█▇▇▇▇▆▅▇▇▇▇▇▂▁▁▁▁▁▁▁▁▁▁   110ms max 640ms
//!         0s        10s       20s       30s
//! ```

use std::collections::VecDeque;

use pipectl_shared::chaos::{Phase, Slot};
use ratatui::layout::Rect;

use super::grid::{Figure, Grid};
use crate::output::human::duration_ms;
use crate::theme::Role;
use crate::widgets::{Ink, chart};

/// Cells left of the plots.
const LABEL: u16 = 9;

/// Draws phases, plots and axis, as large as they fit; says how many rows were used.
pub(super) fn draw_plots(ink: &mut Ink<'_>, area: Rect, slots: &VecDeque<Slot>) {
    // Rows of one cell have both figures beside one another; taller ones one above the other.
    let n_plots = u16::try_from(Figure::ALL.len()).unwrap_or(u16::MAX);
    let rows = area.height.saturating_sub(2);
    let height = (rows / n_plots).clamp(1, 4);
    let beside = match area.width {
        ..44 => 0,
        44..60 => 11,
        _ if height > 1 => 12,
        _ => 21,
    };
    let room = area.width.saturating_sub(LABEL + beside);
    let grid = Grid::over(slots.iter(), usize::from(room));
    let Some(grid) = grid.filter(|_| area.height >= 3 && room >= 4) else {
        ink.text(
            area.x,
            area.y,
            area.width,
            "the first second is not over yet",
            Role::Dim,
        );
        return;
    };
    let x = area.x + LABEL;
    let phases = grid.phases(slots.iter());
    draw_phases(ink, Rect::new(x, area.y, room, 1), &phases);
    ink.text(area.x, area.y, LABEL - 1, "phase", Role::Strong);
    // Where not all fit, what came in goes first.
    let n_shown = usize::from(rows.min(n_plots));
    let shown = &Figure::ALL[Figure::ALL.len() - n_shown..];
    let mut y = area.y + 1;
    for figure in shown.iter().copied() {
        let plot = Rect::new(area.x, y, area.width, height);
        draw_plot(ink, plot, figure, &grid.points(slots.iter(), figure), room);
        y += height;
    }
    for (column, phase) in (x..).zip(&phases) {
        if *phase == Some(Phase::During) {
            ink.paint(Rect::new(column, area.y + 1, 1, y - area.y - 1), Role::Band);
        }
    }
    draw_axis(ink, Rect::new(x, y, room, 1), &grid);
    ink.text(area.x, y, LABEL - 1, "time", Role::Dim);
}

fn draw_plot(ink: &mut Ink<'_>, area: Rect, figure: Figure, points: &[Option<f64>], room: u16) {
    ink.text(area.x, area.y, LABEL - 1, figure.label(), Role::Strong);
    let role = match figure {
        Figure::Out | Figure::Canary => Role::Second,
        _ => Role::First,
    };
    // From the left: the run begins there, and the right end is still to come.
    let n = u16::try_from(points.len()).unwrap_or(room).min(room);
    let greatest = chart(
        ink,
        Rect::new(area.x + LABEL, area.y, n, area.height),
        points,
        role,
    );
    let (word, worst) = match figure {
        Figure::Good => {
            let known = points.iter().flatten().copied();
            ("min", known.reduce(f64::min))
        }
        _ => ("max", greatest),
    };
    let now = figure.show(points.last().copied().flatten());
    let worst = format!("{word} {}", figure.show(worst));
    let x = area.x + LABEL + room + 1;
    let left = area.right().saturating_sub(x);
    if left < 8 {
        return;
    }
    if area.height > 1 {
        ink.text(x, area.y, left, &worst, Role::Dim);
        ink.text(
            x,
            area.bottom() - 1,
            left,
            &format!("now {now}"),
            Role::Strong,
        );
    } else if left >= 20 {
        ink.right(x + 8, area.y, 8, &now, Role::Strong);
        ink.text(x + 9, area.y, left - 9, &worst, Role::Dim);
    } else {
        ink.text(x, area.y, left, &worst, Role::Dim);
    }
}

/// Each phase as long as it lasted, with its word where that fits. The fault is hatched: it is seen without any colour.
fn draw_phases(ink: &mut Ink<'_>, area: Rect, phases: &[Option<Phase>]) {
    let mut at = 0;
    while at < phases.len() {
        let phase = phases[at];
        let n = phases[at..]
            .iter()
            .take_while(|other| **other == phase)
            .count();
        let x = area.x.saturating_add(u16::try_from(at).unwrap_or(u16::MAX));
        let width = u16::try_from(n).unwrap_or(u16::MAX);
        at += n;
        let Some(phase) = phase else { continue };
        let is_fault = phase == Phase::During;
        let (glyph, role) = if is_fault {
            (('▒', '#'), Role::Warn)
        } else {
            (('·', '.'), Role::Dim)
        };
        for x in x..x.saturating_add(width).min(area.right()) {
            ink.glyph(x, area.y, glyph.0, glyph.1, role);
        }
        let word = if is_fault { "FAULT" } else { phase.word() };
        let needed = u16::try_from(word.len()).unwrap_or(u16::MAX);
        if needed < width {
            let middle = x + (width - needed) / 2;
            ink.text(middle, area.y, needed, word, role);
        }
    }
}

fn draw_axis(ink: &mut Ink<'_>, area: Rect, grid: &Grid) {
    let mut free = area.x;
    // A label a dozen cells, on round numbers of cells.
    for (at, x) in (area.x..area.right())
        .enumerate()
        .take(grid.n + 1)
        .step_by(10)
    {
        let t_ms = (at as u64)
            .saturating_mul(grid.step_ms)
            .saturating_add(grid.from_ms);
        // To the second: the first one may have ended a little late.
        let label = match (t_ms.saturating_add(500)) / 1_000 {
            0 => "0s".to_owned(),
            s => duration_ms(s.saturating_mul(1_000)).replace(".0s", "s"),
        };
        if x >= free && x + ink.width_of(&label) <= area.right() {
            free = x + ink.text(x, area.y, area.right() - x, &label, Role::Dim) + 1;
        }
    }
}
