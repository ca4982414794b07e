//! The words of the control protocol: JSON-RPC 2.0 messages, the greeting, error codes, parameters of each method.
//!
//! Framing (one object a line, 1 MiB) is `wire`'s; what a method does is the daemon's. Unknown fields are ignored by
//! clients; unknown parameters are refused by the server (`deny_unknown_fields` on every `*Params`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::role::Role;
use crate::spec::Spec;

/// Major version of the protocol; a client refuses any other.
pub const PROTOCOL: u32 = 1;

/// A request (with `id`) or a notification (without).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// Absent on a notification, which is never answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// `noun.verb`.
    pub method: String,
    /// An object, or absent.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

/// The answer to a request: exactly one of `result` and `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Always `"2.0"`.
    pub jsonrpc: String,
    /// The request's id; `null` when the request could not be read.
    pub id: Value,
    /// What the method returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// Anything a client can receive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FromServer {
    /// `hello`, `stats`, `event`, `tap`, `plan.progress`.
    Notification(Request),
    /// The answer to one of our requests.
    Response(Response),
}

/// A refusal or failure. `data.hint` tells a person what to do next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// One of [`Code`] as a number.
    pub code: i64,
    /// Lowercase fragment: what was tried, the value, where.
    pub message: String,
    /// More for people and programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

/// The part of an error beside its message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorData {
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Error codes; the first five are JSON-RPC's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub enum Code {
    /// The line is no JSON.
    Parse = -32700,
    /// JSON, but no request.
    InvalidRequest = -32600,
    /// No such method.
    MethodNotFound = -32601,
    /// Parameters missing, unknown or out of range. Exit code 2.
    InvalidParams = -32602,
    /// A fault of ours. Exit code 1.
    Internal = -32603,
    /// Refused by role, policy, or a confirmation that does not fit. Exit code 4.
    Refused = -32010,
    /// The thing named does not exist. Exit code 1.
    NotFound = -32011,
    /// Redis is away, or the daemon is starting or draining; try again. Exit code 1.
    Unavailable = -32012,
    /// Too much at once: bounded queues are full; try again after a while.
    Busy = -32013,
    /// The line or the answer is over its limit; the connection is closed after a line too long.
    TooLarge = -32014,
}

impl Error {
    /// An error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as i64,
            message: message.into(),
            data: None,
        }
    }

    /// Adds the next step for a person.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.data = Some(ErrorData {
            hint: Some(hint.into()),
        });
        self
    }

    /// Whether this is the given code.
    pub fn is(&self, code: Code) -> bool {
        self.code == code as i64
    }
}

/// The server's first words, a notification `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the daemon.
    pub protocol: u32,
    /// Version of the daemon.
    pub version: String,
    /// SHA-256 (hex, first 16) of the resolved configuration, to tell whether `up` attaches or refuses.
    pub config_hash: String,
    /// What this connection may do.
    pub role: Role,
    /// Who the daemon thinks the peer is.
    pub identity: Identity,
    /// `name` of the configuration.
    pub pipeline: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// The daemon's clock, RFC 3339 UTC.
    pub time: String,
    /// The catalogue of commands: palette, forms and help come from here.
    pub specs: Vec<Spec>,
    /// The catalogue of experiments.
    #[serde(default)]
    pub experiments: Vec<Spec>,
    /// Rights beside the role: `chaos`.
    #[serde(default)]
    pub rights: Vec<String>,
}

/// The peer by SO_PEERCRED.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, where the system tells it.
    pub pid: Option<i32>,
    /// Login name, or `uid:N` where there is none.
    pub user: String,
}

/// `stats.watch`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchParams {
    /// Rounded up to 1, 2, 5 or 10 s.
    #[serde(default = "second_ms")]
    pub interval_ms: u64,
    /// How much of the Snapshot.
    #[serde(default)]
    pub preset: Preset,
}

fn second_ms() -> u64 {
    1_000
}

/// How much of the Snapshot a watcher gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Everything.
    #[default]
    Full,
    /// Without consumers, latency buckets and host details.
    Overview,
    /// Only the `status` document.
    Line,
}

/// `pending.page`: entries waiting for their acknowledgement, oldest first within a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PendingParams {
    /// What to list.
    pub select: crate::plan::Selection,
    /// Where the last page ended (`next` of that page).
    pub cursor: Option<String>,
    /// Rows a page; 1 to 1,000, 0 = 100.
    pub limit: u32,
    /// Whether what owners in this daemon have read and not committed is listed, too, behind the pending entries of its
    /// stage. No plan selects those rows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_flight: bool,
}

/// `pending.show` and `dead.show`: one entry with its fields, paged when large.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShowParams {
    /// Stage whose group holds the entry (`pending.show`); may be left out where only one stage holds the id.
    pub stage: Option<String>,
    /// Entry id.
    pub id: String,
    /// Only this field, from `offset`.
    pub field: Option<String>,
    /// Byte offset in `field`.
    pub offset: u64,
}

/// `dead.page`: dead letters, newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadParams {
    /// What to list; of the selection `stage`, `ids`, `cause`, `matching`, `all` apply.
    pub select: crate::plan::Selection,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// Rows a page; 1 to 1,000, 0 = 100.
    pub limit: u32,
}

