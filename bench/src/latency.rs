//! From an event's intended time to the commit that counts it, at 10,000 events a second.
//!
//! The generator is an open loop: `_t` is when the event was meant to happen, so a stall is not hidden. The daemon's own
//! histogram is read after the warm-up and at the end, and the one is taken from the other.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::daemon::{Daemon, ONE_STAGE, TWO_STAGES};
use crate::note;
use crate::report::{Goal, Report};
use crate::server::{Keeps, Server};

/// Events a second.
const RATE: u64 = 10_000;
/// Greatest p99 with one stage.
const GOAL_MS: f64 = 5.0;
const WARM_UP: Duration = Duration::from_secs(3);

/// The generator of this measurement; `limit` events, then it ends and the counts can be checked.
fn source(limit: u64) -> String {
    format!(
        "\n[source.users]\nkind = \"generator\"\nrate = \"{RATE}/s\"\nseed = 7\nusers = 1_000\nproducts = 200\nlimit = {limit}\n"
    )
}

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let (seconds, n_rounds) = if quick { (5, 1) } else { (12, 3) };
    for (name, config, goal) in [
        ("one stage", ONE_STAGE, Goal::AtMost(GOAL_MS)),
        ("two stages", TWO_STAGES, Goal::None),
    ] {
        let mut p50 = Vec::new();
        let mut p99 = Vec::new();
        let mut p999 = Vec::new();
        let mut cpu = Vec::new();
        for round in 1..=n_rounds {
            note(&format!("latency: {name}, round {round} of {n_rounds}"));
            let (values, daemon_s) =
                run(config, seconds).with_context(|| format!("latency, {name}"))?;
            let at = |quantile| ms(values.value_at_quantile(quantile));
            p50.push(at(0.5));
            p99.push(at(0.99));
            p999.push(at(0.999));
            cpu.push(daemon_s);
        }
        report.figure(
            "latency",
            format!("{name}, 10 k/s, p50"),
            "ms",
            p50,
            Goal::None,
        );
        report.figure("latency", format!("{name}, 10 k/s, p99"), "ms", p99, goal);
        report.figure(
            "latency",
            format!("{name}, 10 k/s, p99.9"),
            "ms",
            p999,
            Goal::None,
        );
        report.figure(
            "latency",
            format!("{name}, 10 k/s, daemon and generator"),
            "cores",
            cpu,
            Goal::None,
        );
    }
    Ok(())
}

fn run(config: &str, seconds: u64) -> Result<(Histogram<u64>, f64)> {
    let limit = RATE * (WARM_UP.as_secs() + seconds + 2);
    let server = Server::start(Keeps::Nothing)?;
    let mut daemon = Daemon::start(&server, &format!("{config}{}", source(limit)), &[])?;
    daemon.wait_healthy()?;
    std::thread::sleep(WARM_UP);
    let before = end_to_end(&daemon)?;
    let cpu = crate::host::cpu_s(daemon.pid())?;
    let begun = std::time::Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let mut after = end_to_end(&daemon)?;
    let daemon_s = (crate::host::cpu_s(daemon.pid())? - cpu) / begun.elapsed().as_secs_f64();
    after
        .subtract(&before)
        .ok()
        .context("take the warm-up from the histogram")?;
    let least = RATE * seconds * 9 / 10;
    ensure!(
        after.len() >= least,
        "only {} events were measured in {seconds} s, at {RATE} a second: the machine is too busy",
        after.len()
    );
    daemon.wait_accepted(limit)?;
    daemon.check_counts(limit)?;
    daemon.drain()?;
    Ok((after, daemon_s))
}

/// The histogram of the last minute, which is everything so far: a run is shorter than a minute.
pub(crate) fn end_to_end(daemon: &Daemon) -> Result<Histogram<u64>> {
    let answer = daemon.pipectl(&["latency", "--stage", "pipeline"])?;
    let row = answer["rows"]
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["measure"] == "end_to_end"))
        .context("there is no end-to-end latency")?;
    ensure!(
        row["out_of_range"] == 0,
        "{} latencies were out of range",
        row["out_of_range"]
    );
    let hdr = row["hdr"].as_str().context("there is no histogram")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(hdr)
        .context("read the histogram")?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| anyhow::anyhow!("read the histogram: {error:?}"))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "at most a minute in microseconds"
)]
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}
