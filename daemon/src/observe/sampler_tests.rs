//! The sampler against a store that is played: time is paused, nothing is waited for in earnest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use pipectl_shared::snapshot::{Snapshot, State};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::fixtures::{NOW, consumer, depth, fixed, id, server, worker};
use super::sampler::Parts;
use super::{Observer, Sampler};
use crate::chaos::Shown;
use crate::clock::Clock;
use crate::journal::Journal;
use crate::record::{EntryId, Record};
use crate::runtime::{Handle, SourceHandle, StageHandle, StageMeter};
use crate::store::*;

/// The wall clock of paused time.
struct Paused(Instant);

impl Clock for Paused {
    fn now_us(&self) -> u64 {
        NOW * 1_000 + u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// A store that answers what the test says, when the test says.
struct Fake {
    depth: Mutex<Result<Depth>>,
    delay: Mutex<Duration>,
    consumers: Mutex<HashMap<usize, Vec<ConsumerDepth>>>,
    first_ms: Mutex<u64>,
    panics: AtomicBool,
    n_depth: AtomicUsize,
    n_consumers: AtomicUsize,
    n_running: AtomicUsize,
    n_running_max: AtomicUsize,
}

impl Fake {
    fn new(n_stages: usize) -> Arc<Self> {
        Arc::new(Self {
            depth: Mutex::new(Ok(depth(n_stages))),
            delay: Mutex::default(),
            consumers: Mutex::default(),
            first_ms: Mutex::default(),
            panics: AtomicBool::new(false),
            n_depth: AtomicUsize::new(0),
            n_consumers: AtomicUsize::new(0),
            n_running: AtomicUsize::new(0),
            n_running_max: AtomicUsize::new(0),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Depth)) {
        change(self.depth.lock().unwrap().as_mut().unwrap());
    }

    fn goes_away(&self) {
        *self.depth.lock().unwrap() = Err(StoreError::Unavailable("connection refused".to_owned()));
    }

    fn comes_back(&self, n_stages: usize) {
        *self.depth.lock().unwrap() = Ok(depth(n_stages));
    }
}

fn not_here<T>() -> Result<T> {
    Err(StoreError::Bug(
        "the sampler has no business with this".to_owned(),
    ))
}

#[async_trait]
impl Admin for Fake {
    async fn depth(&self) -> Result<Depth> {
        struct Running<'a>(&'a AtomicUsize);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.n_depth.fetch_add(1, Ordering::SeqCst);
        let n = self.n_running.fetch_add(1, Ordering::SeqCst) + 1;
        let _running = Running(&self.n_running);
        self.n_running_max.fetch_max(n, Ordering::SeqCst);
        let delay = *self.delay.lock().unwrap();
        sleep(delay).await;
        assert!(!self.panics.load(Ordering::SeqCst), "played bug");
        self.depth.lock().unwrap().clone()
    }
    async fn consumers(&self, stage: usize) -> Result<Vec<ConsumerDepth>> {
        self.n_consumers.fetch_add(1, Ordering::SeqCst);
        Ok(self
            .consumers
            .lock()
            .unwrap()
            .get(&stage)
            .cloned()
            .unwrap_or_default())
    }
    async fn pending(&self, _: usize, query: &PendingQuery) -> Result<PendingPage> {
        let row = PendingRow {
            id: query.after.next(),
            first_ms: *self.first_ms.lock().unwrap(),
            ..PendingRow::default()
        };
        Ok(PendingPage {
            rows: vec![row],
            next: None,
        })
    }
    async fn aggregates(&self, n_top: usize) -> Result<Aggregates> {
        assert_eq!(n_top, 20);
        Ok(Aggregates {
            total: 90,
            ..Aggregates::default()
        })
    }
    async fn server(&self) -> Result<Server> {
        Ok(server())
    }
    async fn epoch(&self, _: Option<&StreamMark>, _: u64) -> Result<EpochSeen> {
        not_here()
    }
    async fn admit_spooled(&self, _: SpoolPlace, _: &[Admission]) -> Result<Vec<Option<Admitted>>> {
        not_here()
    }
    async fn survive(&self) -> Result<()> {
        not_here()
    }
    async fn spool_position(&self, _: u64) -> Result<u64> {
        not_here()
    }
    async fn prepare(&self) -> Result<Vec<Mended>> {
        not_here()
    }
    async fn pending_entry(&self, _: usize, _: EntryId) -> Result<Option<PendingRow>> {
        not_here()
    }
    async fn dead(&self, _: EntryId, _: usize) -> Result<Vec<DeadRow>> {
        not_here()
    }
    async fn dead_entry(&self, _: EntryId) -> Result<Option<DeadRow>> {
        not_here()
    }
    async fn discard(&self, _: usize, _: &[EntryId]) -> Result<Vec<Fate>> {
        not_here()
    }
    async fn kill(&self, _: usize, _: &[EntryId], _: &str) -> Result<Vec<Fate>> {
        not_here()
    }
    async fn release(&self, _: usize, _: &[EntryId]) -> Result<Vec<Fate>> {
        not_here()
    }
    async fn redrive(&self, _: &[EntryId]) -> Result<Vec<Fate>> {
        not_here()
    }
    async fn purge(&self, _: &[EntryId]) -> Result<Vec<Fate>> {
        not_here()
    }
    async fn janitor(&self, _: Duration, _: Duration) -> Result<Swept> {
        not_here()
    }
    async fn retire(&self, _: usize, _: &str) -> Result<u64> {
        not_here()
    }
    async fn admit(&self, _: &[Admission], _: bool) -> Result<Vec<Admitted>> {
        not_here()
    }
    async fn book_rejected(&self, _: u64) -> Result<()> {
        not_here()
    }
    async fn session(&self, _: &[u8]) -> Result<Option<u64>> {
        not_here()
    }
    async fn peek(&self, _: usize, _: EntryId, _: usize) -> Result<Vec<Record>> {
        not_here()
    }
    async fn beat(&self, _: &str, _: Duration) -> Result<Vec<String>> {
        not_here()
    }
    async fn leave(&self, _: &str) -> Result<()> {
        not_here()
    }
}

struct World {
    start: Instant,
    fake: Arc<Fake>,
    stages: Arc<Vec<Arc<StageHandle>>>,
    source: Arc<SourceHandle>,
    journal: Journal,
    observer: Observer,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    data: tempfile::TempDir,
}

impl World {
    fn new(names: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (mut world, sampler) = Self::idle(names, data);
        let shutdown = world.shutdown.clone();
        world.tasks.spawn(sampler.run(shutdown));
        world
    }

    fn idle(names: &[&str], data: tempfile::TempDir) -> (Self, Sampler) {
        let start = Instant::now();
        let clock: Arc<dyn Clock> = Arc::new(Paused(start));
        let journal = Journal::new(Arc::clone(&clock));
        let fake = Fake::new(names.len());
        let stages: Vec<_> = names
            .iter()
            .map(|n| Arc::new(StageHandle::for_tests(n, 1)))
            .collect();
        let stages = Arc::new(stages);
        let source = Arc::new(SourceHandle {
            name: "users".to_owned(),
            kind: "generator",
            ..SourceHandle::default()
        });
        source.state.lock().unwrap().0 = "running";
        let handle = Handle {
            stages: Arc::clone(&stages),
            sources: Arc::new(vec![Arc::clone(&source)]),
            draining: Arc::default(),
        };
        let admin = Arc::clone(&fake);
        let parts = Parts {
            chaos: Shown::default(),
            admin,
            handle,
            journal: journal.clone(),
            clock,
            data: data.path().to_owned(),
        };
        let (observer, sampler) = Observer::start(fixed(names), parts);
        let (shutdown, tasks) = (CancellationToken::new(), JoinSet::new());
        (
            Self {
                start,
                fake,
                stages,
                source,
                journal,
                observer,
                shutdown,
                tasks,
                data,
            },
            sampler,
        )
    }

    /// What is known `ms` after the start.
    async fn at(&self, ms: u64) -> Arc<Snapshot> {
        sleep_until(self.start + Duration::from_millis(ms)).await;
        self.observer.latest()
    }

    /// Reads keep returning, so that the watchdog is content.
    fn reads(&self) {
        let now_ms = NOW + u64::try_from(self.start.elapsed().as_millis()).unwrap();
        self.stages
            .iter()
            .for_each(|s| s.meter.last_read_ms.store(now_ms, Ordering::Relaxed));
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_tick_the_state_is_starting() {
    let (world, _sampler) = World::idle(&["check", "count"], tempfile::tempdir().unwrap());
    let s = world.observer.latest();
    assert_eq!(
        (s.seq, s.status.state, s.status.ledger.is_none()),
        (0, State::Starting, true)
    );
}

#[tokio::test(start_paused = true)]
async fn one_snapshot_is_told_every_second() {
    let world = World::new(&["check", "count"]);
    let mut watch = world.observer.watch();
    let mut seen = Vec::new();
    while seen.len() < 10 {
        watch.changed().await.unwrap();
        seen.push(watch.borrow_and_update().seq);
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    let elapsed = world.start.elapsed();
    assert!(
        (Duration::from_secs(9)..Duration::from_secs(10)).contains(&elapsed),
        "{elapsed:?}"
    );
    assert_eq!(world.fake.n_depth.load(Ordering::SeqCst), 10);
    // Nothing is pending: every fifth tick, both stages.
    assert_eq!(world.fake.n_consumers.load(Ordering::SeqCst), 2 * 2);
}

#[tokio::test(start_paused = true)]
async fn rates_are_exact_and_unknown_before_two_readings() {
    let world = World::new(&["check", "count"]);
    // Nothing reads here, so the first look waits as long as it ever does.
    let first = world.at(400).await;
    assert_eq!(
        (
            first.status.throughput.in_per_s,
            first.status.throughput.out_per_s
        ),
        (None, None)
    );
    assert_eq!(first.status.stages[0].in_per_s, None);
    for second in 0..15u64 {
        world.at(second * 1_000 + 500).await;
        // 200 a second come in and are read; the last stage ends 50 a second.
        world.fake.change(|d| {
            d.ledger.accepted += 200;
            d.ledger.undelivered += 200;
        });
        StageMeter::add(&world.stages[0].meter.read, 200);
        StageMeter::add(&world.stages[0].meter.committed, 120);
        StageMeter::add(&world.stages[1].meter.committed, 50);
        world.source.sent.fetch_add(25, Ordering::Relaxed);
    }
    let s = world.at(15_100).await;
    assert_eq!(
        (s.status.throughput.in_per_s, s.status.throughput.out_per_s),
        (Some(200.0), Some(50.0))
    );
    assert_eq!(
        (s.status.stages[0].in_per_s, s.status.stages[0].out_per_s),
        (Some(200.0), Some(120.0))
    );
    assert_eq!((s.sources[0].per_s, s.sources[0].sent), (Some(25.0), 375));
}

#[tokio::test(start_paused = true)]
async fn the_store_goes_away_and_comes_back() {
    let world = World::new(&["check", "count"]);
    world.reads();
    let before = world.at(2_100).await;
    assert_eq!(
        (before.status.state, before.status.healthy),
        (State::Running, true)
    );
    assert_eq!(
        (
            before.status.stages[0].pending,
            before.status.redis.state.as_str()
        ),
        (Some(0), "up")
    );

    world.at(2_500).await;
    world.fake.goes_away();
    for second in 3..=6 {
        let away = world.at(second * 1_000 + 100).await;
        assert_eq!(away.seq, second + 1, "snapshots go on");
        assert_eq!(
            (away.status.redis.state.as_str(), away.status.healthy),
            ("down", false)
        );
        assert_eq!(away.status.redis.down_ms, Some((second - 2) * 1_000));
        assert_eq!(
            (away.status.ledger.as_ref(), away.status.throughput.in_per_s),
            (None, None)
        );
        assert_eq!(
            (away.status.stages[0].pending, away.status.stages[0].lag),
            (None, None),
            "unknown, not 0"
        );
        assert_eq!(
            away.status.reason.as_deref(),
            Some("redis is away: connection refused")
        );
    }
    assert_eq!(world.observer.latest().status.alerts[0].name, "redis.down");

    world.at(6_500).await;
    world.fake.comes_back(2);
    world.reads();
    let back = world.at(7_100).await;
    assert_eq!(
        (
            back.status.state,
            back.status.healthy,
            back.status.stages[0].pending
        ),
        (State::Running, true, Some(0))
    );
    assert_eq!(
        (back.status.redis.down_ms, back.status.redis.error.as_ref()),
        (None, None)
    );
    assert_eq!(world.at(9_100).await.status.alerts, []);
    let told: Vec<_> = world
        .journal
        .last(100)
        .into_iter()
        .map(|e| (e.name, e.level))
        .collect();
    let expected = [("alert.opened", "error"), ("alert.closed", "info")]
        .map(|(n, l)| (n.to_owned(), l.to_owned()));
    assert_eq!(told, expected, "told once each");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_no_tick_and_is_asked_by_one_question_at_a_time() {
    let world = World::new(&["check", "count"]);
    world.at(2_500).await;
    *world.fake.delay.lock().unwrap() = Duration::from_secs(3_600);
    // The tick at 3 s waits half a second for its answer and shows what is known: 1.5 s old.
    let hanging = world.at(3_600).await;
    assert_eq!(
        (hanging.seq, hanging.status.stages[0].pending),
        (4, Some(0))
    );
    for second in 4..30 {
        let away = world.at(second * 1_000 + 600).await;
        assert_eq!(away.seq, second + 1, "at {second} s");
        assert_eq!(
            (
                away.status.stages[0].pending,
                away.status.redis.state.as_str()
            ),
            (None, "down")
        );
    }
    assert_eq!(world.fake.n_running_max.load(Ordering::SeqCst), 1);
    *world.fake.delay.lock().unwrap() = Duration::ZERO;
    assert_eq!(world.at(34_100).await.status.stages[0].pending, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_store_adapter_that_panics_is_asked_again() {
    let world = World::new(&["check", "count"]);
    world.at(2_500).await;
    world.fake.panics.store(true, Ordering::SeqCst);
    let s = world.at(4_600).await;
    assert_eq!((s.seq, s.status.stages[0].pending), (5, None));
    world.fake.panics.store(false, Ordering::SeqCst);
    assert_eq!(world.at(5_100).await.status.stages[0].pending, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_shown_by_its_own_tick() {
    let world = World::new(&["check", "count"]);
    *world.fake.delay.lock().unwrap() = Duration::from_millis(300);
    world.at(5_050).await;
    world.fake.change(|d| d.stages[0].pending = 7);
    assert_eq!(world.at(5_250).await.status.stages[0].pending, Some(0));
    assert_eq!(world.at(5_350).await.status.stages[0].pending, Some(7));
}

#[tokio::test(start_paused = true)]
async fn percentiles_of_the_minute_are_merged_over_stages_and_slots() {
    let world = World::new(&["check", "count"]);
    for second in 0..20u64 {
        world.at(second * 1_000 + 500).await;
        let us = if second < 19 { 1_000 } else { 500_000 };
        let meter = &world.stages[1].meter;
        StageMeter::add(&meter.commits, 1);
        meter.measure(|l| (0..10).for_each(|_| l.end_to_end.record(Some(us), false)));
    }
    let s = world.at(20_100).await;
    let (p50, p99) = (
        s.status.latency_ms.p50.unwrap(),
        s.status.latency_ms.p99.unwrap(),
    );
    // 190 values of 1 ms and 10 of 500 ms: an average of the slots' p99 would be about 100 ms.
    assert!(
        (0.99..1.01).contains(&p50) && (499.0..501.0).contains(&p99),
        "{p50} {p99}"
    );
    let rows = world.observer.latency(Some("pipeline"));
    assert_eq!(
        (rows.len(), rows[0].count, rows[0].hdr.is_some()),
        (1, 200, true)
    );
    assert!(world.observer.latency(Some("no such stage")).is_empty());
    assert!(s.latency.iter().all(|r| r.hdr.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_hangs_degrades_its_stage_and_raises_an_alert() {
    let world = World::new(&["check", "count"]);
    let mut hung = worker("a-count-0", "working");
    hung.held = vec![(id(NOW - 20), NOW)];
    world.stages[1].show_worker(hung);
    world.fake.change(|d| {
        d.stages[1].pending = 1;
        d.stages[1].oldest_pending = Some(id(NOW - 20));
    });
    world
        .fake
        .consumers
        .lock()
        .unwrap()
        .insert(1, vec![consumer("a-count-0", 1)]);
    for second in 1..=70 {
        world.reads();
        let s = world.at(second * 1_000 + 100).await;
        let expected = if second > 60 {
            State::Degraded
        } else {
            State::Running
        };
        assert_eq!(
            s.status.stages[1].state, expected,
            "at {second} s: {:?}",
            s.status.stages[1].reason
        );
        assert_eq!(
            s.status.stages[1].oldest_pending_ms,
            Some(second * 1_000),
            "since the worker read it"
        );
    }
    let s = world.observer.latest();
    assert_eq!(
        (s.consumers[0].name.as_str(), s.consumers[0].state.as_str()),
        ("a-count-0", "stuck")
    );
    assert!(
        s.status.alerts.iter().any(|a| a.name == "pending.stuck"),
        "{:?}",
        s.status.alerts
    );
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_foreign_entry_comes_from_the_store() {
    let world = World::new(&["check", "count"]);
    *world.fake.first_ms.lock().unwrap() = NOW - 3_000;
    world.fake.change(|d| {
        d.stages[0].pending = 1;
        d.stages[0].oldest_pending = Some(id(NOW - 9_000));
    });
    assert_eq!(
        world.at(1_100).await.status.stages[0].oldest_pending_ms,
        Some(3_000)
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_takes_a_last_look_and_ends_though_the_store_hangs() {
    let mut world = World::new(&["check", "count"]);
    world.at(3_500).await;
    world.fake.change(|d| d.ledger.accepted = 12_345);
    world.shutdown.cancel();
    world.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(
        world
            .observer
            .latest()
            .status
            .ledger
            .as_ref()
            .unwrap()
            .accepted,
        12_345
    );

    let mut world = World::new(&["check", "count"]);
    world.at(3_500).await;
    *world.fake.delay.lock().unwrap() = Duration::from_secs(3_600);
    world.shutdown.cancel();
    let asked = Instant::now();
    world.tasks.join_next().await.unwrap().unwrap();
    assert!(
        asked.elapsed() <= Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(world.observer.latest().seq, 5);
}

#[tokio::test(start_paused = true)]
async fn history_survives_a_restart() {
    let mut world = World::new(&["check", "count"]);
    world.fake.change(|d| d.stages[1].pending = 4);
    world.at(25_500).await;
    let history = world.observer.history(NOW, NOW + 60_000, 100).await;
    assert_eq!(
        history.series["stage.count.pending"].last(),
        Some(&Some(4.0))
    );
    assert_eq!(history.ts_ms.len(), 26);
    world.shutdown.cancel();
    world.tasks.join_next().await.unwrap().unwrap();

    let data = std::mem::replace(&mut world.data, tempfile::tempdir().unwrap());
    let (world, _sampler) = World::idle(&["check", "count"], data);
    let history = world.observer.history(NOW, NOW + 60_000, 100).await;
    let pending = &history.series["stage.count.pending"];
    assert_eq!(
        (pending.len(), pending.last()),
        (3, Some(&Some(4.0))),
        "three rows of 10 s, from the files"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_history_is_told_once() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("history"), "in the way").unwrap();
    let (mut world, sampler) = World::idle(&["check", "count"], data);
    let shutdown = world.shutdown.clone();
    world.tasks.spawn(sampler.run(shutdown));
    world.at(45_500).await;
    let told = world
        .journal
        .last(100)
        .into_iter()
        .filter(|e| e.name == "history.not_written")
        .count();
    assert_eq!((told, world.observer.latest().seq), (1, 46));
}

#[tokio::test(start_paused = true)]
async fn trouble_that_is_over_is_not_shown_for_seconds() {
    let world = World::new(&["check", "count"]);
    let mut gone = consumer("old-9", 3);
    gone.idle_ms = 40_000;
    world.fake.change(|d| d.stages[0].pending = 3);
    world.fake.consumers.lock().unwrap().insert(0, vec![gone]);
    world.reads();
    let s = world.at(1_100).await;
    assert_eq!(
        (s.consumers[0].state.as_str(), s.status.stages[0].state),
        ("gone", State::Degraded)
    );
    world.at(1_500).await;
    world.fake.change(|d| d.stages[0].pending = 0);
    world
        .fake
        .consumers
        .lock()
        .unwrap()
        .insert(0, vec![consumer("old-9", 0)]);
    let s = world.at(2_100).await;
    assert_eq!(
        s.status.stages[0].state,
        State::Running,
        "{:?}",
        s.status.stages[0].reason
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_with_leaked_consumers_is_looked_at_in_part_and_counted_whole() {
    let world = World::new(&["check", "count"]);
    let mut leaked: Vec<_> = (0..5_000)
        .map(|i| consumer(&format!("leak-{i}"), 0))
        .collect();
    let mut gone = consumer("zz", 9);
    gone.idle_ms = 40_000;
    leaked.push(gone);
    world.fake.consumers.lock().unwrap().insert(0, leaked);
    let s = world.at(400).await;
    assert_eq!(
        (s.consumers.len(), s.consumers[0].name.as_str()),
        (50, "zz")
    );
    assert_eq!(s.truncated["consumers"], 5_001 - 50);
}
