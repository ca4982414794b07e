//! Workers on the store in memory, with a lookup that is told to fail. Time is virtual.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::config::{self, Config};

use crate::chaos::{FaultBoard, Point};
use crate::clock::Manual;
use crate::journal::Journal;
use crate::lookup::{Fixed, Lookup};
use crate::record::{EntryId, Fields};
use crate::runtime::{Drained, Runtime, WorkerView, layout};
use crate::store::memory::{Meddler as _, Memory};
use crate::store::{Admin, Ledger, PendingQuery, Store as _};
use crate::world::World;

const CONFIG: &str = r#"
name = "test"
retry = { attempts = 2, backoff = "200ms..400ms" }
[stage.enrich]
timeout = "5s"
operators = [{ kind = "lookup", key = "user_id" }, { kind = "aggregate" }]
"#;

/// A pipeline of one stage, and the lookup that it asks.
struct Bench {
    runtime: Option<Runtime>,
    memory: Memory,
    admin: Arc<dyn Admin>,
    lookup: Fixed,
    journal: Journal,
    config: Config,
    world: World,
    clock: Arc<Manual>,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(sets: &[&str]) -> Self {
        let input = config::Input {
            file_name: "pipeline.toml".to_owned(),
            text: CONFIG.to_owned(),
            env: Vec::new(),
            sets: sets.iter().map(|&set| set.to_owned()).collect(),
        };
        let config: Config = config::load(&input).expect("a configuration").config;
        let layout = Arc::new(layout(&config));
        let clock = Arc::new(Manual::at_ms(1_700_000_000_000));
        let memory = Memory::new((*layout).clone(), clock.clone());
        let admin = memory.admin();
        admin.prepare().await.expect("prepare");
        let lookup = Fixed::default();
        let behind = lookup.clone();
        let journal = Journal::new(clock.clone());
        let world = World {
            store: Arc::new(memory.clone()),
            lookups: Arc::new(move |_| Arc::new(behind.clone()) as Arc<dyn Lookup>),
            clock: clock.clone(),
            seed: 7,
            faults: FaultBoard::default(),
            journal: journal.clone(),
        };
        let runtime = Runtime::start(&config, &layout, &world, "a", Vec::new());
        Self {
            runtime: Some(runtime),
            memory,
            admin,
            lookup,
            journal,
            config,
            world,
            clock,
        }
    }

    /// What `kill -9` and a new start are: nothing is finished, nothing given up.
    async fn crash(&mut self) {
        self.runtime = None;
        // Tasks that were aborted end at their next turn.
        tokio::task::yield_now().await;
        let layout = Arc::clone(self.world.store.layout());
        let runtime = Runtime::start(&self.config, &layout, &self.world, "a", Vec::new());
        self.runtime = Some(runtime);
    }

