//! Suspects of an owned stage: entries that were there when an owner ended without a word. They are parked and worked alone,
//! each try booked before it is made, so that one that takes the process down is known and runs out of tries.
//!
//! Part of `Worker`; what `quarantine` is for shared delivery. There Redis counts deliveries; here the lease counts owners
//! that did not get past a position ([`crate::store::Lease::lives`]).

use super::owned::{LEASE, Over, Own, Settled};
use super::*;
use crate::store::OwnedCommit;

impl Worker {
    /// Parks the first batch as it is: the position moves on, and each of its entries is tried alone, those of a key in
    /// order. No try is used up by it.
    pub(super) async fn park_suspects(
        &mut self,
        own: &mut Own,
        random: &mut SmallRng,
    ) -> Result<(), Over> {
        let timing = Timing::read_at(self.world.clock.as_ref());
        let mut part: Vec<Settled> = Vec::new();
        let (mut bytes, mut of_key) = (0, HashMap::<Option<u64>, usize>::new());
        for (entry, first_ms) in own.hold.iter().take(self.settings.batch) {
            let key = self.key_of(entry);
            let n_of_key = of_key.entry(key).or_default();
            if bytes >= COMMIT_BYTES || !own.parking.has_room(key, part.len(), *n_of_key) {
                break;
            }
            *n_of_key += 1;
            bytes += entry.record.size();
            let mut settle = self.behind(entry, *first_ms, random);
            if let Outcome::Retry { error, .. } = &mut settle.outcome {
                "several owners of the stage ended with it in hand; to be worked alone"
                    .clone_into(error);
            }
            part.push(Settled {
                settle,
                entry: entry.clone(),
                first_ms: *first_ms,
                key,
            });
        }
        let n_parked = part.len();
        if n_parked > 0 {
            let ids: Vec<EntryId> = part.iter().map(|settled| settled.settle.id).collect();
            let text = format!(
                "{} owners of the stage ended without getting past {}; the {n_parked} entries after it are worked alone",
                own.lease.lives, own.lease.position
            );
            let stage = Some(self.settings.name.as_str());
            self.world
                .journal
                .tell(Level::Warning, "owner.wary", stage, text);
            let fates = self.commit_owned(own, part, false, random, &timing).await?;
            // None of them was run, so no state depends on one of them, and it is always done.
            if fates.is_some() {
                own.suspects.extend(ids);
                own.hold.drain(..n_parked);
            }
        }
        if own.hold.is_empty() {
            self.release();
        }
        Ok(())
    }

    /// Works one parked entry alone. The try is booked as failed before it is made; one that ends otherwise takes the place
    /// of what was booked.
    pub(super) async fn work_suspect(
        &mut self,
        own: &mut Own,
        id: EntryId,
        random: &mut SmallRng,
    ) -> Result<(), Over> {
        own.suspects.remove(&id);
        let timing = Timing::read_at(self.world.clock.as_ref());
        let mut batch = own.owner.fetch(&[id]).await?;
        StageMeter::add(&self.handle.meter.lost, batch.lost.len() as u64);
        let Some(mut entry) = batch.entries.pop() else {
            own.parking.remove(id);
            return Ok(());
        };
        let key = own.parking.key(id);
        let first_ms = match entry.first_ms {
            0 => self.world.clock.now_ms(),
            known => known,
        };
        let error = "an owner of the stage ended while it was there; worked alone".to_owned();
        if entry.failures >= self.settings.attempts {
            // The last one was booked and never came to an end.
            entry.failures -= 1;
            let failure = Failure {
                class: Class::Retry,
                reason: "no_result",
                error,
            };
            let settle = self.settle(&entry, first_ms, Ended::Failed(failure), random);
            let settled = Settled {
                settle,
                entry,
                first_ms,
                key,
            };
            self.commit_owned(own, vec![settled], true, random, &timing)
                .await?;
            return Ok(());
        }
        let text = format!("entry {id}: {error}");
        let stage = Some(self.settings.name.as_str());
        self.world
            .journal
            .tell(Level::Warning, "entry.quarantined", stage, text);
        let failures = entry.failures;
        self.book(own, id, failures + 1, 0, first_ms, &error, random)
            .await?;
        let (_, untried) = self.try_parked(own, vec![entry], random, &timing).await?;
        if untried.contains(&id) {
            let later_ms = self.world.clock.now_ms() + 1_000;
            self.book(own, id, failures, later_ms, first_ms, &error, random)
                .await?;
        }
        Ok(())
    }

    /// Writes how many tries of a parked entry have failed, before or without one.
    #[expect(clippy::too_many_arguments, reason = "one row of the store")]
    async fn book(
        &mut self,
        own: &mut Own,
        id: EntryId,
        failures: u32,
        not_before_ms: u64,
        first_ms: u64,
        error: &str,
        random: &mut SmallRng,
    ) -> Result<(), Over> {
        let outcome = Outcome::Retry {
            not_before_ms,
            failures,
            first_ms,
            error: error.to_owned(),
        };
        let mut booking = OwnedCommit {
            lease: own.lease,
            commit: Commit {
                consumer: Arc::clone(&self.consumer),
                entries: vec![Settle {
                    id,
                    event_id: None,
                    outcome,
                }],
                repeated: true,
            },
            parked: true,
            state: None,
            ttl: LEASE,
        };
        self.commit_until_told(own, &mut booking, random)
            .await
            .map(drop)
    }
}
