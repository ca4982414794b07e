//! What the guard does to the pipeline, and how it takes it back. Each deed is written down and forced to the disk before it
//! is done; taking back never stops at one that fails.

mod back;
mod server;

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::canary::Canaries;
use super::load::{Load, Mix, Names};
use super::pipe::{Pipe, Side};
use crate::chaos::{Hits, Order, Process, Server, words};
use crate::experiments::{Act, LoadFault, ServerFault};
use crate::guard::Job;
use crate::guard::recover::{Intent, Undo, intend, lease_key};
use crate::store::redis::Answer;

/// Inside faults end by themselves so long after the run should have ended them.
const DEAD_MAN: Duration = Duration::from_secs(10);

/// What was done so far.
pub(super) struct Deeds {
    job: Job,
    pipe: Pipe,
    server: Server,
    load: Load,
    canaries: Canaries,
    names: Names,
    open: File,
    begun: Instant,
    undos: Vec<Undo>,
    /// The daemon's process.
    pub(super) daemon: Option<Process>,
    /// The daemon that this guard started.
    child: Option<Child>,
    /// What the daemon last said of its faults.
    pub(super) inside: Hits,
    /// Faults outside the daemon that hit.
    pub(super) outside: u64,
    /// The run's own events that were removed, undelivered or from the pending list.
    pub(super) taken: u64,
    /// Entries that were taken out of the pending list, whosoever they were.
    pub(super) dropped: u64,
    /// Refusals for lack of memory when the limit was lowered.
    refusals_before: u64,
    /// When the server was killed.
    pub(super) server_killed: Option<Instant>,
    /// Whether the daemon was killed on purpose.
    pub(super) daemon_killed: bool,
}

impl Deeds {
    pub(super) fn new(
        job: &Job,
        pipe: Pipe,
        server: Server,
        (load, canaries): (Load, Canaries),
        names: Names,
        open: File,
        begun: Instant,
    ) -> Self {
        Self {
            job: job.clone(),
            pipe,
            server,
            load,
            canaries,
            names,
            open,
            begun,
            undos: Vec::new(),
            daemon: Process::of(job.daemon.pid),
            child: None,
            inside: Hits::default(),
            outside: 0,
            taken: 0,
            dropped: 0,
            refusals_before: 0,
            server_killed: None,
            daemon_killed: false,
        }
    }

    /// Does one thing; what was done, for a person.
    ///
    /// # Errors
    /// Why it could not be done, in words.
    pub(super) async fn act(&mut self, act: &Act) -> Result<String, String> {
        let undo = self.undo_of(act).await?;
        let t_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let intent = Intent {
            t_ms,
            act: act.clone(),
            undo: undo.clone(),
        };
        intend(&mut self.open, &intent)
            .map_err(|e| format!("the journal cannot be written: {e}"))?;
        self.undos.extend(undo);
        match act {
            Act::Inside(order) => {
                let limit = Duration::from_millis(self.job.method.for_ms) + DEAD_MAN;
                self.inside = self.pipe.ask(order.clone(), limit).await?;
                Ok(crate::guard::words::order(order))
            }
            Act::Server(fault) => self.server_fault(fault).await,
            Act::KillDaemon { down_ms } => {
                let daemon = self.daemon.ok_or("the daemon is gone already")?;
                self.daemon_killed = true;
                if !daemon.signal(Signal::KILL) {
                    return Err("the daemon could not be killed".to_owned());
                }
                self.outside += 1;
                wait_for_end(daemon).await;
                tokio::time::sleep(Duration::from_millis(*down_ms)).await;
                let pid = self.start_daemon()?;
                Ok(format!(
                    "SIGKILL to the daemon (pid {}), started again as {pid}",
                    daemon.pid
                ))
            }
            Act::Load(fault) => {
                let mix = self.load.mix();
                let (mix, text) = match fault {
                    LoadFault::Poison { share } => (
                        Mix {
                            poison: *share,
                            ..mix
                        },
                        format!("{:.1} % of events are poison", share * 100.0),
                    ),
                    LoadFault::Duplicate { share } => (
                        Mix {
                            duplicate: *share,
                            ..mix
                        },
                        format!("{:.1} % of events are sent twice", share * 100.0),
                    ),
                    LoadFault::Burst { factor } => {
                        #[expect(clippy::cast_precision_loss, reason = "a few times")]
                        let rate = mix.rate * *factor as f64;
                        (Mix { rate, ..mix }, format!("{factor} times the events"))
                    }
                    LoadFault::HotKey { share } => (
                        Mix { hot: *share, ..mix },
                        format!("{:.1} % of events have one key", share * 100.0),
                    ),
                };
                self.load.set(mix);
                if matches!(fault, LoadFault::Burst { .. } | LoadFault::HotKey { .. }) {
                    self.outside += 1;
                }
                Ok(text)
            }
        }
    }

