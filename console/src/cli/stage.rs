//! `pipectl pause|resume|scale|take STAGE`: steering one stage.

use serde_json::{Map, Value};

use super::Verdict;
use super::act::{self, CommandFlags};
use super::app::App;

/// Stop reading in a stage; what it holds is finished
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    /// Stage
    stage: String,
    #[command(flatten)]
    flags: CommandFlags,
}

/// Read again in a stage that was paused
#[derive(Debug, clap::Args)]
pub(super) struct ResumeArgs {
    /// Stage
    stage: String,
    #[command(flatten)]
    flags: CommandFlags,
}

/// Change the number of workers of a stage, until the daemon restarts
#[derive(Debug, clap::Args)]
pub(super) struct ScaleArgs {
    /// Stage
    stage: String,
    /// Workers
    #[arg(value_name = "N")]
    workers: u32,
    #[command(flatten)]
    flags: CommandFlags,
}

/// Take over an owned stage: this daemon works it from now on
#[derive(Debug, clap::Args)]
pub(super) struct TakeArgs {
    /// Stage
    stage: String,
    #[command(flatten)]
    flags: CommandFlags,
}

pub(super) fn pause(app: &App, args: PauseArgs) -> Verdict {
    act::command(app, "stage.pause", of_stage(args.stage), &args.flags)
}

pub(super) fn resume(app: &App, args: ResumeArgs) -> Verdict {
    act::command(app, "stage.resume", of_stage(args.stage), &args.flags)
}

pub(super) fn scale(app: &App, args: ScaleArgs) -> Verdict {
    let mut params = of_stage(args.stage);
    params.insert("workers".to_owned(), args.workers.into());
    act::command(app, "stage.scale", params, &args.flags)
}

pub(super) fn take(app: &App, args: TakeArgs) -> Verdict {
    act::command(app, "stage.take", of_stage(args.stage), &args.flags)
}

fn of_stage(stage: String) -> Map<String, Value> {
    Map::from_iter([("stage".to_owned(), Value::from(stage))])
}
