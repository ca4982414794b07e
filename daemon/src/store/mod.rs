//! Where state lives. `store.rs` is the port; `redis/` is what users run; `memory/` serves tests and simulation only.

pub mod memory;
pub mod redis;
mod store;

pub use store::*;
