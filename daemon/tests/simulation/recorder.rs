//! A recorder between the weather and the store: it writes every answer into the history at the moment the store gave it,
//! before anything can be lost on the way back. It changes nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pipelined::record::{EntryId, Record};
use pipelined::store::{
    Acquired, Admin, Admission, Admitted, Aggregates, Batch, Cell, Commit, Committed,
    ConsumerDepth, DeadRow, Depth, DueTimers, EpochSeen, Fate, Fired, Firing, Layout, Mended,
    OwnedCommit, OwnedDone, Owner, PendingPage, PendingQuery, PendingRow, Reader, Renewed, Result,
    Server, SpoolPlace, Store, StreamMark, Swept, Wish, Writer,
};

use super::history::{History, Inner};

/// A store that is watched.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) history: History,
}

impl Watched {
    /// Depths as they are now. The store in memory never waits here, so nothing comes between this and the call before.
    async fn depth(&self) -> Result<Depth> {
        self.inner.admin().depth().await
    }

    /// Writes down an answer, then checks the ledger.
    async fn note(&self, write: impl FnOnce(&mut Inner, u64) + Send) -> Result<()> {
        let depth = self.depth().await?;
        let mut history = self.history.lock();
        write(&mut history, depth.now_ms);
        history.check(&depth);
        Ok(())
    }

    fn hands<T: ?Sized>(&self, stage: usize, who: &str, inner: Box<T>) -> Hands<T> {
        Hands {
            store: self.clone(),
            stage,
            who: who.to_owned(),
            inner,
        }
    }
}

#[async_trait]
impl Store for Watched {
    fn layout(&self) -> &Arc<Layout> {
        self.inner.layout()
    }

    async fn reader(&self, stage: usize, consumer: &str) -> Result<Box<dyn Reader>> {
        let inner = self.inner.reader(stage, consumer).await?;
        Ok(Box::new(self.hands(stage, consumer, inner)))
    }

    async fn writer(&self, stage: usize, consumer: &str) -> Result<Box<dyn Writer>> {
        let inner = self.inner.writer(stage, consumer).await?;
        Ok(Box::new(self.hands(stage, consumer, inner)))
    }

    async fn owner(&self, stage: usize, consumer: &str) -> Result<Box<dyn Owner>> {
        let inner = self.inner.owner(stage, consumer).await?;
        Ok(Box::new(self.hands(stage, consumer, inner)))
    }

    async fn follow(
        &self,
        stage: usize,
        consumer: &str,
        position: EntryId,
    ) -> Result<Box<dyn Reader>> {
        let inner = self.inner.follow(stage, consumer, position).await?;
        Ok(Box::new(self.hands(stage, consumer, inner)))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(WatchedAdmin {
            inner: self.inner.admin(),
            store: self.clone(),
        })
    }
}

/// One consumer's hands.
struct Hands<T: ?Sized> {
    store: Watched,
    stage: usize,
    who: String,
    inner: Box<T>,
}

impl<T: ?Sized> Hands<T> {
    async fn delivered(
        &mut self,
        what: &'static str,
        batch: Batch,
        min_idle: Option<Duration>,
    ) -> Result<Batch> {
        if !batch.entries.is_empty() || !batch.lost.is_empty() {
            let (stage, who) = (self.stage, &self.who);
            let write = |history: &mut Inner, now_ms: u64| {
                history.delivered(stage, who, what, &batch, min_idle, now_ms);
            };
            self.store.note(write).await?;
        }
        Ok(batch)
    }
}

#[async_trait]
impl Reader for Hands<dyn Reader> {
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch> {
        let batch = self.inner.backlog(after, n_records_max).await?;
        self.delivered("backlog", batch, None).await
    }

    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch> {
        let batch = self.inner.next(n_records_max, block).await?;
        self.delivered("read", batch, None).await
    }
}

#[async_trait]
impl Writer for Hands<dyn Writer> {
    async fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        let done = self.inner.commit(commit).await?;
        let stage = self.stage;
        let write =
            |history: &mut Inner, now_ms: u64| history.committed(stage, commit, &done, now_ms);
        self.store.note(write).await?;
        Ok(done)
    }

    async fn keep(&mut self, ids: &[EntryId]) -> Result<Vec<EntryId>> {
        let kept = self.inner.keep(ids).await?;
        let (stage, who) = (self.stage, &self.who);
        let write = |history: &mut Inner, now_ms: u64| history.kept(stage, who, &kept, now_ms);
        self.store.note(write).await?;
        Ok(kept)
    }

    async fn sweep(
        &mut self,
        min_idle: Duration,
        after: EntryId,
        n_records_max: usize,
    ) -> Result<Batch> {
        let batch = self.inner.sweep(min_idle, after, n_records_max).await?;
        self.delivered("sweep", batch, Some(min_idle)).await
    }

    async fn claim(&mut self, ids: &[EntryId], min_idle: Duration) -> Result<Batch> {
        let batch = self.inner.claim(ids, min_idle).await?;
        self.delivered("claim", batch, Some(min_idle)).await
    }
}

