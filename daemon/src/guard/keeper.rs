//! The keeper: the daemon's side of experiments. It knows what may run and when, starts a guard for each run, shows where it
//! is, and answers `chaos.*` from the files that guards write. What an experiment does is not its business.
//!
//! Cheap to clone; all clones are one. Its tasks (one per run, one for the schedule) are ended by [`Keeper::close`].

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipectl_shared::chaos::{Lever, Phase, Running, Scheduled};
use pipectl_shared::config::Config;
use pipectl_shared::rpc::{Code, Error};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hands::Hands;
use super::job::{DaemonAt, ServerAt, Timing};
use super::lever::LeverFile;
use super::pipe::Word;
use super::schedule::{self, Place};
use super::shelf::{Shelf, read_bounded};
use super::tend;
use crate::audit::{Act, Audit};
use crate::chaos::Shown;
use crate::clock::Clock;
use crate::experiments::Experiment;
use crate::journal::{Journal, Level};
use crate::observe::Observer;
use crate::plans::words::quote;
use crate::runtime::Handle;
use crate::store::Layout;

/// Words to a guard that wait: two stops and a leave are all there is to say, more are not needed.
const WORDS: usize = 4;
/// How long the end of the daemon waits for a guard that was told of it; then the pipe closes, which says the same.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Takes back what a dead guard left, from its open journal.
pub type Recover = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// How a guard is started.
#[derive(Debug, Clone)]
pub struct GuardCommand {
    /// The binary.
    pub exe: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What the keeper needs of the rest of the house.
#[derive(Clone)]
pub struct Setup {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// Its hash, for reports.
    pub config_hash: Arc<str>,
    /// Names in the store.
    pub layout: Arc<Layout>,
    /// The running stages.
    pub handle: Handle,
    /// Whether all is well.
    pub observer: Observer,
    /// The event log.
    pub journal: Journal,
    /// The audit file, for what the schedule does.
    pub audit: Audit,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Does to the daemon what a guard orders.
    pub inside: Arc<dyn Hands>,
    /// Where the run under way is shown.
    pub shown: Shown,
    /// How a guard is started.
    pub guard: GuardCommand,
    /// This process, as a guard starts it again.
    pub daemon: DaemonAt,
    /// The server, without a proxy in between.
    pub server: ServerAt,
    /// Takes back what a dead guard left.
    pub recover: Recover,
    /// How long the phases of a run take.
    pub timing: Timing,
    /// Where seeds that nobody gave come from.
    pub seed: u64,
    /// The catalogue.
    pub experiments: &'static [Experiment],
}

/// See the head of the file.
#[derive(Clone)]
pub struct Keeper(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) setup: Setup,
    pub(super) shelf: Shelf,
    lever_file: LeverFile,
    schedule_file: PathBuf,
    state: Mutex<State>,
    pub(super) tasks: TaskTracker,
    /// Ends the schedule and whoever only watches.
    stop: CancellationToken,
    /// Cuts off what has not ended by itself.
    cut: CancellationToken,
}

pub(super) struct State {
    active: Option<Active>,
    pub(super) lever: Lever,
    pub(super) scheduled: Option<Scheduled>,
    pub(super) draws: SmallRng,
}

/// The run under way.
struct Active {
    running: Running,
    seed: u64,
    /// To its guard; `None` = an earlier daemon started it.
    words: Option<mpsc::Sender<Word>>,
}

impl Keeper {
    /// Opens the folder, finds a guard that an earlier daemon started and that still lives, and starts the schedule. Blocks on
    /// the disk; needs a runtime around it. Whatever a dead guard left open was taken back before.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(folder: &Path, setup: Setup) -> io::Result<Self> {
        let shelf = Shelf::new(folder);
        shelf.prune()?;
        let lever_file = LeverFile(folder.join("lever.json"));
        let lever = lever_file.read();
        let draws = SmallRng::seed_from_u64(setup.seed);
        let keeper = Self(Arc::new(Inner {
            lever_file,
            schedule_file: folder.join("schedule.json"),
            state: Mutex::new(State {
                active: None,
                lever,
                scheduled: None,
                draws,
            }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            shelf,
            setup,
        }));
        keeper.adopt();
        keeper.start_schedule();
        Ok(keeper)
    }

