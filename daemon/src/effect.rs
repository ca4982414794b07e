//! What an operator asks for: effects, as values. One commit in the store executes those of a whole batch.

use std::time::Duration;

use bytes::Bytes;

use crate::record::Fields;

/// A number to be added to when the entry commits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// A field of `{S}:counts`: `total_count`, `type:<t>:count`, `product:<p>:count`, `total_value`.
    Count(Bytes),
    /// A session's count; sessions live apart and expire.
    Session(Bytes),
}

/// Effects of one record, in the order in which its operators asked for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Added to counters. Integers only: what is money is scaled first.
    pub adds: Vec<(Counter, i64)>,
    /// Entries for the stage's output stream. Without an operator that speaks of it, the worker emits the record itself
    /// when the stage has an output.
    pub children: Vec<Fields>,
    /// Keyed state and timers.
    pub kept: Kept,
}

/// What becomes of keyed state, by whole state key (owned stages only). Unlike other effects it also counts where the
/// record ends on purpose (`Done`, `Filtered`, `Late`); it never counts where the record failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// State; of several changes of one key the last holds.
    pub state: Vec<(Bytes, Change)>,
    /// Timers; the same.
    pub timers: Vec<(Bytes, Timer)>,
}

/// What becomes of a state key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It holds this.
    Set(Bytes),
    /// It is not there any more. Its timer stays as it is.
    Forget,
}

/// What becomes of the timer of a state key. Processing time: by the server's clock, from the commit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Due after this long, in place of an earlier one.
    After(Duration),
    /// It never fires.
    Clear,
}

/// How a record leaves an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// On to the next operator; after the last one it is emitted (stage with an output) or applied (terminal stage).
    Next,
    /// Ended here as done: applied with its effects, nothing emitted.
    Done,
    /// Ended here on purpose, not wanted further.
    Filtered,
    /// Ended here: too late by event time.
    Late,
    /// Could not be done.
    Failed(Failure),
}

/// Why a record could not be done, named by what the worker does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What follows.
    pub class: Class,
    /// Stable word for `dead ls`: `rejected`, `parse_error`, `too_large`, `too_many_fields`, `lookup_failed`,
    /// `lookup_away` (never a dead letter), `state_too_large`, `state_unreadable`, `panic`, `timeout`.
    pub reason: &'static str,
    /// For a person: what was tried, the value, where. May quote data.
    pub error: String,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May go well later: back-off, then try again; dead after `[retry] attempts`.
    Retry,
    /// Will never go well: dead at once.
    Reject,
    /// The stage itself cannot work now: the record waits in its worker's hand until it can, without a failed try.
    Fatal,
}
