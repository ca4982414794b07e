//! What the daemon and the console must agree on: the wire, the Snapshot, the configuration and the words.
//!
//! Nothing here does I/O, reads a clock or knows tokio; both ends test this crate as data in, data out.

pub mod backoff;
pub mod chaos;
pub mod config;
pub mod expression;
pub mod histogram;
pub mod ledger;
pub mod lines;
pub mod places;
pub mod plan;
pub mod role;
pub mod rpc;
pub mod snapshot;
pub mod spec;
pub mod units;
pub mod untrusted;
pub mod wire;
