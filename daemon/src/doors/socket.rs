//! The control socket: bound so that nobody is deceived, accepted from until the drain is over (semantics.md section 8).
//!
//! What a connection may say is `session.rs`. The listener task belongs to whoever calls [`serve`]; it owns the sessions.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::rpc::{Code, Error, Response, Role};
use pipectl_shared::wire;
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::roles::{Accounts, GROUP_VIEWERS};
use super::session::{self, House};
use crate::commands::Context;

/// Longest path in bytes: the kernel takes 107, and messages and temporary names need some of it.
pub(super) const PATH_MAX: usize = 100;
/// A live daemon accepts at once; who does not within this time has a full backlog, which is a sign of life, too.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long sessions may take to say their last words.
const SESSIONS_WAIT: Duration = Duration::from_secs(5);
/// Of the connections allowed, this many are kept for admins, so that a crowd of viewers cannot lock them out.
const FOR_ADMINS: usize = 2;

/// Why the socket could not be bound. All but `Io` need a person.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel takes no such path.
    #[error("the socket path {0} is {1} bytes long; at most {PATH_MAX} work")]
    TooLong(PathBuf, usize),
    /// The path names no file in a folder.
    #[error("the socket path {0} names no file in a folder")]
    NoName(PathBuf),
    /// Somebody answers there.
    #[error("a daemon already answers at {0}")]
    Live(PathBuf),
    /// Something stands there that we do not replace: a file, a symbolic link, somebody else's socket.
    #[error("{0} exists and is {1}; it is left as it is")]
    Foreign(PathBuf, &'static str),
    /// Others could put their own socket in the place of ours.
    #[error("everybody may write to the folder of {0}, so anybody could put another socket there")]
    OpenFolder(PathBuf),
    /// The system refused.
    #[error("bind the control socket {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// A bound socket; removed when it is dropped, if it is still ours.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our socket.
    file: (u64, u64),
    own_uid: u32,
    /// Whether members of group `pipelined` can connect.
    pub is_shared: bool,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Bound {
    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds the socket: folder 0750 and socket 0660 of group `pipelined`, or 0700 and 0600 where that group does not exist or
/// cannot be given to files. A stale socket of ours is replaced in one step; a live one, a foreign one or anything else is
/// refused. Two daemons that try at once do so one after the other.
pub async fn bind(path: &Path, accounts: &Accounts) -> Result<Bound, BindError> {
    let io = |error| BindError::Io(path.to_owned(), error);
    let (Some(folder), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(BindError::NoName(path.to_owned()));
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let n_bytes = path.as_os_str().len();
    if n_bytes > PATH_MAX {
        return Err(BindError::TooLong(path.to_owned(), n_bytes));
    }
    let gid = accounts.gid(GROUP_VIEWERS);
    make_folder(folder, gid).map_err(io)?;
    let mode = fs::metadata(folder).map_err(io)?.mode();
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(BindError::OpenFolder(path.to_owned()));
    }
    // Held until the end of this function: who comes second then sees the first one's live socket.
    let lock = File::open(folder).map_err(io)?;
    lock.try_lock().map_err(|e| match e {
        fs::TryLockError::WouldBlock => BindError::Live(path.to_owned()),
        fs::TryLockError::Error(error) => io(error),
    })?;
    let own_uid = rustix::process::geteuid().as_raw();
    check_place(path, own_uid).await?;

    // Bound in a folder that only we can enter, so that nobody connects before the mode is right.
    let private = Private::new(folder).map_err(io)?;
    let temporary = private.0.join("s");
    let listener = UnixListener::bind(&temporary).map_err(io)?;
    let is_shared =
        gid.is_some_and(|gid| std::os::unix::fs::chown(&temporary, None, Some(gid)).is_ok());
    let mode = if is_shared { 0o660 } else { 0o600 };
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).map_err(io)?;
    let metadata = fs::symlink_metadata(&temporary).map_err(io)?;
    fs::rename(&temporary, path).map_err(io)?;
    Ok(Bound {
        listener,
        path: path.to_owned(),
        file: (metadata.dev(), metadata.ino()),
        own_uid,
        is_shared,
    })
}

/// Makes the folder where it is missing; one that exists is left as it is (systemd's, the user's).
fn make_folder(folder: &Path, gid: Option<u32>) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    if gid.is_some_and(|gid| std::os::unix::fs::chown(folder, None, Some(gid)).is_ok()) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// Whether our socket may take this place: nothing is there, or a socket of ours that nobody answers at.
async fn check_place(path: &Path, own_uid: u32) -> Result<(), BindError> {
    let foreign = |what| Err(BindError::Foreign(path.to_owned(), what));
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(BindError::Io(path.to_owned(), e)),
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return foreign("a symbolic link");
    }
    if !kind.is_socket() {
        return foreign("no socket");
    }
    if metadata.uid() != own_uid {
        return foreign("another user's socket");
    }
    match timeout(CONNECT_WAIT, UnixStream::connect(path)).await {
        Ok(Err(e))
            if matches!(
                e.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Ok(Err(e)) if e.kind() != io::ErrorKind::WouldBlock => {
            Err(BindError::Io(path.to_owned(), e))
        }
        _ => Err(BindError::Live(path.to_owned())),
    }
}

/// A folder of mode 0700 that is removed with what is in it.
struct Private(PathBuf);

impl Private {
    fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!(".p{}", std::process::id()));
        // Left by a crash of a process with our number.
        let _ = fs::remove_file(path.join("s"));
        let _ = fs::remove_dir(&path);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Accepts clients until `closed` (cancelled when the drain is over), lets sessions send a last Snapshot, removes the
/// socket. During the drain clients still come in, to watch it. Never ends because of a client.
pub async fn serve(bound: Bound, context: Context, closed: CancellationToken) {
    let house = Arc::new(House::new(context));
    let max = usize::try_from(house.context.config.control.max_clients).unwrap_or(usize::MAX);
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closed.cancelled() => break,
            Some(_) = sessions.join_next() => {}
            accepted = bound.listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &bound, max, &house, &mut sessions, &closed),
                Err(error) => {
                    // Usually no file descriptors are left; others will be closed.
                    tracing::warn!(%error, "could not accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    let all_done = async { while sessions.join_next().await.is_some() {} };
    if timeout(SESSIONS_WAIT, all_done).await.is_err() {
        sessions.shutdown().await;
    }
    drop(bound);
}

/// Says who the peer is and starts its session, or refuses it in one line.
fn admit(
    stream: UnixStream,
    bound: &Bound,
    max: usize,
    house: &Arc<House>,
    sessions: &mut JoinSet<()>,
    closed: &CancellationToken,
) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "could not tell who a client is");
            return;
        }
    };
    // Two small local files, read for each connection so that a change of groups counts at once.
    let accounts = Accounts::read();
    let max_role = house.context.config.control.max_role;
    let Some(role) = accounts.role(peer.uid(), peer.gid(), bound.own_uid, max_role) else {
        let message = format!("user {} may not use this socket", accounts.user(peer.uid()));
        let hint = "members of group pipelined may look, members of pipelined-ops may act";
        refuse(&stream, Error::new(Code::Refused, message).hint(hint));
        return;
    };
    // Those that ended meanwhile do not count.
    while sessions.try_join_next().is_some() {}
    let reserved = if role == Role::Admin {
        0
    } else {
        FOR_ADMINS.min(max / 2)
    };
    if sessions.len() >= max - reserved {
        let message = format!("{} clients are connected already", sessions.len());
        refuse(
            &stream,
            Error::new(Code::Busy, message).hint("close some, or raise [control] max_clients"),
        );
        return;
    }
    let identity = accounts.identity(peer.uid(), peer.gid(), peer.pid());
    sessions.spawn(session::run(
        stream,
        session::Peer {
            identity,
            role,
            may_chaos: accounts.may_chaos(peer.uid(), peer.gid(), role),
        },
        Arc::clone(house),
        closed.clone(),
    ));
}

/// One error line to a peer that gets no session. A fresh socket takes it at once; if not, the peer learns nothing.
fn refuse(stream: &UnixStream, error: Error) {
    let response = Response {
        jsonrpc: "2.0".to_owned(),
        id: Value::Null,
        result: None,
        error: Some(error),
    };
    if let Ok(line) = wire::encode(&response) {
        let _ = stream.try_write(&line);
    }
}
