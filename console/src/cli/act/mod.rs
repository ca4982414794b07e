//! Acting on entries: plans are made, shown, confirmed, run and followed to their result (semantics.md section 9).
//! Single commands have a file of their own.

mod command;
mod document;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pipectl_shared::plan::{Action, Outcome, Plan, PlanParams, Selection, State};
use pipectl_shared::rpc::{PlanIdParams, PlanRunParams};
use serde_json::Value;

use super::Verdict;
use super::app::App;
use super::select::not_empty;
use crate::client::{Client, ClientError};
use crate::clock::Deadline;
use crate::failure::{Exit, Failure};
use crate::output::Format;
pub(super) use command::{CommandFlags, call_until, command};
pub(super) use document::{document, state_tone};

/// How long a plan is followed unless `--timeout` says otherwise; it goes on in the daemon after that.
const FOLLOW: Duration = Duration::from_secs(60);

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
