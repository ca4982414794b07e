//! What can be asked over the control socket: one table of names and least roles, and what each does.
//!
//! Reads run side by side; acts go through the session's lane. Each act leaves exactly one row in the audit file when it
//! changes something or is refused; `plan.create` and `ingest.*` change no entry by themselves, so only their refusal by
//! role does (a run of a plan is one row, an ingested input is one row).

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::plan::PlanParams;
use pipectl_shared::rpc::{
    AggregatesParams, Code, CommandParams, Error, IngestCloseParams, LatencyParams, PageParams,
    PlanIdParams, PlanRunParams, Preset, Role, TapParams, WatchParams,
};
use pipectl_shared::snapshot::{Event, Page};
use pipectl_shared::untrusted;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::ingest::Ingests;
use super::session::Session;
use super::{documents, lists, stats, tap};
use crate::commands::{Context, check, visible};
use crate::journal::KEPT;
use crate::observe::ledger_document;
use crate::plans::words::{hint_names, quote, store_error};

/// Longest reason of an operator, in bytes.
const REASON_MAX: usize = 1_024;
/// A refused act is answered after this pause, so that a client that may not act cannot fill the audit file quickly.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);
/// Products asked of the store for `aggregates.get`.
const PRODUCTS_MAX: usize = 5_000;

/// One thing that can be asked.
#[derive(Debug)]
pub(super) struct Method {
    /// `noun.verb`.
    pub(super) name: &'static str,
    /// The least role; a command of the gallery may ask for more.
    pub(super) role: Role,
    pub(super) call: Call,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read(Read),
    Act(ActCall),
}

/// Changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Status,
    StatsWatch,
    StatsStop,
    EventsWatch,
    EventsStop,
    Ledger,
    Aggregates,
    Latency,
    PendingPage,
    PendingShow,
    DeadPage,
    DeadShow,
    DeadCauses,
    Groups,
    TapWatch,
    TapStop,
    PlanShow,
    PlanList,
    History,
    Audit,
}

/// Changes something, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ActCall {
    PlanCreate,
    PlanRun,
    PlanCancel,
    PlanUndo,
    Command,
    IngestOpen,
    IngestPush,
    IngestClose,
}

const fn read_as(name: &'static str, call: Read) -> Method {
    Method {
        name,
        role: Role::Viewer,
        call: Call::Read(call),
    }
}

const fn act_as(name: &'static str, call: ActCall) -> Method {
    Method {
        name,
        role: Role::Operator,
        call: Call::Act(call),
    }
}

/// Every method: the whole policy.
pub(super) static METHODS: &[Method] = &[
    read_as("status.get", Read::Status),
    read_as("stats.watch", Read::StatsWatch),
    read_as("stats.stop", Read::StatsStop),
    read_as("events.watch", Read::EventsWatch),
    read_as("events.stop", Read::EventsStop),
    read_as("ledger.get", Read::Ledger),
    read_as("aggregates.get", Read::Aggregates),
    read_as("latency.get", Read::Latency),
    read_as("pending.page", Read::PendingPage),
    read_as("pending.show", Read::PendingShow),
    read_as("dead.page", Read::DeadPage),
    read_as("dead.show", Read::DeadShow),
    read_as("dead.causes", Read::DeadCauses),
    read_as("groups.get", Read::Groups),
    read_as("tap.watch", Read::TapWatch),
    read_as("tap.stop", Read::TapStop),
    read_as("plan.show", Read::PlanShow),
    read_as("plan.list", Read::PlanList),
    read_as("history.range", Read::History),
    read_as("audit.page", Read::Audit),
    act_as("plan.create", ActCall::PlanCreate),
    act_as("plan.run", ActCall::PlanRun),
    act_as("plan.cancel", ActCall::PlanCancel),
    act_as("plan.undo", ActCall::PlanUndo),
    act_as("command.run", ActCall::Command),
    act_as("ingest.open", ActCall::IngestOpen),
    act_as("ingest.push", ActCall::IngestPush),
    act_as("ingest.close", ActCall::IngestClose),
];

/// What follows an answer.
pub(super) enum Then {
    Nothing,
    Stats {
        preset: Preset,
        interval_s: u64,
    },
    Events {
        after: u64,
        receiver: broadcast::Receiver<Event>,
    },
    Tap(tap::Wanted),
    StopStats,
    StopEvents,
    StopTap,
}

