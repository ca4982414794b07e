//! The control socket end to end: a real Unix socket, the store in memory, stages by hand.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipectl_shared::plan::Plan;
use pipectl_shared::rpc::{Code, Error, IngestClosed, IngestPushed, Role};
use pipectl_shared::snapshot::{self, Page, Snapshot};
use pipectl_shared::wire::MAX_LINE;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::methods::{Call, METHODS};
use super::roles::Accounts;
use super::socket::{BindError, Bound, bind, serve};
use crate::audit::BROKEN;
use crate::chaos::FaultBoard;
use crate::commands::{COMMANDS, Context};
use crate::observe::{Inputs, Observer};
use crate::plans::testkit::{Bench, WORKER, config};

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
        let bench = Bench::new().await;
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
            data: bench.dir.path().to_owned(),
        });
        let context = Context {
            config,
            config_hash: "0123456789abcdef".into(),
            layout: setup.layout,
            admin: setup.admin,
            handle: setup.handle,
            observer,
            journal: setup.journal,
            audit: setup.audit,
            plans: bench.plans(),
            clock: setup.clock,
            faults: FaultBoard::default(),
            shutdown: CancellationToken::new(),
            test_commands: true,
        };
        let path = bench.dir.path().join("control.sock");
        let bound = bind(&path, &Accounts::default()).await.unwrap();
        let closed = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(bound, context.clone(), closed.clone()));
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

// ---- greeting, roles ----

#[tokio::test]
async fn the_server_speaks_first_and_says_who_you_are() {
    let door = Door::open_with(|c| c.control.max_role = Role::Operator).await;
    let mut client = Client::silent(&door.path).await;
    let hello = client.next().await["params"].take();
    assert_eq!(hello["protocol"], 1);
    assert_eq!(hello["role"], "operator");
    assert_eq!(hello["pipeline"], "test");
    assert_eq!(hello["config_hash"], "0123456789abcdef");
    assert_eq!(
        hello["identity"]["uid"],
        rustix::process::geteuid().as_raw()
    );
    assert_eq!(hello["identity"]["pid"], std::process::id());
    let names: Vec<_> = hello["specs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    assert!(
        names.contains(&json!("stage.pause")) && names.contains(&json!("x-fault.park")),
        "{names:?}"
    );
}

#[tokio::test]
async fn the_whole_policy_is_kept_for_every_role_and_refusals_leave_one_row() {
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let door = Door::open_with(|c| c.control.max_role = role).await;
        let mut client = door.client().await;
        for method in METHODS {
            let n_rows = door.bench.audit_rows().len();
            let answer = client.call(method.name, json!({})).await;
            let is_refused = answer
                .as_ref()
                .is_err_and(|e| e.message.contains("needs role"));
            assert_eq!(
                is_refused,
                role < method.role,
                "{} as {role:?}: {answer:?}",
                method.name
            );
            let rows = door.bench.audit_rows();
            let is_read = matches!(method.call, Call::Read(_));
            if is_refused {
                assert!(!is_read, "{}", method.name);
                assert_eq!(rows.len(), n_rows + 1, "{} as {role:?}", method.name);
                assert!(
                    rows[n_rows].result.starts_with("refused: "),
                    "{}",
                    rows[n_rows].result
                );
            } else if is_read {
                assert_eq!(rows.len(), n_rows, "{} as {role:?}", method.name);
            }
        }
        for command in COMMANDS {
            let spec = (command.spec)();
            let params = json!({"name": spec.name, "dry_run": true});
            let error = client.call("command.run", params).await;
            let is_refused = error.as_ref().is_err_and(|e| e.is(Code::Refused));
            assert_eq!(
                is_refused,
                role < spec.role,
                "{} as {role:?}: {error:?}",
                spec.name
            );
        }
    }
}

#[tokio::test]
async fn the_last_places_are_for_admins_and_the_rest_is_refused_politely() {
    let door = Door::open_with(|c| {
        c.control.max_clients = 4;
        c.control.max_role = Role::Viewer;
    })
    .await;
    let _first = door.client().await;
    let _second = door.client().await;
    let mut third = Client::silent(&door.path).await;
    let refusal = third.next().await;
    assert_eq!(refusal["error"]["code"], Code::Busy as i64);
    assert!(
        refusal["error"]["data"]["hint"]
            .as_str()
            .unwrap()
            .contains("max_clients")
    );
    assert!(third.line().await.is_none(), "closed after that");
    drop(_first);
    // A place is free again as soon as the server notices.
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let mut again = Client::silent(&door.path).await;
        if again.next().await["method"] == "hello" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
    }
}

