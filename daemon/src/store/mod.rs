//! Where state lives. `store.rs` is the port; `redis/` is what users run; `memory/` serves tests and simulation only.

pub mod redis;
pub mod memory;
mod store;

pub use store::*;
