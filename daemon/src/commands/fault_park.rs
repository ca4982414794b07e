//! `x-fault.park` (tests only): a worker stops at a named point until it is released, as if it had hung there.

use pipectl_shared::rpc::{Code, Error, Role};
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run};
use super::context::Context;
use crate::chaos::Point;
use crate::plans::words::quote;

pub(super) const COMMAND: Command = Command { spec, run };

const POINTS: [(&str, Point); 3] = [
    ("after_read", Point::AfterRead),
    ("before_commit", Point::BeforeCommit),
    ("after_commit", Point::AfterCommit),
];

fn spec() -> Spec {
    let point = Param {
        name: "point".to_owned(),
        summary: "Where it stops.".to_owned(),
        kind: ParamKind::Choice(POINTS.iter().map(|(word, _)| (*word).to_owned()).collect()),
        default: Some("after_read".to_owned()),
    };
    Spec {
        name: "x-fault.park".to_owned(),
        summary: "Stops a worker at a point until it is released; for tests.".to_owned(),
        params: vec![consumer_param(), point],
        scope: Scope::Stage,
        risk: Risk::Medium,
        role: Role::Admin,
    }
}

/// The parameter that the fault commands share.
pub(super) fn consumer_param() -> Param {
    Param {
        name: "consumer".to_owned(),
        summary: "Consumer name of the worker.".to_owned(),
        kind: ParamKind::Consumer,
        default: None,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default();
        let consumer = text("consumer");
        if !context.handle.is_worker(consumer) {
            let message = format!("{} is no worker of this daemon", quote(consumer));
            return Err(Error::new(Code::NotFound, message).hint("see: pipectl consumers ls"));
        }
        let Some((word, point)) = POINTS.iter().find(|(word, _)| *word == text("point")) else {
            return Err(Error::new(
                Code::Internal,
                "a point of the Spec is not known",
            ));
        };
        if dry_run {
            return Ok(json!({"would": format!("park {consumer} at {word}")}));
        }
        context.faults.park(consumer, *point);
        Ok(json!({"consumer": consumer, "point": word}))
    })
}
