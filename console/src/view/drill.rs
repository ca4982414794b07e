//! What an experiment would do with the question whether to, and the document of a run.

use ratatui::layout::Rect;

use super::dialogs::{buttons, draw_fault, popup};
use crate::model::{Focus, Rehearsal, RunView};
use crate::screens::{RunLine, rehearsal_lines, run_lines};
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// Draws lines from one on; says how many of them were not reached.
fn draw_lines(ink: &mut Ink<'_>, area: Rect, lines: &[RunLine], from: usize) -> usize {
    let mut y = area.y;
    let mut n_drawn = from.min(lines.len());
    for line in lines.iter().skip(from) {
        if y >= area.bottom() {
            break;
        }
        let indent = line.indent.min(area.width / 4);
        let at = Rect::new(area.x + indent, y, area.width - indent, area.bottom() - y);
        y += ink.wrapped(at, &line.text, line.role);
        n_drawn += 1;
    }
    lines.len() - n_drawn
}

pub(super) fn draw_rehearsal(ink: &mut Ink<'_>, area: Rect, rehearsal: &Rehearsal) {
    let preview = &rehearsal.preview;
    let title = format!("{}: nothing is done yet", preview.experiment);
    let inner = popup(ink, area, 100, area.height, &title);
    if inner.height < 3 {
        return;
    }
    let n_told = if rehearsal.fault.is_some() { 2 } else { 0 };
    let height = (inner.height - 1).saturating_sub(n_told);
    let body = Rect::new(inner.x, inner.y, inner.width, height);
    let lines = rehearsal_lines(rehearsal);
    let n_more = draw_lines(ink, body, &lines, rehearsal.line);
    if let Some(fault) = &rehearsal.fault {
        let told = Rect::new(inner.x, inner.y + height, inner.width, n_told);
        ink.clear(told);
        draw_fault(ink, told, fault);
    }
    let run = match (&preview.refused, rehearsal.is_sent) {
        (_, true) => "asking the daemon ...",
        (Some(_), _) => "would be refused",
        (None, _) => "Run it",
    };
    let end = buttons(
        ink,
        inner,
        &[
            ("Cancel", rehearsal.focus == Focus::Cancel),
            (run, rehearsal.focus == Focus::Run),
        ],
    );
    let hint = match (n_more, rehearsal.line) {
        (0, 0) => String::new(),
        (0, _) => "Up shows what is above".to_owned(),
        (n, _) => format!("Down shows {n} more"),
    };
    let room = inner.right().saturating_sub(end + 1);
    let hint = match n_more {
        1.. if ink.width_of(&hint) > room => format!("Down: {n_more}"),
        _ => hint,
    };
    if ink.width_of(&hint) <= room {
        let y = inner.bottom() - 1;
        ink.right(inner.right(), y, room, &hint, Role::Dim);
    }
}

pub(super) fn draw_run(ink: &mut Ink<'_>, area: Rect, view: &RunView) {
    ink.clear(area);
    let title = format!("{} {}", view.experiment, view.id);
    let inner = panel(ink, area, &title, area.width >= 60);
    let lines = run_lines(view, area.width, ink.is_ascii());
    let n_more = draw_lines(ink, inner, &lines, view.line);
    if n_more > 0 && area.width >= 60 {
        let text = format!(" {n_more} more lines below ");
        let width = ink.width_of(&text);
        let y = area.bottom() - 1;
        ink.right(area.right().saturating_sub(2), y, width, &text, Role::Dim);
    }
}
