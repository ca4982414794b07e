//! Carrying out a frozen list: chunks, one fate per id, counts. Knows no files and no states of plans.

use std::time::Duration;

use pipectl_shared::plan::{Action, Outcome, PlanEntry, Skipped};

use super::Setup;
use super::words::store_error;
use crate::record::EntryId;
use crate::runtime::Handed;
use crate::store::Fate;

/// Why a dead letter stays where it is.
const UNFIT: &str =
    "it cannot be added again: it has too many fields, or its stage is configured no more";

/// Ids dealt with at once: between two chunks a cancel is heard and progress told.
pub(super) const CHUNK: usize = 100;
/// Ids named in a result.
pub(super) const NAMED_MAX: usize = 1_000;
/// Longest wait for a worker to commit a chunk that was handed to it; after that its ids count as `waiting`.
const HAND_OVER_WAIT: Duration = Duration::from_secs(30);
/// After so many chunks in a row of which nothing could be done, the rest is not tried: the store or the workers are away,
/// and each try may wait for a time limit.
const FAILED_CHUNKS_MAX: u32 = 3;

/// What became of one id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Applied,
    Dead,
    AlreadyDone,
    Trimmed,
    NotFound,
    Waiting,
    Failed(String),
}

/// One frozen list on its way.
pub(super) struct Run {
    action: Action,
    to: Option<String>,
    min_idle: Duration,
    why: String,
    entries: Vec<PlanEntry>,
    n_done: usize,
    n_failed_chunks: u32,
    outcome: Outcome,
}

impl Run {
    /// `min_idle` counts for claims only; `why` becomes the error text of entries that are dead-lettered by hand.
    pub(super) fn new(
        action: Action,
        to: Option<String>,
        min_idle: Duration,
        why: String,
        entries: Vec<PlanEntry>,
    ) -> Self {
        Self {
            action,
            to,
            min_idle,
            why,
            entries,
            n_done: 0,
            n_failed_chunks: 0,
            outcome: Outcome::default(),
        }
    }

    pub(super) fn progress(&self) -> u64 {
        self.n_done as u64
    }

    pub(super) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Deals with the next chunk; false = nothing is left. Not raced against a cancel: a chunk is done or not begun.
    pub(super) async fn step(&mut self, setup: &Setup) -> bool {
        let rest = &self.entries[self.n_done..];
        let Some(first) = rest.first() else {
            return false;
        };
        if self.n_failed_chunks >= FAILED_CHUNKS_MAX {
            let n_left = rest.len();
            self.count(vec![
                Verdict::Failed(
                    "not tried: nothing could be done before it".to_owned()
                );
                n_left
            ]);
            return true;
        }
        let is_pending = self.action.noun() == "pending";
        let n = rest
            .iter()
            .take(CHUNK)
            .take_while(|e| !is_pending || e.stage == first.stage)
            .count();
        let chunk = &rest[..n];
        let parsed: Option<Vec<EntryId>> = chunk.iter().map(|e| e.id.parse().ok()).collect();
        let mut verdicts = match parsed {
            Some(ids) => self.act(setup, &first.stage, &ids).await,
            None => vec![Verdict::Failed("an id of the frozen list cannot be read".to_owned()); n],
        };
        verdicts.resize(n, Verdict::Failed("no answer for this id".to_owned()));
        let is_failed = verdicts.iter().all(|v| matches!(v, Verdict::Failed(_)));
        self.n_failed_chunks = if is_failed {
            self.n_failed_chunks + 1
        } else {
            0
        };
        self.count(verdicts);
        true
    }

    async fn act(&self, setup: &Setup, stage: &str, ids: &[EntryId]) -> Vec<Verdict> {
        let failed = |text: String| vec![Verdict::Failed(text); ids.len()];
        let admin = &setup.admin;
        let index = setup.layout.stage(stage).map(|(index, _)| index);
        let fates = match (self.action, index) {
            (Action::Redrive, _) => admin.redrive(ids).await,
            (Action::Purge, _) => admin.purge(ids).await,
            (_, None) => return failed(format!("there is no stage {stage} any more")),
            (Action::Claim, Some(_)) => {
                return self.hand_over(setup, stage, ids, self.min_idle).await;
            }
            (Action::Ack, Some(stage)) => admin.discard(stage, ids).await,
            (Action::Dead, Some(stage)) => admin.kill(stage, ids, &self.why).await,
            (Action::Retry, Some(stage)) => admin.release(stage, ids).await,
        };
        let fates = match fates {
            Ok(fates) => fates,
            Err(error) => return failed(store_error(error).message),
        };
        let done = if self.action == Action::Dead {
            Verdict::Dead
        } else {
            Verdict::Applied
        };
        let mut verdicts: Vec<_> = fates
            .iter()
            .map(|fate| match fate {
                Fate::Done => done.clone(),
                Fate::AlreadyDone => Verdict::AlreadyDone,
                Fate::Trimmed => Verdict::Trimmed,
                Fate::NotFound => Verdict::NotFound,
                Fate::Unfit => Verdict::Failed(UNFIT.to_owned()),
            })
            .collect();
        if self.action == Action::Retry {
            // Released ones are handed to a worker now: merely without back-off they would wait for the next sweep.
            let released: Vec<_> = (0..verdicts.len().min(ids.len()))
                .filter(|n| fates[*n] == Fate::Done)
                .collect();
            let released_ids: Vec<_> = released.iter().map(|n| ids[*n]).collect();
            if !released_ids.is_empty() {
                let handed = self
                    .hand_over(setup, stage, &released_ids, Duration::ZERO)
                    .await;
                for (n, verdict) in released.into_iter().zip(handed) {
                    verdicts[n] = verdict;
                }
            }
        }
        verdicts
    }

