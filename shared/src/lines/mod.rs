//! From the bytes of an input file to events for `ingest.push` (semantics.md section 5, contract.md "ingest").
//!
//! Sans I/O, in two halves: [`Splitter`] cuts the decompressed stream into records with their offsets, [`LineParser`]
//! makes an [`IngestEvent`] of each. Nothing is ever dropped: a record that cannot be read becomes an event with the
//! fields `raw` (its bytes) and `parse_error` (why), which the first stage dead-letters. Called by `pipectl ingest`;
//! knows neither files nor gzip nor the socket.
//!
//! **Values** are carried byte for byte as the input has them: numbers as they are written, and the escapes that a web
//! server put into its log. Exceptions: JSON strings are decoded, JSON `null` means that the field is absent, nested JSON
//! becomes compact JSON text, CSV quotes are removed, and the time role becomes milliseconds.
//!
//! **Roles** come from the mappings, and for the combined format from its table ([`Format::Combined`]) where no mapping
//! says otherwise. A field that plays a role is not repeated under its own name, but for the fields that every line of the
//! combined format has beside its roles (`status`, `protocol`, `referer`, `agent`, `query`, `ident`, `user`). A field that
//! is missing, or a time that is empty, leaves its role out; whether the pipeline needs it is for its first stage to say.
//!
//! **Ids.** An event's id is the first 16 bytes, as 32 hex digits, of SHA-256 over the input's name, a zero byte, the
//! record's offset in the decompressed stream as 64 bits little-endian, a zero byte, and the record's bytes without its
//! line end (of a record over [`MAX_RECORD`] its first [`KEPT_BYTES`]). So the same file under the same name gives the
//! same ids, and a second `ingest` of it is deduplicated. With `--map id=FIELD` the field's value is the id: 32 hex
//! digits are taken as they are (in lower case), 16 bytes as their hex digits, anything else as the first 16 bytes of
//! its SHA-256. A record without that field, or with an empty one, has the id of its line.

mod combined;
mod csv;
mod event;
mod json;
mod mapping;
mod splitter;

use crate::rpc::IngestEvent;

pub use self::event::{MAX_EVENT, encoded_len};
pub use self::mapping::{Mapping, MappingError, Role};
pub use self::splitter::{Record, Splitter};

/// Longest record in bytes, line end not counted: 1 MiB. A longer one becomes an event with `parse_error` and its first
/// [`KEPT_BYTES`].
pub const MAX_RECORD: usize = 1 << 20;

/// How much of a record is kept that is too long to be carried whole.
pub const KEPT_BYTES: usize = 64 * 1024;

/// Most fields of a record, and most columns of a CSV header. A little below what the daemon works in one entry, so that
/// the fields that it adds have room; an entry with thousands of fields is a mistake.
pub const MAX_FIELDS: usize = 1_000;

/// What the input is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180 with a header row: commas, `"` around fields that need it, `""` for a quote inside. As strict as that,
    /// since a stray quote is the only sign of a broken file. Repeated column names get `.2`, `.3`..., empty ones are
    /// called `column_N`.
    Csv,
    /// The access log of Apache and nginx: `host ident user [time] "request" status bytes "referer" "agent"`. Roles: key =
    /// host, type = method, time, value = bytes (`-` is 0), product = path (the target without its query). A request
    /// that is none (`-`, or a TLS greeting on a plain port) is carried as `request`, without type and product.
    Combined,
}

impl Format {
    /// The words of `--format`, in the order in which help shows them.
    pub const WORDS: [&'static str; 3] = ["ndjson", "csv", "combined"];

    /// The word of `--format`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Combined => "combined",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = MappingError;

    fn from_str(word: &str) -> Result<Self, MappingError> {
        let formats = [Self::Ndjson, Self::Csv, Self::Combined];
        let found = formats.into_iter().find(|format| format.word() == word);
        found.ok_or_else(|| MappingError::UnknownFormat(crate::untrusted::escape(word)))
    }
}

/// Makes events of the records of one input. Keeps the header row of a CSV input and nothing else.
#[derive(Debug)]
pub struct LineParser {
    format: Format,
    mappings: Vec<Mapping>,
    name: String,
    /// CSV: the columns, or why the header could not be read; `None` before the first record.
    header: Option<Result<Vec<String>, String>>,
}

impl LineParser {
    /// `name` is `--name`: part of the ids.
    ///
    /// # Errors
    /// When a role is mapped twice, or to a field that the combined format does not have.
    pub fn new(format: Format, mappings: Vec<Mapping>, name: &str) -> Result<Self, MappingError> {
        mapping::check(format, &mappings)?;
        Ok(Self {
            format,
            mappings,
            name: name.to_owned(),
            header: None,
        })
    }

    /// The event of a record; `None` for the header row of a CSV input, which is none. Records come in order.
    pub fn event(&mut self, record: &Record<'_>) -> Option<IngestEvent> {
        let id = event::id(&self.name, record.offset, record.bytes);
        if self.format == Format::Csv && self.header.is_none() {
            let header = self.read_header(record);
            let fault = header.as_ref().err().cloned();
            self.header = Some(header);
            return fault.map(|reason| event::unreadable(&id, record, &reason));
        }
        let event = self
            .fields(record)
            .and_then(|fields| event::assemble(id.clone(), self.format, &self.mappings, fields))
            .and_then(event::check_size);
        Some(event.unwrap_or_else(|reason| event::unreadable(&id, record, &reason)))
    }

    /// [`LineParser::event`] for a line that is whole, at `offset` in the decompressed stream.
    pub fn parse(&mut self, offset: u64, line: &[u8]) -> Option<IngestEvent> {
        let size_bytes = line.len() as u64;
        self.event(&Record {
            offset,
            bytes: line,
            size_bytes,
        })
    }

    /// Fields named in mappings that the header row of a CSV input lacks: their roles will be missing in every row, so
    /// the caller had better refuse. Empty before the header was read, and for the other formats.
    pub fn missing_columns(&self) -> Vec<&str> {
        let Some(Ok(header)) = &self.header else {
            return Vec::new();
        };
        let fields = self.mappings.iter().map(|mapping| mapping.field.as_str());
        fields
            .filter(|field| !header.iter().any(|column| column == field))
            .collect()
    }

    fn read_header(&self, record: &Record<'_>) -> Result<Vec<String>, String> {
        check_whole(record)?;
        csv::header(record.bytes).map_err(|reason| format!("the header row: {reason}"))
    }

    fn fields<'r>(&'r self, record: &Record<'r>) -> Result<Vec<event::Field<'r>>, String> {
        check_whole(record)?;
        match self.format {
            Format::Ndjson => json::fields(record.bytes),
            Format::Combined => combined::fields(record.bytes),
            Format::Csv => match self.header.as_ref() {
                Some(Ok(header)) => csv::fields(header, record.bytes),
                Some(Err(reason)) => Err(format!("no columns, for lack of a header ({reason})")),
                None => Err("no columns, for lack of a header".to_owned()),
            },
        }
    }
}

fn check_whole(record: &Record<'_>) -> Result<(), String> {
    if record.is_whole() {
        return Ok(());
    }
    Err(format!(
        "a record of {} bytes; at most {MAX_RECORD} are read",
        record.size_bytes
    ))
}

#[cfg(test)]
mod tests;
