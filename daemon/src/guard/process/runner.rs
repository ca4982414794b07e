//! One run from its begin to its document: before, during, after, counted, judged.
//!
//! Past 400 lines because the phases are to be read as one story; watching, stopping, ending, doing and judging have files of
//! their own.

mod ending;
mod stops;
mod watch;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use pipectl_shared::chaos::{Mark, Phase, Reverted, Run, Slot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::ending::Outcome;
use self::watch::{look_at_backlog, tick};
use super::books::{Books, Where};
use super::canary::Canaries;
use super::deeds::{self, Deeds};
use super::judge::{Target, Tick, ms};
use super::load::{Load, Mix, Names};
use super::pipe::Pipe;
use super::probe::{self, Probes};
use crate::chaos::{Server, Watched};
use crate::experiments::{Act, RecoverFrom, Revert, ServerFault};
use crate::guard::Job;
use crate::guard::recover::{OPEN, address};
use crate::store::redis::Address;

/// Between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// Steadiness is waited for so many times as long as it must last.
const STEADY_TRIES: u32 = 4;

/// What is written in the end, and what the files of the run are made of.
pub(super) struct Ended {
    pub(super) run: Run,
    pub(super) slots: Vec<Slot>,
    pub(super) load: Load,
    pub(super) names: Names,
}

pub(super) struct Runner {
    job: Job,
    pipe: Pipe,
    begun: Instant,
    address: Address,
    names: Names,
    load: Load,
    canaries: Canaries,
    probes: Probes,
    ticks: Arc<Mutex<Vec<Tick>>>,
    /// When the server answered again after its death.
    opened: Arc<Mutex<Option<Instant>>>,
    tasks: JoinSet<()>,
    phase: Phase,
    marks: Vec<Mark>,
    slots: Vec<Slot>,
    slot_at: Instant,
    /// What the last slot had counted.
    counted: (u64, Option<u64>, usize),
    injected: Option<Instant>,
    reverted: Option<Instant>,
    target: Target,
    told_signal: bool,
}

impl Runner {
    pub(super) fn new(job: Job, pipe: Pipe) -> Result<Self> {
        let begun = Instant::now();
        let address = address(&job.server).map_err(|why| anyhow::anyhow!(why))?;
        let names = Names {
            prefix: format!("chaos-{}-", job.id),
            source: job.scene.source.clone(),
            roles: job.roles.clone(),
        };
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let load = Load::new(Mix::plain(job.scene.rate as f64));
        let target = Target {
            fresh: Duration::from_millis(job.freshness_ms),
            held: Duration::from_millis(job.freshness_ms),
            lag: job.scene.rate.saturating_mul(2).max(1_000),
            hold: Duration::from_millis(job.timing.hold_ms),
        };
        Ok(Self {
            job,
            pipe,
            begun,
            address,
            names,
            load,
            canaries: Canaries::default(),
            probes: Probes::default(),
            ticks: Arc::default(),
            opened: Arc::default(),
            tasks: JoinSet::new(),
            phase: Phase::Preparing,
            marks: Vec::new(),
            slots: Vec::new(),
            slot_at: begun,
            counted: (0, None, 0),
            injected: None,
            reverted: None,
            target,
            told_signal: false,
        })
    }

    /// The whole run.
    ///
    /// # Errors
    /// The whole run.
    ///
    /// # Errors
    /// When nothing could be begun, or its end could not be counted; what was done was taken back in both cases.
    pub(super) async fn run(mut self) -> Result<Ended> {
        let open = File::create_new(self.job.folder.join(OPEN)).context("make the journal")?;
        let mut server = Server::new(self.address.clone());
        let version = server.info("server").await.context("ask redis")?;
        let version = version
            .get("valkey_version")
            .or_else(|| version.get("redis_version"))
            .cloned();
        let mut deeds = Deeds::new(
            &self.job,
            self.pipe.clone(),
            server,
            (self.load.clone(), self.canaries.clone()),
            self.names.clone(),
            open,
            self.begun,
        );
        let mut end = Outcome {
            version,
            ..Outcome::default()
        };
        match deeds.lease().await {
            Ok(true) => {}
            Ok(false) => {
                end.refused = Some("another daemon of this pipeline runs an experiment".to_owned());
                return self.ended(&mut deeds, end).await;
            }
            Err(why) => anyhow::bail!("take the lease: {why}"),
        }
        self.start();
        self.enter(Phase::Before);
        end.refused = self.steady().await;
        if end.refused.is_some() {
            deeds.leave().await;
            return self.ended(&mut deeds, end).await;
        }
        end.ledger_before = probe::ledger(&self.job.daemon.socket).await;
        self.during(&mut deeds, &mut end).await;
        self.after(&deeds).await;
        self.count(&mut deeds, &mut end).await?;
        deeds.leave().await;
        self.ended(&mut deeds, end).await
    }

