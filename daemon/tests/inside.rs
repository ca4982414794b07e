//! Workers on a private Redis that are killed and parked at each point: nothing is lost and nothing counts twice, unless a
//! guard is left out on purpose, and then it is seen.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic names the line"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipectl_shared::config;
use pipelined::chaos::{FaultBoard, Point, Precaution};
use pipelined::clock::System;
use pipelined::journal::Journal;
use pipelined::lookup::{Fixed, Lookup};
use pipelined::runtime::{Drained, Runtime, layout};
use pipelined::store::redis::{Address, LeftOut, Login, RedisStore};
use pipelined::store::{Admin, Ledger, Store as _};
use pipelined::world::World;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use support::server::RedisServer;

/// Ten times what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
name = "test"
[stage.enrich]
workers = 2
batch = 10
timeout = "500ms"
claim_after = "1s"
operators = [{ kind = "aggregate" }]
"#;

const SHARED: &str = "stage.enrich.delivery=shared";
const OWNED: &str = "stage.enrich.delivery=owned";
const POINTS: [Point; 3] = [Point::AfterRead, Point::BeforeCommit, Point::AfterCommit];

/// One stage with two workers.
struct House {
    // Before the server: the workers go first.
    runtime: Runtime,
    admin: Arc<dyn Admin>,
    faults: FaultBoard,
    journal: Journal,
    connection: MultiplexedConnection,
    n_sent: u64,
    _server: RedisServer,
}

impl House {
    async fn start(delivery: &str, without: &[Precaution]) -> Self {
        let server = RedisServer::start().await;
        let input = config::Input {
            file_name: "pipeline.toml".to_owned(),
            text: CONFIG.to_owned(),
            env: Vec::new(),
            sets: vec![delivery.to_owned()],
        };
        let config = config::load(&input).unwrap().config;
        let layout = Arc::new(layout(&config));
        let address = Address::parse(&server.url(), Login::default(), DEADLINE, None).unwrap();
        let mut store = RedisStore::new(address, Arc::clone(&layout));
        let faults = FaultBoard::default();
        for precaution in without {
            faults.leave_out(*precaution);
        }
        if !without.is_empty() {
            let left_out = LeftOut {
                fence: !faults.takes(Precaution::Fence),
                atomic: !faults.takes(Precaution::Atomic),
            };
            store = store.leaving_out(left_out).unwrap();
        }
        let admin = store.admin();
        admin.prepare().await.unwrap();
        let journal = Journal::new(Arc::new(System));
        let world = World {
            store: Arc::new(store),
            lookups: Arc::new(|_| Arc::new(Fixed::default()) as Arc<dyn Lookup>),
            clock: Arc::new(System),
            seed: 7,
            faults: faults.clone(),
            journal: journal.clone(),
        };
        let client = redis::Client::open(server.url()).unwrap();
        Self {
            runtime: Runtime::start(&config, &layout, &world, "a", Vec::new()),
            admin,
            faults,
            journal,
            connection: client.get_multiplexed_async_connection().await.unwrap(),
            n_sent: 0,
            _server: server,
        }
    }

    async fn send(&mut self, n_events: u64) {
        let mut pipe = redis::pipe();
        for n in self.n_sent..self.n_sent + n_events {
            pipe.cmd("XADD")
                .arg(&["events", "*", "event_id"])
                .arg(format!("e{n}"))
                .arg(&["event_type", "click", "ts", "1640995200000"])
                .ignore();
        }
        pipe.exec_async(&mut self.connection).await.unwrap();
        self.n_sent += n_events;
    }

    async fn ledger(&self) -> Ledger {
        self.admin.depth().await.unwrap().ledger
    }

    async fn total(&self) -> u64 {
        self.admin.aggregates(1).await.unwrap().total
    }

    fn told(&self, name: &str) -> usize {
        let events = self.journal.last(1_000);
        events.iter().filter(|event| event.name == name).count()
    }

    fn n_running(&self) -> u64 {
        u64::from(self.runtime.handle().stages[0].n_running())
    }

