//! The `pipelined` binary: reads the command line, starts `app`, makes an exit code of what came of it.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use pipelined::app;
use pipelined::args::{Cli, Command, Config, Output};
use pipelined::clock::System;
use pipelined::guard;
use pipelined::settings::{self, Asked, Format};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let asked = |config: Config| Asked {
        file: config.config,
        sets: config.sets,
    };
    let format = |output: Output| match output {
        Output::Text => Format::Text,
        Output::Json => Format::Json,
    };
    let env = settings::environment();
    let written = match cli.command {
        Command::Run(run) => return ExitCode::from(app::main(run, &env)),
        Command::Guard => return ExitCode::from(guard::process::main()),
        Command::Check(report) => settings::check(
            &asked(report.config),
            &env,
            &System,
            format(report.output),
            &mut stdout(),
        ),
        Command::Explain(report) => settings::explain(
            &asked(report.config),
            &env,
            &System,
            format(report.output),
            &mut stdout(),
            &mut stderr(),
        ),
    };
    // A reader that went away (`| head`) is no failure of ours.
    ExitCode::from(written.unwrap_or(0))
}
