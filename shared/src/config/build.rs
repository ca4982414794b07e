//! The values into the types: each key is read here, once, with its default from the catalogue.

use std::time::Duration;

use super::catalogue::{self, KEYS, Preset, join};
use super::kind::{Kind, Value};
use super::load::Resolved;
use super::report::Reporter;
use super::stages;
use super::tree::{FILE, Place};
use super::types::*;
use super::walk::{Named, Walked};
use crate::expression::Expression;
use crate::rpc::Role;

/// Builds the configuration; if a fault was reported, placeholders stand in it and it must not be used.
pub(super) fn build(walked: &Walked, report: &mut Reporter<'_>) -> (Config, Vec<Resolved>) {
    let mut reader = Reader {
        walked,
        report,
        resolved: Vec::new(),
    };
    let config = reader.config();
    let mut resolved = reader.resolved;
    // The reader follows the types; a person follows the file.
    resolved.sort_by_key(|(order, _)| *order);
    (config, resolved.into_iter().map(|(_, line)| line).collect())
}

/// A table while it is read: its path in the catalogue, its path in the file, and its place among its kind.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pattern: String,
    path: String,
    /// Place of the header, for what is missing.
    place: Place,
    index: (usize, usize),
}

impl Scope {
    /// The full path of a key in this table.
    pub(super) fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// The full path of this table.
    pub(super) fn table(&self) -> &str {
        &self.path
    }

    /// Where the table's header stands.
    pub(super) fn place(&self) -> Place {
        self.place
    }
}

/// Sorts by the catalogue, but keeps the keys of one named table together.
type Order = (usize, usize, usize, usize);

pub(super) struct Reader<'a, 'b> {
    pub(super) walked: &'a Walked,
    pub(super) report: &'a mut Reporter<'b>,
    resolved: Vec<(Order, Resolved)>,
}

fn top(table: &str) -> Scope {
    Scope {
        pattern: table.to_owned(),
        path: table.to_owned(),
        place: Place::new(FILE, &(0..0)),
        index: (0, 0),
    }
}

impl Reader<'_, '_> {
    fn config(&mut self) -> Config {
        let root = top("");
        let version = self.number(&root, "version");
        let name = self.text(&root, "name");
        let redis = self.redis(&top("redis"));
        let event = self.event(&top("event"), &top("event.dedupe"));
        let walked = self.walked;
        let sources = walked.sources.iter().enumerate();
        let sources = sources.map(|(i, named)| self.source(i, named)).collect();
        let stages = stages::build(self, &event);
        let (attempts, range) = {
            let retry = top("retry");
            (
                self.number(&retry, "attempts"),
                self.range(&retry, "backoff"),
            )
        };
        Config {
            version,
            name,
            redis,
            event,
            sources,
            stages,
            retry: Retry {
                attempts,
                backoff_min: range.0,
                backoff_max: range.1,
            },
            dead: Dead {
                keep: self.duration(&top("dead"), "keep"),
            },
            retention: Retention {
                keep: self.duration(&top("retention"), "keep"),
            },
            ingest: Ingest {
                shed_at: self.float(&top("ingest"), "shed_at"),
                max_lag: self.integer(&top("ingest"), "max_lag"),
                spool: match self.optional(&top("ingest"), "spool") {
                    Some(Value::Size(bytes)) => Some(bytes),
                    _ => None,
                },
            },
            daemon: Daemon {
                drain: self.duration(&top("daemon"), "drain"),
                instance: self.optional_text(&top("daemon"), "instance"),
            },
            control: Control {
                max_role: match self.text(&top("control"), "max_role").as_str() {
                    "viewer" => Role::Viewer,
                    "operator" => Role::Operator,
                    _ => Role::Admin,
                },
                max_clients: self.number(&top("control"), "max_clients"),
            },
            chaos: Chaos {
                enabled: self.flag(&top("chaos"), "enabled"),
                allow: self.names(&top("chaos"), "allow"),
                copy: self.flag(&top("chaos"), "copy"),
                max_duration: self.duration(&top("chaos"), "max_duration"),
                rate: self.integer(&top("chaos"), "rate"),
                freshness: self.duration(&top("chaos"), "freshness"),
                stop_availability: self.float(&top("chaos"), "stop_availability"),
                stop_freshness: self.duration(&top("chaos"), "stop_freshness"),
                stop_memory: self.float(&top("chaos"), "stop_memory"),
                schedule: Schedule {
                    every: self.duration(&top("chaos.schedule"), "every"),
                    from_hour: self.number(&top("chaos.schedule"), "from_hour"),
                    to_hour: self.number(&top("chaos.schedule"), "to_hour"),
                    seed: self.integer(&top("chaos.schedule"), "seed"),
                },
            },
            log: Log {
                level: self.text(&top("log"), "level"),
                format: self.text(&top("log"), "format"),
            },
        }
    }

