//! Latencies over time: one row of log buckets per stage, measure and slot of 5 s, for the heatmap of `latency.slots`.
//! `window` measures and closes the slots; here they only grow old. Gone when the daemon ends.
//!
//! Memory: at most 720 slots (an hour) and at most 4 MiB, less where `rings` leaves less of the 16 MiB of the whole
//! history; the oldest go first. A row takes 40 bytes and 4 a bucket that occurred: some 16 of 64, so about 110 with what
//! the allocator adds, 310 at most. Five stages have 17 rows: an hour is 1.3 MB, and with every bucket in use the 4 MiB
//! hold 66 minutes. Only with dozens of stages the hour gets shorter: 39 stages (119 rows, and figures that take 15.8 MB)
//! keep about 6 minutes.

use std::collections::VecDeque;

use pipectl_shared::snapshot::LatencySlot;

use super::buckets::{N_EDGES, log_counts, told};
use super::window::{Closed, SLOT_TICKS};

/// Slots kept: an hour.
const SLOTS_MAX: usize = 720;
/// Bytes kept, whatever else is free.
const BYTES_MAX: u64 = 4 << 20;
/// What figures over time and slots may take together.
const HISTORY_MAX: u64 = 16 << 20;
/// What the allocator adds to a small block, about.
const BLOCK: usize = 16;
/// Length of a slot; ticks are seconds.
const STEP_MS: u64 = SLOT_TICKS as u64 * 1_000;

/// One stage and measure within one slot.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    /// Which buckets occurred, one bit each.
    occurred: u64,
    /// Counts of those, ascending.
    counts: Box<[u32]>,
    out_of_range: u32,
    /// Microseconds; of no meaning when nothing was counted.
    p50_us: u32,
    p99_us: u32,
    max_us: u32,
}

const _: () = assert!(N_EDGES == u64::BITS as usize);

impl Row {
    /// `values`: microseconds and counts, ascending.
    fn of(values: &[(u32, u32)], out_of_range: u64) -> Self {
        let wide = |(us, n): &(u32, u32)| (u64::from(*us), u64::from(*n));
        let counts = log_counts(values.iter().map(wide));
        let total: u64 = values.iter().map(|(_, n)| u64::from(*n)).sum();
        let at = |share: f64| {
            let rank = ((share * total as f64).ceil() as u64).max(1);
            let mut upto = 0;
            let found = values.iter().find(|(_, n)| {
                upto += u64::from(*n);
                upto >= rank
            });
            found.or(values.last()).map_or(0, |(us, _)| *us)
        };
        let less = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let full = || counts.iter().enumerate().filter(|(_, n)| **n > 0);
        Self {
            occurred: full().fold(0, |bits, (i, _)| bits | 1 << i),
            counts: full().map(|(_, n)| less(*n)).collect(),
            out_of_range: less(out_of_range),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: values.last().map_or(0, |(us, _)| *us),
        }
    }

    fn bytes(&self) -> usize {
        let block = if self.counts.is_empty() { 0 } else { BLOCK };
        size_of::<Self>() + 4 * self.counts.len() + block
    }

    fn told(&self, end_ms: u64) -> LatencySlot {
        let mut counts = [0u64; N_EDGES];
        let set = (0..N_EDGES).filter(|i| self.occurred >> i & 1 == 1);
        for (i, n) in set.zip(&self.counts) {
            counts[i] = u64::from(*n);
        }
        let count = counts.iter().sum();
        let ms = |us: u32| (count > 0).then(|| f64::from(us) / 1_000.0);
        LatencySlot {
            end_ms,
            step_ms: STEP_MS,
            count,
            p50: ms(self.p50_us),
            p99: ms(self.p99_us),
            max: ms(self.max_us),
            buckets: told(&counts),
            out_of_range: u64::from(self.out_of_range),
        }
    }
}

/// One slot of all stages and measures.
#[derive(Debug)]
pub(super) struct Slot {
    end_ms: u64,
    rows: Box<[Row]>,
}

