//! Everything that the store holds at one instant: streams, counters, ledger lines, id window, sessions, back-offs, dead
//! letters. A plain value; a clone of it is an earlier instant that the meddler can go back to.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::guards::{Guard, Guards};
use super::keyed::Keyed;
use super::stream::{Group, Stream};
use super::window::{Generations, Settled};
use crate::record::{EntryId, Fields};
use crate::store::{
    Batch, DeadRow, Delivered, Layout, Result, StageLayout, StoreError, StreamMark,
};

/// The whole store.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// By key.
    pub(super) streams: BTreeMap<String, Stream>,
    /// Pipeline that claimed the source stream.
    pub(super) owner: Option<String>,
    /// `{S}:counts`, values as text: a third party may write anything into it.
    pub(super) counts: BTreeMap<Bytes, Bytes>,
    /// Session counts.
    pub(super) sessions: Generations<Bytes, i64>,
    /// Event id to entry id.
    pub(super) seen: Generations<[u8; 16], EntryId>,
    /// The ledger, by stage.
    pub(super) lines: BTreeMap<String, Line>,
    /// Entries that our commits added, by output stream.
    pub(super) emitted: BTreeMap<String, u64>,
    /// Duplicates answered at a door.
    pub(super) door_deduplicated: u64,
    /// Refused at a door.
    pub(super) rejected: u64,
    /// Epoch of the source stream, and how far it was when it was last looked at.
    pub(super) epoch: Option<StreamMark>,
    /// How far spools are in, by life.
    pub(super) spools: BTreeMap<u64, u64>,
    /// Failed tries, by stage.
    pub(super) retry: BTreeMap<String, BTreeMap<EntryId, RetryRow>>,
    /// Finished entries, by stage.
    pub(super) settled: BTreeMap<String, Settled>,
    /// Leases, positions and parked entries of owned stages.
    pub(super) owned: BTreeMap<String, Owned>,
    /// Keyed state of owned stages.
    pub(super) keyed: BTreeMap<String, Keyed>,
    /// Dead letters.
    pub(super) dead: BTreeMap<EntryId, DeadRow>,
    /// Last id of the dead-letter stream.
    dead_last: EntryId,
    /// What keeps it right; all on, but in a test of the tests.
    pub(super) guards: Guards,
    /// Daemons that live, with when they are forgotten.
    pub(super) daemons: BTreeMap<String, u64>,
}

/// What is kept of an owned stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Owned {
    /// Who has the lease; empty = nobody.
    pub(super) owner: String,
    /// Grows with every change of hands.
    pub(super) epoch: u64,
    /// When the lease runs out, milliseconds since 1970.
    pub(super) until_ms: u64,
    /// Who asks for the lease, and until when that counts.
    pub(super) next: Option<(String, u64)>,
    /// Who was given the stage by a person.
    pub(super) pin: Option<String>,
    /// Position at which the last owner began, and how many before it did not get past it.
    pub(super) began: Option<EntryId>,
    /// See [`crate::store::Lease::lives`].
    pub(super) lives: u32,
    /// Last applied id; `None` = never owned.
    pub(super) position: Option<EntryId>,
    /// Open entries that wait, with when they are due; the truth, of which the pending list is a picture.
    pub(super) parked: BTreeMap<EntryId, u64>,
}

/// A stage's line in the ledger.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Subtracted from what was added (source stream) or emitted (other streams); `None` = the stage was never prepared.
    pub(super) base: Option<i64>,
    /// `entries-added` when last looked at: a smaller one means that the stream began anew.
    pub(super) added_mark: u64,
    /// By how many more entries were ever added than our commits emitted, when last looked at; it never gets less unless
    /// the stream began anew. Not of the source.
    pub(super) ahead: Option<i64>,
    /// Applied without emitting.
    pub(super) ended: u64,
    /// Applied and emitted.
    pub(super) forwarded: u64,
    /// Ended on purpose.
    pub(super) filtered: u64,
    /// Too late.
    pub(super) late: u64,
    /// Acknowledged by hand.
    pub(super) discarded: u64,
    /// Id seen before.
    pub(super) deduplicated: u64,
    /// Dead-lettered minus redriven.
    pub(super) dead: i64,
    /// Gone before applied.
    pub(super) lost: u64,
    /// Children times readers, minus the parent.
    pub(super) spawned: i64,
    /// Entries redriven into the source stream for this stage: other stages there see them as well.
    pub(super) redriven: u64,
}

impl Line {
    /// Applied here, forwarded ones included.
    pub(super) fn applied(&self) -> u64 {
        self.ended + self.forwarded
    }

    /// Everything that was finished here.
    pub(super) fn finished(&self) -> i64 {
        let sum = self.applied()
            + self.filtered
            + self.late
            + self.discarded
            + self.deduplicated
            + self.lost;
        signed(sum) + self.dead
    }
}

/// What is known of an entry's failed tries.
#[derive(Debug, Clone, Default)]
pub(super) struct RetryRow {
    /// Milliseconds since 1970; 0 = now.
    pub(super) not_before_ms: u64,
    /// Failed tries.
    pub(super) failures: u32,
    /// First read.
    pub(super) first_ms: u64,
    /// Of the last one.
    pub(super) error: String,
}