    fn redis(&mut self, scope: &Scope) -> Redis {
        Redis {
            url: self.text(scope, "url"),
            username: self.optional_text(scope, "username"),
            password: match self.optional(scope, "password") {
                Some(Value::Secret(secret)) => Some(secret),
                _ => None,
            },
            keys_prefix: self.text(scope, "keys_prefix"),
            timeout: self.duration(scope, "timeout"),
            durability: match self.text(scope, "durability").as_str() {
                "replica" => Durability::Replica,
                "aof" => Durability::Aof,
                _ => Durability::Memory,
            },
            durability_timeout: self.duration(scope, "durability_timeout"),
            max_memory: match self.optional(scope, "max_memory") {
                Some(Value::Size(bytes)) => Some(bytes),
                _ => None,
            },
            append_fsync: self.text(scope, "append_fsync"),
            tls_ca: self.optional_text(scope, "tls_ca"),
        }
    }

    fn event(&mut self, scope: &Scope, dedupe: &Scope) -> Event {
        Event {
            stream: self.text(scope, "stream"),
            id: self.text(scope, "id"),
            key: self.text(scope, "key"),
            kind: self.text(scope, "type"),
            time: self.text(scope, "time"),
            value: self.text(scope, "value"),
            product: self.text(scope, "product"),
            session: self.text(scope, "session"),
            value_scale: self.number(scope, "value_scale"),
            dedupe_window: self.duration(dedupe, "window"),
            dedupe_max_ids: self.integer(dedupe, "max_ids"),
        }
    }

    fn source(&mut self, index: usize, named: &Named) -> Source {
        let scope = self.named("source", index, named);
        // There is one kind so far; `kind` must be given all the same, so that a second one changes no file.
        let _ = self.text(&scope, "kind");
        Source {
            name: named.name.clone(),
            enabled: self.flag(&scope, "enabled"),
            kind: SourceKind::Generator(Generator {
                rate: self.float(&scope, "rate"),
                seed: self.integer(&scope, "seed"),
                users: self.number(&scope, "users"),
                products: self.number(&scope, "products"),
                limit: match self.optional(&scope, "limit") {
                    Some(Value::Integer(n)) => Some(n),
                    _ => None,
                },
            }),
        }
    }

    /// The scope of `[stage.NAME]` or `[source.NAME]`.
    pub(super) fn named(&self, table: &str, index: usize, named: &Named) -> Scope {
        Scope {
            pattern: format!("{table}.*"),
            path: join(table, &named.name),
            place: named.place,
            index: (index, 0),
        }
    }

    /// The scope of an operator in a stage.
    pub(super) fn operator(&self, stage: &Scope, i: usize, kind: &str, place: Place) -> Scope {
        Scope {
            pattern: format!("stage.*.operators[{kind}]"),
            path: format!("{}.operators[{i}]", stage.path),
            place,
            index: (stage.index.0, i + 1),
        }
    }

    /// The scope of a table inside one.
    pub(super) fn inner(&self, scope: &Scope, name: &str) -> Scope {
        Scope {
            pattern: join(&scope.pattern, name),
            path: join(&scope.path, name),
            ..scope.clone()
        }
    }

    /// Where a key of this table was given.
    pub(super) fn place(&self, scope: &Scope, name: &str) -> Option<Place> {
        let given = self.walked.values.get(&join(&scope.path, name));
        given.map(|(_, place)| *place)
    }

    /// Whether a key of this table was given, rightly or not, and says something.
    pub(super) fn is_given(&self, scope: &Scope, name: &str) -> bool {
        let full = scope.path(name);
        let value = self.walked.values.get(&full).map(|(value, _)| value);
        self.walked.wrong.contains(&full)
            || value.is_some_and(|value| *value != Value::Names(Vec::new()))
    }

    /// The value of a key that is never unset; `Follows` needs [`Self::derived`].
    pub(super) fn value(&mut self, scope: &Scope, name: &str) -> Value {
        match self.optional(scope, name) {
            Some(value) => value,
            None => {
                let full = join(&scope.path, name);
                let key = catalogue::child(&scope.pattern, name);
                let required = key.is_some_and(|key| key.default == Preset::Required);
                if let (true, false, Some(key)) = (required, self.walked.wrong.contains(&full), key)
                {
                    let what = format!("`{full}` must be given");
                    let hint = format!("{} It takes {}.", key.doc, key.takes());
                    self.report.fault(scope.place, &what, Some(&hint));
                }
                // The fault is reported, here or by `walk`; this only lets the other checks go on.
                key.map_or(Value::Bool(false), |key| blank(&key.kind))
            }
        }
    }

