//! What the guard does to the pipeline, and how it takes it back. Each deed is written down and forced to the disk before it
//! is done; taking back never stops at one that fails.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use pipectl_shared::chaos::Reverted;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::books;
use super::load::{Load, Mix, Names};
use super::pipe::{Pipe, Side};
use crate::chaos::{Hits, Order, Process, Server, words};
use crate::experiments::{Act, LoadFault, Revert, ServerFault};
use crate::guard::Job;
use crate::guard::recover::{Intent, Undo, intend};
use crate::store::redis::Answer;

/// Inside faults end by themselves so long after the run should have ended them.
const DEAD_MAN: Duration = Duration::from_secs(10);
/// A daemon that was started answers within this.
const DAEMON_WITHIN: Duration = Duration::from_secs(30);
/// A server that was killed or paused answers again within this beyond what was asked.
const SERVER_WITHIN: Duration = Duration::from_secs(30);
/// For something to be there that a fault can hit.
const TARGET_WITHIN: Duration = Duration::from_secs(3);

/// What was done so far.
pub(super) struct Deeds {
    job: Job,
    pipe: Pipe,
    server: Server,
    load: Load,
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
    /// Entries that were removed undelivered, of the run's events.
    pub(super) trimmed: u64,
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
        load: Load,
        names: Names,
        open: File,
        begun: Instant,
    ) -> Self {
        Self {
            job: job.clone(),
            pipe,
            server,
            load,
            names,
            open,
            begun,
            undos: Vec::new(),
            daemon: Process::of(job.daemon.pid),
            child: None,
            inside: Hits::default(),
            outside: 0,
            trimmed: 0,
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
                Ok(in_words(order))
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

    async fn server_fault(&mut self, fault: &ServerFault) -> Result<String, String> {
        let said = |e: crate::store::StoreError| e.to_string();
        let text = match fault {
            ServerFault::Kill => {
                let process = self.server.process().await.map_err(said)?;
                self.server_killed = Some(Instant::now());
                if !process.signal(Signal::KILL) {
                    return Err("the server could not be killed".to_owned());
                }
                format!("SIGKILL to redis (pid {})", process.pid)
            }
            ServerFault::Stop => {
                let process = self.server.process().await.map_err(said)?;
                if !process.signal(Signal::STOP) {
                    return Err("the server could not be stopped".to_owned());
                }
                format!("SIGSTOP to redis (pid {})", process.pid)
            }
            ServerFault::Pause { ms } => {
                let ms = ms.to_string();
                self.server
                    .call(&["CLIENT", "PAUSE", &ms, "ALL"])
                    .await
                    .map_err(said)?;
                format!("CLIENT PAUSE {ms} ALL")
            }
            ServerFault::MaxMemory { percent } => {
                self.refusals_before = self.refusals().await;
                let used = self.server.info("memory").await.map_err(said)?;
                let used: u64 = used
                    .get("used_memory")
                    .and_then(|n| n.parse().ok())
                    .ok_or("INFO tells no used_memory")?;
                let limit = (used / 100).saturating_mul(*percent).to_string();
                self.server.set("maxmemory", &limit).await.map_err(said)?;
                return Ok(format!("maxmemory {limit} ({percent} % of what is used)"));
            }
            ServerFault::DestroyGroup { stream, group } => {
                let gone = self
                    .server
                    .call(&["XGROUP", "DESTROY", stream, group])
                    .await
                    .map_err(said)?;
                if gone.number() != Some(1) {
                    return Err(format!("{stream} has no group {group}"));
                }
                format!("XGROUP DESTROY {stream} {group}")
            }
            ServerFault::DelConsumer {
                stream,
                group,
                consumer,
            } => {
                let (name, held) = self.holder(stream, group, consumer.as_deref()).await?;
                self.server
                    .call(&["XGROUP", "DELCONSUMER", stream, group, &name])
                    .await
                    .map_err(said)?;
                format!("XGROUP DELCONSUMER {stream} {group} {name}, which held {held} entries")
            }
            ServerFault::Trim { stream, group, n } => return self.trim(stream, group, *n).await,
            ServerFault::ScriptFlush => {
                self.server
                    .call(&["SCRIPT", "FLUSH", "SYNC"])
                    .await
                    .map_err(said)?;
                "SCRIPT FLUSH".to_owned()
            }
        };
        self.outside += 1;
        Ok(text)
    }

    /// A consumer that holds entries now.
    async fn holder(
        &mut self,
        stream: &str,
        group: &str,
        consumer: Option<&str>,
    ) -> Result<(String, u64), String> {
        let deadline = Instant::now() + TARGET_WITHIN;
        loop {
            let found = self
                .server
                .fullest(stream, group)
                .await
                .map_err(|e| e.to_string())?;
            if let Some((name, held)) = found
                && consumer.is_none_or(|wanted| wanted == name)
            {
                return Ok((name, held));
            }
            if Instant::now() > deadline {
                return Err(format!("no consumer of {group} holds an entry"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Removes everything up to the `n`-th undelivered entry.
    async fn trim(&mut self, stream: &str, group: &str, n: u64) -> Result<String, String> {
        let said = |e: crate::store::StoreError| e.to_string();
        let deadline = Instant::now() + TARGET_WITHIN;
        let rows = loop {
            let groups = self
                .server
                .call(&["XINFO", "GROUPS", stream])
                .await
                .map_err(said)?;
            let mut rows = groups.items().iter();
            let row = rows.find(|row| row.get("name").is_some_and(|name| name.text() == group));
            let from = row
                .and_then(|row| row.get("last-delivered-id"))
                .map(Answer::text);
            let from = from.ok_or_else(|| format!("{stream} has no group {group}"))?;
            let (from, count) = (format!("({from}"), n.to_string());
            let page = self
                .server
                .call(&["XRANGE", stream, &from, "+", "COUNT", &count])
                .await
                .map_err(said)?;
            if page.items().len() as u64 == n {
                break page;
            }
            if Instant::now() > deadline {
                let have = page.items().len();
                return Err(format!(
                    "only {have} undelivered entries came together, of {n}"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let field = self.names.roles.id.as_bytes();
        let mut own = 0;
        for entry in rows.items() {
            let event = entry
                .items()
                .get(1)
                .map(|fields| fields.items().chunks_exact(2));
            let mut pairs = event.into_iter().flatten();
            let id = pairs
                .find(|pair| pair[0].text().as_bytes() == field)
                .map(|pair| pair[1].text());
            own += u64::from(id.is_some_and(|id| self.names.number(id.as_bytes()).is_some()));
        }
        let last = rows
            .items()
            .last()
            .and_then(|entry| entry.items().first())
            .map(Answer::text);
        let (ms, seq) = last
            .as_deref()
            .and_then(|id| id.split_once('-'))
            .and_then(|(ms, seq)| Some((ms.to_owned(), seq.parse::<u64>().ok()?)))
            .ok_or("an entry without an id")?;
        let below = format!("{ms}-{}", seq.saturating_add(1));
        self.server
            .call(&["XTRIM", stream, "MINID", "=", &below])
            .await
            .map_err(said)?;
        self.trimmed += own;
        self.outside += n;
        Ok(format!(
            "XTRIM {stream} MINID {below}: {n} undelivered entries, {own} of them the run's events"
        ))
    }

    async fn refusals(&mut self) -> u64 {
        let stats = self.server.info("errorstats").await.unwrap_or_default();
        let oom = stats
            .get("errorstat_OOM")
            .and_then(|text| text.strip_prefix("count="));
        oom.and_then(|n| n.parse().ok()).unwrap_or(0)
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

    /// Takes one thing back, and looks whether it is.
    pub(super) async fn revert(&mut self, revert: Revert) -> Reverted {
        let (what, result) = match revert {
            Revert::Inside => ("faults inside the daemon", self.clear().await),
            Revert::Unpause => ("CLIENT PAUSE", self.answers("it answers").await),
            Revert::Continue => ("SIGSTOP", self.go_on().await),
            Revert::MaxMemory => ("maxmemory", self.max_memory().await),
            Revert::Load => {
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                self.load.set(Mix::plain(self.job.scene.rate as f64));
                ("the run's events", Ok("plain again".to_owned()))
            }
            Revert::Daemon => ("the daemon", self.daemon_up().await),
            Revert::Server => ("the server", self.answers("it answers").await),
            Revert::Groups => ("consumer groups", self.groups().await),
            Revert::DeadLetters => (
                "dead letters of the run",
                Ok("purged when they are counted".to_owned()),
            ),
        };
        let ok = result.is_ok();
        Reverted {
            what: what.to_owned(),
            ok,
            found: result.unwrap_or_else(|why| why),
        }
    }

    async fn clear(&mut self) -> Result<String, String> {
        match self.pipe.side() {
            Side::Dead | Side::Left => Ok("gone with the daemon".to_owned()),
            Side::There | Side::Stop(_) => {
                self.inside = self.pipe.ask(Order::Clear, DEAD_MAN).await?;
                Ok("cleared".to_owned())
            }
        }
    }

    async fn answers(&mut self, text: &str) -> Result<String, String> {
        if self.server.opens_within(SERVER_WITHIN).await {
            return Ok(text.to_owned());
        }
        Err(format!("redis does not answer within {SERVER_WITHIN:?}"))
    }

    async fn go_on(&mut self) -> Result<String, String> {
        for undo in &self.undos {
            if let Undo::Continue(process) = undo
                && !process.signal(Signal::CONT)
            {
                return Err(format!("redis (pid {}) is gone", process.pid));
            }
        }
        self.answers("it goes on and answers").await
    }

    async fn max_memory(&mut self) -> Result<String, String> {
        let was = self.undos.iter().find_map(|undo| match undo {
            Undo::MaxMemory(was) => Some(was.clone()),
            Undo::Continue(_) => None,
        });
        let Some(was) = was else {
            return Ok("was not changed".to_owned());
        };
        self.server
            .set("maxmemory", &was)
            .await
            .map_err(|e| e.to_string())?;
        let refused = self.refusals().await.saturating_sub(self.refusals_before);
        self.outside += refused;
        let is = self
            .server
            .setting("maxmemory")
            .await
            .map_err(|e| e.to_string())?;
        if is == was {
            return Ok(format!("{is} again; {refused} commands had been refused"));
        }
        Err(format!("{is}, not {was}"))
    }

    /// Waits until the daemon takes connections; starts it where it is dead.
    async fn daemon_up(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + DAEMON_WITHIN;
        if !self.daemon_lives() && self.pipe.side() != Side::Left {
            self.start_daemon()?;
        }
        while tokio::net::UnixStream::connect(&self.job.daemon.socket)
            .await
            .is_err()
        {
            if Instant::now() > deadline {
                return Err(format!(
                    "no control socket within {DAEMON_WITHIN:?}; see daemon.out"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok("takes connections".to_owned())
    }

    async fn groups(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + SERVER_WITHIN;
        for stage in self.job.scene.stages.clone() {
            loop {
                let groups = self.server.call(&["XINFO", "GROUPS", &stage.stream]).await;
                let is_there = groups.is_ok_and(|groups| {
                    let mut rows = groups.items().iter();
                    rows.any(|row| {
                        row.get("name")
                            .is_some_and(|name| name.text() == stage.group)
                    })
                });
                if is_there {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{} has no group {}", stage.stream, stage.group));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok("all there".to_owned())
    }

    /// Deletes the dead letters of the run; how many.
    pub(super) async fn purge(&mut self, entries: &[String]) -> Reverted {
        let purged = books::purge(&mut self.server, &self.job.keys.dead, entries).await;
        let wanted = entries.len() as u64;
        Reverted {
            what: "dead letters of the run".to_owned(),
            ok: purged.as_ref().is_ok_and(|n| *n == wanted),
            found: match purged {
                Ok(n) => format!("{n} of {wanted} purged"),
                Err(error) => error.to_string(),
            },
        }
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

fn lease_key(job: &Job) -> String {
    format!("{}chaos", job.keys.prefix)
}

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

/// An order, for a person.
pub(crate) fn in_words(order: &Order) -> String {
    match order {
        Order::Kill {
            consumer,
            point,
            down_ms,
        } => {
            format!(
                "{consumer} dies {} and stays down for {down_ms} ms",
                place(*point)
            )
        }
        Order::Park { consumer, point } => format!("{consumer} stands still {}", place(*point)),
        Order::Release { consumer } => format!("{consumer} goes on"),
        Order::Network { faults, share } => {
            let mut what = Vec::new();
            if !faults.delay.is_zero() || !faults.jitter.is_zero() {
                what.push(format!(
                    "{:?} ± {:?} later each way",
                    faults.delay, faults.jitter
                ));
            }
            if faults.holds_requests {
                what.push("requests do not arrive".to_owned());
            }
            if faults.holds_replies {
                what.push("replies do not arrive".to_owned());
            }
            if faults.slice > 0 {
                what.push(format!("pieces of {} bytes", faults.slice));
            }
            if faults.bytes_per_s > 0 {
                what.push(format!("{} bytes/s", faults.bytes_per_s));
            }
            if what.is_empty() {
                what.push("as it was".to_owned());
            }
            format!("{:.0} % of connections: {}", share * 100.0, what.join(", "))
        }
        Order::Break { share } => format!("{:.0} % of connections break", share * 100.0),
        Order::Lookup { delay_ms, fails } => {
            format!(
                "lookups take {delay_ms} ms more, {:.0} % fail",
                fails * 100.0
            )
        }
        Order::FlushCaches => "caches of lookups are emptied".to_owned(),
        Order::HoldServer { ms } => format!("redis stays down for {ms} ms when it dies"),
        Order::Clear => "all taken back".to_owned(),
        Order::Count => "counted".to_owned(),
    }
}

fn place(point: crate::chaos::Point) -> &'static str {
    match point {
        crate::chaos::Point::AfterRead => "after its read",
        crate::chaos::Point::BeforeCommit => "before its commit",
        crate::chaos::Point::AfterCommit => "after its commit, before it knows",
    }
}
