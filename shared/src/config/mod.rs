//! `pipeline.toml`: keys, defaults, checks. Reading the file is the caller's; this takes its text.

mod types;

pub use types::*;