    /// The value of a key, its default, or nothing; recorded for `explain`.
    fn optional(&mut self, scope: &Scope, name: &str) -> Option<Value> {
        let key = catalogue::child(&scope.pattern, name)?;
        let given = self.walked.values.get(&join(&scope.path, name)).cloned();
        let (value, place) = match (given, key.default) {
            (Some((value, place)), _) => (Some(value), Some(place)),
            (None, Preset::Is(text)) => (key.kind.read_text(text).ok(), None),
            (None, _) => (None, None),
        };
        self.record(scope, key, value.as_ref(), place);
        value
    }

    /// The value of a key whose default follows from other keys.
    pub(super) fn derived(&mut self, scope: &Scope, name: &str, default: &str) -> String {
        let given = self.walked.values.get(&join(&scope.path, name)).cloned();
        let (value, place) = match given {
            Some((value, place)) => (value, Some(place)),
            None => (Value::Text(default.to_owned()), None),
        };
        if let Some(key) = catalogue::child(&scope.pattern, name) {
            self.record(scope, key, Some(&value), place);
        }
        text_of(value)
    }

    fn record(
        &mut self,
        scope: &Scope,
        key: &catalogue::Key,
        value: Option<&Value>,
        place: Option<Place>,
    ) {
        let (origin, position) = self.report.origin(place);
        let order = KEYS.iter().position(|other| other.path == key.path);
        let section = KEYS
            .iter()
            .position(|other| other.path.split('.').next() == key.path.split('.').next());
        let doc = match (value, key.default) {
            (None, Preset::Unset(text)) => text,
            _ => key.doc,
        };
        self.resolved.push((
            (
                section.unwrap_or(0),
                scope.index.0,
                scope.index.1,
                order.unwrap_or(0),
            ),
            Resolved {
                key: join(&scope.path, key.name()),
                value: value.map(Value::toml),
                origin,
                position,
                doc: doc.to_owned(),
            },
        ));
    }

    pub(super) fn text(&mut self, scope: &Scope, name: &str) -> String {
        text_of(self.value(scope, name))
    }

    fn optional_text(&mut self, scope: &Scope, name: &str) -> Option<String> {
        self.optional(scope, name).map(text_of)
    }

    pub(super) fn names(&mut self, scope: &Scope, name: &str) -> Vec<String> {
        match self.value(scope, name) {
            Value::Names(names) => names,
            _ => Vec::new(),
        }
    }

    pub(super) fn flag(&mut self, scope: &Scope, name: &str) -> bool {
        matches!(self.value(scope, name), Value::Bool(true))
    }

    pub(super) fn integer(&mut self, scope: &Scope, name: &str) -> u64 {
        match self.value(scope, name) {
            Value::Integer(n) | Value::Size(n) => n,
            _ => 0,
        }
    }

    /// A whole number whose range in the catalogue fits 32 bits.
    pub(super) fn number(&mut self, scope: &Scope, name: &str) -> u32 {
        u32::try_from(self.integer(scope, name)).unwrap_or(u32::MAX)
    }

    fn float(&mut self, scope: &Scope, name: &str) -> f64 {
        match self.value(scope, name) {
            Value::Rate(n) | Value::Share(n) => n,
            _ => 0.0,
        }
    }

    pub(super) fn duration(&mut self, scope: &Scope, name: &str) -> Duration {
        match self.value(scope, name) {
            Value::Duration(d) => d,
            _ => Duration::ZERO,
        }
    }

    fn range(&mut self, scope: &Scope, name: &str) -> (Duration, Duration) {
        match self.value(scope, name) {
            Value::Range(from, to) => (from, to),
            _ => (Duration::ZERO, Duration::ZERO),
        }
    }

    pub(super) fn expression(&mut self, scope: &Scope, name: &str) -> Option<Expression> {
        match self.value(scope, name) {
            Value::Expression(_, parsed) => Some(parsed),
            _ => None,
        }
    }
}

fn text_of(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        _ => String::new(),
    }
}

/// Stands for a value that is missing or wrong.
fn blank(kind: &Kind) -> Value {
    match kind {
        Kind::Choice(words) => Value::Text(words.first().copied().unwrap_or_default().to_owned()),
        Kind::Text(_) | Kind::Url => Value::Text(String::new()),
        _ => Value::Bool(false),
    }
}