    /// What takes this back if nobody else can.
    async fn undo_of(&mut self, act: &Act) -> Result<Option<Undo>, String> {
        let said = |e: crate::store::StoreError| e.to_string();
        Ok(match act {
            Act::Server(ServerFault::Stop) => {
                Some(Undo::Continue(self.server.process().await.map_err(said)?))
            }
            Act::Server(ServerFault::MaxMemory { .. }) => Some(Undo::MaxMemory(
                self.server.setting("maxmemory").await.map_err(said)?,
            )),
            _ => None,
        })
    }

    /// Starts the daemon as it was started before; its pid.
    pub(super) fn start_daemon(&mut self) -> Result<u32, String> {
        let at = &self.job.daemon;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.job.folder.join("daemon.out"))
            .map_err(|e| format!("open daemon.out: {e}"))?;
        let err = log.try_clone().map_err(|e| e.to_string())?;
        let child = Command::new(&at.exe)
            .args(&at.args)
            .current_dir(&at.folder)
            // A group of its own: what ends the guard does not end it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("start {}: {e}", at.exe.display()))?;
        let pid = child.id().ok_or("the daemon ended at once")?;
        self.daemon = Process::of(pid);
        self.child = Some(child);
        Ok(pid)
    }

    /// Whether the daemon's process lives.
    pub(super) fn daemon_lives(&mut self) -> bool {
        if let Some(child) = &mut self.child {
            return matches!(child.try_wait(), Ok(None));
        }
        self.daemon.is_some_and(Process::lives)
    }

    /// Asks how often the faults inside the daemon hit.
    pub(super) async fn count(&mut self) {
        if self.pipe.side() == Side::There
            && let Ok(hits) = self.pipe.ask(Order::Count, DEAD_MAN).await
        {
            self.inside = hits;
        }
    }

    /// Faults that hit something.
    pub(super) fn hits(&self) -> u64 {
        self.inside.faults() + self.outside
    }

    /// The lease that keeps other daemons of this pipeline from experiments; false = somebody has it.
    pub(super) async fn lease(&mut self) -> Result<bool, String> {
        let key = lease_key(&self.job);
        let taken = self
            .server
            .call(&["SET", &key, &self.job.id, "NX", "PX", LEASE_MS])
            .await;
        taken
            .map(|answer| answer != Answer::Nil)
            .map_err(|e| e.to_string())
    }

    /// Gives the lease back, if it is ours; it runs out by itself where the server is away.
    pub(super) async fn leave(&mut self) {
        let key = lease_key(&self.job);
        let holder = self.server.call(&["GET", &key]).await.map(|a| a.text());
        if holder.is_ok_and(|id| id == self.job.id) {
            // It runs out by itself.
            let _ = self.server.call(&["DEL", &key]).await;
        }
    }
}

/// Longer than any pause of the server that an experiment makes, so that it never runs out while one runs.
const LEASE_MS: &str = "60000";

/// Renews the lease every ten seconds. Cancel-safe.
pub(super) async fn renew(mut server: Server, job: Job) {
    let key = lease_key(&job);
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        // A server that is away keeps nobody's experiments going: the next round tries again.
        let _ = server
            .call_many(&[words(&["SET", &key, &job.id, "XX", "PX", LEASE_MS])])
            .await;
    }
}

async fn wait_for_end(process: Process) {
    while process.lives() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
