//! A real `pipelined run` with its real `pipectl`, gone when dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::server::Server;

/// One stage that counts.
pub(crate) const ONE_STAGE: &str = r#"version = 1
name = "bench"

[stage.count]
group = "event_group"
workers = 2

[[stage.count.operators]]
kind = "aggregate"
by = ["type", "product", "session"]
"#;

/// Two stages, as in the pipeline.toml that is shipped.
pub(crate) const TWO_STAGES: &str = r#"version = 1
name = "bench"

[stage.enrich]
group = "event_group"
workers = 2

[[stage.enrich.operators]]
kind = "validate"
required = ["event_id", "user_id", "event_type", "ts"]
integers = ["ts"]

[[stage.enrich.operators]]
kind = "lookup"
key = "user_id"
into = "profile"

[stage.correlate]
from = "enrich"

[[stage.correlate.operators]]
kind = "aggregate"
by = ["type", "product", "session"]
"#;

/// Where the promise of 60 s to be healthy ends.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Daemon {
    child: Child,
    dir: PathBuf,
    begun: Instant,
}

impl Daemon {
    /// Starts it on that server; `sets` are `--set key=value`.
    pub(crate) fn start(server: &Server, config: &str, sets: &[&str]) -> Result<Self> {
        let url = format!("redis.url=redis+unix://{}", server.socket().display());
        let mut all = vec![url.as_str()];
        all.extend(sets);
        Self::start_in(server.dir(), config, &all)
    }

    /// Starts it in a folder that outlives it.
    pub(crate) fn start_in(dir: &Path, config: &str, sets: &[&str]) -> Result<Self> {
        Self::start_with(dir, config, sets, &[], &[])
    }

