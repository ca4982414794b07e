//! Redis away, Redis failed over: what our own doors accepted is applied exactly once, and what a class of durability does
//! not promise is counted when it is lost.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::control::Control;
use crate::foreign_redis::ForeignRedis;
use crate::full::may_mount;
use crate::house::{House, QUIET, signal, wait_for};

/// Event `n` as `ingest.push` takes it.
fn event(n: u64) -> Value {
    json!({
        "id": format!("{n:032x}"),
        "roles": [["key", format!("u{}", n % 97)], ["type", "click"], ["time", "1640995200000"], ["value", "1.25"]],
        "fields": []
    })
}

/// A producer with a record of its own: what it was told is accepted, and nothing else.
struct Producer {
    door: Option<(Control, Value)>,
    next: u64,
    accepted: u64,
}

impl Producer {
    fn new() -> Self {
        Self {
            door: None,
            next: 0,
            accepted: 0,
        }
    }

    /// Pushes events `next..next + n`; sends again what was refused or not answered, as any careful client does. Gives up
    /// a push whose daemon died, and sends the same events again to the next one.
    fn push(&mut self, house: &House, n: u64) -> Option<Value> {
        if self.door.is_none() {
            if std::os::unix::net::UnixStream::connect(house.socket()).is_err() {
                return None;
            }
            let mut control = Control::open_unread(&house.socket());
            if control.line().is_null() {
                return None;
            }
            let opened = control.try_call("ingest.open", json!({"name": "producer"}))?;
            self.door = Some((control, opened["session"].clone()));
        }
        let (control, session) = self.door.as_mut()?;
        let events: Vec<Value> = (self.next..self.next + n).map(event).collect();
        let pushed = control.try_call("ingest.push", json!({"session": session, "events": events}));
        let Some(pushed) = pushed else {
            self.door = None;
            return None;
        };
        let accepted = pushed["accepted"].as_u64().expect("a count");
        self.next += accepted;
        self.accepted += accepted;
        Some(pushed)
    }

    /// Pushes until so many more were accepted.
    #[track_caller]
    fn accept(&mut self, house: &House, n: u64) {
        let wanted = self.accepted + n;
        wait_for("the door to accept events", || {
            let left = wanted - self.accepted;
            self.push(house, left.min(100));
            (self.accepted >= wanted).then_some(())
        });
    }
}

fn spooling(server: &ForeignRedis) -> House {
    let mut house = House::new(QUIET);
    house.on(&server.url());
    house.set("ingest.spool=16MiB").set("redis.timeout=1s");
    house.start();
    house.wait_healthy();
    house
}

fn spooled(house: &House) -> u64 {
    let out = house.pipectl(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    status["redis"]["spooled"].as_u64().unwrap_or(0)
}

#[track_caller]
fn exact(house: &House, n: u64) -> Value {
    house.wait_healthy();
    // The ledger is asked now; the status may be a second old and know nothing of the spool yet.
    wait_for("all that was accepted to be applied", || {
        let out = house.pipectl(&["ledger", "-o", "json"]);
        let ledger: Value = serde_json::from_slice(&out.stdout).ok()?;
        (ledger["applied"].as_u64() >= Some(n)).then_some(())
    });
    wait_for("the spool to be drained", || {
        (spooled(house) == 0).then_some(())
    });
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&json!(n), &json!(true)),
        "{ledger}\n{}",
        house.log()
    );
    assert_eq!(house.json(&["aggregates"])["total_count"], n);
    ledger
}

