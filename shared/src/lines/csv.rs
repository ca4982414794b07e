//! CSV as in RFC 4180, read strictly: a `"` may only open a field, close it, or stand doubled inside one.
//!
//! Own and not of the `csv` crate, whose reader takes any bytes for CSV: it cannot say that a quote is broken, which is
//! the one thing that must be known to find the next record. Splitter and parser share [`Scanner`], so that they
//! cannot disagree on where a record ends.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::MAX_FIELDS;
use super::event::Field;
use crate::untrusted::escape_bytes;

/// Where a byte leaves the scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Within a field.
    Within,
    /// This comma ended a field.
    FieldEnd,
    /// This newline ended the record.
    RecordEnd,
    /// This byte cannot stand here.
    Broken,
}

/// State between two bytes of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Scanner {
    /// A field begins.
    #[default]
    Start,
    /// In a field without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote that either closed the field or is the first of two.
    Closed,
    /// After `"` and a carriage return, which only a newline may follow.
    ClosedReturn,
}

impl Scanner {
    pub(super) fn step(&mut self, byte: u8) -> Step {
        let (next, step) = match (*self, byte) {
            (Self::Start, b'"') | (Self::Closed, b'"') => (Self::Quoted, Step::Within),
            (Self::Quoted, b'"') => (Self::Closed, Step::Within),
            (Self::Quoted, _) => (Self::Quoted, Step::Within),
            (Self::Start | Self::Plain | Self::Closed, b',') => (Self::Start, Step::FieldEnd),
            (Self::Start | Self::Plain | Self::Closed | Self::ClosedReturn, b'\n') => {
                (Self::Start, Step::RecordEnd)
            }
            (Self::Plain, b'"') => (Self::Plain, Step::Broken),
            (Self::Start | Self::Plain, _) => (Self::Plain, Step::Within),
            (Self::Closed, b'\r') => (Self::ClosedReturn, Step::Within),
            (Self::Closed | Self::ClosedReturn, _) => (Self::Closed, Step::Broken),
        };
        *self = next;
        step
    }
}

/// The fields of a row under the names of the header.
pub(super) fn fields<'r>(header: &'r [String], line: &'r [u8]) -> Result<Vec<Field<'r>>, String> {
    let values = split(line)?;
    if values.len() != header.len() {
        let (n, columns) = (values.len(), header.len());
        return Err(format!("a row of {n} fields under a header of {columns}"));
    }
    let names = header.iter().map(|name| Cow::Borrowed(name.as_str()));
    Ok(names.zip(values).collect())
}

/// The names of the columns, each once.
pub(super) fn header(line: &[u8]) -> Result<Vec<String>, String> {
    let cells = split(line)?;
    let mut names: HashSet<String> = HashSet::with_capacity(cells.len());
    let mut repeats: HashMap<String, usize> = HashMap::new();
    let mut columns = Vec::with_capacity(cells.len());
    for (idx, cell) in cells.iter().enumerate() {
        let name = match std::str::from_utf8(cell) {
            Ok("") => format!("column_{}", idx + 1),
            Ok(text) => text.to_owned(),
            // A name is text on the wire; the rare other one is written readably.
            Err(_) => escape_bytes(cell),
        };
        let mut unique = name.clone();
        while !names.insert(unique.clone()) {
            let n = repeats.entry(name.clone()).or_insert(1);
            *n += 1;
            unique = format!("{name}.{n}");
        }
        columns.push(unique);
    }
    Ok(columns)
}

/// The values of a record, without quotes.
fn split(line: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, String> {
    let mut values = Vec::new();
    let mut scanner = Scanner::default();
    let mut from = 0;
    for (at, byte) in line.iter().enumerate() {
        match scanner.step(*byte) {
            Step::Within => {}
            Step::FieldEnd => {
                values.push(unquote(&line[from..at]));
                from = at + 1;
                if values.len() == MAX_FIELDS {
                    return Err(format!("more than {MAX_FIELDS} fields"));
                }
            }
            Step::RecordEnd => return Err(format!("a line break outside quotes at byte {at}")),
            Step::Broken if line[from] == b'"' => {
                return Err(format!("text behind the closing quote at byte {at}"));
            }
            Step::Broken => {
                return Err(format!(
                    "a quote within a field without quotes at byte {at}"
                ));
            }
        }
    }
    match scanner {
        Scanner::Quoted => Err(format!("no closing quote for the field at byte {from}")),
        Scanner::Start | Scanner::Plain | Scanner::Closed | Scanner::ClosedReturn => {
            values.push(unquote(&line[from..]));
            Ok(values)
        }
    }
}

fn unquote(field: &[u8]) -> Cow<'_, [u8]> {
    let field = match field.strip_prefix(b"\"") {
        // A return may stand between the closing quote and the end of a line that was given with it.
        Some(rest) => rest.strip_suffix(b"\r").unwrap_or(rest),
        None => return Cow::Borrowed(field),
    };
    let inner = field.strip_suffix(b"\"").unwrap_or(field);
    if !inner.contains(&b'"') {
        return Cow::Borrowed(inner);
    }
    let mut value = Vec::with_capacity(inner.len());
    let mut is_second = false;
    for byte in inner {
        is_second = *byte == b'"' && !is_second;
        if *byte != b'"' || is_second {
            value.push(*byte);
        }
    }
    Cow::Owned(value)
}