/// A counter as a signed number; counters stay far below the limit.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Whole milliseconds of a duration.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The answer when stream or group is not there.
pub(super) fn group_gone(stage: &StageLayout) -> StoreError {
    StoreError::GroupGone(format!(
        "no group \"{}\" on stream \"{}\"",
        stage.group, stage.stream
    ))
}

/// The stage with this index.
pub(super) fn stage_of(layout: &Layout, stage: usize) -> Result<&StageLayout> {
    layout
        .stages
        .get(stage)
        .ok_or_else(|| StoreError::Bug(format!("there is no stage {stage}")))
}

impl State {
    /// The stage's group.
    pub(super) fn group(&self, stage: &StageLayout) -> Result<&Group> {
        let group = self
            .streams
            .get(&stage.stream)
            .and_then(|stream| stream.groups.get(&stage.group));
        group.ok_or_else(|| group_gone(stage))
    }

    /// The stage's group, to be changed.
    pub(super) fn group_mut(&mut self, stage: &StageLayout) -> Result<&mut Group> {
        let group = self
            .streams
            .get_mut(&stage.stream)
            .and_then(|stream| stream.groups.get_mut(&stage.group));
        group.ok_or_else(|| group_gone(stage))
    }

    /// The stage's line; made when it is not there.
    pub(super) fn line(&mut self, stage: &StageLayout) -> &mut Line {
        self.lines.entry(stage.name.clone()).or_default()
    }

    /// The payload of an entry of the stage's input.
    pub(super) fn payload(&self, stage: &StageLayout, id: EntryId) -> Option<&Fields> {
        self.streams.get(&stage.stream)?.entries.get(&id)
    }

    /// What is known of failed tries.
    pub(super) fn retry_row(&self, stage: &StageLayout, id: EntryId) -> Option<&RetryRow> {
        self.retry.get(&stage.name)?.get(&id)
    }

    /// Forgets failed tries.
    pub(super) fn forget_retry(&mut self, stage: &StageLayout, id: EntryId) -> Option<RetryRow> {
        self.retry.get_mut(&stage.name)?.remove(&id)
    }

    /// Whether the entry was finished, as far as is known.
    pub(super) fn is_settled(&self, stage: &StageLayout, id: EntryId) -> bool {
        self.settled
            .get(&stage.name)
            .is_some_and(|settled| settled.has(id))
    }

    /// Notes finished entries of one step.
    pub(super) fn settle(&mut self, stage: &StageLayout, ids: &[EntryId]) {
        let oldest = self
            .group(stage)
            .ok()
            .and_then(|group| group.pending.keys().next().copied());
        self.settled
            .entry(stage.name.clone())
            .or_default()
            .add(ids, oldest);
    }

    /// Puts event ids into the window, with the entries that hold them.
    pub(super) fn remember(
        &mut self,
        layout: &Layout,
        fresh: BTreeMap<[u8; 16], EntryId>,
        now: u64,
    ) {
        let Some(dedupe) = layout.dedupe else { return };
        self.seen.turn(
            now,
            millis(dedupe.window) / 2,
            Some(dedupe.max_ids.div_ceil(2)),
        );
        for (event, id) in fresh {
            self.seen.put(event, id);
        }
    }

    /// Adds a dead letter; the row's own id is set here.
    pub(super) fn bury(&mut self, mut row: DeadRow, now: u64) {
        let id = if now > self.dead_last.ms {
            EntryId { ms: now, seq: 0 }
        } else {
            self.dead_last.next()
        };
        self.dead_last = id;
        row.id = id;
        self.dead.insert(id, row);
    }

    /// What is kept of an owned stage; made when it is not there.
    pub(super) fn owned(&mut self, stage: &StageLayout) -> &mut Owned {
        self.owned.entry(stage.name.clone()).or_default()
    }

    /// Books a pending entry whose payload is gone: no longer pending, `lost`, a row that does not count as `dead`.
    pub(super) fn book_lost(&mut self, stage: &StageLayout, id: EntryId, now: u64) -> Result<()> {
        self.group_mut(stage)?.pending.remove(&id);
        if stage.owned && self.owned(stage).parked.remove(&id).is_none() {
            return Ok(());
        }
        self.line(stage).lost += u64::from(self.guards.on(Guard::LostBooked));
        let tried = self.forget_retry(stage, id).unwrap_or_default();
        let row = DeadRow {
            stage: stage.name.clone(),
            origin_stream: stage.stream.clone(),
            origin_id: id,
            cause: "trimmed".into(),
            reason: "trimmed".into(),
            error: "the entry was trimmed or deleted while it was pending".into(),
            tries: tried.failures,
            first_ms: tried.first_ms,
            ..DeadRow::default()
        };
        self.bury(row, now);
        Ok(())
    }

    /// Puts an entry that this consumer now holds into the batch, or books it as lost when its payload is gone.
    pub(super) fn hand_over(
        &mut self,
        stage: &StageLayout,
        id: EntryId,
        deliveries: u64,
        now: u64,
        batch: &mut Batch,
    ) -> Result<()> {
        let Some(fields) = self.payload(stage, id).cloned() else {
            batch.lost.push(id);
            return self.book_lost(stage, id, now);
        };
        let tried = self.retry_row(stage, id).cloned().unwrap_or_default();
        batch.entries.push(Delivered {
            record: crate::record::Record { id, fields },
            failures: tried.failures,
            not_before_ms: tried.not_before_ms,
            deliveries,
            first_ms: tried.first_ms,
        });
        Ok(())
    }
}
