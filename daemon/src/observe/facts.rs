//! Everything that one Snapshot is made of: what the sampler gathered at one instant. Plain data, no behaviour worth
//! the name; `judge`, `alerts` and `build` are pure functions over it, so tests can say any situation in a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::chaos::Running;
use pipectl_shared::config::{self, Config};
use pipectl_shared::snapshot::{self, Alert, Event, Latency};

use super::progress::Stall;
use crate::runtime::WorkerView;
use crate::store::{self, ConsumerDepth, Depth, Layout, Server, StoreError};

/// One instant.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Number of the tick.
    pub(super) seq: u64,
    /// Wall time, milliseconds since 1970.
    pub(super) now_ms: u64,
    /// Since the daemon started (monotonic).
    pub(super) uptime: Duration,
    /// What does not change while the daemon runs.
    pub(super) fixed: Arc<Fixed>,
    /// Whether the daemon drains.
    pub(super) draining: bool,
    /// The server.
    pub(super) store: StoreFacts,
    /// Added to the source stream a second.
    pub(super) in_per_s: Option<f64>,
    /// Ended by the terminal stages a second.
    pub(super) out_per_s: Option<f64>,
    /// In layout order, as `fixed.stages`.
    pub(super) stages: Vec<StageFacts>,
    /// Rows of the last minute.
    pub(super) latency: Vec<Latency>,
    /// Sources and doors.
    pub(super) sources: Vec<snapshot::Source>,
    /// The machine.
    pub(super) host: snapshot::Host,
    /// The process: resident bytes.
    pub(super) rss_bytes: Option<u64>,
    /// The process: cores in use.
    pub(super) cpu_cores: Option<f64>,
    /// Bytes of history in memory.
    pub(super) history_bytes: u64,
    /// Last events, newest last.
    pub(super) events: Vec<Event>,
    /// Open alerts, worst first.
    pub(super) alerts: Vec<Alert>,
    /// The experiment under way.
    pub(super) chaos: Option<Running>,
}

/// What does not change while the daemon runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixed {
    /// Name of the pipeline.
    pub(super) pipeline: String,
    /// For people: without user and password.
    pub(super) redis_url: String,
    /// Whether the daemon started the server itself.
    pub(super) managed: bool,
    /// What an accepted event has survived.
    pub(super) durability: &'static str,
    /// The daemon's process id.
    pub(super) pid: u32,
    /// The daemon's version.
    pub(super) version: String,
    /// First part of consumer names.
    pub(super) instance: String,
    /// In layout order.
    pub(super) stages: Vec<FixedStage>,
    /// The longest time between two tries of an entry.
    pub(super) backoff_max: Duration,
    /// Decimal places of the value role.
    pub(super) value_scale: u32,
}

/// What does not change of a stage.
#[derive(Debug, Clone, Default)]
pub(super) struct FixedStage {
    pub(super) name: String,
    pub(super) delivery: String,
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) from: String,
    pub(super) operators: Vec<String>,
    pub(super) claim_after: Duration,
    pub(super) terminal: bool,
    pub(super) aggregates: bool,
}

/// The server as known now.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreFacts {
    /// Depths of this instant; `None` = unknown: nothing that stands in it may be shown.
    pub(super) depth: Option<Arc<Depth>>,
    /// Why it is unknown; `None` with an unknown depth = nobody has answered yet.
    pub(super) error: Option<StoreError>,
    /// Since the last answer (or since the start), while there is none.
    pub(super) away: Option<Duration>,
    /// What the server said of itself when it last answered.
    pub(super) server: Option<Arc<Server>>,
    /// Top of the results and their age.
    pub(super) aggregates: Option<(Arc<store::Aggregates>, Duration)>,
}

/// One stage as known now.
#[derive(Debug, Clone, Default)]
pub(super) struct StageFacts {
    /// Whether an operator paused it.
    pub(super) paused: bool,
    /// Workers that run.
    pub(super) running: u32,
    /// Workers that should run.
    pub(super) wanted: u32,
    /// How long fewer run than should.
    pub(super) short: Duration,
    /// Why it cannot work until a person mends it.
    pub(super) trouble: Option<String>,
    /// Workers' views.
    pub(super) workers: Vec<WorkerView>,
    /// Counters since start.
    pub(super) counters: Counters,
    /// Last time a read returned, milliseconds since 1970; 0 = never.
    pub(super) last_read_ms: u64,
    /// How long entries have waited without any being read; `None` = nothing waits or unknown.
    pub(super) unread: Option<Duration>,
    /// Entries read a second.
    pub(super) in_per_s: Option<f64>,
    /// Entries committed a second.
    pub(super) out_per_s: Option<f64>,
    /// Consumers of the group; `None` = unknown now.
    pub(super) consumers: Option<Arc<Vec<ConsumerDepth>>>,
    /// Consumers beyond those.
    pub(super) consumers_left: u64,
    /// First read of the oldest pending entry where nobody here holds it, with its id.
    pub(super) oldest: Option<OldestPending>,
    /// Consumers that make no progress.
    pub(super) stalls: HashMap<Bytes, Stall>,
}

/// When an entry was read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OldestPending {
    /// The entry.
    pub(super) id: crate::record::EntryId,
    /// By the store, milliseconds since 1970; 0 = it does not know.
    pub(super) first_ms: u64,
}

/// A stage's counters since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) read: u64,
    pub(super) committed: u64,
    pub(super) errors: u64,
    pub(super) retries: u64,
    pub(super) dead: u64,
    pub(super) not_pending: u64,
    pub(super) redelivered: u64,
}

impl Fixed {
    /// From the configuration and the names in the store; stages in layout order.
    pub(super) fn new(config: &Config, layout: &Layout, instance: String) -> Self {
        let stages = layout.stages.iter().map(|at| {
            let stage = config.stages.iter().find(|s| s.name == at.name);
            FixedStage {
                name: at.name.clone(),
                delivery: stage
                    .map_or("shared", |s| match s.delivery {
                        config::Delivery::Shared => "shared",
                        config::Delivery::Owned => "owned",
                    })
                    .to_owned(),
                stream: at.stream.clone(),
                group: at.group.clone(),
                from: stage.map_or_else(String::new, |s| match &s.from {
                    config::From::Source => "source".to_owned(),
                    config::From::Stage(name) => name.clone(),
                }),
                operators: stage.map_or_else(Vec::new, |s| {
                    s.operators.iter().map(|o| o.kind().to_owned()).collect()
                }),
                claim_after: stage.map_or(Duration::from_secs(60), |s| s.claim_after),
                terminal: at.output.is_none(),
                aggregates: at.aggregates,
            }
        });
        Self {
            pipeline: config.name.clone(),
            redis_url: without_user(&config.redis.url),
            durability: config.redis.durability.word(),
            managed: config.redis.url == "managed",
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance,
            stages: stages.collect(),
            backoff_max: config.retry.backoff_max,
            value_scale: config.event.value_scale,
        }
    }

    /// Whether any stage aggregates.
    pub(super) fn has_aggregate(&self) -> bool {
        self.stages.iter().any(|s| s.aggregates)
    }
}

/// The URL without what stands before the last `@` of its authority, so that no user or password is shown.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_or_password_is_shown() {
        for (url, shown) in [
            ("managed", "managed"),
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("redis://me:p%40ss@db:6379/0", "redis://db:6379/0"),
            ("rediss://me:p@ss@db", "rediss://db"),
            (
                "redis+unix:///run/a@b.sock?db=1",
                "redis+unix:///run/a@b.sock?db=1",
            ),
        ] {
            assert_eq!(without_user(url), shown);
        }
    }
}