// ---- framing ----

#[tokio::test]
async fn nonsense_is_answered_and_the_connection_goes_on() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep_params =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"status.get","params":{deep}}}"#);
    let long_id = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","method":"status.get"}}"#,
        "x".repeat(1_000)
    );
    let table: [(&str, &[u8], Code, Value); 16] = [
        ("no JSON", b"hello", Code::Parse, Value::Null),
        ("half a JSON", b"{\"jsonrpc\":", Code::Parse, Value::Null),
        ("no UTF-8", b"{\"a\":\"\xff\"}", Code::Parse, Value::Null),
        (
            "control characters",
            b"\x1b[2J\x00",
            Code::Parse,
            Value::Null,
        ),
        ("too deep", deep.as_bytes(), Code::Parse, Value::Null),
        (
            "too deep params",
            deep_params.as_bytes(),
            Code::Parse,
            Value::Null,
        ),
        ("a batch", b"[]", Code::InvalidRequest, Value::Null),
        (
            "a text",
            b"\"status.get\"",
            Code::InvalidRequest,
            Value::Null,
        ),
        (
            "another version",
            br#"{"jsonrpc":"1.0","id":7,"method":"status.get"}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "no version",
            br#"{"id":7,"method":"status.get"}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "no method",
            br#"{"jsonrpc":"2.0","id":7}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "a method that is no text",
            br#"{"jsonrpc":"2.0","id":7,"method":7}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "an id that is an object",
            br#"{"jsonrpc":"2.0","id":{},"method":"status.get"}"#,
            Code::InvalidRequest,
            Value::Null,
        ),
        (
            "an id that is long",
            long_id.as_bytes(),
            Code::InvalidRequest,
            Value::Null,
        ),
        (
            "an unknown method",
            br#"{"jsonrpc":"2.0","id":"a","method":"status.got"}"#,
            Code::MethodNotFound,
            json!("a"),
        ),
        (
            "params that are a list",
            br#"{"jsonrpc":"2.0","id":7,"method":"plan.show","params":["x"]}"#,
            Code::InvalidParams,
            json!(7),
        ),
    ];
    let door = Door::open().await;
    let mut client = door.client().await;
    for (desc, line, code, id) in table {
        client.raw(line).await;
        client.raw(b"\n").await;
        let answer = client.next().await;
        assert_eq!(answer["error"]["code"], code as i64, "{desc}: {answer}");
        assert_eq!(answer["id"], id, "{desc}");
        assert!(
            !answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains('\u{1b}'),
            "{desc}"
        );
    }
    let _: snapshot::Status = client.get("status.get", json!({})).await;
}

#[tokio::test]
async fn unknown_params_are_refused_and_a_notification_is_not_answered() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (method, params) in [
        ("status.get", json!({"x": 1})),
        ("stats.watch", json!({"preset": "\u{1b}[2J"})),
        ("stats.watch", json!({"interval_ms": -1})),
        ("pending.page", json!({"limit": 1_001})),
        ("pending.page", json!({"cursor": "\u{1b}"})),
        (
            "pending.page",
            json!({"cursor": "count:1-1", "select": {"stage": "enrich"}}),
        ),
        ("dead.page", json!({"cursor": "enrich:1-1"})),
        ("history.range", json!({"cursor": "sideways:1"})),
        ("audit.page", json!({"cursor": "x"})),
        ("plan.list", json!({"cursor": "x"})),
        ("latency.get", json!({"stage": "enrch"})),
        ("tap.watch", json!({"per_s": 5_000})),
        ("tap.watch", json!({"matching": "("})),
    ] {
        let error = client.call(method, params.clone()).await.expect_err(method);
        assert!(
            error.is(Code::InvalidParams),
            "{method} {params}: {error:?}"
        );
        assert!(!error.message.contains('\u{1b}'), "{method}: {error:?}");
    }
    client.raw(b"{\"jsonrpc\":\"2.0\",\"method\":\"command.run\",\"params\":{\"name\":\"daemon.drain\"}}\n").await;
    let _: snapshot::Status = client.get("status.get", json!({})).await;
    assert!(
        !door.context.shutdown.is_cancelled(),
        "a notification does nothing"
    );
}

#[tokio::test]
async fn a_line_over_the_limit_closes_only_its_own_connection() {
    let door = Door::open().await;
    let mut good = door.client().await;
    let mut bad = door.client().await;
    let flood = vec![b'x'; MAX_LINE + 1];
    // The server may close before it took everything.
    let _ = bad.write.write_all(&flood).await;
    let answer = bad.next().await;
    assert_eq!(answer["error"]["code"], Code::TooLarge as i64);
    assert!(bad.line().await.is_none());
    let _: snapshot::Status = good.get("status.get", json!({})).await;
}

