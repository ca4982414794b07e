//! The configuration after it was read and checked: what the rest of the house relies on without checking again.

use std::time::Duration;

use serde::Serialize;

use crate::expression::Expression;

/// The whole of `pipeline.toml`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Format of the file; 1.
    pub version: u32,
    /// Name of the pipeline: `[a-z0-9-]`, 1 to 40 characters.
    pub name: String,
    /// The server.
    pub redis: Redis,
    /// Which field plays which role.
    pub event: Event,
    /// Sources by name, in file order.
    pub sources: Vec<Source>,
    /// Stages in an order in which every stage comes after what it reads from.
    pub stages: Vec<Stage>,
    /// Retries.
    pub retry: Retry,
    /// Dead letters.
    pub dead: Dead,
    /// Trimming.
    pub retention: Retention,
    /// Doors.
    pub ingest: Ingest,
    /// The process.
    pub daemon: Daemon,
    /// The control socket.
    pub control: Control,
    /// Experiments.
    pub chaos: Chaos,
    /// Logs.
    pub log: Log,
}

/// `[redis]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Redis {
    /// `managed`, `redis://`, `rediss://` or `redis+unix://`, without a password in it.
    pub url: String,
    /// User for AUTH.
    pub username: Option<String>,
    /// Reference to the password; never the password itself.
    pub password: Option<Secret>,
    /// Put before every key, the source stream included; empty = nothing.
    pub keys_prefix: String,
    /// Limit of one attempt to connect, and of one answer.
    pub timeout: Duration,
    /// What an accepted event has survived before its producer is answered.
    pub durability: Durability,
    /// Longest wait for that; then the event is not accepted yet and is to be sent again.
    pub durability_timeout: Duration,
    /// Managed only: limit of memory in bytes; `None` = 25 % of RAM, at most 4 GiB.
    pub max_memory: Option<u64>,
    /// Managed only: `always`, `everysec` or `no`.
    pub append_fsync: String,
    /// PEM file with the certificate authority for `rediss://`; `None` = the system's.
    pub tls_ca: Option<String>,
}

/// What an accepted event has survived before its producer is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is in the memory of Redis.
    #[default]
    Memory,
    /// It is in the memory of a replica as well.
    Replica,
    /// It is on the disk of Redis.
    Aof,
}

impl Durability {
    /// As in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Replica => "replica",
            Self::Aof => "aof",
        }
    }
}

/// Where a secret is to be found: `env:NAME` or `file:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Secret {
    /// Environment variable.
    Env(String),
    /// File; a trailing newline is cut.
    File(String),
}

/// `[event]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Source stream, without prefix.
    pub stream: String,
    /// Field of the event id; empty = none (then the id window is off).
    pub id: String,
    /// Field of the key.
    pub key: String,
    /// Field of the type.
    pub kind: String,
    /// Field of the event time, integer milliseconds.
    pub time: String,
    /// Field of the value.
    pub value: String,
    /// Field of the product.
    pub product: String,
    /// Field of the session.
    pub session: String,
    /// Decimal places kept of the value: 2 makes cents. 0 to 6.
    pub value_scale: u32,
    /// How long an event id is remembered; zero = the window is off.
    pub dedupe_window: Duration,
    /// How many event ids are remembered at most.
    pub dedupe_max_ids: u64,
}

/// `[source.X]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// X.
    pub name: String,
    /// Whether it runs.
    pub enabled: bool,
    /// What it is.
    pub kind: SourceKind,
}

/// Kinds of sources.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Realistic user events at a steady rate.
    Generator(Generator),
}

/// `kind = "generator"`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generator {
    /// Events a second.
    pub rate: f64,
    /// Seed; the same seed gives the same events (but for their times).
    pub seed: u64,
    /// Distinct users, Zipf-like.
    pub users: u32,
    /// Distinct products, Zipf-like.
    pub products: u32,
    /// Stop after this many events; `None` = never.
    pub limit: Option<u64>,
}

/// `[stage.X]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// X: `[a-z0-9_-]`, 1 to 40 characters.
    pub name: String,
    /// What it reads.
    pub from: From,
    /// Consumer group; default the stage's name, for the first stage `event_group`.
    pub group: String,
    /// How entries are delivered.
    pub delivery: Delivery,
    /// Workers at start, 1 to 64.
    pub workers: u32,
    /// Chained in process, in order.
    pub operators: Vec<Operator>,
    /// Limit of one record's work.
    pub timeout: Duration,
    /// Pending entries idle for longer are claimed by the sweep.
    pub claim_after: Duration,
    /// Records a commit at most, 1 to 500.
    pub batch: u32,
    /// Batches read ahead while one commits, 0 to 4.
    pub prefetch: u32,
    /// Entries over this many bytes are dead-lettered.
    pub max_entry: u64,
}

