//! What the daemon told, as it told it, and how old that is. Nothing is computed here that the daemon computes.

use std::collections::VecDeque;

use pipectl_shared::rpc::{Hello, Role};
use pipectl_shared::snapshot::{Event, Snapshot};

/// Events kept; older ones are in the daemon's journal file.
pub(crate) const EVENTS_MAX: usize = 1_000;

/// A Snapshot comes each second; when three are missing its figures are marked as old.
pub(crate) const STALE_MS: u64 = 3_000;

/// Two tellings of one injection are at most this far apart.
const SAME_MS: u64 = 2_000;

/// The way to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    /// Under way for the n-th time.
    Connecting {
        /// Counts from 1.
        attempt: u32,
    },
    /// The greeting came through this socket.
    Up {
        /// For people.
        socket: String,
    },
    /// Waits for its next attempt.
    Down {
        /// Why; untrusted.
        why: String,
        /// The next step; untrusted.
        hint: Option<String>,
        /// Attempts so far.
        attempt: u32,
        /// When the next begins, on the model's clock.
        retry_at_ms: u64,
    },
    /// It makes no sense to try again.
    Refused {
        /// Why; untrusted.
        why: String,
        /// The next step; untrusted.
        hint: Option<String>,
    },
}

/// How far what is shown may be trusted to be the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Nothing was ever told.
    Nothing,
    /// At most [`STALE_MS`] old.
    Live,
    /// Held by the operator since that many milliseconds.
    Frozen(u64),
    /// Connected, but nothing came for that many milliseconds.
    Stale(u64),
    /// Not connected; the last word is that many milliseconds old.
    Gone(u64),
}

/// One Snapshot and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// What was told.
    pub(crate) snapshot: Box<Snapshot>,
    /// On the model's clock.
    pub(crate) at_ms: u64,
}

/// Everything told so far that is still of use.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The way to the daemon.
    pub(crate) link: Link,
    /// The last greeting; stays while disconnected.
    pub(crate) hello: Option<Box<Hello>>,
    latest: Option<Received>,
    held: Option<Received>,
    /// The newest event when the picture was held: its time and number.
    held_event: Option<(u64, u64)>,
    /// Oldest first, each once by its number.
    pub(crate) events: VecDeque<Event>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            link: Link::Connecting { attempt: 1 },
            hello: None,
            latest: None,
            held: None,
            held_event: None,
            events: VecDeque::new(),
        }
    }
}

