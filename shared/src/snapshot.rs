//! The Snapshot: everything known at one instant that a screen's live part needs (semantics.md section 10),
//! and the documents that `pipectl` prints from it (contract.md, JSON).
//!
//! No behaviour here. `None` is "unknown", never 0; every number says its unit in its name. Rates, ages and
//! percentiles were computed once, in the daemon's sampler.
//!
//! Past 500 lines because it is one document, field by field with its unit; there is nothing else in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::ledger::Ledger;

/// One instant. At most 64 KiB encoded; `truncated` says what was left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows by one each base tick; gaps mean skipped ones.
    pub seq: u64,
    /// When it was taken, milliseconds since 1970 by the daemon's clock.
    pub ts_ms: u64,
    /// The `status` document.
    pub status: Status,
    /// Consumers of all groups, by trouble first, at most 50.
    #[serde(default)]
    pub consumers: Vec<Consumer>,
    /// Groups of all stages.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Latency of the last minute per stage and measure, with about 60 log buckets and without `hdr`.
    #[serde(default)]
    pub latency: Vec<Latency>,
    /// Top of the results.
    #[serde(default)]
    pub aggregates: Aggregates,
    /// Age of `aggregates`; `None` = never read, then its zeros mean "unknown".
    #[serde(default)]
    pub aggregates_age_ms: Option<u64>,
    /// Sources.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// The machine and the daemon's process.
    #[serde(default)]
    pub host: Host,
    /// The last events, newest last, at most 20.
    #[serde(default)]
    pub events: Vec<Event>,
    /// How many of each list did not fit: key = list name.
    #[serde(default)]
    pub truncated: BTreeMap<String, u64>,
}

/// State of the pipeline or of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not everything is up yet.
    #[default]
    Starting,
    /// As it should be.
    Running,
    /// Runs, but something is wrong; `reason` says what.
    Degraded,
    /// Finishing what is in flight, then stops.
    Draining,
    /// Stopped by an operator.
    Paused,
    /// Does not run and does not recover by itself.
    Failed,
}

/// The `status` document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `name` of the configuration.
    pub pipeline: String,
    /// Worst of the stages, or the daemon's own.
    pub state: State,
    /// Why, when not `running`.
    pub reason: Option<String>,
    /// Redis answers, groups exist, every stage that is not paused makes progress or has nothing to do.
    pub healthy: bool,
    /// Seconds since the daemon started.
    pub uptime_s: f64,
    /// The server beneath.
    pub redis: Redis,
    /// Entries in and out a second, over the last 10 s.
    pub throughput: Throughput,
    /// End to end, over the last minute.
    pub latency_ms: Percentiles,
    /// Where every entry went; `None` while Redis is away.
    pub ledger: Option<Ledger>,
    /// In the order of the configuration.
    pub stages: Vec<Stage>,
    /// Open alerts, worst first.
    pub alerts: Vec<Alert>,
    /// The running experiment.
    pub chaos: Option<crate::chaos::Running>,
    /// The daemon's process.
    pub daemon: Daemon,
}

/// Redis as the daemon sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Redis {
    /// Without user and password.
    pub url: String,
    /// As the server says.
    pub version: Option<String>,
    /// `up`, `down`, `loading`, `full` (out of memory), `readonly`, `misconf` (cannot write its disk).
    pub state: String,
    /// `used_memory`.
    pub used_memory_bytes: Option<u64>,
    /// `maxmemory`; `None` = no limit or unknown.
    pub max_memory_bytes: Option<u64>,
    /// `managed`, `standalone`, `sentinel`, `cluster`.
    pub mode: String,
    /// Since it was last reachable, when it is not.
    pub down_ms: Option<u64>,
    /// The last error, for a person.
    pub error: Option<String>,
    /// What an accepted event has survived: `memory`, `replica`, `aof`; empty = a daemon that does not tell.
    #[serde(default)]
    pub durability: String,
    /// Events that wait in this daemon's spool on disk for Redis to come back; they are in no ledger yet.
    #[serde(default)]
    pub spooled: u64,
}

/// Rates of the whole pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Added to the source stream; `None` until two readings exist.
    pub in_per_s: Option<f64>,
    /// Ended by a terminal stage.
    pub out_per_s: Option<f64>,
}

/// Milliseconds; `None` where nothing was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: Option<f64>,
    /// 95 of 100 were faster.
    pub p95: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1,000.
    pub p999: Option<f64>,
}