/// The method with this name.
pub(super) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// The answer to a method that does not exist.
pub(super) fn unknown(name: &str) -> Error {
    let names = METHODS.iter().map(|method| method.name);
    Error::new(
        Code::MethodNotFound,
        format!("there is no method {}", quote(name)),
    )
    .hint(hint_names(name, names))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Parameters as a type: an object, or nothing. Errors: `InvalidParams`, cleaned.
fn parse<T: DeserializeOwned>(params: Value) -> Result<T, Error> {
    let params = match params {
        Value::Null => json!({}),
        Value::Object(_) => params,
        _ => return Err(Error::new(Code::InvalidParams, "params are an object")),
    };
    serde_json::from_value(params).map_err(|e| {
        let text = e.to_string();
        Error::new(
            Code::InvalidParams,
            untrusted::escape(&text[..text.floor_char_boundary(300)]),
        )
    })
}

/// Answers what changes nothing, and says what follows.
pub(super) async fn read(
    session: &Arc<Session>,
    call: Read,
    params: Value,
) -> Result<(Value, Then), Error> {
    let context = &session.house.context;
    let then = match call {
        Read::StatsWatch => {
            let WatchParams {
                interval_ms,
                preset,
            } = parse(params)?;
            let interval_s = stats::interval_s(interval_ms);
            let answer = json!({"interval_ms": interval_s * 1_000, "preset": preset});
            return Ok((answer, Then::Stats { preset, interval_s }));
        }
        Read::EventsWatch => {
            let Nothing {} = parse(params)?;
            session.tell_progress();
            // Watched before it is read, so that no event falls between.
            let receiver = context.journal.watch();
            let rows = context.journal.last(100);
            let after = rows.last().map_or(0, |event| event.seq);
            return Ok((
                json!(events_page(rows, false)),
                Then::Events { after, receiver },
            ));
        }
        Read::TapWatch => {
            let wanted = tap::Wanted::read(&parse::<TapParams>(params)?, context)?;
            return Ok((wanted.answer(context), Then::Tap(wanted)));
        }
        Read::StatsStop => Then::StopStats,
        Read::EventsStop => Then::StopEvents,
        Read::TapStop => Then::StopTap,
        _ => {
            return read_once(session, call, params)
                .await
                .map(|answer| (answer, Then::Nothing));
        }
    };
    let Nothing {} = parse(params)?;
    Ok((json!({"stopped": true}), then))
}

async fn read_once(session: &Arc<Session>, call: Read, params: Value) -> Result<Value, Error> {
    let context = &session.house.context;
    match call {
        Read::Status => {
            let Nothing {} = parse(params)?;
            Ok(json!(context.observer.latest().status))
        }
        Read::Ledger => {
            let Nothing {} = parse(params)?;
            let depth = context.admin.depth().await.map_err(store_error)?;
            let has_aggregate = context.layout.stages.iter().any(|stage| stage.aggregates);
            Ok(json!(ledger_document(&depth, has_aggregate)))
        }
        Read::Aggregates => aggregates(context, parse(params)?).await,
        Read::Latency => latency(context, &parse(params)?),
        Read::PendingPage => lists::pending(context, parse(params)?).await,
        Read::PendingShow => lists::pending_show(context, parse(params)?).await,
        Read::DeadPage => lists::dead(context, parse(params)?).await,
        Read::DeadShow => lists::dead_show(context, parse(params)?).await,
        Read::DeadCauses => {
            let Nothing {} = parse(params)?;
            lists::causes(context).await
        }
        Read::Groups => {
            let Nothing {} = parse(params)?;
            Ok(groups(context))
        }
        Read::PlanShow => {
            session.tell_progress();
            let PlanIdParams { id } = parse(params)?;
            Ok(json!(context.plans.show(&id).await?))
        }
        Read::PlanList => {
            session.tell_progress();
            plan_list(context, &parse(params)?)
        }
        Read::History => history(context, &parse(params)?),
        Read::Audit => audit(context, &parse(params)?).await,
        Read::StatsWatch
        | Read::StatsStop
        | Read::EventsWatch
        | Read::EventsStop
        | Read::TapWatch
        | Read::TapStop => Err(Error::new(Code::Internal, "a watch is no single answer")),
    }
}

async fn aggregates(context: &Context, params: AggregatesParams) -> Result<Value, Error> {
    // One product may be beyond the greatest ones, so all are asked for then.
    let n_top = if params.product.is_some() {
        0
    } else {
        PRODUCTS_MAX
    };
    let found = context.admin.aggregates(n_top).await.map_err(store_error)?;
    let mut document = documents::aggregates(&found, &context.config, params.product.as_deref());
    if let Some(id) = params.session {
        let count = context
            .admin
            .session(id.as_bytes())
            .await
            .map_err(store_error)?;
        document["session"] = json!({"id": id, "count": count});
    }
    Ok(document)
}

fn latency(context: &Context, params: &LatencyParams) -> Result<Value, Error> {
    if let Some(name) = &params.stage {
        let names = || {
            context
                .layout
                .stages
                .iter()
                .map(|s| s.name.as_str())
                .chain(["pipeline"])
        };
        if !names().any(|known| known == name) {
            let message = format!("no stage is named {}", quote(name));
            return Err(Error::new(Code::InvalidParams, message)
                .hint(hint_names(name, names().collect::<Vec<_>>().into_iter())));
        }
    }
    let rows = context.observer.latency(params.stage.as_deref());
    Ok(json!(Page {
        rows,
        next: None,
        total: None
    }))
}

/// Groups and consumers as of the last tick: their states are judged in one place only, the observer.
fn groups(context: &Context) -> Value {
    let snapshot = context.observer.latest();
    let mut answer = json!({
        "groups": snapshot.groups,
        "consumers": snapshot.consumers,
        "ts_ms": snapshot.ts_ms,
    });
    let left: serde_json::Map<_, _> = ["groups", "consumers"]
        .iter()
        .filter_map(|name| {
            snapshot
                .truncated
                .get(*name)
                .map(|n| ((*name).to_owned(), json!(n)))
        })
        .collect();
    if !left.is_empty() {
        answer["truncated"] = Value::Object(left);
    }
    answer
}

fn plan_list(context: &Context, params: &PageParams) -> Result<Value, Error> {
    let limit = lists::page_limit(params.limit)?;
    let plans = context.plans.list();
    let total = plans.len() as u64;
    let from = match params.cursor.as_deref() {
        None => 0,
        Some(id) => plans
            .iter()
            .position(|plan| plan.id == id)
            .map(|n| n + 1)
            .ok_or_else(|| bad_cursor(id))?,
    };
    let rows = &plans[from..(from + limit).min(plans.len())];
    let rows = &rows[..documents::n_fitting(rows)];
    let is_end = from + rows.len() >= plans.len();
    let next = rows.last().filter(|_| !is_end).map(|plan| plan.id.clone());
    Ok(json!({"rows": rows, "next": next, "total": total}))
}

/// The event log of this process: the newest without a cursor (`next` leads to older ones), or those after `N`.
fn history(context: &Context, params: &PageParams) -> Result<Value, Error> {
    let limit = lists::page_limit(params.limit)?;
    let mut rows = context.journal.last(KEPT);
    let cursor = params.cursor.as_deref();
    let (word, n) = match cursor.map(|c| c.split_once(':').unwrap_or(("after", c))) {
        None => ("newest", 0),
        Some((word @ ("after" | "before"), n)) => (
            word,
            n.parse()
                .map_err(|_| bad_cursor(cursor.unwrap_or_default()))?,
        ),
        Some(_) => return Err(bad_cursor(cursor.unwrap_or_default())),
    };
    let is_forward = word == "after";
    if is_forward {
        rows.retain(|event| event.seq > n);
        let is_end = rows.len() <= limit;
        rows.truncate(limit);
        let mut page = events_page(rows, true);
        if is_end
            && page.rows.last().is_none_or(|last| {
                context
                    .journal
                    .last(1)
                    .first()
                    .is_none_or(|e| e.seq == last.seq)
            })
        {
            page.next = None;
        }
        return Ok(json!(page));
    }
    if word == "before" {
        rows.retain(|event| event.seq < n);
    }
    let is_end = rows.len() <= limit;
    let rows = rows.split_off(rows.len().saturating_sub(limit));
    let n_before = rows.len();
    let mut page = events_page(rows, false);
    if is_end && page.rows.len() == n_before {
        page.next = None;
    }
    Ok(json!(page))
}

/// Newest last; cut to what fits, and where to go on.
fn events_page(mut rows: Vec<Event>, is_forward: bool) -> Page<Event> {
    for event in &mut rows {
        event.message = documents::clip(&event.message);
    }
    let next = if is_forward {
        rows.truncate(documents::n_fitting(&rows));
        rows.last().map(|event| format!("after:{}", event.seq))
    } else {
        rows.reverse();
        rows.truncate(documents::n_fitting(&rows));
        rows.reverse();
        rows.first()
            .filter(|event| event.seq > 1)
            .map(|event| format!("before:{}", event.seq))
    };
    Page {
        rows,
        next,
        total: None,
    }
}

async fn audit(context: &Context, params: &PageParams) -> Result<Value, Error> {
    let limit = lists::page_limit(params.limit)?;
    let page = context
        .audit
        .page(params.cursor.as_deref(), limit)
        .await
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => {
                bad_cursor(params.cursor.as_deref().unwrap_or_default())
            }
            _ => Error::new(Code::Internal, format!("read the audit file: {e}")),
        })?;
    Ok(json!(page))
}