impl Facts {
    /// What screens draw: the newest, or what is held.
    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.held
            .as_ref()
            .or(self.latest.as_ref())
            .map(|received| &*received.snapshot)
    }

    /// The newest, held or not.
    pub(crate) fn latest(&self) -> Option<&Snapshot> {
        self.latest.as_ref().map(|received| &*received.snapshot)
    }

    /// Takes a Snapshot and the events in it.
    pub(crate) fn take(&mut self, snapshot: Box<Snapshot>, now_ms: u64) {
        for event in &snapshot.events {
            self.take_event(event.clone());
        }
        self.latest = Some(Received {
            snapshot,
            at_ms: now_ms,
        });
    }

    /// Takes an event unless it is known. Their numbers grow; a daemon that started anew counts from 1 again.
    pub(crate) fn take_event(&mut self, event: Event) {
        let known = |other: &&Event| other.seq == event.seq && other.ts_ms == event.ts_ms;
        if self.events.iter().rev().find(known).is_some() {
            return;
        }
        let at = self
            .events
            .iter()
            .rposition(|other| (other.ts_ms, other.seq) <= (event.ts_ms, event.seq))
            .map_or(0, |before| before + 1);
        self.events.insert(at, event);
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
    }

    /// When faults were injected (`true`) and taken back within a span of the daemon's clock, as far as its events and the run
    /// under way tell; the newest first. Costs a look at each event from the newest back to the span's begin.
    pub(crate) fn faults(&self, from_ms: u64, upto_ms: u64) -> Vec<(u64, bool)> {
        let told = self
            .events
            .iter()
            .rev()
            .take_while(|event| event.ts_ms >= from_ms);
        let mut faults: Vec<(u64, bool)> = told
            .filter_map(|event| match event.name.as_str() {
                "chaos.injected" => Some((event.ts_ms, true)),
                "chaos.reverted" => Some((event.ts_ms, false)),
                _ => None,
            })
            .collect();
        // Where the events are late or were pushed out by others, the run under way still knows.
        if let Some(running) = self
            .snapshot()
            .and_then(|snapshot| snapshot.status.chaos.as_ref())
        {
            let known = [(running.injected_ms, true), (running.reverted_ms, false)];
            for (ms, is_begin) in known {
                let Some(ms) = ms else { continue };
                let is_known =
                    |fault: &(u64, bool)| fault.1 == is_begin && fault.0.abs_diff(ms) < SAME_MS;
                if !faults.iter().any(is_known) {
                    faults.push((ms, is_begin));
                }
            }
        }
        faults.retain(|(ms, _)| (from_ms..=upto_ms).contains(ms));
        faults.sort_unstable_by_key(|(ms, _)| std::cmp::Reverse(*ms));
        faults
    }

    /// Holds the picture, or lets it go on.
    pub(crate) fn freeze(&mut self) {
        self.held = match self.held.take() {
            Some(_) => None,
            None => self.latest.clone(),
        };
        self.held_event = self.events.back().map(|event| (event.ts_ms, event.seq));
    }

    /// How many of the events are part of the picture, from the oldest on: all, or those from before it was held.
    pub(crate) fn n_shown_events(&self) -> usize {
        match (&self.held, self.held_event) {
            (None, _) => self.events.len(),
            (Some(_), None) => 0,
            (Some(_), Some(last)) => self
                .events
                .partition_point(|event| (event.ts_ms, event.seq) <= last),
        }
    }

    /// Lets a held picture go on.
    pub(crate) fn thaw(&mut self) {
        self.held = None;
    }

    /// Whether the picture is held.
    pub(crate) fn is_frozen(&self) -> bool {
        self.held.is_some()
    }

    /// Whether questions can be asked now.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// How old the picture is.
    pub(crate) fn freshness(&self, now_ms: u64) -> Freshness {
        if let Some(held) = &self.held {
            return Freshness::Frozen(now_ms.saturating_sub(held.at_ms));
        }
        let Some(latest) = &self.latest else {
            return Freshness::Nothing;
        };
        let age = now_ms.saturating_sub(latest.at_ms);
        if !self.is_up() {
            Freshness::Gone(age)
        } else if age > STALE_MS {
            Freshness::Stale(age)
        } else {
            Freshness::Live
        }
    }

    /// What this connection may do; `None` before the first greeting.
    pub(crate) fn role(&self) -> Option<Role> {
        self.hello.as_ref().map(|hello| hello.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, ts_ms: u64, name: &str) -> Event {
        Event {
            seq,
            ts_ms,
            level: "action".to_owned(),
            name: name.to_owned(),
            message: String::new(),
            stage: None,
        }
    }

    #[test]
    fn a_fault_is_known_once_by_its_event_or_by_the_run_under_way() {
        let mut facts = Facts::default();
        facts.take_event(event(1, 10_000, "chaos.injected"));
        facts.take_event(event(2, 20_000, "chaos.reverted"));
        facts.take_event(event(3, 30_000, "chaos.injected"));
        facts.take_event(event(4, 31_000, "stage.paused"));
        assert_eq!(facts.faults(0, 25_000), [(20_000, false), (10_000, true)]);
        let mut snapshot = Snapshot::default();
        snapshot.status.chaos = Some(pipectl_shared::chaos::Running {
            id: String::new(),
            experiment: String::new(),
            phase: pipectl_shared::chaos::Phase::After,
            started_ms: 0,
            // The same injection as that of the event, told by another clock's tick.
            injected_ms: Some(30_150),
            reverted_ms: Some(38_000),
            until_ms: None,
            targets: Vec::new(),
            by: String::new(),
        });
        facts.take(Box::new(snapshot), 0);
        let expected = [(38_000, false), (30_000, true), (20_000, false)];
        assert_eq!(facts.faults(15_000, 60_000), expected);
        assert_eq!(facts.faults(60_000, 70_000), []);
    }
}
