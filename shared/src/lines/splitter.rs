//! Cuts a stream into records with their offsets, however it is read.

use super::csv::{Scanner, Step};
use super::{Format, KEPT_BYTES, MAX_RECORD};

/// A piece of the input that should become one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins in the decompressed stream, in bytes.
    pub offset: u64,
    /// Its bytes without the line end; of a record over [`MAX_RECORD`] the first [`KEPT_BYTES`].
    pub bytes: &'a [u8],
    /// Its length in the stream, line end not counted (of a cut record a carriage return is).
    pub size_bytes: u64,
}

impl Record<'_> {
    /// Whether `bytes` is all of it.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.size_bytes
    }
}

/// Cuts one input. After each [`Splitter::push`], and after [`Splitter::finish`], call [`Splitter::next_record`] until it
/// answers `None`; then at most [`MAX_RECORD`] bytes and one read are kept.
///
/// - Records end at a newline (`\n` or `\r\n`), in CSV at one outside quotes. Empty ones are passed over and not counted.
///   A byte order mark at the start of the stream belongs to no record.
/// - A record over [`MAX_RECORD`] is passed over to its newline and comes out with its first [`KEPT_BYTES`].
/// - A broken quote in CSV costs one line: if a quoted field has text behind its closing quote, or does not close within
///   [`MAX_RECORD`] or the stream, the record's first line comes out by itself, and the next record is looked for
///   behind it. Each byte is then looked at no more than a few times: scanned strictly, two lines that both begin
///   outside quotes by their own count cannot both stay open over the same lines.
#[derive(Debug)]
pub struct Splitter {
    format: Format,
    buffer: Vec<u8>,
    /// Where the current record begins in `buffer`.
    start: usize,
    /// Offset of `start` in the stream.
    offset: u64,
    /// Bytes of the current record that were looked at.
    n_scanned: usize,
    /// CSV: the state after them.
    scanner: Scanner,
    /// The current record goes to the next newline, quotes or not.
    is_plain_line: bool,
    /// The current record is over the limit; this many bytes behind its first [`KEPT_BYTES`] were dropped.
    n_dropped: Option<u64>,
    /// The byte order mark was looked for.
    has_begun: bool,
    has_ended: bool,
}

/// What the bytes at hand say of the current record.
enum Found {
    /// It ends before `len`; the next one begins at `next`, both counted from `start`.
    End { len: usize, next: usize },
    /// It goes on behind them.
    More,
    /// It is over the limit.
    TooLong,
    /// Its quotes are broken.
    Broken,
}

