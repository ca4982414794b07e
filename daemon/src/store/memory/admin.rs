//! Everything that is not the hot loop.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::commit::{commit, count};
use super::guards::Guard;
use super::state::{RetryRow, State, millis, stage_of};
use super::stream::Pending;
use super::{Memory, admit, depth, epoch, prepare};
use crate::effect::Effects;
use crate::record::{EntryId, Fields, Record, event_id};
use crate::store::{
    Admin, Admission, Admitted, Aggregates, Code, Commit, ConsumerDepth, DeadLetter, DeadRow,
    Depth, EpochSeen, Fate, Layout, Mended, Outcome, PendingPage, PendingQuery, PendingRow, Result,
    Server, Settle, SpoolPlace, StageLayout, StoreError, StreamMark, Swept,
};

impl Memory {
    /// Does one thing to each of these entries of a stage, in one step.
    fn each(
        &self,
        stage: usize,
        ids: &[EntryId],
        act: impl Fn(&mut State, &StageLayout, EntryId, u64) -> Result<Fate>,
    ) -> Result<Vec<Fate>> {
        let stage = stage_of(&self.layout, stage)?;
        self.shared.change(|state, now| {
            state.group(stage)?;
            ids.iter().map(|id| act(state, stage, *id, now)).collect()
        })
    }
}

/// What is said of an id that is not pending.
fn not_pending(state: &State, stage: &StageLayout, id: EntryId) -> Fate {
    if state.is_settled(stage, id) {
        Fate::AlreadyDone
    } else {
        Fate::NotFound
    }
}

/// Settles one pending entry by hand, as a worker's commit would.
fn by_hand(
    state: &mut State,
    layout: &Layout,
    stage: &StageLayout,
    id: EntryId,
    outcome: impl FnOnce(RetryRow, &Fields) -> Outcome,
    now: u64,
) -> Result<Fate> {
    let is_parked = |state: &State| {
        let owned = state.owned.get(&stage.name);
        owned.is_some_and(|owned| owned.parked.contains_key(&id))
    };
    let is_open = if stage.owned {
        is_parked(state)
    } else {
        state.group(stage)?.pending.contains_key(&id)
    };
    if !is_open {
        return Ok(not_pending(state, stage, id));
    }
    let Some(fields) = state.payload(stage, id).cloned() else {
        state.book_lost(stage, id, now)?;
        return Ok(Fate::Trimmed);
    };
    let tried = state.retry_row(stage, id).cloned().unwrap_or_default();
    let outcome = outcome(tried, &fields);
    let discards = matches!(outcome, Outcome::Apply(_));
    let event_id = Record { id, fields }
        .get(&layout.id_field)
        .map(|id| event_id(id));
    let entries = vec![Settle {
        id,
        event_id,
        outcome,
    }];
    let by_operator = Commit {
        consumer: "operator".into(),
        entries,
        repeated: true,
    };
    let committed = commit(state, layout, stage, &by_operator, discards, now)?;
    Ok(match committed.exceptions[..] {
        [] | [(_, Code::Applied | Code::Duplicate)] => Fate::Done,
        // It had come again after a reset of the group: its effects have happened.
        _ => Fate::AlreadyDone,
    })
}

/// One row of a pending list.
fn pending_row(
    state: &State,
    stage: &StageLayout,
    id: EntryId,
    pending: &Pending,
    now: u64,
) -> PendingRow {
    let tried = state.retry_row(stage, id);
    let fields = state.payload(stage, id).cloned();
    PendingRow {
        id,
        consumer: pending.consumer.clone(),
        idle_ms: pending.idle_ms(now),
        deliveries: pending.deliveries,
        failures: tried.map_or(0, |row| row.failures),
        not_before_ms: tried.map_or(0, |row| row.not_before_ms),
        first_ms: tried.map_or(0, |row| row.first_ms),
        last_error: tried.map(|row| row.error.clone()),
        size: fields.clone().map(|fields| Record { id, fields }.size()),
        fields,
    }
}

#[async_trait]
impl Admin for Memory {
    async fn prepare(&self) -> Result<Vec<Mended>> {
        self.shared
            .change(|state, now| prepare::prepare(state, &self.layout, now))
    }

    async fn depth(&self) -> Result<Depth> {
        Ok(self
            .shared
            .look(|inside, now| depth::depth(&inside.state, &self.layout, now)))
    }

