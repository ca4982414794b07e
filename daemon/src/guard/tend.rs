//! The task of one run: starts the guard, serves its pipe, shows its progress, and sees to the end whatever the guard does.
//!
//! Owned by the keeper. A guard that an earlier daemon started has no pipe to this one; then the task only watches. Ends when
//! the guard has ended; the keeper's end cuts it off, which closes the pipe, so that the guard takes everything back.

use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::chaos::{Running, Verdict};
use pipectl_shared::wire;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::job::Job;
use super::keeper::Inner;
use super::pipe::{End, Pipe, Word};
use crate::journal::Level;
use crate::plans::words::quote;

/// How often the progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a guard may take to read its job.
const JOB_WAIT: Duration = Duration::from_secs(5);
/// How long a guard whose pipe is closed may take to take everything back and to write its report.
const REVERT_WAIT: Duration = Duration::from_secs(60);
/// What a whole run may take beyond its phases: starting, counting, writing.
const SLACK: Duration = Duration::from_secs(120);

/// A guard that was started by this daemon.
pub(super) struct Started {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    words: mpsc::Receiver<Word>,
    /// The run must have ended after this.
    limit: Duration,
    /// No order's limit may be longer.
    limit_max: Duration,
}

/// Starts the guard of a job and hands it over; it is then on its own, also if this process dies. Errors say what was tried.
pub(super) async fn start(
    inner: &Inner,
    job: &Job,
    words: mpsc::Receiver<Word>,
) -> Result<Started, String> {
    let log = job.folder.join("guard.log");
    let log_file = File::create(&log).map_err(|e| format!("create {}: {e}", log.display()))?;
    let guard = &inner.setup.guard;
    let failed = |what: &str, e: std::io::Error| format!("{what} {}: {e}", guard.exe.display());
    let mut child = Command::new(&guard.exe)
        .args(&guard.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log_file))
        // It outlives a daemon that is killed, and a Ctrl-C on the terminal goes to a whole group.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(|e| failed("start", e))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the guard has no pipe".to_owned());
    };
    let line = wire::encode(job).map_err(|e| e.to_string())?;
    let handed = match timeout(JOB_WAIT, stdin.write_all(&line)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(failed("hand the job to", e)),
        Err(_) => Err(format!("{} does not read its job", guard.exe.display())),
    };
    if let Err(why) = handed {
        // It was told nothing, so it has done nothing.
        if let Err(fault) = child.kill().await {
            tracing::warn!(%fault, "a guard could not be ended");
        }
        return Err(why);
    }
    let timing = &job.timing;
    let phases_ms = timing.warm_ms
        + timing.before_ms
        + job.method.for_ms
        + timing.hold_ms
        + timing.recover_max_ms
        + timing.drain_max_ms;
    Ok(Started {
        child,
        stdin,
        stdout,
        words,
        limit: Duration::from_millis(phases_ms) + SLACK,
        limit_max: Duration::from_millis(job.scene.max_ms) + SLACK,
    })
}

/// Sees a guard of this daemon to its end.
pub(super) async fn tend(inner: Arc<Inner>, running: Running, started: Started) {
    let Started {
        mut child,
        stdin,
        stdout,
        mut words,
        limit,
        limit_max,
    } = started;
    let mut watch = Watch::new(running);
    let mut pipe = Pipe::new(stdout, stdin, limit_max);
    let hands = Arc::clone(&inner.setup.inside);
    let late = || {
        let text = "the guard said nothing in time: the daemon took everything back by itself";
        inner.tell(Level::Warning, "chaos.reverted", text);
    };
    let end = {
        let serving = pipe.serve(&*hands, &mut words, late);
        tokio::select! {
            end = serving => end,
            // A child of the guard may hold the pipe open when it is dead.
            _ = child.wait() => End::Closed,
            () = sleep(limit) => End::Broken(format!("it has not ended within {} s", limit.as_secs())),
            () = watch.keep_looking(&inner) => End::Closed,
        }
    };
    hands.clear();
    // The closed pipe tells it to take everything back.
    drop(pipe);
    if let End::Broken(what) = end {
        let text = format!(
            "the guard of {} cannot be trusted ({what}): everything in the daemon was taken back, and it was told to end",
            watch.running.experiment
        );
        inner.tell(Level::Error, "chaos.guard_broken", text);
    }
    let is_over = tokio::select! {
        ended = timeout(REVERT_WAIT, child.wait()) => ended.is_ok(),
        () = watch.keep_looking(&inner) => false,
    };
    if !is_over {
        let text = "the guard did not end and was killed; what it left is taken back now";
        inner.tell(Level::Error, "chaos.guard_killed", text);
        if let Err(fault) = child.kill().await {
            tracing::warn!(%fault, "a guard could not be killed");
        }
    }
    finish(&inner, watch).await;
}

