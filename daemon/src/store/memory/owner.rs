//! Owned stages: lease, position, parked entries. The readable model of `own_lease.lua`, `own_fetch.lua` and of what
//! `commit.lua` and `prepare.lua` do for owned stages.
//!
//! Past 400 lines because it is the model of three scripts, which share what they know of a lease.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Memory;
use super::commit::{By, check, commit_by};
use super::depth::{accepted, came};
use super::guards::Guard;
use super::keyed;
use super::state::{Owned, State, group_gone, millis, signed, stage_of};
use super::stream::Pending;
use crate::record::{EntryId, Record};
use crate::store::{
    Acquired, Batch, Cell, Delivered, DueTimers, Fired, Firing, Layout, Lease, Mended, Outcome,
    OwnedCommit, OwnedDone, Owner, PARKED, Reader, Renewed, Result, StageLayout, StoreError, Wish,
};

/// Due entries named by a renewal.
const DUE_MAX: usize = 100;
/// For so long a lease that was given up is kept for who asked for it, milliseconds.
const KEPT_MS: u64 = 1_000;

/// Puts an open entry into the pending list of `parked`; books it as lost where its payload is gone. The group is there:
/// the commit has looked.
pub(super) fn park(
    state: &mut State,
    stage: &StageLayout,
    id: EntryId,
    failures: u32,
    not_before_ms: u64,
    now: u64,
) {
    // Followers of a parked entry wait for it, not for a time.
    let due = if failures == 0 {
        u64::MAX
    } else {
        not_before_ms
    };
    state.owned(stage).parked.insert(id, due);
    if state.payload(stage, id).is_none() {
        let _ = state.book_lost(stage, id, now);
        return;
    }
    hold(state, stage, id, u64::from(failures), now);
}

/// XCLAIM ... FORCE to `parked`.
fn hold(state: &mut State, stage: &StageLayout, id: EntryId, deliveries: u64, now: u64) {
    let Ok(group) = state.group_mut(stage) else {
        return;
    };
    group
        .consumers
        .insert(Bytes::from_static(PARKED.as_bytes()), now);
    let pending = Pending {
        consumer: Bytes::from_static(PARKED.as_bytes()),
        delivered_ms: now,
        deliveries,
    };
    group.pending.insert(id, pending);
}

/// Takes the lease if it can be had.
fn acquire(
    state: &mut State,
    stage: &StageLayout,
    owner: &str,
    ttl: Duration,
    now: u64,
) -> Result<Acquired> {
    let lease = state.owned(stage).clone();
    let is_held = lease.until_ms > now && state.guards.on(Guard::LeaseHeld);
    if !lease.owner.is_empty() && lease.owner != owner && is_held {
        return Ok(Acquired::Held {
            by: lease.owner,
            left_ms: lease.until_ms - now,
        });
    }
    if let Some((next, until_ms)) = &lease.next
        && lease.owner.is_empty()
        && next != owner
        && *until_ms > now
    {
        return Ok(Acquired::Held {
            by: next.clone(),
            left_ms: until_ms - now,
        });
    }
    let position = match lease.position {
        Some(position) => {
            state.group(stage)?;
            position
        }
        None => adopt(state, stage, now)?,
    };
    let lease = state.owned(stage);
    lease.lives = match lease.began {
        _ if lease.owner.is_empty() => 0,
        Some(began) if began == position => lease.lives + 1,
        _ => 1,
    };
    lease.began = Some(position);
    lease.epoch += 1;
    owner.clone_into(&mut lease.owner);
    lease.until_ms = now.saturating_add(millis(ttl));
    if lease.next.as_ref().is_some_and(|(next, _)| next == owner) {
        lease.next = None;
    }
    Ok(Acquired::Leased(Lease {
        epoch: lease.epoch,
        position,
        lives: lease.lives,
    }))
}

/// Notes that this one wants the lease; `false` = a person gave it to its holder.
fn ask(
    state: &mut State,
    stage: &StageLayout,
    owner: &str,
    wish: Wish,
    ttl: Duration,
    now: u64,
) -> bool {
    let lease = state.owned(stage);
    let is_other = !lease.owner.is_empty() && lease.owner != owner && lease.until_ms > now;
    match wish {
        Wish::Take => lease.pin = Some(owner.to_owned()),
        Wish::Balance if is_other && lease.pin.as_ref() == Some(&lease.owner) => return false,
        Wish::Balance => {}
    }
    if is_other {
        lease.next = Some((owner.to_owned(), now.saturating_add(millis(ttl))));
    }
    true
}

