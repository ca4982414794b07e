//! What ends a run early: a person, the lever, the daemon's own end, or a condition that says that more would be too much.

use std::time::Duration;

use tokio::time::Instant;

use super::super::deeds::Deeds;
use super::super::pipe::Side;
use super::Runner;
use crate::experiments::{Loss, Revert};

/// Availability is judged over this before an experiment is stopped for it.
const STOP_WINDOW: Duration = Duration::from_secs(10);
/// File by which a daemon without a pipe to this guard asks it to stop; it holds who and why.
const STOP: &str = "stop";

impl Runner {
    fn is_told_to_stop(&self) -> bool {
        self.job.folder.join(STOP).exists()
    }

    /// A person, the lever, or the daemon's own end.
    pub(super) fn early_end(&self) -> Option<String> {
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
    pub(super) fn stop_reason(&self, deeds: &Deeds) -> Option<String> {
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
        (lost > before && self.job.method.expects.lost != Loss::Injected && deeds.taken == 0)
            .then(|| format!("stop condition: the ledger tells {} lost", lost - before))
    }

    fn lost_before(&self) -> u64 {
        self.probes.lost_at_first()
    }
}