    async fn hand_over(
        &self,
        setup: &Setup,
        stage: &str,
        ids: &[EntryId],
        min_idle: Duration,
    ) -> Vec<Verdict> {
        let failed = |text: String| vec![Verdict::Failed(text); ids.len()];
        let Some((_, stage)) = setup.handle.stage(stage) else {
            return failed(format!("stage {stage} does not run in this daemon"));
        };
        let handing = stage.hand_over(ids.to_vec(), min_idle, self.to.as_deref());
        match tokio::time::timeout(HAND_OVER_WAIT, handing).await {
            Err(_) => vec![Verdict::Waiting; ids.len()],
            Ok(Err(text)) => failed(text),
            Ok(Ok(handed)) => {
                let mut verdicts: Vec<_> = handed.into_iter().map(verdict).collect();
                verdicts.resize(
                    ids.len(),
                    Verdict::Failed("the worker gave no answer for this id".to_owned()),
                );
                verdicts
            }
        }
    }

    fn count(&mut self, verdicts: Vec<Verdict>) {
        let not_found = self.not_found();
        for verdict in verdicts {
            let id = &self.entries[self.n_done].id;
            self.n_done += 1;
            let outcome = &mut self.outcome;
            let (counter, reason) = match verdict {
                Verdict::Applied => (&mut outcome.applied, None),
                Verdict::Dead => {
                    let asked = self.action == Action::Dead;
                    (
                        &mut outcome.dead,
                        (!asked).then(|| "became a dead letter".to_owned()),
                    )
                }
                Verdict::AlreadyDone if self.action.noun() == "dead" => (
                    &mut outcome.already_done,
                    Some("already redriven".to_owned()),
                ),
                Verdict::AlreadyDone => (
                    &mut outcome.already_done,
                    Some("no longer pending".to_owned()),
                ),
                Verdict::Trimmed => (&mut outcome.trimmed, Some("trimmed".to_owned())),
                Verdict::NotFound => (&mut outcome.not_found, Some(not_found.to_owned())),
                Verdict::Waiting => (
                    &mut outcome.waiting,
                    Some("handed to a worker, not committed yet".to_owned()),
                ),
                Verdict::Failed(why) => (&mut outcome.failed, Some(why)),
            };
            *counter += 1;
            if let Some(reason) = reason
                && outcome.exceptions.len() < NAMED_MAX
            {
                outcome.exceptions.push(Skipped {
                    id: id.clone(),
                    reason,
                });
            }
        }
    }

    fn not_found(&self) -> &'static str {
        match self.action {
            Action::Claim if !self.min_idle.is_zero() => {
                "no longer pending, or not idle for long enough"
            }
            Action::Claim | Action::Ack | Action::Retry | Action::Dead => "no longer pending",
            Action::Redrive | Action::Purge => "no such dead letter any more",
        }
    }
}

fn verdict(handed: Handed) -> Verdict {
    match handed {
        Handed::Applied => Verdict::Applied,
        Handed::Dead => Verdict::Dead,
        Handed::AlreadyDone => Verdict::AlreadyDone,
        Handed::Trimmed => Verdict::Trimmed,
        Handed::NotFound => Verdict::NotFound,
        Handed::Waiting => Verdict::Waiting,
        Handed::Failed(why) => Verdict::Failed(why),
    }
}

/// Counts in words, for the audit file and the event log: `applied 3, trimmed 1`.
pub(super) fn in_words(outcome: &Outcome) -> String {
    let counts = [
        ("applied", outcome.applied),
        ("dead", outcome.dead),
        ("already done", outcome.already_done),
        ("trimmed", outcome.trimmed),
        ("not found", outcome.not_found),
        ("failed", outcome.failed),
        ("waiting", outcome.waiting),
    ];
    let told: Vec<_> = counts
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(word, n)| format!("{word} {n}"))
        .collect();
    if told.is_empty() {
        "nothing done".to_owned()
    } else {
        told.join(", ")
    }
}
