//! `pipectl stages`: one row per stage.

use pipectl_shared::snapshot::Stage;

use super::Verdict;
use super::app::App;
use super::status;
use crate::output::human::{UNKNOWN, count, duration_ms, latency_ms, or_unknown, rate};
use crate::output::{Cell, Column, Document, Table, Text, Tone};

/// The stages: state, rates, lag, pending, latency
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

const KEYS: &[&str] = &[
    "name",
    "delivery",
    "workers",
    "state",
    "reason",
    "in_per_s",
    "out_per_s",
    "lag",
    "lag_ms",
    "pending",
    "oldest_pending_ms",
    "p50_ms",
    "p99_ms",
    "errors",
    "retries",
    "dead",
];

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 0, 16),
    Column::text("STATE", 1, 8),
    Column::number("LAG", 1),
    Column::number("PENDING", 1),
    Column::number("OLDEST", 4),
    Column::number("IN", 3),
    Column::number("OUT", 2),
    Column::number("P50", 6),
    Column::number("P99", 5),
    Column::number("ERRORS", 7),
    Column::number("RETRIES", 8),
    Column::number("DEAD", 3),
    Column::number("WORKERS", 9),
    Column::text("DELIVERY", 10, 6),
    Column::text("REASON", 2, 16),
];

pub(super) fn run(app: &App, _args: &Args) -> Verdict {
    app.view(|client| {
        let status = status::get(client)?;
        let stages = &status.stages;
        let mut text = Text::default();
        text.table(table(stages));
        Document::rows("stages", stages, None, KEYS, text)
    })
}

/// `shared`; `owned here` (a worker of this daemon is the owner), `owned elsewhere`, `owned by nobody`, or `owned` while nobody
/// knows.
fn delivery(stage: &Stage) -> String {
    let place = match &stage.owner {
        None => return stage.delivery.clone(),
        Some(owner) if owner.consumer.is_none() => "by nobody",
        Some(owner) if owner.here => "here",
        Some(_) => "elsewhere",
    };
    format!("{} {place}", stage.delivery)
}

/// The table that `status` shows, too.
pub(super) fn table(stages: &[Stage]) -> Table {
    let mut table = Table::new(COLUMNS);
    for stage in stages {
        let lag = match stage.lag {
            None => UNKNOWN.to_owned(),
            Some(lag) if stage.lag_estimated => format!("~{}", count(lag)),
            Some(lag) => count(lag),
        };
        // Nothing pending has no oldest; with pending unknown the oldest is unknown, too.
        let oldest = match (stage.oldest_pending_ms, stage.pending) {
            (Some(ms), _) => duration_ms(ms),
            (None, Some(0)) => String::new(),
            (None, _) => UNKNOWN.to_owned(),
        };
        table.rows.push(vec![
            Cell::new(&stage.name).tone(Tone::Strong),
            Cell::new(status::word(&stage.state)).tone(Tone::of_state(stage.state)),
            Cell::new(lag),
            Cell::new(or_unknown(stage.pending, count)),
            Cell::new(oldest),
            Cell::new(or_unknown(stage.in_per_s, rate)),
            Cell::new(or_unknown(stage.out_per_s, rate)),
            Cell::new(or_unknown(stage.p50_ms, latency_ms)),
            Cell::new(or_unknown(stage.p99_ms, latency_ms)),
            Cell::new(count(stage.errors)).tone(Tone::warn_if(stage.errors > 0)),
            Cell::new(count(stage.retries)),
            Cell::new(count(stage.dead)).tone(Tone::warn_if(stage.dead > 0)),
            Cell::new(stage.workers.to_string()),
            Cell::new(delivery(stage)).tone(Tone::Dim),
            Cell::new(stage.reason.as_deref().unwrap_or_default()).tone(Tone::Warn),
        ]);
    }
    table
}
