//! `count`: writes the running number of records of a key into the record, and keeps it as keyed state.
//!
//! State: `<into>:<key>` -> the number, as decimal text. With `forget_after` each record sets the key's timer anew; when
//! it fires the key is forgotten, and its next record is number 1 again. Time is the server's clock, not the event's.
//!
//! A record without the key field, or with an empty key, goes on unchanged and is not counted. A key of over 256 bytes is
//! kept under its beginning and a hash. The number counts records that reached this operator and did not fail later in
//! the chain; one that a later operator of the chain filters is counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::config;

use super::names::Names;
use super::operator::{Kind, Loaded, Operator, Setup};
use super::quote::quoted;
use crate::effect::{Change, Class, Effects, Failure, Flow, Kept, Timer};
use crate::record::Record;

pub(super) const KIND: Kind = Kind {
    name: "count",
    summary: "Writes the running number of records of a key into the record; needs an owned stage.",
    build,
};

fn build(setup: &Setup<'_>) -> Option<Arc<dyn Operator>> {
    let config::Operator::Count(config) = setup.operator else {
        return None;
    };
    Some(Arc::new(Count {
        key: config.key.clone(),
        into: Bytes::from(config.into.clone()),
        name: config.into.clone(),
        names: Names::new(&format!("{}:", config.into), ""),
        forget_after: Some(config.forget_after).filter(|after| !after.is_zero()),
    }))
}

struct Count {
    key: String,
    into: Bytes,
    /// The same as text.
    name: String,
    names: Names,
    forget_after: Option<Duration>,
}

impl Count {
    fn state_key(&self, record: &Record) -> Option<Bytes> {
        let key = record.get(self.key.as_bytes())?;
        (!key.is_empty()).then(|| self.names.of(key))
    }
}

fn failed(class: Class, key: &Bytes, why: &str) -> Flow {
    Flow::Failed(Failure {
        class,
        reason: "state_unreadable",
        error: format!("state {}: {why}", quoted(key)),
    })
}

impl Operator for Count {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn state_name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn state_keys(&self, record: &Record, keys: &mut Vec<Bytes>) {
        keys.extend(self.state_key(record));
    }

    fn apply(&self, record: &mut Record, loaded: &Loaded, effects: &mut Effects) -> Flow {
        let Some(key) = self.state_key(record) else {
            return Flow::Next;
        };
        let before = match loaded.state.get(&key) {
            Some(None) => 0,
            Some(Some(text)) => {
                let number = std::str::from_utf8(text).ok();
                match number.and_then(|text| text.parse::<u64>().ok()) {
                    Some(number) => number,
                    None => return failed(Class::Reject, &key, "what is kept is no number"),
                }
            }
            None => return failed(Class::Retry, &key, "it was not loaded"),
        };
        let number = Bytes::from(before.saturating_add(1).to_string());
        record.set(self.into.clone(), number.clone());
        if let Some(after) = self.forget_after {
            effects.kept.timers.push((key.clone(), Timer::After(after)));
        }
        effects.kept.state.push((key, Change::Set(number)));
        Flow::Next
    }

    fn on_timer(&self, key: &Bytes, _state: Option<&Bytes>, kept: &mut Kept) {
        // Where `forget_after` was taken out meanwhile, nothing is forgotten any more.
        if self.forget_after.is_some() {
            kept.state.push((key.clone(), Change::Forget));
        }
    }
}
