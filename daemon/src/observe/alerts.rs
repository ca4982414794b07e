//! Alerts between two ticks: hysteresis, so that a figure that flickers about its limit neither opens nor closes an alert
//! at every tick. `rules` finds; this decides what is open. Pure; the sampler tells openings and closings to the journal.
//!
//! A rule whose input is unknown (the store is away) keeps its alert as it is: neither opened nor closed by ignorance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pipectl_shared::snapshot::Alert;

use super::facts::Facts;
use super::rules::{Finding, Rules, Severity};
use super::text;
use crate::clock;

/// Told to the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// Opened, else closed.
    pub(super) opened: bool,
    /// Stable name.
    pub(super) name: &'static str,
    /// Stage, where one is meant.
    pub(super) stage: Option<String>,
    /// How grave.
    pub(super) severity: Severity,
    /// For a person.
    pub(super) message: String,
}

#[derive(Debug, Clone)]
struct Track {
    finding: Finding,
    since_ms: u64,
    n_seen: u32,
    n_missing: u32,
    open: bool,
}

/// Alerts between two ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    rules: Rules,
    tracks: BTreeMap<(&'static str, String), Track>,
}

impl Book {
    /// One tick. Returns the open alerts, worst first, and what changed.
    pub(super) fn step(&mut self, facts: &Facts) -> (Vec<Alert>, Vec<Change>) {
        let is_open = |name: &'static str| {
            let track = self.tracks.get(&(name, String::new()));
            track.is_some_and(|t| t.open)
        };
        let looked = self.rules.look(facts, &is_open);
        let changes = self.track(looked.found, &looked.blind, facts.now_ms);
        (self.open(), changes)
    }

    fn track(&mut self, found: Vec<Finding>, blind: &[&'static str], now_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut seen = BTreeSet::new();
        for finding in found {
            let key = (finding.name, finding.stage.clone());
            seen.insert(key.clone());
            let track = self.tracks.entry(key).or_insert_with(|| Track {
                finding: finding.clone(),
                since_ms: now_ms,
                n_seen: 0,
                n_missing: 0,
                open: false,
            });
            track.finding = finding;
            track.n_seen = track.n_seen.saturating_add(1);
            track.n_missing = 0;
            if !track.open && track.n_seen >= track.finding.ticks.0 {
                track.open = true;
                changes.push(track.change(true, track.finding.message.clone()));
            }
        }
        self.tracks.retain(|key, track| {
            if seen.contains(key) || blind.contains(&key.0) {
                return true;
            }
            if !track.open {
                return false;
            }
            track.n_missing += 1;
            if track.n_missing < track.finding.ticks.1 {
                return true;
            }
            let lasted = Duration::from_millis(now_ms.saturating_sub(track.since_ms));
            let message = format!(
                "over after {}: {}",
                text::span(lasted),
                track.finding.message
            );
            changes.push(track.change(false, message));
            false
        });
        changes
    }

    fn open(&self) -> Vec<Alert> {
        let mut open: Vec<_> = self.tracks.values().filter(|t| t.open).collect();
        open.sort_by_key(|t| (t.finding.severity, t.since_ms));
        open.iter()
            .map(|t| Alert {
                name: t.finding.name.to_owned(),
                severity: t.finding.severity.word().to_owned(),
                message: text::cut(&t.finding.message, text::LINE),
                hint: t.finding.hint.clone(),
                since: clock::rfc3339(t.since_ms),
            })
            .collect()
    }
}

impl Track {
    fn change(&self, opened: bool, message: String) -> Change {
        Change {
            opened,
            name: self.finding.name,
            stage: Some(self.finding.stage.clone()).filter(|s| !s.is_empty()),
            severity: self.finding.severity,
            message,
        }
    }
}
