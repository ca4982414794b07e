//! Where state lives. `store.rs` is the port; `redis/` is what users run; `memory/` serves tests and simulation only.

mod keyed;
pub mod memory;
pub mod redis;
mod store;

pub use keyed::*;
pub use store::*;
