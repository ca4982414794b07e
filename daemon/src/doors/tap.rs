//! `tap.watch`: a sample of the entries of a stage's input. Reads beside the pipeline and never consumes.
//!
//! One task per watching client, owned by its session. It looks a few times a second, tells at most the rate asked for
//! and skips to the end when entries come faster, so its cost does not grow with the load.

use std::time::Duration;

use pipectl_shared::expression::Expression;
use pipectl_shared::rpc::{Code, Error, TapParams};
use pipectl_shared::snapshot::Tap;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::documents;
use super::messages::notification;
use super::outbox::Outbox;
use crate::commands::Context;
use crate::plans::select::{expression, holds, stage_index};
use crate::record::{EntryId, Record};

/// Looks a second. Arbitrary; a quarter of a second is soon enough for a person.
const LOOKS_PER_S: u32 = 4;
/// Entries of one call: an entry may be megabytes.
const PEEK_MAX: usize = 20;
/// Calls of one look, for an expression that matches little.
const PEEKS_MAX: usize = 10;
/// Bytes of fields of one entry.
const FIELDS_MAX: usize = 24 * 1024;
/// After an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What a client wants to see, checked.
pub(super) struct Wanted {
    stage: usize,
    per_s: u32,
    filter: Option<Expression>,
}

impl Wanted {
    /// Errors: `InvalidParams`.
    pub(super) fn read(params: &TapParams, context: &Context) -> Result<Self, Error> {
        let stage = match &params.stage {
            Some(name) => stage_index(name, &context.layout)?,
            None => 0,
        };
        let per_s = match params.per_s {
            0 => 20,
            n @ 1..=1_000 => n,
            n => {
                return Err(Error::new(
                    Code::InvalidParams,
                    format!("per_s is {n}, not a number from 1 to 1000"),
                ));
            }
        };
        let filter = params.matching.as_deref().map(expression).transpose()?;
        Ok(Self {
            stage,
            per_s,
            filter,
        })
    }

    /// What the client is answered.
    pub(super) fn answer(&self, context: &Context) -> serde_json::Value {
        serde_json::json!({"stage": context.layout.stages[self.stage].name, "per_s": self.per_s})
    }
}

/// Tells entries until it is dropped.
pub(super) async fn watch(context: &Context, outbox: &Outbox, wanted: &Wanted) {
    let name = &context.layout.stages[wanted.stage].name;
    let mut looks = interval(Duration::from_secs(1) / LOOKS_PER_S);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // `None` = to begin at the stream's end.
    let mut after: Option<EntryId> = None;
    // Entries that may be told now; grows with time up to one second's worth.
    let mut budget = 0.0;
    let mut last = Instant::now();
    loop {
        looks.tick().await;
        let now = Instant::now();
        budget = (budget + (now - last).as_secs_f64() * f64::from(wanted.per_s))
            .min(f64::from(wanted.per_s));
        last = now;
        let looked = look(context, wanted, after, &mut budget, |record| {
            let tap = Tap {
                stage: name.clone(),
                id: record.id.to_string(),
                fields: documents::fields(&record.fields, FIELDS_MAX),
            };
            if let Some(line) = notification("tap", &tap) {
                outbox.offer(line);
            }
        })
        .await;
        match looked {
            Ok(at) => after = at,
            Err(error) => {
                tracing::debug!(%error, "tap waits for the store");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// One look; returns where the next goes on.
async fn look(
    context: &Context,
    wanted: &Wanted,
    after: Option<EntryId>,
    budget: &mut f64,
    mut tell: impl FnMut(&Record),
) -> crate::store::Result<Option<EntryId>> {
    let Some(mut after) = after else {
        return end_of_stream(context, wanted.stage).await.map(Some);
    };
    for _ in 0..PEEKS_MAX {
        let records = context.admin.peek(wanted.stage, after, PEEK_MAX).await?;
        let is_end = records.is_empty();
        for record in records {
            after = record.id;
            let is_wanted = wanted
                .filter
                .as_ref()
                .is_none_or(|filter| holds(filter, &record.fields));
            if is_wanted && *budget >= 1.0 {
                *budget -= 1.0;
                tell(&record);
            }
        }
        if is_end {
            return Ok(Some(after));
        }
        if *budget < 1.0 {
            break;
        }
    }
    // More came than may be told: a sample is of what passes now, so skip what is old by then.
    end_of_stream(context, wanted.stage).await.map(Some)
}

async fn end_of_stream(context: &Context, stage: usize) -> crate::store::Result<EntryId> {
    let depth = context.admin.depth().await?;
    Ok(depth
        .stages
        .get(stage)
        .map_or(EntryId::MIN, |stage| stage.last_id))
}
