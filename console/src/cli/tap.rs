//! `pipectl tap`: a sample of the entries that pass, as they pass.

use pipectl_shared::rpc::TapParams;
use pipectl_shared::snapshot::Tap;
use serde_json::Value;

use super::Verdict;
use super::app::App;
use crate::client::ClientError;
use crate::clock::Deadline;
use crate::failure::{Exit, Failure};
use crate::output::human::payload;
use crate::output::{Block, Document, Span, Text, Tone};

/// Watch a sample of the entries that pass; read only, never slows the pipeline
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with -n N (exit 0), --timeout (exit 7) or Ctrl-C (exit 130). JSON is one row a line."
)]
pub(super) struct Args {
    /// Stage whose input is sampled; the first one when absent
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Entries a second at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Only entries for whose fields this holds, such as 'event_type = click'
    #[arg(long = "match", value_name = "EXPR")]
    matching: Option<String>,
    /// End after this many entries
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    number: Option<u64>,
}

const KEYS: &[&str] = &["stage", "id", "fields"];

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    let mut client = app.connect()?;
    let params = TapParams {
        stage: args.stage.clone(),
        per_s: args.rate,
        matching: args.matching.clone(),
    };
    let _: Value = client.call("tap.watch", params)?;
    let deadline = app
        .globals
        .timeout
        .map_or_else(Deadline::never, Deadline::after);
    let mut shown = 0;
    loop {
        let Some(told) = client.notification(deadline)? else {
            let of = args
                .number
                .map(|number| format!(" of {number}"))
                .unwrap_or_default();
            return Err(Failure::new(
                Exit::TimedOut,
                format!("tap: {shown}{of} entries in the time given"),
            ));
        };
        if told.method != "tap" {
            continue;
        }
        for row in rows(told.params)? {
            app.screen.show_part(&document(&row)?, shown == 0)?;
            shown += 1;
            if args.number.is_some_and(|number| shown >= number) {
                return Ok(Exit::Ok);
            }
        }
    }
}

/// One row, or several under `rows`.
fn rows(params: Value) -> Result<Vec<Tap>, ClientError> {
    let parsed = match params {
        Value::Object(mut map) if map.contains_key("rows") => {
            serde_json::from_value(map.remove("rows").unwrap_or(Value::Null))
        }
        one => serde_json::from_value(one).map(|row| vec![row]),
    };
    parsed.map_err(|error| ClientError::Nonsense {
        what: format!("a tap row: {error}"),
    })
}

fn document(row: &Tap) -> Result<Document, Failure> {
    let mut fields = vec![
        Span(Tone::Dim, row.stage.clone()),
        Span(Tone::Strong, row.id.clone()),
    ];
    for field in &row.fields {
        let cut = if field.truncated {
            format!("… ({} bytes)", field.size)
        } else {
            String::new()
        };
        fields.push(Span(
            Tone::Plain,
            format!("{}={}{cut}", payload(&field.name), payload(&field.value)),
        ));
    }
    Document::rows(
        "tap",
        std::slice::from_ref(row),
        None,
        KEYS,
        Text(vec![Block::Line(fields)]),
    )
}
