//! A store with weather between it and its callers.

use std::sync::Arc;

use async_trait::async_trait;

use super::admin::WeatheredAdmin;
use super::hands::Hands;
use super::weather::{Call, Link, Weather};
use crate::record::EntryId;
use crate::store::{Admin, Layout, Owner, Reader, Result, Store, Writer};

/// A decorator of [`Store`]: every call of it, and of all that it hands out, goes through the weather.
pub struct Weathered {
    inner: Arc<dyn Store>,
    link: Link,
}

impl Weathered {
    /// Puts `weather` between `inner` and its callers.
    pub fn new(inner: Arc<dyn Store>, weather: Arc<dyn Weather>) -> Self {
        Self {
            inner,
            link: Link::new(weather),
        }
    }
}

#[async_trait]
impl Store for Weathered {
    fn layout(&self) -> &Arc<Layout> {
        self.inner.layout()
    }

    async fn reader(&self, stage: usize, consumer: &str) -> Result<Box<dyn Reader>> {
        let call = Call {
            what: "reader",
            who: consumer,
        };
        let inner = self
            .link
            .send(call, self.inner.reader(stage, consumer))
            .await?;
        Ok(Box::new(Hands::new(&self.link, consumer, inner)))
    }

    async fn writer(&self, stage: usize, consumer: &str) -> Result<Box<dyn Writer>> {
        let call = Call {
            what: "writer",
            who: consumer,
        };
        let inner = self
            .link
            .send(call, self.inner.writer(stage, consumer))
            .await?;
        Ok(Box::new(Hands::new(&self.link, consumer, inner)))
    }

    async fn owner(&self, stage: usize, consumer: &str) -> Result<Box<dyn Owner>> {
        let call = Call {
            what: "owner",
            who: consumer,
        };
        let inner = self
            .link
            .send(call, self.inner.owner(stage, consumer))
            .await?;
        Ok(Box::new(Hands::new(&self.link, consumer, inner)))
    }

    async fn follow(
        &self,
        stage: usize,
        consumer: &str,
        position: EntryId,
    ) -> Result<Box<dyn Reader>> {
        let call = Call {
            what: "follow",
            who: consumer,
        };
        let inner = self
            .link
            .send(call, self.inner.follow(stage, consumer, position))
            .await?;
        Ok(Box::new(Hands::new(&self.link, consumer, inner)))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(WeatheredAdmin {
            inner: self.inner.admin(),
            link: self.link.clone(),
        })
    }
}
