//! A random history on a store: events, workers that read, commit, crash and stall, operators, third parties. It keeps a
//! record of its own of what must have happened, and a trace in which entries are named by their order, so that the traces
//! of two stores can be compared word by word.
//!
//! Past 400 lines because a history and the record that judges it are to be read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pipelined::effect::{Counter, Effects};
use pipelined::record::{EntryId, Record};
use pipelined::store::{
    Admission, Admitted, Batch, Code, Fate, Layout, Mended, Outcome, PendingQuery, Settle,
    StageLayout, StoreError,
};
use proptest::prelude::*;

use super::harness::*;

/// So long that the janitor trims nothing: where it cuts differs, as a server trims whole blocks.
const KEEP: Duration = Duration::from_secs(86_400);
const DAY_MS: u64 = 86_400_000;
/// Consumers of each stage.
const WORKERS: usize = 2;
/// More rounds than any history needs to come to rest.
const ROUNDS_MAX: usize = 200;

/// What becomes of an entry in a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Apply,
    Several,
    Done,
    Filtered,
    Late,
    Dead,
    RetryNow,
    RetryLater,
}

/// One step. `nth` picks from what is there at that time, modulo.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Add {
        event: u32,
    },
    Admit {
        event: u32,
        checked: bool,
    },
    Read {
        worker: usize,
        n: usize,
    },
    Commit {
        worker: usize,
        kinds: Vec<Kind>,
    },
    /// The last commit once more, after a lost reply (`repeated`) or by a worker that was stalled.
    Again {
        worker: usize,
        repeated: bool,
    },
    Crash {
        worker: usize,
    },
    Sweep {
        worker: usize,
    },
    Claim {
        worker: usize,
        nth: usize,
    },
    Keep {
        worker: usize,
    },
    Prepare,
    Janitor,
    Discard {
        stage: usize,
        nth: usize,
    },
    Kill {
        stage: usize,
        nth: usize,
    },
    Release {
        stage: usize,
        nth: usize,
    },
    Redrive {
        nth: usize,
    },
    ForeignAck {
        stage: usize,
        nth: usize,
    },
    ForeignRead {
        stage: usize,
    },
    DeletePending {
        stage: usize,
        nth: usize,
    },
    DeleteConsumer {
        worker: usize,
    },
    TrimTo {
        stage: usize,
        n: usize,
    },
    SetBack {
        stage: usize,
    },
    Destroy {
        stage: usize,
    },
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        8 => Just(Kind::Apply), 2 => Just(Kind::Several), 1 => Just(Kind::Done), 1 => Just(Kind::Filtered),
        1 => Just(Kind::Late), 2 => Just(Kind::Dead), 2 => Just(Kind::RetryNow), 1 => Just(Kind::RetryLater),
    ]
}

/// Histories of up to `n_max` steps.
pub(crate) fn steps(n_max: usize) -> impl Strategy<Value = Vec<Step>> {
    let (worker, stage, nth, event) = (0..6_usize, 0..3_usize, 0..40_usize, 0..25_u32);
    let step = prop_oneof![
        10 => event.clone().prop_map(|event| Step::Add { event }),
        3 => (event, any::<bool>()).prop_map(|(event, checked)| Step::Admit { event, checked }),
        10 => (worker.clone(), 1..5_usize).prop_map(|(worker, n)| Step::Read { worker, n }),
        12 => (worker.clone(), prop::collection::vec(kind(), 1..6))
            .prop_map(|(worker, kinds)| Step::Commit { worker, kinds }),
        2 => (worker.clone(), any::<bool>()).prop_map(|(worker, repeated)| Step::Again { worker, repeated }),
        2 => worker.clone().prop_map(|worker| Step::Crash { worker }),
        3 => worker.clone().prop_map(|worker| Step::Sweep { worker }),
        2 => (worker.clone(), nth.clone()).prop_map(|(worker, nth)| Step::Claim { worker, nth }),
        1 => worker.clone().prop_map(|worker| Step::Keep { worker }),
        1 => Just(Step::Prepare),
        1 => Just(Step::Janitor),
        1 => (stage.clone(), nth.clone()).prop_map(|(stage, nth)| Step::Discard { stage, nth }),
        1 => (stage.clone(), nth.clone()).prop_map(|(stage, nth)| Step::Kill { stage, nth }),
        1 => (stage.clone(), nth.clone()).prop_map(|(stage, nth)| Step::Release { stage, nth }),
        2 => nth.clone().prop_map(|nth| Step::Redrive { nth }),
        1 => (stage.clone(), nth.clone()).prop_map(|(stage, nth)| Step::ForeignAck { stage, nth }),
        1 => stage.clone().prop_map(|stage| Step::ForeignRead { stage }),
        1 => (stage.clone(), nth).prop_map(|(stage, nth)| Step::DeletePending { stage, nth }),
        1 => worker.prop_map(|worker| Step::DeleteConsumer { worker }),
        1 => (stage.clone(), 0..6_usize).prop_map(|(stage, n)| Step::TrimTo { stage, n }),
        1 => stage.clone().prop_map(|stage| Step::SetBack { stage }),
        1 => stage.prop_map(|stage| Step::Destroy { stage }),
    ];
    prop::collection::vec(step, 1..n_max)
}

