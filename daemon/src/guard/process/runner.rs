//! One run from its begin to its document: before, during, after, counted, judged.
//!
//! Past 400 lines because the phases are to be read as one story; measuring, doing and judging have files of their own.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use pipectl_shared::chaos::{
    Mark, Measurements, Phase, Progress, Reverted, Run, Running, Slot, Verdict,
};
use pipectl_shared::snapshot::Ledger;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::books::{Books, Where};
use super::canary::Canaries;
use super::deeds::{self, Deeds};
use super::judge::{Judged, Seen, Target, Tick, ms};
use super::load::{Load, Mix, Names, ms_since};
use super::pipe::{Pipe, Side};
use super::probe::{self, Probes};
use crate::chaos::{Backlog, Server, Watched};
use crate::clock::{Clock as _, System};
use crate::datadir::write_whole;
use crate::experiments::{Act, RecoverFrom, Revert, ServerFault};
use crate::guard::Job;
use crate::guard::recover::{OPEN, address};
use crate::store::redis::Address;

/// Between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// A look at the backlog that is older than this tells nothing of now.
const LOOK_FRESH: Duration = Duration::from_millis(300);
/// Steadiness is waited for so many times as long as it must last.
const STEADY_TRIES: u32 = 4;
/// File by which a daemon without a pipe to this guard asks it to stop; it holds who and why.
const STOP: &str = "stop";
/// Availability is judged over this before an experiment is stopped for it.
const STOP_WINDOW: Duration = Duration::from_secs(10);

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
            self.load.clone(),
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
        // As before means: as in the worst tenth of a second before, and half as much again.
        let lag = lag.unwrap_or(0);
        self.target.lag = lag + lag / 2 + (self.job.scene.rate / 10).max(100);
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
        let hits = deeds.hits();
        self.mark("note", &format!("faults hit {hits} times"));
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
            is_cut: deeds.trimmed > 0,
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
                    let is_whole = books.lost == Some(deeds.trimmed) && books.duplicated == Some(0);
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

    /// The document.
    async fn ended(mut self, deeds: &mut Deeds, end: Outcome) -> Result<Ended> {
        self.tasks.shutdown().await;
        let hits = deeds.hits() + end.books.as_ref().map_or(0, |books| self.load_hits(books));
        let judged = match &end.refused {
            Some(why) => Judged {
                verdict: Verdict::Refused,
                why: why.clone(),
                hypothesis: Vec::new(),
                measurements: Measurements::default(),
            },
            None => {
                let claimed = self
                    .injected
                    .is_some_and(|from| self.probes.said_after("event pending.claimed", from));
                let keys = end.backend_keys(&self.job, deeds);
                self.see_all(&end, hits, deeds.trimmed, claimed, keys)
            }
        };
        let now = System.now_ms();
        let begun = self.begun;
        let since = |at: Option<Instant>| {
            at.map(|at| u64::try_from(at.duration_since(begun).as_millis()).unwrap_or(u64::MAX))
        };
        self.mark(
            "note",
            &format!("{}: {}", judged.verdict.word(), judged.why),
        );
        let mut versions: std::collections::BTreeMap<_, _> =
            [("pipelined".to_owned(), self.job.version.clone())].into();
        versions.extend(end.version.map(|version| ("redis".to_owned(), version)));
        let mut run = Run {
            id: self.job.id.clone(),
            experiment: self.job.experiment.clone(),
            claim: self.job.claim.clone(),
            params: self.job.params.clone(),
            targets: self.job.method.targets.clone(),
            seed: self.job.seed,
            rate: self.job.scene.rate,
            started_ms: self.job.started_ms,
            ended_ms: now,
            injected_t_ms: since(self.injected),
            reverted_t_ms: since(self.reverted),
            verdict: judged.verdict,
            why: judged.why,
            hypothesis: judged.hypothesis,
            measurements: judged.measurements,
            ledger_before: end.ledger_before,
            ledger_after: end.ledger_after,
            timeline: self.marks.clone(),
            reverted: end.reverts,
            judged_by: end.books.map(|books| books.judged_by).unwrap_or_default(),
            compared: None,
            by: self.job.by.clone(),
            versions,
            config_hash: self.job.config_hash.clone(),
            folder: self.job.folder.display().to_string(),
        };
        run.compared = super::report::compare(&self.job.folder, &run);
        Ok(Ended {
            run,
            slots: std::mem::take(&mut self.slots),
            load: self.load.clone(),
            names: self.names.clone(),
        })
    }

    /// Faults in the events themselves that are really in.
    fn load_hits(&self, books: &Books) -> u64 {
        books.poison
            + self
                .load
                .look(|record| record.sent.iter().filter(|s| s.twice && s.acks > 1).count() as u64)
    }

    fn see_all(
        &self,
        end: &Outcome,
        hits: u64,
        trimmed: u64,
        was_claimed: bool,
        backend_keys: Option<(u64, u64)>,
    ) -> Judged {
        let probes = self.probes.all();
        let ticks = self
            .ticks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let far = Instant::now();
        let (injected, reverted) = (self.injected.unwrap_or(far), self.reverted.unwrap_or(far));
        let seen = Seen {
            ticks: &ticks,
            probes: &probes,
            target: self.target,
            has_canaries: self.job.keys.by_session,
            injected: self.injected,
            reverted: self.reverted,
            recover_from: self.recover_from(),
            signal: self
                .injected
                .and_then(|from| self.probes.signal_after(from)),
            latencies: [
                self.canaries.arrived(self.begun, injected),
                self.canaries.arrived(injected, reverted),
                self.canaries.arrived(reverted, far),
            ],
            books: end.books.as_ref(),
            gone_ages_ms: &end.gone_ages_ms,
            ledger_before: end.ledger_before.as_ref(),
            ledger_after: end.ledger_after.as_ref(),
            unaccounted: self.probes.unaccounted(),
            expects: &self.job.method.expects,
            hits,
            trimmed,
            copies_wanted: end.copies_wanted,
            was_claimed,
            backend_keys,
            rss: self.probes.rss(),
            reverts: &end.reverts,
            stopped: end.stopped.as_deref(),
            failure: end.failure.as_deref(),
        };
        seen.judge()
    }

    /// Looks at what was seen so far with the eyes of the judge.
    fn see<T>(&self, look: impl FnOnce(&Seen<'_>) -> T) -> T {
        let probes = self.probes.all();
        let ticks = self
            .ticks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        look(&Seen {
            ticks: &ticks,
            probes: &probes,
            target: self.target,
            has_canaries: self.job.keys.by_session,
            injected: self.injected,
            reverted: self.reverted,
            recover_from: self.recover_from(),
            signal: None,
            latencies: Default::default(),
            books: None,
            gone_ages_ms: &[],
            ledger_before: None,
            ledger_after: None,
            unaccounted: 0,
            expects: &self.job.method.expects,
            hits: 0,
            trimmed: 0,
            copies_wanted: 0,
            was_claimed: false,
            backend_keys: None,
            rss: None,
            reverts: &[],
            stopped: None,
            failure: None,
        })
    }

    fn with_ticks<T>(&self, look: impl FnOnce(&[Tick]) -> T) -> T {
        look(&self.ticks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_told_to_stop(&self) -> bool {
        self.job.folder.join(STOP).exists()
    }

    /// A person, the lever, or the daemon's own end.
    fn early_end(&self) -> Option<String> {
        // A daemon that was started in between has no pipe to this guard: it leaves word in the folder.
        if let Ok(why) = std::fs::read_to_string(self.job.folder.join(STOP)) {
            return Some(why.chars().take(500).collect());
        }
        match self.pipe.side() {
            Side::There => None,
            Side::Stop(why) => Some(why),
            Side::Left => Some("the daemon was stopped in order".to_owned()),
            Side::Dead => Some("the daemon died".to_owned()),
        }
    }

    /// Why the experiment must end now.
    fn stop_reason(&self, deeds: &Deeds) -> Option<String> {
        match self.early_end() {
            // Its death was the fault; nothing more is asked of that one.
            Some(_)
                if deeds.daemon_killed
                    && self.pipe.side() == Side::Dead
                    && !self.is_told_to_stop() => {}
            Some(why) => return Some(why),
            None => {}
        }
        let stops = self.job.stops;
        let oldest = self.canaries.oldest();
        if oldest > Duration::from_millis(stops.freshness_ms) {
            return Some(format!(
                "stop condition: an event is not in the results after {:.0} s",
                oldest.as_secs_f64()
            ));
        }
        // Those of the last moment may not be answered yet.
        let now = Instant::now();
        let probes = self.probes.all();
        let recent: Vec<_> = probes
            .iter()
            .filter(|probe| now.duration_since(probe.due) < STOP_WINDOW)
            .collect();
        let good = recent.iter().filter(|probe| probe.good).count();
        let full = recent.len() >= 90;
        #[expect(clippy::cast_precision_loss, reason = "a hundred probes")]
        if full && (good as f64) < stops.availability * recent.len() as f64 {
            return Some(format!(
                "stop condition: {good} of {} probes good over ten seconds",
                recent.len()
            ));
        }
        let status = self.probes.status(Duration::from_secs(3))?;
        let is_oom = self.job.method.reverts.contains(&Revert::MaxMemory);
        if let (Some(used), Some(max), false) = (
            status.redis.used_memory_bytes,
            status.redis.max_memory_bytes,
            is_oom,
        ) {
            #[expect(clippy::cast_precision_loss, reason = "bytes of a machine")]
            if max > 0 && used as f64 > stops.memory * max as f64 {
                return Some(format!("stop condition: redis uses {used} of {max} bytes"));
            }
        }
        let lost = status.ledger.as_ref().map_or(0, |ledger| ledger.lost);
        let before = self.lost_before();
        (lost > before
            && self.job.method.expects.lost != crate::experiments::Loss::Injected
            && deeds.trimmed == 0)
            .then(|| format!("stop condition: the ledger tells {} lost", lost - before))
    }

    fn lost_before(&self) -> u64 {
        self.probes.lost_at_first()
    }

    /// Waits, and keeps the files of the run up to date meanwhile.
    async fn wait(&mut self, span: Duration) {
        let until = Instant::now() + span;
        loop {
            if self.slot_at.elapsed() >= Duration::from_secs(1) {
                self.slot();
                self.tell();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(TICK)).await;
        }
    }

    /// Closes the second.
    fn slot(&mut self) {
        let (from, to) = (self.slot_at, Instant::now());
        self.slot_at = to;
        let s = to.duration_since(from).as_secs_f64();
        let (acked, settled) = (
            self.load.acked(),
            self.with_ticks(|ticks| ticks.last().and_then(|tick| tick.settled)),
        );
        let (worst, arrived) = self.canaries.since(self.counted.2);
        #[expect(clippy::cast_precision_loss, reason = "events of a second")]
        let per_s = |now: u64, before: u64| now.saturating_sub(before) as f64 / s;
        // Those of the last quarter of a second may not be answered yet: the span is a moment ago.
        let late = Duration::from_millis(250);
        let probes = self.probes.all();
        let inside = probes
            .iter()
            .filter(|p| p.due + late >= from && p.due + late < to);
        let (good, n) = inside.fold((0, 0), |(good, n), probe| {
            (good + u32::from(probe.good), n + 1)
        });
        let (fresh, lag) = self.with_ticks(|ticks| {
            let inside = || ticks.iter().filter(|tick| tick.at >= from);
            (
                inside().map(|tick| tick.fresh).max(),
                inside().filter_map(|tick| tick.lag).max(),
            )
        });
        let slot = Slot {
            t_ms: u64::from(ms_since(self.begun)),
            phase: self.phase,
            in_per_s: per_s(acked, self.counted.0),
            out_per_s: settled
                .zip(self.counted.1)
                .map(|(now, before)| per_s(now, before)),
            lag,
            p99_ms: worst.map(ms),
            fresh_ms: fresh.filter(|_| self.job.keys.by_session).map(ms),
            good,
            probes: n,
        };
        self.slots.push(slot);
        self.counted = (acked, settled.or(self.counted.1), arrived);
        if let (false, Some(from)) = (self.told_signal, self.injected)
            && let Some((at, what)) = self.probes.signal_after(from)
        {
            self.told_signal = true;
            let after = ms(at.duration_since(from));
            self.mark(
                "signal",
                &format!("the daemon noticed after {after:.0} ms: {what}"),
            );
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.mark("phase", phase.word());
    }

    fn mark(&mut self, kind: &str, text: &str) {
        self.marks.push(Mark {
            seq: self.marks.len() as u64 + 1,
            t_ms: u64::from(ms_since(self.begun)),
            kind: kind.to_owned(),
            text: text.to_owned(),
        });
        self.tell();
    }

    /// Writes where the run is. A disk that does not take it hides the run from people, and does not end it: the write-ahead
    /// file is what must be there.
    fn tell(&self) {
        let at = |instant: Option<Instant>| {
            let since = instant?.duration_since(self.begun).as_millis();
            Some(self.job.started_ms + u64::try_from(since).unwrap_or(0))
        };
        let progress = Progress {
            running: Running {
                id: self.job.id.clone(),
                experiment: self.job.experiment.clone(),
                phase: self.phase,
                started_ms: self.job.started_ms,
                injected_ms: at(self.injected),
                reverted_ms: at(self.reverted),
                until_ms: at(self.injected).map(|from| from + self.job.method.for_ms),
                targets: self.job.method.targets.clone(),
                by: self.job.by.clone(),
            },
            seed: self.job.seed,
            verdict: None,
            why: String::new(),
            marks: self.marks.clone(),
            slots: self.slots.clone(),
            run: None,
        };
        let path = self.job.folder.join("progress.json");
        let written = serde_json::to_vec(&progress)
            .map_err(std::io::Error::from)
            .and_then(|text| write_whole(&path, &text));
        if let Err(error) = written {
            tracing::warn!(%error, "progress.json");
        }
    }
}

/// What a run has come to.
#[derive(Default)]
struct Outcome {
    version: Option<String>,
    refused: Option<String>,
    stopped: Option<String>,
    failure: Option<String>,
    reverts: Vec<Reverted>,
    books: Option<Books>,
    gone_ages_ms: Vec<u64>,
    copies_wanted: u64,
    ledger_before: Option<Ledger>,
    ledger_after: Option<Ledger>,
    backend_before: u64,
    backend_after: u64,
}

impl Outcome {
    /// Keys asked of the lookup while the fault was in, and how many there may be: each key once for each time that the cache
    /// was emptied or its answers had run out.
    fn backend_keys(&self, job: &Job, deeds: &Deeds) -> Option<(u64, u64)> {
        if !job.method.expects.backend_keys {
            return None;
        }
        let asked = self.backend_after.saturating_sub(self.backend_before);
        let keys = super::load::KEYS as u64 + 2;
        // An unknown key is asked again after a second (the shortest time that answers are kept in the shipped file).
        let lives = deeds.inside.flushes + job.method.for_ms.div_ceil(1_000) + 1;
        Some((asked, keys * lives))
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

type Latest = Arc<Mutex<Option<(Instant, Backlog)>>>;

/// Looks at the backlog ten times a second. Cancel-safe.
async fn look_at_backlog(mut server: Server, watched: Vec<Watched>, latest: Latest) {
    loop {
        let look = tokio::time::timeout(LOOK_FRESH, server.backlog(&watched)).await;
        if let Ok(Ok(backlog)) = look {
            *latest.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), backlog));
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Ten times a second. Cancel-safe.
async fn tick(canaries: Canaries, latest: Latest, ticks: Arc<Mutex<Vec<Tick>>>) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        let at = Instant::now();
        let look = *latest.lock().unwrap_or_else(PoisonError::into_inner);
        let backlog = look
            .filter(|(seen, _)| at.duration_since(*seen) < LOOK_FRESH)
            .map(|(_, backlog)| backlog);
        ticks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Tick {
                at,
                fresh: canaries.oldest(),
                held: backlog
                    .and_then(|backlog| backlog.oldest_ms)
                    .map_or(Duration::ZERO, |ms| {
                        Duration::from_millis(System.now_ms().saturating_sub(ms))
                    }),
                lag: backlog.and_then(|backlog| backlog.lag),
                settled: backlog.and_then(|backlog| backlog.settled),
            });
    }
}

/// The folder of all runs.
pub(super) fn shelf(folder: &std::path::Path) -> PathBuf {
    folder
        .parent()
        .map_or_else(PathBuf::new, std::path::Path::to_path_buf)
}
