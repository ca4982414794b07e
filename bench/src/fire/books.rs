//! The producers' record against everything that the product and Redis say at the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value as Json;

use super::house::{GROUPS, HOP, House};
use super::load::{N_PRODUCTS, N_SESSIONS, Record, TYPES, classes};
use super::resp::{Client, Value};
use super::trial::Field;
use crate::daemon::Daemon;
use crate::report::Goal;

/// Entries of one page of a stream.
const PAGE: &str = "5000";
const SETTLED: &str = "180s";

/// A lag that Redis does not know, as a number that cannot be missed.
const UNKNOWN: u64 = 1_000_000_000;

/// How often each event of the record is in a stream, by producer and number.
pub(crate) struct Tally {
    pub(crate) times: Vec<Vec<u16>>,
    /// Entries of nobody's.
    pub(crate) foreign: u64,
}

impl Tally {
    /// Reads the whole stream.
    pub(crate) fn of(client: &mut Client, stream: &str, record: &Record) -> Result<Self> {
        let mut tally = Self {
            times: record.sent.iter().map(|sent| vec![0; sent.len()]).collect(),
            foreign: 0,
        };
        let mut from = "-".to_owned();
        loop {
            let page = client.call(&["XRANGE", stream, &from, "+", "COUNT", PAGE])?;
            let Some(last) = page.items().last() else {
                return Ok(tally);
            };
            from = format!("({}", last.items().first().context("an entry")?.text());
            for entry in page.items() {
                let id = match entry.items().get(1).and_then(|f| f.get("event_id")) {
                    Some(Value::Text(id)) => record.place(id),
                    _ => None,
                };
                match id {
                    Some((producer, n)) => tally.times[producer][n] += 1,
                    None => tally.foreign += 1,
                }
            }
        }
    }

    pub(crate) fn has(&self, producer: usize, n: usize) -> bool {
        self.times[producer][n] > 0
    }
}

/// What should have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// Every event that is in the source stream; nobody took any out.
    Stream,
    /// Every event that the first stage has handed on: the source was cut by somebody. Events that were acknowledged and
    /// not handed on are `not_applied`, and must be declared lost.
    Hop,
}

/// The comparison.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) acked: u64,
    /// Acknowledged, and not in the source stream.
    pub(crate) gone: u64,
    /// Acknowledged, and not handed on by the first stage.
    pub(crate) not_applied: u64,
    /// In the source, and not in effect.
    pub(crate) lost: u64,
    /// Effects beyond one of an event.
    pub(crate) doubled: u64,
    /// Refused and never acknowledged nor doubtful, and there all the same.
    pub(crate) false_refusals: u64,
    /// Entries of nobody's.
    pub(crate) foreign: u64,
    pub(crate) pending: u64,
    pub(crate) lag: u64,
    pub(crate) names: Vec<String>,
    pub(crate) ledger: Json,
    /// When those that are not in the source were acknowledged, in milliseconds since the load's begin.
    pub(crate) gone_ms: Vec<u32>,
}

impl Books {
    /// Waits until all is settled and compares. `daemon` is any that runs.
    pub(crate) fn settle(
        house: &House,
        daemon: &Daemon,
        record: &Record,
        against: Against,
    ) -> Result<Self> {
        Self::settle_but(house, daemon, record, against, |_| false)
    }

