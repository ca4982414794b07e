//! The Redis store on a private server: the one place of the tests that opens one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pipelined::store::memory::Meddler;
use pipelined::store::redis::{Address, Login, RedisStore};
use pipelined::store::{Layout, Store};

use super::harness::Backend;
use crate::support::meddler::RedisMeddler;
use crate::support::proxy::Proxy;
use crate::support::server::RedisServer;

/// How long an answer may take; only a failing test waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A Redis store on this socket.
fn store(socket: &Path, layout: Layout) -> Arc<dyn Store> {
    let url = format!("redis+unix://{}", socket.display());
    let address =
        Address::parse(&url, Login::default(), TIMEOUT, None).expect("the address of a socket");
    Arc::new(RedisStore::new(address, Arc::new(layout)))
}

/// A private server; the store reaches it through a proxy, so that replies can be lost.
pub(crate) struct RedisBackend {
    meddler: RedisMeddler,
}

impl RedisBackend {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further options of the server.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let server = RedisServer::start_with(options).await;
        let proxy = Proxy::start(server.socket()).await;
        Self {
            meddler: RedisMeddler::new(server, Some(proxy)).await,
        }
    }

    /// Runs redis-cli against its server; what it printed.
    pub(crate) async fn cli(&self, args: &[&str]) -> String {
        self.meddler.cli(args).await
    }
}

#[async_trait]
impl Backend for RedisBackend {
    async fn open(&self, layout: Layout) -> Arc<dyn Store> {
        store(self.meddler.store_socket(), layout)
    }

    fn meddler(&self) -> &dyn Meddler {
        &self.meddler
    }
}