#[tokio::test]
async fn a_client_that_will_send_no_more_still_gets_its_answers() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for _ in 0..5 {
        client.send("ledger.get", json!({})).await;
    }
    client.write.shutdown().await.unwrap();
    for _ in 0..5 {
        assert!(client.next().await["result"].is_object());
    }
    assert!(client.line().await.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_bytes_harm_the_server(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3_000), 1..8),
        wrapped in proptest::collection::vec(("[a-z.]{0,20}", "\\PC{0,40}"), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut door = Door::open().await;
            let mut client = door.client().await;
            for chunk in &chunks {
                if client.write.write_all(chunk).await.is_err() {
                    break;
                }
            }
            for (method, text) in &wrapped {
                let params = json!({"id": text, "name": text, "select": {"ids": [text]}, "cursor": text});
                let line = format!("\n{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
                if client.write.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
            drop(client);
            let mut other = door.client().await;
            let _: snapshot::Status = other.get("status.get", json!({})).await;
            assert!(door.tasks.try_join_next().is_none(), "the server goes on");
        });
    }
}

// ---- slow clients ----

#[tokio::test]
async fn a_client_that_floods_and_never_reads_slows_nobody() {
    let door = Door::open().await;
    door.bench.add_pending(500, "gone").await;
    let mut flooder = Client::silent(&door.path).await;
    flooder.send("stats.watch", json!({})).await;
    flooder.send("events.watch", json!({})).await;
    // Until nothing goes in any more: the server reads no further.
    let line =
        json!({"jsonrpc": "2.0", "id": 1, "method": "pending.page", "params": {"limit": 500}});
    let lines = format!("{line}\n").repeat(100);
    let mut n_sent = 0;
    while timeout(
        Duration::from_millis(500),
        flooder.write.write_all(lines.as_bytes()),
    )
    .await
    .is_ok()
    {
        n_sent += 100;
        assert!(n_sent < 100_000, "the server takes everything");
    }
    for n in 0..1_000 {
        door.context.journal.tell(
            crate::journal::Level::Info,
            "test.event",
            None,
            format!("event {n}"),
        );
    }
    let mut good = door.client().await;
    let page: Page<snapshot::Pending> = good.get("pending.page", json!({"limit": 500})).await;
    assert_eq!(page.rows.len(), 500);
}

// ---- watching ----

#[tokio::test]
async fn a_watcher_gets_snapshots_events_and_progress() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.context
        .journal
        .tell(crate::journal::Level::Info, "before", None, "\u{1b}[2J");
    let page: Page<snapshot::Event> = client.get("events.watch", json!({})).await;
    assert!(page.rows.iter().any(|e| e.name == "before"));
    let answer = client
        .call(
            "stats.watch",
            json!({"interval_ms": 1, "preset": "overview"}),
        )
        .await
        .unwrap();
    assert_eq!(answer, json!({"interval_ms": 1_000, "preset": "overview"}));
    let first: Snapshot = serde_json::from_value(client.told("stats").await).unwrap();
    let next = client.told("stats").await;
    assert!(next["seq"].as_u64().unwrap() > first.seq);
    assert_eq!(next["dropped"], 0);
    door.context
        .journal
        .tell(crate::journal::Level::Info, "after", None, "text");
    let event = loop {
        let event = client.told("event").await;
        assert_ne!(event["name"], "before", "told in the answer already");
        if event["name"] == "after" {
            break event;
        }
    };
    assert_eq!(event["message"], "text");
    door.bench.add_pending(3, "gone").await;
    let plan: Plan = client
        .get(
            "plan.create",
            json!({"action": "ack", "select": {"all": true}}),
        )
        .await;
    let run = json!({"id": plan.id, "ids_hash": plan.ids_hash, "confirm": 3});
    let done: Plan = client.get("plan.run", run).await;
    assert_eq!(done.result.unwrap().applied, 3);
    let progress = client.told("plan.progress").await;
    assert_eq!(
        (
            progress["id"].as_str().unwrap(),
            progress["progress"].as_u64()
        ),
        (plan.id.as_str(), Some(3))
    );
    client.get::<Value>("stats.stop", json!({})).await;
    client.get::<Value>("events.stop", json!({})).await;
}

