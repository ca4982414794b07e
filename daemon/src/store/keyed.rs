//! Keyed state of owned stages, as the port speaks of it: cells with versions, and timers, read and written in the commits
//! of an owner (semantics.md section 7, hole 3 of engine.md).
//!
//! Every state key is `<name of the operator's state>:<key>`; a key has at most one timer, which bears its name. A version
//! is an opaque text that no other commit uses; a key that is not there has none.

use std::time::Duration;

use bytes::Bytes;

use crate::effect::{Change, Timer};

/// Longest value that a commit may keep, in bytes; a longer one in the store is somebody else's and [`super::StoreError::Broken`].
pub const VALUE_MAX: usize = 256 << 10;
/// Timers that one commit fires, and state keys that one call loads, at most.
pub const KEYS_MAX: usize = 500;

/// The state of one operator of a stage, by which a change of the configuration is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateLayout {
    /// First part of its state keys, without `:`.
    pub name: String,
    /// What it is made of, for a person: state made otherwise is refused.
    pub made_of: String,
}

/// One value and the version under which it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Of the commit that wrote it.
    pub version: Bytes,
    /// The operator's bytes.
    pub value: Bytes,
}

/// State and timers of one commit: all of it happens, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateCommit {
    /// Version of what is written, `<epoch>-<number>`; the same when the commit is run again.
    pub version: Bytes,
    /// Every key that the outcomes depend on, with the version that was read (`None` = it was not there).
    pub expected: Vec<(Bytes, Option<Bytes>)>,
    /// What becomes of keys, each named once.
    pub writes: Vec<(Bytes, Change)>,
    /// What becomes of their timers, each named once.
    pub timers: Vec<(Bytes, Timer)>,
    /// Indices of the entries whose outcomes depend on it, in order. If one of them would fall out of the commit, nothing
    /// is done ([`super::OwnedDone::Again`]): what others saw of it must not count.
    pub by: Vec<usize>,
}

/// Timers as a look finds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueTimers {
    /// Due by the server's clock, the oldest first: key, and when it was due in milliseconds since 1970.
    pub due: Vec<(Bytes, u64)>,
    /// How long until the next one after these is due; `None` = there is none.
    pub next: Option<Duration>,
}

/// One commit of timers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firing {
    /// Of the lease.
    pub epoch: u64,
    /// At most [`KEYS_MAX`]; each must still be set to exactly this time.
    pub fired: Vec<(Bytes, u64)>,
    /// What they change; `by` is not used.
    pub state: StateCommit,
    /// The lease is renewed for this long.
    pub ttl: Duration,
}

/// Answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// Done: the timers are gone, or set anew by `state`.
    Done,
    /// The lease is somebody else's now: nothing was done.
    Fenced,
    /// A timer or a version is not as it was read, also because an earlier try of this commit went through: nothing was
    /// done. Look again.
    Stale,
}
