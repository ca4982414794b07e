//! The guard of an experiment: a process of its own (`pipelined guard`) that watches from outside, injects, takes back and
//! counts, and its keeper in the daemon, which starts it, obeys it and tells what it found.
//!
//! To the keeper: `keeper.rs` (state, stopping, the lever, the schedule's task), `limits.rs` (what may run), `tend.rs` and
//! `pipe.rs` (one run), `answers.rs` (what is told), `shelf.rs` (the folder). A guard whose daemon was started anew has no pipe
//! to it: it is asked to stop by the file `stop` in the folder of its run, which holds who and why.

mod answers;
mod hands;
mod job;
mod keeper;
mod lever;
mod limits;
mod pipe;
pub mod process;
mod recover;
mod scene;
mod schedule;
mod shelf;
mod tend;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
pub mod words;

pub use hands::Hands;
pub use job::{DaemonAt, Job, KeyNames, Roles, ServerAt, Stops, Timing};
pub use keeper::{GuardCommand, Keeper, Recover, Setup};
pub use recover::{after, before};
