//! Producers with a record of their own: every event with its reply, kept apart from the product and from Redis.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::resp::{Client, Value};

/// Events of one write.
const BATCH_MAX: usize = 200;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(4);
/// Without an answer for so long the connection is given up.
const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const TYPES: [&str; 7] = ["view", "click", "search", "cart", "buy", "return", "leave"];
/// Products, sessions and types share no divisor: two events of the same three are 1.7 million apart, so that sums by each
/// of them show every single event that is missing or counted twice.
pub(crate) const N_PRODUCTS: usize = 499;
pub(crate) const N_SESSIONS: usize = 503;

/// What a producer does with an event whose reply was lost or that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Sends it again under the same event id until it is taken, as careful clients do.
    Again,
    /// Lets it be.
    Once,
}

/// What became of one event, as its producer knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    /// Milliseconds from the load's begin to the answer that it is in.
    pub(crate) acked_ms: Option<u32>,
    /// An answer was lost: it may be in, also twice.
    pub(crate) is_doubtful: bool,
    /// The server refused it, at least once.
    pub(crate) was_refused: bool,
}

/// Everything that was sent.
pub(crate) struct Record {
    /// What the ids of its events begin with.
    pub(crate) name: String,
    /// By producer, by number.
    pub(crate) sent: Vec<Vec<Sent>>,
    /// Why the server refused, the first time.
    pub(crate) refusal: Option<String>,
}

impl Record {
    pub(crate) fn count(&self, what: impl Fn(&Sent) -> bool) -> u64 {
        self.sent.iter().flatten().filter(|sent| what(sent)).count() as u64
    }

    pub(crate) fn acked(&self) -> u64 {
        self.count(|sent| sent.acked_ms.is_some())
    }

    /// Producer and number of an event id; nothing for an event of somebody else.
    pub(crate) fn place(&self, id: &[u8]) -> Option<(usize, usize)> {
        let rest = std::str::from_utf8(id).ok()?.strip_prefix(&self.name)?;
        let (producer, n) = rest.split_once('-')?;
        let (producer, n) = (producer.parse::<usize>().ok()?, n.parse::<usize>().ok()?);
        self.sent.get(producer)?.get(n)?;
        Some((producer, n))
    }
}

/// Type, product and session of the event `n`, as indexes.
pub(crate) fn classes(n: usize) -> [usize; 3] {
    [n % TYPES.len(), n % N_PRODUCTS, n % N_SESSIONS]
}

/// Producers that run until they are stopped.
pub(crate) struct Load {
    name: String,
    begun: Instant,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Told>>>,
}

/// What one producer sent, and why it was refused the first time.
type Told = (Vec<Sent>, Option<String>);

struct Shared {
    stop: AtomicBool,
    acked: AtomicU64,
    /// Events a second of each producer.
    rate: AtomicU64,
    /// Bytes of ballast in each event.
    ballast: usize,
}

impl Load {
    /// Sends `per_s` events a second in all, one producer for each policy. `name` makes the ids its own.
    pub(crate) fn start(socket: &Path, name: &str, per_s: u64, policies: &[Policy]) -> Self {
        Self::with_ballast(socket, name, per_s, policies, 0)
    }

    /// The same with a field of so many bytes in each event.
    pub(crate) fn with_ballast(
        socket: &Path,
        name: &str,
        per_s: u64,
        policies: &[Policy],
        ballast: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            rate: AtomicU64::new(per_s / policies.len() as u64),
            ballast,
        });
        let begun = Instant::now();
        let threads = policies
            .iter()
            .enumerate()
            .map(|(i, &policy)| {
                let producer = Producer {
                    socket: socket.to_owned(),
                    prefix: format!("{name}{i}-"),
                    policy,
                    begun,
                    shared: Arc::clone(&shared),
                    sent: Vec::new(),
                    refusal: None,
                };
                std::thread::spawn(move || producer.run())
            })
            .collect();
        Self {
            name: name.to_owned(),
            begun,
            shared,
            threads,
        }
    }

    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Events acknowledged so far.
    pub(crate) fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Relaxed)
    }

    /// Events a second from now on, of each producer.
    pub(crate) fn rate(&self, per_s: u64) {
        self.shared.rate.store(per_s, Ordering::Relaxed);
    }

    /// Ends after what is in flight is answered; the record.
    pub(crate) fn stop(self) -> Result<Record> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut record = Record {
            name: self.name,
            sent: Vec::new(),
            refusal: None,
        };
        for thread in self.threads {
            let (sent, refusal) = thread
                .join()
                .map_err(|_| anyhow!("a producer panicked"))??;
            record.sent.push(sent);
            record.refusal = record.refusal.or(refusal);
        }
        Ok(record)
    }
}

