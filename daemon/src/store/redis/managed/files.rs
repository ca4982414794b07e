//! The files beside the private server's data: who it is, where it listens, what it said. And its lock: the server's
//! standard input is an open, locked file, so the lock is held exactly as long as the server lives, whoever started it
//! and whoever died since. That is what tells "dead" from "does not answer"; a pid alone could be somebody else's by now.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::ManagedError;
use crate::datadir::write_whole;
use crate::logging::clean;

type Result<T> = std::result::Result<T, ManagedError>;

/// Redis never cuts its own log; beyond this it is put aside once.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// How much of the end of the log is looked at, and how much of that is told.
const TAIL_BYTES: u64 = 8 << 10;
const TAIL_LINES: usize = 8;
const LINE_CHARS_MAX: usize = 300;

/// `<data>/redis`.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes the lock. `None`: a server of ours lives. Give the file to the server as its standard input, or drop it.
    pub(super) fn lock(&self) -> Result<Option<File>> {
        let path = self.path("alive");
        let file = self.open(&path).map_err(ManagedError::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(fault) => Err(ManagedError::io("lock", &path)(fault.into())),
        }
    }

    /// Whether a server of ours lives.
    pub(super) fn is_alive(&self) -> Result<bool> {
        Ok(self.lock()?.is_none())
    }

    /// Whether the process with this pid is the server that holds the lock: its standard input is our file.
    pub(super) fn is_ours(&self, pid: u32) -> bool {
        let ours = std::fs::metadata(self.path("alive"));
        let theirs = std::fs::metadata(format!("/proc/{pid}/fd/0"));
        matches!((ours, theirs), (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()))
    }

    /// The pid that the server wrote, if that is still our server.
    pub(super) fn pid(&self) -> Option<u32> {
        let pid = self.read("redis.pid")?.parse().ok()?;
        self.is_ours(pid).then_some(pid)
    }

    /// A small file's first line; `None` when it is missing or empty.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        File::open(self.path(name))
            .ok()?
            .take(4_096)
            .read_to_string(&mut text)
            .ok()?;
        let line = text.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// Writes a small file, unless it says that already: so a full disk does not keep a server down that could start.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        if std::fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes()).map_err(ManagedError::io("write", &path))
    }

    /// Removes a file; that it was not there is fine.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match std::fs::remove_file(&path) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                Err(ManagedError::io("remove", &path)(fault))
            }
            _ => Ok(()),
        }
    }

    /// What the server says before it opens its log: emptied at every start, as it is of use only for that one.
    pub(super) fn first_words(&self) -> Result<File> {
        let path = self.path("start.log");
        let file = self
            .open(&path)
            .and_then(|file| file.set_len(0).map(|()| file));
        file.map_err(ManagedError::io("open", &path))
    }

    /// Puts a long log aside; Redis opens its log anew for every line, so this may be done while it runs.
    pub(super) fn rotate_log(&self) {
        let log = self.path("redis.log");
        if std::fs::metadata(&log).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
            // If it cannot be renamed it goes on growing, which is told nowhere better than by the disk's own alarm.
            let _ = std::fs::rename(&log, self.path("redis.log.1"));
        }
    }

    /// How long the log is now; what comes after is of the next start.
    pub(super) fn log_length(&self) -> u64 {
        std::fs::metadata(self.path("redis.log")).map_or(0, |found| found.len())
    }

    /// The last lines that the server wrote since the log had `from` bytes, cleaned; empty when there are none.
    pub(super) fn last_words(&self, from: u64) -> Vec<String> {
        let mut lines = tail(&self.path("start.log"), 0);
        lines.extend(tail(&self.path("redis.log"), from));
        let skip = lines.len().saturating_sub(TAIL_LINES);
        lines.split_off(skip)
    }

    fn open(&self, path: &Path) -> std::io::Result<File> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)
    }
}

fn tail(path: &Path, from: u64) -> Vec<String> {
    let read = || {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(from);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| clean(&line.chars().take(LINE_CHARS_MAX).collect::<String>()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_lives_as_long_as_one_holder_does() {
        let tmp = tempfile::tempdir().unwrap();
        let files = Files::new(tmp.path());
        let held = files.lock().unwrap().unwrap();
        assert!(files.is_alive().unwrap());
        let inherited = held.try_clone().unwrap();
        drop(held);
        assert!(
            files.is_alive().unwrap(),
            "the server's copy of the file holds it on"
        );
        drop(inherited);
        assert!(!files.is_alive().unwrap());
    }

    #[test]
    fn a_pid_that_is_not_our_server_is_not_believed() {
        let tmp = tempfile::tempdir().unwrap();
        let files = Files::new(tmp.path());
        drop(files.lock().unwrap());
        for text in ["1", "999999999", "-1", "", "\u{202e}"] {
            std::fs::write(files.path("redis.pid"), text).unwrap();
            assert_eq!(files.pid(), None, "{text:?}");
        }
    }

    #[test]
    fn last_words_are_few_short_and_clean() {
        let tmp = tempfile::tempdir().unwrap();
        let files = Files::new(tmp.path());
        assert!(files.last_words(0).is_empty());
        let old = "of an earlier start\n".to_owned();
        let text = (0..1_000)
            .map(|n| format!("line {n} \x1b[2J{}\n", "x".repeat(1_000)))
            .collect::<String>();
        std::fs::write(files.path("redis.log"), format!("{old}{text}")).unwrap();
        let lines = files.last_words(0);
        assert!(
            lines.len() <= TAIL_LINES && lines.iter().all(|line| line.len() < LINE_CHARS_MAX + 20),
            "{lines:?}"
        );
        assert!(
            lines.last().unwrap().starts_with("line 999 \\x1b[2J"),
            "{lines:?}"
        );
        std::fs::write(files.path("redis.log"), format!("{old}new\n")).unwrap();
        assert_eq!(files.last_words(old.len() as u64), ["new"]);
        assert!(
            files.last_words(1 << 40).is_empty(),
            "a log cut meanwhile is no fault"
        );
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let tmp = tempfile::tempdir().unwrap();
        let files = Files::new(tmp.path());
        let log = File::create(files.path("redis.log")).unwrap();
        files.rotate_log();
        assert!(files.path("redis.log").exists());
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        files.rotate_log();
        assert!(!files.path("redis.log").exists() && files.path("redis.log.1").exists());
    }
}
