//! `aggregate`: counts. In total, by type, product and session as configured, and the sum of the values.
//!
//! It adds `total_count`, `type:<t>:count`, `product:<p>:count`, a session's count and `total_value`. A role whose field
//! is missing or empty adds nothing, and a role without a configured field neither. A type, product or session of more
//! than 256 bytes is cut: its beginning, `~`, and the first 16 hex digits of its SHA-256 (`names::short`). The value is
//! read as a decimal and scaled exactly (`algorithms::decimal`): more decimals than `value_scale` are rounded half away
//! from zero; what is no number rejects the record.

use std::sync::Arc;

use bytes::Bytes;
use pipectl_shared::config;
use pipectl_shared::config::By;

use super::names::{Names, short};
use super::operator::{Kind, Loaded, Operator, Setup};
use super::quote::quoted;
use crate::algorithms::decimal;
use crate::effect::{Class, Counter, Effects, Failure, Flow};
use crate::record::Record;

pub(super) const KIND: Kind = Kind {
    name: "aggregate",
    summary: "Counts in total and by type, product and session, and sums up the values.",
    build,
};

const TOTAL: Bytes = Bytes::from_static(b"total_count");
const VALUE: Bytes = Bytes::from_static(b"total_value");

fn build(setup: &Setup<'_>) -> Option<Arc<dyn Operator>> {
    let config::Operator::Aggregate(config) = setup.operator else {
        return None;
    };
    let event = setup.event;
    let role = |by: By, field: &str| {
        (config.by.contains(&by) && !field.is_empty()).then(|| field.to_owned())
    };
    let named = |by: By, field: &str, prefix: &str| {
        role(by, field).map(|field| Named {
            field,
            names: Names::new(prefix, ":count"),
        })
    };
    Some(Arc::new(Aggregate {
        kind: named(By::Type, &event.kind, "type:"),
        product: named(By::Product, &event.product, "product:"),
        session: role(By::Session, &event.session),
        value: (!event.value.is_empty()).then(|| event.value.clone()),
        value_scale: event.value_scale,
    }))
}

struct Aggregate {
    kind: Option<Named>,
    product: Option<Named>,
    session: Option<String>,
    value: Option<String>,
    value_scale: u32,
}

/// A role that is counted under a name made of its value.
struct Named {
    field: String,
    names: Names,
}

/// The field's value where it is there and not empty.
fn present<'a>(record: &'a Record, field: &str) -> Option<&'a Bytes> {
    record
        .get(field.as_bytes())
        .filter(|value| !value.is_empty())
}

impl Aggregate {
    /// The scaled value; `None` = the record has none.
    fn value(&self, record: &Record) -> Result<Option<i64>, String> {
        let Some((field, text)) = self
            .value
            .as_ref()
            .and_then(|field| Some((field, present(record, field)?)))
        else {
            return Ok(None);
        };
        decimal::scaled(text, self.value_scale)
            .map(Some)
            .map_err(|error| {
                format!(
                    "field {} {error}: {}",
                    quoted(field.as_bytes()),
                    quoted(text)
                )
            })
    }
}

impl Operator for Aggregate {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn apply(&self, record: &mut Record, _loaded: &Loaded, effects: &mut Effects) -> Flow {
        // First what can fail: a rejected record asks for nothing.
        let value = match self.value(record) {
            Ok(value) => value,
            Err(error) => {
                return Flow::Failed(Failure {
                    class: Class::Reject,
                    reason: "rejected",
                    error,
                });
            }
        };
        // Five at most: one allocation for all, and none for names that were seen before.
        effects.adds.reserve(5);
        effects.adds.push((Counter::Count(TOTAL), 1));
        for role in [&self.kind, &self.product].into_iter().flatten() {
            if let Some(part) = present(record, &role.field) {
                effects.adds.push((Counter::Count(role.names.of(part)), 1));
            }
        }
        if let Some(session) = self
            .session
            .as_ref()
            .and_then(|field| present(record, field))
        {
            effects.adds.push((Counter::Session(short(session)), 1));
        }
        if let Some(value) = value {
            effects.adds.push((Counter::Count(VALUE), value));
        }
        Flow::Next
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{event, record};
    use super::*;

    fn aggregate(by: &[By], event: &config::Event) -> Arc<dyn Operator> {
        let operator = config::Operator::Aggregate(config::Aggregate {
            by: by.to_vec(),
            session_keep: std::time::Duration::from_secs(60),
        });
        let setup = Setup {
            operator: &operator,
            event,
            lookup: 0,
        };
        build(&setup).unwrap()
    }

    const ALL: &[By] = &[By::Type, By::Product, By::Session];

