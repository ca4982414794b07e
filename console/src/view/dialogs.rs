//! Menus, forms, the palette, the question before quitting, and the parts that dialogs are made of.

use pipectl_shared::spec::Risk;
use ratatui::layout::Rect;

use crate::message::Fault;
use crate::model::{Focus, Form, FormOf, ItemKind, Menu, Model, Palette, TextField};
use crate::screens::{allowed, matches};
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// A framed box in the middle, as large as wanted and as there is room.
pub(super) fn popup(ink: &mut Ink<'_>, area: Rect, width: u16, height: u16, title: &str) -> Rect {
    let width = width.min(area.width);
    let height = height.min(area.height);
    let place = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    ink.clear(place);
    panel(ink, place, title, true)
}

pub(super) fn draw_menu(ink: &mut Ink<'_>, area: Rect, menu: &Menu) {
    let widest = menu
        .items
        .iter()
        .map(|item| ink.width_within(&item.label, area.width))
        .max()
        .unwrap_or(0);
    let n = u16::try_from(menu.items.len()).unwrap_or(u16::MAX);
    let inner = popup(
        ink,
        area,
        (widest + 9).max(40),
        n.saturating_add(3),
        &menu.title,
    );
    let is_roomy = inner.height > n;
    let visible = usize::from(inner.height - u16::from(is_roomy && inner.height > 0));
    let first = (menu.at + 1).saturating_sub(visible);
    let items = menu.items.iter().enumerate().skip(first).take(visible);
    for (line, (at, item)) in items.enumerate() {
        let y = inner.y + u16::try_from(line).unwrap_or(u16::MAX);
        let letter = item.letter.to_string();
        let (key, words) = match item.kind {
            ItemKind::Off(_) => (Role::Dim, Role::Dim),
            _ => (Role::Key, Role::Plain),
        };
        ink.text(inner.x + 2, y, 1, &letter, key);
        let room = inner.width.saturating_sub(6);
        ink.text(inner.x + 5, y, room, &item.label, words);
        if at == menu.at {
            ink.paint(Rect::new(inner.x, y, inner.width, 1), Role::Cursor);
            ink.glyph(inner.x, y, '▶', '>', Role::Cursor);
        }
    }
    if is_roomy {
        let hint = if inner.width >= 74 {
            "a letter or Enter chooses; Esc leaves; plans are shown before they run"
        } else {
            "a letter chooses; Esc leaves"
        };
        ink.text(
            inner.x + 2,
            inner.bottom() - 1,
            inner.width.saturating_sub(2),
            hint,
            Role::Dim,
        );
    }
}

pub(super) fn draw_palette(model: &Model, ink: &mut Ink<'_>, area: Rect, palette: &Palette) {
    let items = matches(model, palette.field.text());
    let height = area.height.clamp(3, 16);
    let inner = popup(
        ink,
        area,
        area.width.saturating_sub(4).min(100),
        height,
        "palette: screens, actions, commands",
    );
    ink.text(inner.x, inner.y, 1, ":", Role::Key);
    draw_field(
        ink,
        inner.x + 1,
        inner.y,
        inner.width.saturating_sub(1),
        &palette.field,
        true,
    );
    let visible = usize::from(inner.height.saturating_sub(1));
    if items.is_empty() && visible > 0 {
        ink.text(
            inner.x + 2,
            inner.y + 1,
            inner.width.saturating_sub(2),
            "nothing fits",
            Role::Warn,
        );
    }
    let first = (palette.at + 1).saturating_sub(visible);
    for (line, (at, item)) in items
        .iter()
        .enumerate()
        .skip(first)
        .take(visible)
        .enumerate()
    {
        let y = inner.y + 1 + u16::try_from(line).unwrap_or(u16::MAX);
        ink.text(
            inner.x + 2,
            y,
            inner.width.saturating_sub(2),
            &item.label,
            Role::Plain,
        );
        if at == palette.at {
            ink.paint(Rect::new(inner.x, y, inner.width, 1), Role::Cursor);
            ink.glyph(inner.x, y, '▶', '>', Role::Cursor);
        }
    }
}