/// What a stage reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// The source stream.
    Source,
    /// The output of the stage with this name.
    Stage(String),
}

/// How entries are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// Workers of one group compete.
    Shared,
    /// One owner per partition, in order.
    Owned,
}

/// One operator of a chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Operator {
    /// Rejects records that lack a field or hold a wrong one.
    Validate(Validate),
    /// Ends records for which the expression does not hold.
    Filter(Filter),
    /// Adds the fields of a profile.
    Lookup(Lookup),
    /// Numbers the records of a key.
    Count(Count),
    /// Counts.
    Aggregate(Aggregate),
}

impl Operator {
    /// The `kind` in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Validate(_) => "validate",
            Self::Filter(_) => "filter",
            Self::Lookup(_) => "lookup",
            Self::Count(_) => "count",
            Self::Aggregate(_) => "aggregate",
        }
    }
}

/// `kind = "validate"`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Validate {
    /// Fields that must be there and not empty.
    pub required: Vec<String>,
    /// Fields that must be whole numbers.
    pub integers: Vec<String>,
    /// Fields that must be numbers.
    pub numbers: Vec<String>,
}

/// `kind = "filter"`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filter {
    /// Records for which it holds go on; the others end as `filtered`.
    pub keep: Expression,
}

/// `kind = "lookup"`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lookup {
    /// Field whose value is looked up.
    pub key: String,
    /// Prefix of the fields that are added: `profile` gives `profile.<field>`.
    pub into: String,
    /// Prefix of the Redis hash: `profile:` and the key.
    pub hash: String,
    /// Keys kept in process.
    pub cache_entries: u64,
    /// How long a found value is fresh.
    pub ttl: Duration,
    /// How long a missing value is remembered.
    pub negative_ttl: Duration,
    /// How long an old value is used when the lookup fails; zero = never.
    pub stale_ok: Duration,
}

/// `kind = "count"`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Count {
    /// Field whose value is the key.
    pub key: String,
    /// Field that the number is written into, and the name of what is kept.
    pub into: String,
    /// A key without records for this long is forgotten; zero = never.
    pub forget_after: Duration,
}

/// `kind = "aggregate"`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aggregate {
    /// What is counted beside the total.
    pub by: Vec<By>,
    /// A session without entries for this long is forgotten (at the latest after twice this).
    pub session_keep: Duration,
}

/// What an aggregate counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The type role.
    Type,
    /// The product role.
    Product,
    /// The session role.
    Session,
}

/// `[retry]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// Failed tries before an entry is dead, 1 to 100.
    pub attempts: u32,
    /// First wait.
    pub backoff_min: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
}

/// `[dead]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dead {
    /// Dead letters older than this are purged; zero = never.
    pub keep: Duration,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retention {
    /// Finished entries are kept for this long.
    pub keep: Duration,
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingest {
    /// Doors shed load when Redis uses more than this share of its maxmemory, 0.5 to 0.95.
    pub shed_at: f64,
    /// Doors shed load when the first stage's lag is above this; 0 = never.
    pub max_lag: u64,
    /// Bytes on disk for events that come in while Redis is away; `None` = they are refused.
    pub spool: Option<u64>,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Daemon {
    /// Grace period of a drain.
    pub drain: Duration,
    /// First part of consumer names; `None` = an id kept in the data folder.
    pub instance: Option<String>,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Control {
    /// The most that any peer may be.
    pub max_role: crate::rpc::Role,
    /// Connections at most.
    pub max_clients: u32,
}

/// `[chaos]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chaos {
    /// Whether experiments may run.
    pub enabled: bool,
    /// Families that may run: `worker`, `daemon`, `redis`, `net`, `data`, `lookup`, `cache`.
    pub allow: Vec<String>,
    /// Whether nothing in this pipeline is of worth.
    pub copy: bool,
    /// Longest fault.
    pub max_duration: Duration,
    /// Events a second of an experiment's own producers.
    pub rate: u64,
    /// A pipeline is well when an event is in the results within this.
    pub freshness: Duration,
    /// Stop below this share of good probes over ten seconds, 0 to 1.
    pub stop_availability: f64,
    /// Stop when a canary is older than this.
    pub stop_freshness: Duration,
    /// Stop above this share of Redis' memory limit, 0 to 1.
    pub stop_memory: f64,
    /// Random experiments.
    pub schedule: Schedule,
}

/// `[chaos.schedule]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Mean time between experiments; zero = none.
    pub every: Duration,
    /// First hour of the day (UTC), 0 to 23.
    pub from_hour: u32,
    /// Hour from which on none starts, 1 to 24.
    pub to_hour: u32,
    /// Decides which, when and how.
    pub seed: u64,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// `text` or `json`.
    pub format: String,
}
