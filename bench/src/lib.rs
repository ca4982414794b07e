//! Two programs on the real binaries and real servers: `pipelined-bench` measures what they take, `pipelined-fire` does
//! to them what the world does and counts what is left. They share the rooms that start servers and daemons and read the
//! machine.
#![expect(
    clippy::disallowed_methods,
    reason = "it measures real time, and waits in threads of its own"
)]

mod console;
mod daemon;
mod durability;
mod events;
pub mod fire;
mod host;
mod latency;
pub mod measure;
mod memory;
mod raw;
mod report;
mod server;
mod shared;
mod start;
/// The terminal of the console's tests: what is drawn is judged here by the same rule.
#[path = "../../console/tests/common/strict.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "it is a test's file, and the tests use the rest of it"
)]
mod strict;
mod terminal;

use std::io::Write as _;

/// Progress and trouble, on stderr, under the name of the program: `bench: `.
fn note(text: &str) {
    let program = std::env::args().next().unwrap_or_default();
    let name = program.rsplit(['/', '-']).next().unwrap_or_default();
    // Nothing is left to tell it to where stderr is gone.
    let _ = writeln!(std::io::stderr(), "{name}: {text}");
}
