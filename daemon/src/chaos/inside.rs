//! Does to the daemon what the guard of an experiment orders.

use std::sync::{Mutex, PoisonError};

use super::{Hits, Order};

/// Holds every fault that is set inside the daemon.
#[derive(Debug, Default)]
pub struct Inside(Mutex<Hits>);

impl Inside {
    /// A new experiment: nothing was hit yet, and everything random follows from this seed.
    pub fn begin(&self, _seed: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Hits::default();
    }

    /// Does one thing.
    ///
    /// # Errors
    /// Why it could not be done.
    pub async fn obey(&self, order: Order) -> Result<Hits, String> {
        match order {
            Order::Clear | Order::Count => Ok(self.hits()),
            other => Err(format!("this daemon cannot do {other:?}")),
        }
    }

    /// Takes everything back.
    pub fn clear(&self) {}

    /// How often faults hit since the begin.
    pub fn hits(&self) -> Hits {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why faults of the network cannot be set here; `None` = they can.
    pub fn network_refused(&self) -> Option<String> {
        None
    }
}
