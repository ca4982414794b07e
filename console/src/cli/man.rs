//! `pipectl man`: manual pages from the same tree that parses.

use super::app::App;
use super::{Verdict, tree};
use crate::failure::{Exit, Failure};

/// Print a manual page in roff; read it with `pipectl man | man -l -`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Page of this noun (and verb); the main page when absent
    #[arg(value_name = "NOUN")]
    of: Vec<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    let mut tree = tree();
    // Without it the pages of nouns lack the global flags and their own full names.
    tree.build();
    let mut command = &tree;
    for noun in &args.of {
        command = command.find_subcommand(noun).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("print the manual of {noun}: no such noun"),
            )
            .hint("see `pipectl --help`")
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Failure::new(Exit::Failed, format!("write the manual: {error}")))?;
    app.screen.write(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Ok)
}
