//! The owner of an owned stage: takes the lease or stands by, reads after the position, works in order, commits with the
//! fence. Entries that must wait are parked, and later ones of their key behind them (semantics.md section 7).
//!
//! Part of `Worker`; `run_owned` takes the place of `run`. Losing the lease ends everything at once: what was read is
//! nobody's until it is committed, so it is simply read again by who comes next.

use std::collections::{BTreeSet, HashSet, VecDeque};

mod timers;
mod work;

use self::timers::Look;
use super::keyed::Keyed;
use super::parking::Parking;
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

/// Tells that the stage is owned here, until the end of owning, also where that is a panic or an abort.
struct OwnedHere(Arc<StageHandle>);

impl OwnedHere {
    fn tell(handle: &Arc<StageHandle>) -> Self {
        handle.owned_here.send_replace(true);
        Self(Arc::clone(handle))
    }
}

impl Drop for OwnedHere {
    fn drop(&mut self) {
        self.0.owned_here.send_replace(false);
    }
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
        let here = OwnedHere::tell(&self.handle);
        let Err(over) = self.serve_owned(&mut own, random, attempt).await;
        drop(here);
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
}

/// When a parked entry is tried, or at the latest given up.
fn due_ms(not_before_ms: u64, first_ms: u64) -> u64 {
    let oldest = u64::try_from(PARKED_MAX.as_millis()).unwrap_or(u64::MAX);
    not_before_ms.min(first_ms.saturating_add(oldest))
}
