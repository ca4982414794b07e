//! `filter`: ends records for which the expression does not hold, as `filtered`. A field that is missing or of another
//! type makes the expression false where it is compared; nothing fails here.

use std::sync::Arc;

use bytes::Bytes;
use pipectl_shared::config;
use pipectl_shared::expression::Expression;

use super::operator::{Kind, Loaded, Operator, Setup};
use crate::effect::{Effects, Flow};
use crate::record::Record;

pub(super) const KIND: Kind = Kind {
    name: "filter",
    summary: "Ends records for which the expression does not hold; they count as filtered.",
    build,
};

fn build(setup: &Setup<'_>) -> Option<Arc<dyn Operator>> {
    let config::Operator::Filter(config) = setup.operator else {
        return None;
    };
    Some(Arc::new(Filter {
        keep: config.keep.clone(),
    }))
}

struct Filter {
    keep: Expression,
}

impl Operator for Filter {
    fn kind(&self) -> &'static str {
        KIND.name
    }

    fn apply(&self, record: &mut Record, _loaded: &Loaded, _effects: &mut Effects) -> Flow {
        let record = &*record;
        if self
            .keep
            .holds(|name: &[u8]| record.get(name).map(Bytes::as_ref))
        {
            Flow::Next
        } else {
            Flow::Filtered
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Given, event, record};
    use super::*;

    #[test]
    fn records_for_which_the_expression_does_not_hold_end_as_filtered() {
        let keep = Expression::parse("event_type == \"purchase\"").unwrap();
        let operator = config::Operator::Filter(config::Filter { keep });
        let setup = Setup {
            operator: &operator,
            event: &event(),
            lookup: 0,
        };
        let filter = build(&setup).unwrap();
        let table: &[(&str, Given<'_>, Flow)] = &[
            ("holds", &[("event_type", b"purchase")], Flow::Next),
            ("does not hold", &[("event_type", b"click")], Flow::Filtered),
            ("missing", &[("product", b"purchase")], Flow::Filtered),
            ("no UTF-8", &[("event_type", b"\xff\xfe")], Flow::Filtered),
            ("no fields at all", &[], Flow::Filtered),
        ];
        for (desc, fields, want) in table {
            let mut record = record(fields);
            let before = record.clone();
            let mut effects = Effects::default();
            assert_eq!(
                filter.apply(&mut record, &Loaded::default(), &mut effects),
                *want,
                "{desc}"
            );
            assert_eq!(record, before, "{desc}");
            assert_eq!(effects, Effects::default(), "{desc}");
        }
    }
}
