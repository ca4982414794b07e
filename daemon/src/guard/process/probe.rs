//! Probes: ten questions a second to the control socket, each at its own time whatever became of those before, so that an
//! outage counts with all the questions that fell into it. And an ear for what the daemon says of itself.
//!
//! A good answer is a right one within 250 ms, or a refusal that says how to go on (`Busy`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipectl_shared::rpc::Code;
use pipectl_shared::snapshot::{Ledger, Status};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::{Clock as _, System};

/// Between two probes.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// A good answer is there within this.
const GOOD: Duration = Duration::from_millis(250);
/// An event that is told later than this after it happened is no signal of now.
const FRESH_MS: u64 = 2_000;
/// Longest line of the socket (contract.md).
const LINE_MAX: u64 = 1 << 20;

/// One probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    /// When it was due.
    pub(super) due: Instant,
    /// Whether the answer was good.
    pub(super) good: bool,
}

/// All probes, and what the daemon said.
#[derive(Clone, Default)]
pub(super) struct Probes(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    probes: Vec<Probe>,
    /// Unusual things that the daemon said by itself.
    signals: Vec<(Instant, String)>,
    /// Largest resident memory that it told, bytes.
    rss: u64,
    /// What it said last, and when.
    status: Option<(Instant, Status)>,
    /// Most entries that the ledger could not account for, in a row of three looks.
    unaccounted: i64,
    unaccounted_looks: u32,
    lost_at_first: Option<u64>,
}

impl Probes {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those from the `n`-th on, in order of their due times as far as they are answered.
    pub(super) fn all(&self) -> Vec<Probe> {
        let mut probes = self.lock().probes.clone();
        probes.sort_by_key(|probe| probe.due);
        probes
    }

    /// The first unusual thing that it said after then.
    pub(super) fn signal_after(&self, from: Instant) -> Option<(Instant, String)> {
        let state = self.lock();
        state.signals.iter().find(|(at, _)| *at >= from).cloned()
    }

    /// Whether it said this after then.
    pub(super) fn said_after(&self, what: &str, from: Instant) -> bool {
        let state = self.lock();
        state
            .signals
            .iter()
            .any(|(at, said)| *at >= from && said == what)
    }

    /// Lost entries in the first ledger that it told.
    pub(super) fn lost_at_first(&self) -> u64 {
        self.lock().lost_at_first.unwrap_or(0)
    }

    /// What it said last, if that is not older than `limit`.
    pub(super) fn status(&self, limit: Duration) -> Option<Status> {
        let state = self.lock();
        let (at, status) = state.status.as_ref()?;
        (at.elapsed() <= limit).then(|| status.clone())
    }

    /// Largest resident memory, bytes; `None` = it never told.
    pub(super) fn rss(&self) -> Option<u64> {
        Some(self.lock().rss).filter(|rss| *rss > 0)
    }

    /// What the ledger could not account for over at least three looks in a row, at worst.
    pub(super) fn unaccounted(&self) -> i64 {
        self.lock().unaccounted
    }

