//! A proxy on a Unix socket, in front of a server, with the faults of a network: it delays, holds back, cuts into slices,
//! limits, breaks connections and loses replies. Without a fault bytes are passed on as they are, and at once.
//!
//! Which connections have the faults, and the jitter of each, follow from a seed and the connection's number. The tests and
//! `scripts/fire` use it, and chaos experiments do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

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

/// The faults, and which connections have them.
#[derive(Debug, Clone)]
struct Weather {
    faults: Faults,
    share: f64,
    seed: u64,
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Replies,
}

/// A stream of randomness of its own for each seed, connection and use.
fn random(seed: u64, connection: u64, what: u64) -> SmallRng {
    // Odd constants spread numbers that lie close together (Knuth's multiplicative hashing with 2^64 / phi).
    let mixed = connection
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(what.wrapping_mul(0xD1B5_4A32_D192_ED03));
    SmallRng::seed_from_u64(seed ^ mixed)
}

/// Uses of [`random`]; breaks come after them.
const LOT: u64 = 0;
const REQUESTS: u64 = 1;
const REPLIES: u64 = 2;
const BREAKS: u64 = 3;

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

/// The weather as one direction of one connection has it.
struct Sky {
    line: Line,
    way: Way,
    /// Of this seed is all that follows.
    seed: u64,
    random: SmallRng,
    lot: f64,
}

impl Sky {
    fn new(line: Line, way: Way) -> Self {
        let seed = line.weather.borrow().seed;
        let mut sky = Self {
            line,
            way,
            seed,
            random: SmallRng::seed_from_u64(seed),
            lot: 0.0,
        };
        sky.draw(seed);
        sky
    }

    fn draw(&mut self, seed: u64) {
        let way = match self.way {
            Way::Requests => REQUESTS,
            Way::Replies => REPLIES,
        };
        self.seed = seed;
        self.random = random(seed, self.line.n, way);
        self.lot = random(seed, self.line.n, LOT).random();
    }

    /// The faults as of now; `None` = none for this connection.
    fn faults(&mut self) -> Option<Faults> {
        let weather = self.line.weather.borrow().clone();
        if weather.seed != self.seed {
            self.draw(weather.seed);
        }
        (weather.faults != Faults::default() && self.lot < weather.share).then_some(weather.faults)
    }

