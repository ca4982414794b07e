//! The fault board: parks a worker at a named point until it is released. Exists for the stalled-worker tests and for
//! chaos experiments; costs one relaxed load per batch when nothing is set.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Where a worker can be parked.
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

/// Something that a worker does to be on the safe side, and that can be left out to see whether a test notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precaution {
    /// Owned stages: later records of a key wait behind a parked one.
    ParksBehind,
    /// Shared stages: its own pending entries come first at every start.
    BacklogFirst,
}

impl Precaution {
    /// Every precaution.
    pub const ALL: &[Self] = &[Self::ParksBehind, Self::BacklogFirst];

    /// Its name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ParksBehind => "parks_behind",
            Self::BacklogFirst => "backlog_first",
        }
    }
}

/// Shared by all workers; cheap to clone.
#[derive(Clone, Default)]
pub struct FaultBoard(Arc<Board>);

#[derive(Default)]
struct Board {
    any: AtomicBool,
    parked: Mutex<BTreeMap<(String, Point), Arc<Notify>>>,
    left_out: Mutex<Option<Precaution>>,
}

impl FaultBoard {
    /// From now on the worker with this consumer name stops at `point` until [`FaultBoard::release`].
    pub fn park(&self, consumer: &str, point: Point) {
        let mut parked = self.0.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.entry((consumer.to_owned(), point)).or_default();
        self.0.any.store(true, Ordering::Relaxed);
    }

    /// Lets the worker go on, wherever it is parked. Returns how many points were set.
    pub fn release(&self, consumer: &str) -> usize {
        let mut parked = self.0.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parked.len();
        parked.retain(|(name, _), notify| {
            if name == consumer {
                notify.notify_waiters();
                return false;
            }
            true
        });
        self.0.any.store(!parked.is_empty(), Ordering::Relaxed);
        before - parked.len()
    }

    /// From now on workers do without this; only a test of the tests wants that.
    pub fn leave_out(&self, precaution: Precaution) {
        let mut left_out = self
            .0
            .left_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *left_out = Some(precaution);
    }

    /// Whether workers take this precaution; they do.
    pub fn takes(&self, precaution: Precaution) -> bool {
        let left_out = self
            .0
            .left_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *left_out != Some(precaution)
    }

    /// Whether `consumer` is to stop at `point`.
    pub fn is_set(&self, consumer: &str, point: Point) -> bool {
        if !self.0.any.load(Ordering::Relaxed) {
            return false;
        }
        let parked = self.0.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.contains_key(&(consumer.to_owned(), point))
    }

    /// Returns at once unless `consumer` is to stop at `point`; then when it is released. Cancel-safe.
    pub async fn pass(&self, consumer: &str, point: Point) {
        if !self.0.any.load(Ordering::Relaxed) {
            return;
        }
        loop {
            let notify = {
                let parked = self.0.parked.lock().unwrap_or_else(PoisonError::into_inner);
                match parked.get(&(consumer.to_owned(), point)) {
                    Some(notify) => Arc::clone(notify),
                    None => return,
                }
            };
            let released = notify.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            // Between the look at the board and `enable` it may have been released: look again.
            if !self.is_set(consumer, point) {
                return;
            }
            released.await;
        }
    }
}
