//! Acting: plans (made, shown, confirmed, run, followed to their result) and single commands. Semantics.md section 9.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipectl_shared::plan::{Action, ActionDocument, Outcome, Plan, PlanParams, Selection, State};
use pipectl_shared::rpc::{CommandParams, PlanIdParams, PlanRunParams};
use pipectl_shared::spec::{ParamKind, Risk, Spec};
use serde_json::{Map, Value};

use super::Verdict;
use super::app::App;
use super::select::not_empty;
use super::status;
use crate::client::{Client, ClientError};
use crate::clock::Deadline;
use crate::failure::{Exit, Failure};
use crate::output::human::count;
use crate::output::{Cell, Column, Document, Format, Span, Table, Text, Tone};

/// How long a plan is followed unless `--timeout` says otherwise; it goes on in the daemon after that.
const FOLLOW: Duration = Duration::from_secs(60);

/// Ids of the frozen list that the text shows.
const SAMPLE: usize = 10;

/// Flags of every action on entries.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Confirmation")]
pub(super) struct ActFlags {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Do it without asking if exactly N entries match
    #[arg(long, value_name = "N")]
    confirm: Option<u64>,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Exit 6 when nothing matches
    #[arg(long)]
    fail_empty: bool,
}

impl ActFlags {
    /// Refuses under `--read-only`, unless nothing would be done anyway.
    pub(super) fn may_run(&self, app: &App) -> Result<(), Failure> {
        if self.dry_run {
            Ok(())
        } else {
            app.may_change("plan run")
        }
    }
}

