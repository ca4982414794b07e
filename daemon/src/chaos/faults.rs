//! The fault board: stops a worker at a named point until it is released, or has it killed there. Exists for the
//! stalled-worker tests and for chaos experiments; costs one relaxed load per batch when nothing is set.
//!
//! A worker cannot end its own task from within, so who is to be killed waits at its point for ever, and the stage's
//! supervisor, which hears of it here, aborts it and starts it again when the board lets it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where a worker can be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// It has read a batch and done nothing with it.
    AfterRead,
    /// It has worked the batch and not committed.
    BeforeCommit,
    /// The store has committed, the worker does not know yet.
    AfterCommit,
}

/// Something that the product does to be on the safe side, and that can be left out to see whether a test or an
/// experiment notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precaution {
    /// Owned stages: later records of a key wait behind a parked one.
    ParksBehind,
    /// Shared stages: its own pending entries come first at every start.
    BacklogFirst,
    /// On Redis: a commit has an effect only where it takes the entry, so that a late one changes nothing.
    Fence,
    /// On Redis: effects and acknowledgement of a shared stage are one step.
    Atomic,
}

impl Precaution {
    /// Those that workers take whatever the store; the simulation leaves them out one by one.
    pub const ALL: &[Self] = &[Self::ParksBehind, Self::BacklogFirst];
    /// Those that the store on Redis takes.
    pub const ON_REDIS: &[Self] = &[Self::Fence, Self::Atomic];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ParksBehind => "parks_behind",
            Self::BacklogFirst => "backlog_first",
            Self::Fence => "fence",
            Self::Atomic => "atomic",
        }
    }

    /// The one with this name; `None` = there is none.
    pub fn named(name: &str) -> Option<Self> {
        let all = Self::ALL.iter().chain(Self::ON_REDIS);
        all.copied().find(|one| one.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Shared by all workers; cheap to clone.
#[derive(Clone, Default)]
pub struct FaultBoard(Arc<Board>);

#[derive(Default)]
struct Board {
    /// Whether `state` holds anything.
    any: AtomicBool,
    state: Mutex<State>,
    /// Told when somebody is to be killed, and when somebody may be started again earlier than was said.
    changed: Notify,
    left_out: AtomicU8,
    kills: AtomicU64,
    parks: AtomicU64,
    /// Grows with each order to empty the caches of lookups.
    flushes: AtomicU64,
    flushed: AtomicU64,
}

/// Bound: a few entries for each worker.
#[derive(Default)]
struct State {
    set: BTreeMap<(String, Point), Fault>,
    /// Who was killed and may not be started before.
    down: BTreeMap<String, Instant>,
}

/// What waits for a worker at a point.
#[derive(Default)]
struct Fault {
    /// Told when it is taken back or has become another.
    changed: Arc<Notify>,
    /// Killed and not just stopped; down for so long.
    kill: Option<Duration>,
    /// Whether the worker stands there.
    is_reached: bool,
}

impl FaultBoard {
    /// From now on the worker with this consumer name stops at `point` until [`FaultBoard::release`].
    pub fn park(&self, consumer: &str, point: Point) {
        let mut state = self.state();
        state.set.entry((consumer.to_owned(), point)).or_default();
        self.0.any.store(true, Ordering::Relaxed);
    }

    /// The worker with this consumer name is killed when it next comes to `point`, or at once where it is parked there,
    /// and may be started again after `down`.
    pub fn kill(&self, consumer: &str, point: Point, down: Duration) {
        let mut state = self.state();
        let fault = state.set.entry((consumer.to_owned(), point)).or_default();
        fault.kill = Some(down);
        fault.changed.notify_waiters();
        self.0.any.store(true, Ordering::Relaxed);
        drop(state);
        // For who stands there already.
        self.0.changed.notify_waiters();
    }

    /// Lets the worker go on, wherever it is parked; it is not killed any more. Returns how many points were set.
    pub fn release(&self, consumer: &str) -> usize {
        let mut state = self.state();
        let before = state.set.len();
        state.set.retain(|(name, _), fault| {
            if name == consumer {
                fault.changed.notify_waiters();
                return false;
            }
            true
        });
        let n = before - state.set.len();
        self.note_whether_any(&state);
        n
    }

    /// Takes everything back: who is parked goes on, who was killed may be started again. What was left out stays so.
    pub fn clear(&self) {
        let mut state = self.state();
        for fault in std::mem::take(&mut state.set).values() {
            fault.changed.notify_waiters();
        }
        state.down.clear();
        self.note_whether_any(&state);
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// From now on it is done without this; only a test wants that.
    pub fn leave_out(&self, precaution: Precaution) {
        self.0
            .left_out
            .fetch_or(precaution.bit(), Ordering::Relaxed);
    }

    /// Whether this precaution is taken; it is.
    pub fn takes(&self, precaution: Precaution) -> bool {
        self.0.left_out.load(Ordering::Relaxed) & precaution.bit() == 0
    }

    /// Whether `consumer` is to stop at `point`.
    pub fn is_set(&self, consumer: &str, point: Point) -> bool {
        if !self.is_any() {
            return false;
        }
        let state = self.state();
        state.set.contains_key(&(consumer.to_owned(), point))
    }

    /// Returns at once unless `consumer` is to stop at `point`; then when it is released, and never when it is to be
    /// killed. Cancel-safe.
    pub async fn pass(&self, consumer: &str, point: Point) {
        if !self.is_any() {
            return;
        }
        let key = (consumer.to_owned(), point);
        loop {
            let changed = match self.state().set.get(&key) {
                Some(fault) => Arc::clone(&fault.changed),
                None => return,
            };
            let told = changed.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            // Between the look at the board and `enable` it may have been released or killed: look again.
            if !self.reach(&key) {
                return;
            }
            told.await;
        }
    }

    /// The worker stands at its point. Returns whether anything is set there.
    fn reach(&self, key: &(String, Point)) -> bool {
        let mut state = self.state();
        let Some(fault) = state.set.get_mut(key) else {
            return false;
        };
        let is_first = !std::mem::replace(&mut fault.is_reached, true);
        let is_doomed = fault.kill.is_some();
        drop(state);
        if is_doomed {
            self.0.changed.notify_waiters();
        } else if is_first {
            self.0.parks.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Those of the workers `is_mine` that stand at a point to be killed there. Who takes them aborts each at once: they
    /// count as killed and are off the board, but for the time before which they may not be started again.
    pub fn doomed(&self, is_mine: impl Fn(&str) -> bool) -> Vec<String> {
        if !self.is_any() {
            return Vec::new();
        }
        let mut state = self.state();
        let is_taken = |(name, _): &(String, Point), fault: &Fault| {
            fault.is_reached && fault.kill.is_some() && is_mine(name)
        };
        let mut names = Vec::new();
        let mut downs = Vec::new();
        state.set.retain(|key, fault| {
            if !is_taken(key, fault) {
                return true;
            }
            names.push(key.0.clone());
            if let Some(down) = fault.kill.filter(|down| !down.is_zero()) {
                downs.push((key.0.clone(), Instant::now() + down));
            }
            false
        });
        state.down.extend(downs);
        self.note_whether_any(&state);
        self.0
            .kills
            .fetch_add(names.len() as u64, Ordering::Relaxed);
        names
    }

    /// Before which time this worker may not be started; `None` = it may.
    pub fn down_until(&self, consumer: &str) -> Option<Instant> {
        if !self.is_any() {
            return None;
        }
        let mut state = self.state();
        let until = state.down.get(consumer).copied()?;
        if until <= Instant::now() {
            state.down.remove(consumer);
            self.note_whether_any(&state);
            return None;
        }
        Some(until)
    }

    /// Returns when there may be somebody in [`FaultBoard::doomed`], or [`FaultBoard::down_until`] may have become less.
    /// What happened before the first poll is not told: make it, poll it once or `enable` it, then look, then wait.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    /// Every stage empties the caches of its lookups before its next lookup.
    pub fn flush_caches(&self) {
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of the last order to empty caches.
    pub fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Relaxed)
    }

    /// A cache that held something was emptied.
    pub fn count_flushed(&self) {
        self.0.flushed.fetch_add(1, Ordering::Relaxed);
    }

    /// What really happened since the last [`FaultBoard::begin`]: workers killed, workers that stood parked at their
    /// point, caches emptied.
    pub fn counts(&self) -> (u64, u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.0.kills), get(&self.0.parks), get(&self.0.flushed))
    }

    /// Counts from zero.
    pub fn begin(&self) {
        for counter in [&self.0.kills, &self.0.parks, &self.0.flushed] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn is_any(&self) -> bool {
        self.0.any.load(Ordering::Relaxed)
    }

    fn note_whether_any(&self, state: &State) {
        let any = !state.set.is_empty() || !state.down.is_empty();
        self.0.any.store(any, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
