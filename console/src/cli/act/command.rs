//! Single commands of the daemon's catalogue, such as `stage.pause`.

use pipectl_shared::rpc::CommandParams;
use pipectl_shared::spec::{ParamKind, Risk, Spec};
use serde_json::{Map, Value};

use super::FOLLOW;
use crate::cli::Verdict;
use crate::cli::app::App;
use crate::client::{Client, ClientError};
use crate::clock::Deadline;
use crate::failure::{Exit, Failure};
use crate::output::{Document, Span, Text, Tone};

/// Flags of a command that is no plan.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Confirmation")]
pub(in crate::cli) struct CommandFlags {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Runs one command of the daemon's catalogue. What the daemon calls high risk is asked for like a plan.
pub(in crate::cli) fn command(
    app: &App,
    name: &'static str,
    params: Map<String, Value>,
    flags: &CommandFlags,
) -> Verdict {
    if !flags.dry_run {
        app.may_change(name)?;
    }
    let mut client = app.connect()?;
    let spec = client
        .hello()
        .specs
        .iter()
        .find(|spec| spec.name == name)
        .cloned();
    let params = by_spec(spec.as_ref(), params);
    if spec.is_some_and(|spec| spec.risk == Risk::High) && !flags.dry_run && !flags.yes {
        let refused = Failure::new(
            Exit::Refused,
            format!("{name}: not confirmed; nothing was done"),
        )
        .hint("add --yes");
        let shown = serde_json::to_string(&params).unwrap_or_default();
        if !app.screen.can_ask
            || !app
                .screen
                .ask(&format!("{name} {shown}? [y/N]"))
                .is_some_and(|answer| answer.eq_ignore_ascii_case("y"))
        {
            return Err(refused);
        }
    }
    let request = CommandParams {
        name: name.to_owned(),
        params,
        reason: flags.reason.clone(),
        dry_run: flags.dry_run,
    };
    let answer: Value =
        client.call_until("command.run", request, Deadline::after(app.timeout(FOLLOW)))?;
    app.screen
        .show(&command_document(name, &answer, flags.dry_run)?)?;
    Ok(Exit::Ok)
}

/// Sends a command that takes as long as its caller's patience, such as a drain.
pub(in crate::cli) fn call_until(
    client: &mut Client,
    name: &str,
    params: Map<String, Value>,
    deadline: Deadline,
) -> Result<Value, ClientError> {
    client.call_until(
        "command.run",
        CommandParams {
            name: name.to_owned(),
            params,
            ..CommandParams::default()
        },
        deadline,
    )
}

/// Gives each parameter the name that the daemon's Spec has for its kind: consoles are told, not taught.
fn by_spec(spec: Option<&Spec>, params: Map<String, Value>) -> Map<String, Value> {
    let Some(spec) = spec else { return params };
    params
        .into_iter()
        .map(|(key, value)| {
            if spec.params.iter().any(|param| param.name == key) {
                return (key, value);
            }
            let fits = |kind: &ParamKind| match kind {
                ParamKind::Stage => key == "stage",
                ParamKind::Consumer => key == "consumer",
                ParamKind::Integer { .. } => value.is_number(),
                ParamKind::Text
                | ParamKind::Duration
                | ParamKind::Span { .. }
                | ParamKind::Share { .. }
                | ParamKind::Choice(_) => false,
            };
            match spec.params.iter().find(|param| fits(&param.kind)) {
                Some(param) => (param.name.clone(), value),
                None => (key, value),
            }
        })
        .collect()
}

fn command_document(
    name: &'static str,
    answer: &Value,
    dry_run: bool,
) -> Result<Document, Failure> {
    let mut text = Text::default();
    let done = if dry_run { "would be done" } else { "done" };
    let mut fields = vec![Span(Tone::Strong, name.to_owned())];
    let would = answer
        .get("would")
        .and_then(Value::as_str)
        .map(|would| format!("would {would}"));
    let message = answer
        .get("message")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .or(would);
    match message {
        Some(message) => fields.push(Span(Tone::Plain, message)),
        None => fields.push(Span(Tone::Good, done.to_owned())),
    }
    for (key, value) in answer
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "message" && *key != "would")
    {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        fields.push(Span(Tone::Dim, format!("{key} {value}")));
    }
    text.0.push(crate::output::Block::Line(fields));
    #[derive(serde::Serialize)]
    struct Body<'a> {
        command: &'a str,
        dry_run: bool,
        result: &'a Value,
    }
    Document::one(
        "command",
        &Body {
            command: name,
            dry_run,
            result: answer,
        },
        text,
    )
}
