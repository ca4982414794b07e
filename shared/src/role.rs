//! What a peer may do. Apart from `rpc` and `spec`, because both need it and neither may need the other twice.

use serde::{Deserialize, Serialize};

/// What a peer may do, by its uid and gid (semantics.md section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and acts on entries, stages and plans.
    Operator,
    /// Everything, the daemon's life included.
    Admin,
}
