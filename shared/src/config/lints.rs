//! What is allowed but probably not meant, each lint says what it costs; and what each key allows and all together do not.

use std::time::Duration;

use super::report::Reporter;
use super::tree::{FILE, Place};
use super::types::*;
use super::walk::Walked;
use crate::backoff::Backoff;
use crate::units::{human_duration, print_duration};

/// Above this, retries hold back trimming for noticeably long; arbitrary, and the default is far below.
const LONG_RETRIES: Duration = Duration::from_secs(600);

/// Runs all lints.
pub(super) fn check(config: &Config, walked: &Walked, report: &mut Reporter<'_>) {
    let mut lint = Lint { walked, report };
    lint.aggregates(config);
    lint.claims(config);
    lint.owned(config);
    lint.retries(config);
    lint.dedupe(config);
    lint.server(config);
    lint.durability(config);
    lint.chaos(config);
}

/// The longest time for which an entry can wait between its tries before it is dead-lettered.
pub fn backoff_sum(retry: &Retry) -> Duration {
    let backoff = Backoff {
        min: retry.backoff_min,
        max: retry.backoff_max,
    };
    // The last failed try is followed by no wait.
    backoff.ceiling_sum(retry.attempts.saturating_sub(1))
}

struct Lint<'a, 'b, 'c> {
    walked: &'a Walked,
    report: &'b mut Reporter<'c>,
}

