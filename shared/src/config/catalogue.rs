//! Every key that `pipeline.toml` may hold, as one slice in the order of the shipped file.
//!
//! Parsing, defaults, checks of ranges, `explain`, "did you mean" and the comments of the shipped file all come from
//! here; `build` only puts the values into the types. A new key is one entry here and one line in `build`.
//!
//! In a path `*` stands for a name that the file gives, and `operators[lookup]` for an item of the list `operators`
//! whose `kind` is `lookup` (`operators[*]`: of any kind).

use std::time::Duration;

use super::kind::{Kind, Rule};

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Where it stands: `redis.timeout`, `stage.*.workers`.
    pub path: &'static str,
    /// What it may hold, with its range.
    pub kind: Kind,
    /// Unit of a bare number; empty where the value carries its unit or has none.
    pub unit: &'static str,
    /// What holds without it.
    pub default: Preset,
    /// One or two sentences for a stranger.
    pub doc: &'static str,
}

/// What holds if a key is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This value, as a person would write it (without quotes around a text).
    Is(&'static str),
    /// A value that follows from other keys; the text says how.
    Follows(&'static str),
    /// Nothing; the text says what that means.
    Unset(&'static str),
    /// It must be given.
    Required,
}

const fn key(path: &'static str, kind: Kind, default: Preset, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        unit: "",
        default,
        doc,
    }
}

const fn counted(
    path: &'static str,
    (min, max): (u64, u64),
    unit: &'static str,
    default: Preset,
    doc: &'static str,
) -> Key {
    Key {
        path,
        kind: Kind::Integer { min, max },
        unit,
        default,
        doc,
    }
}

const fn timed(
    path: &'static str,
    (min, max): (Duration, Duration),
    default: &'static str,
    doc: &'static str,
) -> Key {
    key(path, Kind::Duration { min, max }, Preset::Is(default), doc)
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
const ZERO: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// All keys, in the order of the shipped file.
#[rustfmt::skip] // One paragraph a key reads better than one word a line.
pub static KEYS: &[Key] = &[
    counted("version", (1, 1), "", Preset::Is("1"),
        "Format of this file."),
    key("name", Kind::Text(Rule::PipelineName), Preset::Required,
        "Name of the pipeline; it marks the stream as this pipeline's own, and another pipeline is then refused."),

    key("redis.url", Kind::Url, Preset::Is("managed"),
        "Where Redis is. `managed` starts and watches a private server with its data in the data folder."),
    key("redis.username", Kind::Text(Rule::Word), Preset::Unset("Redis' default user"),
        "User to log in as."),
    key("redis.password", Kind::Secret, Preset::Unset("no password"),
        "Where the password is found; the password itself never stands in this file."),
    key("redis.keys_prefix", Kind::Text(Rule::Prefix), Preset::Is(""),
        "Put before every key, the source stream included; it lets several pipelines share a server."),
    timed("redis.timeout", (ms(100), MINUTE), "5s",
        "Limit of one attempt to connect, and of one answer."),
    key("redis.durability", Kind::Choice(&["memory", "replica", "aof"]), Preset::Is("memory"),
        "What an accepted event has survived before its producer is answered. memory: it is in Redis. replica: a replica has it, too. aof: it is on the disk of Redis; a managed server then forces its log to the disk for every answer."),
    timed("redis.durability_timeout", (ms(10), MINUTE), "5s",
        "Longest wait for that; then the event is refused for now, and counts once when it is sent again. An aof server with appendfsync everysec takes up to two seconds."),
    key("redis.max_memory", Kind::Size { min: 64 << 20, max: 1 << 44 }, Preset::Unset("a quarter of the machine's memory, at most 4GiB"),
        "Managed server only: memory it may use."),
    key("redis.append_fsync", Kind::Choice(&["always", "everysec", "no"]), Preset::Is("everysec"),
        "Managed server only: how often its log is forced to the disk. always: nothing that was acknowledged is ever lost. everysec: a crash of the machine or of the server can cost the last second or two. no: a crash of the server costs nothing, one of the machine up to half a minute."),
    key("redis.tls_ca", Kind::Text(Rule::Path), Preset::Unset("the system's authorities"),
        "rediss:// only: PEM file with the certificate authority."),

    key("event.stream", Kind::Text(Rule::Stream), Preset::Is("events"),
        "Stream with the source entries. Any client may XADD to it."),
    key("event.id", Kind::Text(Rule::FieldOrNone), Preset::Is("event_id"),
        "Field with the event's id, by which duplicates are known; empty: entries have no id and dedupe is off."),
    key("event.key", Kind::Text(Rule::Field), Preset::Is("user_id"),
        "Field with the key: who or what the event is about."),
    key("event.type", Kind::Text(Rule::Field), Preset::Is("event_type"),
        "Field with the type, such as click."),
    key("event.time", Kind::Text(Rule::Field), Preset::Is("ts"),
        "Field with the time of the event, in whole milliseconds since 1970 (UTC)."),
    key("event.value", Kind::Text(Rule::Field), Preset::Is("value"),
        "Field with the value, such as a price."),
    key("event.product", Kind::Text(Rule::Field), Preset::Is("product"),
        "Field with the product."),
    key("event.session", Kind::Text(Rule::Field), Preset::Is("session_id"),
        "Field with the session."),
    counted("event.value_scale", (0, 6), "decimal places", Preset::Is("2"),
        "Places kept of the value, which is counted in whole numbers: 2 makes cents."),
    timed("event.dedupe.window", (ZERO, WEEK), "1h",
        "How long an event id is remembered; 0s turns dedupe off. Beyond it a duplicate is not seen."),
    counted("event.dedupe.max_ids", (1_000, 10_000_000), "ids", Preset::Is("500_000"),
        "Ids remembered at most, about 98 bytes of Redis memory each; a full window is shorter than the time above."),

    key("source.*.enabled", Kind::Bool, Preset::Is("true"),
        "Whether it runs."),
    key("source.*.kind", Kind::Choice(&["generator"]), Preset::Required,
        "What it is. generator: realistic user events at a steady rate, for trying things out."),
    key("source.*.rate", Kind::Rate { min: 0.001, max: 1_000_000.0 }, Preset::Is("1000/s"),
        "Events made."),
    counted("source.*.seed", (0, i64::MAX as u64), "", Preset::Is("7"),
        "Start of its random numbers; the same seed gives the same events, but for their times."),
    counted("source.*.users", (1, 10_000_000), "users", Preset::Is("1_000"),
        "Distinct users; few of them make most of the events."),
    counted("source.*.products", (1, 1_000_000), "products", Preset::Is("200"),
        "Distinct products; few of them get most of the events."),
    counted("source.*.limit", (1, i64::MAX as u64), "events", Preset::Unset("it never stops"),
        "Stop after this many."),

    key("stage.*.from", Kind::Text(Rule::StageOrStream), Preset::Follows("the source stream"),
        "What it reads: the source stream by its name, or another stage by its name."),
    key("stage.*.group", Kind::Text(Rule::Group), Preset::Follows("event_group for the first stage in this file that reads the source stream, else the stage's name"),
        "Consumer group in Redis."),
    key("stage.*.delivery", Kind::Choice(&["shared", "owned"]), Preset::Is("shared"),
        "How entries are handed out. shared: the workers of the group compete for them. owned: one worker of all daemons has them, in order; others stand by."),
    counted("stage.*.workers", (1, 64), "workers", Preset::Is("1"),
        "Workers at start."),
    timed("stage.*.timeout", (ms(100), HOUR), "30s",
        "Limit of one batch's lookups; beyond it the stage waits for the lookup, and no try is used up."),
    timed("stage.*.claim_after", (SECOND, DAY), "60s",
        "An entry that its worker has held for longer than this is given to another. Keep it at or above timeout x (prefetch + 1), or entries that only wait are taken from healthy workers."),
    counted("stage.*.batch", (1, 500), "records", Preset::Is("500"),
        "Records in one commit at most; a commit never waits to be full."),
    counted("stage.*.prefetch", (0, 4), "batches", Preset::Is("1"),
        "Batches read ahead while one commits."),
    key("stage.*.max_entry", Kind::Size { min: 1 << 10, max: 64 << 20 }, Preset::Is("1MiB"),
        "A larger entry is dead-lettered."),
    key("stage.*.operators", Kind::Operators, Preset::Is("[]"),
        "What is done to a record, in this order; a record that one of them ends does not reach the next."),

    key("stage.*.operators[*].kind", Kind::Choice(&["validate", "filter", "lookup", "count", "aggregate"]), Preset::Required,
        "Which operator."),
    key("stage.*.operators[validate].required", Kind::Fields, Preset::Is("[]"),
        "Fields that must be there and not empty; else the entry is dead-lettered."),
    key("stage.*.operators[validate].integers", Kind::Fields, Preset::Is("[]"),
        "Fields that must be whole numbers where they are there."),
    key("stage.*.operators[validate].numbers", Kind::Fields, Preset::Is("[]"),
        "Fields that must be numbers where they are there."),
    key("stage.*.operators[filter].keep", Kind::Expression, Preset::Required,
        "Records for which this holds go on; the others end here and are counted as filtered."),
    key("stage.*.operators[lookup].key", Kind::Text(Rule::Field), Preset::Required,
        "Field whose value is looked up."),
    key("stage.*.operators[lookup].into", Kind::Text(Rule::Field), Preset::Is("profile"),
        "Prefix of the fields that are added: profile gives profile.country."),
    key("stage.*.operators[lookup].hash", Kind::Text(Rule::Prefix), Preset::Is("profile:"),
        "Prefix of the Redis hash that is read: profile: and the key's value."),
    counted("stage.*.operators[lookup].cache.entries", (0, 10_000_000), "keys", Preset::Is("20_000"),
        "Keys kept in the process; 0 asks Redis each time."),
    timed("stage.*.operators[lookup].cache.ttl", (ms(10), DAY), "5s",
        "How long a value that was found is fresh."),
    timed("stage.*.operators[lookup].cache.negative_ttl", (ZERO, DAY), "1s",
        "How long it is remembered that a key has no value; 0s: not at all."),
    timed("stage.*.operators[lookup].stale_ok", (ZERO, DAY), "5m",
        "How long an old value is used while lookups fail; 0s: never."),
    key("stage.*.operators[count].key", Kind::Text(Rule::Field), Preset::Required,
        "Field by whose value records are numbered. The stage must be owned."),
    key("stage.*.operators[count].into", Kind::Text(Rule::StateName), Preset::Is("count"),
        "Field that the number is written into, so that a filter can ask for it. The numbers are kept in Redis under this name: with another one they start anew."),
    timed("stage.*.operators[count].forget_after", (ZERO, YEAR), "0s",
        "A key without records for this long is forgotten and starts at 1 again, by the server's clock; 0s: never, and each key costs about 100 bytes of Redis memory for ever."),
    key("stage.*.operators[aggregate].by", Kind::Choices(&["type", "product", "session"]), Preset::Is(r#"["type", "product", "session"]"#),
        "What is counted beside the total, by the roles in [event]."),
    timed("stage.*.operators[aggregate].session_keep", (SECOND, Duration::from_secs(30 * 86_400)), "30m",
        "A session without entries for this long is forgotten, at the latest after twice this."),

    counted("retry.attempts", (1, 100), "tries", Preset::Is("5"),
        "Failed tries after which an entry is dead-lettered."),
    key("retry.backoff", Kind::DurationRange { min: ms(1), max: HOUR }, Preset::Is("100ms..5s"),
        "Longest wait after the first failure, and after any; it doubles with each failure. The wait itself is random up to that, so that entries which failed together do not come back together."),

    timed("dead.keep", (ZERO, Duration::from_secs(10 * 365 * 86_400)), "14d",
        "Dead letters older than this are purged; 0s: never."),

    timed("retention.keep", (ZERO, YEAR), "10m",
        "How long entries that every group has finished stay in the streams, for looking back. Each costs 100 to 250 bytes of Redis memory in every stream: at 1000 events/s and two streams an hour is over 1GiB, ten minutes are about 200MiB."),

    key("ingest.shed_at", Kind::Share { min: 0.5, max: 0.95 }, Preset::Is("85%"),
        "Doors refuse new events while Redis uses more than this share of its memory limit, so that commits have room."),
    counted("ingest.max_lag", (0, i64::MAX as u64), "entries", Preset::Is("0"),
        "Doors refuse new events while the first stage is further behind than this; 0: never."),
    key("ingest.spool", Kind::Size { min: 1 << 20, max: 1 << 40 }, Preset::Unset("events are refused while Redis is away"),
        "Disk in the data folder for events that pipectl ingest brings while Redis is away; they go into Redis in order when it is back."),

    timed("daemon.drain", (ZERO, HOUR), "10s",
        "Grace period at shutdown for the work in flight; what is left after it stays pending and is done at the next start."),
    key("daemon.instance", Kind::Text(Rule::Instance), Preset::Unset("an id kept in the data folder"),
        "First part of consumer names; it must differ between the daemons of a pipeline."),

    key("control.max_role", Kind::Choice(&["viewer", "operator", "admin"]), Preset::Is("admin"),
        "The most that any peer of the control socket may be; it lowers rights and never raises them."),
    counted("control.max_clients", (1, 1_024), "connections", Preset::Is("64"),
        "Connections to the control socket at a time."),

    key("chaos.enabled", Kind::Bool, Preset::Is("false"),
        "Whether experiments may run. They hurt the pipeline on purpose and send events of their own through it; all connections to Redis then go through a proxy in the daemon."),
    key("chaos.allow", Kind::Choices(&["worker", "daemon", "redis", "net", "data", "lookup", "cache"]), Preset::Is(r#"["worker", "daemon", "redis", "net", "data", "lookup", "cache"]"#),
        "Families of experiments that may run. Those of redis act on a managed server only."),
    key("chaos.copy", Kind::Bool, Preset::Is("false"),
        "Says that nothing in this pipeline is of worth, which allows experiments that destroy data. pipectl chaos run --copy starts such a pipeline."),
    timed("chaos.max_duration", (SECOND, HOUR), "2m",
        "Longest fault."),
    counted("chaos.rate", (1, 50_000), "events per second", Preset::Is("200"),
        "Events that an experiment sends through the pipeline to count what becomes of them. They are in the results, under sessions that begin with chaos-."),
    timed("chaos.freshness", (Duration::from_millis(10), HOUR), "2s",
        "A pipeline is well when an event is in the results within this."),
    key("chaos.stop_availability", Kind::Share { min: 0.0, max: 1.0 }, Preset::Is("50%"),
        "An experiment is stopped when fewer questions than this are answered well over ten seconds."),
    timed("chaos.stop_freshness", (SECOND, DAY), "5m",
        "An experiment is stopped when an event is not in the results after this."),
    key("chaos.stop_memory", Kind::Share { min: 0.1, max: 1.0 }, Preset::Is("90%"),
        "An experiment is stopped when Redis uses more than this share of its memory limit, except by redis.oom itself."),
    timed("chaos.schedule.every", (ZERO, WEEK), "0s",
        "Time between random experiments, half to one and a half of it; 0s: only those that somebody starts."),
    counted("chaos.schedule.from_hour", (0, 23), "o'clock (UTC)", Preset::Is("9"),
        "First hour of the day in which they start."),
    counted("chaos.schedule.to_hour", (1, 24), "o'clock (UTC)", Preset::Is("17"),
        "Hour of the day from which on they start no more."),
    counted("chaos.schedule.seed", (0, i64::MAX as u64), "", Preset::Is("1"),
        "Decides which experiments come, when, and with which random numbers."),

    key("log.level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Preset::Is("info"),
        "The least severe messages that are still written."),
    key("log.format", Kind::Choice(&["text", "json"]), Preset::Is("text"),
        "How messages are written."),
];

/// The key with exactly this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names that may stand directly under a table with this pattern (empty: the top of the file).
///
/// An operator's table also takes what any operator takes.
pub(super) fn children(pattern: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    let any = any_operator(pattern);
    for prefix in std::iter::once(pattern).chain(any.as_deref()) {
        for key in KEYS {
            let Some(rest) = strip_table(key.path, prefix) else {
                continue;
            };
            let name = rest.split(['.', '[']).next().unwrap_or(rest);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The key for `name` in the table with this pattern.
pub(super) fn child(pattern: &str, name: &str) -> Option<&'static Key> {
    find(&join(pattern, name)).or_else(|| find(&join(&any_operator(pattern)?, name)))
}

/// `a.b`, or `b` at the top.
pub(super) fn join(pattern: &str, name: &str) -> String {
    if pattern.is_empty() {
        name.to_owned()
    } else {
        format!("{pattern}.{name}")
    }
}

fn strip_table<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(prefix)?.strip_prefix('.')
    }
}

/// `stage.*.operators[*]` for the pattern of any one kind of operator.
fn any_operator(pattern: &str) -> Option<String> {
    let (list, kind) = pattern.split_once('[')?;
    (kind.ends_with(']') && kind != "*]").then(|| format!("{list}[*]"))
}

impl Key {
    /// The last part of the path: `timeout`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The path of the table around it: `redis`, `stage.*`; empty at the top.
    pub fn table(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// What it takes and in which range: `a whole number of workers, 1 to 64`.
    pub fn takes(&self) -> String {
        self.kind.takes(self.unit)
    }

    /// The comment of the shipped file: meaning, what it takes, default.
    pub fn comment(&self) -> String {
        let default = match self.default {
            Preset::Is(text) => {
                let value = self
                    .kind
                    .read_text(text)
                    .map_or_else(|_| text.to_owned(), |value| value.toml());
                format!("Default: {value}.")
            }
            Preset::Follows(text) | Preset::Unset(text) => format!("Default: {text}."),
            Preset::Required => "It must be given.".to_owned(),
        };
        format!("{} It takes {}. {default}", self.doc, self.takes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_own_key() {
        for key in KEYS {
            if let Preset::Is(text) = key.default {
                assert!(key.kind.read_text(text).is_ok(), "{}", key.path);
            }
        }
    }

    #[test]
    fn paths_are_distinct_and_sentences_end() {
        for (i, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..i].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
            assert!(key.doc.ends_with('.'), "{}", key.path);
        }
    }
}
