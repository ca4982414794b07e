//! The handle by which commands, plans and the sampler reach the running stages. Cheap to clone; all clones are one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::meter::StageMeter;
use super::seldom::Seldom;
use super::switch::Switch;
use crate::record::EntryId;
use crate::store::Wish;

/// What a worker is doing, for `consumers ls` and the sampler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerView {
    /// Consumer name.
    pub consumer: String,
    /// `starting`, `reading`, `working`, `committing`, `waiting` (store away), `paused`, `parked` (fault board), `standby`
    /// (owned stages: another worker is the owner), `stopped`.
    pub state: &'static str,
    /// Why, when it waits.
    pub reason: Option<String>,
    /// Entries it holds now, with the time of their first read (milliseconds since 1970).
    pub held: Vec<(EntryId, u64)>,
    /// Last time its state changed, milliseconds since 1970.
    pub since_ms: u64,
}

/// What became of one id that was handed to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// Committed now.
    Applied,
    /// Became a dead letter now.
    Dead,
    /// Somebody had finished it.
    AlreadyDone,
    /// Payload gone, booked as lost.
    Trimmed,
    /// Not pending, or not idle for long enough.
    NotFound,
    /// Tried now, failed, will be tried again.
    Waiting,
    /// The worker or the store could not do it.
    Failed(String),
}

/// An order to one worker.
#[derive(Debug)]
pub struct Order {
    /// Exactly these.
    pub ids: Vec<EntryId>,
    /// Only where idle for at least this long.
    pub min_idle: Duration,
    /// One answer per id.
    pub answer: oneshot::Sender<Vec<Handed>>,
}

/// One running stage.
pub struct StageHandle {
    /// Its name.
    pub name: String,
    /// Meters.
    pub meter: Arc<StageMeter>,
    /// Whether an operator paused it: workers finish what they hold and stop reading.
    pub paused: Arc<Switch>,
    /// How many workers should run.
    pub wanted: watch::Sender<u32>,
    /// Workers that run.
    pub running: AtomicU32,
    /// Set while the stage cannot work for a reason that a person must mend; `None` = fine.
    pub trouble: Mutex<Option<String>>,
    /// Whether the store was away at the last try.
    pub store_away: AtomicBool,
    /// Entries that somebody else acknowledged, to be told.
    pub(super) foreign: Seldom,
    /// Settled entries that came again, to be told.
    pub(super) redelivered: Seldom,
    /// Whether one owner works it in order (delivery `owned`).
    pub owned: bool,
    /// Whether a worker of this daemon is the owner now.
    pub owned_here: watch::Sender<bool>,
    /// Owned stages: whether this daemon is the one whose turn it is, by the list of daemons that live.
    pub(super) belongs_here: AtomicBool,
    /// Owned stages: until when an operator wants it here, milliseconds since 1970.
    pub(super) take_until_ms: AtomicU64,
    pub(super) workers: Mutex<BTreeMap<String, WorkerEntry>>,
}

pub(super) struct WorkerEntry {
    pub(super) view: Arc<Mutex<WorkerView>>,
    /// Bound 8: an operator's plan sends one order at a time; more wait.
    pub(super) orders: mpsc::Sender<Order>,
}

impl StageHandle {
    /// Every worker's view, by consumer name.
    pub fn workers(&self) -> Vec<WorkerView> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut views: Vec<_> = workers
            .values()
            .map(|w| {
                w.view
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            })
            .collect();
        views.sort_by(|a, b| a.consumer.cmp(&b.consumer));
        views
    }

    /// Time of the first read of an entry that one of our workers holds, milliseconds since 1970.
    pub fn first_read_ms(&self, id: EntryId) -> Option<u64> {
        self.workers()
            .iter()
            .flat_map(|w| &w.held)
            .filter(|(held, _)| *held == id)
            .map(|(_, ms)| *ms)
            .min()
    }

    /// Why the stage cannot work; `None` = fine.
    pub fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Hands ids to a live worker (`to`, else the one that is free and holds least) and waits until it has committed
    /// them. One answer per id. `Err` = no such worker, or none is alive; says so for a person.
    pub async fn hand_over(
        &self,
        ids: Vec<EntryId>,
        min_idle: Duration,
        to: Option<&str>,
    ) -> Result<Vec<Handed>, String> {
        let sender = self.pick(to)?;
        let (answer, answered) = oneshot::channel();
        sender
            .send(Order {
                ids,
                min_idle,
                answer,
            })
            .await
            .map_err(|_| "the worker stopped before it took the entries".to_owned())?;
        answered.await.map_err(|_| "the worker stopped before it answered; its entries stay pending and are claimed again".to_owned())
    }

    fn pick(&self, to: Option<&str>) -> Result<mpsc::Sender<Order>, String> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = |entry: &WorkerEntry| {
            let view = entry.view.lock().unwrap_or_else(PoisonError::into_inner);
            (!matches!(view.state, "parked" | "stopped" | "waiting" | "standby"))
                .then_some(view.held.len())
        };
        if let Some(name) = to {
            let entry = workers.get(name).ok_or_else(|| {
                let mut names: Vec<_> = workers.keys().cloned().collect();
                names.sort();
                format!(
                    "\"{name}\" is no worker of stage {} in this daemon (there are: {})",
                    self.name,
                    names.join(", ")
                )
            })?;
            alive(entry).ok_or_else(|| match standby(entry) {
                Some(why) => format!("worker {name} stands by: {why}"),
                None => format!("worker {name} is not taking entries now"),
            })?;
            return Ok(entry.orders.clone());
        }
        let by_others = workers.values().find_map(standby);
        workers
            .values()
            .filter_map(|entry| alive(entry).map(|held| (held, &entry.orders)))
            .min_by_key(|(held, _)| *held)
            .map(|(_, orders)| orders.clone())
            .ok_or_else(|| match by_others {
                Some(why) => format!(
                    "stage {} is not owned by this daemon ({why}); ask the daemon of its owner",
                    self.name
                ),
                None => format!("stage {} has no live worker in this daemon; start one with: pipectl scale {} 1", self.name, self.name),
            })
    }

    /// An operator wants an owned stage to be worked by this daemon: a worker that stands by asks its holder for it until
    /// then, milliseconds since 1970. [`StageHandle::owned_here`] tells when it came.
    pub fn take_over(&self, until_ms: u64) {
        self.take_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// Why who stands by would ask the holder for the lease now; `None` = it only waits.
    pub(super) fn wish(&self, holder: &str, now_ms: u64) -> Option<Wish> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.contains_key(holder) {
            return None;
        }
        if self.take_until_ms.load(Ordering::Relaxed) > now_ms {
            return Some(Wish::Take);
        }
        let belongs_here = self.belongs_here.load(Ordering::Relaxed);
        belongs_here.then_some(Wish::Balance)
    }

    /// Whether an operator paused it.
    pub fn is_paused(&self) -> bool {
        self.paused.is_on()
    }

    /// Workers that run.
    pub fn n_running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }
}

