//! The supervisor: owns every worker, the janitor and the sources; starts, scales, restarts and drains them.
//!
//! One task per stage keeps as many workers as are wanted; a worker that panics, or that an experiment has killed, is
//! started again with back-off. A drain stops the sources first, then stage after stage, inputs before outputs, so that
//! what is in flight runs to its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipectl_shared::config::Config;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::build::settings;
use super::chain::Chain;
use super::handle::{Handle, SourceHandle, StageHandle, WorkerEntry, WorkerView};
use super::janitor;
use super::loader::Loader;
use super::mender::Mender;
use super::meter::StageMeter;
use super::seldom::Seldom;
use super::worker::{Settings, Worker};
use crate::journal::Level;
use crate::store::Layout;
use crate::world::World;

/// Wait before a worker that panicked is started again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Everything that runs. Dropped = aborted; [`Runtime::drain`] ends it in order.
pub struct Runtime {
    handle: Handle,
    stages: Vec<(CancellationToken, JoinSet<bool>)>,
    janitor: (CancellationToken, JoinSet<()>),
    world: World,
    instance: String,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Nothing is left in flight.
    Clean,
    /// The grace period was over, or entries still wait for their next try; they stay pending.
    Partly,
}

impl Runtime {
    /// Starts every stage and the janitor. Sources are the caller's (`intake`); their handles are given to be shown.
    pub fn start(
        config: &Config,
        layout: &Arc<Layout>,
        world: &World,
        instance: &str,
        sources: Vec<Arc<SourceHandle>>,
    ) -> Self {
        let mender = Mender::new(world.store.admin(), world.journal.clone());
        let mut handles = Vec::new();
        let mut stages = Vec::new();
        for (index, (stage, names)) in config.stages.iter().zip(&layout.stages).enumerate() {
            let handle = Arc::new(StageHandle {
                name: stage.name.clone(),
                meter: Arc::new(StageMeter::default()),
                paused: Arc::default(),
                wanted: watch::Sender::new(stage.workers),
                running: AtomicU32::new(0),
                trouble: Mutex::new(None),
                store_away: AtomicBool::new(false),
                foreign: Seldom::default(),
                redelivered: Seldom::default(),
                workers: Mutex::default(),
                owned: names.owned,
                owned_here: watch::Sender::new(false),
                belongs_here: AtomicBool::new(false),
                take_until_ms: AtomicU64::new(0),
            });
            let chain = Arc::new(Chain::build(stage, &config.event, names));
            let keeper = Keeper {
                index,
                handle: Arc::clone(&handle),
                loader: Arc::new(Loader::new(world, chain.lookups())),
                chain,
                settings: settings(config, layout, stage, names),
                mender: mender.clone(),
                world: world.clone(),
                instance: instance.to_owned(),
            };
            let stop = CancellationToken::new();
            let mut task = JoinSet::new();
            task.spawn(keeper.run(stop.clone()));
            stages.push((stop, task));
            handles.push(handle);
        }
        let handle = Handle {
            stages: Arc::new(handles),
            sources: Arc::new(sources),
            draining: Arc::default(),
        };
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(janitor::run(
            world.clone(),
            mender,
            config.clone(),
            handle.clone(),
            instance.to_owned(),
            stop.clone(),
        ));
        Self {
            handle,
            stages,
            janitor: (stop, task),
            world: world.clone(),
            instance: instance.to_owned(),
        }
    }

    /// The handle for everybody else.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Other daemons of this pipeline that live; none where the server does not answer.
    pub async fn others(&self) -> Vec<String> {
        let admin = self.world.store.admin();
        let asked = admin.beat(&self.instance, janitor::ALIVE_FOR);
        match tokio::time::timeout(Duration::from_secs(1), asked).await {
            Ok(Ok(names)) => names
                .into_iter()
                .filter(|name| *name != self.instance)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Stops reading, finishes what is in flight stage after stage, leaves the list of daemons. The sources must have been
    /// stopped before. Not cancel-safe: dropping it aborts the workers, whose entries then stay pending.
    pub async fn drain(mut self, grace: Duration) -> Drained {
        let deadline = Instant::now() + grace;
        self.handle.draining.store(true, Ordering::Relaxed);
        let mut drained = Drained::Clean;
        for (stop, task) in &mut self.stages {
            stop.cancel();
            loop {
                match timeout_at(deadline, task.join_next()).await {
                    Ok(Some(Ok(true))) => {}
                    Ok(Some(_)) => drained = Drained::Partly,
                    Ok(None) => break,
                    Err(_) => {
                        task.shutdown().await;
                        drained = Drained::Partly;
                        break;
                    }
                }
            }
        }
        self.janitor.0.cancel();
        self.janitor.1.shutdown().await;
        let admin = self.world.store.admin();
        let leave = admin.leave(&self.instance);
        // The heartbeat runs out by itself when Redis is away.
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), leave)
            .await
            .map(|r| r.map_err(|e| e.to_string()))
        {
            tracing::debug!(%error, "could not leave the list of daemons");
        }
        drained
    }
}

/// Keeps as many workers of one stage as are wanted.
struct Keeper {
    index: usize,
    handle: Arc<StageHandle>,
    chain: Arc<Chain>,
    loader: Arc<Loader>,
    settings: Arc<Settings>,
    mender: Mender,
    world: World,
    instance: String,
}

struct Running {
    task: AbortHandle,
    stop: CancellationToken,
}

