//! What names may look like: pipelines, stages, streams, fields, consumers.

use super::fault::shown;
use super::kind::Misfit;

/// Longest name of a pipeline, stage, source, group or instance, in characters.
const NAME: usize = 40;
/// Longest name of a stream or a field, and longest prefix, in bytes; arbitrary, and far above what is in use.
const LONG: usize = 200;
/// Fields that pipelined writes itself (semantics.md section 2).
const RESERVED_FIELDS: [&str; 4] = ["_t", "_origin", "_redrive", "traceparent"];
/// What follows the stream's name in a key and is therefore no stage (semantics.md section 2).
pub(super) const RESERVED_STAGES: [&str; 6] =
    ["dead", "alerts", "counts", "ledger", "daemons", "owner"];

/// Rules of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `[a-z0-9-]{1,40}`
    PipelineName,
    /// `[a-z0-9_-]{1,40}`, the name in a table's header.
    TableName,
    /// `[A-Za-z0-9_.-]{1,40}`
    Instance,
    /// `[A-Za-z0-9_.:-]{1,40}`
    Group,
    /// A stream: no braces, white space or control characters.
    Stream,
    /// A stage or a stream.
    StageOrStream,
    /// Put before a key: as a stream, or empty.
    Prefix,
    /// A field of an entry that is not one of our own.
    Field,
    /// A field or nothing.
    FieldOrNone,
    /// A field that is also the first part of keys of a stage's state: no `:`, no `=` at its beginning.
    StateName,
    /// A path.
    Path,
    /// Any text without white space or control characters.
    Word,
}

impl Rule {
    /// What it takes, to go on after "it takes".
    pub(super) fn takes(self) -> &'static str {
        match self {
            Self::PipelineName => "a-z, 0-9 and -, 1 to 40 characters",
            Self::TableName => "a-z, 0-9, _ and -, 1 to 40 characters",
            Self::Instance => "letters, digits, _, . and -, 1 to 40 characters",
            Self::Group => "letters, digits, _, ., : and -, 1 to 40 characters",
            Self::Stream => "1 to 200 bytes without braces and white space",
            Self::StageOrStream => "the name of a stage or of the source stream",
            Self::Prefix => "up to 200 bytes without braces and white space",
            Self::Field => "a field name, 1 to 200 bytes without white space",
            Self::FieldOrNone => "a field name, up to 200 bytes without white space",
            Self::StateName => "a field name, 1 to 200 bytes without :, = and white space",
            Self::Path => "the path of a file",
            Self::Word => "1 to 200 bytes without white space",
        }
    }

    /// Whether the text follows the rule.
    pub(super) fn check(self, text: &str) -> Result<(), Misfit> {
        let extra = match self {
            Self::PipelineName => Some("-"),
            Self::TableName => Some("-_"),
            Self::Instance => Some("-_."),
            Self::Group => Some("-_.:"),
            _ => None,
        };
        if let Some(extra) = extra {
            let upper = matches!(self, Self::Instance | Self::Group);
            return name(text, extra, upper);
        }
        if text.is_empty() && !matches!(self, Self::Prefix | Self::FieldOrNone) {
            return Err(Misfit::new(" cannot be empty", None));
        }
        if text.len() > LONG && self != Self::Path {
            return Err(Misfit::new(
                format!(" is {} bytes long, of at most {LONG}", text.len()),
                None,
            ));
        }
        let bad = text.char_indices().find(|(_, c)| match self {
            Self::Stream | Self::StageOrStream | Self::Prefix => {
                c.is_whitespace() || c.is_control() || matches!(c, '{' | '}')
            }
            Self::Path => c.is_control(),
            Self::StateName => c.is_whitespace() || c.is_control() || matches!(c, ':' | '='),
            _ => c.is_whitespace() || c.is_control(),
        });
        if let Some((at, c)) = bad {
            return Err(forbidden(c, at));
        }
        if RESERVED_FIELDS.contains(&text)
            && matches!(self, Self::Field | Self::FieldOrNone | Self::StateName)
        {
            return Err(Misfit::new(
                format!(" cannot be \"{text}\": pipelined writes this field itself"),
                Some("choose another field".to_owned()),
            ));
        }
        Ok(())
    }
}

fn name(text: &str, extra: &str, upper: bool) -> Result<(), Misfit> {
    if text.is_empty() {
        return Err(Misfit::new(" cannot be empty", None));
    }
    let bad = text.char_indices().find(|(_, c)| {
        !(c.is_ascii_lowercase()
            || c.is_ascii_digit()
            || extra.contains(*c)
            || upper && c.is_ascii_uppercase())
    });
    if let Some((at, c)) = bad {
        return Err(forbidden(c, at));
    }
    if text.len() > NAME {
        return Err(Misfit::new(
            format!(
                " is \"{}\": {} characters, of at most {NAME}",
                shown(text),
                text.len()
            ),
            None,
        ));
    }
    Ok(())
}

fn forbidden(c: char, at: usize) -> Misfit {
    let mut misfit = Misfit::new(
        match c {
            ' ' => " has a space in it".to_owned(),
            c if c.is_whitespace() || c.is_control() => {
                format!(" has the character U+{:04X} in it", u32::from(c))
            }
            c => format!(" has `{c}` in it"),
        },
        None,
    );
    misfit.at = at;
    misfit
}
