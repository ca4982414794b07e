//! `pipectl completion SHELL`: completion scripts from the same tree that parses.

use clap_complete::Shell;

use super::app::App;
use super::{Verdict, tree};
use crate::failure::Exit;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash: pipectl completion bash > ~/.local/share/bash-completion/completions/pipectl"
)]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree(), "pipectl", &mut script);
    app.screen.write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
