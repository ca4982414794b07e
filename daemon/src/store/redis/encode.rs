//! A [`Commit`] as arguments of `commit.lua`: effects pre-aggregated over the whole batch, one delta per counter.
//!
//! Cost per record: no allocation beyond the counters' names, about 60 bytes on the wire; per batch one msgpack blob.

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;

use crate::effect::Counter;
use crate::record::{EntryId, FIELDS_MAX, Fields};
use crate::store::{Commit, Outcome, StageLayout};

/// What `commit.lua` takes as ARGV 4, 9 and 10.
pub(super) struct Encoded {
    pub(super) flags: String,
    pub(super) batch: Vec<u8>,
    pub(super) parts: Vec<u8>,
    /// Whether any entry is forwarded; then an out-of-memory commit may not be forced.
    pub(super) forwards: bool,
}

/// Aggregated deltas of one kind of counter: name -> position in order of first sight.
#[derive(Default)]
struct Deltas<'a> {
    at: HashMap<&'a Bytes, usize>,
    list: Vec<(&'a Bytes, i64)>,
}

impl<'a> Deltas<'a> {
    fn add(&mut self, name: &'a Bytes, by: i64) -> usize {
        let next = self.list.len();
        let at = *self.at.entry(name).or_insert(next);
        if at == next {
            self.list.push((name, by));
        } else {
            self.list[at].1 = self.list[at].1.saturating_add(by);
        }
        at
    }
}

/// Encodes entries `range` of a commit. `discard` encodes `Apply` as "acknowledge by hand".
pub(super) fn encode(commit: &Commit, stage: &StageLayout, dedupe: bool, discard: bool) -> Encoded {
    let entries = &commit.entries;
    let mut counts = Deltas::default();
    let mut sessions = Deltas::default();
    // Deltas of all entries in a row, and where those of each end.
    let mut parts: Vec<(bool, usize, i64)> = Vec::with_capacity(entries.len() * 5);
    let mut ends = Vec::with_capacity(entries.len());
    let mut kinds = String::with_capacity(entries.len());
    let mut forwards = false;
    for entry in entries {
        kinds.push(match &entry.outcome {
            Outcome::Apply(_) if discard => 'x',
            Outcome::Apply(effects) => {
                for (counter, by) in &effects.adds {
                    parts.push(match counter {
                        Counter::Count(name) => (true, counts.add(name, *by), *by),
                        Counter::Session(name) => (false, sessions.add(name, *by), *by),
                    });
                }
                forwards |= stage.output.is_some() && !effects.children.is_empty();
                'a'
            }
            Outcome::Filtered => 'f',
            Outcome::Late => 'l',
            Outcome::Duplicate => 'u',
            Outcome::Dead(_) => 'd',
            Outcome::Retry { .. } => 'r',
        });
        ends.push(parts.len());
    }

    let mut batch = Writer::default();
    batch.array(8);
    batch.array(entries.len());
    for entry in entries {
        batch.id(entry.id);
    }
    batch.text(kinds.as_bytes());
    let window = dedupe && stage.reads_source;
    if window {
        batch.array(entries.len());
        for entry in entries {
            batch.text(entry.event_id.as_ref().map_or(&[][..], |id| &id[..]));
        }
    } else {
        batch.int(0);
    }
    for list in [&counts.list, &sessions.list] {
        batch.array(list.len() * 2);
        for (name, by) in list {
            batch.text(name);
            batch.int(*by);
        }
    }
    children(&mut batch, commit, stage);
    dead_letters(&mut batch, commit);
    retries(&mut batch, commit);

    let mut packed = Writer::default();
    packed.array(entries.len());
    let mut begin = 0;
    for end in ends {
        let part = &parts[begin..end];
        begin = end;
        packed.array(part.len() * 2);
        for (is_count, at, by) in part {
            // Lua counts from 1; sessions follow the counts.
            let at = at + 1 + if *is_count { 0 } else { counts.list.len() };
            packed.int(i64::try_from(at).unwrap_or(i64::MAX));
            packed.int(*by);
        }
    }
    let mut flags = String::new();
    if commit.repeated {
        flags.push('r');
    }
    if window {
        flags.push('d');
    }
    if stage.output.is_some() {
        flags.push('o');
    }
    Encoded {
        flags,
        batch: batch.bytes,
        parts: packed.bytes,
        forwards,
    }
}

fn children(batch: &mut Writer, commit: &Commit, stage: &StageLayout) {
    let emitting: Vec<_> = commit
        .entries
        .iter()
        .enumerate()
        .filter_map(|(i, entry)| match &entry.outcome {
            Outcome::Apply(effects) if stage.output.is_some() && !effects.children.is_empty() => {
                Some((i, entry.id, &effects.children))
            }
            _ => None,
        })
        .collect();
    batch.map(emitting.len());
    for (i, id, list) in emitting {
        batch.index(i);
        batch.array(list.len());
        for fields in list {
            // The first hop notes where the entry came from, so that it can be followed to its source.
            let origin = stage.reads_source
                && !fields
                    .iter()
                    .any(|(name, _)| name == crate::record::FIELD_ORIGIN);
            batch.array(fields.len() * 2 + if origin { 2 } else { 0 });
            batch.fields(fields);
            if origin {
                batch.text(crate::record::FIELD_ORIGIN);
                batch.text(id.to_string().as_bytes());
            }
        }
    }
}

