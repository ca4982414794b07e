//! A plan on the screen, from its making over the question to its result.

use std::collections::BTreeMap;

use pipectl_shared::plan::{Plan, PlanParams, State};
use ratatui::layout::Rect;

use super::dialogs::{buttons, draw_fault, labelled, lines, popup};
use crate::model::{Confirm, Focus, Model, PlanStep};
use crate::output::human::count;
use crate::theme::Role;
use crate::widgets::Ink;

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
    let chosen = chosen_lines(plan);
    let width = area.width.saturating_sub(2).min(100);
    let room = usize::from(width.saturating_sub(4).max(1));
    let n_command = plan.command.chars().count().div_ceil(room).clamp(1, 4) as u16;
    let n_chosen = u16::try_from(chosen.len()).unwrap_or(u16::MAX);
    let n_fault = match &confirm.fault {
        Some(fault) if fault.hint.is_some() => 2,
        Some(_) => 1,
        None => 0,
    };
    let n_fields = 1 + u16::from(confirm.needs_count());
    // A frame of two, what is done, which, a blank, the command under its title, a blank, fault, fields, a blank, buttons.
    let height = 2 + 1 + n_chosen + 2 + n_command + 1 + n_fault + n_fields + 2;
    let inner = popup(ink, area, width, height, &plan_title(plan));
    if inner.height < 2 {
        return;
    }
    let bottom = inner.height - 1;
    // From below, so that in a small place what is typed and chosen is there and the list of ids gives way.
    let is_roomy = inner.height >= 6 + n_fields + n_fault;
    let fields_at = bottom.saturating_sub(n_fields + u16::from(is_roomy)).max(1);
    let fault_at = fields_at.saturating_sub(n_fault).max(1);
    draw_what(ink, lines(inner, 0, 1), plan);
    let mut y = 1;
    for (text, ids, role) in &chosen {
        if y >= fault_at {
            break;
        }
        let line = lines(inner, y, 1);
        let pieces = [
            ("  ", Role::Plain),
            (text, *role),
            (ids.as_str(), Role::Dim),
        ];
        ink.pieces(line.x, line.y, line.width, &pieces);
        y += 1;
    }
    let left = fault_at.saturating_sub(y);
    if left >= 3 {
        let title = lines(inner, y + u16::from(is_roomy), 1);
        ink.text(
            title.x,
            title.y,
            title.width,
            "the same in a shell:",
            Role::Dim,
        );
        let from = y + 1 + u16::from(is_roomy);
        let place = lines(inner, from, fault_at.saturating_sub(from));
        let place = Rect::new(
            place.x + 2,
            place.y,
            place.width.saturating_sub(2),
            place.height,
        );
        ink.wrapped(place, &plan.command, Role::Key);
    }
    if let Some(fault) = &confirm.fault {
        draw_fault(ink, lines(inner, fault_at, fields_at - fault_at), fault);
    }
    let mut at = fields_at;
    if confirm.needs_count() && at < bottom {
        let label = format!("type {} to go on: ", plan.matched);
        let width = ink.width_of(&label);
        let has_keys = confirm.focus == Focus::Count;
        labelled(
            ink,
            lines(inner, at, 1),
            &label,
            width,
            &confirm.count,
            has_keys,
        );
        at += 1;
    }
    if at < bottom {
        let label = "reason (optional): ";
        let width = ink.width_of(label);
        let has_keys = confirm.focus == Focus::Reason;
        labelled(
            ink,
            lines(inner, at, 1),
            label,
            width,
            &confirm.reason,
            has_keys,
        );
    }
    if confirm.is_sent {
        let line = lines(inner, bottom, 1);
        ink.clear(line);
        ink.text(
            line.x,
            line.y,
            line.width,
            "sent; waiting for the daemon ...",
            Role::Dim,
        );
        return;
    }
    let run = format!("{} {}", plan.action.word(), count(plan.matched));
    let labels = [
        ("Cancel", confirm.focus == Focus::Cancel),
        (run.as_str(), confirm.focus == Focus::Run),
    ];
    let x = buttons(ink, inner, &labels) + 1;
    let why = model.why_not_act();
    let (hint, role) = match &why {
        Some(why) => (why.as_str(), Role::Warn),
        None => ("Tab moves, Enter chooses", Role::Dim),
    };
    let room = inner.right().saturating_sub(x);
    if why.is_some() || ink.width_of(hint) <= room {
        ink.text(x, inner.y + bottom, room, hint, role);
    }
}

/// `claim 418 entries to a-1   nothing is done yet`
fn draw_what(ink: &mut Ink<'_>, line: Rect, plan: &Plan) {
    let to = plan
        .to
        .as_ref()
        .map(|to| format!(" to {to}"))
        .unwrap_or_default();
    let noun = match (plan.action.noun(), plan.matched) {
        ("dead", 1) => "dead letter",
        ("dead", _) => "dead letters",
        (_, 1) => "entry",
        (_, _) => "entries",
    };
    let what = format!("{} {} {noun}{to}", plan.action.word(), count(plan.matched));
    let yet = "   nothing is done yet";
    let pieces = [(what.as_str(), Role::Strong), (yet, Role::Dim)];
    let is_whole = ink.width_of(&what) + ink.width_of(yet) <= line.width;
    let n = if is_whole { 2 } else { 1 };
    ink.pieces(line.x, line.y, line.width, &pieces[..n]);
}

/// Per stage how many and which, then what was passed over and why.
fn chosen_lines(plan: &Plan) -> Vec<(String, String, Role)> {
    let mut by_stage: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in &plan.sample {
        by_stage.entry(&entry.stage).or_default().push(&entry.id);
    }
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for skipped in &plan.skipped {
        *reasons.entry(&skipped.reason).or_default() += 1;
    }
    let is_whole = plan.sample.len() as u64 == plan.matched;
    let more = if is_whole { "" } else { "+" };
    let mut lines = Vec::new();
    for (stage, ids) in by_stage.iter().take(4) {
        let first: Vec<&str> = ids.iter().take(8).copied().collect();
        let dots = if ids.len() > 8 { " ..." } else { "" };
        lines.push((
            format!("{stage}: {}{more}  ", count(ids.len() as u64)),
            format!("{}{dots}", first.join(" ")),
            Role::Plain,
        ));
    }
    if by_stage.len() > 4 {
        let n = by_stage.len() - 4;
        lines.push((format!("and {n} more stages"), String::new(), Role::Plain));
    }
    for (reason, n) in reasons.iter().take(3) {
        lines.push((
            format!("passed over: {} ({reason})", count(*n)),
            String::new(),
            Role::Warn,
        ));
    }
    lines
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
    if plan.progress < plan.matched && y < inner.bottom() {
        let text = format!(
            "{} of {} were dealt with",
            count(plan.progress),
            count(plan.matched)
        );
        ink.text(inner.x, y, inner.width, &text, Role::Plain);
        y += 1;
    }
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
        // Counts that do not fit beside one another go on in the next line: none may be cut away.
        let mut x = inner.x;
        for (text, role) in &pieces {
            let width = ink.width_of(text.trim_end());
            if x > inner.x && x + width > inner.right() && y + 1 < inner.bottom() {
                x = inner.x;
                y += 1;
            }
            x += ink.text(x, y, inner.right().saturating_sub(x), text, *role);
        }
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
