//! Shared delivery against the raw limit: both drain the same filled stream, in turns.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::{Daemon, ONE_STAGE, TWO_STAGES};
use crate::raw::{self, Client};
use crate::report::{Goal, Report, median};
use crate::server::{Keeps, Server};
use crate::{events, host, note};

/// Entries of one read and one commit, on both sides.
const BATCH: u64 = 500;
/// Between two looks at the ledger; each takes the server some 20 us.
const LOOK: Duration = Duration::from_millis(5);
/// The least share of the raw limit.
const GOAL: f64 = 0.4;

/// One pipeline to measure.
struct Case {
    name: &'static str,
    config: &'static str,
    /// Stage whose last commits end the run.
    last: &'static str,
    sets: &'static [&'static str],
    keeps: Keeps,
}

const CASES: [Case; 4] = [
    Case {
        name: "one stage",
        config: ONE_STAGE,
        last: "count",
        sets: &["event.dedupe.window=0s"],
        keeps: Keeps::Nothing,
    },
    Case {
        name: "one stage, id window",
        config: ONE_STAGE,
        last: "count",
        sets: &[],
        keeps: Keeps::Nothing,
    },
    Case {
        name: "one stage, AOF everysec",
        config: ONE_STAGE,
        last: "count",
        sets: &["event.dedupe.window=0s"],
        keeps: Keeps::EverySecond,
    },
    Case {
        name: "two stages",
        config: TWO_STAGES,
        last: "correlate",
        sets: &["event.dedupe.window=0s"],
        keeps: Keeps::Nothing,
    },
];

/// What one run cost.
#[derive(Debug, Clone, Copy)]
struct Run {
    per_s: f64,
    /// CPU seconds a million events.
    redis_s: f64,
    client_s: f64,
}

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let (n, n_rounds) = if quick { (200_000, 2) } else { (1_000_000, 5) };
    let mut raw_runs = Vec::new();
    let mut runs: Vec<Vec<Run>> = CASES.iter().map(|_| Vec::new()).collect();
    for round in 1..=n_rounds {
        note(&format!("shared: round {round} of {n_rounds}"));
        raw_runs.push(raw_run(n)?);
        for (i, (case, runs)) in CASES.iter().zip(&mut runs).enumerate() {
            // The first is what the goal is about; the others are looked at half as often.
            if i > 0 && round % 2 == 0 {
                continue;
            }
            runs.push(ours(case, n).with_context(|| format!("shared, {}", case.name))?);
        }
    }
    let of = |runs: &[Run], pick: fn(&Run) -> f64| runs.iter().map(pick).collect::<Vec<_>>();
    report.figure(
        "shared",
        "raw limit",
        "events/s",
        of(&raw_runs, |r| r.per_s),
        Goal::None,
    );
    report.figure(
        "shared",
        "raw limit, Redis CPU",
        "s/M",
        of(&raw_runs, |r| r.redis_s),
        Goal::None,
    );
    report.figure(
        "shared",
        "raw limit, client CPU",
        "s/M",
        of(&raw_runs, |r| r.client_s),
        Goal::None,
    );
    let raw = median(&of(&raw_runs, |r| r.per_s));
    let raw_cpu = median(&of(&raw_runs, |r| r.redis_s));
    for (i, (case, runs)) in CASES.iter().zip(&runs).enumerate() {
        let rates = of(runs, |r| r.per_s);
        let ratios = rates.iter().map(|rate| rate / raw).collect();
        let name = case.name;
        report.figure("shared", name, "events/s", rates, Goal::None);
        let goal = if i == 0 {
            Goal::AtLeast(GOAL)
        } else {
            Goal::None
        };
        report.figure("shared", format!("{name} / raw"), "ratio", ratios, goal);
        let redis = of(runs, |r| r.redis_s);
        let shares = redis.iter().map(|s| raw_cpu / s).collect();
        report.figure(
            "shared",
            format!("{name}, Redis CPU"),
            "s/M",
            redis,
            Goal::None,
        );
        report.figure(
            "shared",
            format!("{name}, Redis CPU of raw / of ours"),
            "ratio",
            shares,
            Goal::None,
        );
        report.figure(
            "shared",
            format!("{name}, daemon CPU"),
            "s/M",
            of(runs, |r| r.client_s),
            Goal::None,
        );
    }
    Ok(())
}

fn raw_run(n: u64) -> Result<Run> {
    let server = Server::start(Keeps::Nothing)?;
    events::fill(&server.socket(), n)?;
    let own = std::process::id();
    let (redis, client) = (host::cpu_s(server.pid())?, host::cpu_s(own)?);
    let took = raw::drain(&server.socket(), n, BATCH)?;
    Ok(run(
        n,
        took,
        host::cpu_s(server.pid())? - redis,
        host::cpu_s(own)? - client,
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a few million events")]
fn run(n: u64, took: Duration, redis_s: f64, client_s: f64) -> Run {
    let n = n as f64;
    Run {
        per_s: n / took.as_secs_f64(),
        redis_s: redis_s / n * 1e6,
        client_s: client_s / n * 1e6,
    }
}

/// The daemon, from its first commit that is seen to its last.
fn ours(case: &Case, n: u64) -> Result<Run> {
    let server = Server::start(case.keeps)?;
    events::fill(&server.socket(), n)?;
    let daemon = Daemon::start(&server, case.config, case.sets)?;
    let mut look = Look::open(&server.socket(), case.last)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut first = None;
    let run = loop {
        let ended = look.ended()?;
        let now = Instant::now();
        match first {
            None if ended > 0 => {
                let cpu = (host::cpu_s(server.pid())?, host::cpu_s(daemon.pid())?);
                first = Some((ended, now, cpu));
            }
            Some((before, begun, (redis, client))) if ended >= n => {
                break run(
                    n - before,
                    now - begun,
                    host::cpu_s(server.pid())? - redis,
                    host::cpu_s(daemon.pid())? - client,
                );
            }
            _ => {}
        }
        ensure!(
            now < deadline,
            "only {ended} of {n} events were applied in 120 s"
        );
        std::thread::sleep(LOOK);
    };
    daemon.check_counts(n)?;
    daemon.drain()?;
    Ok(run)
}

/// Looks at the ledger of a stage, as cheaply as can be.
struct Look {
    client: Client,
    field: String,
}

impl Look {
    fn open(socket: &Path, stage: &str) -> Result<Self> {
        Ok(Self {
            client: Client::connect(socket)?,
            field: format!("{stage}:ended"),
        })
    }

    fn ended(&mut self) -> Result<u64> {
        let answer = self.client.ask(&["HGET", "{events}:ledger", &self.field])?;
        Ok(answer.and_then(|text| text.parse().ok()).unwrap_or(0))
    }
}
