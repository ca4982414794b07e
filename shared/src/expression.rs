//! A small expression over the fields of an entry, for `filter` and `--match`.

use serde::Serialize;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expression {
    source: String,
}
