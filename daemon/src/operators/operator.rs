//! The operator contract: a pure function from record (and what was loaded for it) to effects.
//!
//! Operators know no Redis, no clock, no tokio. What they need from outside they name in `needs`; the worker loads it
//! (through `lookup`, with its cache) before `apply`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pipectl_shared::config;

use crate::effect::{Effects, Flow, Kept};
use crate::record::{Fields, Record};

/// One operator of a chain, shared by all workers of its stage.
pub trait Operator: Send + Sync {
    /// Its `kind` in the configuration.
    fn kind(&self) -> &'static str;

    /// Names what must be loaded before `apply`; most operators need nothing.
    fn needs(&self, _record: &Record, _needs: &mut Vec<Need>) {}

    /// Names the state keys that `apply` reads or changes for this record, each `<name of its state>:<key>`; most operators
    /// keep nothing. Only in owned stages, and the record is as the stage reads it.
    fn state_keys(&self, _record: &Record, _keys: &mut Vec<Bytes>) {}

    /// Name of its keyed state; `None` = it keeps none.
    fn state_name(&self) -> Option<&str> {
        None
    }

    /// The timer of one of its state keys is due; `state` is what is kept under the key. May ask for state and timers only.
    fn on_timer(&self, _key: &Bytes, _state: Option<&Bytes>, _kept: &mut Kept) {}

    /// The work. May change the record for the next operator. Must not panic; a panic is caught by the worker and is a
    /// failed try of this record alone.
    fn apply(&self, record: &mut Record, loaded: &Loaded, effects: &mut Effects) -> Flow;
}

/// Something to be loaded: a key of the lookup with this index (`Setup::lookup` of the operator).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Need {
    /// Which lookup of the stage.
    pub lookup: usize,
    /// The key, as it stands in the record.
    pub key: Bytes,
}

/// What was loaded for a batch.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// By need. `Ok(None)` = there is no such key; `Err` = this key cannot be read and no old value may be used.
    pub values: HashMap<Need, Result<Option<Arc<Fields>>, String>>,
    /// Lookups that do not answer, with why, by [`Need::lookup`]. What of theirs no memory answers is not in `values`.
    pub away: HashMap<usize, String>,
    /// Keyed state as earlier records of the batch have left it; `None` = there is nothing under this key.
    pub state: HashMap<Bytes, Option<Bytes>>,
}

/// What an operator is built from.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// Its own part of the configuration.
    pub operator: &'a config::Operator,
    /// Field roles.
    pub event: &'a config::Event,
    /// Index of this operator's lookup within the stage, when it has one.
    pub lookup: usize,
}

/// One item of the gallery.
pub struct Kind {
    /// `kind` in the configuration.
    pub name: &'static str,
    /// One sentence for `--help` and the docs.
    pub summary: &'static str,
    /// Builds it; the configuration was checked before. `None` when the setup is of another kind.
    pub build: fn(&Setup<'_>) -> Option<Arc<dyn Operator>>,
}
