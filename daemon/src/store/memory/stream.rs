//! One stream with its consumer groups, as Redis 7.0 keeps them: `entries-added`, tombstones and the lag included, wrong
//! where Redis is wrong. Knows nothing of stages, ledgers or outcomes; `state.rs` and the meddler build on it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::record::{EntryId, Fields};
use crate::store::Lag;

/// A stream and the groups on it; both go together when the key is deleted.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    /// What is still there.
    pub(super) entries: BTreeMap<EntryId, Fields>,
    /// `last-generated-id`.
    pub(super) last_id: EntryId,
    /// `entries-added`: only grows while the key lives.
    pub(super) added: u64,
    /// `max-deleted-entry-id`: set by deletes, not by trims.
    max_deleted: EntryId,
    /// Ours and third parties'.
    pub(super) groups: BTreeMap<String, Group>,
}

/// A consumer group.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    /// `last-delivered-id`.
    pub(super) last_delivered: EntryId,
    /// `entries-read`; `None` where Redis does not know it.
    pub(super) entries_read: Option<u64>,
    /// Delivered, not acknowledged.
    pub(super) pending: BTreeMap<EntryId, Pending>,
    /// Name and when it last asked.
    pub(super) consumers: BTreeMap<Bytes, u64>,
}

/// One pending entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    /// Who holds it.
    pub(super) consumer: Bytes,
    /// Base of the idle time, milliseconds since 1970.
    pub(super) delivered_ms: u64,
    /// Delivery count.
    pub(super) deliveries: u64,
}

impl Pending {
    /// Milliseconds since it was delivered, claimed or kept.
    pub(super) fn idle_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.delivered_ms)
    }
}

/// What a group has not read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    /// Still there.
    pub(super) lag: Lag,
    /// Gone, and not booked by the janitor yet.
    pub(super) n_gone: u64,
}

impl Stream {
    /// XADD with `*`.
    pub(super) fn add(&mut self, now: u64, fields: Fields) -> EntryId {
        let id = if now > self.last_id.ms {
            EntryId { ms: now, seq: 0 }
        } else {
            self.last_id.next()
        };
        self.entries.insert(id, fields);
        self.last_id = id;
        self.added += 1;
        id
    }

    /// XDEL: leaves a tombstone. Returns how many were there.
    pub(super) fn delete(&mut self, ids: &[EntryId]) -> u64 {
        let mut n_deleted = 0;
        for id in ids {
            if self.entries.remove(id).is_some() {
                self.max_deleted = self.max_deleted.max(*id);
                n_deleted += 1;
            }
        }
        n_deleted
    }

    /// `max-deleted-entry-id`.
    pub(super) fn max_deleted(&self) -> EntryId {
        self.max_deleted
    }

    /// XTRIM MINID: drops what is below. Returns how many.
    pub(super) fn trim_below(&mut self, id: EntryId) -> u64 {
        let kept = self.entries.split_off(&id);
        let trimmed = std::mem::replace(&mut self.entries, kept);
        trimmed.len() as u64
    }

    /// XTRIM MAXLEN: keeps the newest `n_entries`.
    pub(super) fn trim_to(&mut self, n_entries: usize) -> u64 {
        let n_over = self.entries.len().saturating_sub(n_entries);
        for _ in 0..n_over {
            self.entries.pop_first();
        }
        n_over as u64
    }

    /// XGROUP CREATE; does nothing when it is there.
    pub(super) fn create_group(&mut self, name: &str, at: EntryId, entries_read: Option<u64>) {
        self.groups.entry(name.to_owned()).or_insert_with(|| Group {
            last_delivered: at,
            entries_read,
            ..Group::default()
        });
    }

    /// XREADGROUP `>`: hands new entries to the consumer. `None` when the group is gone.
    pub(super) fn read(
        &mut self,
        group: &str,
        consumer: &Bytes,
        n_max: usize,
        now: u64,
    ) -> Option<Vec<(EntryId, Fields)>> {
        let mut taken = self.groups.remove(group)?;
        taken.consumers.insert(consumer.clone(), now);
        let new: Vec<(EntryId, Fields)> = self
            .after(taken.last_delivered)
            .take(n_max)
            .map(|(id, fields)| (id, fields.clone()))
            .collect();
        for (id, _) in &new {
            taken.entries_read = match taken.entries_read {
                Some(n) if !self.has_tombstone_from(*id) => Some(n + 1),
                _ => self.count_at(*id),
            };
            taken.last_delivered = *id;
            let pending = Pending {
                consumer: consumer.clone(),
                delivered_ms: now,
                deliveries: 1,
            };
            taken.pending.insert(*id, pending);
        }
        self.groups.insert(group.to_owned(), taken);
        Some(new)
    }