/// The first owner begins where the group stands; what was delivered and is not finished is parked.
fn adopt(state: &mut State, stage: &StageLayout, now: u64) -> Result<EntryId> {
    let group = state.group(stage)?;
    let last = state.streams.get(&stage.stream).map(|s| s.last_id);
    let position = group.last_delivered.min(last.unwrap_or_default());
    let open: Vec<(EntryId, u64)> = group
        .pending
        .range(..=position)
        .map(|(id, pending)| (*id, pending.deliveries))
        .collect();
    for (id, deliveries) in open {
        state.owned(stage).parked.insert(id, 0);
        hold(state, stage, id, deliveries, now);
    }
    state.owned(stage).position = Some(position);
    state.settled.remove(&stage.name);
    if position > EntryId::MIN {
        let settled = state.settled.entry(stage.name.clone()).or_default();
        settled.up_to(position);
    }
    Ok(position)
}

/// The owner's commit: fence, position, and the group kept in step.
fn commit(
    state: &mut State,
    layout: &Layout,
    stage: &StageLayout,
    commit: &OwnedCommit,
    now: u64,
) -> Result<OwnedDone> {
    check(state, stage, &commit.commit)?;
    let owned = state.owned(stage).clone();
    let guards = state.guards;
    let is_ours = owned.owner == *commit.commit.consumer && owned.epoch == commit.lease.epoch;
    if !is_ours && guards.on(Guard::OwnedEpoch) {
        return Ok(OwnedDone::Fenced);
    }
    let Some(to) = commit.commit.entries.last().map(|entry| entry.id) else {
        return Ok(OwnedDone::Done {
            committed: crate::store::Committed::default(),
            foreign: false,
        });
    };
    if !commit.parked && commit.commit.repeated && owned.position == Some(to) {
        return Ok(OwnedDone::Done {
            committed: crate::store::Committed::default(),
            foreign: false,
        });
    }
    if owned.position != Some(commit.lease.position) && guards.on(Guard::OwnedPosition) {
        return Ok(OwnedDone::Moved);
    }
    let last_id = state.streams.get(&stage.stream).map(|s| s.last_id);
    if !commit.parked && last_id.is_none_or(|last| last < to) {
        // Entries that the stream has never had: the server went back to an earlier instant while they were in hand.
        return Ok(OwnedDone::Moved);
    }
    if let Some(asked) = &commit.state {
        let again = keyed::falling_out(state, layout, stage, commit);
        if !again.is_empty() {
            return Ok(OwnedDone::Again(again));
        }
        if !keyed::check(state, stage, asked)? {
            return Ok(OwnedDone::Stale);
        }
    }
    let by = if commit.parked {
        By::Parked
    } else {
        By::Position
    };
    let group = state.group(stage)?.clone();
    let is_foreign_pending = group.pending.len() != owned.parked.len();
    let committed = commit_by(state, layout, stage, &commit.commit, by, false, now)?;
    let mut foreign = false;
    if !commit.parked {
        let from = commit.lease.position;
        foreign = group.last_delivered > from;
        state.owned(stage).position = Some(to);
        let settled = state.settled.entry(stage.name.clone()).or_default();
        settled.up_to(to);
        if is_foreign_pending {
            let group = state.group_mut(stage)?;
            for entry in &commit.commit.entries {
                let is_parked = matches!(entry.outcome, Outcome::Retry { .. });
                foreign |= !is_parked && group.pending.remove(&entry.id).is_some();
            }
        }
        let read = group
            .entries_read
            .filter(|_| group.last_delivered == from)
            .map(|read| read + commit.commit.entries.len() as u64);
        if guards.on(Guard::GroupInStep) {
            keep_in_step(state, stage, to, read)?;
        }
    }
    if let Some(asked) = &commit.state {
        keyed::write(state, stage, asked, now);
    }
    state.owned(stage).until_ms = now.saturating_add(millis(commit.ttl));
    Ok(OwnedDone::Done { committed, foreign })
}

/// The group's own position; what was trimmed unread is booked as soon as it can be told.
fn keep_in_step(
    state: &mut State,
    stage: &StageLayout,
    to: EntryId,
    read: Option<u64>,
) -> Result<()> {
    let stream = state
        .streams
        .get(&stage.stream)
        .ok_or_else(|| group_gone(stage))?;
    let (added, length) = (stream.added, stream.entries.len() as u64);
    let n_there = stream.after(to).count() as u64;
    let is_whole_rest = n_there == length || n_there == 0;
    let came = came(state, stage, added);
    let n_parked = state.owned(stage).parked.len() as u64;
    let line = state.line(stage);
    let left = accepted(came, line) - line.finished() - signed(n_parked);
    let mut unread = u64::try_from(left).unwrap_or(0);
    if is_whole_rest {
        unread = n_there;
        let missed = left - signed(n_there);
        let open = read.map_or(missed, |read| {
            signed(added) - signed(read) - signed(n_there)
        });
        let lost = if added == length {
            0
        } else {
            missed.min(open).max(0)
        };
        state.line(stage).lost += u64::try_from(lost).unwrap_or(0);
        // What was booked as lost while the owner had it in hand is applied all the same.
        let over = u64::try_from(-missed).unwrap_or(0);
        let line = state.line(stage);
        line.lost -= over.min(line.lost);
    } else if let Some(read) = read {
        unread = added.saturating_sub(read);
    }
    let group = state.group_mut(stage)?;
    group.set_id(to, Some(added.saturating_sub(unread)));
    Ok(())
}

