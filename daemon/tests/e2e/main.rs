//! End to end: the real binaries, a real redis-server, nothing faked. One binary, so that it is linked once.
//!
//! `house.rs` starts and drives a daemon; each other file is one promise of the product.

mod house;

mod bad_start;
mod control;
mod first_run;
mod foreign_redis;
mod full;
mod hostile;
