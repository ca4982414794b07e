//! `pipectl`: the terminal console and command line of `pipelined`.
//!
//! Floors, from top to bottom (imports point down only): `cli` (one file per noun); `run` (the console's only loop); `view`
//! and `update` (pure); `screens` (gallery) over `widgets`; `model` over `facts`, `history` and `message`; `link` and
//! `terminal` (own threads); `settings`, `keys`, `theme`, `place`; `client` (the control socket) and `output` (documents,
//! tables, escaping); then `failure`, `interrupt` and `clock`. Only `clock` reads a clock; untrusted text becomes harmless
//! in `output::clean` and `widgets::ink`.

mod cli;
mod client;
pub mod clock;
#[cfg(test)]
mod emitted;
mod facts;
mod failure;
#[cfg(test)]
mod fixtures;
mod history;
mod interrupt;
mod keys;
mod link;
mod message;
mod model;
mod output;
mod place;
#[cfg(test)]
mod properties;
mod run;
mod screens;
mod settings;
mod terminal;
mod theme;
mod update;
mod view;
mod widgets;

/// Parses the process's arguments, does what they say and returns the exit code of contract.md.
pub fn run() -> u8 {
    cli::run()
}
