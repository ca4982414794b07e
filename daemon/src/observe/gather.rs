//! Keeps what was answered and read, and gathers the Facts of one instant from it: fresh answers, counters of the meters,
//! rates and standings since the tick before. Does no I/O; owned by the sampler.

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pipectl_shared::snapshot;
use tokio::time::Instant;

use super::facts::{Counters, Facts, Fixed, OldestPending, StageFacts, StoreFacts};
use super::history::LastSecond;
use super::probe::{Answers, Due};
use super::progress::Progress;
use super::rates::Readings;
use super::slots::Slot;
use super::{Shared, host};
use crate::clock::Clock;
use crate::runtime::{Handle, StageMeter};
use crate::store::{Aggregates, ConsumerDepth, Depth, Lag, Server, StoreError};

/// Depths older than this are unknown, so that a server that hangs shows within two ticks; over a slow line twice as long
/// as the last answer took is added.
const FRESH: Duration = Duration::from_millis(1_500);
/// Host facts older than this are unknown; they are read every other second.
const HOST_FRESH: Duration = Duration::from_secs(10);
/// Consumers looked at per stage, those with most entries first: a group with more has a third party's leak.
const N_CONSUMERS: usize = 1_000;

/// See the head of the file.
pub(super) struct Gather {
    fixed: Arc<Fixed>,
    handle: Handle,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    started: Instant,
    known: Known,
    host: Option<(Instant, host::Reading)>,
    in_rate: Readings,
    out_rate: Readings,
    stages: Vec<StageState>,
    source_rates: Vec<Readings>,
}

/// The last answers of the store.
#[derive(Default)]
struct Known {
    depth: Option<(Instant, Arc<Depth>)>,
    error: Option<StoreError>,
    answered: Option<Instant>,
    /// How long the last depths took.
    took: Duration,
    server: Option<Arc<Server>>,
    aggregates: Option<(Instant, Arc<Aggregates>)>,
    /// Per stage: consumers, and how many were left out.
    consumers: Vec<Option<(Arc<Vec<ConsumerDepth>>, u64)>>,
    oldest: Vec<Option<OldestPending>>,
}

#[derive(Default)]
struct StageState {
    in_rate: Readings,
    out_rate: Readings,
    progress: Progress,
}

impl Gather {
    pub(super) fn new(
        fixed: Fixed,
        handle: Handle,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
    ) -> Self {
        let n = fixed.stages.len();
        Self {
            stages: (0..n).map(|_| StageState::default()).collect(),
            source_rates: handle.sources.iter().map(|_| Readings::default()).collect(),
            known: Known {
                consumers: vec![None; n],
                oldest: vec![None; n],
                ..Known::default()
            },
            fixed: Arc::new(fixed),
            handle,
            clock,
            shared,
            started: Instant::now(),
            host: None,
            in_rate: Readings::default(),
            out_rate: Readings::default(),
        }
    }

    /// What to ask the store at this tick.
    pub(super) fn due(&self, tick: u64) -> Due {
        let known = &self.known;
        let had_pending = |c: &Option<(Arc<Vec<ConsumerDepth>>, u64)>| {
            c.as_ref()
                .is_some_and(|(c, _)| c.iter().any(|c| c.pending > 0))
        };
        Due {
            consumers: tick.is_multiple_of(5) || known.error.is_some(),
            consumers_of: known.consumers.iter().map(had_pending).collect(),
            oldest: known.oldest.clone(),
            aggregates: tick.is_multiple_of(2) || known.error.is_some(),
            // After an outage it may be another server.
            server: tick.is_multiple_of(10) || known.server.is_none() || known.error.is_some(),
        }
    }

    /// Takes what the host said.
    pub(super) fn host_read(&mut self, reading: host::Reading) {
        self.host = Some((Instant::now(), reading));
    }

