//! `stage.scale`: how many workers of a stage this daemon runs. Until the next start; the configuration stays.

use pipectl_shared::rpc::{Code, Error, Role};
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run, stage};
use super::context::Context;
use super::stage_pause::stage_param;
use crate::journal::Level;

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    let workers = Param {
        name: "workers".to_owned(),
        summary: "Workers that should run in this daemon, 0 to 64.".to_owned(),
        kind: ParamKind::Integer { min: 0, max: 64 },
        default: None,
    };
    Spec {
        name: "stage.scale".to_owned(),
        summary: "Changes how many workers of a stage run, until the next start.".to_owned(),
        params: vec![stage_param(), workers],
        scope: Scope::Stage,
        risk: Risk::Low,
        role: Role::Operator,
    }
}

/// One partition has one owner: more workers of this daemon could only stand by.
fn refused(stage: &str) -> Error {
    let message = format!("stage {stage} is owned: one worker works it, in order");
    Error::new(Code::Refused, message)
        .hint("start another daemon for a standby; 0 hands the stage over to it")
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let (_, stage) = stage(context, params)?;
        // The Spec bounds it, so this cannot be lost.
        let workers = params
            .get("workers")
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0);
        let is_owned = context
            .layout
            .stage(&stage.name)
            .is_some_and(|(_, names)| names.owned);
        if is_owned && workers > 1 {
            return Err(refused(&stage.name));
        }
        let before = *stage.wanted.borrow();
        if dry_run {
            let would = format!(
                "run {workers} workers of stage {} instead of {before}",
                stage.name
            );
            return Ok(json!({"would": would, "before": before}));
        }
        stage.wanted.send_replace(workers);
        let text = format!("an operator scaled the stage from {before} to {workers} workers");
        context
            .journal
            .tell(Level::Action, "stage.scaled", Some(&stage.name), text);
        Ok(json!({"stage": stage.name, "workers": workers, "before": before}))
    })
}
