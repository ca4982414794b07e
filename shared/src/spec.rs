//! `Spec`: how the daemon describes a command or an experiment, so that consoles and CLIs are told, not taught.

use serde::{Deserialize, Serialize};

use crate::role::Role;

/// One item of a gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// `noun.verb`, such as `stage.pause`.
    pub name: String,
    /// One sentence.
    pub summary: String,
    /// In the order in which a person gives them.
    pub params: Vec<Param>,
    /// What it touches.
    pub scope: Scope,
    /// How careful to be.
    pub risk: Risk,
    /// Who may.
    pub role: Role,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its key.
    pub name: String,
    /// One sentence with unit and range.
    pub summary: String,
    /// What may be given.
    pub kind: ParamKind,
    /// As text; `None` = must be given.
    pub default: Option<String>,
}

/// What a parameter's value may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamKind {
    /// Any text.
    Text,
    /// A whole number in a range, both ends included.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A duration such as `30s`.
    Duration,
    /// A duration in a range, both ends included.
    Span {
        /// Shortest, milliseconds.
        min_ms: u64,
        /// Longest, milliseconds.
        max_ms: u64,
    },
    /// A share such as `30%`, in whole percent, both ends included.
    Share {
        /// Least.
        min: u8,
        /// Greatest.
        max: u8,
    },
    /// The name of a stage.
    Stage,
    /// The name of a consumer.
    Consumer,
    /// One of these words.
    Choice(Vec<String>),
}

/// What a command touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Single entries.
    Entry,
    /// A stage or its consumers.
    Stage,
    /// The whole daemon.
    Daemon,
    /// Redis beneath.
    Redis,
}

/// How careful a person must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Undone by its opposite.
    Low,
    /// Changes what happens to entries.
    Medium,
    /// Cannot be undone.
    High,
}