/// The layouts that histories run on, by name: a failing one is printed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Counting,
    Chain,
    FanOut,
    TwoReaders,
}

impl Shape {
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Counting => counting(),
            Self::Chain => chain(),
            Self::FanOut => fan_out(),
            Self::TwoReaders => two_readers(),
        }
    }
}

pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Counting),
        Just(Shape::Chain),
        Just(Shape::FanOut),
        Just(Shape::TwoReaders)
    ]
}

struct Worker {
    stage: usize,
    hands: Hands,
    /// Read and not committed, with whether a repeat would be no surprise.
    held: Vec<(Record, bool)>,
    last: Vec<Settle>,
}

/// What must have happened, by the answers alone.
#[derive(Default)]
struct Book {
    /// Entries that were finished, by stage.
    settled: BTreeSet<(usize, EntryId)>,
    /// Entries whose counting effects happened.
    applied: BTreeSet<(usize, EntryId)>,
    /// Events that were finished at the first stage.
    events: BTreeSet<Vec<u8>>,
    /// Entries that third parties acknowledged unapplied: exactly these are unaccounted.
    ghosts: BTreeSet<(usize, EntryId)>,
    /// A tombstone makes the server's lag depend on the gaps between ids once a group is set back; then none is.
    has_tombstone: bool,
    /// Booked as lost.
    n_lost: u64,
    /// Since a group was set back or destroyed, trimming cannot be accounted for any more.
    was_reset: bool,
}

/// A history under way.
pub(crate) struct History<'a> {
    bench: Bench<'a>,
    stages: Vec<StageLayout>,
    workers: Vec<Worker>,
    /// Entries of each stream in order.
    names: BTreeMap<String, Vec<EntryId>>,
    book: Book,
    /// One line per step: what was asked, what was answered, ledgers and pending lists after it.
    pub(crate) trace: Vec<String>,
}

/// What was mended. Not `group.rewound`: whether a group is below the mark when no entry is left in between depends on the
/// gaps between ids.
fn told(mended: &[Mended]) -> Vec<(&'static str, Option<&str>)> {
    let told = mended.iter().filter(|m| m.what != "group.rewound");
    told.map(|m| (m.what, m.stage.as_deref())).collect()
}

impl Book {
    /// Finished, and not before.
    fn finish(&mut self, key: (usize, EntryId)) {
        assert!(
            self.settled.insert(key),
            "entry {} was finished twice",
            key.1
        );
        self.ghosts.remove(&key);
    }

    /// Booked as lost.
    fn lose(&mut self, key: (usize, EntryId)) {
        self.n_lost += 1;
        self.finish(key);
    }
}

