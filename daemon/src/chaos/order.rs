//! What the guard of an experiment orders the daemon to do to itself, as lines of JSON over their pipe, and how often it hit.
//!
//! The first line to the guard is its job. Then each side sends a line when it has something to say: the guard [`Ask`]s,
//! the daemon answers with [`Told`]. Every order carries its time limit: the daemon takes everything back when the limit is
//! over, when it is told to, or when the pipe closes, whichever comes first.

use serde::{Deserialize, Serialize};

use super::{Faults, Point};

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The worker's task and its connections are dropped when it next comes to `point`; after `down_ms` the supervisor may
    /// start it again.
    Kill {
        /// Consumer name.
        consumer: String,
        /// Where.
        point: Point,
        /// 0 = at once.
        down_ms: u64,
    },
    /// The worker stops at `point` until it is released.
    Park {
        /// Consumer name.
        consumer: String,
        /// Where.
        point: Point,
    },
    /// A parked worker goes on.
    Release {
        /// Consumer name.
        consumer: String,
    },
    /// Faults of the network between the daemon and Redis; the default of all takes them back.
    Network {
        /// Which.
        faults: Faults,
        /// Share of connections that have them, 0 to 1; which ones follows from the seed.
        share: f64,
    },
    /// Breaks connections to Redis; they may be opened again at once.
    Break {
        /// Share of them, 0 to 1.
        share: f64,
    },
    /// Every lookup that reaches the backend takes longer, or fails.
    Lookup {
        /// Added to each.
        delay_ms: u64,
        /// Share that fails, 0 to 1.
        fails: f64,
    },
    /// All caches of lookups are emptied.
    FlushCaches,
    /// When the managed server dies it is not started again before so long after this order.
    HoldServer {
        /// How long.
        ms: u64,
    },
    /// Everything is taken back.
    Clear,
    /// Nothing; the answer says how often faults hit.
    Count,
}

/// A line from the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Comes back with the answer.
    pub n: u64,
    /// What.
    pub order: Order,
    /// After so long the daemon takes back everything by itself.
    pub limit_ms: u64,
}

/// A line to the guard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It was done.
    Done {
        /// Of the order.
        n: u64,
        /// So far, since the begin of the experiment.
        hits: Hits,
    },
    /// It could not be done.
    Failed {
        /// Of the order.
        n: u64,
        /// Why.
        why: String,
    },
    /// A person or the lever wants the experiment to end now.
    Stop {
        /// Who and why.
        why: String,
    },
    /// The daemon ends in order; it is not to be started again.
    Leaving,
}

/// How often faults hit something, since the begin of the experiment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// Workers that were killed.
    pub kills: u64,
    /// Workers that stood at their point.
    pub parks: u64,
    /// Pieces of network traffic that were delayed, held, cut or slowed.
    pub pieces: u64,
    /// Connections that were broken.
    pub breaks: u64,
    /// Lookups that were slowed.
    pub slow_lookups: u64,
    /// Lookups that failed.
    pub failed_lookups: u64,
    /// Caches that were emptied, and held something.
    pub flushes: u64,
    /// Keys that were asked of the lookup backend.
    pub backend_keys: u64,
    /// Times that the server was held down.
    pub holds: u64,
}

impl Hits {
    /// All faults; what only counts work is left out.
    pub fn faults(&self) -> u64 {
        self.kills
            + self.parks
            + self.pieces
            + self.breaks
            + self.slow_lookups
            + self.failed_lookups
            + self.flushes
    }
}