#[test]
fn what_is_accepted_while_redis_is_away_is_applied_once_when_it_is_back() {
    let mut server = ForeignRedis::start(&[]);
    let house = spooling(&server);
    let mut producer = Producer::new();
    producer.accept(&house, 300);
    server.die();
    producer.accept(&house, 1_000);
    wait_for("the status to tell what waits", || {
        (spooled(&house) == 1_000).then_some(())
    });
    // pipectl's own lines go the same way, and it waits for them.
    let lines: String = (0..50)
        .map(|n| {
            format!("{{\"user_id\": \"u{n}\", \"event_type\": \"view\", \"ts\": 1640995200000}}\n")
        })
        .collect();
    let args = [
        "ingest",
        "-",
        "--format",
        "ndjson",
        "--name",
        "lines",
        "--map",
        "key=user_id",
        "--map",
        "type=event_type",
        "--map",
        "time=ts",
    ];
    let mut ingest = Command::new(crate::house::pipectl_bin())
        .args(["--socket".as_ref(), house.socket().as_os_str()])
        .args(args)
        .args(["--timeout", "120s", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start pipectl");
    let mut stdin = ingest.stdin.take().expect("a pipe");
    stdin.write_all(lines.as_bytes()).expect("feed pipectl");
    drop(stdin);
    wait_for("its lines to wait, too", || {
        (spooled(&house) == 1_050).then_some(())
    });
    server.come();
    let out = ingest.wait_with_output().expect("wait for pipectl");
    assert!(out.status.success(), "{}", crate::house::text(&out));
    let done: Value = serde_json::from_slice(&out.stdout).expect("a document");
    assert_eq!(
        (
            &done["accepted"],
            &done["settled"],
            &done["rejected"],
            &done["dead"]
        ),
        (&json!(50), &json!(true), &json!(0), &json!(0)),
        "{done}"
    );
    // Behind what waited, and straight into Redis again.
    producer.accept(&house, 100);
    exact(&house, 1_450);
    let files = std::fs::read_dir(house.data().join("spool"))
        .unwrap()
        .count();
    assert_eq!(files, 0, "nothing stays on the disk");
}

#[test]
fn kills_of_the_daemon_while_it_spools_and_while_it_drains_cost_nothing() {
    let seed = std::env::var("PIPELINED_TEST_SEED").map_or(4, |s| s.parse().unwrap());
    let mut random = SmallRng::seed_from_u64(seed);
    let mut server = ForeignRedis::start(&[]);
    let mut house = spooling(&server);
    let mut producer = Producer::new();
    for round in 0..6 {
        producer.accept(&house, 200);
        server.die();
        producer.accept(&house, 1_500);
        if round % 2 == 0 {
            house.kill();
            house.start();
            producer.accept(&house, 500);
        }
        server.come();
        // While it drains, at a moment of its own each time.
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..150)));
        house.kill();
        if round % 3 == 0 {
            server.die();
            server.come();
        }
        house.start();
    }
    let ledger = exact(&house, producer.accepted);
    // A push that was not answered was sent again: known by its ids.
    assert_eq!(ledger["lost"], 0, "{ledger}");
    assert_eq!(producer.accepted, producer.next);
}

#[test]
fn without_a_spool_and_with_a_full_one_the_door_refuses_and_says_when_to_come_again() {
    let mut server = ForeignRedis::start(&[]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).set("redis.timeout=1s").start();
    house.wait_healthy();
    server.die();
    let mut producer = Producer::new();
    let refused = producer.push(&house, 10).expect("an answer");
    assert_eq!(
        (&refused["accepted"], &refused["first_rejected"]),
        (&json!(0), &json!(0))
    );
    assert!(refused["retry_after_ms"].as_u64() > Some(0), "{refused}");
    house.kill();

    house.set("ingest.spool=1MiB").start();
    let full = wait_for("the spool to be full", || {
        let pushed = producer.push(&house, 500)?;
        (pushed["rejected"].as_u64() > Some(0)).then_some(pushed)
    });
    let why = full["reason"].as_str().expect("a reason");
    assert!(why.contains("the spool is full"), "{full}");
    assert!(full["retry_after_ms"].as_u64() > Some(0), "{full}");
    let n = producer.accepted;
    assert!(n > 1_000, "{n}");
    server.come();
    exact(&house, n);
}

