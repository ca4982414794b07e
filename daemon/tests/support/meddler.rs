//! The meddler of the Redis store: the raw commands that a third party would send, past the store's own connections.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pipelined::record::{EntryId, Fields};
use pipelined::store::memory::{GroupFacts, Meddler, PendingFacts};
use redis::{Cmd, FromRedisValue, Value, cmd};
use tokio::sync::Mutex;

use super::proxy::Proxy;
use super::server::RedisServer;

/// Most pending entries that a test has.
const PENDING_MAX: u32 = 100_000;

/// A private server, a direct connection to it, and the proxy that the store under test goes through.
pub(crate) struct RedisMeddler {
    server: Mutex<RedisServer>,
    socket: PathBuf,
    url: String,
    proxy: Option<Proxy>,
}

impl RedisMeddler {
    pub(crate) async fn new(server: RedisServer, proxy: Option<Proxy>) -> Self {
        let socket = proxy
            .as_ref()
            .map_or_else(|| server.socket(), Proxy::socket);
        Self {
            url: server.url(),
            socket,
            server: Mutex::new(server),
            proxy,
        }
    }

    /// The socket that the store under test is to use.
    pub(crate) fn store_socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Runs redis-cli against the server; what it printed.
    pub(crate) async fn cli(&self, args: &[&str]) -> String {
        self.server.lock().await.redis_cli(args)
    }

    /// Asks over a new connection: a test can afford it, and the server may have been started again in between.
    async fn ask(&self, command: &Cmd) -> redis::RedisResult<Value> {
        let client = redis::Client::open(self.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        command.query_async(&mut connection).await
    }

    /// Asks where an error is a bug of the test.
    async fn must<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let value = self
            .ask(command)
            .await
            .expect("the server refused a meddler's command");
        redis::from_redis_value(value).expect("the server answered something else")
    }

    /// Asks where stream or group may be gone: then the default.
    async fn may<T: FromRedisValue + Default>(&self, command: &Cmd) -> T {
        match self.ask(command).await {
            Ok(value) => {
                redis::from_redis_value(value).expect("the server answered something else")
            }
            Err(error)
                if error.code() == Some("NOGROUP") || error.to_string().contains("no such key") =>
            {
                T::default()
            }
            Err(error) if error.to_string().contains("requires the key to exist") => T::default(),
            Err(error) => panic!("the server refused a meddler's command: {error}"),
        }
    }
}

fn with_ids(mut command: Cmd, ids: &[EntryId]) -> Cmd {
    for id in ids {
        command.arg(id.to_string());
    }
    command
}

fn id(text: &str) -> EntryId {
    text.parse().expect("an entry id")
}

#[async_trait]
impl Meddler for RedisMeddler {
    async fn add(&self, stream: &str, fields: Fields) -> EntryId {
        let mut command = cmd("XADD");
        command.arg(stream).arg("*");
        for (name, value) in &fields {
            command.arg(name.as_ref()).arg(value.as_ref());
        }
        id(&self.must::<String>(&command).await)
    }

    async fn ack(&self, stream: &str, group: &str, ids: &[EntryId]) -> u64 {
        let mut command = cmd("XACK");
        command.arg(stream).arg(group);
        self.must(&with_ids(command, ids)).await
    }

    async fn del(&self, stream: &str, ids: &[EntryId]) -> u64 {
        let mut command = cmd("XDEL");
        command.arg(stream);
        self.must(&with_ids(command, ids)).await
    }

    async fn trim_to(&self, stream: &str, n_entries: usize) -> u64 {
        self.must(cmd("XTRIM").arg(stream).arg("MAXLEN").arg(n_entries))
            .await
    }

    async fn trim_below(&self, stream: &str, below: EntryId) -> u64 {
        self.must(cmd("XTRIM").arg(stream).arg("MINID").arg(below.to_string()))
            .await
    }

    async fn read(&self, stream: &str, group: &str, consumer: &str, n_max: usize) -> Vec<EntryId> {
        type Read = Option<Vec<(String, Vec<(String, Vec<Vec<u8>>)>)>>;
        let mut command = cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(group)
            .arg(consumer)
            .arg("COUNT")
            .arg(n_max);
        command.arg("STREAMS").arg(stream).arg(">");
        let read: Read = self.may(&command).await;
        let entries = read.into_iter().flatten().flat_map(|(_, entries)| entries);
        entries.map(|(text, _)| id(&text)).collect()
    }

    async fn create_group(&self, stream: &str, group: &str, at: EntryId) {
        let mut command = cmd("XGROUP");
        command
            .arg("CREATE")
            .arg(stream)
            .arg(group)
            .arg(at.to_string())
            .arg("MKSTREAM");
        match self.ask(&command).await {
            Ok(_) => {}
            Err(error) if error.code() == Some("BUSYGROUP") => {}
            Err(error) => panic!("create a group: {error}"),
        }
    }

