//! `stage.pause`: the workers of a stage finish what they hold and read no more.

use pipectl_shared::rpc::Role;
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run};
use super::context::Context;
use crate::journal::Level;

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    Spec {
        name: "stage.pause".to_owned(),
        summary: "Stops reading in a stage; its workers finish what they hold.".to_owned(),
        params: vec![stage_param()],
        scope: Scope::Stage,
        risk: Risk::Low,
        role: Role::Operator,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move { set_paused(context, params, dry_run, true) })
}

/// The parameter that the stage commands share.
pub(super) fn stage_param() -> Param {
    Param {
        name: "stage".to_owned(),
        summary: "Name of the stage.".to_owned(),
        kind: ParamKind::Stage,
        default: None,
    }
}

/// What `stage.pause` and `stage.resume` have in common.
pub(super) fn set_paused(
    context: &Context,
    params: &Map<String, Value>,
    dry_run: bool,
    paused: bool,
) -> Result<Value, pipectl_shared::rpc::Error> {
    let (_, stage) = super::command::stage(context, params)?;
    let was_paused = stage.is_paused();
    let word = if paused { "pause" } else { "resume" };
    if dry_run {
        return Ok(
            json!({"would": format!("{word} stage {}", stage.name), "was_paused": was_paused}),
        );
    }
    stage.paused.set(paused);
    let name = if paused {
        "stage.paused"
    } else {
        "stage.resumed"
    };
    context.journal.tell(
        Level::Action,
        name,
        Some(&stage.name),
        format!("an operator {word}d the stage"),
    );
    Ok(json!({"stage": stage.name, "paused": paused, "was_paused": was_paused}))
}