    /// Everything that watches, and the load.
    fn start(&mut self) {
        let server = || Server::new(self.address.clone());
        let again = self.job.scene.dedupe_ms.is_some();
        let seed = self.job.seed;
        let load = self
            .load
            .clone()
            .run(server(), self.names.clone(), self.begun, again, seed);
        self.tasks.spawn(load);
        self.tasks
            .spawn(self.probes.clone().run(self.job.daemon.socket.clone()));
        self.tasks
            .spawn(self.probes.clone().listen(self.job.daemon.socket.clone()));
        self.tasks.spawn(deeds::renew(server(), self.job.clone()));
        if self.job.keys.by_session {
            self.tasks
                .spawn(self.canaries.clone().send(server(), self.names.clone()));
            let look = self
                .canaries
                .clone()
                .look(server(), self.names.clone(), self.sessions());
            self.tasks.spawn(look);
        }
        let latest = Arc::new(Mutex::new(None));
        let stages = &self.job.scene.stages;
        let watched = stages
            .iter()
            .map(|stage| Watched {
                stream: stage.stream.clone(),
                group: stage.group.clone(),
                is_last: !stage.has_next,
            })
            .collect();
        self.tasks
            .spawn(look_at_backlog(server(), watched, Arc::clone(&latest)));
        self.tasks
            .spawn(tick(self.canaries.clone(), latest, Arc::clone(&self.ticks)));
    }

    fn sessions(&self) -> [String; 2] {
        [0, 1].map(|n| format!("{}sessions:{n}", self.job.keys.prefix))
    }

    /// Waits until it is well for as long as asked; why not.
    async fn steady(&mut self) -> Option<String> {
        let timing = self.job.timing;
        self.wait(Duration::from_millis(timing.warm_ms)).await;
        let from = Instant::now();
        let window = Duration::from_millis(timing.before_ms);
        let hold = std::mem::replace(&mut self.target.hold, window);
        let deadline = from + window * STEADY_TRIES;
        let well = loop {
            self.wait(TICK).await;
            if let Some(since) = self.see(|seen| seen.well_since(from, None)) {
                break Some(since);
            }
            if Instant::now() > deadline || self.early_end().is_some() {
                break None;
            }
        };
        self.target.hold = hold;
        let Some(since) = well else {
            if let Some(why) = self.early_end() {
                return Some(why);
            }
            return Some(self.unsteady(from));
        };
        let status = self.probes.status(Duration::from_secs(5));
        if let Some(status) = status.filter(|status| !status.healthy) {
            let why = status
                .reason
                .unwrap_or_else(|| "see pipectl status".to_owned());
            return Some(format!(
                "not steady before: the daemon is not healthy ({why})"
            ));
        }
        let lag = self.with_ticks(|ticks| {
            let before = ticks.iter().filter(|tick| tick.at >= since);
            before.filter_map(|tick| tick.lag).max()
        });
        // As before means: as in the worst tenth of a second before, and half as much again, and half a second of events: a
        // machine that stands still for that long (a disk, a neighbour) is no part of the experiment.
        let lag = lag.unwrap_or(0);
        self.target.lag = lag + lag / 2 + (self.job.scene.rate / 2).max(100);
        None
    }

