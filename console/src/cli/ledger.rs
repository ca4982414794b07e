//! `pipectl ledger`: where every entry went, and waiting until none is under way.

use std::time::Duration;

use pipectl_shared::snapshot::Ledger;
use serde_json::json;

use super::Verdict;
use super::app::App;
use crate::client::{Client, ClientError, Whole};
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::output::human::{count, signed};
use crate::output::{Cell, Column, Document, Span, Table, Text, Tone};

/// Where every entry went: accepted + spawned = applied + ... + unaccounted
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Wait until nothing is pending or undelivered any more; exit 7 if it takes more than --timeout (default 60s); the
    /// ledger is printed either way
    #[arg(long)]
    wait_settled: bool,
}

const COLUMNS: &[Column] = &[
    Column::text("", 0, 3),
    Column::text("ENTRIES", 0, 12),
    Column::number("COUNT", 0),
    Column::text("MEANING", 1, 20),
];

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    if !args.wait_settled {
        return app.view(|client| document(&get(client)?));
    }
    let deadline = Deadline::after(app.timeout(Duration::from_secs(60)));
    let (ledger, settled) = wait(app, deadline)?;
    app.screen.show(&document(&ledger)?)?;
    if settled {
        return Ok(Exit::Ok);
    }
    let open = format!(
        "{} pending, {} undelivered",
        count(ledger.pending),
        count(ledger.undelivered)
    );
    Err(Failure::new(
        Exit::TimedOut,
        format!("wait until the ledger is settled: {open}"),
    )
    .hint("see who holds them: `pipectl pending ls`, `pipectl stages`"))
}

fn get(client: &mut Client) -> Result<Whole<Ledger>, ClientError> {
    client.call("ledger.get", json!({}))
}

/// The ledger is read in one script, so one settled reading is enough. Redis being away for a while is waited out.
fn wait(app: &App, deadline: Deadline) -> Result<(Whole<Ledger>, bool), Failure> {
    let mut client = app.connect()?;
    let mut last: Option<Whole<Ledger>> = None;
    let mut pause = Duration::from_millis(20);
    loop {
        let asked = client.call_until(
            "ledger.get",
            json!({}),
            deadline.or_after(Duration::from_secs(10)),
        );
        let trouble = match asked {
            Ok(ledger) => {
                let ledger: Whole<Ledger> = ledger;
                if ledger.pending == 0 && ledger.undelivered == 0 {
                    return Ok((ledger, true));
                }
                last = Some(ledger);
                None
            }
            Err(ClientError::Refusal(error))
                if error.is(pipectl_shared::rpc::Code::Unavailable) =>
            {
                Some(ClientError::Refusal(error))
            }
            Err(error @ ClientError::TimedOut { .. }) => Some(error),
            Err(error) => return Err(error.into()),
        };
        if deadline.is_over() {
            return match (last, trouble) {
                (Some(ledger), _) => Ok((ledger, false)),
                (None, Some(error)) => Err(Failure::new(
                    Exit::TimedOut,
                    format!("wait until the ledger is settled: {error}"),
                )),
                (None, None) => Err(Failure::new(
                    Exit::TimedOut,
                    "wait until the ledger is settled: no answer",
                )),
            };
        }
        clock::pause(deadline.slice(pause));
        // Quick at first, since most waits are short; then no more than five readings a second.
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

fn document(ledger: &Whole<Ledger>) -> Result<Document, Failure> {
    let mut table = Table::new(COLUMNS);
    let mut row = |sign: &str, name: &str, figure: String, meaning: &str, tone: Tone| {
        table.rows.push(vec![
            Cell::new(sign).tone(Tone::Dim),
            Cell::new(name),
            Cell::new(figure).tone(tone),
            Cell::new(meaning).tone(Tone::Dim),
        ]);
    };
    let estimate = if ledger.estimated { "~" } else { "" };
    row(
        "",
        "accepted",
        count(ledger.accepted),
        "came in",
        Tone::Strong,
    );
    row(
        "+",
        "spawned",
        count(ledger.spawned),
        "added by fan-out",
        Tone::Plain,
    );
    row(
        "=",
        "applied",
        count(ledger.applied),
        "committed at the end",
        Tone::Strong,
    );
    row(
        "+",
        "filtered",
        count(ledger.filtered),
        "ended by the pipeline on purpose",
        Tone::Plain,
    );
    row(
        "+",
        "late",
        count(ledger.late),
        "too late by event time",
        Tone::Plain,
    );
    row(
        "+",
        "discarded",
        count(ledger.discarded),
        "acknowledged by hand",
        Tone::warn_if(ledger.discarded > 0),
    );
    row(
        "+",
        "deduplicated",
        count(ledger.deduplicated),
        "id seen before",
        Tone::Plain,
    );
    row(
        "+",
        "dead",
        count(ledger.dead),
        "dead letters, less redriven ones",
        Tone::warn_if(ledger.dead > 0),
    );
    row(
        "+",
        "lost",
        count(ledger.lost),
        "gone before they were applied",
        Tone::bad_if(ledger.lost > 0),
    );
    row(
        "+",
        "pending",
        count(ledger.pending),
        "delivered, not acknowledged",
        Tone::Plain,
    );
    row(
        "+",
        "undelivered",
        format!("{estimate}{}", count(ledger.undelivered)),
        "not delivered yet",
        Tone::Plain,
    );
    let odd = ledger.unaccounted != 0;
    row(
        "+",
        "unaccounted",
        signed(ledger.unaccounted),
        "a bug, or a third party's act",
        Tone::bad_if(odd),
    );
    // Without an aggregate there is nothing to compare: the figure does not apply.
    let duplicated = ledger.duplicated.map(signed).unwrap_or_default();
    let twice = ledger.duplicated.is_some_and(|n| n != 0);
    row(
        "",
        "duplicated",
        duplicated,
        "total of the aggregate less applied there",
        Tone::bad_if(twice),
    );
    row(
        "",
        "rejected",
        count(ledger.rejected),
        "refused at a door, outside the sum",
        Tone::warn_if(ledger.rejected > 0),
    );
    let mut text = Text::default();
    text.table(table);
    let verdict = if ledger.balanced {
        Span(Tone::Good, "balanced".to_owned())
    } else {
        Span(Tone::Bad, "NOT balanced".to_owned())
    };
    text.0.push(crate::output::Block::Line(vec![verdict]));
    Document::one("ledger", ledger, text)
}