    async fn consumers(&self, stage: usize) -> Result<Vec<ConsumerDepth>> {
        let stage = stage_of(&self.layout, stage)?;
        self.shared.look(|inside, now| {
            let group = inside.state.group(stage)?;
            let row = |(name, seen): (&Bytes, &u64)| ConsumerDepth {
                name: name.clone(),
                pending: group.held_by(name).count() as u64,
                idle_ms: now.saturating_sub(*seen),
                inactive_ms: None,
                oldest: group.held_by(name).next(),
            };
            Ok(group.consumers.iter().map(row).collect())
        })
    }

    async fn pending(&self, stage: usize, query: &PendingQuery) -> Result<PendingPage> {
        let stage = stage_of(&self.layout, stage)?;
        self.shared.look(|inside, now| {
            let is_wanted = |(id, pending): &(&EntryId, &Pending)| {
                **id > query.after
                    && query
                        .consumer
                        .as_ref()
                        .is_none_or(|consumer| pending.consumer == *consumer)
                    && pending.idle_ms(now) >= millis(query.min_idle)
            };
            let state = &inside.state;
            let found = state
                .group(stage)?
                .pending
                .iter()
                .filter(is_wanted)
                .take(query.n_max);
            let mut page = PendingPage::default();
            for (id, pending) in found {
                let mut row = pending_row(state, stage, *id, pending, now);
                row.fields = row.fields.filter(|_| query.fields);
                page.rows.push(row);
            }
            page.next = page
                .rows
                .last()
                .map(|row| row.id)
                .filter(|_| page.rows.len() == query.n_max);
            Ok(page)
        })
    }

    async fn pending_entry(&self, stage: usize, id: EntryId) -> Result<Option<PendingRow>> {
        let stage = stage_of(&self.layout, stage)?;
        self.shared.look(|inside, now| {
            let pending = inside.state.group(stage)?.pending.get(&id);
            Ok(pending.map(|pending| pending_row(&inside.state, stage, id, pending, now)))
        })
    }

    async fn dead(&self, before: EntryId, n_max: usize) -> Result<Vec<DeadRow>> {
        let newest = |state: &State| {
            state
                .dead
                .range(..before)
                .rev()
                .take(n_max)
                .map(|(_, row)| row.clone())
                .collect()
        };
        Ok(self.shared.look(|inside, _| newest(&inside.state)))
    }

    async fn dead_entry(&self, id: EntryId) -> Result<Option<DeadRow>> {
        Ok(self
            .shared
            .look(|inside, _| inside.state.dead.get(&id).cloned()))
    }

    async fn discard(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let discarded = |_, _: &Fields| Outcome::Apply(Effects::default());
        self.each(stage, ids, |state, stage, id, now| {
            by_hand(state, &self.layout, stage, id, discarded, now)
        })
    }

    async fn kill(&self, stage: usize, ids: &[EntryId], why: &str) -> Result<Vec<Fate>> {
        let letter = |tried: RetryRow, fields: &Fields| {
            Outcome::Dead(DeadLetter {
                cause: "by_operator".into(),
                reason: "by_operator".into(),
                error: why.to_owned(),
                tries: tried.failures,
                first_ms: tried.first_ms,
                fields: fields.clone(),
            })
        };
        self.each(stage, ids, |state, stage, id, now| {
            by_hand(state, &self.layout, stage, id, letter, now)
        })
    }

    async fn release(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        self.each(stage, ids, |state, stage, id, _| {
            if !state.group(stage)?.pending.contains_key(&id) {
                return Ok(not_pending(state, stage, id));
            }
            if let Some(row) = state
                .retry
                .get_mut(&stage.name)
                .and_then(|rows| rows.get_mut(&id))
            {
                row.not_before_ms = 0;
            }
            if let Some(due) = state.owned(stage).parked.get_mut(&id) {
                *due = 0;
            }
            Ok(Fate::Done)
        })
    }

    async fn redrive(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        Ok(self.shared.change(|state, now| {
            ids.iter()
                .map(|id| admit::redrive(state, &self.layout, *id, now))
                .collect()
        }))
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let purge = |state: &mut State, id: &EntryId| match state.dead.remove(id) {
            Some(_) => Fate::Done,
            None => Fate::NotFound,
        };
        Ok(self
            .shared
            .change(|state, _| ids.iter().map(|id| purge(state, id)).collect()))
    }

    async fn janitor(&self, keep: Duration, keep_dead: Duration) -> Result<Swept> {
        Ok(self
            .shared
            .change(|state, now| prepare::janitor(state, &self.layout, keep, keep_dead, now)))
    }

