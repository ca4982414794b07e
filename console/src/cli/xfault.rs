//! `pipectl x-fault park|release`: hidden, for tests; works only with a daemon that was started with test commands on.

use serde_json::{Map, Value};

use super::Verdict;
use super::act::{self, CommandFlags};
use super::app::App;

/// Park a worker at a point of its loop, or release it (tests only)
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Stop a worker when it comes to the point
    Park {
        /// Its consumer name
        consumer: String,
        /// Where: after_read, before_commit, after_commit
        point: String,
    },
    /// Let a worker go on
    Release {
        /// Its consumer name
        consumer: String,
    },
}

pub(super) fn run(app: &App, args: Args) -> Verdict {
    let params = |pairs: Vec<(&str, String)>| -> Map<String, Value> {
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect()
    };
    let flags = CommandFlags::default();
    match args.verb {
        Verb::Park { consumer, point } => act::command(
            app,
            "x-fault.park",
            params(vec![("consumer", consumer), ("point", point)]),
            &flags,
        ),
        Verb::Release { consumer } => act::command(
            app,
            "x-fault.release",
            params(vec![("consumer", consumer)]),
            &flags,
        ),
    }
}
