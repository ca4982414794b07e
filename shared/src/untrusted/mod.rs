//! Text from outside, and the only ways to show it.
//!
//! Whatever an entry, a peer, a file name or a Redis server brought may hold terminal sequences, bidirectional overrides,
//! invisible characters and megabytes of combining marks. [`Untrusted`] has no `Display`, so such text reaches a screen,
//! a log or a CSV file only through here. What is shown is clean: no control or format character but a joiner inside an
//! emoji, nothing invisible, nothing unassigned or private, at most [`MAX_MARKS`] combining marks on a cell.
//!
//! What is replaced becomes visible: bytes that are no UTF-8 `\xff`, C0 controls and DEL `\x1b` (newline `\n`, carriage
//! return `\r`), everything else `\u{202e}`. A literal backslash stays as it is in [`Untrusted::to_display`] and
//! [`csv_cell`], because paths and patterns would be hard to read otherwise; there, [`Shown::marked`] tells a replaced
//! character from four typed ones. [`escape`] and [`escape_bytes`] double it, so that their output can be read back.

mod clean;
pub mod corpus;

use std::fmt;
use std::ops::Range;

pub(crate) use self::clean::is_hidden;
use self::clean::{Cleaner, Style};

/// Most combining marks (joiners and variation selectors included) that one cell keeps; the next ones are written as
/// escapes. 8 is arbitrary: natural scripts need four or five.
pub const MAX_MARKS: usize = 8;

/// Most bytes that [`Untrusted::to_display`] looks at; the rest is cut before any layout.
pub const PREVIEW_BYTES: usize = 64 * 1024;

/// Columns between tab stops. Arbitrary, and narrow, since cells are.
pub const TAB_WIDTH: usize = 4;

/// Bytes from outside. Cheap to copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Untrusted<'a> {
    bytes: &'a [u8],
}

/// Which characters the output may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// All visible ones.
    #[default]
    Unicode,
    /// Only printable ASCII; all others are replaced.
    Ascii,
}

/// Text that is safe to print, with what was done to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// One line without control characters.
    pub text: String,
    /// Characters and invalid bytes that stand in `text` as escapes.
    pub n_replaced: usize,
    /// Whether something was left out at the end, for its width or beyond [`PREVIEW_BYTES`]. `text` then ends with `…`
    /// (`>` in ASCII) if there is a column for it.
    pub cut: bool,
    /// Columns of `text` by `unicode-width`, added up over its clusters.
    pub width: usize,
    /// Byte ranges of `text` that are escapes of ours, in order, for a distinct style.
    pub marked: Vec<Range<usize>>,
}

impl<'a> From<&'a str> for Untrusted<'a> {
    fn from(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
        }
    }
}

impl<'a> From<&'a [u8]> for Untrusted<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl fmt::Debug for Untrusted<'_> {
    /// Clean as well, since debug output ends in logs and terminals too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preview = &self.bytes[..preview_len(self.bytes)];
        write!(f, "Untrusted({:?})", escape_bytes(preview))
    }
}

impl<'a> Untrusted<'a> {
    /// Text or bytes.
    pub fn new(bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            bytes: bytes.as_ref(),
        }
    }

    /// The bytes as they came, for comparing and storing; never for printing.
    pub fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    /// One clean line of at most `width` columns; `None` is as wide as the first [`PREVIEW_BYTES`] need. Tabs become
    /// spaces. Costs at most one pass over the preview, and stops where the width is full.
    ///
    /// Showing what was shown again gives the same text.
    pub fn to_display(&self, width: Option<usize>, mode: Mode) -> Shown {
        let preview = &self.bytes[..preview_len(self.bytes)];
        let style = Style {
            ascii: mode == Mode::Ascii,
            reversible: false,
        };
        let mut shown = Shown {
            cut: preview.len() < self.bytes.len(),
            ..Shown::default()
        };
        let most = width.unwrap_or(usize::MAX);
        // Where to cut so that the mark of the cut still fits.
        let mut fits = Extent::default();
        let mut cleaner = Cleaner::new(preview, style);
        while let Some(piece) = cleaner.next_piece(shown.width) {
            if shown.width + piece.width > most {
                shown.cut = true;
                break;
            }
            shown.append(piece);
            if shown.width < most {
                fits = Extent::of(&shown);
            }
        }
        if shown.cut && most > 0 {
            shown.end_with_mark(&fits, mode);
        }
        shown
    }
}

