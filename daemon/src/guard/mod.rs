//! The guard of an experiment: a process of its own (`pipelined guard`) that watches from outside, injects, takes back and
//! counts, and its keeper in the daemon, which starts it, obeys it and tells what it found.

mod job;
pub mod process;
mod recover;

pub use job::{DaemonAt, Job, KeyNames, Roles, ServerAt, Stops, Timing};
pub use recover::{after, before, is_guarded};
