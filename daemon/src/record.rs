//! A stream entry inside the house: its id and its fields, byte for byte and in order.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// Id of a stream entry: milliseconds and a sequence number, ordered as Redis orders them (as numbers, never as text).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since 1970 by the server's clock, unless a client chose the id.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl EntryId {
    /// `0-0`, below every entry.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// Above every entry.
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// The next greater id; saturates.
    #[must_use]
    pub fn next(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None => Self {
                ms: self.ms.saturating_add(1),
                seq: 0,
            },
        }
    }

    /// The next smaller id; saturates.
    #[must_use]
    pub fn previous(self) -> Self {
        match self.seq.checked_sub(1) {
            Some(seq) => Self { ms: self.ms, seq },
            None if self.ms == 0 => Self::MIN,
            None => Self {
                ms: self.ms - 1,
                seq: u64::MAX,
            },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text was no entry id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no entry id (milliseconds-sequence, such as 1700000000000-0)")]
pub struct BadEntryId(pub String);

impl FromStr for EntryId {
    type Err = BadEntryId;

    fn from_str(text: &str) -> Result<Self, BadEntryId> {
        let bad = || BadEntryId(text.chars().take(64).collect());
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        let number = |part: &str| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad());
            }
            part.parse().map_err(|_| bad())
        };
        Ok(Self {
            ms: number(ms)?,
            seq: number(seq)?,
        })
    }
}

/// Fields of an entry in order; names may repeat. Cheap to clone: the bytes are shared.
pub type Fields = Vec<(Bytes, Bytes)>;

/// One entry as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its id in the stream it was read from.
    pub id: EntryId,
    /// Its fields.
    pub fields: Fields,
}

impl Record {
    /// The first field with this name.
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The first field with this name, where it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name.as_bytes())
            .and_then(|v| std::str::from_utf8(v).ok())
    }

    /// Sets the first field with this name, or adds it at the end.
    pub fn set(&mut self, name: Bytes, value: Bytes) {
        match self.fields.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name, value)),
        }
    }

    /// Bytes of all names and values.
    pub fn size(&self) -> u64 {
        self.fields
            .iter()
            .map(|(n, v)| (n.len() + v.len()) as u64)
            .sum()
    }
}

/// Most fields of an entry that is worked or forwarded. Arbitrary, and far below the 3,999 or so that a script of Redis
/// can add at once, which must not be found out after its first write.
pub const FIELDS_MAX: usize = 1_024;

/// Reserved field: intended send time in microseconds, written by our doors and carried over hops.
pub const FIELD_SENT: &[u8] = b"_t";
/// Reserved field: where a redriven entry came from.
pub const FIELD_ORIGIN: &[u8] = b"_origin";
/// Reserved field: id of the dead letter that this entry redrives.
pub const FIELD_REDRIVE: &[u8] = b"_redrive";
/// Reserved field beside `_redrive`, where several stages read the stream: the stage for which it was sent again. The
/// others have worked the entry in its first life, and pass over it.
pub const FIELD_REDRIVE_FOR: &[u8] = b"_redrive_for";
/// Reserved field: why a line could not be parsed; the first stage dead-letters such entries.
pub const FIELD_PARSE_ERROR: &[u8] = b"parse_error";
/// Reserved field beside `parse_error`: the line's own bytes.
pub const FIELD_RAW: &[u8] = b"raw";

/// The 16 bytes by which the id window knows an event: the id itself where it is 16 bytes long, else the first 16 bytes
/// of its SHA-256 (semantics.md section 5).
pub fn event_id(id: &[u8]) -> [u8; 16] {
    use sha2::Digest as _;
    if let Ok(id) = id.try_into() {
        return id;
    }
    let digest = sha2::Sha256::digest(id);
    let mut short = [0u8; 16];
    short.copy_from_slice(&digest[..16]);
    short
}
