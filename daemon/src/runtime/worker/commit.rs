//! The worker's commit: one batch in stream order, run again after an ambiguous answer, and booked in the meters.
//!
//! Part of `Worker`; called by its `work` only.

use super::*;

impl Worker {
    pub(super) async fn commit_part(
        &mut self,
        lane: &mut Lane,
        mut part: Vec<(Settle, Delivered, u64)>,
        repeated: bool,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
        timing: &Timing,
    ) -> Result<Fates, StoreError> {
        // Backlog and claims may come out of order; the script takes entries in stream order.
        part.sort_by_key(|(settle, ..)| settle.id);
        let mut entries = Vec::with_capacity(part.len());
        let mut origins = Vec::with_capacity(part.len());
        for (settle, entry, first_ms) in part {
            entries.push(settle);
            origins.push((entry, first_ms));
        }

        self.pass(Point::BeforeCommit).await;
        self.show("committing", None);
        let commit = Commit {
            consumer: Arc::clone(&self.consumer),
            entries,
            repeated,
        };
        let (commit, done) = self.commit(lane, commit, random).await?;
        self.pass(Point::AfterCommit).await;
        if !self.world.faults.takes(Precaution::Atomic) {
            let settled = commit.entries.iter();
            let settled = settled.filter(|settle| !matches!(settle.outcome, Outcome::Retry { .. }));
            let ids: Vec<EntryId> = settled.map(|settle| settle.id).collect();
            lane.writer.acknowledge(&ids).await?;
        }
        Ok(self.account(&commit, &done, origins, waiting, timing))
    }

    /// Commits until the store has said yes or no. An ambiguous answer is answered by running the same again.
    pub(super) async fn commit(
        &mut self,
        lane: &mut Lane,
        mut commit: Commit,
        random: &mut SmallRng,
    ) -> Result<(Commit, Committed), StoreError> {
        let mut attempt = 0;
        loop {
            match lane.writer.commit(&commit).await {
                Ok(done) => {
                    self.clear_trouble();
                    return Ok((commit, done));
                }
                // The group is made anew where everything before is settled; what was not is delivered again.
                Err(error @ StoreError::GroupGone(_)) => return Err(error),
                Err(error) => {
                    commit.repeated |= error.is_connection();
                    self.wait_for_store(&error, &mut attempt, random).await;
                    if error.is_connection() {
                        // A new connection; while the server is away the same commit waits here, not in the pending list
                        // alone, so that nothing has to be worked twice.
                        while let Err(error) = self.reopen(lane).await {
                            self.wait_for_store(&error, &mut attempt, random).await;
                        }
                    }
                }
            }
        }
    }

    pub(super) async fn reopen(&self, lane: &mut Lane) -> Result<(), StoreError> {
        lane.writer = self.world.store.writer(self.stage, &self.consumer).await?;
        Ok(())
    }

    /// Books the outcome in the meters, queues what will be tried again.
    pub(super) fn account(
        &self,
        commit: &Commit,
        done: &Committed,
        origins: Vec<(Delivered, u64)>,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        timing: &Timing,
    ) -> Fates {
        let meter = &self.handle.meter;
        let codes: HashMap<usize, Code> = done.exceptions.iter().copied().collect();
        let mut fates = Vec::with_capacity(commit.entries.len());
        let mut committed = 0;
        let now_ms = self.world.clock.now_ms();
        let mut measured = Vec::with_capacity(commit.entries.len());
        for (i, (settle, (mut entry, first_ms))) in commit.entries.iter().zip(origins).enumerate() {
            let code = codes.get(&i).copied().unwrap_or(Code::Applied);
            let fate = match (code, &settle.outcome) {
                (
                    Code::Applied,
                    Outcome::Retry {
                        not_before_ms,
                        failures,
                        ..
                    },
                ) => {
                    entry.failures = *failures;
                    let due = Instant::now()
                        + Duration::from_millis(not_before_ms.saturating_sub(now_ms));
                    waiting.insert((due, settle.id), Waiting { entry, first_ms });
                    Handed::Waiting
                }
                (Code::Applied, outcome) => {
                    committed += 1;
                    measured.push(entry.record);
                    if matches!(outcome, Outcome::Dead(_)) {
                        Handed::Dead
                    } else {
                        Handed::Applied
                    }
                }
                (Code::Duplicate, _) => {
                    committed += 1;
                    Handed::AlreadyDone
                }
                (Code::Superseded, _) => {
                    StageMeter::add(&meter.superseded, 1);
                    Handed::AlreadyDone
                }
                (Code::NotPending, _) => {
                    StageMeter::add(&meter.not_pending, 1);
                    Handed::AlreadyDone
                }
                (Code::Redelivered, _) => {
                    StageMeter::add(&meter.redelivered, 1);
                    Handed::AlreadyDone
                }
            };
            fates.push((settle.id, fate));
        }
        self.alarm(done);
        StageMeter::add(&meter.committed, committed);
        StageMeter::add(&meter.commits, 1);
        timing.record(
            meter,
            self.world.clock.as_ref(),
            &measured,
            self.settings.terminal,
        );
        fates
    }

    pub(super) fn alarm(&self, done: &Committed) {
        let count = |wanted: Code| {
            done.exceptions
                .iter()
                .filter(|(_, code)| *code == wanted)
                .count()
        };
        let stage = Some(self.settings.name.as_str());
        if let Some(foreign) = self.handle.foreign.add(count(Code::NotPending)) {
            let text = format!(
                "{foreign} entries were acknowledged by somebody else while {} worked on them; their effects were dropped",
                self.consumer
            );
            self.world
                .journal
                .tell(Level::Error, "ack.foreign", stage, text);
        }
        if let Some(again) = self.handle.redelivered.add(count(Code::Redelivered)) {
            let text = format!(
                "{again} settled entries were delivered again (the group was set back); refused, nothing counts twice"
            );
            self.world
                .journal
                .tell(Level::Error, "group.redelivered", stage, text);
        }
    }
}
