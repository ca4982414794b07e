//! `pipectl dead ls|show|causes|redrive|purge`: entries that were given up, and bringing them back.

use pipectl_shared::plan::Action;
use pipectl_shared::rpc::DeadParams;
use pipectl_shared::snapshot::{Cause, Dead, Page};
use serde_json::json;

use super::Verdict;
use super::act::{self, ActFlags};
use super::app::App;
use super::page::{self, PageFlags};
use super::pending::{ShowArgs, fields};
use super::select::DeadSelect;
use crate::client::Whole;
use crate::clock::{now_ms, rfc3339};
use crate::failure::Failure;
use crate::output::human::{count, duration_ms};
use crate::output::{Cell, Column, Document, Span, Table, Text, Tone};

/// Dead letters: entries that were given up
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List them, the newest first
    Ls {
        #[command(flatten)]
        select: DeadSelect,
        #[command(flatten)]
        page: PageFlags,
    },
    /// Show one with its original fields
    Show(ShowArgs),
    /// Group them by cause
    Causes,
    /// Add them again to the input of the stage where they died
    Redrive(ActArgs),
    /// Delete them for good; the ledger does not change
    Purge(ActArgs),
}

#[derive(Debug, clap::Args)]
struct ActArgs {
    #[command(flatten)]
    select: DeadSelect,
    #[command(flatten)]
    flags: ActFlags,
}

const KEYS: &[&str] = &[
    "id",
    "stage",
    "origin_stream",
    "origin_id",
    "cause",
    "reason",
    "error",
    "tries",
    "first_ms",
    "dead_ms",
    "redriven",
    "counts",
];

const COLUMNS: &[Column] = &[
    // An id that is cut cannot be acted on.
    Column::text("ID", 0, 32),
    Column::text("STAGE", 2, 6),
    Column::text("REASON", 2, 8),
    Column::text("CAUSE", 5, 8),
    Column::number("TRIES", 4),
    Column::number("DEAD FOR", 3),
    Column::text("ORIGIN", 7, 16),
    Column::text("REDRIVEN", 6, 8),
    Column::text("ERROR", 1, 16),
];

const CAUSE_KEYS: &[&str] = &[
    "cause", "stage", "reason", "example", "count", "first_ms", "last_ms",
];

const CAUSE_COLUMNS: &[Column] = &[
    Column::number("COUNT", 0),
    Column::text("CAUSE", 0, 16),
    Column::text("STAGE", 2, 6),
    Column::text("REASON", 3, 8),
    Column::number("FIRST", 5),
    Column::number("LAST", 4),
    Column::text("EXAMPLE", 1, 16),
];

pub(super) fn run(app: &App, args: Args) -> Verdict {
    match args.verb {
        Verb::Ls { select, page } => list(app, select, &page),
        Verb::Show(args) => app.view(|client| show(&client.call("dead.show", args.params())?)),
        Verb::Causes => causes(app),
        Verb::Redrive(ActArgs { select, flags }) => {
            act::plan(app, Action::Redrive, select.selection(), None, &flags)
        }
        Verb::Purge(ActArgs { select, flags }) => {
            act::plan(app, Action::Purge, select.selection(), None, &flags)
        }
    }
}

/// How long ago, by our clock; a stamp of the future is "now".
fn ago(ms: u64) -> String {
    duration_ms(now_ms().saturating_sub(ms))
}

fn list(app: &App, select: DeadSelect, flags: &PageFlags) -> Verdict {
    let select = select.selection();
    app.view(|client| {
        let page: Page<Whole<Dead>> = page::collect(flags, |cursor, limit| {
            client.call(
                "dead.page",
                DeadParams {
                    select: select.clone(),
                    cursor,
                    limit,
                },
            )
        })?;
        let mut table = Table::new(COLUMNS);
        for row in &page.rows {
            table.rows.push(vec![
                Cell::new(&row.id).tone(Tone::Strong),
                Cell::new(&row.stage),
                Cell::new(&row.reason),
                Cell::new(&row.cause).tone(Tone::Dim),
                Cell::new(row.tries.to_string()),
                Cell::new(ago(row.dead_ms)),
                Cell::new(format!("{} {}", row.origin_stream, row.origin_id)).tone(Tone::Dim),
                Cell::new(row.redriven.as_deref().unwrap_or_default()).tone(Tone::Good),
                Cell::new(&row.error).tone(Tone::Warn),
            ]);
        }
        page::document("dead", &page, KEYS, table, "no dead letters here")
    })
}

fn show(dead: &Whole<Dead>) -> Result<Document, Failure> {
    let mut text = Text::default();
    let mut head = vec![
        Span(Tone::Strong, dead.id.clone()),
        Span(Tone::Plain, format!("stage {}", dead.stage)),
        Span(Tone::Bad, dead.reason.clone()),
        Span(Tone::Warn, dead.error.clone()),
    ];
    if let Some(redriven) = &dead.redriven {
        head.push(Span(Tone::Good, format!("redriven as {redriven}")));
    }
    text.0.push(crate::output::Block::Line(head));
    text.labelled(
        "origin",
        vec![
            Span(Tone::Plain, dead.origin_stream.clone()),
            Span(Tone::Plain, dead.origin_id.clone()),
        ],
    );
    text.labelled("cause", vec![Span(Tone::Plain, dead.cause.clone())]);
    text.labelled(
        "died",
        vec![
            Span(
                Tone::Plain,
                format!("{} ({} ago)", rfc3339(dead.dead_ms), ago(dead.dead_ms)),
            ),
            Span(Tone::Dim, format!("first read {}", rfc3339(dead.first_ms))),
            Span(Tone::Plain, format!("{} tries", dead.tries)),
        ],
    );
    if !dead.counts {
        text.labelled(
            "ledger",
            vec![Span(Tone::Dim, "counted as lost, not as dead".to_owned())],
        );
    }
    fields(dead.fields.as_deref(), &mut text);
    Document::one("dead-entry", dead, text)
}

fn causes(app: &App) -> Verdict {
    app.view(|client| {
        let page: Page<Whole<Cause>> = page::whole(client, "dead.causes", json!({}))?;
        let mut table = Table::new(CAUSE_COLUMNS);
        for cause in &page.rows {
            table.rows.push(vec![
                Cell::new(count(cause.count)).tone(Tone::Strong),
                Cell::new(&cause.cause),
                Cell::new(&cause.stage),
                Cell::new(&cause.reason),
                Cell::new(ago(cause.first_ms)),
                Cell::new(ago(cause.last_ms)),
                Cell::new(&cause.example).tone(Tone::Warn),
            ]);
        }
        let mut text = Text::default();
        if page.rows.is_empty() {
            text.tell(Tone::Dim, "no dead letters here");
        } else {
            text.table(table);
        }
        Document::rows(
            "dead-causes",
            &page.rows,
            page.next.clone(),
            CAUSE_KEYS,
            text,
        )
    })
}
