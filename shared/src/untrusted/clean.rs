//! From bytes to pieces that are safe to print, one cell (or one escape) at a time.

use std::fmt::Write as _;

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{MAX_MARKS, TAB_WIDTH};

/// How to write what is not plain.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Replace everything beyond printable ASCII.
    pub(super) ascii: bool,
    /// Double backslashes and write tabs as `\t`, so that the result can be read back.
    pub(super) reversible: bool,
}

/// A character with its marks, the spaces of a tab, or an escape.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) width: usize,
    pub(super) is_replaced: bool,
}

/// A character, or a byte that is part of none.
#[derive(Clone, Copy)]
enum Unit {
    Char(char),
    Byte(u8),
}

pub(super) struct Cleaner<'a> {
    rest: &'a [u8],
    style: Style,
    /// Given out by reference, so that a long text costs no allocation per piece.
    piece: Piece,
}

impl<'a> Cleaner<'a> {
    pub(super) fn new(bytes: &'a [u8], style: Style) -> Self {
        Self {
            rest: bytes,
            style,
            piece: Piece::default(),
        }
    }

    /// The next piece; `column` is where it will stand, for tabs.
    pub(super) fn next_piece(&mut self, column: usize) -> Option<&Piece> {
        let (unit, n_bytes) = decode(self.rest)?;
        self.rest = &self.rest[n_bytes..];
        self.piece.text.clear();
        self.piece.is_replaced = false;
        match unit {
            Unit::Byte(byte) => self.replace(format_args!("\\x{byte:02x}")),
            Unit::Char('\t') if !self.style.reversible => self.write_tab(column),
            Unit::Char('\\') if self.style.reversible => self.piece.text.push_str(r"\\"),
            Unit::Char(c) if is_plain_ascii(c) && !self.has_marks_next() => self.piece.text.push(c),
            Unit::Char(c) if self.is_replaced(c) => self.replace_char(c),
            Unit::Char(c) => self.write_cluster(c),
        }
        // Nearly all text is ASCII, whose width needs no tables.
        let text = self.piece.text.as_str();
        self.piece.width = if text.is_ascii() {
            text.len()
        } else {
            text.width()
        };
        Some(&self.piece)
    }

    fn is_replaced(&self, c: char) -> bool {
        // A mark here has no base: it would sit on the escape or the border before it.
        is_hidden(c)
            || is_mark(c)
            || is_variation_selector(c)
            || (self.style.ascii && !c.is_ascii())
    }

    /// Whether anything but ASCII follows, which alone can change the cell of the character before it.
    fn has_marks_next(&self) -> bool {
        self.rest.first().is_some_and(|byte| !byte.is_ascii()) && !self.style.ascii
    }

    fn write_tab(&mut self, column: usize) {
        for _ in 0..TAB_WIDTH - column % TAB_WIDTH {
            self.piece.text.push(' ');
        }
    }

    fn replace_char(&mut self, c: char) {
        match c {
            '\n' => self.replace(format_args!("\\n")),
            '\r' => self.replace(format_args!("\\r")),
            '\t' => self.replace(format_args!("\\t")),
            c if c.is_ascii() => self.replace(format_args!("\\x{:02x}", u32::from(c))),
            c => self.replace(format_args!("\\u{{{:x}}}", u32::from(c))),
        }
    }

    fn replace(&mut self, escape: std::fmt::Arguments<'_>) {
        self.piece.is_replaced = true;
        // Writing to a String cannot fail.
        let _ = self.piece.text.write_fmt(escape);
    }

    /// A character that is visible by itself, and the marks after it that may stay with it.
    fn write_cluster(&mut self, base: char) {
        self.piece.text.push(base);
        if self.style.ascii {
            return;
        }
        let mut last = base;
        for _ in 0..MAX_MARKS {
            let Some((Unit::Char(next), n_bytes)) = decode(self.rest) else {
                return;
            };
            let after = &self.rest[n_bytes..];
            if next == JOINER {
                // A joiner is good for nothing but to join two emoji; then it takes the second one with it.
                let Some((Unit::Char(joined), n_joined)) = decode(after) else {
                    return;
                };
                if !is_emoji(base) || !is_emoji(joined) || is_hidden(joined) {
                    return;
                }
                self.piece.text.extend([JOINER, joined]);
                self.rest = &after[n_joined..];
                last = joined;
            } else if may_follow(base, last, next, after) {
                self.piece.text.push(next);
                self.rest = after;
                last = next;
            } else {
                return;
            }
        }
    }
}

