//! The time axis of a run and what stands in its cells: figures and phases, from the slots of a run.

use std::ops::RangeInclusive;

use pipectl_shared::chaos::{Phase, Slot};

use super::lines::share;
use crate::output::human::{count, latency_ms, or_unknown, rate};

/// Two slots this far apart have a second between them that is missing.
const LATE_MS: u64 = 1_900;

/// One plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// Events acknowledged to the run's own producers.
    In,
    /// Entries settled by the last stages.
    Out,
    /// Entries that wait.
    Lag,
    /// The slowest canary.
    Canary,
    /// Good probes of all.
    Good,
}

impl Figure {
    /// From top to bottom.
    pub(super) const ALL: [Self; 5] = [Self::In, Self::Out, Self::Lag, Self::Canary, Self::Good];

    /// What stands before its plot.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::In => "in/s",
            Self::Out => "out/s",
            Self::Lag => "backlog",
            Self::Canary => "canary",
            Self::Good => "probes",
        }
    }

    /// How a value of it reads.
    pub(super) fn show(self, value: Option<f64>) -> String {
        match self {
            Self::In | Self::Out => or_unknown(value, rate),
            // Counts below 2^53 are whole; a greater one saturates.
            Self::Lag => or_unknown(value, |n| count(n as u64)),
            Self::Canary => or_unknown(value, latency_ms),
            Self::Good => share(value),
        }
    }
}

/// A time axis: when it begins and how long a cell of it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Before the first second, since the begin of the run.
    pub(super) from_ms: u64,
    /// A whole number of seconds.
    pub(super) step_ms: u64,
    /// Cells in use.
    pub(super) n: usize,
}

