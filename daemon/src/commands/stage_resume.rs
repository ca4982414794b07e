//! `stage.resume`: a paused stage reads again.

use pipectl_shared::rpc::Role;
use pipectl_shared::spec::{Risk, Scope, Spec};
use serde_json::{Map, Value};

use super::command::{Command, Run};
use super::context::Context;
use super::stage_pause::{set_paused, stage_param};

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    Spec {
        name: "stage.resume".to_owned(),
        summary: "Lets a paused stage read again.".to_owned(),
        params: vec![stage_param()],
        scope: Scope::Stage,
        risk: Risk::Low,
        role: Role::Operator,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move { set_paused(context, params, dry_run, false) })
}
