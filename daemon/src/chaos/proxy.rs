//! A proxy on a Unix socket, in front of a server, with the faults of a network: it delays, holds back, cuts into slices,
//! limits, breaks connections and loses replies. Without a fault bytes are passed on as they are, and at once.
//!
//! Which connections have the faults, and the jitter of each, follow from a seed and the connection's number. The tests and
//! `scripts/fire` use it, and chaos experiments do.

mod sky;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::sky::{BREAKS, Sky, Way, Weather, random};
use crate::store::redis::Endpoint;

/// Pieces under way in one direction of one connection. Full = nothing more is read from the sender, as in a network
/// whose windows are full.
const PIECES: usize = 256;
/// Bytes of a piece at most.
const PIECE: usize = 64 * 1024;
/// A server that does not take a connection within this will not: whoever asked has long given up.
const CONNECT: Duration = Duration::from_secs(10);
/// After a connection that could not be accepted (no file descriptors are left), before the next.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

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
    weather: watch::Sender<Weather>,
    breaks: watch::Sender<Break>,
    loses: Arc<AtomicBool>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

/// Connections that are to break.
#[derive(Debug, Clone, Copy, Default)]
struct Break {
    /// Changes each time.
    n: u64,
    share: f64,
    seed: u64,
}

#[derive(Default)]
struct Counts {
    pieces: AtomicU64,
    broken: AtomicU64,
}

impl Proxy {
    /// Listens on `socket` in front of `target`. `seed` decides what is random.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(socket: &Path, target: impl Into<Endpoint>, seed: u64) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let weather = watch::Sender::new(Weather {
            faults: Faults::default(),
            share: 1.0,
            seed,
        });
        let breaks = watch::Sender::new(Break::default());
        let loses = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            Line {
                n: 0,
                target: Arc::new(target.into()),
                weather: weather.subscribe(),
                breaks: breaks.subscribe(),
                loses: Arc::clone(&loses),
                counts: Arc::clone(&counts),
            },
        ));
        Ok(Self {
            socket: socket.to_owned(),
            weather,
            breaks,
            loses,
            counts,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// From now on, on connections that are open too: on every one.
    pub fn set(&self, faults: Faults) {
        self.set_share(faults, 1.0);
    }

    /// The same for about this share of connections, 0 to 1: each has drawn once, so a greater share has those of a
    /// smaller one in it.
    pub fn set_share(&self, faults: Faults, share: f64) {
        self.weather.send_modify(|weather| {
            weather.faults = faults;
            weather.share = share;
        });
    }

    /// Breaks every connection; new ones are taken.
    pub fn break_all(&self) {
        self.break_share(1.0);
    }

    /// Breaks about this share of connections, 0 to 1, drawn anew each time; new ones are taken.
    pub fn break_share(&self, share: f64) {
        let seed = self.weather.borrow().seed;
        self.breaks.send_modify(|last| {
            *last = Break {
                n: last.n + 1,
                share,
                seed,
            };
        });
    }

    /// The reply to the next script is lost: the script runs, and the connection breaks before the answer arrives. The
    /// script must be known to the server: a lost NOSCRIPT loses nothing.
    pub fn lose_next_reply(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }

    /// Draws anew with this seed, on connections that are open too, and counts from zero.
    pub fn begin(&self, seed: u64) {
        self.weather.send_modify(|weather| weather.seed = seed);
        self.counts.pieces.store(0, Ordering::Relaxed);
        self.counts.broken.store(0, Ordering::Relaxed);
    }

    /// Pieces of traffic that were delayed, held, sliced or slowed, each once, and connections that were broken.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.counts.pieces.load(Ordering::Relaxed),
            self.counts.broken.load(Ordering::Relaxed),
        )
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Line {
    /// Number of the connection.
    n: u64,
    target: Arc<Endpoint>,
    weather: watch::Receiver<Weather>,
    breaks: watch::Receiver<Break>,
    loses: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

impl Line {
    /// Whether the connection is among a share. All = all: a lot is below 1.
    fn is_drawn(&self, seed: u64, what: u64, share: f64) -> bool {
        random(seed, self.n, what).random::<f64>() < share
    }

    /// Returns when the connection is to break.
    async fn broken(&mut self) {
        while self.breaks.changed().await.is_ok() {
            let now = *self.breaks.borrow_and_update();
            if self.is_drawn(now.seed, BREAKS + now.n, now.share) {
                self.counts.broken.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

async fn accept(listener: UnixListener, mut line: Line) {
    // Bound: connections of one daemon or test, which bounds its own.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                line.n += 1;
                connections.spawn(relay(client, line.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// The two halves of a connection to the server.
type Halves = (
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
);

async fn connect(target: &Endpoint) -> io::Result<Halves> {
    let opening = async {
        Ok::<Halves, io::Error>(match target {
            Endpoint::Unix(path) => {
                let (from, to) = UnixStream::connect(path).await?.into_split();
                (Box::new(from), Box::new(to))
            }
            Endpoint::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let (from, to) = stream.into_split();
                (Box::new(from), Box::new(to))
            }
        })
    };
    timeout(CONNECT, opening)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// One connection, until either side closes, it is broken, or a reply is lost. Where the server does not take it, the
/// client's is closed.
async fn relay(client: UnixStream, mut line: Line) {
    line.breaks.mark_unchanged();
    let Ok((from_server, to_server)) = connect(&line.target).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let is_doomed = AtomicBool::new(false);
    let (requests, replies) = (line.clone(), line.clone());
    tokio::select! {
        () = pump(Way::Requests, from_client, to_server, requests, &is_doomed) => {}
        () = pump(Way::Replies, from_server, to_client, replies, &is_doomed) => {}
        () = line.broken() => {}
    }
}

/// One direction: what is read gets the instant when it is due, and is written then.
async fn pump(
    way: Way,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    line: Line,
    is_doomed: &AtomicBool,
) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, bool, Bytes)>(PIECES);
    let loses = Arc::clone(&line.loses);
    let counts = Arc::clone(&line.counts);
    // The reader draws the delays; the writer looks at holds, slices and rates.
    let mut ahead = Sky::new(&line, way);
    let mut sky = Sky::new(&line, way);
    let reads = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = from.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                // What is under way still arrives.
                drop(sender);
                return;
            }
            if way == Way::Requests && loses.load(Ordering::SeqCst) {
                let is_script = buffer[..n]
                    .windows(4)
                    .any(|word| word.eq_ignore_ascii_case(b"EVAL"));
                if is_script && loses.swap(false, Ordering::SeqCst) {
                    is_doomed.store(true, Ordering::SeqCst);
                }
            }
            let delay = ahead.delay();
            let piece = Bytes::copy_from_slice(&buffer[..n]);
            let piece = (Instant::now() + delay, !delay.is_zero(), piece);
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    };
    let writes = async {
        while let Some((due, is_late, piece)) = pieces.recv().await {
            if is_late {
                tokio::time::sleep_until(due).await;
            }
            let was_held = sky.open().await;
            if way == Way::Replies && is_doomed.load(Ordering::SeqCst) {
                return;
            }
            let (slice, per_s) = sky
                .faults()
                .map_or((0, 0), |faults| (faults.slice, faults.bytes_per_s));
            let is_sliced = slice > 0 && slice < piece.len();
            if !was_held && (is_late || is_sliced || per_s > 0) {
                counts.pieces.fetch_add(1, Ordering::Relaxed);
            }
            for part in piece.chunks(if is_sliced { slice } else { piece.len() }) {
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

#[cfg(test)]
mod tests;
