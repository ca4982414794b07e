//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::untrusted::{Mode, Untrusted};

/// One fault, or one warning, of a configuration.
///
/// Its texts are safe to print: nothing a file says can drive the reader's terminal, and no secret is repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file as it was named, `env NAME` or `--set KEY`.
    pub file: String,
    /// Line from 1; `None` outside a file.
    pub line: Option<u32>,
    /// Column from 1, in characters; `None` outside a file.
    pub col: Option<u32>,
    /// What is wrong.
    pub what: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault that has no place inside a file; texts are made safe to print.
    pub fn new(file: &str, what: &str, hint: Option<&str>) -> Self {
        Self {
            file: clean(file),
            line: None,
            col: None,
            what: clean(what),
            hint: hint.map(clean),
        }
    }

    /// The same fault at a line and a column, both from 1.
    #[must_use]
    pub fn at(mut self, line: u32, col: u32) -> Self {
        self.line = Some(line);
        self.col = Some(col);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let (Some(line), Some(col)) = (self.line, self.col) {
            write!(f, ":{line}:{col}")?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Longest piece of foreign text that a message repeats, in columns.
const SHOWN: usize = 60;

/// A piece of foreign text for use in a message, cut to a readable length.
pub(super) fn shown(text: &str) -> String {
    let shown = Untrusted::new(text).to_display(Some(SHOWN), Mode::Unicode);
    shown.text
}

/// A whole message without anything that is invisible or could drive a terminal; cleaning twice changes nothing.
fn clean(text: &str) -> String {
    Untrusted::new(text).to_display(None, Mode::Unicode).text
}

/// The known name that was probably meant, if one is near enough to be worth saying.
pub(super) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Names are short; a longer text is no slip of the fingers, and comparing it would cost its square.
    if given.len() > 64 {
        return None;
    }
    let given = given.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| {
            let plain = name.replace('-', "_");
            // `warning` for `warn` and `fsync` for `append_fsync` are no slips of one letter, but as clear.
            let part = given.len() >= 4 && plain.contains(&given)
                || plain.len() >= 4 && given.contains(&plain);
            let distance = strsim::damerau_levenshtein(&given, &plain);
            (distance, part || distance <= 1 + plain.len() / 4, name)
        })
        .filter(|(_, is_near, _)| *is_near)
        .min_by_key(|(distance, _, _)| *distance)
        .map(|(_, _, name)| name)
}
