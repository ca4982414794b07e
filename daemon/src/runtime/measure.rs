//! Latencies of a batch: when it was read, when it was committed, when each record began.

use tokio::time::Instant;

use super::meter::StageMeter;
use crate::clock::Clock;
use crate::record::{FIELD_SENT, Record};

/// When a batch was read, by both clocks: durations by the monotonic one, ages by the wall.
pub(super) struct Timing {
    read: Instant,
    read_us: u64,
}

impl Timing {
    pub(super) fn read_at(clock: &dyn Clock) -> Self {
        Self {
            read: Instant::now(),
            read_us: clock.now_us(),
        }
    }

    /// Records one committed batch.
    pub(super) fn record(
        &self,
        meter: &StageMeter,
        clock: &dyn Clock,
        records: &[Record],
        terminal: bool,
    ) {
        let service_us = u64::try_from(self.read.elapsed().as_micros()).unwrap_or(u64::MAX);
        let now_us = clock.now_us();
        meter.measure(|latency| {
            for record in records {
                // An entry id has a resolution of 1 ms: the figure is marked as coarse.
                let added_us = record.id.ms.saturating_mul(1_000);
                latency
                    .wait
                    .record(self.read_us.checked_sub(added_us), true);
                latency.service.record(Some(service_us), false);
                latency.total.record(now_us.checked_sub(added_us), true);
                if terminal {
                    match sent_us(record) {
                        Some(sent_us) => latency
                            .end_to_end
                            .record(now_us.checked_sub(sent_us), false),
                        None => latency
                            .end_to_end
                            .record(now_us.checked_sub(added_us), true),
                    }
                }
            }
        });
    }
}

/// `_t`, the intended send time in microseconds, where a door wrote one.
fn sent_us(record: &Record) -> Option<u64> {
    record
        .get(FIELD_SENT)
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|text| text.parse().ok())
}
