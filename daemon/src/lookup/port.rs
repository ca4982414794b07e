//! The lookup port: reads profiles for enrichment. `redis` is real, `fixed` is a map for tests; `cache` sits in front of either.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::record::Fields;

/// Why a lookup failed; the caller may use an old value, else the record is retried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// Why it is not known what a key holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// This key alone could not be read (it holds something else, or far too much): a fault of the record that names it.
    #[error("{0}")]
    Key(String),
    /// The lookup does not answer, whatever the key: no fault of any record.
    #[error("{0}")]
    Away(String),
}

/// What became of one key: its fields, `None` where there is no such key, or why this key alone could not be read (it
/// holds something else, or far too much).
pub type Answer = Result<Option<Arc<Fields>>, LookupError>;

/// Reads many keys in one trip.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// One answer per key, in order. `Err` = none could be read. Cancel-safe: it only reads.
    async fn load(&self, keys: &[Bytes]) -> Result<Vec<Answer>, LookupError>;
}
