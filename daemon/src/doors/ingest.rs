//! `ingest.open|push|close`: events that a client brings, up to the source stream and until they have run through.
//!
//! One [`Ingests`] per connection, owned by its lane, so that pushes are taken in the order in which they came. A door
//! writes each role under its configured field, stamps `_t`, and asks for the id window, so that pushing again after a
//! lost answer adds nothing twice.
//!
//! While the store is away events go to the spool, where there is one ([`crate::spool`]), and as long as anything waits
//! there, behind it. They are accepted: on the disk, and in the store later, once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::rpc::{
    Code, Error, IngestCloseParams, IngestClosed, IngestOpenParams, IngestOpened, IngestPushParams,
    IngestPushed,
};

use tokio::time::Instant;

use super::admission::admission;
use super::settle::Settle;
use crate::commands::Context;
use crate::plans::words::{quote, store_error};
use crate::record::{EntryId, FIELD_ORIGIN};
use crate::runtime::{SourceHandle, pressure};
use crate::spool::{Receipt, Spool};
use crate::store::{Admission, DeadRow, StoreError};

/// Open sessions of one connection.
const SESSIONS_MAX: usize = 4;
/// Events of one call to the store.
const CHUNK: usize = 500;
/// Bytes of one call to the store, one larger event aside; also the limit of a push.
const CHUNK_BYTES: usize = 512 * 1024;
/// Longest name of an input.
const NAME_MAX: usize = 1_024;
/// Dead letters looked at when a session ends.
const DEAD_LOOKED_MAX: usize = 100_000;
/// What a client waits under back-pressure.
const PRESSURE_WAIT_MS: u64 = 500;
/// What a client waits while the store is away.
const AWAY_WAIT_MS: u64 = 1_000;

/// The open sessions of one connection.
#[derive(Default)]
pub(super) struct Ingests {
    sessions: HashMap<String, Session>,
    n_opened: u64,
}

/// One input on its way in.
pub(super) struct Session {
    name: String,
    sums: IngestClosed,
    /// Where its entries are, and the last id that must settle: added here, or known before and pushed again.
    receipt: Receipt,
    /// The same of what went through the spool, filled as it drains.
    spooled: Arc<Mutex<Receipt>>,
    /// Number in the spool of the last event that is not known to be in the store yet.
    spooled_to: Option<u64>,
    settle: Option<(EntryId, Settle)>,
}

/// Why a call of a push was not taken, and when to try again.
struct Stopped {
    why: String,
    wait_ms: u64,
}

/// Events refused at doors that could not be booked yet, because the store was away. One for the whole process.
#[derive(Default)]
pub(super) struct Owed(AtomicU64);

impl Ingests {
    /// Errors: `InvalidParams`, `Busy`, `Unavailable` while draining.
    pub(super) fn open(
        &mut self,
        context: &Context,
        params: IngestOpenParams,
    ) -> Result<IngestOpened, Error> {
        check_open(context)?;
        if params.name.len() > NAME_MAX {
            return Err(Error::new(
                Code::InvalidParams,
                format!("name is longer than {NAME_MAX} bytes"),
            ));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            let message = format!("{SESSIONS_MAX} inputs are open on this connection");
            return Err(Error::new(Code::Busy, message).hint("close one with ingest.close"));
        }
        self.n_opened += 1;
        let session = format!("i{}", self.n_opened);
        let fresh = Session {
            name: params.name,
            sums: IngestClosed::default(),
            receipt: Receipt::default(),
            spooled: Arc::default(),
            spooled_to: None,
            settle: None,
        };
        self.sessions.insert(session.clone(), fresh);
        Ok(IngestOpened { session })
    }

    /// Takes events up to the first that cannot be taken now. Errors: `NotFound`, `InvalidParams` (then nothing was
    /// taken), `TooLarge`, `Unavailable` while draining.
    pub(super) async fn push(
        &mut self,
        context: &Context,
        owed: &Owed,
        params: IngestPushParams,
    ) -> Result<IngestPushed, Error> {
        check_open(context)?;
        let session = self
            .sessions
            .get_mut(&params.session)
            .ok_or_else(|| unknown(&params.session))?;
        let now_us = context.clock.now_us();
        let mut n_bytes = 0;
        let mut events = Vec::with_capacity(params.events.len());
        for (index, event) in params.events.iter().enumerate() {
            let (admission, size) = admission(event, &context.config, now_us).map_err(|what| {
                Error::new(Code::InvalidParams, format!("event {index}: {what}"))
            })?;
            n_bytes += size;
            events.push((admission, size));
        }
        if n_bytes > CHUNK_BYTES && events.len() > 1 {
            let message = format!("a push of {n_bytes} bytes; the limit is {CHUNK_BYTES}");
            return Err(Error::new(Code::TooLarge, message).hint("push fewer events at once"));
        }
        let pushed = session.take(context, events).await;
        note(context, owed, &pushed).await;
        Ok(pushed)
    }

