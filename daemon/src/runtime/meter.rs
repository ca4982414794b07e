//! Meters: what workers count as they go. Counters only grow; rates are the sampler's.
//!
//! Written once per batch (not per record) under one short lock per stage; read by `observe/sampler`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

/// Least value of a histogram, in microseconds.
pub const LEAST_US: u64 = 1;
/// Greatest value of a histogram, in microseconds: 60 s. Values outside are counted apart.
pub const GREATEST_US: u64 = 60_000_000;

/// Everything counted for one stage since the daemon started.
#[derive(Default)]
pub struct StageMeter {
    /// Entries read, new ones and backlog.
    pub read: AtomicU64,
    /// Entries ended (applied, filtered, late, dead, deduplicated).
    pub committed: AtomicU64,
    /// Failed tries.
    pub errors: AtomicU64,
    /// Failed tries that will be tried again.
    pub retries: AtomicU64,
    /// Dead letters written.
    pub dead: AtomicU64,
    /// Entries that a sweep or claim took over.
    pub claimed: AtomicU64,
    /// Entries whose effects were dropped because somebody else had finished them.
    pub superseded: AtomicU64,
    /// Entries acknowledged by a third party while we worked on them.
    pub not_pending: AtomicU64,
    /// Entries delivered again after a group reset, and refused.
    pub redelivered: AtomicU64,
    /// Entries found gone.
    pub lost: AtomicU64,
    /// Commits.
    pub commits: AtomicU64,
    /// Last time a read returned or timed out properly, milliseconds since 1970; the watchdog reads it.
    pub last_read_ms: AtomicU64,
    latency: Mutex<Latencies>,
}

/// Four measures since they were last taken.
#[derive(Clone, Default)]
pub struct Latencies {
    /// Added (entry id) to read.
    pub wait: Measure,
    /// Read to committed.
    pub service: Measure,
    /// Added (entry id) to committed.
    pub total: Measure,
    /// `_t` (else entry id) to committed; only in stages that end a record.
    pub end_to_end: Measure,
}

/// One histogram in microseconds with what did not fit.
#[derive(Clone)]
pub struct Measure {
    /// 3 significant digits, 1 us to 60 s.
    pub histogram: Histogram<u32>,
    /// Values outside.
    pub out_of_range: u64,
    /// Whether any value began at an entry id's millisecond.
    pub coarse: bool,
}

impl Default for Measure {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LEAST_US, GREATEST_US, 3)
            .expect("the bounds are constants that the crate accepts");
        Self {
            histogram,
            out_of_range: 0,
            coarse: false,
        }
    }
}

impl Measure {
    /// Records one value; `None` (a start in the future) and values over 60 s are counted as out of range.
    pub fn record(&mut self, us: Option<u64>, coarse: bool) {
        self.coarse |= coarse;
        match us {
            Some(us) if us <= GREATEST_US => self.histogram.saturating_record(us.max(LEAST_US)),
            _ => self.out_of_range += 1,
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        self.out_of_range += other.out_of_range;
        self.coarse |= other.coarse;
        // Both have the same bounds, so adding cannot fail; an error would only lose this interval.
        if self.histogram.add(&other.histogram).is_err() {
            self.out_of_range += other.histogram.len();
        }
    }
}

impl StageMeter {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Records a batch's latencies in one short lock.
    pub fn measure(&self, record: impl FnOnce(&mut Latencies)) {
        record(&mut self.latency.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Moves what was recorded since the last call into `into` and resets; the histograms' memory is reused.
    pub fn drain_latency(&self, into: &mut Latencies) {
        let mut guard = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let own = &mut *guard;
        for (from, to) in [
            (&mut own.wait, &mut into.wait),
            (&mut own.service, &mut into.service),
            (&mut own.total, &mut into.total),
            (&mut own.end_to_end, &mut into.end_to_end),
        ] {
            to.merge(from);
            from.histogram.reset();
            from.out_of_range = 0;
            from.coarse = false;
        }
    }
}
