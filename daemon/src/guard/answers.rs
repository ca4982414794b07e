//! What the keeper answers from the catalogue and from the files of runs. Nothing here changes anything.

use pipectl_shared::chaos::{
    self, Catalogue, GetParams, HistoryParams, Mark, Phase, Progress, Report, ReportParams,
    Running, Slot, Summary,
};
use pipectl_shared::rpc::{Code, Error};
use pipectl_shared::snapshot::Page;
use serde::Serialize;

use super::keeper::{Inner, Keeper, disk};
use super::shelf::{Shelf, TOLD_MAX, is_id};
use crate::plans::words::quote;

/// Bytes of marks and slots in one answer; the next question goes on behind them.
const PARTS_MAX: usize = 256 * 1024;
/// Bytes of a run's document in an answer; its timeline gives way.
const RUN_MAX: usize = 512 * 1024;
/// Rows of a page of the history where nothing else is asked for.
const ROWS: usize = 50;
/// Rows of a page at most.
const ROWS_MAX: u32 = 200;

impl Keeper {
    /// Every experiment, with its last run, and where everything stands.
    pub async fn catalogue(&self) -> Result<Catalogue, Error> {
        let inner = &self.0;
        let mut summaries = on_shelf(inner, |shelf| shelf.summaries()).await?;
        // The one under way is no last one yet.
        if let Some(running) = self.running() {
            summaries.retain(|summary| summary.id != running.id);
        }
        let rows = inner.setup.experiments.iter().map(|experiment| {
            let spec = (experiment.spec)();
            let last = summaries.iter().find(|s| s.experiment == spec.name);
            chaos::Experiment {
                claim: experiment.claim.to_owned(),
                copy_only: experiment.copy_only,
                refused: self.refused_here(experiment, &spec),
                last: last.cloned(),
                spec,
            }
        });
        let rows = rows.collect();
        let state = inner.state();
        let (lever, schedule) = (state.lever.clone(), state.scheduled.clone());
        drop(state);
        Ok(Catalogue {
            enabled: inner.setup.config.chaos.enabled,
            rows,
            lever,
            running: self.running(),
            schedule,
        })
    }

    /// A run, live or ended.
    ///
    /// # Errors
    /// `NotFound`; `InvalidParams` for an id that can be none.
    pub async fn get(&self, params: GetParams) -> Result<Progress, Error> {
        let inner = &self.0;
        let active = inner.running();
        let id = match (&params.id, &active) {
            (Some(id), _) => check_id(id)?.to_owned(),
            (None, Some((running, _))) => running.id.clone(),
            (None, None) => on_shelf(inner, |shelf| shelf.ids().pop())
                .await?
                .ok_or_else(|| none_yet("no experiment has run yet"))?,
        };
        let wanted = id.clone();
        let found = on_shelf(inner, move |shelf| {
            shelf.has(&wanted).then(|| {
                (
                    shelf.progress(&wanted),
                    shelf.run(&wanted),
                    shelf.running(&wanted),
                )
            })
        });
        let Some((progress, run, known)) = found.await? else {
            return Err(unknown(&id));
        };
        let active = active.filter(|(running, _)| running.id == id);
        let progress = progress.or_else(|| {
            let (running, seed) = active.clone().or(known)?;
            Some(bare(running, seed))
        });
        let progress = match (progress, &run) {
            (Some(progress), _) => progress,
            (None, Some(run)) => of_run(run),
            (None, None) => return Err(unknown(&id)),
        };
        Ok(told(progress, run, &params, active.is_some()))
    }

    /// Runs in a line each, newest first.
    ///
    /// # Errors
    /// `InvalidParams`.
    pub async fn history(&self, params: HistoryParams) -> Result<Page<Summary>, Error> {
        let limit = match params.limit {
            None => ROWS,
            Some(n) if (1..=ROWS_MAX).contains(&n) => n as usize,
            Some(n) => {
                let message = format!("limit is {n}, not 1 to {ROWS_MAX}");
                return Err(Error::new(Code::InvalidParams, message));
            }
        };
        if let Some(before) = &params.before {
            check_id(before)?;
        }
        let mut rows = on_shelf(&self.0, |shelf| shelf.summaries()).await?;
        rows.retain(|row| {
            params
                .name
                .as_ref()
                .is_none_or(|name| *name == row.experiment)
        });
        let total = rows.len() as u64;
        if let Some(before) = &params.before {
            rows.retain(|row| row.id < *before);
        }
        let is_end = rows.len() <= limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| !is_end).map(|row| row.id.clone());
        Ok(Page {
            rows,
            next,
            total: Some(total),
        })
    }

    /// A file of a run that has ended.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge`; `InvalidParams` for an id that can be none.
    pub async fn report(&self, params: ReportParams) -> Result<Report, Error> {
        let inner = &self.0;
        let id = match &params.id {
            Some(id) => check_id(id)?.to_owned(),
            None => on_shelf(inner, |shelf| {
                let ids = shelf.ids().into_iter().rev();
                ids.into_iter().find(|id| shelf.has_ended(id))
            })
            .await?
            .ok_or_else(|| none_yet("no experiment has ended yet"))?,
        };
        let (wanted, form) = (id.clone(), params.form);
        let read = on_shelf(inner, move |shelf| {
            (
                shelf.has(&wanted),
                shelf.text(&wanted, form),
                shelf.folder_of(&wanted),
            )
        });
        let (is_there, text, folder) = read.await?;
        if !is_there {
            return Err(unknown(&id));
        }
        match text {
            Ok(text) => Ok(Report { id, text }),
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("{id} has no {} yet", params.form.file());
                Err(Error::new(Code::NotFound, message)
                    .hint("it is written when the experiment ends; see: pipectl chaos history"))
            }
            Err(fault) if fault.kind() == std::io::ErrorKind::FileTooLarge => {
                let message = format!(
                    "{} of {id} is larger than {} KiB",
                    params.form.file(),
                    TOLD_MAX / 1024
                );
                let hint = format!("read it where it is: {}", folder.display());
                Err(Error::new(Code::TooLarge, message).hint(hint))
            }
            Err(fault) => Err(disk("read the report", &fault)),
        }
    }
}

