//! Framing of the control socket: one JSON document a line, at most [`MAX_LINE`] bytes with its newline.
//!
//! Sans I/O: the caller reads and writes the socket, both ends use the same two halves. What the documents mean is
//! `rpc`'s. The peer is not trusted: a line's length is checked before it is kept, its UTF-8 and nesting before it is
//! parsed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::untrusted::{Mode, Untrusted};

/// Longest line in bytes, the newline included: 1 MiB (contract.md "Control socket").
pub const MAX_LINE: usize = 1 << 20;

/// Deepest nesting of arrays and objects in a document. Our own documents need about ten.
pub const MAX_DEPTH: usize = 64;

/// The peer sent more than [`MAX_LINE`] bytes without a newline. Answer [`crate::rpc::Code::TooLarge`] and close the
/// connection: where the next line begins is not looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {MAX_LINE} bytes")]
pub struct TooLong;

/// A document of ours does not fit a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Over [`MAX_LINE`]; answer something shorter.
    #[error("a document of {size_bytes} bytes; a line holds {MAX_LINE}")]
    TooLarge {
        /// What it would have taken, newline included.
        size_bytes: usize,
    },
    /// The value is no JSON, such as a map with keys that are no strings. A fault of ours.
    #[error("{0}")]
    NotJson(String),
}

/// A line that is no message. The connection goes on with the next line: answer [`crate::rpc::Code::Parse`] or
/// [`crate::rpc::Code::InvalidRequest`].
///
/// The messages may quote parts of the line; they are clean and at most [`MAX_MESSAGE`] columns wide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not UTF-8.
    #[error("a line that is no UTF-8 at byte {at}")]
    NotUtf8 {
        /// Offset of the first byte that belongs to no character.
        at: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("a document nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Not JSON.
    #[error("no JSON: {0}")]
    NotJson(String),
    /// JSON of another shape than was asked for.
    #[error("not the expected message: {0}")]
    Unexpected(String),
}

/// Widest message of a [`LineError`] in columns. Arbitrary.
pub const MAX_MESSAGE: usize = 300;

/// One line without its newline; neither empty nor longer than [`MAX_LINE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    bytes: Vec<u8>,
}

impl Line {
    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`LineError`], in the order of its variants.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, LineError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|error| LineError::NotUtf8 {
            at: error.valid_up_to(),
        })?;
        if is_deeper_than(text.as_bytes(), MAX_DEPTH) {
            return Err(LineError::TooDeep);
        }
        serde_json::from_str(text).map_err(|error| {
            let message = short(&error.to_string());
            match error.classify() {
                serde_json::error::Category::Data => LineError::Unexpected(message),
                serde_json::error::Category::Io
                | serde_json::error::Category::Syntax
                | serde_json::error::Category::Eof => LineError::NotJson(message),
            }
        })
    }
}

/// Cleans a message of the parser, which may quote any length of the peer's text.
fn short(message: &str) -> String {
    let shown = Untrusted::new(message).to_display(Some(MAX_MESSAGE), Mode::Unicode);
    shown.text
}

