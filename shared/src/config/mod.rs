//! `pipeline.toml`: keys, defaults, checks. Reading the file is the caller's; this takes its text.
//!
//! The way of a value: `tree` (text, environment and flags become one tree, each leaf with its place) > `walk` (the
//! tree against the `catalogue`: unknown keys, wrong kinds) > `build` (the types, with defaults) > `stages`, `lints`
//! (what only the whole can tell). Every step goes on after a fault, so that all of them are reported at once.

mod build;
pub mod catalogue;
mod fault;
mod kind;
mod lints;
mod load;
mod names;
mod overrides;
mod report;
mod server;
mod stages;
mod tree;
mod types;
mod walk;

pub use fault::Fault;
pub use kind::{Kind, Rule};
pub use lints::backoff_sum;
pub use load::{Input, Loaded, Origin, Resolved, load};
pub use overrides::ENV_PREFIX;
pub use types::*;
