//! One JSON object a line. Numbers keep the text that they were written with, because a detour over a float would change
//! ids and amounts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::MAX_FIELDS;
use super::event::Field;
use crate::untrusted::{Mode, Untrusted};

/// The fields of an object in order; of repeated ones the last value, at the place of the first.
pub(super) fn fields(line: &[u8]) -> Result<Vec<Field<'_>>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("no UTF-8 at byte {}", error.valid_up_to()))?;
    if !text.trim_start().starts_with('{') {
        return Err("no JSON object: it does not begin with {".to_owned());
    }
    let object: Object<'_> = serde_json::from_str(text).map_err(|error| reason(&error, 0))?;
    let mut fields = Vec::with_capacity(object.pairs.len());
    for (name, raw) in object.pairs {
        // The text is a part of the line, so the difference of their addresses is its offset.
        let offset = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        if let Some(value) = value(raw).map_err(|error| reason(&error, offset))? {
            fields.push((Cow::Owned(name), value));
        }
    }
    Ok(fields)
}

/// The bytes of a value; `None` for `null`.
fn value(raw: &RawValue) -> Result<Option<Cow<'_, [u8]>>, serde_json::Error> {
    let text = raw.get();
    Ok(Some(match text.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => Cow::Owned(serde_json::from_str::<String>(text)?.into_bytes()),
        Some(b'{' | b'[') => Cow::Owned(compact(text)),
        // A number, `true` or `false`.
        _ => Cow::Borrowed(text.as_bytes()),
    }))
}

/// Valid JSON without the white space between its tokens.
fn compact(text: &str) -> Vec<u8> {
    let mut compact = Vec::with_capacity(text.len());
    let mut is_in_string = false;
    let mut is_escaped = false;
    for byte in text.bytes() {
        if is_in_string {
            is_in_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            is_in_string = byte == b'"';
        }
        compact.push(byte);
    }
    compact
}

/// The parser's words, with the byte in the line instead of its "line 1 column 7".
fn reason(error: &serde_json::Error, offset: usize) -> String {
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(before, _)| before);
    let at = offset + error.column();
    let shown = Untrusted::new(message).to_display(None, Mode::Unicode);
    format!("no JSON: {} at byte {at}", shown.text)
}

/// An object whose values are still text.
struct Object<'a> {
    pairs: Vec<(String, &'a RawValue)>,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(String, &'de RawValue)> = Vec::new();
        // A list alone would be searched in quadratic time by an object with thousands of fields.
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((name, raw)) = map.next_entry::<String, &'de RawValue>()? {
            match places.entry(name.clone()) {
                Entry::Occupied(place) => pairs[*place.get()].1 = raw,
                Entry::Vacant(_) if pairs.len() == MAX_FIELDS => {
                    return Err(A::Error::custom(format_args!(
                        "more than {MAX_FIELDS} fields"
                    )));
                }
                Entry::Vacant(place) => {
                    place.insert(pairs.len());
                    pairs.push((name, raw));
                }
            }
        }
        Ok(Object { pairs })
    }
}
