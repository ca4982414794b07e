//! What the owners of owned stages have read and not committed. It is no part of any pending list: by position the group
//! has not been delivered it. So it is listed beside the pending entries for who asks for it, and no plan selects it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::{EntryId, Fields, Record};
use crate::runtime::Handle;
use crate::store::{Admin, PendingRow, Result};

/// Entries read from the store at once: they come with their fields, which may be large.
const CHUNK: usize = 100;

/// The windows of this daemon's owners at one instant. Bound: one batch per owner.
#[derive(Debug, Default)]
pub struct InFlight {
    now_ms: u64,
    /// By index of the stage; in id order.
    stages: Vec<Vec<Held>>,
}

#[derive(Debug, Clone)]
struct Held {
    id: EntryId,
    first_ms: u64,
    consumer: Arc<str>,
}

impl InFlight {
    /// What the workers of owned stages hold, of those that are told to be owners by index of the stage and name: one that
    /// lost its lease and has not noticed holds nothing that is its own.
    pub fn of(handle: &Handle, now_ms: u64, is_owner: impl Fn(usize, &str) -> bool) -> Self {
        let window = |(i, stage): (usize, &Arc<crate::runtime::StageHandle>)| {
            let mut held = Vec::new();
            if stage.owned {
                for worker in stage.workers() {
                    if worker.held.is_empty() || !is_owner(i, &worker.consumer) {
                        continue;
                    }
                    let consumer: Arc<str> = worker.consumer.as_str().into();
                    held.extend(worker.held.iter().map(|&(id, first_ms)| Held {
                        id,
                        first_ms,
                        consumer: Arc::clone(&consumer),
                    }));
                }
            }
            held.sort_by_key(|held| held.id);
            held.dedup_by_key(|held| held.id);
            held
        };
        Self {
            now_ms,
            stages: handle.stages.iter().enumerate().map(window).collect(),
        }
    }

    /// Who has this entry of a stage in hand.
    pub fn holder(&self, stage: usize, id: EntryId) -> Option<&str> {
        let held = self.stages.get(stage)?;
        let at = held.binary_search_by_key(&id, |held| held.id).ok()?;
        Some(&held[at].consumer)
    }

    /// Rows of a stage with id > `after`, at most `n_max`, in id order, with their fields. One whose payload is gone has no
    /// size.
    pub(super) async fn rows(
        &self,
        admin: &dyn Admin,
        stage: usize,
        after: EntryId,
        n_max: usize,
    ) -> Result<Vec<PendingRow>> {
        let held = self.stages.get(stage).map_or(&[][..], Vec::as_slice);
        let from = held.partition_point(|held| held.id <= after);
        let wanted = &held[from..];
        let mut rows = Vec::new();
        for chunk in wanted[..n_max.min(wanted.len())].chunks(CHUNK) {
            // They follow each other in the stream but for what was deleted in between.
            let before = chunk[0].id.previous();
            let records = admin.peek(stage, before, chunk.len()).await?;
            let mut found: HashMap<EntryId, Fields> =
                records.into_iter().map(|r| (r.id, r.fields)).collect();
            rows.extend(chunk.iter().map(|held| {
                let record = found.remove(&held.id).map(|fields| Record {
                    id: held.id,
                    fields,
                });
                self.row(held, record)
            }));
        }
        Ok(rows)
    }

    /// One of them with its fields; `None` when nobody has it in hand.
    pub async fn entry(
        &self,
        admin: &dyn Admin,
        stage: usize,
        id: EntryId,
    ) -> Result<Option<PendingRow>> {
        if self.holder(stage, id).is_none() {
            return Ok(None);
        }
        let rows = self.rows(admin, stage, id.previous(), 1).await?;
        Ok(rows.into_iter().find(|row| row.id == id))
    }

    fn row(&self, held: &Held, record: Option<Record>) -> PendingRow {
        PendingRow {
            id: held.id,
            consumer: Bytes::copy_from_slice(held.consumer.as_bytes()),
            idle_ms: self.now_ms.saturating_sub(held.first_ms),
            first_ms: held.first_ms,
            size: record.as_ref().map(Record::size),
            fields: record.map(|record| record.fields),
            ..PendingRow::default()
        }
    }
}
