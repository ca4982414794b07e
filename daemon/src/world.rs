//! Everything outside the process, in one value: store, lookups, clock, randomness, faults. No globals anywhere, so tests
//! run in parallel and a simulation can run thousands of worlds.

use std::sync::Arc;

use crate::chaos::FaultBoard;
use crate::clock::{Clock, Following};
use crate::journal::Journal;
use crate::lookup::{Fixed, Lookup};
use crate::store::memory::Memory;
use crate::store::{Layout, Store};

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

/// A whole world in memory and the hands that move it from outside. For tests and simulation only, as `store/memory` is:
/// nothing of it is ever what a user runs.
#[derive(Clone)]
pub struct TestWorld {
    /// What the daemon gets. Its store is [`TestWorld::memory`]; put decorators around it where faults are wanted.
    pub world: World,
    /// The data, and by its meddler what third parties do to them.
    pub memory: Memory,
    /// All profiles, whatever the prefix.
    pub profiles: Fixed,
    /// The daemon's clock and the server's.
    pub clock: Following,
}

impl World {
    /// A world in memory that is the same for the same seed: its time is tokio's, so it is called inside a runtime whose
    /// time is paused, and nothing in it depends on threads or on the order of a hash map.
    pub fn test(layout: Layout, seed: u64) -> TestWorld {
        // 2023-11-14: an arbitrary day, far enough from 1970 for every subtraction.
        let clock = Following::from_ms(1_700_000_000_000);
        let memory = Memory::new(layout, Arc::new(clock.clone()));
        TestWorld::on(memory, Fixed::default(), clock, seed)
    }
}

impl TestWorld {
    fn on(memory: Memory, profiles: Fixed, clock: Following, seed: u64) -> Self {
        let behind = profiles.clone();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let world = World {
            store: Arc::new(memory.clone()),
            lookups: Arc::new(move |_| Arc::new(behind.clone()) as Arc<dyn Lookup>),
            clock: Arc::clone(&shared),
            seed,
            faults: FaultBoard::default(),
            journal: Journal::new(shared),
        };
        Self {
            world,
            memory,
            profiles,
            clock,
        }
    }

    /// Another machine in this world: the same data and profiles; a clock, a fault board and an event log of its own.
    #[must_use]
    pub fn beside(&self, seed: u64) -> Self {
        Self::on(
            self.memory.clone(),
            self.profiles.clone(),
            self.clock.beside(),
            seed,
        )
    }
}