    /// Answers at once whether the session's entries are settled. The session ends when they are, or when the client does
    /// not want to wait. The second value is the session when it ended. Errors: `NotFound`, `Unavailable`.
    pub(super) async fn close(
        &mut self,
        context: &Context,
        params: &IngestCloseParams,
    ) -> Result<(IngestClosed, Option<Session>), Error> {
        let session = self
            .sessions
            .get_mut(&params.session)
            .ok_or_else(|| unknown(&params.session))?;
        let looked = session.look(context).await;
        if let (Err(error), true) = (&looked, params.wait) {
            return Err(store_error(error.clone()));
        }
        session.sums.settled = looked.unwrap_or(false);
        let is_over = session.sums.settled || !params.wait;
        if is_over {
            match session.count_dead(context).await {
                Ok(n) => session.sums.dead = n,
                Err(error) if params.wait => return Err(store_error(error)),
                // Who does not wait is not held up by a store that is away.
                Err(_) => {}
            }
        }
        let sums = session.sums.clone();
        let ended = if is_over {
            self.sessions.remove(&params.session)
        } else {
            None
        };
        Ok((sums, ended))
    }

    /// What is still open when the connection ends.
    pub(super) fn take_all(&mut self) -> Vec<Session> {
        self.sessions.drain().map(|(_, session)| session).collect()
    }
}

impl Session {
    /// Name of the input, as the client gave it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Counts in words, for the audit file.
    pub(super) fn in_words(&self) -> String {
        let IngestClosed {
            accepted,
            deduplicated,
            rejected,
            dead,
            settled,
        } = &self.sums;
        let end = if *settled {
            "settled"
        } else {
            "left before it was settled"
        };
        format!(
            "accepted {accepted}, deduplicated {deduplicated}, rejected {rejected}, dead {dead}, {end}"
        )
    }

