//! What a trial is, and all there are. To add one: a file beside this, and its line in `TRIALS`.

use anyhow::Result;
use rand::rngs::SmallRng;

use super::servers::Kind;
use super::table::Table;
use crate::note;
use crate::report::Goal;

/// One test of the list in reliability.md, or a figure of its own.
pub(crate) struct Trial {
    /// Its number there, or a name; as given on the command line.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) run: fn(&mut Field<'_>) -> Result<()>,
}

/// In the order of reliability.md.
pub(crate) const TRIALS: &[Trial] = &[
    Trial {
        name: "1",
        title: "kill -9 of the daemon",
        run: super::daemon_kill::run,
    },
    Trial {
        name: "2",
        title: "kill -9 of Redis",
        run: super::redis_kill::run,
    },
    Trial {
        name: "3",
        title: "the power fails: what was not forced to the disk is gone",
        run: super::power::run,
    },
    Trial {
        name: "4",
        title: "SIGSTOP of Redis and of the daemon, zombies",
        run: super::stopped::run,
    },
    Trial {
        name: "5",
        title: "a full disk",
        run: super::full::disk,
    },
    Trial {
        name: "6",
        title: "Redis at its memory limit",
        run: super::full::memory,
    },
    Trial {
        name: "7",
        title: "a network that parts, both ways and each way",
        run: super::network::partition,
    },
    Trial {
        name: "8",
        title: "a network that is slow, thin, and breaks",
        run: super::network::slow,
    },
    Trial {
        name: "9",
        title: "clocks that jump",
        run: super::clocks::run,
    },
    Trial {
        name: "12",
        title: "FLUSHALL, DEL, XGROUP DESTROY and SETID",
        run: super::reset::run,
    },
    Trial {
        name: "13",
        title: "trimmed beyond what was read and what is pending",
        run: super::trimmed::run,
    },
    Trial {
        name: "14",
        title: "poison pills",
        run: super::poison::pills,
    },
    Trial {
        name: "18",
        title: "giants",
        run: super::poison::giants,
    },
    Trial {
        name: "19",
        title: "bytes meant for somebody's terminal",
        run: super::poison::hostile,
    },
    Trial {
        name: "23",
        title: "SIGTERM under load, rolling restarts",
        run: super::leaving::run,
    },
    Trial {
        name: "26",
        title: "random histories on the store, against a model",
        run: super::model::run,
    },
    Trial {
        name: "hand-over",
        title: "an owned stage from one daemon to another",
        run: super::hand_over::run,
    },
    Trial {
        name: "groups",
        title: "lag and pending as redis-cli shows them, against the truth",
        run: super::groups::run,
    },
];

/// Where a trial happens: the server, the luck, and where its figures go.
pub(crate) struct Field<'a> {
    pub(crate) server: &'a Kind,
    pub(crate) trial: &'static str,
    pub(crate) quick: bool,
    /// Of the seed, the trial and the server alone.
    pub(crate) random: SmallRng,
    pub(crate) seed: u64,
    pub(crate) table: &'a mut Table,
}

impl Field<'_> {
    /// One figure, and what it must be.
    pub(crate) fn figure(&mut self, name: &str, unit: &'static str, value: f64, goal: Goal) {
        self.table
            .figure(self.trial, &self.server.label, name, unit, value, goal);
    }

    /// A figure that passes when it is 0.
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    pub(crate) fn none(&mut self, name: &str, unit: &'static str, n: u64) {
        self.figure(name, unit, n as f64, Goal::AtMost(0.0));
    }

    /// The worst of many against its limit, with the median beside it.
    pub(crate) fn worst(&mut self, name: &str, unit: &'static str, samples: &[f64], limit: f64) {
        let worst = samples.iter().copied().fold(0.0, f64::max);
        let median = crate::report::median(samples);
        if samples.is_empty() {
            self.table.failed(
                self.trial,
                &self.server.label,
                &format!("{name}: nothing was measured"),
            );
            return;
        }
        self.figure(&format!("{name}, median"), unit, median, Goal::None);
        self.figure(&format!("{name}, worst"), unit, worst, Goal::AtMost(limit));
    }

    /// This trial, or a part of it, did not run, and why.
    pub(crate) fn not_run(&mut self, why: &str) {
        self.table.not_run(self.trial, &self.server.label, why);
    }

    /// Progress.
    pub(crate) fn say(&self, text: &str) {
        note(&format!("{} on {}: {text}", self.trial, self.server.label));
    }
}
