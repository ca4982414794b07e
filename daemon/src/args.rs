//! Command line of the daemon.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs a streaming pipeline on Redis Streams with exactly-once effects.
#[derive(Debug, Parser)]
#[command(name = "pipelined", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the daemon's binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pipeline in the foreground until SIGTERM or SIGINT.
    ///
    /// Exit codes: 0 drained, 1 failed, 2 bad usage or configuration, 3 drained only in part.
    Run(Run),
    /// Check the configuration and tell every fault at once; exit 0 or 2.
    Check(Report),
    /// Print the resolved configuration with the origin of each value.
    Explain(Report),
    /// Guard one experiment; the daemon starts it.
    #[command(hide = true)]
    Guard,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct Config {
    /// The configuration file [default: ./pipeline.toml, else /etc/pipelined/config.toml].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one key, such as --set redis.url=redis://127.0.0.1; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// `pipelined run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration.
    #[command(flatten)]
    pub config: Config,
    /// The data folder [default: $PIPELINED_DATA, $XDG_STATE_HOME/pipelined, ~/.local/state/pipelined].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The control socket [default: $PIPELINED_SOCKET, $XDG_RUNTIME_DIR/pipelined, /run/pipelined, the data folder].
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Accept the test-only commands that park workers.
    #[arg(long, hide = true)]
    pub test_commands: bool,
    /// Do without this precaution, to see whether it is missed; may be repeated.
    #[arg(long, hide = true, value_name = "NAME", requires = "test_commands")]
    pub test_without: Vec<String>,
}

/// `pipelined check` and `explain`.
#[derive(Debug, Args)]
pub struct Report {
    /// The configuration.
    #[command(flatten)]
    pub config: Config,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}
