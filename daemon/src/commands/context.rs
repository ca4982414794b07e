//! What a command or a door may use: the running daemon, seen from above.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pipectl_shared::config::Config;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::chaos::FaultBoard;
use crate::clock::Clock;
use crate::guard::Keeper;
use crate::journal::Journal;
use crate::observe::Observer;
use crate::plans::Plans;
use crate::runtime::Handle;
use crate::spool::Spool;
use crate::store::{Admin, Layout};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Context {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// First 16 hex digits of the SHA-256 over the resolved configuration.
    pub config_hash: Arc<str>,
    /// Names in the store.
    pub layout: Arc<Layout>,
    /// The store, beside the hot loop.
    pub admin: Arc<dyn Admin>,
    /// Where doors put events while the store is away; it takes nothing when it is off.
    pub spool: Spool,
    /// The running stages and sources.
    pub handle: Handle,
    /// Snapshots, latencies, the ledger as of now.
    pub observer: Observer,
    /// The event log.
    pub journal: Journal,
    /// The audit file.
    pub audit: Audit,
    /// Plans.
    pub plans: Plans,
    /// Experiments.
    pub chaos: Keeper,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Faults on purpose.
    pub faults: FaultBoard,
    /// Cancelled = drain and stop.
    pub shutdown: CancellationToken,
    /// Set = the end takes the managed server down even while other daemons use it.
    pub stop_server: Arc<AtomicBool>,
    /// Whether hidden test-only commands work (`--test-commands`).
    pub test_commands: bool,
}
