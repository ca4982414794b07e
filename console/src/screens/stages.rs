//! What overview and topology say of a stage in the same words: its state, its entries, what can be done to it.

use pipectl_shared::snapshot::{Source, Stage, State};

use super::owner::take_over;
use crate::facts::Freshness;
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model, word};
use crate::output::human::{UNKNOWN, bytes, count, or_unknown};
use crate::place::Id;
use crate::theme::Role;
use crate::widgets::Ink;

/// A piece of a line.
pub(super) type Piece = (String, Role);

/// The word for a state, with a glyph that is seen before it is read; `~` in its place when it is old.
pub(super) fn state_text(model: &Model, state: State) -> String {
    format!("{} {}", glyph(model, state), state_word(state))
}

fn glyph(model: &Model, state: State) -> char {
    let (unicode, ascii) = match state {
        State::Starting => ('◌', '.'),
        State::Running => ('●', '+'),
        State::Degraded => ('▲', '!'),
        State::Draining => ('▽', 'v'),
        State::Paused => ('‖', '='),
        State::Failed => ('✖', 'X'),
    };
    mark(model, unicode, ascii)
}

/// A source's state with its glyph, and how it looks.
pub(super) fn source_state(model: &Model, source: &Source) -> Piece {
    let (unicode, ascii, role) = match source.state.as_str() {
        "running" => ('●', '+', Role::Plain),
        "paused" => ('‖', '=', Role::Warn),
        "backpressure" => ('▲', '!', Role::Warn),
        _ => ('…', '.', Role::Warn),
    };
    (
        format!("{} {}", mark(model, unicode, ascii), source.state),
        role,
    )
}

/// A glyph before a word that is told by the daemon: `~` when it is old.
pub(super) fn mark(model: &Model, unicode: char, ascii: char) -> char {
    if is_old(model) {
        '~'
    } else {
        choose(model, unicode, ascii)
    }
}

/// The glyph that the terminal has.
pub(super) fn choose(model: &Model, unicode: char, ascii: char) -> char {
    if model.options.theme.is_ascii() {
        ascii
    } else {
        unicode
    }
}

/// The word for a state.
pub(crate) fn state_word(state: State) -> &'static str {
    match state {
        State::Starting => "STARTING",
        State::Running => "RUNNING",
        State::Degraded => "DEGRADED",
        State::Draining => "DRAINING",
        State::Paused => "PAUSED",
        State::Failed => "FAILED",
    }
}

/// How a state looks.
pub(crate) fn state_role(state: State) -> Role {
    match state {
        State::Running => Role::Good,
        State::Starting | State::Draining | State::Paused => Role::Warn,
        State::Degraded | State::Failed => Role::Bad,
    }
}

/// Whether the figures are old.
pub(super) fn is_old(model: &Model) -> bool {
    matches!(
        model.facts.freshness(model.now_ms),
        Freshness::Stale(_) | Freshness::Gone(_)
    )
}

/// A figure with its mark when it is old; unknown stays unknown.
pub(super) fn aged(ink: &Ink<'_>, figure: String) -> String {
    if ink.is_old && figure != UNKNOWN && !figure.starts_with('~') {
        format!("~{figure}")
    } else {
        figure
    }
}

/// How a figure looks, old or not: what warns goes on warning.
pub(super) fn aged_role(ink: &Ink<'_>, role: Role) -> Role {
    match role {
        Role::Plain | Role::Good | Role::Strong if ink.is_old => Role::Dim,
        other => other,
    }
}

/// A number of entries in at most six cells: `99,999`, then `123k`.
pub(super) fn amount(n: u64) -> String {
    if n < 100_000 { count(n) } else { bytes(n) }
}

/// Entries not delivered yet: `?`, `0`, `1,204`, `~1,204` where it is an estimate.
pub(super) fn lag(stage: &Stage) -> String {
    let estimate = if stage.lag_estimated { "~" } else { "" };
    or_unknown(stage.lag, |n| format!("{estimate}{}", amount(n)))
}