#[test]
fn a_full_disk_under_the_spool_is_a_refusal_and_never_a_false_accept() {
    if !may_mount("a_full_disk_under_the_spool_is_a_refusal_and_never_a_false_accept") {
        return;
    }
    let mut server = ForeignRedis::start(&[]);
    let mut house = House::new(QUIET);
    // Its spool is a small file system that only the daemon sees.
    let folder = house.data().join("spool");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(
        house.data(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let mount = "mount -t tmpfs -o size=256k none \"$1\"; shift; exec \"$@\"";
    let folder_name = folder.display().to_string();
    house.wrap(&["unshare", "-m", "sh", "-c", mount, "sh", &folder_name]);
    house
        .on(&server.url())
        .set("ingest.spool=64MiB")
        .set("redis.timeout=1s")
        .start();
    house.wait_healthy();
    server.die();
    let mut producer = Producer::new();
    let full = wait_for("the disk to be full", || {
        let pushed = producer.push(&house, 100)?;
        (pushed["rejected"].as_u64() > Some(0)).then_some(pushed)
    });
    let why = full["reason"].as_str().expect("a reason");
    assert!(why.contains("No space left"), "{full}");
    let n = producer.accepted;
    assert!(n > 100, "{n}");
    // It stays refused, and what was accepted is there when Redis is.
    assert!(producer.push(&house, 100).expect("an answer")["rejected"].as_u64() > Some(0));
    let n = producer.accepted.max(n);
    server.come();
    exact(&house, n);
    producer.accept(&house, 100);
    exact(&house, n + 100);
}

/// A TCP port in front of a server that can be another one later: where a failover moves an address.
struct Switch {
    child: Child,
    control: ChildStdin,
    said: BufReader<ChildStdout>,
    port: String,
}

/// Passes bytes both ways; a line on its stdin names the next target port and cuts what is open.
const SWITCH: &str = r#"
import os, socket, sys, threading
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(64)
print(listener.getsockname()[1], flush=True)
state = {"target": 0}; open_ones = []
def pump(a, b):
    try:
        while (data := a.recv(65536)): b.sendall(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def accept():
    while True:
        client, _ = listener.accept()
        try: server = socket.create_connection(("127.0.0.1", state["target"]))
        except OSError:
            client.close(); continue
        open_ones.extend([client, server])
        for pair in ((client, server), (server, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
for line in sys.stdin:
    state["target"] = int(line)
    for s in open_ones:
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
    open_ones.clear()
    print("switched", flush=True)
"#;

impl Switch {
    fn start(target: &str) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SWITCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start python3");
        let control = child.stdin.take().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let port = line.trim().to_owned();
        let mut switch = Self {
            child,
            control,
            said,
            port,
        };
        switch.to(target);
        switch
    }

    /// What is open is cut; what comes now goes there.
    fn to(&mut self, port: &str) {
        writeln!(self.control, "{port}").unwrap();
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "switched");
    }

    /// What is open is cut, and nothing comes through.
    fn cut(&mut self) {
        self.to("1");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("its number").port().to_string()
}

/// A master and its replica, in step.
struct Pair {
    master: ForeignRedis,
    replica: ForeignRedis,
    /// Where the replica listens.
    other: String,
    /// The address that the daemon knows.
    address: Switch,
    /// Between the two servers.
    link: Switch,
}

impl Pair {
    fn start() -> Self {
        let (port, other) = (free_port(), free_port());
        let fast = [
            "--repl-diskless-sync-delay",
            "0",
            "--appendfsync",
            "everysec",
        ];
        let mut args = vec!["--port", &port];
        args.extend(fast);
        let master = ForeignRedis::start(&args);
        let link = Switch::start(&port);
        let mut args = vec!["--port", &other, "--replicaof", "127.0.0.1", &link.port];
        args.extend(fast);
        let replica = ForeignRedis::start(&args);
        in_step(&replica);
        let address = Switch::start(&port);
        Self {
            master,
            replica,
            other,
            address,
            link,
        }
    }

    /// The master dies, the replica takes its place and its address.
    fn fail_over(&mut self) {
        self.master.die();
        signal(self.replica.pid(), "CONT");
        assert_eq!(self.replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        self.address.to(&self.other);
    }
}

fn in_step(replica: &ForeignRedis) {
    wait_for("the replica to be in step", || {
        let told = replica.cli(&["INFO", "replication"]);
        told.contains("master_link_status:up").then_some(())
    });
}

#[test]
fn hole_12_what_was_accepted_under_replica_survives_the_loss_of_the_master() {
    let mut pair = Pair::start();
    let mut house = House::new(QUIET);
    house.on(&format!("redis://127.0.0.1:{}", pair.address.port));
    house
        .set("redis.durability=replica")
        .set("redis.timeout=1s")
        .set("redis.durability_timeout=500ms");
    house.start();
    house.wait_healthy();
    assert_eq!(house.json(&["status"])["redis"]["durability"], "replica");
    let mut producer = Producer::new();
    producer.accept(&house, 3_000);
    // The replica falls behind: it confirms nothing, so nothing more is accepted, and what the master has of it is lost.
    signal(pair.replica.pid(), "STOP");
    let before = producer.accepted;
    let refused = producer.push(&house, 100).expect("an answer");
    assert_eq!(
        (&refused["accepted"], &refused["rejected"]),
        (&json!(0), &json!(100)),
        "{refused}"
    );
    assert!(
        refused["reason"]
            .as_str()
            .unwrap()
            .contains("no replica has confirmed"),
        "{refused}"
    );
    assert!(refused["retry_after_ms"].as_u64() > Some(0), "{refused}");
    // Sent again it is known by its ids, and still not accepted.
    let again = producer.push(&house, 100).expect("an answer");
    assert_eq!(
        (&again["accepted"], producer.accepted),
        (&json!(0), before),
        "{again}"
    );
    pair.fail_over();
    // Alone, the new master accepts nothing under `replica`: it needs one of its own.
    let third = ForeignRedis::start(&["--replicaof", "127.0.0.1", &pair.other]);
    in_step(&third);
    producer.accept(&house, 1_000);
    let ledger = exact(&house, producer.accepted);
    assert_eq!(ledger["lost"], 0, "{ledger}");
    assert_eq!(producer.accepted, 4_000);
}

#[test]
fn hole_12_what_memory_loses_with_the_master_is_gone_as_a_whole_and_seen_by_its_producer() {
    let mut pair = Pair::start();
    let mut house = House::new(QUIET);
    house.on(&format!("redis://127.0.0.1:{}", pair.address.port));
    house.set("redis.timeout=1s").start();
    house.wait_healthy();
    let mut producer = Producer::new();
    producer.accept(&house, 1_000);
    house.settled();
    wait_for("the replica to have it all", || {
        (pair.replica.cli(&["XLEN", "events"]) == "1000").then_some(())
    });
    pair.link.cut();
    producer.accept(&house, 500);
    house.settled();
    // The daemon's own note of how far the stream was; it is at most a second old.
    wait_for("the mark to follow", || {
        let mark = std::fs::read_to_string(house.data().join("epoch")).ok()?;
        mark.contains(" 1500 ").then_some(())
    });
    pair.fail_over();
    house.wait_healthy();
    // A consistent prefix: acknowledgements, effects and ledger went together, and the daemon says that ids may come again.
    let ledger = house.settled();
    let applied = ledger["applied"].as_u64().unwrap();
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert!((1_000..1_500).contains(&applied), "{ledger}");
    assert_eq!(house.json(&["aggregates"])["total_count"], applied);
    wait_for("the new epoch to be told", || {
        house.whole_log().contains("stream epoch 2-").then_some(())
    });
    // Whoever sends again what it was told is accepted gets each event counted once.
    let lost = producer.accepted - applied;
    let mut again = Producer::new();
    again.accept(&house, 1_500);
    let ledger = house.settled();
    assert_eq!(ledger["applied"], 1_500, "{lost} had been lost: {ledger}");
    assert_eq!(house.json(&["aggregates"])["total_count"], 1_500);
}

#[test]
fn a_server_that_cannot_keep_what_is_asked_for_ends_the_start_with_what_to_do() {
    let server = ForeignRedis::start(&["--appendfsync", "everysec"]);
    if !server.cli(&["COMMAND", "INFO", "WAITAOF"]).is_empty() {
        return;
    }
    let mut house = House::new(QUIET);
    house.on(&server.url()).set("redis.durability=aof");
    let (code, said) = house.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("CONFIG SET appendfsync always"), "{said}");

    let mut house = House::new(QUIET);
    house.set("redis.durability=replica");
    let (code, said) = house.ended();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("the managed one has none"), "{said}");

    let mut house = House::new(QUIET);
    house.set("redis.durability=aof").start();
    house.wait_healthy();
    assert_eq!(
        house.redis(&["CONFIG", "GET", "appendfsync"]),
        "appendfsync\nalways"
    );
    let mut producer = Producer::new();
    producer.accept(&house, 200);
    exact(&house, 200);
}
