//! `consumer.retire`: takes a consumer that holds nothing out of its group.

use pipectl_shared::rpc::{Code, Error, Role};
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run, stage};
use super::context::Context;
use super::stage_pause::stage_param;
use crate::journal::Level;
use crate::plans::words::{quote, store_error};

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    let consumer = Param {
        name: "consumer".to_owned(),
        summary: "Name of the consumer, as in: pipectl consumers ls.".to_owned(),
        kind: ParamKind::Consumer,
        default: None,
    };
    Spec {
        name: "consumer.retire".to_owned(),
        summary: "Deletes a consumer that holds no entries; refused while it holds some.".to_owned(),
        params: vec![stage_param(), consumer],
        scope: Scope::Stage,
        risk: Risk::Medium,
        role: Role::Operator,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let (index, stage) = stage(context, params)?;
        let consumer = params.get("consumer").and_then(Value::as_str).unwrap_or_default();
        let shown = quote(consumer);
        let refused = |message: String, hint: String| Err(Error::new(Code::Refused, message).hint(hint));
        if stage.workers().iter().any(|w| w.consumer == consumer && w.state != "stopped") {
            return refused(
                format!("{shown} is a worker of this daemon and runs"),
                format!("run fewer workers: pipectl scale {} N", stage.name),
            );
        }
        let known = context.admin.consumers(index).await.map_err(store_error)?;
        let Some(found) = known.iter().find(|c| c.name == consumer.as_bytes()) else {
            let message = format!("stage {} has no consumer named {shown}", stage.name);
            return Err(Error::new(Code::NotFound, message).hint("see: pipectl consumers ls"));
        };
        let holds = |n: u64| {
            let message = format!("{shown} still holds {n} entries");
            let hint = format!("hand them to a live worker first: pipectl pending claim --stage {} --consumer NAME", stage.name);
            refused(message, hint)
        };
        if dry_run {
            if found.pending > 0 {
                return holds(found.pending);
            }
            return Ok(json!({"would": format!("delete consumer {shown} of stage {}", stage.name)}));
        }
        match context.admin.retire(index, consumer).await.map_err(store_error)? {
            0 => {
                let text = format!("an operator deleted consumer {shown}");
                context.journal.tell(Level::Action, "consumer.retired", Some(&stage.name), text);
                Ok(json!({"stage": stage.name, "consumer": consumer, "retired": true}))
            }
            n => holds(n),
        }
    })
}
