//! The run's own producers: events at a steady rate straight to the server, each with what became of it in a record that
//! neither the product nor Redis has a hand in.
//!
//! Owned by the runner, which aborts it or tells it to end. What cannot be sent is sent again under the same event id, as
//! careful producers do; where the pipeline knows no duplicates it is let be.

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::chaos::Server;
use crate::clock::{Clock, System};
use crate::guard::Roles;
use crate::store::redis::Answer;

/// Events of one write.
const BATCH_MAX: usize = 200;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(4);
/// Sessions over which events are spread: at 5,000/s for a minute fewer than forty events share one, so that an event that
/// is missing is not hidden by another that is there twice.
pub(super) const SESSIONS: usize = 8_191;
/// Keys over which events are spread.
pub(super) const KEYS: usize = 997;
/// After its end what is not answered is tried for so long.
const LAST: Duration = Duration::from_secs(30);

/// How events are made, from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mix {
    /// Events a second.
    pub(super) rate: f64,
    /// Share without what the pipeline requires.
    pub(super) poison: f64,
    /// Share that is sent twice.
    pub(super) duplicate: f64,
    /// Share that has one and the same key.
    pub(super) hot: f64,
    /// No new events; what is open is finished.
    pub(super) ends: bool,
}

impl Mix {
    /// Plain events.
    pub(super) fn plain(rate: f64) -> Self {
        Self {
            rate,
            poison: 0.0,
            duplicate: 0.0,
            hot: 0.0,
            ends: false,
        }
    }
}

/// What became of one event, as its producer knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Milliseconds from the run's begin to its first write.
    pub(super) sent_ms: u32,
    /// Milliseconds from the run's begin to the answer that it is in.
    pub(super) acked_ms: Option<u32>,
    /// Answers that it is in: more than one where it was sent on purpose twice, or again after a doubt.
    pub(super) acks: u8,
    /// An answer was lost: it may be in, also twice.
    pub(super) doubtful: bool,
    /// It lacks what the pipeline requires.
    pub(super) poison: bool,
    /// It was sent twice on purpose.
    pub(super) twice: bool,
}

/// All that was sent.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// By number.
    pub(super) sent: Vec<Sent>,
    /// Why the server refused, the first time.
    pub(super) refusal: Option<String>,
}

/// What the runner sees of it while it runs.
#[derive(Clone)]
pub(super) struct Load {
    mix: Arc<watch::Sender<Mix>>,
    acked: Arc<AtomicU64>,
    record: Arc<Mutex<Record>>,
}

/// Names of the events of a run.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Before the number in every event id and session.
    pub(super) prefix: String,
    /// Source stream.
    pub(super) source: String,
    /// Fields.
    pub(super) roles: Roles,
}

impl Names {
    /// Event id of the event with this number.
    pub(super) fn event(&self, n: usize) -> String {
        format!("{}e{n}", self.prefix)
    }

    /// Number of the event with this id; `None` = somebody else's.
    pub(super) fn number(&self, id: &[u8]) -> Option<usize> {
        let rest = id
            .strip_prefix(self.prefix.as_bytes())?
            .strip_prefix(b"e")?;
        std::str::from_utf8(rest).ok()?.parse().ok()
    }

    /// Number of the canary with this id; `None` = it is none.
    pub(super) fn canary(&self, id: &[u8]) -> Option<u64> {
        let rest = id
            .strip_prefix(self.prefix.as_bytes())?
            .strip_prefix(b"c")?;
        std::str::from_utf8(rest).ok()?.parse().ok()
    }

    /// Name of a session.
    pub(super) fn session(&self, at: usize) -> String {
        format!("{}s{at}", self.prefix)
    }

    /// XADD of one event.
    pub(super) fn add(&self, id: &str, key: &str, session: &str, is_poison: bool) -> Vec<Vec<u8>> {
        let now = System.now_ms().to_string();
        let (kind, time) = if is_poison {
            ("", "no time")
        } else {
            ("chaos", now.as_str())
        };
        let roles = &self.roles;
        let pairs = [
            (&roles.id, id),
            (&roles.key, key),
            (&roles.kind, kind),
            (&roles.time, time),
            (&roles.value, "1.25"),
            (&roles.product, "chaos"),
            (&roles.session, session),
        ];
        let mut words: Vec<Vec<u8>> =
            vec![b"XADD".to_vec(), self.source.clone().into(), b"*".to_vec()];
        for (name, value) in pairs {
            if !name.is_empty() {
                words.push(name.clone().into_bytes());
                words.push(value.as_bytes().to_vec());
            }
        }
        words
    }
}

impl Load {
    pub(super) fn new(mix: Mix) -> Self {
        Self {
            mix: Arc::new(watch::Sender::new(mix)),
            acked: Arc::default(),
            record: Arc::default(),
        }
    }

