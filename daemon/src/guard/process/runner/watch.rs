//! What goes on beside the phases: ticks, seconds, marks, and the file that tells where the run is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipectl_shared::chaos::{Mark, Phase, Progress, Running, Slot};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::canary::Canaries;
use super::super::judge::{Tick, ms};
use super::super::load::ms_since;
use super::{Runner, TICK};
use crate::chaos::{Backlog, Server, Watched};
use crate::clock::{Clock as _, System};
use crate::datadir::write_whole;

/// A look at the backlog that is older than this tells nothing of now.
const LOOK_FRESH: Duration = Duration::from_millis(300);

pub(super) type Latest = Arc<Mutex<Option<(Instant, Backlog)>>>;

/// Looks at the backlog ten times a second. Cancel-safe.
pub(super) async fn look_at_backlog(mut server: Server, watched: Vec<Watched>, latest: Latest) {
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
pub(super) async fn tick(canaries: Canaries, latest: Latest, ticks: Arc<Mutex<Vec<Tick>>>) {
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
                answered: backlog.is_some(),
                lag: backlog.and_then(|backlog| backlog.lag),
                settled: backlog.and_then(|backlog| backlog.settled),
            });
    }
}

impl Runner {
    /// Waits, and keeps the files of the run up to date meanwhile.
    pub(super) async fn wait(&mut self, span: Duration) {
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

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.mark("phase", phase.word());
    }

    pub(super) fn mark(&mut self, kind: &str, text: &str) {
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
