//! The worker: one per (stage, consumer). Reads, works, commits; everything else is a consequence of the pending list.
//!
//! Its own pending entries come first at every start and reconnect, so recovery is the normal path. Only waits are raced
//! against cancellation, work is not. A store error is a retry of the same commit, never of the work.
//!
//! Owned by the stage's supervisor; ends when `stop` is cancelled (after finishing what it holds) or when it is aborted at
//! the end of the grace period (then its entries stay pending and are found again). Blocks on the store only.
//!
//! Past 500 lines because the loop and everything that can interrupt it are to be read as one; lookups, quarantine, what a
//! record becomes, the commit and what is shown have files of their own beside it.

mod commit;
mod keyed;
mod lookups;
mod outcome;
mod owned;
mod parking;
mod quarantine;
mod shown;
mod suspects;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipectl_shared::backoff::Backoff;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::lookups::Away;
use self::quarantine::ALONE_FROM;
use super::chain::{Chain, Ended};
use super::handle::{Handed, Order, StageHandle, WorkerView};
use super::loader::Loader;
use super::measure::Timing;
use super::mender::Mender;
use super::meter::StageMeter;
use super::reader::Feed;
use crate::algorithms::fingerprint::fingerprint;
use crate::chaos::{Point, Precaution};
use crate::effect::{Class, Failure};
use crate::journal::Level;
use crate::record::{EntryId, FIELD_REDRIVE_FOR, event_id};
use crate::store::{
    Batch, Code, Commit, Committed, DeadLetter, Delivered, Outcome, Settle, StoreError, Writer,
};
use crate::world::World;

/// Wait between tries while the store is away: quick first, so that a short cut is not felt.
const STORE_BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(50),
    max: Duration::from_secs(2),
};
/// Bytes of one commit: a script's arguments are held in memory twice, and the server is busy for as long.
const COMMIT_BYTES: u64 = 4 << 20;

/// What a worker is made of.
pub(super) struct Worker {
    pub(super) stage: usize,
    pub(super) consumer: Arc<str>,
    pub(super) world: World,
    pub(super) handle: Arc<StageHandle>,
    pub(super) chain: Arc<Chain>,
    pub(super) loader: Arc<Loader>,
    pub(super) mender: Mender,
    pub(super) settings: Arc<Settings>,
    pub(super) view: Arc<Mutex<WorkerView>>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) stop: CancellationToken,
    /// Whether the backlog is read entry by entry, because an answer made no sense: giants that are too much together can
    /// each be worked.
    pub(super) one_by_one: bool,
    /// Owned stages: the epoch of this worker's last lease; 0 = it had none.
    pub(super) owned_epoch: u64,
}

/// A stage's numbers, from the configuration.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) batch: usize,
    pub(super) prefetch: usize,
    pub(super) timeout: Duration,
    pub(super) claim_after: Duration,
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    /// Field of the event id, in stages that read the source while the id window is on.
    pub(super) id_field: Option<Vec<u8>>,
    /// Field of the key: in owned stages records of one key keep their order.
    pub(super) key_field: Vec<u8>,
    /// Whether the stage is owned: one worker of all daemons works it, the others stand by.
    pub(super) owned: bool,
    /// Whether a record ends here, so that end-to-end latency is measured.
    pub(super) terminal: bool,
}

/// Why the lane (reader, writer) must be opened again.
enum Broken {
    /// By the store.
    Store(StoreError),
    /// Asked to stop.
    Stop,
}

/// An entry that waits for its next try. Bounded: above `2 x batch` of them the worker reads nothing new.
struct Waiting {
    entry: Delivered,
    first_ms: u64,
}

/// What one run of a batch left behind.
type Fates = Vec<(EntryId, Handed)>;

/// What belongs to one open lane.
struct Lane {
    writer: Box<dyn Writer>,
    feed: Feed,
}