/// One stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// `shared` or `owned`.
    pub delivery: String,
    /// Input stream.
    #[serde(default)]
    pub stream: String,
    /// Consumer group.
    #[serde(default)]
    pub group: String,
    /// Stages or streams it reads from, for the drawing.
    #[serde(default)]
    pub from: String,
    /// Names of its operators, in order.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Workers that run.
    pub workers: u32,
    /// Where it is.
    pub state: State,
    /// Why, when not `running`.
    pub reason: Option<String>,
    /// Entries read a second, over the last 10 s.
    pub in_per_s: Option<f64>,
    /// Entries committed a second, over the last 10 s.
    pub out_per_s: Option<f64>,
    /// Entries not delivered yet; `None` = unknown.
    pub lag: Option<u64>,
    /// Whether `lag` is an estimate.
    #[serde(default)]
    pub lag_estimated: bool,
    /// Age of the first undelivered entry; 0 when there is none.
    pub lag_ms: Option<u64>,
    /// Delivered, not acknowledged.
    pub pending: Option<u64>,
    /// Age of the oldest pending entry since it was read first; `None` when nothing is pending.
    pub oldest_pending_ms: Option<u64>,
    /// Time from read to commit, over the last minute.
    pub p50_ms: Option<f64>,
    /// Time from read to commit, over the last minute.
    pub p99_ms: Option<f64>,
    /// Failed tries since start.
    pub errors: u64,
    /// Retries since start.
    pub retries: u64,
    /// Dead letters since start.
    pub dead: u64,
    /// Its own line; `None` while Redis is away.
    pub ledger: Option<Ledger>,
    /// Who works it, where it is owned; absent = it is shared, or Redis is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// Who has the lease of an owned stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its consumer name, perhaps of another daemon, so show it as untrusted text; `None` = nobody has it now.
    pub consumer: Option<String>,
    /// Whether it did not renew its lease in time: it stands still or is gone, and who asks first is the next one.
    pub expired: bool,
    /// Grows by one with every change of hands.
    pub epoch: u64,
    /// Whether it is a worker of this daemon.
    pub here: bool,
    /// Everything up to this id is finished or parked; `None` = nobody ever owned it.
    pub position: Option<String>,
    /// Entries that it has read and not committed; `None` = only its own daemon knows.
    pub in_flight: Option<u64>,
}

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Stable name, such as `pending.stuck`.
    pub name: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// For a person; may quote data, so show it as untrusted text.
    pub message: String,
    /// What to do next: a command.
    pub hint: Option<String>,
    /// Since when, RFC 3339 UTC.
    pub since: String,
}

/// The daemon's process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Process id.
    pub pid: u32,
    /// Version.
    pub version: String,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Cores used over the last 10 s; 1.0 = one core.
    pub cpu_cores: Option<f64>,
    /// Instance name, the first part of consumer names.
    #[serde(default)]
    pub instance: String,
    /// Role-independent: bytes of history kept in memory.
    #[serde(default)]
    pub history_bytes: u64,
}

/// One consumer of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name; a third party's may hold anything, so show it as untrusted text.
    pub name: String,
    /// Stage whose group it is in.
    pub stage: String,
    /// Whether it is a worker of this daemon.
    pub ours: bool,
    /// `ok`, `parked`, `stuck`, `gone`, `idle`.
    pub state: String,
    /// One line: why it is not ok.
    pub reason: Option<String>,
    /// Entries it holds.
    pub pending: u64,
    /// Since its oldest entry was read first; `None` when it holds nothing.
    pub oldest_ms: Option<u64>,
    /// Since it last asked (XINFO idle).
    pub idle_ms: Option<u64>,
    /// Since it last got something (XINFO inactive; `None` before Redis 7.2).
    pub inactive_ms: Option<u64>,
}

/// One consumer group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Stage, or `None` for a third party's group on our stream.
    pub stage: Option<String>,
    /// Stream.
    pub stream: String,
    /// Group name.
    pub group: String,
    /// Consumers in it.
    pub consumers: u64,
    /// Entries delivered, not acknowledged.
    pub pending: u64,
    /// Entries not delivered yet.
    pub lag: Option<u64>,
    /// Whether `lag` is an estimate.
    pub lag_estimated: bool,
    /// Last delivered id.
    pub last_delivered: String,
    /// Entries in the stream.
    pub length: u64,
}

