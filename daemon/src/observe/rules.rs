//! Alert rules: what is wrong now, as pure functions of the Facts and of a few counters' last values. `alerts` decides from
//! what they find at several ticks what opens and closes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::consumers::troubles;
use super::facts::Facts;
use super::ledger::ledger_document;
use super::{build, judge, text};
use crate::store::Depth;

/// Ticks (seconds) that a growth keeps its alert open after it ended.
const GROWTH_TICKS: u32 = 60;
/// Ticks without any new entry before the silence is worth an alert.
const SILENT_TICKS: u32 = 60;
/// Ticks with traffic that make silence remarkable where no source of ours is meant to send.
const BUSY_TICKS: u32 = 30;
/// Ticks after which silence is what is usual now.
const USUAL_TICKS: u32 = 3_600;
/// Share of maxmemory that opens and closes `memory.high`.
const MEMORY: (f64, f64) = (0.85, 0.80);
const GIB: u64 = 1 << 30;

/// How grave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Critical,
    Warning,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// What one rule sees now, of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) name: &'static str,
    /// Stage, or empty.
    pub(super) stage: String,
    pub(super) severity: Severity,
    /// Ticks in a row until it opens, and without it until it closes.
    pub(super) ticks: (u32, u32),
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// What the rules see at one tick.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// What is wrong.
    pub(super) found: Vec<Finding>,
    /// Names of rules that could not look: their alerts stay as they are.
    pub(super) blind: Vec<&'static str>,
}

/// What the rules remember between two ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    growth: BTreeMap<(&'static str, String), Growth>,
    accepted: Option<u64>,
    n_busy: u32,
    n_silent: u32,
}

/// A counter whose growth is an alert.
#[derive(Debug, Clone, Copy, Default)]
struct Growth {
    last: i64,
    grown: i64,
    quiet: u32,
}

