//! Where every entry went, as a line of sums: of a stage, of the pipeline, before and after an experiment.

use serde::{Deserialize, Serialize};

/// The ledger's line (semantics.md section 3); per stage and for the whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Entries that came in.
    pub accepted: u64,
    /// Added by fan-out.
    pub spawned: u64,
    /// Committed at the end.
    pub applied: u64,
    /// Ended by an operator of the pipeline on purpose.
    pub filtered: u64,
    /// Too late, by event time.
    pub late: u64,
    /// Acknowledged by hand.
    pub discarded: u64,
    /// Id seen before.
    pub deduplicated: u64,
    /// Dead-lettered minus redriven.
    pub dead: u64,
    /// Gone before they were applied.
    pub lost: u64,
    /// Delivered, not acknowledged.
    pub pending: u64,
    /// Not delivered yet.
    pub undelivered: u64,
    /// Whether `undelivered` is an estimate.
    #[serde(default)]
    pub estimated: bool,
    /// The residual: not 0 means a bug or a third party's act.
    pub unaccounted: i64,
    /// Total of the aggregate minus applied there; `None` without an aggregate.
    pub duplicated: Option<i64>,
    /// Refused at a door; outside the sum.
    pub rejected: u64,
    /// `unaccounted` = 0 and `duplicated` 0 or none.
    pub balanced: bool,
}
