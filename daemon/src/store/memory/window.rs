//! Two generations that are swapped: what is kept at least half of the time and at most all of it, without a timer per
//! item. Used for the id window and for sessions. The settled mark, which also forgets, lives here, too.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::EntryId;

/// A map that forgets by generations.
#[derive(Debug, Clone)]
pub(super) struct Generations<K, V> {
    current: BTreeMap<K, V>,
    older: BTreeMap<K, V>,
    since_ms: u64,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self {
            current: BTreeMap::new(),
            older: BTreeMap::new(),
            since_ms: 0,
        }
    }
}

impl<K: Ord, V> Generations<K, V> {
    /// Where it is known, in either generation.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.current.get(key).or_else(|| self.older.get(key))
    }

    /// Takes it out of both.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        let older = self.older.remove(key);
        self.current.remove(key).or(older)
    }

    /// Writes into the current generation.
    pub(super) fn put(&mut self, key: K, value: V) {
        self.current.insert(key, value);
    }

    /// Begins a new generation when the current one is older than `max_age_ms` or holds `n_max` items.
    pub(super) fn turn(&mut self, now: u64, max_age_ms: u64, n_max: Option<u64>) {
        let is_full = n_max.is_some_and(|n| self.current.len() as u64 >= n);
        if now.saturating_sub(self.since_ms) > max_age_ms || is_full {
            self.older = std::mem::take(&mut self.current);
            self.since_ms = now;
        }
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.current.len()
            + self
                .older
                .keys()
                .filter(|key| !self.current.contains_key(*key))
                .count()
    }
}

/// Which delivered entries of a stage are finished. It outlives the consumer group: an entry that comes again after the
/// group was reset or re-created is recognised by it (engine.md section 4, hole 5).
#[derive(Debug, Clone, Default)]
pub(super) struct Settled {
    /// Every delivered id below this is settled; `None` = nothing ever was.
    pub(super) low: Option<EntryId>,
    /// Settled ids from `low` on.
    above: BTreeSet<EntryId>,
}

impl Settled {
    /// Whether this id was settled.
    pub(super) fn has(&self, id: EntryId) -> bool {
        self.low.is_some_and(|low| id < low) || self.above.contains(&id)
    }

    /// Everything up to this id is settled: the position of an owned stage.
    pub(super) fn up_to(&mut self, position: EntryId) {
        self.low = Some(position.next());
        self.above.clear();
    }

    /// A stage that was owned is shared: of all up to `position` only these are open.
    pub(super) fn all_but(
        &mut self,
        parked: impl Iterator<Item = EntryId>,
        known: impl Iterator<Item = EntryId>,
    ) {
        let open: BTreeSet<EntryId> = parked.collect();
        let Some(first) = open.first() else { return };
        self.low = Some(*first);
        self.above = known
            .filter(|id| id > first && !open.contains(id))
            .collect();
    }

    /// Notes what a commit settled and moves `low` up to the oldest entry still pending. With nothing pending it moves past
    /// the last entry settled, not past the last of the commit: after a group was re-created a commit from before may name
    /// entries that are not delivered again yet.
    pub(super) fn add(&mut self, ids: &[EntryId], oldest_pending: Option<EntryId>) {
        let Some(last) = ids.iter().max() else { return };
        self.above.extend(ids);
        let mark = oldest_pending.unwrap_or(last.next());
        if self.low.is_none_or(|low| low < mark) {
            self.low = Some(mark);
            self.above = self.above.split_off(&mark);
        }
    }
}