/// Watches a guard that an earlier daemon started, to its end.
pub(super) async fn follow(inner: Arc<Inner>, running: Running) {
    let mut watch = Watch::new(running);
    watch.is_injected = watch.running.injected_ms.is_some();
    watch.is_reverted = watch.running.reverted_ms.is_some();
    loop {
        watch.look(&inner).await;
        let (shelf, id) = (inner.shelf.clone(), watch.running.id.clone());
        let is_alive = tokio::task::spawn_blocking(move || shelf.is_alive(&id)).await;
        if matches!(is_alive, Ok(false)) {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    finish(&inner, watch).await;
}

/// Says what came of it, has what is open taken back, and makes room for the next.
async fn finish(inner: &Arc<Inner>, mut watch: Watch) {
    watch.look(inner).await;
    let (shelf, id) = (inner.shelf.clone(), watch.running.id.clone());
    let run = tokio::task::spawn_blocking(move || shelf.run(&id)).await;
    let Running { id, experiment, .. } = &watch.running;
    match run.ok().flatten() {
        Some(run) => {
            let level = match run.verdict {
                Verdict::Pass | Verdict::Aborted | Verdict::Refused => Level::Info,
                Verdict::Deviated | Verdict::Inconclusive => Level::Warning,
                Verdict::Failed => Level::Error,
            };
            let text = format!("{experiment} ({id}): {}: {}", run.verdict.word(), run.why);
            inner.tell(level, "chaos.ended", text);
        }
        None => {
            let text = format!(
                "{experiment} ({id}): its guard died; what it left is taken back now. See guard.log in its folder"
            );
            inner.tell(Level::Error, "chaos.ended", text);
            (inner.setup.recover)().await;
        }
    }
    inner.over(id);
    let shelf = inner.shelf.clone();
    let pruned = tokio::task::spawn_blocking(move || shelf.prune()).await;
    if let Ok(Err(fault)) = pruned {
        tracing::warn!(%fault, "old experiments could not be removed");
    }
}

/// Looks at the progress of a run and tells what is new in it.
struct Watch {
    running: Running,
    is_injected: bool,
    is_reverted: bool,
}

impl Watch {
    fn new(running: Running) -> Self {
        Self {
            running,
            is_injected: false,
            is_reverted: false,
        }
    }

    /// Never returns. Cancel-safe.
    async fn keep_looking(&mut self, inner: &Inner) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(inner).await;
        }
    }

    /// Cancel-safe: what was read is told at the next look.
    async fn look(&mut self, inner: &Inner) {
        let (shelf, id) = (inner.shelf.clone(), self.running.id.clone());
        let read = tokio::task::spawn_blocking(move || shelf.progress(&id)).await;
        let Some(progress) = read.ok().flatten() else {
            return;
        };
        // The folder says whose run it is, not what stands in a file of it.
        self.running = Running {
            id: self.running.id.clone(),
            experiment: self.running.experiment.clone(),
            by: self.running.by.clone(),
            ..progress.running
        };
        let Running { id, experiment, .. } = &self.running;
        if self.running.injected_ms.is_some() && !self.is_injected {
            self.is_injected = true;
            let targets: Vec<_> = self.running.targets.iter().map(|t| quote(t)).collect();
            let text = format!(
                "{experiment} ({id}): the fault is in, on {}",
                targets.join(", ")
            );
            inner.tell(Level::Action, "chaos.injected", text);
        }
        if self.running.reverted_ms.is_some() && !self.is_reverted {
            self.is_reverted = true;
            let text = format!("{experiment} ({id}): the fault was taken back");
            inner.tell(Level::Info, "chaos.reverted", text);
        }
        inner.show(&self.running);
    }
}