impl<'a> History<'a> {
    pub(crate) async fn new(backend: &'a dyn Backend, layout: Layout) -> Self {
        let stages = layout.stages.clone();
        let bench = Bench::new(backend, layout).await;
        let mut workers = Vec::new();
        for stage in 0..stages.len() {
            for n in 0..WORKERS {
                let hands = bench.hands(stage, &format!("w{n}")).await;
                workers.push(Worker {
                    stage,
                    hands,
                    held: Vec::new(),
                    last: Vec::new(),
                });
            }
        }
        let (names, book, trace) = (BTreeMap::new(), Book::default(), Vec::new());
        Self {
            bench,
            stages,
            workers,
            names,
            book,
            trace,
        }
    }

    /// Runs one step and writes it into the trace.
    pub(crate) async fn run(&mut self, step: &Step) {
        let answer = match self.act(step).await {
            Ok(answer) => answer,
            Err(StoreError::GroupGone(_)) => {
                // What a worker does then.
                let mended = self.bench.admin.prepare().await.expect("prepare");
                format!("gone, mended {:?}", told(&mended))
            }
            Err(error) => panic!("{step:?}: {error:?}"),
        };
        self.learn_names().await;
        let mut line = format!("{step:?} -> {answer}; {}", self.bench.ledger().await);
        for (i, stage) in self.stages.clone().iter().enumerate() {
            let facts = self.bench.meddler.facts(&stage.stream, &stage.group).await;
            let pending = facts.map(|facts| {
                let named = facts.pending.iter().map(|p| {
                    let holder = String::from_utf8_lossy(&p.consumer).into_owned();
                    (self.name(i, p.id), holder)
                });
                named.collect::<Vec<_>>()
            });
            line += &format!(
                "; {}: {}, pending {pending:?}",
                stage.name,
                self.bench.stage_ledger(i).await
            );
        }
        self.trace.push(line);
    }

