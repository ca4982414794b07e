//! What an owner does with what it has read: works it in order, parks what must wait and what comes behind it, commits until
//! the store has said yes or no, and obeys an operator's claim.
//!
//! Part of `Worker`; the loop that calls it is in `owned`. Past 400 lines because each step is an exchange with the commit:
//! new records, parked ones and claimed ones end in the same `commit_owned`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::super::parking::{ALL_MAX, OF_A_KEY_MAX};
use super::*;

impl Worker {
    /// Works what was read as far as it goes: to its end, to the first record that a lookup keeps waiting, or to where
    /// nothing more can be parked.
    pub(super) async fn work_new(
        &mut self,
        own: &mut Own,
        random: &mut SmallRng,
    ) -> Result<(), Over> {
        let timing = Timing::read_at(self.world.clock.as_ref());
        self.hold(own.hold.make_contiguous());
        self.show("working", None);
        let n_open = own.hold.len().min(self.settings.batch);
        let mut needs = Vec::new();
        for (entry, _) in own.hold.iter().take(n_open) {
            self.chain.needs(&entry.record, &mut needs);
        }
        let again = own.away;
        let mut loaded = self.load_owned(own, needs, again).await?;
        let records = own.hold.iter().take(n_open).map(|(entry, _)| &entry.record);
        let n_open = own
            .keyed
            .load(&self.chain, own.owner.as_mut(), records, &mut loaded)
            .await?;
        let mut part: Vec<Settled> = Vec::with_capacity(n_open);
        let keeps_order = self.world.faults.takes(Precaution::ParksBehind);
        let mut parked_now: HashMap<Option<u64>, usize> = HashMap::new();
        let (mut n_parked, mut bytes) = (0, 0);
        let mut why = None;
        for (entry, first_ms) in own.hold.iter().take(n_open) {
            let key = self.key_of(entry);
            let n_of_key = parked_now.get(&key).copied().unwrap_or(0);
            let is_behind =
                keeps_order && (own.parking.blocks(key) || (key.is_some() && n_of_key > 0));
            let settle = if is_behind {
                self.behind(entry, *first_ms, random)
            } else if own.keyed.is_duplicate(entry.record.id) {
                self.known(entry, *first_ms, random)
            } else {
                match own.keyed.run(&self.chain, &entry.record, &mut loaded) {
                    Ended::Failed(failure) if failure.class == Class::Fatal => {
                        why = Some((true, failure.error));
                        break;
                    }
                    ended => self.settle(entry, *first_ms, ended, random),
                }
            };
            if matches!(settle.outcome, Outcome::Retry { .. }) {
                if !own.parking.has_room(key, n_parked, n_of_key) {
                    let text = format!(
                        "too many entries wait to be tried again (at most {OF_A_KEY_MAX} of a key and {ALL_MAX} in all); the stage stands still until some are done: pipectl pending ls --stage {}",
                        self.settings.name
                    );
                    why = Some((false, text));
                    break;
                }
                n_parked += 1;
                parked_now.insert(key, n_of_key + 1);
            }
            bytes += entry.record.size();
            part.push(Settled {
                settle,
                entry: entry.clone(),
                first_ms: *first_ms,
                key,
            });
            if bytes + own.keyed.bytes() >= COMMIT_BYTES {
                break;
            }
        }
        let n_worked = part.len();
        if n_worked > 0 {
            match self.commit_owned(own, part, false, random, &timing).await? {
                Some(_) => drop(own.hold.drain(..n_worked)),
                // Some of them are duplicates: they are all worked again, these without a trace in the others.
                None => return Ok(()),
            }
            // What is committed is in nobody's hands any more, however long the rest has to wait.
            self.hold(own.hold.make_contiguous());
        }
        self.stall(own, why);
        Ok(())
    }

    /// Notes why the rest of what was read has to wait, or that it need not any more.
    fn stall(&self, own: &mut Own, why: Option<(bool, String)>) {
        let stage = Some(self.settings.name.as_str());
        match why {
            Some((true, why)) => {
                if !own.away {
                    let text = format!(
                        "{why}; {} entries wait with {}",
                        own.hold.len(),
                        self.consumer
                    );
                    self.world
                        .journal
                        .tell(Level::Warning, "lookup.away", stage, text);
                }
                own.away = true;
                self.show("waiting", Some(why));
                own.stalled = Some(Instant::now() + STALL);
            }
            Some((false, why)) => {
                self.trouble(&why);
                own.stalled = Some(Instant::now() + STALL);
            }
            None if own.away => {
                own.away = false;
                let text = format!("the lookup is back; {} goes on", self.consumer);
                self.world
                    .journal
                    .tell(Level::Info, "lookup.back", stage, text);
            }
            None => {}
        }
    }