/// Why a worker stands by; `None` when it does not.
fn standby(entry: &WorkerEntry) -> Option<String> {
    let view = entry.view.lock().unwrap_or_else(PoisonError::into_inner);
    (view.state == "standby").then(|| view.reason.clone().unwrap_or_default())
}

/// All running stages, in layout order.
#[derive(Clone)]
pub struct Handle {
    /// In layout order.
    pub stages: Arc<Vec<Arc<StageHandle>>>,
    /// Sources by name.
    pub sources: Arc<Vec<Arc<SourceHandle>>>,
    /// Whether the daemon is draining.
    pub draining: Arc<AtomicBool>,
}

impl Handle {
    /// Says whose turn each owned stage is: the daemons that live, in the order of their names, take them in turn.
    pub(super) fn spread(&self, daemons: &BTreeSet<String>, instance: &str) {
        let owned = self.stages.iter().filter(|stage| stage.owned);
        for (i, stage) in owned.enumerate() {
            let turn = daemons.iter().nth(i % daemons.len().max(1));
            let is_here = turn.is_some_and(|name| name == instance);
            stage.belongs_here.store(is_here, Ordering::Relaxed);
        }
    }

    /// The stage with this name and its index.
    pub fn stage(&self, name: &str) -> Option<(usize, &Arc<StageHandle>)> {
        self.stages.iter().enumerate().find(|(_, s)| s.name == name)
    }

    /// Whether a worker of this daemon that runs has this consumer name.
    pub fn is_worker(&self, consumer: &str) -> bool {
        self.stages.iter().any(|stage| {
            let workers = stage.workers.lock();
            workers
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(consumer)
        })
    }

    /// Whether the daemon is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// One running source or door.
#[derive(Default)]
pub struct SourceHandle {
    /// Its name.
    pub name: String,
    /// `generator` or `ingest`.
    pub kind: &'static str,
    /// Events sent since start.
    pub sent: std::sync::atomic::AtomicU64,
    /// Events refused at the door since start.
    pub rejected: std::sync::atomic::AtomicU64,
    /// Events that wait in the spool of this door.
    pub spooled: Arc<std::sync::atomic::AtomicU64>,
    /// How long the store took to accept a batch, microseconds, smoothed over about eight; 0 = none yet.
    pub accept_us: std::sync::atomic::AtomicU64,
    /// `running`, `paused`, `backpressure`, `waiting`, `done` and why.
    pub state: Mutex<(&'static str, Option<String>)>,
}

impl SourceHandle {
    /// Notes how long the store took to accept a batch.
    pub fn accepted_in(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.accept_us.load(Ordering::Relaxed);
        // Two at the same time may overwrite each other: it is a figure for people.
        let after = if before == 0 {
            took
        } else {
            (before.saturating_mul(7).saturating_add(took) / 8).max(1)
        };
        self.accept_us.store(after, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl StageHandle {
    /// A stage without workers, for tests of what reads it.
    pub(crate) fn for_tests(name: &str, wanted: u32) -> Self {
        Self {
            name: name.to_owned(),
            meter: Arc::default(),
            paused: Arc::default(),
            wanted: watch::Sender::new(wanted),
            running: AtomicU32::new(wanted),
            trouble: Mutex::default(),
            store_away: AtomicBool::new(false),
            foreign: Seldom::default(),
            redelivered: Seldom::default(),
            workers: Mutex::default(),
            owned: false,
            owned_here: watch::Sender::new(false),
            belongs_here: AtomicBool::new(false),
            take_until_ms: AtomicU64::new(0),
        }
    }

    /// Shows a worker with this view; orders to it are not answered.
    pub(crate) fn show_worker(&self, view: WorkerView) {
        let (orders, _) = mpsc::channel(1);
        let name = view.consumer.clone();
        let entry = WorkerEntry {
            view: Arc::new(Mutex::new(view)),
            orders,
        };
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, entry);
    }

    /// Shows a worker whose orders go to the test.
    pub(crate) fn show_worker_with(&self, view: WorkerView, orders: mpsc::Sender<Order>) {
        let name = view.consumer.clone();
        let entry = WorkerEntry {
            view: Arc::new(Mutex::new(view)),
            orders,
        };
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, entry);
    }
}