    async fn act(&mut self, step: &Step) -> Result<String, StoreError> {
        let (n_stages, n_workers) = (self.stages.len(), self.workers.len());
        let admin = self.bench.admin.clone();
        let meddler = self.bench.meddler;
        match step {
            Step::Add { event: n } => {
                meddler.add(SOURCE, event(*n)).await;
                Ok(String::new())
            }
            Step::Admit { event: n, checked } => {
                let admission = Admission {
                    event_id: Some(event_id(*n)),
                    fields: event(*n),
                };
                let admitted = admin.admit(&[admission], *checked).await?;
                self.learn_names().await;
                let told = |a: &Admitted| match a {
                    Admitted::Added(id) => format!("added {}", self.name(0, *id)),
                    Admitted::Duplicate(id) => format!("duplicate of {}", self.name(0, *id)),
                };
                Ok(admitted.iter().map(told).collect())
            }
            Step::Read { worker, n } => {
                let batch = self.workers[worker % n_workers]
                    .hands
                    .reader
                    .next(*n, Duration::ZERO)
                    .await?;
                Ok(self.take(worker % n_workers, batch, false))
            }
            Step::Commit { worker, kinds } => self.commit(worker % n_workers, kinds).await,
            Step::Again { worker, repeated } => {
                let last = self.workers[worker % n_workers].last.clone();
                self.send(worker % n_workers, last, *repeated).await
            }
            Step::Crash { worker } => {
                let w = worker % n_workers;
                let (stage, consumer) = (
                    self.workers[w].stage,
                    self.workers[w].hands.consumer.clone(),
                );
                self.workers[w].hands = self.bench.hands(stage, &consumer).await;
                self.workers[w].held.clear();
                let batch = self.workers[w]
                    .hands
                    .reader
                    .backlog(EntryId::MIN, 100)
                    .await?;
                Ok(self.take(w, batch, true))
            }
            Step::Sweep { worker } => {
                let w = worker % n_workers;
                let batch = self.workers[w]
                    .hands
                    .writer
                    .sweep(Duration::ZERO, EntryId::MIN, 100)
                    .await?;
                Ok(self.take(w, batch, true))
            }
            Step::Claim { worker, nth } => {
                let w = worker % n_workers;
                let Some(id) = self.pending(self.workers[w].stage, *nth).await? else {
                    return Ok("none".into());
                };
                let batch = self.workers[w]
                    .hands
                    .writer
                    .claim(&[id], Duration::ZERO)
                    .await?;
                Ok(self.take(w, batch, true))
            }
            Step::Keep { worker } => {
                let w = worker % n_workers;
                let ids: Vec<EntryId> = self.workers[w]
                    .held
                    .iter()
                    .map(|(record, _)| record.id)
                    .collect();
                let kept = self.workers[w].hands.writer.keep(&ids).await?;
                Ok(format!(
                    "kept {:?}",
                    self.named(self.workers[w].stage, &kept)
                ))
            }
            Step::Prepare => {
                let mended = admin.prepare().await?;
                Ok(format!("mended {:?}", told(&mended)))
            }
            Step::Janitor => {
                let swept = admin.janitor(KEEP, Duration::ZERO).await?;
                self.book.n_lost += swept.lost_unread;
                Ok(format!("lost unread {}", swept.lost_unread))
            }
            Step::Discard { stage, nth } => self.operate(stage % n_stages, *nth, "discard").await,
            Step::Kill { stage, nth } => self.operate(stage % n_stages, *nth, "kill").await,
            Step::Release { stage, nth } => self.operate(stage % n_stages, *nth, "release").await,
            Step::Redrive { nth } => self.redrive(*nth).await,
            Step::ForeignAck { stage, nth } => {
                let s = stage % n_stages;
                let Some(id) = self.pending(s, *nth).await? else {
                    return Ok("none".into());
                };
                let stage = self.stages[s].clone();
                meddler.ack(&stage.stream, &stage.group, &[id]).await;
                self.vanish(s, &[id]);
                Ok(self.name(s, id))
            }
            Step::ForeignRead { stage } => {
                let stage = self.stages[stage % n_stages].clone();
                let read = meddler
                    .read(&stage.stream, &stage.group, "some tool", 2)
                    .await;
                Ok(format!("{}", read.len()))
            }
            Step::DeletePending { stage, nth } => {
                let s = stage % n_stages;
                let Some(id) = self
                    .pending(s, *nth)
                    .await?
                    .filter(|_| !self.book.was_reset)
                else {
                    return Ok("none".into());
                };
                // Another stage that has not read it yet would lose it without a trace.
                let others = self
                    .stages
                    .iter()
                    .filter(|other| other.stream == self.stages[s].stream)
                    .count();
                if others > 1 {
                    return Ok("shared".into());
                }
                meddler.del(&self.stages[s].stream, &[id]).await;
                self.book.has_tombstone = true;
                Ok(self.name(s, id))
            }
            Step::DeleteConsumer { worker } => {
                let w = &self.workers[worker % n_workers];
                let (s, stage, consumer) = (
                    w.stage,
                    self.stages[w.stage].clone(),
                    w.hands.consumer.clone(),
                );
                let facts = meddler.facts(&stage.stream, &stage.group).await;
                let held: Vec<EntryId> = facts
                    .iter()
                    .flat_map(|facts| &facts.pending)
                    .filter(|pending| pending.consumer == consumer.as_bytes())
                    .map(|pending| pending.id)
                    .collect();
                let n_dropped = meddler
                    .delete_consumer(&stage.stream, &stage.group, &consumer)
                    .await;
                self.vanish(s, &held);
                Ok(format!("{n_dropped}"))
            }
            Step::TrimTo { stage, n } => {
                let s = stage % n_stages;
                let mut is_known = !self.book.was_reset;
                for other in self
                    .stages
                    .iter()
                    .filter(|other| other.stream == self.stages[s].stream)
                {
                    let facts = meddler.facts(&other.stream, &other.group).await;
                    is_known &= facts.is_some_and(|facts| facts.entries_read.is_some());
                }
                if !is_known {
                    return Ok("not now".into());
                }
                meddler.trim_to(&self.stages[s].stream, *n).await;
                let swept = admin.janitor(KEEP, Duration::ZERO).await?;
                self.book.n_lost += swept.lost_unread;
                Ok(format!("lost unread {}", swept.lost_unread))
            }
            Step::SetBack { .. } | Step::Destroy { .. } if self.book.has_tombstone => {
                Ok("not now".into())
            }
            Step::SetBack { stage } => {
                let stage = self.stages[stage % n_stages].clone();
                self.book.was_reset = true;
                meddler
                    .set_group(&stage.stream, &stage.group, EntryId::MIN)
                    .await;
                Ok(String::new())
            }
            Step::Destroy { stage } => {
                let s = stage % n_stages;
                let stage = self.stages[s].clone();
                self.book.was_reset = true;
                // What was pending without a payload goes with the group; nobody can know that it was there.
                let query = PendingQuery {
                    n_max: 10_000,
                    ..PendingQuery::default()
                };
                let rows = admin.pending(s, &query).await?.rows;
                let gone: Vec<EntryId> = rows
                    .iter()
                    .filter(|row| row.size.is_none())
                    .map(|row| row.id)
                    .collect();
                self.vanish(s, &gone);
                meddler.destroy_group(&stage.stream, &stage.group).await;
                Ok(String::new())
            }
        }
    }

