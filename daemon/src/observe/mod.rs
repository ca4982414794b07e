//! Meters and depths become Snapshots here, once a second; rates, ages and percentiles are computed nowhere else.
//!
//! `sampler` gathers `facts` (asking by `probe`, `host`, `rates`, `progress`, `window`); `judge`, `alerts`, `ledger` and
//! `build` are pure and decide; `history` and `spill` remember. Everybody else reads through [`Observer`].

mod alerts;
mod buckets;
mod build;
mod consumers;
mod facts;
mod fit;
mod gather;
mod history;
mod host;
mod judge;
mod ledger;
mod probe;
mod progress;
mod rates;
mod rings;
mod rules;
mod sampler;
mod slots;
mod spill;
mod text;
mod window;

#[cfg(test)]
mod alerts_tests;
#[cfg(test)]
mod build_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod sampler_tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::snapshot::{Daemon, History, Latency, LatencySlot, Snapshot, Status};
use tokio::sync::watch;

pub use ledger::{ledger_document, stage_ledger};
pub use sampler::{Inputs, Sampler};

use facts::Fixed;
use sampler::Parts;

/// Reads what the sampler made. Cheap to clone.
#[derive(Clone)]
pub struct Observer {
    latest: watch::Receiver<Arc<Snapshot>>,
    shared: Arc<Shared>,
}

/// What the sampler writes and the observer reads beside the Snapshot. The locks are held for microseconds: merging,
/// encoding and reading files happen without them.
struct Shared {
    windows: Mutex<window::Windows>,
    rings: Mutex<rings::Rings>,
    slots: Mutex<slots::Slots>,
    spill_dir: PathBuf,
}

/// What is known before the first look: who we are. A pid of 0 would be a lie that somebody could send a signal to.
fn unseen(fixed: &facts::Fixed) -> Snapshot {
    Snapshot {
        status: Status {
            pipeline: fixed.pipeline.clone(),
            daemon: Daemon {
                pid: fixed.pid,
                version: fixed.version.clone(),
                instance: fixed.instance.clone(),
                ..Daemon::default()
            },
            ..Status::default()
        },
        ..Snapshot::default()
    }
}

impl Observer {
    /// An observer and the task that feeds it: spawn `Sampler::run` once, in an owner's set, and cancel its token after
    /// the workers have drained. Does no I/O.
    pub fn new(inputs: Inputs) -> (Self, Sampler) {
        let Inputs {
            config,
            layout,
            admin,
            handle,
            journal,
            clock,
            instance,
            chaos,
            data,
        } = inputs;
        let fixed = Fixed::new(&config, &layout, instance);
        Self::start(
            fixed,
            Parts {
                admin,
                handle,
                journal,
                clock,
                chaos,
                data,
            },
        )
    }

    fn start(fixed: Fixed, parts: Parts) -> (Self, Sampler) {
        let names = history::names(fixed.stages.iter().map(|s| s.name.as_str()));
        let stages = fixed.stages.iter().map(|s| (s.name.clone(), s.terminal));
        let series = window::series(fixed.stages.iter().map(|s| (s.name.as_str(), s.terminal)));
        let rings = rings::Rings::new(names);
        let shared = Arc::new(Shared {
            windows: Mutex::new(window::Windows::new(stages)),
            slots: Mutex::new(slots::Slots::new(series, rings.bytes_max())),
            rings: Mutex::new(rings),
            spill_dir: parts.data.join("history"),
        });
        let (sender, latest) = watch::channel(Arc::new(unseen(&fixed)));
        let sampler = Sampler::new(fixed, parts, Arc::clone(&shared), sender);
        (Self { latest, shared }, sampler)
    }

    /// The last Snapshot (before the first tick: one with state `starting` that knows only who the daemon is).
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// Told at every base tick (1 s); a slow reader skips some and is still right. Its `changed` fails once the sampler
    /// has ended.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.latest.clone()
    }

    /// Latency over the last minute with `hdr`, of one stage (or `pipeline`) or all; empty for a stage that does not
    /// exist. Takes about a millisecond a row: not for hot loops.
    pub fn latency(&self, stage: Option<&str>) -> Vec<Latency> {
        let view = self
            .shared
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .view(stage);
        view.rows(true)
    }

    /// Latency by slots of 5 s that ended after `after_ms` (milliseconds since 1970), oldest first, at most those of the last
    /// hour. `stage` may be `pipeline`.
    ///
    /// # Errors
    /// The stages and measures there are, when this is none of them.
    pub fn latency_slots(
        &self,
        stage: &str,
        measure: &str,
        after_ms: u64,
    ) -> Result<Vec<LatencySlot>, Vec<(String, &'static str)>> {
        let slots = self.shared.slots.lock();
        let slots = slots.unwrap_or_else(PoisonError::into_inner);
        let told = slots.told(stage, measure, after_ms);
        told.ok_or_else(|| slots.series().to_vec())
    }

    /// Figures from `from_ms` to `to_ms` (milliseconds since 1970, both included) in at most `n_points_max` points of equal
    /// width, fewer where the answer would be too large for one line. At most 8 days before `to_ms`; what is older than the
    /// day in memory is read from files on a blocking thread. Cancel-safe.
    pub async fn history(&self, from_ms: u64, to_ms: u64, n_points_max: usize) -> History {
        let (first_ms, n_series) = {
            let rings = self
                .shared
                .rings
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            (rings.first_ms().unwrap_or(u64::MAX), rings.names().len())
        };
        let mut points = history::Points::new(from_ms, to_ms, n_points_max, n_series);
        if points.from_ms < first_ms {
            let dir = self.shared.spill_dir.clone();
            let (from_ms, to_ms) = (points.from_ms, points.to_ms);
            let read = tokio::task::spawn_blocking(move || {
                spill::fold(&dir, first_ms, &mut points);
                points
            });
            points = match read.await {
                Ok(points) => points,
                // It panicked or the runtime ends: what is in memory is still right.
                Err(_) => history::Points::new(from_ms, to_ms, n_points_max, n_series),
            };
        }
        self.shared
            .rings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fold(&mut points);
        points.finish()
    }
}