/// Latency of one stage and measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Stage, or `pipeline` for end to end over all.
    pub stage: String,
    /// `wait` (added to read), `service` (read to committed), `total` (added to committed), `end_to_end` (`_t` to committed).
    pub measure: String,
    /// Values measured.
    pub count: u64,
    /// Milliseconds, as are all below.
    pub min: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90 of 100.
    pub p90: Option<f64>,
    /// 95 of 100.
    pub p95: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
    /// 999 of 1,000.
    pub p999: Option<f64>,
    /// 9,999 of 10,000.
    pub p9999: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
    /// Counts per log bucket, empty ones left out.
    pub buckets: Vec<Bucket>,
    /// Values outside 1 us to 60 s, counted and left out of the above.
    pub out_of_range: u64,
    /// Whether the start was an entry id's millisecond (resolution 1 ms) for at least one value.
    pub coarse: bool,
    /// Base64 HdrHistogram V2 compressed; only in `latency.get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hdr: Option<String>,
}

/// One slot of `latency.slots`: what one stage and measure took within a few seconds. A span without a row is a span
/// in which nobody looked; a row with `count` 0 is one in which nothing was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySlot {
    /// When it ended, milliseconds since 1970 by the daemon's clock.
    pub end_ms: u64,
    /// How long it lasted, milliseconds.
    pub step_ms: u64,
    /// Values measured.
    pub count: u64,
    /// Median in milliseconds, to three digits.
    pub p50: Option<f64>,
    /// 99 of 100 were faster, milliseconds.
    pub p99: Option<f64>,
    /// Greatest, milliseconds.
    pub max: Option<f64>,
    /// Counts per log bucket, empty ones left out; slots merge by adding them.
    pub buckets: Vec<Bucket>,
    /// Values outside 1 us to 60 s, counted and left out of the above.
    #[serde(default)]
    pub out_of_range: u64,
}

/// The answer to `history.series`: figures over a span of time, column by column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// End of each point, milliseconds since 1970, ascending; where the daemon was down there are none.
    pub ts_ms: Vec<u64>,
    /// Width of a point in milliseconds.
    pub step_ms: u64,
    /// By name: `in_per_s`, ... of the pipeline, `stage.<name>.lag`, ... of a stage. As long as `ts_ms`; `None` = unknown.
    pub series: BTreeMap<String, Vec<Option<f64>>>,
}

/// One log bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper bound in milliseconds, included.
    pub le_ms: f64,
    /// Values above the bucket before and up to this bound.
    pub count: u64,
}

/// The `aggregates` document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Aggregates {
    /// Entries aggregated.
    pub total_count: u64,
    /// Sum of the value role; `None` when nothing is aggregated by value.
    #[serde(default)]
    pub total_value: Option<f64>,
    /// By type.
    pub event_types: BTreeMap<String, u64>,
    /// By product (in a Snapshot the top 20).
    pub products: BTreeMap<String, u64>,
    /// Live sessions.
    pub sessions: u64,
    /// The session asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionCount>,
    /// RFC 3339 UTC; `None` before the first.
    pub last_updated: Option<String>,
    /// Windows; `None` until an aggregate has them.
    pub windows: Option<serde_json::Value>,
}

/// One session's count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionCount {
    /// Session id.
    pub id: String,
    /// Entries in it; `None` = not known (never seen, or expired).
    pub count: Option<u64>,
}

/// One source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// `generator`, `ingest`, `foreign`.
    pub kind: String,
    /// `running`, `paused`, `backpressure`, `waiting`.
    pub state: String,
    /// Why, when not running.
    pub reason: Option<String>,
    /// Entries a second, over the last 10 s.
    pub per_s: Option<f64>,
    /// Entries since start.
    pub sent: u64,
    /// Refused at the door since start.
    pub rejected: u64,
    /// How long the store took to accept a batch, the wait for `redis.durability` included; smoothed over about eight.
    #[serde(default)]
    pub accept_ms: Option<f64>,
    /// Events that it took while Redis was away and that wait on this daemon's disk.
    #[serde(default)]
    pub spooled: u64,
}

/// The machine and the process, by sysinfo.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Logical cores.
    pub cores: u32,
    /// Busy share of all cores, 0 to 1.
    pub cpu: Option<f64>,
    /// Of the last minute.
    pub load_1m: Option<f64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Memory in all.
    pub memory_total_bytes: Option<u64>,
    /// Free on the file system of the data folder.
    pub disk_free_bytes: Option<u64>,
    /// In all.
    pub disk_total_bytes: Option<u64>,
    /// Open files of the daemon.
    pub open_files: Option<u64>,
    /// Threads of the daemon.
    pub threads: Option<u64>,
}

