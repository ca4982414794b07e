//! Keyed state under one lease: what is known of it, what the records of a batch make of it, and the part of the commit.
//!
//! A plain table and a cache without clocks; the truth is in the store, and every commit says which versions it was made
//! from. It lives as long as the lease: whoever loses that, or the position, begins with an empty one. Used by `owned`.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::super::chain::{Chain, Ended};
use crate::effect::{Change, Kept, Timer};
use crate::operators::Loaded;
use crate::record::{EntryId, Record};
use crate::store::{Cell, Code, KEYS_MAX, Owner, Result, Settle, StateCommit};

/// Bytes of state that are kept in memory between batches, for each stage that this daemon owns.
const CACHE_BYTES: usize = 32 << 20;
/// Bytes of state that one batch may load; a batch that needs more is worked in parts.
const BATCH_BYTES: usize = 16 << 20;
/// What a cached key costs beside its bytes: two handles, the version's own allocation, its place in the table.
const CELL_COST: usize = 200;

/// State of one lease.
pub(super) struct Keyed {
    epoch: u64,
    /// Numbers the commits of this lease: with the epoch it makes versions that no other commit has.
    n_commits: u64,
    cache: Cache,
    /// As it was read, of every key that the batch may need.
    read: HashMap<Bytes, Option<Cell>>,
    /// Keys that records of this part depend on, and what they made of them. Ordered, so that the same records give the
    /// same commit.
    part: BTreeMap<Bytes, Option<Change>>,
    timers: BTreeMap<Bytes, Timer>,
    /// Records that depend on them.
    touched: HashSet<EntryId>,
    /// Bytes of what the part has read and written.
    bytes: u64,
    /// Records that an answer of the store has called duplicates and that are not settled yet; at most those of a batch
    /// and what is parked.
    duplicates: HashSet<EntryId>,
}