    /// Asks ten times a second. Cancel-safe.
    pub(super) async fn run(self, socket: PathBuf) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut asked = JoinSet::new();
        loop {
            let due = ticks.tick().await;
            let (probes, socket) = (self.clone(), socket.clone());
            asked.spawn(async move {
                let good = tokio::time::timeout_at(due + GOOD, is_good(&socket)).await;
                let good = good.unwrap_or(false);
                probes.lock().probes.push(Probe { due, good });
            });
            while asked.try_join_next().is_some() {}
        }
    }

    /// Listens to what the daemon says, and connects again when it is gone. Cancel-safe.
    pub(super) async fn listen(self, socket: PathBuf) {
        loop {
            let heard = self.hear(&socket).await;
            if heard.is_err() {
                tokio::time::sleep(EVERY / 2).await;
            }
        }
    }

    async fn hear(&self, socket: &Path) -> std::io::Result<()> {
        let mut line = Line::open(socket).await?;
        line.ask(1, "events.watch", &json!({})).await?;
        line.ask(
            2,
            "stats.watch",
            &json!({"interval_ms": 1000, "preset": "line"}),
        )
        .await?;
        loop {
            let said = line.next().await?;
            let now = Instant::now();
            match said["method"].as_str() {
                Some("event") => self.event(now, &said["params"]),
                Some("stats") => self.stats(now, &said["params"]),
                _ => {}
            }
        }
    }

    fn event(&self, now: Instant, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let (level, name) = (text("level"), text("name"));
        // What is told again after a reconnection is old.
        let age_ms = System
            .now_ms()
            .saturating_sub(event["ts_ms"].as_u64().unwrap_or(0));
        let is_unusual = matches!(level.as_str(), "warning" | "error");
        if is_unusual && age_ms < FRESH_MS && !name.starts_with("chaos.") {
            self.lock().signals.push((now, format!("event {name}")));
        }
    }

    fn stats(&self, now: Instant, params: &Value) {
        let status = params.get("status").unwrap_or(params);
        let Ok(status) = serde_json::from_value::<Status>(status.clone()) else {
            return;
        };
        let mut state = self.lock();
        if !status.healthy {
            let why = status.reason.clone().unwrap_or_default();
            let text = if status.redis.state == "up" {
                format!("state {:?}: {why}", status.state).to_lowercase()
            } else {
                format!("redis {}", status.redis.state)
            };
            state.signals.push((now, text));
        }
        let seen = state
            .status
            .as_ref()
            .map(|(_, before)| before.alerts.clone())
            .unwrap_or_default();
        for alert in &status.alerts {
            if seen.iter().all(|old| old.name != alert.name) {
                state.signals.push((now, format!("alert {}", alert.name)));
            }
        }
        state.rss = state.rss.max(status.daemon.rss_bytes.unwrap_or(0));
        let off = status
            .ledger
            .as_ref()
            .map_or(0, |ledger| ledger.unaccounted.abs());
        state.unaccounted_looks = if off == 0 {
            0
        } else {
            state.unaccounted_looks + 1
        };
        if state.unaccounted_looks >= 3 {
            state.unaccounted = state.unaccounted.max(off);
        }
        let lost = status.ledger.as_ref().map(|ledger| ledger.lost);
        state.lost_at_first = state.lost_at_first.or(lost);
        state.status = Some((now, status));
    }
}

async fn is_good(socket: &Path) -> bool {
    let answer = async {
        let mut line = Line::open(socket).await?;
        line.ask(1, "status.get", &json!({})).await?;
        line.answer(1).await
    };
    match answer.await {
        Ok(Ok(status)) => status["pipeline"].is_string() && status["stages"].is_array(),
        Ok(Err(code)) => code == Code::Busy as i64,
        Err(_) => false,
    }
}

/// The product's ledger as of now; `None` = no answer within ten seconds.
pub(super) async fn ledger(socket: &Path) -> Option<Ledger> {
    let answer = async {
        let mut line = Line::open(socket).await?;
        line.ask(1, "ledger.get", &json!({})).await?;
        line.answer(1).await
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), answer)
        .await
        .ok()?;
    serde_json::from_value(answer.ok()?.ok()?).ok()
}

/// One connection to the control socket.
struct Line {
    reader: BufReader<tokio::net::unix::OwnedReadHalf>,
    writer: tokio::net::unix::OwnedWriteHalf,
}

impl Line {
    async fn open(socket: &Path) -> std::io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let mut line = Self {
            reader: BufReader::new(reader),
            writer,
        };
        line.next().await?;
        Ok(line)
    }

    async fn ask(&mut self, id: u64, method: &str, params: &Value) -> std::io::Result<()> {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.writer
            .write_all(format!("{request}\n").as_bytes())
            .await
    }

    /// The next line; a longer one than the contract allows, or no JSON, is an error.
    async fn next(&mut self) -> std::io::Result<Value> {
        let mut text = String::new();
        let n = (&mut self.reader)
            .take(LINE_MAX)
            .read_line(&mut text)
            .await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&text).map_err(|_| std::io::ErrorKind::InvalidData.into())
    }

    /// The answer to request `id`: its result, or the code of its refusal.
    async fn answer(&mut self, id: u64) -> std::io::Result<Result<Value, i64>> {
        loop {
            let mut said = self.next().await?;
            if said["id"].as_u64() == Some(id) {
                let refusal = said["error"]["code"].as_i64();
                return Ok(match refusal {
                    Some(code) => Err(code),
                    None => Ok(said["result"].take()),
                });
            }
        }
    }
}
