//! `pipelined-bench`: measures the real binaries and the limits beneath them, and exits 1 when a goal is missed.
//!
//! Each measurement has private servers in a folder of its own under the temporary folder, and checks its counts: a fast
//! wrong answer is a failure. Synchronous on purpose: what measures takes as little of the machine as it can.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use crate::report::Report;
use crate::{console, durability, latency, memory, note, shared, start};

/// Measures pipelined; exit 0 when every goal was met and every count was right, 1 otherwise, 2 for bad usage.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
struct Args {
    /// What to measure; everything when absent.
    names: Vec<Name>,
    /// Fewer rounds and shorter: to see whether it works. Its figures are no figures.
    #[arg(long)]
    quick: bool,
    /// How to write the result; progress goes to stderr.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Shared delivery against the raw limit, draining a filled stream.
    Shared,
    /// Event to aggregate at 10,000 events a second.
    Latency,
    /// From exec to healthy.
    Start,
    /// Memory and CPU, idle and loaded.
    Memory,
    /// What each class of durability costs, and the spool.
    Durability,
    /// The console: its first frame, its CPU, its memory, and what it writes.
    Console,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table.
    Text,
    /// One JSON document.
    Json,
}

/// Reads the arguments, measures and prints.
pub fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let mut report = Report::new(args.quick)?;
    for name in Name::value_variants() {
        if !args.names.is_empty() && !args.names.contains(name) {
            continue;
        }
        let measured = match name {
            Name::Shared => shared::measure(&mut report, args.quick),
            Name::Latency => latency::measure(&mut report, args.quick),
            Name::Start => start::measure(&mut report, args.quick),
            Name::Memory => memory::measure(&mut report, args.quick),
            Name::Durability => durability::measure(&mut report, args.quick),
            Name::Console => console::measure(&mut report, args.quick),
        };
        // One broken measurement does not hide the others.
        if let Err(error) = measured {
            report.failed(&format!("{name:?}").to_lowercase(), &format!("{error:#}"));
        }
    }
    let text = match args.output {
        Output::Text => report.text(),
        Output::Json => format!("{:#}\n", report.json()),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write the result")?;
    Ok(report.is_good())
}
