//! An answer together with what a newer daemon adds to it, so that `-o json` passes on what this `pipectl` cannot name.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The known part first, in its own order, then the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Whole<T> {
    #[serde(flatten)]
    known: T,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl<T> Whole<T> {
    /// What the daemon left out for size, such as `12 products`; empty when nothing.
    pub(crate) fn truncated(&self) -> String {
        let counts = self.rest.get("truncated").and_then(Value::as_object);
        let names = counts
            .into_iter()
            .flatten()
            .map(|(name, n)| format!("{n} {name}"));
        names.collect::<Vec<_>>().join(", ")
    }
}

impl<T> Deref for Whole<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.known
    }
}

#[cfg(test)]
mod tests {
    use pipectl_shared::snapshot::Ledger;

    use super::*;

    #[test]
    fn what_a_newer_daemon_adds_is_passed_on_after_the_known() {
        let mut sent = serde_json::to_value(Ledger::default()).unwrap();
        sent["accepted"] = 3.into();
        sent["a_new_figure"] = 7.into();
        let whole: Whole<Ledger> = serde_json::from_value(sent).unwrap();
        assert_eq!(whole.accepted, 3);
        let text = serde_json::to_string(&whole).unwrap();
        assert!(
            text.starts_with("{\"accepted\":3,") && text.ends_with(",\"a_new_figure\":7}"),
            "{text}"
        );
    }
}
