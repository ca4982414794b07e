//! The plans' files: `<id>.json` (the plan) and `<id>.ids` (its frozen list, one `stage id` a line) in one folder.
//!
//! Only files: what state a plan may go to is `mod.rs`'s business. Everything here blocks; callers use a blocking thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pipectl_shared::plan::{Plan, PlanEntry};
use pipectl_shared::rpc::Identity;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Largest file that is read back: 100,000 ids of about 60 bytes, with room.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// A plan with what only the daemon needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// As everyone sees it.
    pub(super) plan: Plan,
    /// When it was made, milliseconds since 1970.
    pub(super) created_ms: u64,
    /// When it stops being runnable, milliseconds since 1970.
    pub(super) expires_ms: u64,
    /// Who ran it, for the audit row of a run that a stop of the daemon cut short.
    pub(super) ran_by: Option<Identity>,
}

impl Kept {
    /// Without what is large; the file has the whole.
    pub(super) fn head(&self) -> Self {
        let mut head = self.clone();
        head.plan.sample.clear();
        head.plan.skipped.clear();
        if let Some(result) = &mut head.plan.result {
            result.exceptions.clear();
        }
        head
    }
}

/// The folder. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Book {
    folder: PathBuf,
}

/// The frozen list as it is hashed and kept.
pub(super) fn list(entries: &[PlanEntry]) -> String {
    entries
        .iter()
        .map(|e| format!("{} {}\n", e.stage, e.id))
        .collect()
}

/// SHA-256 (hex) of a frozen list.
pub(super) fn hash(list: &str) -> String {
    Sha256::digest(list.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

impl Book {
    /// Opens or creates the folder.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Every plan that can be read, and the names of the files that could not: they stay as they are.
    pub(super) fn read_all(&self) -> io::Result<(Vec<Kept>, Vec<String>)> {
        let (mut plans, mut unreadable) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let extension = path.extension().and_then(|e| e.to_str());
            if extension == Some("new") {
                // Left by a crash before its rename: nobody was told of it.
                let _ = fs::remove_file(&path);
            }
            if extension != Some("json") {
                continue;
            }
            let id = path
                .file_stem()
                .and_then(|s| s.to_str())
                .unwrap_or_default();
            match self.read(id) {
                Ok(kept) if kept.plan.id == id => plans.push(kept),
                _ => unreadable.push(
                    path.file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                ),
            }
        }
        self.drop_orphans()?;
        Ok((plans, unreadable))
    }

    /// Deletes frozen lists whose plan was never written, because of a crash in between.
    fn drop_orphans(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "ids") && !path.with_extension("json").exists()
            {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// One plan, whole.
    pub(super) fn read(&self, id: &str) -> io::Result<Kept> {
        Ok(serde_json::from_str(&read_bounded(
            &self.path(id, "json"),
        )?)?)
    }

    /// The frozen list; fails when it is not the one with this hash.
    pub(super) fn read_entries(&self, id: &str, ids_hash: &str) -> io::Result<Vec<PlanEntry>> {
        let text = read_bounded(&self.path(id, "ids"))?;
        if hash(&text) != ids_hash {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the frozen list was changed on the disk",
            ));
        }
        let entry = |line: &str| {
            let (stage, id) = line.rsplit_once(' ')?;
            Some(PlanEntry {
                stage: stage.to_owned(),
                id: id.to_owned(),
            })
        };
        text.lines()
            .map(|line| {
                entry(line)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line is no entry"))
            })
            .collect()
    }

    /// Writes a plan so that the disk holds the old one or the new one, never half of it.
    pub(super) fn write(&self, kept: &Kept) -> io::Result<()> {
        self.write_file(&kept.plan.id, "json", &serde_json::to_vec(kept)?)
    }

    /// Writes a frozen list; to be done before its plan is written, so that no plan is without its list.
    pub(super) fn write_entries(&self, id: &str, list: &str) -> io::Result<()> {
        self.write_file(id, "ids", list.as_bytes())
    }

    /// Deletes the frozen list, which may be large, of a plan that can no longer run.
    pub(super) fn drop_entries(&self, id: &str) {
        let _ = fs::remove_file(self.path(id, "ids"));
    }

    /// Deletes a plan.
    pub(super) fn remove(&self, id: &str) {
        let _ = fs::remove_file(self.path(id, "json"));
        self.drop_entries(id);
    }

    fn path(&self, id: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    fn write_file(&self, id: &str, extension: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(id, extension);
        let temporary = self.folder.join(format!("{id}.{extension}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        // The rename itself must survive a power cut, too.
        File::open(&self.folder)?.sync_all()
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let n_bytes = File::open(path)?
        .take(FILE_MAX + 1)
        .read_to_string(&mut text)? as u64;
    if n_bytes > FILE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is larger than a plan can be",
        ));
    }
    Ok(text)
}
