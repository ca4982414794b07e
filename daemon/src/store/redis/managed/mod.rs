//! The private server of `redis.url = "managed"`: found on the machine, started as a child of the daemon, its data under
//! the data folder, on a Unix socket. It outlives a daemon that dies, and the next daemon adopts it. Called by `app`,
//! which owns the value, runs [`Managed::watch`] in a task, and ends with [`Managed::stop`] or [`Managed::leave`].
//!
//! It knows processes and files. What the server must be able to do is `preflight`'s, what is kept in it the store's.

mod binary;
mod config;
mod error;
mod files;
mod launch;
mod probe;
mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipectl_shared::{config as shared_config, places};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::datadir::{self, DataDir, DataError};
use crate::journal::{Journal, Level};
pub use error::ManagedError;
use files::Files;
use process::Process;

type Result<T> = std::result::Result<T, ManagedError>;

/// Longest wait between two tries to start a server that does not come up: a person is needed, and finds it up half a
/// minute after the cause is gone.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(30);

/// First wait; the very first restart comes at once.
const RESTART_WAIT_MIN: Duration = Duration::from_millis(200);

/// A server that lived this long has earned a restart at once.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// How often the log's size and the socket file are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// How often progress of loading is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// For each of asking, SIGTERM and SIGKILL, when the server is to end. Flushing the append-only file to a slow disk takes
/// seconds; beyond this the kernel has what was acknowledged anyway.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What the private server is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `<data>/redis`.
    pub folder: PathBuf,
    /// Where it is to listen; at most 100 bytes, in a folder that only this user can write to.
    pub socket: PathBuf,
    /// Limit of memory in bytes; `None` = 25 % of the machine's or container's, at most 4 GiB.
    pub max_memory: Option<u64>,
    /// `always`, `everysec` or `no`.
    pub append_fsync: String,
    /// `PATH`: where the program is looked for.
    pub search_path: Option<OsString>,
    /// A program to be used whatever `PATH` says; for tests.
    pub binary: Option<PathBuf>,
    /// How long a started server may take until it answers at all; loading its data is not limited.
    pub answer_within: Duration,
}

impl Settings {
    /// From the data folder and the configuration; creates `<data>/redis` and the socket's folder.
    pub fn new(
        data: &DataDir,
        env: &places::Env,
        redis: &shared_config::Redis,
    ) -> std::result::Result<Self, DataError> {
        let folder = data.folder("redis")?;
        Ok(Self {
            socket: datadir::socket_in(&folder, "redis", env)?,
            folder,
            max_memory: redis.max_memory,
            append_fsync: match redis.durability {
                // An answer then comes after the fsync, also from a server without WAITAOF.
                shared_config::Durability::Aof => "always".to_owned(),
                shared_config::Durability::Memory | shared_config::Durability::Replica => {
                    redis.append_fsync.clone()
                }
            },
            search_path: std::env::var_os("PATH"),
            binary: None,
            answer_within: Duration::from_secs(60),
        })
    }

    #[cfg(test)]
    fn for_test(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            socket: folder.join("redis.sock"),
            max_memory: None,
            append_fsync: "everysec".to_owned(),
            search_path: None,
            binary: None,
            answer_within: Duration::from_secs(1),
        }
    }
}

/// The private server. Dropping it leaves the server running, as a crash of the daemon would; the next start adopts it.
pub struct Managed {
    settings: Settings,
    files: Files,
    socket: PathBuf,
    journal: Journal,
    was_adopted: bool,
    run_id: Mutex<String>,
    // Held by `watch` for as long as it runs, and by whoever starts or ends the server; never by a getter.
    process: tokio::sync::Mutex<Process>,
    // Ends `watch`, so that it does not restart what is being stopped.
    ending: CancellationToken,
    // Until when a server that died is not started again.
    held: watch::Sender<Option<Instant>>,
}

impl Managed {
    /// Adopts the server of this folder if it lives, starts it if not, and refuses a foreign one. Returns when it answers;
    /// it may still be loading its data, see [`Managed::loaded`]. Not cancel-safe: a dropped start may leave a server
    /// running, which the next start adopts.
    pub async fn start(settings: Settings, journal: Journal) -> Result<Self> {
        let files = Files::new(&settings.folder);
        let running = launch::find_running(&settings, &files).await?;
        let (socket, run_id) = match &running {
            Some((socket, server)) => (socket.clone(), server.run_id.clone()),
            None => (settings.socket.clone(), String::new()),
        };
        let managed = Self {
            settings,
            files,
            socket,
            journal,
            was_adopted: running.is_some(),
            run_id: Mutex::new(run_id),
            process: tokio::sync::Mutex::new(Process::Other),
            ending: CancellationToken::new(),
            held: watch::Sender::new(None),
        };
        if running.is_some() {
            managed.adopt().await;
        } else {
            let mut process = managed.process.lock().await;
            let binary = launch::launch(&managed, &mut process).await?;
            let text = format!(
                "started {} on {}",
                binary.display(),
                managed.socket.display()
            );
            drop(process);
            managed
                .journal
                .tell(Level::Info, "redis.started", None, text);
        }
        Ok(managed)
    }

