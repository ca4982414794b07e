//! Chaos as the console knows it: the catalogue, the runs that there were, and the run that is watched. Which parts of it
//! are shown is `screens/chaos`' business.

use std::collections::VecDeque;

use pipectl_shared::chaos::{
    Catalogue, GetParams, Lever, Mark, Progress, Run, Running, Slot, Summary, Verdict,
};

use super::{Model, Pages, Purpose};
use crate::message::{Effect, Fault, Question};
use crate::place::Id;

/// Seconds of a run that are kept: ten minutes, five times the longest that the shipped limits allow.
const SLOTS_MAX: usize = 600;
/// Marks of a run that are kept.
pub(crate) const MARKS_MAX: usize = 200;
/// Between two questions for a run that is under way: the length of a slot.
const POLL_MS: u64 = 1_000;
/// The same when the last one had no answer, or for the document of a run that has ended.
const RETRY_MS: u64 = 3_000;

/// All that is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drill {
    /// Experiments, the lever, the schedule.
    pub(crate) catalogue: Option<Catalogue>,
    /// When it came, on the model's clock.
    pub(crate) at_ms: u64,
    /// Runs that there were, newest first.
    pub(crate) runs: Pages<Summary>,
    /// The run that is under way, or that ended last while this console looked.
    pub(crate) watch: Option<Watch>,
    /// Whether the operator wants to see that run in place of the catalogue.
    pub(crate) is_live: bool,
    /// Marks between the last one that is shown and the newest.
    pub(crate) marks_back: usize,
}

/// One run as far as it was told.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// As the daemon said last.
    pub(crate) running: Running,
    /// What came of it.
    pub(crate) verdict: Option<Verdict>,
    /// Why; untrusted.
    pub(crate) why: String,
    /// Oldest first, at most [`MARKS_MAX`].
    pub(crate) marks: VecDeque<Mark>,
    /// Oldest first, at most [`SLOTS_MAX`].
    pub(crate) slots: VecDeque<Slot>,
    /// Its document, once it has ended.
    pub(crate) run: Option<Box<Run>>,
    /// Why the last question had no answer.
    pub(crate) fault: Option<Fault>,
    /// When it was asked for last, on the model's clock.
    asked_ms: Option<u64>,
}

impl Watch {
    /// A run of which nothing more is known.
    pub(crate) fn new(running: Running) -> Self {
        Self {
            running,
            verdict: None,
            why: String::new(),
            marks: VecDeque::new(),
            slots: VecDeque::new(),
            run: None,
            fault: None,
            asked_ms: None,
        }
    }

    /// Whether nothing more will come.
    pub(crate) fn has_ended(&self) -> bool {
        self.verdict.is_some() || self.run.is_some()
    }

    /// Takes an answer: what is newer than what is known. A run goes on in one direction, so that an answer that comes twice
    /// changes nothing.
    fn take(&mut self, progress: Progress) {
        self.fault = None;
        let last_mark = self.marks.back().map_or(0, |mark| mark.seq);
        let marks = progress.marks.into_iter();
        for mark in marks.filter(|mark| mark.seq > last_mark) {
            if self.marks.back().is_none_or(|last| last.seq < mark.seq) {
                self.marks.push_back(mark);
            }
        }
        for slot in progress.slots {
            if self.slots.back().is_none_or(|last| last.t_ms < slot.t_ms) {
                self.slots.push_back(slot);
            }
        }
        while self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
        while self.slots.len() > SLOTS_MAX {
            self.slots.pop_front();
        }
        self.running = progress.running;
        self.verdict = progress.verdict;
        self.why = progress.why;
        if progress.run.is_some() {
            self.run = progress.run;
        }
    }
}

impl Model {
    /// The lever, where it is known to be pulled.
    pub(crate) fn pulled_lever(&self) -> Option<&Lever> {
        let catalogue = self.drill.catalogue.as_ref()?;
        Some(&catalogue.lever).filter(|lever| lever.pulled)
    }