impl Rules {
    /// One tick. `is_open` tells whether an alert about the whole is open, for rules that close at another figure.
    pub(super) fn look(&mut self, facts: &Facts, is_open: &dyn Fn(&'static str) -> bool) -> Looked {
        let mut looked = Looked::default();
        let Looked { found, blind } = &mut looked;
        redis(facts, found);
        stages(facts, found, blind);
        disk(facts, found, blind);
        self.meters(facts, found);
        match &facts.store.depth {
            Some(depth) => {
                ledger(facts, depth, found);
                self.growing(depth, found);
                self.traffic(facts, depth, found);
                memory(facts, is_open("memory.high"), found);
            }
            None => blind.extend([
                "ledger.unaccounted",
                "ledger.duplicated",
                "lost",
                "dead.growing",
                "traffic.none",
                "memory.high",
            ]),
        }
        server(facts, found, blind);
        looked
    }

    /// Follows a counter: how much it grew since its alert opened, for as long as [`GROWTH_TICKS`] after the last growth.
    fn grown(&mut self, name: &'static str, stage: &str, value: i64) -> Option<i64> {
        let key = (name, stage.to_owned());
        let Some(growth) = self.growth.get_mut(&key) else {
            // What was there before this daemon started is no news.
            self.growth.insert(
                key,
                Growth {
                    last: value,
                    ..Growth::default()
                },
            );
            return None;
        };
        let step = value.saturating_sub(growth.last);
        growth.last = value;
        if step > 0 {
            growth.grown = growth.grown.saturating_add(step);
            growth.quiet = 0;
        } else {
            growth.quiet = growth.quiet.saturating_add(1);
            if growth.quiet >= GROWTH_TICKS {
                growth.grown = 0;
            }
        }
        (growth.grown > 0).then_some(growth.grown)
    }

    fn growing(&mut self, depth: &Depth, found: &mut Vec<Finding>) {
        let lost = i64::try_from(depth.ledger.lost).unwrap_or(i64::MAX);
        if let Some(n) = self.grown("lost", "", lost) {
            let message = format!(
                "{} gone before they were applied, {n} of them lately: trimmed, or deleted by a third party",
                text::entries(depth.ledger.lost)
            );
            found.push(now(
                "lost",
                Severity::Warning,
                message,
                Some("pipectl ledger".to_owned()),
            ));
        }
        if let Some(n) = self.grown("dead.growing", "", depth.ledger.dead) {
            let message = format!(
                "dead letters grow: {n} lately, {} in all",
                depth.ledger.dead.max(0)
            );
            found.push(now(
                "dead.growing",
                Severity::Warning,
                message,
                Some("pipectl dead causes".to_owned()),
            ));
        }
    }

    fn meters(&mut self, facts: &Facts, found: &mut Vec<Finding>) {
        for (fixed, stage) in facts.fixed.stages.iter().zip(&facts.stages) {
            let not_pending = i64::try_from(stage.counters.not_pending).unwrap_or(i64::MAX);
            if let Some(n) = self.grown("ack.foreign", &fixed.name, not_pending) {
                let message = format!(
                    "a third party acknowledged {} of group {} while we worked on them",
                    text::entries(n.unsigned_abs()),
                    fixed.group
                );
                let finding = now(
                    "ack.foreign",
                    Severity::Warning,
                    message,
                    Some("pipectl ledger".to_owned()),
                );
                found.push(Finding {
                    stage: fixed.name.clone(),
                    ..finding
                });
            }
            let redelivered = i64::try_from(stage.counters.redelivered).unwrap_or(i64::MAX);
            if let Some(n) = self.grown("group.redelivered", &fixed.name, redelivered) {
                let message = format!(
                    "group {} delivered {} again that were done (it was set back); they were refused",
                    fixed.group,
                    text::entries(n.unsigned_abs())
                );
                let finding = now(
                    "group.redelivered",
                    Severity::Warning,
                    message,
                    Some("pipectl groups".to_owned()),
                );
                found.push(Finding {
                    stage: fixed.name.clone(),
                    ..finding
                });
            }
        }
    }

    fn traffic(&mut self, facts: &Facts, depth: &Depth, found: &mut Vec<Finding>) {
        let before = self.accepted.replace(depth.ledger.accepted);
        let grew = before.is_none_or(|before| depth.ledger.accepted > before);
        if grew {
            self.n_silent = 0;
            self.n_busy = (self.n_busy + 1).min(BUSY_TICKS);
            return;
        }
        self.n_silent = self.n_silent.saturating_add(1);
        if self.n_silent >= USUAL_TICKS {
            self.n_busy = 0;
        }
        // A source that has sent all it was to send, or that an operator paused, is silent on purpose.
        let sends = facts
            .sources
            .iter()
            .find(|s| s.kind == "generator" && !matches!(s.state.as_str(), "paused" | "done"));
        let paused = facts
            .sources
            .iter()
            .any(|s| s.kind == "generator" && matches!(s.state.as_str(), "paused" | "done"));
        let was_busy = self.n_busy >= BUSY_TICKS && !paused;
        if facts.draining || self.n_silent < SILENT_TICKS || !(sends.is_some() || was_busy) {
            return;
        }
        let span = text::span(Duration::from_secs(u64::from(self.n_silent)));
        let message = match sends {
            Some(source) => {
                let reason = source
                    .reason
                    .as_deref()
                    .map_or_else(String::new, |r| format!(": {r}"));
                format!(
                    "no entry has come for {span}; source {} is {}{reason}",
                    source.name, source.state
                )
            }
            None => format!("no entry has come for {span}, and there was traffic before"),
        };
        found.push(now(
            "traffic.none",
            Severity::Warning,
            message,
            Some("pipectl status".to_owned()),
        ));
    }
}

fn memory(facts: &Facts, is_open: bool, found: &mut Vec<Finding>) {
    let Some((used, max)) = build::memory(facts).filter(|(_, max)| *max > 0) else {
        return;
    };
    let share = used as f64 / max as f64;
    if share < if is_open { MEMORY.1 } else { MEMORY.0 } {
        return;
    }
    let message = format!(
        "redis uses {} of {} ({:.0} %); doors refuse events when it is too full",
        text::size(used),
        text::size(max),
        share * 100.0
    );
    found.push(Finding {
        ticks: (3, 5),
        ..now("memory.high", Severity::Warning, message, None)
    });
}

/// A finding about the whole that opens and closes at once.
fn now(name: &'static str, severity: Severity, message: String, hint: Option<String>) -> Finding {
    Finding {
        name,
        stage: String::new(),
        severity,
        ticks: (1, 1),
        message,
        hint,
    }
}

fn redis(facts: &Facts, found: &mut Vec<Finding>) {
    let Some(error) = &facts.store.error else {
        return;
    };
    if judge::redis_state(facts) == "up" {
        // It answers, but not what we can use: another pipeline's stream, a key of another type.
        let message = format!("redis at {}: {error}", facts.fixed.redis_url);
        found.push(Finding {
            ticks: (2, 2),
            ..now("redis.error", Severity::Critical, message, None)
        });
        return;
    }
    let away = facts
        .store
        .away
        .map_or_else(String::new, |d| format!(" for {}", text::span(d)));
    let message = format!(
        "redis at {} has not answered{away}: {error}",
        facts.fixed.redis_url
    );
    found.push(Finding {
        ticks: (2, 2),
        ..now("redis.down", Severity::Critical, message, None)
    });
}

fn stages(facts: &Facts, found: &mut Vec<Finding>, blind: &mut Vec<&'static str>) {
    if facts.store.depth.is_none() {
        blind.push("pending.stuck");
    }
    for (i, fixed) in facts.fixed.stages.iter().enumerate() {
        if let Some(trouble) = &facts.stages[i].trouble {
            let message = format!(
                "stage {} cannot work: {}",
                fixed.name,
                text::cut(trouble, text::LINE)
            );
            let finding = now(
                "stage.failed",
                Severity::Critical,
                message,
                Some("pipectl status".to_owned()),
            );
            found.push(Finding {
                stage: fixed.name.clone(),
                ticks: (2, 2),
                ..finding
            });
        }
        let troubles = troubles(facts, i);
        let Some(worst) = troubles.first() else {
            continue;
        };
        let more = match troubles.len() - 1 {
            0 => String::new(),
            n => format!(
                " ({n} more such, {} in all)",
                text::entries(troubles.iter().map(|t| t.pending).sum())
            ),
        };
        let message = format!("stage {}: {}{more}", fixed.name, worst.reason);
        let hint = format!("pipectl pending ls --stage {} --min-idle 60s", fixed.name);
        let finding = now("pending.stuck", Severity::Critical, message, Some(hint));
        found.push(Finding {
            stage: fixed.name.clone(),
            ticks: (2, 3),
            ..finding
        });
    }
}

fn ledger(facts: &Facts, depth: &Depth, found: &mut Vec<Finding>) {
    let ledger = ledger_document(depth, facts.fixed.has_aggregate());
    let hint = || Some("pipectl ledger".to_owned());
    if ledger.unaccounted != 0 {
        let estimated = if ledger.estimated {
            " (undelivered is an estimate)"
        } else {
            ""
        };
        let message = format!(
            "the ledger does not add up: {} unaccounted for{estimated}; a bug, or a third party acknowledged or added entries",
            ledger.unaccounted
        );
        found.push(Finding {
            ticks: (3, 3),
            ..now("ledger.unaccounted", Severity::Critical, message, hint())
        });
    }
    if let Some(n) = ledger.duplicated.filter(|n| *n != 0) {
        let message = format!(
            "the aggregate counts {n} more than was applied; a bug, or a third party changed the counts"
        );
        found.push(Finding {
            ticks: (3, 3),
            ..now("ledger.duplicated", Severity::Critical, message, hint())
        });
    }
}

fn disk(facts: &Facts, found: &mut Vec<Finding>, blind: &mut Vec<&'static str>) {
    let (Some(free), Some(total)) = (facts.host.disk_free_bytes, facts.host.disk_total_bytes)
    else {
        blind.push("disk.low");
        return;
    };
    // A share alone would alarm at 400 GiB free of 8 TiB, and an amount alone on every small disk.
    let (warning, critical) = ((total / 10).min(5 * GIB), (total / 50).min(GIB / 2));
    if free >= warning || total == 0 {
        return;
    }
    let severity = if free < critical {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let message = format!(
        "{} of {} are free on the file system of the data folder",
        text::size(free),
        text::size(total)
    );
    found.push(Finding {
        ticks: (3, 10),
        ..now("disk.low", severity, message, None)
    });
}

fn server(facts: &Facts, found: &mut Vec<Finding>, blind: &mut Vec<&'static str>) {
    let Some(server) = &facts.store.server else {
        blind.extend(["eviction.policy", "redis.config"]);
        return;
    };
    let evicts = !server.eviction.is_empty() && server.eviction != "noeviction";
    if evicts {
        let policy = text::cut(&server.eviction, text::NAME);
        let message =
            format!("redis may throw entries away when it is full (maxmemory-policy {policy})");
        let hint = Some("redis-cli CONFIG SET maxmemory-policy noeviction".to_owned());
        found.push(now("eviction.policy", Severity::Warning, message, hint));
    }
    let others: Vec<_> = server
        .warnings
        .iter()
        .filter(|w| !(evicts && w.contains("maxmemory-policy")))
        .map(String::as_str)
        .collect();
    if !others.is_empty() {
        found.push(now(
            "redis.config",
            Severity::Warning,
            text::cut(&others.join("; "), text::LINE),
            None,
        ));
    }
}
