//! Menus, forms, the palette, and a plan from its making to its result.

use std::collections::BTreeMap;

use pipectl_shared::plan::{Plan, PlanParams, State};
use pipectl_shared::spec::{ParamKind, Risk};
use ratatui::layout::Rect;

use crate::message::Fault;
use crate::model::{Confirm, Focus, Form, Menu, Model, Palette, PlanStep, TextField};
use crate::output::human::count;
use crate::screens::matches;
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// A framed box in the middle, as large as wanted and as there is room.
fn popup(ink: &mut Ink<'_>, area: Rect, width: u16, height: u16, title: &str) -> Rect {
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
        .map(|item| ink.width_of(&item.label))
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
    for (at, item) in menu.items.iter().enumerate() {
        let y = inner.y + u16::try_from(at).unwrap_or(u16::MAX);
        if y >= inner.bottom() {
            break;
        }
        let letter = item.letter.to_string();
        ink.text(inner.x + 2, y, 1, &letter, Role::Key);
        ink.text(
            inner.x + 5,
            y,
            inner.width.saturating_sub(6),
            &item.label,
            Role::Plain,
        );
        if at == menu.at {
            ink.paint(Rect::new(inner.x, y, inner.width, 1), Role::Cursor);
            ink.glyph(inner.x, y, '▶', '>', Role::Cursor);
        }
    }
    let y = inner.y + n;
    if y < inner.bottom() {
        ink.text(
            inner.x + 2,
            y,
            inner.width.saturating_sub(2),
            "a letter or Enter chooses; Esc leaves; plans are shown before they run",
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
fn draw_field(ink: &mut Ink<'_>, x: u16, y: u16, width: u16, field: &TextField, has_keys: bool) {
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

fn button(ink: &mut Ink<'_>, x: u16, y: u16, label: &str, has_keys: bool) -> u16 {
    let (left, right, role) = if has_keys {
        (">[ ", " ]<", Role::Chosen)
    } else {
        (" [ ", " ] ", Role::Plain)
    };
    ink.text(x, y, 40, &format!("{left}{label}{right}"), role) + 1
}

pub(super) fn draw_form(ink: &mut Ink<'_>, area: Rect, form: &Form) {
    let n = u16::try_from(form.fields.len()).unwrap_or(u16::MAX);
    let inner = popup(
        ink,
        area,
        76,
        n.saturating_mul(2).saturating_add(10),
        &form.spec.name,
    );
    let mut y = inner.y;
    let bottom = inner.bottom();
    y += ink.wrapped(
        Rect::new(inner.x, y, inner.width, 2.min(inner.height)),
        &form.spec.summary,
        Role::Strong,
    );
    let risk = match form.spec.risk {
        Risk::Low => "risk: low, undone by its opposite",
        Risk::Medium => "risk: medium, changes what happens to entries",
        Risk::High => "risk: HIGH, cannot be undone",
    };
    if y < bottom {
        let role = if form.spec.risk == Risk::High {
            Role::Warn
        } else {
            Role::Dim
        };
        ink.text(inner.x, y, inner.width, risk, role);
        y += 1;
    }
    let label = 14.min(inner.width / 3);
    for (at, (param, field)) in form.spec.params.iter().zip(&form.fields).enumerate() {
        if y + 1 >= bottom {
            break;
        }
        let has_keys = form.focus == at;
        ink.text(
            inner.x,
            y,
            label,
            &param.name,
            if has_keys { Role::Key } else { Role::Plain },
        );
        draw_field(
            ink,
            inner.x + label + 1,
            y,
            inner.width.saturating_sub(label + 1),
            field,
            has_keys,
        );
        let allowed = match &param.kind {
            ParamKind::Integer { min, max } => format!("{} ({min} to {max})", param.summary),
            ParamKind::Choice(words) => format!("{} ({})", param.summary, words.join(", ")),
            ParamKind::Text | ParamKind::Duration | ParamKind::Stage | ParamKind::Consumer => {
                param.summary.clone()
            }
        };
        ink.text(
            inner.x + label + 1,
            y + 1,
            inner.width.saturating_sub(label + 1),
            &allowed,
            Role::Dim,
        );
        y += 2;
    }
    if y < bottom {
        let has_keys = form.focus == form.fields.len();
        ink.text(
            inner.x,
            y,
            label,
            "reason",
            if has_keys { Role::Key } else { Role::Plain },
        );
        draw_field(
            ink,
            inner.x + label + 1,
            y,
            inner.width.saturating_sub(label + 1),
            &form.reason,
            has_keys,
        );
        y += 1;
    }
    let left = Rect::new(inner.x, y, inner.width, bottom.saturating_sub(y + 1).min(2));
    match &form.would {
        _ if form.is_sent => {
            ink.text(
                left.x,
                left.y,
                left.width,
                "asking the daemon ...",
                Role::Dim,
            );
        }
        Some(Ok(text)) => {
            ink.wrapped(left, text, Role::Strong);
        }
        Some(Err(fault)) => {
            draw_fault(ink, left, fault);
        }
        None => {
            ink.text(
                left.x,
                left.y,
                left.width,
                "Tab moves; first it is shown what would be done",
                Role::Dim,
            );
        }
    }
    let y = bottom.saturating_sub(1);
    let run = if matches!(form.would, Some(Ok(_))) {
        "Do it"
    } else {
        "Show what it would do"
    };
    let x = inner.x + button(ink, inner.x, y, "Cancel", form.focus == form.cancel());
    button(ink, x, y, run, form.focus == form.run());
}

fn draw_fault(ink: &mut Ink<'_>, area: Rect, fault: &Fault) -> u16 {
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

pub(super) fn draw_plan(model: &Model, ink: &mut Ink<'_>, area: Rect, step: &PlanStep) {
    match step {
        PlanStep::Making(params) => {
            let inner = popup(ink, area, 60, 5, &title(params));
            ink.text(
                inner.x,
                inner.y,
                inner.width,
                "asking what would be done; nothing is changed",
                Role::Plain,
            );
            ink.text(inner.x, inner.y + 2, inner.width, "Esc leaves", Role::Dim);
        }
        PlanStep::Failed(params, fault) => {
            let inner = popup(ink, area, 76, 9, &title(params));
            draw_fault(
                ink,
                Rect::new(
                    inner.x,
                    inner.y,
                    inner.width,
                    inner.height.saturating_sub(1),
                ),
                fault,
            );
            ink.text(
                inner.x,
                inner.bottom().saturating_sub(1),
                inner.width,
                "nothing was done; Esc leaves",
                Role::Dim,
            );
        }
        PlanStep::Confirm(confirm) => draw_confirm(model, ink, area, confirm),
        PlanStep::Running(plan, is_cancelled) => {
            let inner = popup(ink, area, 76, 9, &plan_title(plan));
            draw_progress(ink, inner, plan);
            let hint = if *is_cancelled {
                "cancelling: what is done stays done"
            } else {
                "c cancels the rest; Esc hides this and lets it go on"
            };
            ink.text(
                inner.x,
                inner.bottom().saturating_sub(1),
                inner.width,
                hint,
                Role::Dim,
            );
        }
        PlanStep::Ended(plan) => draw_ended(ink, area, plan),
    }
}

fn title(params: &PlanParams) -> String {
    format!("{} {}", params.action.noun(), params.action.word())
}

fn plan_title(plan: &Plan) -> String {
    format!(
        "{} {}: plan {}",
        plan.action.noun(),
        plan.action.word(),
        plan.id
    )
}

fn draw_confirm(model: &Model, ink: &mut Ink<'_>, area: Rect, confirm: &Confirm) {
    let plan = &confirm.plan;
    let mut by_stage: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in &plan.sample {
        by_stage.entry(&entry.stage).or_default().push(&entry.id);
    }
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for skipped in &plan.skipped {
        *reasons.entry(&skipped.reason).or_default() += 1;
    }
    let rows = by_stage.len().min(4) + reasons.len().min(3);
    let height = 13 + u16::try_from(rows).unwrap_or(u16::MAX) + u16::from(confirm.fault.is_some());
    let inner = popup(
        ink,
        area,
        area.width.saturating_sub(2).min(100),
        height,
        &plan_title(plan),
    );
    let (mut y, bottom) = (inner.y, inner.bottom().saturating_sub(1));
    let verb = plan.action.word();
    let to = plan
        .to
        .as_ref()
        .map(|to| format!(" to {to}"))
        .unwrap_or_default();
    let noun = if plan.matched == 1 {
        "entry"
    } else {
        "entries"
    };
    let what = format!("{verb} {} {noun}{to}", count(plan.matched));
    ink.pieces(
        inner.x,
        y,
        inner.width,
        &[(&what, Role::Strong), ("   nothing is done yet", Role::Dim)],
    );
    y += 1;
    for (stage, ids) in by_stage.iter().take(4) {
        if y >= bottom {
            break;
        }
        let more = if plan.sample.len() as u64 == plan.matched {
            ""
        } else {
            "+"
        };
        let n = format!("{stage}: {}{more}  ", count(ids.len() as u64));
        let first: Vec<&str> = ids.iter().take(8).copied().collect();
        let dots = if ids.len() > 8 { " ..." } else { "" };
        let first = format!("{}{dots}", first.join(" "));
        ink.pieces(
            inner.x + 2,
            y,
            inner.width.saturating_sub(2),
            &[(&n, Role::Plain), (&first, Role::Dim)],
        );
        y += 1;
    }
    for (reason, n) in reasons.iter().take(3) {
        if y >= bottom {
            break;
        }
        let text = format!("passed over: {} ({reason})", count(*n));
        ink.text(
            inner.x + 2,
            y,
            inner.width.saturating_sub(2),
            &text,
            Role::Warn,
        );
        y += 1;
    }
    y += 1;
    if y < bottom {
        ink.text(inner.x, y, inner.width, "the same in a shell:", Role::Dim);
        y += 1;
        let room = bottom.saturating_sub(y + 3).clamp(1, 4);
        y += ink.wrapped(
            Rect::new(inner.x + 2, y, inner.width.saturating_sub(2), room),
            &plan.command,
            Role::Key,
        );
    }
    if let Some(fault) = &confirm.fault {
        let room = bottom.saturating_sub(y + 2).min(2);
        y += draw_fault(ink, Rect::new(inner.x, y, inner.width, room), fault);
    }
    if confirm.needs_count() && y < bottom {
        let has_keys = confirm.focus == Focus::Count;
        let label = format!("type {} to go on: ", plan.matched);
        let used = ink.text(
            inner.x,
            y,
            inner.width,
            &label,
            if has_keys { Role::Key } else { Role::Plain },
        );
        draw_field(
            ink,
            inner.x + used,
            y,
            inner.width.saturating_sub(used),
            &confirm.count,
            has_keys,
        );
        y += 1;
    }
    if y < bottom {
        let has_keys = confirm.focus == Focus::Reason;
        let used = ink.text(
            inner.x,
            y,
            inner.width,
            "reason (optional): ",
            if has_keys { Role::Key } else { Role::Plain },
        );
        draw_field(
            ink,
            inner.x + used,
            y,
            inner.width.saturating_sub(used),
            &confirm.reason,
            has_keys,
        );
    }
    if confirm.is_sent {
        ink.text(
            inner.x,
            bottom,
            inner.width,
            "sent; waiting for the daemon ...",
            Role::Dim,
        );
        return;
    }
    let mut x = inner.x
        + button(
            ink,
            inner.x,
            bottom,
            "Cancel",
            confirm.focus == Focus::Cancel,
        );
    let run = format!("{verb} {}", count(plan.matched));
    x += button(ink, x, bottom, &run, confirm.focus == Focus::Run);
    let hint = match model.why_not_act() {
        Some(why) => why,
        None => "Tab moves, Enter chooses".to_owned(),
    };
    ink.text(
        x + 1,
        bottom,
        inner.right().saturating_sub(x + 1),
        &hint,
        Role::Dim,
    );
}

fn draw_progress(ink: &mut Ink<'_>, area: Rect, plan: &Plan) {
    let text = format!("{} of {}", count(plan.progress), count(plan.matched));
    ink.text(area.x, area.y, area.width, &text, Role::Strong);
    let y = area.y + 2;
    if y >= area.bottom() || plan.matched == 0 {
        return;
    }
    let share = (plan.progress as f64 / plan.matched as f64).clamp(0.0, 1.0);
    let full = (f64::from(area.width) * share).round() as u16;
    for x in 0..area.width {
        if x < full {
            ink.glyph(area.x + x, y, '█', '#', Role::Good);
        } else {
            ink.glyph(area.x + x, y, '░', '.', Role::Dim);
        }
    }
}

fn draw_ended(ink: &mut Ink<'_>, area: Rect, plan: &Plan) {
    let inner = popup(ink, area, 80, 14, &plan_title(plan));
    let (word, role) = match plan.state {
        State::Done => ("done", Role::Good),
        State::Cancelled => ("CANCELLED: what was done before stays done", Role::Warn),
        State::Interrupted => ("INTERRUPTED: the daemon stopped while it ran", Role::Bad),
        State::Expired => ("EXPIRED: nothing was done; make it anew", Role::Warn),
        State::Undone => ("undone", Role::Warn),
        State::Ready | State::Running => ("running", Role::Plain),
    };
    ink.text(inner.x, inner.y, inner.width, word, role);
    let mut y = inner.y + 1;
    if let Some(result) = &plan.result {
        let counts = [
            ("applied", result.applied, Role::Good),
            ("dead", result.dead, Role::Warn),
            ("already done", result.already_done, Role::Plain),
            ("trimmed", result.trimmed, Role::Bad),
            ("not found", result.not_found, Role::Warn),
            ("failed", result.failed, Role::Bad),
            ("waiting", result.waiting, Role::Warn),
        ];
        let pieces: Vec<(String, Role)> = counts
            .iter()
            .filter(|(name, n, _)| *n > 0 || *name == "applied")
            .map(|(name, n, role)| (format!("{name} {}   ", count(*n)), *role))
            .collect();
        let pieces: Vec<(&str, Role)> = pieces
            .iter()
            .map(|(text, role)| (text.as_str(), *role))
            .collect();
        ink.pieces(inner.x, y, inner.width, &pieces);
        y += 1;
        if result.waiting > 0 && y < inner.bottom() {
            ink.text(
                inner.x,
                y,
                inner.width,
                "waiting: handed over, not committed yet",
                Role::Dim,
            );
            y += 1;
        }
        for exception in &result.exceptions {
            if y + 1 >= inner.bottom() {
                break;
            }
            let text = format!("{}  {}", exception.id, exception.reason);
            ink.text(
                inner.x + 2,
                y,
                inner.width.saturating_sub(2),
                &text,
                Role::Plain,
            );
            y += 1;
        }
    }
    ink.text(
        inner.x,
        inner.bottom().saturating_sub(1),
        inner.width,
        "Enter or Esc leaves; @ shows it again",
        Role::Dim,
    );
}

pub(super) fn draw_quit(ink: &mut Ink<'_>, area: Rect, focus: Focus) {
    let inner = popup(ink, area, 60, 6, "a plan runs");
    ink.wrapped(
        Rect::new(inner.x, inner.y, inner.width, 2.min(inner.height)),
        "It goes on in the daemon without this console; pipectl plan ls shows it.",
        Role::Plain,
    );
    let y = inner.bottom().saturating_sub(1);
    let x = inner.x + button(ink, inner.x, y, "Stay", focus == Focus::Cancel);
    button(ink, x, y, "Quit", focus == Focus::Run);
}