const JOINER: char = '\u{200d}';

/// Whether a mark may stand on a base after what was taken already.
fn may_follow(base: char, last: char, mark: char, after: &[u8]) -> bool {
    if is_variation_selector(mark) {
        // One selector, right behind what it selects: on emoji, on ideographs, and in a keycap such as 1️⃣. Longer runs
        // of selectors are a way to hide data.
        let is_on_emoji = is_emoji(last) && matches!(mark, '\u{fe0e}' | '\u{fe0f}');
        let is_on_ideograph = is_ideograph(last) && !matches!(mark, '\u{fe0e}' | '\u{fe0f}');
        let is_keycap = matches!(last, '0'..='9' | '#' | '*')
            && mark == '\u{fe0f}'
            && after.starts_with(KEYCAP);
        return is_on_emoji || is_on_ideograph || is_keycap;
    }
    match mark {
        '\u{1f3fb}'..='\u{1f3ff}' => is_emoji(last),
        mark if is_jamo_tail(mark) => is_hangul(base),
        mark => is_mark(mark) && !is_hidden(mark),
    }
}

/// U+20E3 in UTF-8.
const KEYCAP: &[u8] = "\u{20e3}".as_bytes();

/// Splits the first unit off; `None` at the end.
fn decode(bytes: &[u8]) -> Option<(Unit, usize)> {
    let first = *bytes.first()?;
    if first.is_ascii() {
        return Some((Unit::Char(char::from(first)), 1));
    }
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cannot fail, since this much was found valid.
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    Some(match valid.chars().next() {
        Some(c) => (Unit::Char(c), c.len_utf8()),
        None => (Unit::Byte(first), 1),
    })
}

fn is_plain_ascii(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Whether a character is shown as an escape wherever it stands: controls, format characters, line and paragraph
/// separators, unassigned and private ones, and those that look like nothing at all.
pub(crate) fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return !is_plain_ascii(c);
    }
    match get_general_category(c) {
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::Surrogate
        | GeneralCategory::PrivateUse
        | GeneralCategory::Unassigned => true,
        // Fillers and the like: invisible although Unicode calls them letters and marks (Default_Ignorable_Code_Point).
        _ if matches!(
            c,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
        ) =>
        {
            true
        }
        _ => c.width() == Some(0) && !is_mark(c) && !is_variation_selector(c),
    }
}

/// Whether DEL, C1, U+2028/9 or a format character.
pub(super) fn is_escaped_in_json(c: char) -> bool {
    if c.is_ascii() {
        return c == '\u{7f}';
    }
    matches!(
        get_general_category(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

/// Whether it takes no cell of its own and is drawn on the character before it.
fn is_mark(c: char) -> bool {
    if c.is_ascii() || c.width() != Some(0) {
        return false;
    }
    let category = get_general_category(c);
    is_jamo_tail(c)
        || (matches!(
            category,
            GeneralCategory::NonspacingMark
                | GeneralCategory::EnclosingMark
                | GeneralCategory::SpacingMark
        ) && !is_variation_selector(c))
}

fn is_variation_selector(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Vowels and final consonants of conjoining Hangul, which `unicode-width` gives no cell.
fn is_jamo_tail(c: char) -> bool {
    matches!(c, '\u{1161}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7c6}' | '\u{d7cb}'..='\u{d7fb}')
}

fn is_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115e}' | '\u{a960}'..='\u{a97c}' | '\u{ac00}'..='\u{d7a3}')
}

fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// The blocks in which Unicode's emoji stand, without flags' letters. Wider than the property Extended_Pictographic,
/// and harmlessly so: between two such symbols a joiner can hide nothing but itself.
fn is_emoji(c: char) -> bool {
    matches!(
        c,
        '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{27bf}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}'
            | '\u{1f000}'..='\u{1f1e5}' | '\u{1f200}'..='\u{1faff}'
    )
}
