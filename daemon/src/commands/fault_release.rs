//! `x-fault.release` (tests only): a parked worker goes on, wherever it is parked.

use pipectl_shared::rpc::Role;
use pipectl_shared::spec::{Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run};
use super::context::Context;
use super::fault_park::consumer_param;

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    Spec {
        name: "x-fault.release".to_owned(),
        summary: "Lets a parked worker go on; for tests.".to_owned(),
        params: vec![consumer_param()],
        scope: Scope::Stage,
        risk: Risk::Low,
        role: Role::Admin,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let consumer = params
            .get("consumer")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if dry_run {
            return Ok(json!({"would": format!("release {consumer}")}));
        }
        Ok(json!({"consumer": consumer, "released": context.faults.release(consumer)}))
    })
}