    /// The same with further arguments and environment.
    pub(crate) fn start_with(
        dir: &Path,
        config: &str,
        sets: &[&str],
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let file = dir.join("pipeline.toml");
        std::fs::write(&file, config).context("write the configuration")?;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("daemon.log"))
            .context("open the log")?;
        let mut command = Command::new(sibling("pipelined")?);
        command
            .arg("run")
            .arg("--config")
            .arg(&file)
            .arg("--data")
            .arg(dir.join("data"))
            .arg("--socket")
            .arg(dir.join("control.sock"))
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        for set in sets {
            command.args(["--set", set]);
        }
        let begun = Instant::now();
        let child = command.spawn().context("start pipelined")?;
        Ok(Self {
            child,
            dir: dir.to_owned(),
            begun,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// Waits until it says that it is healthy; the time since its start. Asks every 2 ms over one connection.
    pub(crate) fn wait_healthy(&mut self) -> Result<Duration> {
        let mut socket = None;
        loop {
            if let Some((lines, stream)) = &mut socket {
                let status = ask(lines, stream, "status.get", &json!({}))?;
                if status["result"]["healthy"] == true {
                    return Ok(self.begun.elapsed());
                }
            } else if let Ok(stream) = UnixStream::connect(self.dir.join("control.sock")) {
                stream.set_read_timeout(Some(PATIENCE))?;
                let mut lines = BufReader::new(stream.try_clone()?);
                let mut hello = String::new();
                lines.read_line(&mut hello).context("read the greeting")?;
                socket = Some((lines, stream));
                continue;
            }
            if let Some(ended) = self.child.try_wait()? {
                bail!("pipelined ended with {ended}\n{}", self.log());
            }
            ensure!(
                self.begun.elapsed() < PATIENCE,
                "pipelined is not healthy after {PATIENCE:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `pipectl ARGS -o json`.
    pub(crate) fn pipectl(&self, args: &[&str]) -> Result<Value> {
        let out = Command::new(sibling("pipectl")?)
            .arg("--socket")
            .arg(self.dir.join("control.sock"))
            .args(args)
            .args(["-o", "json"])
            .stdin(Stdio::null())
            .output()
            .context("start pipectl")?;
        ensure!(
            out.status.success(),
            "pipectl {args:?}: {} {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr),
            self.log()
        );
        serde_json::from_slice(&out.stdout)
            .with_context(|| format!("read what pipectl {args:?} said"))
    }

    /// Waits until a source has sent its last event.
    pub(crate) fn wait_accepted(&self, n: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ledger = self.pipectl(&["ledger"])?;
            if ledger["accepted"].as_u64() >= Some(n) {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the source did not send {n} events: {ledger}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until everything is settled and checks the books; `n` = what must have been applied.
    pub(crate) fn check_counts(&self, n: u64) -> Result<()> {
        let ledger = self.pipectl(&["ledger", "--wait-settled", "--timeout", "120s"])?;
        let applied = ledger["applied"].as_u64().unwrap_or(0);
        let accepted = ledger["accepted"].as_u64().unwrap_or(0);
        ensure!(
            ledger["balanced"] == true && applied == accepted && applied == n,
            "wrong counts: wanted {n} applied, the ledger says {ledger}"
        );
        let aggregates = self.pipectl(&["aggregates"])?;
        ensure!(
            aggregates["total_count"] == applied,
            "wrong counts: {applied} were applied, the aggregates say {}",
            aggregates["total_count"]
        );
        let by_type: u64 = aggregates["event_types"]
            .as_object()
            .map_or(0, |map| map.values().filter_map(Value::as_u64).sum());
        ensure!(
            by_type == applied,
            "wrong counts: {applied} were applied, {by_type} by type"
        );
        Ok(())
    }

    /// When it was started.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// What it has written so far, with what others before it in its folder wrote.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("kill pipelined")?;
        self.child.wait().context("wait for pipelined")?;
        Ok(())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.child.try_wait().context("look for pipelined")
    }

    /// Waits for its end after [`PATIENCE`] at most.
    pub(crate) fn wait_ended(&mut self) -> Result<std::process::ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "pipelined does not end\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// `pipectl ARGS`, whatever comes of it: its exit code, stdout, stderr.
    pub(crate) fn pipectl_raw(&self, args: &[&str]) -> Result<std::process::Output> {
        Command::new(sibling("pipectl")?)
            .arg("--socket")
            .arg(self.dir.join("control.sock"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context("start pipectl")
    }

    pub(crate) fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to drain, as every operator would, and waits for its end.
    pub(crate) fn drain(mut self) -> Result<()> {
        Command::new("kill")
            .arg(self.pid().to_string())
            .status()
            .context("start kill")?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "pipelined drained with {ended}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a control socket.
pub(crate) struct Control {
    lines: BufReader<UnixStream>,
    stream: UnixStream,
}

impl Control {
    /// Connects and reads the greeting.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("connect to the control socket")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut hello = String::new();
        let n = lines.read_line(&mut hello).context("read the greeting")?;
        ensure!(n > 0, "the daemon closed the control socket");
        Ok(Self { lines, stream })
    }

    /// Whether the daemon says that it is healthy.
    pub(crate) fn is_healthy(&mut self) -> Result<bool> {
        Ok(self.call("status.get", &json!({}))?["healthy"] == true)
    }

    /// Asks; the result, or the error as a document.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let answer = ask(&mut self.lines, &mut self.stream, method, params)?;
        Ok(match answer.get("result") {
            Some(result) => result.clone(),
            None => answer,
        })
    }
}

fn ask(
    lines: &mut impl std::io::BufRead,
    stream: &mut UnixStream,
    method: &str,
    params: &Value,
) -> Result<Value> {
    writeln!(
        stream,
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#
    )
    .context("write to the control socket")?;
    loop {
        let mut line = String::new();
        let n = lines
            .read_line(&mut line)
            .context("read from the control socket")?;
        ensure!(n > 0, "the daemon closed the control socket");
        let answer: Value = serde_json::from_str(&line).context("read an answer")?;
        if answer["id"] == 1 {
            return Ok(answer);
        }
    }
}

/// A binary beside this one: all come from the same build.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()
        .context("find this program")?
        .with_file_name(name);
    ensure!(
        path.is_file(),
        "{} is missing; ./scripts/bench builds it",
        path.display()
    );
    Ok(path)
}