    async fn take(&mut self, context: &Context, events: Vec<(Admission, usize)>) -> IngestPushed {
        let n_all = events.len() as u64;
        let mut pushed = IngestPushed::default();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let stopped = match pressure(context) {
                Some(why) => Some(Stopped {
                    why,
                    wait_ms: PRESSURE_WAIT_MS,
                }),
                None => {
                    let mut n_bytes = 0;
                    let mut chunk = Vec::new();
                    while let Some((_, size)) = events.peek()
                        && chunk.len() < CHUNK
                        && (chunk.is_empty() || n_bytes + size <= CHUNK_BYTES)
                    {
                        n_bytes += size;
                        chunk.extend(events.next().map(|(admission, _)| admission));
                    }
                    let n = chunk.len() as u64;
                    match self.enter(context, chunk).await {
                        Ok(n_known) => {
                            pushed.accepted += n;
                            pushed.deduplicated += n_known;
                            None
                        }
                        Err(stopped) => Some(stopped),
                    }
                }
            };
            if let Some(Stopped { why, wait_ms }) = stopped {
                pushed.rejected = n_all - pushed.accepted;
                pushed.first_rejected = Some(pushed.accepted);
                pushed.retry_after_ms = wait_ms;
                pushed.reason = Some(why);
                break;
            }
        }
        self.sums.accepted += pushed.accepted;
        self.sums.deduplicated += pushed.deduplicated;
        self.sums.rejected += pushed.rejected;
        pushed
    }

    /// Takes events into the store, or into the spool; how many of them were known before.
    async fn enter(&mut self, context: &Context, chunk: Vec<Admission>) -> Result<u64, Stopped> {
        let spool = &context.spool;
        if spool.is_open() {
            return self.keep(spool, chunk).await;
        }
        let begun = Instant::now();
        let error = match context.admin.admit(&chunk, true).await {
            Ok(admitted) => {
                if let Some(source) = ingest_source(context) {
                    source.accepted_in(begun.elapsed());
                }
                let n_before = self.receipt.n_known;
                self.receipt.note(admitted.into_iter());
                return Ok(self.receipt.n_known - n_before);
            }
            Err(error) => error,
        };
        // Of a lost answer it is not known whether the events are in. The window knows them when they come out of the
        // spool; without it they are refused, as ever, and what is sent next goes to the spool.
        let is_sure = match &error {
            StoreError::Loading(_) | StoreError::ReadOnly(_) => true,
            StoreError::Unavailable(_) => {
                context.layout.dedupe.is_some() && chunk.iter().all(|e| e.event_id.is_some())
            }
            // It is there and says no: its producers are to feel it.
            StoreError::OutOfMemory(_)
            | StoreError::DiskFull(_)
            | StoreError::GroupGone(_)
            | StoreError::Broken(_)
            | StoreError::Foreign(_)
            | StoreError::Denied(_)
            | StoreError::NotDurable(_)
            | StoreError::Bug(_) => return Err(away(why_not(&error))),
        };
        spool.expect_outage();
        if is_sure && spool.is_on() {
            return self.keep(spool, chunk).await;
        }
        Err(away(why_not(&error)))
    }

    /// Takes events into the spool.
    async fn keep(&mut self, spool: &Spool, chunk: Vec<Admission>) -> Result<u64, Stopped> {
        match spool.append(chunk, &self.spooled).await {
            Ok(last) => {
                self.spooled_to = Some(last);
                Ok(0)
            }
            Err(refused) => Err(away(format!("redis is away, and {refused}"))),
        }
    }

    /// Takes over what is known by now of the events that went through the spool; `false`: some are still in it.
    async fn drained(&mut self, context: &Context) -> Result<bool, StoreError> {
        let Some(last) = self.spooled_to else {
            return Ok(true);
        };
        if !context.spool.is_drained(last) {
            return Ok(false);
        }
        let depth = context.admin.depth().await?;
        let mut stages = context.layout.stages.iter().zip(&depth.stages);
        let source = stages.find(|(stage, _)| stage.reads_source);
        let known =
            std::mem::take(&mut *self.spooled.lock().unwrap_or_else(PoisonError::into_inner));
        self.receipt.ranges.extend(known.ranges);
        self.receipt.ranges.sort_unstable();
        self.sums.deduplicated += known.n_known;
        // Of a batch whose answer was lost the ids are not known: it lies before the end of the stream as it is now.
        let end = source.map(|(_, depth)| depth.last_id);
        self.receipt.last = self.receipt.last.max(known.last).max(end);
        self.spooled_to = None;
        Ok(true)
    }

    async fn look(&mut self, context: &Context) -> Result<bool, StoreError> {
        if !self.drained(context).await? {
            return Ok(false);
        }
        let Some(last) = self.receipt.last else {
            return Ok(true);
        };
        let depth = context.admin.depth().await?;
        // Pushed since the last look: what was settled was another mark.
        let settle = match &mut self.settle {
            Some((of, settle)) if *of == last => settle,
            other => &mut other.insert((last, Settle::new(&context.layout, last))).1,
        };
        Ok(settle.look(&context.layout, &depth))
    }

    /// How many of this session's entries are dead letters. Newest first, until before the session's first entry.
    async fn count_dead(&self, context: &Context) -> Result<u64, StoreError> {
        let Some((first, _)) = self.receipt.ranges.first() else {
            return Ok(0);
        };
        let (mut before, mut n_dead, mut n_looked) = (EntryId::MAX, 0, 0);
        while n_looked < DEAD_LOOKED_MAX {
            let rows = context.admin.dead(before, 100).await?;
            let Some(last) = rows.last() else { break };
            before = last.id;
            n_looked += rows.len();
            n_dead += rows
                .iter()
                .filter(|row| self.holds(row, &context.layout.source))
                .count() as u64;
            // Ids of dead letters are the server's time of death: nothing dies before it came in.
            if before.ms < first.ms {
                break;
            }
        }
        Ok(n_dead)
    }

    fn holds(&self, row: &DeadRow, source: &str) -> bool {
        let Some(id) = root(row, source) else {
            return false;
        };
        let ranges = &self.receipt.ranges;
        let after = ranges.partition_point(|(first, _)| *first <= id);
        after.checked_sub(1).is_some_and(|n| id <= ranges[n].1) && row.redriven.is_none()
    }
}

