//! Chaos as both ends see it: the catalogue, a run under way, and the document of a run that has ended.
//!
//! No behaviour here but the exit code of a verdict. `None` is "not known" or "did not happen", never 0. Times that end in
//! `_ms` are milliseconds; `t_ms` counts from the begin of the run, `ts_ms` since 1970 by the daemon's clock. Names that
//! Chaos Toolkit has (`title`, `status`, `deviated`, `steady_states`, `run`, `rollbacks`) are in the journal, which the guard
//! writes.
//!
//! Past 500 lines because it is a set of documents, field by field with its unit; there is nothing else in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ledger::Ledger;
use crate::spec::Spec;

/// One experiment of the catalogue, as `chaos.list` tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Name, parameters, scope, risk, role.
    pub spec: Spec,
    /// The hypothesis in one sentence: what a person would bet on.
    pub claim: String,
    /// Whether it destroys data and so runs only where `[chaos] copy` says that nothing is of worth.
    pub copy_only: bool,
    /// Why it cannot run in this daemon; `None` = it can.
    pub refused: Option<String>,
    /// Its last run here.
    pub last: Option<Summary>,
}

/// The answer to `chaos.list`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Whether `[chaos] enabled` is set; without it nothing runs.
    pub enabled: bool,
    /// In the order users see.
    pub rows: Vec<Experiment>,
    /// The switch that stops all and blocks new ones.
    pub lever: Lever,
    /// The run under way.
    pub running: Option<Running>,
    /// What the schedule does next.
    pub schedule: Option<Scheduled>,
}

/// The switch that stops all and blocks new ones, until it is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lever {
    /// Whether it is pulled.
    pub pulled: bool,
    /// Who pulled it; show it as untrusted text.
    pub by: Option<String>,
    /// Why; show it as untrusted text.
    pub reason: Option<String>,
    /// Since when, milliseconds since 1970.
    pub since_ms: Option<u64>,
}

/// What the schedule does next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Which experiment.
    pub name: String,
    /// Its seed.
    pub seed: u64,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The guard connects, the load begins.
    #[default]
    Preparing,
    /// Whether all is well before.
    Before,
    /// The fault is in.
    During,
    /// The fault was taken back; until all is well again.
    After,
    /// The load has ended; until nothing is under way.
    Draining,
    /// Counting.
    Verifying,
    /// There is a verdict.
    Ended,
}

impl Phase {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
            Self::Draining => "draining",
            Self::Verifying => "verifying",
            Self::Ended => "ended",
        }
    }
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The hypothesis held.
    Pass,
    /// The hypothesis did not hold.
    Deviated,
    /// A person, the lever, a stop condition or a daemon that died ended it early.
    Aborted,
    /// No fault hit, or something that must be known could not be measured.
    Inconclusive,
    /// The fault could not be injected or not be taken back.
    Failed,
    /// Nothing was done: it was not steady before, or not allowed.
    Refused,
}

impl Verdict {
    /// As people and programs read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Deviated => "deviated",
            Self::Aborted => "aborted",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }

    /// Exit code of `pipectl chaos run` (contract.md).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Failed => 1,
            Self::Refused => 4,
            Self::Aborted => 5,
            Self::Inconclusive => 6,
            Self::Deviated => 8,
        }
    }
}

/// A run in a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id, which sorts by time.
    pub id: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Begin, milliseconds since 1970.
    pub started_ms: u64,
    /// End, milliseconds since 1970; `None` = it runs, or nobody saw its end.
    pub ended_ms: Option<u64>,
    /// Seed.
    pub seed: u64,
    /// `None` = it runs, or nobody saw its end.
    pub verdict: Option<Verdict>,
    /// The verdict's reason in a sentence.
    pub why: String,
    /// Who asked for it; show it as untrusted text. The schedule is `schedule`.
    pub by: String,
    /// From the fault's end to all well, milliseconds.
    pub recover_ms: Option<f64>,
    /// Good probes of all, 0 to 1.
    pub availability: Option<f64>,
    /// Events lost.
    pub lost: Option<u64>,
    /// Effects too many.
    pub duplicated: Option<u64>,
}

/// The run under way, as a Snapshot and `chaos.list` tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Name of the experiment.
    pub experiment: String,
    /// Where it is.
    pub phase: Phase,
    /// Begin of the run, milliseconds since 1970.
    pub started_ms: u64,
    /// First injection, milliseconds since 1970.
    pub injected_ms: Option<u64>,
    /// When the fault was taken back, milliseconds since 1970.
    pub reverted_ms: Option<u64>,
    /// When the fault ends at the latest, milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// What it acts on, for a person.
    pub targets: Vec<String>,
    /// Who asked for it; show it as untrusted text.
    pub by: String,
}