    /// Brings the history to rest and checks it against the book.
    pub(crate) async fn finish(&mut self) {
        let admin = self.bench.admin.clone();
        admin.prepare().await.expect("prepare");
        for round in 0.. {
            assert!(
                round < ROUNDS_MAX,
                "it does not come to rest: {}",
                self.bench.ledger().await
            );
            for w in 0..self.workers.len() {
                self.workers[w].held.clear();
                let stage = self.workers[w].stage;
                let query = PendingQuery {
                    n_max: 100,
                    ..PendingQuery::default()
                };
                let rows = admin.pending(stage, &query).await.expect("pending").rows;
                let ids: Vec<EntryId> = rows.iter().map(|row| row.id).collect();
                let old = self.workers[w]
                    .hands
                    .writer
                    .claim(&ids, Duration::ZERO)
                    .await
                    .expect("claim");
                let again = self.take(w, old, true);
                let new = self.workers[w]
                    .hands
                    .reader
                    .next(100, Duration::ZERO)
                    .await
                    .expect("read");
                let fresh = self.take(w, new, false);
                self.learn_names().await;
                let n_held = self.workers[w].held.len();
                let committed = self
                    .commit(w, &vec![Kind::Apply; n_held])
                    .await
                    .expect("commit");
                self.trace
                    .push(format!("rest {w}: {again} {fresh} {committed}"));
            }
            let swept = admin.janitor(KEEP, Duration::ZERO).await.expect("janitor");
            self.book.n_lost += swept.lost_unread;
            let ledger = admin.depth().await.expect("depth").ledger;
            if ledger.pending + ledger.undelivered == 0 {
                break;
            }
        }
        self.trace
            .push(format!("at rest: {}", self.bench.ledger().await));
        self.check().await;
    }

    async fn check(&self) {
        let ledger = self.bench.admin.depth().await.expect("depth").ledger;
        let n_ghosts = i64::try_from(self.book.ghosts.len()).expect("a small number");
        // After a reset the server does not know how much was read; then what others acknowledged may be taken for lost.
        let least = if self.book.was_reset { 0 } else { n_ghosts };
        assert!(
            (least..=n_ghosts).contains(&ledger.unaccounted()),
            "unaccounted is what third parties acknowledged, {n_ghosts}: {}",
            line(&ledger)
        );
        assert_eq!(ledger.lost, self.book.n_lost, "lost");
        let totals = self.bench.admin.aggregates(0).await.expect("totals");
        assert_eq!(
            totals.total,
            self.book.applied.len() as u64,
            "counted exactly what was answered as applied"
        );
        // A counter of an entry that fell out of its batch may be there with 0.
        let counters: Vec<_> = totals.products.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(
            counters.len(),
            self.book.applied.len(),
            "every applied entry has its own counter"
        );
        assert!(
            counters.iter().all(|(_, n)| *n == 1),
            "an entry was counted twice: {counters:?}"
        );
        let rows = self
            .bench
            .admin
            .dead(EntryId::MAX, 10_000)
            .await
            .expect("dead letters");
        let n_dead = rows
            .iter()
            .filter(|row| row.counts && row.redriven.is_none())
            .count();
        assert_eq!(usize::try_from(ledger.dead), Ok(n_dead), "dead");
    }

