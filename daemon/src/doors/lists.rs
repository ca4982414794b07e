//! Pages and single rows of pending entries and dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipectl_shared::plan::Selection;
use pipectl_shared::rpc::{Code, DeadParams, Error, PendingParams, ShowParams};
use pipectl_shared::snapshot::{Cause, Page};
use serde_json::{Value, json};

use super::documents;
use crate::commands::Context;
use crate::plans::in_flight::InFlight;
use crate::plans::select::{List, Wanted, entry_id, stage_index};
use crate::plans::walk::{Listed, dead_page, find_pending, pending_page};
use crate::plans::words::{quote, store_error};
use crate::record::{EntryId, Fields};

/// Bytes of fields in `pending.show` and `dead.show`.
const SHOW_FIELDS_MAX: usize = 128 * 1024;
/// Dead letters that `dead.causes` looks at; beyond that it says how many it saw.
const CAUSES_LOOKED_MAX: usize = 100_000;
/// Causes told; fingerprints have numbers and ids taken out, so more than a handful is rare.
const CAUSES_MAX: usize = 500;

/// 0 = 100; 1 to 1,000. Errors: `InvalidParams`.
pub(super) fn page_limit(limit: u32) -> Result<usize, Error> {
    match limit {
        0 => Ok(100),
        1..=1_000 => Ok(limit as usize),
        _ => Err(Error::new(
            Code::InvalidParams,
            format!("limit is {limit}, not a number from 1 to 1000"),
        )),
    }
}

pub(super) async fn pending(context: &Context, params: PendingParams) -> Result<Value, Error> {
    let limit = page_limit(params.limit)?;
    let wanted = Wanted::read(&params.select, List::Pending, &context.layout)?;
    let cursor = params.cursor.as_deref();
    // Before the store is asked: what is parked in between is told as pending.
    let in_flight = if params.in_flight {
        owners_hands(context)
    } else {
        InFlight::default()
    };
    let (found, next) = pending_page(
        &*context.admin,
        &context.layout,
        &wanted,
        &in_flight,
        cursor,
        limit,
    )
    .await?;
    let rows: Vec<_> = found
        .iter()
        .map(|listed| pending_document(context, listed))
        .collect();
    let n = documents::n_fitting(&rows);
    let next = match found.get(n.wrapping_sub(1)) {
        Some(Listed { stage, row, .. }) if n < rows.len() => Some(if wanted.ids().is_empty() {
            format!("{}:{}", context.layout.stages[*stage].name, row.id)
        } else {
            after_named(&wanted, row.id)
        }),
        _ => next,
    };
    Ok(json!(Page {
        rows: rows.into_iter().take(n).collect(),
        next,
        total: None
    }))
}

/// What this daemon's owners have in hand, as far as the last Snapshot calls them owners, or calls nobody so.
fn owners_hands(context: &Context) -> InFlight {
    let snapshot = Arc::clone(&context.observer.watch().borrow());
    InFlight::of(
        &context.handle,
        context.clock.now_ms(),
        |stage, consumer| {
            let stage = snapshot.status.stages.get(stage);
            let owner = stage.and_then(|stage| stage.owner.as_ref()?.consumer.as_deref());
            owner.is_none_or(|owner| owner == consumer)
        },
    )
}

/// Where a cut page of named ids goes on. An id that several stages hold may be told twice; none is left out.
fn after_named(wanted: &Wanted, last: EntryId) -> String {
    let n = wanted
        .ids()
        .iter()
        .position(|id| *id == last)
        .map_or(0, |n| n + 1);
    format!("#{n}")
}

fn pending_document(context: &Context, listed: &Listed) -> pipectl_shared::snapshot::Pending {
    let Listed { stage, row, .. } = listed;
    let held_since = context
        .handle
        .stages
        .get(*stage)
        .and_then(|s| s.first_read_ms(row.id));
    let now_ms = context.clock.now_ms();
    let mut document = documents::pending(&context.layout.stages[*stage], row, held_since, now_ms);
    document.in_flight = listed.in_flight;
    document
}

pub(super) async fn pending_show(context: &Context, params: ShowParams) -> Result<Value, Error> {
    let id = entry_id(&params.id)?;
    let stages = match &params.stage {
        Some(name) => vec![stage_index(name, &context.layout)?],
        None => (0..context.layout.stages.len()).collect(),
    };
    let in_flight = owners_hands(context);
    let admin = &*context.admin;
    let mut found = Vec::new();
    for stage in stages {
        found.extend(find_pending(admin, &in_flight, stage, id).await?);
    }
    let listed = match &found[..] {
        [one] => one,
        [] => {
            return Err(Error::new(Code::NotFound, format!("{id} is not pending"))
                .hint("it may be done, or dead: pipectl dead ls"));
        }
        _ => {
            let names: Vec<_> = found
                .iter()
                .map(|one| context.layout.stages[one.stage].name.as_str())
                .collect();
            let message = format!("{id} is pending in the stages {}", names.join(" and "));
            return Err(Error::new(Code::InvalidParams, message).hint("say which: --stage NAME"));
        }
    };
    let mut document = pending_document(context, listed);
    document.fields = listed
        .row
        .fields
        .as_ref()
        .map(|fields| show_fields(fields, &params))
        .transpose()?;
    Ok(json!(document))
}

