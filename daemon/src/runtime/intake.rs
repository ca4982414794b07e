//! Intake: sends a generator's events to the source stream at a steady rate.
//!
//! An open loop: when an event is meant to be sent follows from the rate and the start alone, never from how the pipeline
//! or Redis is doing. `_t` is the intended time, so a stall shows up as latency and is not hidden (coordinated omission).
//! What cannot be sent is refused at the door, counted as rejected and never sent later: under back-pressure, while the
//! store is away, and when this loop itself is more than [`BEHIND_MAX`] late. So nothing piles up.
//!
//! An answer that was lost, or that did not come because the batch had not survived what `redis.durability` asks for,
//! leaves it open whether a batch was added. With the id window on, the same batch (same ids) is
//! sent again with a check: what is there is answered as a duplicate; what was added twice, because the window did not
//! hold the id yet, the first stage deduplicates. With the window off, or when the store stays away for longer than
//! [`DOUBT_MAX`] or half the window, the batch is counted as rejected although some of it may be in the stream: the
//! ledger, which counts entries, is right in any case; only `sent` and `rejected` of this source may be off by a batch.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipectl_shared::backoff::Backoff;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handle::SourceHandle;
use super::schedule::Schedule;
use crate::clock::Clock;
use crate::record::{Fields, event_id};
use crate::sources::Generator;
use crate::store::{Admin, Admission, StoreError};

/// Least time between two looks at what is due, at any rate and at high ones: what a tick brings goes in one batch, at low
/// rates each event goes alone at its time. An event waits for its tick, and that is part of its latency.
const TICK_MAX: Duration = Duration::from_millis(5);
const TICK_MIN: Duration = Duration::from_millis(1);

/// Events that are worth a call of their own: the tick is as long as these take to come, within its limits.
const TICK_EVENTS: f64 = 10.0;

/// Events a call, the store's limit of a step.
const BATCH_MAX: u64 = 500;

/// An event that is later than this is refused. Long enough to ride out a slow fsync or a scheduling hiccup, short
/// enough that what is sent still resembles the load that was asked for.
const BEHIND_MAX: Duration = Duration::from_secs(2);

/// A batch in doubt is sent again for this long at most; then nobody wants such old events.
const DOUBT_MAX: Duration = Duration::from_secs(30);

/// While the store is away it is tried again after this. Without jitter: there is one intake, and workers have their own.
const RETRY: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(2),
};

/// Refused events are booked in the store's ledger together, at most this often.
const BOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a call under way may take after the order to stop.
const LAST_CALL: Duration = Duration::from_secs(1);

/// One running generator. The supervisor owns its task; it ends with the token or with the limit.
pub struct Intake {
    /// Makes the events.
    pub generator: Generator,
    /// Events a second, above 0.
    pub rate: f64,
    /// Ends after this many events were sent (refused ones do not count); `None` = never.
    pub limit: Option<u64>,
    /// Field of the event id; empty = none.
    pub id_field: String,
    /// How long the id window knows an id; `None` = it is off.
    pub dedupe: Option<Duration>,
    /// Where events go.
    pub admin: Arc<dyn Admin>,
    /// Wall time, for the stamps.
    pub clock: Arc<dyn Clock>,
    /// Counters and state, for others to see.
    pub handle: Arc<SourceHandle>,
    /// Why doors shed load now; `None` = they do not.
    pub pressure: watch::Receiver<Option<String>>,
}

/// What keeps the loop busy between two looks.
struct Progress {
    schedule: Schedule,
    n_sent: u64,
    /// Sent once, and not known whether added.
    doubt: Option<Doubt>,
    /// While the store is away.
    away: Option<Away>,
    n_unbooked: u64,
    booked_at: Instant,
}

struct Doubt {
    batch: Vec<Admission>,
    give_up_at: Instant,
}

struct Away {
    why: String,
    retry_at: Instant,
    n_failures: u32,
}

/// How one look ended.
enum Look {
    /// More may be due.
    Again,
    /// Nothing more can be done now.
    Rest,
    Done,
    Stopped,
}