    /// From now on.
    pub(super) fn set(&self, mix: Mix) {
        self.mix.send_replace(mix);
    }

    /// How events are made now.
    pub(super) fn mix(&self) -> Mix {
        *self.mix.borrow()
    }

    /// Events acknowledged so far.
    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Looks at the record.
    pub(super) fn look<T>(&self, see: impl FnOnce(&Record) -> T) -> T {
        see(&self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends until it is told to end and nothing is open any more. Cancel-safe between two writes only.
    pub(super) async fn run(
        self,
        mut server: Server,
        names: Names,
        begun: Instant,
        again: bool,
        seed: u64,
    ) {
        use rand::{Rng as _, SeedableRng as _};
        let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
        // Numbers of events that are to be sent, each as often as it is in here.
        let mut open: Vec<usize> = Vec::new();
        let (mut due, mut looked) = (0.0, Instant::now());
        let mut ended_at: Option<Instant> = None;
        loop {
            let mix = self.mix();
            let now = Instant::now();
            due += now.duration_since(looked).as_secs_f64() * mix.rate;
            looked = now;
            if mix.ends {
                let since = *ended_at.get_or_insert(now);
                due = 0.0;
                if open.is_empty() || since.elapsed() > LAST {
                    return;
                }
            }
            while due >= 1.0 && open.len() < BATCH_MAX {
                due -= 1.0;
                let sent = Sent {
                    sent_ms: ms_since(begun),
                    poison: random.random::<f64>() < mix.poison,
                    twice: random.random::<f64>() < mix.duplicate,
                    ..Sent::default()
                };
                let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
                let n = record.sent.len();
                record.sent.push(sent);
                open.push(n);
                if sent.twice {
                    open.push(n);
                }
            }
            // What cannot be sent now is not sent later: the load does not grow after an outage.
            due = due.min(mix.rate);
            if open.is_empty() {
                tokio::time::sleep(TICK).await;
                continue;
            }
            let commands: Vec<_> = open
                .iter()
                .map(|n| {
                    let key = if random.random::<f64>() < mix.hot {
                        "chaos-hot".to_owned()
                    } else {
                        format!("chaos-{}", n % KEYS)
                    };
                    let poison = self.look(|r| r.sent.get(*n).is_some_and(|s| s.poison));
                    names.add(&names.event(*n), &key, &names.session(n % SESSIONS), poison)
                })
                .collect();
            let answers = server.call_many(&commands).await;
            let is_gone = answers.is_err();
            open = self.book(&open, answers.unwrap_or_default(), ms_since(begun), again);
            // Refused or away: not at full speed again.
            if is_gone || !open.is_empty() {
                tokio::time::sleep(TICK * 5).await;
            }
        }
    }

    /// Notes the answers; what is to be sent again.
    fn book(&self, open: &[usize], answers: Vec<Answer>, now: u32, again: bool) -> Vec<usize> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = Vec::new();
        let mut answers = answers.into_iter();
        for &n in open {
            let answer = answers.next();
            if let Some(Answer::Error(why)) = &answer {
                record.refusal.get_or_insert_with(|| why.clone());
            }
            let Some(sent) = record.sent.get_mut(n) else {
                continue;
            };
            match answer {
                Some(Answer::Error(_)) => left.push(n),
                Some(_) => {
                    sent.acks = sent.acks.saturating_add(1);
                    if sent
                        .acked_ms
                        .replace(sent.acked_ms.unwrap_or(now))
                        .is_none()
                    {
                        self.acked.fetch_add(1, Ordering::Relaxed);
                    }
                }
                None => {
                    sent.doubtful = true;
                    if again {
                        left.push(n);
                    }
                }
            }
        }
        left
    }
}

impl Record {
    /// Writes it as a file of commas, one row an event, times in milliseconds since the run's begin.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, path: &Path, names: &Names) -> std::io::Result<()> {
        let mut out = BufWriter::new(std::fs::File::create_new(path)?);
        writeln!(
            out,
            "seq,event_id,session,sent_ms,acked_ms,acks,doubtful,poison,twice"
        )?;
        for (n, sent) in self.sent.iter().enumerate() {
            let acked = sent.acked_ms.map_or_else(String::new, |ms| ms.to_string());
            writeln!(
                out,
                "{n},{},{},{},{acked},{},{},{},{}",
                names.event(n),
                names.session(n % SESSIONS),
                sent.sent_ms,
                sent.acks,
                sent.doubtful,
                sent.poison,
                sent.twice
            )?;
        }
        out.flush()
    }
}

/// Milliseconds since then.
pub(super) fn ms_since(begun: Instant) -> u32 {
    u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX)
}
