//! Every method that changes something, with its row in the audit file.

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::chaos::{LeverParams, StopParams};
use pipectl_shared::plan::PlanParams;
use pipectl_shared::rpc::{
    Code, CommandParams, Error, IngestCloseParams, PlanIdParams, PlanRunParams, Role,
};
use serde_json::{Value, json};

use super::ingest::Ingests;
use super::methods::{ActCall, Method, parse};
use super::session::Session;
use crate::commands::visible;
use crate::params::check;
use crate::plans::words::{hint_names, quote};

/// Longest reason of an operator, in bytes.
const REASON_MAX: usize = 1_024;
/// A refused act is answered after this pause, so that a client that may not act cannot fill the audit file quickly.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Does what changes something.
pub(super) async fn act(
    session: &Arc<Session>,
    ingests: &mut Ingests,
    method: &Method,
    call: ActCall,
    params: Value,
) -> Result<Value, Error> {
    let refusal = if session.role < method.role {
        Some(refused(session, method.name, method.role))
    } else if method.chaos && !session.may_chaos {
        Some(chaos_refused(method.name))
    } else {
        None
    };
    if let Some(error) = refusal {
        let reason = params
            .get("reason")
            .and_then(Value::as_str)
            .map(str::to_owned);
        session
            .record(
                method.name,
                &told(&params),
                reason,
                format!("refused: {}", error.message),
            )
            .await;
        tokio::time::sleep(REFUSAL_PAUSE).await;
        return Err(error);
    }
    let house = &session.house;
    let context = &house.context;
    match call {
        ActCall::PlanCreate => {
            session.tell_progress();
            let params: PlanParams = parse(params)?;
            Ok(json!(context.plans.create(params, &session.peer).await?))
        }
        ActCall::PlanRun => {
            session.tell_progress();
            let target = told(&params);
            match parse::<PlanRunParams>(params).and_then(|p| check_reason(&p.reason).map(|()| p)) {
                // From here on the plan writes its row.
                Ok(params) => Ok(json!(context.plans.run(&params, &session.peer).await?)),
                Err(error) => {
                    session
                        .record(method.name, &target, None, verdict(&Err(error.clone())))
                        .await;
                    Err(error)
                }
            }
        }
        ActCall::PlanCancel | ActCall::PlanUndo => {
            let target = told(&params);
            let result = match parse::<PlanIdParams>(params) {
                Ok(PlanIdParams { id }) if call == ActCall::PlanCancel => {
                    context.plans.cancel(&id).await
                }
                Ok(PlanIdParams { id }) => context.plans.undo(&id),
                Err(error) => Err(error),
            };
            let result = result.map(|plan| json!(plan));
            session
                .record(method.name, &target, None, verdict(&result))
                .await;
            result
        }
        ActCall::Command => command(session, params).await,
        ActCall::ChaosRun | ActCall::ChaosStop | ActCall::ChaosLever => {
            chaos(session, method.name, call, params).await
        }
        ActCall::IngestOpen => ingests
            .open(context, parse(params)?)
            .map(|opened| json!(opened)),
        ActCall::IngestPush => {
            let pushed = ingests.push(context, &house.owed, parse(params)?).await?;
            Ok(json!(pushed))
        }
        ActCall::IngestClose => {
            let params: IngestCloseParams = parse(params)?;
            let (sums, ended) = ingests.close(context, &params).await?;
            if let Some(ended) = ended {
                session
                    .record(
                        "ingest",
                        ended.name(),
                        None,
                        format!("ok: {}", ended.in_words()),
                    )
                    .await;
            }
            Ok(json!(sums))
        }
    }
}

/// Experiments; one audit row each, none for a dry run.
async fn chaos(
    session: &Arc<Session>,
    name: &str,
    call: ActCall,
    params: Value,
) -> Result<Value, Error> {
    let keeper = &session.house.context.chaos;
    let who = &session.peer.user;
    let mut shown = params.as_object().cloned().unwrap_or_default();
    let own = shown.remove("params").unwrap_or_default();
    shown.remove("dry_run");
    let target = format!("{} {}", told(&Value::Object(shown)), told(&own));
    let target = target.trim();
    let reason = params.get("reason").and_then(Value::as_str);
    let reason = reason.map(|text| text[..text.floor_char_boundary(REASON_MAX)].to_owned());
    let is_dry = call == ActCall::ChaosRun && params.get("dry_run") == Some(&Value::Bool(true));
    let done = async {
        check_reason(
            &params
                .get("reason")
                .and_then(Value::as_str)
                .map(str::to_owned),
        )?;
        match call {
            ActCall::ChaosStop => {
                let StopParams { reason } = parse(params)?;
                let id = keeper.stop(who, &reason.unwrap_or_default()).await?;
                Ok(
                    json!({"id": id, "message": "stopping: everything is taken back, then it is reported"}),
                )
            }
            ActCall::ChaosLever => {
                let LeverParams { pull, reason } = parse(params)?;
                Ok(json!(keeper.lever(pull, who, reason).await?))
            }
            _ if is_dry => Ok(json!(keeper.preview(parse(params)?).await?)),
            _ => Ok(json!(keeper.run(parse(params)?, who).await?)),
        }
    };
    let result = done.await;
    if !is_dry {
        session.record(name, target, reason, verdict(&result)).await;
    }
    result
}