    /// Tries parked entries: those of one key in order, and none behind one that has to wait again.
    pub(super) async fn work_parked(
        &mut self,
        own: &mut Own,
        ids: Vec<EntryId>,
        random: &mut SmallRng,
    ) -> Result<Fates, Over> {
        let timing = Timing::read_at(self.world.clock.as_ref());
        let batch = own.owner.fetch(&ids).await?;
        StageMeter::add(&self.handle.meter.lost, batch.lost.len() as u64);
        let mut fates: Fates = Vec::with_capacity(ids.len());
        let found: HashSet<EntryId> = batch.entries.iter().map(|e| e.record.id).collect();
        for id in ids.iter().filter(|id| !found.contains(id)) {
            own.parking.remove(*id);
            let is_lost = batch.lost.contains(id);
            fates.push((
                *id,
                if is_lost {
                    Handed::Trimmed
                } else {
                    Handed::AlreadyDone
                },
            ));
        }
        let (tried, _) = self.try_parked(own, batch.entries, random, &timing).await?;
        fates.extend(tried);
        Ok(fates)
    }

    /// Tries parked entries that were fetched; what became of them, and those that could not be tried yet.
    pub(in crate::runtime::worker) async fn try_parked(
        &mut self,
        own: &mut Own,
        entries: Vec<Delivered>,
        random: &mut SmallRng,
        timing: &Timing,
    ) -> Result<(Fates, Vec<EntryId>), Over> {
        let (mut fates, mut untried): (Fates, Vec<EntryId>) = (Vec::new(), Vec::new());
        self.show("working", None);
        let mut needs = Vec::new();
        for entry in &entries {
            self.chain.needs(&entry.record, &mut needs);
        }
        // They were tried before: what a cache knows of an error is looked at again.
        let mut loaded = self.load_owned(own, needs, true).await?;
        let records = entries.iter().map(|entry| &entry.record);
        let n_open = own
            .keyed
            .load(&self.chain, own.owner.as_mut(), records, &mut loaded)
            .await?;
        let now_ms = self.world.clock.now_ms();
        let mut part = Vec::with_capacity(entries.len());
        let mut held: HashSet<u64> = HashSet::new();
        let mut bytes = 0;
        for (n, entry) in entries.into_iter().enumerate() {
            let id = entry.record.id;
            let key = own.parking.key(id);
            let is_full = n >= n_open || bytes + own.keyed.bytes() >= COMMIT_BYTES;
            if is_full || key.is_some_and(|key| held.contains(&key)) {
                held.extend(key);
                fates.push((id, Handed::Waiting));
                continue;
            }
            bytes += entry.record.size();
            let first_ms = if entry.first_ms == 0 {
                now_ms
            } else {
                entry.first_ms
            };
            let age = Duration::from_millis(now_ms.saturating_sub(first_ms));
            if own.keyed.is_duplicate(id) {
                let settle = self.known(&entry, first_ms, random);
                part.push(Settled {
                    settle,
                    entry,
                    first_ms,
                    key,
                });
                continue;
            }
            let ended = if age >= PARKED_MAX {
                Ended::Failed(Failure {
                    class: Class::Reject,
                    reason: "parked_too_long",
                    error: format!("it waited for its next try for over {PARKED_MAX:?}"),
                })
            } else {
                own.keyed.run(&self.chain, &entry.record, &mut loaded)
            };
            if let Ended::Failed(failure) = &ended
                && failure.class == Class::Fatal
            {
                // No try of it is used up.
                held.extend(key);
                own.parking.insert(id, key, now_ms + 1_000);
                fates.push((id, Handed::Waiting));
                untried.push(id);
                continue;
            }
            let settle = self.settle(&entry, first_ms, ended, random);
            if matches!(settle.outcome, Outcome::Retry { .. }) {
                held.extend(key);
            }
            part.push(Settled {
                settle,
                entry,
                first_ms,
                key,
            });
        }
        if !part.is_empty() {
            let ids: Vec<EntryId> = part.iter().map(|settled| settled.settle.id).collect();
            match self.commit_owned(own, part, true, random, timing).await? {
                Some(done) => fates.extend(done),
                // Some are no longer what they were taken for. What is still parked is due, and is worked anew at once.
                None => {
                    for id in ids {
                        let is_there = own.parking.contains(id);
                        fates.push((
                            id,
                            if is_there {
                                Handed::Waiting
                            } else {
                                Handed::AlreadyDone
                            },
                        ));
                        untried.push(id);
                    }
                }
            }
        }
        Ok((fates, untried))
    }

