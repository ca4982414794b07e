//! CSV: a list is its rows under their keys; any other document is `key,value`. Unknown is an empty cell.

use serde_json::Value;

use super::clean;
use super::document::Document;
use crate::failure::{Exit, Failure};

/// The document as CSV, with a header unless `headless` (a later part of a stream).
pub(super) fn document(document: &Document, headless: bool) -> Result<String, Failure> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let fault = |error: String| Failure::new(Exit::Failed, format!("write CSV: {error}"));
    match &document.list {
        Some(list) => {
            if !headless {
                writer
                    .write_record(list.keys)
                    .map_err(|error| fault(error.to_string()))?;
            }
            for row in &list.rows {
                let row: Value =
                    serde_json::from_str(row).map_err(|error| fault(error.to_string()))?;
                let cells = list.keys.iter().map(|key| cell(lookup(&row, key)));
                writer
                    .write_record(cells)
                    .map_err(|error| fault(error.to_string()))?;
            }
        }
        None => {
            let body: Value =
                serde_json::from_str(&document.body).map_err(|error| fault(error.to_string()))?;
            let mut pairs = Vec::new();
            flatten("", &body, &mut pairs);
            if !headless {
                writer
                    .write_record(["key", "value"])
                    .map_err(|error| fault(error.to_string()))?;
            }
            for (key, value) in pairs {
                writer
                    .write_record([clean::csv_cell(&key), value])
                    .map_err(|error| fault(error.to_string()))?;
            }
        }
    }
    let bytes = writer
        .into_inner()
        .map_err(|error| fault(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| fault(error.to_string()))
}

fn lookup<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(row, |value, key| value.get(key).unwrap_or(&Value::Null))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        // A negative number is no formula.
        Value::Number(number) => number.to_string(),
        Value::String(text) => clean::csv_cell(text),
        Value::Array(_) | Value::Object(_) => clean::json(&value.to_string()),
    }
}

fn flatten(path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| flatten(&join(key), value, out)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, value)| flatten(&join(&at.to_string()), value, out));
        }
        other => out.push((path.to_owned(), cell(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::List;
    use super::super::text::Text;
    use super::*;

    #[test]
    fn unknown_is_empty_and_numbers_stay_numbers() {
        let rows = vec![
            serde_json::json!({"a": null, "b": -5, "c": "=5", "d": {"e": "x\u{1b}"}}).to_string(),
        ];
        let list = List {
            rows,
            next: None,
            keys: &["a", "b", "c", "d.e", "f"],
        };
        let document = Document {
            name: "x",
            body: "{}".to_owned(),
            list: Some(list),
            text: Text::default(),
        };
        assert_eq!(
            super::document(&document, false).unwrap(),
            "a,b,c,d.e,f\n,-5,'=5,x\\x1b,\n"
        );
    }

    #[test]
    fn a_single_document_is_keys_and_values() {
        let body = serde_json::json!({"a": {"b": [1, null]}}).to_string();
        let document = Document {
            name: "x",
            body,
            list: None,
            text: Text::default(),
        };
        assert_eq!(
            super::document(&document, false).unwrap(),
            "key,value\na.b.0,1\na.b.1,\n"
        );
    }
}