/// What `prepare` does for a stage whose group is there: the group follows the position, the pending list what is parked;
/// a stage that is owned no longer begins with what was parked as pending.
pub(super) fn prepare(
    state: &mut State,
    stage: &StageLayout,
    mended: &mut Vec<Mended>,
    now: u64,
) -> Result<()> {
    let Some(owned) = state.owned.get(&stage.name).cloned() else {
        return Ok(());
    };
    let Some(position) = owned.position else {
        return Ok(());
    };
    let mut note = |what, detail| {
        mended.push(Mended {
            what,
            stage: Some(stage.name.clone()),
            detail,
        });
    };
    if !stage.owned {
        if !owned.owner.is_empty() && owned.until_ms > now {
            return Err(StoreError::Bug(format!(
                "stage \"{}\" is still owned by {}; stop that daemon before the delivery is changed",
                stage.name, owned.owner
            )));
        }
        let known = state.streams.get(&stage.stream).into_iter();
        let known: Vec<EntryId> = known
            .flat_map(|stream| stream.entries.range(..=position).map(|(id, _)| *id))
            .collect();
        let settled = state.settled.entry(stage.name.clone()).or_default();
        settled.all_but(owned.parked.keys().copied(), known.into_iter());
        state.owned.remove(&stage.name);
        note("stage.shared", "the stage was owned until now".to_owned());
        return Ok(());
    }
    let Ok(group) = state.group(stage).cloned() else {
        return Ok(());
    };
    if group.last_delivered > position {
        let stream = state.streams.get(&stage.stream);
        let (added, n_unread) =
            stream.map_or((0, 0), |s| (s.added, s.after(position).count() as u64));
        state
            .group_mut(stage)?
            .set_id(position, Some(added - n_unread));
        note(
            "group.ahead",
            format!(
                "group \"{}\" had been moved ahead to {} by a foreign reader; set back to {position}",
                stage.group, group.last_delivered
            ),
        );
    }
    let is_right = group.pending.len() == owned.parked.len()
        && group.pending.values().all(|p| p.consumer == PARKED);
    if is_right {
        return Ok(());
    }
    let mut n_mended = 0;
    for id in group
        .pending
        .keys()
        .filter(|id| !owned.parked.contains_key(id))
    {
        state.group_mut(stage)?.pending.remove(id);
        n_mended += 1;
    }
    for id in owned.parked.keys() {
        let is_held = group.pending.get(id).is_some_and(|p| p.consumer == PARKED);
        if !is_held && state.payload(stage, *id).is_some() {
            hold(state, stage, *id, 1, now);
            n_mended += 1;
        }
    }
    if n_mended > 0 {
        note(
            "parked.mended",
            format!(
                "somebody changed the pending list of group \"{}\"",
                stage.group
            ),
        );
    }
    Ok(())
}

/// Who wants the lease that this one holds.
fn asked_by(owned: &Owned, holder: &str, now: u64) -> Option<String> {
    let (next, until_ms) = owned.next.as_ref()?;
    (next != holder && *until_ms > now).then(|| next.clone())
}

/// One owner's hands, or those of who waits to be it.
pub(super) struct Hands {
    pub(super) store: Memory,
    pub(super) stage: usize,
    pub(super) consumer: String,
}

impl Hands {
    pub(super) fn stage(&self) -> Result<&StageLayout> {
        stage_of(&self.store.layout, self.stage)
    }

    fn fetch_now(&self, ids: &[EntryId]) -> Result<Batch> {
        let stage = self.stage()?;
        self.store.shared.change(|state, now| {
            let mut batch = Batch::default();
            for id in ids {
                if state.owned(stage).parked.contains_key(id) {
                    state.hand_over(stage, *id, 0, now, &mut batch)?;
                }
            }
            Ok(batch)
        })
    }
}

