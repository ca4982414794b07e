//! Plans: frozen lists of ids, made before anything is done, run once, kept in the data folder (semantics.md section 9).
//!
//! A plan goes Ready -> Running -> Done, or ends as Cancelled, Expired or (when the daemon stopped while it ran)
//! Interrupted; nothing is ever resumed by itself. Files: `book.rs`; choosing: `select.rs` and `walk.rs`; doing: `run.rs`. Called by the
//! control socket. The only task here is one per running plan, owned by this room and ended by [`Plans::close`].

mod book;
mod drive;
mod freeze;
pub mod in_flight;
mod run;
pub mod select;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
pub mod walk;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipectl_shared::plan::{Action, Plan, PlanParams, State};
use pipectl_shared::rpc::{Code, Error, Identity, PlanRunParams};
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::book::{Book, Kept};
use self::words::quote;
use crate::audit::{Act, Audit};
use crate::clock::Clock;
use crate::journal::{Journal, Level};
use crate::runtime::Handle;
use crate::store::{Admin, Layout};

/// How long a plan can be run after it was made.
pub const EXPIRES_AFTER: Duration = Duration::from_secs(15 * 60);
/// How long a plan is kept to be looked at.
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Plans kept at most; the oldest that cannot run any more make room.
pub const KEPT_MAX: usize = 1_000;
/// Entries of one plan at most.
pub const IDS_MAX: usize = 100_000;
/// Frozen entries of all plans that can still run, at most: about 60 MB on the disk.
const FROZEN_MAX: u64 = 1_000_000;
/// Plans that run at once. Arbitrary: an operator runs one.
const RUNNING_MAX: usize = 4;
/// How long `run` and `cancel` wait for the end, so that a short plan is answered with its result.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How often the progress of a running plan goes to the disk.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What plans need of the rest of the house.
#[derive(Clone)]
pub struct Setup {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The store, beside the hot loop.
    pub admin: Arc<dyn Admin>,
    /// Names in the store.
    pub layout: Arc<Layout>,
    /// The running stages, which claimed entries are handed to.
    pub handle: Handle,
    /// The event log.
    pub journal: Journal,
    /// The audit file: one row per run.
    pub audit: Audit,
}

/// All plans. Cheap to clone; all clones are one book.
#[derive(Clone)]
pub struct Plans(Arc<Inner>);

struct Inner {
    setup: Setup,
    book: Book,
    /// By id, without what is large.
    heads: Mutex<BTreeMap<String, Head>>,
    progress: broadcast::Sender<Plan>,
    tasks: TaskTracker,
    stop: CancellationToken,
    n_made: AtomicU64,
}

struct Head {
    kept: Kept,
    running: Option<Running>,
}

#[derive(Clone)]
struct Running {
    cancel: CancellationToken,
    done: CancellationToken,
}

impl Plans {
    /// Opens the folder. Plans that ran when the daemon stopped become `interrupted` (one audit row each), old ones are
    /// deleted. Blocks on the disk.
    pub fn open(folder: &Path, setup: Setup) -> io::Result<Self> {
        let book = Book::open(folder)?;
        let (plans, unreadable) = book.read_all()?;
        for name in unreadable {
            let text = format!(
                "plan file {} cannot be read and is left as it is",
                quote(&name)
            );
            setup
                .journal
                .tell(Level::Warning, "plan.unreadable", None, text);
        }
        let now = setup.clock.now_ms();
        let mut heads = BTreeMap::new();
        for mut kept in plans {
            if is_old(&kept, now) {
                book.remove(&kept.plan.id);
                continue;
            }
            if kept.plan.state == State::Running {
                kept.plan.state = State::Interrupted;
                let text = format!(
                    "the daemon stopped when {} of {} were done",
                    kept.plan.progress, kept.plan.matched
                );
                setup.journal.tell(
                    Level::Warning,
                    "plan.interrupted",
                    None,
                    format!("plan {}: {text}", kept.plan.id),
                );
                setup
                    .audit
                    .append(&run_act(&kept, &format!("failed: interrupted: {text}")))?;
                book.write(&kept)?;
                book.drop_entries(&kept.plan.id);
            }
            heads.insert(
                kept.plan.id.clone(),
                Head {
                    kept: kept.head(),
                    running: None,
                },
            );
        }
        // 64: progress is told every 100 entries; a watcher that lags more sees the next one, which holds all.
        let (progress, _) = broadcast::channel(64);
        let plans = Self(Arc::new(Inner {
            setup,
            book,
            heads: Mutex::new(heads),
            progress,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            n_made: AtomicU64::new(0),
        }));
        plans.0.tidy(now);
        Ok(plans)
    }