impl Keyed {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            n_commits: 0,
            cache: Cache::of(CACHE_BYTES),
            read: HashMap::new(),
            part: BTreeMap::new(),
            timers: BTreeMap::new(),
            touched: HashSet::new(),
            bytes: 0,
            duplicates: HashSet::new(),
        }
    }

    /// Begins a part: loads what its records need into `loaded`. Returns how many of the records can be worked with it,
    /// at least one where there is one. Cancel-safe.
    pub(super) async fn load(
        &mut self,
        chain: &Chain,
        owner: &mut dyn Owner,
        records: impl Iterator<Item = &Record>,
        loaded: &mut Loaded,
    ) -> Result<usize> {
        self.begin();
        loaded.state.clear();
        if !chain.keeps_state() {
            return Ok(records.count());
        }
        let (mut keys, mut ends) = (Vec::new(), Vec::new());
        for record in records {
            chain.state_keys(record, &mut keys);
            ends.push(keys.len());
        }
        let n_least = ends.first().copied().unwrap_or(0);
        let n_known = self.find(owner, &keys, n_least).await?;
        for (key, cell) in &self.read {
            let value = cell.as_ref().map(|cell| cell.value.clone());
            loaded.state.insert(key.clone(), value);
        }
        Ok(ends.iter().take_while(|end| **end <= n_known).count())
    }

    /// Finds these keys in the cache or the store and puts them into `read`: as many of the first as fit, at least
    /// `n_least`. Returns how many.
    async fn find(
        &mut self,
        owner: &mut dyn Owner,
        keys: &[Bytes],
        n_least: usize,
    ) -> Result<usize> {
        let mut missing: Vec<(usize, Bytes)> = Vec::new();
        let (mut size, mut n_known) = (0, keys.len());
        for (at, key) in keys.iter().enumerate() {
            if self.read.contains_key(key) {
                continue;
            }
            if size > BATCH_BYTES && at >= n_least {
                n_known = at;
                break;
            }
            let known = self.cache.get(key);
            size += known.as_ref().map_or(0, cost);
            if known.is_none() {
                missing.push((at, key.clone()));
            }
            // What is missing holds its place, so that no key is asked for twice.
            self.read.insert(key.clone(), known.flatten());
        }
        let mut rest = &missing[..];
        while let Some((at, _)) = rest.first() {
            if size > BATCH_BYTES && *at >= n_least {
                for (_, key) in rest {
                    self.read.remove(key);
                }
                return Ok(*at);
            }
            let asked: Vec<Bytes> = rest.iter().take(KEYS_MAX).map(|(_, k)| k.clone()).collect();
            let found = owner.load_state(&asked).await?;
            let n_found = found.len().min(asked.len());
            for (key, cell) in asked.into_iter().zip(found) {
                size += cost(&cell);
                self.cache.put(key.clone(), cell.clone());
                self.read.insert(key, cell);
            }
            rest = &rest[n_found..];
        }
        Ok(n_known)
    }

    fn begin(&mut self) {
        self.read.clear();
        self.part.clear();
        self.timers.clear();
        self.touched.clear();
        self.bytes = 0;
    }

    /// Runs a record; later ones see what it made of its keys, unless it failed.
    pub(super) fn run(&mut self, chain: &Chain, record: &Record, loaded: &mut Loaded) -> Ended {
        if !chain.keeps_state() {
            return chain.run(record, loaded);
        }
        let mut kept = Kept::default();
        let ended = chain.run_keeping(record, loaded, &mut kept);
        if matches!(ended, Ended::Failed(_)) {
            return ended;
        }
        let mut keys = Vec::new();
        chain.state_keys(record, &mut keys);
        if !keys.is_empty() {
            self.touched.insert(record.id);
        }
        for key in keys {
            self.depend(key);
        }
        for (key, change) in &kept.state {
            let value = match change {
                Change::Set(value) => Some(value.clone()),
                Change::Forget => None,
            };
            loaded.state.insert(key.clone(), value);
        }
        self.keep(kept);
        ended
    }

    fn depend(&mut self, key: Bytes) {
        if !self.part.contains_key(&key) {
            let size = key.len() + self.read.get(&key).map_or(0, cost);
            self.bytes += size as u64;
            self.part.insert(key, None);
        }
    }

    fn keep(&mut self, kept: Kept) {
        for (key, change) in kept.state {
            if let Change::Set(value) = &change {
                self.bytes += (key.len() + value.len()) as u64;
            }
            self.part.insert(key, Some(change));
        }
        self.timers.extend(kept.timers);
    }

    /// Bytes of state that the part adds to its commit, at most.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the store has said that this one is a duplicate.
    pub(super) fn is_duplicate(&self, id: EntryId) -> bool {
        self.duplicates.contains(&id)
    }

    /// The part of a commit of these entries; `None` = none of them depends on state.
    pub(super) fn commit(&mut self, entries: &[Settle]) -> Option<StateCommit> {
        if self.part.is_empty() && self.timers.is_empty() {
            return None;
        }
        let by = entries.iter().enumerate();
        let by = by.filter(|(_, entry)| self.touched.contains(&entry.id));
        let by = by.map(|(i, _)| i).collect();
        Some(self.state_commit(by))
    }

    fn state_commit(&mut self, by: Vec<usize>) -> StateCommit {
        self.n_commits += 1;
        let version_of = |key: &Bytes| {
            let cell = self.read.get(key).and_then(Option::as_ref);
            cell.map(|cell| cell.version.clone())
        };
        let changes = self.part.iter();
        StateCommit {
            version: format!("{}-{}", self.epoch, self.n_commits).into(),
            expected: self
                .part
                .keys()
                .map(|k| (k.clone(), version_of(k)))
                .collect(),
            writes: changes
                .filter_map(|(key, change)| Some((key.clone(), change.clone()?)))
                .collect(),
            timers: std::mem::take(&mut self.timers).into_iter().collect(),
            by,
        }
    }

    /// The commit happened.
    pub(super) fn done(&mut self, commit: Option<&StateCommit>) {
        for (key, change) in commit.into_iter().flat_map(|commit| &commit.writes) {
            let cell = match change {
                Change::Set(value) => commit.map(|commit| Cell {
                    version: commit.version.clone(),
                    value: value.clone(),
                }),
                Change::Forget => None,
            };
            self.cache.put(key.clone(), cell);
        }
        self.begin();
    }

    /// These entries are settled or parked: nothing has to be known of them any more.
    pub(super) fn settled(&mut self, entries: &[Settle]) {
        if !self.duplicates.is_empty() {
            for entry in entries {
                self.duplicates.remove(&entry.id);
            }
        }
    }

    /// The commit was refused, because these of its entries would have fallen out; they are told from the rest when it is
    /// worked again. What it read may be old: an earlier try of it may have gone through.
    pub(super) fn again(&mut self, told: &[(usize, Code)], entries: &[Settle]) {
        let named = told.iter().filter(|(_, code)| *code == Code::Duplicate);
        let named = named.filter_map(|(i, _)| entries.get(*i));
        self.duplicates.extend(named.map(|entry| entry.id));
        self.forget();
    }

    /// What the part has read is not believed any more.
    pub(super) fn forget(&mut self) {
        for key in self.part.keys() {
            self.cache.remove(key);
        }
        self.begin();
    }

    /// Begins a commit of timers: runs them on what is kept. Returns its state, how many of the timers it takes, those
    /// whose operator is not there any more, and what operators said that panicked.
    pub(super) async fn fire(
        &mut self,
        chain: &Chain,
        owner: &mut dyn Owner,
        due: &[(Bytes, u64)],
    ) -> Result<Rung> {
        self.begin();
        let keys: Vec<Bytes> = due.iter().map(|(key, _)| key.clone()).collect();
        let n_taken = self.find(owner, &keys, 1).await?;
        let mut rung = Rung {
            n_taken,
            ..Rung::default()
        };
        for key in &keys[..n_taken] {
            let cell = self.read.get(key).and_then(Option::as_ref);
            let kept = chain.on_timer(key, cell.map(|cell| &cell.value));
            match kept {
                Some(Ok(kept)) => {
                    self.depend(key.clone());
                    self.keep(kept);
                }
                Some(Err(why)) => {
                    self.timers.insert(key.clone(), Timer::After(PANIC_WAIT));
                    rung.panic = Some(why);
                }
                None => {
                    rung.n_gone += 1;
                    rung.gone = Some(key.clone());
                }
            }
        }
        rung.state = self.state_commit(Vec::new());
        Ok(rung)
    }
}