    /// What was not as it should be.
    fn unsteady(&self, from: Instant) -> String {
        let (fresh, lag) = self.with_ticks(|ticks| {
            let since = ticks.iter().filter(|tick| tick.at >= from);
            since.fold(
                (Duration::ZERO, Some(0)),
                |(fresh, lag): (Duration, Option<u64>), tick| {
                    (
                        fresh.max(tick.fresh),
                        lag.zip(tick.lag).map(|(a, b)| a.max(b)),
                    )
                },
            )
        });
        let bad = self
            .probes
            .all()
            .iter()
            .filter(|probe| probe.due >= from && !probe.good)
            .count();
        let refusal = self.load.look(|record| record.refusal.clone());
        let mut why = vec![format!(
            "{bad} bad probes, the oldest canary {:.0} ms (at most {} ms), a backlog of {} (at most {})",
            ms(fresh),
            self.job.freshness_ms,
            lag.map_or_else(|| "unknown size".to_owned(), |lag| lag.to_string()),
            self.target.lag
        )];
        why.extend(refusal.map(|why| format!("redis refused events: {why}")));
        format!("not steady before: {}", why.join("; "))
    }

    /// Injects, watches, takes back.
    async fn during(&mut self, deeds: &mut Deeds, end: &mut Outcome) {
        deeds.count().await;
        end.backend_before = deeds.inside.backend_keys;
        self.enter(Phase::During);
        let begin = Instant::now();
        let method = self.job.method.clone();
        let until = begin + Duration::from_millis(method.for_ms);
        let mut steps = method.steps.iter().peekable();
        loop {
            if let Some(why) = self.stop_reason(deeds) {
                self.mark("stop", &why);
                end.stopped = Some(why);
                break;
            }
            let due = steps
                .peek()
                .map(|step| begin + Duration::from_millis(step.at_ms));
            if due.is_some_and(|due| due <= Instant::now())
                && let Some(step) = steps.next()
            {
                if self.injected.is_none() {
                    self.injected = Some(Instant::now());
                }
                match deeds.act(&step.act).await {
                    Ok(text) => self.mark("fault", &text),
                    Err(why) => {
                        self.mark("fault", &format!("could not be done: {why}"));
                        end.failure = Some(why);
                        break;
                    }
                }
                if matches!(step.act, Act::Server(ServerFault::Kill)) {
                    self.wait_for_server();
                }
                if matches!(step.act, Act::KillDaemon { .. }) {
                    self.mark("hit", "the daemon died");
                }
                continue;
            }
            if Instant::now() >= until && steps.peek().is_none() {
                break;
            }
            self.wait(TICK).await;
        }
        deeds.count().await;
        end.backend_after = deeds.inside.backend_keys;
        if end.stopped.is_some() {
            // A daemon that died is everybody's first need.
            let back = deeds.revert(Revert::Daemon).await;
            self.mark("revert", &in_words(&back));
            end.reverts.push(back);
        }
        for revert in &method.reverts {
            let back = deeds.revert(*revert).await;
            self.mark("revert", &in_words(&back));
            end.reverts.push(back);
        }
        self.reverted = Some(Instant::now());
    }

