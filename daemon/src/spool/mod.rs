//! The spool: a bounded queue on disk for events that our own doors take while Redis is away.
//!
//! What [`Spool::append`] has taken is on the disk (fsync) and will be in Redis once, in order: [`drain`] adds batch after
//! batch, and the script that adds a batch writes down in the same step how far it came (`{S}:spool`). So neither a lost
//! answer nor a kill at any moment doubles or loses an event, with the id window off as well. While anything waits here,
//! new events go behind it ([`Spool::is_open`]).
//!
//! Numbers run from 1 within a *life*: one start of the daemon that spooled. A new start is a new life, so that a data
//! folder that was set back to an earlier copy can never reuse numbers that Redis knows.

mod drain;
mod files;
mod format;
mod receipt;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, mpsc, oneshot};

pub use self::drain::Drain;
use self::files::Segment;
use self::format::Format;
pub use self::receipt::Receipt;
pub use self::writer::Writer;
use crate::journal::{Journal, Level};
use crate::store::{Admission, Admitted};

/// Requests that wait for the writer. Each is a push of a client, which waits for its answer; when full, pushes wait too.
const QUEUE: usize = 64;

/// A file is closed at this size, or at an eighth of the limit, so that room comes back while a long spool drains.
const SEGMENT_MAX: u64 = 16 << 20;
const SEGMENTS: u64 = 8;

/// Receipts that are remembered; beyond that a client's own count of duplicates and dead letters may be too low.
const OWNERS_MAX: usize = 65_536;

/// Where the spool is and how large it may grow.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `<data>/spool`; it need not exist.
    pub dir: PathBuf,
    /// Bytes of all its files; 0 = it takes nothing and only drains what an earlier configuration left.
    pub limit: u64,
    /// Random, different at every start.
    pub life: u64,
}

/// Why the spool did not take events; none of them was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is off, and older events must go first.
    #[error("{0} events of the spool go first")]
    Off(u64),
    /// It has no room.
    #[error("the spool is full ({waiting} events wait; ingest.spool = {limit} bytes)")]
    Full {
        /// Events in it.
        waiting: u64,
        /// Its limit.
        limit: u64,
    },
    /// An event is larger than a door lets in.
    #[error("an event is too large for the spool")]
    TooLarge,
    /// The disk did not take it.
    #[error("write the spool: {0}")]
    Disk(String),
    /// The daemon is ending.
    #[error("the daemon is ending")]
    Ending,
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    limit: u64,
    format: Format,
    index: Mutex<Index>,
    /// Bound [`QUEUE`]; a full one holds up the pushes of the control socket.
    appends: mpsc::Sender<Append>,
    /// Something came in.
    came: Notify,
    /// [`Index::waiting`], for those who only watch.
    gauge: Arc<AtomicU64>,
    journal: Journal,
}

/// What is on the disk. The lock is held for a few lines, never while something is read or written.
#[derive(Debug, Default)]
struct Index {
    /// In order; the last may still grow.
    segments: VecDeque<Segment>,
    /// Number up to which the first segment was worked off; what comes before it is in Redis.
    drained_to: u64,
    /// Bytes of all files.
    used: u64,
    /// The writer may be adding to the last segment, so that it must not be removed.
    is_writing: bool,
    /// A door found Redis away although nothing waits.
    is_away: bool,
    /// Of this life: numbers below are in Redis.
    own_drained: u64,
    /// Who wants to know the ids of which numbers of this life, in order.
    owners: VecDeque<Owner>,
}

#[derive(Debug)]
struct Owner {
    first: u64,
    next: u64,
    receipt: Weak<Mutex<Receipt>>,
}

/// One request to the writer.
struct Append {
    events: Vec<Admission>,
    receipt: Weak<Mutex<Receipt>>,
    answer: oneshot::Sender<Result<u64, Refused>>,
}

impl Index {
    /// Events that are on the disk and not in Redis, damaged ones included until they are passed.
    fn waiting(&self) -> u64 {
        let rest = self.segments.iter().skip(1).map(|s| s.next - s.first);
        let front = self
            .segments
            .front()
            .map_or(0, |s| s.next.saturating_sub(self.drained_to.max(s.first)));
        front + rest.sum::<u64>()
    }
}

