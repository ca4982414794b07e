//! Latencies of the last minute: twelve slots of 5 s per stage and measure, merged on demand, never averaged.
//!
//! The open slot is dense (four histograms, 4 x 70 KiB a stage); a closed one keeps only the values that occurred, 8 bytes
//! each. A stage whose values spread over 2,000 distinct ones (three digits) costs 4 x 70 KiB + 11 x 4 x 16 KiB = 1 MiB;
//! the bound, with every one of the 17,408 distinct values in every slot, is 6.4 MiB. Fed by the sampler; read by
//! `Observer::latency` too. What happens to closed slots after the minute is `slots`' business.

use std::collections::VecDeque;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use pipectl_shared::snapshot::Latency;

use super::buckets;
use crate::runtime::{GREATEST_US, LEAST_US, Latencies, Measure, StageMeter};

/// Ticks (seconds) a slot.
pub(super) const SLOT_TICKS: u32 = 5;
/// Closed slots kept; with the open one they are the last 55 to 60 s.
const CLOSED: usize = 11;
/// Quiet ticks after which a meter that counts nothing is not drained any more: draining clears 280 KiB.
const QUIET_TICKS: u32 = 2;
/// Name of the row that stands for the whole pipeline.
pub(super) const PIPELINE: &str = "pipeline";
/// Names of the measures in the order of a slot.
const MEASURES: [&str; 4] = ["wait", "service", "total", "end_to_end"];
/// Position of `end_to_end`.
const END_TO_END: usize = 3;

/// One measure of a closed slot.
#[derive(Debug, Clone, Default)]
struct Sparse {
    /// `(microseconds, count)`; 60 s fit into 32 bits.
    values: Vec<(u32, u32)>,
    out_of_range: u64,
    coarse: bool,
}

impl Sparse {
    fn of(measure: &Measure) -> Self {
        let values = if measure.histogram.is_empty() {
            Vec::new()
        } else {
            let recorded = measure.histogram.iter_recorded();
            recorded
                .map(|v| {
                    let us = v.value_iterated_to().min(GREATEST_US);
                    (u32::try_from(us).unwrap_or(u32::MAX), v.count_at_value())
                })
                .collect()
        };
        Self {
            values,
            out_of_range: measure.out_of_range,
            coarse: measure.coarse,
        }
    }
}

type Slot = Arc<[Sparse; 4]>;

/// A closed slot of every stage, with whether the stage is terminal.
pub(super) struct Closed(Vec<(bool, Slot)>);

impl Closed {
    /// Per stage and measure, in the order of `View::rows`: values and counts, ascending, and how many were out of range.
    pub(super) fn rows(&self) -> Vec<(Vec<(u32, u32)>, u64)> {
        let mut rows = Vec::new();
        let (mut whole, mut whole_out) = (Vec::new(), 0);
        for (terminal, slot) in &self.0 {
            for (i, sparse) in slot.iter().enumerate() {
                if i == END_TO_END && !terminal {
                    continue;
                }
                rows.push((sparse.values.clone(), sparse.out_of_range));
                if i == END_TO_END {
                    whole.extend_from_slice(&sparse.values);
                    whole_out += sparse.out_of_range;
                }
            }
        }
        whole.sort_unstable();
        rows.push((whole, whole_out));
        rows
    }
}

/// Names of the rows that `Closed::rows` gives, in its order: stage and measure.
pub(super) fn series<'a>(
    stages: impl IntoIterator<Item = (&'a str, bool)>,
) -> Vec<(String, &'static str)> {
    let mut names = Vec::new();
    for (stage, terminal) in stages {
        let n = if terminal { MEASURES.len() } else { END_TO_END };
        names.extend(MEASURES[..n].iter().map(|m| (stage.to_owned(), *m)));
    }
    names.push((PIPELINE.to_owned(), MEASURES[END_TO_END]));
    names
}

/// One stage's last minute.
struct StageWindow {
    name: String,
    terminal: bool,
    open: Latencies,
    open_count: u64,
    closed: VecDeque<Slot>,
    seen: (u64, u64),
    quiet: u32,
}

/// All stages' last minute.
pub(super) struct Windows {
    stages: Vec<StageWindow>,
    ticks: u32,
}