#[tokio::test]
async fn tap_shows_what_passes_now_and_only_what_matches() {
    let door = Door::open().await;
    door.bench.add(5).await;
    let mut client = door.client().await;
    let params = json!({"stage": "enrich", "per_s": 1_000, "matching": "n = 7"});
    assert_eq!(
        client.get::<Value>("tap.watch", params).await["stage"],
        "enrich"
    );
    // The first look only finds the end of the stream; what comes after it is shown.
    let telling = async {
        loop {
            door.bench.add(10).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let tap = tokio::select! {
        tap = client.told("tap") => tap,
        () = telling => unreachable!(),
    };
    let tap: snapshot::Tap = serde_json::from_value(tap).unwrap();
    assert_eq!(tap.fields[0].value.decode().unwrap(), b"7");
    client.get::<Value>("tap.stop", json!({})).await;
    assert_eq!(
        door.context.admin.depth().await.unwrap().stages[0].pending,
        0,
        "nothing was consumed"
    );
}

#[tokio::test]
async fn when_the_daemon_closes_watchers_get_a_last_snapshot_and_the_socket_is_gone() {
    let mut door = Door::open().await;
    let mut client = door.client().await;
    client
        .get::<Value>(
            "stats.watch",
            json!({"interval_ms": 10_000, "preset": "line"}),
        )
        .await;
    client.told("stats").await;
    door.context.shutdown.cancel();
    // While the daemon drains it still answers.
    let _: snapshot::Status = door.client().await.get("status.get", json!({})).await;
    door.closed.cancel();
    assert_eq!(client.next().await["method"], "stats");
    assert!(client.line().await.is_none());
    timeout(SOON, door.tasks.join_next())
        .await
        .expect("serve ends")
        .unwrap()
        .unwrap();
    assert!(!door.path.exists());
}

// ---- reading ----

#[tokio::test]
async fn pending_entries_come_in_pages_that_hold_each_once() {
    let door = Door::open().await;
    let ids = door.bench.add_pending(25, "\u{1b}[2Jgone").await;
    door.bench.clock.advance_ms(5_000);
    let mut client = door.client().await;
    let (mut got, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let params =
            json!({"limit": 10, "cursor": cursor, "select": {"consumer": "\u{1b}[2Jgone"}});
        let page: Page<snapshot::Pending> = client.get("pending.page", params).await;
        assert!(page.rows.len() <= 10);
        got.extend(page.rows);
        match page.next {
            Some(next) => cursor = json!(next),
            None => break,
        }
    }
    let expected: Vec<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(
        got.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
        expected
    );
    let row = &got[0];
    assert_eq!(
        (row.stage.as_str(), row.stream.as_str(), row.group.as_str()),
        ("enrich", "events", "event_group")
    );
    assert_eq!(
        (row.idle_ms, row.held_ms, row.age_ms, row.tries),
        (5_000, 5_000, 5_000, 0)
    );
    assert_eq!(row.consumer, "\u{1b}[2Jgone", "cleaned by whoever shows it");
    let named =
        json!({"limit": 2, "select": {"ids": [expected[3], "1-1", expected[5], expected[7]]}});
    let page: Page<snapshot::Pending> = client.get("pending.page", named).await;
    assert_eq!(
        page.rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
        [expected[3].clone(), expected[5].clone()]
    );
    assert!(page.next.is_some());

    let shown: snapshot::Pending = client.get("pending.show", json!({"id": expected[4]})).await;
    let fields = shown.fields.unwrap();
    assert_eq!(
        (fields[0].value.decode().unwrap(), fields[0].size),
        (b"4".to_vec(), 1)
    );
    let error = client
        .call("pending.show", json!({"id": "1-1"}))
        .await
        .unwrap_err();
    assert!(error.is(Code::NotFound), "{error:?}");
    let error = client
        .call(
            "pending.show",
            json!({"id": expected[4], "field": "\u{1b}"}),
        )
        .await
        .unwrap_err();
    assert!(
        error.is(Code::NotFound) && !error.message.contains('\u{1b}'),
        "{error:?}"
    );
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_and_counted_by_cause() {
    let door = Door::open().await;
    door.bench.add_dead(3, "aaaa").await;
    door.bench.clock.advance_ms(10);
    door.bench.add_dead(5, "bbbb").await;
    let mut client = door.client().await;
    let first: Page<snapshot::Dead> = client.get("dead.page", json!({"limit": 6})).await;
    let rest: Page<snapshot::Dead> = client.get("dead.page", json!({"cursor": first.next})).await;
    assert_eq!((first.rows.len(), rest.rows.len(), rest.next), (6, 2, None));
    assert!(first.rows[0].dead_ms > rest.rows[1].dead_ms);
    let some: Page<snapshot::Dead> = client
        .get("dead.page", json!({"select": {"cause": "aaaa"}}))
        .await;
    assert_eq!(some.rows.len(), 3);
    let shown: snapshot::Dead = client
        .get("dead.show", json!({"id": some.rows[0].id}))
        .await;
    assert_eq!(shown.fields.unwrap()[0].value.decode().unwrap(), b"2");
    let causes: Page<snapshot::Cause> = client.get("dead.causes", json!({})).await;
    let told: Vec<_> = causes
        .rows
        .iter()
        .map(|c| (c.cause.as_str(), c.count))
        .collect();
    assert_eq!(told, [("bbbb", 5), ("aaaa", 3)]);
    assert!(
        causes.rows[0].example.contains('\u{1b}'),
        "data, cleaned by whoever shows it"
    );
}

#[tokio::test]
async fn the_ledger_is_read_now_and_other_documents_answer() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.bench.add(4).await;
    let ledger: snapshot::Ledger = client.get("ledger.get", json!({})).await;
    assert_eq!(
        (ledger.accepted, ledger.undelivered, ledger.balanced),
        (4, 4, true)
    );
    door.bench.run_all().await;
    let ledger: snapshot::Ledger = client.get("ledger.get", json!({})).await;
    assert_eq!(
        (ledger.applied, ledger.undelivered, ledger.pending),
        (4, 0, 0)
    );
    let aggregates = client
        .call("aggregates.get", json!({"session": "\u{1b}"}))
        .await
        .unwrap();
    assert_eq!(
        aggregates["session"],
        json!({"id": "\u{1b}", "count": null})
    );
    let _: Page<snapshot::Latency> = client
        .get("latency.get", json!({"stage": "pipeline"}))
        .await;
    door.snapshot(|s| !s.groups.is_empty()).await;
    let groups = client.call("groups.get", json!({})).await.unwrap();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 2);
    assert!(groups["consumers"].is_array());
    let history: Page<snapshot::Event> = client.get("history.range", json!({"limit": 1})).await;
    assert!(history.rows.len() <= 1);
    assert_eq!(
        client
            .get::<Page<Plan>>("plan.list", json!({}))
            .await
            .rows
            .len(),
        0
    );
}

// ---- acting ----

#[tokio::test]
async fn commands_do_what_they_say_and_leave_one_row_each() {
    let mut door = Door::open().await;
    door.bench.worker();
    door.bench.add_pending(1, "holder").await;
    let enrich = Arc::clone(&door.context.handle.stages[0]);
    let mut client = door.client().await;
    let run = |name: &str, params: Value| json!({"name": name, "params": params, "reason": "why"});
    let done = [
        ("stage.pause", json!({"stage": "enrich"})),
        ("stage.resume", json!({"stage": "enrich"})),
        ("stage.scale", json!({"stage": "enrich", "workers": 7})),
        ("x-fault.park", json!({"consumer": WORKER})),
        ("x-fault.release", json!({"consumer": WORKER})),
    ];
    for (n, (name, params)) in done.into_iter().enumerate() {
        client
            .call("command.run", run(name, params))
            .await
            .unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let rows = door.bench.audit_rows();
        assert_eq!(rows.len(), n + 1, "{name}");
        assert_eq!(
            (rows[n].action.as_str(), rows[n].result.as_str()),
            (name, "ok")
        );
        assert_eq!(rows[n].reason.as_deref(), Some("why"));
        assert_eq!(enrich.is_paused(), name == "stage.pause");
    }
    assert_eq!(*enrich.wanted.borrow(), 7);
    let refused = [
        (
            "stage.scale",
            json!({"stage": "enrich", "workers": 65}),
            Code::InvalidParams,
        ),
        ("stage.pause", json!({"stage": "nope"}), Code::InvalidParams),
        (
            "consumer.retire",
            json!({"consumer": "holder"}),
            Code::Refused,
        ),
        (
            "consumer.retire",
            json!({"consumer": "nobody"}),
            Code::NotFound,
        ),
        (
            "x-fault.park",
            json!({"consumer": "\u{1b}"}),
            Code::NotFound,
        ),
        ("\u{1b}[2J", json!({}), Code::NotFound),
        (
            "stage.pause",
            json!({"stage": "enrich", "\u{1b}": 1}),
            Code::InvalidParams,
        ),
    ];
    for (name, params, code) in refused {
        let n = door.bench.audit_rows().len();
        let error = client
            .call("command.run", run(name, params))
            .await
            .unwrap_err();
        assert!(error.is(code), "{name}: {error:?}");
        assert!(!error.message.contains('\u{1b}'), "{name}");
        let rows = door.bench.audit_rows();
        assert_eq!(rows.len(), n + 1, "{name}");
        assert!(
            rows[n].result.starts_with("refused: "),
            "{name}: {}",
            rows[n].result
        );
    }
    let long =
        json!({"name": "stage.pause", "params": {"stage": "enrich"}, "reason": "x".repeat(2_000)});
    assert!(
        client
            .call("command.run", long)
            .await
            .unwrap_err()
            .is(Code::InvalidParams)
    );
    assert!(!enrich.is_paused());
}

#[tokio::test]
async fn a_dry_run_does_nothing_and_a_drain_begins_at_once() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (name, params) in [
        ("stage.pause", json!({"stage": "enrich"})),
        ("stage.scale", json!({"stage": "enrich", "workers": 0})),
        ("daemon.drain", json!({})),
    ] {
        let answer = client
            .call(
                "command.run",
                json!({"name": name, "params": params, "dry_run": true}),
            )
            .await
            .unwrap();
        assert!(answer["would"].is_string(), "{name}: {answer}");
    }
    assert!(!door.context.handle.stages[0].is_paused());
    assert!(!door.context.shutdown.is_cancelled());
    assert!(door.bench.audit_rows().is_empty());
    client
        .call("command.run", json!({"name": "daemon.drain"}))
        .await
        .unwrap();
    assert!(door.context.shutdown.is_cancelled());
    assert_eq!(door.bench.audit_rows().len(), 1);
    let rows: Page<snapshot::Audit> = client.get("audit.page", json!({})).await;
    assert_eq!(rows.rows[0].action, "daemon.drain");
    assert_ne!(rows.rows[0].action, BROKEN);
}