    /// Freezes what the selection matches now. Changes nothing but the plans' folder.
    pub async fn create(&self, params: PlanParams, by: &Identity) -> Result<Plan, Error> {
        let inner = &self.0;
        inner.check_open()?;
        let frozen = freeze::freeze(&params, &inner.setup).await?;
        let now = inner.setup.clock.now_ms();
        inner.tidy(now);
        inner.make_room(frozen.entries.len() as u64)?;
        let list = book::list(&frozen.entries);
        let hash = book::hash(&list);
        let id = inner.new_id(now, &hash);
        let kept = freeze::kept(&id, params, &frozen, hash, now, &by.user);
        let plan = kept.plan.clone();
        let head = Head {
            kept: kept.head(),
            running: None,
        };
        let book = inner.book.clone();
        blocking(move || {
            book.write_entries(&kept.plan.id, &list)
                .and_then(|()| book.write(&kept))
        })
        .await
        .map_err(|e| disk_error("write the plan", &e))?;
        inner.heads().insert(id, head);
        Ok(plan)
    }

    /// A plan as it is now. Errors: `NotFound`.
    pub async fn show(&self, id: &str) -> Result<Plan, Error> {
        let inner = &self.0;
        inner.tidy(inner.setup.clock.now_ms());
        let head = inner
            .heads()
            .get(id)
            .map(|head| head.kept.plan.clone())
            .ok_or_else(|| unknown(id))?;
        let (book, id) = (inner.book.clone(), id.to_owned());
        let Ok(whole) = blocking(move || book.read(&id)).await else {
            return Ok(head);
        };
        // The file may be up to a second behind.
        let mut plan = whole.plan;
        if head.state != plan.state || head.progress != plan.progress {
            (plan.state, plan.progress) = (head.state, head.progress);
            plan.result = head.result;
        }
        Ok(plan)
    }

    /// Every plan, newest first, without samples and named exceptions.
    pub fn list(&self) -> Vec<Plan> {
        let inner = &self.0;
        inner.tidy(inner.setup.clock.now_ms());
        let mut kept: Vec<_> = inner
            .heads()
            .values()
            .map(|head| head.kept.clone())
            .collect();
        kept.sort_by(|a, b| (b.created_ms, &b.plan.id).cmp(&(a.created_ms, &a.plan.id)));
        kept.into_iter().map(|kept| kept.plan).collect()
    }