/// A state change worth telling.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub ts_ms: u64,
    /// `info`, `warning`, `error`, `action`.
    pub level: String,
    /// Stable name, such as `group.recreated`.
    pub name: String,
    /// For a person; may quote data, so show it as untrusted text.
    pub message: String,
    /// Stage, where one is meant.
    pub stage: Option<String>,
}

/// One row of `pending.page`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Stage.
    pub stage: String,
    /// Stream.
    pub stream: String,
    /// Group.
    pub group: String,
    /// Entry id.
    pub id: String,
    /// Who holds it.
    pub consumer: String,
    /// Since it was last delivered, claimed or kept alive.
    pub idle_ms: u64,
    /// Since it was first read, where known to this daemon; else `idle_ms`.
    pub held_ms: u64,
    /// Failed tries.
    pub tries: u32,
    /// Redis' delivery count.
    pub deliveries: u64,
    /// Since it was added (by its id).
    pub age_ms: u64,
    /// Bytes of its fields; `None` when trimmed.
    pub size_bytes: Option<u64>,
    /// `ok` or `trimmed`.
    pub entry: String,
    /// Not tried again before, RFC 3339 UTC.
    pub not_before: Option<String>,
    /// Of the last failed try; may quote data.
    pub last_error: Option<String>,
    /// Whether the owner of its stage has read it and not committed it: for Redis it is not delivered yet, and what becomes
    /// of it is the owner's business. Absent = no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_flight: bool,
    /// Only in `pending.show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Field>>,
}

/// One field of an entry, cut at 16 KiB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Name.
    pub name: crate::rpc::Bytes,
    /// Value, from `offset`.
    pub value: crate::rpc::Bytes,
    /// Whole size of the value.
    pub size: u64,
    /// Where `value` begins.
    #[serde(default)]
    pub offset: u64,
    /// Whether more follows.
    #[serde(default)]
    pub truncated: bool,
}

/// One row of `dead.page`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dead {
    /// Id in the dead-letter stream.
    pub id: String,
    /// Stage where it died.
    pub stage: String,
    /// Stream it came from.
    pub origin_stream: String,
    /// Its id there.
    pub origin_id: String,
    /// Fingerprint of stage, reason and error with numbers and ids taken out.
    pub cause: String,
    /// Stable word: `rejected`, `retries_exhausted`, `parse_error`, `too_large`, `trimmed`, `by_operator`, `panic`, `fatal`.
    pub reason: String,
    /// For a person; may quote data.
    pub error: String,
    /// Failed tries.
    pub tries: u32,
    /// First read, milliseconds since 1970.
    pub first_ms: u64,
    /// Died, milliseconds since 1970.
    pub dead_ms: u64,
    /// New entry id when it was redriven.
    pub redriven: Option<String>,
    /// Whether it counts as `dead` in the ledger (a trimmed entry counts as `lost` only).
    pub counts: bool,
    /// Only in `dead.show`: the original fields, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Field>>,
}

/// One row of `dead causes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// Fingerprint.
    pub cause: String,
    /// Stage.
    pub stage: String,
    /// Stable word.
    pub reason: String,
    /// One of its errors.
    pub example: String,
    /// Not redriven ones.
    pub count: u64,
    /// First death, milliseconds since 1970.
    pub first_ms: u64,
    /// Last death, milliseconds since 1970.
    pub last_ms: u64,
}

/// A list with a cursor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// Rows.
    pub rows: Vec<T>,
    /// Give it as `cursor` for the next page; `None` = the end.
    pub next: Option<String>,
    /// Rows that matched in all, where it is known.
    #[serde(default)]
    pub total: Option<u64>,
}

/// One row of the audit file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Grows by one.
    pub seq: u64,
    /// When, RFC 3339 UTC.
    pub ts: String,
    /// Login name.
    pub user: String,
    /// User id.
    pub uid: u32,
    /// Process id of the peer.
    pub pid: Option<i32>,
    /// Method or command.
    pub action: String,
    /// On what, for a person.
    pub target: String,
    /// Why, as the operator gave it.
    pub reason: Option<String>,
    /// `ok`, `refused: ...`, `failed: ...`, with counts.
    pub result: String,
    /// SHA-256 (hex) over the previous row's hash and this row, so that a cut or change shows.
    pub hash: String,
}

/// One row of `tap`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tap {
    /// Stage whose input it is.
    pub stage: String,
    /// Entry id.
    pub id: String,
    /// Fields, each cut at 16 KiB.
    pub fields: Vec<Field>,
}