#[async_trait]
impl Owner for Hands<dyn Owner> {
    async fn acquire(&mut self, ttl: Duration) -> Result<Acquired> {
        let acquired = self.inner.acquire(ttl).await?;
        if matches!(acquired, Acquired::Leased(_)) {
            let (stage, who) = (self.stage, &self.who);
            let write = |history: &mut Inner, now_ms: u64| {
                history.acquired(stage, who, ttl, &acquired, now_ms);
            };
            self.store.note(write).await?;
        }
        Ok(acquired)
    }

    async fn renew(&mut self, epoch: u64, ttl: Duration) -> Result<Option<Renewed>> {
        let renewed = self.inner.renew(epoch, ttl).await?;
        if renewed.is_some() {
            let (stage, who) = (self.stage, &self.who);
            let write =
                |history: &mut Inner, now_ms: u64| history.renewed(stage, who, epoch, ttl, now_ms);
            self.store.note(write).await?;
        }
        Ok(renewed)
    }

    async fn release(&mut self, epoch: u64) -> Result<()> {
        self.inner.release(epoch).await?;
        let (stage, who) = (self.stage, &self.who);
        let write = |history: &mut Inner, _: u64| history.released(stage, who, epoch);
        self.store.note(write).await
    }

    async fn commit(&mut self, commit: &OwnedCommit) -> Result<OwnedDone> {
        let done = self.inner.commit(commit).await?;
        let stage = self.stage;
        let write = |history: &mut Inner, now_ms: u64| {
            history.owner_committed(stage, commit, &done, now_ms);
        };
        self.store.note(write).await?;
        Ok(done)
    }

    async fn ask(&mut self, wish: Wish, ttl: Duration) -> Result<bool> {
        self.inner.ask(wish, ttl).await
    }

    async fn load_state(&mut self, keys: &[Bytes]) -> Result<Vec<Option<Cell>>> {
        self.inner.load_state(keys).await
    }

    async fn due_timers(&mut self, n_max: usize) -> Result<DueTimers> {
        self.inner.due_timers(n_max).await
    }

    async fn fire(&mut self, firing: &Firing) -> Result<Fired> {
        self.inner.fire(firing).await
    }

    async fn fetch(&mut self, ids: &[EntryId]) -> Result<Batch> {
        let batch = self.inner.fetch(ids).await?;
        self.delivered("fetch", batch, None).await
    }
}

/// Everything that is not the hot loop.
struct WatchedAdmin {
    inner: Arc<dyn Admin>,
    store: Watched,
}

impl WatchedAdmin {
    async fn by_hand(
        &self,
        stage: usize,
        what: &'static str,
        ids: &[EntryId],
        act: impl Future<Output = Result<Vec<Fate>>> + Send,
    ) -> Result<Vec<Fate>> {
        let before = self.store.depth().await?;
        let fates = act.await?;
        let after = self.store.depth().await?;
        let mut history = self.store.history.lock();
        history.by_hand(stage, what, ids, &fates, &before, &after);
        history.check(&after);
        drop(history);
        Ok(fates)
    }
}

#[async_trait]
impl Admin for WatchedAdmin {
    async fn prepare(&self) -> Result<Vec<Mended>> {
        let mended = self.inner.prepare().await?;
        let write = |history: &mut Inner, _: u64| {
            for one in &mended {
                history.tell("prepare", format_args!("{}: {}", one.what, one.detail));
            }
        };
        self.store.note(write).await?;
        Ok(mended)
    }

    async fn discard(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let act = self.inner.discard(stage, ids);
        self.by_hand(stage, "discard", ids, act).await
    }

    async fn kill(&self, stage: usize, ids: &[EntryId], why: &str) -> Result<Vec<Fate>> {
        let act = self.inner.kill(stage, ids, why);
        self.by_hand(stage, "kill", ids, act).await
    }

