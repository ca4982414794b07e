//! What several test files need: private servers, a meddler on raw commands, a proxy that loses replies.
//!
//! Each test file is a crate of its own and uses a part of this, hence the `allow`.
#![allow(dead_code, reason = "each test file uses another part")]

pub(crate) mod meddler;
pub(crate) mod proxy;
pub(crate) mod server;