/// One command of the gallery; one audit row unless nothing was to be done anyway.
async fn command(session: &Arc<Session>, params: Value) -> Result<Value, Error> {
    let target = told(params.get("params").unwrap_or(&Value::Null));
    let parsed = parse::<CommandParams>(params);
    let (name, reason, dry_run) = match &parsed {
        Ok(p) => (p.name.clone(), p.reason.clone(), p.dry_run),
        Err(_) => ("command.run".to_owned(), None, false),
    };
    let (result, is_refused_by_role) = match parsed {
        Ok(params) => run_command(session, &params).await,
        Err(error) => (Err(error), false),
    };
    if !dry_run {
        let name = if name.is_empty() {
            "command.run"
        } else {
            &name[..name.floor_char_boundary(64)]
        };
        let reason = reason.map(|text| text[..text.floor_char_boundary(REASON_MAX)].to_owned());
        session
            .record(name, &target, reason, verdict(&result))
            .await;
    }
    if is_refused_by_role {
        tokio::time::sleep(REFUSAL_PAUSE).await;
    }
    result
}

async fn run_command(
    session: &Arc<Session>,
    params: &CommandParams,
) -> (Result<Value, Error>, bool) {
    let context = &session.house.context;
    let commands = visible(context.test_commands);
    let Some((command, spec)) = commands
        .clone()
        .map(|c| (c, (c.spec)()))
        .find(|(_, spec)| spec.name == params.name)
    else {
        let names: Vec<_> = commands.map(|c| (c.spec)().name).collect();
        let message = format!("there is no command {}", quote(&params.name));
        let hint = hint_names(&params.name, names.iter().map(String::as_str));
        return (Err(Error::new(Code::NotFound, message).hint(hint)), false);
    };
    if session.role < spec.role {
        return (Err(refused(session, &spec.name, spec.role)), true);
    }
    if let Err(error) = check_reason(&params.reason) {
        return (Err(error), false);
    }
    let checked = match check(&spec, &params.params, &context.layout) {
        Ok(checked) => checked,
        Err(error) => return (Err(error), false),
    };
    (
        (command.run)(context, &checked, params.dry_run).await,
        false,
    )
}

fn refused(session: &Session, what: &str, needed: Role) -> Error {
    let word = |role| match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    };
    let message = format!(
        "{what} needs role {}; this connection is {}",
        word(needed),
        word(session.role)
    );
    let hint = match needed {
        Role::Viewer | Role::Operator => {
            "members of group pipelined-ops may act; [control] max_role may lower it"
        }
        Role::Admin => "root and the daemon's own user may; [control] max_role may lower it",
    };
    Error::new(Code::Refused, message).hint(hint)
}

fn chaos_refused(what: &str) -> Error {
    let message =
        format!("{what} needs the right to run experiments, which this connection has not");
    Error::new(Code::Refused, message).hint(
        "admins and members of group pipelined-chaos have it; [control] max_role may take it from admins",
    )
}

fn check_reason(reason: &Option<String>) -> Result<(), Error> {
    match reason {
        Some(text) if text.len() > REASON_MAX => Err(Error::new(
            Code::InvalidParams,
            format!("the reason is longer than {REASON_MAX} bytes"),
        )),
        _ => Ok(()),
    }
}

/// What came of an act, for the audit file.
fn verdict(result: &Result<Value, Error>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) if error.is(Code::Internal) || error.is(Code::Unavailable) => {
            format!("failed: {}", error.message)
        }
        Err(error) => format!("refused: {}", error.message),
    }
}

/// Parameters for the audit file: `stage=count workers=4`, cut, raw.
fn told(params: &Value) -> String {
    let Some(object) = params.as_object() else {
        return String::new();
    };
    let mut text = String::new();
    for (name, value) in object.iter().filter(|(name, _)| *name != "reason") {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Object(_) => "...".to_owned(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        };
        let cut = |text: &str| text[..text.floor_char_boundary(256)].to_owned();
        text.push_str(&format!(
            "{}{}={}",
            if text.is_empty() { "" } else { " " },
            cut(name),
            cut(&value)
        ));
        if text.len() > 1_024 {
            break;
        }
    }
    text
}
