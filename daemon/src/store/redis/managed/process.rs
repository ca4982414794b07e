//! The server as a process: our child, or one that an earlier daemon started.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::files::Files;
use super::probe;

/// How often the lock of a server that is not our child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The server's process.
#[derive(Debug)]
pub(super) enum Process {
    /// Started by this daemon.
    Child(Child),
    /// Started by an earlier one, or none at all: only its lock tells whether it lives.
    Other,
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Ask,
    Term,
    Kill,
}

/// Mildest first.
pub(super) const WAYS: [Way; 3] = [Way::Ask, Way::Term, Way::Kill];

impl Way {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ask => "asked",
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        }
    }
}

impl Process {
    /// Returns when it has ended, with how, for a person. Cancel-safe.
    pub(super) async fn ended(&mut self, files: &Files) -> String {
        match self {
            Self::Child(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(fault) => format!("its end could not be seen: {fault}"),
            },
            Self::Other => {
                // A look that fails tells nothing: look again.
                while files.is_alive().unwrap_or(true) {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                "it was adopted, so its exit status is not known".to_owned()
            }
        }
    }

    /// Sends a signal to our server and to nobody else; false if there was none.
    pub(super) fn signal(&self, files: &Files, signal: Signal) -> bool {
        let pid = match self {
            // `id` is none once the child was waited for, so this cannot hit a stranger with its pid.
            Self::Child(child) => child.id(),
            Self::Other => files.pid(),
        };
        let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Begins to end it; false when that could not even be said to it. Whether it ends is for [`Process::ended`] to tell.
    pub(super) async fn end(&self, way: Way, files: &Files, socket: &Path) -> bool {
        match way {
            Way::Ask => {
                let Ok(mut connection) = probe::connect(socket).await else {
                    return false;
                };
                // The answer to SHUTDOWN is the end of the connection. A refusal is an answer; no answer in time is
                // none, and then SIGTERM asks for the same, so nothing is lost by not waiting longer.
                match redis::cmd("SHUTDOWN").exec_async(&mut connection).await {
                    Ok(()) => true,
                    Err(fault) => fault.is_connection_dropped(),
                }
            }
            Way::Term => self.signal(files, Signal::TERM),
            Way::Kill => self.signal(files, Signal::KILL),
        }
    }
}
