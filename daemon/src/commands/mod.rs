//! Gallery of control commands. `command.rs` is the contract, one file per command, the slice below is the catalogue in
//! the order users see.

mod command;
mod context;

pub use command::{Command, Run};
pub use context::Context;

/// Every command.
pub static COMMANDS: &[Command] = &[];
