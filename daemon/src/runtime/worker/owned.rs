//! The owner of an owned stage: takes the lease or stands by, reads after the position, works in order, commits with the
//! fence. Entries that must wait are parked, and later ones of their key behind them (semantics.md section 7).
//!
//! Part of `Worker`; `run_owned` takes the place of `run`. Losing the lease ends everything at once: what was read is
//! nobody's until it is committed, so it is simply read again by who comes next.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

mod timers;

use self::timers::Look;
use super::keyed::Keyed;
use super::parking::{ALL_MAX, OF_A_KEY_MAX, Parking};
use super::*;
use crate::store::{Acquired, Lease, OwnedCommit, OwnedDone, Owner};

/// How long a lease lasts unless it is renewed: with a look every [`STANDBY_EVERY`] a hand-over after a crash takes less
/// than two seconds.
pub(super) const LEASE: Duration = Duration::from_millis(1_500);
/// Between renewals; commits renew as well.
const RENEW_EVERY: Duration = Duration::from_millis(400);
/// Between looks of who stands by: a lease that is given up is taken within this time.
const STANDBY_EVERY: Duration = Duration::from_millis(40);
/// A parked entry older than this is dead-lettered: it holds back trimming.
const PARKED_MAX: Duration = Duration::from_secs(3_600);
/// Between two times of asking the holder for a stage that belongs here, and for how long each wish counts.
const ASK_EVERY: Duration = Duration::from_millis(300);
const ASK_FOR: Duration = Duration::from_secs(1);
/// So many owners, one after the other, that did not get past a position make its batch suspect.
const WARY_FROM: u32 = 2;
/// Before records that could not be worked (a lookup is away, no room to park) are tried again.
const STALL: Duration = Duration::from_millis(200);
/// A foreign reader is told of once in this time.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// How owning ends.
pub(super) enum Over {
    /// By the store.
    Store(StoreError),
    /// The lease or the position is not ours any more; why, for a person.
    Lost(&'static str),
    /// Somebody settled parked entries: what is parked is read anew, under a new epoch.
    Again,
    /// This one asks for the stage, to balance or because a person wants it there.
    Asked(String),
    /// Asked to stop.
    Stop,
}

impl From<StoreError> for Over {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Everything that belongs to one lease.
pub(super) struct Own {
    pub(super) owner: Box<dyn Owner>,
    feed: Feed,
    pub(super) lease: Lease,
    pub(super) parking: Parking,
    keyed: Keyed,
    look: Look,
    /// Parked entries that the end of the last owner makes suspect: worked alone. Bound: what is parked.
    pub(super) suspects: BTreeSet<EntryId>,
    /// Several owners ended without getting past this position: the first batch is suspect.
    pub(super) wary: bool,
    /// Read and not committed. Bound: one batch; the feed is asked for more only when it is empty.
    pub(super) hold: VecDeque<(Delivered, u64)>,
    /// Not before this.
    stalled: Option<Instant>,
    /// Since when a lookup has been away.
    away: bool,
    /// When a foreign reader was told of.
    told: Option<Instant>,
}

/// One outcome on its way into a commit.
pub(super) struct Settled {
    pub(super) settle: Settle,
    pub(super) entry: Delivered,
    pub(super) first_ms: u64,
    pub(super) key: Option<u64>,
}

impl Worker {
    /// Runs until stopped. Returns whether nothing is left with it.
    pub(in crate::runtime) async fn run_owned(mut self) -> bool {
        let mut random = SmallRng::seed_from_u64(self.world.seed ^ hash(&self.consumer));
        let mut attempt = 0;
        let mut left_nothing = true;
        while !self.stop.is_cancelled() {
            self.release();
            self.show("starting", None);
            match self.own(&mut random, &mut attempt, &mut left_nothing).await {
                Over::Stop => break,
                Over::Again => {}
                Over::Asked(by) => {
                    // Who asks knows of a daemon that this one has not heard of yet; until it has, it does not ask back.
                    self.handle.belongs_here.store(false, Ordering::Relaxed);
                    let text =
                        format!("{} gave the stage to {by}, who asked for it", self.consumer);
                    let stage = Some(self.settings.name.as_str());
                    self.world
                        .journal
                        .tell(Level::Info, "owner.gave", stage, text);
                }
                Over::Lost(why) => {
                    let text = format!("{} owns the stage no more: {why}", self.consumer);
                    let stage = Some(self.settings.name.as_str());
                    self.world
                        .journal
                        .tell(Level::Warning, "owner.lost", stage, text);
                }
                Over::Store(error) => {
                    self.one_by_one |= matches!(error, StoreError::Bug(_));
                    self.wait_for_store(&error, &mut attempt, &mut random).await;
                }
            }
        }
        self.release();
        self.show("stopped", None);
        left_nothing
    }