/// The answer to `chaos.get`: a run, live or ended, from a certain slot on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// As in `chaos.list`.
    pub running: Running,
    /// Seed.
    pub seed: u64,
    /// Set when it has ended.
    pub verdict: Option<Verdict>,
    /// The verdict's reason in a sentence.
    pub why: String,
    /// What happened, oldest first; those after `after_mark`.
    pub marks: Vec<Mark>,
    /// One a second, oldest first; those after `after_t_ms`.
    pub slots: Vec<Slot>,
    /// The document, when it has ended.
    pub run: Option<Box<Run>>,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Grows by one.
    pub seq: u64,
    /// Since the begin of the run.
    pub t_ms: u64,
    /// `phase`, `fault`, `hit`, `signal`, `revert`, `stop`, `note`.
    pub kind: String,
    /// For a person; may quote data, so show it as untrusted text.
    pub text: String,
}

/// One second of a run, as the guard saw it from outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// End of the second, since the begin of the run.
    pub t_ms: u64,
    /// Where the run was.
    pub phase: Phase,
    /// Events acknowledged to the run's own producers, a second.
    pub in_per_s: f64,
    /// Entries settled by the last stages, a second; `None` = Redis did not answer.
    pub out_per_s: Option<f64>,
    /// Entries undelivered or pending over all stages; `None` = Redis did not answer.
    pub lag: Option<u64>,
    /// The slowest canary that came through within the second, milliseconds; `None` = none did.
    pub p99_ms: Option<f64>,
    /// Age of the oldest canary that is not in effect, milliseconds; 0 = all are; `None` = cannot be measured.
    pub fresh_ms: Option<f64>,
    /// Good probes.
    pub good: u32,
    /// Probes.
    pub probes: u32,
}

/// One line of the hypothesis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Such as `lost`.
    pub name: String,
    /// What is tolerated, such as `= 0`.
    pub tolerance: String,
    /// What was before; `None` = not looked at then.
    pub before: Option<String>,
    /// What was while the fault was in.
    pub during: Option<String>,
    /// What was after.
    pub after: Option<String>,
    /// Whether it held; `None` = it could not be measured.
    pub held: Option<bool>,
}

/// What a run measured (chaos.md section 4).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// From the first injected byte to the daemon's first own signal.
    pub detect_ms: Option<f64>,
    /// What the signal was.
    pub detected_by: Option<String>,
    /// From the first injected byte to the service being well for ten seconds while the fault lasts.
    pub mitigate_ms: Option<f64>,
    /// From the fault's end to the service being well and the backlog being as before, for the whole hold time.
    pub recover_ms: Option<f64>,
    /// Good probes of all probes, 0 to 1.
    pub availability: Option<f64>,
    /// Good probes.
    pub probes_good: u64,
    /// Probes.
    pub probes: u64,
    /// Longest time without a good probe, milliseconds.
    pub unavailable_ms: f64,
    /// Oldest canary that was not in effect, at the worst instant, milliseconds.
    pub freshness_worst_ms: Option<f64>,
    /// Events acknowledged and without effect, less those that Redis itself lost.
    pub lost: Option<u64>,
    /// Effects beyond one of an event.
    pub duplicated: Option<u64>,
    /// Events acknowledged by Redis and gone with it.
    pub gone: Option<u64>,
    /// Dead letters of the run's own events.
    pub dead: Option<u64>,
    /// Largest backlog.
    pub peak_lag: Option<u64>,
    /// Entries a second while the backlog shrank.
    pub drain_per_s: Option<f64>,
    /// Largest resident memory of the daemon, bytes.
    pub peak_rss_bytes: Option<u64>,
    /// Faults that really hit something.
    pub faults_injected: u64,
    /// Events that the run's producers sent and that were acknowledged.
    pub acknowledged: u64,
    /// Milliseconds from a canary's due time to its effect, by phase: `before`, `during`, `after`.
    pub latency_ms: BTreeMap<String, Quantiles>,
}

/// Quantiles of a handful of values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub n: u64,
    /// Median.
    pub p50: Option<f64>,
    /// 95 of 100 were faster.
    pub p95: Option<f64>,
    /// 99 of 100 were faster.
    pub p99: Option<f64>,
    /// Greatest.
    pub max: Option<f64>,
}

