//! What is left of an experiment whose daemon and guard both died: the next start of the daemon takes it back before it does
//! anything else, and closes the journal.
//!
//! Faults inside a daemon died with it. What outlives both is on the server: a stopped process, a memory limit. Each was
//! written down, and forced to the disk, before it was done.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipectl_shared::chaos::{Measurements, Progress, Reverted, Run, Verdict};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::job::{Job, ServerAt};
use crate::chaos::{Process, Server};
use crate::clock::{Clock as _, System};
use crate::datadir::write_whole;
use crate::experiments::Act;
use crate::journal::{Journal, Level};
use crate::store::redis::{Address, Login};

/// Name of the write-ahead file of a run.
pub(super) const OPEN: &str = "open.jsonl";
/// A server that loads its data answers late; later than this somebody else takes it back.
const SERVER_WITHIN: Duration = Duration::from_secs(60);

/// One line of the write-ahead file, forced to the disk before anything is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// Since the run's begin.
    pub(super) t_ms: u64,
    /// What is about to be done.
    pub(super) act: Act,
    /// What takes it back if nobody else can.
    pub(super) undo: Option<Undo>,
}

/// What outlives a daemon and its guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Undo {
    /// A stopped process goes on.
    Continue(Process),
    /// The memory limit as it was.
    MaxMemory(String),
}

impl Undo {
    /// What, for a person.
    pub(super) fn word(&self) -> String {
        match self {
            Self::Continue(process) => format!("SIGCONT to the server (pid {})", process.pid),
            Self::MaxMemory(was) => format!("maxmemory {was}"),
        }
    }
}

/// Reads the write-ahead file; a torn last line was never acted on, as it is forced to the disk first.
pub(super) fn intents(folder: &Path) -> Vec<Intent> {
    let text = fs::read_to_string(folder.join(OPEN)).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Appends to the write-ahead file and forces it to the disk.
///
/// # Errors
/// When the disk does not take it; then nothing may be done.
pub(super) fn intend(file: &mut File, intent: &Intent) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(intent)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_all()
}

/// Runs that have a begin and no end, and whose guard is dead.
fn left_open(chaos: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(chaos) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.join("job.json").exists() && !folder.join("run.json").exists())
        .filter(|folder| !is_guarded(folder))
        .collect();
    folders.sort();
    folders
}

/// Whether the guard of the run in this folder lives: it holds the lock as long as it does.
pub(super) fn is_guarded(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join("lock")) else {
        return false;
    };
    // Shared and given back at once when the file is closed: two who look do not see each other.
    matches!(
        flock(&file, FlockOperation::NonBlockingLockShared),
        Err(rustix::io::Errno::WOULDBLOCK)
    )
}

/// Before the managed server is looked at: a stopped one would not answer. `chaos` is the folder of all runs.
pub fn before(chaos: &Path, journal: &Journal) {
    for folder in left_open(chaos) {
        for intent in intents(&folder) {
            if let Some(Undo::Continue(process)) = intent.undo
                && process.signal(Signal::CONT)
            {
                let text = format!(
                    "an experiment had stopped redis (pid {}); it goes on",
                    process.pid
                );
                journal.tell(Level::Warning, "chaos.recovered", None, text);
            }
        }
    }
}

