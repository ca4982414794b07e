//! `pipectl consumers ls|retire`: who reads, who is stuck, and deleting a consumer that holds nothing.

use serde_json::Map;

use super::Verdict;
use super::act::{self, CommandFlags};
use super::app::App;
use super::groups;
use crate::output::human::{count, duration_ms};
use crate::output::{Cell, Column, Document, Table, Text, Tone};

/// The consumers of the groups
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List them, those in trouble first
    Ls {
        /// Only of this stage
        #[arg(long, value_name = "STAGE")]
        stage: Option<String>,
    },
    /// Delete a consumer from its group; refused while it holds entries (claim them first: `pipectl pending claim
    /// --consumer C`)
    Retire {
        /// Its name
        consumer: String,
        /// Stage whose group it is in; may be left out where only one group has it
        #[arg(long, value_name = "STAGE")]
        stage: Option<String>,
        #[command(flatten)]
        flags: CommandFlags,
    },
}

const KEYS: &[&str] = &[
    "stage",
    "name",
    "ours",
    "state",
    "reason",
    "pending",
    "oldest_ms",
    "idle_ms",
    "inactive_ms",
];

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 2, 6),
    Column::text("CONSUMER", 0, 10),
    Column::text("STATE", 1, 6),
    Column::number("PENDING", 1),
    Column::number("OLDEST", 3),
    Column::number("IDLE", 4),
    Column::number("INACTIVE", 6),
    Column::text("OURS", 7, 4),
    Column::text("REASON", 2, 16),
];

pub(super) fn run(app: &App, args: Args) -> Verdict {
    match args.verb {
        Verb::Ls { stage } => list(app, stage.as_deref()),
        Verb::Retire {
            consumer,
            stage,
            flags,
        } => {
            let mut params = Map::new();
            params.insert("consumer".to_owned(), consumer.into());
            if let Some(stage) = stage {
                params.insert("stage".to_owned(), stage.into());
            }
            act::command(app, "consumer.retire", params, &flags)
        }
    }
}

fn list(app: &App, stage: Option<&str>) -> Verdict {
    app.view(|client| {
        let mut found = groups::get(client)?;
        found
            .consumers
            .retain(|consumer| stage.is_none_or(|stage| consumer.stage == stage));
        let mut table = Table::new(COLUMNS);
        for consumer in &found.consumers {
            let tone = match consumer.state.as_str() {
                "ok" => Tone::Good,
                "stuck" | "gone" => Tone::Bad,
                _ => Tone::Plain,
            };
            let figure = |ms: Option<u64>| crate::output::human::or_unknown(ms, duration_ms);
            // Nothing held has no oldest.
            let oldest = if consumer.pending == 0 {
                String::new()
            } else {
                figure(consumer.oldest_ms)
            };
            table.rows.push(vec![
                Cell::new(&consumer.stage),
                Cell::new(&consumer.name).tone(Tone::Strong),
                Cell::new(&consumer.state).tone(tone),
                Cell::new(count(consumer.pending)),
                Cell::new(oldest),
                Cell::new(figure(consumer.idle_ms)),
                Cell::new(figure(consumer.inactive_ms)),
                Cell::new(if consumer.ours { "yes" } else { "no" }),
                Cell::new(consumer.reason.as_deref().unwrap_or_default()).tone(Tone::Warn),
            ]);
        }
        let mut text = Text::default();
        text.table(table);
        found.cut(
            "consumers",
            Document::rows("consumers", &found.consumers, None, KEYS, text)?,
        )
    })
}