/// Before a timer whose operator panicked is tried again.
const PANIC_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// What due timers came to.
#[derive(Default)]
pub(super) struct Rung {
    pub(super) state: StateCommit,
    pub(super) n_taken: usize,
    /// How many have no operator any more, and one of them.
    pub(super) n_gone: usize,
    pub(super) gone: Option<Bytes>,
    /// What an operator said that panicked.
    pub(super) panic: Option<String>,
}

fn cost(cell: &Option<Cell>) -> usize {
    cell.as_ref().map_or(0, |cell| cell.value.len()) + CELL_COST
}

/// What was read or written last, bounded in bytes: two generations, the older one dropped whole when the younger is half
/// of what is allowed. Keys that are not there are remembered as well.
struct Cache {
    half: usize,
    size: usize,
    young: HashMap<Bytes, Option<Cell>>,
    old: HashMap<Bytes, Option<Cell>>,
}

impl Cache {
    fn of(bytes: usize) -> Self {
        Self {
            half: bytes / 2,
            size: 0,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// `None` = not known.
    fn get(&mut self, key: &Bytes) -> Option<Option<Cell>> {
        if let Some(cell) = self.young.get(key) {
            return Some(cell.clone());
        }
        let (key, cell) = self.old.remove_entry(key)?;
        self.put(key, cell.clone());
        Some(cell)
    }

    fn put(&mut self, key: Bytes, cell: Option<Cell>) {
        self.remove(&key);
        self.size += key.len() + cost(&cell);
        self.young.insert(key, cell);
        if self.size > self.half {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(cell) = self.young.remove(key) {
            self.size -= key.len() + cost(&cell);
        }
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests;
