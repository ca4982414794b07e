//! `lookup`: adds the fields of a profile as `<into>.<field>`. It only says which key it needs; the worker loads it.
//!
//! A record without the key field, with an empty or absurdly long key, or whose key has no profile, goes on unchanged.
//! The key must be in the record as the stage reads it: the worker loads for a whole batch before the first operator
//! runs, so a key that an earlier operator of the same stage made is looked up in a later stage.

use std::sync::Arc;

use bytes::Bytes;
use pipectl_shared::config;

use super::names::Names;
use super::operator::{Kind, Loaded, Need, Operator, Setup};
use super::quote::quoted;
use crate::effect::{Class, Effects, Failure, Flow};
use crate::record::Record;

/// Longest key that is looked up, in bytes. Nobody files a profile under a longer one, and without a bound one hostile
/// producer could fill the cache (which is bounded in entries) with megabytes of keys.
const KEY_MAX: usize = 1_024;

pub(super) const KIND: Kind = Kind {
    name: "lookup",
    summary: "Adds the fields of a profile; a record without one goes on unchanged.",
    build,
};

fn build(setup: &Setup<'_>) -> Option<Arc<dyn Operator>> {
    let config::Operator::Lookup(config) = setup.operator else {
        return None;
    };
    Some(Arc::new(Lookup {
        lookup: setup.lookup,
        key: config.key.clone(),
        names: Names::new(&format!("{}.", config.into), ""),
    }))
}

struct Lookup {
    lookup: usize,
    key: String,
    names: Names,
}

impl Lookup {
    fn need(&self, record: &Record) -> Option<Need> {
        let key = record.get(self.key.as_bytes())?;
        (!key.is_empty() && key.len() <= KEY_MAX).then(|| Need {
            lookup: self.lookup,
            key: key.clone(),
        })
    }

    fn failed(&self, key: &Bytes, why: &str) -> Flow {
        Flow::Failed(Failure {
            class: Class::Retry,
            reason: "lookup_failed",
            error: format!(
                "look up {} of field {}: {why}",
                quoted(key),
                quoted(self.key.as_bytes())
            ),
        })
    }
}

impl Operator for Lookup {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn needs(&self, record: &Record, needs: &mut Vec<Need>) {
        needs.extend(self.need(record));
    }