    /// Returns when nothing holds this direction back, and whether anything did.
    async fn open(&mut self) -> bool {
        let mut was_held = false;
        loop {
            // Marked as seen before the look, so that a change in between is not missed.
            self.line.weather.mark_unchanged();
            let is_held = self.faults().is_some_and(|faults| match self.way {
                Way::Requests => faults.holds_requests,
                Way::Replies => faults.holds_replies,
            });
            if !is_held {
                return was_held;
            }
            if !was_held {
                was_held = true;
                self.line.counts.pieces.fetch_add(1, Ordering::Relaxed);
            }
            if self.line.weather.changed().await.is_err() {
                // The proxy ends, and this with it.
                return was_held;
            }
        }
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
    let mut ahead = Sky::new(line.clone(), way);
    let mut sky = Sky::new(line, way);
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
            let delay = ahead
                .faults()
                .map_or(Duration::ZERO, |faults| late(&faults, &mut ahead.random));
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

fn late(faults: &Faults, random: &mut SmallRng) -> Duration {
    if faults.jitter.is_zero() {
        return faults.delay;
    }
    let moved = faults.delay + faults.jitter.mul_f64(2.0 * random.random::<f64>());
    moved.saturating_sub(faults.jitter)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout_at;

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

    /// So many connections through the proxy, in the order of their numbers.
    async fn connections(proxy: &Proxy, n: usize) -> Vec<UnixStream> {
        let mut all = Vec::new();
        for _ in 0..n {
            let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
            assert_eq!(round_trip(&mut stream, b"ping").await, b"ping");
            all.push(stream);
        }
        all
    }

    /// Which of them do not get an answer.
    async fn held(all: &mut [UnixStream]) -> Vec<bool> {
        let mut held = Vec::new();
        for stream in all.iter_mut() {
            stream.write_all(b"ping").await.unwrap();
        }
        let until = Instant::now() + Duration::from_millis(200);
        for stream in all {
            let answer = timeout_at(until, stream.read_exact(&mut [0; 4])).await;
            held.push(answer.is_err());
        }
        held
    }

    #[tokio::test]
    async fn a_share_of_connections_is_drawn_by_the_seed_and_a_greater_share_has_the_smaller_in_it()
    {
        let folder = tempfile::tempdir().unwrap();
        let (server, _tasks) = echo(folder.path()).await;
        let holds = Faults {
            holds_requests: true,
            ..Faults::default()
        };
        let mut runs = Vec::new();
        for (n, seed) in [7, 7, 8].into_iter().enumerate() {
            let socket = folder.path().join(format!("proxy-{n}.sock"));
            let proxy = Proxy::start(&socket, &server, 1).unwrap();
            let mut all = connections(&proxy, 40).await;
            assert_eq!(proxy.counts(), (0, 0), "no fault, nothing counted");
            proxy.begin(seed);
            proxy.set_share(holds.clone(), 0.0);
            assert_eq!(held(&mut all).await, [false; 40], "none of them");
            proxy.set_share(holds.clone(), 0.3);
            let few = held(&mut all).await;
            let n_held = few.iter().filter(|held| **held).count();
            assert!((1..40).contains(&n_held), "{n_held}");
            assert_eq!(proxy.counts().0, n_held as u64);
            proxy.set(Faults::default());
            for (stream, _) in all.iter_mut().zip(&few).filter(|(_, held)| **held) {
                stream.read_exact(&mut [0; 4]).await.unwrap();
            }
            proxy.set_share(holds.clone(), 0.8);
            let many = held(&mut all).await;
            assert!(few.iter().zip(&many).all(|(few, many)| *many || !few));
            assert_ne!(few, many);
            runs.push(few);
        }
        assert_eq!(runs[0], runs[1], "the same seed");
        assert_ne!(runs[0], runs[2], "another seed");
    }

    #[tokio::test]
    async fn a_share_of_connections_breaks_and_another_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let (server, _tasks) = echo(folder.path()).await;
        let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
        let mut all = connections(&proxy, 40).await;
        let mut n_before = 0;
        for round in 1..=2 {
            proxy.break_share(0.5);
            let mut left = Vec::new();
            let until = Instant::now() + Duration::from_millis(200);
            for mut stream in all {
                let ended = timeout_at(until, stream.read(&mut [0; 1])).await;
                if ended.is_err() {
                    left.push(stream);
                }
            }
            let n_broken = proxy.counts().1;
            assert_eq!(n_broken, 40 - left.len() as u64, "round {round}");
            assert!(n_broken > n_before && !left.is_empty(), "{n_broken}");
            n_before = n_broken;
            all = left;
        }
        proxy.begin(7);
        proxy.break_all();
        for stream in &mut all {
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
        }
        assert_eq!(proxy.counts(), (0, all.len() as u64));
    }

    #[tokio::test]
    async fn it_stands_before_a_port_as_well_and_each_touched_piece_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Endpoint::Tcp {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap_or(0);
            }
        });
        let proxy = Proxy::start(&folder.path().join("proxy.sock"), target, 7).unwrap();
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        assert_eq!(round_trip(&mut stream, b"one").await, b"one");
        assert_eq!(proxy.counts(), (0, 0));
        for faults in [
            Faults {
                delay: Duration::from_millis(1),
                slice: 1,
                ..Faults::default()
            },
            Faults {
                bytes_per_s: 1_000_000,
                ..Faults::default()
            },
            Faults {
                slice: 2,
                ..Faults::default()
            },
        ] {
            proxy.begin(7);
            proxy.set(faults.clone());
            assert_eq!(round_trip(&mut stream, b"two").await, b"two");
            assert_eq!(proxy.counts(), (2, 0), "there and back: {faults:?}");
        }
    }

    #[tokio::test]
    async fn where_the_server_is_away_connections_end_and_it_goes_on_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let server = folder.path().join("server.sock");
        let proxy = Proxy::start(&folder.path().join("proxy.sock"), &server, 7).unwrap();
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
        let (_, _tasks) = echo(folder.path()).await;
        let mut stream = UnixStream::connect(proxy.socket()).await.unwrap();
        assert_eq!(round_trip(&mut stream, b"one").await, b"one");
    }
}
