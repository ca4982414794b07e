//! A lookup that is a map in memory, for tests and simulation. It can be told to fail, to be slow, to hang and to lie,
//! and it counts how often it was asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::port::{Answer, Lookup, LookupError};
use crate::record::Fields;

/// Cheap to clone; all clones are one map.
#[derive(Debug, Clone, Default)]
pub struct Fixed(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    profiles: HashMap<Bytes, Arc<Fields>>,
    broken: HashSet<Bytes>,
    failing: Option<String>,
    delay: Duration,
    n_answers_cut: usize,
    calls: Vec<Vec<Bytes>>,
}

impl Fixed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `key` has these fields.
    pub fn set(&self, key: impl Into<Bytes>, fields: Fields) {
        self.state().profiles.insert(key.into(), Arc::new(fields));
    }

    /// From now on there is no such key.
    pub fn remove(&self, key: &[u8]) {
        self.state().profiles.remove(key);
    }

    /// From now on this key alone cannot be read.
    pub fn break_key(&self, key: impl Into<Bytes>) {
        self.state().broken.insert(key.into());
    }

    /// From now on this key can be read again.
    pub fn mend_key(&self, key: &[u8]) {
        self.state().broken.remove(key);
    }

    /// From now on every call fails with this error; `None` = works again.
    pub fn fail(&self, error: Option<&str>) {
        self.state().failing = error.map(str::to_owned);
    }

    /// From now on every call takes this long.
    pub fn slow(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// From now on every call gives this many answers too few: a peer that breaks the contract.
    pub fn cut_answers(&self, n: usize) {
        self.state().n_answers_cut = n;
    }

    /// The keys of every call so far, calls that failed or were dropped included.
    pub fn calls(&self) -> Vec<Vec<Bytes>> {
        self.state().calls.clone()
    }
}

#[async_trait]
impl Lookup for Fixed {
    async fn load(&self, keys: &[Bytes]) -> Result<Vec<Answer>, LookupError> {
        let delay = {
            let mut state = self.state();
            state.calls.push(keys.to_vec());
            state.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let state = self.state();
        if let Some(error) = &state.failing {
            return Err(LookupError(error.clone()));
        }
        let answer = |key: &Bytes| {
            if state.broken.contains(key) {
                return Err(LookupError("the key holds something else".into()));
            }
            Ok(state.profiles.get(key).cloned())
        };
        let n_answers = keys.len().saturating_sub(state.n_answers_cut);
        Ok(keys[..n_answers].iter().map(answer).collect())
    }
}
