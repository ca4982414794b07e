//! Where the daemon's socket and data may be, and how to dial it (contract.md "Socket", semantics.md section 8).
//!
//! A socket that was named (flag, then `PIPELINED_SOCKET`) is the only candidate: falling back to some other daemon's
//! would act on the wrong pipeline.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipectl_shared::places;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::Client;
use super::error::ClientError;
use crate::clock::{self, Deadline};
use crate::interrupt::Interrupt;

/// The longest path of a Unix socket on Linux, in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// The part of the environment that says where things are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// `PIPELINED_SOCKET`
    pub(crate) socket: Option<OsString>,
    /// `XDG_RUNTIME_DIR`
    pub(crate) runtime: Option<OsString>,
    /// `PIPELINED_DATA`
    pub(crate) data: Option<OsString>,
    /// `XDG_STATE_HOME`
    pub(crate) state_home: Option<OsString>,
    /// `HOME`
    pub(crate) home: Option<OsString>,
}

/// One place to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The socket.
    pub(crate) path: PathBuf,
    /// Who named it, for people.
    pub(crate) origin: &'static str,
}

/// A candidate that did not answer, and why.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Where.
    pub(crate) candidate: Candidate,
    /// Why not.
    pub(crate) why: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.candidate.path.display(), self.why)
    }
}

impl Places {
    /// Reads the environment; an empty variable is as good as none.
    pub(crate) fn read() -> Self {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            socket: var("PIPELINED_SOCKET"),
            runtime: var("XDG_RUNTIME_DIR"),
            data: var("PIPELINED_DATA"),
            state_home: var("XDG_STATE_HOME"),
            home: var("HOME"),
        }
    }

    /// The list that the daemon walks, too (`pipectl_shared::places`).
    fn shared(&self) -> places::Env {
        places::Env {
            data: self.data.clone(),
            socket: self.socket.clone(),
            state_home: self.state_home.clone(),
            runtime_dir: self.runtime.clone(),
            home: self.home.clone(),
            uid: rustix::process::getuid().as_raw(),
        }
    }

    /// The data folder, and who named it; `None` without a home.
    pub(crate) fn data_folder(&self, flag: Option<&Path>) -> Option<(PathBuf, &'static str)> {
        let folder = places::data_folder(flag, &self.shared())?;
        let by = if flag.is_some() {
            "--data"
        } else if self.data.is_some() {
            "PIPELINED_DATA"
        } else if self
            .home
            .as_ref()
            .is_some_and(|home| folder == Path::new(home).join(".local/state/pipelined"))
        {
            "HOME"
        } else {
            "XDG_STATE_HOME"
        };
        Some((folder, by))
    }

    /// Where to look for the socket, in this order.
    pub(crate) fn candidates(&self, flag: Option<&Path>, data: Option<&Path>) -> Vec<Candidate> {
        // The daemon makes its data folder absolute before it names a socket in it.
        let data = self
            .data_folder(data)
            .and_then(|(folder, _)| std::path::absolute(folder).ok());
        let runtime = self.runtime.as_ref().map(Path::new);
        places::control_sockets(flag, &self.shared(), data.as_deref())
            .into_iter()
            .filter(|found| !found.is_in_tmp || is_private(found.path.parent()))
            .map(|found| {
                let origin = if flag.is_some() {
                    "--socket"
                } else if found.is_explicit {
                    "PIPELINED_SOCKET"
                } else if data
                    .as_ref()
                    .is_some_and(|data| found.path.starts_with(data))
                {
                    "data folder"
                } else if runtime.is_some_and(|runtime| found.path.starts_with(runtime)) {
                    "XDG_RUNTIME_DIR"
                } else {
                    "system"
                };
                Candidate {
                    path: found.path,
                    origin,
                }
            })
            .collect()
    }
}

/// Whether a folder in a place that anybody can write to is really ours: no link, our own, closed to others.
fn is_private(folder: Option<&Path>) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    folder
        .and_then(|folder| std::fs::symlink_metadata(folder).ok())
        .is_some_and(|facts| {
            facts.is_dir()
                && facts.uid() == rustix::process::getuid().as_raw()
                && facts.mode() & 0o077 == 0
        })
}