fn dead_letters(batch: &mut Writer, commit: &Commit) {
    let dead: Vec<_> = commit
        .entries
        .iter()
        .enumerate()
        .filter_map(|(i, entry)| match &entry.outcome {
            Outcome::Dead(letter) => Some((i, letter)),
            _ => None,
        })
        .collect();
    batch.map(dead.len());
    for (i, letter) in dead {
        batch.index(i);
        // Beyond it as one field: Lua's `unpack` is limited to about 8,000 values.
        let packed = letter.fields.len() > FIELDS_MAX;
        batch.array(12 + if packed { 2 } else { letter.fields.len() * 2 });
        for (name, value) in [
            ("_cause", letter.cause.as_str()),
            ("_reason", letter.reason.as_str()),
            ("_error", letter.error.as_str()),
            ("_tries", &letter.tries.to_string()),
            ("_first_ms", &letter.first_ms.to_string()),
            ("_counts", "1"),
        ] {
            batch.text(name.as_bytes());
            batch.text(value.as_bytes());
        }
        if packed {
            batch.text(b"_packed");
            batch.text(&pack(&letter.fields));
        } else {
            batch.fields(&letter.fields);
        }
    }
}

fn retries(batch: &mut Writer, commit: &Commit) {
    let retries: Vec<_> = commit
        .entries
        .iter()
        .enumerate()
        .filter_map(|(i, entry)| match &entry.outcome {
            Outcome::Retry {
                not_before_ms,
                failures,
                first_ms,
                error,
            } => Some((i, format!("{not_before_ms} {failures} {first_ms} {error}"))),
            _ => None,
        })
        .collect();
    batch.map(retries.len());
    for (i, row) in retries {
        batch.index(i);
        batch.text(row.as_bytes());
    }
}

/// Fields as one value: pairs in a msgpack array.
pub(super) fn pack(fields: &Fields) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.array(fields.len() * 2);
    writer.fields(fields);
    writer.bytes
}

/// The opposite of [`pack`]; `None` when it is none of ours.
pub(super) fn unpack(packed: &Bytes) -> Option<Fields> {
    let mut rest: &[u8] = packed;
    let n = rmp::decode::read_array_len(&mut rest).ok()? as usize;
    let mut words = Vec::with_capacity(n.min(rest.len() + 1));
    for _ in 0..n {
        let len = rmp::decode::read_str_len(&mut rest).ok()? as usize;
        let start = packed.len() - rest.len();
        if rest.len() < len {
            return None;
        }
        words.push(packed.slice(start..start + len));
        rest = &rest[len..];
    }
    Some(
        words
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
    )
}

/// Event ids and fields for `admit.lua`.
pub(super) fn encode_admissions(events: &[crate::store::Admission]) -> Vec<u8> {
    let mut batch = Writer::default();
    batch.array(2);
    batch.array(events.len());
    for event in events {
        batch.text(event.event_id.as_ref().map_or(&[][..], |id| &id[..]));
    }
    batch.array(events.len());
    for event in events {
        batch.array(event.fields.len() * 2);
        batch.fields(&event.fields);
    }
    batch.bytes
}

/// `not_before failures first_ms error` as `commit.lua` keeps it.
pub(super) fn parse_retry(row: &[u8]) -> Option<(u64, u32, u64, String)> {
    let text = String::from_utf8_lossy(row);
    let mut parts = text.splitn(4, ' ');
    let not_before = parts.next()?.parse().ok()?;
    let failures = parts.next()?.parse().ok()?;
    let first = parts.next()?.parse().ok()?;
    Some((
        not_before,
        failures,
        first,
        parts.next().unwrap_or_default().to_owned(),
    ))
}

/// msgpack into a vector, which cannot fail: the results of `rmp` are for writers that can.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn array(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let Ok(_) = rmp::encode::write_array_len(&mut self.bytes, n) else {
            unreachable!("a vector takes every byte")
        };
    }

    fn map(&mut self, n: usize) {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        let Ok(_) = rmp::encode::write_map_len(&mut self.bytes, n) else {
            unreachable!("a vector takes every byte")
        };
    }

    pub(super) fn int(&mut self, n: i64) {
        let Ok(_) = rmp::encode::write_sint(&mut self.bytes, n) else {
            unreachable!("a vector takes every byte")
        };
    }

    /// An entry id as text, without a text of its own in between.
    fn id(&mut self, id: EntryId) {
        // Two numbers of at most 20 digits and a dash.
        let mut text = [0_u8; 41];
        let mut rest = &mut text[..];
        let written = write!(rest, "{id}").map(|()| rest.len());
        let n_left = written.expect("the longest id fits");
        self.text(&text[..text.len() - n_left]);
    }

    /// Lua counts from 1.
    pub(super) fn index(&mut self, i: usize) {
        self.int(i64::try_from(i + 1).unwrap_or(i64::MAX));
    }

    /// As `str`, whatever the bytes are: the server's msgpack knows no `bin`, and Lua strings are bytes.
    pub(super) fn text(&mut self, bytes: &[u8]) {
        let n = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(_) = rmp::encode::write_str_len(&mut self.bytes, n) else {
            unreachable!("a vector takes every byte")
        };
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn texts(&mut self, list: &[&Bytes]) {
        self.array(list.len());
        for text in list {
            self.text(text);
        }
    }

    fn fields(&mut self, fields: &Fields) {
        for (name, value) in fields {
            self.text(name);
            self.text(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_fields_come_back_byte_for_byte(fields in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..400)), 0..20)) {
            let fields: Fields = fields.into_iter().map(|(n, v)| (Bytes::from(n), Bytes::from(v))).collect();
            prop_assert_eq!(unpack(&Bytes::from(pack(&fields))), Some(fields));
        }

        #[test]
        fn foreign_bytes_are_no_packed_fields_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = unpack(&Bytes::from(bytes));
        }
    }

    #[test]
    fn a_retry_row_keeps_an_error_with_spaces() {
        assert_eq!(
            parse_retry(b"5 2 3 no route to host"),
            Some((5, 2, 3, "no route to host".to_owned()))
        );
        assert_eq!(parse_retry(b"garbage"), None);
    }
}
