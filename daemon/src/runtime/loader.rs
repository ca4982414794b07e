//! Loads what the operators of a stage need from its lookups, each behind its cache. Shared by the stage's workers.

use std::collections::HashMap;

use bytes::Bytes;
use pipectl_shared::config;

use crate::lookup::Cache;
use crate::operators::{Loaded, Need};
use crate::world::World;

/// The lookups of one stage, in the order of its operators.
pub(super) struct Loader {
    caches: Vec<Cache>,
}

impl Loader {
    /// One cache per lookup operator.
    pub(super) fn new(world: &World, lookups: &[config::Lookup]) -> Self {
        Self {
            caches: lookups
                .iter()
                .map(|lookup| Cache::new((world.lookups)(&lookup.hash), lookup))
                .collect(),
        }
    }

    /// Loads every need, one trip per lookup. Cancel-safe: a dropped load is done again.
    pub(super) async fn load(&self, needs: &[Need]) -> Loaded {
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
            for (key, found) in cache.load_many(&keys).await {
                loaded.values.insert(Need { lookup, key }, found);
            }
        }
        loaded
    }

    /// Every need answered with the same error.
    pub(super) fn failed(needs: &[Need], error: &str) -> Loaded {
        let values: HashMap<_, _> = needs
            .iter()
            .map(|need| (need.clone(), Err(error.to_owned())))
            .collect();
        Loaded { values }
    }
}