impl Windows {
    /// `stages`: name and whether it is terminal, in layout order.
    pub(super) fn new(stages: impl IntoIterator<Item = (String, bool)>) -> Self {
        let stages = stages
            .into_iter()
            .map(|(name, terminal)| StageWindow {
                name,
                terminal,
                open: Latencies::default(),
                open_count: 0,
                closed: VecDeque::with_capacity(CLOSED),
                seen: (0, 0),
                // The first ticks always drain.
                quiet: 0,
            })
            .collect();
        Self { stages, ticks: 0 }
    }

    /// Once a tick: takes what the meters recorded since, and closes the slot every fifth time; says whether it did.
    pub(super) fn tick<'a>(&mut self, meters: impl IntoIterator<Item = &'a StageMeter>) -> bool {
        for (stage, meter) in self.stages.iter_mut().zip(meters) {
            stage.drain(meter);
        }
        self.ticks += 1;
        let is_over = self.ticks == SLOT_TICKS;
        if is_over {
            self.ticks = 0;
            for stage in &mut self.stages {
                stage.close();
            }
        }
        is_over
    }

    /// The slot that was closed last, of every stage; none before the first.
    pub(super) fn last_closed(&self) -> Closed {
        let stages = self.stages.iter();
        Closed(
            stages
                .filter_map(|s| Some((s.terminal, Arc::clone(s.closed.back()?))))
                .collect(),
        )
    }

    /// What is needed to merge, taken under the caller's lock: merging and encoding happen without it.
    pub(super) fn view(&self, stage: Option<&str>) -> View {
        let wanted = |name: &str| stage.is_none_or(|s| s == name);
        let pipeline = wanted(PIPELINE);
        let stages = self
            .stages
            .iter()
            .filter(|s| wanted(&s.name) || (pipeline && s.terminal))
            .map(|s| {
                let mut slots: Vec<Slot> = s.closed.iter().cloned().collect();
                slots.push(s.open_slot());
                StageView {
                    name: s.name.clone(),
                    terminal: s.terminal,
                    shown: wanted(&s.name),
                    slots,
                }
            })
            .collect();
        View { pipeline, stages }
    }
}

impl StageWindow {
    fn drain(&mut self, meter: &StageMeter) {
        let counted = (
            StageMeter::get(&meter.commits),
            StageMeter::get(&meter.read),
        );
        // A worker may count before it measures: drain for some ticks after the last change.
        self.quiet = if counted == self.seen {
            self.quiet.saturating_add(1)
        } else {
            0
        };
        self.seen = counted;
        if self.quiet > QUIET_TICKS {
            return;
        }
        meter.drain_latency(&mut self.open);
        self.open_count = [
            &self.open.wait,
            &self.open.service,
            &self.open.total,
            &self.open.end_to_end,
        ]
        .iter()
        .map(|m| m.histogram.len() + m.out_of_range)
        .sum();
    }

    fn open_slot(&self) -> Slot {
        if self.open_count == 0 {
            return Arc::default();
        }
        let open = &self.open;
        Arc::new([&open.wait, &open.service, &open.total, &open.end_to_end].map(Sparse::of))
    }

    fn close(&mut self) {
        if self.closed.len() == CLOSED {
            self.closed.pop_front();
        }
        let slot = self.open_slot();
        self.closed.push_back(slot);
        if self.open_count > 0 {
            for measure in [
                &mut self.open.wait,
                &mut self.open.service,
                &mut self.open.total,
                &mut self.open.end_to_end,
            ] {
                measure.histogram.reset();
                measure.out_of_range = 0;
                measure.coarse = false;
            }
            self.open_count = 0;
        }
    }
}

/// The slots of the stages asked for, without a lock.
pub(super) struct View {
    pipeline: bool,
    stages: Vec<StageView>,
}

struct StageView {
    name: String,
    terminal: bool,
    shown: bool,
    slots: Vec<Slot>,
}

impl View {
    /// One row per stage and measure (`end_to_end` only of terminal stages), then the pipeline's `end_to_end`, which is
    /// the merge over the terminal stages. `hdr` adds the whole histogram.
    pub(super) fn rows(&self, hdr: bool) -> Vec<Latency> {
        let mut merged = Merged::new();
        let mut rows = Vec::new();
        for stage in self.stages.iter().filter(|s| s.shown) {
            for (i, measure) in MEASURES.iter().enumerate() {
                if i == END_TO_END && !stage.terminal {
                    continue;
                }
                merged.clear();
                stage.slots.iter().for_each(|slot| merged.add(&slot[i]));
                rows.push(merged.row(&stage.name, measure, hdr));
            }
        }
        if self.pipeline {
            merged.clear();
            for stage in self.stages.iter().filter(|s| s.terminal) {
                stage
                    .slots
                    .iter()
                    .for_each(|slot| merged.add(&slot[END_TO_END]));
            }
            rows.push(merged.row(PIPELINE, MEASURES[END_TO_END], hdr));
        }
        rows
    }
}

