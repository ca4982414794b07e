//! Everything outside the process, in one value: store, lookups, clock, randomness, faults. No globals anywhere, so tests
//! run in parallel and a simulation can run thousands of worlds.

use std::sync::Arc;

use crate::chaos::FaultBoard;
use crate::clock::Clock;
use crate::journal::Journal;
use crate::lookup::Lookup;
use crate::store::Store;

/// Makes the lookup of a hash prefix.
pub type Lookups = Arc<dyn Fn(&str) -> Arc<dyn Lookup> + Send + Sync>;

/// Cheap to clone; all clones are one world.
#[derive(Clone)]
pub struct World {
    /// Where state lives.
    pub store: Arc<dyn Store>,
    /// Makes the lookup of a hash prefix.
    pub lookups: Lookups,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Where all jitter comes from.
    pub seed: u64,
    /// Faults on purpose.
    pub faults: FaultBoard,
    /// The event log.
    pub journal: Journal,
}