    /// Commits until the store has said yes or no, and books the outcome. `None`: some of the entries would have fallen
    /// out of it while keyed state depends on them; nothing was done, and the rest is to be worked anew.
    pub(in crate::runtime::worker) async fn commit_owned(
        &mut self,
        own: &mut Own,
        mut part: Vec<Settled>,
        parked: bool,
        random: &mut SmallRng,
        timing: &Timing,
    ) -> Result<Option<Fates>, Over> {
        part.sort_by_key(|settled| settled.settle.id);
        let mut entries = Vec::with_capacity(part.len());
        let mut origins = Vec::with_capacity(part.len());
        let mut keys = Vec::with_capacity(part.len());
        for settled in part {
            entries.push(settled.settle);
            origins.push((settled.entry, settled.first_ms));
            keys.push((settled.key, settled.first_ms));
        }
        self.pass(Point::BeforeCommit).await;
        self.show("committing", None);
        let state = own.keyed.commit(&entries);
        let mut commit = OwnedCommit {
            lease: own.lease,
            commit: Commit {
                consumer: Arc::clone(&self.consumer),
                entries,
                // What a person settles meanwhile is no third party's act.
                repeated: parked,
            },
            parked,
            state,
            ttl: LEASE,
        };
        let told = self.commit_until_told(own, &mut commit, random).await?;
        let Some((done, foreign)) = told else {
            return Ok(None);
        };
        self.pass(Point::AfterCommit).await;
        own.keyed.settled(&commit.commit.entries);
        own.keyed.done(commit.state.as_ref());
        if let (false, Some(last)) = (parked, commit.commit.entries.last()) {
            own.lease.position = last.id;
        }
        let codes: HashMap<usize, Code> = done.exceptions.iter().copied().collect();
        for (i, (settle, (key, first_ms))) in commit.commit.entries.iter().zip(keys).enumerate() {
            match &settle.outcome {
                Outcome::Retry { not_before_ms, .. } if !codes.contains_key(&i) => {
                    own.parking
                        .insert(settle.id, key, due_ms(*not_before_ms, first_ms));
                }
                _ => own.parking.remove(settle.id),
            }
        }
        if foreign && own.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            own.told = Some(Instant::now());
            let text = "somebody reads through the group of this owned stage; its entries are worked here all the same, and the group was put right";
            let stage = Some(self.settings.name.as_str());
            self.world
                .journal
                .tell(Level::Error, "group.foreign_reader", stage, text);
        }
        // Where an entry waits is the parking's business.
        let fates = self.account(&commit.commit, &done, origins, &mut BTreeMap::new(), timing);
        Ok(Some(fates))
    }

    /// An ambiguous answer is answered by running the same again; the position tells whether it was done.
    pub(in crate::runtime::worker) async fn commit_until_told(
        &mut self,
        own: &mut Own,
        commit: &mut OwnedCommit,
        random: &mut SmallRng,
    ) -> Result<Option<(Committed, bool)>, Over> {
        let mut attempt = 0;
        loop {
            match own.owner.commit(commit).await {
                Ok(OwnedDone::Done { committed, foreign }) => {
                    self.clear_trouble();
                    return Ok(Some((committed, foreign)));
                }
                Ok(OwnedDone::Again(told)) => {
                    let gone = told.iter().filter(|(_, code)| *code == Code::Superseded);
                    for (i, _) in gone.filter(|_| commit.parked) {
                        own.parking.remove(commit.commit.entries[*i].id);
                    }
                    own.keyed.again(&told, &commit.commit.entries);
                    return Ok(None);
                }
                Ok(OwnedDone::Stale) => {
                    return Err(Over::Lost(
                        "its commit was refused, somebody else has changed the state that it was made from",
                    ));
                }
                Ok(OwnedDone::Fenced) => {
                    return Err(Over::Lost("its commit was refused, another owner is there"));
                }
                Ok(OwnedDone::Moved) => {
                    return Err(Over::Lost(
                        "its commit was refused, the stored position has changed",
                    ));
                }
                // The group is made anew at the position.
                Err(error @ StoreError::GroupGone(_)) => return Err(Over::Store(error)),
                Err(error) => {
                    commit.commit.repeated |= error.is_connection();
                    self.wait_for_store(&error, &mut attempt, random).await;
                    if error.is_connection() {
                        loop {
                            match self.world.store.owner(self.stage, &self.consumer).await {
                                Ok(owner) => {
                                    own.owner = owner;
                                    break;
                                }
                                Err(error) => {
                                    self.wait_for_store(&error, &mut attempt, random).await;
                                }
                            }
                        }
                    } else if let Ok(None) = own.owner.renew(own.lease.epoch, LEASE).await {
                        return Err(Over::Lost("another owner has taken the lease"));
                    }
                }
            }
        }
    }

    /// An operator's claim: what is parked is tried now.
    pub(super) async fn obey_owned(
        &mut self,
        own: &mut Own,
        order: Order,
        random: &mut SmallRng,
    ) -> Result<(), Over> {
        let Order { ids, answer, .. } = order;
        let reached = own.parking.reach(&ids);
        StageMeter::add(&self.handle.meter.claimed, reached.len() as u64);
        let mut fates: HashMap<EntryId, Handed> = HashMap::new();
        let mut result = Ok(());
        for chunk in reached.chunks(self.settings.batch) {
            // Looked at again for each: behind one that has failed again nothing of its key goes on.
            let ids = own.parking.reach(chunk);
            match self.work_parked(own, ids, random).await {
                Ok(done) => fates.extend(done),
                Err(over) => {
                    result = Err(over);
                    break;
                }
            }
        }
        let mut answers = Vec::with_capacity(ids.len());
        for id in &ids {
            answers.push(match fates.remove(id) {
                Some(handed) => handed,
                None if result.is_err() => Handed::Failed(
                    "the owner lost its lease or its store; the entry stays parked".to_owned(),
                ),
                // Behind one that was not named.
                None if own.parking.contains(*id) => Handed::Waiting,
                None => Handed::AlreadyDone,
            });
        }
        // The asker may have gone away; the work is done all the same.
        let _ = answer.send(answers);
        result
    }

    /// Loads what the chain needs, and renews the lease while it lasts.
    async fn load_owned(
        &mut self,
        own: &mut Own,
        needs: Vec<crate::operators::Need>,
        again: bool,
    ) -> Result<crate::operators::Loaded, Over> {
        if needs.is_empty() {
            return Ok(crate::operators::Loaded::default());
        }
        let loader = Arc::clone(&self.loader);
        let loading = timeout(self.settings.timeout, loader.load(&needs, again));
        tokio::pin!(loading);
        loop {
            tokio::select! {
                biased;
                loaded = &mut loading => {
                    return Ok(loaded.unwrap_or_else(|_| Loader::away(&needs, &format!("no answer within {:?}", self.settings.timeout))));
                }
                () = self.stop.cancelled() => return Err(Over::Stop),
                () = tokio::time::sleep(RENEW_EVERY) => self.renew(own).await?,
            }
        }
    }

    /// The outcome of a record whose key has an earlier one parked: it waits behind it, and no try is used up.
    pub(in crate::runtime::worker) fn behind(
        &self,
        entry: &Delivered,
        first_ms: u64,
        random: &mut SmallRng,
    ) -> Settle {
        let mut settle = self.settle(entry, first_ms, Ended::Filtered, random);
        settle.outcome = Outcome::Retry {
            not_before_ms: 0,
            failures: 0,
            first_ms,
            error: "waits behind an earlier entry of its key".to_owned(),
        };
        settle
    }

    /// The outcome of a record that the store has called a duplicate.
    fn known(&self, entry: &Delivered, first_ms: u64, random: &mut SmallRng) -> Settle {
        let mut settle = self.settle(entry, first_ms, Ended::Filtered, random);
        settle.outcome = Outcome::Duplicate;
        settle
    }

    /// Hash of the record's key; `None` where it has none. Two keys with one hash wait for each other, no more.
    pub(in crate::runtime::worker) fn key_of(&self, entry: &Delivered) -> Option<u64> {
        let key = entry.record.get(&self.settings.key_field)?;
        if key.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Some(hasher.finish())
    }
}
