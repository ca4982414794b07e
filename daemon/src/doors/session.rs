//! One connection: greeting, requests in, answers and notifications out, and an end that loses nothing that was begun.
//!
//! Three futures belong to a session: the reader, the writer (`outbox.rs`) and the lane. Requests that only read run side
//! by side; those that act go through the lane one after the other, in the order in which they came, and are finished even
//! if the client leaves. Everything is bounded: requests in flight by number and bytes, and what waits to be written.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipectl_shared::rpc::{Code, Error, Hello, Identity, PROTOCOL, Preset, Role};
use pipectl_shared::wire::{Decoder, Line};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::acts;
use super::ingest::{Ingests, Owed};
use super::messages::{Debt, notification, request, response};
use super::methods::{self, Call, Method};
use super::outbox::Outbox;
use super::reads::{self, Then};
use super::stats::{self, Encoder};
use super::tap;
use crate::audit::Act;
use crate::commands::{Context, visible};
use crate::experiments::EXPERIMENTS;

/// The right to run experiments, as a greeting names it.
const CHAOS: &str = "chaos";
/// Requests of one client that are worked on at once; beyond that it is read no further.
const IN_FLIGHT: usize = 16;
/// Bytes of their lines at most: four pushes of an ingest, whose lines are larger than their payload.
const IN_FLIGHT_BYTES: usize = 4 * 1024 * 1024;
/// How long answers to requests that are in flight are waited for when the client will send no more.
const ANSWERS_WAIT: Duration = Duration::from_secs(30);
/// How long the last lines may take.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// What all sessions share.
pub(super) struct House {
    pub(super) context: Context,
    pub(super) encoder: Encoder,
    pub(super) owed: Owed,
}

impl House {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            encoder: Encoder::default(),
            owed: Owed::default(),
        }
    }
}

/// Who is at the other end, and what it may do.
pub(super) struct Peer {
    pub(super) identity: Identity,
    pub(super) role: Role,
    /// Whether it may run experiments.
    pub(super) may_chaos: bool,
}

/// One connection, as its methods see it.
pub(super) struct Session {
    pub(super) house: Arc<House>,
    pub(super) peer: Identity,
    pub(super) role: Role,
    pub(super) may_chaos: bool,
    outbox: Arc<Outbox>,
    /// Readers and watchers; aborted when the session ends.
    tasks: Mutex<JoinSet<()>>,
    watches: Mutex<Watches>,
    flights: Arc<Semaphore>,
    flight_bytes: Arc<Semaphore>,
}

#[derive(Default)]
struct Watches {
    stats: Option<(AbortHandle, Preset)>,
    events: Option<AbortHandle>,
    tap: Option<AbortHandle>,
    progress: Option<AbortHandle>,
}

/// One request on its way.
struct Job {
    id: Value,
    method: &'static Method,
    params: Value,
    permits: Permits,
}

/// What bounds the requests in flight: one of [`IN_FLIGHT`], and the bytes of the line. Held until the answer is queued.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Why a session ends.
enum End {
    /// The client sends no more.
    Eof,
    /// A line was too long: the error is queued, nothing more is read.
    TooLong,
    /// The client does not read, or is gone.
    Cut,
    /// The daemon closes.
    Closing,
}

/// Serves one client to its end. Not cancel-safe: acts in the lane would be cut off.
pub(super) async fn run(
    stream: UnixStream,
    peer: Peer,
    house: Arc<House>,
    closed: CancellationToken,
) {
    let (read_half, write_half) = stream.into_split();
    let session = Arc::new(Session {
        house,
        peer: peer.identity,
        role: peer.role,
        may_chaos: peer.may_chaos,
        outbox: Arc::new(Outbox::new()),
        tasks: Mutex::default(),
        watches: Mutex::default(),
        flights: Arc::new(Semaphore::new(IN_FLIGHT)),
        flight_bytes: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)),
    });
    session.greet();
    // Bound: never full, because a job holds one of as many permits.
    let (to_lane, jobs) = mpsc::channel(IN_FLIGHT);
    let mut lane = JoinSet::new();
    lane.spawn(Arc::clone(&session).lane(jobs));
    {
        let mut writing = pin!(session.outbox.write_to(write_half));
        let end = {
            let reading = pin!(session.read(read_half, to_lane));
            tokio::select! {
                end = reading => end,
                _ = &mut writing => End::Cut,
                () = closed.cancelled() => End::Closing,
            }
        };
        let is_writing = match end {
            End::Cut => false,
            End::Eof => {
                let answered = async { drop(session.flights.acquire_many(IN_FLIGHT as u32).await) };
                tokio::select! {
                    _ = timeout(ANSWERS_WAIT, answered) => true,
                    _ = &mut writing => false,
                }
            }
            End::TooLong => true,
            End::Closing => {
                session.last_snapshot();
                true
            }
        };
        // A writer that has ended must not be asked again.
        if is_writing {
            session.stop_tasks();
            session.outbox.finish();
            let _ = timeout(LAST_LINES_WAIT, writing).await;
        }
    }
    session.outbox.abandon();
    session.stop_tasks();
    // The channel is closed by now, so the lane ends after what is in it.
    let _ = timeout(ANSWERS_WAIT, lane.join_next()).await;
}

