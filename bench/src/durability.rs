//! What each class of durability costs: the latency of one accepted event, and events a second in pushes of 500, through
//! the control socket; and the same of the spool, with Redis away. Told, not judged: the disk and the link decide.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::daemon::{Daemon, ONE_STAGE};
use crate::note;
use crate::report::{Goal, Report};

/// Events of a large push: what `pipectl ingest` sends at most in one call to Redis.
const BATCH: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(30);
/// A server with WAITAOF, where the system's has none.
const NEWER: &str = "PIPELINED_WAITAOF_SERVER";

struct Case {
    name: &'static str,
    sets: &'static [&'static str],
    options: &'static [&'static str],
    has_replica: bool,
    is_newer: bool,
    /// Killed before anything is pushed: the spool takes it.
    is_away: bool,
}

const BASE: Case = Case {
    name: "",
    sets: &[],
    options: &[],
    has_replica: false,
    is_newer: false,
    is_away: false,
};

const CASES: [Case; 6] = [
    Case {
        name: "memory, no AOF",
        ..BASE
    },
    Case {
        name: "memory, AOF everysec",
        options: &["--appendonly", "yes", "--appendfsync", "everysec"],
        ..BASE
    },
    Case {
        name: "replica (same machine)",
        sets: &["redis.durability=replica"],
        has_replica: true,
        ..BASE
    },
    Case {
        name: "aof, always",
        sets: &["redis.durability=aof"],
        options: &["--appendonly", "yes", "--appendfsync", "always"],
        ..BASE
    },
    Case {
        name: "aof, WAITAOF with everysec",
        sets: &["redis.durability=aof"],
        options: &["--appendonly", "yes", "--appendfsync", "everysec"],
        is_newer: true,
        ..BASE
    },
    Case {
        name: "spool, Redis away",
        sets: &["ingest.spool=1GiB", "redis.timeout=1s"],
        is_away: true,
        ..BASE
    },
];

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<()> {
    for case in &CASES {
        if case.is_newer && std::env::var_os(NEWER).is_none() {
            note(&format!(
                "durability, {}: left out, {NEWER} is not set",
                case.name
            ));
            continue;
        }
        note(&format!("durability, {}", case.name));
        run(report, case, quick).with_context(|| format!("durability, {}", case.name))?;
    }
    Ok(())
}

fn run(report: &mut Report, case: &Case, quick: bool) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("pipelined-bench-")
        .tempdir()
        .context("make a temporary folder")?;
    let port = free_port()?;
    let mut options = case.options.to_vec();
    if case.has_replica {
        options.extend(["--port", &port]);
    }
    let program = if case.is_newer {
        std::env::var(NEWER)?
    } else {
        "redis-server".to_owned()
    };
    let server = Server::start(&program, &dir.path().join("redis"), &options)?;
    let _replica = if case.has_replica {
        let options = ["--replicaof", "127.0.0.1", &port];
        let replica = Server::start(&program, &dir.path().join("replica"), &options)?;
        replica.until("INFO", "replication", "master_link_status:up")?;
        Some(replica)
    } else {
        None
    };
    let url = format!("redis.url=redis+unix://{}", server.socket.display());
    let mut sets = vec![url.as_str()];
    sets.extend(case.sets);
    let mut daemon = Daemon::start_in(dir.path(), ONE_STAGE, &sets)?;
    daemon.wait_healthy()?;
    let server = (!case.is_away).then_some(server);
    let mut door = Door::open(&daemon.socket())?;
    if case.is_away {
        // The first one meets the outage; it is no part of the figures.
        door.push(1)?;
    }
    let (n_single, n_large, limit) = if quick { (50, 10, 3) } else { (1_000, 200, 20) };
    let mut single = Vec::new();
    let begun = Instant::now();
    while single.len() < n_single && begun.elapsed() < Duration::from_secs(limit) {
        single.push(door.push(1)?.as_secs_f64() * 1e3);
    }
    let mut rates = Vec::new();
    let begun = Instant::now();
    while rates.len() < n_large && begun.elapsed() < Duration::from_secs(limit) {
        #[expect(clippy::cast_precision_loss, reason = "500")]
        rates.push(BATCH as f64 / door.push(BATCH)?.as_secs_f64());
    }
    if let Some(_alive) = &server {
        daemon.check_counts(door.n_accepted)?;
    }
    single.sort_by(f64::total_cmp);
    let p99 = single[(single.len() * 99 / 100).min(single.len() - 1)];
    let figure = |what: &str| format!("{}: {what}", case.name);
    report.figure(
        "durability",
        figure("accept one, p50"),
        "ms",
        single,
        Goal::None,
    );
    report.figure(
        "durability",
        figure("accept one, p99"),
        "ms",
        vec![p99],
        Goal::None,
    );
    report.figure(
        "durability",
        figure("pushes of 500, one after the other"),
        "events/s",
        rates,
        Goal::None,
    );
    Ok(())
}

