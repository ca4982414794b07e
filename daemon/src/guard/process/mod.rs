//! The guard's process: reads its job, does the run, writes its files, ends. It dies with nothing left in: what it did is
//! taken back first, and what a kill keeps it from is taken back by the daemon's next start (`recover`).

mod books;
mod canary;
mod chart;
mod deeds;
mod judge;
mod load;
mod pipe;
mod probe;
mod report;
mod runner;

use std::fs::File;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::task::JoinSet;

use self::pipe::Pipe;
use self::runner::Runner;
use super::job::Job;
use crate::datadir::write_whole;

/// Longest job.
const JOB_MAX: u64 = 4 << 20;

/// `pipelined guard`: returns the exit code, which nobody but a person in front of `guard.log` asks for.
pub fn main() -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("guard")
        .build();
    let ended = runtime.context("start the runtime").and_then(|runtime| {
        let ended = runtime.block_on(live());
        // The reader of standard input blocks in a thread that nobody can end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => 0,
        Err(error) => {
            use std::io::Write as _;
            let text = pipectl_shared::untrusted::escape(&format!("{error:#}"));
            // Nothing else can be said where stderr is gone.
            let _ = writeln!(std::io::stderr(), "guard: {text}");
            1
        }
    }
}

/// What this run is, for whoever finds its folder when nobody guards it any more.
fn write_down(job: &Job) -> std::io::Result<()> {
    let mut kept = job.clone();
    // It came over a pipe so that it is in no file.
    kept.server.password = None;
    write_whole(
        &job.folder.join("job.json"),
        &serde_json::to_vec_pretty(&kept)?,
    )
}

async fn live() -> Result<()> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = Vec::new();
    (&mut input)
        .take(JOB_MAX)
        .read_until(b'\n', &mut line)
        .await
        .context("read the job")?;
    let job: Job = serde_json::from_slice(&line).context("read the job")?;
    // Held to the end of the process: who finds it free knows that nobody guards this run.
    let lock = File::create(job.folder.join("lock")).context("make the lock")?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).context("another guard has this run")?;
    write_down(&job).context("write job.json")?;
    let (pipe, listener) = Pipe::new(input);
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.run());
    let folder = job.folder.clone();
    let ended = Runner::new(job.clone(), pipe)?.run().await;
    let written = match ended {
        Ok(ended) => report::write(&folder, &job, &ended),
        Err(error) => report::write_failure(&folder, &job, &format!("{error:#}")),
    };
    tasks.shutdown().await;
    drop(lock);
    written
}