    fn apply(&self, record: &mut Record, loaded: &Loaded, _effects: &mut Effects) -> Flow {
        let Some(need) = self.need(record) else {
            return Flow::Next;
        };
        match loaded.values.get(&need) {
            Some(Ok(None)) => Flow::Next,
            Some(Ok(Some(profile))) => {
                record.fields.reserve(profile.len());
                for (name, value) in profile.iter() {
                    // `set`, not a push: a producer that sends `profile.tier` itself must not outvote the profile.
                    record.set(self.names.of(name), value.clone());
                }
                Flow::Next
            }
            Some(Err(error)) => self.failed(&need.key, error),
            None => match loaded.away.get(&self.lookup) {
                // No fault of the record: it is not even named, so that the stage has one reason for all of them.
                Some(why) => Flow::Failed(Failure {
                    class: Class::Fatal,
                    reason: "lookup_away",
                    error: format!("lookup of field {} is away: {why}", quoted(self.key.as_bytes())),
                }),
                None => self.failed(
                    &need.key,
                    "not loaded, because the key was not in the record as the stage read it; look it up in a later stage",
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Given, event, fields, record};
    use super::*;

    fn lookup() -> Arc<dyn Operator> {
        let second = std::time::Duration::from_secs(1);
        let operator = config::Operator::Lookup(config::Lookup {
            key: "user_id".into(),
            into: "profile".into(),
            hash: "profile:".into(),
            cache_entries: 10,
            ttl: second,
            negative_ttl: second,
            stale_ok: second,
        });
        let setup = Setup {
            operator: &operator,
            event: &event(),
            lookup: 3,
        };
        build(&setup).unwrap()
    }

    fn need(key: &'static str) -> Need {
        Need {
            lookup: 3,
            key: Bytes::from_static(key.as_bytes()),
        }
    }

    #[track_caller]
    fn check(
        desc: &str,
        loaded: &Loaded,
        before: &[(&str, &[u8])],
        want: Result<&[(&str, &[u8])], &str>,
    ) {
        let mut work = record(before);
        let mut effects = Effects::default();
        let flow = lookup().apply(&mut work, loaded, &mut effects);
        assert_eq!(effects, Effects::default(), "{desc}: it counts nothing");
        match (flow, want) {
            (Flow::Next, Ok(after)) => assert_eq!(work, record(after), "{desc}"),
            (Flow::Failed(failure), Err(error)) => {
                assert_eq!(
                    (failure.class, failure.reason),
                    (Class::Retry, "lookup_failed"),
                    "{desc}"
                );
                assert_eq!(failure.error, error, "{desc}");
                assert_eq!(work, record(before), "{desc}");
            }
            (flow, want) => panic!("{desc}: {flow:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn the_profile_is_added_where_there_is_one() {
        let mut loaded = Loaded::default();
        let profile = fields(&[("tier", b"gold"), ("since", b"\xff")]);
        loaded
            .values
            .insert(need("u1"), Ok(Some(Arc::new(profile))));
        loaded.values.insert(need("u2"), Ok(None));
        loaded
            .values
            .insert(need("u3"), Err("connection refused".into()));

        check(
            "found",
            &loaded,
            &[("user_id", b"u1"), ("x", b"1")],
            Ok(&[
                ("user_id", b"u1"),
                ("x", b"1"),
                ("profile.tier", b"gold"),
                ("profile.since", b"\xff"),
            ]),
        );
        check(
            "a producer cannot outvote the profile",
            &loaded,
            &[("profile.tier", b"admin"), ("user_id", b"u1")],
            Ok(&[
                ("profile.tier", b"gold"),
                ("user_id", b"u1"),
                ("profile.since", b"\xff"),
            ]),
        );
        check(
            "no profile",
            &loaded,
            &[("user_id", b"u2")],
            Ok(&[("user_id", b"u2")]),
        );
        check("no key field", &loaded, &[("x", b"1")], Ok(&[("x", b"1")]));
        check(
            "empty key",
            &loaded,
            &[("user_id", b"")],
            Ok(&[("user_id", b"")]),
        );
        let long = vec![b'u'; KEY_MAX + 1];
        check(
            "absurd key",
            &loaded,
            &[("user_id", &long)],
            Ok(&[("user_id", &long)]),
        );
        check(
            "the lookup failed",
            &loaded,
            &[("user_id", b"u3")],
            Err("look up \"u3\" of field \"user_id\": connection refused"),
        );
        check(
            "not loaded",
            &loaded,
            &[("user_id", b"u4")],
            Err(
                "look up \"u4\" of field \"user_id\": not loaded, because the key was not in the record as the stage \
                 read it; look it up in a later stage",
            ),
        );
    }

    #[test]
    fn a_lookup_that_is_away_is_no_fault_of_the_record() {
        let mut loaded = Loaded::default();
        loaded.values.insert(need("u1"), Ok(None));
        loaded.away.insert(3, "connection refused".into());
        let apply = |key: &'static [u8]| {
            let mut work = record(&[("user_id", key)]);
            lookup().apply(&mut work, &loaded, &mut Effects::default())
        };
        assert_eq!(apply(b"u1"), Flow::Next, "memory answers");
        let Flow::Failed(failure) = apply(b"u2") else {
            panic!("it has no profile")
        };
        assert_eq!(
            (failure.class, &failure.error[..]),
            (
                Class::Fatal,
                "lookup of field \"user_id\" is away: connection refused"
            )
        );
    }

    #[test]
    fn it_needs_the_key_of_its_own_lookup() {
        let table: &[(&str, Given<'_>, Vec<Need>)] = &[
            ("a key", &[("user_id", b"u1")], vec![need("u1")]),
            ("no key", &[("x", b"u1")], vec![]),
            ("empty", &[("user_id", b"")], vec![]),
            ("absurd", &[("user_id", &[b'u'; KEY_MAX + 1])], vec![]),
        ];
        for (desc, fields, want) in table {
            let mut needs = Vec::new();
            lookup().needs(&record(fields), &mut needs);
            assert_eq!(needs, *want, "{desc}");
        }
    }
}