impl Worker {
    /// Runs until stopped. Returns whether nothing is left with it.
    pub(super) async fn run(mut self) -> bool {
        let mut random = SmallRng::seed_from_u64(self.world.seed ^ hash(&self.consumer));
        let mut waiting: BTreeMap<(Instant, EntryId), Waiting> = BTreeMap::new();
        let mut attempt = 0;
        let mut was_broken = false;
        // Whether the last lane broke, maybe with work in hand: that is still pending, whatever `waiting` says.
        let mut may_hold = false;
        loop {
            if self.stop.is_cancelled() {
                break;
            }
            // What it had in hand is in its own pending list, which is read first.
            waiting.clear();
            self.release();
            self.show("starting", None);
            let ended = match self.open().await {
                Ok(mut lane) => {
                    self.handle.store_away.store(false, Ordering::Relaxed);
                    may_hold = true;
                    // A server that was started again may tell a wrong lag; it is put right before anybody looks.
                    let looked = if was_broken {
                        self.mender.look().await
                    } else {
                        Ok(())
                    };
                    let ended = match looked {
                        Ok(()) => {
                            self.serve(&mut lane, &mut waiting, &mut random, &mut attempt)
                                .await
                        }
                        Err(error) => Broken::Store(error),
                    };
                    lane.feed.close().await;
                    ended
                }
                Err(error) => Broken::Store(error),
            };
            match ended {
                Broken::Stop => {
                    may_hold = false;
                    break;
                }
                Broken::Store(error) => {
                    was_broken = true;
                    self.one_by_one |= matches!(error, StoreError::Bug(_));
                    self.wait_for_store(&error, &mut attempt, &mut random).await;
                }
            }
        }
        self.show("stopped", None);
        waiting.is_empty() && !may_hold
    }

    async fn open(&self) -> Result<Lane, StoreError> {
        let writer = self.world.store.writer(self.stage, &self.consumer).await?;
        let reader = self.world.store.reader(self.stage, &self.consumer).await?;
        let feed = Feed::new(
            reader,
            self.settings.batch,
            self.settings.prefetch,
            Arc::clone(&self.handle.paused),
            Arc::clone(&self.handle.meter),
            Arc::clone(&self.world.clock),
        );
        Ok(Lane { writer, feed })
    }