impl Lint<'_, '_, '_> {
    /// Where the first of these keys was given, else the header of the stage, else the top of the file.
    fn place(&self, keys: &[String], stage: Option<&str>) -> Place {
        let given = keys.iter().find_map(|key| self.walked.values.get(key));
        let header = || {
            let named = self.walked.stages.iter();
            let mut named = named.filter(|named| Some(named.name.as_str()) == stage);
            named.next().map(|named| named.place)
        };
        given
            .map(|(_, place)| *place)
            .or_else(header)
            .unwrap_or_else(|| Place::new(FILE, &(0..0)))
    }

    fn aggregates(&mut self, config: &Config) {
        for stage in &config.stages {
            let reader = config
                .stages
                .iter()
                .find(|other| other.from == From::Stage(stage.name.clone()));
            let Some(reader) = reader else { continue };
            let chain = self.walked.operators.get(&stage.name);
            for entry in chain.into_iter().flatten() {
                if entry.kind == Some("aggregate") {
                    let what = format!(
                        "stage `{}` counts entries before stage `{}` has finished them: the total and the ledger's `applied` will differ",
                        stage.name, reader.name
                    );
                    let hint = "move the aggregate to a stage that nothing reads from";
                    self.report.warning(entry.place, &what, Some(hint));
                }
            }
        }
    }

    fn claims(&mut self, config: &Config) {
        for stage in &config.stages {
            let longest = stage.timeout.saturating_mul(stage.prefetch + 1);
            if stage.claim_after >= longest || stage.delivery == Delivery::Owned {
                continue;
            }
            let keys = ["claim_after", "timeout", "prefetch"];
            let keys = keys.map(|key| format!("stage.{}.{key}", stage.name));
            let what = format!(
                "claim_after ({}) is shorter than timeout x (prefetch + 1) ({}): entries that only wait are taken from healthy workers",
                print_duration(stage.claim_after),
                print_duration(longest)
            );
            let hint = format!(
                "set stage.{}.claim_after = \"{}\" or more",
                stage.name,
                print_duration(longest)
            );
            let place = self.place(&keys, Some(&stage.name));
            self.report.warning(place, &what, Some(&hint));
        }
    }

    fn owned(&mut self, config: &Config) {
        for stage in &config.stages {
            if stage.delivery != Delivery::Owned {
                continue;
            }
            if stage.workers > 1 {
                let what = format!(
                    "stage `{}` is owned and has {} workers, but one owner works its one partition: the others only stand by in the same process",
                    stage.name, stage.workers
                );
                let hint = format!(
                    "set stage.{}.workers = 1; another daemon is a standby that survives this one",
                    stage.name
                );
                let keys = [format!("stage.{}.workers", stage.name)];
                let place = self.place(&keys, Some(&stage.name));
                self.report.warning(place, &what, Some(&hint));
            }
            let key = format!("stage.{}.claim_after", stage.name);
            if let Some((_, place)) = self.walked.values.get(&key) {
                let what = format!("`{key}` has no effect: nothing is claimed in an owned stage");
                self.report.warning(*place, &what, Some("leave it out"));
            }
        }
    }

    fn retries(&mut self, config: &Config) {
        let sum = backoff_sum(&config.retry);
        if sum <= LONG_RETRIES {
            return;
        }
        let keys = ["retry.backoff".to_owned(), "retry.attempts".to_owned()];
        let what = format!(
            "an entry that keeps failing can wait {} over {} tries before it is dead-lettered, and nothing behind it is trimmed until then",
            human_duration(sum),
            config.retry.attempts
        );
        let place = self.place(&keys, None);
        self.report
            .warning(place, &what, Some("lower retry.attempts or retry.backoff"));
    }

    fn dedupe(&mut self, config: &Config) {
        let id_off = config.event.id.is_empty();
        if !id_off && !config.event.dedupe_window.is_zero() {
            return;
        }
        let key = if id_off {
            "event.id"
        } else {
            "event.dedupe.window"
        };
        let what = "dedupe is off: what a client or `pipectl ingest` sends twice is counted twice";
        let hint = "name the field with the id in event.id, and give event.dedupe.window a time";
        let place = self.place(&[key.to_owned()], None);
        self.report.warning(place, what, Some(hint));
    }

    fn durability(&mut self, config: &Config) {
        let redis = &config.redis;
        let key = ["redis.durability".to_owned()];
        let place = self.place(&key, None);
        if redis.durability == Durability::Replica && redis.url == "managed" {
            let what = "redis.durability = \"replica\" needs a server with a replica; the managed one has none, so that nothing would ever be accepted";
            let hint = "set redis.url to a master with a replica, or redis.durability = \"aof\"";
            self.report.fault(place, what, Some(hint));
        }
        let has_ids = !config.event.id.is_empty() && !config.event.dedupe_window.is_zero();
        if redis.durability != Durability::Memory && !has_ids {
            let what = "redis.durability asks producers to send again what has not survived in time, and dedupe is off: it is counted twice then";
            let hint =
                "name the field with the id in event.id, and give event.dedupe.window a time";
            self.report.warning(place, what, Some(hint));
        }
        if let (Durability::Memory, Some((_, place))) = (
            redis.durability,
            self.walked.values.get("redis.durability_timeout"),
        ) {
            let what = "`redis.durability_timeout` has no effect: with redis.durability = \"memory\" nothing is waited for";
            self.report.warning(*place, what, Some("leave it out"));
        }
        if redis.durability == Durability::Aof
            && redis.append_fsync != "always"
            && let Some((_, place)) = self.walked.values.get("redis.append_fsync")
        {
            let what =
                "`redis.append_fsync` has no effect: redis.durability = \"aof\" makes it always";
            self.report.warning(*place, what, Some("leave it out"));
        }
    }

    fn chaos(&mut self, config: &Config) {
        let schedule = &config.chaos.schedule;
        if schedule.every.is_zero() {
            return;
        }
        let name = |key: &str| format!("chaos.schedule.{key}");
        if !config.chaos.enabled {
            let place = self.place(&[name("every")], None);
            let what = "`chaos.schedule.every` has no effect: experiments are off";
            let hint = "set chaos.enabled = true, or leave it out";
            self.report.warning(place, what, Some(hint));
        }
        if schedule.from_hour >= schedule.to_hour {
            let place = self.place(&[name("to_hour"), name("from_hour")], None);
            let what = format!(
                "no experiment would ever start: chaos.schedule.from_hour ({}) is not before to_hour ({})",
                schedule.from_hour, schedule.to_hour
            );
            let hint = "give hours of one day in UTC, such as 9 and 17";
            self.report.fault(place, &what, Some(hint));
        }
    }

    /// Keys that have no effect with this kind of server.
    fn server(&mut self, config: &Config) {
        let managed = config.redis.url == "managed";
        let useless = [
            ("redis.max_memory", !managed, "only for the managed server"),
            (
                "redis.append_fsync",
                !managed,
                "only for the managed server",
            ),
            (
                "redis.username",
                managed,
                "not for the managed server, which is reached by its own socket",
            ),
            (
                "redis.password",
                managed,
                "not for the managed server, which is reached by its own socket",
            ),
            (
                "redis.tls_ca",
                !config.redis.url.starts_with("rediss://"),
                "only for rediss://",
            ),
        ];
        for (key, is_useless, why) in useless {
            if let (true, Some((_, place))) = (is_useless, self.walked.values.get(key)) {
                let what = format!("`{key}` has no effect: it is {why}");
                self.report.warning(*place, &what, Some("leave it out"));
            }
        }
    }
}
