//! The contract of an experiment: a [`Spec`] that tells consoles about it, and a pure function from what runs to what would
//! be done. The guard does it, so a dry run, the journal and the deed are one value.

use pipectl_shared::spec::Spec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chaos::{Order, Point};

/// One item of the gallery.
pub struct Experiment {
    /// Describes it. Its name is `family.what`; the families are those of `[chaos] allow`.
    pub spec: fn() -> Spec,
    /// The hypothesis in one sentence.
    pub claim: &'static str,
    /// Whether it destroys data, so that it runs only where `[chaos] copy` is set.
    pub copy_only: bool,
    /// Whether it needs the managed server.
    pub managed_only: bool,
    /// What would be done. Parameters were checked against the Spec. `Err` = why it cannot be done here, for a person, with
    /// the next step.
    pub method: fn(&Scene, &Params<'_>) -> Result<Method, String>,
}

/// What runs, as far as experiments need to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// Stages, inputs before outputs.
    pub stages: Vec<SceneStage>,
    /// Source stream.
    pub source: String,
    /// Milliseconds of the id window; `None` = off.
    pub dedupe_ms: Option<u64>,
    /// Longest fault, milliseconds.
    pub max_ms: u64,
    /// Events a second of the run's own producers.
    pub rate: u64,
    /// `always`, `everysec` or `no`, of a managed server.
    pub append_fsync: String,
    /// Decides which targets are drawn.
    pub seed: u64,
}

/// One stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SceneStage {
    /// Name.
    pub name: String,
    /// Input stream.
    pub stream: String,
    /// Consumer group.
    pub group: String,
    /// Whether one owner works it.
    pub owned: bool,
    /// Consumer names of this daemon's workers that run.
    pub workers: Vec<String>,
    /// After so long an entry is given to another worker, milliseconds.
    pub claim_after_ms: u64,
    /// Whether it has a lookup.
    pub has_lookup: bool,
    /// Keys that its lookups' caches hold at most; 0 = no cache.
    pub cache_entries: u64,
    /// Whether another stage reads what it sends on.
    pub has_next: bool,
}

/// Parameters after the check, with how long the fault lasts.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// By name.
    pub given: &'a Map<String, Value>,
    /// How long the fault lasts where somebody said so, milliseconds.
    pub for_ms: Option<u64>,
}

impl Params<'_> {
    /// A text; empty when it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.given
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A whole number; 0 when it is not there.
    pub fn number(&self, name: &str) -> u64 {
        self.given
            .get(name)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// A duration in milliseconds; 0 when it is not there.
    pub fn ms(&self, name: &str) -> u64 {
        pipectl_shared::units::parse_duration(self.text(name))
            .ok()
            .and_then(|d| u64::try_from(d.as_millis()).ok())
            .unwrap_or_default()
    }

    /// A share of 1, from whole percent; 0 when it is not there.
    #[expect(clippy::cast_precision_loss, reason = "0 to 100")]
    pub fn share(&self, name: &str) -> f64 {
        self.number(name) as f64 / 100.0
    }
}

/// What would be done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// What it acts on, for a person.
    pub targets: Vec<String>,
    /// In order of time.
    pub steps: Vec<Step>,
    /// How long the fault lasts, milliseconds; for something that happens at once, how long it is watched.
    pub for_ms: u64,
    /// How all is taken back, in this order; each is tried whatever became of those before.
    pub reverts: Vec<Revert>,
    /// What is tolerated.
    pub expects: Expects,
    /// What the product cannot do about it, beside the time: added to the limit of the recovery.
    pub recover_from: RecoverFrom,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// After the begin of the fault, milliseconds.
    pub at_ms: u64,
    /// What.
    pub act: Act,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Inside the daemon.
    Inside(Order),
    /// On the server.
    Server(ServerFault),
    /// SIGKILL to the daemon; the guard starts it again after `down_ms`.
    KillDaemon {
        /// 0 = at once.
        down_ms: u64,
    },
    /// In the events that the run sends.
    Load(LoadFault),
}

