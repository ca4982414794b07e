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

#[cfg(test)]
mod tests {
    use super::super::testing::{Given, event, record};
    use super::*;

    fn count(forget_after: Duration) -> Arc<dyn Operator> {
        let operator = config::Operator::Count(config::Count {
            key: "user_id".into(),
            into: "n".into(),
            forget_after,
        });
        let setup = Setup {
            operator: &operator,
            event: &event(),
            lookup: 0,
        };
        build(&setup).unwrap()
    }

    /// What it says, what it writes into the record, and what it keeps.
    fn run(fields: Given<'_>, state: Option<&'static str>) -> (Flow, Option<String>, Kept) {
        let count = count(Duration::ZERO);
        let mut record = record(fields);
        let mut keys = Vec::new();
        count.state_keys(&record, &mut keys);
        let mut loaded = Loaded::default();
        for key in keys {
            loaded.state.insert(key, state.map(Bytes::from));
        }
        let mut effects = Effects::default();
        let flow = count.apply(&mut record, &loaded, &mut effects);
        let written = record.text("n").map(str::to_owned);
        (flow, written, effects.kept)
    }

    fn keeps(key: &'static str, number: &'static str) -> Kept {
        Kept {
            state: vec![(Bytes::from(key), Change::Set(Bytes::from(number)))],
            timers: vec![],
        }
    }

    #[test]
    fn records_of_a_key_are_numbered() {
        let ann: Given<'_> = &[("user_id", b"ann"), ("n", b"forged")];
        let told = |n: &str| Some(n.to_owned());
        assert_eq!(run(ann, None), (Flow::Next, told("1"), keeps("n:ann", "1")));
        assert_eq!(
            run(ann, Some("41")),
            (Flow::Next, told("42"), keeps("n:ann", "42"))
        );
        let colon: Given<'_> = &[("user_id", b"a:b \xff")];
        let (_, _, kept) = run(colon, None);
        assert_eq!(kept.state[0].0, &b"n:a:b \xff"[..]);
    }

    #[test]
    fn a_record_without_a_key_goes_on_unchanged() {
        for fields in [&[][..], &[("user_id", &b""[..])], &[("user", b"ann")]] {
            assert_eq!(
                run(fields, None),
                (Flow::Next, None, Kept::default()),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_long_key_is_kept_short_and_apart_from_others() {
        let (long, mut other) = (vec![b'x'; 1 << 20], vec![b'x'; 1 << 20]);
        other.push(b'y');
        let [(_, _, a), (_, _, b)] = [&long, &other].map(|key| run(&[("user_id", &key[..])], None));
        assert!(a.state[0].0.len() < 300);
        assert_ne!(a.state[0].0, b.state[0].0);
    }

    #[test]
    fn state_that_is_no_number_or_was_not_loaded_fails_the_record() {
        let (flow, written, kept) = run(&[("user_id", b"ann")], Some("many"));
        let Flow::Failed(failure) = flow else {
            panic!("{flow:?}")
        };
        assert_eq!(
            (failure.class, failure.reason),
            (Class::Reject, "state_unreadable")
        );
        assert_eq!((written, kept), (None, Kept::default()));
        let mut record = record(&[("user_id", b"ann")]);
        let flow =
            count(Duration::ZERO).apply(&mut record, &Loaded::default(), &mut Effects::default());
        assert!(
            matches!(&flow, Flow::Failed(f) if f.class == Class::Retry),
            "{flow:?}"
        );
    }

    #[test]
    fn every_record_sets_the_timer_anew_and_the_timer_forgets() {
        let hour = Duration::from_secs(3_600);
        let count = count(hour);
        let mut record = record(&[("user_id", b"ann")]);
        let key = Bytes::from("n:ann");
        let mut loaded = Loaded::default();
        loaded.state.insert(key.clone(), None);
        let mut effects = Effects::default();
        assert_eq!(count.apply(&mut record, &loaded, &mut effects), Flow::Next);
        assert_eq!(effects.kept.timers, [(key.clone(), Timer::After(hour))]);
        let mut kept = Kept::default();
        count.on_timer(&key, Some(&Bytes::from("7")), &mut kept);
        assert_eq!(kept.state, [(key.clone(), Change::Forget)]);
        // Without it nothing is forgotten, also by timers that were set before.
        let mut kept = Kept::default();
        self::count(Duration::ZERO).on_timer(&key, None, &mut kept);
        assert_eq!(kept, Kept::default());
    }
}