    async fn redrive(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let mut rows = Vec::new();
        for id in ids {
            rows.push(self.inner.dead_entry(*id).await?);
        }
        let fates = self.inner.redrive(ids).await?;
        let id_field = self.store.layout().id_field.clone();
        let write = |history: &mut Inner, _: u64| {
            for (row, fate) in rows.iter().flatten().zip(&fates) {
                if *fate == Fate::Done {
                    let event = row.fields.iter().find(|(name, _)| *name == id_field);
                    history.redrove(row.id, &row.stage, event.map(|(_, id)| id.clone()));
                }
            }
        };
        self.store.note(write).await?;
        Ok(fates)
    }

    async fn admit(&self, events: &[Admission], checked: bool) -> Result<Vec<Admitted>> {
        let admitted = self.inner.admit(events, checked).await?;
        let write = |history: &mut Inner, _: u64| history.admitted(events, checked, &admitted);
        self.store.note(write).await?;
        Ok(admitted)
    }

    async fn admit_spooled(
        &self,
        place: SpoolPlace,
        events: &[Admission],
    ) -> Result<Vec<Option<Admitted>>> {
        let admitted = self.inner.admit_spooled(place, events).await?;
        // What an earlier call has added was written down then.
        let pairs = events.iter().cloned().zip(&admitted);
        let (now, new): (Vec<_>, Vec<_>) = pairs
            .filter_map(|(event, admitted)| Some((event, (*admitted)?)))
            .unzip();
        let write = |history: &mut Inner, _: u64| history.admitted(&now, true, &new);
        self.store.note(write).await?;
        Ok(admitted)
    }

    async fn survive(&self) -> Result<()> {
        self.inner.survive().await
    }

    async fn spool_position(&self, life: u64) -> Result<u64> {
        self.inner.spool_position(life).await
    }

    async fn epoch(&self, known: Option<&StreamMark>, fresh: u64) -> Result<EpochSeen> {
        self.inner.epoch(known, fresh).await
    }

    async fn janitor(&self, keep: Duration, keep_dead: Duration) -> Result<Swept> {
        let swept = self.inner.janitor(keep, keep_dead).await?;
        let write = |history: &mut Inner, _: u64| {
            if swept != Swept::default() {
                history.tell("janitor", format_args!("{swept:?}"));
            }
        };
        self.store.note(write).await?;
        Ok(swept)
    }

    async fn retire(&self, stage: usize, consumer: &str) -> Result<u64> {
        let n_held = self.inner.retire(stage, consumer).await?;
        let write = |history: &mut Inner, _: u64| {
            history.tell(consumer, format_args!("retires, holding {n_held}"));
        };
        self.store.note(write).await?;
        Ok(n_held)
    }

    async fn depth(&self) -> Result<Depth> {
        self.inner.depth().await
    }

    async fn consumers(&self, stage: usize) -> Result<Vec<ConsumerDepth>> {
        self.inner.consumers(stage).await
    }

    async fn pending(&self, stage: usize, query: &PendingQuery) -> Result<PendingPage> {
        self.inner.pending(stage, query).await
    }

    async fn pending_entry(&self, stage: usize, id: EntryId) -> Result<Option<PendingRow>> {
        self.inner.pending_entry(stage, id).await
    }

    async fn dead(&self, before: EntryId, n_max: usize) -> Result<Vec<DeadRow>> {
        self.inner.dead(before, n_max).await
    }

    async fn dead_entry(&self, id: EntryId) -> Result<Option<DeadRow>> {
        self.inner.dead_entry(id).await
    }

    async fn release(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        self.inner.release(stage, ids).await
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        self.inner.purge(ids).await
    }

    async fn book_rejected(&self, n_events: u64) -> Result<()> {
        self.inner.book_rejected(n_events).await
    }

    async fn aggregates(&self, n_top: usize) -> Result<Aggregates> {
        self.inner.aggregates(n_top).await
    }

    async fn session(&self, id: &[u8]) -> Result<Option<u64>> {
        self.inner.session(id).await
    }

    async fn peek(&self, stage: usize, after: EntryId, n_max: usize) -> Result<Vec<Record>> {
        self.inner.peek(stage, after, n_max).await
    }

    async fn beat(&self, instance: &str, ttl: Duration) -> Result<Vec<String>> {
        self.inner.beat(instance, ttl).await
    }

    async fn leave(&self, instance: &str) -> Result<()> {
        self.inner.leave(instance).await
    }

    async fn server(&self) -> Result<Server> {
        self.inner.server().await
    }
}
