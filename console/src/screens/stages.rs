//! What overview and topology say of a stage in the same words: its state, whether it keeps up, its entries, what can be
//! done to it; and the ledger's line.

use pipectl_shared::snapshot::{Ledger, Source, Stage, State};

use crate::facts::Freshness;
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model};
use crate::output::human::{UNKNOWN, bytes, count, or_unknown, rate, signed};
use crate::place::Id;
use crate::theme::Role;
use crate::widgets::Ink;

/// A piece of a line.
pub(super) type Piece = (String, Role);

/// The word for a state, with a glyph that is seen before it is read; `~` in its place when it is old.
pub(super) fn state_text(model: &Model, state: State) -> String {
    format!("{} {}", glyph(model, state), word(state))
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

fn word(state: State) -> &'static str {
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
pub(super) fn state_role(state: State) -> Role {
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

/// How a stage's backlog moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pressure {
    /// Nobody knows the backlog.
    Unknown,
    /// Reads nothing, by an operator's will.
    Paused,
    /// Next to nothing waits.
    Clear,
    /// Something waits, and it stays about as much.
    Steady,
    /// It becomes less, by so many entries a second.
    Drains(f64),
    /// It becomes more: what feeds this stage is faster than it.
    Grows(f64),
}

/// Seconds over which a backlog is seen to grow.
pub(super) const PRESSURE_S: usize = 30;

impl Pressure {
    /// By the stage's figures and its backlog, second by second.
    pub(super) fn of(stage: &Stage, backlog: &[Option<f64>]) -> Self {
        let Some(lag) = stage.lag else {
            return Self::Unknown;
        };
        let slope = slope(backlog).unwrap_or(0.0);
        let flow = stage.in_per_s.unwrap_or(0.0).max(0.0);
        // Readings of a busy stage never agree to the entry; two in a hundred of what it reads is no trend.
        let least = (flow * 0.02).max(1.0);
        if slope > least && lag > 0 {
            return Self::Grows(slope);
        }
        if stage.state == State::Paused {
            return Self::Paused;
        }
        // What a stage reads in half a second is under way rather than waiting.
        if lag as f64 <= (flow * 0.5).max(1.0) {
            return Self::Clear;
        }
        if slope < -least {
            return Self::Drains(-slope);
        }
        Self::Steady
    }

    /// By what the model knows of it.
    pub(super) fn of_stage(model: &Model, stage: &Stage) -> Self {
        let of = |figure: &str| {
            points(
                model,
                &format!("stage.{}.{figure}", stage.name),
                PRESSURE_S,
                1,
            )
        };
        let backlog: Vec<Option<f64>> = of("lag")
            .into_iter()
            .zip(of("pending"))
            .map(|(lag, pending)| Some(lag? + pending.unwrap_or(0.0)))
            .collect();
        Self::of(stage, &backlog)
    }

    /// Glyph, words and look.
    pub(super) fn shown(self, model: &Model) -> Piece {
        let (unicode, ascii, words, role) = match self {
            Self::Unknown => ('?', '?', "backlog unknown".to_owned(), Role::Dim),
            Self::Paused => ('‖', '=', "reads nothing".to_owned(), Role::Warn),
            Self::Clear => ('=', '=', "keeps up".to_owned(), Role::Good),
            Self::Steady => ('→', '-', "backlog steady".to_owned(), Role::Warn),
            Self::Drains(by) => ('↓', 'v', format!("catches up {}", rate(by)), Role::Good),
            Self::Grows(by) => ('↑', '^', format!("BACKS UP +{}", rate(by)), Role::Bad),
        };
        (format!("{} {words}", mark(model, unicode, ascii)), role)
    }
}

/// Growth a second by the line that fits the known points best; `None` with less than ten of them.
fn slope(points: &[Option<f64>]) -> Option<f64> {
    let known: Vec<(f64, f64)> = points
        .iter()
        .enumerate()
        .filter_map(|(at, value)| Some((at as f64, (*value).filter(|v| v.is_finite())?)))
        .collect();
    if known.len() < 10 {
        return None;
    }
    let n = known.len() as f64;
    let (mean_x, mean_y) = known
        .iter()
        .fold((0.0, 0.0), |(x, y), (a, b)| (x + a / n, y + b / n));
    let (above, below) = known.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
        (
            above + (x - mean_x) * (y - mean_y),
            below + (x - mean_x) * (x - mean_x),
        )
    });
    (below > 0.0).then(|| above / below)
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

