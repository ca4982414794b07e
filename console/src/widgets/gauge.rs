//! A bar with its share as a number: how much of something is used. Full only when it is full, empty only when nothing is.

use super::Ink;
use crate::output::human::UNKNOWN;
use crate::theme::Role;

/// From this share on it is worth a look.
const HIGH: f64 = 0.85;
/// From this share on it will soon be in the way.
const FULL: f64 = 0.95;

/// What a share means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gauge {
    /// Used of all, 0 to 1; more where a limit is overrun; `None` = nobody knows.
    share: Option<f64>,
}

impl Gauge {
    /// From a share that is known already.
    pub(crate) fn new(share: Option<f64>) -> Self {
        Self {
            share: share.filter(|share| share.is_finite() && *share >= 0.0),
        }
    }

    /// Used of all; unknown where either is, and where there is nothing to use.
    pub(crate) fn of(used: Option<u64>, total: Option<u64>) -> Self {
        Self::new(match (used, total) {
            (Some(used), Some(total)) if total > 0 => Some(used as f64 / total as f64),
            _ => None,
        })
    }

    /// Cells of a bar of this width: none only for nothing, all only for all.
    pub(crate) fn cells(&self, width: u16) -> u16 {
        let Some(share) = self.share.filter(|share| *share > 0.0) else {
            return 0;
        };
        if share >= 1.0 {
            return width;
        }
        // Within the width, so it cannot be cut.
        let cells = (share * f64::from(width)).round() as u16;
        cells.clamp(1, width.saturating_sub(1).max(1)).min(width)
    }

    /// ` 35 %`; never 0 % or 100 % of something that is only nearly so.
    pub(crate) fn percent(&self) -> String {
        let Some(share) = self.share else {
            return UNKNOWN.to_owned();
        };
        let percent = share * 100.0;
        match percent {
            p if p > 0.0 && p < 1.0 => "<1 %".to_owned(),
            p if p > 99.0 && p < 100.0 => ">99 %".to_owned(),
            p if p >= 1_000.0 => ">999 %".to_owned(),
            p => format!("{p:.0} %"),
        }
    }

    /// The word and the look of a share that is high.
    pub(crate) fn verdict(&self) -> (&'static str, Role) {
        match self.share {
            Some(share) if share >= FULL => ("FULL", Role::Bad),
            Some(share) if share >= HIGH => ("HIGH", Role::Warn),
            _ => ("", Role::Good),
        }
    }
}

/// Draws bar and share in at most `width` cells; returns the cells used. The word for a high share is the caller's to
/// place, so that bars below each other stay in line.
pub(crate) fn gauge(ink: &mut Ink<'_>, x: u16, y: u16, width: u16, bar: u16, of: Gauge) -> u16 {
    let bar = bar.min(width);
    let filled = of.cells(bar);
    let role = match of.verdict().1 {
        Role::Bad => Role::Warn,
        role => role,
    };
    for at in 0..bar {
        if at < filled {
            ink.glyph(x + at, y, '█', '#', role);
        } else if of.share.is_some() {
            ink.glyph(x + at, y, '░', '.', Role::Frame);
        }
    }
    let mark = if ink.is_old && of.share.is_some() {
        "~"
    } else {
        ""
    };
    let share = format!("{mark}{}", of.percent());
    let share = format!(" {share:>6} ");
    let role = if ink.is_old { Role::Dim } else { Role::Strong };
    bar + ink.text(x + bar, y, width - bar, &share, role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_only_for_nothing_and_full_only_for_all() {
        let table = [
            (None, 0, "?"),
            (Some(0.0), 0, "0 %"),
            (Some(0.000_1), 1, "<1 %"),
            (Some(0.35), 4, "35 %"),
            (Some(0.5), 5, "50 %"),
            (Some(0.999), 9, ">99 %"),
            (Some(1.0), 10, "100 %"),
            (Some(1.3), 10, "130 %"),
            (Some(1e12), 10, ">999 %"),
            (Some(-1.0), 0, "?"),
            (Some(f64::NAN), 0, "?"),
        ];
        for (share, cells, percent) in table {
            let gauge = Gauge::new(share);
            assert_eq!(gauge.cells(10), cells, "{share:?}");
            assert_eq!(gauge.percent(), percent, "{share:?}");
        }
        assert_eq!(Gauge::new(Some(0.5)).cells(0), 0);
        assert_eq!(Gauge::new(Some(0.5)).cells(1), 1);
    }

    #[test]
    fn a_share_of_nothing_or_of_the_unknown_is_unknown() {
        for (used, total) in [(None, Some(4)), (Some(4), None), (Some(0), Some(0))] {
            assert_eq!(Gauge::of(used, total).percent(), "?");
        }
        assert_eq!(Gauge::of(Some(0), Some(9)).percent(), "0 %");
    }

    #[test]
    fn a_high_share_has_a_word() {
        assert_eq!(Gauge::new(Some(0.84)).verdict().0, "");
        assert_eq!(Gauge::new(Some(0.85)).verdict().0, "HIGH");
        assert_eq!(Gauge::new(Some(0.97)).verdict().0, "FULL");
    }
}
