//! The console: from exec to its first picture, and what it takes while it is looked at and while a list is walked.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::{Daemon, TWO_STAGES};
use crate::raw::Client;
use crate::report::{Goal, Report};
use crate::server::{Keeps, Server};
use crate::terminal::Session;
use crate::{events, host, note};

const FIRST_FRAME_MS: f64 = 100.0;
/// Of one core, at its refresh rate.
const CPU_PERCENT: f64 = 1.0;
const MEMORY_MIB: f64 = 30.0;
/// At ten frames a second.
const KB_PER_S: f64 = 60.0;
/// With `--low-bandwidth`, which draws one frame a second.
const LOW_KB_PER_S: f64 = 8.0;

/// Events a second while it is looked at.
const RATE: u64 = 1_000;
/// Entries of the list that is walked.
const N_HELD: u64 = 2_000;
/// Between two keys, and so between two frames.
const KEY: Duration = Duration::from_millis(100);
/// A large terminal is the dearer one.
const LARGE: (u16, u16) = (160, 45);
const SMALL: (u16, u16) = (80, 24);

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let (n_starts, looked, walked, limit) = if quick {
        (3, Duration::from_secs(5), 20, 30 * RATE)
    } else {
        (9, Duration::from_secs(20), 100, 90 * RATE)
    };
    let server = Server::start(Keeps::Nothing)?;
    let source = format!(
        "\n[source.users]\nkind = \"generator\"\nrate = \"{RATE}/s\"\nseed = 7\nusers = 1_000\nproducts = 200\nlimit = {limit}\n"
    );
    // What the foreign consumer holds must stay with it until the end.
    let sets = ["stage.enrich.claim_after=1h"];
    let mut daemon = Daemon::start(&server, &format!("{TWO_STAGES}{source}"), &sets)?;
    daemon.wait_healthy()?;
    let held = hold(&server, &daemon)?;

    note(&format!("console: {n_starts} starts"));
    let mut first = Vec::new();
    for _ in 0..n_starts {
        let session = Session::open(&daemon.socket(), LARGE, &[])?;
        first.push(session.sees(" bench ")?.as_secs_f64() * 1e3);
        session.sees("LIVE")?;
        session.quit()?;
    }
    report.figure(
        "console",
        "exec to the first frame with the pipeline",
        "ms",
        first,
        Goal::AtMost(FIRST_FRAME_MS),
    );

    note(&format!("console: {looked:?} looked at"));
    look(report, &daemon, looked)?;
    for (name, size, args, every, goal) in [
        ("10 frames/s, 160x45", LARGE, &[][..], KEY, KB_PER_S),
        ("10 frames/s, 80x24", SMALL, &[][..], KEY, KB_PER_S),
        (
            "--low-bandwidth, 80x24",
            SMALL,
            &["--low-bandwidth"][..],
            10 * KEY,
            LOW_KB_PER_S,
        ),
    ] {
        note(&format!("console: a list walked, {name}"));
        let n_keys = if every == KEY { walked } else { walked / 10 };
        let (kb_per_s, percent) = walk(&daemon, size, args, every, n_keys, held)
            .with_context(|| format!("a list walked, {name}"))?;
        report.figure(
            "console",
            format!("a list walked, {name}"),
            "KB/s",
            vec![kb_per_s],
            Goal::AtMost(goal),
        );
        report.figure(
            "console",
            format!("a list walked, {name}, CPU"),
            "% of a core",
            vec![percent],
            Goal::None,
        );
    }
    note("console: one screen after the other");
    report.figure(
        "console",
        "another screen with each frame, 10 frames/s, 160x45",
        "KB/s",
        vec![turn(&daemon, walked)?],
        Goal::AtMost(KB_PER_S),
    );
    // What was looked at was right: everything is counted once.
    daemon.wait_accepted(limit + N_HELD)?;
    daemon.pipectl(&["pending", "claim", "--consumer", "ghost", "--yes"])?;
    daemon.check_counts(limit + N_HELD)?;
    daemon.drain()
}