#[tokio::test]
async fn plans_are_made_run_and_refused_over_the_socket() {
    let mut door = Door::open().await;
    door.bench.worker();
    let ids = door.bench.add_pending(4, "gone").await;
    let mut client = door.client().await;
    let plan: Plan = client
        .get(
            "plan.create",
            json!({"action": "claim", "select": {"stage": "enrich"}, "to": WORKER}),
        )
        .await;
    assert_eq!((plan.matched, plan.bulk), (4, true));
    let not_confirmed = json!({"id": plan.id, "ids_hash": plan.ids_hash});
    let error = client
        .call("plan.run", not_confirmed.clone())
        .await
        .unwrap_err();
    assert!(error.is(Code::Refused), "{error:?}");
    let mut confirmed = not_confirmed;
    confirmed["confirm"] = json!(4);
    let done: Plan = client.get("plan.run", confirmed).await;
    assert_eq!(done.result.unwrap().applied, 4);
    let error = client
        .call("plan.undo", json!({"id": plan.id}))
        .await
        .unwrap_err();
    assert!(error.is(Code::Refused), "{error:?}");
    let error = client
        .call("plan.run", json!({"wat": 1}))
        .await
        .unwrap_err();
    assert!(error.is(Code::InvalidParams), "{error:?}");
    let actions: Vec<_> = door
        .bench
        .audit_rows()
        .into_iter()
        .map(|r| (r.action, r.result))
        .collect();
    assert_eq!(actions.len(), 4, "{actions:?}");
    let single: Plan = client
        .get(
            "plan.create",
            json!({"action": "ack", "select": {"ids": [ids[0].to_string()]}}),
        )
        .await;
    assert_eq!(
        (single.matched, single.skipped[0].reason.as_str()),
        (0, "no longer pending")
    );
    door.context.handle.draining.store(true, Ordering::Relaxed);
    let error = client
        .call(
            "plan.create",
            json!({"action": "ack", "select": {"all": true}}),
        )
        .await
        .unwrap_err();
    assert!(error.is(Code::Unavailable), "{error:?}");
}