/// The last points of a figure as of the picture: a held one ends when it was held.
pub(super) fn points(model: &Model, series: &str, n: usize, step_s: usize) -> Vec<Option<f64>> {
    let step_s = step_s.max(1);
    let shown_s = model.facts.snapshot().map(|s| s.ts_ms / 1_000);
    let newest_s = model.history.newest_s();
    let later = match shown_s.filter(|_| model.facts.is_frozen()) {
        Some(shown_s) => (newest_s / step_s as u64).saturating_sub(shown_s / step_s as u64),
        None => 0,
    };
    // The history is an hour long; what is held longer has no points left.
    let later = usize::try_from(later)
        .unwrap_or(usize::MAX)
        .min(crate::history::SECONDS_MAX);
    let mut points = model.history.last(series, n + later, step_s);
    points.truncate(n);
    points
}

/// `1 worker`, `2 workers`
pub(super) fn workers(stage: &Stage) -> String {
    match stage.workers {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    }
}

/// The filter for the entries of a stage.
fn only(stage: &Stage) -> String {
    word("stage", &stage.name)
}

/// Enter on a stage: the entries that it holds.
pub(super) fn open_pending(model: &mut Model, stage: Option<usize>) -> Vec<Effect> {
    let filter = model
        .facts
        .snapshot()
        .and_then(|snapshot| snapshot.status.stages.get(stage?))
        .map(only);
    match filter {
        Some(filter) => model.go_filtered(Id::Pending, filter),
        None => Vec::new(),
    }
}

/// What can be done to a stage.
pub(super) fn items_of(stage: &Stage) -> Vec<Item> {
    let name = &stage.name;
    let pending = or_unknown(stage.pending, count);
    let command = |letter, label: String, command: &str| Item {
        letter,
        label,
        kind: ItemKind::Command {
            name: command.to_owned(),
            given: vec![("stage".to_owned(), name.clone())],
        },
    };
    vec![
        Item {
            letter: 'e',
            label: format!("show its pending entries ({pending} of {name})"),
            kind: ItemKind::Filtered(Id::Pending, only(stage)),
        },
        Item {
            letter: 'd',
            label: format!("show its dead letters ({} since start)", count(stage.dead)),
            kind: ItemKind::Filtered(Id::Dead, only(stage)),
        },
        command(
            'p',
            format!("pause {name}: finish what is held, read no more"),
            "stage.pause",
        ),
        command('r', format!("resume {name}: read again"), "stage.resume"),
        command(
            'w',
            format!("scale {name}: {} now", workers(stage)),
            "stage.scale",
        ),
        take_over(stage),
    ]
}

/// Lines of pieces, broken between pieces so that none is wider than `width`.
pub(super) fn wrap(ink: &Ink<'_>, pieces: &[Piece], width: u16) -> Vec<Vec<Piece>> {
    let mut lines: Vec<Vec<Piece>> = Vec::new();
    let mut used = 0;
    for (text, role) in pieces {
        let wanted = ink.width_of(text);
        if lines.is_empty() || used + wanted > width {
            lines.push(Vec::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push((text.clone(), *role));
            used += wanted + 2;
        }
    }
    lines
}

/// Draws pieces with two cells between them; returns the cells used.
pub(super) fn draw_pieces(ink: &mut Ink<'_>, x: u16, y: u16, width: u16, line: &[Piece]) -> u16 {
    let mut used = 0;
    for (text, role) in line {
        if used >= width {
            break;
        }
        used += ink.text(x.saturating_add(used), y, width - used, text, *role) + 2;
    }
    used.saturating_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_marked_and_unknown_is_no_zero() {
        let table = [
            (None, false, "?"),
            (Some(0), false, "0"),
            (Some(1_204), true, "~1,204"),
            (Some(1_234_567), false, "1.2M"),
        ];
        for (n, lag_estimated, expected) in table {
            let stage = Stage {
                lag: n,
                lag_estimated,
                ..Stage::default()
            };
            assert_eq!(lag(&stage), expected);
        }
    }
}
