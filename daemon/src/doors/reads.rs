//! Every method that changes nothing.

use std::sync::Arc;

use pipectl_shared::rpc::{
    AggregatesParams, Code, Error, HistoryParams, LatencyParams, LatencySlotsParams, PageParams,
    PlanIdParams, Preset, TapParams, WatchParams,
};
use pipectl_shared::snapshot::{Event, Page};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::methods::{Read, parse};
use super::session::Session;
use super::{documents, lists, stats, tap};
use crate::commands::Context;
use crate::journal::KEPT;
use crate::observe::ledger_document;
use crate::plans::words::{hint_names, quote, store_error};

/// Products asked of the store for `aggregates.get`.
const PRODUCTS_MAX: usize = 5_000;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

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
        Read::LatencySlots => latency_slots(context, &parse(params)?),
        Read::Series => series(context, &parse(params)?).await,
        Read::ChaosList => {
            let Nothing {} = parse(params)?;
            Ok(json!(context.chaos.catalogue().await?))
        }
        Read::ChaosGet => Ok(json!(context.chaos.get(parse(params)?).await?)),
        Read::ChaosHistory => Ok(json!(context.chaos.history(parse(params)?).await?)),
        Read::ChaosReport => Ok(json!(context.chaos.report(parse(params)?).await?)),
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

/// One stage's measure over time. What does not fit is left out at the old end; `total` says how many there are.
fn latency_slots(context: &Context, params: &LatencySlotsParams) -> Result<Value, Error> {
    let stage = params.stage.as_deref().unwrap_or("pipeline");
    let measure = params.measure.as_deref().unwrap_or("end_to_end");
    let found = context
        .observer
        .latency_slots(stage, measure, params.after_ms);
    let mut rows = found.map_err(|known| {
        let of_stage: Vec<_> = known.iter().filter(|(name, _)| name == stage).collect();
        if of_stage.is_empty() {
            let names = known.iter().map(|(name, _)| name.as_str());
            return Error::new(
                Code::InvalidParams,
                format!("no stage is named {}", quote(stage)),
            )
            .hint(hint_names(stage, names));
        }
        let message = format!("{} has no measure {}", quote(stage), quote(measure));
        Error::new(Code::InvalidParams, message).hint(hint_names(
            measure,
            of_stage.iter().map(|(_, measure)| *measure),
        ))
    })?;
    let total = rows.len() as u64;
    rows.reverse();
    rows.truncate(documents::n_fitting(&rows));
    rows.reverse();
    Ok(json!(Page {
        rows,
        next: None,
        total: Some(total)
    }))
}

/// Figures over time, an hour where nothing else is asked for.
async fn series(context: &Context, params: &HistoryParams) -> Result<Value, Error> {
    const HOUR_MS: u64 = 3_600_000;
    let to_ms = params.to_ms.unwrap_or_else(|| context.clock.now_ms());
    let from_ms = params.from_ms.unwrap_or(to_ms.saturating_sub(HOUR_MS));
    if from_ms > to_ms {
        let message = format!("from_ms {from_ms} is after to_ms {to_ms}");
        return Err(Error::new(Code::InvalidParams, message)
            .hint("give the earlier instant as from_ms, in milliseconds since 1970"));
    }
    let n_points = match params.points {
        0 => 600,
        n => n as usize,
    };
    let history = context.observer.history(from_ms, to_ms, n_points).await;
    Ok(json!(history))
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
