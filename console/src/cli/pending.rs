//! `pipectl pending ls|show|claim|ack|retry|dead`: entries delivered and not acknowledged.

use pipectl_shared::plan::Action;
use pipectl_shared::rpc::{PendingParams, ShowParams};
use pipectl_shared::snapshot::{Field, Page, Pending};

use super::Verdict;
use super::act::{self, ActFlags};
use super::app::App;
use super::page::{self, PageFlags};
use super::select::PendingSelect;
use crate::client::Whole;
use crate::failure::Failure;
use crate::output::human::{UNKNOWN, bytes, duration_ms, or_unknown, payload};
use crate::output::{Cell, Column, Document, Span, Table, Text, Tone};

/// Entries that were delivered and are not acknowledged
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List them, the oldest of each stage first
    Ls {
        #[command(flatten)]
        select: PendingSelect,
        #[command(flatten)]
        page: PageFlags,
    },
    /// Show one with its fields
    Show(ShowArgs),
    /// Hand them to a live worker, now
    Claim {
        #[command(flatten)]
        select: PendingSelect,
        /// Worker to hand to; a live one of the stage is chosen when absent
        #[arg(long, value_name = "CONSUMER")]
        to: Option<String>,
        #[command(flatten)]
        flags: ActFlags,
    },
    /// Acknowledge them without applying them; the ledger counts them as discarded
    Ack(ActArgs),
    /// Forget their back-off: try again now
    Retry(ActArgs),
    /// Make them dead letters
    Dead(ActArgs),
}

#[derive(Debug, clap::Args)]
struct ActArgs {
    #[command(flatten)]
    select: PendingSelect,
    #[command(flatten)]
    flags: ActFlags,
}

/// Which entry, and which part of it.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Entry id
    #[arg(value_name = "ID", required_unless_present = "id")]
    entry: Option<String>,
    /// Entry id, as the other verbs take it
    #[arg(long, value_name = "ID", conflicts_with = "entry")]
    id: Option<String>,
    /// Stage that holds it; may be left out where only one does
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Only this field (a field over 16 KiB comes in parts)
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    /// From this byte of the field on
    #[arg(long, value_name = "BYTES", default_value_t = 0, requires = "field")]
    offset: u64,
}

impl ShowArgs {
    /// The same on the wire.
    pub(super) fn params(&self) -> ShowParams {
        ShowParams {
            stage: self.stage.clone(),
            id: self
                .entry
                .clone()
                .or_else(|| self.id.clone())
                .unwrap_or_default(),
            field: self.field.clone(),
            offset: self.offset,
        }
    }
}

const KEYS: &[&str] = &[
    "stage",
    "stream",
    "group",
    "id",
    "consumer",
    "idle_ms",
    "held_ms",
    "tries",
    "deliveries",
    "age_ms",
    "size_bytes",
    "entry",
    "not_before",
    "last_error",
];

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 2, 6),
    // An id that is cut cannot be acted on.
    Column::text("ID", 0, 32),
    Column::text("CONSUMER", 3, 8),
    Column::number("IDLE", 4),
    Column::number("HELD", 1),
    Column::number("TRIES", 1),
    Column::number("DELIVERIES", 7),
    Column::number("AGE", 5),
    Column::number("SIZE", 8),
    Column::text("ENTRY", 2, 7),
    Column::text("NOT BEFORE", 9, 10),
    Column::text("LAST ERROR", 3, 16),
];

pub(super) fn run(app: &App, args: Args) -> Verdict {
    match args.verb {
        Verb::Ls { select, page } => list(app, select, &page),
        Verb::Show(args) => app.view(|client| show(&client.call("pending.show", args.params())?)),
        Verb::Claim { select, to, flags } => {
            act::plan(app, Action::Claim, select.selection(), to, &flags)
        }
        Verb::Ack(ActArgs { select, flags }) => {
            act::plan(app, Action::Ack, select.selection(), None, &flags)
        }
        Verb::Retry(ActArgs { select, flags }) => {
            act::plan(app, Action::Retry, select.selection(), None, &flags)
        }
        Verb::Dead(ActArgs { select, flags }) => {
            act::plan(app, Action::Dead, select.selection(), None, &flags)
        }
    }
}

