//! `--map role=field`: which field of the input plays which role.

use std::fmt;
use std::str::FromStr;

use super::{Format, combined};
use crate::untrusted::escape;

/// What a field can be to the pipeline. A door writes each under the name that `[event]` configures for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The event id, instead of the line's.
    Id,
    /// Whose event it is.
    Key,
    /// What happened.
    Type,
    /// When, by the event's own clock: integer milliseconds since 1970, or RFC 3339.
    Time,
    /// How much.
    Value,
    /// To what.
    Product,
    /// In which session.
    Session,
}

impl Role {
    /// All of them, in the order in which events carry them.
    pub const ALL: [Self; 7] = [
        Self::Id,
        Self::Key,
        Self::Type,
        Self::Time,
        Self::Value,
        Self::Product,
        Self::Session,
    ];

    /// The word in `--map` and in an event's `roles`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Key => "key",
            Self::Type => "type",
            Self::Time => "time",
            Self::Value => "value",
            Self::Product => "product",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One `--map role=field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The role.
    pub role: Role,
    /// The field of the input that plays it; one field may play several.
    pub field: String,
}

impl From<(Role, String)> for Mapping {
    fn from((role, field): (Role, String)) -> Self {
        Self { role, field }
    }
}

impl FromStr for Mapping {
    type Err = MappingError;

    /// Reads `role=field`; the field may hold further `=`.
    fn from_str(text: &str) -> Result<Self, MappingError> {
        let malformed = || MappingError::Malformed(escape(text));
        let (word, field) = text.split_once('=').ok_or_else(malformed)?;
        if field.is_empty() {
            return Err(malformed());
        }
        let role = Role::ALL.into_iter().find(|role| role.word() == word);
        let role = role.ok_or_else(|| MappingError::UnknownRole(escape(word)))?;
        Ok(Self {
            role,
            field: field.to_owned(),
        })
    }
}

/// A mapping or format that cannot be. Usage errors all; the texts in them are clean.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// Not `role=field`.
    #[error("mapping \"{0}\" is not role=field")]
    Malformed(String),
    /// No such role.
    #[error("no role \"{0}\"; there are id, key, type, time, value, product, session")]
    UnknownRole(String),
    /// Two fields for one role.
    #[error("role \"{0}\" is mapped twice")]
    Twice(Role),
    /// The format has no such field.
    #[error("the combined format has no field \"{field}\"; it has {known}")]
    UnknownField {
        /// The field of the mapping.
        field: String,
        /// The fields that there are.
        known: String,
    },
    /// No such format.
    #[error("no format \"{0}\"; there are ndjson, csv, combined")]
    UnknownFormat(String),
}

pub(super) fn check(format: Format, mappings: &[Mapping]) -> Result<(), MappingError> {
    for (idx, mapping) in mappings.iter().enumerate() {
        if mappings[..idx]
            .iter()
            .any(|earlier| earlier.role == mapping.role)
        {
            return Err(MappingError::Twice(mapping.role));
        }
        if format == Format::Combined && !combined::FIELDS.contains(&mapping.field.as_str()) {
            return Err(MappingError::UnknownField {
                field: escape(&mapping.field),
                known: combined::FIELDS.join(", "),
            });
        }
    }
    Ok(())
}