/// The document of a run that has ended (`pipectl/chaos/1`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Name of the experiment.
    pub experiment: String,
    /// The hypothesis in a sentence.
    pub claim: String,
    /// Parameters as they were used.
    pub params: Map<String, Value>,
    /// What it acted on.
    pub targets: Vec<String>,
    /// Seed.
    pub seed: u64,
    /// Events a second of the run's own producers.
    pub rate: u64,
    /// Begin, milliseconds since 1970.
    pub started_ms: u64,
    /// End, milliseconds since 1970.
    pub ended_ms: u64,
    /// First injection, since the begin.
    pub injected_t_ms: Option<u64>,
    /// When the fault was taken back, since the begin.
    pub reverted_t_ms: Option<u64>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub why: String,
    /// Line by line.
    pub hypothesis: Vec<Check>,
    /// Figures.
    pub measurements: Measurements,
    /// The product's ledger before; `None` = it did not answer.
    pub ledger_before: Option<Ledger>,
    /// The product's ledger after all had settled.
    pub ledger_after: Option<Ledger>,
    /// What happened.
    pub timeline: Vec<Mark>,
    /// Whether everything that the run changed is as before; with what is not.
    pub reverted: Vec<Reverted>,
    /// By what lost and duplicated were judged, for a person.
    pub judged_by: Vec<String>,
    /// Up to 20 events or sessions that were lost or doubled, each with where; enough to begin to look.
    #[serde(default)]
    pub examples: Vec<String>,
    /// How long the fault was to last, milliseconds; 0 = a daemon that did not tell.
    #[serde(default)]
    pub for_ms: u64,
    /// The last accepted run of the same experiment with the same parameters, and what differs.
    pub compared: Option<Compared>,
    /// Who asked for it; show it as untrusted text.
    pub by: String,
    /// Versions: `pipelined`, `redis`.
    pub versions: BTreeMap<String, String>,
    /// Of the configuration.
    pub config_hash: String,
    /// Folder with the files of the run, in the data folder.
    pub folder: String,
}

/// One thing that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverted {
    /// What, for a person.
    pub what: String,
    /// Whether it is as before.
    pub ok: bool,
    /// What was found.
    pub found: String,
}

/// Against an earlier run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Its id.
    pub id: String,
    /// Its time to recover.
    pub recover_ms: Option<f64>,
    /// Its availability.
    pub availability: Option<f64>,
    /// What is clearly worse now, in words; empty = nothing.
    pub worse: Vec<String>,
}

/// What `chaos.run` with `dry_run` answers: what would be done, and nothing was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Name of the experiment.
    pub experiment: String,
    /// The hypothesis in a sentence.
    pub claim: String,
    /// Parameters with defaults filled in.
    pub params: Map<String, Value>,
    /// What it would act on.
    pub targets: Vec<String>,
    /// What it would do, step by step.
    pub steps: Vec<String>,
    /// How it would be taken back.
    pub reverts: Vec<String>,
    /// The hypothesis, line by line: name and tolerance.
    pub hypothesis: Vec<(String, String)>,
    /// What would stop it.
    pub stop_when: Vec<String>,
    /// How long the fault would last, milliseconds.
    pub for_ms: u64,
    /// About how long the whole run would take, milliseconds.
    pub about_ms: u64,
    /// Events a second of the run's own producers.
    pub rate: u64,
    /// Seed.
    pub seed: u64,
    /// Why it would be refused now; `None` = it would begin.
    pub refused: Option<String>,
}

/// Parameters of `chaos.run`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunParams {
    /// Name of the experiment.
    pub name: String,
    /// Its own parameters.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// How long the fault lasts, such as `30s`; absent = the experiment's own.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Events a second of the run's own producers; absent = `[chaos] rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// Decides everything random; absent = drawn and told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the audit file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to `chaos.run`: it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its id, for `chaos.get`, which also a daemon answers that was started in between.
    pub id: String,
    /// Its seed.
    pub seed: u64,
}

/// Parameters of `chaos.get`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetParams {
    /// Which run; absent = the one under way, else the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only marks with a greater `seq`.
    #[serde(default)]
    pub after_mark: u64,
    /// Only slots that end later.
    #[serde(default)]
    pub after_t_ms: u64,
}

/// Parameters of `chaos.stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopParams {
    /// Why, for the audit file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Parameters of `chaos.lever`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeverParams {
    /// Pull it (stop all, block new ones), or take it back.
    pub pull: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Parameters of `chaos.history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryParams {
    /// Only runs of this experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Newest first, at most so many (1 to 200); absent = 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only runs with a smaller id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// Parameters of `chaos.report`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportParams {
    /// Which run; absent = the last that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Which file.
    #[serde(default)]
    pub form: Form,
}

/// A file of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// `report.md`, for people.
    #[default]
    Markdown,
    /// `run.json`, [`Run`].
    Json,
    /// `journal.json`, with Chaos Toolkit's names.
    Journal,
    /// `junit.xml`, for CI.
    Junit,
    /// `series.csv`, one row a second.
    Series,
}

impl Form {
    /// Name of the file in the folder of the run.
    pub fn file(self) -> &'static str {
        match self {
            Self::Markdown => "report.md",
            Self::Json => "run.json",
            Self::Journal => "journal.json",
            Self::Junit => "junit.xml",
            Self::Series => "series.csv",
        }
    }
}

/// The answer to `chaos.report`: the text of the file, at most 512 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which run.
    pub id: String,
    /// Its text, which is untrusted.
    pub text: String,
}
