//! `pipectl chaos ls` and `show`: the catalogue.

use pipectl_shared::chaos::{Catalogue, Experiment, Lever};
use pipectl_shared::rpc::Code;
use pipectl_shared::spec::{Param, ParamKind, Risk};
use pipectl_shared::units::print_duration;
use serde_json::json;

use super::super::Verdict;
use super::super::app::App;
use super::tone;
use crate::client::{Client, ClientError};
use crate::clock::{now_ms, rfc3339};
use crate::failure::{Exit, Failure};
use crate::output::human::duration_ms;
use crate::output::{Block, Cell, Column, Document, Span, Table, Text, Tone};

const KEYS: &[&str] = &[
    "name",
    "risk",
    "summary",
    "claim",
    "copy_only",
    "refused",
    "last.verdict",
    "last.id",
];

const COLUMNS: &[Column] = &[
    Column::text("NAME", 0, 12),
    Column::text("RISK", 3, 6),
    Column::text("WHAT", 2, 16),
    Column::text("LAST", 1, 8),
    Column::text("NOT HERE BECAUSE", 1, 16),
];

const PARAMS: &[Column] = &[
    Column::text("PARAMETER", 0, 8),
    Column::text("DEFAULT", 0, 4),
    Column::text("TAKES", 1, 10),
    Column::text("WHAT", 2, 16),
];

/// The catalogue. A daemon that knows no experiments says so.
pub(super) fn catalogue(client: &mut Client) -> Result<Catalogue, Failure> {
    client
        .call("chaos.list", json!({}))
        .map_err(|error| match error {
            ClientError::Refusal(error) if error.is(Code::MethodNotFound) => {
                Failure::new(Exit::Failed, "this daemon knows no experiments").hint(
                    "it is older than this pipectl: compare `pipectl -V` and `pipectl status`",
                )
            }
            other => other.into(),
        })
}

pub(super) fn ls(app: &App) -> Verdict {
    app.view(|client| {
        let catalogue = catalogue(client)?;
        let mut table = Table::new(COLUMNS);
        for row in &catalogue.rows {
            let verdict = row.last.as_ref().and_then(|last| last.verdict);
            let last = match (&row.last, verdict) {
                (None, _) => Cell::new(""),
                (Some(_), Some(verdict)) => Cell::new(verdict.word()).tone(tone(verdict)),
                (Some(_), None) => Cell::new("?").tone(Tone::Warn),
            };
            table.rows.push(vec![
                Cell::new(&row.spec.name).tone(Tone::Strong),
                Cell::new(risk(row.spec.risk)),
                Cell::new(&row.spec.summary),
                last,
                Cell::new(row.refused.as_deref().unwrap_or_default()).tone(Tone::Dim),
            ]);
        }
        let mut text = Text::default();
        text.table(table);
        standing(&catalogue, &mut text);
        let rows: Vec<_> = catalogue.rows.iter().map(flat).collect();
        let beside = json!({
            "enabled": catalogue.enabled,
            "lever": catalogue.lever,
            "running": catalogue.running,
            "schedule": catalogue.schedule,
        });
        Document::rows("chaos-experiments", &rows, None, KEYS, text)?.beside(&beside)
    })
}

/// What holds for all of them.
fn standing(catalogue: &Catalogue, text: &mut Text) {
    text.gap();
    if !catalogue.enabled {
        text.tell(
            Tone::Warn,
            "experiments are off in this daemon ([chaos] enabled); on a copy they can run: pipectl chaos run NAME --copy",
        );
    }
    if catalogue.lever.pulled {
        text.0.push(Block::Line(lever(&catalogue.lever)));
    }
    if let Some(running) = &catalogue.running {
        let since = duration_ms(now_ms().saturating_sub(running.started_ms));
        text.0.push(Block::Line(vec![
            Span(Tone::Strong, running.experiment.clone()),
            Span(Tone::Warn, running.phase.word().to_owned()),
            Span(Tone::Plain, format!("for {since}, by {}", running.by)),
            Span(Tone::Dim, running.id.clone()),
        ]));
    }
    if let Some(next) = &catalogue.schedule {
        text.say(format!(
            "next by schedule: {} at {}",
            next.name,
            rfc3339(next.at_ms)
        ));
    }
}

