//! Help of the screen beneath, from the tables that the keys are handled by; and the journal of what was done from here.

use ratatui::layout::Rect;

use crate::clock;
use crate::keys::BINDINGS;
use crate::model::Model;
use crate::place::Group;
use crate::screens;
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// Draws the help from a line on.
pub(super) fn draw_help(model: &Model, ink: &mut Ink<'_>, area: Rect, line: usize) {
    ink.clear(area);
    let screen = screens::of(model.screen);
    let mut lines: Vec<(String, String, Role)> =
        vec![(String::new(), screen.about.to_owned(), Role::Strong)];
    for text in screen.legend {
        lines.push((String::new(), (*text).to_owned(), Role::Plain));
    }
    let items = (screen.items)(model);
    if !items.is_empty() {
        let key = model
            .options
            .keymap
            .label(crate::keys::Act::Menu)
            .unwrap_or_default();
        lines.push((String::new(), format!("Now, with {key}:"), Role::Title));
        for item in items {
            lines.push((item.letter.to_string(), item.label, Role::Plain));
        }
    }
    lines.push((String::new(), "Screens:".to_owned(), Role::Title));
    for group in Group::ALL {
        for screen in screens::in_group(group) {
            let keys = format!("{} {}", group.digit(), screen.letter);
            lines.push((
                keys,
                format!("{}: {}", screen.name, screen.about),
                Role::Plain,
            ));
        }
    }
    lines.push((
        String::new(),
        "Keys, and their names in the settings file:".to_owned(),
        Role::Title,
    ));
    for binding in BINDINGS {
        let keys: Vec<String> = model
            .options
            .keymap
            .keys_of(binding.act)
            .iter()
            .map(ToString::to_string)
            .collect();
        let help = if area.width >= 60 {
            format!("{} ({})", binding.help, binding.name)
        } else {
            binding.help.to_owned()
        };
        lines.push((keys.join(" "), help, Role::Plain));
    }
    let is_boxed = area.width >= 60;
    let height = usize::from(area.height.saturating_sub(if is_boxed { 2 } else { 1 }));
    let first = line.min(lines.len().saturating_sub(height));
    let title = format!(
        "help: {}, from line {} of {}",
        screen.name,
        first + 1,
        lines.len()
    );
    let bottom = panel(ink, area, &title, is_boxed);
    let mut y = bottom.y;
    for (keys, text, role) in lines.iter().skip(first) {
        if y >= bottom.bottom() {
            break;
        }
        if keys.is_empty() {
            let left = Rect::new(bottom.x, y, bottom.width, bottom.bottom() - y);
            y += ink.wrapped(left, text, *role).max(1);
        } else {
            let width = 12.min(bottom.width / 3);
            ink.text(bottom.x, y, width, keys, Role::Key);
            ink.text(
                bottom.x + width + 1,
                y,
                bottom.width.saturating_sub(width + 1),
                text,
                *role,
            );
            y += 1;
        }
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