/// Scratch space for merging; 64-bit counts, so that a minute cannot saturate them.
struct Merged {
    histogram: Histogram<u64>,
    out_of_range: u64,
    coarse: bool,
}

impl Merged {
    fn new() -> Self {
        let histogram = Histogram::new_with_bounds(LEAST_US, GREATEST_US, 3)
            .expect("the bounds are constants that the crate accepts");
        Self {
            histogram,
            out_of_range: 0,
            coarse: false,
        }
    }

    fn clear(&mut self) {
        if !self.histogram.is_empty() {
            self.histogram.reset();
        }
        self.out_of_range = 0;
        self.coarse = false;
    }

    fn add(&mut self, sparse: &Sparse) {
        for (us, count) in &sparse.values {
            self.histogram
                .saturating_record_n(u64::from(*us), u64::from(*count));
        }
        self.out_of_range += sparse.out_of_range;
        self.coarse |= sparse.coarse;
    }

    fn row(&self, stage: &str, measure: &str, hdr: bool) -> Latency {
        let h = &self.histogram;
        // One pass over the 17,408 counters instead of one per percentile: this is most of what a tick costs.
        let recorded: Vec<(u64, u64)> = if h.is_empty() {
            Vec::new()
        } else {
            h.iter_recorded()
                .map(|v| (v.value_iterated_to().min(GREATEST_US), v.count_at_value()))
                .collect()
        };
        let mut upto = 0;
        let ranks: Vec<u64> = recorded
            .iter()
            .map(|(_, count)| {
                upto += count;
                upto
            })
            .collect();
        let ms = |us: u64| us as f64 / 1_000.0;
        // The least value that is not below this share of all, as HdrHistogram has it.
        let at = |q: f64| {
            let rank = ((q * h.len() as f64).ceil() as u64).max(1);
            let i = ranks.partition_point(|upto| *upto < rank);
            recorded.get(i).or(recorded.last()).map(|(us, _)| ms(*us))
        };
        Latency {
            stage: stage.to_owned(),
            measure: measure.to_owned(),
            count: h.len(),
            min: recorded.first().map(|_| ms(h.min())),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: recorded.last().map(|(us, _)| ms(*us)),
            buckets: buckets::log_buckets(recorded.iter().copied()),
            out_of_range: self.out_of_range,
            coarse: self.coarse,
            hdr: hdr.then(|| encode(h)),
        }
    }
}

