//! The event log of the process: state changes worth telling a person, kept in a ring and told to watchers.
//!
//! Bounded: the ring keeps the last [`KEPT`]; watchers use a broadcast channel, where a slow one loses the oldest and
//! sees a gap in `seq`. Everything that goes here also goes to the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::snapshot::Event;
use tokio::sync::broadcast;

use crate::clock::Clock;

/// Events kept; an arbitrary round number, about 200 KiB.
pub const KEPT: usize = 1_000;

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A state change.
    Info,
    /// Unexpected, but handled.
    Warning,
    /// A person must act.
    Error,
    /// A person acted.
    Action,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Action => "action",
        }
    }
}

/// Cheap to clone; all clones are one log.
#[derive(Clone)]
pub struct Journal {
    ring: Arc<Mutex<Ring>>,
    told: broadcast::Sender<Event>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Ring {
    seq: u64,
    kept: VecDeque<Event>,
}

impl Journal {
    /// An empty log.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        // 256: a watcher that lags by more has a dead terminal; it then sees a gap.
        let (told, _) = broadcast::channel(256);
        Self {
            ring: Arc::default(),
            told,
            clock,
        }
    }

    /// Tells an event; `name` is stable (`group.recreated`), `message` is for people.
    pub fn tell(&self, level: Level, name: &str, stage: Option<&str>, message: impl Into<String>) {
        let message = message.into();
        match level {
            Level::Info | Level::Action => tracing::info!(event = name, stage, "{message}"),
            Level::Warning => tracing::warn!(event = name, stage, "{message}"),
            Level::Error => tracing::error!(event = name, stage, "{message}"),
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.seq += 1;
        let event = Event {
            seq: ring.seq,
            ts_ms: self.clock.now_ms(),
            level: level.word().to_owned(),
            name: name.to_owned(),
            message,
            stage: stage.map(str::to_owned),
        };
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(event.clone());
        drop(ring);
        // No watcher is no fault.
        let _ = self.told.send(event);
    }

    /// The last `n`, oldest first.
    pub fn last(&self, n: usize) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.kept
            .iter()
            .skip(ring.kept.len().saturating_sub(n))
            .cloned()
            .collect()
    }

    /// Events from now on.
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.told.subscribe()
    }
}
