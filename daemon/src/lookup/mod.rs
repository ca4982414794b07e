//! Lookups for enrichment: a port, its implementations, and the cache in front.

mod port;

pub use port::{Lookup, LookupError};
