//! One answer of `pipectl`, in every shape it can be asked for.

use serde::Serialize;

use super::text::Text;
use crate::failure::{Exit, Failure};

/// What a command prints.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The middle of `pipectl/<name>/1`.
    pub(crate) name: &'static str,
    /// The body as a JSON object, without `schema` and `ts`; for a list without `rows` and `next`.
    pub(crate) body: String,
    /// The rows, where the document is a list.
    pub(crate) list: Option<List>,
    /// The same for people.
    pub(crate) text: Text,
}

/// The rows of a list.
#[derive(Debug, Clone)]
pub(crate) struct List {
    /// Each a JSON object.
    pub(crate) rows: Vec<String>,
    /// Cursor of the next page.
    pub(crate) next: Option<String>,
    /// Keys in the order of the CSV columns; a key may be a path with dots.
    pub(crate) keys: &'static [&'static str],
}

impl Document {
    /// A document of one object.
    pub(crate) fn one(
        name: &'static str,
        body: &impl Serialize,
        text: Text,
    ) -> Result<Self, Failure> {
        Ok(Self {
            name,
            body: encode(body)?,
            list: None,
            text,
        })
    }

    /// A list.
    pub(crate) fn rows<T: Serialize>(
        name: &'static str,
        rows: &[T],
        next: Option<String>,
        keys: &'static [&'static str],
        text: Text,
    ) -> Result<Self, Failure> {
        let rows = rows.iter().map(encode).collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            body: "{}".to_owned(),
            list: Some(List { rows, next, keys }),
            text,
        })
    }

    /// Adds what a list says beside its rows; ignored unless it is a JSON object.
    pub(crate) fn beside(mut self, body: &impl Serialize) -> Result<Self, Failure> {
        self.body = encode(body)?;
        Ok(self)
    }
}

fn encode(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new(Exit::Failed, format!("write the answer as JSON: {error}")))
}
