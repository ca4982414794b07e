//! The one place of the tests that names the Redis store: how it is opened on a private server.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use pipelined::store::memory::Meddler;
use pipelined::store::{Layout, Store};

use super::meddler::RedisMeddler;
use super::proxy::Proxy;
use super::server::RedisServer;
use crate::store_contract::harness::Backend;

/// A Redis store on this socket. FILL IN: settings as `RedisStore::connect` wants them.
async fn connect(socket: &Path, layout: Layout) -> Arc<dyn Store> {
    let settings = format!("redis+unix://{}", socket.display());
    let store = pipelined::store::redis::RedisStore::connect(settings, layout).await;
    Arc::new(store.expect("connect to the private server"))
}

/// A private server; the store reaches it through a proxy, so that replies can be lost.
pub(crate) struct RedisBackend {
    meddler: RedisMeddler,
}

impl RedisBackend {
    pub(crate) async fn start() -> Self {
        let server = RedisServer::start().await;
        let proxy = Proxy::start(server.socket()).await;
        Self {
            meddler: RedisMeddler::new(server, Some(proxy)).await,
        }
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn open(&self, layout: Layout) -> Arc<dyn Store> {
        connect(self.meddler.store_socket(), layout).await
    }

    fn meddler(&self) -> &dyn Meddler {
        &self.meddler
    }
}