// ---- ingest ----

fn events(n: u64) -> Value {
    let event = |i| json!({"id": format!("{i:032x}"), "roles": [["type", "click"]], "fields": [["line", format!("{i}")]]});
    (0..n).map(event).collect()
}

#[tokio::test]
async fn an_input_goes_in_once_and_is_settled_when_all_of_it_ran_through() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let opened = client
        .call("ingest.open", json!({"name": "a.log"}))
        .await
        .unwrap();
    let session = opened["session"].clone();
    let push = json!({"session": session, "events": events(1_200)});
    let pushed: IngestPushed = client.get("ingest.push", push.clone()).await;
    assert_eq!(
        (pushed.accepted, pushed.deduplicated, pushed.rejected),
        (1_200, 0, 0)
    );
    // As after a lost answer: nothing is added twice.
    let pushed: IngestPushed = client.get("ingest.push", push).await;
    assert_eq!((pushed.accepted, pushed.deduplicated), (1_200, 1_200));
    let close = json!({"session": session, "wait": true});
    let closed: IngestClosed = client.get("ingest.close", close.clone()).await;
    assert!(!closed.settled, "nothing has run yet");
    door.bench.run_all().await;
    let closed: IngestClosed = client.get("ingest.close", close.clone()).await;
    assert_eq!(
        (
            closed.accepted,
            closed.deduplicated,
            closed.dead,
            closed.settled
        ),
        (2_400, 1_200, 0, true)
    );
    let error = client.call("ingest.close", close).await.unwrap_err();
    assert!(error.is(Code::NotFound), "the session is over: {error:?}");
    let source = &door.context.handle.sources[0];
    assert_eq!(source.sent.load(Ordering::Relaxed), 1_200);
    let rows = door.bench.audit_rows();
    assert_eq!(
        (rows.len(), rows[0].action.as_str(), rows[0].target.as_str()),
        (1, "ingest", "a.log")
    );
}

