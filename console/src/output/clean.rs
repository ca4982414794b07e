//! Makes untrusted text harmless: thin wrappers, so that one file of `pipectl` decides how the rest shows such text.

use pipectl_shared::untrusted::{Mode, Untrusted, escape_json};

/// One line for a terminal or a Markdown cell: nothing in the result moves the cursor, changes a colour, reorders letters
/// or breaks the line; what was replaced stays visible as `\x1b`, `\u{202e}`, `\n`. At most 64 KiB of it.
pub(crate) fn line(text: &str) -> String {
    Untrusted::from(text).to_display(None, Mode::Unicode).text
}

/// `line` in at most `width` cells, with `…` at the end where something was left out.
pub(crate) fn fit(text: &str, width: usize) -> String {
    Untrusted::from(text)
        .to_display(Some(width), Mode::Unicode)
        .text
}

/// The same for bytes of any encoding; a byte that is no UTF-8 becomes `\xff`.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    Untrusted::new(bytes).to_display(None, Mode::Unicode).text
}

/// JSON text that is safe on a terminal: the same document with characters that JSON lets through and terminals act on
/// written as `\uXXXX`. Lossless.
pub(crate) fn json(text: &str) -> String {
    escape_json(text)
}

/// A CSV cell of a string: no control characters, and not a formula for a spreadsheet.
pub(crate) fn csv_cell(text: &str) -> String {
    pipectl_shared::untrusted::csv_cell(text.as_bytes())
}