impl Grid {
    /// The finest axis of which `width` cells hold every slot; `None` = no slot, or no cell.
    pub(super) fn over<'a>(slots: impl Iterator<Item = &'a Slot>, width: usize) -> Option<Self> {
        let mut ends: Option<(u64, u64)> = None;
        for slot in slots {
            let (first, last) = ends.unwrap_or((slot.t_ms, slot.t_ms));
            ends = Some((first.min(slot.t_ms), last.max(slot.t_ms)));
        }
        let (first, last) = ends?;
        if width == 0 {
            return None;
        }
        let from_ms = first.saturating_sub(1_000);
        let seconds = last.saturating_sub(from_ms).div_ceil(1_000).max(1);
        let step_s = seconds.div_ceil(width as u64).max(1);
        // At most `width`, which is a number of cells.
        let n = usize::try_from(seconds.div_ceil(step_s))
            .unwrap_or(width)
            .min(width);
        Some(Self {
            from_ms,
            step_ms: step_s.saturating_mul(1_000),
            n,
        })
    }

    /// The cell of a second that ends at an instant.
    fn cell(&self, t_ms: u64) -> usize {
        let at = t_ms.saturating_sub(self.from_ms).saturating_sub(1) / self.step_ms;
        usize::try_from(at).unwrap_or(usize::MAX).min(self.n - 1)
    }

    /// Each slot with the cells that it fills: the one it ends in, and those between it and the second before it. Whoever
    /// looks each second is late by a little each time, which must not look like a second that nobody looked at.
    fn filled<'a>(
        &self,
        slots: impl Iterator<Item = &'a Slot>,
    ) -> impl Iterator<Item = (RangeInclusive<usize>, &'a Slot)> {
        let mut last: Option<(u64, usize)> = None;
        slots.map(move |slot| {
            let cell = self.cell(slot.t_ms);
            let from = match last {
                Some((t_ms, before)) if slot.t_ms.saturating_sub(t_ms) < LATE_MS => {
                    cell.min(before + 1)
                }
                _ => cell,
            };
            last = Some((slot.t_ms, cell));
            (from..=cell, slot)
        })
    }

    /// Which phase each cell is of; one second of the fault makes a cell the fault's.
    pub(super) fn phases<'a>(&self, slots: impl Iterator<Item = &'a Slot>) -> Vec<Option<Phase>> {
        let mut phases: Vec<Option<Phase>> = vec![None; self.n];
        for (cells, slot) in self.filled(slots) {
            for phase in &mut phases[cells] {
                if *phase != Some(Phase::During) {
                    *phase = Some(slot.phase);
                }
            }
        }
        phases
    }

    /// What each cell shows of a figure: of rates the mean, of the others the worst second; `None` = a gap.
    pub(super) fn points<'a>(
        &self,
        slots: impl Iterator<Item = &'a Slot>,
        figure: Figure,
    ) -> Vec<Option<f64>> {
        // Sum, how many, and the worst.
        let mut cells = vec![(0.0_f64, 0_u32, f64::NAN); self.n];
        for (filled, slot) in self.filled(slots) {
            let value = match figure {
                Figure::In => Some(slot.in_per_s),
                Figure::Out => slot.out_per_s,
                Figure::Lag => slot.lag.map(|n| n as f64),
                Figure::Canary => slot.p99_ms,
                Figure::Good if slot.probes == 0 => None,
                Figure::Good => Some(f64::from(slot.good) / f64::from(slot.probes)),
            };
            let Some(value) = value.filter(|value| value.is_finite()) else {
                continue;
            };
            for (sum, n, worst) in &mut cells[filled] {
                *sum += value;
                *n += 1;
                // NaN gives way to any number.
                *worst = match figure {
                    Figure::Good => worst.min(value),
                    _ => worst.max(value),
                };
            }
        }
        let shown = |(sum, n, worst): (f64, u32, f64)| match (figure, n) {
            (_, 0) => None,
            (Figure::In | Figure::Out, n) => Some(sum / f64::from(n)),
            _ => Some(worst),
        };
        cells.into_iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(t_ms: u64, phase: Phase) -> Slot {
        Slot {
            t_ms,
            phase,
            in_per_s: 100.0,
            lag: Some(t_ms / 1_000),
            good: 9,
            probes: 10,
            ..Slot::default()
        }
    }

    #[test]
    fn the_axis_holds_every_second_whatever_the_cells() {
        let slots: Vec<Slot> = (1..=90).map(|s| slot(s * 1_000, Phase::Before)).collect();
        for (width, step_s, n) in [
            (1, 90, 1),
            (10, 9, 10),
            (44, 3, 30),
            (90, 1, 90),
            (500, 1, 90),
        ] {
            let grid = Grid::over(slots.iter(), width).unwrap();
            assert_eq!((grid.step_ms, grid.n), (step_s * 1_000, n), "{width}");
            assert_eq!((grid.cell(1_000), grid.cell(90_000)), (0, n - 1), "{width}");
        }
        assert_eq!(Grid::over([].iter(), 9), None);
        assert_eq!(Grid::over(slots.iter(), 0), None);
    }

    #[test]
    fn one_second_of_the_fault_is_seen_and_the_worst_second_stays() {
        let mut slots: Vec<Slot> = (1..=20).map(|s| slot(s * 1_000, Phase::Before)).collect();
        slots[7].phase = Phase::During;
        slots[7].good = 0;
        slots[7].lag = Some(999);
        let grid = Grid::over(slots.iter(), 2).unwrap();
        let phases = grid.phases(slots.iter());
        assert_eq!(phases, [Some(Phase::During), Some(Phase::Before)]);
        let points = |figure| grid.points(slots.iter(), figure);
        assert_eq!(points(Figure::Lag), [Some(999.0), Some(20.0)]);
        assert_eq!(points(Figure::Good), [Some(0.0), Some(0.9)]);
        assert_eq!(points(Figure::In), [Some(100.0), Some(100.0)]);
        assert_eq!(points(Figure::Out), [None, None]);
    }

    #[test]
    fn a_guard_that_is_late_by_a_little_each_second_leaves_no_gap_and_a_missing_second_does() {
        let mut slots: Vec<Slot> = (1..=60).map(|s| slot(s * 1_013, Phase::During)).collect();
        let grid = Grid::over(slots.iter(), 100).unwrap();
        let n_gaps = |slots: &[Slot]| {
            let points = grid.points(slots.iter(), Figure::In);
            let phases = grid.phases(slots.iter());
            let n = points.iter().filter(|point| point.is_none()).count();
            assert_eq!(phases.iter().filter(|phase| phase.is_none()).count(), n);
            n
        };
        assert_eq!(n_gaps(&slots), 0);
        slots.remove(30);
        assert_eq!(n_gaps(&slots), 1);
    }

    #[test]
    fn no_time_that_a_daemon_tells_makes_it_panic() {
        let ends = [0, 1, 999, 1_000, u64::MAX - 1, u64::MAX];
        for first in ends {
            for last in ends {
                let slots = [slot(first, Phase::During), slot(last, Phase::After)];
                for width in [1, 7, 200] {
                    let grid = Grid::over(slots.iter(), width).unwrap();
                    assert!(grid.n <= width);
                    grid.points(slots.iter(), Figure::Canary);
                    grid.phases(slots.iter());
                }
            }
        }
    }
}
