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
use pipectl_shared::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::alerts::{Book, Change};
use super::facts::Fixed;
use super::gather::Gather;
use super::history::{self, Row};
use super::host::{self, Host};
use super::probe::{self, Answers};
use super::rules::Severity;
use super::spill::{self, Spill};
use super::{Shared, build};
use crate::chaos::Shown;
use crate::clock::Clock;
use crate::journal::{Journal, Level};
use crate::runtime::{Handle, StageMeter};
use crate::store::{Admin, Layout, StoreError};

/// Base tick.
const TICK: Duration = Duration::from_secs(1);
/// A Snapshot waits this long for the store's answer of its own tick.
const PATIENCE: Duration = Duration::from_millis(500);
/// The first Snapshot waits this long for the first reads; they take some 20 ms.
const BEGUN: Duration = Duration::from_millis(250);
/// Between two looks for them.
const BEGUN_LOOK: Duration = Duration::from_millis(5);
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
    /// The experiment under way.
    pub chaos: Shown,
    /// The data folder: its file system is watched, and `history/` in it holds old figures.
    pub data: PathBuf,
}

/// The same without what does not change.
pub(super) struct Parts {
    pub(super) admin: Arc<dyn Admin>,
    pub(super) handle: Handle,
    pub(super) journal: Journal,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chaos: Shown,
    pub(super) data: PathBuf,
}

/// See the head of the file. Made by `Observer::new`.
pub struct Sampler {
    parts: Parts,
    shared: Arc<Shared>,
    latest: watch::Sender<Arc<Snapshot>>,
    started: Instant,
    jobs: JoinSet<Done>,
    tick: u64,
    /// Number of the last Snapshot.
    seq: u64,
    /// When the tick is published at the latest; `None` = it was.
    publish_by: Option<Instant>,
    /// The question that is under way.
    probe: Option<tokio::task::Id>,
    host: Option<Box<Host>>,
    spill: Option<Box<Spill>>,
    spill_fails: bool,
    gather: Gather,
    book: Book,
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
        let names = Arc::clone(
            shared
                .rings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .names(),
        );
        Self {
            host: Some(Box::new(Host::new(&parts.data))),
            spill: Some(Box::new(Spill::new(shared.spill_dir.clone(), names))),
            gather: Gather::new(
                fixed,
                parts.handle.clone(),
                Arc::clone(&parts.clock),
                Arc::clone(&shared),
            ),
            parts,
            shared,
            latest,
            started: Instant::now(),
            jobs: JoinSet::new(),
            tick: 0,
            seq: 0,
            publish_by: None,
            probe: None,
            spill_fails: false,
            book: Book::default(),
        }
    }

    /// Runs until `shutdown`; then looks once more, publishes the last Snapshot and ends (within about 4 s).
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.load();
        self.begun(&shutdown).await;
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

    /// Waits for the first read of every stage, so that the first Snapshot tells a pipeline that has started and the next
    /// one is not a second away; not for long, because a pipeline that cannot start must be told too.
    async fn begun(&self, shutdown: &CancellationToken) {
        let all_read = || {
            self.parts.handle.stages.iter().all(|stage| {
                stage.is_paused()
                    || *stage.wanted.borrow() == 0
                    || StageMeter::get(&stage.meter.last_read_ms) > 0
            })
        };
        let mut looks = interval(BEGUN_LOOK);
        while !shutdown.is_cancelled() && !all_read() && self.started.elapsed() < BEGUN {
            looks.tick().await;
        }
    }

    fn tick(&mut self) {
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
        if self.probe.is_some() {
            return;
        }
        let due = self.gather.due(self.tick);
        let (admin, handle) = (Arc::clone(&self.parts.admin), self.parts.handle.clone());
        let asked = async move { Done::Probe(Box::new(probe::probe(admin, handle, due).await)) };
        self.probe = Some(self.jobs.spawn(asked).id());
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Probe(answers)) => {
                self.probe = None;
                self.gather.answered(*answers);
                if self.publish_by.is_some() {
                    self.publish();
                }
            }
            Ok(Done::Host(host, reading)) => {
                self.host = Some(host);
                self.gather.host_read(*reading);
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
            // A panic is a bug in the job. The store is asked again at the next tick; the host's facts become unknown, and
            // history stays in memory, for as long as the daemon runs.
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "a job of the sampler panicked");
                if self.probe == Some(error.id()) {
                    self.probe = None;
                    self.gather.failed(StoreError::Bug(error.to_string()));
                }
            }
            Err(_) => {}
        }
    }

    pub(super) fn publish(&mut self) {
        self.publish_by = None;
        self.seq += 1;
        let (mut facts, last_second) = self.gather.facts(self.seq);
        let (alerts, changes) = self.book.step(&facts);
        changes.iter().for_each(|change| self.tell(change));
        facts.alerts = alerts;
        facts.events = self.parts.journal.last(20);
        facts.chaos = self.parts.chaos.get();
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
