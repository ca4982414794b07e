//! Plans: what an operator wants done, frozen as a list of ids before anything is done (semantics.md section 9).

use serde::{Deserialize, Serialize};

/// What a plan does to each of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Hand pending entries to a live worker, now.
    Claim,
    /// Acknowledge pending entries without applying them (`discarded`).
    Ack,
    /// Forget the back-off: try again now.
    Retry,
    /// Dead-letter pending entries by hand.
    Dead,
    /// Add dead letters to the input of the stage where they died.
    Redrive,
    /// Delete dead letters for good; the ledger does not change.
    Purge,
}

impl Action {
    /// The word on the wire and the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Ack => "ack",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Redrive => "redrive",
            Self::Purge => "purge",
        }
    }

    /// The command-line noun under which the action stands: `pending` or `dead`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Claim | Self::Ack | Self::Retry | Self::Dead => "pending",
            Self::Redrive | Self::Purge => "dead",
        }
    }
}

/// Which entries. Everything given must hold; `all` is needed when nothing else narrows the choice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Only of this stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Only these entry ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Only held by this consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Only idle for at least this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_idle_ms: Option<u64>,
    /// Only with at least this many failed tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tries: Option<u32>,
    /// Only dead letters of this cause (fingerprint).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Only entries for whose fields this expression holds (`expression`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// Every entry; without it an otherwise empty selection is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Selection {
    /// Bulk = anything but exactly one `--id`.
    pub fn is_bulk(&self) -> bool {
        self.ids.len() != 1
    }

    /// Whether nothing narrows the choice (and `all` was not said).
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `plan.create`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanParams {
    /// What to do.
    pub action: Action,
    /// To which entries.
    #[serde(default)]
    pub select: Selection,
    /// Claim: the consumer to hand to; a live worker of the stage is chosen when absent.
    #[serde(default)]
    pub to: Option<String>,
}

/// The life of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made, nothing done.
    Ready,
    /// Being carried out.
    Running,
    /// Carried out; see `result`.
    Done,
    /// Stopped by an operator; what was done before stays done.
    Cancelled,
    /// The daemon stopped while it ran; never resumed by itself.
    Interrupted,
    /// Older than 15 minutes without being run.
    Expired,
    /// Its undo was carried out.
    Undone,
}

/// An id that the plan passes over, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Entry id.
    pub id: String,
    /// For a person: "no longer pending", "trimmed", "already redriven", "not at its time".
    pub reason: String,
}

/// A plan as everyone sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Short id, such as `8f21c0`.
    pub id: String,
    /// What it does.
    pub action: Action,
    /// How the ids were chosen.
    pub select: Selection,
    /// Claim: to whom.
    pub to: Option<String>,
    /// Entries in the frozen list.
    pub matched: u64,
    /// Entries chosen but passed over (at most 1,000 named).
    pub skipped: Vec<Skipped>,
    /// SHA-256 (hex) of the frozen list, to be given to `plan.run`.
    pub ids_hash: String,
    /// The frozen list, `stage id`, at most 1,000 of it.
    pub sample: Vec<PlanEntry>,
    /// Whether it is a bulk plan, which needs the count confirmed.
    pub bulk: bool,
    /// Where it is in its life.
    pub state: State,
    /// Entries dealt with so far, of `matched`.
    pub progress: u64,
    /// What came of it; `None` until it ran.
    pub result: Option<Outcome>,
    /// Whether `plan undo` can take it back.
    pub can_undo: bool,
    /// When it was made, RFC 3339 UTC.
    pub created: String,
    /// When it stops being runnable, RFC 3339 UTC.
    pub expires: String,
    /// Who made it.
    pub by: String,
    /// The reason given when it ran.
    pub reason: Option<String>,
    /// The shell command that does the same.
    pub command: String,
}

/// One entry of a frozen list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Stage that holds it (pending), or where it died (dead letters).
    pub stage: String,
    /// Entry id in the stage's input, or in the dead-letter stream.
    pub id: String,
}

/// What came of a plan: counts that add up to `matched`, and ids of what did not go as asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Claim, retry: applied by a worker. Ack: acknowledged. Redrive: added. Purge: deleted.
    pub applied: u64,
    /// Became dead letters.
    pub dead: u64,
    /// Somebody else had finished them.
    pub already_done: u64,
    /// Their payload was gone; booked as lost.
    pub trimmed: u64,
    /// Not in the pending list or dead-letter stream any more, for no known reason.
    pub not_found: u64,
    /// Could not be done.
    pub failed: u64,
    /// Handed to a worker that has not committed them yet when the wait ended (they will retry).
    pub waiting: u64,
    /// Up to 1,000 ids that were not `applied`, with the reason.
    pub exceptions: Vec<Skipped>,
}

/// The JSON document that an action prints: `{plan, result}` with `result` null when only planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionDocument {
    /// The plan.
    pub plan: Plan,
    /// Its outcome.
    pub result: Option<Outcome>,
}
