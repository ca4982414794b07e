//! Lives a scenario: a world in memory, its daemons, their weather, operators and third parties, all in virtual time on one
//! thread. After the last step everything is healed; then the pipeline has to come to rest and its books to agree.
//!
//! Past 400 lines because one `act` has an arm for each kind of step.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::config::{self, Config};
use pipelined::chaos::{Precaution, Weathered};
use pipelined::record::{EntryId, FIELD_PARSE_ERROR, Fields, event_id};
use pipelined::runtime::{Drained, Intake, Runtime, SourceHandle, layout};
use pipelined::sources::Generator;
use pipelined::store::memory::{Guard, Meddler as _};
use pipelined::store::{Admission, Layout, PendingQuery, Store};
use pipelined::world::{TestWorld, World};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::history::History;
use super::recorder::Watched;
use super::scenario::{Event, KEYS, Kind, Meddle, Op, Pipe, Scenario, Step, What};
use super::weather::Sky;

/// How long a healed world may take to come to rest, in virtual time: a lookup's longest rest, a back-off, a claim and
/// several rounds of the janitor, many times over.
const REST_MAX: Duration = Duration::from_secs(180);
/// Grace of a drain.
const GRACE: Duration = Duration::from_secs(20);
/// Name of a foreign reader.
const THIEF: &str = "thief";

/// What is left out, to see whether it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    Guard(Guard),
    Precaution(Precaution),
}

impl Without {
    /// Everything that can be left out.
    pub(crate) fn all() -> Vec<Self> {
        let guards = Guard::ALL.iter().copied().map(Self::Guard);
        let precautions = Precaution::ALL.iter().copied().map(Self::Precaution);
        guards.chain(precautions).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Guard(guard) => guard.name(),
            Self::Precaution(precaution) => precaution.name(),
        }
    }
}

/// How a life went.
pub(crate) struct Outcome {
    /// Of every line of the history.
    pub(crate) hash: u64,
    pub(crate) violation: Option<String>,
    /// The history, where it was asked for.
    pub(crate) lines: Vec<String>,
}

/// Lives it to its end, on a thread and a runtime of its own. A panic is a violation, too.
pub(crate) fn live(scenario: &Scenario, without: Without, traced: bool) -> Outcome {
    let lived = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut life = Life::new(scenario, without, traced);
            life.run(&scenario.steps).await;
            let mut history = life.history.lock();
            Outcome {
                hash: history.hash(),
                violation: history.violation(),
                lines: history.take_lines(),
            }
        })
    });
    lived.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            hash: 0,
            violation: Some(format!("a panic: {}", text.unwrap_or_default())),
            lines: vec![],
        }
    })
}

/// One machine.
struct Daemon {
    place: TestWorld,
    sky: Arc<Sky>,
    store: Arc<dyn Store>,
    running: Option<Running>,
    /// A drain under way; the next start waits for its end, as the lock of the data folder makes it.
    draining: JoinSet<()>,
}

struct Running {
    runtime: Runtime,
    world: World,
    stop_sources: CancellationToken,
    sources: JoinSet<()>,
    n_sources: u64,
}

/// What ends by itself some time after it began.
#[derive(Clone)]
enum Undo {
    Release { daemon: usize, consumer: String },
    Resume { daemon: usize, stage: usize },
    LookupBack,
    LookupFast,
    MendKey(u8),
    Unspoil,
}

struct Life {
    config: Config,
    layout: Arc<Layout>,
    seed: u64,
    without: Without,
    first: TestWorld,
    history: History,
    /// The store, watched and without weather: what the test itself asks.
    store: Watched,
    daemons: Vec<Daemon>,
    undo: BTreeMap<(u64, usize), Undo>,
    n_undo: usize,
    /// People and clients; each has a limit of its own.
    people: JoinSet<()>,
    /// A counter that was spoilt: its right value.
    spoilt: Option<String>,
    /// The same at the instants that the store remembers.
    kept_spoilt: Vec<Option<String>>,
    /// What was belated has come by then.
    aftermath: Duration,
    /// Whether daemons that are down in the end stay down.
    gone: bool,
    /// Whether anybody else laid hands on the store.
    meddled: bool,
    failures: Arc<Mutex<Vec<String>>>,
}

