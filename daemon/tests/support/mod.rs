//! What several test files need: private servers, a meddler on raw commands, a proxy that loses replies.
//!
//! Each test file is a crate of its own and uses a part of this, hence the `allow`.
#![allow(dead_code, reason = "each test file uses another part")]

pub(crate) mod meddler;
pub(crate) mod proxy;
pub(crate) mod server;

// SWITCH ON when the Redis store is there: delete the next line, and the one like it in tests/store_contract.rs.
#[cfg(any())]
pub(crate) mod redis_store;
