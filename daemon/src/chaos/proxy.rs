//! A proxy on a Unix socket, in front of a server, with the faults of a network: it delays, holds back, cuts into slices,
//! limits, breaks connections and loses replies. Without a fault bytes are passed on as they are, and at once.
//!
//! The tests and `scripts/fire` use it, and chaos experiments do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pieces under way in one direction of one connection. Full = nothing more is read from the sender, as in a network
/// whose windows are full.
const PIECES: usize = 256;
/// Bytes of a piece at most.
const PIECE: usize = 64 * 1024;

/// What the network does. The default does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Added on each way; half of what is added to a round trip.
    pub delay: Duration,
    /// Up to so much more or less, drawn anew for each piece. Order is kept.
    pub jitter: Duration,
    /// What the client sends does not arrive until this is taken back.
    pub holds_requests: bool,
    /// What the server answers does not arrive until this is taken back.
    pub holds_replies: bool,
    /// Largest number of bytes passed on at once; 0 = any.
    pub slice: usize,
    /// Bytes a second and direction; 0 = any.
    pub bytes_per_s: u64,
}

/// Running as long as it is not dropped; dropping it breaks all its connections.
pub struct Proxy {
    socket: PathBuf,
    faults: watch::Sender<Faults>,
    /// Its number changes when all connections are to break.
    breaks: watch::Sender<u64>,
    loses: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on `socket` in front of `target`. `seed` is that of the jitter.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(socket: &Path, target: &Path, seed: u64) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let faults = watch::Sender::new(Faults::default());
        let breaks = watch::Sender::new(0);
        let loses = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            Line {
                target: target.to_owned(),
                faults: faults.subscribe(),
                breaks: breaks.subscribe(),
                loses: Arc::clone(&loses),
            },
            SmallRng::seed_from_u64(seed),
        ));
        Ok(Self {
            socket: socket.to_owned(),
            faults,
            breaks,
            loses,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// From now on, on connections that are open too.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// Breaks every connection; new ones are taken.
    pub fn break_all(&self) {
        self.breaks.send_modify(|n| *n += 1);
    }

    /// The reply to the next script is lost: the script runs, and the connection breaks before the answer arrives. The
    /// script must be known to the server: a lost NOSCRIPT loses nothing.
    pub fn lose_next_reply(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Line {
    target: PathBuf,
    faults: watch::Receiver<Faults>,
    breaks: watch::Receiver<u64>,
    loses: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Replies,
}

async fn accept(listener: UnixListener, line: Line, mut random: SmallRng) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let random = SmallRng::from_rng(&mut random);
        connections.spawn(relay(client, line.clone(), random));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until either side closes, it is broken, or a reply is lost.
async fn relay(client: UnixStream, mut line: Line, mut random: SmallRng) {
    line.breaks.mark_unchanged();
    let Ok(server) = UnixStream::connect(&line.target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_doomed = AtomicBool::new(false);
    let other = SmallRng::from_rng(&mut random);
    let (requests, replies) = (line.clone(), line.clone());
    tokio::select! {
        () = pump(Way::Requests, from_client, to_server, requests, &is_doomed, random) => {}
        () = pump(Way::Replies, from_server, to_client, replies, &is_doomed, other) => {}
        _ = line.breaks.changed() => {}
    }
}

/// One direction: what is read gets the instant when it is due, and is written then.
async fn pump(
    way: Way,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: Line,
    is_doomed: &AtomicBool,
    mut random: SmallRng,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Bytes)>(PIECES);
    let mut faults = line.faults.clone();
    let reads = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = from.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                // What is under way still arrives.
                drop(sender);
                return;
            }
            if way == Way::Requests {
                let is_script = buffer[..n]
                    .windows(4)
                    .any(|word| word.eq_ignore_ascii_case(b"EVAL"));
                if is_script && line.loses.swap(false, Ordering::SeqCst) {
                    is_doomed.store(true, Ordering::SeqCst);
                }
            }
            let delay = late(&line.faults.borrow(), &mut random);
            let piece = Bytes::copy_from_slice(&buffer[..n]);
            if sender.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let writes = async {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            let is_held = |faults: &Faults| match way {
                Way::Requests => faults.holds_requests,
                Way::Replies => faults.holds_replies,
            };
            if faults.wait_for(|faults| !is_held(faults)).await.is_err() {
                return;
            }
            if way == Way::Replies && is_doomed.load(Ordering::SeqCst) {
                return;
            }
            let (slice, per_s) = {
                let faults = faults.borrow();
                (faults.slice, faults.bytes_per_s)
            };
            let slice = if slice == 0 { piece.len() } else { slice };
            for part in piece.chunks(slice) {
                if to.write_all(part).await.is_err() {
                    return;
                }
            }
            if let Some(us) = (piece.len() as u64 * 1_000_000).checked_div(per_s) {
                tokio::time::sleep(Duration::from_micros(us)).await;
            }
        }
    };
    // The reader's end lets the writer finish; the writer's end is the end.
    tokio::select! {
        () = writes => {}
        () = async { reads.await; std::future::pending().await } => {}
    }
}

fn late(faults: &Faults, random: &mut SmallRng) -> Duration {
    if faults.jitter.is_zero() {
        return faults.delay;
    }
    let moved = faults.delay + faults.jitter.mul_f64(2.0 * random.random::<f64>());
    moved.saturating_sub(faults.jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each piece with itself.
    async fn echo(folder: &Path) -> (PathBuf, JoinSet<()>) {
        let path = folder.join("server.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await.unwrap_or(0);
                });
            }
        });
        (path, tasks)
    }

    async fn round_trip(stream: &mut UnixStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).await.unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await.unwrap();
        back
    }

    #[tokio::test]
    async fn bytes_come_through_whole_whatever_the_faults_and_late_by_the_delay() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _tasks) = echo(folder.path()).await;
        let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
        let text: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for faults in [
            Faults::default(),
            Faults {
                slice: 1,
                ..Faults::default()
            },
            Faults {
                delay: Duration::from_millis(20),
                jitter: Duration::from_millis(5),
                ..Faults::default()
            },
            Faults {
                bytes_per_s: 10_000_000,
                ..Faults::default()
            },
        ] {
            proxy.set(faults.clone());
            let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
            let begun = Instant::now();
            assert!(round_trip(&mut stream, &text).await == text, "{faults:?}");
            let least = 2 * faults.delay.saturating_sub(faults.jitter);
            assert!(begun.elapsed() >= least, "{faults:?}");
        }
    }

    #[tokio::test]
    async fn what_is_held_arrives_when_it_is_let_go_and_a_break_ends_connections() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _tasks) = echo(folder.path()).await;
        let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        assert_eq!(round_trip(&mut stream, b"one").await, b"one");
        for (holds_requests, holds_replies) in [(true, false), (false, true), (true, true)] {
            proxy.set(Faults {
                holds_requests,
                holds_replies,
                ..Faults::default()
            });
            stream.write_all(b"two").await.unwrap();
            let mut back = [0; 3];
            let held = Duration::from_millis(50);
            let early = tokio::time::timeout(held, stream.read_exact(&mut back)).await;
            assert!(early.is_err(), "it came through");
            proxy.set(Faults::default());
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"two");
        }
        proxy.break_all();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        assert_eq!(round_trip(&mut stream, b"three").await, b"three");
    }
}