    /// Takes what the store said. An error makes everything of the store unknown at once.
    pub(super) fn answered(&mut self, answers: Answers) {
        let depth = match answers.depth {
            Ok(depth) => depth,
            Err(error) => return self.failed(error),
        };
        let known = &mut self.known;
        known.error = None;
        known.answered = Some(answers.at);
        known.took = answers.took;
        known.depth = Some((answers.at, Arc::new(depth)));
        for (to, from) in known.consumers.iter_mut().zip(answers.consumers) {
            *to = from.map(bounded).or(to.take());
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

    /// Nothing of the store is known any more, but for what it was called.
    pub(super) fn failed(&mut self, error: StoreError) {
        let known = &mut self.known;
        known.error = Some(error);
        known.depth = None;
        known.consumers.fill(None);
        known.oldest.fill(None);
    }

    /// The Facts of this instant, once a tick, with the rates of the last second. Alerts and events are the caller's.
    pub(super) fn facts(&mut self, seq: u64) -> (Facts, LastSecond) {
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
        let now_ms = self.clock.now_ms();
        let (latency, closed) = {
            let mut windows = self
                .shared
                .windows
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let is_over = windows.tick(self.handle.stages.iter().map(|s| &*s.meter));
            let closed = is_over.then(|| windows.last_closed());
            (windows.view(None), closed)
        };
        let latency = latency.rows(false);
        let slot = closed.map(|closed| Slot::of(now_ms, &closed));
        let slots_bytes = {
            let slots = self.shared.slots.lock();
            let mut slots = slots.unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = slot {
                slots.push(slot);
            }
            slots.bytes()
        };
        // A reading that is late (a file system that hangs) is no reading.
        let host = self
            .host
            .as_ref()
            .filter(|(read_at, _)| now.duration_since(*read_at) <= HOST_FRESH);
        let host = host.map_or_else(host::Reading::default, |(_, reading)| reading.clone());
        let facts = Facts {
            seq,
            now_ms,
            uptime: at,
            fixed: Arc::clone(&self.fixed),
            draining: self.handle.is_draining(),
            in_per_s: self
                .in_rate
                .per_s(read_at)
                .filter(|_| store.depth.is_some()),
            out_per_s: self.out_rate.per_s(at),
            store,
            stages,
            latency,
            sources: self.sources(at),
            host: host.host,
            rss_bytes: host.rss_bytes,
            cpu_cores: host.cpu_cores,
            history_bytes: self
                .shared
                .rings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .bytes()
                + slots_bytes,
            events: Vec::new(),
            chaos: None,
            alerts: Vec::new(),
        };
        (facts, last)
    }

    fn store_facts(&self, now: Instant) -> StoreFacts {
        let known = &self.known;
        let fresh = known
            .depth
            .as_ref()
            .filter(|(at, _)| now.duration_since(*at) <= FRESH + 2 * known.took);
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
            .zip(self.handle.stages.iter())
            .filter(|(fixed, _)| fixed.terminal);
        terminal
            .map(|(_, stage)| StageMeter::get(&stage.meter.committed))
            .sum()
    }

    fn stage_facts(&mut self, i: usize, at: Duration, store: &StoreFacts) -> StageFacts {
        let Some(handle) = self.handle.stages.get(i) else {
            return StageFacts::default();
        };
        let state = &mut self.stages[i];
        let counters = counters(&handle.meter);
        state.in_rate.push(at, Some(counters.read));
        state.out_rate.push(at, Some(counters.committed));
        let depth = store.depth.as_ref().and_then(|d| d.stages.get(i));
        let known = self.known.consumers[i].clone();
        let (consumers, consumers_left) = depth.filter(|d| d.present).and(known).unzip();
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
            consumers_left: consumers_left.unwrap_or(0),
            oldest: self.known.oldest[i],
            workers,
        }
    }

    fn sources(&mut self, at: Duration) -> Vec<snapshot::Source> {
        let handles = self.handle.sources.iter().zip(&mut self.source_rates);
        handles
            .map(|(source, rate)| {
                let sent = source.sent.load(std::sync::atomic::Ordering::Relaxed);
                rate.push(at, Some(sent));
                let (state, reason) = source
                    .state
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let spooled = source.spooled.load(std::sync::atomic::Ordering::Relaxed);
                let (state, reason) = if spooled > 0 {
                    let why = format!("{spooled} events wait in the spool for redis");
                    ("waiting", Some(why))
                } else {
                    (state, reason)
                };
                let accept_us = source.accept_us.load(std::sync::atomic::Ordering::Relaxed);
                snapshot::Source {
                    name: source.name.clone(),
                    kind: source.kind.to_owned(),
                    state: state.to_owned(),
                    reason,
                    per_s: rate.per_s(at),
                    sent,
                    rejected: source.rejected.load(std::sync::atomic::Ordering::Relaxed),
                    spooled,
                    #[expect(clippy::cast_precision_loss, reason = "microseconds, for a person")]
                    accept_ms: (accept_us > 0).then_some(accept_us as f64 / 1_000.0),
                }
            })
            .collect()
    }
}

fn bounded(mut consumers: Vec<ConsumerDepth>) -> (Arc<Vec<ConsumerDepth>>, u64) {
    let left = consumers.len().saturating_sub(N_CONSUMERS) as u64;
    if left > 0 {
        consumers.sort_by_cached_key(|c| (Reverse(c.pending), c.name.clone()));
        consumers.truncate(N_CONSUMERS);
    }
    (Arc::new(consumers), left)
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