struct Producer {
    socket: PathBuf,
    prefix: String,
    policy: Policy,
    begun: Instant,
    shared: Arc<Shared>,
    sent: Vec<Sent>,
    refusal: Option<String>,
}

/// After a stop the rest is sent for so long.
const LAST: Duration = Duration::from_secs(60);

impl Producer {
    fn run(mut self) -> Result<Told> {
        let mut connection: Option<Client> = None;
        // Numbers of events that are not settled.
        let mut open: Vec<usize> = Vec::new();
        let (mut due, mut looked) = (0.0, Instant::now());
        let mut stopped_at = None;
        loop {
            if self.shared.stop.load(Ordering::Relaxed) && stopped_at.is_none() {
                stopped_at = Some(Instant::now());
            }
            let now = Instant::now();
            #[expect(clippy::cast_precision_loss, reason = "a rate below a million")]
            let rate = self.shared.rate.load(Ordering::Relaxed) as f64;
            due += now.duration_since(looked).as_secs_f64() * rate;
            looked = now;
            if let Some(at) = stopped_at {
                due = 0.0;
                if open.is_empty() || at.elapsed() > LAST {
                    return Ok((self.sent, self.refusal));
                }
            }
            while due >= 1.0 && open.len() < BATCH_MAX {
                open.push(self.sent.len());
                self.sent.push(Sent::default());
                due -= 1.0;
            }
            // What cannot be sent now is not sent later: the load does not grow after an outage.
            due = due.min(rate);
            if open.is_empty() {
                std::thread::sleep(TICK);
                continue;
            }
            if connection.is_none() {
                connection = Client::connect(&self.socket).ok();
                if let Some(client) = &connection {
                    client.wait_at_most(PATIENCE)?;
                }
            }
            let Some(client) = &mut connection else {
                std::thread::sleep(TICK);
                continue;
            };
            let n_before = open.len();
            if self.exchange(client, &mut open).is_err() {
                connection = None;
            }
            // Refused: not at full speed again.
            if open.len() == n_before || connection.is_none() {
                std::thread::sleep(TICK);
            }
        }
    }

    /// Sends all of `open` and leaves in it what is to be sent again. An error = the connection is of no more use.
    fn exchange(&mut self, client: &mut Client, open: &mut Vec<usize>) -> std::io::Result<()> {
        let mut out = Vec::with_capacity(open.len() * (256 + self.shared.ballast));
        for &n in open.iter() {
            self.command(n, &mut out);
        }
        let mut ended = client.send(&out);
        let mut again = Vec::new();
        for n in std::mem::take(open) {
            if ended.is_ok() {
                match client.reply() {
                    Ok(Value::Error(why)) => {
                        self.sent[n].was_refused = true;
                        self.refusal.get_or_insert(why);
                        if self.policy == Policy::Again {
                            again.push(n);
                        }
                        continue;
                    }
                    Ok(_) => {
                        let ms = self.begun.elapsed().as_millis();
                        self.sent[n].acked_ms = Some(u32::try_from(ms).unwrap_or(u32::MAX));
                        self.shared.acked.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    Err(error) => ended = Err(error),
                }
            }
            self.sent[n].is_doubtful = true;
            if self.policy == Policy::Again {
                again.push(n);
            }
        }
        *open = again;
        ended
    }

    fn command(&self, n: usize, out: &mut Vec<u8>) {
        let [kind, product, session] = classes(n);
        let id = format!("{}{n}", self.prefix);
        let (product, session) = (format!("p{product}"), format!("s{session}"));
        let user = format!("user-{}", n % 997);
        let ballast = "x".repeat(self.shared.ballast);
        let words: [&str; 19] = [
            "XADD",
            "events",
            "*",
            "event_id",
            &id,
            "user_id",
            &user,
            "event_type",
            TYPES[kind],
            "product",
            &product,
            "session_id",
            &session,
            "value",
            "1.25",
            "ts",
            "1640995200000",
            "ballast",
            &ballast,
        ];
        let words = if self.shared.ballast == 0 {
            &words[..17]
        } else {
            &words[..]
        };
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }
}