pub(super) async fn dead(context: &Context, params: DeadParams) -> Result<Value, Error> {
    let limit = page_limit(params.limit)?;
    let wanted = Wanted::read(&params.select, List::Dead, &context.layout)?;
    let (found, next) =
        dead_page(&*context.admin, &wanted, params.cursor.as_deref(), limit).await?;
    let rows: Vec<_> = found.iter().map(documents::dead).collect();
    let n = documents::n_fitting(&rows);
    let next = match found.get(n.wrapping_sub(1)) {
        Some(row) if n < rows.len() && wanted.ids().is_empty() => Some(row.id.to_string()),
        Some(row) if n < rows.len() => Some(after_named(&wanted, row.id)),
        _ => next,
    };
    Ok(json!(Page {
        rows: rows.into_iter().take(n).collect(),
        next,
        total: None
    }))
}

pub(super) async fn dead_show(context: &Context, params: ShowParams) -> Result<Value, Error> {
    if params.stage.is_some() {
        return Err(Error::new(
            Code::InvalidParams,
            "a dead letter is found by its id alone, without a stage",
        ));
    }
    let id = entry_id(&params.id)?;
    let row = context
        .admin
        .dead_entry(id)
        .await
        .map_err(store_error)?
        .ok_or_else(|| {
            Error::new(Code::NotFound, format!("there is no dead letter {id}"))
                .hint("see: pipectl dead ls")
        })?;
    let mut document = documents::dead(&row);
    document.fields = Some(show_fields(&row.fields, &params)?);
    Ok(json!(document))
}

fn show_fields(
    fields: &Fields,
    params: &ShowParams,
) -> Result<Vec<pipectl_shared::snapshot::Field>, Error> {
    let Some(name) = &params.field else {
        return Ok(documents::fields(fields, SHOW_FIELDS_MAX));
    };
    let found = fields.iter().find(|(n, _)| n == name.as_bytes());
    let (name, value) = found.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            format!("{} has no field {}", params.id, quote(name)),
        )
    })?;
    Ok(vec![documents::field_part(name, value, params.offset)])
}

/// Dead letters that were not redriven, by cause, most frequent first.
pub(super) async fn causes(context: &Context) -> Result<Value, Error> {
    let everything = Selection {
        all: true,
        ..Selection::default()
    };
    let wanted = Wanted::read(&everything, List::Dead, &context.layout)?;
    let mut causes: BTreeMap<String, Cause> = BTreeMap::new();
    let (mut n_looked, mut n_causes_left) = (0, 0_u64);
    let mut cursor = None;
    loop {
        let (rows, next) = dead_page(&*context.admin, &wanted, cursor.as_deref(), 1_000).await?;
        n_looked += rows.len();
        for row in rows.iter().filter(|row| row.redriven.is_none()) {
            if !causes.contains_key(&row.cause) && causes.len() >= CAUSES_MAX {
                n_causes_left += 1;
                continue;
            }
            let dead = documents::dead(row);
            let cause = causes.entry(row.cause.clone()).or_insert_with(|| Cause {
                cause: dead.cause,
                stage: dead.stage,
                reason: dead.reason,
                example: dead.error,
                count: 0,
                first_ms: dead.dead_ms,
                last_ms: dead.dead_ms,
            });
            cause.count += 1;
            cause.first_ms = cause.first_ms.min(dead.dead_ms);
            cause.last_ms = cause.last_ms.max(dead.dead_ms);
        }
        cursor = next.filter(|_| n_looked < CAUSES_LOOKED_MAX);
        if cursor.is_none() {
            break;
        }
    }
    let mut rows: Vec<_> = causes.into_values().collect();
    rows.sort_by(|a, b| (b.count, &a.cause).cmp(&(a.count, &b.cause)));
    let n = documents::n_fitting(&rows);
    n_causes_left += rows[n..].iter().map(|cause| cause.count).sum::<u64>();
    rows.truncate(n);
    let total = rows.len() as u64;
    let mut page = json!(Page {
        rows,
        next: None,
        total: Some(total)
    });
    // Dead letters whose cause is not among the rows, and how many were looked at where it was not all.
    if n_causes_left > 0 {
        page["truncated"] = json!({"dead": n_causes_left});
    }
    if n_looked >= CAUSES_LOOKED_MAX {
        page["looked"] = json!(n_looked);
    }
    Ok(page)
}
