//! How a stage, the server and the pipeline are doing, in one word and one line. Pure functions over Facts;
//! `build` shows the verdicts and `alerts` raises some of them, so that both say the same.

use std::time::Duration;

use pipectl_shared::snapshot::State;

use super::consumers::troubles;
use super::facts::{Facts, StageFacts};
use super::text;
use crate::record::EntryId;
use crate::runtime::WorkerView;
use crate::store::{Lag, StageDepth, StoreError};

/// A read that has not returned for this long means a hung reader: reads block for a few seconds only.
pub(super) const WATCHDOG: Duration = Duration::from_secs(30);
/// Time that a stage gets to start its workers.
const STARTING: Duration = Duration::from_secs(30);
/// Workers may be missing for this long (a restart after a panic) before it is worth saying.
const SHORT: Duration = Duration::from_secs(5);
/// Entry ids below this (the year 2000) were chosen by a client and are no time.
pub(super) const PLAUSIBLE_MS: u64 = 946_684_800_000;

/// One word and one line on a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    /// Whether it makes no progress though it has (or may have) something to do.
    pub(super) blocked: bool,
}

/// `up`, `down`, `loading`, `full`, `readonly`, `misconf`.
pub(super) fn redis_state(facts: &Facts) -> &'static str {
    if let Some(error) = &facts.store.error {
        return error_state(error);
    }
    let Some(depth) = &facts.store.depth else {
        return "down";
    };
    // Depths are read by a read-only script, which a full or read-only server answers: what the workers were told when
    // they wrote is the other half of the truth.
    let told = |word: &str| {
        let mut views = facts.stages.iter().flat_map(|s| &s.workers);
        views.any(|w| w.state == "waiting" && w.reason.as_deref().is_some_and(|r| r.contains(word)))
    };
    if depth
        .memory
        .is_some_and(|(used, max)| max > 0 && used >= max)
        || told(FULL)
    {
        "full"
    } else if told(READONLY) {
        "readonly"
    } else if told(MISCONF) {
        "misconf"
    } else {
        "up"
    }
}

/// The words by which [`StoreError`] tells these three apart; a test holds them together.
const FULL: &str = "redis is out of memory";
const READONLY: &str = "redis refuses writes";
const MISCONF: &str = "redis cannot write its disk";

fn error_state(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) | StoreError::Denied(_) => "down",
        StoreError::Loading(_) => "loading",
        StoreError::ReadOnly(_) => "readonly",
        StoreError::OutOfMemory(_) => "full",
        StoreError::DiskFull(_) => "misconf",
        StoreError::GroupGone(_)
        | StoreError::Broken(_)
        | StoreError::Foreign(_)
        | StoreError::NotDurable(_)
        | StoreError::Bug(_) => "up",
    }
}

/// The stage's state. `depth`: `None` = unknown now.
pub(super) fn stage(facts: &Facts, i: usize) -> Verdict {
    let stage = &facts.stages[i];
    let depth = facts.store.depth.as_ref().and_then(|d| d.stages.get(i));
    let verdict = |state, reason: String, blocked| Verdict {
        state,
        reason: Some(reason),
        blocked,
    };
    if facts.draining {
        return verdict(State::Draining, "the daemon is draining".to_owned(), false);
    }
    if let Some(trouble) = &stage.trouble {
        return verdict(State::Failed, text::cut(trouble, text::LINE), true);
    }
    if stage.paused {
        return verdict(State::Paused, "paused by an operator".to_owned(), false);
    }
    if stage.wanted == 0 {
        return verdict(State::Paused, "scaled to 0 workers".to_owned(), false);
    }
    let young = facts.uptime < STARTING;
    let Some(depth) = depth else {
        return match &facts.store.error {
            None if young => verdict(State::Starting, "waiting for redis".to_owned(), true),
            None => verdict(
                State::Degraded,
                "redis has not answered yet".to_owned(),
                true,
            ),
            Some(error) => verdict(State::Degraded, store_reason(error), true),
        };
    };
    if !depth.present {
        let state = if young {
            State::Starting
        } else {
            State::Degraded
        };
        return verdict(
            state,
            "its stream or group does not exist (it is made again)".to_owned(),
            true,
        );
    }
    if stage.running == 0 {
        let state = if young {
            State::Starting
        } else {
            State::Degraded
        };
        return verdict(
            state,
            format!("no worker runs ({} wanted)", stage.wanted),
            true,
        );
    }
    // Before the watchdog: a worker that waits for the store does not read, and says why.
    if let Some((waiting, reason)) = waiting(stage) {
        return verdict(State::Degraded, reason, waiting == stage.running as usize);
    }
    if let Some(reason) = watchdog(facts, stage) {
        let state = if stage.last_read_ms == 0 && young {
            State::Starting
        } else {
            State::Degraded
        };
        return verdict(state, reason, true);
    }
    let troubles = troubles(facts, i);
    if let Some(worst) = troubles.first() {
        let all = troubles.iter().filter(|t| t.ours).count() >= stage.running as usize;
        return verdict(State::Degraded, worst.reason.clone(), all);
    }
    if let Some(unread) = stage.unread.filter(|u| *u > WATCHDOG) {
        let n = match depth.lag {
            Lag::Known(n) | Lag::Estimate(n) => n.to_string(),
            Lag::Unknown => "some".to_owned(),
        };
        return verdict(
            State::Degraded,
            format!("{n} entries wait, none was read for {}", text::span(unread)),
            true,
        );
    }
    if stage.short > SHORT {
        return verdict(
            State::Degraded,
            format!("{} of {} workers run", stage.running, stage.wanted),
            false,
        );
    }
    Verdict {
        state: State::Running,
        reason: None,
        blocked: false,
    }
}