#[async_trait]
impl Owner for Hands {
    async fn acquire(&mut self, ttl: Duration) -> Result<Acquired> {
        let stage = self.stage()?;
        self.store
            .shared
            .change(|state, now| acquire(state, stage, &self.consumer, ttl, now))
    }

    async fn ask(&mut self, wish: Wish, ttl: Duration) -> Result<bool> {
        let stage = self.stage()?;
        Ok(self
            .store
            .shared
            .change(|state, now| ask(state, stage, &self.consumer, wish, ttl, now)))
    }

    async fn renew(&mut self, epoch: u64, ttl: Duration) -> Result<Option<Renewed>> {
        let stage = self.stage()?;
        Ok(self.store.shared.change(|state, now| {
            let owned = state.owned(stage);
            if owned.owner != self.consumer || owned.epoch != epoch {
                return None;
            }
            owned.until_ms = now.saturating_add(millis(ttl));
            let due = owned.parked.iter().filter(|(_, due)| **due <= now);
            Some(Renewed {
                position: owned.position,
                n_parked: owned.parked.len() as u64,
                due: due.map(|(id, _)| *id).take(DUE_MAX).collect(),
                asked_by: asked_by(owned, &self.consumer, now),
            })
        }))
    }

    async fn release(&mut self, epoch: u64) -> Result<()> {
        let stage = self.stage()?;
        self.store.shared.change(|state, now| {
            let is_checked = state.guards.on(Guard::LeaseReleased);
            let owned = state.owned(stage);
            if is_checked && (owned.owner != self.consumer || owned.epoch != epoch) {
                return;
            }
            owned.owner.clear();
            owned.until_ms = 0;
            if let Some(next) = asked_by(owned, &self.consumer, now) {
                owned.next = Some((next, now + KEPT_MS));
            }
            if let Ok(group) = state.group_mut(stage)
                && group.held_by(PARKED.as_bytes()).next().is_none()
            {
                group.delete_consumer(PARKED.as_bytes());
            }
        });
        Ok(())
    }

    async fn commit(&mut self, owned: &OwnedCommit) -> Result<OwnedDone> {
        let stage = self.stage()?;
        let layout = &self.store.layout;
        let done = self
            .store
            .shared
            .change(|state, now| commit(state, layout, stage, owned, now))?;
        let loses_reply = |inside: &mut super::Inside| std::mem::take(&mut inside.loses_reply);
        if self.store.shared.look(|inside, _| loses_reply(inside)) {
            return Err(StoreError::Unavailable("the answer was lost".into()));
        }
        Ok(done)
    }

    async fn fetch(&mut self, ids: &[EntryId]) -> Result<Batch> {
        self.fetch_now(ids)
    }

    async fn load_state(&mut self, keys: &[Bytes]) -> Result<Vec<Option<Cell>>> {
        self.load_now(keys)
    }

    async fn due_timers(&mut self, n_max: usize) -> Result<DueTimers> {
        self.due_now(n_max)
    }

    async fn fire(&mut self, firing: &Firing) -> Result<Fired> {
        self.fire_now(firing)
    }
}

/// Follows a stage's input after a position.
pub(super) struct Follower {
    pub(super) hands: Hands,
    pub(super) position: EntryId,
}

#[async_trait]
impl Reader for Follower {
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch> {
        let stage = self.hands.stage()?;
        let parked = |inside: &mut super::Inside| -> Vec<EntryId> {
            let parked = inside.state.owned(stage).parked.keys();
            parked
                .filter(|id| **id > after)
                .take(n_records_max)
                .copied()
                .collect()
        };
        let ids = self.hands.store.shared.look(|inside, _| parked(inside));
        let mut batch = self.hands.fetch_now(&ids)?;
        batch.next = ids.last().copied().filter(|_| ids.len() == n_records_max);
        Ok(batch)
    }

    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch> {
        let deadline = Instant::now() + block;
        loop {
            // Registered before the look, so that an entry added in between wakes it.
            let shared = &self.hands.store.shared;
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let stage = self.hands.stage()?;
            let entries: Vec<Delivered> = shared.look(|inside, _| {
                let stream = inside.state.streams.get(&stage.stream).into_iter();
                let new = stream.flat_map(|stream| stream.after(self.position));
                let new = new.take(n_records_max).map(|(id, fields)| Delivered {
                    record: Record {
                        id,
                        fields: fields.clone(),
                    },
                    ..Delivered::default()
                });
                new.collect()
            });
            if let Some(last) = entries.last() {
                self.position = last.record.id;
            }
            if !entries.is_empty() || timeout_at(deadline, changed).await.is_err() {
                return Ok(Batch {
                    entries,
                    ..Batch::default()
                });
            }
        }
    }
}