    /// The run that is under way, as whoever said it last: the Snapshot comes each second, the catalogue more rarely.
    pub(crate) fn running(&self) -> Option<&Running> {
        let told = self
            .facts
            .snapshot()
            .and_then(|snapshot| snapshot.status.chaos.as_ref());
        told.or_else(|| {
            let watch = self.drill.watch.as_ref()?;
            (!watch.has_ended() && self.is_listed(&watch.running.id)).then_some(&watch.running)
        })
    }

    /// Whether the catalogue says that this run is under way.
    fn is_listed(&self, id: &str) -> bool {
        let catalogue = self.drill.catalogue.as_ref();
        let running = catalogue.and_then(|catalogue| catalogue.running.as_ref());
        running.is_some_and(|running| running.id == id)
    }

    /// Why this console may neither begin nor stop experiments, for a person; `None` = it may. The right to do so is one of its
    /// own: who only looks otherwise may have it, and who acts may not.
    pub(crate) fn why_not_chaos(&self) -> Option<String> {
        if self.options.read_only {
            return Some("this console is read-only (--read-only)".to_owned());
        }
        if !self.facts.is_up() {
            return Some("the daemon is not connected".to_owned());
        }
        let Some(hello) = &self.facts.hello else {
            return Some("the daemon has not greeted yet".to_owned());
        };
        let has_right = hello.rights.iter().any(|right| right == "chaos");
        (!has_right).then(|| {
            "you have not the right chaos; ask to be added to the group pipelined-chaos".to_owned()
        })
    }

    /// Why no experiment may be begun from here now, for a person; `None` = the daemon may be asked.
    pub(crate) fn why_not_drill(&self) -> Option<String> {
        if let Some(catalogue) = &self.drill.catalogue
            && !catalogue.enabled
        {
            let why = "experiments are off: set [chaos] enabled = true in the daemon's configuration and restart it";
            return Some(why.to_owned());
        }
        if let Some(why) = self.why_not_chaos() {
            return Some(why);
        }
        if let Some(lever) = self.pulled_lever() {
            let by = lever.by.as_deref().unwrap_or("somebody");
            return Some(format!(
                "the lever is pulled by {by}: it blocks every experiment"
            ));
        }
        let running = self.running()?;
        Some(format!(
            "{} is under way; one at a time",
            running.experiment
        ))
    }

    /// Takes the catalogue.
    pub(crate) fn take_catalogue(&mut self, catalogue: Catalogue) {
        self.drill.catalogue = Some(catalogue);
        self.drill.at_ms = self.now_ms;
    }

    /// Watches a run that was begun from here.
    pub(crate) fn watch_own(&mut self, id: String, experiment: String) {
        let running = Running {
            id,
            experiment,
            phase: pipectl_shared::chaos::Phase::Preparing,
            started_ms: self.wall_ms(),
            injected_ms: None,
            reverted_ms: None,
            until_ms: None,
            targets: Vec::new(),
            by: String::new(),
        };
        self.watch(running);
        self.drill.is_live = true;
    }

    fn watch(&mut self, running: Running) {
        self.drill.watch = Some(Watch::new(running));
        self.drill.marks_back = 0;
    }

    /// Watches what is told to be under way, unless it is watched. Ids sort by time: the catalogue may be older than the
    /// Snapshot, so that it never takes the place of a later run.
    fn follow(&mut self) {
        let known = self
            .drill
            .watch
            .as_ref()
            .map(|watch| watch.running.id.as_str());
        let told = self
            .facts
            .latest()
            .and_then(|snapshot| snapshot.status.chaos.as_ref());
        let told = told
            .filter(|running| known != Some(&running.id))
            .or_else(|| {
                let running = self.drill.catalogue.as_ref()?.running.as_ref()?;
                known
                    .is_none_or(|known| known < running.id.as_str())
                    .then_some(running)
            });
        if let Some(running) = told.cloned() {
            self.watch(running);
        }
    }

