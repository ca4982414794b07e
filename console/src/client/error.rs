//! What can go wrong with the daemon, named by what a caller does differently.

use std::io;

use pipectl_shared::rpc;

use super::locate::Tried;
use crate::failure::{Exit, Failure, exit_of};

/// A conversation that did not go as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No candidate has a daemon behind it.
    #[error("no daemon answers")]
    Absent(Vec<Tried>),
    /// The socket exists, but we may not open it.
    #[error("open the control socket {path}: permission denied")]
    Forbidden {
        /// Its path.
        path: String,
    },
    /// Something accepts connections there, but it is no daemon of ours.
    #[error("talk to the daemon: {0}")]
    NoGreeting(String),
    /// A daemon of another protocol.
    #[error(
        "the daemon ({version}) speaks protocol {theirs}, this pipectl speaks {}",
        rpc::PROTOCOL
    )]
    OtherProtocol {
        /// Its major version.
        theirs: u64,
        /// Its own version, untrusted.
        version: String,
    },
    /// No answer in time.
    #[error("wait for the daemon{}: no answer in time", during(.method))]
    TimedOut {
        /// What was asked, where something was.
        method: Option<&'static str>,
    },
    /// The connection ended.
    #[error("the daemon closed the connection{}", during(.method))]
    Closed {
        /// What was asked, where something was.
        method: Option<&'static str>,
    },
    /// The peer breaks the protocol.
    #[error("the daemon sent nonsense: {what}")]
    Nonsense {
        /// What was wrong; may quote the peer.
        what: String,
    },
    /// A request of ours cannot be sent.
    #[error("ask {method}: {why}")]
    Encode {
        /// What was to be asked.
        method: &'static str,
        /// Why not.
        why: String,
    },
    /// The daemon says no.
    #[error("{0}")]
    Refusal(rpc::Error),
    /// Ctrl-C in a cooperative section.
    #[error("interrupted")]
    Interrupted,
    /// Anything else of the system.
    #[error("{doing}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The system's word.
        error: io::Error,
    },
}

fn during(method: &Option<&'static str>) -> String {
    method
        .map(|method| format!(" during {method}"))
        .unwrap_or_default()
}

impl ClientError {
    /// Sorts an error of the socket.
    pub(crate) fn from_io(doing: &'static str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut { method: None },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Closed { method: None }
            }
            _ => Self::Io { doing, error },
        }
    }

    /// Adds what was being asked.
    pub(crate) fn during(self, asked: &'static str) -> Self {
        match self {
            Self::TimedOut { method: None } => Self::TimedOut {
                method: Some(asked),
            },
            Self::Closed { method: None } => Self::Closed {
                method: Some(asked),
            },
            other => other,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Absent(tried) => {
                let list: Vec<String> = tried.iter().map(ToString::to_string).collect();
                Self::new(Exit::Unreachable, format!("reach the daemon: {message} ({})", list.join("; ")))
                    .hint("start it with `pipectl up`, or name its socket with --socket or PIPELINED_SOCKET")
            }
            ClientError::Forbidden { .. } => Self::new(Exit::Refused, message)
                .hint("ask to be added to the group `pipelined` (reading) or `pipelined-ops` (acting)"),
            ClientError::NoGreeting(_) => Self::new(Exit::Unreachable, message)
                .hint("see which program owns the socket: `pipectl config path`"),
            ClientError::OtherProtocol { .. } => Self::new(Exit::Unreachable, message)
                .hint("install the pipectl that belongs to this daemon, or restart the daemon of this version"),
            ClientError::TimedOut { .. } => Self::new(Exit::TimedOut, message)
                .hint("wait longer with --timeout 60s; if it stays silent, look at the daemon's log: `pipectl config path`"),
            ClientError::Closed { .. } => {
                Self::new(Exit::Failed, message).hint("look whether it still runs: `pipectl status`")
            }
            ClientError::Nonsense { .. } => Self::new(Exit::Failed, message)
                .hint("daemon and pipectl may be of different versions: compare `pipectl -V` and `pipelined --version`"),
            ClientError::Refusal(error) => {
                let exit = exit_of(&error);
                let hint = error.data.and_then(|data| data.hint);
                Self { exit, message: Some(error.message), hint }
            }
            ClientError::Interrupted => Self::new(Exit::Interrupted, message),
            ClientError::Encode { .. } | ClientError::Io { .. } => Self::new(Exit::Failed, message),
        }
    }
}
