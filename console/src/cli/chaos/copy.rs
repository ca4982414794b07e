//! `--copy`: a private copy of the pipeline to hurt. A daemon of its own with a managed Redis in a temporary folder, the same
//! stages, none of the sources, and claim times that are short enough to be waited for.
//!
//! It is taken down over its socket and not as a child: an experiment may have killed the process that was started here, and
//! its guard has started another.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::super::app::App;
use super::super::{down, status, up};
use super::{Door, run};
use crate::client::{Candidate, Client, is_listening};
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;

/// How long its end may take.
const END: Duration = Duration::from_secs(60);
/// How long its processes may take once they were told to end.
const KILL: Duration = Duration::from_secs(10);

/// A running copy. Take it down with [`Copy::end`]; one that is dropped without is taken down, too, and its folder is kept.
#[derive(Debug)]
pub(super) struct Copy {
    folder: PathBuf,
    child: Child,
    is_ended: bool,
}

impl Copy {
    /// Starts a copy of the pipeline in this configuration and waits until it is well.
    pub(super) fn start(app: &App, config: Option<&Path>) -> Result<Self, Failure> {
        let Some(program) = up::daemon_program() else {
            return Err(Failure::new(
                Exit::Failed,
                "start a copy: pipelined is neither beside pipectl nor in PATH",
            )
            .hint("build it: `cargo build --release`, or install it"));
        };
        let sets = sets(&explain(&program, config)?);
        let failed = |what: &str, error: std::io::Error| {
            Failure::new(Exit::Failed, format!("start a copy: {what}: {error}"))
        };
        let folder = folder().map_err(|error| failed("make its folder", error))?;
        let log = File::create(folder.join("pipelined.out"))
            .map_err(|error| failed("make its log", error))?;
        let second = log
            .try_clone()
            .map_err(|error| failed("make its log", error))?;
        let mut command = Command::new(&program);
        command.arg("run");
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        for set in sets {
            command.arg("--set").arg(set);
        }
        let child = command
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--socket")
            .arg(folder.join("s"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            // A Ctrl-C on the terminal is for pipectl, which ends the experiment and then the copy.
            .process_group(0)
            .spawn()
            .map_err(|error| failed("start pipelined", error))?;
        let mut copy = Self {
            folder,
            child,
            is_ended: false,
        };
        app.note(&format!(
            "a copy of the pipeline starts in {}",
            copy.folder.display()
        ));
        if let Err(failure) = copy.wait_well(app) {
            copy.tell_log(app);
            copy.end(app, false);
            return Err(failure);
        }
        Ok(copy)
    }

    /// The way to its daemon.
    pub(super) fn door<'a>(&self, app: &'a App) -> Door<'a> {
        Door {
            app,
            candidates: self.candidates(app),
        }
    }

    fn candidates(&self, app: &App) -> Vec<Candidate> {
        app.places.candidates(Some(&self.folder.join("s")), None)
    }

    /// Waits until it is well. A daemon that ended, and that no guard will start again, is not waited for.
    fn wait_well(&mut self, app: &App) -> Result<(), Failure> {
        let candidates = self.candidates(app);
        let deadline = Deadline::after(run::WELL_WAIT);
        let child = &mut self.child;
        status::wait_healthy(app, &candidates, deadline, |client| {
            if client.is_some() {
                return Ok(true);
            }
            match child.try_wait() {
                Ok(Some(exit)) => Err(Failure::new(
                    Exit::Failed,
                    format!("start a copy: it ended at once ({exit})"),
                )),
                _ => Ok(false),
            }
        })
        .map(drop)
    }

    /// The last words of its daemon.
    fn tell_log(&self, app: &App) {
        let text = fs::read(self.folder.join("pipelined.out")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(20)..] {
            app.screen.note(line);
        }
    }

    /// Takes it down; its folder is removed, or kept for a look where something went wrong.
    pub(super) fn end(&mut self, app: &App, is_good: bool) {
        if let Err(failure) = self.take_down(app) {
            let message = failure.message.unwrap_or_default();
            app.screen
                .note(&format!("pipectl: end the copy: {message}"));
        }
        self.is_ended = true;
        if !is_good {
            app.screen.note(&format!(
                "pipectl: the copy is kept for a look: {}",
                self.folder.display()
            ));
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            app.screen.note(&format!(
                "pipectl: remove {}: {error}",
                self.folder.display()
            ));
        }
    }

    /// By a drain; what does not answer is ended by signals.
    fn take_down(&mut self, app: &App) -> Result<(), Failure> {
        // Not disturbed by a Ctrl-C that has come already.
        let candidates = self.candidates(app);
        let found =
            Client::connect_first(&candidates, Duration::from_secs(5), &Interrupt::default());
        let drained = match found {
            Ok((client, candidate)) => {
                down::drain(app, client, &candidate, true, Deadline::after(END)).map(drop)
            }
            Err(_) => Ok(()),
        };
        self.kill();
        drained
    }