    async fn retire(&self, stage: usize, consumer: &str) -> Result<u64> {
        let stage = stage_of(&self.layout, stage)?;
        self.shared.change(|state, _| {
            let refuses = state.guards.on(Guard::RetirePending);
            let group = state.group_mut(stage)?;
            let n_held = group.held_by(consumer.as_bytes()).count() as u64;
            if n_held == 0 || !refuses {
                group.delete_consumer(consumer.as_bytes());
            }
            Ok(n_held)
        })
    }

    async fn admit(&self, events: &[Admission], checked: bool) -> Result<Vec<Admitted>> {
        self.shared
            .change(|state, now| admit::admit(state, &self.layout, events, checked, now))
    }

    async fn admit_spooled(
        &self,
        place: SpoolPlace,
        events: &[Admission],
    ) -> Result<Vec<Option<Admitted>>> {
        let answer = self
            .shared
            .change(|state, now| admit::admit_spooled(state, &self.layout, place, events, now))?;
        if self
            .shared
            .look(|inside, _| std::mem::take(&mut inside.loses_reply))
        {
            return Err(StoreError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(answer)
    }

    async fn survive(&self) -> Result<()> {
        Ok(())
    }

    async fn spool_position(&self, life: u64) -> Result<u64> {
        Ok(self
            .shared
            .look(|inside, _| inside.state.spools.get(&life).copied().unwrap_or(0)))
    }

    async fn epoch(&self, known: Option<&StreamMark>, fresh: u64) -> Result<EpochSeen> {
        Ok(self
            .shared
            .change(|state, _| epoch::look(state, &self.layout, known, fresh)))
    }

    async fn book_rejected(&self, n_events: u64) -> Result<()> {
        self.shared.change(|state, _| state.rejected += n_events);
        Ok(())
    }

    async fn aggregates(&self, n_top: usize) -> Result<Aggregates> {
        Ok(self
            .shared
            .look(|inside, _| aggregates(&inside.state, n_top)))
    }

    async fn session(&self, id: &[u8]) -> Result<Option<u64>> {
        let id = Bytes::copy_from_slice(id);
        let known = self
            .shared
            .look(|inside, _| inside.state.sessions.get(&id).copied());
        Ok(known.and_then(|n| u64::try_from(n).ok()))
    }

    async fn peek(&self, stage: usize, after: EntryId, n_max: usize) -> Result<Vec<Record>> {
        let stage = stage_of(&self.layout, stage)?;
        Ok(self.shared.look(|inside, _| {
            let Some(stream) = inside.state.streams.get(&stage.stream) else {
                return Vec::new();
            };
            let records = stream.after(after).map(|(id, fields)| Record {
                id,
                fields: fields.clone(),
            });
            records.take(n_max).collect()
        }))
    }

    async fn beat(&self, instance: &str, ttl: Duration) -> Result<Vec<String>> {
        Ok(self.shared.change(|state, now| {
            state
                .daemons
                .insert(instance.to_owned(), now.saturating_add(millis(ttl)));
            state.daemons.retain(|_, until| *until > now);
            state.daemons.keys().cloned().collect()
        }))
    }

    async fn leave(&self, instance: &str) -> Result<()> {
        self.shared
            .change(|state, _| state.daemons.remove(instance));
        Ok(())
    }

    async fn server(&self) -> Result<Server> {
        Ok(Server {
            version: "0".into(),
            flavour: "memory".into(),
            mode: "standalone".into(),
            eviction: "noeviction".into(),
            run_id: "memory".into(),
            ..Server::default()
        })
    }
}

/// Totals; a counter that a third party has spoilt is left out.
fn aggregates(state: &State, n_top: usize) -> Aggregates {
    let value = |name: &str| count(&state.counts, &Bytes::copy_from_slice(name.as_bytes()));
    let of = |prefix: &str| -> Vec<(Bytes, u64)> {
        let named = state.counts.keys().filter_map(|key| {
            let name = key
                .strip_prefix(prefix.as_bytes())?
                .strip_suffix(b":count")?;
            Some((
                key.slice_ref(name),
                u64::try_from(count(&state.counts, key)?).ok()?,
            ))
        });
        named.collect()
    };
    let mut products = of("product:");
    products.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    let n_shown = if n_top == 0 {
        products.len()
    } else {
        n_top.min(products.len())
    };
    let n_left = products.len() - n_shown;
    products.truncate(n_shown);
    let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Aggregates {
        total: positive(value("total_count")),
        value: state
            .counts
            .get(b"total_value".as_slice())
            .and_then(|_| value("total_value")),
        types: of("type:"),
        products,
        products_left: n_left as u64,
        sessions: state.sessions.len() as u64,
        last_updated_ms: positive(value("last_updated")),
    }
}
