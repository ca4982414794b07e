//! The machine, and what processes take of it, from /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// Ticks a second in /proc: 100 on every architecture of Linux that we run on.
const TICKS: f64 = 100.0;

/// CPU seconds that a process has used, of all its threads.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let stat =
        fs::read_to_string(format!("/proc/{pid}/stat")).context("read the times of a process")?;
    // The name may hold spaces; what follows its last parenthesis does not. utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = 0.0;
    for field in rest.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<f64>().context("the times of a process")?;
    }
    Ok(ticks / TICKS)
}

/// A line of /proc/PID/status in MiB: `VmRSS` now, `VmHWM` at most so far.
pub(crate) fn mib(pid: u32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .context("read the memory of a process")?;
    status
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .map(|kib| kib / 1024.0)
        .with_context(|| format!("{line} of process {pid}"))
}

/// `2 x AMD EPYC`.
pub(crate) fn machine() -> (usize, String) {
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|l| l.strip_prefix("model name"))
                .map(|l| l.trim_start_matches([' ', '\t', ':']).to_owned())
        })
        .unwrap_or_else(|| "unknown".to_owned());
    (n, model)
}

/// Processes that wanted to run in the last minute: above the number of processors somebody else is measured too.
pub(crate) fn load() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
