//! The end of a run: what was seen goes to the judge, and the judgement becomes the document.

use std::sync::PoisonError;

use anyhow::Result;
use pipectl_shared::chaos::{Measurements, Reverted, Run, Verdict};
use pipectl_shared::snapshot::Ledger;
use tokio::time::Instant;

use super::super::books::Books;
use super::super::deeds::Deeds;
use super::super::judge::{Judged, Seen, Tick};
use super::super::{load, report};
use super::{Ended, Runner};
use crate::clock::{Clock as _, System};
use crate::guard::Job;

/// What a run has come to.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) version: Option<String>,
    pub(super) refused: Option<String>,
    pub(super) stopped: Option<String>,
    pub(super) failure: Option<String>,
    pub(super) reverts: Vec<Reverted>,
    pub(super) books: Option<Books>,
    pub(super) gone_ages_ms: Vec<u64>,
    pub(super) copies_wanted: u64,
    pub(super) ledger_before: Option<Ledger>,
    pub(super) ledger_after: Option<Ledger>,
    pub(super) backend_before: u64,
    pub(super) backend_after: u64,
}

impl Outcome {
    /// Keys asked of the lookup while the fault was in, and how many there may be: each key once for each time that the cache
    /// was emptied or its answers had run out.
    fn backend_keys(&self, job: &Job, deeds: &Deeds) -> Option<(u64, u64)> {
        if !job.method.expects.backend_keys {
            return None;
        }
        let asked = self.backend_after.saturating_sub(self.backend_before);
        let keys = load::KEYS as u64 + 2;
        // An unknown key is asked again after a second (the shortest time that answers are kept in the shipped file).
        let lives = deeds.inside.flushes + job.method.for_ms.div_ceil(1_000) + 1;
        Some((asked, keys * lives))
    }
}

impl Runner {
    /// The document.
    pub(super) async fn ended(mut self, deeds: &mut Deeds, end: Outcome) -> Result<Ended> {
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
                self.see_all(&end, hits, (deeds.taken, deeds.dropped), claimed, keys)
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
            examples: end
                .books
                .as_ref()
                .map(|books| books.examples.clone())
                .unwrap_or_default(),
            for_ms: self.job.method.for_ms,
            judged_by: end.books.map(|books| books.judged_by).unwrap_or_default(),
            compared: None,
            by: self.job.by.clone(),
            versions,
            config_hash: self.job.config_hash.clone(),
            folder: self.job.folder.display().to_string(),
        };
        run.compared = report::compare(&self.job.folder, &run);
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
        (taken, dropped): (u64, u64),
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
            taken,
            dropped,
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
    pub(super) fn see<T>(&self, look: impl FnOnce(&Seen<'_>) -> T) -> T {
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
            taken: 0,
            dropped: 0,
            copies_wanted: 0,
            was_claimed: false,
            backend_keys: None,
            rss: None,
            reverts: &[],
            stopped: None,
            failure: None,
        })
    }

    pub(super) fn with_ticks<T>(&self, look: impl FnOnce(&[Tick]) -> T) -> T {
        look(&self.ticks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
