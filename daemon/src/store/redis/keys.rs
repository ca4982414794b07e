//! Names of the keys of one stage, made once (semantics.md section 2).

use crate::store::{Layout, StageLayout};

/// Keys of one stage.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) stream: String,
    pub(super) ledger: String,
    pub(super) counts: String,
    pub(super) sessions: [String; 2],
    pub(super) seen: [String; 2],
    pub(super) retry: String,
    pub(super) settled: String,
    pub(super) dead: String,
    pub(super) output: String,
}

impl Keys {
    pub(super) fn of(layout: &Layout, stage: &StageLayout) -> Self {
        Self {
            stream: stage.stream.clone(),
            ledger: layout.key("ledger"),
            counts: layout.key("counts"),
            sessions: [layout.key("sessions:0"), layout.key("sessions:1")],
            seen: [layout.key("seen:0"), layout.key("seen:1")],
            retry: layout.key(&format!("retry:{}", stage.name)),
            settled: layout.key(&format!("settled:{}", stage.name)),
            dead: layout.key("dead"),
            output: stage.output.clone().unwrap_or_else(|| stage.stream.clone()),
        }
    }

    /// KEYS of `commit.lua`.
    pub(super) fn commit(&self) -> [&str; 11] {
        [
            &self.stream,
            &self.ledger,
            &self.counts,
            &self.sessions[0],
            &self.sessions[1],
            &self.seen[0],
            &self.seen[1],
            &self.retry,
            &self.settled,
            &self.dead,
            &self.output,
        ]
    }

    /// KEYS of `claim.lua` and `lost.lua`.
    pub(super) fn claim(&self) -> [&str; 4] {
        [&self.stream, &self.ledger, &self.retry, &self.dead]
    }
}
