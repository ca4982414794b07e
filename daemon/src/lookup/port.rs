//! The lookup port: reads profiles for enrichment. `redis` is real, `fixed` is a map for tests; `cache` sits in front of either.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::record::Fields;

/// Why a lookup failed; the caller may use an old value, else the record is retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// Reads many keys in one trip.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One answer per key, in order: the fields, or `None` where there is no such key.
    async fn load(&self, keys: &[Bytes]) -> Result<Vec<Option<Arc<Fields>>>, LookupError>;
}
