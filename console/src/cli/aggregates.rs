//! `pipectl aggregates`: the results.

use std::collections::BTreeMap;

use pipectl_shared::rpc::AggregatesParams;
use pipectl_shared::snapshot::Aggregates;

use super::Verdict;
use super::app::App;
use crate::client::Whole;
use crate::failure::Failure;
use crate::output::human::{UNKNOWN, count, or_unknown};
use crate::output::{Cell, Column, Document, Span, Table, Text, Tone};

/// The results: totals, by type, by product, sessions
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also the count of this session
    #[arg(long, value_name = "SESSION", conflicts_with = "product")]
    session: Option<String>,
    /// Only this product
    #[arg(long, value_name = "PRODUCT")]
    product: Option<String>,
}

const TYPES: &[Column] = &[Column::text("TYPE", 0, 10), Column::number("COUNT", 0)];
const PRODUCTS: &[Column] = &[Column::text("PRODUCT", 0, 10), Column::number("COUNT", 0)];

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    let params = AggregatesParams {
        session: args.session.clone(),
        product: args.product.clone(),
    };
    app.view(|client| document(&client.call("aggregates.get", &params)?))
}

fn document(aggregates: &Whole<Aggregates>) -> Result<Document, Failure> {
    let mut text = Text::default();
    let mut total = vec![Span(Tone::Strong, count(aggregates.total_count))];
    if let Some(value) = aggregates.total_value {
        total.push(Span(Tone::Plain, format!("value {value}")));
    }
    text.labelled("total", total);
    text.labelled(
        "sessions",
        vec![Span(Tone::Plain, count(aggregates.sessions))],
    );
    if let Some(session) = &aggregates.session {
        let n = or_unknown(session.count, count);
        text.labelled(
            "session",
            vec![Span(Tone::Strong, session.id.clone()), Span(Tone::Plain, n)],
        );
    }
    let updated = aggregates
        .last_updated
        .clone()
        .unwrap_or_else(|| UNKNOWN.to_owned());
    text.labelled("updated", vec![Span(Tone::Dim, updated)]);
    for (columns, counts) in [
        (TYPES, &aggregates.event_types),
        (PRODUCTS, &aggregates.products),
    ] {
        if !counts.is_empty() {
            text.gap();
            text.table(table(columns, counts));
        }
    }
    let cut = aggregates.truncated();
    if !cut.is_empty() {
        text.tell(Tone::Warn, format!("left out: {cut}"));
    }
    Document::one("aggregates", aggregates, text)
}

/// The greatest first, equal ones by name.
fn table(columns: &'static [Column], counts: &BTreeMap<String, u64>) -> Table {
    let mut sorted: Vec<(&String, u64)> = counts.iter().map(|(name, n)| (name, *n)).collect();
    sorted.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    let mut table = Table::new(columns);
    table.rows.extend(
        sorted
            .into_iter()
            .map(|(name, n)| vec![Cell::new(name), Cell::new(count(n))]),
    );
    table
}