/// The configuration of a pipeline, through the same door as a person's.
fn configure(pipe: &Pipe) -> Config {
    let mut text = String::from("name = \"sim\"\n");
    let window = if pipe.window { "1h" } else { "0s" };
    let (least, most) = pipe.backoff_ms;
    let _ = write!(
        text,
        "retry = {{ attempts = {}, backoff = \"{least}ms..{most}ms\" }}\n[event]\ndedupe = {{ window = \"{window}\" }}\n",
        pipe.attempts
    );
    for (i, stage) in pipe.stages.iter().enumerate() {
        let from = stage
            .from
            .map_or_else(|| "events".to_owned(), |i| format!("s{i}"));
        let delivery = if stage.owned { "owned" } else { "shared" };
        let count = format!(r#"{{ kind = "count", key = "user_id", into = "n{i}" }}"#);
        let chain: Vec<&str> = stage
            .chain
            .iter()
            .map(|op| match op {
                Op::Validate => r#"{ kind = "validate", required = ["ts"] }"#,
                Op::Filter => r#"{ kind = "filter", keep = "event_type != \"unwanted\"" }"#,
                Op::Lookup => {
                    r#"{ kind = "lookup", key = "user_id", stale_ok = "0s", cache = { ttl = "50ms", negative_ttl = "0s" } }"#
                }
                Op::Count => count.as_str(),
                Op::Aggregate => r#"{ kind = "aggregate" }"#,
            })
            .collect();
        let _ = write!(
            text,
            "[stage.s{i}]\nfrom = \"{from}\"\ndelivery = \"{delivery}\"\nworkers = {}\nbatch = {}\nprefetch = {}\nclaim_after = \"{}ms\"\ntimeout = \"{}ms\"\noperators = [{}]\n",
            stage.workers,
            stage.batch,
            stage.prefetch,
            stage.claim_after_ms,
            stage.timeout_ms,
            chain.join(", ")
        );
    }
    let input = config::Input {
        file_name: "pipeline.toml".to_owned(),
        text,
        env: Vec::new(),
        sets: Vec::new(),
    };
    let mut config = match config::load(&input) {
        Ok(loaded) => loaded.config,
        Err(faults) => panic!("{faults:?}\n{}", input.text),
    };
    // Shorter than a person may say, so that trimming follows on the heels of every group.
    config.retention.keep = Duration::from_millis(pipe.keep_ms);
    config
}

fn fields(event: Event) -> Fields {
    let n = event.n;
    let mut fields: Vec<(Bytes, Bytes)> = vec![
        ("event_id".into(), format!("e{n}").into()),
        ("user_id".into(), format!("k{}", event.key).into()),
    ];
    let mut add =
        |name: &'static str, value: String| fields.push((name.into(), Bytes::from(value)));
    let kind = if event.kind == Kind::Unwanted {
        "unwanted"
    } else {
        "click"
    };
    add("event_type", kind.to_owned());
    add("product", format!("p{}", n % 3));
    add("value", format!("{}.{}0", n % 5, n % 10));
    if event.kind != Kind::Poison {
        add("ts", format!("{}", 1_700_000_000_000 + u64::from(n)));
    }
    if event.kind == Kind::Unparsed {
        fields.push((
            Bytes::from_static(FIELD_PARSE_ERROR),
            Bytes::from_static(b"it is no JSON"),
        ));
    }
    fields
}

fn name_of(event: Event) -> Bytes {
    format!("e{}", event.n).into()
}

impl Life {
    fn new(scenario: &Scenario, without: Without, traced: bool) -> Self {
        let config = configure(&scenario.pipe);
        let layout = Arc::new(layout(&config));
        let first = World::test((*layout).clone(), scenario.seed);
        if let Without::Guard(guard) = without {
            first.memory.leave_out(guard);
        }
        for key in 0..KEYS {
            first.profiles.set(
                format!("k{key}"),
                vec![("tier".into(), format!("t{key}").into())],
            );
        }
        let history = History::new(Arc::clone(&layout), &config.event.key, traced);
        let store = Watched {
            inner: Arc::new(first.memory.clone()),
            history: history.clone(),
        };
        let daemons = (0..scenario.daemons)
            .map(|i| {
                let seed = scenario.seed.wrapping_mul(31).wrapping_add(i as u64);
                let sky = Arc::new(Sky::new(seed));
                let place = first.beside(seed);
                Daemon {
                    store: Arc::new(Weathered::new(Arc::new(store.clone()), sky.clone())),
                    place,
                    sky,
                    running: None,
                    draining: JoinSet::new(),
                }
            })
            .collect();
        Self {
            config,
            layout,
            seed: scenario.seed,
            without,
            first,
            history,
            store,
            daemons,
            undo: BTreeMap::new(),
            n_undo: 0,
            people: JoinSet::new(),
            spoilt: None,
            kept_spoilt: Vec::new(),
            aftermath: Duration::from_millis(scenario.aftermath_ms()),
            gone: scenario.gone,
            meddled: false,
            failures: Arc::default(),
        }
    }

    fn tell(&self, what: &str) {
        self.history.lock().tell("*", format_args!("{what}"));
    }

    fn violated(&self) -> bool {
        self.history.lock().violation().is_some()
    }

    fn violate(&self, what: String) {
        self.history.lock().violate(what);
    }

    async fn run(&mut self, steps: &[Step]) {
        let began = Instant::now();
        for daemon in 0..self.daemons.len() {
            self.start(daemon).await;
        }
        let mut steps = steps.iter().peekable();
        loop {
            let next_step = steps.peek().map(|step| step.at_ms);
            let next_undo = self.undo.keys().next().map(|(at_ms, _)| *at_ms);
            let Some(at_ms) = next_step.into_iter().chain(next_undo).min() else {
                break;
            };
            sleep_until(began + Duration::from_millis(at_ms)).await;
            if self.violated() {
                return;
            }
            if next_undo == Some(at_ms) {
                if let Some((_, undo)) = self.undo.pop_first() {
                    self.end(&undo).await;
                }
            } else if let Some(step) = steps.next() {
                self.tell(&format!("{:?}", step.what));
                self.act(at_ms, &step.what).await;
            }
        }
        self.heal().await;
        if !self.violated() {
            self.rest().await;
        }
    }

    fn after(&mut self, at_ms: u64, undo: Undo) {
        self.n_undo += 1;
        self.undo.insert((at_ms, self.n_undo), undo);
    }

    fn consumer(&self, daemon: usize, stage: usize, worker: u32) -> String {
        format!("d{daemon}-{}-{worker}", self.layout.stages[stage].name)
    }

    async fn start(&mut self, at: usize) {
        let daemon = &mut self.daemons[at];
        if daemon.running.is_some() {
            return;
        }
        while daemon.draining.join_next().await.is_some() {}
        // A place of its own each time, but for the machine's clock: the fault board dies with the process.
        let mut world = daemon.place.beside(self.seed ^ at as u64).world;
        world.clock = Arc::new(daemon.place.clock.clone());
        world.store = Arc::clone(&daemon.store);
        if let Without::Precaution(precaution) = self.without {
            world.faults.leave_out(precaution);
        }
        // As `app` does: it makes ready first, and goes on where that takes too long.
        let _ = timeout(Duration::from_millis(100), world.store.admin().prepare()).await;
        let instance = format!("d{at}");
        let sources = vec![Arc::new(SourceHandle::default())];
        let runtime = Runtime::start(&self.config, &self.layout, &world, &instance, sources);
        daemon.running = Some(Running {
            runtime,
            world,
            stop_sources: CancellationToken::new(),
            sources: JoinSet::new(),
            n_sources: 0,
        });
    }

    /// What a daemon's own account says, at its end.
    fn audit(running: &Running, failures: &Mutex<Vec<String>>, meddled: bool) {
        let mut said = Vec::new();
        for event in running.world.journal.last(1_000) {
            if event.name == "worker.failed" {
                said.push(event.message);
            }
        }
        if !meddled {
            for stage in running.runtime.handle().stages.iter() {
                let meter = &stage.meter;
                let of = pipelined::runtime::StageMeter::get;
                let (foreign, again) = (of(&meter.not_pending), of(&meter.redelivered));
                if foreign + again > 0 {
                    said.push(format!(
                        "stage {} raised an alarm ({foreign} acknowledged by others, {again} delivered again), but nobody meddled",
                        stage.name
                    ));
                }
            }
        }
        failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(said);
    }

    /// kill -9: nothing of it runs on.
    async fn crash(&mut self, at: usize) {
        let meddled = self.meddled;
        let daemon = &mut self.daemons[at];
        daemon.draining.shutdown().await;
        if let Some(running) = daemon.running.take() {
            Self::audit(&running, &self.failures, meddled);
            drop(running);
        }
        // Tasks of tasks are dropped one after the other.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    fn drain(&mut self, at: usize) {
        let meddled = self.meddled;
        let failures = Arc::clone(&self.failures);
        let daemon = &mut self.daemons[at];
        let Some(mut running) = daemon.running.take() else {
            return;
        };
        let history = self.history.clone();
        daemon.draining.spawn(async move {
            running.stop_sources.cancel();
            let all = async { while running.sources.join_next().await.is_some() {} };
            if timeout(GRACE, all).await.is_err() {
                running.sources.shutdown().await;
            }
            Self::audit(&running, &failures, meddled);
            let drained = running.runtime.drain(GRACE).await;
            history
                .lock()
                .tell("*", format_args!("d{at} drained: {drained:?}"));
        });
    }

    async fn act(&mut self, at_ms: u64, what: &What) {
        match what {
            What::Foreign(events) => {
                for event in events {
                    let source = self.layout.source.clone();
                    self.first.memory.add(&source, fields(*event)).await;
                    self.history.lock().sent(&name_of(*event));
                }
            }
            What::Door {
                daemon,
                checked,
                events,
            } => self.door(*daemon, *checked, events),
            What::Source { daemon, n, rate } => self.source(*daemon, *n, *rate),
            What::Crash { daemon } => self.crash(*daemon).await,
            What::Drain { daemon } => self.drain(*daemon),
            What::Start { daemon } => self.start(*daemon).await,
            What::Park {
                daemon,
                stage,
                worker,
                point,
                for_ms,
            } => {
                let consumer = self.consumer(*daemon, *stage, *worker);
                if let Some(running) = &self.daemons[*daemon].running {
                    running.world.faults.park(&consumer, *point);
                }
                let daemon = *daemon;
                self.after(at_ms + for_ms, Undo::Release { daemon, consumer });
            }
            What::Storm {
                daemon,
                kind,
                for_ms,
            } => {
                let until = Instant::now() + Duration::from_millis(*for_ms);
                self.daemons[*daemon].sky.storm(*kind, until);
            }
            What::Cut => self.cut(),
            What::Pause {
                daemon,
                stage,
                for_ms,
            } => {
                let (daemon, stage) = (*daemon, *stage);
                self.pause(daemon, stage, true);
                self.after(at_ms + for_ms, Undo::Resume { daemon, stage });
            }
            What::Scale {
                daemon,
                stage,
                workers,
            } => {
                if let Some(running) = &self.daemons[*daemon].running {
                    let handle = running.runtime.handle();
                    handle.stages[*stage].wanted.send_replace(*workers);
                }
            }
            What::Claim {
                daemon,
                stage,
                n,
                min_idle_ms,
            } => self.claim(*daemon, *stage, *n, *min_idle_ms).await,
            What::RetryNow { stage, n } => {
                let ids = self.pending(*stage, *n).await;
                let (admin, stage) = (self.daemons[0].store.admin(), *stage);
                self.person(async move { admin.release(stage, &ids).await.map(drop) });
            }
            What::Discard { stage, nth } => {
                let ids = self.one_pending(*stage, *nth).await;
                let (admin, stage) = (self.daemons[0].store.admin(), *stage);
                self.person(async move { admin.discard(stage, &ids).await.map(drop) });
            }
            What::Kill { stage, nth } => {
                let ids = self.one_pending(*stage, *nth).await;
                let (admin, stage) = (self.daemons[0].store.admin(), *stage);
                self.person(async move { admin.kill(stage, &ids, "not wanted").await.map(drop) });
            }
            What::Redrive { nth, twice } => {
                let ids = self.one_dead(*nth).await;
                for _ in 0..=u8::from(*twice) {
                    let (admin, ids) = (self.daemons[0].store.admin(), ids.clone());
                    self.person(async move { admin.redrive(&ids).await.map(drop) });
                }
            }
            What::Purge { nth } => {
                let ids = self.one_dead(*nth).await;
                let admin = self.daemons[0].store.admin();
                self.person(async move { admin.purge(&ids).await.map(drop) });
            }
            What::LookupAway { for_ms } => {
                self.first.profiles.fail(Some("connection refused"));
                self.after(at_ms + for_ms, Undo::LookupBack);
            }
            What::LookupSlow { delay_ms, for_ms } => {
                self.first.profiles.slow(Duration::from_millis(*delay_ms));
                self.after(at_ms + for_ms, Undo::LookupFast);
            }
            What::BreakKey { key, for_ms } => {
                self.first.profiles.break_key(format!("k{key}"));
                self.after(at_ms + for_ms, Undo::MendKey(*key));
            }
            What::Meddle(meddle) => self.meddle(at_ms, meddle).await,
        }
    }

    /// Somebody's act, with the patience of a person.
    fn person(&mut self, act: impl Future<Output = pipelined::store::Result<()>> + Send + 'static) {
        while self.people.try_join_next().is_some() {}
        self.people.spawn(async move {
            // What came of it is in the history.
            let _ = timeout(Duration::from_secs(5), act).await;
        });
    }

    /// A client of a door sends the same events again until they are taken.
    fn door(&mut self, daemon: usize, checked: bool, events: &[Event]) {
        let admissions: Vec<Admission> = events
            .iter()
            .map(|event| Admission {
                event_id: Some(event_id(&name_of(*event))),
                fields: fields(*event),
            })
            .collect();
        let admin = self.daemons[daemon].store.admin();
        let has_window = self.layout.dedupe.is_some();
        self.person(async move {
            let mut checked = checked;
            loop {
                match admin.admit(&admissions, checked).await {
                    Ok(_) => return Ok(()),
                    Err(error) if !has_window => return Err(error),
                    Err(_) => checked = true,
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
    }

    fn source(&mut self, at: usize, n: u64, rate: f64) {
        let daemon = &mut self.daemons[at];
        let Some(running) = &mut daemon.running else {
            return;
        };
        running.n_sources += 1;
        let generator = config::Generator {
            rate,
            seed: self.seed ^ running.n_sources,
            users: 3,
            products: 3,
            limit: Some(n),
        };
        let nonce = running.world.clock.now_us() ^ ((at as u64) << 56);
        // No pressure: doors that shed load are tested elsewhere.
        let (_, pressure) = watch::channel(None);
        let intake = Intake {
            generator: Generator::new(&generator, &self.config.event, nonce),
            rate,
            limit: generator.limit,
            id_field: self.config.event.id.clone(),
            dedupe: self.layout.dedupe.map(|dedupe| dedupe.window),
            admin: running.world.store.admin(),
            clock: Arc::clone(&running.world.clock),
            handle: Arc::default(),
            pressure,
        };
        running
            .sources
            .spawn(intake.run(running.stop_sources.clone()));
    }

    async fn pending(&self, stage: usize, n_max: usize) -> Vec<EntryId> {
        let query = PendingQuery {
            n_max,
            ..PendingQuery::default()
        };
        let page = self.store.admin().pending(stage, &query).await;
        page.map(|page| page.rows.iter().map(|row| row.id).collect())
            .unwrap_or_default()
    }

    async fn one_pending(&self, stage: usize, nth: usize) -> Vec<EntryId> {
        let ids = self.pending(stage, 1_000).await;
        pick(&ids, nth).into_iter().collect()
    }

    async fn one_dead(&self, nth: usize) -> Vec<EntryId> {
        let rows = self.store.admin().dead(EntryId::MAX, 1_000).await;
        let ids: Vec<EntryId> = rows.unwrap_or_default().iter().map(|row| row.id).collect();
        pick(&ids, nth).into_iter().collect()
    }

    async fn claim(&mut self, daemon: usize, stage: usize, n: usize, min_idle_ms: u64) {
        let ids = self.pending(stage, n).await;
        let Some(running) = &self.daemons[daemon].running else {
            return;
        };
        if ids.is_empty() {
            return;
        }
        let handle = Arc::clone(&running.runtime.handle().stages[stage]);
        let history = self.history.clone();
        self.person(async move {
            let min_idle = Duration::from_millis(min_idle_ms);
            let answer = handle.hand_over(ids, min_idle, None).await;
            history
                .lock()
                .tell("operator", format_args!("claims: {answer:?}"));
            Ok(())
        });
    }

    fn pause(&self, daemon: usize, stage: usize, paused: bool) {
        if let Some(running) = &self.daemons[daemon].running {
            let handle = running.runtime.handle();
            handle.stages[stage].paused.set(paused);
        }
    }

    fn cut(&self) {
        for daemon in &self.daemons {
            daemon.sky.cut();
        }
    }

    async fn end(&mut self, undo: &Undo) {
        match undo {
            Undo::Release { daemon, consumer } => {
                if let Some(running) = &self.daemons[*daemon].running {
                    running.world.faults.release(consumer);
                }
            }
            Undo::Resume { daemon, stage } => self.pause(*daemon, *stage, false),
            Undo::LookupBack => self.first.profiles.fail(None),
            Undo::LookupFast => self.first.profiles.slow(Duration::ZERO),
            Undo::MendKey(key) => self.first.profiles.mend_key(format!("k{key}").as_bytes()),
            Undo::Unspoil => {
                if let Some(right) = self.spoilt.take() {
                    let counts = self.layout.key("counts");
                    let memory = &self.first.memory;
                    memory.set_count(&counts, "total_count", &right).await;
                }
            }
        }
    }

    /// Third parties. What they did is said to the history, because no store can tell it afterwards.
    async fn meddle(&mut self, at_ms: u64, meddle: &Meddle) {
        let memory = self.first.memory.clone();
        let names = |stage: &usize| {
            let names = &self.layout.stages[*stage];
            (names.stream.clone(), names.group.clone(), names.owned)
        };
        let n_readers = |stream: &str| {
            let readers = self.layout.stages.iter().filter(|s| s.stream == stream);
            readers.count() as u64
        };
        let (mut n_dropped, mut n_deleted) = (0, 0);
        let mut shows = true;
        match meddle {
            Meddle::Ack { stage, nth } => {
                let (stream, group, owned) = names(stage);
                let ids = self.one_pending(*stage, *nth).await;
                let n = memory.ack(&stream, &group, &ids).await;
                shows = n > 0;
                n_dropped = if owned { 0 } else { n };
            }
            Meddle::DeletePending { stage, nth } => {
                let (stream, ..) = names(stage);
                let ids = self.one_pending(*stage, *nth).await;
                n_deleted = memory.del(&stream, &ids).await * n_readers(&stream);
            }
            Meddle::DeleteUnread { stage } => {
                let (stream, group, _) = names(stage);
                let facts = memory.facts(&stream, &group).await;
                let after = facts.map(|facts| facts.last_delivered).unwrap_or_default();
                let rows = self.store.admin().peek(*stage, after, 3).await;
                let ids: Vec<EntryId> = rows.unwrap_or_default().iter().map(|r| r.id).collect();
                let id = ids.last().copied();
                let n = memory.del(&stream, id.as_slice()).await;
                n_deleted = n * n_readers(&stream);
                // Of shared stages nobody can tell it from a foreign acknowledgement, once what came after it is read.
                n_dropped = n_deleted;
            }
            Meddle::TrimTo { stage, n } => {
                let (stream, ..) = names(stage);
                n_deleted = memory.trim_to(&stream, *n).await * n_readers(&stream);
            }
            Meddle::Read { stage, n } => {
                let (stream, group, owned) = names(stage);
                let ids = memory.read(&stream, &group, THIEF, *n).await;
                shows = owned && !ids.is_empty();
            }
            Meddle::SetBack { stage, nth } => {
                let (stream, group, _) = names(stage);
                let rows = self.store.admin().peek(*stage, EntryId::MIN, 1_000).await;
                let ids: Vec<EntryId> = rows.unwrap_or_default().iter().map(|r| r.id).collect();
                let to = pick(&ids, *nth).map_or(EntryId::MIN, EntryId::previous);
                let facts = memory.facts(&stream, &group).await;
                if facts.is_some_and(|facts| facts.last_delivered > to) {
                    memory.set_group(&stream, &group, to).await;
                } else {
                    shows = false;
                }
            }
            Meddle::Destroy { stage } => {
                let (stream, group, _) = names(stage);
                memory.destroy_group(&stream, &group).await;
            }
            Meddle::DeleteConsumer { stage, nth } => {
                let (stream, group, owned) = names(stage);
                let facts = memory.facts(&stream, &group).await;
                let pending = facts.map(|facts| facts.pending).unwrap_or_default();
                let holders: Vec<Bytes> = pending.into_iter().map(|p| p.consumer).collect();
                if holders.is_empty() {
                    return;
                }
                let holder = String::from_utf8_lossy(&holders[nth % holders.len()]).into_owned();
                let n = memory.delete_consumer(&stream, &group, &holder).await;
                n_dropped = if owned { 0 } else { n };
            }
            Meddle::DeleteStream { stage } => {
                let (stream, group, _) = names(stage);
                let facts = memory.facts(&stream, &group).await;
                // Without its group only the entries themselves tell how many there are.
                let rows = self.store.admin().peek(*stage, EntryId::MIN, 10_000).await;
                let n_there = rows.unwrap_or_default().len() as u64;
                let n_added = facts.map_or(n_there, |facts| facts.added);
                n_deleted = n_added * n_readers(&stream);
                memory.delete_stream(&stream).await;
                self.history.lock().stream_gone(*stage);
                // Its next life begins in another millisecond.
                memory.age("", "", Duration::from_millis(2)).await;
            }
            Meddle::Flush => {
                memory.flush().await;
                self.history.lock().flush();
                memory.age("", "", Duration::from_millis(2)).await;
                self.spoilt = None;
                self.cut();
            }
            Meddle::Remember => {
                memory.remember().await;
                self.history.lock().remember();
                self.kept_spoilt.push(self.spoilt.clone());
                return;
            }
            Meddle::RollBack => {
                memory.roll_back().await;
                self.history.lock().roll_back();
                if let Some(spoilt) = self.kept_spoilt.pop() {
                    self.spoilt = spoilt;
                }
                // A server that begins again from an old file has no connections.
                self.cut();
                shows = false;
                self.meddled = true;
            }
            Meddle::JumpServer { ms } => {
                let by = Duration::from_millis(*ms);
                memory.age("", "", by).await;
                shows = false;
            }
            Meddle::JumpDaemon { daemon, ms } => {
                self.daemons[*daemon].place.clock.jump_ms(*ms);
                return;
            }
            Meddle::Spoil { for_ms } => {
                let counts = self.layout.stages.iter().any(|stage| stage.aggregates);
                if self.spoilt.is_some() || !counts {
                    return;
                }
                let totals = self.store.admin().aggregates(1).await;
                self.spoilt = Some(totals.unwrap_or_default().total.to_string());
                let counts = self.layout.key("counts");
                memory.set_count(&counts, "total_count", "many").await;
                self.after(at_ms + for_ms, Undo::Unspoil);
                return;
            }
        }
        self.meddled |= shows;
        let mut history = self.history.lock();
        history.book.meddled |= shows;
        history.book.is_reset |= matches!(
            meddle,
            Meddle::SetBack { .. } | Meddle::Destroy { .. } | Meddle::Read { .. }
        ) && shows;
        history.book.n_dropped += n_dropped;
        history.book.n_deleted += n_deleted;
    }

    /// Ends every fault.
    async fn heal(&mut self) {
        self.tell("everything is healed");
        for undo in std::mem::take(&mut self.undo).into_values() {
            self.end(&undo).await;
        }
        self.end(&Undo::Unspoil).await;
        for at in 0..self.daemons.len() {
            self.daemons[at].sky.clear();
            // The first one always comes back; another one that is down now may have been taken away for good.
            if at == 0 || !self.gone {
                self.start(at).await;
            }
        }
    }

    /// Waits until nothing is left to be done, drains all, and closes the books.
    async fn rest(&mut self) {
        sleep(self.aftermath).await;
        let deadline = Instant::now() + REST_MAX;
        loop {
            if self.violated() {
                return;
            }
            let depth = self.store.admin().depth().await.expect("depth in memory");
            let ledger = &depth.ledger;
            let is_quiet = ledger.pending == 0
                && ledger.undelivered == 0
                && depth.stages.iter().all(|stage| stage.present);
            if is_quiet && self.people.is_empty() {
                break;
            }
            while self.people.try_join_next().is_some() {}
            if Instant::now() >= deadline {
                let stages: Vec<String> = depth
                    .stages
                    .iter()
                    .map(|s| format!("{} pending, lag {:?}", s.pending, s.lag))
                    .collect();
                self.violate(format!(
                    "no rest within {REST_MAX:?} after everything was healed: {}",
                    stages.join("; ")
                ));
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
        // One more round of the janitor, which books what went unread and retires names; those of daemons that do not come
        // back only when they are taken for dead.
        let is_gone = self.daemons.iter().any(|daemon| daemon.running.is_none());
        sleep(Duration::from_secs(if is_gone { 20 } else { 3 })).await;
        self.close().await;
    }

    async fn close(&mut self) {
        let meddled = self.meddled;
        for at in 0..self.daemons.len() {
            if let Some(running) = self.daemons[at].running.take() {
                Self::audit(&running, &self.failures, meddled);
                let mut sources = running.sources;
                sources.shutdown().await;
                // Workers that were scaled away by a life that was killed have left their names; they come once more.
                let drained = running.runtime.drain(GRACE).await;
                if drained != Drained::Clean {
                    self.violate(format!("d{at} had nothing to do and drained only in part"));
                }
            }
        }
        let admin = self.store.admin();
        let depth = admin.depth().await.expect("depth in memory");
        let totals = admin.aggregates(0).await.expect("totals in memory");
        for (i, names) in self.layout.stages.iter().enumerate() {
            let facts = self.first.memory.facts(&names.stream, &names.group).await;
            let Some(facts) = facts else {
                self.violate(format!("the group of {} is gone", names.name));
                continue;
            };
            // After a deletion by somebody else the server cannot tell.
            let is_deleted = self.history.lock().book.n_deleted > 0;
            if facts.lag != Some(0) && !is_deleted {
                self.violate(format!(
                    "at rest the server says that {} has a lag of {:?}",
                    names.name, facts.lag
                ));
            }
            let consumers = admin.consumers(i).await.unwrap_or_default();
            let left: Vec<String> = consumers
                .iter()
                .map(|c| String::from_utf8_lossy(&c.name).into_owned())
                .filter(|name| name != THIEF)
                .collect();
            if !left.is_empty() {
                self.violate(format!(
                    "stage {} leaks consumer names: {}",
                    names.name,
                    left.join(" ")
                ));
            }
        }
        let failures =
            std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner));
        for failure in failures {
            self.violate(failure);
        }
        self.history.lock().check_the_end(&depth, &totals);
    }
}

fn pick(ids: &[EntryId], nth: usize) -> Option<EntryId> {
    (!ids.is_empty()).then(|| ids[nth % ids.len()])
}
