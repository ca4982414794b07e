//! `validate`: rejects records that lack a field or hold a wrong one. It changes nothing and repairs nothing.
//!
//! A required field must be there and not empty. A field named under `integers` or `numbers` is checked where it is
//! there; whether it must be there is said by `required` alone. The first fault in the order of the configuration is
//! told, so that equal records have equal errors and fold into one cause. Of a repeated field the first counts, as
//! everywhere.

use std::sync::Arc;

use pipectl_shared::config;

use super::operator::{Kind, Loaded, Operator, Setup};
use super::quote::quoted;
use crate::algorithms::decimal;
use crate::effect::{Class, Effects, Failure, Flow};
use crate::record::Record;

pub(super) const KIND: Kind = Kind {
    name: "validate",
    summary: "Rejects records that lack a field or hold a wrong one; they become dead letters.",
    build,
};

fn build(setup: &Setup<'_>) -> Option<Arc<dyn Operator>> {
    let config::Operator::Validate(config) = setup.operator else {
        return None;
    };
    Some(Arc::new(Validate {
        config: config.clone(),
    }))
}

struct Validate {
    config: config::Validate,
}

impl Validate {
    /// The first fault, for a person; `None` = the record is fine.
    fn fault(&self, record: &Record) -> Option<String> {
        for name in &self.config.required {
            match record.get(name.as_bytes()) {
                None => return Some(format!("field {} is missing", quoted(name.as_bytes()))),
                Some(value) if value.is_empty() => {
                    return Some(format!("field {} is empty", quoted(name.as_bytes())));
                }
                Some(_) => {}
            }
        }
        wrong(
            record,
            &self.config.integers,
            decimal::is_integer,
            "no whole number",
        )
        .or_else(|| {
            wrong(
                record,
                &self.config.numbers,
                decimal::is_number,
                "no number",
            )
        })
    }
}

/// The first of `names` whose value is there and does not pass.
fn wrong(
    record: &Record,
    names: &[String],
    is_right: fn(&[u8]) -> bool,
    what: &str,
) -> Option<String> {
    names.iter().find_map(|name| {
        let value = record.get(name.as_bytes())?;
        (!is_right(value)).then(|| {
            format!(
                "field {} is {what}: {}",
                quoted(name.as_bytes()),
                quoted(value)
            )
        })
    })
}

impl Operator for Validate {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn apply(&self, record: &mut Record, _loaded: &Loaded, _effects: &mut Effects) -> Flow {
        match self.fault(record) {
            None => Flow::Next,
            Some(error) => Flow::Failed(Failure {
                class: Class::Reject,
                reason: "rejected",
                error,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{event, record};
    use super::*;

    fn validate() -> Arc<dyn Operator> {
        let operator = config::Operator::Validate(config::Validate {
            required: vec!["event_id".into(), "ts".into()],
            integers: vec!["ts".into()],
            numbers: vec!["value".into()],
        });
        let setup = Setup {
            operator: &operator,
            event: &event(),
            lookup: 0,
        };
        build(&setup).unwrap()
    }

    #[track_caller]
    fn check(desc: &str, fields: &[(&str, &[u8])], want: Result<(), &str>) {
        let mut record = record(fields);
        let before = record.clone();
        let mut effects = Effects::default();
        let flow = validate().apply(&mut record, &Loaded::default(), &mut effects);
        match (flow, want) {
            (Flow::Next, Ok(())) => {}
            (Flow::Failed(failure), Err(error)) => {
                assert_eq!(failure.class, Class::Reject, "{desc}");
                assert_eq!(failure.reason, "rejected", "{desc}");
                assert_eq!(failure.error, error, "{desc}");
            }
            (flow, want) => panic!("{desc}: {flow:?}, wanted {want:?}"),
        }
        assert_eq!(record, before, "{desc}: the record stays as it is");
        assert_eq!(effects, Effects::default(), "{desc}: it asks for nothing");
    }

    #[test]
    fn wrong_records_are_rejected_and_the_error_names_field_and_value() {
        check("right", &[("event_id", b"e1"), ("ts", b"17")], Ok(()));
        check(
            "the order is free",
            &[("ts", b"17"), ("event_id", b"e1"), ("value", b"2.5")],
            Ok(()),
        );
        check(
            "missing",
            &[("event_id", b"e1")],
            Err("field \"ts\" is missing"),
        );
        check(
            "empty",
            &[("event_id", b""), ("ts", b"17")],
            Err("field \"event_id\" is empty"),
        );
        check(
            "no whole number",
            &[("event_id", b"e1"), ("ts", b"12.5")],
            Err("field \"ts\" is no whole number: \"12.5\""),
        );
        check(
            "no number",
            &[("event_id", b"e1"), ("ts", b"17"), ("value", b"free")],
            Err("field \"value\" is no number: \"free\""),
        );
        check(
            "an optional field that is there must be right even when empty",
            &[("event_id", b"e1"), ("ts", b"17"), ("value", b"")],
            Err("field \"value\" is no number: \"\""),
        );
        check(
            "two faults tell the first in order of the configuration",
            &[("value", b"x")],
            Err("field \"event_id\" is missing"),
        );
        check(
            "no fields at all",
            &[],
            Err("field \"event_id\" is missing"),
        );
        check(
            "the first of a repeated field counts",
            &[("event_id", b"e1"), ("ts", b"x"), ("ts", b"17")],
            Err("field \"ts\" is no whole number: \"x\""),
        );
        check(
            "required fields need not be text",
            &[("event_id", b"\xff\x00"), ("ts", b"17")],
            Ok(()),
        );
    }

    #[test]
    fn hostile_values_are_shown_cleaned_and_cut() {
        check(
            "terminal escape",
            &[("event_id", b"e1"), ("ts", b"\x1b]0;owned\x07")],
            Err("field \"ts\" is no whole number: \"\\u{1b}]0;owned\\u{7}\""),
        );
        let long = vec![b'9'; 1 << 20];
        let want = format!(
            "field \"ts\" is no whole number: \"{}...\" (1048576 bytes)",
            "9".repeat(64)
        );
        check(
            "a megabyte",
            &[("event_id", b"e1"), ("ts", &long)],
            Err(&want),
        );
    }
}