    /// Ends what is left of our own child, and of the Redis in its folder.
    fn kill(&mut self) {
        let deadline = Deadline::after(KILL);
        // Mild first: a daemon that is told so drains and takes its Redis along.
        for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            let pid = i32::try_from(self.child.id()).ok();
            let pid = pid.and_then(rustix::process::Pid::from_raw);
            // It may end in this moment, which is as good.
            let _gone = pid.map(|pid| rustix::process::kill_process(pid, signal));
            while matches!(self.child.try_wait(), Ok(None)) && !deadline.is_over() {
                clock::pause(Duration::from_millis(20));
            }
        }
        // Reaped by `try_wait`, or it cannot be ended by anybody.
        let redis = fs::read_to_string(self.folder.join("data/redis/redis.pid")).ok();
        let pid = redis.and_then(|text| text.trim().parse::<i32>().ok());
        let is_left = is_listening(&self.folder.join("data/redis/redis.sock"));
        if let Some(pid) = pid
            .and_then(rustix::process::Pid::from_raw)
            .filter(|_| is_left)
        {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if !self.is_ended {
            self.kill();
        }
    }
}

/// A new private folder, with a short name: paths of sockets are limited.
fn folder() -> std::io::Result<PathBuf> {
    let base = std::env::temp_dir();
    for n in 0..100_u32 {
        let path = base.join(format!("chaos-{}-{n}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other(format!(
        "{} is full of our folders",
        base.display()
    )))
}

/// The resolved configuration, key by key.
fn explain(program: &Path, config: Option<&Path>) -> Result<Vec<(String, Value)>, Failure> {
    let failed = |why: String| Failure::new(Exit::Failed, format!("start a copy: {why}"));
    let mut command = Command::new(program);
    command.args(["explain", "-o", "json"]);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("run {} explain: {error}", program.display())))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(format!("read what pipelined explains: {error}")))?;
    if answer.get("ok") != Some(&Value::Bool(true)) {
        let message = "start a copy: the configuration has faults";
        return Err(Failure::new(Exit::Usage, message).hint("see them all: `pipelined check`"));
    }
    let rows = answer.get("rows").and_then(Value::as_array);
    let pair = |row: &Value| {
        let key = row.get("key")?.as_str()?.to_owned();
        Some((key, row.get("value")?.clone()))
    };
    Ok(rows.into_iter().flatten().filter_map(pair).collect())
}

/// What makes a copy of a pipeline: keys that are set over its configuration.
fn sets(rows: &[(String, Value)]) -> Vec<String> {
    let mut sets: Vec<String> = [
        "redis.url=managed",
        "chaos.enabled=true",
        "chaos.copy=true",
        "chaos.freshness=2s",
        "chaos.schedule.every=0s",
        // Whoever starts a process may do with it what they like.
        "control.max_role=admin",
    ]
    .map(str::to_owned)
    .to_vec();
    for (key, value) in rows {
        let parts: Vec<_> = key.split('.').collect();
        match parts[..] {
            ["source", name, "enabled"] => sets.push(format!("source.{name}.enabled=false")),
            ["stage", name, "timeout"] => sets.push(format!("stage.{name}.timeout=1s")),
            // With the time limit above, twice that is the shortest that takes nothing from healthy workers.
            ["stage", name, "prefetch"] => sets.push(format!("stage.{name}.prefetch=1")),
            ["stage", name, "claim_after"] if !is_owned(rows, name) => {
                sets.push(format!("stage.{name}.claim_after=2s"));
            }
            // A managed server has no replica.
            ["redis", "durability"] if value == "replica" => {
                sets.push("redis.durability=aof".to_owned());
            }
            ["chaos", "allow"] => {
                let all = r#"["worker", "daemon", "redis", "net", "data", "lookup", "cache"]"#;
                sets.push(format!("chaos.allow={all}"));
            }
            _ => {}
        }
    }
    sets
}

fn is_owned(rows: &[(String, Value)], stage: &str) -> bool {
    let key = format!("stage.{stage}.delivery");
    rows.iter().any(|(k, value)| *k == key && value == "owned")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_stages_and_none_of_the_sources() {
        let row = |key: &str, value: &str| (key.to_owned(), Value::from(value));
        let rows = [
            row("redis.durability", "replica"),
            row("source.users.enabled", "true"),
            row("source.users.rate", "1000/s"),
            row("stage.enrich.delivery", "shared"),
            row("stage.enrich.timeout", "10s"),
            row("stage.enrich.prefetch", "4"),
            row("stage.enrich.claim_after", "60s"),
            row("stage.score.delivery", "owned"),
            row("stage.score.timeout", "10s"),
            row("stage.score.claim_after", "60s"),
        ];
        let sets = sets(&rows);
        for expected in [
            "redis.url=managed",
            "redis.durability=aof",
            "source.users.enabled=false",
            "stage.enrich.timeout=1s",
            "stage.enrich.prefetch=1",
            "stage.enrich.claim_after=2s",
            "stage.score.timeout=1s",
        ] {
            assert!(
                sets.iter().any(|set| set == expected),
                "{expected}: {sets:?}"
            );
        }
        assert!(
            !sets.iter().any(|set| set.contains("score.claim_after")),
            "{sets:?}"
        );
        assert!(!sets.iter().any(|set| set.contains("rate")), "{sets:?}");
    }
}
