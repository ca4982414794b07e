//! `pipectl audit`: who did what, why, and what came of it.

use pipectl_shared::rpc::PageParams;
use pipectl_shared::snapshot::{Audit, Page};

use super::Verdict;
use super::app::App;
use super::page::{self, PageFlags};
use crate::client::Whole;
use crate::output::{Cell, Column, Table, Tone};

/// Who did what, why, and what came of it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    page: PageFlags,
}

const KEYS: &[&str] = &[
    "seq", "ts", "user", "uid", "pid", "action", "target", "reason", "result", "hash",
];

const COLUMNS: &[Column] = &[
    Column::number("SEQ", 5),
    Column::text("WHEN", 2, 20),
    Column::text("USER", 1, 6),
    Column::text("ACTION", 0, 10),
    Column::text("TARGET", 2, 12),
    Column::text("RESULT", 0, 10),
    Column::text("REASON", 3, 10),
];

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    app.view(|client| {
        let page: Page<Whole<Audit>> = page::collect(&args.page, |cursor, limit| {
            client.call("audit.page", PageParams { cursor, limit })
        })?;
        let mut table = Table::new(COLUMNS);
        for row in &page.rows {
            let tone = if row.result.starts_with("ok") {
                Tone::Plain
            } else {
                Tone::Warn
            };
            table.rows.push(vec![
                Cell::new(row.seq.to_string()).tone(Tone::Dim),
                Cell::new(&row.ts).tone(Tone::Dim),
                Cell::new(&row.user),
                Cell::new(&row.action).tone(Tone::Strong),
                Cell::new(&row.target),
                Cell::new(&row.result).tone(tone),
                Cell::new(row.reason.as_deref().unwrap_or_default()),
            ]);
        }
        page::document("audit", &page, KEYS, table, "no operator has acted yet")
    })
}