/// Whether brackets outside strings nest deeper than `most`. One pass without allocation; on text that is no JSON the
/// answer may be either, and the parser then says no.
fn is_deeper_than(text: &[u8], most: usize) -> bool {
    let mut depth = 0_usize;
    let mut is_in_string = false;
    let mut is_escaped = false;
    for byte in text {
        if is_in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => is_in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Cuts a stream of bytes into lines. Owned by whoever reads the socket; after each [`Decoder::push`] call
/// [`Decoder::next_line`] until it answers `None`, then at most one line and one read are kept in memory.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the current line begins in `buffer`.
    start: usize,
    /// Up to where `buffer` was searched for a newline.
    searched: usize,
    is_too_long: bool,
}

impl Decoder {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that were read. After [`TooLong`] they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.is_too_long {
            return;
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line; empty ones (a lone `\r\n` too) are passed over.
    ///
    /// # Errors
    /// [`TooLong`], and from then on always.
    pub fn next_line(&mut self) -> Result<Option<Line>, TooLong> {
        while !self.is_too_long {
            let newline = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            let end = newline.map_or(self.buffer.len(), |idx| self.searched + idx);
            if end - self.start >= MAX_LINE {
                self.is_too_long = true;
                self.buffer = Vec::new();
                break;
            }
            if newline.is_none() {
                self.searched = end;
                return Ok(None);
            }
            let line = &self.buffer[self.start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.start = end + 1;
            self.searched = self.start;
            if !line.is_empty() {
                return Ok(Some(Line {
                    bytes: line.to_vec(),
                }));
            }
        }
        Err(TooLong)
    }

    /// Whether a line has begun and not ended: at the end of the stream this tells a cut message from a clean close.
    pub fn is_within_line(&self) -> bool {
        self.is_too_long || self.start < self.buffer.len()
    }
}

/// One message as a line, newline included. Serialized JSON holds no raw newline, so one message is always one line.
///
/// # Errors
/// [`EncodeError`]; nothing must be sent then.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, EncodeError> {
    let mut line = serde_json::to_vec(message)
        .map_err(|error| EncodeError::NotJson(short(&error.to_string())))?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(EncodeError::TooLarge {
            size_bytes: line.len(),
        });
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::untrusted::corpus;

    /// All lines of a stream that comes in reads of `chunk` bytes.
    fn lines(stream: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut decoder = Decoder::new();
        let mut lines = Vec::new();
        for bytes in stream.chunks(chunk) {
            decoder.push(bytes);
            while let Some(line) = decoder.next_line()? {
                lines.push(line.bytes);
            }
        }
        Ok(lines)
    }

    fn line(bytes: &[u8]) -> Line {
        Line {
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn lines_come_out_whole_however_they_are_read() {
        let stream = b"{\"a\":1}\r\n\n\r\n[2]\n3";
        for chunk in 1..=stream.len() {
            assert_eq!(
                lines(stream, chunk).unwrap(),
                [b"{\"a\":1}".to_vec(), b"[2]".to_vec()]
            );
        }
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let mut stream = vec![b'1'; MAX_LINE - 1];
        stream.push(b'\n');
        for chunk in [4_096, 1_000_003, stream.len()] {
            assert_eq!(lines(&stream, chunk).unwrap().len(), 1);
            let mut longer = stream.clone();
            longer.insert(0, b'1');
            assert_eq!(lines(&longer, chunk), Err(TooLong));
        }
    }

    #[test]
    fn a_flood_without_newline_is_not_kept() {
        let mut decoder = Decoder::new();
        let mut is_refused = false;
        for _ in 0..64 {
            decoder.push(&[b'x'; 1 << 16]);
            is_refused = decoder.next_line() == Err(TooLong);
            assert!(decoder.buffer.len() <= MAX_LINE + (1 << 16));
        }
        assert!(is_refused, "the refusal is final");
        decoder.push(b"\n{}\n");
        assert_eq!(decoder.next_line(), Err(TooLong));
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn a_cut_line_is_told_from_a_clean_close() {
        let mut decoder = Decoder::new();
        assert!(!decoder.is_within_line());
        decoder.push(b"{}\n{");
        assert_eq!(decoder.next_line(), Ok(Some(line(b"{}"))));
        assert_eq!(decoder.next_line(), Ok(None));
        assert!(decoder.is_within_line());
    }

    #[test]
    fn what_is_no_message_gets_its_own_error() {
        assert_eq!(
            line(b"\"\xff\"").parse::<Value>(),
            Err(LineError::NotUtf8 { at: 1 })
        );
        assert!(matches!(
            line(b"{").parse::<Value>(),
            Err(LineError::NotJson(_))
        ));
        assert!(matches!(
            line(b"{} {}").parse::<Value>(),
            Err(LineError::NotJson(_))
        ));
        assert!(matches!(
            line(b"\"a\"").parse::<u8>(),
            Err(LineError::Unexpected(_))
        ));
        assert_eq!(line(b"[1]").parse::<Vec<u8>>(), Ok(vec![1]));
    }

    #[test]
    fn nesting_has_a_limit_and_brackets_in_strings_do_not_count() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(line(nested(MAX_DEPTH).as_bytes()).parse::<Value>().is_ok());
        for n in [MAX_DEPTH + 1, 100_000] {
            assert_eq!(
                line(nested(n).as_bytes()).parse::<Value>(),
                Err(LineError::TooDeep)
            );
        }
        let text = json!("\"\\".to_owned() + &"[".repeat(100)).to_string();
        assert!(line(text.as_bytes()).parse::<Value>().is_ok());
        let flat = json!(vec![json!([]); 1_000]).to_string();
        assert!(line(flat.as_bytes()).parse::<Value>().is_ok());
    }

    #[test]
    fn error_messages_repeat_no_harmful_text() {
        for corpus::Hostile { desc, bytes } in corpus::hostile() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let document = json!(text).to_string();
            for error in [
                line(document.as_bytes()).parse::<u8>(),
                line(&bytes).parse::<u8>(),
            ] {
                let message = error.expect_err(desc).to_string();
                assert!(!message.contains(char::is_control), "{desc}: {message:?}");
                assert!(
                    !message.contains('\u{202e}') && message.len() < 2 * MAX_MESSAGE,
                    "{desc}"
                );
            }
        }
    }

    #[test]
    fn a_document_over_the_limit_is_not_sent() {
        let fits = "x".repeat(MAX_LINE - 3);
        assert_eq!(encode(&fits).unwrap().len(), MAX_LINE);
        let size_bytes = MAX_LINE + 1;
        assert_eq!(
            encode(&(fits + "x")),
            Err(EncodeError::TooLarge { size_bytes })
        );
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(encode(&no_json), Err(EncodeError::NotJson(_))));
    }

    proptest! {
        #[test]
        fn every_message_is_one_line_and_comes_back(messages in prop::collection::vec("\\PC*|(?s).*", 0..8), chunk in 1_usize..50) {
            let mut stream = Vec::new();
            for message in &messages {
                let line = encode(message).unwrap();
                prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                stream.extend(line);
            }
            let lines = lines(&stream, chunk).unwrap();
            let back: Vec<String> = lines.iter().map(|bytes| line(bytes).parse().unwrap()).collect();
            prop_assert_eq!(back, messages);
        }

        #[test]
        fn no_bytes_panic(stream in prop::collection::vec(any::<u8>(), 0..200), chunk in 1_usize..50) {
            for bytes in lines(&stream, chunk).unwrap() {
                let _ = line(&bytes).parse::<Value>();
            }
        }
    }
}
