//! How a consumer is doing, in one word and one line, and which ones keep entries from being finished. Pure functions over
//! Facts, for `judge`, `alerts` and `build`.

use std::time::Duration;

use pipectl_shared::snapshot::Consumer;

use super::facts::{Facts, FixedStage, StageFacts};
use super::judge::PLAUSIBLE_MS;
use super::text;
use crate::runtime::WorkerView;
use crate::store::{ConsumerDepth, PARKED};

/// A consumer that holds entries and has not asked for this long is gone.
pub(super) const GONE: Duration = Duration::from_secs(30);
/// A third party's consumer that holds nothing may wait in a long blocking read; after this it counts as gone all the same.
const GONE_EMPTY: Duration = Duration::from_secs(600);
/// A consumer of ours that got nothing for this long is called idle.
const IDLE: Duration = Duration::from_secs(10);

/// A consumer that keeps entries from being finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Cut, for people; untrusted.
    pub(super) consumer: String,
    pub(super) pending: u64,
    pub(super) lasts: Duration,
    /// Whether it is a worker of ours.
    pub(super) ours: bool,
    /// `parked`, `stuck` or `gone`.
    pub(super) state: &'static str,
    /// One line.
    pub(super) reason: String,
}

/// Consumers of a stage that keep entries from being finished, worst (most entries) first.
pub(super) fn troubles(facts: &Facts, i: usize) -> Vec<Trouble> {
    let stage = &facts.stages[i];
    let Some(consumers) = &stage.consumers else {
        return Vec::new();
    };
    let mut troubles: Vec<_> = consumers
        .iter()
        .filter_map(|c| trouble(facts, i, c))
        .collect();
    troubles.sort_by(|a, b| {
        b.pending
            .cmp(&a.pending)
            .then_with(|| a.consumer.cmp(&b.consumer))
    });
    troubles
}

fn trouble(facts: &Facts, i: usize, consumer: &ConsumerDepth) -> Option<Trouble> {
    if consumer.pending == 0 || holds_parked(&facts.fixed.stages[i], consumer) {
        return None;
    }
    let (fixed, stage) = (&facts.fixed.stages[i], &facts.stages[i]);
    let view = worker(stage, consumer);
    let stall = stage.stalls.get(&consumer.name);
    let name = text::cut_bytes(&consumer.name, text::NAME);
    let n = consumer.pending;
    let found = |lasts: Duration, state, reason: String| {
        Some(Trouble {
            consumer: name.clone(),
            pending: n,
            lasts,
            ours: view.is_some(),
            state,
            reason,
        })
    };
    let Some(view) = view else {
        let idle = Duration::from_millis(consumer.idle_ms);
        let stalled = stall.map_or(Duration::ZERO, |s| s.lasts);
        return if idle > GONE {
            found(
                idle,
                "gone",
                format!(
                    "{name} holds {} and has not asked for {}",
                    text::entries(n),
                    text::span(idle)
                ),
            )
        } else if stalled > fixed.claim_after.max(GONE) {
            found(
                stalled,
                "stuck",
                format!(
                    "{name} holds {}, no progress for {}",
                    text::entries(n),
                    text::span(stalled)
                ),
            )
        } else {
            None
        };
    };
    if view.state == "parked" {
        let parked = Duration::from_millis(facts.now_ms.saturating_sub(view.since_ms));
        return if parked > GONE {
            found(
                parked,
                "parked",
                format!(
                    "{name} is parked by a fault for {} and holds {}",
                    text::span(parked),
                    text::entries(n)
                ),
            )
        } else {
            None
        };
    }
    let stall = stall?;
    // An entry between two tries stands still on purpose, for as long as the back-off at most.
    let allowed = if stall.in_hand {
        fixed.claim_after
    } else {
        fixed.claim_after + facts.fixed.backoff_max + GONE
    };
    if stall.lasts <= allowed {
        return None;
    }
    let doing = if stall.in_hand {
        "no progress"
    } else {
        "no worker has them in hand"
    };
    found(
        stall.lasts,
        "stuck",
        format!(
            "{name} holds {}, {doing} for {}",
            text::entries(n),
            text::span(stall.lasts)
        ),
    )
}

/// Whether it is the name under which an owned stage parks entries; nobody of that name ever asks for anything.
fn holds_parked(fixed: &FixedStage, consumer: &ConsumerDepth) -> bool {
    fixed.delivery == "owned" && consumer.name == PARKED
}

fn worker<'a>(stage: &'a StageFacts, consumer: &ConsumerDepth) -> Option<&'a WorkerView> {
    stage
        .workers
        .iter()
        .find(|w| w.consumer.as_bytes() == &consumer.name[..])
}