/// Once there is a server: takes back what is left on it, and closes the journals. Gives up on a server that does not answer
/// within a minute, and then leaves the journal open for the next start. Cancel-safe: what was not done is done at the next start.
pub async fn after(chaos: &Path, server: &ServerAt, journal: &Journal) {
    let open = left_open(chaos);
    if open.is_empty() {
        return;
    }
    let address = match address(server) {
        Ok(address) => address,
        Err(why) => {
            journal.tell(Level::Error, "chaos.not_recovered", None, why);
            return;
        }
    };
    let mut server = Server::new(address);
    if !server.opens_within(SERVER_WITHIN).await {
        let text = "redis does not answer, so that an experiment of before could not be taken back; the next start tries again";
        journal.tell(Level::Error, "chaos.not_recovered", None, text);
        return;
    }
    for folder in open {
        let mut reverted = Vec::new();
        for intent in intents(&folder).into_iter().rev() {
            let Some(undo) = intent.undo else { continue };
            let result = match &undo {
                Undo::Continue(_) => Ok(()),
                Undo::MaxMemory(was) => server
                    .set("maxmemory", was)
                    .await
                    .map_err(|e| e.to_string()),
            };
            reverted.push(Reverted {
                what: undo.word(),
                ok: result.is_ok(),
                found: result
                    .err()
                    .unwrap_or_else(|| "taken back at the next start".to_owned()),
            });
        }
        reverted.extend(leave(&folder, &mut server).await);
        let failed = reverted.iter().any(|one| !one.ok);
        let text = match close(&folder, reverted) {
            Ok(id) if failed => format!("experiment {id} could not be taken back whole"),
            Ok(id) => format!("experiment {id}, whose guard had died, was taken back"),
            Err(error) => format!(
                "the journal {} could not be closed: {error}",
                folder.display()
            ),
        };
        let level = if failed { Level::Error } else { Level::Warning };
        journal.tell(level, "chaos.recovered", None, text);
    }
}

/// Gives back the lease of a dead guard, so that the next experiment need not wait until it has run out; `None` = it had none.
async fn leave(folder: &Path, server: &mut Server) -> Option<Reverted> {
    let job: Job = serde_json::from_slice(&fs::read(folder.join("job.json")).ok()?).ok()?;
    let key = lease_key(&job);
    let holder = server.call(&["GET", &key]).await.ok()?.text();
    if holder != job.id {
        return None;
    }
    let gone = server.call(&["DEL", &key]).await;
    Some(Reverted {
        what: "the lease of experiments".to_owned(),
        ok: gone.is_ok(),
        found: gone
            .err()
            .map_or_else(|| "given back".to_owned(), |e| e.to_string()),
    })
}

/// The key whose holder runs the one experiment of a pipeline.
pub(super) fn lease_key(job: &Job) -> String {
    format!("{}chaos", job.keys.prefix)
}

/// Where the server is.
///
/// # Errors
/// When the URL cannot be used, in words.
pub(super) fn address(server: &ServerAt) -> Result<Address, String> {
    let login = Login {
        username: server.username.clone(),
        password: server.password.clone(),
    };
    let timeout = Duration::from_millis(server.timeout_ms);
    Address::parse(&server.url, login, timeout, server.tls_ca.as_deref()).map_err(|e| e.to_string())
}

/// Writes the document of a run whose end nobody saw.
fn close(folder: &Path, reverted: Vec<Reverted>) -> std::io::Result<String> {
    let job: Job = serde_json::from_slice(&fs::read(folder.join("job.json"))?)?;
    let progress = fs::read(folder.join("progress.json")).unwrap_or_default();
    let progress: Option<Progress> = serde_json::from_slice(&progress).ok();
    let run = Run {
        id: job.id.clone(),
        experiment: job.experiment,
        claim: job.claim,
        params: job.params,
        targets: job.method.targets,
        seed: job.seed,
        rate: job.scene.rate,
        started_ms: job.started_ms,
        ended_ms: System.now_ms(),
        injected_t_ms: None,
        reverted_t_ms: None,
        verdict: Verdict::Aborted,
        why: "the daemon and the guard died; all was taken back at the next start".to_owned(),
        hypothesis: Vec::new(),
        measurements: Measurements::default(),
        ledger_before: None,
        ledger_after: None,
        timeline: progress.map(|p| p.marks).unwrap_or_default(),
        reverted,
        judged_by: Vec::new(),
        examples: Vec::new(),
        for_ms: job.method.for_ms,
        compared: None,
        by: job.by,
        versions: [("pipelined".to_owned(), job.version)].into(),
        config_hash: job.config_hash,
        folder: folder.display().to_string(),
    };
    write_whole(&folder.join("run.json"), &serde_json::to_vec_pretty(&run)?)?;
    Ok(job.id)
}
