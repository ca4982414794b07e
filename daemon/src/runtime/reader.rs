//! The feed: reads ahead for one worker, so that the next batch is read while this one commits.
//!
//! Owns one task over the worker's reader connection. The task ends when `stop` is cancelled (after handing out what it has
//! read), at the first store error (which it hands out), or when the feed is dropped. Bound: `prefetch` batches; when they
//! are not taken it does not read, which is the back-pressure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::meter::StageMeter;
use super::worker::Paused;
use crate::clock::Clock;
use crate::record::EntryId;
use crate::store::{Batch, Reader, StoreError};

/// How long one read waits for entries. Short enough that a stop is not felt, long enough to cost nothing when idle.
const BLOCK: Duration = Duration::from_millis(500);

pub(super) struct Feed {
    reader: Option<Box<dyn Reader>>,
    batch: usize,
    prefetch: usize,
    paused: Paused,
    meter: Arc<StageMeter>,
    clock: Arc<dyn Clock>,
    task: JoinSet<()>,
    batches: Option<mpsc::Receiver<Result<Batch, StoreError>>>,
}

impl Feed {
    pub(super) fn new(
        reader: Box<dyn Reader>,
        batch: usize,
        prefetch: usize,
        paused: Paused,
        meter: Arc<StageMeter>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            reader: Some(reader),
            batch,
            prefetch,
            paused,
            meter,
            clock,
            task: JoinSet::new(),
            batches: None,
        }
    }

    /// The consumer's own pending entries; only before [`Feed::start`].
    pub(super) async fn backlog(
        &mut self,
        after: EntryId,
        n_max: usize,
    ) -> Result<Batch, StoreError> {
        match &mut self.reader {
            Some(reader) => {
                let batch = reader.backlog(after, n_max).await;
                // It is a read like any other: without this an idle stage would count as starting until its first read
                // of new entries has timed out.
                if batch.is_ok() {
                    let now_ms = self.clock.now_ms();
                    self.meter.last_read_ms.store(now_ms, Ordering::Relaxed);
                }
                batch
            }
            None => Err(StoreError::Bug(
                "the backlog is read before new entries".to_owned(),
            )),
        }
    }

    /// Begins to read new entries.
    pub(super) fn start(&mut self, stop: CancellationToken) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        let (sender, receiver) = mpsc::channel(self.prefetch.max(1));
        self.batches = Some(receiver);
        let (batch, paused) = (self.batch, self.paused.clone());
        let (meter, clock) = (Arc::clone(&self.meter), Arc::clone(&self.clock));
        self.task
            .spawn(read(reader, batch, paused, sender, stop, meter, clock));
    }

    /// The next batch; `None` = stopped and empty. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        match &mut self.batches {
            Some(batches) => batches.recv().await,
            None => None,
        }
    }

    /// Ends the task. What it had read stays in the pending list.
    pub(super) async fn close(&mut self) {
        self.batches = None;
        self.task.shutdown().await;
    }
}

async fn read(
    mut reader: Box<dyn Reader>,
    batch: usize,
    paused: Paused,
    sender: mpsc::Sender<Result<Batch, StoreError>>,
    stop: CancellationToken,
    meter: Arc<StageMeter>,
    clock: Arc<dyn Clock>,
) {
    loop {
        // A place first, then the read: nothing is ever delivered to us that nobody has room for.
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            place = sender.reserve() => match place {
                Ok(place) => place,
                Err(_) => return,
            },
        };
        if paused.is_on() {
            drop(place);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sender.closed() => return,
                () = paused.off() => {}
            }
            continue;
        }
        let result = reader.next(batch, BLOCK).await;
        meter.last_read_ms.store(clock.now_ms(), Ordering::Relaxed);
        match result {
            Ok(batch) if batch.entries.is_empty() && batch.lost.is_empty() => drop(place),
            Ok(batch) => place.send(Ok(batch)),
            Err(error) => {
                place.send(Err(error));
                return;
            }
        }
    }
}
