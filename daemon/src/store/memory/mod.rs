//! The store in memory, for tests and simulation only: the readable model of the Redis store. Both pass one contract suite
//! (`tests/store_contract.rs`). What third parties do to a real Redis is in `meddler.rs`; nothing here is ever what a user
//! runs.

mod admin;
mod admit;
mod commit;
mod depth;
mod hands;
mod keyed;
mod meddler;
mod owner;
mod prepare;
mod state;
mod stream;
mod window;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

pub use meddler::{GroupFacts, Meddler, PendingFacts};

use self::state::{State, stage_of};
use super::{Admin, Layout, Owner, Reader, Result, Store, Writer};
use crate::clock::Clock;
use crate::record::EntryId;

/// A store in memory. Clones are one store.
#[derive(Clone)]
pub struct Memory {
    layout: Arc<Layout>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// An empty store whose server clock is this one.
    pub fn new(layout: Layout, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            inside: Mutex::new(Inside::default()),
            clock,
            changed: Notify::new(),
        };
        Self {
            layout: Arc::new(layout),
            shared: Arc::new(shared),
        }
    }

    fn owning(&self, stage: usize, consumer: &str) -> owner::Hands {
        owner::Hands {
            store: self.clone(),
            stage,
            consumer: consumer.to_owned(),
        }
    }

    /// Another daemon, or another pipeline, on the same data.
    #[must_use]
    pub fn beside(&self, layout: Layout) -> Self {
        Self {
            layout: Arc::new(layout),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// The data, what the meddler set up, and who waits for a change. The lock is held for one call only, never while waiting.
struct Shared {
    inside: Mutex<Inside>,
    clock: Arc<dyn Clock>,
    /// Told after every change: readers that wait look again.
    changed: Notify,
}

/// Under the lock.
#[derive(Default)]
struct Inside {
    state: State,
    /// Earlier instants that the meddler keeps.
    instants: Vec<State>,
    /// The next commit happens, but its answer is lost.
    loses_reply: bool,
    /// The meddler moved the server's clock on by this.
    ahead_ms: u64,
}

impl Shared {
    /// Reads or changes without waking anybody; gives the server's time.
    fn look<T>(&self, act: impl FnOnce(&mut Inside, u64) -> T) -> T {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now_ms().saturating_add(inside.ahead_ms);
        act(&mut inside, now)
    }

    /// Changes and wakes the readers that wait.
    fn change<T>(&self, act: impl FnOnce(&mut State, u64) -> T) -> T {
        let answer = self.look(|inside, now| act(&mut inside.state, now));
        self.changed.notify_waiters();
        answer
    }
}

#[async_trait]
impl Store for Memory {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    async fn reader(&self, stage: usize, consumer: &str) -> Result<Box<dyn Reader>> {
        stage_of(&self.layout, stage)?;
        Ok(Box::new(hands::Hands::new(self.clone(), stage, consumer)))
    }

    async fn writer(&self, stage: usize, consumer: &str) -> Result<Box<dyn Writer>> {
        stage_of(&self.layout, stage)?;
        Ok(Box::new(hands::Hands::new(self.clone(), stage, consumer)))
    }

    async fn owner(&self, stage: usize, consumer: &str) -> Result<Box<dyn Owner>> {
        stage_of(&self.layout, stage)?;
        Ok(Box::new(self.owning(stage, consumer)))
    }

    async fn follow(
        &self,
        stage: usize,
        consumer: &str,
        position: EntryId,
    ) -> Result<Box<dyn Reader>> {
        stage_of(&self.layout, stage)?;
        let hands = self.owning(stage, consumer);
        Ok(Box::new(owner::Follower { hands, position }))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(self.clone())
    }
}
