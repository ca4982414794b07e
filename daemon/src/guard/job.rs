//! What the guard of one experiment is told at its start: one line of JSON on its standard input. It holds everything, so
//! that the guard asks the daemon nothing that it must know when the daemon is dead.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::experiments::{Method, Scene};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Id, which sorts by time; also the name of the folder.
    pub id: String,
    /// Folder of the run; it exists, and the guard makes every file in it.
    pub folder: PathBuf,
    /// Name of the experiment.
    pub experiment: String,
    /// The hypothesis in a sentence.
    pub claim: String,
    /// Parameters as they are used.
    pub params: Map<String, Value>,
    /// What runs.
    pub scene: Scene,
    /// What to do.
    pub method: Method,
    /// Decides everything random.
    pub seed: u64,
    /// Who asked for it.
    pub by: String,
    /// Begin, milliseconds since 1970.
    pub started_ms: u64,
    /// How long each phase takes.
    pub timing: Timing,
    /// When to stop early.
    pub stops: Stops,
    /// The pipeline is well when an event is in effect within this, milliseconds.
    pub freshness_ms: u64,
    /// The daemon.
    pub daemon: DaemonAt,
    /// The server.
    pub server: ServerAt,
    /// Field names of the roles.
    pub roles: Roles,
    /// Keys in the store.
    pub keys: KeyNames,
    /// Version of the daemon.
    pub version: String,
    /// Hash of the configuration.
    pub config_hash: String,
}

/// How long each phase takes, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// The load runs and nothing is judged yet.
    pub warm_ms: u64,
    /// It must be well for so long before.
    pub before_ms: u64,
    /// It must be well for so long after, to count as recovered.
    pub hold_ms: u64,
    /// After so long without recovery the run goes on to its end.
    pub recover_max_ms: u64,
    /// After so long what is still under way counts as pending.
    pub drain_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            warm_ms: 2_000,
            before_ms: 5_000,
            hold_ms: 10_000,
            recover_max_ms: 60_000,
            drain_max_ms: 60_000,
        }
    }
}

/// When to stop early; looked at every second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stops {
    /// Share of good probes over ten seconds, 0 to 1.
    pub availability: f64,
    /// Age of a canary, milliseconds.
    pub freshness_ms: u64,
    /// Share of Redis' memory limit, 0 to 1.
    pub memory: f64,
}

/// Where the daemon is, and how it was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonAt {
    /// Its pid.
    pub pid: u32,
    /// Control socket.
    pub socket: PathBuf,
    /// Binary.
    pub exe: PathBuf,
    /// Arguments after the binary's name.
    pub args: Vec<String>,
    /// Working folder.
    pub folder: PathBuf,
}

/// Where the server is, without the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAt {
    /// `redis://`, `rediss://` or `redis+unix://`.
    pub url: String,
    /// User.
    pub username: Option<String>,
    /// Password. It goes over the pipe only and is never written to a file.
    pub password: Option<String>,
    /// PEM file of the certificate authority.
    pub tls_ca: Option<String>,
    /// Limit of one answer, milliseconds.
    pub timeout_ms: u64,
    /// Whether it is ours.
    pub managed: bool,
}

/// Names of the fields that play a role; an empty one is not used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Event id.
    pub id: String,
    /// Key.
    pub key: String,
    /// Type.
    pub kind: String,
    /// Time.
    pub time: String,
    /// Value.
    pub value: String,
    /// Product.
    pub product: String,
    /// Session.
    pub session: String,
}

/// Keys in the store that the guard reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyNames {
    /// `{S}:` with the source's name in it.
    pub prefix: String,
    /// Stream of dead letters.
    pub dead: String,
    /// Whether the last stage counts by session.
    pub by_session: bool,
}