impl Keeper {
    /// Returns whether every worker left nothing behind.
    async fn run(self, stop: CancellationToken) -> bool {
        let mut wanted = self.handle.wanted.subscribe();
        let mut workers: JoinSet<bool> = JoinSet::new();
        let mut running: BTreeMap<u32, Running> = BTreeMap::new();
        let mut clean = true;
        let mut again_at: Option<Instant> = None;
        let mut is_told = false;
        // Whether one that ended badly has not been started again: what it held is pending still.
        let mut is_missing = false;
        loop {
            // Heard from here on, so that nothing is missed between the look and the wait.
            let ordered = self.world.faults.changed();
            tokio::pin!(ordered);
            ordered.as_mut().enable();
            self.kill_doomed(&running);
            let mut start_at = again_at;
            if !stop.is_cancelled() && again_at.is_none() {
                start_at = self.fit(*wanted.borrow_and_update(), &mut workers, &mut running);
                is_missing = start_at.is_some();
            }
            self.handle.running.store(
                u32::try_from(running.len()).unwrap_or(u32::MAX),
                Ordering::Relaxed,
            );
            if stop.is_cancelled() && running.is_empty() {
                return clean && !is_missing;
            }
            tokio::select! {
                biased;
                ended = workers.join_next_with_id(), if !workers.is_empty() => {
                    let (id, outcome) = match ended {
                        Some(Ok((id, left_nothing))) => (id, Ok(left_nothing)),
                        Some(Err(error)) => (error.id(), Err(error)),
                        None => continue,
                    };
                    let Some(n) = running.iter().find(|(_, r)| r.task.id() == id).map(|(n, _)| *n) else { continue };
                    running.remove(&n);
                    let consumer = self.consumer(n);
                    self.handle.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&consumer);
                    match outcome {
                        Ok(left_nothing) => {
                            clean &= left_nothing || !stop.is_cancelled();
                            if left_nothing { self.retire(&consumer).await; }
                        }
                        Err(error) => {
                            clean &= !stop.is_cancelled();
                            is_missing = true;
                            self.world.journal.tell(Level::Error, "worker.failed", Some(&self.handle.name), format!("worker {consumer} failed and is started again: {error}"));
                            again_at = Some(Instant::now() + AFTER_PANIC);
                        }
                    }
                }
                changed = wanted.changed(), if !stop.is_cancelled() => if changed.is_err() { stop.cancel(); },
                () = ordered => {}
                () = tokio::time::sleep_until(start_at.unwrap_or_else(Instant::now)), if start_at.is_some() => again_at = None,
                // Once, and also where no worker runs: who waits for nothing else would never end.
                () = stop.cancelled(), if !is_told => {
                    is_told = true;
                    for worker in running.values() {
                        worker.stop.cancel();
                    }
                }
            }
        }
    }

    /// Aborts those that an experiment has stopped in order to kill them. Their ends are then like any bad end.
    fn kill_doomed(&self, running: &BTreeMap<u32, Running>) {
        let of = |consumer: &str| running.iter().find(|(n, _)| self.consumer(**n) == consumer);
        for consumer in self.world.faults.doomed(|consumer| of(consumer).is_some()) {
            if let Some((_, worker)) = of(&consumer) {
                worker.task.abort();
            }
        }
    }

    /// Starts what is missing, stops what is too much (the highest numbers first). Returns when to look again, where an
    /// experiment keeps one of them down.
    fn fit(
        &self,
        wanted: u32,
        workers: &mut JoinSet<bool>,
        running: &mut BTreeMap<u32, Running>,
    ) -> Option<Instant> {
        let mut look_at: Option<Instant> = None;
        for n in 1..=wanted {
            if running.contains_key(&n) {
                continue;
            }
            match self.world.faults.down_until(&self.consumer(n)) {
                None => drop(running.insert(n, self.start(n, workers))),
                Some(until) => look_at = Some(look_at.map_or(until, |at| at.min(until))),
            }
        }
        for (n, worker) in running.iter() {
            if *n > wanted {
                worker.stop.cancel();
            }
        }
        look_at
    }

    fn start(&self, n: u32, workers: &mut JoinSet<bool>) -> Running {
        let consumer: Arc<str> = self.consumer(n).into();
        let view = Arc::new(Mutex::new(WorkerView {
            consumer: consumer.to_string(),
            state: "starting",
            ..WorkerView::default()
        }));
        // Bound 8: a plan sends one order at a time; several people at once wait for each other.
        let (orders, mailbox) = mpsc::channel(8);
        let entry = WorkerEntry {
            view: Arc::clone(&view),
            orders,
        };
        self.handle
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(consumer.to_string(), entry);
        let stop = CancellationToken::new();
        let worker = Worker {
            stage: self.index,
            consumer,
            world: self.world.clone(),
            handle: Arc::clone(&self.handle),
            chain: Arc::clone(&self.chain),
            loader: Arc::clone(&self.loader),
            mender: self.mender.clone(),
            settings: Arc::clone(&self.settings),
            view,
            orders: mailbox,
            stop: stop.clone(),
            one_by_one: false,
            owned_epoch: 0,
        };
        let task = if self.settings.owned {
            workers.spawn(worker.run_owned())
        } else {
            workers.spawn(worker.run())
        };
        Running { task, stop }
    }

    fn consumer(&self, n: u32) -> String {
        format!("{}-{}-{n}", self.instance, self.handle.name)
    }

    /// A worker that left nothing leaves no name either. Where the store is away the name stays; it does no harm.
    async fn retire(&self, consumer: &str) {
        let retire = self.world.store.admin();
        let retire = retire.retire(self.index, consumer);
        match tokio::time::timeout(Duration::from_secs(1), retire).await {
            Ok(Ok(0)) => {}
            Ok(Ok(n)) => tracing::warn!(
                consumer,
                n,
                "a stopped consumer still holds entries; they are claimed by others"
            ),
            Ok(Err(error)) => tracing::debug!(consumer, %error, "could not retire the consumer"),
            Err(_) => tracing::debug!(consumer, "could not retire the consumer in time"),
        }
    }
}
