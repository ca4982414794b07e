//! Why there is no private server. Every message says what to do next.

use std::path::{Path, PathBuf};

/// What `start`, `loaded` and `stop` answer.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// No program found.
    #[error(
        "no redis-server or valkey-server found on PATH; install Redis 7.0 or newer or Valkey 7.2 or newer: \
         apt-get install redis-server (Debian 12, Ubuntu 24.04), dnf install valkey (Fedora), apk add valkey (Alpine), \
         brew install redis (macOS); or set redis.url to a server that runs"
    )]
    NotFound,
    /// It ended before it answered.
    #[error("{} ended at its start ({how}){}", binary.display(), quoted(last_words))]
    Exited {
        /// Program.
        binary: PathBuf,
        /// Exit status or signal.
        how: String,
        /// The last lines of its log, cleaned.
        last_words: Vec<String>,
    },
    /// It runs and did not answer in time; it was ended.
    #[error("{} did not answer on {} within {within_s} s{}", binary.display(), socket.display(), quoted(last_words))]
    NoAnswer {
        /// Program.
        binary: PathBuf,
        /// Where it was asked.
        socket: PathBuf,
        /// How long was waited.
        within_s: u64,
        /// The last lines of its log, cleaned.
        last_words: Vec<String>,
    },
    /// A server that is not ours stands in our place.
    #[error(
        "the server on {} was not started from this data folder ({why}); stop it, or use it by setting redis.url = \
         \"redis+unix://{}\"",
        socket.display(), socket.display()
    )]
    Foreign {
        /// Where.
        socket: PathBuf,
        /// What tells.
        why: String,
    },
    /// Our server lives but cannot be spoken to.
    #[error(
        "the server of this data folder (pid {}) lives but does not answer on {} ({why}); is it stopped, or on a disk \
         that hangs? if it is of no use any more: kill {}",
        pid_text(*pid), socket.display(), pid_text(*pid)
    )]
    Stuck {
        /// Its pid, where it is known.
        pid: Option<u32>,
        /// Where it was asked.
        socket: PathBuf,
        /// What came instead of an answer.
        why: String,
    },
    /// It died while it loaded its data.
    #[error("the server died{}", quoted(last_words))]
    Died {
        /// The last lines of its log, cleaned.
        last_words: Vec<String>,
    },
    /// The system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// Verb phrase.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl ManagedError {
    pub(super) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// ": " and the lines, or nothing.
pub(super) fn quoted(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("; it said last: {}", lines.join(" | "))
    }
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
}
