//! Makes a stranger's text harmless: control and format characters become visible escapes. Used on every log line after
//! it was formatted, and on what another program wrote before it goes into an error (the last lines of `redis.log`).

use std::fmt::Write as _;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// A line over this many bytes is cut: an error text can carry a whole hostile entry. An arbitrary round number above
/// everything that we write ourselves.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Whether a character can move the cursor, end a line, change direction or hide: C0, DEL, C1, line and paragraph
/// separators, and Unicode's format characters (category Cf as of Unicode 16, and the blank fillers that look like none).
pub fn is_foreign(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with every foreign character as `\n`, `\x1b` or `\u{202e}`.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !is_foreign(c) => out.push(c),
            // Writing to a string cannot fail.
            c if u32::from(c) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    out
}

/// Escapes inside JSON: a foreign character above ASCII can stand only in a string there, where `\u....` means the same.
fn clean_json(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if is_foreign(c) {
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn cut(text: &str) -> &str {
    let mut end = LINE_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// One formatted event, made harmless: exactly one line.
fn line(bytes: &[u8], is_json: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let left_out = text.len().saturating_sub(cut(text).len());
    let mut out = match (is_json, left_out) {
        (true, 0) => clean_json(text),
        // Cut JSON is no JSON: what there is of it travels as a string.
        (true, _) => {
            let line = serde_json::json!({ "message": "log line too long", "left_out_bytes": left_out, "start": cut(text) });
            clean_json(&line.to_string())
        }
        (false, 0) => clean(text),
        (false, _) => format!("{} ({left_out} bytes left out)", clean(cut(text))),
    };
    out.push('\n');
    out
}

/// A way out whose every write is one event, made harmless.
#[derive(Debug, Clone)]
pub struct Cleaned<W> {
    inner: W,
    is_json: bool,
}

impl<W> Cleaned<W> {
    /// Wraps `inner`; `is_json` says what the lines are.
    pub fn new(inner: W, is_json: bool) -> Self {
        Self { inner, is_json }
    }
}

impl<W: Write> Write for Cleaned<W> {
    /// `tracing-subscriber` hands over each event whole, in one call; so everything but the last newline is content.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(line(bytes, self.is_json).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Cleaned<W> {
    type Writer = Cleaned<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Cleaned {
            inner: self.inner.make_writer(),
            is_json: self.is_json,
        }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Cleaned {
            inner: self.inner.make_writer_for(meta),
            is_json: self.is_json,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_visible_and_plain_text_is_left_alone() {
        let table = [
            ("plain, ä, 漢字, 🦀 \\ \"", "plain, ä, 漢字, 🦀 \\ \""),
            ("a\nb\r\t", "a\\nb\\r\\t"),
            ("\x1b[2J\x07", "\\x1b[2J\\x07"),
            ("\u{9b}2J\u{7f}", "\\x9b2J\\x7f"),
            ("\u{202e}\u{feff}\u{2028}", "\\u{202e}\\u{feff}\\u{2028}"),
            ("\u{e0041}", "\\u{e0041}"),
        ];
        for (text, expected) in table {
            assert_eq!(clean(text), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_become_one_harmless_line(bytes in proptest::collection::vec(any::<u8>(), 0..300), is_json: bool) {
            let out = line(&bytes, is_json);
            prop_assert!(out.ends_with('\n'));
            prop_assert!(!out[..out.len() - 1].chars().any(is_foreign));
        }

        #[test]
        fn json_strings_survive(text in any::<String>()) {
            let json = serde_json::json!({ "message": text });
            let out = line(json.to_string().as_bytes(), true);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), json);
        }
    }
}