    /// Commits the oldest entries that a worker holds.
    async fn commit(&mut self, w: usize, kinds: &[Kind]) -> Result<String, StoreError> {
        let worker = &mut self.workers[w];
        let n = kinds.len().min(worker.held.len());
        worker.held.sort_by_key(|(record, _)| record.id);
        worker.held.dedup_by_key(|(record, _)| record.id);
        let n = n.min(worker.held.len());
        let taken: Vec<(Record, bool)> = worker.held.drain(..n).collect();
        let repeated = taken.iter().any(|(_, again)| *again);
        let stage = worker.stage;
        let now_ms = self.bench.now_ms().await;
        let entries = taken
            .iter()
            .zip(kinds)
            .map(|((record, _), kind)| self.settled(stage, record, *kind, now_ms));
        let entries: Vec<Settle> = entries.collect();
        self.workers[w].last = entries.clone();
        self.send(w, entries, repeated).await
    }

    fn settled(&self, stage: usize, record: &Record, kind: Kind, now_ms: u64) -> Settle {
        let layout = &self.stages[stage];
        let mut child = record.fields.clone();
        child.retain(|(name, _)| name == "event_id" || name == "value");
        let counter = format!(
            "product:{}.{}:count",
            layout.name,
            self.name(stage, record.id)
        );
        let count = Effects {
            adds: [("total_count".to_owned(), 1), (counter, 1)]
                .map(|(name, by)| (Counter::Count(name.into()), by))
                .into(),
            ..Effects::default()
        };
        let failed = |not_before_ms| Outcome::Retry {
            not_before_ms,
            failures: 1,
            first_ms: 1,
            error: "no".into(),
        };
        let outcome = match kind {
            Kind::Apply if layout.output.is_some() => emits(vec![child]),
            Kind::Several if layout.output.is_some() => emits(vec![child.clone(), child]),
            Kind::Apply | Kind::Several | Kind::Done => Outcome::Apply(count),
            Kind::Filtered => Outcome::Filtered,
            Kind::Late => Outcome::Late,
            Kind::Dead => {
                let Outcome::Dead(mut letter) = dead(0) else {
                    unreachable!("it is one")
                };
                letter.fields.clone_from(&record.fields);
                Outcome::Dead(letter)
            }
            Kind::RetryNow => failed(1),
            Kind::RetryLater => failed(now_ms + DAY_MS),
        };
        let event_id = record
            .get(b"event_id")
            .filter(|_| layout.reads_source)
            .map(|id| id[..].try_into());
        Settle {
            id: record.id,
            event_id: event_id.and_then(Result::ok),
            outcome,
        }
    }

