//! `pipectl plan ls|show|run|cancel`: plans that were made here or in the console.

use pipectl_shared::plan::{Plan, State};
use pipectl_shared::rpc::{PageParams, PlanIdParams};
use pipectl_shared::snapshot::Page;
use serde_json::Value;

use super::act::{self, ActFlags};
use super::app::App;
use super::page::{self, PageFlags};
use super::{Verdict, status};
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure};
use crate::output::human::count;
use crate::output::{Cell, Column, Table, Tone};

/// Plans: what an operator wants done, frozen as a list of ids
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List them, the newest first
    Ls(PageFlags),
    /// Show one with its progress and result
    Show {
        /// Plan id
        id: String,
    },
    /// Carry out a plan that is ready
    Run {
        /// Plan id
        id: String,
        #[command(flatten)]
        flags: ActFlags,
    },
    /// Stop a plan; what was done before stays done
    Cancel {
        /// Plan id
        id: String,
    },
}

const KEYS: &[&str] = &[
    "id", "action", "state", "matched", "progress", "bulk", "by", "reason", "created", "expires",
    "command",
];

const COLUMNS: &[Column] = &[
    Column::text("ID", 0, 6),
    Column::text("ACTION", 0, 7),
    Column::text("STATE", 1, 11),
    Column::number("MATCHED", 1),
    Column::number("DONE", 2),
    Column::number("APPLIED", 3),
    Column::text("BY", 5, 6),
    Column::text("CREATED", 6, 20),
    Column::text("REASON", 7, 10),
];

pub(super) fn run(app: &App, args: Args) -> Verdict {
    match args.verb {
        Verb::Ls(page) => list(app, &page),
        Verb::Show { id } => app.view(|client| {
            let plan = get(client, &id)?;
            act::document(&plan, plan.result.as_ref())
        }),
        Verb::Run { id, flags } => {
            flags.may_run(app)?;
            let mut client = app.connect()?;
            let plan = get(&mut client, &id)?;
            if plan.state != State::Ready {
                let state = status::word(&plan.state);
                return Err(
                    Failure::new(Exit::Refused, format!("run plan {id}: it is {state}")).hint(
                        "make a new one with the command that it came from: `pipectl plan show`",
                    ),
                );
            }
            act::carry_out(app, &mut client, &plan, &flags)
        }
        Verb::Cancel { id } => {
            app.may_change("plan cancel")?;
            let mut client = app.connect()?;
            let _: Value = client.call("plan.cancel", PlanIdParams { id: id.clone() })?;
            let plan = get(&mut client, &id)?;
            app.screen
                .show(&act::document(&plan, plan.result.as_ref())?)?;
            Ok(Exit::Ok)
        }
    }
}

fn get(client: &mut Client, id: &str) -> Result<Plan, ClientError> {
    client.call("plan.show", PlanIdParams { id: id.to_owned() })
}

fn list(app: &App, flags: &PageFlags) -> Verdict {
    app.view(|client| {
        let page: Page<Plan> = page::collect(flags, |cursor, limit| {
            client.call("plan.list", PageParams { cursor, limit })
        })?;
        let mut table = Table::new(COLUMNS);
        for plan in &page.rows {
            table.rows.push(vec![
                Cell::new(&plan.id).tone(Tone::Strong),
                Cell::new(plan.action.word()),
                Cell::new(status::word(&plan.state)).tone(act::state_tone(plan.state)),
                Cell::new(count(plan.matched)),
                Cell::new(count(plan.progress)),
                // Before it ran there is no result to speak of.
                Cell::new(
                    plan.result
                        .as_ref()
                        .map(|result| count(result.applied))
                        .unwrap_or_default(),
                ),
                Cell::new(&plan.by),
                Cell::new(&plan.created).tone(Tone::Dim),
                Cell::new(plan.reason.as_deref().unwrap_or_default()),
            ]);
        }
        page::document("plans", &page, KEYS, table, "no plans")
    })
}
