//! `consumer.retire`: takes a consumer that holds nothing out of its group.

use std::sync::Arc;

use pipectl_shared::rpc::{Code, Error, Role};
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run, stage};
use super::context::Context;
use super::stage_pause::stage_param;
use crate::journal::Level;
use crate::plans::words::{quote, store_error};
use crate::runtime::StageHandle;

pub(super) const COMMAND: Command = Command { spec, run };

fn spec() -> Spec {
    let stage = Param {
        summary: "Name of the stage; may be left out where only one group has the consumer."
            .to_owned(),
        default: Some(String::new()),
        ..stage_param()
    };
    let consumer = Param {
        name: "consumer".to_owned(),
        summary: "Name of the consumer, as in: pipectl consumers ls.".to_owned(),
        kind: ParamKind::Consumer,
        default: None,
    };
    Spec {
        name: "consumer.retire".to_owned(),
        summary: "Deletes a consumer that holds no entries; refused while it holds some."
            .to_owned(),
        params: vec![stage, consumer],
        scope: Scope::Stage,
        risk: Risk::Medium,
        role: Role::Operator,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let consumer = params
            .get("consumer")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let shown = quote(consumer);
        let refused =
            |message: String, hint: String| Err(Error::new(Code::Refused, message).hint(hint));
        let (index, stage, n_held) = find(context, params, consumer).await?;
        if stage
            .workers()
            .iter()
            .any(|w| w.consumer == consumer && w.state != "stopped")
        {
            return refused(
                format!("{shown} is a worker of this daemon and runs"),
                format!("run fewer workers: pipectl scale {} N", stage.name),
            );
        }
        let holds = |n: u64| {
            let message = format!("{shown} still holds {n} entries");
            let hint = format!(
                "hand them to a live worker first: pipectl pending claim --stage {} --consumer NAME",
                stage.name
            );
            refused(message, hint)
        };
        if dry_run {
            if n_held > 0 {
                return holds(n_held);
            }
            return Ok(
                json!({"would": format!("delete consumer {shown} of stage {}", stage.name)}),
            );
        }
        match context
            .admin
            .retire(index, consumer)
            .await
            .map_err(store_error)?
        {
            0 => {
                let text = format!("an operator deleted consumer {shown}");
                context
                    .journal
                    .tell(Level::Action, "consumer.retired", Some(&stage.name), text);
                Ok(json!({"stage": stage.name, "consumer": consumer, "retired": true}))
            }
            n => holds(n),
        }
    })
}

/// The one stage whose group has this consumer, and how many entries it holds there.
async fn find<'a>(
    context: &'a Context,
    params: &Map<String, Value>,
    consumer: &str,
) -> Result<(usize, &'a Arc<StageHandle>, u64), Error> {
    let stages: Vec<_> = match params.contains_key("stage") {
        true => vec![stage(context, params)?],
        false => context.handle.stages.iter().enumerate().collect(),
    };
    let mut found = Vec::new();
    for (index, stage) in stages {
        let consumers = context.admin.consumers(index).await.map_err(store_error)?;
        found.extend(
            consumers
                .iter()
                .filter(|c| c.name == consumer.as_bytes())
                .map(|c| (index, stage, c.pending)),
        );
    }
    match found[..] {
        [one] => Ok(one),
        [] => {
            let message = format!("there is no consumer named {}", quote(consumer));
            Err(Error::new(Code::NotFound, message).hint("see: pipectl consumers ls"))
        }
        _ => {
            let names: Vec<_> = found
                .iter()
                .map(|(_, stage, _)| stage.name.as_str())
                .collect();
            let message = format!(
                "{} is a consumer of the stages {}",
                quote(consumer),
                names.join(" and ")
            );
            Err(Error::new(Code::InvalidParams, message).hint("say which: --stage NAME"))
        }
    }
}
