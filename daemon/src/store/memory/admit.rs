//! What comes in from a door, and what comes back from the dead letters.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::guards::Guard;
use super::state::{State, signed};
use crate::record::{EntryId, FIELD_REDRIVE, FIELD_REDRIVE_FOR, FIELDS_MAX, event_id};
use crate::store::{Admission, Admitted, Fate, Layout, Result, SpoolPlace, StoreError};

/// Adds events to the source stream; with `checked`, known ids are answered with the entry that holds them.
pub(super) fn admit(
    state: &mut State,
    layout: &Layout,
    events: &[Admission],
    checked: bool,
    now: u64,
) -> Result<Vec<Admitted>> {
    if events.iter().any(|event| event.fields.is_empty()) {
        return Err(StoreError::Bug("an event without fields".into()));
    }
    let checked = checked && layout.dedupe.is_some();
    let mut fresh = BTreeMap::new();
    let mut admitted = Vec::with_capacity(events.len());
    for event in events {
        let event_id = event.event_id.filter(|_| checked);
        let first = event_id.and_then(|event| {
            fresh
                .get(&event)
                .or_else(|| state.seen.get(&event))
                .copied()
        });
        if let Some(first) = first.filter(|_| state.guards.on(Guard::DoorWindow)) {
            state.door_deduplicated += 1;
            admitted.push(Admitted::Duplicate(first));
            continue;
        }
        let stream = state.streams.entry(layout.source.clone()).or_default();
        let id = stream.add(now, event.fields.clone());
        if let Some(event) = event_id {
            fresh.insert(event, id);
        }
        admitted.push(Admitted::Added(id));
    }
    if !fresh.is_empty() {
        state.remember(layout, fresh, now);
    }
    Ok(admitted)
}

/// Adds events of a spool that are not in yet, and notes how far it is in.
pub(super) fn admit_spooled(
    state: &mut State,
    layout: &Layout,
    place: SpoolPlace,
    events: &[Admission],
    now: u64,
) -> Result<Vec<Option<Admitted>>> {
    let position = state.spools.get(&place.life).copied().unwrap_or(0);
    let last = place.first + events.len() as u64 - 1;
    let n_known = (position + 1)
        .saturating_sub(place.first)
        .min(events.len() as u64);
    let n_known = usize::try_from(n_known).unwrap_or(usize::MAX);
    let admitted = admit(state, layout, &events[n_known..], true, now)?;
    state.spools.insert(place.life, position.max(last));
    let known = std::iter::repeat_n(None, n_known);
    Ok(known.chain(admitted.into_iter().map(Some)).collect())
}

/// Adds one dead letter to the input of the stage where it died. `accepted` does not change, and the entry is no duplicate
/// of its own first life.
///
/// Where several stages read that input, the others see the entry once more (a limit of fan-out): `spawned` says so.
pub(super) fn redrive(state: &mut State, layout: &Layout, id: EntryId, now: u64) -> Fate {
    let Some(row) = state.dead.get(&id) else {
        return Fate::NotFound;
    };
    if row.redriven.is_some() && state.guards.on(Guard::RedrivenOnce) {
        return Fate::AlreadyDone;
    }
    if !row.counts {
        return Fate::Trimmed;
    }
    let Some((_, stage)) = layout.stage(&row.stage) else {
        return Fate::Unfit;
    };
    let mut fields = row.fields.clone();
    let event = fields
        .iter()
        .find(|(name, _)| *name == layout.id_field)
        .map(|(_, id)| event_id(id));
    fields.retain(|(name, _)| name != FIELD_REDRIVE && name != FIELD_REDRIVE_FOR);
    if fields.is_empty() || row.fields.len() > FIELDS_MAX {
        return Fate::Unfit;
    }
    fields.push((Bytes::from_static(FIELD_REDRIVE), id.to_string().into()));
    let n_readers = layout
        .stages
        .iter()
        .filter(|other| other.stream == stage.stream)
        .count() as u64;
    if n_readers > 1 {
        let name = stage.name.clone();
        fields.push((Bytes::from_static(FIELD_REDRIVE_FOR), name.into()));
    }
    let stream = state.streams.entry(stage.stream.clone()).or_default();
    let new = stream.add(now, fields);
    if let Some(row) = state.dead.get_mut(&id) {
        row.redriven = Some(new);
    }
    let line = state.line(stage);
    line.dead -= 1;
    if stage.reads_source {
        line.base = line.base.map(|base| base + 1);
        line.redriven += 1;
        let is_on = layout.dedupe.is_some() && state.guards.on(Guard::RedriveWindow);
        if let Some(event) = event.filter(|_| is_on) {
            // Where others read the stream, too, its first life may not have come to them yet: it stays the known one, and
            // the stage that takes the entry back does not look it up.
            if n_readers == 1 || state.seen.get(&event).is_none() {
                state.seen.take(&event);
                state.seen.put(event, new);
            }
        }
    } else if n_readers > 1 {
        // Emitted once more for the other readers, not for the one that takes it back.
        line.base = line.base.map(|base| base + 1);
        *state.emitted.entry(stage.stream.clone()).or_default() += 1;
        if let Some(parent) = layout
            .stages
            .iter()
            .find(|other| other.output.as_ref() == Some(&stage.stream))
        {
            state.line(parent).spawned += signed(n_readers) - 1;
        }
    }
    Fate::Done
}