/// How far a [`Shown`] had come.
#[derive(Default)]
struct Extent {
    n_bytes: usize,
    width: usize,
    n_replaced: usize,
}

impl Extent {
    fn of(shown: &Shown) -> Self {
        Self {
            n_bytes: shown.text.len(),
            width: shown.width,
            n_replaced: shown.n_replaced,
        }
    }
}

impl Shown {
    fn append(&mut self, piece: &clean::Piece) {
        let from = self.text.len();
        self.text.push_str(&piece.text);
        self.width += piece.width;
        if piece.is_replaced {
            self.n_replaced += 1;
            match self.marked.last_mut() {
                Some(last) if last.end == from => last.end = self.text.len(),
                _ => self.marked.push(from..self.text.len()),
            }
        }
    }

    fn end_with_mark(&mut self, fits: &Extent, mode: Mode) {
        self.text.truncate(fits.n_bytes);
        self.n_replaced = fits.n_replaced;
        while let Some(last) = self.marked.last_mut() {
            last.end = last.end.min(fits.n_bytes);
            if last.start < last.end {
                break;
            }
            self.marked.pop();
        }
        self.text.push(match mode {
            Mode::Unicode => '…',
            Mode::Ascii => '>',
        });
        self.width = fits.width + 1;
    }
}

/// Length of the preview, so cut that no character is torn.
fn preview_len(bytes: &[u8]) -> usize {
    if bytes.len() <= PREVIEW_BYTES {
        return bytes.len();
    }
    // A character has at most three continuation bytes; more than that is broken and may be torn.
    let is_boundary = |at: &usize| bytes[*at] & 0b1100_0000 != 0b1000_0000;
    (PREVIEW_BYTES - 3..=PREVIEW_BYTES)
        .rev()
        .find(is_boundary)
        .unwrap_or(PREVIEW_BYTES)
}

/// One clean line that can be read back: as in [`Untrusted::to_display`], but a backslash is doubled and a tab is `\t`.
/// For logs, messages and names. As long as the text needs, so who may be given megabytes cuts before.
pub fn escape(text: &str) -> String {
    escape_bytes(text.as_bytes())
}

/// [`escape`] for bytes; those that are no UTF-8 become `\xff`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    clean_line(
        bytes,
        Style {
            ascii: false,
            reversible: true,
        },
    )
}

fn clean_line(bytes: &[u8], style: Style) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut width = 0;
    let mut cleaner = Cleaner::new(bytes, style);
    while let Some(piece) = cleaner.next_piece(width) {
        text.push_str(&piece.text);
        width += piece.width;
    }
    text
}

/// Makes a serialized JSON document safe to print, losing nothing: DEL, C1 controls, U+2028/9 and all format characters
/// (bidirectional ones included) become `\uXXXX`, as surrogate pairs beyond U+FFFF. In a valid document such
/// characters stand only inside strings, where an escape means the same.
pub fn escape_json(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    for c in document.chars() {
        if clean::is_escaped_in_json(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// One clean line for a cell of a CSV file, whole. A cell that a spreadsheet would take for a formula (it begins with
/// `= + - @` or their full-width forms, spaces before them aside) gets a `'` in front, unless it is a plain number. The
/// quoting of commas and quotes is the CSV writer's.
///
/// Source: OWASP, "CSV Injection". Tabs and carriage returns, which OWASP lists too, are replaced anyway.
pub fn csv_cell(bytes: &[u8]) -> String {
    let text = clean_line(
        bytes,
        Style {
            ascii: false,
            reversible: false,
        },
    );
    let is_formula = text
        .trim_start()
        .starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    if is_formula && !is_plain_number(&text) {
        format!("'{text}")
    } else {
        text
    }
}

fn is_plain_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole) && is_digits(fraction)
}

#[cfg(test)]
mod tests;
