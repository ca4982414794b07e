//! From fields to an `IngestEvent`: roles, id, the event of what could not be read, and how large an event may be.

use std::borrow::Cow;
use std::io;

use sha2::{Digest as _, Sha256};

use super::{Format, KEPT_BYTES, Mapping, Record, Role, combined};
use crate::rpc::{Bytes, IngestEvent};
use crate::untrusted::{Mode, Untrusted, escape};

/// Longest event in bytes of JSON. A push is at most 512 KiB (contract.md "ingest"); this leaves 12 KiB to what is
/// around its events, so that every event fits a push. [`KEPT_BYTES`] of nothing but control characters, which JSON writes
/// with six bytes each, still fit.
pub const MAX_EVENT: usize = 500 * 1024;

/// Longest `parse_error` in bytes. Arbitrary.
const MAX_REASON: usize = 500;

/// Name and value.
pub(super) type Field<'r> = (Cow<'r, str>, Cow<'r, [u8]>);

/// The id of a record: see the module `lines`.
pub(super) fn id(name: &str, offset: u64, line: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([0]);
    hash.update(offset.to_le_bytes());
    hash.update([0]);
    hash.update(line);
    hex(&hash.finalize()[..16])
}

/// The id of a record that names its own; `None` when it is empty.
fn given_id(value: &[u8]) -> Option<String> {
    match value.len() {
        0 => None,
        16 => Some(hex(value)),
        32 if value.iter().all(u8::is_ascii_hexdigit) => {
            Some(String::from_utf8_lossy(value).to_ascii_lowercase())
        }
        _ => Some(hex(&Sha256::digest(value)[..16])),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// The event of a record that could be read, with the line's own id unless a mapping names another.
pub(super) fn assemble(
    id: String,
    format: Format,
    mappings: &[Mapping],
    fields: Vec<Field<'_>>,
) -> Result<IngestEvent, String> {
    let mut event = IngestEvent {
        id,
        ..IngestEvent::default()
    };
    let mut is_used = vec![false; fields.len()];
    for role in Role::ALL {
        let mapped = mappings.iter().find(|mapping| mapping.role == role);
        let name = match (mapped, format) {
            (Some(mapping), _) => mapping.field.as_str(),
            (None, Format::Combined) => match combined::field_of(role) {
                Some(name) => name,
                None => continue,
            },
            (None, Format::Ndjson | Format::Csv) => continue,
        };
        let Some(idx) = fields.iter().position(|(field, _)| field == name) else {
            continue;
        };
        is_used[idx] = true;
        let value = &*fields[idx].1;
        match role {
            Role::Id => event.id = given_id(value).unwrap_or(event.id),
            Role::Time if value.is_empty() => {}
            Role::Time => {
                let ms = milliseconds(value).ok_or_else(|| bad_time(name, value))?;
                event.roles.push((role.word().to_owned(), Bytes::Text(ms)));
            }
            Role::Key | Role::Type | Role::Value | Role::Product | Role::Session => {
                event
                    .roles
                    .push((role.word().to_owned(), Bytes::from(value)));
            }
        }
    }
    for ((name, value), is_used) in fields.into_iter().zip(is_used) {
        if !is_used || (format == Format::Combined && combined::is_always_carried(&name)) {
            event.fields.push((name.into_owned(), Bytes::from(&*value)));
        }
    }
    Ok(event)
}

/// Milliseconds since 1970 as decimal text, from integer milliseconds or RFC 3339.
fn milliseconds(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    if let Ok(ms) = text.parse::<i64>() {
        return Some(ms.to_string());
    }
    let timestamp: jiff::Timestamp = text.parse().ok()?;
    Some(timestamp.as_millisecond().to_string())
}

fn bad_time(name: &str, value: &[u8]) -> String {
    let name = escape(name);
    let shown = Untrusted::new(value)
        .to_display(Some(60), Mode::Unicode)
        .text;
    format!("the time in field \"{name}\" is neither integer milliseconds nor RFC 3339: {shown}")
}

/// The event of a record that could not be read: `raw` holds its bytes, all of them unless the event would not fit a push.
pub(super) fn unreadable(id: &str, record: &Record<'_>, reason: &str) -> IngestEvent {
    let reason = cut_text(reason);
    let whole = |raw: &[u8], reason: &str| IngestEvent {
        id: id.to_owned(),
        roles: Vec::new(),
        fields: vec![
            ("raw".to_owned(), Bytes::from(raw)),
            ("parse_error".to_owned(), Bytes::Text(reason.to_owned())),
        ],
    };
    let kept = &record.bytes[..kept_len(record.bytes)];
    if record.is_whole() {
        if kept.len() == record.bytes.len() {
            return whole(kept, reason);
        }
        if let Ok(event) = check_size(whole(record.bytes, reason)) {
            return event;
        }
    }
    let n_kept = kept.len();
    let n_all = record.size_bytes;
    whole(
        kept,
        &format!("{reason}; raw holds the first {n_kept} of {n_all} bytes"),
    )
}

fn cut_text(text: &str) -> &str {
    let mut cut = text.len().min(MAX_REASON);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    &text[..cut]
}

/// At most [`KEPT_BYTES`], and not in the middle of a character, so that what is UTF-8 stays it.
fn kept_len(bytes: &[u8]) -> usize {
    if bytes.len() <= KEPT_BYTES {
        return bytes.len();
    }
    match std::str::from_utf8(&bytes[..KEPT_BYTES]) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => KEPT_BYTES,
    }
}

/// Refuses an event over [`MAX_EVENT`].
pub(super) fn check_size(event: IngestEvent) -> Result<IngestEvent, String> {
    // JSON writes a byte with at most six, so nearly no event needs to be measured exactly.
    if rough_len(&event) * 6 <= MAX_EVENT {
        return Ok(event);
    }
    let size_bytes = encoded_len(&event);
    if size_bytes <= MAX_EVENT {
        return Ok(event);
    }
    Err(format!(
        "an event of {size_bytes} bytes; at most {MAX_EVENT} can be sent"
    ))
}

/// Bytes that the event takes in a push, a comma behind it included.
pub fn encoded_len(event: &IngestEvent) -> usize {
    let mut counter = Counter(1);
    // Neither can the counter fail nor does an event hold anything but strings.
    let _ = serde_json::to_writer(&mut counter, event);
    counter.0
}

fn rough_len(event: &IngestEvent) -> usize {
    let around = 60 + event.id.len();
    let pairs = event.roles.iter().chain(&event.fields);
    around
        + pairs
            .map(|(name, value)| name.len() + len_of(value) + 20)
            .sum::<usize>()
}

fn len_of(value: &Bytes) -> usize {
    match value {
        Bytes::Text(text) => text.len(),
        Bytes::Binary { b64 } => b64.len(),
    }
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