/// Lets a foreign consumer take entries that it never acknowledges, so that there is a long list; how long it is.
fn hold(server: &Server, daemon: &Daemon) -> Result<u64> {
    daemon.pipectl(&["pause", "enrich"])?;
    // A read that is under way waits half a second for entries.
    std::thread::sleep(Duration::from_secs(1));
    events::fill(&server.socket(), N_HELD)?;
    let n = (N_HELD * 2).to_string();
    Client::connect(&server.socket())?.tell(&[
        "XREADGROUP",
        "GROUP",
        "event_group",
        "ghost",
        "COUNT",
        &n,
        "STREAMS",
        "events",
        ">",
    ])?;
    daemon.pipectl(&["resume", "enrich"])?;
    // Consumers are told once a second.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let consumers = daemon.pipectl(&["consumers", "ls"])?;
        let mut rows = consumers["rows"].as_array().into_iter().flatten();
        let held = rows
            .find(|row| row["name"] == "ghost")
            .and_then(|row| row["pending"].as_u64());
        if let Some(held) = held.filter(|held| *held >= N_HELD) {
            return Ok(held);
        }
        ensure!(
            Instant::now() < deadline,
            "the foreign consumer holds {held:?} and not {N_HELD} entries"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What it takes while nobody touches it and the pipeline works.
fn look(report: &mut Report, daemon: &Daemon, looked: Duration) -> Result<()> {
    let mut session = Session::open(&daemon.socket(), LARGE, &[])?;
    session.sees("LIVE")?;
    // The first pictures are dearer than the rest.
    std::thread::sleep(Duration::from_secs(2));
    let (before, bytes) = (host::cpu_s(session.pid())?, session.n_bytes());
    let begun = Instant::now();
    std::thread::sleep(looked);
    let took = begun.elapsed().as_secs_f64();
    let percent = (host::cpu_s(session.pid())? - before) / took * 100.0;
    let written = session.n_bytes() - bytes;
    ensure!(written > 0, "nothing was drawn in {looked:?}");
    session.sees("LIVE")?;
    report.figure(
        "console",
        "looked at, 1,000 events/s, 160x45, CPU",
        "% of a core",
        vec![percent],
        Goal::AtMost(CPU_PERCENT),
    );
    report.figure(
        "console",
        "looked at, written",
        "KB/s",
        vec![kilobytes(written) / took],
        Goal::AtMost(KB_PER_S),
    );
    // Every screen once, so that its memory is that of a console in use.
    for group in ["1", "2", "3", "4", "5", "6"] {
        for key in [group, "\t", "\t", "\t", "?", "\u{1b}"] {
            session.press(key)?;
            std::thread::sleep(KEY);
        }
    }
    session.sees("LIVE")?;
    report.figure(
        "console",
        "most memory, every screen visited",
        "MiB",
        vec![host::mib(session.pid(), "VmHWM")?],
        Goal::AtMost(MEMORY_MIB),
    );
    session.quit()
}

/// Walks down a list whose rows all move with each key: kilobytes a second, and percent of a core.
fn walk(
    daemon: &Daemon,
    size: (u16, u16),
    args: &[&str],
    every: Duration,
    n_keys: u64,
    held: u64,
) -> Result<(f64, f64)> {
    let mut session = Session::open(&daemon.socket(), size, args)?;
    session.sees("LIVE")?;
    session.press("2")?;
    session.press("p")?;
    session.sees("[Pending]")?;
    session.press("/")?;
    session.press("consumer=ghost\r")?;
    // Walking never goes beyond what is there; the daemon does not count for a filter how many that is.
    ensure!(held > n_before(size) + n_keys, "too short a list");
    // The first page of what the filter lets through, and not what stood there before: keys for rows that are still to
    // come move nothing.
    session.sees("filter: consumer=ghost")?;
    session.sees(" 1 of 200+")?;
    // Far enough down that the cursor stays in the middle and the rows move.
    for _ in 0..n_before(size) {
        session.press("j")?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let at = 1 + n_before(size);
    session.sees(&format!(" {at} of "))?;
    let (before, bytes) = (host::cpu_s(session.pid())?, session.n_bytes());
    let begun = Instant::now();
    for n in 1..=n_keys {
        session.press("j")?;
        let due = begun + every * u32::try_from(n)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed().as_secs_f64();
    let percent = (host::cpu_s(session.pid())? - before) / took * 100.0;
    let written = session.n_bytes() - bytes;
    // Each key was answered.
    session.sees(&format!(" {} of ", at + n_keys))?;
    session.quit()?;
    Ok((kilobytes(written) / took, percent))
}

/// Goes from screen to screen, the worst that a person can do to the line: kilobytes a second.
fn turn(daemon: &Daemon, n_keys: u64) -> Result<f64> {
    let mut session = Session::open(&daemon.socket(), LARGE, &[])?;
    session.sees("LIVE")?;
    let bytes = session.n_bytes();
    let begun = Instant::now();
    for n in 1..=n_keys {
        session.press(["1", "2", "3", "4", "5", "6", "\t"][usize::try_from(n % 7)?])?;
        let due = begun + KEY * u32::try_from(n)?;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed().as_secs_f64();
    let written = session.n_bytes() - bytes;
    session.quit()?;
    Ok(kilobytes(written) / took)
}

fn n_before(size: (u16, u16)) -> u64 {
    u64::from(size.1)
}

#[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
fn kilobytes(n: u64) -> f64 {
    n as f64 / 1e3
}
