//! The admin port with weather between it and the store. What changes the store may be belated and repeated, what only
//! reads is sent once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::weather::{Call, Link};
use crate::record::{EntryId, Record};
use crate::store::{
    Admin, Admission, Admitted, Aggregates, ConsumerDepth, DeadRow, Depth, EpochSeen, Fate, Mended,
    PendingPage, PendingQuery, PendingRow, Result, Server, SpoolPlace, StreamMark, Swept,
};

/// Everything that is not the hot loop.
pub(super) struct WeatheredAdmin {
    pub(super) inner: Arc<dyn Admin>,
    pub(super) link: Link,
}

/// A call of nobody in particular.
fn call(what: &'static str) -> Call<'static> {
    Call { what, who: "" }
}

#[async_trait]
impl Admin for WeatheredAdmin {
    async fn prepare(&self) -> Result<Vec<Mended>> {
        self.link.send(call("prepare"), self.inner.prepare()).await
    }

    async fn depth(&self) -> Result<Depth> {
        self.link.send(call("depth"), self.inner.depth()).await
    }

    async fn consumers(&self, stage: usize) -> Result<Vec<ConsumerDepth>> {
        self.link
            .send(call("consumers"), self.inner.consumers(stage))
            .await
    }

    async fn pending(&self, stage: usize, query: &PendingQuery) -> Result<PendingPage> {
        self.link
            .send(call("pending"), self.inner.pending(stage, query))
            .await
    }

    async fn pending_entry(&self, stage: usize, id: EntryId) -> Result<Option<PendingRow>> {
        self.link
            .send(call("pending_entry"), self.inner.pending_entry(stage, id))
            .await
    }

    async fn dead(&self, before: EntryId, n_max: usize) -> Result<Vec<DeadRow>> {
        self.link
            .send(call("dead"), self.inner.dead(before, n_max))
            .await
    }

    async fn dead_entry(&self, id: EntryId) -> Result<Option<DeadRow>> {
        self.link
            .send(call("dead_entry"), self.inner.dead_entry(id))
            .await
    }

    async fn aggregates(&self, n_top: usize) -> Result<Aggregates> {
        self.link
            .send(call("aggregates"), self.inner.aggregates(n_top))
            .await
    }

    async fn session(&self, id: &[u8]) -> Result<Option<u64>> {
        self.link
            .send(call("session"), self.inner.session(id))
            .await
    }

    async fn peek(&self, stage: usize, after: EntryId, n_max: usize) -> Result<Vec<Record>> {
        self.link
            .send(call("peek"), self.inner.peek(stage, after, n_max))
            .await
    }

    async fn server(&self) -> Result<Server> {
        self.link.send(call("server"), self.inner.server()).await
    }

    async fn discard(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let act = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_owned());
            async move { inner.discard(stage, &ids).await }
        };
        self.link.send_twice(call("discard"), act).await
    }

    async fn kill(&self, stage: usize, ids: &[EntryId], why: &str) -> Result<Vec<Fate>> {
        let act = || {
            let (inner, ids, why) = (Arc::clone(&self.inner), ids.to_owned(), why.to_owned());
            async move { inner.kill(stage, &ids, &why).await }
        };
        self.link.send_twice(call("kill"), act).await
    }

    async fn release(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let act = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_owned());
            async move { inner.release(stage, &ids).await }
        };
        self.link.send_twice(call("release"), act).await
    }

    async fn redrive(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let act = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_owned());
            async move { inner.redrive(&ids).await }
        };
        self.link.send_twice(call("redrive"), act).await
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let act = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_owned());
            async move { inner.purge(&ids).await }
        };
        self.link.send_twice(call("purge"), act).await
    }

    async fn janitor(&self, keep: Duration, keep_dead: Duration) -> Result<Swept> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move { inner.janitor(keep, keep_dead).await }
        };
        self.link.send_twice(call("janitor"), act).await
    }

    async fn admit_spooled(
        &self,
        place: SpoolPlace,
        events: &[Admission],
    ) -> Result<Vec<Option<Admitted>>> {
        let act = || {
            let (inner, events) = (Arc::clone(&self.inner), events.to_owned());
            async move { inner.admit_spooled(place, &events).await }
        };
        self.link.send_twice(call("admit_spooled"), act).await
    }

    async fn survive(&self) -> Result<()> {
        self.link.send(call("survive"), self.inner.survive()).await
    }

    async fn spool_position(&self, life: u64) -> Result<u64> {
        self.link
            .send(call("spool_position"), self.inner.spool_position(life))
            .await
    }

    async fn epoch(&self, known: Option<&StreamMark>, fresh: u64) -> Result<EpochSeen> {
        self.link
            .send(call("epoch"), self.inner.epoch(known, fresh))
            .await
    }

    async fn retire(&self, stage: usize, consumer: &str) -> Result<u64> {
        let act = || {
            let (inner, consumer) = (Arc::clone(&self.inner), consumer.to_owned());
            async move { inner.retire(stage, &consumer).await }
        };
        self.link.send_twice(call("retire"), act).await
    }

    async fn admit(&self, events: &[Admission], checked: bool) -> Result<Vec<Admitted>> {
        let act = || {
            let (inner, events) = (Arc::clone(&self.inner), events.to_owned());
            async move { inner.admit(&events, checked).await }
        };
        self.link.send_twice(call("admit"), act).await
    }

    async fn book_rejected(&self, n_events: u64) -> Result<()> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move { inner.book_rejected(n_events).await }
        };
        self.link.send_twice(call("book_rejected"), act).await
    }

    async fn beat(&self, instance: &str, ttl: Duration) -> Result<Vec<String>> {
        let act = || {
            let (inner, instance) = (Arc::clone(&self.inner), instance.to_owned());
            async move { inner.beat(&instance, ttl).await }
        };
        self.link.send_twice(call("beat"), act).await
    }

    async fn leave(&self, instance: &str) -> Result<()> {
        let act = || {
            let (inner, instance) = (Arc::clone(&self.inner), instance.to_owned());
            async move { inner.leave(&instance).await }
        };
        self.link.send_twice(call("leave"), act).await
    }
}