    /// Effects as text: `name+n` for counts, `session name+n` for sessions.
    #[track_caller]
    fn check(desc: &str, by: &[By], fields: &[(&str, &[u8])], want: Result<&[&str], &str>) {
        let mut work = record(fields);
        let mut effects = Effects::default();
        let flow = aggregate(by, &event()).apply(&mut work, &Loaded::default(), &mut effects);
        assert_eq!(work, record(fields), "{desc}: the record stays as it is");
        assert!(effects.children.is_empty(), "{desc}");
        let adds: Vec<String> = effects
            .adds
            .iter()
            .map(|(counter, n)| match counter {
                Counter::Count(name) => format!("{}{n:+}", String::from_utf8_lossy(name)),
                Counter::Session(id) => format!("session {}{n:+}", String::from_utf8_lossy(id)),
            })
            .collect();
        match (flow, want) {
            (Flow::Next, Ok(want)) => assert_eq!(adds, want, "{desc}"),
            (Flow::Failed(failure), Err(error)) => {
                assert_eq!(
                    (failure.class, failure.reason),
                    (Class::Reject, "rejected"),
                    "{desc}"
                );
                assert_eq!(failure.error, error, "{desc}");
                assert!(
                    adds.is_empty(),
                    "{desc}: a rejected record asks for nothing"
                );
            }
            (flow, want) => panic!("{desc}: {flow:?}, wanted {want:?}"),
        }
    }

    #[test]
    fn counts_follow_the_roles_that_are_there() {
        check(
            "everything",
            ALL,
            &[
                ("event_type", b"click"),
                ("product", b"laptop"),
                ("session_id", b"s1"),
                ("value", b"23.45"),
            ],
            Ok(&[
                "total_count+1",
                "type:click:count+1",
                "product:laptop:count+1",
                "session s1+1",
                "total_value+2345",
            ]),
        );
        check(
            "nothing but the total",
            ALL,
            &[("x", b"1")],
            Ok(&["total_count+1"]),
        );
        check("no fields at all", ALL, &[], Ok(&["total_count+1"]));
        check(
            "empty fields add nothing",
            ALL,
            &[
                ("event_type", b""),
                ("product", b""),
                ("session_id", b""),
                ("value", b""),
            ],
            Ok(&["total_count+1"]),
        );
        check(
            "only what is configured",
            &[By::Product],
            &[
                ("event_type", b"click"),
                ("product", b"laptop"),
                ("session_id", b"s1"),
            ],
            Ok(&["total_count+1", "product:laptop:count+1"]),
        );
        check(
            "a value of zero is a value",
            &[],
            &[("value", b"0")],
            Ok(&["total_count+1", "total_value+0"]),
        );
        check(
            "negative",
            &[],
            &[("value", b"-3.5")],
            Ok(&["total_count+1", "total_value-350"]),
        );
        check(
            "rounded",
            &[],
            &[("value", b"0.125")],
            Ok(&["total_count+1", "total_value+13"]),
        );
        check(
            "names that look like ours stay apart",
            ALL,
            &[("event_type", b"x:count"), ("product", b"total_count")],
            Ok(&[
                "total_count+1",
                "type:x:count:count+1",
                "product:total_count:count+1",
            ]),
        );
    }

    #[test]
    fn a_value_that_is_no_number_rejects_the_record() {
        check(
            "text",
            ALL,
            &[("value", b"free")],
            Err("field \"value\" is no number: \"free\""),
        );
        check(
            "not a number",
            ALL,
            &[("value", b"NaN")],
            Err("field \"value\" is no number: \"NaN\""),
        );
        check(
            "escape",
            ALL,
            &[("value", b"\x1b[1m")],
            Err("field \"value\" is no number: \"\\u{1b}[1m\""),
        );
        check(
            "would break the counter for everybody",
            ALL,
            &[("value", b"92233720368547758.07")],
            Err("field \"value\" is out of range: \"92233720368547758.07\""),
        );
    }

    #[test]
    fn a_role_without_a_field_counts_nothing() {
        let nothing = config::Event {
            kind: String::new(),
            product: String::new(),
            session: String::new(),
            value: String::new(),
            ..event()
        };
        let mut effects = Effects::default();
        // A field with an empty name is possible in Redis; it is nobody's role.
        let mut hostile = record(&[("", b"x")]);
        aggregate(ALL, &nothing).apply(&mut hostile, &Loaded::default(), &mut effects);
        assert_eq!(effects.adds, [(Counter::Count(TOTAL), 1)]);
    }

    #[test]
    fn absurd_names_are_cut() {
        let long = vec![b'x'; 1 << 20];
        let mut hostile = record(&[
            ("event_type", &long),
            ("product", &long),
            ("session_id", &long),
        ]);
        let mut effects = Effects::default();
        aggregate(ALL, &event()).apply(&mut hostile, &Loaded::default(), &mut effects);
        for (counter, _) in &effects.adds {
            let (Counter::Count(name) | Counter::Session(name)) = counter;
            assert!(name.len() <= 256 + "product::count".len(), "{}", name.len());
        }
        assert_eq!(effects.adds.len(), 4);
    }
}