    /// Entries above this id.
    pub(super) fn after(&self, id: EntryId) -> impl Iterator<Item = (EntryId, &Fields)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.entries
            .range((Excluded(id), Unbounded))
            .map(|(id, fields)| (*id, fields))
    }

    /// How many entries the group has not read, and how many were trimmed or deleted before it read them. Redis' own lag is
    /// wrong for ever after unread entries were trimmed, and absent after unread ones were deleted (semantics.md section
    /// 3); both are mended here as the Redis store mends them. `left` is what the ledger says must be unread.
    pub(super) fn unread(&self, group: &Group, left: i64) -> Unread {
        if let Some(n) = self.known_unread(group) {
            return Unread {
                lag: Lag::Known(n),
                n_gone: self.gone(group, n, left),
            };
        }
        let lag = match (self.lag(group), u64::try_from(left)) {
            (Some(n), _) => Lag::Known(n),
            (None, Ok(left)) => Lag::Estimate(left),
            (None, Err(_)) => Lag::Unknown,
        };
        Unread { lag, n_gone: 0 }
    }

    /// Of `n_unread` entries still there, how many are missing: what both the ledger and the server's count of what was read
    /// miss. The ledger alone would take a foreign acknowledgement for a loss; the server alone forgets its count at times.
    fn gone(&self, group: &Group, n_unread: u64, left: i64) -> u64 {
        // From a stream that nothing was taken out of nothing is lost: somebody moved the group over what it skipped.
        if self.added == self.entries.len() as u64 {
            return 0;
        }
        let by_ledger = u64::try_from(left).unwrap_or(0);
        let by_server = group
            .entries_read
            .map(|read| self.added.saturating_sub(read));
        by_server
            .map_or(by_ledger, |open| open.min(by_ledger))
            .saturating_sub(n_unread)
    }

    /// How many entries above the last delivered one are there, where that can be told without counting: when none is, or
    /// when all that are in the stream are.
    fn known_unread(&self, group: &Group) -> Option<u64> {
        let Some((first_unread, _)) = self.after(group.last_delivered).next() else {
            return Some(0);
        };
        let (first, _) = self.entries.first_key_value()?;
        (*first == first_unread).then_some(self.entries.len() as u64)
    }

    /// Mends the count of what the group has read where entries went unread; returns how many those were.
    pub(super) fn heal(&mut self, name: &str, left: i64) -> u64 {
        let Some(group) = self.groups.get(name) else {
            return 0;
        };
        let count = || self.after(group.last_delivered).count() as u64;
        let n_unread = self
            .known_unread(group)
            .or_else(|| (self.lag(group) != Some(0)).then(count));
        let Some(n_unread) = n_unread else { return 0 };
        let n_gone = self.gone(group, n_unread, left);
        let read = Some(self.added - n_unread);
        if let Some(group) = self.groups.get_mut(name) {
            group.entries_read = read;
        }
        n_gone
    }

    /// `lag` as XINFO GROUPS of Redis 7.0 tells it.
    pub(super) fn lag(&self, group: &Group) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        let read = match group.entries_read {
            Some(n) if !self.has_tombstone_from(group.last_delivered) => n,
            _ => self.count_at(group.last_delivered)?,
        };
        Some(self.added.saturating_sub(read))
    }

    /// Whether something at or after this id was deleted, as the server tells it (`streamRangeHasTombstones`): it forgets
    /// tombstones below its first entry.
    fn has_tombstone_from(&self, id: EntryId) -> bool {
        let first = self.entries.first_key_value().map(|(first, _)| *first);
        first.is_some_and(|first| first <= self.max_deleted) && id <= self.max_deleted
    }

    /// How many entries were ever added up to this id (`streamEstimateDistanceFromFirstEverEntry`); `None` where Redis
    /// cannot tell.
    fn count_at(&self, id: EntryId) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        let Some((first, _)) = self.entries.first_key_value() else {
            return (id <= self.last_id).then_some(self.added);
        };
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.added);
        }
        if self.max_deleted != EntryId::MIN && self.max_deleted >= *first {
            return None;
        }
        let gone = self.added - self.entries.len() as u64;
        match id.cmp(first) {
            std::cmp::Ordering::Less => Some(gone),
            std::cmp::Ordering::Equal => Some(gone + 1),
            std::cmp::Ordering::Greater => None,
        }
    }
}

impl Group {
    /// XGROUP SETID.
    pub(super) fn set_id(&mut self, id: EntryId, entries_read: Option<u64>) {
        self.last_delivered = id;
        self.entries_read = entries_read;
    }

    /// XCLAIM of one pending entry: a new holder, idle 0, one more delivery. Returns the delivery count.
    pub(super) fn claim(&mut self, id: EntryId, consumer: &Bytes, now: u64) -> Option<u64> {
        self.consumers.insert(consumer.clone(), now);
        let pending = self.pending.get_mut(&id)?;
        pending.consumer = consumer.clone();
        pending.delivered_ms = now;
        pending.deliveries += 1;
        Some(pending.deliveries)
    }

    /// Pending ids of one consumer.
    pub(super) fn held_by(&self, consumer: &[u8]) -> impl Iterator<Item = EntryId> {
        self.pending
            .iter()
            .filter(move |(_, p)| p.consumer == consumer)
            .map(|(id, _)| *id)
    }

    /// XGROUP DELCONSUMER: drops what it holds. Returns how many.
    pub(super) fn delete_consumer(&mut self, consumer: &[u8]) -> u64 {
        self.consumers.remove(consumer);
        let n_before = self.pending.len();
        self.pending.retain(|_, p| p.consumer != consumer);
        (n_before - self.pending.len()) as u64
    }
}
