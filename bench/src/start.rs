//! From exec to the first answer that says healthy.

use anyhow::{Context as _, Result};

use crate::daemon::{Daemon, ONE_STAGE};
use crate::note;
use crate::report::{Goal, Report};
use crate::server::{Keeps, Server};

/// With Redis up.
const GOAL_MS: f64 = 300.0;

pub(crate) fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let n_rounds = if quick { 3 } else { 9 };
    note(&format!("start: {n_rounds} rounds"));
    let mut external = Vec::new();
    let mut managed = Vec::new();
    for _ in 0..n_rounds {
        let server = Server::start(Keeps::Nothing)?;
        let mut daemon = Daemon::start(&server, ONE_STAGE, &[])?;
        external.push(daemon.wait_healthy()?.as_secs_f64() * 1e3);
        daemon.check_counts(0)?;
        daemon.drain()?;

        let dir = tempfile::Builder::new()
            .prefix("pipelined-bench-")
            .tempdir()
            .context("make a temporary folder")?;
        let mut daemon = Daemon::start_in(dir.path(), ONE_STAGE, &[])?;
        managed.push(daemon.wait_healthy()?.as_secs_f64() * 1e3);
        // Draining stops the managed server too.
        daemon.drain()?;
    }
    report.figure(
        "start",
        "to healthy, Redis up",
        "ms",
        external,
        Goal::AtMost(GOAL_MS),
    );
    report.figure(
        "start",
        "to healthy, managed Redis started too",
        "ms",
        managed,
        Goal::None,
    );
    Ok(())
}
