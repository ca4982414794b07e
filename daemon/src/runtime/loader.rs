//! Loads what the operators of a stage need from its lookups, each behind its cache. Shared by the stage's workers.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pipectl_shared::config;

use crate::chaos::FaultBoard;
use crate::lookup::{Cache, Unknown};
use crate::operators::{Loaded, Need};
use crate::world::World;

/// The lookups of one stage, in the order of its operators.
pub(super) struct Loader {
    caches: Vec<Cache>,
    faults: FaultBoard,
    /// The last order to empty the caches that was obeyed.
    flushed: AtomicU64,
}

impl Loader {
    /// One cache per lookup operator.
    pub(super) fn new(world: &World, lookups: &[config::Lookup]) -> Self {
        Self {
            caches: lookups
                .iter()
                .map(|lookup| Cache::new((world.lookups)(&lookup.hash), lookup))
                .collect(),
            faults: world.faults.clone(),
            flushed: AtomicU64::new(world.faults.flushes()),
        }
    }

    /// Loads every need, one trip per lookup; `again` for records that were tried before. Cancel-safe: a dropped load is
    /// done again.
    pub(super) async fn load(&self, needs: &[Need], again: bool) -> Loaded {
        self.obey_flush();
        let mut loaded = Loaded::default();
        for (lookup, cache) in self.caches.iter().enumerate() {
            let mut keys: Vec<Bytes> = needs
                .iter()
                .filter(|need| need.lookup == lookup)
                .map(|need| need.key.clone())
                .collect();
            keys.sort_unstable();
            keys.dedup();
            if keys.is_empty() {
                continue;
            }
            let found = if again {
                cache.load_again(&keys).await
            } else {
                cache.load_many(&keys).await
            };
            for (key, found) in found {
                let value = match found {
                    Ok(value) => Ok(value),
                    Err(Unknown::Key(error)) => Err(error),
                    Err(Unknown::Away(why)) => {
                        loaded.away.insert(lookup, why);
                        continue;
                    }
                };
                loaded.values.insert(Need { lookup, key }, value);
            }
        }
        loaded
    }

    /// Empties the caches where that was ordered since the last load; of several workers one does it.
    fn obey_flush(&self) {
        let ordered = self.faults.flushes();
        if self.flushed.load(Ordering::Relaxed) == ordered
            || self.flushed.swap(ordered, Ordering::Relaxed) == ordered
        {
            return;
        }
        for cache in &self.caches {
            if cache.empty() {
                self.faults.count_flushed();
            }
        }
    }

    /// What is known when no lookup has answered.
    pub(super) fn away(needs: &[Need], why: &str) -> Loaded {
        let lookups = needs.iter().map(|need| (need.lookup, why.to_owned()));
        Loaded {
            away: lookups.collect(),
            ..Loaded::default()
        }
    }
}