    /// The same, where events of these numbers must not take effect at all.
    pub(crate) fn settle_but(
        house: &House,
        daemon: &Daemon,
        record: &Record,
        against: Against,
        is_poison: fn(usize) -> bool,
    ) -> Result<Self> {
        let ledger = daemon.pipectl(&["ledger", "--wait-settled", "--timeout", SETTLED])?;
        let mut client = house.client()?;
        let source = Tally::of(&mut client, "events", record)?;
        let hop = Tally::of(&mut client, HOP, record)?;
        let mut books = Self {
            acked: record.acked(),
            ledger,
            foreign: source.foreign + hop.foreign,
            ..Self::default()
        };
        let mut wanted = Sums::new();
        for (producer, sent) in record.sent.iter().enumerate() {
            for (n, event) in sent.iter().enumerate() {
                let (is_in, times) = (source.has(producer, n), hop.times[producer][n]);
                if let Some(ms) = event.acked_ms {
                    if !is_in {
                        books.gone += 1;
                        books.gone_ms.push(ms);
                    }
                    books.not_applied += u64::from(times == 0);
                } else if event.was_refused && !event.is_doubtful && is_in {
                    books.false_refusals += 1;
                }
                let should = !is_poison(n)
                    && match against {
                        Against::Stream => is_in,
                        Against::Hop => times > 0,
                    };
                books.lost += u64::from(should && times == 0);
                books.doubled += u64::from(times.saturating_sub(u16::from(should)));
                if should {
                    wanted.add(n);
                }
            }
        }
        let (missing, extra) = wanted.compare(&Sums::read(&mut client)?);
        books.lost += missing;
        books.doubled += extra;
        // After a restart on its append-only file Redis tells a wrong lag until the daemon's next round of housekeeping;
        // the trial `groups` measures how long.
        let deadline = Instant::now() + SETTLE_MAX;
        loop {
            (books.pending, books.lag) = (0, 0);
            for (stream, group) in GROUPS {
                let state = group_state(&mut client, stream, group)?;
                books.pending += state.pending;
                books.lag += state.lag.unwrap_or(UNKNOWN);
            }
            if books.pending + books.lag == 0 || Instant::now() > deadline {
                return Ok(books);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Consumers that every daemon left behind when it had drained; the one called `parked` is no daemon's.
    pub(crate) fn names_left(&mut self, house: &House) -> Result<()> {
        let mut client = house.client()?;
        for (stream, group) in GROUPS {
            for row in client.call(&["XINFO", "CONSUMERS", stream, group])?.items() {
                let name = row.get("name").map(Value::text).unwrap_or_default();
                if name != "parked" {
                    self.names.push(name);
                }
            }
        }
        Ok(())
    }

    /// A number of the ledger.
    pub(crate) fn ledger(&self, name: &str) -> u64 {
        self.ledger[name].as_u64().unwrap_or(0)
    }

    /// The base invariants as figures.
    #[expect(clippy::cast_precision_loss, reason = "a few million events")]
    pub(crate) fn tell(&self, field: &mut Field<'_>, what: &str) {
        let row = |field: &mut Field<'_>, name: &str, n: u64| {
            field.figure(
                &format!("{what}{name}"),
                "events",
                n as f64,
                Goal::AtMost(0.0),
            );
        };
        field.figure(
            &format!("{what}acknowledged to producers"),
            "events",
            self.acked as f64,
            Goal::AtLeast(1.0),
        );
        row(field, "lost", self.lost);
        row(field, "doubled", self.doubled);
        row(field, "left pending, or lag", self.pending + self.lag);
        let wrong = u64::from(self.ledger["balanced"] != true)
            + self.ledger("unaccounted")
            + self.ledger("duplicated")
            + self.foreign;
        if wrong > 0 {
            field.say(&format!("the ledger: {}", self.ledger));
        }
        row(field, "unexplained in the ledger", wrong);
        if !self.names.is_empty() {
            field.say(&format!("consumers left behind: {:?}", self.names));
        }
        row(field, "consumer names left behind", self.names.len() as u64);
    }
}

/// What XINFO GROUPS says of one group.
pub(crate) struct GroupState {
    pub(crate) pending: u64,
    /// Nothing = Redis does not know.
    pub(crate) lag: Option<u64>,
}

pub(crate) fn group_state(client: &mut Client, stream: &str, group: &str) -> Result<GroupState> {
    let groups = client.call(&["XINFO", "GROUPS", stream])?;
    let mut rows = groups.items().iter();
    let row = rows.find(|row| row.get("name").is_some_and(|name| name.text() == group));
    let row = row.with_context(|| format!("{stream} has no group {group}"))?;
    Ok(GroupState {
        pending: row.get("pending").map_or(0, Value::number),
        lag: match row.get("lag") {
            Some(Value::Int(n)) => u64::try_from(*n).ok(),
            _ => None,
        },
    })
}

/// Counts by type, product and session.
struct Sums([Vec<u64>; 3]);

impl Sums {
    fn new() -> Self {
        Self([
            vec![0; TYPES.len()],
            vec![0; N_PRODUCTS],
            vec![0; N_SESSIONS],
        ])
    }

    fn add(&mut self, n: usize) {
        for (sums, class) in self.0.iter_mut().zip(classes(n)) {
            sums[class] += 1;
        }
    }

    /// What the product has counted, from its keys.
    fn read(client: &mut Client) -> Result<Self> {
        let mut sums = Self::new();
        let counts = client.call(&["HGETALL", "{events}:counts"])?;
        for pair in counts.items().chunks_exact(2) {
            let name = pair[0].text();
            let inner = |prefix| name.strip_prefix(prefix)?.strip_suffix(":count");
            if let Some(kind) = inner("type:") {
                let at = TYPES.iter().position(|known| *known == kind);
                sums.0[0][at.with_context(|| format!("a type {kind:?} of nobody's"))?] +=
                    pair[1].number();
            } else if let Some(product) = inner("product:") {
                let at = product
                    .strip_prefix('p')
                    .and_then(|n| n.parse::<usize>().ok());
                let cell = at.and_then(|at| sums.0[1].get_mut(at));
                *cell.with_context(|| format!("a product {product:?} of nobody's"))? +=
                    pair[1].number();
            }
        }
        // A session is in both generations while it passes from the one to the other; the sum counts.
        for key in ["{events}:sessions:0", "{events}:sessions:1"] {
            let sessions = client.call(&["HGETALL", key])?;
            for pair in sessions.items().chunks_exact(2) {
                let name = pair[0].text();
                let Some(at) = session(&name) else { continue };
                if let Some(cell) = sums.0[2].get_mut(at) {
                    *cell += pair[1].number();
                }
            }
        }
        Ok(sums)
    }

    /// Events that are missing and that are too many in `actual`: at least as many as the worst of the three says.
    fn compare(&self, actual: &Self) -> (u64, u64) {
        let (mut missing, mut extra) = (0, 0);
        for (wanted, actual) in self.0.iter().zip(&actual.0) {
            let pairs = || wanted.iter().zip(actual);
            missing = missing.max(pairs().map(|(w, a)| w.saturating_sub(*a)).sum());
            extra = extra.max(pairs().map(|(w, a)| a.saturating_sub(*w)).sum());
        }
        (missing, extra)
    }
}

/// The number of the session that a field counts events of.
fn session(field: &str) -> Option<usize> {
    let rest = field.strip_prefix("session:").unwrap_or(field);
    let rest = rest.strip_suffix(":count").unwrap_or(rest);
    rest.strip_prefix('s')?.parse().ok()
}

/// Longest wait between the last daemon's start and everything being settled.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_lost_and_another_counted_twice_is_seen_by_its_classes() {
        let mut wanted = Sums::new();
        (0..10_000).for_each(|n| wanted.add(n));
        let mut actual = Sums::new();
        (0..10_000).for_each(|n| actual.add(n));
        assert_eq!(wanted.compare(&actual), (0, 0));
        // In place of event 7 one of the same type and product is there twice: sessions tell.
        let twin = 7 + TYPES.len() * N_PRODUCTS;
        let mut actual = Sums::new();
        (0..10_000).filter(|n| *n != 7).for_each(|n| actual.add(n));
        actual.add(twin);
        assert_eq!(wanted.compare(&actual), (1, 1));
    }

    #[test]
    fn sessions_are_known_by_their_field() {
        assert_eq!(session("s12"), Some(12));
        assert_eq!(session("session:s12:count"), Some(12));
        assert_eq!(session("other"), None);
    }
}
