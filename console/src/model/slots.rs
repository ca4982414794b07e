//! Latency over time: slots of 5 s by stage and measure, asked for as they are looked at, and where the time cursor stands
//! among them. How they look is `screens/latency`'s business.

use std::collections::{BTreeMap, VecDeque};

use pipectl_shared::rpc::{HistoryParams, LatencySlotsParams};
use pipectl_shared::snapshot::{Bucket, LatencySlot};

use super::{Model, Purpose};
use crate::message::{Effect, Fault, Question};
use crate::place::Id;

/// Slots kept of a series: the hour that the daemon keeps.
const SLOTS_MAX: usize = 720;
/// Series kept; the one that was asked for longest ago goes. 8 x 720 slots of some 20 buckets are 3 MB.
const SERIES_MAX: usize = 8;
/// Between two questions for what is new at most: the length of a slot.
const ASK_MS: u64 = 5_000;
/// And at least.
const LEAST_MS: u64 = 2_000;
/// A slot this far ahead of the newest Snapshot is from before the daemon's clock was set back.
const AHEAD_MS: u64 = 60_000;
/// Points of the past that are asked for at the start: one per 5 s of an hour.
const PAST_POINTS: u32 = 720;
/// Empty columns that one gap may take; a longer one is cut short.
const GAP_MAX: u64 = SLOTS_MAX as u64;

/// Stage and measure.
pub(crate) type Series = (String, String);

/// The slots of one series.
#[derive(Debug, Clone, Default)]
struct Slots {
    rows: VecDeque<LatencySlot>,
    /// On the model's clock.
    asked_ms: u64,
    is_loaded: bool,
}

/// All that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotBook {
    series: BTreeMap<Series, Slots>,
    /// End of the column under the time cursor; means something while `Model::time_back` is set.
    pub(crate) cursor_ms: u64,
    /// Why the last question had no answer.
    pub(crate) fault: Option<Fault>,
}

/// One column of time: a slot, or a span that nobody looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    /// Milliseconds since 1970 by the daemon's clock.
    pub(crate) end_ms: u64,
    /// How long it is.
    pub(crate) step_ms: u64,
    /// What was measured; `None` = a gap.
    pub(crate) slot: Option<&'a LatencySlot>,
}

impl<'a> Span<'a> {
    /// Its buckets; none of a gap.
    pub(crate) fn buckets(&self) -> Option<&'a [Bucket]> {
        self.slot.map(|slot| slot.buckets.as_slice())
    }
}

impl SlotBook {
    /// Takes an answer: what is newer than what is known.
    pub(crate) fn take(&mut self, series: Series, rows: Vec<LatencySlot>) {
        self.fault = None;
        let slots = self.series.entry(series).or_default();
        slots.is_loaded = true;
        for row in rows {
            if slots
                .rows
                .back()
                .is_none_or(|last| last.end_ms < row.end_ms)
            {
                slots.rows.push_back(row);
            }
        }
        while slots.rows.len() > SLOTS_MAX {
            slots.rows.pop_front();
        }
    }

    /// Whether the series was ever answered.
    pub(crate) fn is_loaded(&self, series: &Series) -> bool {
        self.series.get(series).is_some_and(|slots| slots.is_loaded)
    }

    /// The columns of a series up to an instant, oldest first. Slots follow each other a step apart, give or take the half
    /// second that a tick may be late; where one or more are missing, as many columns are gaps.
    pub(crate) fn spans(&self, series: &Series, upto_ms: u64) -> Vec<Span<'_>> {
        let Some(slots) = self.series.get(series) else {
            return Vec::new();
        };
        let mut spans: Vec<Span<'_>> = Vec::with_capacity(slots.rows.len());
        for slot in slots.rows.iter().filter(|slot| slot.end_ms <= upto_ms) {
            let step_ms = slot.step_ms.max(1);
            if let Some(last_ms) = spans.last().map(|last| last.end_ms) {
                let between = slot.end_ms.saturating_sub(last_ms);
                let n_missing = (between.saturating_add(step_ms / 2) / step_ms)
                    .saturating_sub(1)
                    .min(GAP_MAX);
                // Counted back from the slot, so that a gap that is cut short is cut at its old end.
                for back in (1..=n_missing).rev() {
                    spans.push(Span {
                        end_ms: slot.end_ms.saturating_sub(back.saturating_mul(step_ms)),
                        step_ms,
                        slot: None,
                    });
                }
            }
            spans.push(Span {
                end_ms: slot.end_ms,
                step_ms,
                slot: Some(slot),
            });
        }
        spans
    }
}