impl Slot {
    /// Folds a slot that ended now. Takes some 100 us: not for under a lock.
    pub(super) fn of(end_ms: u64, closed: &Closed) -> Self {
        let rows = closed.rows();
        let rows = rows.iter().map(|(values, out)| Row::of(values, *out));
        Self {
            end_ms,
            rows: rows.collect(),
        }
    }

    fn bytes(&self) -> u64 {
        let rows: usize = self.rows.iter().map(Row::bytes).sum();
        (rows + size_of::<Self>() + BLOCK) as u64
    }
}

/// The last slots.
#[derive(Debug)]
pub(super) struct Slots {
    /// Stage and measure of each row.
    series: Vec<(String, &'static str)>,
    slots: VecDeque<Slot>,
    bytes: u64,
    bytes_max: u64,
}

impl Slots {
    /// `series`: stage and measure of a slot's rows. `bytes_elsewhere`: what the rest of the history may take.
    pub(super) fn new(series: Vec<(String, &'static str)>, bytes_elsewhere: u64) -> Self {
        Self {
            series,
            slots: VecDeque::new(),
            bytes: 0,
            bytes_max: HISTORY_MAX.saturating_sub(bytes_elsewhere).min(BYTES_MAX),
        }
    }

    /// Takes a slot; old ones leave where there is no room.
    pub(super) fn push(&mut self, slot: Slot) {
        // The wall clock was set back: what it called the future is of no use.
        while self
            .slots
            .back()
            .is_some_and(|last| last.end_ms >= slot.end_ms)
        {
            self.bytes -= self.slots.pop_back().map_or(0, |slot| slot.bytes());
        }
        self.bytes += slot.bytes();
        self.slots.push_back(slot);
        while self.slots.len() > SLOTS_MAX || self.bytes > self.bytes_max {
            let Some(first) = self.slots.pop_front() else {
                break;
            };
            self.bytes -= first.bytes();
        }
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The slots of one stage and measure that ended after `after_ms`, oldest first; `None` when there is no such series.
    pub(super) fn told(
        &self,
        stage: &str,
        measure: &str,
        after_ms: u64,
    ) -> Option<Vec<LatencySlot>> {
        let is_it = |(of, what): &(String, &str)| of == stage && *what == measure;
        let at = self.series.iter().position(is_it)?;
        let later = self.slots.partition_point(|slot| slot.end_ms <= after_ms);
        let slots = self.slots.range(later..);
        Some(
            slots
                .filter_map(|slot| Some(slot.rows.get(at)?.told(slot.end_ms)))
                .collect(),
        )
    }

    /// Stages and measures there are.
    pub(super) fn series(&self) -> &[(String, &'static str)] {
        &self.series
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{Windows, series};
    use super::*;
    use crate::runtime::StageMeter;

    fn names() -> Vec<(String, &'static str)> {
        series([("one", false), ("two", true)])
    }

    fn windows() -> Windows {
        Windows::new([("one".to_owned(), false), ("two".to_owned(), true)])
    }

    fn slot(end_ms: u64, us: &[u32]) -> Slot {
        let values: Vec<_> = us.iter().map(|us| (*us, 1)).collect();
        Slot {
            end_ms,
            rows: vec![Row::of(&values, 0); 8].into(),
        }
    }

    #[test]
    fn a_slot_tells_what_was_measured_in_its_five_seconds_and_nothing_else() {
        let (mut windows, meters) = (windows(), <[StageMeter; 2]>::default());
        let mut slots = Slots::new(names(), 0);
        for tick in 1..=15u64 {
            if tick == 2 {
                StageMeter::add(&meters[1].commits, 1);
                meters[1].measure(|l| {
                    (1..=100).for_each(|i| l.end_to_end.record(Some(i * 1_000), false));
                    l.end_to_end.record(None, false);
                });
            }
            if windows.tick(&meters) {
                slots.push(Slot::of(tick * 1_000, &windows.last_closed()));
            }
        }
        for (stage, measure) in [("two", "end_to_end"), ("pipeline", "end_to_end")] {
            let rows = slots.told(stage, measure, 0).unwrap();
            let ends: Vec<_> = rows
                .iter()
                .map(|r| (r.end_ms, r.step_ms, r.count))
                .collect();
            assert_eq!(
                ends,
                [(5_000, 5_000, 100), (10_000, 5_000, 0), (15_000, 5_000, 0)]
            );
            assert!((49.9..50.1).contains(&rows[0].p50.unwrap()), "{rows:?}");
            assert!((98.9..99.2).contains(&rows[0].p99.unwrap()), "{rows:?}");
            assert!((99.9..100.2).contains(&rows[0].max.unwrap()), "{rows:?}");
            assert_eq!(rows[0].out_of_range, 1);
            assert_eq!(rows[0].buckets.iter().map(|b| b.count).sum::<u64>(), 100);
            let nothing = (rows[1].p50, rows[1].p99, rows[1].max);
            assert_eq!(nothing, (None, None, None), "unknown and not zero");
            assert_eq!(slots.told(stage, measure, 5_000).unwrap().len(), 2);
            assert_eq!(slots.told(stage, measure, u64::MAX).unwrap().len(), 0);
        }
        assert_eq!(slots.told("one", "end_to_end", 0), None);
        assert_eq!(slots.told("three", "wait", 0), None);
    }

    #[test]
    fn the_pipeline_is_merged_over_its_ends() {
        let mut windows = Windows::new([("a".to_owned(), true), ("b".to_owned(), true)]);
        let meters = <[StageMeter; 2]>::default();
        for (meter, us) in meters.iter().zip([1_000, 900_000]) {
            StageMeter::add(&meter.commits, 1);
            meter.measure(|l| (0..10).for_each(|_| l.end_to_end.record(Some(us), false)));
        }
        let mut slots = Slots::new(series([("a", true), ("b", true)]), 0);
        (0..5).for_each(|_| {
            windows.tick(&meters);
        });
        slots.push(Slot::of(5_000, &windows.last_closed()));
        let whole = slots.told("pipeline", "end_to_end", 0).unwrap();
        assert_eq!((whole[0].count, whole[0].buckets.len()), (20, 2));
        assert!((0.9..1.1).contains(&whole[0].p50.unwrap()));
        assert!((899.0..901.0).contains(&whole[0].p99.unwrap()));
    }

    #[test]
    fn an_hour_is_kept_and_never_more_than_four_mebibytes() {
        let every: Vec<u32> = (0..64)
            .map(|i| 10f64.powf(f64::from(i) / 8.0) as u32)
            .collect();
        let mut few = Slots::new(names(), 0);
        let mut many = Slots::new(names(), (16 << 20) - 100_000);
        for i in 1..=1_000u64 {
            few.push(slot(i * 5_000, &every));
            many.push(slot(i * 5_000, &every));
            assert!(few.bytes() <= BYTES_MAX && many.bytes() <= 100_000);
        }
        assert_eq!(few.slots.len(), SLOTS_MAX);
        assert!(many.slots.len() < SLOTS_MAX && !many.slots.is_empty());
        let newest = many.told("two", "wait", 0).unwrap();
        assert_eq!(newest.last().unwrap().end_ms, 5_000_000);
        let counted: u64 = few.slots.iter().map(Slot::bytes).sum();
        assert_eq!(few.bytes(), counted);
        let mut none = Slots::new(names(), u64::MAX);
        none.push(slot(5_000, &every));
        assert_eq!(none.bytes(), 0);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_break_the_order() {
        let mut slots = Slots::new(names(), 0);
        for end in [5_000, 10_000, 500_000, 15_000] {
            slots.push(slot(end, &[1]));
        }
        let rows = slots.told("one", "wait", 0).unwrap();
        let ends: Vec<_> = rows.iter().map(|row| row.end_ms).collect();
        assert_eq!(ends, [5_000, 10_000, 15_000]);
    }
}