    /// Runs a plan, once: one that runs or ran is answered as it is. Answers when it is done, or after a second with
    /// state `running`; progress is told to [`Plans::watch`]. Writes exactly one audit row, whatever happens; for a
    /// started run when it ends. Errors: `NotFound`, `Refused` (hash, confirmation, state), `Unavailable`, `Busy`.
    pub async fn run(&self, params: &PlanRunParams, by: &Identity) -> Result<Plan, Error> {
        let started = match self.0.start(params, by) {
            Ok(started) => started,
            Err(error) => {
                let target = format!("plan {}", quote(&params.id));
                let result = format!("refused: {}", error.message);
                let _ = self
                    .0
                    .setup
                    .audit
                    .record(act(by, "plan.run", target, params.reason.clone(), result))
                    .await;
                return Err(error);
            }
        };
        let Some(running) = started else {
            let plan = self.show(&params.id).await?;
            let result = "ok: nothing done, the plan runs or ran already".to_owned();
            let target = format!("plan {}", plan.id);
            let _ = self
                .0
                .setup
                .audit
                .record(act(by, "plan.run", target, params.reason.clone(), result))
                .await;
            return Ok(plan);
        };
        let (told, begun) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let id = params.id.clone();
        self.0
            .tasks
            .spawn(async move { inner.drive(&id, told).await });
        match begun.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                return Err(Error::new(
                    Code::Internal,
                    "the plan's task ended before it began",
                ));
            }
        }
        let _ = tokio::time::timeout(ANSWER_WAIT, running.done.cancelled()).await;
        self.show(&params.id).await
    }

    /// Stops a running plan after the chunk it is at, or takes a ready one out of use. What was done stays done.
    /// Errors: `NotFound`, `Refused` when it has ended.
    pub async fn cancel(&self, id: &str) -> Result<Plan, Error> {
        let inner = &self.0;
        inner.tidy(inner.setup.clock.now_ms());
        let running = {
            let mut heads = inner.heads();
            let head = heads.get_mut(id).ok_or_else(|| unknown(id))?;
            match head.kept.plan.state {
                State::Running => head.running.clone(),
                State::Ready => {
                    head.kept.plan.state = State::Cancelled;
                    None
                }
                state => {
                    let message = format!("plan {id} is {} and cannot be cancelled", word(state));
                    return Err(Error::new(Code::Refused, message));
                }
            }
        };
        match running {
            Some(running) => {
                running.cancel.cancel();
                let _ = tokio::time::timeout(ANSWER_WAIT, running.done.cancelled()).await;
            }
            None => {
                let (book, id) = (inner.book.clone(), id.to_owned());
                blocking(move || {
                    let mut kept = book.read(&id)?;
                    kept.plan.state = State::Cancelled;
                    book.write(&kept)?;
                    book.drop_entries(&id);
                    Ok(())
                })
                .await
                .map_err(|e| disk_error("write the plan", &e))?;
            }
        }
        self.show(id).await
    }

    /// Always refused: nothing that a plan does can be taken back safely yet. An acknowledged, dead-lettered or purged
    /// entry has left the ledger's pending part, and a redriven one may be at work already. Errors: `NotFound`, `Refused`.
    pub fn undo(&self, id: &str) -> Result<Plan, Error> {
        let action = self
            .0
            .heads()
            .get(id)
            .map(|head| head.kept.plan.action)
            .ok_or_else(|| unknown(id))?;
        let hint = match action {
            Action::Dead => "bring dead letters back with: pipectl dead redrive",
            Action::Redrive => "redriven entries are at work; if they fail they die again",
            Action::Claim | Action::Retry => {
                "the entries were handed to a worker; there is nothing to take back"
            }
            Action::Ack | Action::Purge => "acknowledged and purged entries are gone for good",
        };
        Err(Error::new(
            Code::Refused,
            format!("a {} plan cannot be undone", action.word()),
        )
        .hint(hint))
    }

    /// Progress of all plans from now on, without samples; a slow watcher loses the oldest.
    pub fn watch(&self) -> broadcast::Receiver<Plan> {
        self.0.progress.subscribe()
    }

    /// Stops running plans between two chunks (they become `interrupted`), refuses new ones, and waits for the end. To be
    /// called before the workers stop.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    fn heads(&self) -> MutexGuard<'_, BTreeMap<String, Head>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() || self.setup.handle.is_draining() {
            return Err(Error::new(Code::Unavailable, "the daemon is draining")
                .hint("start it again with: pipectl up"));
        }
        Ok(())
    }

    /// Expires what is over its time and deletes what is old.
    fn tidy(&self, now: u64) {
        let mut heads = self.heads();
        heads.retain(|id, head| {
            let is_kept = head.running.is_some() || !is_old(&head.kept, now);
            if !is_kept {
                self.book.remove(id);
            }
            is_kept
        });
        for (id, head) in heads.iter_mut() {
            // The file keeps saying `ready`: its time tells anyway, and nothing is lost if it is expired again.
            if head.kept.plan.state == State::Ready && now >= head.kept.expires_ms {
                head.kept.plan.state = State::Expired;
                self.book.drop_entries(id);
            }
        }
    }

    fn make_room(&self, n_new: u64) -> Result<(), Error> {
        let mut heads = self.heads();
        let is_open = |head: &Head| matches!(head.kept.plan.state, State::Ready | State::Running);
        let n_frozen: u64 = heads
            .values()
            .filter(|h| is_open(h))
            .map(|h| h.kept.plan.matched)
            .sum();
        let busy = |what: &str| {
            Error::new(Code::Busy, format!("too many {what}")).hint(
                "cancel some with: pipectl plan cancel ID (they also expire after 15 minutes)",
            )
        };
        if n_frozen + n_new > FROZEN_MAX {
            return Err(busy("entries in plans that are not run"));
        }
        while heads.len() >= KEPT_MAX {
            let oldest = heads
                .iter()
                .filter(|(_, h)| !is_open(h))
                .min_by_key(|(_, h)| h.kept.created_ms)
                .map(|(id, _)| id.clone());
            let Some(id) = oldest else {
                return Err(busy("plans that are not run"));
            };
            heads.remove(&id);
            self.book.remove(&id);
        }
        Ok(())
    }

    /// Six hex digits that no kept plan has. Not secret: a plan is bound by the hash of its list.
    fn new_id(&self, now: u64, hash: &str) -> String {
        let heads = self.heads();
        loop {
            let n = self.n_made.fetch_add(1, Ordering::Relaxed);
            let id = book::hash(&format!("{now} {n} {hash}"))[..6].to_owned();
            if !heads.contains_key(&id) {
                return id;
            }
        }
    }
}

/// The lowercase word of a state.
fn word(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::Running => "running",
        State::Done => "done",
        State::Cancelled => "cancelled",
        State::Interrupted => "interrupted",
        State::Expired => "expired",
        State::Undone => "undone",
    }
}

fn is_old(kept: &Kept, now: u64) -> bool {
    now.saturating_sub(kept.created_ms) > u64::try_from(KEPT_FOR.as_millis()).unwrap_or(u64::MAX)
}

fn unknown(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no plan {}", quote(id)))
        .hint("see: pipectl plan ls")
}

fn disk_error(what: &str, error: &io::Error) -> Error {
    Error::new(Code::Internal, format!("{what}: {error}"))
        .hint("is the disk of the data folder full?")
}

fn act(by: &Identity, action: &str, target: String, reason: Option<String>, result: String) -> Act {
    Act {
        user: by.user.clone(),
        uid: by.uid,
        pid: by.pid,
        action: action.to_owned(),
        target,
        reason,
        result,
    }
}

/// The audit row of a run.
fn run_act(kept: &Kept, result: &str) -> Act {
    let plan = &kept.plan;
    let target = format!(
        "plan {}: {} {} entries",
        plan.id,
        plan.action.word(),
        plan.matched
    );
    let nobody = Identity {
        uid: 0,
        gid: 0,
        pid: None,
        user: "unknown".to_owned(),
    };
    let by = kept.ran_by.as_ref().unwrap_or(&nobody);
    act(
        by,
        "plan.run",
        target,
        plan.reason.clone(),
        result.to_owned(),
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}