/// Position of the column that an instant is in or next to; `None` when there is no column.
pub(crate) fn at(spans: &[Span<'_>], end_ms: u64) -> Option<usize> {
    let after = spans.partition_point(|span| span.end_ms < end_ms);
    (!spans.is_empty()).then(|| after.min(spans.len() - 1))
}

impl Model {
    /// Until when slots are shown: a picture that is held shows nothing that came later.
    pub(crate) fn slots_upto_ms(&self) -> u64 {
        match self.facts.snapshot() {
            Some(held) if self.facts.is_frozen() => held.ts_ms,
            _ => u64::MAX,
        }
    }

    /// Position of the time cursor among the columns of a series; `None` = live.
    pub(crate) fn time_cursor(&self, spans: &[Span<'_>]) -> Option<usize> {
        self.time_back?;
        at(spans, self.slots.cursor_ms)
    }

    /// Moves the time cursor by a column; later than the newest is live again. `None` when it cannot move that way.
    pub(crate) fn move_time(&mut self, series: &Series, is_earlier: bool) -> Option<()> {
        let spans = self.slots.spans(series, self.slots_upto_ms());
        let newest = spans.len().checked_sub(1)?;
        if matches!(
            (self.time_cursor(&spans), is_earlier),
            (Some(0), true) | (None, false)
        ) {
            return None;
        }
        let to = match (self.time_cursor(&spans), is_earlier) {
            (None, true) => Some(newest),
            (Some(at), true) => Some(at.saturating_sub(1)),
            (Some(at), false) if at < newest => Some(at + 1),
            (Some(_) | None, false) => None,
        };
        let end_ms = to.map(|at| spans[at].end_ms);
        self.time_back = to.map(|at| newest - at);
        if let Some(end_ms) = end_ms {
            self.slots.cursor_ms = end_ms;
        }
        Some(())
    }

    /// Asks for the slots of a series that the latency screen needs and does not have: one question at a time, so that walking through
    /// the rows asks for where it ends.
    pub(crate) fn ask_slots(&mut self, series: Option<Series>) -> Option<Effect> {
        let series = series?;
        if self.screen != Id::Latency || !self.facts.is_up() {
            return None;
        }
        let is_asked = |purpose: &Purpose| matches!(purpose, Purpose::Slots(_));
        if self.asked.values().any(is_asked) {
            return None;
        }
        let now_ms = self.now_ms;
        let newest_ms = self.facts.latest().map_or(u64::MAX, |s| s.ts_ms);
        let known = self.slots.series.get(&series);
        let is_due = known.is_none_or(|known| {
            let since_ms = now_ms.saturating_sub(known.asked_ms);
            // As soon as the next slot must be over; while nothing is known of that, as often as slots end.
            let is_over = known
                .rows
                .back()
                .is_some_and(|row| newest_ms > row.end_ms.saturating_add(row.step_ms.max(1_000)));
            since_ms >= ASK_MS || (is_over && since_ms >= LEAST_MS)
        });
        if !is_due {
            return None;
        }
        if known.is_none() && self.slots.series.len() >= SERIES_MAX {
            let oldest = self.slots.series.iter().min_by_key(|(_, s)| s.asked_ms);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.slots.series.remove(&oldest);
            }
        }
        let known = self.slots.series.entry(series.clone()).or_default();
        known.asked_ms = now_ms;
        let limit_ms = newest_ms.saturating_add(AHEAD_MS);
        while known.rows.back().is_some_and(|row| row.end_ms > limit_ms) {
            known.rows.pop_back();
        }
        let params = LatencySlotsParams {
            stage: Some(series.0.clone()),
            measure: Some(series.1.clone()),
            after_ms: known.rows.back().map_or(0, |row| row.end_ms),
        };
        Some(self.ask(Purpose::Slots(series), Question::Slots(params)))
    }

    /// Asks for the figures of the last hour, so that trends begin before the console did.
    pub(crate) fn ask_past(&mut self) -> Effect {
        let params = HistoryParams {
            points: PAST_POINTS,
            ..HistoryParams::default()
        };
        self.ask(Purpose::Series, Question::Series(params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(end_ms: u64) -> LatencySlot {
        LatencySlot {
            end_ms,
            step_ms: 5_000,
            count: 1,
            ..LatencySlot::default()
        }
    }

    fn name() -> Series {
        ("pipeline".to_owned(), "end_to_end".to_owned())
    }

    fn book(ends: &[u64]) -> SlotBook {
        let mut book = SlotBook::default();
        book.take(name(), ends.iter().map(|end| slot(*end)).collect());
        book
    }

    fn drawn(book: &SlotBook) -> Vec<(u64, bool)> {
        let spans = book.spans(&name(), u64::MAX);
        spans.iter().map(|s| (s.end_ms, s.slot.is_some())).collect()
    }

    #[test]
    fn missing_slots_are_gaps_and_late_ticks_are_none() {
        type Case<'a> = (&'a str, &'a [u64], &'a [(u64, bool)]);
        let table: &[Case<'_>] = &[
            ("none", &[], &[]),
            ("one", &[5_000], &[(5_000, true)]),
            (
                "late by half a second",
                &[5_000, 10_490, 15_010],
                &[(5_000, true), (10_490, true), (15_010, true)],
            ),
            (
                "two are missing",
                &[5_000, 20_100],
                &[
                    (5_000, true),
                    (10_100, false),
                    (15_100, false),
                    (20_100, true),
                ],
            ),
        ];
        for (desc, ends, expected) in table {
            assert_eq!(drawn(&book(ends)), *expected, "{desc}");
        }
    }

    #[test]
    fn a_peer_that_lies_about_time_costs_no_memory() {
        let mut book = book(&[0, 1, 5_000, 5_000, 3, u64::MAX]);
        assert!(drawn(&book).len() < 1_000);
        let mut odd = slot(u64::MAX);
        odd.step_ms = 0;
        book.take(("a".to_owned(), "b".to_owned()), vec![slot(1), odd]);
        assert!(
            book.spans(&("a".to_owned(), "b".to_owned()), u64::MAX)
                .len()
                < 1_000
        );
        for n in 0..10u64 {
            book.take(name(), (0..1_000).map(|i| slot(n * 1_000 + i)).collect());
        }
        assert!(book.series[&name()].rows.len() <= SLOTS_MAX);
    }

    #[test]
    fn slots_that_are_known_are_not_taken_twice() {
        let mut book = book(&[5_000, 10_000]);
        book.take(name(), vec![slot(10_000), slot(15_000)]);
        assert_eq!(drawn(&book).len(), 3);
        assert!(book.is_loaded(&name()));
        assert!(!book.is_loaded(&(String::new(), String::new())));
    }

    fn model(ends: &[u64]) -> Model {
        let theme = crate::theme::Theme {
            depth: crate::theme::Depth::Mono,
            charset: crate::theme::Charset::Unicode,
        };
        let options = super::super::Options {
            read_only: false,
            theme,
            keymap: crate::keys::Keymap::default(),
        };
        let mut model = Model::new(options, (80, 24));
        model.slots = book(ends);
        model
    }

    #[test]
    fn the_time_cursor_stops_at_the_oldest_and_goes_live_behind_the_newest() {
        let mut model = model(&[5_000, 10_000, 15_000]);
        let mut seen = Vec::new();
        // true = earlier
        for is_earlier in [false, true, true, true, true, false, false, false, false] {
            model.move_time(&name(), is_earlier);
            seen.push(model.time_back);
        }
        assert_eq!(
            seen,
            [
                None,
                Some(0),
                Some(1),
                Some(2),
                Some(2),
                Some(1),
                Some(0),
                None,
                None
            ]
        );
        let mut empty = self::model(&[]);
        empty.move_time(&name(), true);
        assert_eq!(empty.time_back, None);
    }

    #[test]
    fn the_time_cursor_stays_on_its_instant_when_slots_come_and_go() {
        let mut model = model(&[5_000, 10_000, 15_000]);
        model.move_time(&name(), true);
        model.move_time(&name(), true);
        let at = |model: &Model| {
            let spans = model.slots.spans(&name(), u64::MAX);
            model.time_cursor(&spans).map(|at| spans[at].end_ms)
        };
        assert_eq!(at(&model), Some(10_000));
        model.slots.take(name(), vec![slot(20_000), slot(40_000)]);
        assert_eq!(at(&model), Some(10_000));
        model.move_time(&name(), false);
        assert_eq!(at(&model), Some(15_000));
        // Older than everything that is left: the oldest.
        model.slots = book(&[90_000, 95_000]);
        assert_eq!(at(&model), Some(90_000));
    }
}
