//! Whether a stage keeps up: how its backlog moves, by its figures of the last half minute.

use pipectl_shared::snapshot::{Stage, State};

use super::stages::{Piece, mark, points};
use crate::model::Model;
use crate::output::human::rate;
use crate::theme::Role;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