/// The pipeline's state: the daemon's own, else the worst of the stages.
pub(super) fn pipeline(facts: &Facts, stages: &[Verdict]) -> (State, Option<String>) {
    if facts.draining {
        return (State::Draining, Some("the daemon is draining".to_owned()));
    }
    if facts.seq == 0 {
        return (State::Starting, None);
    }
    if let Some(error) = &facts.store.error {
        // Said once for the whole and not per stage; a stage that has failed for its own reason goes first.
        if !stages.iter().any(|v| v.state == State::Failed) {
            return (State::Degraded, Some(store_reason(error)));
        }
    }
    let mut worst: Option<(usize, &Verdict)> = None;
    for (i, verdict) in stages.iter().enumerate() {
        if worst.is_none_or(|(_, w)| rank(verdict.state) > rank(w.state)) {
            worst = Some((i, verdict));
        }
    }
    match worst {
        Some((_, v)) if v.state == State::Running => (State::Running, None),
        Some((i, v)) => {
            let reason = v.reason.as_deref().unwrap_or("");
            (
                v.state,
                Some(format!("stage {}: {reason}", facts.fixed.stages[i].name)),
            )
        }
        None => (State::Running, None),
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::Running => 0,
        State::Paused => 1,
        State::Starting => 2,
        State::Draining => 3,
        State::Degraded => 4,
        State::Failed => 5,
    }
}

/// Redis answers, groups exist, every stage that is not paused makes progress or has nothing to do.
pub(super) fn is_healthy(facts: &Facts, stages: &[Verdict]) -> bool {
    !facts.draining
        && redis_state(facts) == "up"
        && facts.store.depth.is_some()
        && !stages.iter().any(|v| v.blocked)
}

/// One line on why the store does not answer.
pub(super) fn store_reason(error: &StoreError) -> String {
    let error_text = text::cut(&error.to_string(), text::LINE);
    match error {
        StoreError::Unavailable(_) => format!("redis is away: {error_text}"),
        StoreError::Denied(_) => format!("redis denies access: {error_text}"),
        StoreError::Loading(_)
        | StoreError::ReadOnly(_)
        | StoreError::OutOfMemory(_)
        | StoreError::DiskFull(_)
        | StoreError::GroupGone(_)
        | StoreError::Broken(_)
        | StoreError::Foreign(_)
        | StoreError::NotDurable(_)
        | StoreError::Bug(_) => error_text,
    }
}

fn watchdog(facts: &Facts, stage: &StageFacts) -> Option<String> {
    if stage.last_read_ms == 0 {
        return Some("no worker has read yet".to_owned());
    }
    let since = Duration::from_millis(facts.now_ms.saturating_sub(stage.last_read_ms));
    (since > WATCHDOG).then(|| format!("no read has returned for {}", text::span(since)))
}

/// How many workers wait for the store, and one of their reasons.
fn waiting(stage: &StageFacts) -> Option<(usize, String)> {
    let waiting: Vec<_> = stage
        .workers
        .iter()
        .filter(|w| w.state == "waiting")
        .collect();
    let first = waiting.first()?;
    let reason = first.reason.as_deref().unwrap_or("waits for redis");
    Some((
        waiting.len(),
        format!("{}: {}", first.consumer, text::cut(reason, text::LINE)),
    ))
}

/// Age of the first undelivered entry: 0 when there is none, `None` when nobody knows.
pub(super) fn lag_ms(server_now_ms: u64, depth: &StageDepth) -> Option<u64> {
    match (depth.lag, depth.first_undelivered) {
        (Lag::Known(0), _) => Some(0),
        (_, Some(id)) if id.ms >= PLAUSIBLE_MS => Some(server_now_ms.saturating_sub(id.ms)),
        (Lag::Known(_) | Lag::Estimate(_) | Lag::Unknown, _) => None,
    }
}

/// Age of the oldest pending entry since it was read first: by the worker that holds it, else by the store, else since it
/// was added (which is never too young). `None` = nothing is pending, or nobody knows.
pub(super) fn oldest_pending_ms(facts: &Facts, i: usize, depth: &StageDepth) -> Option<u64> {
    let id = depth.oldest_pending.filter(|_| depth.pending > 0)?;
    let stage = &facts.stages[i];
    let server_now_ms = facts.store.depth.as_ref()?.now_ms;
    let in_hand = held_since(&stage.workers, id).map(|first| facts.now_ms.saturating_sub(first));
    let by_store = || {
        let first = stage
            .oldest
            .filter(|o| o.id == id && o.first_ms > 0)?
            .first_ms;
        Some(server_now_ms.saturating_sub(first))
    };
    let by_id = || (id.ms >= PLAUSIBLE_MS).then(|| server_now_ms.saturating_sub(id.ms));
    in_hand.or_else(by_store).or_else(by_id)
}

/// When a worker of ours read this entry first.
pub(super) fn held_since(workers: &[WorkerView], id: EntryId) -> Option<u64> {
    workers
        .iter()
        .flat_map(|w| &w.held)
        .filter(|(held, _)| *held == id)
        .map(|(_, ms)| *ms)
        .min()
}
