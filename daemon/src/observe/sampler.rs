//! The task that looks: once a second it asks the store, drains the meters and publishes one Snapshot. It gathers only;
//! `build`, `judge` and `alerts` decide.
//!
//! Owned by the composition root, ended by its token (cancel it *after* the workers have drained, so that the last
//! Snapshot shows the end). Blocks on nothing: questions to the store, the host and the history files run as jobs that it
//! owns, at most one of each kind, and a tick whose answer is late is published without it after half a second.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pipectl_shared::config::Config;
use pipectl_shared::snapshot::{self, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::alerts::{Book, Change, Severity};
use super::facts::{Counters, Facts, Fixed, OldestPending, StageFacts, StoreFacts};
use super::history::{self, LastSecond, Row};
use super::host::{self, Host};
use super::probe::{self, Answers, Due};
use super::progress::Progress;
use super::rates::Readings;
use super::spill::{self, Spill};
use super::{Shared, build};
use crate::clock::Clock;
use crate::journal::{Journal, Level};
use crate::runtime::{Handle, StageMeter};
use crate::store::{Admin, Aggregates, ConsumerDepth, Depth, Lag, Layout, Server, StoreError};

/// Base tick.
const TICK: Duration = Duration::from_secs(1);
/// A Snapshot waits this long for the store's answer of its own tick.
const PATIENCE: Duration = Duration::from_millis(500);
/// Depths older than this are unknown.
const FRESH: Duration = Duration::from_secs(2);
/// History loaded at start: the day that memory holds.
const LOADED_MS: u64 = 86_400_000;
/// Rows of that day.
const LOADED_ROWS: usize = 8_640;
/// The last answer and the last row get this long at the end.
const LAST: Duration = Duration::from_secs(2);

/// What the sampler reads from.
pub struct Inputs {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// Names in the store; its stages and the handle's are in the same order.
    pub layout: Arc<Layout>,
    /// The store, beside the hot loop.
    pub admin: Arc<dyn Admin>,
    /// The running stages and sources.
    pub handle: Handle,
    /// Told of alerts; the Snapshot carries its last events.
    pub journal: Journal,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// First part of consumer names.
    pub instance: String,
    /// The data folder: its file system is watched, and `history/` in it holds old figures.
    pub data: PathBuf,
}

/// The same without what does not change.
pub(super) struct Parts {
    pub(super) admin: Arc<dyn Admin>,
    pub(super) handle: Handle,
    pub(super) journal: Journal,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) data: PathBuf,
}

/// See the head of the file. Made by `Observer::new`.
pub struct Sampler {
    parts: Parts,
    fixed: Arc<Fixed>,
    shared: Arc<Shared>,
    latest: watch::Sender<Arc<Snapshot>>,
    started: Instant,
    jobs: JoinSet<Done>,
    tick: u64,
    /// Number of the last Snapshot.
    seq: u64,
    /// When the tick is published at the latest; `None` = it was.
    publish_by: Option<Instant>,
    is_probing: bool,
    host: Option<Box<Host>>,
    host_reading: host::Reading,
    spill: Option<Box<Spill>>,
    spill_fails: bool,
    known: Known,
    in_rate: Readings,
    out_rate: Readings,
    stages: Vec<StageState>,
    source_rates: Vec<Readings>,
    book: Book,
}

/// The last answers of the store.
#[derive(Default)]
struct Known {
    depth: Option<(Instant, Arc<Depth>)>,
    error: Option<StoreError>,
    answered: Option<Instant>,
    server: Option<Arc<Server>>,
    aggregates: Option<(Instant, Arc<Aggregates>)>,
    consumers: Vec<Option<Arc<Vec<ConsumerDepth>>>>,
    oldest: Vec<Option<OldestPending>>,
}

#[derive(Default)]
struct StageState {
    in_rate: Readings,
    out_rate: Readings,
    progress: Progress,
}

/// A job that ended.
enum Done {
    Probe(Box<Answers>),
    Host(Box<Host>, Box<host::Reading>),
    Spill(Box<Spill>, std::io::Result<()>),
    Loaded(Vec<Row>),
}