/// The id in the source stream of what a dead letter came from.
fn root(row: &DeadRow, source: &str) -> Option<EntryId> {
    let origin = row
        .fields
        .iter()
        .find(|(name, _)| name == FIELD_ORIGIN)
        .map(|(_, value)| value);
    match origin {
        Some(value) => std::str::from_utf8(value).ok()?.parse().ok(),
        None => (row.origin_stream == source).then_some(row.origin_id),
    }
}

fn check_open(context: &Context) -> Result<(), Error> {
    if context.handle.is_draining() || context.shutdown.is_cancelled() {
        return Err(Error::new(Code::Unavailable, "the daemon is draining")
            .hint("push again after: pipectl up"));
    }
    Ok(())
}

fn unknown(session: &str) -> Error {
    Error::new(
        Code::NotFound,
        format!("no input {} is open on this connection", quote(session)),
    )
    .hint("open one with ingest.open")
}

/// Why events are not taken now, as the last Snapshot (a second old at most) has it; `None` = they are.
fn pressure(context: &Context) -> Option<String> {
    let snapshot = context.observer.latest();
    pressure::reason(&snapshot, &context.layout.source, &context.config.ingest)
}

fn away(why: String) -> Stopped {
    Stopped {
        why,
        wait_ms: AWAY_WAIT_MS,
    }
}

fn ingest_source(context: &Context) -> Option<&SourceHandle> {
    let mut sources = context.handle.sources.iter();
    sources
        .find(|source| source.kind == "ingest")
        .map(AsRef::as_ref)
}

fn why_not(error: &StoreError) -> String {
    store_error(error.clone()).message
}

/// Meters, and the ledger's `rejected`: each refused event counts once a push, so an event that is pushed again and
/// refused again counts again. Whether a client gives up in the end cannot be known here.
async fn note(context: &Context, owed: &Owed, pushed: &IngestPushed) {
    if let Some(source) = ingest_source(context) {
        source
            .sent
            .fetch_add(pushed.accepted - pushed.deduplicated, Ordering::Relaxed);
        source
            .rejected
            .fetch_add(pushed.rejected, Ordering::Relaxed);
        let state = match &pushed.reason {
            Some(why) => ("backpressure", Some(why.clone())),
            None => ("running", None),
        };
        *source.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
    let n = owed.0.swap(0, Ordering::Relaxed) + pushed.rejected;
    // While the spool is open the store is away: each push would wait for it.
    if n > 0 && (context.spool.is_open() || context.admin.book_rejected(n).await.is_err()) {
        // The store is away, which may be why they were refused: booked with the next push.
        owed.0.fetch_add(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_dead_letter_belongs_to_the_session_whose_ranges_hold_its_root() {
        let id = |ms| EntryId { ms, seq: 0 };
        let session = Session {
            name: String::new(),
            sums: IngestClosed::default(),
            receipt: Receipt {
                ranges: vec![(id(10), id(12)), (id(20), id(20))],
                ..Receipt::default()
            },
            spooled: Arc::default(),
            spooled_to: None,
            settle: None,
        };
        let row = |stream: &str, origin: u64, root: Option<&str>| DeadRow {
            origin_stream: stream.to_owned(),
            origin_id: id(origin),
            fields: root
                .map(|r| (Bytes::from_static(FIELD_ORIGIN), Bytes::from(r.to_owned())))
                .into_iter()
                .collect(),
            ..DeadRow::default()
        };
        let table = [
            ("in the first range", row("events", 11, None), true),
            ("at its ends", row("events", 12, None), true),
            ("between", row("events", 15, None), false),
            ("before", row("events", 9, None), false),
            ("after", row("events", 21, None), false),
            (
                "of a later stage, by its root",
                row("{events}:enrich", 99, Some("20-0")),
                true,
            ),
            (
                "of a later stage, another root",
                row("{events}:enrich", 11, Some("15-0")),
                false,
            ),
            (
                "of a later stage, without a root",
                row("{events}:enrich", 11, None),
                false,
            ),
            (
                "a root that is no id",
                row("events", 11, Some("\u{1b}")),
                false,
            ),
        ];
        for (desc, row, expected) in table {
            assert_eq!(session.holds(&row, "events"), expected, "{desc}");
        }
    }
}
