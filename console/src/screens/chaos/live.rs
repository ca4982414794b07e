//! The run that is watched: where it is, what it acts on, its plots, what happened; at its end what came of it.

use pipectl_shared::chaos::{Phase, Running};
use ratatui::layout::Rect;

use super::lines::{RunLine, figures, hypothesis_in_short, mark_line, mark_role, verdict_role};
use super::plots::draw_plots;
use crate::keys::Act;
use crate::model::{Model, Watch};
use crate::output::human::{count, duration_ms};
use crate::screens::body::take;
use crate::theme::Role;
use crate::widgets::{Ink, panel};

/// The instant that is shown, by the daemon's clock; 0 = unknown.
fn shown_ms(model: &Model) -> u64 {
    model.facts.snapshot().map_or(0, |snapshot| snapshot.ts_ms)
}

/// Where a run is, in a few words: `FAULT 12s of 30s, 18s left`.
pub(super) fn whereabouts(model: &Model, running: &Running) -> String {
    let now_ms = shown_ms(model);
    let since = |ms: u64| duration_ms(now_ms.saturating_sub(ms));
    match (running.phase, running.injected_ms, running.until_ms) {
        (Phase::During, Some(injected), Some(until)) => format!(
            "FAULT {} of {}, {} left",
            since(injected),
            duration_ms(until.saturating_sub(injected)),
            duration_ms(until.saturating_sub(now_ms))
        ),
        (Phase::During, Some(injected), None) => format!("FAULT {}", since(injected)),
        (phase, _, _) => phase.word().to_uppercase(),
    }
}

/// Draws it; an area of any size.
pub(super) fn draw_live(model: &Model, ink: &mut Ink<'_>, area: Rect, watch: &Watch) {
    let mut left = area;
    draw_head(model, ink, &mut left, watch);
    if let Some(fault) = &watch.fault {
        let line = take(&mut left, 1);
        let text = format!("how far it is: {}", fault.message);
        ink.text(line.x, line.y, line.width, &text, Role::Warn);
    }
    let is_over = watch.run.is_some();
    // The end is read, the middle is watched. Every plot has as many rows as the others.
    let most = match is_over {
        true if area.height < 36 => 7,
        true => 17,
        false => left.height * 2 / 3,
    };
    let wanted = [22, 17, 12, 7].into_iter().find(|n| *n <= most);
    let plots = take(&mut left, wanted.unwrap_or(7));
    if plots.height >= 3 {
        draw_plots(ink, plots, &watch.slots);
    }
    if left.height < 2 {
        return;
    }
    if let Some(run) = &watch.run {
        let mut lines = hypothesis_in_short(run);
        let said = figures(&run.measurements).into_iter();
        lines.extend(said.map(|text| RunLine {
            role: Role::Plain,
            indent: 0,
            text,
        }));
        // With room to spare the figures stand together and what happened beneath.
        let n = u16::try_from(lines.len())
            .unwrap_or(u16::MAX)
            .saturating_add(2);
        let height = if left.height > n + 6 { n } else { left.height };
        let result = take(&mut left, height);
        let inner = panel(ink, result, "hypothesis and figures", false);
        draw_lines(ink, inner, &lines);
    }
    if left.height >= 2 {
        draw_marks(model, ink, left, watch);
    }
}

fn draw_lines(ink: &mut Ink<'_>, area: Rect, lines: &[RunLine]) {
    let mut y = area.y;
    for line in lines {
        let height = area.bottom().saturating_sub(y);
        let at = Rect::new(
            area.x + line.indent.min(area.width),
            y,
            area.width.saturating_sub(line.indent),
            height,
        );
        y += ink.wrapped(at, &line.text, line.role);
    }
}

fn draw_head(model: &Model, ink: &mut Ink<'_>, left: &mut Rect, watch: &Watch) {
    let running = &watch.running;
    let key = |act| model.options.keymap.label(act).unwrap_or_default();
    let line = take(left, 1);
    match watch.verdict {
        Some(verdict) => {
            let word = verdict.word().to_uppercase();
            ink.pieces(
                line.x,
                line.y,
                line.width,
                &[
                    (&word, verdict_role(verdict)),
                    ("  ", Role::Plain),
                    (&running.experiment, Role::Strong),
                ],
            );
            let line = take(left, 1);
            let why = if watch.why.is_empty() {
                "no reason was given"
            } else {
                &watch.why
            };
            ink.text(
                line.x,
                line.y,
                line.width,
                why,
                verdict_role_of_text(verdict),
            );
        }
        None => {
            let stops = format!("{} stops it", key(Act::Reverse));
            let n = ink.width_of(&stops);
            let room = line.width.saturating_sub(n + 2);
            let begun = match (shown_ms(model), running.started_ms) {
                (now_ms, started_ms) if now_ms > 0 && started_ms > 0 => {
                    format!(
                        ", {} in all",
                        duration_ms(now_ms.saturating_sub(started_ms))
                    )
                }
                _ => String::new(),
            };
            let role = match running.phase {
                Phase::During => Role::Warn,
                _ => Role::Title,
            };
            ink.pieces(
                line.x,
                line.y,
                room,
                &[
                    (&running.experiment, Role::Strong),
                    ("  ", Role::Plain),
                    (&whereabouts(model, running), role),
                    (&begun, Role::Dim),
                ],
            );
            ink.right(line.right(), line.y, n, &stops, Role::Key);
        }
    }
    let line = take(left, 1);
    let by = if running.by.is_empty() {
        String::new()
    } else {
        format!("by {}; ", running.by)
    };
    let targets = match running.targets.is_empty() {
        true => "targets are not known yet".to_owned(),
        false => format!("on {}", running.targets.join(", ")),
    };
    ink.text(
        line.x,
        line.y,
        line.width,
        &format!("{by}{targets}"),
        Role::Dim,
    );
}

/// A sentence reversed from end to end would be hard to read; its verdict stands above it.
fn verdict_role_of_text(verdict: pipectl_shared::chaos::Verdict) -> Role {
    match verdict_role(verdict) {
        Role::Bad => Role::Warn,
        other => other,
    }
}

/// What happened, the newest last.
fn draw_marks(model: &Model, ink: &mut Ink<'_>, area: Rect, watch: &Watch) {
    let n = watch.marks.len();
    let title = match model.drill.marks_back.min(n.saturating_sub(1)) {
        0 => format!("what happened ({})", count(n as u64)),
        back => format!(
            "what happened ({}), {} newer below",
            count(n as u64),
            count(back as u64)
        ),
    };
    let inner = panel(ink, area, &title, false);
    if n == 0 {
        ink.text(inner.x, inner.y, inner.width, "nothing yet", Role::Dim);
        return;
    }
    let upto = n - model.drill.marks_back.min(n - 1);
    let from = upto.saturating_sub(usize::from(inner.height));
    for (y, mark) in (inner.y..inner.bottom()).zip(watch.marks.range(from..upto)) {
        let role = mark_role(&mark.kind);
        ink.text(inner.x, y, inner.width, &mark_line(mark), role);
    }
}
