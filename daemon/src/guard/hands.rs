//! What the keeper needs of the daemon to do what a guard orders. The daemon's is [`Inside`]; tests have one that records.

use async_trait::async_trait;

use crate::chaos::{Hits, Inside, Order};

/// Sets faults inside the daemon and takes them back.
#[async_trait]
pub trait Hands: Send + Sync {
    /// A new experiment begins; everything random follows from this seed.
    fn begin(&self, seed: u64);

    /// Does one thing. `Err` = why it could not be done, for a person.
    async fn obey(&self, order: Order) -> Result<Hits, String>;

    /// Takes everything back, at once.
    fn clear(&self);

    /// Why faults of the network cannot be set here; `None` = they can.
    fn network_refused(&self) -> Option<String>;
}

#[async_trait]
impl Hands for Inside {
    fn begin(&self, seed: u64) {
        self.begin(seed);
    }

    async fn obey(&self, order: Order) -> Result<Hits, String> {
        self.obey(order).await
    }

    fn clear(&self) {
        self.clear();
    }

    fn network_refused(&self) -> Option<String> {
        self.network_refused()
    }
}