impl Spool {
    /// Looks through what is there and tells what a crash cut off. The writer must run while doors are open, a [`Drain`]
    /// while there is a store. Blocks; errors are those of the file system.
    pub fn open(settings: Settings, journal: Journal) -> io::Result<(Self, Writer)> {
        let found = files::open(&settings.dir)?;
        if found.n_cut > 0 {
            let text = format!(
                "{} bytes at the end of the spool were a write that a crash cut off before it was answered; they were removed",
                found.n_cut
            );
            journal.tell(Level::Warning, "spool.cut", None, text);
        }
        let (appends, requests) = mpsc::channel(QUEUE);
        let index = Index {
            used: found.aside + found.segments.iter().map(|s| s.end).sum::<u64>(),
            segments: found.segments,
            ..Index::default()
        };
        let waiting = index.waiting();
        if waiting > 0 {
            let text = format!("{waiting} events wait in the spool from before");
            journal.tell(Level::Info, "spool.found", None, text);
        }
        let format = Format {
            life: settings.life,
        };
        let spool = Self(Arc::new(Inner {
            dir: settings.dir,
            limit: settings.limit,
            format,
            index: Mutex::new(index),
            appends,
            came: Notify::new(),
            gauge: Arc::new(AtomicU64::new(waiting)),
            journal,
        }));
        let writer = Writer::new(spool.clone(), requests, found.last_place);
        Ok((spool, writer))
    }

    /// Whether new events must go here and not to Redis: older ones wait, or Redis was found away.
    pub fn is_open(&self) -> bool {
        let index = self.index();
        index.is_away || index.waiting() > 0
    }

    /// Whether it takes events at all.
    pub fn is_on(&self) -> bool {
        self.0.limit > 0
    }

    /// Redis is away: the next events come here without asking it first. Holds until something was drained.
    pub fn expect_outage(&self) {
        self.index().is_away = self.is_on();
    }

    /// Keeps events, behind all that are there. They are on the disk when this returns `Ok` with the number of the last one;
    /// after an error none of them is. Cancel-safe in the sense that a dropped call may or may not have kept all of them.
    pub async fn append(
        &self,
        events: Vec<Admission>,
        receipt: &Arc<Mutex<Receipt>>,
    ) -> Result<u64, Refused> {
        if !self.is_on() {
            return Err(Refused::Off(self.waiting()));
        }
        let (answer, answered) = oneshot::channel();
        let append = Append {
            events,
            receipt: Arc::downgrade(receipt),
            answer,
        };
        self.0
            .appends
            .send(append)
            .await
            .map_err(|_| Refused::Ending)?;
        answered.await.unwrap_or(Err(Refused::Ending))
    }

    /// Whether everything up to this number (an answer of [`Spool::append`]) is in Redis.
    pub fn is_drained(&self, number: u64) -> bool {
        number < self.index().own_drained
    }

    /// Events that wait here.
    pub fn waiting(&self) -> u64 {
        self.index().waiting()
    }

    /// The same, for a sampler.
    pub fn gauge(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.gauge)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, index: &Index) {
        self.0.gauge.store(index.waiting(), Ordering::Relaxed);
    }

    /// The segment to be drained, as it is now.
    fn front(&self) -> Option<Segment> {
        self.index().segments.front().cloned()
    }

    /// Everything of the first segment below `next` is in Redis; `admitted` are the answers for `first..`.
    fn advance(&self, segment: &Segment, next: u64, first: u64, admitted: &[Option<Admitted>]) {
        let mut index = self.index();
        index.drained_to = next;
        if segment.format == self.0.format {
            index.own_drained = index.own_drained.max(next);
            while let Some(owner) = index.owners.front() {
                let answers = (owner.first.max(first)..owner.next.min(next))
                    .filter_map(|number| admitted.get(usize::try_from(number - first).ok()?))
                    .filter_map(|answer| *answer);
                if let Some(receipt) = owner.receipt.upgrade() {
                    receipt
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .note(answers);
                }
                if owner.next > next {
                    break;
                }
                index.owners.pop_front();
            }
        }
        if index.waiting() == 0 {
            index.is_away = false;
        }
        self.show(&index);
    }

    /// Takes the first segment off the list; `false`: something was or may be added to it meanwhile.
    fn take_off(&self, segment: &Segment) -> bool {
        let mut index = self.index();
        let is_last = index.segments.len() == 1;
        let is_same = index.segments.front().is_some_and(|s| s.end == segment.end);
        if !is_same || (is_last && index.is_writing) {
            return false;
        }
        index.segments.pop_front();
        index.drained_to = 0;
        self.show(&index);
        true
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool")
            .field("dir", &self.0.dir)
            .finish_non_exhaustive()
    }
}