    /// Watches a guard that outlived the daemon that started it.
    fn adopt(&self) {
        let inner = &self.0;
        let Some(id) = inner.shelf.alive() else {
            return;
        };
        let Some((mut running, seed)) = inner.shelf.running(&id) else {
            let text = format!("experiment {id} runs, and nothing in its folder says which");
            inner.tell(Level::Warning, "chaos.followed", text);
            return;
        };
        running.id = id;
        let text = format!(
            "{} ({}) goes on: its guard outlived the daemon that started it",
            running.experiment, running.id
        );
        inner.tell(Level::Info, "chaos.followed", text);
        inner.setup.shown.set(Some(running.clone()));
        inner.state().active = Some(Active {
            running: running.clone(),
            seed,
            words: None,
        });
        let (task, stop) = (Arc::clone(inner), inner.stop.clone());
        inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tend::follow(task, running) => {}
            }
        });
    }

    /// The run under way.
    pub fn running(&self) -> Option<Running> {
        self.0.running().map(|(running, _)| running)
    }

    /// Ends the run under way because `who` says so and why; its id. Everything is taken back, and the report says who.
    ///
    /// # Errors
    /// Nothing runs.
    pub async fn stop(&self, who: &str, why: &str) -> Result<String, Error> {
        let inner = &self.0;
        let Some((running, words)) = inner
            .state()
            .active
            .as_ref()
            .map(|active| (active.running.clone(), active.words.clone()))
        else {
            let message = "no experiment runs";
            return Err(Error::new(Code::Refused, message).hint("see: pipectl chaos history"));
        };
        let text = match why {
            "" => format!("stopped by {who}"),
            why => format!("stopped by {who}: {why}"),
        };
        let id = running.id.clone();
        match words {
            // Full = it was told already; closed = it is at its end.
            Some(words) => drop(words.try_send(Word::Stop(text.clone()))),
            None => {
                let (shelf, id) = (inner.shelf.clone(), id.clone());
                let told = text.clone();
                let asked =
                    tokio::task::spawn_blocking(move || shelf.ask_to_stop(&id, &told)).await;
                if let Ok(Err(fault)) = asked {
                    return Err(disk("ask the guard to stop", &fault));
                }
            }
        }
        let text = format!("{} ({id}) is {}", running.experiment, clean(&text));
        inner.tell(Level::Action, "chaos.stopped", text);
        Ok(id)
    }

    /// Pulls the lever, which stops the run under way and blocks new ones, or takes it back.
    ///
    /// # Errors
    /// It could not be written to the disk; then it holds until the daemon ends.
    pub async fn lever(&self, pull: bool, who: &str, why: Option<String>) -> Result<Lever, Error> {
        let inner = &self.0;
        let lever = Lever {
            pulled: pull,
            by: Some(who.to_owned()),
            reason: why.clone(),
            since_ms: Some(inner.setup.clock.now_ms()),
        };
        inner.state().lever = lever.clone();
        let what = if pull {
            "pulled the lever: nothing may run"
        } else {
            "took the lever back"
        };
        inner.tell(
            Level::Action,
            "chaos.lever",
            format!("{} {what}", quote(who)),
        );
        if pull && self.running().is_some() {
            // Whoever ended in between needs no stop.
            drop(
                self.stop(who, &format!("the lever: {}", why.unwrap_or_default()))
                    .await,
            );
        }
        let (file, written) = (inner.lever_file.clone(), lever.clone());
        match tokio::task::spawn_blocking(move || file.write(&written)).await {
            Ok(Ok(())) => Ok(lever),
            Ok(Err(fault)) => Err(disk("write the lever", &fault)),
            Err(fault) => Err(Error::new(Code::Internal, fault.to_string())),
        }
    }

    /// Tells the guard that the daemon ends, and waits a moment. Nothing is set in the daemon afterwards, and nothing can
    /// begin.
    pub async fn close(&self) {
        let inner = &self.0;
        inner.stop.cancel();
        let words = inner
            .state()
            .active
            .as_ref()
            .and_then(|active| active.words.clone());
        if let Some(words) = words {
            // Full = a stop waits, which says the same.
            drop(words.try_send(Word::Leaving));
        }
        inner.tasks.close();
        if timeout(CLOSE_WAIT, inner.tasks.wait()).await.is_err() {
            inner.cut.cancel();
            inner.tasks.wait().await;
        }
        inner.setup.inside.clear();
        inner.setup.shown.set(None);
    }

    fn start_schedule(&self) {
        let inner = &self.0;
        let config = &inner.setup.config.chaos;
        if !config.enabled || config.schedule.every.is_zero() {
            return;
        }
        let (keeper, stop) = (self.clone(), inner.stop.clone());
        inner.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keeper.run_schedule() => {}
            }
        });
    }

    /// Runs what the schedule says, for ever. What was due while the daemon was away is not made up for.
    async fn run_schedule(&self) {
        let inner = &self.0;
        let names = self.schedulable();
        let settings = &inner.setup.config.chaos.schedule;
        let now = || inner.setup.clock.now_ms();
        let mut place = inner.read_place();
        if place.n == 0 {
            place.last_ms = now();
        }
        while let Some(mut next) = schedule::next(settings, &names, place) {
            if next.at_ms < now() {
                place.last_ms = now();
                let Some(anew) = schedule::next(settings, &names, place) else {
                    return;
                };
                next = anew;
            }
            inner.state().scheduled = Some(next.clone());
            // By short waits, so that a clock that is set does not matter.
            while now() < next.at_ms {
                let left = Duration::from_millis(next.at_ms.saturating_sub(now()));
                tokio::time::sleep(left.min(Duration::from_secs(1))).await;
            }
            place = Place {
                n: place.n + 1,
                last_ms: next.at_ms,
            };
            // Before it begins: an experiment that kills the daemon must not begin again at its next start.
            let (path, text) = (inner.schedule_file.clone(), serde_json::json!(place));
            let written = tokio::task::spawn_blocking(move || {
                crate::datadir::write_whole(&path, text.to_string().as_bytes())
            })
            .await;
            if let Ok(Err(fault)) = written {
                let text = format!("the schedule cannot be kept, so nothing is started: {fault}");
                inner.tell(Level::Error, "chaos.schedule", text);
                continue;
            }
            self.run_scheduled(next).await;
        }
    }

    async fn run_scheduled(&self, next: Scheduled) {
        let inner = &self.0;
        let params = pipectl_shared::chaos::RunParams {
            name: next.name.clone(),
            seed: Some(next.seed),
            ..pipectl_shared::chaos::RunParams::default()
        };
        let result = match self.run(params, "schedule").await {
            Ok(started) => format!("ok: {}", started.id),
            Err(error) => {
                let text = format!("{} was due and is left out: {}", next.name, error.message);
                inner.tell(Level::Info, "chaos.skipped", text);
                format!("refused: {}", error.message)
            }
        };
        let act = Act {
            user: "schedule".to_owned(),
            pid: i32::try_from(std::process::id()).ok(),
            action: "chaos.run".to_owned(),
            target: format!("name={} seed={}", next.name, next.seed),
            result,
            ..Act::default()
        };
        // A failure is told in the journal.
        let _ = inner.setup.audit.record(act).await;
    }
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, level: Level, name: &str, text: impl Into<String>) {
        self.setup.journal.tell(level, name, None, text);
    }

    /// The run under way, with its seed.
    pub(super) fn running(&self) -> Option<(Running, u64)> {
        let state = self.state();
        let active = state.active.as_ref();
        active.map(|active| (active.running.clone(), active.seed))
    }

    /// Whether the daemon ends.
    pub(super) fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Cancelled when what runs is to be cut off.
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Takes the one place there is; what comes out goes to the guard's pipe. `None` = another has it.
    pub(super) fn take_place(&self, running: Running, seed: u64) -> Option<mpsc::Receiver<Word>> {
        let mut state = self.state();
        if state.active.is_some() {
            return None;
        }
        // Bound: see WORDS; a word that finds no room is one that was said.
        let (words, to_guard) = mpsc::channel(WORDS);
        self.setup.shown.set(Some(running.clone()));
        state.active = Some(Active {
            running,
            seed,
            words: Some(words),
        });
        Some(to_guard)
    }

    /// Shows where the run is.
    pub(super) fn show(&self, running: &Running) {
        let mut state = self.state();
        let Some(active) = state.active.as_mut().filter(|a| a.running.id == running.id) else {
            return;
        };
        active.running = running.clone();
        let shown = Some(running.clone()).filter(|running| running.phase != Phase::Ended);
        self.setup.shown.set(shown);
    }

    /// The run is over: the next may come.
    pub(super) fn over(&self, id: &str) {
        let mut state = self.state();
        if state.active.as_ref().is_some_and(|a| a.running.id == id) {
            state.active = None;
            self.setup.shown.set(None);
        }
    }

    fn read_place(&self) -> Place {
        let text = match read_bounded(&self.schedule_file, 4_096) {
            Ok(text) => text,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Place::default(),
            Err(fault) => {
                tracing::warn!(%fault, "the schedule's place cannot be read: it begins anew");
                return Place::default();
            }
        };
        serde_json::from_str(&text).unwrap_or_else(|fault| {
            tracing::warn!(%fault, "the schedule's place cannot be read: it begins anew");
            Place::default()
        })
    }
}

/// A fault of the disk, as an answer.
pub(super) fn disk(what: &str, fault: &io::Error) -> Error {
    Error::new(Code::Internal, format!("{what}: {fault}"))
        .hint("look at the disk of the data folder; see: pipectl system")
}

fn clean(text: &str) -> String {
    pipectl_shared::untrusted::escape(text)
}