/// The control socket as a producer uses it.
struct Door {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
    session: Value,
    n_calls: u64,
    n_accepted: u64,
}

impl Door {
    fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("connect to the control socket")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut door = Self {
            lines: BufReader::new(stream.try_clone()?),
            stream,
            session: Value::Null,
            n_calls: 0,
            n_accepted: 0,
        };
        door.lines.read_line(&mut String::new())?;
        let opened = door.call("ingest.open", &json!({"name": "bench"}))?;
        door.session = opened["session"].clone();
        Ok(door)
    }

    /// How long until `n` events were accepted.
    fn push(&mut self, n: u64) -> Result<Duration> {
        let events: Vec<Value> = (self.n_accepted..self.n_accepted + n)
            .map(|i| {
                json!({
                    "id": format!("{i:032x}"),
                    "roles": [["key", format!("u{}", i % 997)], ["type", "click"], ["time", "1640995200000"], ["value", "1.25"]],
                    "fields": []
                })
            })
            .collect();
        let session = self.session.clone();
        let begun = Instant::now();
        let pushed = self.call(
            "ingest.push",
            &json!({"session": session, "events": events}),
        )?;
        let took = begun.elapsed();
        ensure!(pushed["accepted"] == n, "not accepted: {pushed}");
        self.n_accepted += n;
        Ok(took)
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.n_calls += 1;
        let id = self.n_calls;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        writeln!(self.stream, "{request}").context("write to the control socket")?;
        loop {
            let mut line = String::new();
            let n = self.lines.read_line(&mut line).context("read an answer")?;
            ensure!(n > 0, "the daemon closed the control socket");
            let answer: Value = serde_json::from_str(&line).context("read an answer")?;
            if answer["id"] == id {
                ensure!(answer["error"].is_null(), "{method}: {answer}");
                return Ok(answer["result"].clone());
            }
        }
    }
}

/// A private server; gone when dropped.
struct Server {
    child: Child,
    socket: std::path::PathBuf,
}

impl Server {
    fn start(program: &str, dir: &Path, options: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let socket = dir.join("redis.sock");
        let mut command = Command::new(program);
        command.args(["--save", "", "--repl-diskless-sync-delay", "0", "--dir"]);
        command.arg(dir).arg("--unixsocket").arg(&socket);
        if !options.contains(&"--port") {
            command.args(["--port", "0"]);
        }
        let child = command
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let server = Self { child, socket };
        server.until("PING", "", "PONG")?;
        Ok(server)
    }

    /// Waits for an answer with this word in it.
    fn until(&self, command: &str, arg: &str, word: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut ask = Command::new("redis-cli");
            ask.arg("-s").arg(&self.socket).arg(command);
            if !arg.is_empty() {
                ask.arg(arg);
            }
            let said = ask.output().context("start redis-cli")?.stdout;
            if String::from_utf8_lossy(&said).contains(word) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server never said {word}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<String> {
    let free = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(free.local_addr()?.port().to_string())
}
