//! Logs of the daemon: to stderr, and to one file a day in the data folder. Nothing that a stranger wrote reaches a
//! terminal or a file raw: every line passes [`clean`] after it was formatted, so no field, message, span or later
//! change of a format can go round it. Nothing here blocks a worker: both ways out have a queue and a thread of their own.
//! Called by `main`; everybody else uses `tracing` and, for errors that repeat, [`Limiter`].

mod capped;
mod clean;
mod limiter;

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pipectl_shared::config;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{Builder, Rotation};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use capped::Capped;
pub use clean::{Cleaned, clean, is_foreign};
pub use limiter::Limiter;

/// Days of log files kept.
const FILES_MAX: usize = 7;

/// Lines that wait for a slow disk or a terminal that stands still; at the usual 200 bytes about 1.6 MB. When it is full,
/// lines are dropped and counted: a log must never hold up the pipeline.
const QUEUE_LINES: usize = 8_192;

/// What stderr gets where the same lines go to a file beside it: a start and the first troubles.
const STDERR_BYTES_MAX: usize = 1 << 20;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The folder cannot be written.
    #[error("open a log file in {folder}: {source}")]
    File {
        /// Where.
        folder: String,
        /// Why not.
        source: tracing_appender::rolling::InitError,
    },
    /// Called twice in one process.
    #[error("set up logging: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the log threads running; drop it last. Dropping writes out what is queued (at most about a second for each way
/// out) and says how many lines were dropped.
#[must_use = "dropping it ends the log"]
#[derive(Debug)]
pub struct Logs {
    counters: Vec<ErrorCounter>,
    _guards: Vec<WorkerGuard>,
}

impl Logs {
    /// Lines dropped so far because a queue was full.
    pub fn dropped(&self) -> u64 {
        self.counters
            .iter()
            .map(|counter| counter.dropped_lines() as u64)
            .sum()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let dropped = self.dropped();
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "log lines were dropped because the disk or the terminal was too slow"
            );
        }
    }
}

/// Starts logging for the process: to stderr, and with `folder` also to `<folder>/pipelined.<date>.log`, one file a day,
/// the last seven kept. Where stderr is itself a file in `folder` (`pipectl up` points it there, and shows its end when
/// the start fails) it gets the first megabyte only, as nobody rotates that file. Call it once, from `main`.
pub fn init(log: &config::Log, folder: Option<&Path>) -> Result<Logs, LogError> {
    let mut logs = Logs {
        counters: Vec::new(),
        _guards: Vec::new(),
    };
    let mut layers = Vec::new();
    let stderr = std::io::stderr();
    let is_twice =
        folder.is_some_and(|folder| !stderr.is_terminal() && is_file_in(&stderr, folder));
    let writer = if is_twice {
        logs.queue(
            Capped::new(stderr, STDERR_BYTES_MAX, log.format == "json"),
            "log-stderr",
        )
    } else {
        logs.queue(stderr, "log-stderr")
    };
    layers.push(layer(log, writer));
    if let Some(folder) = folder {
        let file = Builder::new()
            .rotation(Rotation::DAILY)
            .filename_prefix("pipelined")
            .filename_suffix("log")
            .max_log_files(FILES_MAX)
            .build(folder)
            .map_err(|source| LogError::File {
                folder: folder.display().to_string(),
                source,
            })?;
        let writer = logs.queue(file, "log-file");
        layers.push(layer(log, writer));
    }
    tracing_subscriber::registry()
        .with(layers)
        .with(targets(log))
        .try_init()?;
    Ok(logs)
}

impl Logs {
    fn queue(&mut self, to: impl std::io::Write + Send + 'static, thread: &str) -> NonBlocking {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUE_LINES)
            .thread_name(thread)
            .finish(to);
        self.counters.push(writer.error_counter());
        self._guards.push(guard);
        writer
    }
}

/// A subscriber that writes to `writer` as configured: for tests and tools; `init` sets the process's own.
pub fn subscriber<W>(
    log: &config::Log,
    writer: W,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::registry()
        .with(layer(log, writer))
        .with(targets(log))
}

fn layer<W>(log: &config::Log, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let is_json = log.format == "json";
    // No colour anywhere: a log is read by tools, and every escape sequence in it would be one to tell from a stranger's.
    let plain = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Cleaned::new(writer, is_json));
    if is_json {
        plain.json().flatten_event(true).boxed()
    } else {
        plain.boxed()
    }
}

