//! Reader, writer and owner with weather between them and the store. A commit, a claim or the taking of a lease may be
//! belated and repeated: the store's hands are then used by who is not there any more, one call at a time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::weather::{Call, Link};
use crate::record::EntryId;
use crate::store::{
    Acquired, Batch, Cell, Commit, Committed, DueTimers, Fired, Firing, OwnedCommit, OwnedDone,
    Owner, Reader, Renewed, Result, Wish, Writer,
};

/// One consumer's hands of any of the three kinds.
pub(super) struct Hands<T: ?Sized> {
    link: Link,
    who: String,
    inner: Arc<Mutex<Box<T>>>,
}

impl<T: ?Sized> Hands<T> {
    pub(super) fn new(link: &Link, who: &str, inner: Box<T>) -> Self {
        Self {
            link: link.clone(),
            who: who.to_owned(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn call(&self, what: &'static str) -> Call<'_> {
        Call {
            what,
            who: &self.who,
        }
    }
}

#[async_trait]
impl Reader for Hands<dyn Reader> {
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch> {
        let act = async { self.inner.lock().await.backlog(after, n_records_max).await };
        self.link.send(self.call("backlog"), act).await
    }

    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch> {
        let act = async { self.inner.lock().await.next(n_records_max, block).await };
        self.link.send(self.call("next"), act).await
    }
}

#[async_trait]
impl Writer for Hands<dyn Writer> {
    async fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        let commit = Arc::new(commit.clone());
        let act = || {
            let (inner, commit) = (Arc::clone(&self.inner), Arc::clone(&commit));
            async move { inner.lock().await.commit(&commit).await }
        };
        self.link.send_twice(self.call("commit"), act).await
    }

    async fn keep(&mut self, ids: &[EntryId]) -> Result<Vec<EntryId>> {
        let act = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_vec());
            async move { inner.lock().await.keep(&ids).await }
        };
        self.link.send_twice(self.call("keep"), act).await
    }

    async fn sweep(
        &mut self,
        min_idle: Duration,
        after: EntryId,
        n_records_max: usize,
    ) -> Result<Batch> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move {
                let mut inner = inner.lock().await;
                inner.sweep(min_idle, after, n_records_max).await
            }
        };
        self.link.send_twice(self.call("sweep"), act).await
    }

    async fn claim(&mut self, ids: &[EntryId], min_idle: Duration) -> Result<Batch> {
        let act = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_vec());
            async move { inner.lock().await.claim(&ids, min_idle).await }
        };
        self.link.send_twice(self.call("claim"), act).await
    }
}

#[async_trait]
impl Owner for Hands<dyn Owner> {
    async fn acquire(&mut self, ttl: Duration) -> Result<Acquired> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move { inner.lock().await.acquire(ttl).await }
        };
        self.link.send_twice(self.call("acquire"), act).await
    }

    async fn renew(&mut self, epoch: u64, ttl: Duration) -> Result<Option<Renewed>> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move { inner.lock().await.renew(epoch, ttl).await }
        };
        self.link.send_twice(self.call("renew"), act).await
    }

    async fn release(&mut self, epoch: u64) -> Result<()> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move { inner.lock().await.release(epoch).await }
        };
        self.link.send_twice(self.call("release"), act).await
    }

    async fn commit(&mut self, commit: &OwnedCommit) -> Result<OwnedDone> {
        let commit = Arc::new(commit.clone());
        let act = || {
            let (inner, commit) = (Arc::clone(&self.inner), Arc::clone(&commit));
            async move { inner.lock().await.commit(&commit).await }
        };
        self.link.send_twice(self.call("commit"), act).await
    }

    async fn ask(&mut self, wish: Wish, ttl: Duration) -> Result<bool> {
        let act = || {
            let inner = Arc::clone(&self.inner);
            async move { inner.lock().await.ask(wish, ttl).await }
        };
        self.link.send_twice(self.call("ask"), act).await
    }

    async fn load_state(&mut self, keys: &[Bytes]) -> Result<Vec<Option<Cell>>> {
        let act = async { self.inner.lock().await.load_state(keys).await };
        self.link.send(self.call("load_state"), act).await
    }

    async fn due_timers(&mut self, n_max: usize) -> Result<DueTimers> {
        let act = async { self.inner.lock().await.due_timers(n_max).await };
        self.link.send(self.call("due_timers"), act).await
    }

    async fn fire(&mut self, firing: &Firing) -> Result<Fired> {
        let firing = Arc::new(firing.clone());
        let act = || {
            let (inner, firing) = (Arc::clone(&self.inner), Arc::clone(&firing));
            async move { inner.lock().await.fire(&firing).await }
        };
        self.link.send_twice(self.call("fire"), act).await
    }

    async fn fetch(&mut self, ids: &[EntryId]) -> Result<Batch> {
        let act = async { self.inner.lock().await.fetch(ids).await };
        self.link.send(self.call("fetch"), act).await
    }
}