impl Splitter {
    /// At the start of a stream.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            buffer: Vec::new(),
            start: 0,
            offset: 0,
            n_scanned: 0,
            scanner: Scanner::default(),
            is_plain_line: format != Format::Csv,
            n_dropped: None,
            has_begun: false,
            has_ended: false,
        }
    }

    /// Adds bytes that were read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Says that the stream has ended: what is left is the last record.
    pub fn finish(&mut self) {
        self.has_ended = true;
    }

    /// The next record; `None` until more is pushed, or for good after the last one.
    pub fn next_record(&mut self) -> Option<Record<'_>> {
        if !self.pass_byte_order_mark() {
            return None;
        }
        loop {
            match self.find_end() {
                Found::More => return None,
                Found::TooLong => self.n_dropped = Some(0),
                Found::Broken => self.restart_as_line(),
                Found::End { len, next } => {
                    let (from, offset) = (self.start, self.offset);
                    let n_dropped = self.n_dropped.unwrap_or(0);
                    let ends_with_return = len > 0 && self.buffer[from + len - 1] == b'\r';
                    // The last of the kept bytes of a cut record stands before no newline.
                    let is_line_end = ends_with_return && self.n_dropped.is_none();
                    let len = len - usize::from(is_line_end);
                    self.start += next;
                    self.offset += next as u64 + n_dropped;
                    self.begin_record();
                    if len > 0 {
                        let bytes = &self.buffer[from..from + len];
                        let size_bytes = len as u64 + n_dropped;
                        return Some(Record {
                            offset,
                            bytes,
                            size_bytes,
                        });
                    }
                }
            }
        }
    }

    /// Bytes in memory, for tests of the bound.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether it is known that there is none, or it was passed over.
    fn pass_byte_order_mark(&mut self) -> bool {
        const MARK: &[u8] = "\u{feff}".as_bytes();
        if self.has_begun {
            return true;
        }
        if self.buffer.len() < MARK.len() && MARK.starts_with(&self.buffer) && !self.has_ended {
            return false;
        }
        if self.buffer.starts_with(MARK) {
            self.start = MARK.len();
            self.offset = MARK.len() as u64;
        }
        self.has_begun = true;
        true
    }

    fn begin_record(&mut self) {
        self.n_scanned = 0;
        self.scanner = Scanner::default();
        self.is_plain_line = self.format != Format::Csv;
        self.n_dropped = None;
    }

    /// Gives up the quotes of the current record: its first line stands for itself.
    fn restart_as_line(&mut self) {
        self.begin_record();
        self.is_plain_line = true;
    }

    fn find_end(&mut self) -> Found {
        if self.n_dropped.is_some() {
            self.find_end_of_too_long()
        } else if self.is_plain_line {
            self.find_newline()
        } else {
            self.find_end_of_row()
        }
    }

    fn find_newline(&mut self) -> Found {
        let bytes = &self.buffer[self.start..];
        let newline = bytes[self.n_scanned..]
            .iter()
            .position(|byte| *byte == b'\n');
        let len = newline.map_or(bytes.len(), |idx| self.n_scanned + idx);
        match newline {
            _ if is_over(bytes, len) => Found::TooLong,
            Some(_) => Found::End { len, next: len + 1 },
            None if self.has_ended && len > 0 => Found::End { len, next: len },
            None => {
                self.n_scanned = len;
                Found::More
            }
        }
    }

    /// Behind the kept bytes, drops everything up to the newline.
    fn find_end_of_too_long(&mut self) -> Found {
        let from = self.start + KEPT_BYTES;
        let newline = self.buffer[from..].iter().position(|byte| *byte == b'\n');
        let n_over = newline.unwrap_or(self.buffer.len() - from);
        self.buffer.drain(from..from + n_over);
        self.n_dropped = self.n_dropped.map(|n| n + n_over as u64);
        match newline {
            Some(_) => Found::End {
                len: KEPT_BYTES,
                next: KEPT_BYTES + 1,
            },
            None if self.has_ended => Found::End {
                len: KEPT_BYTES,
                next: KEPT_BYTES,
            },
            None => Found::More,
        }
    }

    fn find_end_of_row(&mut self) -> Found {
        let bytes = &self.buffer[self.start..];
        while let Some(byte) = bytes.get(self.n_scanned) {
            let at = self.n_scanned;
            match self.scanner.step(*byte) {
                // As a line of its own the record is found to be over the limit again, and then cut.
                _ if is_over(bytes, at) => return Found::Broken,
                Step::RecordEnd => {
                    return Found::End {
                        len: at,
                        next: at + 1,
                    };
                }
                Step::Broken => return Found::Broken,
                Step::Within | Step::FieldEnd => {}
            }
            self.n_scanned += 1;
        }
        match self.scanner {
            _ if is_over(bytes, bytes.len()) => Found::Broken,
            _ if !self.has_ended || bytes.is_empty() => Found::More,
            Scanner::Quoted => Found::Broken,
            Scanner::Start | Scanner::Plain | Scanner::Closed | Scanner::ClosedReturn => {
                Found::End {
                    len: bytes.len(),
                    next: bytes.len(),
                }
            }
        }
    }
}

/// Whether a record of the first `len` bytes is over the limit. One byte more is not, where it is the carriage return
/// of a line end.
fn is_over(bytes: &[u8], len: usize) -> bool {
    len > MAX_RECORD + 1 || (len == MAX_RECORD + 1 && bytes[MAX_RECORD] != b'\r')
}
