//! Help of the screen beneath, whose words are in `screens`; and the journal of what was done from here.

use ratatui::layout::Rect;

use crate::clock;
use crate::model::Model;
use crate::screens;
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// Draws the help from a line on.
pub(super) fn draw_help(model: &Model, ink: &mut Ink<'_>, area: Rect, line: usize) {
    ink.clear(area);
    let is_boxed = area.width >= 60;
    let width = area.width.saturating_sub(if is_boxed { 2 } else { 0 });
    let height = usize::from(area.height.saturating_sub(if is_boxed { 2 } else { 1 }));
    let lines = screens::guide(model, width);
    let first = line.min(lines.len().saturating_sub(height));
    let title = format!(
        "help: {}, line {} of {}",
        screens::of(model.screen).name,
        first + 1,
        lines.len()
    );
    let inner = panel(ink, area, &title, is_boxed);
    for (y, line) in (inner.y..inner.bottom()).zip(lines.iter().skip(first)) {
        ink.text(inner.x, y, line.indent, &line.keys, Role::Key);
        ink.text(
            inner.x.saturating_add(line.indent),
            y,
            inner.width.saturating_sub(line.indent),
            &line.text,
            line.role,
        );
    }
}

/// Draws what was done from this console, newest last.
pub(super) fn draw_journal(model: &Model, ink: &mut Ink<'_>, area: Rect, at: usize) {
    ink.clear(area);
    let inner = panel(
        ink,
        area,
        "done from here, with the equal commands",
        area.width >= 60,
    );
    if model.deeds.is_empty() {
        ink.text(
            inner.x + 1,
            inner.y,
            inner.width.saturating_sub(1),
            "nothing yet; the audit log (5, then u) has what others did",
            Role::Dim,
        );
        return;
    }
    let n_visible = usize::from(inner.height / 2).max(1);
    let first = (at + 1).saturating_sub(n_visible);
    let mut y = inner.y;
    for (n, deed) in model.deeds.iter().enumerate().skip(first) {
        if y + 1 >= inner.bottom() {
            break;
        }
        let time = match deed.ts_ms {
            0 => "?".to_owned(),
            ms => clock::rfc3339(ms),
        };
        let result = deed.result.as_deref().unwrap_or("under way");
        ink.pieces(
            inner.x + 2,
            y,
            inner.width.saturating_sub(2),
            &[
                (&time, Role::Dim),
                ("  ", Role::Plain),
                (&deed.what, Role::Strong),
                (": ", Role::Plain),
                (result, Role::Plain),
            ],
        );
        ink.text(
            inner.x + 4,
            y + 1,
            inner.width.saturating_sub(4),
            &deed.command,
            Role::Key,
        );
        if n == at {
            ink.glyph(inner.x, y, '▶', '>', Role::Cursor);
        }
        y += 2;
    }
}