    /// Notes when the server answers again.
    fn wait_for_server(&mut self) {
        let (mut server, opened) = (Server::new(self.address.clone()), Arc::clone(&self.opened));
        self.tasks.spawn(async move {
            if server.opens_within(Duration::from_secs(120)).await {
                *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
        });
    }

    /// Until it is well again for the hold time, or for as long as is waited for that.
    async fn after(&mut self, deeds: &Deeds) {
        self.enter(Phase::After);
        let deadline = Instant::now() + Duration::from_millis(self.job.timing.recover_max_ms);
        // Those in the events themselves are counted in the end.
        match deeds.hits() {
            0 => {}
            hits => self.mark("note", &format!("faults hit {hits} times so far")),
        }
        while Instant::now() < deadline {
            self.wait(TICK).await;
            let from = self.recover_from();
            if self.see(|seen| from.and_then(|from| seen.well_since(from, None)).is_some()) {
                self.mark("note", "well again");
                return;
            }
        }
        self.mark("note", "not well again within the time that is waited");
    }

    fn recover_from(&self) -> Option<Instant> {
        match self.job.method.recover_from {
            RecoverFrom::Revert => self.reverted,
            RecoverFrom::Injection => self.injected,
            RecoverFrom::ServerOpen => {
                let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                opened.or(self.reverted)
            }
        }
    }

    /// Ends the load, waits until nothing is under way, counts.
    async fn count(&mut self, deeds: &mut Deeds, end: &mut Outcome) -> Result<()> {
        self.enter(Phase::Draining);
        self.load.set(Mix {
            ends: true,
            ..Mix::plain(0.0)
        });
        let deadline = Instant::now() + Duration::from_millis(self.job.timing.drain_max_ms);
        let mut server = Server::new(self.address.clone());
        let stages = &self.job.scene.stages;
        let hops: Vec<String> = stages
            .iter()
            .map(|stage| stage.stream.clone())
            .filter(|stream| *stream != self.job.scene.source)
            .collect();
        let dead = self.job.keys.dead.clone();
        let names = self.names.clone();
        let at = Where {
            names: &names,
            hops: &hops,
            dead: &dead,
            sessions: self.job.keys.by_session.then(|| self.sessions()),
            // A second before the begin: the server's clock may be a little behind.
            since: format!("{}-0", self.job.started_ms.saturating_sub(1_000)),
            is_cut: deeds.taken > 0,
        };
        let mut same = (None, Instant::now());
        let books = loop {
            self.wait(TICK * 5).await;
            // Its copy: the load may still be finishing what is open.
            let record = self.load.look(|record| super::load::Record {
                sent: record.sent.clone(),
                refusal: record.refusal.clone(),
            });
            let books = Books::read(&mut server, &record, &at).await;
            let is_late = Instant::now() > deadline;
            match books {
                Ok(books) => {
                    let lag = self.with_ticks(|ticks| ticks.last().and_then(|tick| tick.lag));
                    let is_quiet = lag.is_some_and(|lag| lag <= self.target.lag);
                    let is_whole = books.lost == Some(deeds.taken) && books.duplicated == Some(0);
                    if same.0.as_ref() != Some(&(books.lost, books.duplicated)) || !is_quiet {
                        same = (Some((books.lost, books.duplicated)), Instant::now());
                    }
                    // Quiet, and nothing has come for as long as another worker may need to claim it.
                    let claim = stages_claim(&self.job) + Duration::from_secs(2);
                    if is_late || (is_quiet && is_whole) || same.1.elapsed() > claim {
                        break books;
                    }
                }
                Err(error) if is_late => {
                    return Err(error.context("count what became of the events"));
                }
                Err(_) => {}
            }
        };
        self.enter(Phase::Verifying);
        match self.canaries.gone() {
            0 => {}
            n => self.mark(
                "note",
                &format!("{n} canaries are in the source no more and never took effect"),
            ),
        }
        if self.job.method.reverts.contains(&Revert::DeadLetters) {
            let purged = deeds.purge(&books.dead).await;
            self.mark("revert", &in_words(&purged));
            end.reverts.push(purged);
        }
        let kill = deeds
            .server_killed
            .map(|at| u64::try_from(at.duration_since(self.begun).as_millis()).unwrap_or(u64::MAX));
        end.gone_ages_ms = self.load.look(|record| {
            let acked = books
                .gone
                .iter()
                .filter_map(|n| record.sent.get(*n)?.acked_ms);
            // One that went without a server's death is infinitely old: nobody may lose it.
            acked
                .map(|ms| kill.map_or(u64::MAX, |kill| kill.saturating_sub(u64::from(ms))))
                .collect()
        });
        end.copies_wanted = self.load.look(|record| {
            let twice = record.sent.iter().filter(|sent| sent.acks > 1);
            twice.map(|sent| u64::from(sent.acks) - 1).sum()
        });
        end.books = Some(books);
        let settled = Instant::now() + Duration::from_secs(10);
        loop {
            end.ledger_after = probe::ledger(&self.job.daemon.socket).await;
            let is_balanced = end
                .ledger_after
                .as_ref()
                .is_some_and(|ledger| ledger.unaccounted == 0);
            if is_balanced || Instant::now() > settled {
                return Ok(());
            }
            self.wait(TICK * 5).await;
        }
    }
}

fn in_words(back: &Reverted) -> String {
    let word = if back.ok {
        "taken back"
    } else {
        "NOT taken back"
    };
    format!("{}: {word} ({})", back.what, back.found)
}

/// The longest time after which an entry is given to another worker.
fn stages_claim(job: &Job) -> Duration {
    let longest = job
        .scene
        .stages
        .iter()
        .map(|stage| stage.claim_after_ms)
        .max();
    Duration::from_millis(longest.unwrap_or(0).min(job.timing.drain_max_ms))
}

/// The folder of all runs.
pub(super) fn shelf(folder: &std::path::Path) -> PathBuf {
    folder
        .parent()
        .map_or_else(PathBuf::new, std::path::Path::to_path_buf)
}