/// Base64 of HdrHistogram V2 compressed; any HdrHistogram library reads it (values in microseconds).
fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory and counts below 2^63 leave nothing that can fail.
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(error) => {
            tracing::error!(%error, "encode a latency histogram");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    fn windows() -> Windows {
        Windows::new([
            ("one".to_owned(), false),
            ("two".to_owned(), true),
            ("three".to_owned(), true),
        ])
    }

    fn meters() -> [StageMeter; 3] {
        Default::default()
    }

    fn record(meter: &StageMeter, us: u64, n: u64) {
        StageMeter::add(&meter.commits, 1);
        meter.measure(|l| {
            for _ in 0..n {
                l.service.record(Some(us), false);
                l.end_to_end.record(Some(us), true);
            }
        });
    }

    fn row(rows: &[Latency], stage: &str, measure: &str) -> Latency {
        rows.iter()
            .find(|r| r.stage == stage && r.measure == measure)
            .cloned()
            .unwrap()
    }

    #[test]
    fn nothing_measured_is_unknown_and_not_zero() {
        let rows = windows().view(None).rows(false);
        for row in &rows {
            assert_eq!(row.count, 0);
            assert_eq!(
                (row.min, row.p50, row.p99, row.max),
                (None, None, None, None)
            );
            assert!(row.buckets.is_empty());
        }
        let names: Vec<_> = rows
            .iter()
            .map(|r| format!("{}.{}", r.stage, r.measure))
            .collect();
        assert!(
            !names.contains(&"one.end_to_end".to_owned()),
            "only terminal stages end a record"
        );
        assert_eq!(names.last().unwrap(), "pipeline.end_to_end");
        assert_eq!(names.len(), 3 + 4 + 4 + 1);
    }

    #[test]
    fn percentiles_of_the_pipeline_are_merged_and_not_averaged() {
        let (mut windows, meters) = (windows(), meters());
        record(&meters[1], 1_000, 990);
        record(&meters[2], 1_000_000, 10);
        windows.tick(&meters);
        let rows = windows.view(None).rows(false);
        let whole = row(&rows, PIPELINE, "end_to_end");
        assert_eq!(whole.count, 1_000);
        // The mean of the stages' p50s and p99s would be about 500 ms.
        assert!(whole.p50.unwrap() < 1.01, "{whole:?}");
        assert!(whole.p99.unwrap() < 1.01, "{whole:?}");
        assert!((999.0..1_001.0).contains(&whole.p999.unwrap()), "{whole:?}");
        assert!(whole.coarse);
    }

    #[test]
    fn values_leave_after_a_minute() {
        let (mut windows, meters) = (windows(), meters());
        record(&meters[1], 1_000, 5);
        for tick in 1..=60 {
            windows.tick(&meters);
            let count = row(&windows.view(Some("two")).rows(false), "two", "service").count;
            match tick {
                ..=59 => assert_eq!(count, 5, "tick {tick}"),
                _ => assert_eq!(count, 0, "tick {tick}"),
            }
        }
    }

    #[test]
    fn slots_merge_by_adding_and_count_what_was_out_of_range() {
        let (mut windows, meters) = (windows(), meters());
        for i in 0..12u64 {
            record(&meters[1], 1_000 * (i + 1), 10);
            meters[1].measure(|l| l.service.record(None, false));
            windows.tick(&meters);
        }
        let service = row(&windows.view(Some("two")).rows(false), "two", "service");
        assert_eq!((service.count, service.out_of_range), (120, 12));
        assert!((0.99..1.01).contains(&service.min.unwrap()));
        assert!((11.9..12.1).contains(&service.max.unwrap()));
        assert_eq!(service.buckets.iter().map(|b| b.count).sum::<u64>(), 120);
    }

    #[test]
    fn a_value_recorded_after_its_count_is_not_lost() {
        let (mut windows, meters) = (windows(), meters());
        StageMeter::add(&meters[1].commits, 1);
        windows.tick(&meters);
        meters[1].measure(|l| l.service.record(Some(5_000), false));
        windows.tick(&meters);
        assert_eq!(
            row(&windows.view(None).rows(false), "two", "service").count,
            1
        );
    }

    #[test]
    fn percentiles_are_those_of_the_whole_histogram() {
        let (mut windows, meters) = (windows(), meters());
        // Sparse, dense and skewed.
        for n in [1u64, 2, 7, 100, 5_000] {
            meters[1].measure(|l| {
                (0..n).for_each(|i| l.service.record(Some(1 + i * i % 40_000_000), false));
            });
            StageMeter::add(&meters[1].commits, 1);
            windows.tick(&meters);
            let service = row(&windows.view(Some("two")).rows(true), "two", "service");
            let bytes = STANDARD.decode(service.hdr.unwrap()).unwrap();
            let h: Histogram<u64> = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .unwrap();
            let percentiles = [
                service.p50,
                service.p90,
                service.p95,
                service.p99,
                service.p999,
                service.p9999,
            ];
            for (q, value) in [0.5, 0.9, 0.95, 0.99, 0.999, 0.9999]
                .into_iter()
                .zip(percentiles)
            {
                assert_eq!(
                    value,
                    Some(h.value_at_quantile(q) as f64 / 1_000.0),
                    "n {n}, q {q}"
                );
            }
            assert_eq!(
                (service.count, service.max),
                (h.len(), Some(h.max() as f64 / 1_000.0))
            );
        }
    }

    #[test]
    fn the_hdr_field_holds_the_whole_histogram() {
        let (mut windows, meters) = (windows(), meters());
        record(&meters[2], 2_500, 7);
        windows.tick(&meters);
        let rows = windows.view(Some(PIPELINE)).rows(true);
        assert_eq!(rows.len(), 1);
        let bytes = STANDARD.decode(rows[0].hdr.as_ref().unwrap()).unwrap();
        let back: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .unwrap();
        assert_eq!((back.len(), back.count_at(2_500)), (7, 7));
    }
}