    /// One life as owner, the time of standing by before it included.
    async fn own(
        &mut self,
        random: &mut SmallRng,
        attempt: &mut u32,
        left_nothing: &mut bool,
    ) -> Over {
        let (owner, lease) = match self.take_lease(attempt, left_nothing).await {
            Ok(taken) => taken,
            Err(over) => return over,
        };
        let mut own = match self.enter(owner, lease).await {
            Ok(own) => own,
            Err(over) => return over,
        };
        self.handle.owned_here.send_replace(true);
        let Err(over) = self.serve_owned(&mut own, random, attempt).await;
        self.handle.owned_here.send_replace(false);
        *left_nothing = own.parking.is_empty();
        if matches!(over, Over::Stop | Over::Asked(_)) {
            // So that who stands by need not wait. Where the store is away the lease runs out.
            let release = own.owner.release(own.lease.epoch);
            if let Ok(Err(error)) = timeout(LEASE, release).await {
                tracing::debug!(consumer = %self.consumer, %error, "could not give up the lease");
            }
        }
        own.feed.close().await;
        over
    }

    /// Waits for the lease. While paused it is not asked for: another daemon may go on.
    async fn take_lease(
        &mut self,
        attempt: &mut u32,
        left_nothing: &mut bool,
    ) -> Result<(Box<dyn Owner>, Lease), Over> {
        let mut owner = self.world.store.owner(self.stage, &self.consumer).await?;
        self.handle.store_away.store(false, Ordering::Relaxed);
        let mut asked: Option<Instant> = None;
        loop {
            let holder = if self.handle.is_paused() {
                self.show("paused", None);
                "nobody: the stage is paused in this daemon".to_owned()
            } else {
                match owner.acquire(LEASE).await? {
                    Acquired::Leased(lease) => return Ok((owner, lease)),
                    Acquired::Held { by, .. } => {
                        // What is parked is the owner's.
                        *left_nothing = true;
                        self.show("standby", Some(format!("owned by {by}")));
                        let wish = self.handle.wish(&by, self.world.clock.now_ms());
                        let is_time = asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY);
                        if let (Some(wish), true) = (wish, is_time) {
                            asked = Some(Instant::now());
                            owner.ask(wish, ASK_FOR).await?;
                        }
                        by
                    }
                }
            };
            *attempt = 0;
            // Who stands by has asked, and that is all there is to do: it is as healthy as who reads.
            let now_ms = self.world.clock.now_ms();
            self.handle
                .meter
                .last_read_ms
                .store(now_ms, Ordering::Relaxed);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Over::Stop),
                () = tokio::time::sleep(STANDBY_EVERY) => {}
                order = self.orders.recv() => {
                    let Some(order) = order else { return Err(Over::Stop) };
                    let why = format!("the stage is owned by {holder}");
                    let answers = vec![Handed::Failed(why); order.ids.len()];
                    // The asker may have gone away.
                    let _ = order.answer.send(answers);
                }
            }
        }
    }

    /// Reads what is parked.
    async fn enter(&mut self, owner: Box<dyn Owner>, lease: Lease) -> Result<Own, Over> {
        let reader = self
            .world
            .store
            .follow(self.stage, &self.consumer, lease.position)
            .await?;
        let feed = Feed::new(
            reader,
            self.settings.batch,
            self.settings.prefetch,
            Arc::clone(&self.handle.paused),
            Arc::clone(&self.handle.meter),
            Arc::clone(&self.world.clock),
        );
        // Where nobody had it in between, the lease was left open by this very process.
        let ended_badly = lease.lives > 0 && lease.epoch != self.owned_epoch + 1;
        self.owned_epoch = lease.epoch;
        let mut own = Own {
            owner,
            feed,
            lease,
            parking: Parking::default(),
            keyed: Keyed::new(lease.epoch),
            look: Look::new(),
            suspects: BTreeSet::new(),
            wary: ended_badly && lease.lives >= WARY_FROM,
            hold: VecDeque::new(),
            stalled: None,
            away: false,
            told: None,
        };
        let at_once = if self.one_by_one {
            1
        } else {
            self.settings.batch
        };
        let mut after = EntryId::MIN;
        loop {
            let batch = own.feed.backlog(after, at_once).await?;
            StageMeter::add(&self.handle.meter.lost, batch.lost.len() as u64);
            for entry in &batch.entries {
                let key = self.key_of(entry);
                own.parking.insert(
                    entry.record.id,
                    key,
                    due_ms(entry.not_before_ms, entry.first_ms),
                );
                if ended_badly {
                    own.suspects.insert(entry.record.id);
                }
            }
            match batch.next {
                Some(next) => after = next,
                None => break,
            }
            if own.owner.renew(lease.epoch, LEASE).await?.is_none() {
                return Err(Over::Lost("another owner has taken the lease"));
            }
        }
        self.one_by_one = false;
        let text = format!(
            "{} owns the stage from {} on (epoch {})",
            self.consumer, lease.position, lease.epoch
        );
        let stage = Some(self.settings.name.as_str());
        self.world
            .journal
            .tell(Level::Info, "owner.took", stage, text);
        Ok(own)
    }

    /// The loop of the owner. Each branch is a whole step; only waits are raced.
    async fn serve_owned(
        &mut self,
        own: &mut Own,
        random: &mut SmallRng,
        attempt: &mut u32,
    ) -> Result<std::convert::Infallible, Over> {
        self.clear_trouble();
        *attempt = 0;
        own.feed.start(self.stop.clone());
        let mut next_renewal = Instant::now() + RENEW_EVERY;
        loop {
            if self.stop.is_cancelled() {
                return Err(Over::Stop);
            }
            if Instant::now() >= next_renewal {
                self.renew(own).await?;
                next_renewal = Instant::now() + RENEW_EVERY;
            }
            let now_ms = self.world.clock.now_ms();
            if own.parking.next_due_ms().is_some_and(|due| due <= now_ms) {
                let mut ids = own.parking.due(now_ms, self.settings.batch);
                match ids.iter().position(|id| own.suspects.contains(id)) {
                    Some(0) => self.work_suspect(own, ids[0], random).await?,
                    first_suspect => {
                        ids.truncate(first_suspect.unwrap_or(ids.len()));
                        self.work_parked(own, ids, random).await?;
                    }
                }
            }
            if own.look.next <= Instant::now() {
                self.fire_timers(own).await?;
            }
            if own.stalled.is_some_and(|until| until <= Instant::now()) {
                own.stalled = None;
            }
            if !own.hold.is_empty() && own.stalled.is_none() {
                if std::mem::take(&mut own.wary) {
                    self.park_suspects(own, random).await?;
                } else {
                    self.work_new(own, random).await?;
                }
                continue;
            }
            if !own.away {
                let idle = if self.handle.is_paused() {
                    "paused"
                } else {
                    "reading"
                };
                self.show(idle, None);
            }
            let due = own.parking.next_due_ms().map(|due| {
                let wait_ms = due.saturating_sub(self.world.clock.now_ms()).max(1);
                Instant::now() + Duration::from_millis(wait_ms)
            });
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Over::Stop),
                order = self.orders.recv() => match order {
                    Some(order) => self.obey_owned(own, order, random).await?,
                    None => return Err(Over::Stop),
                },
                () = sleep_until(next_renewal) => {}
                () = sleep_until(own.look.next) => {}
                () = sleep_until(due.unwrap_or_else(far)), if due.is_some() => {}
                () = sleep_until(own.stalled.unwrap_or_else(far)), if own.stalled.is_some() => {}
                batch = own.feed.next(), if own.hold.is_empty() => match batch {
                    Some(Ok(batch)) => {
                        let now_ms = self.world.clock.now_ms();
                        StageMeter::add(&self.handle.meter.read, batch.entries.len() as u64);
                        own.hold.extend(batch.entries.into_iter().map(|entry| (entry, now_ms)));
                        self.hold(own.hold.make_contiguous());
                        self.pass(Point::AfterRead).await;
                    }
                    Some(Err(error)) => return Err(Over::Store(error)),
                    None => return Err(Over::Stop),
                },
            }
        }
    }

    /// Renews the lease, looks whether the position is still where we left it, and hears what an operator released.
    async fn renew(&self, own: &mut Own) -> Result<(), Over> {
        let Some(renewed) = own.owner.renew(own.lease.epoch, LEASE).await? else {
            return Err(Over::Lost("another owner has taken the lease"));
        };
        if renewed.position != Some(own.lease.position) {
            return Err(Over::Lost("the stored position has changed"));
        }
        if renewed.n_parked != own.parking.len() as u64 {
            return Err(Over::Again);
        }
        for id in renewed.due {
            own.parking.hurry(id);
        }
        match renewed.asked_by {
            Some(by) => Err(Over::Asked(by)),
            None => Ok(()),
        }
    }

    /// Works what was read as far as it goes: to its end, to the first record that a lookup keeps waiting, or to where
    /// nothing more can be parked.
    async fn work_new(&mut self, own: &mut Own, random: &mut SmallRng) -> Result<(), Over> {
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
    async fn work_parked(
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
    pub(super) async fn try_parked(
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
    pub(super) async fn commit_owned(
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
    pub(super) async fn commit_until_told(
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
    async fn obey_owned(
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
    pub(super) fn behind(&self, entry: &Delivered, first_ms: u64, random: &mut SmallRng) -> Settle {
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
    pub(super) fn key_of(&self, entry: &Delivered) -> Option<u64> {
        let key = entry.record.get(&self.settings.key_field)?;
        if key.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// When a parked entry is tried, or at the latest given up.
fn due_ms(not_before_ms: u64, first_ms: u64) -> u64 {
    let oldest = u64::try_from(PARKED_MAX.as_millis()).unwrap_or(u64::MAX);
    not_before_ms.min(first_ms.saturating_add(oldest))
}