impl Sampler {
    pub(super) fn new(
        fixed: Fixed,
        parts: Parts,
        shared: Arc<Shared>,
        latest: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        let fixed = Arc::new(fixed);
        let names = Arc::clone(
            shared
                .rings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .names(),
        );
        let n = fixed.stages.len();
        Self {
            host: Some(Box::new(Host::new(&parts.data))),
            spill: Some(Box::new(Spill::new(shared.spill_dir.clone(), names))),
            stages: (0..n).map(|_| StageState::default()).collect(),
            source_rates: parts
                .handle
                .sources
                .iter()
                .map(|_| Readings::default())
                .collect(),
            known: Known {
                consumers: vec![None; n],
                oldest: vec![None; n],
                ..Known::default()
            },
            parts,
            fixed,
            shared,
            latest,
            started: Instant::now(),
            jobs: JoinSet::new(),
            tick: 0,
            seq: 0,
            publish_by: None,
            is_probing: false,
            host_reading: host::Reading::default(),
            spill_fails: false,
            in_rate: Readings::default(),
            out_rate: Readings::default(),
            book: Book::default(),
        }
    }

    /// Runs until `shutdown`; then looks once more, publishes the last Snapshot and ends (within about 4 s).
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.load();
        let mut ticks = interval_at(self.started, TICK);
        // After a pause of the machine one tick is enough.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let publish_by = self.publish_by;
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => self.tick(),
                Some(done) = self.jobs.join_next() => self.finished(done),
                () = async { sleep_until(publish_by.unwrap_or_else(Instant::now)).await }, if publish_by.is_some() => self.publish(),
            }
        }
        self.last().await;
    }

    fn tick(&mut self) {
        // The one before was late by a whole tick: that cannot be, patience is shorter. But nothing depends on it.
        self.publish_by = Some(Instant::now() + PATIENCE);
        self.start_probe();
        if self.tick.is_multiple_of(2)
            && let Some(mut host) = self.host.take()
        {
            let at = self.started.elapsed();
            self.jobs.spawn_blocking(move || {
                let reading = host.read(at);
                Done::Host(host, Box::new(reading))
            });
        }
        self.tick += 1;
    }

    fn start_probe(&mut self) {
        if self.is_probing {
            return;
        }
        self.is_probing = true;
        let had_pending = |c: &Option<Arc<Vec<ConsumerDepth>>>| {
            c.as_ref().is_some_and(|c| c.iter().any(|c| c.pending > 0))
        };
        let due = Due {
            consumers: self.tick.is_multiple_of(5) || self.known.error.is_some(),
            consumers_of: self.known.consumers.iter().map(had_pending).collect(),
            oldest: self.known.oldest.clone(),
            aggregates: self.tick.is_multiple_of(2),
            // After an outage it may be another server.
            server: self.tick.is_multiple_of(10)
                || self.known.server.is_none()
                || self.known.error.is_some(),
        };
        let (admin, handle) = (Arc::clone(&self.parts.admin), self.parts.handle.clone());
        self.jobs
            .spawn(async move { Done::Probe(Box::new(probe::probe(admin, handle, due).await)) });
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Probe(answers)) => {
                self.is_probing = false;
                self.answered(*answers);
                if self.publish_by.is_some() {
                    self.publish();
                }
            }
            Ok(Done::Host(host, reading)) => {
                self.host = Some(host);
                self.host_reading = *reading;
            }
            Ok(Done::Spill(spill, result)) => {
                self.spill = Some(spill);
                self.spilled(&result);
            }
            Ok(Done::Loaded(rows)) => {
                self.shared
                    .rings
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .put_before(&rows);
            }
            Err(error) if error.is_panic() => {
                // Only the store's adapter is foreign code here. The next tick asks again; host facts and spilling, if it
                // was theirs, end with this line.
                tracing::error!(%error, "a job of the sampler panicked");
                self.is_probing = false;
            }
            Err(_) => {}
        }
    }

    fn answered(&mut self, answers: Answers) {
        let known = &mut self.known;
        let depth = match answers.depth {
            Ok(depth) => depth,
            Err(error) => {
                known.error = Some(error);
                known.depth = None;
                known.consumers.fill(None);
                known.oldest.fill(None);
                return;
            }
        };
        known.error = None;
        known.answered = Some(answers.at);
        known.depth = Some((answers.at, Arc::new(depth)));
        for (to, from) in known.consumers.iter_mut().zip(answers.consumers) {
            *to = from.map(Arc::new).or(to.take());
        }
        for (to, from) in known.oldest.iter_mut().zip(answers.oldest) {
            *to = from;
        }
        if let Some(aggregates) = answers.aggregates {
            known.aggregates = Some((answers.at, Arc::new(aggregates)));
        }
        if let Some(server) = answers.server {
            known.server = Some(Arc::new(server));
        }
    }

    fn publish(&mut self) {
        self.publish_by = None;
        self.seq += 1;
        let (mut facts, last_second) = self.gather();
        let (alerts, changes) = self.book.step(&facts);
        changes.iter().for_each(|change| self.tell(change));
        facts.alerts = alerts;
        facts.events = self.parts.journal.last(20);
        let snapshot = build::build(&facts);
        self.remember(&history::row(&snapshot, &last_second));
        self.latest.send_replace(Arc::new(snapshot));
    }

    fn tell(&self, change: &Change) {
        let (level, name) = match (change.opened, change.severity) {
            (true, Severity::Critical) => (Level::Error, "alert.opened"),
            (true, Severity::Warning) => (Level::Warning, "alert.opened"),
            (false, Severity::Critical | Severity::Warning) => (Level::Info, "alert.closed"),
        };
        self.parts.journal.tell(
            level,
            name,
            change.stage.as_deref(),
            format!("{}: {}", change.name, change.message),
        );
    }

    fn gather(&mut self) -> (Facts, LastSecond) {
        let now = Instant::now();
        let at = now.duration_since(self.started);
        let store = self.store_facts(now);
        let mut last = LastSecond::default();
        // The counter belongs to the instant at which it was read, not to this one.
        let read = self.known.depth.as_ref().filter(|_| store.depth.is_some());
        let read_at = read.map_or(at, |(read_at, _)| read_at.duration_since(self.started));
        self.in_rate
            .push(read_at, read.map(|(_, d)| d.ledger.accepted));
        let out = self.terminal_committed();
        self.out_rate.push(at, Some(out));
        (last.in_per_s, last.out_per_s) = (
            self.in_rate.last_per_s(read_at),
            self.out_rate.last_per_s(at),
        );
        let stages: Vec<_> = (0..self.stages.len())
            .map(|i| self.stage_facts(i, at, &store))
            .collect();
        last.stages = self
            .stages
            .iter()
            .map(|s| (s.in_rate.last_per_s(at), s.out_rate.last_per_s(at)))
            .collect();
        let latency = {
            let mut windows = self
                .shared
                .windows
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            windows.tick(self.parts.handle.stages.iter().map(|s| &*s.meter));
            windows.view(None)
        }
        .rows(false);
        let facts = Facts {
            seq: self.seq,
            now_ms: self.parts.clock.now_ms(),
            uptime: at,
            fixed: Arc::clone(&self.fixed),
            draining: self.parts.handle.is_draining(),
            in_per_s: self
                .in_rate
                .per_s(read_at)
                .filter(|_| store.depth.is_some()),
            out_per_s: self.out_rate.per_s(at),
            store,
            stages,
            latency,
            sources: self.sources(at),
            host: self.host_reading.host.clone(),
            rss_bytes: self.host_reading.rss_bytes,
            cpu_cores: self.host_reading.cpu_cores,
            history_bytes: self
                .shared
                .rings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .bytes(),
            events: Vec::new(),
            alerts: Vec::new(),
        };
        (facts, last)
    }

    fn store_facts(&self, now: Instant) -> StoreFacts {
        let known = &self.known;
        let fresh = known
            .depth
            .as_ref()
            .filter(|(at, _)| now.duration_since(*at) <= FRESH);
        let since = now.duration_since(known.answered.unwrap_or(self.started));
        let error = match (&known.error, fresh) {
            (Some(error), _) => Some(error.clone()),
            (None, None) if known.answered.is_some() => Some(StoreError::Unavailable(format!(
                "no answer for {}",
                super::text::span(since)
            ))),
            (None, _) => None,
        };
        StoreFacts {
            depth: fresh.map(|(_, depth)| Arc::clone(depth)),
            away: error.is_some().then_some(since),
            error,
            server: known.server.clone(),
            aggregates: known
                .aggregates
                .as_ref()
                .map(|(at, totals)| (Arc::clone(totals), now.duration_since(*at))),
        }
    }

    fn terminal_committed(&self) -> u64 {
        let terminal = self
            .fixed
            .stages
            .iter()
            .zip(self.parts.handle.stages.iter())
            .filter(|(fixed, _)| fixed.terminal);
        terminal
            .map(|(_, stage)| StageMeter::get(&stage.meter.committed))
            .sum()
    }

    fn stage_facts(&mut self, i: usize, at: Duration, store: &StoreFacts) -> StageFacts {
        let Some(handle) = self.parts.handle.stages.get(i) else {
            return StageFacts::default();
        };
        let state = &mut self.stages[i];
        let counters = counters(&handle.meter);
        state.in_rate.push(at, Some(counters.read));
        state.out_rate.push(at, Some(counters.committed));
        let depth = store.depth.as_ref().and_then(|d| d.stages.get(i));
        let consumers = depth.and_then(|_| self.known.consumers[i].clone());
        let workers = handle.workers();
        let (running, wanted, paused) = (
            handle.n_running(),
            *handle.wanted.borrow(),
            handle.is_paused(),
        );
        let waits =
            depth.is_some_and(|d| matches!(d.lag, Lag::Known(n) | Lag::Estimate(n) if n > 0));
        let is_stopped = paused || wanted == 0;
        StageFacts {
            paused,
            running,
            wanted,
            short: state.progress.short(at, !paused && running < wanted),
            trouble: handle.trouble(),
            counters,
            last_read_ms: StageMeter::get(&handle.meter.last_read_ms),
            unread: state
                .progress
                .unread(at, waits && !is_stopped, counters.read),
            in_per_s: state.in_rate.per_s(at),
            out_per_s: state.out_rate.per_s(at),
            stalls: state
                .progress
                .observe(at, consumers.as_deref().map(Vec::as_slice), &workers),
            consumers,
            oldest: self.known.oldest[i],
            workers,
        }
    }

    fn sources(&mut self, at: Duration) -> Vec<snapshot::Source> {
        let handles = self.parts.handle.sources.iter().zip(&mut self.source_rates);
        handles
            .map(|(source, rate)| {
                let sent = source.sent.load(std::sync::atomic::Ordering::Relaxed);
                rate.push(at, Some(sent));
                let (state, reason) = source
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                snapshot::Source {
                    name: source.name.clone(),
                    kind: source.kind.to_owned(),
                    state: state.to_owned(),
                    reason,
                    per_s: rate.per_s(at),
                    sent,
                    rejected: source.rejected.load(std::sync::atomic::Ordering::Relaxed),
                }
            })
            .collect()
    }

    /// Keeps the row, and writes a coarse one out. While a write hangs, rows stay in memory only.
    fn remember(&mut self, row: &Row) {
        let coarse = self
            .shared
            .rings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(row);
        if let Some(coarse) = coarse {
            self.start_spill(coarse);
        }
    }

    fn start_spill(&mut self, row: Row) {
        let Some(mut spill) = self.spill.take() else {
            let busy = std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the last write has not ended for 10 s",
            );
            self.spilled(&Err(busy));
            return;
        };
        self.jobs.spawn_blocking(move || {
            let result = spill.write(&row);
            Done::Spill(spill, result)
        });
    }

    /// Told when it begins to fail and when it works again, not each time.
    fn spilled(&mut self, result: &std::io::Result<()>) {
        match result {
            Ok(()) if self.spill_fails => {
                self.parts.journal.tell(
                    Level::Info,
                    "history.written",
                    None,
                    "history is written to disk again",
                );
            }
            Err(error) if !self.spill_fails => {
                let dir = self.shared.spill_dir.display();
                let message = format!("history is kept in memory only: write to {dir}: {error}");
                self.parts
                    .journal
                    .tell(Level::Warning, "history.not_written", None, message);
            }
            Ok(()) | Err(_) => {}
        }
        self.spill_fails = result.is_err();
    }

    fn load(&mut self) {
        let shared = Arc::clone(&self.shared);
        let from_ms = self.parts.clock.now_ms().saturating_sub(LOADED_MS);
        self.jobs.spawn_blocking(move || {
            let names = Arc::clone(
                shared
                    .rings
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .names(),
            );
            Done::Loaded(spill::load(&shared.spill_dir, &names, from_ms, LOADED_ROWS))
        });
    }

    /// One more look, the last Snapshot, the last row. Jobs that hang are left behind.
    async fn last(mut self) {
        self.start_probe();
        self.publish_by = Some(Instant::now() + LAST);
        let looked = async {
            while self.publish_by.is_some() {
                match self.jobs.join_next().await {
                    Some(done) => self.finished(done),
                    None => break,
                }
            }
        };
        let _ = timeout(LAST, looked).await;
        if self.publish_by.is_some() {
            self.publish();
        }
        let row = self
            .shared
            .rings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .seal();
        if let Some(row) = row {
            self.start_spill(row);
        }
        let written = async {
            while let Some(done) = self.jobs.join_next().await {
                self.finished(done);
            }
        };
        let _ = timeout(LAST, written).await;
    }
}

fn counters(meter: &StageMeter) -> Counters {
    Counters {
        read: StageMeter::get(&meter.read),
        committed: StageMeter::get(&meter.committed),
        errors: StageMeter::get(&meter.errors),
        retries: StageMeter::get(&meter.retries),
        dead: StageMeter::get(&meter.dead),
        not_pending: StageMeter::get(&meter.not_pending),
        redelivered: StageMeter::get(&meter.redelivered),
    }
}
