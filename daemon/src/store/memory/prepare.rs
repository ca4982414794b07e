//! Making ready, and keeping house: what the prepare and janitor scripts of the Redis store do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::depth::{accepted, came};
use super::guards::Guard;
use super::keyed;
use super::owner;
use super::state::{State, millis, signed};
use super::stream::Stream;
use crate::record::EntryId;
use crate::store::{Layout, Mended, Result, StageLayout, StoreError, Swept};

/// Claims the stream, creates missing groups where everything before is settled, begins or re-bases the ledger.
pub(super) fn prepare(state: &mut State, layout: &Layout, now: u64) -> Result<Vec<Mended>> {
    match &state.owner {
        Some(owner) if *owner != layout.pipeline => {
            let text = format!(
                "stream \"{}\" belongs to pipeline \"{owner}\"",
                layout.source
            );
            return Err(StoreError::Foreign(text));
        }
        Some(_) => {}
        None => state.owner = Some(layout.pipeline.clone()),
    }
    let mut mended = Vec::new();
    for stage in &layout.stages {
        if !stage.owned {
            owner::prepare(state, stage, &mut mended, now)?;
        }
        notice_a_new_stream(state, stage, &mut mended);
        make_group(state, stage, &mut mended);
        if stage.owned {
            owner::prepare(state, stage, &mut mended, now)?;
            keyed::names(state, stage, &mut mended)?;
        }
        if !stage.reads_source {
            state.line(stage).ahead = Some(ahead(state, stage));
        }
    }
    Ok(mended)
}

/// Says what was mended at a stage.
fn note(mended: &mut Vec<Mended>, what: &'static str, stage: &StageLayout, detail: String) {
    mended.push(Mended {
        what,
        stage: Some(stage.name.clone()),
        detail,
    });
}

/// A stream that was deleted and began anew: what it held unfinished is lost, and the ledger goes on.
fn notice_a_new_stream(state: &mut State, stage: &StageLayout, mended: &mut Vec<Mended>) {
    let Some(line) = state
        .lines
        .get(&stage.name)
        .filter(|line| line.base.is_some())
        .cloned()
    else {
        return;
    };
    let (added, length, last) = facts(state, stage);
    let first = state
        .streams
        .get(&stage.stream)
        .and_then(|stream| stream.entries.keys().next().copied());
    let low = state
        .settled
        .get(&stage.name)
        .and_then(|settled| settled.low);
    // The old one held `low` or something below it: it still does, or something was taken out.
    let is_whole = signed(added) == length;
    let is_old =
        |low: EntryId| last.next() >= low && !(is_whole && first.is_none_or(|first| first > low));
    let ahead = ahead(state, stage);
    let is_behind = line.ahead.is_some_and(|known| ahead < known);
    if added >= line.added_mark && low.is_none_or(is_old) && !is_behind {
        return;
    }
    let finished = line.finished();
    let known = accepted(came(state, stage, line.added_mark), &line).max(finished);
    // What our own stages have emitted into the new stream is still there.
    let lost = if stage.reads_source {
        known - finished
    } else {
        (known - finished - length).max(0)
    };
    let new = state.line(stage);
    new.lost += u64::try_from(lost).unwrap_or(0);
    new.added_mark = added;
    if stage.reads_source {
        new.base = Some(-known);
    }
    state.settled.remove(&stage.name);
    if let Some(owned) = state.owned.get_mut(&stage.name).filter(|_| stage.owned) {
        owned.position = None;
        owned.parked.clear();
        state.retry.remove(&stage.name);
    }
    let text = format!(
        "stream \"{}\" was deleted; {lost} entries that were not finished are booked as lost",
        stage.stream
    );
    note(mended, "stream.recreated", stage, text);
}

/// By how many more entries were ever added to a stage's input than our commits emitted.
fn ahead(state: &State, stage: &StageLayout) -> i64 {
    let emitted = state.emitted.get(&stage.stream).copied().unwrap_or(0);
    signed(facts(state, stage).0) - signed(emitted)
}

/// `entries-added`, length and last id of a stage's input; zero where it is not there.
fn facts(state: &State, stage: &StageLayout) -> (u64, i64, EntryId) {
    let stream = state.streams.get(&stage.stream);
    stream.map_or((0, 0, EntryId::MIN), |s| {
        (s.added, signed(s.entries.len() as u64), s.last_id)
    })
}

