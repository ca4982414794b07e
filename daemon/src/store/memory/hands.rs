//! Reader and writer of one consumer of one stage.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::guards::Guard;
use super::state::{millis, stage_of};
use super::{Memory, commit};
use crate::record::{EntryId, Record};
use crate::store::{
    Batch, Commit, Committed, Delivered, Reader, Result, StageLayout, StoreError, Writer,
};

/// One consumer's hands: in memory a reader and a writer need no connections of their own.
pub(super) struct Hands {
    store: Memory,
    stage: usize,
    consumer: Bytes,
}

impl Hands {
    pub(super) fn new(store: Memory, stage: usize, consumer: &str) -> Self {
        Self {
            store,
            stage,
            consumer: Bytes::copy_from_slice(consumer.as_bytes()),
        }
    }

    fn stage(&self) -> Result<&StageLayout> {
        stage_of(&self.store.layout, self.stage)
    }

    /// New entries, without waiting.
    fn read_now(&self, n_max: usize) -> Result<Batch> {
        let stage = self.stage()?;
        self.store.shared.look(|inside, now| {
            let stream = inside.state.streams.get_mut(&stage.stream);
            let new =
                stream.and_then(|stream| stream.read(&stage.group, &self.consumer, n_max, now));
            let new = new.ok_or_else(|| super::state::group_gone(stage))?;
            let entries = new.into_iter().map(|(id, fields)| Delivered {
                record: Record { id, fields },
                ..Delivered::default()
            });
            Ok(Batch {
                entries: entries.collect(),
                ..Batch::default()
            })
        })
    }
}

#[async_trait]
impl Reader for Hands {
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch> {
        let stage = self.stage()?;
        self.store.shared.change(|state, now| {
            let group = state.group_mut(stage)?;
            group.consumers.insert(self.consumer.clone(), now);
            let held = group.held_by(&self.consumer).filter(|id| *id > after);
            let held: Vec<EntryId> = held.take(n_records_max).collect();
            let mut batch = Batch::default();
            for id in &held {
                // As in Redis, reading one's own past counts as a delivery.
                let deliveries = state
                    .group_mut(stage)?
                    .claim(*id, &self.consumer, now)
                    .unwrap_or(0);
                state.hand_over(stage, *id, deliveries, now, &mut batch)?;
            }
            batch.next = held.last().copied().filter(|_| held.len() == n_records_max);
            Ok(batch)
        })
    }

    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch> {
        let deadline = Instant::now() + block;
        loop {
            // Registered before the look, so that an entry added in between wakes it.
            let changed = self.store.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let batch = self.read_now(n_records_max)?;
            if !batch.entries.is_empty() || timeout_at(deadline, changed).await.is_err() {
                return Ok(batch);
            }
        }
    }
}

#[async_trait]
impl Writer for Hands {
    async fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        let stage = self.stage()?;
        let layout = &self.store.layout;
        let committed = self
            .store
            .shared
            .change(|state, now| commit::commit(state, layout, stage, commit, false, now))?;
        if self
            .store
            .shared
            .look(|inside, _| std::mem::take(&mut inside.loses_reply))
        {
            return Err(StoreError::Unavailable("the answer was lost".into()));
        }
        Ok(committed)
    }

    async fn keep(&mut self, ids: &[EntryId]) -> Result<Vec<EntryId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let stage = self.stage()?;
        self.store.shared.change(|state, now| {
            let takes = !state.guards.on(Guard::HeartbeatHolder);
            let group = state.group(stage)?;
            let held = ids.iter().filter(|id| {
                group
                    .pending
                    .get(id)
                    .is_some_and(|p| takes || p.consumer == self.consumer)
            });
            let held: Vec<EntryId> = held.copied().collect();
            for id in &held {
                // An entry whose payload is gone is left as it is: a claim of it would drop it without a trace.
                if state.payload(stage, *id).is_some()
                    && let Some(pending) = state.group_mut(stage)?.pending.get_mut(id)
                {
                    pending.delivered_ms = now;
                    pending.consumer = self.consumer.clone();
                }
            }
            Ok(held)
        })
    }

    async fn sweep(
        &mut self,
        min_idle: Duration,
        after: EntryId,
        n_records_max: usize,
    ) -> Result<Batch> {
        let stage = self.stage()?;
        self.store.shared.change(|state, now| {
            let guards = state.guards;
            let idle = state.group(stage)?.pending.iter();
            let idle = idle.filter(|(id, pending)| {
                let is_idle = pending.idle_ms(now) >= millis(min_idle);
                **id > after && (is_idle || !guards.on(Guard::SweepIdle))
            });
            let found: Vec<(EntryId, Bytes)> = idle
                .take(n_records_max)
                .map(|(id, pending)| (*id, pending.consumer.clone()))
                .collect();
            let mut batch = Batch::default();
            for (id, holder) in &found {
                let waits = state
                    .retry_row(stage, *id)
                    .is_some_and(|row| row.not_before_ms > now && guards.on(Guard::SweepBackoff));
                if *holder != self.consumer && !waits {
                    let deliveries = state
                        .group_mut(stage)?
                        .claim(*id, &self.consumer, now)
                        .unwrap_or(0);
                    state.hand_over(stage, *id, deliveries, now, &mut batch)?;
                }
            }
            batch.next = found
                .last()
                .map(|(id, _)| *id)
                .filter(|_| found.len() == n_records_max);
            Ok(batch)
        })
    }

    async fn claim(&mut self, ids: &[EntryId], min_idle: Duration) -> Result<Batch> {
        let stage = self.stage()?;
        self.store.shared.change(|state, now| {
            state.group(stage)?;
            let mut batch = Batch::default();
            for id in ids {
                let group = state.group_mut(stage)?;
                let idle_ms = group.pending.get(id).map(|pending| pending.idle_ms(now));
                if idle_ms.is_none_or(|idle_ms| idle_ms < millis(min_idle)) {
                    continue;
                }
                let deliveries = group.claim(*id, &self.consumer, now).unwrap_or(0);
                state.hand_over(stage, *id, deliveries, now, &mut batch)?;
            }
            Ok(batch)
        })
    }
}
