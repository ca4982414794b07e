//! Facts of the machine and of our own process, by sysinfo and /proc. Blocking (small files, one statvfs), so the sampler
//! calls it on a blocking thread, every other second; a file system that hangs then costs a thread and no tick.
//!
//! Cheap on purpose: sysinfo is asked for our own process only and never for a list of processes, mounts or sensors.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipectl_shared::snapshot;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};

/// Window of `cpu_cores`.
const WINDOW: Duration = Duration::from_secs(10);
/// Counting open files lists a folder: every fifth reading is enough.
const FILES_EVERY: u32 = 5;

/// What was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// The machine, and what is counted of the process beside.
    pub(super) host: snapshot::Host,
    /// Resident bytes of the process.
    pub(super) rss_bytes: Option<u64>,
    /// Cores used over the last 10 s.
    pub(super) cpu_cores: Option<f64>,
}

/// Keeps what is needed between two readings.
pub(super) struct Host {
    /// `None` where sysinfo does not know the system.
    system: Option<System>,
    pid: Pid,
    data: PathBuf,
    name: String,
    /// `(time since start, CPU milliseconds)`.
    cpu: VecDeque<(Duration, u64)>,
    n_readings: u32,
    open_files: Option<u64>,
}

impl Host {
    /// `data`: the folder whose file system is watched. Reads nothing yet.
    pub(super) fn new(data: &Path) -> Self {
        Self {
            system: System::new().ok(),
            pid: Pid::from_u32(std::process::id()),
            data: data.to_owned(),
            name: System::host_name().unwrap_or_default(),
            cpu: VecDeque::new(),
            n_readings: 0,
            open_files: None,
        }
    }

    /// Reads everything; `at` is monotonic. Blocks. What cannot be read is `None`.
    pub(super) fn read(&mut self, at: Duration) -> Reading {
        let mut reading = Reading {
            host: snapshot::Host {
                name: self.name.clone(),
                ..snapshot::Host::default()
            },
            ..Reading::default()
        };
        let host = &mut reading.host;
        let mut cpu_ms = None;
        if let Some(system) = &mut self.system {
            system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            let what = ProcessRefreshKind::nothing()
                .with_cpu()
                .with_memory()
                .without_tasks();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.pid]), true, what);
            host.cores = u32::try_from(system.cpus().len()).unwrap_or(0);
            // The share needs two readings.
            let share = f64::from(system.global_cpu_usage()) / 100.0;
            host.cpu =
                (self.n_readings > 0).then(|| (share.clamp(0.0, 1.0) * 1_000.0).round() / 1_000.0);
            let total = system.total_memory();
            host.memory_total_bytes = Some(total).filter(|n| *n > 0);
            host.memory_used_bytes = host.memory_total_bytes.map(|_| system.used_memory());
            if let Some(process) = system.process(self.pid) {
                reading.rss_bytes = Some(process.memory());
                cpu_ms = Some(process.accumulated_cpu_time());
            }
        }
        reading.cpu_cores = cpu_ms.and_then(|ms| self.cores(at, ms));
        let host = &mut reading.host;
        host.load_1m = System::load_average().ok().map(|load| load.one);
        if let Ok(disk) = rustix::fs::statvfs(&self.data) {
            host.disk_free_bytes = Some(disk.f_bavail.saturating_mul(disk.f_frsize));
            host.disk_total_bytes = Some(disk.f_blocks.saturating_mul(disk.f_frsize));
        }
        if self.n_readings.is_multiple_of(FILES_EVERY) {
            self.open_files = std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| files.count() as u64);
        }
        host.open_files = self.open_files;
        host.threads = threads();
        self.n_readings = self.n_readings.wrapping_add(1);
        reading
    }

    fn cores(&mut self, at: Duration, cpu_ms: u64) -> Option<f64> {
        self.cpu.push_back((at, cpu_ms));
        // Two seconds of room: readings come every other second.
        while self
            .cpu
            .front()
            .is_some_and(|(t, _)| *t + WINDOW + Duration::from_secs(1) < at)
        {
            self.cpu.pop_front();
        }
        let (first, before) = *self.cpu.front()?;
        let span_ms = at.checked_sub(first)?.as_secs_f64() * 1_000.0;
        (span_ms > 0.0)
            .then(|| (cpu_ms.saturating_sub(before) as f64 / span_ms * 10_000.0).round() / 10_000.0)
    }
}

fn threads() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_process_are_known_on_linux() {
        let mut host = Host::new(Path::new("/"));
        let first = host.read(Duration::ZERO);
        assert_eq!(
            (first.host.cpu, first.cpu_cores),
            (None, None),
            "shares need two readings"
        );
        let second = host.read(Duration::from_secs(2));
        assert!(second.host.cores >= 1);
        assert!(second.rss_bytes.unwrap() > 1_000_000);
        assert!(second.cpu_cores.unwrap() >= 0.0);
        assert!(second.host.memory_total_bytes.unwrap() > second.host.memory_used_bytes.unwrap());
        assert!(second.host.disk_total_bytes.unwrap() >= second.host.disk_free_bytes.unwrap());
        assert!(second.host.open_files.unwrap() >= 3);
        assert!(second.host.threads.unwrap() >= 1);
        assert!(second.host.load_1m.is_some());
    }

    #[test]
    fn a_folder_that_is_gone_makes_the_disk_unknown() {
        let reading = Host::new(Path::new("/no/such/folder")).read(Duration::ZERO);
        assert_eq!(
            (reading.host.disk_free_bytes, reading.host.disk_total_bytes),
            (None, None)
        );
    }

    #[test]
    fn cores_are_taken_over_ten_seconds() {
        let mut host = Host::new(Path::new("/"));
        let mut cores = None;
        for second in (0..=30).step_by(2) {
            // Idle for 20 s, then half a core.
            let cpu_ms = if second <= 20 { 0 } else { (second - 20) * 500 };
            cores = host.cores(Duration::from_secs(second), cpu_ms);
        }
        assert_eq!(cores, Some(0.5));
    }
}