/// A line of text with its cursor, where it has the keys.
pub(super) fn draw_field(
    ink: &mut Ink<'_>,
    x: u16,
    y: u16,
    width: u16,
    field: &TextField,
    has_keys: bool,
) {
    let role = if has_keys { Role::Strong } else { Role::Plain };
    let before = field.before_cursor();
    let after = &field.text()[before.len()..];
    // What is typed stays in sight: from its end, when it is longer than its place.
    let room = usize::from(width.saturating_sub(1));
    let n = before.chars().count();
    let shown: String = before.chars().skip(n.saturating_sub(room)).collect();
    let used = ink.text(x, y, width, &shown, role);
    if has_keys {
        ink.glyph(
            x + used.min(width.saturating_sub(1)),
            y,
            '▏',
            '_',
            Role::Key,
        );
    }
    ink.text(x + used + 1, y, width.saturating_sub(used + 1), after, role);
}

/// Buttons in the last line of a box, which nothing else may use; returns where they end.
pub(super) fn buttons(ink: &mut Ink<'_>, inner: Rect, labels: &[(&str, bool)]) -> u16 {
    let y = inner.bottom().saturating_sub(1);
    ink.clear(Rect::new(inner.x, y, inner.width, 1));
    let mut x = inner.x;
    for (label, has_keys) in labels {
        let (left, right, role) = if *has_keys {
            (">[ ", " ]<", Role::Chosen)
        } else {
            (" [ ", " ] ", Role::Plain)
        };
        let room = inner.right().saturating_sub(x);
        x += ink.text(x, y, room, &format!("{left}{label}{right}"), role) + 1;
    }
    x
}

/// A label, and behind it a line of text being typed.
pub(super) fn labelled(
    ink: &mut Ink<'_>,
    area: Rect,
    label: &str,
    width: u16,
    field: &TextField,
    has_keys: bool,
) {
    let role = if has_keys { Role::Key } else { Role::Plain };
    ink.text(area.x, area.y, width.min(area.width), label, role);
    let x = area.x + width;
    draw_field(
        ink,
        x,
        area.y,
        area.right().saturating_sub(x),
        field,
        has_keys,
    );
}

/// The part of an area from its n-th line on, that many lines of it at most.
pub(super) fn lines(area: Rect, from: u16, n: u16) -> Rect {
    let from = from.min(area.height);
    Rect::new(area.x, area.y + from, area.width, n.min(area.height - from))
}

pub(super) fn draw_form(ink: &mut Ink<'_>, area: Rect, form: &Form) {
    let n_fields = form.fields.len();
    let n = u16::try_from(n_fields).unwrap_or(u16::MAX);
    let inner = popup(
        ink,
        area,
        76,
        n.saturating_mul(2).saturating_add(9),
        &form.spec.name,
    );
    if inner.height < 3 {
        return;
    }
    // From below: buttons, what came of it, then the fields around the one that has the keys; what is left over is for
    // the words at the top.
    let n_least = n.saturating_add(if form.focus > n_fields { 1 } else { 2 });
    let n_told = (inner.height - 1).saturating_sub(n_least).clamp(1, 2);
    let rows = inner.height - 1 - n_told;
    let wanted = n.saturating_mul(2).saturating_add(1);
    let top = rows.saturating_sub(wanted).min(3);
    draw_about(ink, lines(inner, 0, top), form);
    draw_params(ink, lines(inner, top, rows - top), form);
    let told = lines(inner, rows, n_told);
    match &form.would {
        _ if form.is_sent => {
            ink.text(
                told.x,
                told.y,
                told.width,
                "asking the daemon ...",
                Role::Dim,
            );
        }
        Some(Ok(text)) => {
            ink.wrapped(told, text, Role::Strong);
        }
        Some(Err(fault)) => {
            draw_fault(ink, told, fault);
        }
        None => {
            ink.text(
                told.x,
                told.y,
                told.width,
                "Tab moves; first it is shown what it would do",
                Role::Dim,
            );
        }
    }
    let run = match &form.would {
        Some(Ok(_)) => "Do it",
        _ if inner.width < 50 => "Show first",
        _ => "Show what it would do",
    };
    buttons(
        ink,
        inner,
        &[
            ("Cancel", form.focus == form.cancel()),
            (run, form.focus == form.run()),
        ],
    );
}