    async fn set_group(&self, stream: &str, group: &str, at: EntryId) {
        let _: Option<String> = self
            .may(
                cmd("XGROUP")
                    .arg("SETID")
                    .arg(stream)
                    .arg(group)
                    .arg(at.to_string()),
            )
            .await;
    }

    async fn destroy_group(&self, stream: &str, group: &str) {
        let _: u64 = self
            .may(cmd("XGROUP").arg("DESTROY").arg(stream).arg(group))
            .await;
    }

    async fn delete_consumer(&self, stream: &str, group: &str, consumer: &str) -> u64 {
        self.may(
            cmd("XGROUP")
                .arg("DELCONSUMER")
                .arg(stream)
                .arg(group)
                .arg(consumer),
        )
        .await
    }

    async fn delete_stream(&self, stream: &str) {
        let _: u64 = self.must(cmd("DEL").arg(stream)).await;
    }

    async fn flush(&self) {
        let _: String = self.must(&cmd("FLUSHALL")).await;
    }

    async fn set_count(&self, counts: &str, name: &str, value: &str) {
        let _: u64 = self
            .must(cmd("HSET").arg(counts).arg(name).arg(value))
            .await;
    }

    async fn set_state(&self, state: &str, field: &str, raw: Option<Bytes>) {
        let mut command = cmd(if raw.is_some() { "HSET" } else { "HDEL" });
        command.arg(state).arg(field);
        if let Some(raw) = raw {
            command.arg(&raw[..]);
        }
        let _: u64 = self.must(&command).await;
    }

    async fn state(&self, state: &str, field: &str) -> Option<Bytes> {
        let raw: Option<Vec<u8>> = self.must(cmd("HGET").arg(state).arg(field)).await;
        raw.map(Bytes::from)
    }

    async fn age(&self, stream: &str, group: &str, by: Duration) {
        let mut command = cmd("XPENDING");
        command
            .arg(stream)
            .arg(group)
            .arg("-")
            .arg("+")
            .arg(PENDING_MAX);
        let rows: Vec<(String, Vec<u8>, u64, u64)> = self.may(&command).await;
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        for (text, consumer, idle_ms, _) in rows {
            let there: Vec<Value> = self
                .must(cmd("XRANGE").arg(stream).arg(&text).arg(&text))
                .await;
            if there.is_empty() {
                // A claim would drop it without a trace; it stays as young as it is.
                continue;
            }
            let mut claim = cmd("XCLAIM");
            claim.arg(stream).arg(group).arg(consumer).arg(0).arg(&text);
            claim.arg("IDLE").arg(idle_ms + by_ms).arg("JUSTID");
            let _: Vec<String> = self.must(&claim).await;
        }
    }

    async fn lose_reply(&self) -> bool {
        if let Some(proxy) = &self.proxy {
            proxy.lose_next_reply();
        }
        self.proxy.is_some()
    }

    async fn remember(&self) -> bool {
        let _: String = self.must(&cmd("SAVE")).await;
        let server = self.server.lock().await;
        let folder = server.folder();
        std::fs::copy(folder.join("dump.rdb"), folder.join("kept.rdb")).expect("keep the dump");
        true
    }

    async fn roll_back(&self) {
        let mut server = self.server.lock().await;
        server.kill();
        let folder = server.folder();
        std::fs::copy(folder.join("kept.rdb"), folder.join("dump.rdb")).expect("put the dump back");
        server.start_again().await;
    }

    async fn facts(&self, stream: &str, group: &str) -> Option<GroupFacts> {
        let info: HashMap<String, Value> = self.may(cmd("XINFO").arg("STREAM").arg(stream)).await;
        let groups: Vec<HashMap<String, Value>> =
            self.may(cmd("XINFO").arg("GROUPS").arg(stream)).await;
        let found = groups
            .into_iter()
            .find(|g| read::<String>(g, "name").as_deref() == Some(group))?;
        let mut command = cmd("XPENDING");
        command
            .arg(stream)
            .arg(group)
            .arg("-")
            .arg("+")
            .arg(PENDING_MAX);
        let rows: Vec<(String, Vec<u8>, u64, u64)> = self.must(&command).await;
        let pending = rows
            .into_iter()
            .map(|(text, consumer, _, deliveries)| PendingFacts {
                id: id(&text),
                consumer: Bytes::from(consumer),
                deliveries,
            });
        Some(GroupFacts {
            length: read(&info, "length")?,
            added: read(&info, "entries-added")?,
            last_delivered: id(&read::<String>(&found, "last-delivered-id")?),
            entries_read: read(&found, "entries-read"),
            lag: read(&found, "lag"),
            pending: pending.collect(),
        })
    }
}

/// A member of an XINFO answer; `None` where it is absent or nil.
fn read<T: FromRedisValue>(map: &HashMap<String, Value>, name: &str) -> Option<T> {
    match map.get(name)? {
        Value::Nil => None,
        value => redis::from_redis_value(value.clone()).ok(),
    }
}