/// Creates the stage's group, or moves it on when it was set back.
fn make_group(state: &mut State, stage: &StageLayout, mended: &mut Vec<Mended>) {
    let low = state
        .settled
        .get(&stage.name)
        .and_then(|settled| settled.low);
    let is_new = state
        .lines
        .get(&stage.name)
        .is_none_or(|line| line.base.is_none());
    let is_marked = state.guards.on(Guard::GroupAtMark);
    let stream = state.streams.entry(stage.stream.clone()).or_default();
    let open = match stream.groups.get_mut(&stage.group) {
        None => {
            let at = low.map_or(EntryId::MIN, EntryId::previous);
            let at = if is_marked { at } else { stream.last_id };
            let what = if low.is_some() {
                "group.recreated"
            } else {
                "group.created"
            };
            let n_unread = stream.after(at).count() as u64;
            stream.create_group(&stage.group, at, Some(stream.added - n_unread));
            let text = format!(
                "group \"{}\" of stream \"{}\" created at {at}",
                stage.group, stage.stream
            );
            note(mended, what, stage, text);
            // Entries that are still there count as accepted from now on.
            stream.entries.len() as u64
        }
        Some(group) if is_new => {
            // A group that was there before us: what it has not finished is accepted.
            let open = (group.pending.len()
                + stream.entries.range(group.last_delivered.next()..).count())
                as u64;
            let text = format!(
                "group \"{}\" was there before; its {open} open entries count as accepted",
                stage.group
            );
            note(mended, "group.adopted", stage, text);
            open
        }
        Some(group) => {
            if let Some(at) = low
                .map(EntryId::previous)
                .filter(|at| group.last_delivered < *at)
            {
                let text = format!(
                    "group \"{}\" had been set back to {}; moved on to {at}",
                    stage.group, group.last_delivered
                );
                let n_unread = stream.entries.range(at.next()..).count() as u64;
                group.set_id(at, Some(stream.added - n_unread));
                note(mended, "group.rewound", stage, text);
            }
            0
        }
    };
    if is_new {
        let added = stream.added;
        let came = came(state, stage, added);
        let line = state.line(stage);
        line.base = Some(signed(came) - signed(open));
        line.added_mark = added;
    }
}

/// Trims what every group has finished, books what others trimmed unread, purges old dead letters.
pub(super) fn janitor(
    state: &mut State,
    layout: &Layout,
    keep: Duration,
    keep_dead: Duration,
    now: u64,
) -> Swept {
    let mut swept = Swept::default();
    let mut readers: BTreeMap<&str, Vec<&StageLayout>> = BTreeMap::new();
    for stage in &layout.stages {
        readers.entry(&stage.stream).or_default().push(stage);
    }
    for (key, stages) in readers {
        let is_ready = |stage: &&StageLayout| {
            let line = state.lines.get(&stage.name);
            state.group(stage).is_ok() && line.is_some_and(|line| line.base.is_some())
        };
        if !stages.iter().all(is_ready) {
            continue;
        }
        let mut passed = EntryId::MAX;
        for stage in stages {
            let delivered = state
                .group(stage)
                .map_or(EntryId::MIN, |g| g.last_delivered);
            let position = state
                .owned
                .get(&stage.name)
                .and_then(|owned| owned.position);
            passed = passed.min(position.unwrap_or(EntryId::MAX));
            // Where somebody moved the group of an owned stage, what is lost is told by its owner's next commit.
            if position.is_none_or(|position| position == delivered) {
                swept.lost_unread += heal(state, stage);
            }
        }
        let is_bound = state.guards.on(Guard::TrimBound);
        let Some(stream) = state.streams.get_mut(key) else {
            continue;
        };
        let cut = EntryId {
            ms: now.saturating_sub(millis(keep)),
            seq: 0,
        };
        let bound = if is_bound {
            finished_by_all(stream).min(passed)
        } else {
            EntryId::MAX
        };
        swept.trimmed += stream.trim_below(bound.min(cut));
    }
    if keep_dead > Duration::ZERO {
        let oldest = EntryId {
            ms: now.saturating_sub(millis(keep_dead)),
            seq: 0,
        };
        let kept = state.dead.split_off(&oldest);
        swept.purged = std::mem::replace(&mut state.dead, kept).len() as u64;
    }
    swept
}

/// Entries below this were read and acknowledged by every group on the stream, third parties' included.
fn finished_by_all(stream: &Stream) -> EntryId {
    let bound = |group: &super::stream::Group| {
        let oldest = group.pending.keys().next().copied().unwrap_or(EntryId::MAX);
        oldest.min(group.last_delivered)
    };
    stream
        .groups
        .values()
        .map(bound)
        .min()
        .unwrap_or(EntryId::MAX)
}

/// Books what others trimmed or deleted unread, and keeps the mark that tells a stream that began anew.
fn heal(state: &mut State, stage: &StageLayout) -> u64 {
    let (added, _, _) = facts(state, stage);
    let n_pending = state
        .group(stage)
        .map_or(0, |group| group.pending.len() as u64);
    let came = came(state, stage, added);
    let line = state.line(stage);
    let left = accepted(came, line) - line.finished() - signed(n_pending);
    line.added_mark = line.added_mark.max(added);
    let n_gone = state
        .streams
        .get_mut(&stage.stream)
        .map_or(0, |stream| stream.heal(&stage.group, left));
    state.line(stage).lost += n_gone;
    n_gone
}
