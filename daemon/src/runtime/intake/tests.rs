use std::sync::Mutex;

use async_trait::async_trait;
use pipectl_shared::config;

use super::*;
use crate::operators::testing::event;
use crate::record::{EntryId, Record};
use crate::store::{
    Admitted, Aggregates, ConsumerDepth, DeadRow, Depth, EpochSeen, Fate, Mended, PendingPage,
    PendingQuery, PendingRow, Result, Server, SpoolPlace, StreamMark, Swept,
};

/// A store that only takes events, as well or badly as it is told.
#[derive(Default)]
struct Door(Mutex<State>);

#[derive(Default)]
struct State {
    /// With the time when they were added.
    added: Vec<(Instant, Admission)>,
    /// Calls, failed ones included.
    calls: Vec<(Instant, usize, bool)>,
    n_booked: u64,
    failing: Option<StoreError>,
    /// Adds and then fails once: the answer is lost.
    loses_next_answer: bool,
    /// Whether the first stage has put what was added into the id window.
    knows_ids: bool,
    delay: Duration,
}

impl Door {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl Admin for Door {
    async fn admit(&self, events: &[Admission], checked: bool) -> Result<Vec<Admitted>> {
        let delay = {
            let mut state = self.state();
            state.calls.push((Instant::now(), events.len(), checked));
            state.delay
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut state = self.state();
        if let Some(error) = &state.failing {
            return Err(error.clone());
        }
        let mut answers = Vec::new();
        for event in events {
            assert!(
                event.event_id.is_some() || !checked,
                "nothing can be checked without an id"
            );
            let is_known = checked
                && state.knows_ids
                && state
                    .added
                    .iter()
                    .any(|(_, old)| old.event_id == event.event_id);
            if is_known {
                answers.push(Admitted::Duplicate(EntryId::MIN));
            } else {
                state.added.push((Instant::now(), event.clone()));
                answers.push(Admitted::Added(EntryId::MIN));
            }
        }
        if std::mem::take(&mut state.loses_next_answer) {
            return Err(StoreError::Unavailable("connection reset".into()));
        }
        Ok(answers)
    }

    async fn book_rejected(&self, n_events: u64) -> Result<()> {
        let mut state = self.state();
        if let Some(error) = &state.failing {
            return Err(error.clone());
        }
        state.n_booked += n_events;
        Ok(())
    }

    async fn epoch(&self, _: Option<&StreamMark>, _: u64) -> Result<EpochSeen> {
        unreachable!("intake does not ask for it")
    }
    async fn admit_spooled(&self, _: SpoolPlace, _: &[Admission]) -> Result<Vec<Option<Admitted>>> {
        unreachable!("intake does not ask for it")
    }
    async fn survive(&self) -> Result<()> {
        unreachable!("intake does not ask for it")
    }
    async fn spool_position(&self, _: u64) -> Result<u64> {
        unreachable!("intake does not ask for it")
    }
    async fn prepare(&self) -> Result<Vec<Mended>> {
        unreachable!("intake does not ask for it")
    }
    async fn depth(&self) -> Result<Depth> {
        unreachable!("intake does not ask for it")
    }
    async fn consumers(&self, _: usize) -> Result<Vec<ConsumerDepth>> {
        unreachable!("intake does not ask for it")
    }
    async fn pending(&self, _: usize, _: &PendingQuery) -> Result<PendingPage> {
        unreachable!("intake does not ask for it")
    }
    async fn pending_entry(&self, _: usize, _: EntryId) -> Result<Option<PendingRow>> {
        unreachable!("intake does not ask for it")
    }
    async fn dead(&self, _: EntryId, _: usize) -> Result<Vec<DeadRow>> {
        unreachable!("intake does not ask for it")
    }
    async fn dead_entry(&self, _: EntryId) -> Result<Option<DeadRow>> {
        unreachable!("intake does not ask for it")
    }
    async fn discard(&self, _: usize, _: &[EntryId]) -> Result<Vec<Fate>> {
        unreachable!("intake does not ask for it")
    }
    async fn kill(&self, _: usize, _: &[EntryId], _: &str) -> Result<Vec<Fate>> {
        unreachable!("intake does not ask for it")
    }
    async fn release(&self, _: usize, _: &[EntryId]) -> Result<Vec<Fate>> {
        unreachable!("intake does not ask for it")
    }
    async fn redrive(&self, _: &[EntryId]) -> Result<Vec<Fate>> {
        unreachable!("intake does not ask for it")
    }
    async fn purge(&self, _: &[EntryId]) -> Result<Vec<Fate>> {
        unreachable!("intake does not ask for it")
    }
    async fn janitor(&self, _: Duration, _: Duration) -> Result<Swept> {
        unreachable!("intake does not ask for it")
    }
    async fn retire(&self, _: usize, _: &str) -> Result<u64> {
        unreachable!("intake does not ask for it")
    }
    async fn aggregates(&self, _: usize) -> Result<Aggregates> {
        unreachable!("intake does not ask for it")
    }
    async fn session(&self, _: &[u8]) -> Result<Option<u64>> {
        unreachable!("intake does not ask for it")
    }
    async fn peek(&self, _: usize, _: EntryId, _: usize) -> Result<Vec<Record>> {
        unreachable!("intake does not ask for it")
    }
    async fn beat(&self, _: &str, _: Duration) -> Result<Vec<String>> {
        unreachable!("intake does not ask for it")
    }
    async fn leave(&self, _: &str) -> Result<()> {
        unreachable!("intake does not ask for it")
    }
    async fn server(&self) -> Result<Server> {
        unreachable!("intake does not ask for it")
    }
}

/// Wall time that follows tokio's paused time.
struct Wall {
    start: Instant,
}

const WALL_START_US: u64 = 1_700_000_000_000_000;

impl Clock for Wall {
    fn now_us(&self) -> u64 {
        WALL_START_US + u64::try_from(self.start.elapsed().as_micros()).unwrap()
    }
}

/// A running intake and everything around it.
struct Scene {
    door: Arc<Door>,
    handle: Arc<SourceHandle>,
    pressure: watch::Sender<Option<String>>,
    stop: CancellationToken,
    start: Instant,
    tasks: tokio::task::JoinSet<()>,
}

fn scene(rate: f64, limit: Option<u64>, dedupe: Option<Duration>) -> Scene {
    scene_of("event_id", rate, limit, dedupe)
}

fn scene_of(id_field: &str, rate: f64, limit: Option<u64>, dedupe: Option<Duration>) -> Scene {
    let door = Arc::new(Door::default());
    let handle = Arc::new(SourceHandle {
        name: "users".into(),
        kind: "generator",
        ..SourceHandle::default()
    });
    let (pressure, receiver) = watch::channel(None);
    let stop = CancellationToken::new();
    let config = config::Generator {
        rate,
        seed: 7,
        users: 100,
        products: 10,
        limit,
    };
    let start = Instant::now();
    let intake = Intake {
        generator: Generator::new(&config, &event(), 1),
        rate,
        limit,
        id_field: id_field.into(),
        dedupe,
        admin: Arc::clone(&door) as Arc<dyn Admin>,
        clock: Arc::new(Wall { start }),
        handle: Arc::clone(&handle),
        pressure: receiver,
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(intake.run(stop.clone()));
    Scene {
        door,
        handle,
        pressure,
        stop,
        start,
        tasks,
    }
}

const WINDOW: Option<Duration> = Some(Duration::from_secs(3_600));

impl Scene {
    async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    fn sent(&self) -> u64 {
        self.handle.sent.load(Ordering::Relaxed)
    }

    fn rejected(&self) -> u64 {
        self.handle.rejected.load(Ordering::Relaxed)
    }

    fn state(&self) -> (&'static str, Option<String>) {
        self.handle.state.lock().unwrap().clone()
    }

    async fn ends(&mut self) {
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

fn down() -> Option<StoreError> {
    Some(StoreError::Unavailable("connection refused".into()))
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_exact_over_ten_seconds() {
    for rate in [0.5, 1.0, 7.0, 333.0, 1_000.0, 20_000.0] {
        let mut scene = scene(rate, None, WINDOW);
        scene.pass(10.002).await;
        // What is due at the instant that the scene has reached; the last tick may be still to come.
        let want = (10.002 * rate) as u64 + 1;
        let slack = (rate * 0.008).ceil() as u64;
        assert!(
            scene.sent() <= want && scene.sent() + slack >= want,
            "{rate}/s: {} of {want}",
            scene.sent()
        );
        assert_eq!(scene.rejected(), 0);
        assert_eq!(scene.state(), ("running", None));
        {
            let state = scene.door.state();
            assert_eq!(state.added.len() as u64, scene.sent());
            for (k, (at, event)) in state.added.iter().enumerate() {
                let meant_us = WALL_START_US + (k as f64 * 1e6 / rate) as u64;
                let fields = Record {
                    id: EntryId::MIN,
                    fields: event.fields.clone(),
                };
                let stamp: u64 = fields.text("_t").unwrap().parse().unwrap();
                assert!(
                    stamp.abs_diff(meant_us) <= 1,
                    "{rate}/s: event {k} is stamped {stamp}, meant for {meant_us}"
                );
                let sent_us = WALL_START_US + (*at - scene.start).as_micros() as u64;
                assert!(
                    sent_us >= stamp && sent_us - stamp <= 7_000,
                    "sent within a tick of the intended time"
                );
            }
            assert!(
                state
                    .calls
                    .iter()
                    .all(|(_, n, checked)| *n <= 500 && !checked)
            );
        }
        scene.stop.cancel();
        scene.ends().await;
    }
}

#[tokio::test(start_paused = true)]
async fn at_low_rates_events_go_one_by_one() {
    let scene = scene(50.0, None, WINDOW);
    scene.pass(2.0).await;
    assert!(scene.door.state().calls.iter().all(|(_, n, _)| *n == 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_does_not_slow_the_rate_down() {
    let scene = scene(1_000.0, None, WINDOW);
    scene.door.state().delay = Duration::from_millis(200);
    scene.pass(10.0).await;
    assert!((9_600..=10_001).contains(&scene.sent()), "{}", scene.sent());
    assert_eq!(scene.rejected(), 0);
    let state = scene.door.state();
    let (at, event) = state.added.last().unwrap();
    let stamp: u64 = Record {
        id: EntryId::MIN,
        fields: event.fields.clone(),
    }
    .text("_t")
    .unwrap()
    .parse()
    .unwrap();
    let late_us = WALL_START_US + (*at - scene.start).as_micros() as u64 - stamp;
    assert!(
        late_us >= 200_000,
        "the stall is seen in the stamps: {late_us}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_too_slow_store_cannot_take_is_refused_and_not_piled_up() {
    let scene = scene(10_000.0, None, WINDOW);
    // 500 each 100 ms: half of what is wanted.
    scene.door.state().delay = Duration::from_millis(100);
    scene.pass(60.0).await;
    assert!(
        (290_000..=300_500).contains(&scene.sent()),
        "{}",
        scene.sent()
    );
    assert!(
        (270_000..=300_000).contains(&scene.rejected()),
        "{}",
        scene.rejected()
    );
    for (at, event) in &scene.door.state().added {
        let stamp: u64 = Record {
            id: EntryId::MIN,
            fields: event.fields.clone(),
        }
        .text("_t")
        .unwrap()
        .parse()
        .unwrap();
        let sent_us = WALL_START_US + (*at - scene.start).as_micros() as u64;
        assert!(
            sent_us - stamp <= 2_200_000,
            "nothing older than two seconds is sent"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn under_pressure_events_are_refused_and_not_sent_later() {
    let mut scene = scene(1_000.0, None, WINDOW);
    scene.pass(2.0).await;
    let before = scene.sent();
    scene
        .pressure
        .send_replace(Some("memory is at 90 % of maxmemory".into()));
    scene.pass(3.0).await;
    assert_eq!(scene.sent(), before);
    assert!(
        (2_950..=3_010).contains(&scene.rejected()),
        "{}",
        scene.rejected()
    );
    assert_eq!(
        scene.state(),
        (
            "backpressure",
            Some("memory is at 90 % of maxmemory".into())
        )
    );
    assert!(
        scene.door.state().n_booked > 0,
        "refusals are in the ledger while it lasts"
    );

    scene.pressure.send_replace(None);
    scene.pass(2.0).await;
    assert!(
        (1_990..=2_010).contains(&(scene.sent() - before)),
        "no more and no less than the rate"
    );
    assert_eq!(scene.state(), ("running", None));
    let rejected = scene.rejected();
    scene.pass(1.0).await;
    assert_eq!(scene.rejected(), rejected);
    scene.stop.cancel();
    scene.ends().await;
    assert_eq!(
        scene.door.state().n_booked,
        scene.rejected(),
        "each refusal is booked once"
    );
}

#[tokio::test(start_paused = true)]
async fn pressure_shows_at_once_even_at_a_low_rate() {
    let scene = scene(0.01, None, WINDOW);
    scene.pass(1.0).await;
    assert_eq!(scene.sent(), 1);
    scene.pressure.send_replace(Some("lag".into()));
    scene.pass(0.01).await;
    assert_eq!(scene.state().0, "backpressure");
    scene.pressure.send_replace(None);
    scene.pass(0.01).await;
    assert_eq!(scene.state().0, "running");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_went_away_leaves_the_last_word() {
    let scene = scene(100.0, None, WINDOW);
    let Scene {
        pressure, handle, ..
    } = &scene;
    pressure.send_replace(None);
    let sent = || handle.sent.load(Ordering::Relaxed);
    scene.pass(0.5).await;
    let before = sent();
    let Scene {
        door,
        tasks: _tasks,
        pressure,
        start,
        stop: _stop,
        ..
    } = scene;
    drop(pressure);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(start.elapsed().as_millis(), 1_500);
    let n_added = door.state().added.len() as u64;
    assert!(
        (99..=101).contains(&(n_added - before)),
        "{n_added} - {before}"
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_events_are_refused_and_it_is_not_hammered() {
    let mut scene = scene(1_000.0, None, None);
    scene.pass(1.0).await;
    let before = scene.sent();
    let n_calls = scene.door.state().calls.len();
    scene.door.state().failing = down();
    scene.pass(10.0).await;
    assert_eq!(scene.sent(), before);
    assert!(
        (9_980..=10_010).contains(&scene.rejected()),
        "{}",
        scene.rejected()
    );
    assert_eq!(
        scene.state(),
        ("waiting", Some("connection refused".into()))
    );
    let n_tries = scene.door.state().calls.len() - n_calls;
    assert!(n_tries <= 12, "{n_tries} tries in ten seconds");

    scene.door.state().failing = None;
    scene.pass(4.0).await;
    let rate = (scene.sent() - before) as f64;
    assert!(
        (2_000.0..=4_010.0).contains(&rate),
        "it is back within two seconds: {rate}"
    );
    assert_eq!(scene.state(), ("running", None));
    scene.stop.cancel();
    scene.ends().await;
    assert_eq!(scene.door.state().n_booked, scene.rejected());
}

#[tokio::test(start_paused = true)]
async fn a_full_server_is_back_pressure_and_nothing_is_in_doubt() {
    let scene = scene(1_000.0, None, WINDOW);
    scene.pass(1.0).await;
    scene.door.state().failing = Some(StoreError::OutOfMemory("used 2 GiB of 2 GiB".into()));
    scene.pass(5.0).await;
    assert_eq!(scene.state().0, "waiting");
    assert!(
        scene
            .door
            .state()
            .calls
            .iter()
            .all(|(_, _, checked)| !checked)
    );
}

fn ids(state: &State) -> Vec<[u8; 16]> {
    state
        .added
        .iter()
        .map(|(_, event)| event.event_id.unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_answer_the_batch_is_sent_again_with_a_check() {
    for knows_ids in [true, false] {
        let scene = scene(1_000.0, None, WINDOW);
        scene.pass(1.0).await;
        {
            let mut state = scene.door.state();
            state.loses_next_answer = true;
            state.knows_ids = knows_ids;
        }
        scene.pass(1.0).await;
        let state = scene.door.state();
        let checked: Vec<_> = state
            .calls
            .iter()
            .filter(|(_, _, checked)| *checked)
            .collect();
        assert_eq!(checked.len(), 1, "one try was enough");
        let n_doubt = checked[0].1 as u64;
        let mut added = ids(&state);
        let n_added = added.len() as u64;
        added.sort_unstable();
        added.dedup();
        assert_eq!(
            added.len() as u64,
            scene.sent(),
            "sent says how many different events are in the stream"
        );
        let n_twice = n_added - added.len() as u64;
        assert_eq!(
            n_twice,
            if knows_ids { 0 } else { n_doubt },
            "what is there twice has the same id, and the first stage sees it"
        );
        assert!(
            scene.rejected() <= 110,
            "only what was due while it waited: {}",
            scene.rejected()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_id_window_nothing_is_sent_twice() {
    let scene = scene(1_000.0, None, None);
    scene.pass(1.0).await;
    scene.door.state().loses_next_answer = true;
    scene.pass(1.0).await;
    let state = scene.door.state();
    assert!(state.calls.iter().all(|(_, _, checked)| !checked));
    let mut added = ids(&state);
    let n_added = added.len();
    added.sort_unstable();
    added.dedup();
    assert_eq!(added.len(), n_added);
    assert!(
        scene.sent() < n_added as u64,
        "the batch in doubt is not counted as sent"
    );
}

#[tokio::test(start_paused = true)]
async fn events_without_ids_are_never_sent_twice() {
    let scene = scene_of("", 1_000.0, None, WINDOW);
    scene.pass(1.0).await;
    scene.door.state().loses_next_answer = true;
    scene.pass(1.0).await;
    let state = scene.door.state();
    assert!(state.calls.iter().all(|(_, _, checked)| !checked));
    assert!(
        scene.sent() < state.added.len() as u64,
        "the batch in doubt is not counted as sent"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_at_the_end_counts_as_rejected() {
    let mut scene = scene(0.5, None, WINDOW);
    scene.door.state().failing = down();
    scene.pass(1.0).await;
    assert_eq!(scene.rejected(), 0, "the first event is in doubt");
    scene.door.state().failing = None;
    scene.stop.cancel();
    scene.ends().await;
    assert_eq!((scene.sent(), scene.rejected()), (0, 1));
    assert_eq!(
        scene.door.state().n_booked,
        1,
        "and is booked, as the store is back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_doubt_is_given_up_before_the_window_forgets_it() {
    let table = [
        (WINDOW, 30.0, 35.0),
        (Some(Duration::from_secs(10)), 5.0, 8.0),
    ];
    for (window, give_up_s, watched_s) in table {
        let scene = scene(100.0, None, window);
        scene.pass(1.0).await;
        scene.door.state().failing = down();
        let began = Instant::now();
        scene.pass(watched_s).await;
        let state = scene.door.state();
        let again: Vec<_> = state
            .calls
            .iter()
            .filter(|(_, _, checked)| *checked)
            .map(|(at, _, _)| (*at - began).as_secs_f64())
            .collect();
        let last = *again.last().unwrap();
        assert!((give_up_s - 2.1..give_up_s).contains(&last), "{again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_ends_it_exactly() {
    for (limit, rate) in [(1, 1_000.0), (777, 1_000.0), (1_234, 100_000.0), (0, 10.0)] {
        let mut scene = scene(rate, Some(limit), WINDOW);
        scene.ends().await;
        assert_eq!(scene.sent(), limit);
        assert_eq!(scene.door.state().added.len() as u64, limit);
        assert_eq!(
            scene.state(),
            ("done", Some(format!("sent {limit} events")))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_counts_what_was_sent_even_after_an_outage() {
    let mut scene = scene(1_000.0, Some(3_000), WINDOW);
    scene.pass(1.0).await;
    scene.door.state().failing = down();
    scene.pass(3.0).await;
    {
        let mut state = scene.door.state();
        state.failing = None;
        state.loses_next_answer = true;
        state.knows_ids = true;
    }
    scene.ends().await;
    let mut added = ids(&scene.door.state());
    added.sort_unstable();
    added.dedup();
    assert_eq!(added.len(), 3_000);
    assert_eq!(scene.door.state().n_booked, scene.rejected());
}

#[tokio::test(start_paused = true)]
async fn it_stops_promptly_even_when_the_store_hangs() {
    let table = [
        ("idle", 0.01, 0),
        ("busy", 20_000.0, 0),
        ("slow", 1_000.0, 300),
        ("hangs", 1_000.0, 3_600_000),
    ];
    for (desc, rate, delay_ms) in table {
        let mut scene = scene(rate, None, WINDOW);
        scene.pass(1.0).await;
        scene.door.state().delay = Duration::from_millis(delay_ms);
        scene.pass(1.0).await;
        let asked = Instant::now();
        scene.stop.cancel();
        scene.ends().await;
        assert!(
            asked.elapsed() <= 2 * LAST_CALL,
            "{desc}: {:?}",
            asked.elapsed()
        );
        assert_eq!(scene.state(), ("done", Some("stopped".into())));
        let n_added = scene.door.state().added.len();
        scene.pass(10.0).await;
        assert_eq!(
            scene.door.state().added.len(),
            n_added,
            "{desc}: nothing is sent after the end"
        );
    }
}

#[test]
fn a_tick_is_short_only_where_it_brings_enough_events() {
    for (rate, want_us) in [
        (0.001, 5_000),
        (1_000.0, 5_000),
        (4_000.0, 2_500),
        (10_000.0, 1_000),
        (1e6, 1_000),
    ] {
        assert_eq!(tick(rate), Duration::from_micros(want_us), "{rate}/s");
    }
}
