//! From bytes to events: the only file of `pipectl` that knows how `shared::lines` cuts and reads an input.

pub(super) use pipectl_shared::lines::{Format, Mapping};
use pipectl_shared::lines::{LineParser, Splitter, encoded_len};
use pipectl_shared::rpc::IngestEvent;

use crate::failure::{Exit, Failure};

/// An event and how many bytes it has on the wire.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) event: IngestEvent,
    pub(super) bytes: usize,
}

/// One input on its way from bytes to events.
#[derive(Debug)]
pub(super) struct Feed {
    splitter: Splitter,
    parser: LineParser,
    is_checked: bool,
}

impl Feed {
    /// A wrong mapping is a wrong command line.
    pub(super) fn new(format: Format, mappings: Vec<Mapping>, name: &str) -> Result<Self, Failure> {
        let parser = LineParser::new(format, mappings, name)
            .map_err(|error| Failure::new(Exit::Usage, format!("read the mappings: {error}")))?;
        Ok(Self {
            splitter: Splitter::new(format),
            parser,
            is_checked: false,
        })
    }

    /// Adds bytes; [`Feed::next`] then gives the events that became whole.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.splitter.push(bytes);
    }

    /// The input has ended.
    pub(super) fn finish(&mut self) {
        self.splitter.finish();
    }

    /// The next event of what was pushed; `None` = push more. A mapped column that the file does not have is refused
    /// before its first row.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Failure> {
        while let Some(record) = self.splitter.next_record() {
            let event = self.parser.event(&record);
            if !self.is_checked {
                self.is_checked = true;
                let missing = self.parser.missing_columns();
                if !missing.is_empty() {
                    let message = format!(
                        "read the header row: it has no column {}",
                        missing.join(", ")
                    );
                    return Err(Failure::new(Exit::Usage, message)
                        .hint("compare --map with the file's first line"));
                }
            }
            if let Some(event) = event {
                let bytes = encoded_len(&event);
                return Ok(Some(Line { event, bytes }));
            }
        }
        Ok(None)
    }
}

/// The format by the file's name, else by how its first bytes look; `None` when neither tells.
pub(super) fn guess(name: &str, head: &[u8]) -> Option<Format> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("ndjson" | "jsonl" | "json") => return Some(Format::Ndjson),
        Some("csv") => return Some(Format::Csv),
        _ => {}
    }
    let head = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty())?
        .trim_ascii();
    let has = |needle: &[u8]| line.windows(needle.len()).any(|window| window == needle);
    if line.starts_with(b"{") {
        Some(Format::Ndjson)
    } else if has(b" [") && has(b"] \"") {
        Some(Format::Combined)
    } else if line.contains(&b',') {
        Some(Format::Csv)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_guessed_by_name_and_then_by_content() {
        let table: &[(&str, &str, Option<Format>)] = &[
            ("a.ndjson", "", Some(Format::Ndjson)),
            ("a.JSONL.gz", "x,y", Some(Format::Ndjson)),
            ("a.csv.gz", "{}", Some(Format::Csv)),
            ("a.log", "\u{feff}{\"a\":1}\n", Some(Format::Ndjson)),
            (
                "access.log",
                "1.2.3.4 - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 5",
                Some(Format::Combined),
            ),
            ("stdin", "\n\na,b\n1,2\n", Some(Format::Csv)),
            ("stdin", "hello", None),
            ("stdin", "", None),
        ];
        for (name, head, expected) in table {
            assert_eq!(guess(name, head.as_bytes()), *expected, "{name}: {head}");
        }
    }
}
