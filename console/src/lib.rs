//! `pipectl`: the terminal console and command line of `pipelined`.
//!
//! Floors, from top to bottom (imports point down only): `cli` (one file per noun), `client` (the control socket) and
//! `output` (documents, tables, escaping), then `failure`, `interrupt` and `clock`. Only `clock` reads a clock, only
//! `output::clean` knows how untrusted text is made harmless.

mod cli;
mod client;
pub mod clock;
mod failure;
mod interrupt;
mod output;

/// Parses the process's arguments, does what they say and returns the exit code of contract.md.
pub fn run() -> u8 {
    cli::run()
}