fn draw_about(ink: &mut Ink<'_>, area: Rect, form: &Form) {
    let (risk, role) = match (form.of, form.spec.risk) {
        (FormOf::Lever(_), _) => ("", Role::Dim),
        (FormOf::Experiment, Risk::Low) => {
            ("risk: low; the fault is taken back by itself", Role::Dim)
        }
        (FormOf::Experiment, Risk::Medium) => (
            "risk: medium, entries wait or are worked again; taken back by itself",
            Role::Dim,
        ),
        (FormOf::Experiment, Risk::High) => ("risk: HIGH; read what it would do", Role::Warn),
        (FormOf::Command, Risk::Low) => ("risk: low, undone by its opposite", Role::Dim),
        (FormOf::Command, Risk::Medium) => {
            ("risk: medium, changes what happens to entries", Role::Dim)
        }
        (FormOf::Command, Risk::High) => ("risk: HIGH, cannot be undone", Role::Warn),
    };
    let n_summary = area.height.saturating_sub(1).min(2);
    let used = ink.wrapped(lines(area, 0, n_summary), &form.spec.summary, Role::Strong);
    let line = lines(area, used, 1);
    if line.height > 0 {
        ink.text(line.x, line.y, line.width, risk, role);
    }
}

/// Each parameter in two lines, the reason in one; as many as there is room for, the one with the keys among them.
fn draw_params(ink: &mut Ink<'_>, area: Rect, form: &Form) {
    let n_fields = form.fields.len();
    let label = 15.min(area.width / 3);
    // Where even two fields with their words do not fit, they go without their words, except the one with the keys.
    let is_tight = usize::from(area.height) < n_fields * 2 + 1;
    let height = |at: usize| match at {
        at if at == n_fields => 1,
        at if is_tight && at != form.focus => 1,
        _ => 2,
    };
    let focus = form.focus.min(n_fields);
    let mut first = 0;
    while first < focus && (first..=focus).map(height).sum::<u16>() > area.height {
        first += 1;
    }
    let mut y = 0;
    for at in first..=n_fields {
        let line = lines(area, y, 1);
        if line.height == 0 {
            break;
        }
        let has_keys = form.focus == at;
        let Some((param, field)) = form.spec.params.get(at).zip(form.fields.get(at)) else {
            labelled(ink, line, "reason", label, &form.reason, has_keys);
            break;
        };
        labelled(ink, line, &param.name, label, field, has_keys);
        if height(at) == 2 {
            let allowed = format!("{}{}", param.summary, allowed(&param.kind));
            let line = lines(area, y + 1, 1);
            if line.height > 0 {
                let width = line.width.saturating_sub(label);
                ink.text(line.x + label, line.y, width, &allowed, Role::Dim);
            }
        }
        y += height(at);
    }
}

pub(super) fn draw_fault(ink: &mut Ink<'_>, area: Rect, fault: &Fault) -> u16 {
    let used = ink.wrapped(area, &fault.message, Role::Warn);
    let Some(hint) = &fault.hint else { return used };
    let rest = Rect::new(
        area.x,
        area.y + used,
        area.width,
        area.height.saturating_sub(used),
    );
    used + ink.wrapped(rest, hint, Role::Plain)
}

pub(super) fn draw_quit(ink: &mut Ink<'_>, area: Rect, focus: Focus) {
    let inner = popup(ink, area, 60, 6, "a plan runs");
    ink.wrapped(
        Rect::new(inner.x, inner.y, inner.width, 2.min(inner.height)),
        "It goes on in the daemon without this console; pipectl plan ls shows it.",
        Role::Plain,
    );
    buttons(
        ink,
        inner,
        &[
            ("Stay", focus == Focus::Cancel),
            ("Quit", focus == Focus::Run),
        ],
    );
}
