//! Which parked entries of an owned stage wait for what: the heads of their keys for a time, their followers for them.
//!
//! A plain table without I/O or clocks, of ids and key hashes only; the truth is in the store. Used by `owned`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::record::EntryId;

/// Parked entries of one key at most.
pub(super) const OF_A_KEY_MAX: usize = 1_000;
/// Parked entries of the stage at most.
pub(super) const ALL_MAX: usize = 10_000;

/// One parked entry.
#[derive(Debug, Clone, Copy)]
struct Parked {
    /// Hash of its key; `None` = it has none, and nothing waits behind it.
    key: Option<u64>,
    /// Milliseconds since 1970; counts once it is the head of its key.
    due_ms: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Parking {
    entries: BTreeMap<EntryId, Parked>,
    keys: HashMap<u64, BTreeSet<EntryId>>,
    /// Heads by when they are due.
    due: BTreeSet<(u64, EntryId)>,
}

impl Parking {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn key(&self, id: EntryId) -> Option<u64> {
        self.entries.get(&id)?.key
    }

    /// Whether an entry of this key that was read later must wait.
    pub(super) fn blocks(&self, key: Option<u64>) -> bool {
        key.is_some_and(|key| self.keys.contains_key(&key))
    }

    /// Whether one more of this key may be parked, beside `n_more` (of them `n_of_key` of the key) that will be.
    pub(super) fn has_room(&self, key: Option<u64>, n_more: usize, n_of_key: usize) -> bool {
        let of_key = key
            .and_then(|key| self.keys.get(&key))
            .map_or(0, BTreeSet::len);
        self.entries.len() + n_more < ALL_MAX && (key.is_none() || of_key + n_of_key < OF_A_KEY_MAX)
    }

    /// Parks an entry, or changes when it is due.
    pub(super) fn insert(&mut self, id: EntryId, key: Option<u64>, due_ms: u64) {
        self.remove(id);
        if let Some(key) = key {
            let line = self.keys.entry(key).or_default();
            if let Some(head) = line.first() {
                self.due.remove(&(self.entries[head].due_ms, *head));
            }
            line.insert(id);
        }
        self.entries.insert(id, Parked { key, due_ms });
        self.show_head(id, key);
    }

    /// Forgets an entry; the next of its key becomes the head.
    pub(super) fn remove(&mut self, id: EntryId) {
        let Some(parked) = self.entries.remove(&id) else {
            return;
        };
        self.due.remove(&(parked.due_ms, id));
        let Some(key) = parked.key else { return };
        let Some(line) = self.keys.get_mut(&key) else {
            return;
        };
        line.remove(&id);
        match line.first().copied() {
            None => {
                self.keys.remove(&key);
            }
            Some(head) => self.show_head(head, Some(key)),
        }
    }

    fn show_head(&mut self, id: EntryId, key: Option<u64>) {
        let line = key.and_then(|key| self.keys.get(&key));
        let head = line.and_then(|line| line.first().copied()).unwrap_or(id);
        if let Some(parked) = self.entries.get(&head) {
            self.due.insert((parked.due_ms, head));
        }
    }

    /// Makes an entry due at once if it is the head of its key.
    pub(super) fn hurry(&mut self, id: EntryId) {
        let Some(parked) = self.entries.get(&id).copied() else {
            return;
        };
        if self.due.contains(&(parked.due_ms, id)) && parked.due_ms > 0 {
            self.insert(id, parked.key, 0);
        }
    }

    /// When the next head is due, milliseconds since 1970.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Heads that are due, each with the followers that go on after it; those of one key in order.
    pub(super) fn due(&self, now_ms: u64, n_max: usize) -> Vec<EntryId> {
        let mut ids = Vec::new();
        for (_, head) in self.due.range(..=(now_ms, EntryId::MAX)) {
            if ids.len() >= n_max {
                break;
            }
            let line = self.key(*head).and_then(|key| self.keys.get(&key));
            match line {
                None => ids.push(*head),
                Some(line) => ids.extend(line.iter().take(n_max - ids.len())),
            }
        }
        ids
    }

    /// Of these, what can be tried now: each head, and its followers as far as they are named without a gap.
    pub(super) fn reach(&self, wanted: &[EntryId]) -> Vec<EntryId> {
        let wanted: BTreeSet<EntryId> = wanted.iter().copied().collect();
        let mut ids = Vec::new();
        for id in &wanted {
            let Some(parked) = self.entries.get(id) else {
                continue;
            };
            match parked.key.and_then(|key| self.keys.get(&key)) {
                None => ids.push(*id),
                Some(line) if line.first() == Some(id) => {
                    ids.extend(line.iter().take_while(|id| wanted.contains(id)));
                }
                Some(_) => {}
            }
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EntryId {
        EntryId { ms: n, seq: 0 }
    }

    #[test]
    fn followers_wait_for_the_head_of_their_key_and_go_on_in_order() {
        let mut parking = Parking::default();
        parking.insert(id(1), Some(7), 100);
        for n in [3, 2] {
            parking.insert(id(n), Some(7), 0);
        }
        parking.insert(id(4), None, 50);
        assert_eq!(
            (parking.blocks(Some(7)), parking.blocks(Some(8))),
            (true, false)
        );
        assert_eq!(parking.next_due_ms(), Some(50));
        assert_eq!(parking.due(60, 9), [id(4)]);
        assert_eq!(parking.due(100, 9), [id(4), id(1), id(2), id(3)]);
        parking.remove(id(1));
        assert_eq!(parking.due(0, 9), [id(2), id(3)]);
        parking.insert(id(2), Some(7), 500);
        assert_eq!(
            parking.due(499, 9),
            [id(4)],
            "the next try of a head holds its followers"
        );
        parking.remove(id(2));
        parking.remove(id(3));
        assert!(!parking.blocks(Some(7)));
    }

    #[test]
    fn a_claim_reaches_heads_and_the_followers_named_with_them() {
        let mut parking = Parking::default();
        for n in 1..=4 {
            parking.insert(id(n), Some(7), 100);
        }
        parking.insert(id(9), None, 100);
        assert_eq!(
            parking.reach(&[id(9), id(4), id(2), id(1)]),
            [id(1), id(2), id(9)]
        );
        assert_eq!(parking.reach(&[id(2)]), []);
    }

    #[test]
    fn the_limits_are_per_key_and_for_all() {
        let mut parking = Parking::default();
        for n in 0..OF_A_KEY_MAX as u64 - 1 {
            parking.insert(id(n), Some(7), 0);
        }
        assert!(parking.has_room(Some(7), 0, 0));
        assert!(!parking.has_room(Some(7), 1, 1));
        assert!(parking.has_room(Some(8), 1, 0));
        assert!(!parking.has_room(None, ALL_MAX - OF_A_KEY_MAX + 1, 0));
    }
}
