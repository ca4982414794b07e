//! Memory and CPU of the daemon, doing nothing and draining at full speed.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::daemon::{Daemon, ONE_STAGE, TWO_STAGES};
use crate::report::{Goal, Report};
use crate::server::{Keeps, Server};
use crate::{events, host, note};

const IDLE_MIB: f64 = 40.0;
const LOADED_MIB: f64 = 100.0;
/// Of one core.
const IDLE_CPU_PERCENT: f64 = 0.5;
/// What a start leaves to be done is done by then.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let (idle, n) = if quick {
        (Duration::from_secs(5), 200_000)
    } else {
        (Duration::from_secs(30), 1_000_000)
    };
    for (name, config) in [("one stage", ONE_STAGE), ("two stages", TWO_STAGES)] {
        note(&format!("memory: {name}, {idle:?} idle, then loaded"));
        let server = Server::start(Keeps::Nothing)?;
        let mut daemon = Daemon::start(&server, config, &[])?;
        daemon.wait_healthy()?;
        std::thread::sleep(SETTLE);
        let (ours, redis) = (host::cpu_s(daemon.pid())?, host::cpu_s(server.pid())?);
        let begun = Instant::now();
        std::thread::sleep(idle);
        let took = begun.elapsed().as_secs_f64();
        let percent =
            |before: f64, pid| Ok::<_, anyhow::Error>((host::cpu_s(pid)? - before) / took * 100.0);
        let (ours, redis) = (percent(ours, daemon.pid())?, percent(redis, server.pid())?);
        let rss = host::mib(daemon.pid(), "VmRSS")?;
        events::fill(&server.socket(), n)?;
        daemon.check_counts(n)?;
        let peak = host::mib(daemon.pid(), "VmHWM")?;
        daemon.drain()?;
        report.figure(
            "memory",
            format!("{name}, idle"),
            "MiB",
            vec![rss],
            Goal::AtMost(IDLE_MIB),
        );
        report.figure(
            "memory",
            format!("{name}, most under load"),
            "MiB",
            vec![peak],
            Goal::AtMost(LOADED_MIB),
        );
        report.figure(
            "memory",
            format!("{name}, idle CPU"),
            "% of a core",
            vec![ours],
            Goal::AtMost(IDLE_CPU_PERCENT),
        );
        report.figure(
            "memory",
            format!("{name}, idle CPU of Redis"),
            "% of a core",
            vec![redis],
            Goal::None,
        );
    }
    Ok(())
}