/// Flags of a command that is no plan.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Confirmation")]
pub(super) struct CommandFlags {
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

/// Makes a plan for the selection and carries it out as far as the flags allow.
pub(super) fn plan(
    app: &App,
    action: Action,
    select: Selection,
    to: Option<String>,
    flags: &ActFlags,
) -> Verdict {
    not_empty(&select)?;
    if !flags.dry_run {
        app.may_change(&format!("{} {}", action.noun(), action.word()))?;
    }
    let mut client = app.connect()?;
    let plan: Plan = client.call("plan.create", PlanParams { action, select, to })?;
    carry_out(app, &mut client, &plan, flags)
}

/// Shows the plan, asks for confirmation, runs it, follows it, shows the result.
pub(super) fn carry_out(app: &App, client: &mut Client, plan: &Plan, flags: &ActFlags) -> Verdict {
    if let Some(confirmed) = flags.confirm
        && confirmed != plan.matched
        && !flags.dry_run
    {
        app.screen.show(&document(plan, None)?)?;
        let message = format!(
            "{}: {confirmed} confirmed, {} match; nothing was done",
            title(plan),
            plan.matched
        );
        return Err(Failure::new(Exit::Refused, message)
            .hint(format!("look at the plan, then --confirm {}", plan.matched)));
    }
    if plan.matched == 0 {
        app.screen.show(&document(plan, None)?)?;
        return Ok(if flags.fail_empty {
            Exit::NothingMatched
        } else {
            Exit::Ok
        });
    }
    if flags.dry_run {
        app.screen.show(&document(plan, None)?)?;
        return Ok(Exit::Ok);
    }
    confirm(app, plan, flags)?;
    app.interrupt.cooperate();
    let done = run(app, client, plan, flags)?;
    let outcome = done.result.clone().unwrap_or_default();
    let exit = verdict(&done, &outcome);
    // What was done is done: a closed stdout does not change the verdict.
    match app.screen.show(&document(&done, Some(&outcome))?) {
        Err(failure) if failure.message.is_some() => return Err(failure),
        _ => {}
    }
    Ok(exit)
}

/// Without `--yes` or `--confirm N` the plan is shown, and on a terminal a person is asked: `y` for one named entry, the
/// count for a bulk plan.
fn confirm(app: &App, plan: &Plan, flags: &ActFlags) -> Result<(), Failure> {
    let shown = document(plan, None)?;
    if flags.yes || flags.confirm.is_some() {
        if app.screen.format == Format::Text && !app.globals.quiet {
            app.screen.aside(&shown);
        }
        return Ok(());
    }
    let refused = |message: &str| {
        Failure::new(
            Exit::Refused,
            format!("{}: {message}; nothing was done", title(plan)),
        )
        .hint(format!("add --yes, or --confirm {}", plan.matched))
    };
    if !app.screen.can_ask {
        app.screen.show(&shown)?;
        return Err(refused("not confirmed"));
    }
    app.screen.aside(&shown);
    let agreed = if is_bulk(plan) {
        let question = format!(
            "{}? Type the count ({}) to go on:",
            title(plan),
            plan.matched
        );
        app.screen
            .ask(&question)
            .is_some_and(|answer| answer.replace(',', "") == plan.matched.to_string())
    } else {
        let question = format!("{}? [y/N]", title(plan));
        app.screen
            .ask(&question)
            .is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
    };
    if agreed {
        Ok(())
    } else {
        Err(refused("not confirmed"))
    }
}

/// What the daemon says, or what the selection says: the more careful of the two.
fn is_bulk(plan: &Plan) -> bool {
    plan.bulk || plan.select.is_bulk()
}

fn run(app: &App, client: &mut Client, plan: &Plan, flags: &ActFlags) -> Result<Plan, Failure> {
    let deadline = Deadline::after(app.timeout(FOLLOW));
    let params = PlanRunParams {
        id: plan.id.clone(),
        ids_hash: plan.ids_hash.clone(),
        confirm: is_bulk(plan).then_some(plan.matched),
        reason: flags.reason.clone(),
    };
    let bar = bar(app, plan);
    let request = client.send("plan.run", params)?;
    let followed = follow(client, plan, request, deadline, &bar);
    bar.finish_and_clear();
    followed.map_err(|error| {
        let id = &plan.id;
        match error {
            ClientError::TimedOut { .. } => Failure::new(
                Exit::TimedOut,
                format!("follow plan {id}: it is not done yet and goes on in the daemon"),
            )
            .hint(format!(
                "see `pipectl plan show {id}`, stop it with `pipectl plan cancel {id}`"
            )),
            ClientError::Interrupted => Failure::new(
                Exit::Interrupted,
                format!("interrupted: plan {id} goes on in the daemon"),
            )
            .hint(format!(
                "see `pipectl plan show {id}`, stop it with `pipectl plan cancel {id}`"
            )),
            ClientError::Closed { .. } => {
                Failure::new(Exit::Failed, format!("follow plan {id}: {error}")).hint(format!(
                    "what was done is recorded: `pipectl plan show {id}` once the daemon is back"
                ))
            }
            other => other.into(),
        }
    })
}

/// Follows the plan to its end, whether the daemon answers `plan.run` at the end or at once.
fn follow(
    client: &mut Client,
    plan: &Plan,
    request: u64,
    deadline: Deadline,
    bar: &ProgressBar,
) -> Result<Plan, ClientError> {
    const POLL: Duration = Duration::from_millis(200);
    let broken = |error: serde_json::Error| ClientError::Nonsense {
        what: format!("the answer to plan.run: {error}"),
    };
    let mut now: Plan = loop {
        while let Some(told) = client.pending_notification() {
            if told.method == "plan.progress"
                && let Some(done) = told.params.get("progress").and_then(Value::as_u64)
                && told
                    .params
                    .get("id")
                    .is_none_or(|id| id.as_str() == Some(&plan.id))
            {
                bar.set_position(done);
            }
        }
        if let Some(answer) = client.answer_by(request, deadline.or_after(POLL))? {
            break serde_json::from_value(answer).map_err(broken)?;
        }
        if deadline.is_over() {
            return Err(ClientError::TimedOut {
                method: Some("plan.run"),
            });
        }
        bar.tick();
    };
    while matches!(now.state, State::Ready | State::Running) {
        bar.set_position(now.progress);
        if deadline.is_over() {
            return Err(ClientError::TimedOut {
                method: Some("plan.run"),
            });
        }
        // Waiting on the socket and not on the clock, so that Ctrl-C and a closed connection are noticed.
        client.idle(deadline.or_after(POLL))?;
        while let Some(told) = client.pending_notification() {
            if let Some(done) = told.params.get("progress").and_then(Value::as_u64) {
                bar.set_position(done);
            }
        }
        now = client.call_until(
            "plan.show",
            PlanIdParams {
                id: plan.id.clone(),
            },
            deadline,
        )?;
    }
    Ok(now)
}

fn bar(app: &App, plan: &Plan) -> ProgressBar {
    if !app.screen.can_animate {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(plan.matched), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(plan.action.word());
    bar
}

/// 0 if all went as asked, 5 if only a part of it did, 1 if nothing did.
fn verdict(plan: &Plan, outcome: &Outcome) -> Exit {
    let asked = match plan.action {
        Action::Dead => outcome.applied + outcome.dead,
        Action::Claim | Action::Ack | Action::Retry | Action::Redrive | Action::Purge => {
            outcome.applied
        }
    };
    if asked >= plan.matched && plan.state == State::Done {
        Exit::Ok
    } else if asked == 0 && outcome.failed >= plan.matched {
        Exit::Failed
    } else {
        Exit::Partly
    }
}

fn title(plan: &Plan) -> String {
    format!("{} {}", plan.action.noun(), plan.action.word())
}

const GROUPED: &[Column] = &[
    Column::text("STAGE", 0, 6),
    Column::number("ENTRIES", 0),
    Column::text("FIRST IDS", 1, 15),
];

/// The document of every action, and of `plan show`.
pub(super) fn document(plan: &Plan, outcome: Option<&Outcome>) -> Result<Document, Failure> {
    let mut text = Text::default();
    let mut head = vec![
        Span(
            Tone::Strong,
            format!("{} {}", title(plan), entries(plan.matched)),
        ),
        Span(Tone::Dim, format!("plan {}", plan.id)),
        Span(state_tone(plan.state), status::word(&plan.state)),
    ];
    if let Some(to) = &plan.to {
        head.push(Span(Tone::Plain, format!("to {to}")));
    }
    text.0.push(crate::output::Block::Line(head));
    if !plan.sample.is_empty() {
        // The sample is the whole list unless the plan is larger than what the daemon names.
        let whole = plan.sample.len() as u64 == plan.matched;
        let mut by_stage: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in &plan.sample {
            by_stage.entry(&entry.stage).or_default().push(&entry.id);
        }
        let mut table = Table::new(GROUPED);
        for (stage, ids) in by_stage {
            let n = count(ids.len() as u64);
            let mut first = ids
                .iter()
                .take(SAMPLE)
                .copied()
                .collect::<Vec<_>>()
                .join(" ");
            if ids.len() > SAMPLE {
                first.push_str(" ...");
            }
            table.rows.push(vec![
                Cell::new(stage),
                Cell::new(if whole { n } else { format!("{n}+") }),
                Cell::new(first).tone(Tone::Dim),
            ]);
        }
        text.table(table);
    }
    if !plan.skipped.is_empty() {
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for skipped in &plan.skipped {
            *reasons.entry(&skipped.reason).or_default() += 1;
        }
        let fields = reasons
            .iter()
            .map(|(reason, n)| Span(Tone::Warn, format!("{} ({reason})", count(*n))));
        text.labelled("skipped", fields.collect());
    }
    match outcome {
        None => text.labelled("equal", vec![Span(Tone::Dim, plan.command.clone())]),
        Some(outcome) => result(outcome, &mut text),
    }
    let body = ActionDocument {
        plan: plan.clone(),
        result: outcome.cloned(),
    };
    Document::one("plan", &body, text)
}

fn result(outcome: &Outcome, text: &mut Text) {
    let counts = [
        ("applied", outcome.applied, Tone::Good),
        ("dead", outcome.dead, Tone::Warn),
        ("already done", outcome.already_done, Tone::Plain),
        ("trimmed", outcome.trimmed, Tone::Bad),
        ("not found", outcome.not_found, Tone::Warn),
        ("failed", outcome.failed, Tone::Bad),
        ("waiting", outcome.waiting, Tone::Warn),
    ];
    let mut fields: Vec<Span> = counts
        .into_iter()
        .filter(|(name, n, _)| *n > 0 || *name == "applied")
        .map(|(name, n, tone)| Span(tone, format!("{name} {}", count(n))))
        .collect();
    if outcome.waiting > 0 {
        fields.push(Span(
            Tone::Dim,
            "(handed over, not committed yet)".to_owned(),
        ));
    }
    text.labelled("result", fields);
    for exception in outcome.exceptions.iter().take(SAMPLE) {
        text.labelled(
            "",
            vec![
                Span(Tone::Plain, exception.id.clone()),
                Span(Tone::Warn, exception.reason.clone()),
            ],
        );
    }
    if outcome.exceptions.len() > SAMPLE {
        let rest = outcome.exceptions.len() - SAMPLE;
        text.labelled(
            "",
            vec![Span(
                Tone::Dim,
                format!("and {rest} more; see them all with -o json"),
            )],
        );
    }
}

/// The colour of a plan's state.
pub(super) fn state_tone(state: State) -> Tone {
    match state {
        State::Ready => Tone::Plain,
        State::Done => Tone::Good,
        State::Running | State::Cancelled | State::Expired | State::Undone => Tone::Warn,
        State::Interrupted => Tone::Bad,
    }
}

fn entries(n: u64) -> String {
    if n == 1 {
        "1 entry".to_owned()
    } else {
        format!("{} entries", count(n))
    }
}

/// Runs one command of the daemon's catalogue. What the daemon calls high risk is asked for like a plan.
pub(super) fn command(
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
pub(super) fn call_until(
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
                ParamKind::Text | ParamKind::Duration | ParamKind::Choice(_) => false,
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