    /// Commits these and books what was answered.
    async fn send(
        &mut self,
        w: usize,
        entries: Vec<Settle>,
        repeated: bool,
    ) -> Result<String, StoreError> {
        if entries.is_empty() {
            return Ok("nothing".into());
        }
        let stage = self.workers[w].stage;
        let exceptions = self.workers[w]
            .hands
            .try_commit(entries.clone(), repeated)
            .await?;
        let codes: BTreeMap<usize, Code> = exceptions.into_iter().collect();
        let mut told = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let code = codes.get(&i).copied().unwrap_or(Code::Applied);
            told.push(format!("{} {code:?}", self.name(stage, entry.id)));
            self.book_code(stage, entry, code);
        }
        Ok(told.join(", "))
    }

    fn book_code(&mut self, stage: usize, entry: &Settle, code: Code) {
        let key = (stage, entry.id);
        match (code, &entry.outcome) {
            (Code::Applied, Outcome::Retry { .. }) => {}
            (Code::Applied, outcome) => {
                self.book.finish(key);
                if matches!(outcome, Outcome::Apply(effects) if !effects.adds.is_empty()) {
                    self.book.applied.insert(key);
                }
                let n_source_readers = self
                    .stages
                    .iter()
                    .filter(|stage| stage.reads_source)
                    .count();
                if let Some(event) = entry.event_id.filter(|_| n_source_readers == 1) {
                    assert!(
                        self.book.events.insert(event.to_vec()),
                        "an event was finished twice"
                    );
                }
            }
            (Code::Duplicate, _) => {
                self.book.finish(key);
            }
            (Code::NotPending | Code::Superseded | Code::Redelivered, _) => {}
        }
    }

    /// A worker takes what was delivered; what is gone is booked.
    fn take(&mut self, w: usize, batch: Batch, again: bool) -> String {
        let stage = self.workers[w].stage;
        for id in &batch.lost {
            self.book.lose((stage, *id));
        }
        let ids: Vec<EntryId> = batch.entries.iter().map(|entry| entry.record.id).collect();
        self.workers[w]
            .held
            .extend(batch.entries.into_iter().map(|entry| (entry.record, again)));
        format!(
            "got {:?} lost {:?}",
            self.named(stage, &ids),
            self.named(stage, &batch.lost)
        )
    }

    async fn operate(&mut self, s: usize, nth: usize, what: &str) -> Result<String, StoreError> {
        let Some(id) = self.pending(s, nth).await? else {
            return Ok("none".into());
        };
        let admin = self.bench.admin.clone();
        let fate = match what {
            "discard" => admin.discard(s, &[id]).await?[0],
            "kill" => admin.kill(s, &[id], "by hand").await?[0],
            _ => admin.release(s, &[id]).await?[0],
        };
        match fate {
            Fate::Done if what != "release" => {
                self.book.finish((s, id));
            }
            Fate::Trimmed => {
                self.book.lose((s, id));
            }
            Fate::Done | Fate::AlreadyDone | Fate::NotFound | Fate::Unfit => {}
        }
        Ok(format!("{} {fate:?}", self.name(s, id)))
    }

    async fn redrive(&mut self, nth: usize) -> Result<String, StoreError> {
        let rows = self.bench.admin.dead(EntryId::MAX, 10_000).await?;
        if rows.is_empty() {
            return Ok("none".into());
        }
        let row = &rows[nth % rows.len()];
        let fate = self.bench.admin.redrive(&[row.id]).await?[0];
        let of_source = row.origin_stream == SOURCE;
        if let Some((_, event)) = row
            .fields
            .iter()
            .find(|(name, _)| name == "event_id")
            .filter(|_| of_source)
            && fate == Fate::Done
        {
            self.book.events.remove(&event[..]);
        }
        let stage = self
            .stages
            .iter()
            .position(|stage| stage.name == row.stage)
            .expect("its stage");
        Ok(format!(
            "{} of {} {fate:?}",
            self.name(stage, row.origin_id),
            row.stage
        ))
    }

    /// Third parties took these off the pending list.
    fn vanish(&mut self, stage: usize, ids: &[EntryId]) {
        let unfinished = ids
            .iter()
            .map(|id| (stage, *id))
            .filter(|key| !self.book.settled.contains(key));
        self.book.ghosts.extend(unfinished);
    }

    /// The nth pending entry of a stage.
    async fn pending(&self, stage: usize, nth: usize) -> Result<Option<EntryId>, StoreError> {
        let query = PendingQuery {
            n_max: 10_000,
            ..PendingQuery::default()
        };
        let rows = self.bench.admin.pending(stage, &query).await?.rows;
        Ok((!rows.is_empty()).then(|| rows[nth % rows.len()].id))
    }

    /// Numbers the entries that have come since.
    async fn learn_names(&mut self) {
        for (i, stage) in self.stages.iter().enumerate() {
            let known = self.names.entry(stage.stream.clone()).or_default();
            let after = known.last().copied().unwrap_or(EntryId::MIN);
            let new = self.bench.admin.peek(i, after, 10_000).await.expect("peek");
            known.extend(new.iter().map(|record| record.id));
        }
    }

    /// An entry's number in its stream.
    fn name(&self, stage: usize, id: EntryId) -> String {
        let known = self.names.get(&self.stages[stage].stream);
        let nth = known.and_then(|ids| ids.iter().position(|known| *known == id));
        nth.map_or_else(|| "?".into(), |nth| nth.to_string())
    }

    fn named(&self, stage: usize, ids: &[EntryId]) -> Vec<String> {
        ids.iter().map(|id| self.name(stage, *id)).collect()
    }
}
