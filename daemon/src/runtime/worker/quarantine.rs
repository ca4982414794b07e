//! Quarantine: entries that were delivered often without a result are worked alone, each try booked before it is made, so
//! that one that takes the process down is known and runs out of tries.
//!
//! Part of `Worker`.

use super::*;

/// From this delivery on an entry is worked alone, with a failed try booked before: if it takes the process down, that is
/// known at the next start.
pub(super) const ALONE_FROM: u64 = 3;

impl Worker {
    /// Books the try as failed before it is made, so that an entry that takes the process down runs out of
    /// tries like any other. A try that ends otherwise takes the place of what was booked: each counts once.
    pub(super) async fn alone(
        &mut self,
        lane: &mut Lane,
        mut entry: Delivered,
        first_ms: u64,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
    ) -> Result<Fates, StoreError> {
        let error = format!(
            "delivered {} times without a result; worked alone",
            entry.deliveries
        );
        if entry.failures >= self.settings.attempts {
            // The last one was booked and never came to an end.
            entry.failures -= 1;
            let failure = Failure {
                class: Class::Retry,
                reason: "no_result",
                error,
            };
            let settle = self.settle(&entry, first_ms, Ended::Failed(failure), random);
            let timing = Timing::read_at(self.world.clock.as_ref());
            let part = vec![(settle, entry, first_ms)];
            return self
                .commit_part(lane, part, true, waiting, random, &timing)
                .await;
        }
        self.world.journal.tell(
            Level::Warning,
            "entry.quarantined",
            Some(&self.settings.name),
            format!("entry {}: {error}", entry.record.id),
        );
        let outcome = Outcome::Retry {
            not_before_ms: 0,
            failures: entry.failures + 1,
            first_ms,
            error,
        };
        let booking = Commit {
            consumer: Arc::clone(&self.consumer),
            entries: vec![Settle {
                id: entry.record.id,
                event_id: None,
                outcome,
            }],
            repeated: true,
        };
        self.commit(lane, booking, random).await?;
        self.work(lane, vec![(entry, first_ms)], true, waiting, random)
            .await
    }

    /// Takes back the failed try that was booked before an entry was worked alone: it was not tried.
    pub(super) async fn unbook(
        &mut self,
        lane: &mut Lane,
        left: &[(Delivered, u64)],
        why: &str,
        random: &mut SmallRng,
    ) -> Result<(), StoreError> {
        let booked = left
            .iter()
            .filter(|(entry, _)| entry.deliveries >= ALONE_FROM);
        let mut entries: Vec<_> = booked
            .map(|(entry, first_ms)| Settle {
                id: entry.record.id,
                event_id: None,
                outcome: Outcome::Retry {
                    not_before_ms: 0,
                    failures: entry.failures,
                    first_ms: *first_ms,
                    error: why.to_owned(),
                },
            })
            .collect();
        if entries.is_empty() {
            return Ok(());
        }
        // The script takes entries in stream order.
        entries.sort_by_key(|settle| settle.id);
        let commit = Commit {
            consumer: Arc::clone(&self.consumer),
            entries,
            repeated: true,
        };
        self.commit(lane, commit, random).await.map(drop)
    }
}
