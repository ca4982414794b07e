//! `pipelined-fire`: does to the real binaries and real servers what the world does, and compares what is left with a record
//! that the product has no part in. Exit 0 when everything is as promised, 1 otherwise, 2 for bad usage.

mod books;
mod clocks;
mod daemon_kill;
mod full;
mod groups;
mod hand_over;
mod house;
mod leaving;
mod load;
mod model;
mod network;
mod poison;
mod power;
mod redis_kill;
mod reset;
mod resp;
mod servers;
mod stopped;
mod table;
mod trial;
mod trimmed;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};

use servers::Which;
use table::Table;
use trial::{Field, TRIALS, Trial};

/// Fire: does to the real binaries what the world does; exit 0 when everything is as promised, 1 otherwise.
#[derive(Debug, Parser)]
#[command(name = "fire", max_term_width = 100, after_help = trials())]
struct Args {
    /// Which trials; all when absent. Numbers are those of the list below.
    #[arg(value_name = "N")]
    names: Vec<String>,
    /// A few rounds of each: to see whether it works.
    #[arg(long)]
    quick: bool,
    /// Begin of all random numbers; by default a new one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// On which servers.
    #[arg(long, value_enum, default_value_t = Which::All)]
    server: Which,
    /// How to write the result; progress goes to stderr.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Writes the result as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table.
    Text,
    /// One JSON document.
    Json,
}

fn trials() -> String {
    let lines = TRIALS
        .iter()
        .map(|t| format!("  {:<9} {}\n", t.name, t.title));
    format!("Trials:\n{}", lines.collect::<String>())
}

/// Reads the arguments, runs the trials and prints.
pub fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            crate::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let chosen: Vec<&Trial> = TRIALS
        .iter()
        .filter(|trial| args.names.is_empty() || args.names.iter().any(|n| n == trial.name))
        .collect();
    if let Some(unknown) = args
        .names
        .iter()
        .find(|n| TRIALS.iter().all(|t| t.name != **n))
    {
        crate::note(&format!("there is no trial {unknown}\n{}", trials()));
        std::process::exit(2);
    }
    let seed = args
        .seed
        .unwrap_or_else(|| SmallRng::from_os_rng().next_u64() >> 16);
    crate::note(&format!("--seed {seed}"));
    let mut table = Table::new(seed, args.quick);
    let kinds = servers::find(args.server, &mut table);
    ensure!(!kinds.is_empty(), "there is no server to try anything on");
    for trial in chosen {
        for kind in &kinds {
            let mut field = Field {
                server: kind,
                trial: trial.name,
                quick: args.quick,
                random: SmallRng::seed_from_u64(seed ^ digest(&[trial.name, &kind.label])),
                seed,
                table: &mut table,
            };
            field.say(trial.title);
            // One trial that breaks off does not hide the others.
            if let Err(error) = (trial.run)(&mut field) {
                table.failed(trial.name, &kind.label, &format!("{error:#}"));
            }
        }
    }
    let document = format!("{:#}\n", table.json());
    if let Some(path) = &args.json {
        std::fs::write(path, &document).with_context(|| format!("write {}", path.display()))?;
    }
    let text = match args.output {
        Output::Text => table.text(),
        Output::Json => document,
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write the result")?;
    Ok(table.is_good())
}

/// FNV-1a: the same for the same words on every machine.
fn digest(words: &[&str]) -> u64 {
    words
        .iter()
        .flat_map(|word| word.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
