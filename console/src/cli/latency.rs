//! `pipectl latency`: how long entries take, per stage and measure.

use pipectl_shared::rpc::LatencyParams;
use pipectl_shared::snapshot::{Latency, Page};

use super::Verdict;
use super::app::App;
use super::page;
use crate::client::Whole;
use crate::output::human::{count, latency_ms, or_unknown};
use crate::output::{Cell, Column, Document, Table, Text, Tone};

/// How long entries took over the last minute, per stage and measure
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Measures: wait (added to read), service (read to committed), total (added to committed), \
                        end_to_end (sent to committed; stage `pipeline` is the whole). `~` marks a start known to 1 ms only."
)]
pub(super) struct Args {
    /// Only this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
}

const KEYS: &[&str] = &[
    "stage",
    "measure",
    "count",
    "min",
    "p50",
    "p90",
    "p95",
    "p99",
    "p999",
    "p9999",
    "max",
    "out_of_range",
    "coarse",
];

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 0, 8),
    Column::text("MEASURE", 0, 10),
    Column::number("COUNT", 3),
    Column::number("MIN", 7),
    Column::number("P50", 0),
    Column::number("P90", 6),
    Column::number("P95", 4),
    Column::number("P99", 1),
    Column::number("P999", 2),
    Column::number("P9999", 8),
    Column::number("MAX", 5),
];

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    app.view(|client| {
        let page: Page<Whole<Latency>> = page::whole(
            client,
            "latency.get",
            LatencyParams {
                stage: args.stage.clone(),
            },
        )?;
        let mut table = Table::new(COLUMNS);
        for row in &page.rows {
            let about = if row.coarse { "~" } else { "" };
            let figure = |ms: Option<f64>| {
                Cell::new(or_unknown(ms, |ms| format!("{about}{}", latency_ms(ms))))
            };
            table.rows.push(vec![
                Cell::new(&row.stage).tone(Tone::Strong),
                Cell::new(&row.measure),
                Cell::new(count(row.count)),
                figure(row.min),
                figure(row.p50),
                figure(row.p90),
                figure(row.p95),
                figure(row.p99),
                figure(row.p999),
                figure(row.p9999),
                figure(row.max),
            ]);
        }
        let mut text = Text::default();
        text.table(table);
        let out: u64 = page
            .rows
            .iter()
            .map(|row| row.out_of_range)
            .fold(0, u64::saturating_add);
        if out > 0 {
            text.tell(
                Tone::Warn,
                format!("{} values outside 1 us to 60 s are left out", count(out)),
            );
        }
        Document::rows("latency", &page.rows, page.next.clone(), KEYS, text)
    })
}