/// The ledger as a sum that can be checked, the verdict first. `is_whole`: terms that are 0 are said too.
pub(super) fn ledger_terms(ledger: Option<&Ledger>, is_whole: bool) -> Vec<Piece> {
    let Some(ledger) = ledger else {
        let text = format!("{UNKNOWN} unknown while Redis is away");
        return vec![(text, Role::Warn)];
    };
    let mut terms = vec![verdict(ledger)];
    terms.push((format!("accepted {}", count(ledger.accepted)), Role::Plain));
    let estimate = if ledger.estimated { "~" } else { "" };
    let sum = [
        ("+ spawned", ledger.spawned, Role::Plain),
        ("= applied", ledger.applied, Role::Plain),
        ("+ filtered", ledger.filtered, Role::Plain),
        ("+ late", ledger.late, Role::Plain),
        ("+ discarded", ledger.discarded, Role::Warn),
        ("+ deduplicated", ledger.deduplicated, Role::Plain),
        ("+ dead", ledger.dead, Role::Warn),
        ("+ lost", ledger.lost, Role::Bad),
        ("+ pending", ledger.pending, Role::Plain),
    ];
    let mut n_left_out = 0;
    for (name, n, role) in sum {
        // Applied is never left out: it is what the sum is for.
        if n == 0 && !is_whole && name != "= applied" {
            n_left_out += 1;
            continue;
        }
        let role = if n == 0 { Role::Plain } else { role };
        terms.push((format!("{name} {}", count(n)), role));
    }
    terms.push((
        format!("+ undelivered {estimate}{}", count(ledger.undelivered)),
        Role::Plain,
    ));
    if is_whole || ledger.unaccounted != 0 {
        let role = match ledger.unaccounted {
            0 => Role::Plain,
            _ => Role::Bad,
        };
        terms.push((
            format!("+ unaccounted {}", signed(ledger.unaccounted)),
            role,
        ));
    } else {
        n_left_out += 1;
    }
    if n_left_out > 0 {
        terms.push((format!("({n_left_out} others 0)"), Role::Dim));
    }
    // Outside the sum, so without a sign.
    if let Some(duplicated) = ledger.duplicated.filter(|n| is_whole || *n != 0) {
        let role = if duplicated == 0 {
            Role::Plain
        } else {
            Role::Bad
        };
        terms.push((format!("duplicated {}", signed(duplicated)), role));
    }
    if is_whole || ledger.rejected > 0 {
        let role = if ledger.rejected == 0 {
            Role::Plain
        } else {
            Role::Warn
        };
        terms.push((format!("rejected {}", count(ledger.rejected)), role));
    }
    terms
}

