//! `pipectl groups`: the consumer groups of the pipeline's streams, third parties' included.

use std::collections::BTreeMap;

use pipectl_shared::snapshot::{Consumer, Group};
use serde::Serialize;
use serde_json::{Value, json};

use super::Verdict;
use super::app::App;
use crate::client::{Client, Whole};
use crate::failure::{Exit, Failure};
use crate::output::human::{UNKNOWN, count};
use crate::output::{Cell, Column, Document, Table, Text, Tone};

/// The consumer groups: pending, lag, consumers, last delivered id
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
}

const KEYS: &[&str] = &[
    "stage",
    "stream",
    "group",
    "consumers",
    "pending",
    "lag",
    "lag_estimated",
    "last_delivered",
    "length",
];

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 1, 6),
    Column::text("STREAM", 3, 8),
    Column::text("GROUP", 0, 8),
    Column::number("CONSUMERS", 4),
    Column::number("PENDING", 1),
    Column::number("LAG", 1),
    Column::text("LAST DELIVERED", 6, 15),
    Column::number("LENGTH", 5),
];

/// What `groups.get` answers.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) groups: Vec<Whole<Group>>,
    pub(super) consumers: Vec<Whole<Consumer>>,
    /// How many of each list did not fit.
    pub(super) truncated: BTreeMap<String, u64>,
}

/// What stands beside the rows in JSON.
#[derive(Debug, Serialize)]
struct Beside {
    truncated: u64,
}

impl Groups {
    /// Adds to the document of `list` how many of its rows the daemon left out.
    pub(super) fn cut(&self, list: &str, mut document: Document) -> Result<Document, Failure> {
        let truncated = self.truncated.get(list).copied().unwrap_or(0);
        if truncated > 0 {
            document.text.tell(
                Tone::Warn,
                format!("and {} more that the daemon left out", count(truncated)),
            );
        }
        document.beside(&Beside { truncated })
    }
}

/// Asks for all groups and consumers.
pub(super) fn get(client: &mut Client) -> Result<Groups, Failure> {
    let answer: Value = client.call("groups.get", json!({}))?;
    let part = |name: &str| answer.get(name).cloned().unwrap_or_else(|| json!([]));
    let truncated = answer
        .get("truncated")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let broken = |error| {
        Failure::new(
            Exit::Failed,
            format!("read the answer to groups.get: {error}"),
        )
    };
    Ok(Groups {
        groups: serde_json::from_value(part("groups")).map_err(broken)?,
        consumers: serde_json::from_value(part("consumers")).map_err(broken)?,
        truncated: serde_json::from_value(truncated).map_err(broken)?,
    })
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    app.view(|client| {
        let mut found = get(client)?;
        found
            .groups
            .retain(|group| args.stage.is_none() || group.stage == args.stage);
        let mut table = Table::new(COLUMNS);
        for group in &found.groups {
            let lag = match group.lag {
                None => UNKNOWN.to_owned(),
                Some(lag) if group.lag_estimated => format!("~{}", count(lag)),
                Some(lag) => count(lag),
            };
            table.rows.push(vec![
                Cell::new(group.stage.as_deref().unwrap_or("(foreign)")).tone(Tone::Strong),
                Cell::new(&group.stream),
                Cell::new(&group.group),
                Cell::new(count(group.consumers)),
                Cell::new(count(group.pending)),
                Cell::new(lag),
                Cell::new(&group.last_delivered),
                Cell::new(count(group.length)),
            ]);
        }
        let mut text = Text::default();
        text.table(table);
        found.cut(
            "groups",
            Document::rows("groups", &found.groups, None, KEYS, text)?,
        )
    })
}