    /// The loop over one open lane.
    async fn serve(
        &mut self,
        lane: &mut Lane,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
        attempt: &mut u32,
    ) -> Broken {
        if let Err(error) = self.recover(lane, waiting, random).await {
            return Broken::Store(error);
        }
        *attempt = 0;
        self.clear_trouble();
        lane.feed.start(self.stop.clone());
        let sweep_every = self.settings.claim_after.max(Duration::from_millis(100)) / 2;
        let mut next_sweep = Instant::now() + jitter(sweep_every, random);
        let mut next_keep = Instant::now() + self.settings.claim_after / 3;
        loop {
            let full = waiting.len() >= 2 * self.settings.batch;
            self.show(
                if self.handle.is_paused() {
                    "paused"
                } else {
                    "reading"
                },
                None,
            );
            let due = waiting.first_key_value().map(|((due, _), _)| *due);
            let result = tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(lane, order, waiting, random).await,
                    None => return Broken::Stop,
                },
                () = sleep_until(due.unwrap_or_else(far)), if due.is_some() => {
                    let now = Instant::now();
                    let later = waiting.split_off(&(now, EntryId::MAX));
                    let due = std::mem::replace(waiting, later);
                    let entries = due.into_values().map(|w| (w.entry, w.first_ms)).collect();
                    self.work(lane, entries, true, waiting, random).await.map(drop)
                }
                () = sleep_until(next_keep), if !waiting.is_empty() => {
                    next_keep = Instant::now() + self.settings.claim_after / 3;
                    self.keep(lane, waiting).await
                }
                () = sleep_until(next_sweep) => {
                    next_sweep = Instant::now() + jitter(sweep_every, random);
                    if self.handle.is_paused() { Ok(()) } else { self.sweep(lane, waiting, random).await }
                }
                batch = lane.feed.next(), if !full || self.stop.is_cancelled() => match batch {
                    Some(Ok(batch)) => {
                        let now_ms = self.world.clock.now_ms();
                        let entries = batch.entries.into_iter().map(|entry| (entry, now_ms)).collect();
                        self.work(lane, entries, false, waiting, random).await.map(drop)
                    }
                    Some(Err(error)) => Err(error),
                    // The feed ends only when it was told to stop, after handing out what it had read.
                    None => return self.finish(lane, waiting, random).await,
                },
            };
            if let Err(error) = result {
                return Broken::Store(error);
            }
        }
    }

    /// The last act: entries that wait for their next try get it now; what fails again stays pending for the next start.
    async fn finish(
        &mut self,
        lane: &mut Lane,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
    ) -> Broken {
        let entries: Vec<_> = std::mem::take(waiting)
            .into_values()
            .map(|w| (w.entry, w.first_ms))
            .collect();
        if !entries.is_empty()
            && let Err(error) = self.work(lane, entries, true, waiting, random).await
        {
            return Broken::Store(error);
        }
        Broken::Stop
    }

    /// Own pending entries, oldest first; those not due yet go to the waiting ones.
    async fn recover(
        &mut self,
        lane: &mut Lane,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
    ) -> Result<(), StoreError> {
        if !self.world.faults.takes(Precaution::BacklogFirst) {
            return Ok(());
        }
        let mut after = EntryId::MIN;
        let at_once = if self.one_by_one {
            1
        } else {
            self.settings.batch
        };
        loop {
            let batch = lane.feed.backlog(after, at_once).await?;
            let next = batch.next;
            self.take_over(lane, batch, waiting, random, false).await?;
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        self.one_by_one = false;
        Ok(())
    }

    /// Works entries that were delivered before (backlog, sweep, claim): those not due wait, suspicious ones go alone.
    async fn take_over(
        &mut self,
        lane: &mut Lane,
        batch: Batch,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
        now_at_once: bool,
    ) -> Result<Fates, StoreError> {
        StageMeter::add(&self.handle.meter.lost, batch.lost.len() as u64);
        let now_ms = self.world.clock.now_ms();
        let mut fates: Fates = batch.lost.iter().map(|id| (*id, Handed::Trimmed)).collect();
        let mut together = Vec::new();
        for entry in batch.entries {
            let first_ms = if entry.first_ms == 0 {
                now_ms
            } else {
                entry.first_ms
            };
            waiting.retain(|(_, id), _| *id != entry.record.id);
            if entry.not_before_ms > now_ms && !now_at_once {
                let due = Instant::now() + Duration::from_millis(entry.not_before_ms - now_ms);
                waiting.insert((due, entry.record.id), Waiting { entry, first_ms });
            } else if entry.deliveries >= ALONE_FROM {
                fates.extend(self.alone(lane, entry, first_ms, waiting, random).await?);
            } else {
                together.push((entry, first_ms));
            }
        }
        fates.extend(self.work(lane, together, true, waiting, random).await?);
        Ok(fates)
    }

    async fn sweep(
        &mut self,
        lane: &mut Lane,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
    ) -> Result<(), StoreError> {
        let mut after = EntryId::MIN;
        loop {
            let batch = lane
                .writer
                .sweep(self.settings.claim_after, after, self.settings.batch)
                .await?;
            let n_claimed = batch.entries.len();
            if n_claimed > 0 {
                StageMeter::add(&self.handle.meter.claimed, n_claimed as u64);
                let text = format!(
                    "{n_claimed} entries idle for over {:?} claimed by {}",
                    self.settings.claim_after, self.consumer
                );
                self.world.journal.tell(
                    Level::Warning,
                    "pending.claimed",
                    Some(&self.settings.name),
                    text,
                );
            }
            let next = batch.next;
            self.take_over(lane, batch, waiting, random, false).await?;
            match next {
                Some(next) if !self.stop.is_cancelled() => after = next,
                _ => return Ok(()),
            }
        }
    }

    /// Heartbeat for entries that wait for their next try; those that others have taken are forgotten.
    async fn keep(
        &mut self,
        lane: &mut Lane,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
    ) -> Result<(), StoreError> {
        let ids: Vec<EntryId> = waiting.keys().map(|(_, id)| *id).collect();
        let held = lane.writer.keep(&ids).await?;
        waiting.retain(|(_, id), _| held.contains(id));
        Ok(())
    }

    /// An operator's claim.
    async fn obey(
        &mut self,
        lane: &mut Lane,
        order: Order,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
    ) -> Result<(), StoreError> {
        let Order {
            ids,
            min_idle,
            answer,
        } = order;
        let result = async {
            let batch = lane.writer.claim(&ids, min_idle).await?;
            StageMeter::add(&self.handle.meter.claimed, batch.entries.len() as u64);
            self.take_over(lane, batch, waiting, random, true).await
        }
        .await;
        let (fates, result) = match result {
            Ok(fates) => (fates.into_iter().collect::<HashMap<_, _>>(), Ok(())),
            Err(error) => {
                let text = error.to_string();
                (
                    ids.iter()
                        .map(|id| (*id, Handed::Failed(text.clone())))
                        .collect(),
                    Err(error),
                )
            }
        };
        let mut answers = Vec::with_capacity(ids.len());
        for id in &ids {
            answers.push(match fates.get(id) {
                Some(handed) => handed.clone(),
                None => match self
                    .world
                    .store
                    .admin()
                    .pending_entry(self.stage, *id)
                    .await
                {
                    Ok(Some(_)) => Handed::NotFound,
                    Ok(None) => Handed::AlreadyDone,
                    Err(error) => Handed::Failed(error.to_string()),
                },
            });
        }
        // The asker may have gone away; the work is done all the same.
        let _ = answer.send(answers);
        result
    }

    /// Works a batch to its end: loads, applies, commits. Entries that failed join `waiting`; those that wait for a lookup
    /// stay in its hand and are worked when it is back.
    async fn work(
        &mut self,
        lane: &mut Lane,
        entries: Vec<(Delivered, u64)>,
        repeated: bool,
        waiting: &mut BTreeMap<(Instant, EntryId), Waiting>,
        random: &mut SmallRng,
    ) -> Result<Fates, StoreError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let timing = Timing::read_at(self.world.clock.as_ref());
        StageMeter::add(
            &self.handle.meter.read,
            if repeated { 0 } else { entries.len() as u64 },
        );
        self.hold(&entries);
        self.pass(Point::AfterRead).await;

        let mut fates = Vec::with_capacity(entries.len());
        let mut open = entries;
        let mut away = Away::default();
        while !open.is_empty() {
            self.show("working", None);
            let again = repeated || away.n_tries > 0;
            let loaded = self.load(lane, &open, again).await?;
            let mut left = Vec::new();
            let mut part = Vec::new();
            let mut bytes = 0;
            let mut entries = open.into_iter().peekable();
            while let Some((entry, first_ms)) = entries.next() {
                match self.chain.run(&entry.record, &loaded) {
                    Ended::Failed(failure) if failure.class == Class::Fatal => {
                        away.why = failure.error;
                        left.push((entry, first_ms));
                    }
                    ended => {
                        bytes += entry.record.size();
                        let settle = self.settle(&entry, first_ms, ended, random);
                        part.push((settle, entry, first_ms));
                    }
                }
                let full = part.len() == self.settings.batch || bytes >= COMMIT_BYTES;
                if full || (entries.peek().is_none() && !part.is_empty()) {
                    fates.extend(
                        self.commit_part(
                            lane,
                            std::mem::take(&mut part),
                            again,
                            waiting,
                            random,
                            &timing,
                        )
                        .await?,
                    );
                    bytes = 0;
                }
            }
            open = self
                .wait_for_lookup(lane, left, &mut away, waiting, &mut fates, random)
                .await?;
        }
        self.release();
        Ok(fates)
    }

    /// Shows why it waits, mends a missing group, and waits with back-off.
    async fn wait_for_store(&self, error: &StoreError, attempt: &mut u32, random: &mut SmallRng) {
        self.show("waiting", Some(error.to_string()));
        self.handle
            .store_away
            .store(error.is_connection(), Ordering::Relaxed);
        match error {
            StoreError::GroupGone(why) => {
                if self.mender.mend(&self.settings.name, why).await.is_ok() {
                    *attempt = 0;
                    // Somebody may destroy it again and again: never faster than this.
                    tokio::time::sleep(STORE_BACKOFF.min).await;
                    return;
                }
            }
            StoreError::Broken(text) | StoreError::Denied(text) | StoreError::Foreign(text) => {
                self.trouble(text);
            }
            StoreError::OutOfMemory(_) | StoreError::DiskFull(_) | StoreError::Bug(_) => {
                self.trouble(&error.to_string());
            }
            // The last is for doors only.
            StoreError::Unavailable(_)
            | StoreError::Loading(_)
            | StoreError::ReadOnly(_)
            | StoreError::NotDurable(_) => {}
        }
        *attempt = attempt.saturating_add(1);
        let wait = STORE_BACKOFF
            .delay(*attempt, random.random())
            .max(STORE_BACKOFF.min);
        tokio::select! {
            biased;
            () = tokio::time::sleep(wait) => {}
            // While draining it goes on trying until the grace period is over, but without long naps.
            () = self.stop.cancelled() => tokio::time::sleep(STORE_BACKOFF.min).await,
        }
    }
}

fn far() -> Instant {
    // Never awaited: the branch is off when nothing waits.
    Instant::now() + Duration::from_secs(86_400)
}

fn jitter(every: Duration, random: &mut SmallRng) -> Duration {
    every.mul_f64(random.random_range(0.5..1.0))
}

fn hash(text: &str) -> u64 {
    // FNV-1a: only to give each worker its own stream of randomness.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Kept here so that the type of the pause switch is said once.
pub(super) type Paused = Arc<super::switch::Switch>;

#[cfg(test)]
mod tests;
