//! `daemon.drain`: finish what is in flight, then stop, as on SIGTERM.

use std::sync::atomic::Ordering;

use pipectl_shared::rpc::Role;
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run};
use super::context::Context;
use crate::journal::Level;

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    Spec {
        name: "daemon.drain".to_owned(),
        summary: "Stops reading, finishes what is in flight, and stops the daemon.".to_owned(),
        params: vec![Param {
            name: "all".to_owned(),
            summary: "Whether to stop the managed Redis too, even while other daemons use it."
                .to_owned(),
            kind: ParamKind::Choice(vec!["false".to_owned(), "true".to_owned()]),
            default: Some("false".to_owned()),
        }],
        scope: Scope::Daemon,
        risk: Risk::Medium,
        role: Role::Admin,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let grace_ms = u64::try_from(context.config.daemon.drain.as_millis()).unwrap_or(u64::MAX);
        let was_draining = context.shutdown.is_cancelled();
        if dry_run {
            return Ok(json!({"would": "drain and stop the daemon", "grace_ms": grace_ms}));
        }
        if params.get("all").and_then(Value::as_str) == Some("true") {
            context.stop_server.store(true, Ordering::Relaxed);
        }
        if !was_draining {
            context.journal.tell(
                Level::Action,
                "daemon.drain",
                None,
                "an operator drains the daemon",
            );
            context.shutdown.cancel();
        }
        Ok(
            json!({"message": "draining: finishes what is in flight, then stops", "draining": true, "was_draining": was_draining, "grace_ms": grace_ms}),
        )
    })
}