impl Intake {
    /// Runs until `stop` or the limit; nothing is sent after it returns. Not cancel-safe: stop it by the token. It may
    /// take `LAST_CALL` twice to return when the store does not answer.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut progress = Progress {
            schedule: Schedule::new(Instant::now(), self.rate),
            n_sent: 0,
            doubt: None,
            away: None,
            n_unbooked: 0,
            booked_at: Instant::now(),
        };
        self.show("running", None);
        let is_done = loop {
            match self.look(&mut progress, &stop).await {
                Look::Again => {}
                Look::Rest => self.rest(&progress, &stop).await,
                Look::Done => break true,
                Look::Stopped => break false,
            }
        };
        if let Some(doubt) = progress.doubt.take() {
            self.refuse(doubt.batch.len() as u64, &mut progress);
        }
        // A token of its own: the order to stop was given before.
        let last = CancellationToken::new();
        let _ = tokio::time::timeout(LAST_CALL, self.book(&mut progress, &last)).await;
        let why = if is_done {
            format!("sent {} events", progress.n_sent)
        } else {
            "stopped".to_owned()
        };
        self.show("done", Some(why));
    }

    /// One step: at most one call of the store.
    async fn look(&mut self, progress: &mut Progress, stop: &CancellationToken) -> Look {
        if stop.is_cancelled() {
            return Look::Stopped;
        }
        let n_left = self
            .limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(progress.n_sent));
        if n_left == 0 {
            return Look::Done;
        }
        let now = Instant::now();
        if let Some(past) = now.checked_sub(BEHIND_MAX) {
            let n_late = progress.schedule.skip_until(past);
            self.refuse(n_late, progress);
        }
        if let Some(away) = progress.away.as_ref().filter(|away| now < away.retry_at) {
            self.show("waiting", Some(away.why.clone()));
            let n_due = progress.schedule.skip_until(now);
            self.refuse(n_due, progress);
            return Look::Rest;
        }
        // What is in doubt goes first: it keeps the order, and its answer tells whether the store is back.
        if let Some(doubt) = progress.doubt.take() {
            self.resolve(doubt, progress, stop).await;
            return Look::Again;
        }
        if progress.n_unbooked > 0 && now.duration_since(progress.booked_at) >= BOOK_EVERY {
            self.book(progress, stop).await;
            return Look::Again;
        }
        let pressure = self.pressure.borrow_and_update().clone();
        if pressure.is_some() {
            self.show("backpressure", pressure);
            let n_due = progress.schedule.skip_until(now);
            self.refuse(n_due, progress);
            return Look::Rest;
        }
        let batch = self.draw(&mut progress.schedule, now, n_left.min(BATCH_MAX));
        if batch.is_empty() {
            if progress.away.is_none() {
                self.show("running", None);
            }
            return Look::Rest;
        }
        self.send(batch, progress, stop).await;
        Look::Again
    }

    /// Waits until something is due, or the order to stop, or a change of the pressure.
    async fn rest(&mut self, progress: &Progress, stop: &CancellationToken) {
        let now = Instant::now();
        // An hour is "never": waking up early costs nothing.
        let mut until = now + Duration::from_secs(3_600);
        let mut at_latest = |at: Instant| until = until.min(at);
        progress.schedule.next_at().map(&mut at_latest);
        if let Some(away) = progress.away.as_ref().filter(|_| progress.doubt.is_some()) {
            at_latest(away.retry_at);
        }
        if progress.n_unbooked > 0 {
            at_latest(progress.booked_at + BOOK_EVERY);
        }
        let until = until.max(now + tick(self.rate));
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep_until(until) => {}
            // So that the state follows at once at low rates; when its owner is gone the last value stays.
            Ok(()) = self.pressure.changed() => {}
        }
    }

    /// Events that are due, at most `n_max`.
    fn draw(&mut self, schedule: &mut Schedule, now: Instant, n_max: u64) -> Vec<Admission> {
        let now_us = self.clock.now_us();
        let mut batch = Vec::new();
        while (batch.len() as u64) < n_max
            && let Some(at) = schedule.take(now)
        {
            // From the wall clock as it is now, so that the stamps follow it when it is set.
            let ago_us = u64::try_from(now.duration_since(at).as_micros()).unwrap_or(u64::MAX);
            let fields = self.generator.next(now_us.saturating_sub(ago_us));
            let id = id_of(&fields, &self.id_field);
            batch.push(Admission {
                event_id: id,
                fields,
            });
        }
        batch
    }

    /// Sends new events.
    async fn send(
        &mut self,
        batch: Vec<Admission>,
        progress: &mut Progress,
        stop: &CancellationToken,
    ) {
        let begun = Instant::now();
        let answer = in_time(self.admin.admit(&batch, false), stop).await;
        let is_open = matches!(
            answer,
            Some(Err(StoreError::Unavailable(_)
                | StoreError::NotDurable(_)
                | StoreError::Bug(_)))
        );
        match answer {
            Some(Ok(_)) => {
                self.handle.accepted_in(begun.elapsed());
                return self.sent(batch.len(), progress);
            }
            Some(Err(error)) => self.away(&error, progress),
            None => {}
        }
        match self.dedupe {
            Some(window) if is_open && batch.iter().all(|event| event.event_id.is_some()) => {
                let give_up_at = Instant::now() + DOUBT_MAX.min(window / 2);
                progress.doubt = Some(Doubt { batch, give_up_at });
            }
            _ => self.refuse(batch.len() as u64, progress),
        }
    }

    /// Sends again what may or may not have been added.
    async fn resolve(&mut self, doubt: Doubt, progress: &mut Progress, stop: &CancellationToken) {
        if Instant::now() >= doubt.give_up_at {
            return self.refuse(doubt.batch.len() as u64, progress);
        }
        match in_time(self.admin.admit(&doubt.batch, true), stop).await {
            // Added now or known before: in the stream either way.
            Some(Ok(_)) => return self.sent(doubt.batch.len(), progress),
            Some(Err(error)) => self.away(&error, progress),
            None => {}
        }
        progress.doubt = Some(doubt);
    }

    fn sent(&self, n_events: usize, progress: &mut Progress) {
        progress.away = None;
        progress.n_sent += n_events as u64;
        self.handle
            .sent
            .fetch_add(n_events as u64, Ordering::Relaxed);
    }

    /// Counts events that are refused.
    fn refuse(&self, n_events: u64, progress: &mut Progress) {
        progress.n_unbooked = progress.n_unbooked.saturating_add(n_events);
        self.handle.rejected.fetch_add(n_events, Ordering::Relaxed);
    }

    fn away(&self, error: &StoreError, progress: &mut Progress) {
        let n_failures = progress
            .away
            .take()
            .map_or(0, |away| away.n_failures)
            .saturating_add(1);
        let why = error.to_string();
        self.show("waiting", Some(why.clone()));
        let retry_at = Instant::now() + RETRY.ceiling(n_failures);
        progress.away = Some(Away {
            why,
            retry_at,
            n_failures,
        });
    }

    /// Books refused events in the ledger. After a lost answer they are booked again: the total of refusals is outside the
    /// ledger's sum, and one too many is better than a lost outage.
    async fn book(&self, progress: &mut Progress, stop: &CancellationToken) {
        if progress.n_unbooked == 0 {
            return;
        }
        progress.booked_at = Instant::now();
        match in_time(self.admin.book_rejected(progress.n_unbooked), stop).await {
            Some(Ok(())) => {
                progress.n_unbooked = 0;
                progress.away = None;
            }
            Some(Err(error)) => self.away(&error, progress),
            None => {}
        }
    }

    fn show(&self, state: &'static str, why: Option<String>) {
        *self
            .handle
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = (state, why);
    }
}

/// The event id as the store wants it, where the event has one.
fn id_of(fields: &Fields, name: &str) -> Option<[u8; 16]> {
    let (_, id) = fields
        .iter()
        .find(|(field, _)| !name.is_empty() && field == name)?;
    Some(event_id(id))
}

/// The call's answer; after the order to stop it has [`LAST_CALL`] left, and `None` means that it was given up.
async fn in_time<T>(call: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    };
    tokio::select! {
        biased;
        answer = call => Some(answer),
        () = over => None,
    }
}

/// See [`TICK_MAX`].
fn tick(rate: f64) -> Duration {
    Duration::try_from_secs_f64(TICK_EVENTS / rate)
        .map_or(TICK_MAX, |wanted| wanted.clamp(TICK_MIN, TICK_MAX))
}

#[cfg(test)]
mod tests;