/// The lever in a line.
pub(super) fn lever(lever: &Lever) -> Vec<Span> {
    let mut line = match lever.pulled {
        true => vec![Span(
            Tone::Bad,
            "the lever is pulled: nothing may run".to_owned(),
        )],
        false => vec![Span(Tone::Good, "the lever is not pulled".to_owned())],
    };
    if let Some(by) = &lever.by {
        line.push(Span(Tone::Plain, format!("by {by}")));
    }
    if let Some(since) = lever.since_ms {
        line.push(Span(Tone::Dim, rfc3339(since)));
    }
    if let Some(reason) = &lever.reason {
        line.push(Span(Tone::Plain, reason.clone()));
    }
    line
}

/// The spec's words beside the rest, as scripts want them.
fn flat(row: &Experiment) -> serde_json::Value {
    json!({
        "name": row.spec.name,
        "risk": row.spec.risk,
        "summary": row.spec.summary,
        "claim": row.claim,
        "copy_only": row.copy_only,
        "refused": row.refused,
        "params": row.spec.params,
        "last": row.last,
    })
}

pub(super) fn show(app: &App, name: &str) -> Verdict {
    app.view(|client| {
        let catalogue = catalogue(client)?;
        let Some(row) = catalogue.rows.iter().find(|row| row.spec.name == name) else {
            let message = format!("there is no experiment {name}");
            return Err(Failure::new(Exit::Failed, message).hint("see `pipectl chaos ls`"));
        };
        Document::one("chaos-experiment", &flat(row), experiment(row))
    })
}

fn experiment(row: &Experiment) -> Text {
    let mut text = Text::default();
    text.0.push(Block::Line(vec![
        Span(Tone::Strong, row.spec.name.clone()),
        Span(Tone::Plain, format!("{} risk", risk(row.spec.risk))),
        Span(Tone::Plain, row.spec.summary.clone()),
    ]));
    text.labelled("claim", vec![Span(Tone::Plain, row.claim.clone())]);
    if row.copy_only {
        let what = "only on a copy: it destroys data";
        text.labelled("where", vec![Span(Tone::Warn, what.to_owned())]);
    }
    if let Some(refused) = &row.refused {
        text.labelled("not here", vec![Span(Tone::Warn, refused.clone())]);
    }
    if let Some(last) = &row.last {
        let verdict = last.verdict.map_or(Span(Tone::Warn, "?".to_owned()), |v| {
            Span(tone(v), v.word().to_owned())
        });
        let id = Span(Tone::Dim, last.id.clone());
        text.labelled(
            "last",
            vec![verdict, Span(Tone::Plain, last.why.clone()), id],
        );
    }
    if !row.spec.params.is_empty() {
        let mut table = Table::new(PARAMS);
        for param in &row.spec.params {
            table.rows.push(vec![
                Cell::new(&param.name).tone(Tone::Strong),
                Cell::new(param.default.as_deref().unwrap_or("(required)")),
                Cell::new(takes(param)),
                Cell::new(&param.summary),
            ]);
        }
        text.gap();
        text.table(table);
        text.gap();
    }
    let command = Span(Tone::Plain, command(row));
    text.whole("run it", vec![command]);
    text
}

/// The command that runs it with its defaults, all of them written out.
fn command(row: &Experiment) -> String {
    let mut command = format!("pipectl chaos run {}", row.spec.name);
    for param in &row.spec.params {
        if let Some(default) = param.default.as_deref().filter(|text| !text.is_empty()) {
            command.push_str(&format!(" --set {}={default}", param.name));
        }
    }
    if row.copy_only || row.refused.is_some() {
        command.push_str(" --copy");
    }
    command
}

fn takes(param: &Param) -> String {
    let span = |ms: u64| print_duration(std::time::Duration::from_millis(ms));
    match &param.kind {
        ParamKind::Integer { min, max } => format!("{min} to {max}"),
        ParamKind::Span { min_ms, max_ms } => format!("{} to {}", span(*min_ms), span(*max_ms)),
        ParamKind::Share { min, max } => format!("{min}% to {max}%"),
        ParamKind::Choice(words) => words.join(", "),
        ParamKind::Duration => "a duration such as 30s".to_owned(),
        ParamKind::Stage => "a stage".to_owned(),
        ParamKind::Consumer => "a consumer".to_owned(),
        ParamKind::Text => "a text".to_owned(),
    }
}

fn risk(risk: Risk) -> &'static str {
    match risk {
        Risk::Low => "low",
        Risk::Medium => "medium",
        Risk::High => "high",
    }
}