/// What is done to the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerFault {
    /// SIGKILL; the daemon starts it again, held by [`Order::HoldServer`].
    Kill,
    /// CLIENT PAUSE ALL: ends by itself.
    Pause {
        /// How long.
        ms: u64,
    },
    /// SIGSTOP; taken back by SIGCONT.
    Stop,
    /// `maxmemory` becomes this share of what is used, in percent.
    MaxMemory {
        /// Of `used_memory`.
        percent: u64,
    },
    /// XGROUP DESTROY.
    DestroyGroup {
        /// Stream.
        stream: String,
        /// Group.
        group: String,
    },
    /// XGROUP DELCONSUMER of a consumer that holds entries; `None` = whichever holds most at that instant.
    DelConsumer {
        /// Stream.
        stream: String,
        /// Group.
        group: String,
        /// Name.
        consumer: Option<String>,
    },
    /// Removes the oldest `n` undelivered entries of the run's own from the stream, as a foreign XTRIM would: everything up
    /// to there goes.
    Trim {
        /// Stream.
        stream: String,
        /// Group that has not read them.
        group: String,
        /// How many undelivered entries.
        n: u64,
    },
    /// SCRIPT FLUSH.
    ScriptFlush,
}

/// What is done to the events that the run sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadFault {
    /// This share of events cannot be worked (0 to 1): they lack what the pipeline requires.
    Poison {
        /// 0 to 1.
        share: f64,
    },
    /// This share of events is sent twice under one id (0 to 1).
    Duplicate {
        /// 0 to 1.
        share: f64,
    },
    /// So many times the rate.
    Burst {
        /// Times.
        factor: u64,
    },
    /// This share of events has one and the same key (0 to 1).
    HotKey {
        /// 0 to 1.
        share: f64,
    },
}

/// How something is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revert {
    /// [`Order::Clear`]; the daemon's death does it as well.
    Inside,
    /// CLIENT UNPAUSE.
    Unpause,
    /// SIGCONT to the server.
    Continue,
    /// `maxmemory` as it was.
    MaxMemory,
    /// The events are as before.
    Load,
    /// The daemon runs.
    Daemon,
    /// The server answers.
    Server,
    /// Every group is there.
    Groups,
    /// The dead letters of the run's own events are purged, after they were counted.
    DeadLetters,
}

/// What is tolerated, beside that nothing is lost, doubled, pending or unexplained at the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expects {
    /// Share of good probes over the whole run, at least.
    pub availability: f64,
    /// From the fault's end to all well, at most, milliseconds.
    pub recover_ms: u64,
    /// Whether canaries stay fresh while the fault is in.
    pub fresh_during: bool,
    /// What may be lost.
    pub lost: Loss,
    /// Dead letters of the run's own events.
    pub dead: Amount,
    /// Events that are known as duplicates.
    pub deduplicated: Amount,
    /// Whether entries must have been given to another worker (`pending.claimed`), so that the late commit of the first was
    /// really late.
    pub claimed: bool,
    /// Lookups of the backend while the fault is in, per distinct key, at most; `None` = not looked at.
    pub backend_keys: bool,
}

impl Default for Expects {
    fn default() -> Self {
        Self {
            availability: 0.99,
            recover_ms: 5_000,
            fresh_during: false,
            lost: Loss::None,
            dead: Amount::None,
            deduplicated: Amount::None,
            claimed: false,
            backend_keys: false,
        }
    }
}

/// What may be lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Nothing.
    #[default]
    None,
    /// What the server had acknowledged within so many milliseconds before its death and did not keep; never an effect
    /// without its event.
    WithServer {
        /// How old at most.
        ms: u64,
    },
    /// Exactly what was removed unread, and the ledger tells it as lost.
    Injected,
    /// Exactly what somebody took out of the pending list, and the ledger tells it as unaccounted: whether who did it had
    /// worked it, the product cannot know.
    Unaccounted,
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// None.
    #[default]
    None,
    /// Exactly as many as were injected.
    Injected,
    /// Any number.
    Any,
}

/// From when on the recovery is timed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoverFrom {
    /// The fault's end.
    #[default]
    Revert,
    /// The first step: a kill is over at once.
    Injection,
    /// The instant when the server took connections again.
    ServerOpen,
}

/// The points at which a worker can be met, as parameters name them.
pub(super) const POINTS: [(&str, Point); 3] = [
    ("after_read", Point::AfterRead),
    ("before_commit", Point::BeforeCommit),
    ("after_commit", Point::AfterCommit),
];

/// The point with this name; the Spec's check has seen to it that it exists.
pub(super) fn point(name: &str) -> Point {
    POINTS
        .iter()
        .find(|(word, _)| *word == name)
        .map_or(Point::BeforeCommit, |(_, point)| *point)
}
