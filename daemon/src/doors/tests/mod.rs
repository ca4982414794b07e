//! The control socket end to end: a real Unix socket, the store in memory, stages by hand.

mod acting;
mod chaos;
mod framing;
mod ingest;
mod peers;
mod reading;
mod socket_file;

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::rpc::Error;
use pipectl_shared::snapshot::Snapshot;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::roles::Accounts;
use super::socket::{bind, serve};
use crate::chaos::{FaultBoard, Shown};
use crate::commands::Context;
use crate::guard::Keeper;
use crate::observe::{Inputs, Observer};
use crate::plans::testkit::{Bench, config};

/// Ten times what anything here should take.
const SOON: Duration = Duration::from_secs(20);

/// A daemon's front: the socket is served until it is dropped.
struct Door {
    bench: Bench,
    context: Context,
    path: std::path::PathBuf,
    closed: CancellationToken,
    tasks: JoinSet<()>,
}

impl Door {
    async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    async fn open_with(set: impl FnOnce(&mut pipectl_shared::config::Config)) -> Self {
        Self::open_on(Bench::new().await, set).await
    }

    async fn open_on(bench: Bench, set: impl FnOnce(&mut pipectl_shared::config::Config)) -> Self {
        let mut config = config();
        set(&mut config);
        let config = Arc::new(config);
        let setup = bench.setup.clone();
        let (observer, sampler) = Observer::new(Inputs {
            config: Arc::clone(&config),
            layout: Arc::clone(&setup.layout),
            admin: Arc::clone(&setup.admin),
            handle: setup.handle.clone(),
            journal: setup.journal.clone(),
            clock: Arc::clone(&setup.clock),
            instance: "a".to_owned(),
            chaos: Shown::default(),
            data: bench.dir.path().to_owned(),
        });
        let limit = config.ingest.spool.unwrap_or(0);
        let (spool, writer) = crate::spool::Spool::open(
            crate::spool::Settings {
                dir: bench.dir.path().join("spool"),
                limit,
                life: 1,
            },
            setup.journal.clone(),
        )
        .unwrap();
        let guard = crate::guard::testkit::script(bench.dir.path(), "exit 0");
        let (keeper, _) = crate::guard::testkit::setup(&bench, &config, &observer, guard);
        let folder = bench.dir.path().join("chaos");
        std::fs::create_dir(&folder).unwrap();
        let chaos = Keeper::open(&folder, keeper).unwrap();
        let context = Context {
            config,
            chaos,
            config_hash: "0123456789abcdef".into(),
            layout: setup.layout,
            admin: setup.admin,
            spool,
            handle: setup.handle,
            observer,
            journal: setup.journal,
            audit: setup.audit,
            plans: bench.plans(),
            clock: setup.clock,
            faults: FaultBoard::default(),
            shutdown: CancellationToken::new(),
            stop_server: Arc::default(),
            test_commands: true,
        };
        let path = bench.dir.path().join("control.sock");
        let bound = bind(&path, &Accounts::default()).await.unwrap();
        let closed = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(bound, context.clone(), closed.clone()));
        tasks.spawn(writer.run(CancellationToken::new()));
        let stop = CancellationToken::new();
        tasks.spawn(sampler.run(stop));
        Self {
            bench,
            context,
            path,
            closed,
            tasks,
        }
    }

    async fn client(&self) -> Client {
        let mut client = Client::silent(&self.path).await;
        let hello = client.next().await;
        assert_eq!(hello["method"], "hello", "{hello}");
        client
    }

    /// Waits for a Snapshot for which this holds.
    async fn snapshot(&self, holds: impl Fn(&Snapshot) -> bool) {
        let mut ticks = self.context.observer.watch();
        timeout(SOON, ticks.wait_for(|s| holds(s)))
            .await
            .expect("no such Snapshot came")
            .unwrap();
    }
}

struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    n_sent: u64,
    /// Notifications that came while an answer was waited for.
    told: Vec<Value>,
}

impl Client {
    async fn silent(path: &std::path::Path) -> Self {
        let (read, write) = UnixStream::connect(path).await.unwrap().into_split();
        Self {
            lines: BufReader::new(read).lines(),
            write,
            n_sent: 0,
            told: Vec::new(),
        }
    }

    async fn line(&mut self) -> Option<String> {
        timeout(SOON, self.lines.next_line())
            .await
            .expect("no line came")
            .ok()
            .flatten()
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.line().await.expect("the connection was closed")).unwrap()
    }

    async fn send(&mut self, method: &str, params: Value) -> u64 {
        self.n_sent += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.n_sent, "method": method, "params": params});
        self.raw(format!("{request}\n").as_bytes()).await;
        self.n_sent
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
    }

    async fn answer(&mut self, id: u64) -> Result<Value, Error> {
        loop {
            let mut line = self.next().await;
            if line["id"] == id {
                return match line.get("error") {
                    Some(error) => Err(serde_json::from_value(error.clone()).unwrap()),
                    None => Ok(line["result"].take()),
                };
            }
            self.told.push(line);
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, Error> {
        let id = self.send(method, params).await;
        self.answer(id).await
    }

    async fn get<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> T {
        let value = self
            .call(method, params)
            .await
            .unwrap_or_else(|e| panic!("{method}: {e:?}"));
        serde_json::from_value(value).unwrap()
    }

    /// The next notification of a method.
    async fn told(&mut self, method: &str) -> Value {
        loop {
            if let Some(at) = self.told.iter().position(|line| line["method"] == method) {
                return self.told.remove(at)["params"].take();
            }
            let line = self.next().await;
            self.told.push(line);
        }
    }
}