fn bad_cursor(cursor: &str) -> Error {
    Error::new(
        Code::InvalidParams,
        format!("{} is no cursor of this list", quote(cursor)),
    )
    .hint("give the `next` of the page before")
}

/// Does what changes something.
pub(super) async fn act(
    session: &Arc<Session>,
    ingests: &mut Ingests,
    method: &Method,
    call: ActCall,
    params: Value,
) -> Result<Value, Error> {
    if session.role < method.role {
        let error = refused(session, method.name, method.role);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_method_once_and_only_acts_need_more_than_viewer() {
        let mut names = std::collections::HashSet::new();
        for method in METHODS {
            assert!(names.insert(method.name), "{} twice", method.name);
            let expected = match method.call {
                Call::Read(_) => Role::Viewer,
                Call::Act(_) => Role::Operator,
            };
            assert_eq!(method.role, expected, "{}", method.name);
        }
    }

    #[test]
    fn an_unknown_method_is_told_with_the_nearest_name() {
        let error = unknown("ledger.gte");
        assert!(error.is(Code::MethodNotFound));
        assert_eq!(
            error.data.unwrap().hint.unwrap(),
            "did you mean ledger.get?"
        );
        let error = unknown(&"\u{1b}[2J".repeat(100_000));
        assert!(error.message.len() < 500 && !error.message.contains('\u{1b}'));
    }
}