/// On a thread that may block.
pub(super) async fn on_shelf<T: Send + 'static>(
    inner: &Inner,
    ask: impl FnOnce(&Shelf) -> T + Send + 'static,
) -> Result<T, Error> {
    let shelf = inner.shelf.clone();
    let asked = tokio::task::spawn_blocking(move || ask(&shelf)).await;
    asked.map_err(|fault| Error::new(Code::Internal, format!("look at the experiments: {fault}")))
}

/// What is told of a run: what is new in it, as much as fits.
fn told(
    mut progress: Progress,
    run: Option<chaos::Run>,
    params: &GetParams,
    is_active: bool,
) -> Progress {
    progress.marks.retain(|mark| mark.seq > params.after_mark);
    progress.slots.retain(|slot| slot.t_ms > params.after_t_ms);
    let n_marks = n_fitting::<Mark>(&progress.marks);
    progress.marks.truncate(n_marks);
    let n_slots = n_fitting::<Slot>(&progress.slots);
    progress.slots.truncate(n_slots);
    match run {
        Some(run) => {
            progress.verdict = Some(run.verdict);
            progress.why.clone_from(&run.why);
            progress.running.phase = Phase::Ended;
            progress.run = Some(Box::new(fit(run)));
        }
        None => {
            progress.run = None;
            if !is_active && progress.why.is_empty() {
                "its guard died, so nobody saw its end".clone_into(&mut progress.why);
            }
        }
    }
    progress
}

/// How many of these, from the first on, fit into an answer.
fn n_fitting<T: Serialize>(rows: &[T]) -> usize {
    let mut left = PARTS_MAX;
    rows.iter()
        .take_while(|row| {
            let size = serde_json::to_vec(row).map_or(PARTS_MAX, |bytes| bytes.len() + 1);
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .count()
}

/// A document that fits into an answer: the middle of a very long timeline is left out.
fn fit(mut run: chaos::Run) -> chaos::Run {
    let size = |run: &chaos::Run| serde_json::to_vec(run).map_or(0, |bytes| bytes.len());
    while size(&run) > RUN_MAX && run.timeline.len() > 10 {
        let n = run.timeline.len();
        run.timeline.drain(n / 4..n * 3 / 4);
    }
    run
}

/// A run of which no progress was written yet.
fn bare(running: Running, seed: u64) -> Progress {
    Progress {
        running,
        seed,
        verdict: None,
        why: String::new(),
        marks: Vec::new(),
        slots: Vec::new(),
        run: None,
    }
}

/// The progress of a run of which only the document is left.
fn of_run(run: &chaos::Run) -> Progress {
    let at = |t_ms: Option<u64>| t_ms.map(|t_ms| run.started_ms.saturating_add(t_ms));
    let running = Running {
        id: run.id.clone(),
        experiment: run.experiment.clone(),
        phase: Phase::Ended,
        started_ms: run.started_ms,
        injected_ms: at(run.injected_t_ms),
        reverted_ms: at(run.reverted_t_ms),
        until_ms: None,
        targets: run.targets.clone(),
        by: run.by.clone(),
    };
    Progress {
        marks: run.timeline.clone(),
        ..bare(running, run.seed)
    }
}

fn check_id(id: &str) -> Result<&str, Error> {
    if is_id(id) {
        return Ok(id);
    }
    Err(Error::new(
        Code::InvalidParams,
        format!("{} is no id of a run", quote(id)),
    )
    .hint("see: pipectl chaos history"))
}

fn unknown(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no run {}", quote(id)))
        .hint("see: pipectl chaos history")
}

fn none_yet(message: &str) -> Error {
    Error::new(Code::NotFound, message).hint("begin one: pipectl chaos run NAME")
}