    /// Polls until it holds.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self).await {
            let (ledger, total) = (self.ledger().await, self.total().await);
            assert!(
                Instant::now() < deadline,
                "{what}: {ledger:?}, total {total}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The consumer that works: of an owned stage the owner.
    async fn worker(&self) -> String {
        let find = || {
            let workers = self.runtime.handle().stages[0].workers();
            let mut idle = workers.into_iter().filter(|w| w.state == "reading");
            idle.next().map(|worker| worker.consumer)
        };
        self.until("a worker reads", async |_| find().is_some())
            .await;
        find().unwrap()
    }

    /// Sends until the fault has met its worker.
    async fn send_until_hit(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.faults.counts().0 + self.faults.counts().1 == 0 {
            assert!(Instant::now() < deadline, "no worker came by");
            self.send(50).await;
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn all_applied_once(&self, what: &str) {
        self.until(what, async |house| {
            house.ledger().await.applied >= house.n_sent
        })
        .await;
        let ledger = self.ledger().await;
        let zero = (
            ledger.pending,
            ledger.lost,
            ledger.dead,
            ledger.unaccounted(),
        );
        assert_eq!(zero, (0, 0, 0, 0), "{what}: {ledger:?}");
        assert_eq!(ledger.applied, self.n_sent, "{what}");
        assert_eq!(self.total().await, self.n_sent, "{what}");
    }

    async fn end(self) {
        assert_eq!(self.runtime.drain(DEADLINE).await, Drained::Clean);
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_at_any_point_loses_nothing_and_counts_nothing_twice() {
    for delivery in [SHARED, OWNED] {
        for point in POINTS {
            let what = format!("{delivery} {point:?}");
            let mut house = House::start(delivery, &[]).await;
            let consumer = house.worker().await;
            house.faults.kill(&consumer, point, Duration::ZERO);
            house.send_until_hit().await;
            assert_eq!(house.faults.counts(), (1, 0, 0), "{what}");
            house.all_applied_once(&what).await;
            assert_eq!(house.told("worker.failed"), 1, "{what}");
            house
                .until("it is started again", async |house| house.n_running() == 2)
                .await;
            house.send(100).await;
            house.all_applied_once(&what).await;
            assert_eq!(house.faults.counts().0, 1, "{what}: once");
            house.end().await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_for_long_is_replaced_and_stays_away_until_all_is_taken_back() {
    for delivery in [SHARED, OWNED] {
        let mut house = House::start(delivery, &[]).await;
        let consumer = house.worker().await;
        let long = Duration::from_secs(3_600);
        house.faults.kill(&consumer, Point::BeforeCommit, long);
        house.send_until_hit().await;
        // What it held is claimed by the other one, or read again by the next owner.
        house.all_applied_once(delivery).await;
        assert_eq!(house.n_running(), 1, "{delivery}");
        house.faults.clear();
        house
            .until("it is started again", async |house| house.n_running() == 2)
            .await;
        house.end().await;
    }
}

/// Parks a worker before its commit, lets another one take its work over, lets it go on.
async fn zombie(delivery: &str, without: &[Precaution]) -> House {
    let mut house = House::start(delivery, without).await;
    let consumer = house.worker().await;
    house.faults.park(&consumer, Point::BeforeCommit);
    house.send_until_hit().await;
    house.all_applied_once("the other one takes it over").await;
    house.faults.release(&consumer);
    house
}

fn n_superseded(house: &House) -> u64 {
    let meter = &house.runtime.handle().stages[0].meter;
    meter.superseded.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_late_commit_changes_nothing() {
    for delivery in [SHARED, OWNED] {
        let house = zombie(delivery, &[]).await;
        house
            .until("its commit is refused", async |house| {
                n_superseded(house) > 0 || house.told("owner.lost") > 0
            })
            .await;
        house.all_applied_once(delivery).await;
        house.end().await;
    }
}

#[tokio::test]
async fn without_the_fence_a_late_commit_counts_again() {
    for delivery in [SHARED, OWNED] {
        let house = zombie(delivery, &[Precaution::Fence]).await;
        house
            .until("it counts again", async |house| {
                house.total().await > house.n_sent
            })
            .await;
    }
}

#[tokio::test]
async fn with_effects_and_acknowledgement_apart_a_worker_that_dies_in_between_counts_twice() {
    let mut house = House::start(SHARED, &[Precaution::Atomic]).await;
    let consumer = house.worker().await;
    house.send(100).await;
    // Nobody dies, nothing is seen of it.
    house
        .until("all is acknowledged", async |house| {
            let ledger = house.ledger().await;
            ledger.pending + ledger.undelivered == 0 && ledger.applied == house.n_sent
        })
        .await;
    assert_eq!(house.total().await, house.n_sent);
    let point = Point::AfterCommit;
    house.faults.kill(&consumer, point, Duration::ZERO);
    house.send_until_hit().await;
    house
        .until("its batch counts twice", async |house| {
            house.total().await > house.n_sent
        })
        .await;
}
