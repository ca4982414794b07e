//! The store on Redis or Valkey: what users run.
//!
//! `lane` is the hot loop of one worker (own RESP, own connections, scripts); `admin` is everything else. Each Lua script
//! states its keys, arguments, reply and the invariant that it keeps.

mod address;
mod admin;
mod connection;
mod depth;
mod encode;
mod errors;
mod info;
mod keyed;
mod keys;
mod lane;
mod left_out;
pub mod managed;
mod outside;
mod owner;
pub mod preflight;
mod resp;
mod scripts;
mod survival;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipectl_shared::config::Durability;

/// The redis crate's client, for rooms that may not name the crate.
pub use ::redis::Client;

pub use address::{Address, Endpoint, Login};
pub use left_out::LeftOut;
pub use outside::{Answer, Outside};

use self::admin::RedisAdmin;
use self::connection::Connection;
use self::keys::Keys;
use self::lane::{Lane, RedisReader, RedisWriter};
use self::left_out::Commits;
use self::owner::{RedisFollower, RedisOwner};
use self::survival::Survival;
use super::{Admin, Layout, Owner, Reader, Result, Store, StoreError, Writer};
use crate::record::EntryId;

/// A store on one server. Cheap to clone.
#[derive(Clone)]
pub struct RedisStore {
    address: Address,
    layout: Arc<Layout>,
    admin: Arc<RedisAdmin>,
    commits: Option<Arc<Commits>>,
}

impl RedisStore {
    /// Names the server and the keys; connects when something is asked.
    pub fn new(address: Address, layout: Arc<Layout>) -> Self {
        let admin = Arc::new(RedisAdmin::new(address.clone(), Arc::clone(&layout)));
        Self {
            address,
            layout,
            admin,
            commits: None,
        }
    }

    /// Workers commit without these guards from now on; only a test of the tests wants that.
    ///
    /// # Errors
    /// `Bug` when a guard is not where it was.
    pub fn leaving_out(self, left_out: LeftOut) -> Result<Self> {
        Ok(Self {
            commits: Some(Arc::new(Commits::without(left_out)?)),
            ..self
        })
    }

    /// Doors answer only when events have survived this, or refuse after `limit`. At first: `memory`.
    #[must_use]
    pub fn durable(self, class: Durability, limit: Duration) -> Self {
        let admin = RedisAdmin::new(self.address.clone(), Arc::clone(&self.layout))
            .surviving(Survival::new(class, limit));
        Self {
            admin: Arc::new(admin),
            ..self
        }
    }

    async fn lane(&self, stage: usize, consumer: &str, role: &str) -> Result<Lane> {
        let stage = self
            .layout
            .stages
            .get(stage)
            .ok_or_else(|| StoreError::Bug(format!("no stage {stage}")))?
            .clone();
        let keys = Keys::of(&self.layout, &stage);
        // CLIENT SETNAME takes no spaces; consumer names of ours have none.
        let connection =
            Connection::open(&self.address, &format!("pipelined:{consumer}:{role}")).await?;
        Ok(Lane {
            layout: Arc::clone(&self.layout),
            stage,
            keys,
            consumer: consumer.to_owned(),
            connection,
            commits: self.commits.clone(),
        })
    }
}

#[async_trait]
impl Store for RedisStore {
    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    async fn reader(&self, stage: usize, consumer: &str) -> Result<Box<dyn Reader>> {
        Ok(Box::new(RedisReader(
            self.lane(stage, consumer, "read").await?,
        )))
    }

    async fn writer(&self, stage: usize, consumer: &str) -> Result<Box<dyn Writer>> {
        Ok(Box::new(RedisWriter(
            self.lane(stage, consumer, "commit").await?,
        )))
    }

    async fn owner(&self, stage: usize, consumer: &str) -> Result<Box<dyn Owner>> {
        Ok(Box::new(RedisOwner(
            self.lane(stage, consumer, "own").await?,
        )))
    }

    async fn follow(
        &self,
        stage: usize,
        consumer: &str,
        position: EntryId,
    ) -> Result<Box<dyn Reader>> {
        let lane = self.lane(stage, consumer, "read").await?;
        Ok(Box::new(RedisFollower { lane, position }))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.admin) as Arc<dyn Admin>
    }
}