    async fn add(&self, users: &[&'static str]) -> Vec<EntryId> {
        let mut ids = Vec::new();
        for user in users {
            let fields: Fields = vec![("user_id".into(), Bytes::from_static(user.as_bytes()))];
            ids.push(self.memory.add("events", fields).await);
        }
        ids
    }

    fn worker(&self) -> WorkerView {
        let runtime = self.runtime.as_ref().expect("it runs");
        let mut workers = runtime.handle().stages[0].workers();
        workers.pop().unwrap_or_default()
    }

    async fn ledger(&self) -> Ledger {
        self.admin.depth().await.expect("depth").ledger
    }

    /// Polls in virtual time.
    async fn until(&self, what: &str, holds: impl Fn(&Ledger, &WorkerView) -> bool) {
        for _ in 0..100_000 {
            if holds(&self.ledger().await, &self.worker()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.clock.advance_ms(1);
        }
        panic!("{what}: {:?} {:?}", self.ledger().await, self.worker());
    }

    /// Failed tries of what is pending.
    async fn tries(&self) -> BTreeMap<EntryId, u32> {
        let query = PendingQuery {
            n_max: 100,
            ..PendingQuery::default()
        };
        let page = self.admin.pending(0, &query).await.expect("pending");
        let rows = page.rows.into_iter();
        rows.map(|row| (row.id, row.failures)).collect()
    }

    fn told(&self, name: &str) -> usize {
        let events = self.journal.last(100);
        events.iter().filter(|event| event.name == name).count()
    }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn while_its_lookup_is_away_a_stage_waits_and_no_try_is_used_up() {
    let bench = Bench::start().await;
    bench.lookup.fail(Some("connection refused"));
    let ids = bench.add(&["u1", "u2", "u3"]).await;
    let waits = |_: &Ledger, worker: &WorkerView| {
        let why = worker.reason.as_deref().unwrap_or_default();
        worker.state == "waiting"
            && why.contains("lookup of field \"user_id\" is away: connection refused")
    };
    bench.until("it says why", waits).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(
        bench.tries().await,
        ids.iter().map(|id| (*id, 0)).collect(),
        "no try was made"
    );
    // Nothing new is read meanwhile but what is read ahead; a dead lookup is asked seldom.
    let n_calls = bench.lookup.calls().len();
    assert!((10..1_000).contains(&n_calls), "{n_calls} calls");
    assert_eq!(bench.told("lookup.away"), 1, "told once");

    bench.lookup.fail(None);
    bench.until("it goes on", |l, _| l.applied == 3).await;
    let ledger = bench.ledger().await;
    assert_eq!((ledger.dead, ledger.pending), (0, 0), "{ledger:?}");
    assert_eq!(bench.told("lookup.back"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_does_not_answer_in_time_is_away() {
    let bench = Bench::start().await;
    bench.lookup.slow(LONG * 2);
    bench.add(&["u1"]).await;
    tokio::time::sleep(LONG).await;
    let ledger = bench.ledger().await;
    assert_eq!((ledger.dead, ledger.pending), (0, 1), "{ledger:?}");
    bench.lookup.slow(Duration::ZERO);
    bench.until("it goes on", |l, _| l.applied == 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_memory_answers_goes_on_while_the_lookup_is_away() {
    let bench = Bench::start().await;
    bench.add(&["known"]).await;
    bench.until("it is known", |l, _| l.applied == 1).await;
    bench.lookup.fail(Some("connection refused"));
    let ids = bench.add(&["new", "known", "known"]).await;
    bench.until("they go on", |l, _| l.applied == 3).await;
    assert_eq!(bench.tries().await, BTreeMap::from([(ids[0], 0)]));
}

#[tokio::test(start_paused = true)]
async fn caches_are_emptied_before_the_next_lookup_after_the_order_and_count_where_they_held_something()
 {
    let bench = Bench::start().await;
    bench.world.faults.flush_caches();
    bench.add(&["u1", "u2"]).await;
    bench.until("they are known", |l, _| l.applied == 2).await;
    assert_eq!(bench.world.faults.counts().2, 0, "nothing was there");
    bench.add(&["u1", "u2"]).await;
    bench.until("from memory", |l, _| l.applied == 4).await;
    let n_calls = bench.lookup.calls().len();
    bench.world.faults.flush_caches();
    for n in 0..2 {
        bench.add(&["u1"]).await;
        bench.until("it goes on", |l, _| l.applied == 5 + n).await;
    }
    assert_eq!(bench.lookup.calls().len(), n_calls + 1, "looked up once");
    assert_eq!(bench.world.faults.counts().2, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_read_uses_up_tries_and_each_looks_again() {
    let bench = Bench::start().await;
    bench.lookup.break_key("bad");
    bench.add(&["u1", "bad", "u2"]).await;
    bench.until("it is dead", |l, _| l.dead == 1).await;
    assert_eq!(bench.ledger().await.applied, 2);
    let calls = bench.lookup.calls();
    let n_asked = calls.iter().filter(|keys| keys.contains(&"bad".into()));
    assert_eq!(n_asked.count(), 2, "once for each try: {calls:?}");
    // Mended between two tries that are closer than the memory of an error: the second one sees it.
    bench.lookup.break_key("mended");
    bench.add(&["mended"]).await;
    let asked = |_: &Ledger, _: &WorkerView| {
        let calls = bench.lookup.calls();
        calls.iter().any(|keys| keys.contains(&"mended".into()))
    };
    bench.until("a try has failed", asked).await;
    bench.lookup.mend_key(b"mended");
    bench.until("it is applied", |l, _| l.applied == 3).await;
    assert_eq!(bench.ledger().await.dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_lookup_that_is_away() {
    let mut bench = Bench::start().await;
    bench.lookup.fail(Some("connection refused"));
    let ids = bench.add(&["u1", "u2"]).await;
    bench.until("it waits", |_, w| w.state == "waiting").await;
    let began = tokio::time::Instant::now();
    let runtime = bench.runtime.take().expect("it runs");
    assert_eq!(runtime.drain(LONG).await, Drained::Partly);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.tries().await, ids.iter().map(|id| (*id, 0)).collect());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_waits_for_a_lookup_has_not_been_tried() {
    let bench = Bench::start().await;
    bench.lookup.fail(Some("connection refused"));
    // Delivered often before, to somebody who never came to an end.
    bench.runtime.as_ref().expect("it runs").handle().stages[0]
        .paused
        .set(true);
    bench
        .until("it is paused", |_, w| w.state == "paused")
        .await;
    let ids = bench.add(&["u1"]).await;
    assert_eq!(
        bench.memory.read("events", "event_group", "ghost", 9).await,
        ids
    );
    let mut reader = bench.memory.reader(0, "ghost").await.expect("a reader");
    for _ in 0..5 {
        reader.backlog(EntryId::MIN, 9).await.expect("backlog");
    }
    let stage = Arc::clone(&bench.runtime.as_ref().expect("it runs").handle().stages[0]);
    let handed = tokio::time::timeout(LONG, stage.hand_over(ids.clone(), Duration::ZERO, None));
    assert!(handed.await.is_err(), "it waits");
    assert_eq!(bench.told("entry.quarantined"), 1);
    assert_eq!(bench.tries().await, BTreeMap::from([(ids[0], 0)]));
    bench.lookup.fail(None);
    bench.until("it is applied", |l, _| l.applied == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_was_scaled_to_nothing_does_not_hold_up_a_drain() {
    let mut bench = Bench::start().await;
    let runtime = bench.runtime.take().expect("it runs");
    let stage = Arc::clone(&runtime.handle().stages[0]);
    stage.wanted.send_replace(0);
    while stage.n_running() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(runtime.drain(LONG).await, Drained::Clean);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn names_of_workers_that_are_gone_do_not_stay() {
    let bench = Bench::start().await;
    for (name, takes) in [
        ("a-enrich-7", false),
        ("dead-enrich-1", false),
        ("dead-enrich-2", true),
        ("somebody", false),
    ] {
        if takes {
            bench.add(&["u1"]).await;
        }
        bench.memory.read("events", "event_group", name, 1).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    bench.memory.age("", "", Duration::from_secs(120)).await;
    let names = || async {
        let consumers = bench.admin.consumers(0).await.expect("consumers");
        let name = |c: crate::store::ConsumerDepth| String::from_utf8_lossy(&c.name).into_owned();
        consumers.into_iter().map(name).collect::<Vec<_>>()
    };
    // What a dead one holds is swept up first; a third party's name is not ours to delete.
    for _ in 0..1_000 {
        if names().await == ["a-enrich-1", "somebody"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", names().await);
}

/// One owned stage, two tries.
async fn owned() -> Bench {
    Bench::start_with(&["stage.enrich.delivery=owned"]).await
}

#[tokio::test(start_paused = true)]
async fn hole_10_what_takes_an_owner_down_is_found_alone_and_runs_out_of_tries() {
    let mut bench = owned().await;
    // A record that never comes to an end; the process dies of it.
    bench.lookup.slow(LONG);
    let ids = bench.add(&["deadly", "u1", "u2"]).await;
    for _ in 0..2 {
        let in_hand = |_: &Ledger, w: &WorkerView| w.state == "working" && w.held.len() == 3;
        bench.until("the batch is in hand", in_hand).await;
        bench.crash().await;
    }
    for n_tries in 1..=2 {
        let mut booked = false;
        for _ in 0..10_000 {
            booked = bench.tries().await.get(&ids[0]) == Some(&n_tries);
            if booked {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(booked, "before it is made: {:?}", bench.tries().await);
        assert_eq!(bench.tries().await[&ids[1]], 0, "its neighbours wait");
        bench.crash().await;
    }
    bench.lookup.slow(Duration::ZERO);
    let all_done = |l: &Ledger, _: &WorkerView| (l.applied, l.dead) == (2, 1);
    bench.until("all are done", all_done).await;
    let ledger = bench.ledger().await;
    assert_eq!((ledger.applied, ledger.dead, ledger.pending), (2, 1, 0));
    let letters = bench.admin.dead(EntryId::MAX, 9).await.expect("dead");
    assert_eq!(
        (letters[0].origin_id, letters[0].tries),
        (ids[0], 2),
        "{letters:?}"
    );
    assert_eq!(bench.told("owner.wary"), 1);
    // A process that lives on takes its own lease again without suspicion.
    bench.add(&["u3"]).await;
    bench.until("it goes on", |l, _| l.applied == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_suspect_of_an_owned_stage_that_waits_for_a_lookup_has_not_been_tried() {
    let mut bench = owned().await;
    bench.lookup.break_key("bad");
    let ids = bench.add(&["bad"]).await;
    bench.until("a try has failed", |l, _| l.pending == 1).await;
    bench.lookup.mend_key(b"bad");
    bench.lookup.fail(Some("connection refused"));
    bench.crash().await;
    let quarantined = |_: &Ledger, _: &WorkerView| bench.told("entry.quarantined") > 0;
    bench.until("it is worked alone", quarantined).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(bench.tries().await, BTreeMap::from([(ids[0], 1)]));
    bench.lookup.fail(None);
    bench.until("it is applied", |l, _| l.applied == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_many_does_not_pass_the_head_of_a_key_that_fails_again() {
    let settings = [
        "stage.enrich.delivery=owned",
        "stage.enrich.batch=1",
        "retry.attempts=9",
        "retry.backoff=1m..1h",
    ];
    let bench = Bench::start_with(&settings).await;
    bench.lookup.break_key("bad");
    let ids = bench.add(&["bad", "bad"]).await;
    bench.until("both are parked", |l, _| l.pending == 2).await;
    let runtime = bench.runtime.as_ref().expect("it runs");
    let stage = Arc::clone(&runtime.handle().stages[0]);
    let handed = stage.hand_over(ids.clone(), Duration::ZERO, None).await;
    assert!(handed.is_ok(), "{handed:?}");
    assert_eq!(
        bench.tries().await,
        BTreeMap::from([(ids[0], 2), (ids[1], 0)]),
        "the second of the key waits behind the first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_killed_at_a_point_stays_away_for_its_time_and_nothing_is_lost_or_counts_twice()
 {
    let down = Duration::from_secs(30);
    for delivery in ["shared", "owned"] {
        for point in [Point::AfterRead, Point::BeforeCommit, Point::AfterCommit] {
            let what = format!("{delivery} {point:?}");
            let bench = Bench::start_with(&[&format!("stage.enrich.delivery={delivery}")]).await;
            bench.until("it runs", |_, w| w.state == "reading").await;
            bench.world.faults.kill("a-enrich-1", point, down);
            bench.add(&["u1", "u2", "u3"]).await;
            let killed = |_: &Ledger, _: &WorkerView| bench.world.faults.counts().0 == 1;
            bench.until("it is killed", killed).await;
            let since = tokio::time::Instant::now();
            let runtime = bench.runtime.as_ref().expect("it runs");
            let stage = Arc::clone(&runtime.handle().stages[0]);
            tokio::time::sleep(down / 2).await;
            assert_eq!(stage.n_running(), 0, "{what}");
            assert!(!*stage.owned_here.borrow(), "{what}");
            bench.until("it works again", |l, _| l.applied == 3).await;
            let is_after = point == Point::AfterCommit;
            assert!(is_after || since.elapsed() >= down, "{what}");
            bench.until("it is back", |_, w| w.state == "reading").await;
            bench.add(&["u1", "u2"]).await;
            bench.until("it goes on", |l, _| l.applied == 5).await;
            let ledger = bench.ledger().await;
            let zero = (
                ledger.pending,
                ledger.dead,
                ledger.lost,
                ledger.unaccounted(),
            );
            assert_eq!(zero, (0, 0, 0, 0), "{what}: {ledger:?}");
            let total = bench.admin.aggregates(1).await.expect("aggregates").total;
            assert_eq!(total, 5, "{what}");
            assert_eq!(bench.told("worker.failed"), 1, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_killed_is_started_again_when_all_is_taken_back_and_a_drain_before_is_not_clean() {
    for is_cleared in [true, false] {
        let mut bench = Bench::start().await;
        bench.until("it runs", |_, w| w.state == "reading").await;
        let (faults, point) = (bench.world.faults.clone(), Point::BeforeCommit);
        faults.kill("a-enrich-1", point, LONG * 10);
        bench.add(&["u1"]).await;
        bench
            .until("it is killed", |_, _| faults.counts().0 == 1)
            .await;
        tokio::time::sleep(LONG).await;
        assert_eq!(bench.ledger().await.applied, 0);
        if is_cleared {
            faults.clear();
            bench.until("it is back", |l, _| l.applied == 1).await;
        }
        let runtime = bench.runtime.take().expect("it runs");
        let drained = runtime.drain(LONG).await;
        assert_eq!(drained == Drained::Clean, is_cleared);
    }
}