impl Session {
    /// The server's first words.
    fn greet(&self) {
        let context = &self.house.context;
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: context.config_hash.to_string(),
            role: self.role,
            identity: self.peer.clone(),
            pipeline: context.config.name.clone(),
            pid: std::process::id(),
            time: context.clock.now_rfc3339(),
            specs: visible(context.test_commands)
                .map(|command| (command.spec)())
                .collect(),
            experiments: EXPERIMENTS
                .iter()
                .map(|experiment| (experiment.spec)())
                .collect(),
            rights: self
                .may_chaos
                .then(|| CHAOS.to_owned())
                .into_iter()
                .collect(),
        };
        if let Some(line) = notification("hello", &hello) {
            self.outbox.reply_now(line);
        }
    }

    /// Reads requests until the client ends or breaks the rules.
    async fn read(
        self: &Arc<Self>,
        mut source: impl AsyncRead + Unpin,
        lane: mpsc::Sender<Job>,
    ) -> End {
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match decoder.next_line() {
                Ok(Some(line)) => self.accept(&line, &lane).await,
                Err(too_long) => {
                    let error = Error::new(Code::TooLarge, too_long.to_string());
                    self.send_error(Value::Null, error.hint("the connection is closed"))
                        .await;
                    return End::TooLong;
                }
                Ok(None) => match source.read(&mut buffer).await {
                    Ok(0) | Err(_) => return End::Eof,
                    Ok(n) => decoder.push(&buffer[..n]),
                },
            }
        }
    }

    /// One line: a request that is put on its way, a notification (ignored: it could not be told that it failed), or an
    /// error that is answered at once. Waits while too much is in flight.
    async fn accept(self: &Arc<Self>, line: &Line, lane: &mpsc::Sender<Job>) {
        let (id, method, params) = match request(line) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err((id, error)) => return self.send_error(id, error).await,
        };
        let Some(method) = methods::find(&method) else {
            return self.send_error(id, methods::unknown(&method)).await;
        };
        let n_bytes = u32::try_from(line.bytes().len().min(IN_FLIGHT_BYTES)).unwrap_or(u32::MAX);
        let (Ok(flight), Ok(bytes)) = (
            Arc::clone(&self.flights).acquire_owned().await,
            Arc::clone(&self.flight_bytes)
                .acquire_many_owned(n_bytes)
                .await,
        ) else {
            return;
        };
        let job = Job {
            id,
            method,
            params,
            permits: (flight, bytes),
        };
        match method.call {
            // Fails only when the lane is gone, and then the session ends, too.
            Call::Act(_) => drop(lane.send(job).await),
            Call::Read(call) => {
                let session = Arc::clone(self);
                self.spawn(async move {
                    // Taken apart in here: a field that is not named would not move into the task, and its permit would
                    // be given back before the work begins.
                    let Job {
                        id,
                        params,
                        permits: _held,
                        ..
                    } = job;
                    let debt = Debt::new(&session.outbox, id);
                    let answer = reads::read(&session, call, params).await;
                    let (result, then) = match answer {
                        Ok((value, then)) => (Ok(value), then),
                        Err(error) => (Err(error), Then::Nothing),
                    };
                    debt.pay(result).await;
                    session.begin(then);
                });
            }
        }
    }

    /// Acts, one after the other. Ends when the reader has gone and everything is done.
    async fn lane(self: Arc<Self>, mut jobs: mpsc::Receiver<Job>) {
        let mut ingests = Ingests::default();
        while let Some(job) = jobs.recv().await {
            let Job {
                id,
                method,
                params,
                permits: _held,
            } = job;
            let Call::Act(call) = method.call else {
                continue;
            };
            let debt = Debt::new(&self.outbox, id);
            let result = acts::act(&self, &mut ingests, method, call, params).await;
            debt.pay(result).await;
        }
        for ended in ingests.take_all() {
            self.record(
                "ingest",
                ended.name(),
                None,
                format!("ok: {}", ended.in_words()),
            )
            .await;
        }
    }

    /// Starts what a request asked for beyond its answer.
    fn begin(self: &Arc<Self>, then: Then) {
        let context = &self.house.context;
        let session = Arc::clone(self);
        match then {
            Then::Nothing => {}
            Then::Stats { preset, interval_s } => {
                let ticks = context.observer.watch();
                let handle = self.spawn(async move {
                    let house = &session.house;
                    stats::watch(ticks, &house.encoder, &session.outbox, preset, interval_s).await;
                });
                replace(
                    &mut self.watches().stats,
                    handle.map(|h| (h, preset)),
                    |(old, _)| old.abort(),
                );
            }
            Then::Events { after, receiver } => {
                let handle = self.spawn(async move { session.tell_events(receiver, after).await });
                replace(&mut self.watches().events, handle, |old| old.abort());
            }
            Then::Tap(wanted) => {
                let handle = self.spawn(async move {
                    tap::watch(&session.house.context, &session.outbox, &wanted).await;
                });
                replace(&mut self.watches().tap, handle, |old| old.abort());
            }
            Then::StopStats => replace(&mut self.watches().stats, None, |(old, _)| old.abort()),
            Then::StopEvents => replace(&mut self.watches().events, None, |old| old.abort()),
            Then::StopTap => replace(&mut self.watches().tap, None, |old| old.abort()),
        }
    }

    /// From now on tells the progress of plans, to clients that have to do with plans or watch events.
    pub(super) fn tell_progress(self: &Arc<Self>) {
        let mut watches = self.watches();
        if watches.progress.is_some() {
            return;
        }
        let mut plans = self.house.context.plans.watch();
        let session = Arc::clone(self);
        watches.progress = self.spawn(async move {
            loop {
                match plans.recv().await {
                    Ok(plan) => session.notify("plan.progress", &plan),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
    }

    async fn tell_events(
        &self,
        mut events: broadcast::Receiver<pipectl_shared::snapshot::Event>,
        after: u64,
    ) {
        loop {
            match events.recv().await {
                Ok(event) if event.seq > after => self.notify("event", &event),
                // Told already, or lost: the client sees a gap in `seq`.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn notify(&self, method: &str, params: &impl Serialize) {
        if let Some(line) = notification(method, params) {
            self.outbox.offer(line);
        }
    }

    fn last_snapshot(&self) {
        let preset = self.watches().stats.as_ref().map(|(_, preset)| *preset);
        if let Some(preset) = preset {
            let house = &self.house;
            self.outbox.show(
                house
                    .encoder
                    .encode(&house.context.observer.latest(), preset),
            );
        }
    }

    async fn send_error(&self, id: Value, error: Error) {
        self.outbox.reply(response(id, Err(error))).await;
    }

    /// One row in the audit file; a failure is told in the journal.
    pub(super) async fn record(
        &self,
        action: &str,
        target: &str,
        reason: Option<String>,
        result: String,
    ) {
        let act = Act {
            user: self.peer.user.clone(),
            uid: self.peer.uid,
            pid: self.peer.pid,
            action: action.to_owned(),
            target: target.to_owned(),
            reason,
            result,
        };
        let _ = self.house.context.audit.record(act).await;
    }

    fn watches(&self) -> std::sync::MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spawns into the session's own set; `None` when the session is over.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn(task))
    }

    fn stop_tasks(&self) {
        // Dropping the set aborts what is in it; it also breaks the circle of session and tasks.
        drop(std::mem::take(
            &mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner),
        ));
    }
}

fn replace<T>(slot: &mut Option<T>, new: Option<T>, end: impl FnOnce(&T)) {
    if let Some(old) = std::mem::replace(slot, new) {
        end(&old);
    }
}
