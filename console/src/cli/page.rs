//! Lists that come in pages: how many rows, from where, and fetching several pages for one answer.

use pipectl_shared::snapshot::Page;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::failure::Failure;
use crate::output::{Document, Table, Text, Tone};

/// Rows that one request may ask for.
const PAGE_ROWS_MAX: u32 = 1_000;

/// `--limit` and `--cursor`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct PageFlags {
    /// Rows at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) limit: u32,
    /// Go on where the last list ended (its `next`)
    #[arg(long, value_name = "CURSOR")]
    pub(super) cursor: Option<String>,
}

/// Collects rows until the limit or the end. A daemon whose cursor does not move is not asked for ever: an empty page
/// with a cursor counts against the limit as one row.
pub(super) fn collect<T: DeserializeOwned>(
    flags: &PageFlags,
    mut fetch: impl FnMut(Option<String>, u32) -> Result<Page<T>, ClientError>,
) -> Result<Page<T>, ClientError> {
    let limit = flags.limit as usize;
    let mut rows = Vec::new();
    let mut cursor = flags.cursor.clone();
    let mut total = None;
    let mut empty = 0;
    loop {
        let want = u32::try_from(limit.saturating_sub(rows.len()))
            .unwrap_or(PAGE_ROWS_MAX)
            .min(PAGE_ROWS_MAX);
        let page = fetch(cursor.take(), want)?;
        total = total.or(page.total);
        if page.rows.is_empty() {
            empty += 1;
        }
        rows.extend(page.rows);
        if rows.len() + empty >= limit || page.next.is_none() {
            return Ok(Page {
                rows,
                next: page.next,
                total,
            });
        }
        cursor = page.next;
    }
}

/// A list that comes whole: as a page, or as plain rows.
pub(super) fn whole<T: DeserializeOwned>(
    client: &mut Client,
    method: &'static str,
    params: impl Serialize,
) -> Result<Page<T>, ClientError> {
    let answer: Value = client.call(method, params)?;
    let parsed = match answer {
        Value::Array(_) => serde_json::from_value(answer).map(|rows| Page {
            rows,
            next: None,
            total: None,
        }),
        page => serde_json::from_value(page),
    };
    parsed.map_err(|error| ClientError::Nonsense {
        what: format!("the answer to {method}: {error}"),
    })
}

/// The document of a page: its table, or in words that there is nothing, and where it goes on.
pub(super) fn document<T: Serialize>(
    name: &'static str,
    page: &Page<T>,
    keys: &'static [&'static str],
    table: Table,
    nothing: &str,
) -> Result<Document, Failure> {
    let mut text = Text::default();
    if page.rows.is_empty() {
        text.tell(Tone::Dim, nothing);
    } else {
        text.table(table);
    }
    more(page, &mut text);
    Document::rows(name, &page.rows, page.next.clone(), keys, text)
}

/// Says under a table that there is more.
fn more<T>(page: &Page<T>, text: &mut Text) {
    if let Some(next) = &page.next {
        let of = page
            .total
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        text.tell(
            Tone::Dim,
            format!("{} rows{of}; go on with --cursor {next}", page.rows.len()),
        );
    }
}
