//! The folder `<data>/chaos/`: one folder per run, named by its id, in which the guard writes everything.
//!
//! What the guard wrote is read back here and never trusted: files have a size limit, ids are checked before they become
//! paths. A run with `run.json` has ended and never changes again, so its line is kept in memory. Every method blocks on
//! the disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::chaos::{Form, Phase, Progress, Run, Running, Summary};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::recover::is_guarded;
use crate::datadir::write_whole;

/// Runs kept; with its series one takes about 200 KiB.
const KEPT: usize = 200;
/// Runs that keep their `ledger.csv`, which has a line per event.
const LEDGERS_KEPT: usize = 20;
/// Largest file of a run that is read, in bytes.
const FILE_MAX: u64 = 8 * 1024 * 1024;
/// Largest file that is told, in bytes.
pub(super) const TOLD_MAX: u64 = 512 * 1024;
/// Longest id; ours have about 40 bytes.
const ID_MAX: usize = 80;

/// Cheap to clone; all clones are one shelf.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    folder: PathBuf,
    ended: Arc<Mutex<BTreeMap<String, Summary>>>,
}

/// The part of `job.json` that says what a run is.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Head {
    pub(super) experiment: String,
    pub(super) seed: u64,
    pub(super) by: String,
    pub(super) started_ms: u64,
    pub(super) method: Targets,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Targets {
    pub(super) targets: Vec<String>,
}

impl Shelf {
    /// The shelf in this folder, which exists.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            ended: Arc::default(),
        }
    }

    /// Folder of a run. The id is one of ours or was checked by [`is_id`].
    pub(super) fn folder_of(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Makes the folder of a new run.
    pub(super) fn create(&self, id: &str) -> io::Result<PathBuf> {
        let folder = self.folder_of(id);
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        // The folder itself must survive a power cut: what is open in it has to be found.
        File::open(&self.folder)?.sync_all()?;
        Ok(folder)
    }

    /// Takes back what [`Shelf::create`] made, for a run that never began.
    pub(super) fn discard(&self, id: &str) -> io::Result<()> {
        fs::remove_dir_all(self.folder_of(id))
    }

    /// Every run, oldest first.
    pub(super) fn ids(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut ids: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|id| is_id(id))
            .collect();
        ids.sort();
        ids
    }

    /// Whether there is such a run.
    pub(super) fn has(&self, id: &str) -> bool {
        is_id(id) && self.folder_of(id).is_dir()
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self, id: &str) -> bool {
        self.folder_of(id).join("run.json").exists()
    }

    /// The run whose guard lives, the newest of them.
    pub(super) fn alive(&self) -> Option<String> {
        let ids = self.ids();
        ids.into_iter().rev().find(|id| self.is_alive(id))
    }

    /// Whether the guard of a run lives: it holds the lock of its folder as long as it does.
    pub(super) fn is_alive(&self, id: &str) -> bool {
        is_guarded(&self.folder_of(id))
    }

    /// What runs, from the head of the job and the last progress; `None` = neither can be read.
    pub(super) fn running(&self, id: &str) -> Option<(Running, u64)> {
        if let Some(progress) = self.progress(id) {
            return Some((progress.running, progress.seed));
        }
        let head: Head = self.read(id, "job.json")?;
        let running = Running {
            id: id.to_owned(),
            experiment: head.experiment,
            phase: Phase::Preparing,
            started_ms: head.started_ms,
            injected_ms: None,
            reverted_ms: None,
            until_ms: None,
            targets: head.method.targets,
            by: head.by,
        };
        Some((running, head.seed))
    }

    /// The last progress that the guard wrote.
    pub(super) fn progress(&self, id: &str) -> Option<Progress> {
        self.read(id, "progress.json")
    }

    /// The document of a run that has ended.
    pub(super) fn run(&self, id: &str) -> Option<Run> {
        self.read(id, "run.json")
    }

    fn read<T: DeserializeOwned>(&self, id: &str, name: &str) -> Option<T> {
        let path = self.folder_of(id).join(name);
        let text = read_bounded(&path, FILE_MAX).ok()?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(fault) => {
                tracing::warn!(path = %path.display(), %fault, "a file of an experiment cannot be read");
                None
            }
        }
    }

    /// A run in a line; `None` = nothing is known about it.
    pub(super) fn summary(&self, id: &str) -> Option<Summary> {
        let known = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(summary) = known.get(id) {
            return Some(summary.clone());
        }
        drop(known);
        if let Some(run) = self.run(id) {
            let summary = ended(id, run);
            let mut known = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id.to_owned(), summary.clone());
            return Some(summary);
        }
        let (running, seed) = self.running(id)?;
        let why = if self.is_alive(id) {
            String::new()
        } else {
            "its guard died, so nobody saw its end".to_owned()
        };
        Some(Summary {
            id: id.to_owned(),
            experiment: running.experiment,
            started_ms: running.started_ms,
            ended_ms: None,
            seed,
            verdict: None,
            why,
            by: running.by,
            recover_ms: None,
            availability: None,
            lost: None,
            duplicated: None,
        })
    }

    /// Every run in a line, newest first.
    pub(super) fn summaries(&self) -> Vec<Summary> {
        let ids = self.ids().into_iter().rev();
        ids.filter_map(|id| self.summary(&id)).collect()
    }

    /// Text of a file of a run.
    pub(super) fn text(&self, id: &str, form: Form) -> io::Result<String> {
        read_bounded(&self.folder_of(id).join(form.file()), TOLD_MAX)
    }

    /// Asks a guard that has no pipe to us to end its run: it looks for this file every second.
    pub(super) fn ask_to_stop(&self, id: &str, why: &str) -> io::Result<()> {
        write_whole(&self.folder_of(id).join("stop"), why.as_bytes())
    }

    /// Removes the oldest runs and the ledgers of older ones. A run whose guard lives stays as it is.
    pub(super) fn prune(&self) -> io::Result<()> {
        let ids = self.ids();
        let n_old = ids.len().saturating_sub(KEPT);
        for id in &ids[..n_old] {
            if self.is_alive(id) {
                continue;
            }
            fs::remove_dir_all(self.folder_of(id))?;
            let mut known = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(id);
        }
        let n_bare = ids.len().saturating_sub(LEDGERS_KEPT);
        for id in ids.get(n_old..n_bare).unwrap_or_default() {
            match fs::remove_file(self.folder_of(id).join("ledger.csv")) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
                _ => {}
            }
        }
        Ok(())
    }
}

fn ended(id: &str, run: Run) -> Summary {
    Summary {
        id: id.to_owned(),
        experiment: run.experiment,
        started_ms: run.started_ms,
        ended_ms: Some(run.ended_ms),
        seed: run.seed,
        verdict: Some(run.verdict),
        why: run.why,
        by: run.by,
        recover_ms: run.measurements.recover_ms,
        availability: run.measurements.availability,
        lost: run.measurements.lost,
        duplicated: run.measurements.duplicated,
    }
}

/// Whether this can be the name of a run's folder: no path leads out of the shelf.
pub(super) fn is_id(text: &str) -> bool {
    let is_fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'+');
    text.len() <= ID_MAX
        && text.bytes().all(is_fine)
        && text.bytes().next().is_some_and(|b| b.is_ascii_digit())
}

/// The text of a file of at most so many bytes; bytes that are no UTF-8 are replaced.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let what = format!("{} is larger than {max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