/// Whether the sum comes out, and by how much it does not.
pub(super) fn verdict(ledger: &Ledger) -> Piece {
    if ledger.balanced {
        return ("balanced".to_owned(), Role::Good);
    }
    let mut text = format!("UNBALANCED: unaccounted {}", signed(ledger.unaccounted));
    if let Some(duplicated) = ledger.duplicated.filter(|n| *n != 0) {
        text.push_str(&format!(", duplicated {}", signed(duplicated)));
    }
    (text, Role::Bad)
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
    format!("stage={}", stage.name)
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

    fn text(terms: &[Piece]) -> String {
        let texts: Vec<&str> = terms.iter().map(|(text, _)| text.as_str()).collect();
        texts.join(" ")
    }

    #[test]
    fn the_ledger_is_a_sum_that_can_be_checked() {
        let ledger = Ledger {
            accepted: 1_010,
            applied: 1_000,
            dead: 3,
            pending: 7,
            balanced: true,
            duplicated: Some(0),
            ..Ledger::default()
        };
        assert_eq!(
            text(&ledger_terms(Some(&ledger), false)),
            "balanced accepted 1,010 = applied 1,000 + dead 3 + pending 7 + undelivered 0 (7 others 0)"
        );
        assert_eq!(
            text(&ledger_terms(Some(&ledger), true)),
            "balanced accepted 1,010 + spawned 0 = applied 1,000 + filtered 0 + late 0 + discarded 0 + deduplicated 0 \
             + dead 3 + lost 0 + pending 7 + undelivered 0 + unaccounted 0 duplicated 0 rejected 0"
        );
    }

    #[test]
    fn a_ledger_that_does_not_come_out_says_by_how_much() {
        let table = [
            (-3, None, "UNBALANCED: unaccounted -3"),
            (0, Some(2), "UNBALANCED: unaccounted 0, duplicated 2"),
            (
                12_000,
                Some(-1),
                "UNBALANCED: unaccounted 12,000, duplicated -1",
            ),
        ];
        for (unaccounted, duplicated, expected) in table {
            let ledger = Ledger {
                unaccounted,
                duplicated,
                estimated: true,
                undelivered: 4,
                ..Ledger::default()
            };
            assert_eq!(verdict(&ledger), (expected.to_owned(), Role::Bad));
            let terms = text(&ledger_terms(Some(&ledger), false));
            assert!(terms.contains("+ undelivered ~4"), "{terms}");
        }
        let unknown = ledger_terms(None, false);
        assert_eq!(unknown[0].0, "? unknown while Redis is away");
    }

    #[test]
    fn pressure_is_told_by_backlog_and_its_trend() {
        let line =
            |start: f64, step: f64| (0..30).map(|n| Some(start + step * f64::from(n))).collect();
        let flat: Vec<Option<f64>> = line(5_000.0, 0.0);
        let table: [(Option<u64>, Vec<Option<f64>>, Pressure); 7] = [
            (None, flat.clone(), Pressure::Unknown),
            (Some(0), line(0.0, 0.0), Pressure::Clear),
            (Some(400), line(300.0, 1.0), Pressure::Clear),
            (Some(5_000), flat, Pressure::Steady),
            (Some(8_000), line(5_000.0, 100.0), Pressure::Grows(100.0)),
            (Some(2_000), line(5_000.0, -100.0), Pressure::Drains(100.0)),
            // Two readings are no trend.
            (
                Some(5_000),
                vec![Some(0.0), Some(5_000.0)],
                Pressure::Steady,
            ),
        ];
        for (lag, backlog, expected) in table {
            let stage = Stage {
                lag,
                in_per_s: Some(1_000.0),
                state: State::Running,
                ..Stage::default()
            };
            let pressure = Pressure::of(&stage, &backlog);
            let is_same = match (pressure, expected) {
                (Pressure::Grows(a), Pressure::Grows(b))
                | (Pressure::Drains(a), Pressure::Drains(b)) => (a - b).abs() < 1e-6,
                (a, b) => a == b,
            };
            assert!(is_same, "{lag:?}: {pressure:?}, expected {expected:?}");
        }
    }

    #[test]
    fn a_paused_stage_whose_backlog_grows_says_that_it_grows() {
        let backlog: Vec<Option<f64>> = (0..30).map(|n| Some(f64::from(n) * 50.0)).collect();
        let mut stage = Stage {
            lag: Some(1_450),
            state: State::Paused,
            ..Stage::default()
        };
        assert!(matches!(Pressure::of(&stage, &backlog), Pressure::Grows(_)));
        stage.lag = Some(0);
        assert_eq!(Pressure::of(&stage, &[]), Pressure::Paused);
    }

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