fn list(app: &App, select: PendingSelect, flags: &PageFlags) -> Verdict {
    let select = select.selection();
    app.view(|client| {
        let page: Page<Whole<Pending>> = page::collect(flags, |cursor, limit| {
            client.call(
                "pending.page",
                PendingParams {
                    select: select.clone(),
                    cursor,
                    limit,
                    in_flight: false,
                },
            )
        })?;
        let mut table = Table::new(COLUMNS);
        for row in &page.rows {
            table.rows.push(vec![
                Cell::new(&row.stage),
                Cell::new(&row.id).tone(Tone::Strong),
                Cell::new(&row.consumer),
                Cell::new(duration_ms(row.idle_ms)),
                Cell::new(duration_ms(row.held_ms)),
                Cell::new(row.tries.to_string()).tone(Tone::warn_if(row.tries > 0)),
                Cell::new(row.deliveries.to_string()),
                Cell::new(duration_ms(row.age_ms)),
                Cell::new(size(row)),
                Cell::new(&row.entry).tone(Tone::bad_if(row.entry != "ok")),
                Cell::new(row.not_before.as_deref().unwrap_or_default()),
                Cell::new(row.last_error.as_deref().unwrap_or_default()).tone(Tone::Warn),
            ]);
        }
        page::document("pending", &page, KEYS, table, "nothing is pending here")
    })
}

/// A trimmed entry has no size; of any other it is unknown.
fn size(row: &Pending) -> String {
    if row.entry == "trimmed" {
        String::new()
    } else {
        or_unknown(row.size_bytes, bytes)
    }
}

fn show(entry: &Whole<Pending>) -> Result<Document, Failure> {
    let mut text = Text::default();
    let mut head = vec![
        Span(Tone::Strong, entry.id.clone()),
        Span(Tone::Plain, format!("stage {}", entry.stage)),
        Span(
            Tone::Dim,
            format!("stream {}  group {}", entry.stream, entry.group),
        ),
    ];
    if entry.entry != "ok" {
        head.push(Span(Tone::Bad, entry.entry.clone()));
    }
    text.0.push(crate::output::Block::Line(head));
    text.labelled(
        "held",
        vec![
            Span(
                Tone::Plain,
                format!("by {} for {}", entry.consumer, duration_ms(entry.held_ms)),
            ),
            Span(Tone::Plain, format!("idle {}", duration_ms(entry.idle_ms))),
            Span(Tone::Plain, format!("age {}", duration_ms(entry.age_ms))),
            Span(Tone::Plain, format!("size {}", size(entry))),
        ],
    );
    let mut tries = vec![
        Span(
            Tone::warn_if(entry.tries > 0),
            format!("{} failed", entry.tries),
        ),
        Span(Tone::Dim, format!("{} deliveries", entry.deliveries)),
    ];
    if let Some(not_before) = &entry.not_before {
        tries.push(Span(Tone::Plain, format!("not before {not_before}")));
    }
    if let Some(error) = &entry.last_error {
        tries.push(Span(Tone::Warn, error.clone()));
    }
    text.labelled("tries", tries);
    fields(entry.fields.as_deref(), &mut text);
    Document::one("pending-entry", entry, text)
}

const FIELDS: &[Column] = &[
    Column::text("FIELD", 0, 8),
    Column::number("SIZE", 1),
    Column::text("VALUE", 0, 16),
];

/// The fields of an entry, as `dead show` shows them, too.
pub(super) fn fields(fields: Option<&[Field]>, text: &mut Text) {
    text.gap();
    let Some(fields) = fields else {
        text.tell(Tone::Warn, format!("{UNKNOWN} the fields are gone"));
        return;
    };
    let mut table = Table::new(FIELDS);
    for field in fields {
        let mut value = payload(&field.value);
        if field.truncated {
            value.push_str(&format!(
                " (cut: {} from byte {} of {})",
                value.len(),
                field.offset,
                field.size
            ));
        }
        table.rows.push(vec![
            Cell::new(payload(&field.name)).tone(Tone::Strong),
            Cell::new(bytes(field.size)),
            Cell::new(value),
        ]);
    }
    text.table(table);
}
