//! The life of one running plan: taken into state Running, chunk after chunk, to its end and its audit row.

use std::io;
use std::time::Duration;

use pipectl_shared::plan::{PlanEntry, State};
use pipectl_shared::rpc::{Code, Error, Identity, PlanRunParams};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::Kept;
use super::run::{self, Run};
use super::{
    Inner, RUNNING_MAX, Running, SAVE_EVERY, blocking, disk_error, run_act, unknown, word,
};
use crate::journal::Level;

impl Inner {
    /// Checks and takes a plan into state Running; `None` = it runs or ran before.
    pub(super) fn start(
        &self,
        params: &PlanRunParams,
        by: &Identity,
    ) -> Result<Option<Running>, Error> {
        self.tidy(self.setup.clock.now_ms());
        let mut heads = self.heads();
        let n_running = heads.values().filter(|h| h.running.is_some()).count();
        let head = heads
            .get_mut(&params.id)
            .ok_or_else(|| unknown(&params.id))?;
        let plan = &mut head.kept.plan;
        if params.ids_hash != plan.ids_hash {
            let message = format!("the hash given is not that of plan {}", plan.id);
            return Err(Error::new(Code::Refused, message)
                .hint(format!("look at it first: pipectl plan show {}", plan.id)));
        }
        match plan.state {
            State::Running | State::Done => return Ok(None),
            State::Ready => {}
            state => {
                let message = format!("plan {} is {}", plan.id, word(state));
                return Err(Error::new(Code::Refused, message)
                    .hint("make a new plan: what matches may have changed"));
            }
        }
        match params.confirm {
            Some(n) if n != plan.matched => {
                let message = format!(
                    "plan {} matches {} entries, the confirmation says {n}",
                    plan.id, plan.matched
                );
                return Err(Error::new(Code::Refused, message));
            }
            None if plan.bulk => {
                let message = format!(
                    "plan {} is a bulk plan and needs its count confirmed",
                    plan.id
                );
                return Err(
                    Error::new(Code::Refused, message).hint(format!("--confirm {}", plan.matched))
                );
            }
            _ => {}
        }
        self.check_open()?;
        if n_running >= RUNNING_MAX {
            return Err(
                Error::new(Code::Busy, format!("{n_running} plans run already"))
                    .hint("wait for one to end"),
            );
        }
        plan.state = State::Running;
        plan.reason.clone_from(&params.reason);
        head.kept.ran_by = Some(by.clone());
        let running = Running {
            cancel: self.stop.child_token(),
            done: CancellationToken::new(),
        };
        head.running = Some(running.clone());
        Ok(Some(running))
    }

    /// The task of one running plan: from the frozen list on the disk to the audit row. Ends when the list is done or its
    /// token is cancelled; may block on the store and on workers, each with a time limit of its own.
    pub(super) async fn drive(&self, id: &str, told: oneshot::Sender<Result<(), Error>>) {
        let (kept, entries) = match self.load(id).await {
            Ok(loaded) => loaded,
            Err(error) => {
                let error = disk_error("begin the plan", &error);
                let failed = self.end(id, State::Cancelled);
                if let Some(kept) = failed {
                    let _ = self
                        .setup
                        .audit
                        .record(run_act(&kept, &format!("failed: {}", error.message)))
                        .await;
                }
                // The peer may be gone; the row above tells it then.
                let _ = told.send(Err(error));
                return;
            }
        };
        let _ = told.send(Ok(()));
        let Some(cancel) = self
            .heads()
            .get(id)
            .and_then(|h| h.running.clone())
            .map(|r| r.cancel)
        else {
            return;
        };
        let plan = &kept.plan;
        let min_idle = if plan.bulk {
            plan.select.min_idle_ms.unwrap_or(0)
        } else {
            0
        };
        let why = match &plan.reason {
            Some(reason) => format!(
                "by {}: {reason}",
                kept.ran_by.as_ref().map_or("an operator", |by| &by.user)
            ),
            None => format!(
                "by {}",
                kept.ran_by.as_ref().map_or("an operator", |by| &by.user)
            ),
        };
        let mut run = Run::new(
            plan.action,
            plan.to.clone(),
            Duration::from_millis(min_idle),
            why,
            entries,
        );
        let mut saved = Instant::now();
        while !cancel.is_cancelled() && run.step(&self.setup).await {
            self.tell(id, &run);
            if saved.elapsed() >= SAVE_EVERY {
                saved = Instant::now();
                self.save(&kept, &run, State::Running).await;
            }
        }
        let state = match () {
            () if run.progress() >= kept.plan.matched => State::Done,
            () if self.stop.is_cancelled() => State::Interrupted,
            () => State::Cancelled,
        };
        self.save(&kept, &run, state).await;
        self.book.drop_entries(id);
        let words = run::in_words(run.outcome());
        let summary = format!(
            "{}: {} of {}: {words}",
            word(state),
            run.progress(),
            kept.plan.matched
        );
        let is_ok = state == State::Done && run.outcome().failed == 0;
        let result = format!("{}: {summary}", if is_ok { "ok" } else { "failed" });
        let _ = self.setup.audit.record(run_act(&kept, &result)).await;
        let text = format!("plan {id} ({}) {summary}", kept.plan.action.word());
        self.setup
            .journal
            .tell(Level::Action, "plan.ended", None, text);
        self.tell(id, &run);
        if let Some(kept) = self.end(id, state) {
            let _ = self.progress.send(kept.plan);
        }
    }

    async fn load(&self, id: &str) -> io::Result<(Kept, Vec<PlanEntry>)> {
        let head = self.heads().get(id).map(|head| head.kept.clone());
        let Some(head) = head else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (book, id) = (self.book.clone(), id.to_owned());
        blocking(move || {
            let mut kept = book.read(&id)?;
            let entries = book.read_entries(&id, &head.plan.ids_hash)?;
            kept.plan.state = State::Running;
            kept.plan.reason = head.plan.reason;
            kept.ran_by = head.ran_by;
            // On the disk before the first entry is touched, so that a crash shows as `interrupted`.
            book.write(&kept)?;
            Ok((kept, entries))
        })
        .await
    }

    /// Notes progress in the head and tells watchers.
    fn tell(&self, id: &str, run: &Run) {
        let plan = {
            let mut heads = self.heads();
            let Some(head) = heads.get_mut(id) else {
                return;
            };
            let mut result = run.outcome().clone();
            result.exceptions.clear();
            head.kept.plan.progress = run.progress();
            head.kept.plan.result = Some(result);
            head.kept.plan.clone()
        };
        // No watcher is no fault.
        let _ = self.progress.send(plan);
    }

    async fn save(&self, kept: &Kept, run: &Run, state: State) {
        let mut kept = kept.clone();
        kept.plan.state = state;
        kept.plan.progress = run.progress();
        kept.plan.result = Some(run.outcome().clone());
        let book = self.book.clone();
        if let Err(error) = blocking(move || book.write(&kept)).await {
            let text = format!("the progress of a plan could not be written: {error}");
            self.setup
                .journal
                .tell(Level::Warning, "plan.unwritable", None, text);
        }
    }

    /// Takes a plan out of state Running and wakes who waits for it.
    fn end(&self, id: &str, state: State) -> Option<Kept> {
        let mut heads = self.heads();
        let head = heads.get_mut(id)?;
        head.kept.plan.state = state;
        if let Some(running) = head.running.take() {
            running.done.cancel();
        }
        Some(head.kept.clone())
    }
}