    /// Asks how far the run is that is shown; nothing while that is known, or under way. A picture that is held asks for
    /// nothing: what it misses comes in one piece when it goes on.
    pub(crate) fn ask_progress(&mut self) -> Option<Effect> {
        let is_shown = matches!(self.screen, Id::Chaos | Id::Runs);
        if !is_shown || !self.facts.is_up() || self.facts.is_frozen() {
            return None;
        }
        self.follow();
        let now_ms = self.now_ms;
        let watch = self.drill.watch.as_mut()?;
        let is_slow = watch.fault.is_some() || watch.has_ended();
        let every_ms = if is_slow { RETRY_MS } else { POLL_MS };
        let is_due = watch
            .asked_ms
            .is_none_or(|asked_ms| now_ms.saturating_sub(asked_ms) >= every_ms);
        if watch.run.is_some() || !is_due {
            return None;
        }
        let params = GetParams {
            id: Some(watch.running.id.clone()),
            after_mark: watch.marks.back().map_or(0, |mark| mark.seq),
            after_t_ms: watch.slots.back().map_or(0, |slot| slot.t_ms),
        };
        let purpose = Purpose::Progress(watch.running.id.clone());
        if self.asked.values().any(|asked| *asked == purpose) {
            return None;
        }
        watch.asked_ms = Some(now_ms);
        Some(self.ask(purpose, Question::Run(params)))
    }

    /// Takes how far a run is; says its verdict when this answer was the one that brought it. One that is not watched any
    /// more, or another than was asked for, changes nothing.
    pub(crate) fn take_progress(
        &mut self,
        id: &str,
        answer: Result<Progress, Fault>,
    ) -> Option<(Verdict, String)> {
        let watch = self.drill.watch.as_mut()?;
        if watch.running.id != id {
            return None;
        }
        match answer {
            Ok(progress) if progress.running.id == id => {
                let was_over = watch.verdict.is_some();
                watch.take(progress);
                let verdict = watch.verdict.filter(|_| !was_over)?;
                Some((verdict, watch.why.clone()))
            }
            Ok(_) => {
                watch.fault = Some(Fault {
                    message: "the daemon answered with another run".to_owned(),
                    hint: None,
                });
                None
            }
            Err(fault) => {
                watch.fault = Some(fault);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(seqs: &[u64], times: &[u64]) -> Progress {
        Progress {
            running: Running {
                id: "a".to_owned(),
                experiment: "net.latency".to_owned(),
                phase: pipectl_shared::chaos::Phase::During,
                started_ms: 0,
                injected_ms: None,
                reverted_ms: None,
                until_ms: None,
                targets: Vec::new(),
                by: String::new(),
            },
            seed: 1,
            verdict: None,
            why: String::new(),
            marks: seqs
                .iter()
                .map(|seq| Mark {
                    seq: *seq,
                    t_ms: 0,
                    kind: "note".to_owned(),
                    text: String::new(),
                })
                .collect(),
            slots: times
                .iter()
                .map(|t_ms| Slot {
                    t_ms: *t_ms,
                    ..Slot::default()
                })
                .collect(),
            run: None,
        }
    }

    #[test]
    fn what_comes_twice_or_out_of_order_is_kept_once() {
        let mut watch = Watch::new(progress(&[], &[]).running);
        watch.take(progress(&[1, 2], &[1_000, 2_000]));
        watch.take(progress(&[2, 1, 3], &[1_000, 2_000, 3_000, 2_500]));
        let seqs: Vec<u64> = watch.marks.iter().map(|mark| mark.seq).collect();
        let times: Vec<u64> = watch.slots.iter().map(|slot| slot.t_ms).collect();
        assert_eq!((seqs, times), (vec![1, 2, 3], vec![1_000, 2_000, 3_000]));
    }

    #[test]
    fn a_run_of_any_length_takes_a_bounded_place() {
        let mut watch = Watch::new(progress(&[], &[]).running);
        for n in 0..50 {
            let seqs: Vec<u64> = (n * 100 + 1..=n * 100 + 100).collect();
            watch.take(progress(&seqs, &seqs));
        }
        assert_eq!(
            (watch.marks.len(), watch.slots.len()),
            (MARKS_MAX, SLOTS_MAX)
        );
        assert_eq!(watch.slots.back().map(|slot| slot.t_ms), Some(5_000));
    }
}