#[tokio::test]
async fn an_empty_input_is_settled_and_one_that_is_left_behind_leaves_its_row() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let session = client
        .call("ingest.open", json!({"name": ""}))
        .await
        .unwrap()["session"]
        .clone();
    let closed: IngestClosed = client
        .get("ingest.close", json!({"session": session, "wait": true}))
        .await;
    assert!(closed.settled);
    let session = client
        .call("ingest.open", json!({"name": "b"}))
        .await
        .unwrap()["session"]
        .clone();
    client
        .get::<IngestPushed>(
            "ingest.push",
            json!({"session": session, "events": events(3)}),
        )
        .await;
    drop(client);
    let deadline = tokio::time::Instant::now() + SOON;
    while door.bench.audit_rows().len() < 2 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "no row for the input that was left"
        );
        tokio::task::yield_now().await;
    }
    assert!(door.bench.audit_rows()[1].result.contains("accepted 3"));
}

#[tokio::test]
async fn broken_pushes_are_refused_as_a_whole() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let session = client
        .call("ingest.open", json!({"name": "c"}))
        .await
        .unwrap()["session"]
        .clone();
    let big = "x".repeat(300 * 1024);
    let two_big = json!([
        {"id": "0".repeat(32), "roles": [], "fields": [["f", big]]},
        {"id": "1".repeat(32), "roles": [], "fields": [["f", big]]},
    ]);
    for (desc, params, code) in [
        (
            "another session",
            json!({"session": "i9", "events": []}),
            Code::NotFound,
        ),
        (
            "a bad id",
            json!({"session": session, "events": [{"id": "x", "roles": [], "fields": []}]}),
            Code::InvalidParams,
        ),
        (
            "too much",
            json!({"session": session, "events": two_big}),
            Code::TooLarge,
        ),
    ] {
        let error = client.call("ingest.push", params).await.unwrap_err();
        assert!(error.is(code), "{desc}: {error:?}");
    }
    assert_eq!(door.context.admin.depth().await.unwrap().ledger.accepted, 0);
    for _ in 0..3 {
        client
            .call("ingest.open", json!({"name": "more"}))
            .await
            .unwrap();
    }
    assert!(
        client
            .call("ingest.open", json!({"name": "one too many"}))
            .await
            .unwrap_err()
            .is(Code::Busy)
    );
}

#[tokio::test]
async fn a_door_sheds_load_when_the_first_stage_lags_and_counts_what_it_refused() {
    let door = Door::open_with(|c| c.ingest.max_lag = 10).await;
    door.bench.add(50).await;
    door.snapshot(|s| {
        s.status
            .stages
            .first()
            .and_then(|stage| stage.lag)
            .is_some_and(|lag| lag > 10)
    })
    .await;
    let mut client = door.client().await;
    let session = client
        .call("ingest.open", json!({"name": "d"}))
        .await
        .unwrap()["session"]
        .clone();
    let pushed: IngestPushed = client
        .get(
            "ingest.push",
            json!({"session": session, "events": events(20)}),
        )
        .await;
    assert_eq!(
        (pushed.accepted, pushed.rejected, pushed.first_rejected),
        (0, 20, Some(0))
    );
    assert!(pushed.retry_after_ms > 0);
    assert!(pushed.reason.unwrap().contains("lags by 50"));
    let ledger: snapshot::Ledger = client.get("ledger.get", json!({})).await;
    assert_eq!((ledger.rejected, ledger.accepted), (20, 50));
    let source = &door.context.handle.sources[0];
    assert_eq!(source.state.lock().unwrap().0, "backpressure");
}