impl Client {
    /// Connects to the first candidate that answers. One that accepts and stays silent, or speaks something else, is
    /// remembered and told only if nobody else answers.
    pub(crate) fn connect_first(
        candidates: &[Candidate],
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<(Self, Candidate), ClientError> {
        let mut tried = Vec::new();
        let mut worst = None;
        for candidate in candidates {
            match Self::connect(&candidate.path, timeout, interrupt) {
                Ok(client) => return Ok((client, candidate.clone())),
                Err(ClientError::Absent(mut here)) => tried.append(&mut here),
                Err(error) => {
                    worst.get_or_insert(error);
                }
            }
        }
        for entry in &mut tried {
            if let Some(candidate) = candidates
                .iter()
                .find(|candidate| candidate.path == entry.candidate.path)
            {
                entry.candidate = candidate.clone();
            }
        }
        Err(worst.unwrap_or(ClientError::Absent(tried)))
    }
}

/// Whether something accepts connections on this socket right now.
pub(crate) fn is_listening(path: &Path) -> bool {
    match dial(path, Deadline::after(Duration::ZERO), &Interrupt::default()) {
        Ok(_) | Err(ClientError::TimedOut { .. } | ClientError::Forbidden { .. }) => true,
        Err(_) => false,
    }
}

/// Opens the connection. Not blocking: a daemon whose queue of connections is full would hold a blocking connect for ever.
pub(super) fn dial(
    path: &Path,
    deadline: Deadline,
    interrupt: &Interrupt,
) -> Result<UnixStream, ClientError> {
    let absent = |why: String| {
        let candidate = Candidate {
            path: path.to_owned(),
            origin: "",
        };
        ClientError::Absent(vec![Tried { candidate, why }])
    };
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        return Err(absent(format!(
            "the path has {length} bytes, a socket's has at most {SOCKET_PATH_MAX}"
        )));
    }
    let io = |errno: Errno| ClientError::Io {
        doing: "open a socket",
        error: io::Error::from(errno),
    };
    let address = SocketAddrUnix::new(path).map_err(io)?;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(io)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(Errno::AGAIN | Errno::INTR) => {
                if interrupt.seen() {
                    return Err(ClientError::Interrupted);
                }
                if deadline.is_over() {
                    return Err(ClientError::TimedOut { method: None });
                }
                clock::pause(deadline.slice(Duration::from_millis(20)));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(absent("no socket there".to_owned())),
            Err(Errno::CONNREFUSED) => return Err(absent("nobody listens".to_owned())),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Err(ClientError::Forbidden {
                    path: path.display().to_string(),
                });
            }
            Err(errno) => return Err(absent(io::Error::from(errno).to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(pairs: &[(&str, &str)]) -> Places {
        let get = |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Places {
            socket: get("socket"),
            runtime: get("runtime"),
            data: get("data"),
            state_home: get("state"),
            home: get("home"),
        }
    }

    #[test]
    fn the_socket_is_looked_for_in_the_order_of_the_contract() {
        let all = places(&[("runtime", "/run/user/1"), ("state", "/s"), ("home", "/h")]);
        let paths: Vec<PathBuf> = all
            .candidates(None, None)
            .into_iter()
            .map(|c| c.path)
            .collect();
        let expected = [
            "/run/user/1/pipelined/control.sock",
            "/run/pipelined/control.sock",
            "/s/pipelined/control.sock",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
    }

    #[test]
    fn a_named_socket_is_the_only_candidate() {
        let all = places(&[("socket", "/env"), ("runtime", "/r"), ("home", "/h")]);
        let one = |flag: Option<&str>| {
            let found = all.candidates(flag.map(Path::new), None);
            assert_eq!(found.len(), 1);
            found[0].path.clone()
        };
        assert_eq!(one(None), PathBuf::from("/env"));
        assert_eq!(one(Some("/flag")), PathBuf::from("/flag"));
    }

    #[test]
    fn the_data_folder_has_a_flag_two_variables_and_a_default() {
        let table = [
            (
                Some("/f"),
                places(&[("data", "/d"), ("home", "/h")]),
                Some("/f"),
            ),
            (
                None,
                places(&[("data", "/d"), ("state", "/s"), ("home", "/h")]),
                Some("/d"),
            ),
            (
                None,
                places(&[("state", "/s"), ("home", "/h")]),
                Some("/s/pipelined"),
            ),
            (
                None,
                places(&[("home", "/h")]),
                Some("/h/.local/state/pipelined"),
            ),
            (None, places(&[]), None),
        ];
        for (flag, places, expected) in table {
            let found = places
                .data_folder(flag.map(Path::new))
                .map(|(path, _)| path);
            assert_eq!(found, expected.map(PathBuf::from));
        }
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_told_in_plain_words() {
        let path = PathBuf::from(format!("/{}", "x".repeat(200)));
        let error = dial(
            &path,
            Deadline::after(Duration::ZERO),
            &Interrupt::default(),
        )
        .unwrap_err();
        let ClientError::Absent(tried) = error else {
            panic!("{error:?}")
        };
        assert!(tried[0].why.contains("at most 107"), "{}", tried[0].why);
    }
}