/// The configured level for our own crates; for libraries never more than warnings, unless `trace` asks for everything.
fn targets(log: &config::Log) -> Targets {
    let own: Level = log.level.parse().unwrap_or(Level::INFO);
    let others = if own == Level::TRACE {
        Level::TRACE
    } else {
        own.min(Level::WARN)
    };
    Targets::new()
        .with_default(others)
        .with_target("pipelined", own)
        .with_target("pipectl", own)
}

/// Whether an open file lies in a folder, under whatever name.
fn is_file_in(file: impl std::os::fd::AsFd, folder: &Path) -> bool {
    let Ok(file) = rustix::fs::fstat(file) else {
        return false;
    };
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let mut found = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    found.any(|entry| entry.is_file() && entry.ino() == file.st_ino && entry.dev() == file.st_dev)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(level: &str, format: &str) -> config::Log {
        config::Log {
            level: level.to_owned(),
            format: format.to_owned(),
        }
    }

    fn written(log: &config::Log, act: impl FnOnce()) -> String {
        let sink = Sink::default();
        let to = sink.clone();
        tracing::subscriber::with_default(subscriber(log, move || to.clone()), act);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "a\x1b[31mred\x1b]0;title\x07\nINFO forged\r\t\u{9b}31m\u{7f}\u{202e}olleh\u{200b}\u{e0041}\0z";

    fn tell_hostile() {
        let span = tracing::info_span!("batch", key = HOSTILE);
        let _inside = span.enter();
        tracing::info!(user = HOSTILE, debug = ?HOSTILE, shown = %HOSTILE, "{HOSTILE}");
        tracing::error!(error = &std::io::Error::other(HOSTILE) as &dyn std::error::Error);
    }

    #[test]
    fn hostile_text_cannot_leave_its_line_or_speak_to_the_terminal() {
        for format in ["text", "json"] {
            let out = written(&log("info", format), tell_hostile);
            assert_eq!(out.lines().count(), 2, "{format}: a forged line: {out:?}");
            let foreign: Vec<char> = out
                .chars()
                .filter(|c| *c != '\n' && is_foreign(*c))
                .collect();
            assert!(foreign.is_empty(), "{format}: {foreign:?} in {out:?}");
        }
    }

    #[test]
    fn json_lines_stay_json_and_give_back_what_was_said() {
        let out = written(&log("info", "json"), tell_hostile);
        let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], HOSTILE);
        assert_eq!(first["user"], HOSTILE);
        assert_eq!(first["level"], "INFO");
    }

    #[test]
    fn an_endless_message_is_cut() {
        for format in ["text", "json"] {
            let out = written(&log("info", format), || {
                tracing::info!("{}", "x\x1b".repeat(1 << 20));
            });
            assert!(out.len() < 100_000, "{format}: {} bytes", out.len());
            assert_eq!(out.lines().count(), 1);
            if format == "json" {
                serde_json::from_str::<serde_json::Value>(&out).unwrap();
            }
        }
    }

    #[test]
    fn levels_hold_for_us_and_libraries_are_kept_to_warnings() {
        let tell = || {
            tracing::debug!("ours debug");
            tracing::info!(target: "redis::aio", "library info");
            tracing::warn!(target: "redis::aio", "library warning");
        };
        let debug = written(&log("debug", "text"), tell);
        assert!(
            debug.contains("ours debug")
                && debug.contains("library warning")
                && !debug.contains("library info")
        );
        let error = written(&log("error", "text"), tell);
        assert!(error.is_empty(), "{error}");
        assert!(written(&log("trace", "text"), tell).contains("library info"));
    }

    #[test]
    fn a_file_is_found_in_its_folder_under_any_name() {
        let tmp = tempfile::tempdir().unwrap();
        let inside = std::fs::File::create(tmp.path().join("pipelined.out")).unwrap();
        assert!(is_file_in(&inside, tmp.path()));
        let elsewhere = tempfile::tempfile().unwrap();
        assert!(!is_file_in(&elsewhere, tmp.path()));
        assert!(!is_file_in(&inside, &tmp.path().join("nothing")));
    }

    #[test]
    fn a_writer_that_stands_still_costs_lines_and_no_time() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                // Ends when the test drops the other end.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        // Bound 0: only the drop of the sender is ever told.
        let (release, stuck) = std::sync::mpsc::sync_channel(0);
        let mut logs = Logs {
            counters: Vec::new(),
            _guards: Vec::new(),
        };
        let writer = logs.queue(Stuck(stuck), "log-stuck");
        tracing::subscriber::with_default(subscriber(&log("info", "text"), writer), || {
            for n in 0..QUEUE_LINES + 100 {
                tracing::info!(n, "line");
            }
        });
        assert!((98..=100).contains(&logs.dropped()), "{}", logs.dropped());
        drop(release);
    }
}