    /// Where it listens.
    pub fn socket_path(&self) -> &Path {
        &self.socket
    }

    /// Whether it ran before this daemon did.
    pub fn was_adopted(&self) -> bool {
        self.was_adopted
    }

    /// Id of its present run; changes when it was restarted.
    pub fn run_id(&self) -> String {
        self.run_id
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on, for so long, a server that dies is not started again; the one that lives lives on. Ends by itself.
    pub fn hold(&self, time: Duration) {
        self.held.send_replace(Some(Instant::now() + time));
    }

    /// Ends [`Managed::hold`].
    pub fn release(&self) {
        self.held.send_replace(None);
    }

    /// Returns when nobody holds it any more.
    async fn unheld(&self) {
        let mut held = self.held.subscribe();
        loop {
            let Some(until) = *held.borrow_and_update() else {
                return;
            };
            tokio::select! {
                biased;
                // The sender lives as long as this value.
                _ = held.changed() => {}
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    /// Its pid; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.files.pid()
    }

    /// Waits until it has loaded its data, however long that takes, telling its progress. Fails when it dies meanwhile;
    /// so call it before `watch` runs. Cancel-safe.
    pub async fn loaded(&self) -> Result<()> {
        let mut told: Option<Instant> = None;
        loop {
            match probe::ask(&self.socket).await {
                probe::Who::Server(server) => match server.loading {
                    None => {
                        if told.is_some() {
                            self.journal.tell(
                                Level::Info,
                                "redis.loaded",
                                None,
                                "redis has loaded its data",
                            );
                        }
                        return Ok(());
                    }
                    Some(progress) if told.is_none_or(|told| told.elapsed() >= PROGRESS) => {
                        told = Some(Instant::now());
                        let text = format!("redis loads its data: {progress}");
                        self.journal.tell(Level::Info, "redis.loading", None, text);
                    }
                    Some(_) => {}
                },
                probe::Who::Nobody | probe::Who::Silent(_) => {
                    if !self.files.is_alive()? {
                        return Err(ManagedError::Died {
                            last_words: self.files.last_words(0),
                        });
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Restarts the server when it dies, with growing waits, until `shutdown` is cancelled or [`Managed::stop`] is called.
    /// A server that lives is never restarted: one that cannot write its disk or is out of memory would only lose time.
    /// Run it once, in one task.
    pub async fn watch(&self, shutdown: CancellationToken) {
        let mut process = self.process.lock().await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.ending.cancelled() => {}
            () = self.keep_alive(&mut process) => {}
        }
    }

    async fn keep_alive(&self, process: &mut Process) {
        let mut waits = Waits::default();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut socket_gone = false;
        loop {
            let since = Instant::now();
            let how = loop {
                tokio::select! {
                    how = process.ended(&self.files) => break how,
                    _ = housekeeping.tick() => socket_gone = self.keep_house(process, socket_gone),
                }
            };
            if since.elapsed() >= SETTLED_AFTER {
                waits = Waits::default();
            }
            let said = error::quoted(&self.files.last_words(0));
            self.journal.tell(
                Level::Error,
                "redis.died",
                None,
                format!("redis died ({how}){said}"),
            );
            self.restart(process, &mut waits).await;
        }
    }

    /// Tries until the server is up again.
    async fn restart(&self, process: &mut Process, waits: &mut Waits) {
        let down = Instant::now();
        let mut told = String::new();
        loop {
            tokio::time::sleep(waits.next()).await;
            self.unheld().await;
            match launch::launch(self, process).await {
                Ok(_) => {
                    let text = format!(
                        "redis is up again after {:.1} s",
                        down.elapsed().as_secs_f64()
                    );
                    self.journal
                        .tell(Level::Info, "redis.restarted", None, text);
                    return;
                }
                Err(fault) => {
                    let text = format!("redis does not start; trying again: {fault}");
                    // The log's time stamps differ from try to try; what kind of fault it is decides.
                    let kind = format!("{:?}", std::mem::discriminant(&fault));
                    if kind != told {
                        self.journal
                            .tell(Level::Error, "redis.restart_failed", None, text);
                        told = kind;
                    }
                }
            }
        }
    }

    /// Returns whether the socket file was missing this time.
    fn keep_house(&self, process: &Process, was_gone: bool) -> bool {
        self.files.rotate_log();
        let is_gone = !self.socket.exists();
        if is_gone && was_gone {
            let text = format!(
                "{} was removed; restarting redis, or nobody could connect any more",
                self.socket.display()
            );
            self.journal
                .tell(Level::Warning, "redis.socket_gone", None, text);
            process.signal(&self.files, rustix::process::Signal::TERM);
        }
        is_gone
    }

    /// Ends the server: asks it to, then SIGTERM, then SIGKILL, ten seconds each. What was acknowledged is in the
    /// append-only file in all three cases. Without a living server it does nothing. Cancel-safe: call it again.
    pub async fn stop(&self) -> Result<()> {
        self.ending.cancel();
        let mut process = self.process.lock().await;
        if !self.files.is_alive()? {
            return Ok(());
        }
        for way in process::WAYS {
            // What could not be said to it needs no waiting, except after the last way: it may have just ended.
            let said = process.end(way, &self.files, &self.socket).await;
            if !said && way != process::Way::Kill {
                continue;
            }
            let ended = async {
                process.ended(&self.files).await;
                // A child of it that rewrites the append-only file may hold the folder a moment longer.
                Process::Other.ended(&self.files).await;
            };
            if tokio::time::timeout(END_WITHIN, ended).await.is_ok() {
                let text = format!("redis was stopped ({})", way.word());
                self.journal.tell(Level::Info, "redis.stopped", None, text);
                return Ok(());
            }
        }
        let why = "it survived SIGKILL: its disk hangs".to_owned();
        Err(ManagedError::Stuck {
            pid: self.files.pid(),
            socket: self.socket.clone(),
            why,
        })
    }

    /// Ends the watch and leaves the server up, because other daemons use it; `pipectl down --all` stops it.
    pub fn leave(&self) {
        self.ending.cancel();
        let text = format!(
            "redis was left running on {}: other daemons use it",
            self.socket.display()
        );
        self.journal
            .tell(Level::Info, "redis.left_running", None, text);
    }

    /// Tells an adopted server what the configuration says now.
    async fn adopt(&self) {
        let pid = self
            .files
            .pid()
            .map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let text = format!(
            "adopted the running redis{pid} on {}",
            self.socket.display()
        );
        self.journal.tell(Level::Info, "redis.adopted", None, text);
        let memory = config::memory(&self.settings).to_string();
        let set = async {
            let mut connection = probe::connect(&self.socket).await?;
            let mut command = redis::cmd("CONFIG");
            command
                .arg("SET")
                .arg("maxmemory")
                .arg(memory)
                .arg("maxmemory-policy")
                .arg("noeviction");
            command
                .arg("appendonly")
                .arg("yes")
                .arg("appendfsync")
                .arg(&self.settings.append_fsync);
            command.exec_async(&mut connection).await
        };
        if let Err(fault) = set.await {
            let fault = crate::logging::clean(&fault.to_string());
            let text =
                format!("the adopted redis keeps its old limits until it is restarted: {fault}");
            self.journal
                .tell(Level::Warning, "redis.config_kept", None, text);
        }
        self.remember(&self.run_id());
    }

    /// Notes who our server is. That the note cannot be written (a full disk) is no reason to be without a server: its
    /// lock tells as well.
    fn remember(&self, run_id: &str) {
        run_id.clone_into(&mut self.run_id.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(fault) = self.files.write("run_id", &format!("{run_id}\n")) {
            tracing::warn!(%fault, "the server's run id was not noted");
        }
    }
}

/// Waits between restarts: none, then doubling. A few lines of its own, as there is nothing to spread over many clients.
#[derive(Debug, Default)]
struct Waits(u32);

impl Waits {
    fn next(&mut self) -> Duration {
        let n = self.0;
        self.0 = n.saturating_add(1);
        match n {
            0 => Duration::ZERO,
            n => RESTART_WAIT_MIN
                .saturating_mul(1 << (n - 1).min(20))
                .min(RESTART_WAIT_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_comes_at_once_and_later_ones_slower_up_to_a_limit() {
        let mut waits = Waits::default();
        let first: Vec<u128> = (0..4).map(|_| waits.next().as_millis()).collect();
        assert_eq!(first, [0, 200, 400, 800]);
        assert_eq!(
            (0..100).map(|_| waits.next()).last(),
            Some(RESTART_WAIT_MAX)
        );
    }
}
