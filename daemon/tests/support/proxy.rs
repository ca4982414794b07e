//! A proxy between a store and its server that can lose one reply: the script runs, and the connection breaks before the
//! answer arrives. Bytes are passed on as they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Running as long as it is not dropped; dropping it breaks all its connections.
pub(crate) struct Proxy {
    folder: TempDir,
    loses: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a socket of its own in front of `target`.
    pub(crate) async fn start(target: PathBuf) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("proxy-")
            .tempdir()
            .expect("make a folder");
        let listener = UnixListener::bind(folder.path().join("redis.sock")).expect("listen");
        let loses = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&loses)));
        Self {
            folder,
            loses,
            _tasks: tasks,
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// The reply to the next script is lost. The script must be known to the server: a lost NOSCRIPT loses nothing.
    pub(crate) fn lose_next_reply(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }
}

async fn accept(listener: UnixListener, target: PathBuf, loses: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(relay(client, target.clone(), Arc::clone(&loses)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until either side closes or a reply is lost.
async fn relay(client: UnixStream, target: impl AsRef<Path>, loses: Arc<AtomicBool>) {
    let Ok(server) = UnixStream::connect(target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_doomed = AtomicBool::new(false);
    tokio::select! {
        () = requests(from_client, to_server, &loses, &is_doomed) => {}
        () = replies(from_server, to_client, &is_doomed) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    loses: &AtomicBool,
    is_doomed: &AtomicBool,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let n = from.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            return;
        }
        let is_script = buffer[..n]
            .windows(4)
            .any(|word| word.eq_ignore_ascii_case(b"EVAL"));
        if is_script && loses.swap(false, Ordering::SeqCst) {
            is_doomed.store(true, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_doomed: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    loop {
        let n = from.read(&mut buffer).await.unwrap_or(0);
        if n == 0 || is_doomed.load(Ordering::SeqCst) || to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
