//! Lookups for enrichment: a port, its implementations, and the cache in front.

mod cache;
mod fixed;
mod port;
mod redis;

pub use cache::{Cache, Found, Readings};
pub use fixed::Fixed;
pub use port::{Answer, Lookup, LookupError, Unknown};
pub use redis::Profiles;
