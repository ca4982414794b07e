//! What a batch needs from lookups: loading it, and waiting while a lookup is away. That is a matter of the stage, not of
//! its records: the worker keeps what needs it in its hand, says so, and goes on when it is back. No try is used up, and
//! nothing new is read meanwhile.
//!
//! Part of `Worker`; called by its `work` only.

use super::*;

/// Between tries of a lookup. The cache before it has a rest of its own, so that a dead server is not hammered by many.
const LOOKUP_BACKOFF: Backoff = STORE_BACKOFF;

/// How long it has lasted for one batch.
#[derive(Default)]
pub(super) struct Away {
    /// Tries in vain; 0 = it answered.
    pub(super) n_tries: u32,
    /// For a person.
    pub(super) why: String,
}

impl Worker {
    /// Loads what the chain needs, with heartbeats while it lasts and never beyond the stage's timeout.
    pub(super) async fn load(
        &mut self,
        lane: &mut Lane,
        entries: &[(Delivered, u64)],
        again: bool,
    ) -> Result<crate::operators::Loaded, StoreError> {
        let mut needs = Vec::new();
        for (entry, _) in entries {
            self.chain.needs(&entry.record, &mut needs);
        }
        if needs.is_empty() {
            return Ok(crate::operators::Loaded::default());
        }
        let ids: Vec<EntryId> = entries.iter().map(|(entry, _)| entry.record.id).collect();
        let beat = self.settings.claim_after / 3;
        let loading = timeout(self.settings.timeout, self.loader.load(&needs, again));
        tokio::pin!(loading);
        loop {
            tokio::select! {
                biased;
                loaded = &mut loading => {
                    return Ok(loaded.unwrap_or_else(|_| Loader::away(&needs, &format!("no answer within {:?}", self.settings.timeout))));
                }
                () = tokio::time::sleep(beat) => {
                    lane.writer.keep(&ids).await?;
                }
            }
        }
    }

    /// Waits with back-off, and keeps what it holds alive. Returns what it still holds and is to be worked now: nothing when
    /// `left` is empty. Told to stop it waits no longer: what it holds joins `waiting`, so that it is known as not finished.
    pub(super) async fn wait_for_lookup(
        &mut self,
        lane: &mut Lane,
        mut left: Vec<(Delivered, u64)>,
        away: &mut Away,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        fates: &mut Fates,
        random: &mut SmallRng,
    ) -> Result<Vec<(Delivered, u64)>, StoreError> {
        let stage = Some(self.settings.name.as_str());
        if left.is_empty() {
            if away.n_tries > 0 {
                let text = format!("the lookup is back; {} goes on", self.consumer);
                self.world
                    .journal
                    .tell(Level::Info, "lookup.back", stage, text);
            }
            return Ok(left);
        }
        if away.n_tries == 0 {
            let text = format!(
                "{}; {} entries wait with {}, no try of theirs is used up",
                away.why,
                left.len(),
                self.consumer
            );
            self.world
                .journal
                .tell(Level::Warning, "lookup.away", stage, text);
            self.unbook(lane, &left, &away.why, random).await?;
        }
        self.hold(&left);
        self.show("waiting", Some(away.why.clone()));
        away.n_tries = away.n_tries.saturating_add(1);
        let wait = LOOKUP_BACKOFF
            .delay(away.n_tries, random.random())
            .max(LOOKUP_BACKOFF.min);
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => {}
            () = self.stop.cancelled() => {
                // Not before the rest of what was read has come by.
                let due = Instant::now() + LOOKUP_BACKOFF.max;
                for (entry, first_ms) in left.drain(..) {
                    fates.push((entry.record.id, Handed::Waiting));
                    waiting.insert((due, entry.record.id), Waiting { entry, first_ms });
                }
                return Ok(left);
            }
        }
        let ids: Vec<EntryId> = left.iter().map(|(entry, _)| entry.record.id).collect();
        let held = lane.writer.keep(&ids).await?;
        left.retain(|(entry, _)| {
            let is_held = held.contains(&entry.record.id);
            if !is_held {
                fates.push((entry.record.id, Handed::AlreadyDone));
            }
            is_held
        });
        Ok(left)
    }
}
