//! `stage.take`: an owned stage is worked by this daemon from now on. Its owner elsewhere is asked to give it up, which it
//! does between two commits; nothing is interrupted.

use std::time::Duration;

use pipectl_shared::rpc::{Code, Error, Role};
use pipectl_shared::spec::{Risk, Scope, Spec};
use serde_json::{Map, Value, json};

use super::command::{Command, Run, stage};
use super::context::Context;
use super::stage_pause::stage_param;
use crate::journal::Level;

pub(super) const COMMAND: Command = Command { spec, run };

/// An owner hears of the wish within half a second, one that died leaves its lease within two: more is no answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn spec() -> Spec {
    Spec {
        name: "stage.take".to_owned(),
        summary: "Takes over an owned stage: this daemon works it from now on.".to_owned(),
        params: vec![stage_param()],
        scope: Scope::Stage,
        risk: Risk::Medium,
        role: Role::Operator,
    }
}

fn run<'a>(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a> {
    Box::pin(async move {
        let (_, stage) = stage(context, params)?;
        let refuse = |why: String, hint: &str| Err(Error::new(Code::Refused, why).hint(hint));
        if !stage.owned {
            let why = format!("stage {} is shared: every worker works it", stage.name);
            return refuse(why, "pipectl scale changes how many workers it has here");
        }
        let mut here = stage.owned_here.subscribe();
        let was_here = *here.borrow_and_update();
        if dry_run {
            let would = format!("take over stage {}", stage.name);
            return Ok(json!({"would": would, "was_here": was_here}));
        }
        if stage.is_paused() {
            let why = format!("stage {} is paused in this daemon", stage.name);
            return refuse(why, "pipectl resume lets it work; then take it over");
        }
        if *stage.wanted.borrow() == 0 {
            let why = format!("stage {} has no worker in this daemon", stage.name);
            return refuse(why, "pipectl scale STAGE 1 starts one");
        }
        let patience_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        stage.take_over(context.clock.now_ms().saturating_add(patience_ms));
        let came = tokio::time::timeout(PATIENCE, here.wait_for(|is_here| *is_here)).await;
        stage.take_over(0);
        if !matches!(came, Ok(Ok(_))) {
            let why = format!(
                "stage {} was not given up within {PATIENCE:?}; it stays where it is",
                stage.name
            );
            return refuse(why, "pipectl consumers ls --stage STAGE tells who owns it");
        }
        if !was_here {
            let text = "an operator had this daemon take over the stage";
            context
                .journal
                .tell(Level::Action, "stage.taken", Some(&stage.name), text);
        }
        let message = if was_here {
            format!("stage {} was owned here already", stage.name)
        } else {
            format!("stage {} is owned here now", stage.name)
        };
        Ok(json!({"stage": stage.name, "here": true, "was_here": was_here, "message": message}))
    })
}
