//! Meters and depths become Snapshots here, once a second; rates, ages and percentiles are computed nowhere else.

use std::sync::Arc;

use pipectl_shared::snapshot::{Latency, Snapshot};
use tokio::sync::watch;

/// Reads what the sampler made. Cheap to clone.
#[derive(Clone)]
pub struct Observer {
    latest: watch::Receiver<Arc<Snapshot>>,
}

impl Observer {
    /// The last Snapshot (before the first tick: an empty one with state `starting`).
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// Told at every base tick (1 s); a slow reader skips some and is still right.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.latest.clone()
    }

    /// Latency over the last minute with `hdr`, of one stage (or `pipeline`) or all.
    pub fn latency(&self, _stage: Option<&str>) -> Vec<Latency> {
        Vec::new()
    }
}