/// `aggregates.get`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AggregatesParams {
    /// Adds the count of this session.
    pub session: Option<String>,
    /// Only this product.
    pub product: Option<String>,
}

/// `latency.get`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyParams {
    /// Only this stage; `end_to_end` of the whole pipeline stands under the stage name `pipeline`.
    pub stage: Option<String>,
}

/// `latency.slots`: one stage's measure over time, one row per 5 s, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencySlotsParams {
    /// Stage; absent = `pipeline`.
    pub stage: Option<String>,
    /// `wait`, `service`, `total` or `end_to_end`; absent = `end_to_end`.
    pub measure: Option<String>,
    /// Only slots that ended later, milliseconds since 1970: the end of the newest one that is known.
    pub after_ms: u64,
}

/// `history.series`: figures over time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryParams {
    /// Milliseconds since 1970, included; absent = an hour before `to_ms`.
    pub from_ms: Option<u64>,
    /// Milliseconds since 1970, included; absent = now.
    pub to_ms: Option<u64>,
    /// Points at most, of equal width; fewer where the answer would be too large. 0 = 600.
    pub points: u32,
}

/// `tap.watch`: a sample of the entries that pass a stage's input; read only, never slows the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TapParams {
    /// Stage whose input is sampled; the first stage when absent.
    pub stage: Option<String>,
    /// Entries a second at most; 1 to 1,000, 0 = 20.
    pub per_s: u32,
    /// Only entries for which this expression holds.
    pub matching: Option<String>,
}

/// `plan.run`: the hash must be the one that `plan.create` answered, so that what was seen is what is done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanRunParams {
    /// Plan id.
    pub id: String,
    /// `ids_hash` of the plan.
    pub ids_hash: String,
    /// For a bulk plan: the count the operator confirmed; must equal `matched`.
    pub confirm: Option<u64>,
    /// Kept in the audit log.
    pub reason: Option<String>,
}

/// `plan.show`, `plan.cancel`, `plan.undo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanIdParams {
    /// Plan id.
    pub id: String,
}

/// `command.run`: one command of the catalogue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandParams {
    /// A [`Spec`]'s name, such as `stage.pause`.
    pub name: String,
    /// By the Spec's params, as strings or numbers.
    pub params: serde_json::Map<String, Value>,
    /// Kept in the audit log.
    pub reason: Option<String>,
    /// Answer what would be done, and do nothing.
    pub dry_run: bool,
}

/// `ingest.open`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestOpenParams {
    /// Name of the input; part of each line's event id.
    pub name: String,
}

/// `ingest.push`: at most 512 KiB a push, at most 4 unanswered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestPushParams {
    /// From `ingest.open`.
    pub session: String,
    /// Events in order.
    pub events: Vec<IngestEvent>,
}

/// One event on its way in: roles by role name, other fields by their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestEvent {
    /// 32 hex digits: the event id (semantics.md section 5).
    pub id: String,
    /// `(role, value)` of `key, type, time, value, product, session`; written under the field configured in `[event]`.
    pub roles: Vec<(String, Bytes)>,
    /// Other fields.
    pub fields: Vec<(String, Bytes)>,
}

/// Bytes on the wire: a JSON string where they are UTF-8, else `{"b64": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bytes {
    /// UTF-8.
    Text(String),
    /// Anything else, base64 with padding.
    Binary {
        /// Standard alphabet.
        b64: String,
    },
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        use base64::Engine as _;
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary {
                b64: base64::engine::general_purpose::STANDARD.encode(bytes),
            },
        }
    }
}

impl Bytes {
    /// The bytes themselves; `None` when the base64 is broken.
    pub fn decode(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Binary { b64 } => base64::engine::general_purpose::STANDARD.decode(b64).ok(),
        }
    }
}

/// The answer to `ingest.open`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestOpened {
    /// To be named in each push.
    pub session: String,
}

/// The answer to `ingest.push`: every event of the push is accepted, deduplicated or rejected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestPushed {
    /// Taken, duplicates included.
    pub accepted: u64,
    /// Of those, already known by id.
    pub deduplicated: u64,
    /// Refused (back-pressure, too large); not part of `accepted`.
    pub rejected: u64,
    /// When > 0: back-pressure; the client waits this long and pushes the rejected tail again.
    pub retry_after_ms: u64,
    /// Why, when rejected > 0.
    pub reason: Option<String>,
    /// Index of the first rejected event; everything before it was taken, nothing after it.
    pub first_rejected: Option<u64>,
}

/// The answer to `ingest.close` (params `IngestCloseParams`) once its own entries settled or the wait ran out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestClosed {
    /// Sums over the session.
    pub accepted: u64,
    /// Sums over the session.
    pub deduplicated: u64,
    /// Sums over the session.
    pub rejected: u64,
    /// Of the entries added in this session, those that became dead letters.
    pub dead: u64,
    /// Whether every entry of this session is applied, dead or otherwise ended.
    pub settled: bool,
}

/// `ingest.close`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestCloseParams {
    /// From `ingest.open`.
    pub session: String,
    /// Poll: answer at once with `settled` true or false, and keep the session until it is settled.
    pub wait: bool,
}

/// `history.range` and `audit.page`: rows after a cursor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageParams {
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// Rows a page; 1 to 1,000, 0 = 100.
    pub limit: u32,
}
