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
    pub(super) position: String,
    pub(super) lease: String,
    pub(super) parked: String,
    pub(super) state: String,
    pub(super) timers: String,
    is_owned: bool,
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
            position: layout.key(&format!("position:{}", stage.name)),
            lease: layout.key(&format!("lease:{}", stage.name)),
            parked: layout.key(&format!("parked:{}", stage.name)),
            state: layout.key(&format!("state:{}", stage.name)),
            timers: layout.key(&format!("timers:{}", stage.name)),
            is_owned: stage.owned,
        }
    }

    /// KEYS of `commit.lua`.
    pub(super) fn commit(&self) -> Vec<&str> {
        let mut keys = vec![
            self.stream.as_str(),
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
            &self.position,
        ];
        if self.is_owned {
            keys.extend([self.lease.as_str(), &self.parked, &self.state, &self.timers]);
        }
        keys
    }

    /// KEYS of `claim.lua`, `lost.lua` and `own_fetch.lua`.
    pub(super) fn claim(&self) -> Vec<&str> {
        let mut keys = vec![self.stream.as_str(), &self.ledger, &self.retry, &self.dead];
        if self.is_owned {
            keys.push(&self.parked);
        }
        keys
    }

    /// KEYS of `own_lease.lua`.
    pub(super) fn lease(&self) -> [&str; 5] {
        [
            &self.stream,
            &self.position,
            &self.lease,
            &self.parked,
            &self.settled,
        ]
    }
}
