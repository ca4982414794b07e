//! End to end: the real binaries, a real redis-server, nothing faked. One binary, so that it is linked once.
//!
//! `house.rs` starts and drives a daemon; each other file is one promise of the product.

#![allow(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test binary has no other crate that could reach it, and it waits in real time for real processes"
)]

mod house;
mod load;
#[allow(dead_code, reason = "shared with the contract of the store")]
mod needs;

mod access_log;
mod bad_start;
mod chaos;
mod console;
mod control;
mod daemons;
mod first_run;
mod foreign_redis;
mod full;
mod holes;
mod hostile;
mod inside;
mod keyed;
mod kills;
mod life;
mod outages;
mod owned;
mod poison;
mod stuck;
mod third_parties;
mod tour;