// ---- the socket file ----

async fn bind_in(dir: &std::path::Path) -> Result<Bound, BindError> {
    bind(&dir.join("control.sock"), &Accounts::default()).await
}

#[tokio::test]
async fn folder_and_socket_are_ours_alone_where_there_is_no_group() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let bound = bind_in(&folder).await.unwrap();
    let mode = |path: &std::path::Path| {
        std::fs::symlink_metadata(path)
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode(&folder), mode(bound.path()), bound.is_shared),
        (0o700, 0o600, false)
    );
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        1,
        "nothing temporary is left"
    );
    drop(bound);
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        0,
        "the socket is removed"
    );
}

#[tokio::test]
async fn with_the_group_folder_and_socket_are_its_own() {
    if !rustix::process::geteuid().is_root() {
        return only_as_root("with_the_group_folder_and_socket_are_its_own");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    let accounts = Accounts::parse("", "pipelined:x:4321:\n");
    let bound = bind(&folder.join("control.sock"), &accounts).await.unwrap();
    let (of_folder, of_socket) = (
        std::fs::metadata(&folder).unwrap(),
        std::fs::metadata(bound.path()).unwrap(),
    );
    assert_eq!((of_folder.mode() & 0o7777, of_folder.gid()), (0o750, 4321));
    assert_eq!((of_socket.mode() & 0o7777, of_socket.gid()), (0o660, 4321));
    assert!(bound.is_shared);
}

/// Names a test that this machine cannot run, unless it is said that this is meant.
fn only_as_root(name: &str) {
    let is_meant = std::env::var_os("PIPELINED_TESTS_UNPRIVILEGED").is_some();
    assert!(
        is_meant,
        "{name} needs root; set PIPELINED_TESTS_UNPRIVILEGED=1 to leave it out"
    );
    println!("left out: {name}");
}

#[tokio::test]
async fn what_stands_at_the_path_is_replaced_only_if_it_is_our_stale_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    // Stale: bound by a process that is gone.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = bind_in(dir.path()).await.unwrap();
    // Live.
    assert!(matches!(bind_in(dir.path()).await, Err(BindError::Live(_))));
    assert!(
        UnixStream::connect(&path).await.is_ok(),
        "the live one goes on"
    );
    drop(bound);
    // A file.
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(
        bind_in(dir.path()).await,
        Err(BindError::Foreign(_, "no socket"))
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    // A symbolic link, to nowhere and to a socket.
    let other = dir.path().join("other.sock");
    for _ in 0..2 {
        symlink(&other, &path).unwrap();
        assert!(matches!(
            bind_in(dir.path()).await,
            Err(BindError::Foreign(_, "a symbolic link"))
        ));
        std::fs::remove_file(&path).unwrap();
        if !other.exists() {
            drop(std::os::unix::net::UnixListener::bind(&other).unwrap());
        }
    }
    // Somebody else's stale socket.
    if rustix::process::geteuid().is_root() {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        assert!(matches!(
            bind_in(dir.path()).await,
            Err(BindError::Foreign(_, "another user's socket"))
        ));
    } else {
        only_as_root("somebody else's stale socket");
    }
}

#[tokio::test]
async fn paths_that_cannot_work_are_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(100)).join("control.sock");
    let error = bind(&long, &Accounts::default()).await.unwrap_err();
    assert!(
        matches!(error, BindError::TooLong(..)) && error.to_string().contains("at most 100"),
        "{error}"
    );
    assert!(!long.parent().unwrap().exists(), "nothing was made");
    let root = bind(std::path::Path::new("/"), &Accounts::default())
        .await
        .unwrap_err();
    assert!(matches!(root, BindError::NoName(_)));
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(
        bind_in(&open).await,
        Err(BindError::OpenFolder(_))
    ));
}

#[tokio::test]
async fn of_many_that_bind_at_once_one_wins_and_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let dir = dir.path().to_owned();
        tasks.spawn(async move { bind_in(&dir).await });
    }
    let results = tasks.join_all().await;
    let winners: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
    assert_eq!(winners.len(), 1);
    assert!(
        UnixStream::connect(dir.path().join("control.sock"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_socket_that_took_our_place_is_not_removed_by_us() {
    let dir = tempfile::tempdir().unwrap();
    let bound = bind_in(dir.path()).await.unwrap();
    std::fs::remove_file(bound.path()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(bound.path()).unwrap();
    let path = bound.path().to_owned();
    drop(bound);
    assert!(path.exists());
    drop(other);
}
