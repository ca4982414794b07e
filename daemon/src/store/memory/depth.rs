//! Depths and the ledger at one instant. Changes nothing.

use super::commit::count;
use super::state::{Line, State, signed};
use super::stream::Stream;
use crate::store::{Depth, ForeignGroup, Lag, Layout, Ledger, OwnerDepth, StageDepth, StageLayout};

/// Everything that the sampler needs.
pub(super) fn depth(state: &State, layout: &Layout, now: u64) -> Depth {
    let stages: Vec<StageDepth> = layout
        .stages
        .iter()
        .map(|stage| stage_depth(state, stage, now))
        .collect();
    let ledger = whole(state, layout, &stages);
    Depth {
        now_ms: now,
        ledger,
        dead_length: state.dead.len() as u64,
        aggregated: count(&state.counts, &"total_count".into())
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0),
        foreign: foreign(state, layout),
        memory: None,
        stages,
    }
}

/// Where a stage stands.
fn stage_depth(state: &State, stage: &StageLayout, now: u64) -> StageDepth {
    let nothing = Stream::default();
    let stream = state.streams.get(&stage.stream).unwrap_or(&nothing);
    let group = stream.groups.get(&stage.group);
    let last_delivered = group.map(|group| group.last_delivered).unwrap_or_default();
    let n_pending = group.map_or(0, |group| group.pending.len() as u64);
    let nothing_booked = Line::default();
    let line = state.lines.get(&stage.name).unwrap_or(&nothing_booked);
    let accepted = accepted(came(state, stage, stream.added), line);
    let left = accepted - line.finished() - signed(n_pending);
    // Without a group nobody knows what was delivered, until it is prepared again.
    let unread = group.map(|group| stream.unread(group, left));
    let lag = unread.map_or(Lag::Unknown, |unread| unread.lag);
    let (undelivered, estimated) = match lag {
        Lag::Known(n) => (n, false),
        Lag::Estimate(n) => (n, true),
        Lag::Unknown => (0, true),
    };
    StageDepth {
        present: group.is_some(),
        length: stream.entries.len() as u64,
        consumers: group.map_or(0, |group| group.consumers.len() as u64),
        pending: n_pending,
        oldest_pending: group.and_then(|group| group.pending.keys().next().copied()),
        lag,
        first_undelivered: stream.after(last_delivered).next().map(|(id, _)| id),
        last_delivered,
        last_id: stream.last_id,
        ledger: Ledger {
            accepted: u64::try_from(accepted).unwrap_or(0),
            spawned: 0,
            applied: line.applied(),
            filtered: line.filtered,
            late: line.late,
            discarded: line.discarded,
            deduplicated: line.deduplicated,
            dead: line.dead,
            // What is gone unread is told at once, and booked by the janitor.
            lost: line.lost + unread.map_or(0, |unread| unread.n_gone),
            pending: n_pending,
            undelivered,
            estimated,
            applied_in_aggregates: if stage.aggregates { line.applied() } else { 0 },
            rejected: 0,
        },
        owner: stage.owned.then(|| owner(state, stage, now)),
    }
}

/// Who has the lease, and whether it was renewed in time.
fn owner(state: &State, stage: &StageLayout, now: u64) -> OwnerDepth {
    let Some(lease) = state.owned.get(&stage.name) else {
        return OwnerDepth::default();
    };
    let is_held = !lease.owner.is_empty();
    OwnerDepth {
        consumer: is_held.then(|| lease.owner.clone()),
        expired: is_held && lease.until_ms <= now,
        epoch: lease.epoch,
        position: lease.position,
    }
}

/// What ever came to a stage: entries added to the source stream by anybody, or emitted by our own stages.
pub(super) fn came(state: &State, stage: &StageLayout, added: u64) -> u64 {
    if stage.reads_source {
        added
    } else {
        state.emitted.get(&stage.stream).copied().unwrap_or(0)
    }
}

/// Of what came, what counts.
pub(super) fn accepted(came: u64, line: &Line) -> i64 {
    signed(came) - line.base.unwrap_or(0)
}

/// The ledger of the whole: an entry of the source counts once, however many stages read it; the others see it `spawned`.
fn whole(state: &State, layout: &Layout, stages: &[StageDepth]) -> Ledger {
    let mut whole = Ledger {
        rejected: state.rejected,
        ..Ledger::default()
    };
    let mut n_source_readers = 0;
    for (stage, depth) in layout.stages.iter().zip(stages) {
        let nothing_booked = Line::default();
        let line = state.lines.get(&stage.name).unwrap_or(&nothing_booked);
        let part = &depth.ledger;
        if stage.reads_source && n_source_readers == 0 {
            whole.accepted = part.accepted;
        } else if stage.reads_source {
            // What was redriven for this stage came to the first one, too, and was accepted before.
            whole.accepted = whole.accepted.saturating_sub(line.redriven);
            whole.spawned += signed(part.accepted) + signed(line.redriven);
        }
        n_source_readers += u64::from(stage.reads_source);
        whole.spawned += line.spawned;
        whole.applied += line.ended;
        whole.filtered += part.filtered;
        whole.late += part.late;
        whole.discarded += part.discarded;
        whole.deduplicated += part.deduplicated;
        whole.dead += part.dead;
        whole.lost += part.lost;
        whole.pending += part.pending;
        whole.undelivered += part.undelivered;
        whole.estimated |= part.estimated;
        whole.applied_in_aggregates += part.applied_in_aggregates;
    }
    whole.accepted += state.door_deduplicated;
    whole.deduplicated += state.door_deduplicated;
    whole
}

/// Third parties' groups on our streams.
fn foreign(state: &State, layout: &Layout) -> Vec<ForeignGroup> {
    let is_ours = |key: &str, group: &str| {
        layout
            .stages
            .iter()
            .any(|s| s.stream == key && s.group == group)
    };
    let mut found = Vec::new();
    for (key, stream) in &state.streams {
        if !layout.stages.iter().any(|stage| stage.stream == *key) {
            continue;
        }
        for (name, group) in stream.groups.iter().filter(|(name, _)| !is_ours(key, name)) {
            found.push(ForeignGroup {
                stream: key.clone(),
                group: name.clone(),
                pending: group.pending.len() as u64,
                lag: stream.lag(group).map_or(Lag::Unknown, Lag::Known),
                last_delivered: group.last_delivered,
                consumers: group.consumers.len() as u64,
            });
        }
    }
    found
}