/// Rows of a stage's consumers. While the store is away: our own workers with what they have in hand.
pub(super) fn consumers(facts: &Facts, i: usize) -> Vec<Consumer> {
    let (fixed, stage) = (&facts.fixed.stages[i], &facts.stages[i]);
    let Some(consumers) = &stage.consumers else {
        return stage
            .workers
            .iter()
            .map(|view| from_view(facts, fixed, view))
            .collect();
    };
    let mut rows: Vec<_> = consumers.iter().map(|c| row(facts, i, c)).collect();
    // A worker that has not read yet is no consumer for Redis.
    let unknown = stage.workers.iter().filter(|w| {
        !consumers
            .iter()
            .any(|c| w.consumer.as_bytes() == &c.name[..])
    });
    rows.extend(unknown.map(|view| from_view(facts, fixed, view)));
    rows
}

fn row(facts: &Facts, i: usize, consumer: &ConsumerDepth) -> Consumer {
    let (fixed, stage) = (&facts.fixed.stages[i], &facts.stages[i]);
    let view = worker(stage, consumer);
    let (state, reason) = match trouble(facts, i, consumer) {
        Some(trouble) => (trouble.state, Some(trouble.reason)),
        None => match view {
            Some(view) => view_state(view, consumer.inactive_ms),
            None if holds_parked(fixed, consumer) => (
                "ok",
                Some("entries that wait for their next try, or behind one of their key".to_owned()),
            ),
            None => foreign_state(consumer),
        },
    };
    let held = view
        .and_then(|v| v.held.iter().map(|h| h.1).min())
        .map(|first| facts.now_ms.saturating_sub(first));
    let server_now = facts.store.depth.as_ref().map(|d| d.now_ms);
    let by_id =
        || Some(server_now?.saturating_sub(consumer.oldest.filter(|id| id.ms >= PLAUSIBLE_MS)?.ms));
    Consumer {
        name: text::cut_bytes(&consumer.name, text::NAME),
        stage: fixed.name.clone(),
        ours: view.is_some() || holds_parked(fixed, consumer),
        state: state.to_owned(),
        reason,
        pending: consumer.pending,
        oldest_ms: if consumer.pending == 0 {
            None
        } else {
            held.or_else(by_id)
        },
        idle_ms: Some(consumer.idle_ms),
        inactive_ms: consumer.inactive_ms,
    }
}

fn from_view(facts: &Facts, fixed: &FixedStage, view: &WorkerView) -> Consumer {
    let (state, reason) = view_state(view, None);
    Consumer {
        name: text::cut(&view.consumer, text::NAME),
        stage: fixed.name.clone(),
        ours: true,
        state: state.to_owned(),
        reason,
        pending: view.held.len() as u64,
        oldest_ms: view
            .held
            .iter()
            .map(|h| h.1)
            .min()
            .map(|first| facts.now_ms.saturating_sub(first)),
        idle_ms: None,
        inactive_ms: None,
    }
}

fn view_state(view: &WorkerView, inactive_ms: Option<u64>) -> (&'static str, Option<String>) {
    let why = || view.reason.as_deref().map(|r| text::cut(r, text::LINE));
    match view.state {
        "parked" => (
            "parked",
            Some(why().unwrap_or_else(|| "parked by a fault".to_owned())),
        ),
        "waiting" => (
            "idle",
            Some(why().unwrap_or_else(|| "waits for redis".to_owned())),
        ),
        "paused" | "starting" | "standby" | "stopped" => {
            ("idle", Some(why().unwrap_or_else(|| view.state.to_owned())))
        }
        _ if view.held.is_empty()
            && inactive_ms.is_some_and(|ms| Duration::from_millis(ms) > IDLE) =>
        {
            ("idle", why())
        }
        _ => ("ok", why()),
    }
}

fn foreign_state(consumer: &ConsumerDepth) -> (&'static str, Option<String>) {
    let idle = Duration::from_millis(consumer.idle_ms);
    if consumer.pending == 0 && idle > GONE_EMPTY {
        return (
            "gone",
            Some(format!(
                "holds nothing and has not asked for {}",
                text::span(idle)
            )),
        );
    }
    if consumer.pending == 0 && idle > IDLE {
        return ("idle", None);
    }
    ("ok", None)
}

/// Order of trouble: lower is worse.
pub(super) fn trouble_rank(state: &str) -> u8 {
    match state {
        "stuck" => 0,
        "gone" => 1,
        "parked" => 2,
        "ok" => 3,
        _ => 4,
    }
}
