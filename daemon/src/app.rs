//! The composition root: the only room that names concrete types. Builds the world from the configuration, starts
//! everything, waits for the end, takes it down in order.
//!
//! Past 500 lines because everything is started and taken down in one order, to be read as one.

mod faults;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use pipectl_shared::config::{self, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::faults::{leave_out, precautions, proxied};
use crate::args::Run;
use crate::audit::Audit;
use crate::chaos::{self, FaultBoard, Inside, LookupWeather, Precaution, Shown};
use crate::clock::{Clock, System};
use crate::commands::Context;
use crate::datadir::{self, DataDir};
use crate::doors;
use crate::experiments::EXPERIMENTS;
use crate::guard::{self, DaemonAt, GuardCommand, Keeper, ServerAt, Timing};
use crate::journal::{Journal, Level};
use crate::logging;
use crate::lookup::Profiles;
use crate::observe::{Inputs, Observer};
use crate::plans::{self, Plans};
use crate::runtime::{
    Drained, EpochKeeper, Handle, Intake, Runtime, SourceHandle, layout, pressure,
};
use crate::settings::{self, Asked};
use crate::sources::Generator;
use crate::spool::{self, Drain, Spool};
use crate::store::redis::managed::{self, Managed};
use crate::store::redis::preflight;
use crate::store::redis::{Address, Client, Login, RedisStore};
use crate::store::{Admin, Layout, Store, StoreError};
use crate::world::World;

/// A server that does not answer within this time at start does not keep the control socket from opening; the pipeline
/// then starts as degraded and goes on trying.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Between two looks at a server that is away.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Exit codes of `pipelined run` (contract.md).
const CLEAN: u8 = 0;
const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;
const DRAINED_IN_PART: u8 = 3;

/// `pipelined run`: returns the exit code.
pub fn main(run: Run, env: &[(String, String)]) -> u8 {
    let asked = Asked {
        file: run.config.config.clone(),
        sets: run.config.sets.clone(),
    };
    let mut err = std::io::stderr();
    let loaded = match settings::load(&asked, env) {
        Ok(loaded) => loaded,
        Err(faults) => {
            // Nothing else can be said where stderr is gone.
            let _ = settings::print_faults(&faults, &mut err);
            return BAD_CONFIGURATION;
        }
    };
    let left_out = match precautions(&run.test_without) {
        Ok(left_out) => left_out,
        Err(fault) => {
            let fault = pipectl_shared::untrusted::escape(&fault);
            // Nothing else can be said where stderr is gone.
            let _ = writeln!(err, "pipelined: {fault}");
            return BAD_CONFIGURATION;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pipelined")
        .build();
    let ended = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(live(run, loaded, left_out)));
    match ended {
        Ok(code) => code,
        Err(error) => {
            // Also when the log goes to a file only: whoever started it looks here first.
            let _ = writeln!(
                err,
                "pipelined: {}",
                pipectl_shared::untrusted::escape(&format!("{error:#}"))
            );
            FAILED
        }
    }
}

async fn live(run: Run, loaded: config::Loaded, left_out: Vec<Precaution>) -> anyhow::Result<u8> {
    let config = Arc::new(loaded.config);
    let this = this_process()?;
    let places = datadir::environment();
    let data = DataDir::open(run.data.as_deref(), &places)?;
    let logs = logging::init(&config.log, Some(&data.folder("log")?))?;
    let clock: Arc<dyn Clock> = Arc::new(System);
    let journal = Journal::new(Arc::clone(&clock));
    for warning in &loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pipeline = config.name, data = %data.path().display(), "pipelined starts");

    let socket = datadir::control_socket(run.socket.as_deref(), &places, data.path())?;
    let bound = doors::bind(&socket, &doors::Accounts::read()).await?;

    let chaos_folder = data.folder("chaos")?;
    // A server that an experiment stopped would not answer the next lines.
    guard::before(&chaos_folder, &journal);
    let managed = match config.redis.url.as_str() {
        "managed" => {
            let settings = managed::Settings::new(&data, &places, &config.redis)?;
            let managed = Managed::start(settings, journal.clone()).await?;
            managed.loaded().await?;
            Some(Arc::new(managed))
        }
        _ => None,
    };
    let direct = address(&config, managed.as_deref())?;
    // Where experiments may run, all that this daemon says to Redis goes through a proxy of its own; the supervision of the
    // managed server does not.
    let (address, network) = match config.chaos.enabled {
        true => proxied(&direct, &data, &places, nonce())?,
        false => (direct.clone(), None),
    };
    let layout = Arc::new(layout(&config));
    let store = RedisStore::new(address.clone(), Arc::clone(&layout))
        .durable(config.redis.durability, config.redis.durability_timeout);
    let faults = FaultBoard::default();
    let store = Arc::new(leave_out(&left_out, store, &faults, &journal)?);
    let admin = store.admin();

    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let refused: Arc<std::sync::Mutex<Option<StoreError>>> = Arc::default();
    let look = Look {
        client: address.client()?,
        limit: address.timeout(),
        shown: address.shown().to_owned(),
        durability: config.redis.durability,
        admin: Arc::clone(&admin),
        journal: journal.clone(),
    };
    first_look(look, &shutdown, &refused, &mut tasks).await?;
    let (spool, spool_writer) = open_spool(&config, &data, &journal).await?;

    let profiles = Profiles::new(address.client()?, config.redis.timeout);
    let lookup_weather = LookupWeather::default();
    let weather = config.chaos.enabled.then(|| lookup_weather.clone());
    let world = World {
        store,
        lookups: Arc::new(move |hash| match &weather {
            Some(weather) => weather.around(profiles.lookup(hash)),
            None => profiles.lookup(hash),
        }),
        clock: Arc::clone(&clock),
        seed: nonce(),
        faults,
        journal: journal.clone(),
    };
    let instance = config
        .daemon
        .instance
        .clone()
        .unwrap_or_else(|| data.instance().to_owned());
    let sources = source_handles(&config, &spool);
    let runtime = Runtime::start(&config, &layout, &world, &instance, sources);
    let handle = runtime.handle().clone();
    let workers = handle.clone();
    let inside = Inside::new(chaos::Setup {
        faults: world.faults.clone(),
        network,
        lookups: lookup_weather,
        server: managed.clone(),
        is_ours: Arc::new(move |consumer| workers.is_worker(consumer)),
    });

    let shown = Shown::default();
    let (observer, sampler) = Observer::new(Inputs {
        config: Arc::clone(&config),
        layout: Arc::clone(&layout),
        admin: Arc::clone(&admin),
        handle: handle.clone(),
        journal: journal.clone(),
        clock: Arc::clone(&clock),
        instance: instance.clone(),
        chaos: shown.clone(),
        data: data.path().to_owned(),
    });
    let sampling = CancellationToken::new();
    tasks.spawn(sampler.run(sampling.clone()));
    let (shed, under_pressure) = watch::channel(None);
    tasks.spawn(pressure::follow(
        observer.watch(),
        layout.source.clone(),
        config.ingest.clone(),
        shed,
    ));

    // Both end with the sampling: after the doors' clients were told that the daemon drains.
    tasks.spawn(spool_writer.run(sampling.clone()));
    let drain = Drain::new(spool.clone(), Arc::clone(&admin), under_pressure.clone());
    tasks.spawn(drain.run(sampling.clone()));

    let mark = data.path().join("epoch");
    let epochs = EpochKeeper::new(Arc::clone(&admin), journal.clone(), mark, nonce());
    tasks.spawn(epochs.run(sampling.clone()));

    let audit = Audit::open(
        &data.path().join("audit.jsonl"),
        Arc::clone(&clock),
        &journal,
    )
    .context("open the audit file")?;
    let plans = Plans::open(
        &data.folder("plans")?,
        plans::Setup {
            clock: Arc::clone(&clock),
            admin: Arc::clone(&admin),
            layout: Arc::clone(&layout),
            handle: handle.clone(),
            journal: journal.clone(),
            audit: audit.clone(),
        },
    )
    .context("open the plans")?;
    let stop_server = Arc::new(AtomicBool::new(false));
    let config_hash: Arc<str> = settings::config_hash(&config).into();
    let server = server_at(&config, managed.as_deref())?;
    let recover = recover(&chaos_folder, &server, &journal);
    tasks.spawn(recover());
    let chaos = guard::Setup {
        config: Arc::clone(&config),
        config_hash: Arc::clone(&config_hash),
        layout: Arc::clone(&layout),
        handle: handle.clone(),
        observer: observer.clone(),
        journal: journal.clone(),
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        inside: Arc::new(inside.clone()),
        shown,
        guard: GuardCommand {
            exe: this.exe.clone(),
            args: vec!["guard".to_owned()],
        },
        daemon: DaemonAt {
            socket: socket.clone(),
            ..this
        },
        server: server.clone(),
        recover,
        timing: Timing::default(),
        seed: nonce(),
        experiments: EXPERIMENTS,
    };
    let chaos = Keeper::open(&chaos_folder, chaos).context("open the experiments")?;
    let context = Context {
        config_hash,
        config: Arc::clone(&config),
        layout: Arc::clone(&layout),
        admin: Arc::clone(&admin),
        spool,
        handle: handle.clone(),
        observer,
        journal: journal.clone(),
        audit,
        plans,
        chaos,
        clock: Arc::clone(&clock),
        faults: world.faults.clone(),
        shutdown: shutdown.clone(),
        stop_server: Arc::clone(&stop_server),
        test_commands: run.test_commands,
    };
    let plans = context.plans.clone();
    let chaos = context.chaos.clone();
    let closed = CancellationToken::new();
    let mut door = JoinSet::new();
    door.spawn(doors::serve(bound, context, closed.clone()));
    if let Some(managed) = &managed {
        let (managed, sampling) = (Arc::clone(managed), sampling.clone());
        tasks.spawn(async move { managed.watch(sampling).await });
    }
    let stop_sources = CancellationToken::new();
    let mut intakes = intakes(
        &config,
        &layout,
        &admin,
        &clock,
        &handle,
        &under_pressure,
        &stop_sources,
    );
    tracing::info!(socket = %socket.display(), "pipelined runs");

    wait_for_the_end(&shutdown).await?;
    if config.chaos.enabled {
        // A drain is not to wait for what an experiment has stopped.
        inside.clear();
    }
    // A managed server is left to other daemons that use it, unless an operator wants it down all the same.
    let others = runtime.others().await;
    // A plan under way is stopped first: without workers its entries would count as failed.
    plans.close().await;
    // So is an experiment: what it has set would hold up the drain.
    chaos.close().await;
    let drained = tokio::select! {
        drained = take_down(runtime, &stop_sources, &mut intakes, config.daemon.drain) => drained,
        () = second_signal() => {
            journal.tell(Level::Warning, "daemon.aborted", None, "a second signal: stopped at once; what was in flight stays pending");
            Drained::Partly
        }
    };
    sampling.cancel();
    closed.cancel();
    while door.join_next().await.is_some() {}
    if let Some(managed) = &managed {
        if others.is_empty() || stop_server.load(Ordering::Relaxed) {
            managed.stop().await?;
        } else {
            managed.leave();
        }
    }
    tasks.shutdown().await;
    let error = refused
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    if let Some(error) = error {
        return Err(error.into());
    }
    tracing::info!(?drained, "pipelined ends");
    drop(logs);
    Ok(match drained {
        Drained::Clean => CLEAN,
        Drained::Partly => DRAINED_IN_PART,
    })
}

/// Where the server is.
fn address(config: &Config, managed: Option<&Managed>) -> anyhow::Result<Address> {
    let redis = &config.redis;
    if let Some(managed) = managed {
        let url = format!("redis+unix://{}", managed.socket_path().display());
        return Ok(Address::parse(&url, Login::default(), redis.timeout, None)?);
    }
    let password = redis
        .password
        .as_ref()
        .map(settings::resolve_secret)
        .transpose()?;
    let login = Login {
        username: redis.username.clone(),
        password,
    };
    Ok(Address::parse(
        &redis.url,
        login,
        redis.timeout,
        redis.tls_ca.as_deref(),
    )?)
}

/// The server itself, for what looks at it from outside.
fn server_at(config: &Config, managed: Option<&Managed>) -> anyhow::Result<ServerAt> {
    let redis = &config.redis;
    let url = match managed {
        Some(managed) => format!("redis+unix://{}", managed.socket_path().display()),
        None => redis.url.clone(),
    };
    let password = redis
        .password
        .as_ref()
        .filter(|_| managed.is_none())
        .map(settings::resolve_secret)
        .transpose()?;
    Ok(ServerAt {
        url,
        username: redis.username.clone().filter(|_| managed.is_none()),
        password,
        tls_ca: redis.tls_ca.clone(),
        timeout_ms: u64::try_from(redis.timeout.as_millis()).unwrap_or(u64::MAX),
        managed: managed.is_some(),
    })
}

/// Takes back what an experiment left on the server whose guard died.
fn recover(folder: &std::path::Path, server: &ServerAt, journal: &Journal) -> guard::Recover {
    let (folder, server, journal) = (folder.to_owned(), server.clone(), journal.clone());
    Arc::new(move || {
        let (folder, server, journal) = (folder.clone(), server.clone(), journal.clone());
        Box::pin(async move {
            guard::before(&folder, &journal);
            guard::after(&folder, &server, &journal).await;
        })
    })
}

/// This process as it was started, found before an upgrade can move its file away.
fn this_process() -> anyhow::Result<DaemonAt> {
    Ok(DaemonAt {
        pid: std::process::id(),
        socket: std::path::PathBuf::new(),
        exe: std::env::current_exe().context("find the daemon's own file")?,
        args: std::env::args().skip(1).collect(),
        folder: std::env::current_dir().context("find the working folder")?,
    })
}

/// Looks at the server before anything is asked of it. A refusal that a person must mend ends the start; a server that is
/// away is waited for in the background, with the control socket open.
async fn first_look(
    look: Look,
    shutdown: &CancellationToken,
    refused: &Arc<std::sync::Mutex<Option<StoreError>>>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + FIRST_LOOK;
    loop {
        match look.once().await {
            Ok(()) => return Ok(()),
            Err((error, false)) => return Err(error.into()),
            Err((error, true)) if Instant::now() >= deadline => {
                look.journal.tell(
                    Level::Error,
                    "redis.unreachable",
                    None,
                    format!("{error}; the pipeline starts as soon as it answers"),
                );
                break;
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    let (shutdown, refused) = (shutdown.clone(), Arc::clone(refused));
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            match look.once().await {
                Ok(()) => return,
                Err((_, true)) => {}
                Err((error, false)) => {
                    look.journal
                        .tell(Level::Error, "redis.refused", None, error.to_string());
                    *refused
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    shutdown.cancel();
                    return;
                }
            }
        }
    });
    Ok(())
}

/// One look at the server: preflight, then groups and ledger.
struct Look {
    client: Client,
    limit: Duration,
    shown: String,
    durability: config::Durability,
    admin: Arc<dyn Admin>,
    journal: Journal,
}

impl Look {
    /// `Err((error, true))` may pass by waiting.
    async fn once(&self) -> Result<(), (StoreError, bool)> {
        let away = |why: String| {
            (
                StoreError::Unavailable(format!("connect to {}: {why}", self.shown)),
                true,
            )
        };
        let look = async {
            let server = preflight::ask_once(&self.client, self.durability).await?;
            for warning in &server.warnings {
                self.journal
                    .tell(Level::Warning, "redis.setup", None, warning);
            }
            Ok::<_, preflight::Refusal>(())
        };
        match tokio::time::timeout(self.limit, look).await {
            Err(_) => return Err(away(format!("no answer within {:?}", self.limit))),
            Ok(Err(refusal)) => {
                let may_pass = refusal.may_pass();
                return Err((refusal.into(), may_pass));
            }
            Ok(Ok(())) => {}
        }
        match self.admin.prepare().await {
            Ok(mended) => {
                for one in mended {
                    self.journal
                        .tell(Level::Info, one.what, one.stage.as_deref(), one.detail);
                }
                Ok(())
            }
            Err(error) => {
                let may_pass = !matches!(
                    error,
                    StoreError::Foreign(_) | StoreError::Denied(_) | StoreError::Broken(_)
                );
                Err((error, may_pass))
            }
        }
    }
}

/// Opens the spool, also where the configuration has none: an earlier one may have left events in it.
async fn open_spool(
    config: &Config,
    data: &DataDir,
    journal: &Journal,
) -> anyhow::Result<(Spool, spool::Writer)> {
    let settings = spool::Settings {
        dir: data.path().join("spool"),
        limit: config.ingest.spool.unwrap_or(0),
        life: nonce(),
    };
    let (dir, journal) = (settings.dir.clone(), journal.clone());
    tokio::task::spawn_blocking(move || Spool::open(settings, journal))
        .await
        .context("open the spool")?
        .with_context(|| format!("open the spool {}", dir.display()))
}

fn source_handles(config: &Config, spool: &Spool) -> Vec<Arc<SourceHandle>> {
    let state = |running: bool| {
        std::sync::Mutex::new(if running {
            ("running", None)
        } else {
            ("paused", Some("enabled = false".to_owned()))
        })
    };
    let mut handles: Vec<_> = config
        .sources
        .iter()
        .map(|source| {
            Arc::new(SourceHandle {
                name: source.name.clone(),
                kind: "generator",
                state: state(source.enabled),
                ..SourceHandle::default()
            })
        })
        .collect();
    handles.push(Arc::new(SourceHandle {
        name: "ingest".to_owned(),
        kind: "ingest",
        state: state(true),
        spooled: spool.gauge(),
        ..SourceHandle::default()
    }));
    handles
}

fn intakes(
    config: &Config,
    layout: &Layout,
    admin: &Arc<dyn Admin>,
    clock: &Arc<dyn Clock>,
    handle: &Handle,
    pressure: &watch::Receiver<Option<String>>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (source, shown) in config.sources.iter().zip(handle.sources.iter()) {
        if !source.enabled {
            continue;
        }
        let config::SourceKind::Generator(generator) = &source.kind;
        let intake = Intake {
            generator: Generator::new(generator, &config.event, nonce()),
            rate: generator.rate,
            limit: generator.limit,
            id_field: config.event.id.clone(),
            dedupe: layout.dedupe.map(|dedupe| dedupe.window),
            admin: Arc::clone(admin),
            clock: Arc::clone(clock),
            handle: Arc::clone(shown),
            pressure: pressure.clone(),
        };
        tasks.spawn(intake.run(stop.clone()));
    }
    tasks
}

/// Different at every start, so that ids and jitter do not repeat.
fn nonce() -> u64 {
    use rand::{RngCore as _, SeedableRng as _};
    rand::rngs::SmallRng::from_os_rng().next_u64()
}

async fn wait_for_the_end(shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    // Closing the terminal that started us is no order to stop.
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: nothing to do; a changed configuration needs a restart");
                continue;
            }
        }
        shutdown.cancel();
    }
}

async fn second_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn take_down(
    runtime: Runtime,
    stop_sources: &CancellationToken,
    intakes: &mut JoinSet<()>,
    grace: Duration,
) -> Drained {
    let begun = Instant::now();
    runtime.handle().draining.store(true, Ordering::Relaxed);
    stop_sources.cancel();
    let all = async { while intakes.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        intakes.shutdown().await;
    }
    runtime.drain(grace.saturating_sub(begun.elapsed())).await
}
