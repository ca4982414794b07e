//! The audit file: one hash-chained row per action of an operator, also for refused and failed ones.

/// Cheap to clone; all clones are one file.
#[derive(Clone)]
pub struct Audit {}
