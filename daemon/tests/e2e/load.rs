//! Load with an independent record: a client of its own, open loop, that knows for every event whether the server has it.
//!
//! Events whose answer was lost with a connection are sent again under the same event id, as any careful client does; so
//! the record holds each event once, and the pipeline has to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::house::{House, PATIENCE};

const TYPES: [&str; 6] = ["view", "click", "search", "cart", "buy", "return"];
const N_PRODUCTS: u32 = 37;
/// Events of one write.
const BATCH_MAX: usize = 500;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(5);

/// What was sent, counted by the sender alone.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Record {
    /// Distinct events that the server has acknowledged.
    pub events: u64,
    pub types: BTreeMap<String, u64>,
    pub products: BTreeMap<String, u64>,
    /// Sent once more because an answer was lost; the server may have each of them twice.
    pub resent: u64,
    /// How long it sent, to tell what it reached of the rate it aimed at.
    pub seconds: u64,
}

/// A sender that runs until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Record>,
}

struct Event {
    n: u64,
    kind: &'static str,
    product: u32,
}

impl Load {
    /// Sends `per_s` events a second, whatever the pipeline does. `name` makes the ids its own.
    pub fn start(house: &House, name: &str, seed: u64, per_s: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let sender = Sender {
            socket: house.redis_socket(),
            name: name.to_owned(),
            random: SmallRng::seed_from_u64(seed),
            stop: Arc::clone(&stop),
            sent: Arc::clone(&sent),
            record: Record::default(),
        };
        let thread = std::thread::spawn(move || sender.run(per_s));
        Self { stop, sent, thread }
    }

    /// Events acknowledged so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends after what is in flight is acknowledged.
    pub fn stop(self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender")
    }
}

impl Record {
    /// The pipeline counted exactly what was sent, has nothing under way and a balanced ledger.
    #[track_caller]
    pub fn assert_exact(&self, house: &House, ledger: &Value, what: &str) {
        let told = format!("{what}\nledger {ledger}\nrecord {self:?}");
        for zero in [
            "pending",
            "undelivered",
            "dead",
            "lost",
            "unaccounted",
            "duplicated",
        ] {
            assert_eq!(ledger[zero], 0, "{zero}: {told}");
        }
        assert_eq!(ledger["balanced"], true, "{told}");
        assert_eq!(ledger["applied"], self.events, "{told}");
        let twice = ledger["deduplicated"].as_u64().expect("a count");
        assert!(
            twice <= self.resent,
            "more duplicates than were sent: {told}"
        );
        assert_eq!(ledger["accepted"], self.events + twice, "{told}");
        let totals = house.json(&["aggregates"]);
        assert_eq!(totals["total_count"], self.events, "{told}");
        assert_eq!(
            totals["event_types"],
            serde_json::json!(self.types),
            "{told}"
        );
        // From Redis: the document holds only the top products.
        let counts = house.redis(&["HGETALL", "{events}:counts"]);
        let words: Vec<&str> = counts.lines().collect();
        let products: BTreeMap<String, u64> = words
            .chunks_exact(2)
            .filter_map(|pair| {
                let name = pair[0].strip_prefix("product:")?.strip_suffix(":count")?;
                Some((name.to_owned(), pair[1].parse().expect("a count")))
            })
            .collect();
        assert_eq!(products, self.products, "{told}");
    }
}

struct Sender {
    socket: PathBuf,
    name: String,
    random: SmallRng,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    record: Record,
}

impl Sender {
    fn run(mut self, per_s: u64) -> Record {
        let begun = Instant::now();
        let mut made = 0;
        let mut connection = None;
        // Made, but not known to be with the server.
        let mut open: Vec<Event> = Vec::new();
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let stopped = self.stop.load(Ordering::Relaxed);
            let due = if stopped {
                made
            } else {
                let passed = u64::try_from(begun.elapsed().as_micros()).expect("a short test");
                passed * per_s / 1_000_000
            };
            while made < due && open.len() < BATCH_MAX {
                open.push(self.make(made));
                made += 1;
            }
            if open.is_empty() {
                if stopped {
                    self.record.seconds = begun.elapsed().as_secs();
                    return self.record;
                }
                std::thread::park_timeout(TICK);
                continue;
            }
            assert!(
                Instant::now() < deadline,
                "the server has acknowledged nothing for {PATIENCE:?}"
            );
            if connection.is_none() {
                connection = connect(&self.socket);
            }
            let n_before = open.len();
            let Some(stream) = &mut connection else {
                std::thread::park_timeout(TICK);
                continue;
            };
            if self.exchange(stream, &mut open).is_err() {
                connection = None;
                self.record.resent += open.len() as u64;
            }
            if open.len() < n_before {
                deadline = Instant::now() + PATIENCE;
            }
        }
    }

    fn make(&mut self, n: u64) -> Event {
        Event {
            n,
            // Uneven on purpose: the smaller of two draws.
            kind: TYPES[self
                .random
                .random_range(0..TYPES.len())
                .min(self.random.random_range(0..TYPES.len()))],
            product: self.random.random_range(0..N_PRODUCTS),
        }
    }

    /// Sends all of `open` and takes out those that were acknowledged. An error = the connection is of no more use, and
    /// what became of the rest is unknown.
    fn exchange(
        &mut self,
        stream: &mut BufReader<UnixStream>,
        open: &mut Vec<Event>,
    ) -> std::io::Result<()> {
        let mut commands = Vec::with_capacity(open.len() * 256);
        for event in open.iter() {
            self.command(event, &mut commands);
        }
        stream.get_mut().write_all(&commands)?;
        let mut answered = 0;
        let mut refused = Vec::new();
        let ended = loop {
            if answered == open.len() {
                break Ok(());
            }
            match answer(stream) {
                Ok(true) => {}
                Ok(false) => refused.push(answered),
                Err(error) => break Err(error),
            }
            answered += 1;
        };
        let rest = open.split_off(answered);
        for (i, event) in std::mem::take(open).into_iter().enumerate() {
            if refused.contains(&i) {
                open.push(event);
                continue;
            }
            self.record.events += 1;
            *self.record.types.entry(event.kind.to_owned()).or_default() += 1;
            let product = format!("p{}", event.product);
            *self.record.products.entry(product).or_default() += 1;
        }
        open.extend(rest);
        self.sent.store(self.record.events, Ordering::Relaxed);
        ended
    }

    fn command(&self, event: &Event, out: &mut Vec<u8>) {
        let (id, user, session, product) = (
            format!("{}-{}", self.name, event.n),
            format!("user-{}", event.n % 997),
            format!("s{}", event.n % 211),
            format!("p{}", event.product),
        );
        let words: [&str; 17] = [
            "XADD",
            "events",
            "*",
            "event_id",
            &id,
            "user_id",
            &user,
            "event_type",
            event.kind,
            "product",
            &product,
            "session_id",
            &session,
            "value",
            "2.50",
            "ts",
            "1640995200000",
        ];
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }
}

fn connect(socket: &Path) -> Option<BufReader<UnixStream>> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(BufReader::new(stream))
}

/// One reply to XADD: true = it is in; false = refused with a word why (loading, out of memory), so it is not.
fn answer(stream: &mut BufReader<UnixStream>) -> std::io::Result<bool> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let Some(end) = line.strip_suffix("\r\n") else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    match end.split_at_checked(1) {
        Some(("$", length)) => {
            let length: usize = length.parse().expect("a length");
            let mut id = vec![0; length + 2];
            stream.read_exact(&mut id)?;
            Ok(true)
        }
        Some(("-", _)) => Ok(false),
        _ => panic!("no reply to XADD: {line:?}"),
    }
}
