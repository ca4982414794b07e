//! Everything that is not the hot loop, over a few shared connections that are opened again and again.
//!
//! Past 500 lines because one trait has one `impl`: each method is a command or a script and the decoding of its reply.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::address::Address;
use super::connection::Connection;
use super::depth;
use super::encode::{encode_admissions, parse_retry, unpack};
use super::keyed;
use super::keys::Keys;
use super::lane::{Lane, bad, entry_of, id_of, run_commit};
use super::resp::Reply;
use super::scripts;
use super::survival::Survival;
use crate::effect::Effects;
use crate::record::{EntryId, Fields, Record, event_id};
use crate::store::{
    Admin, Admission, Admitted, Aggregates, Code, Commit, ConsumerDepth, DeadLetter, DeadRow,
    Depth, EpochSeen, Fate, Layout, Mended, Outcome, PendingPage, PendingQuery, PendingRow, Result,
    Server, Settle, SpoolPlace, StageLayout, StoreError, StreamMark, Swept,
};

/// Idle connections kept; more are opened when needed and closed after use. Four: sampler, janitor, a door, a person.
const IDLE_MAX: usize = 4;
/// Entries looked at when lag must be counted.
const COUNTED_MAX: u32 = 100_000;
/// Pairs that `commit.lua` and `claim.lua` put before the original fields of a dead letter.
const DEAD_META: usize = 9;

/// Failed tries and first read (milliseconds since 1970) of an entry.
type Tried = (u32, u64);

pub(super) struct RedisAdmin {
    address: Address,
    layout: Arc<Layout>,
    keys: Vec<Keys>,
    idle: Mutex<Vec<Connection>>,
    survival: Survival,
}

/// A borrowed connection; goes back only through [`RedisAdmin::give_back`], so a dropped future closes it.
impl RedisAdmin {
    pub(super) fn new(address: Address, layout: Arc<Layout>) -> Self {
        let keys = layout
            .stages
            .iter()
            .map(|stage| Keys::of(&layout, stage))
            .collect();
        Self {
            address,
            layout,
            keys,
            idle: Mutex::default(),
            survival: Survival::default(),
        }
    }

    /// Doors wait for this.
    pub(super) fn surviving(self, survival: Survival) -> Self {
        Self { survival, ..self }
    }

    async fn take(&self) -> Result<Connection> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.address, "pipelined:admin").await,
        }
    }

    fn give_back<T>(&self, connection: Connection, result: Result<T>) -> Result<T> {
        match &result {
            Err(error) if error.is_connection() => {
                // The others were opened to the same server before it went away.
                self.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
            }
            _ => {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE_MAX {
                    idle.push(connection);
                }
            }
        }
        result
    }

    /// Notes whose state a stage keeps.
    async fn kept_state(&self, stage: &StageLayout, names: &Keys) -> Result<Vec<Mended>> {
        let mut args = vec![stage.name.clone()];
        for one in &stage.state {
            args.extend([one.name.clone(), one.made_of.clone()]);
        }
        let keys = [&names.state, &names.timers];
        let reply = self.script(&scripts::OWN_NAMES, &keys, &args).await?;
        keyed::told(reply)
    }

    async fn call<W: AsRef<[u8]>>(&self, words: &[W]) -> Result<Reply> {
        let mut connection = self.take().await?;
        connection.out.words(words);
        let result = connection.call(Duration::ZERO).await;
        self.give_back(connection, result)
    }

    /// Replies in order; an error reply of one command is an `Err` for all.
    async fn call_many(&self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Reply>> {
        let mut connection = self.take().await?;
        for words in commands {
            connection.out.words(words);
        }
        let result = connection.call_many(commands.len()).await;
        let replies = self.give_back(connection, result)?;
        for reply in &replies {
            if let Reply::Error(error) = reply {
                return Err(super::errors::from_reply(&String::from_utf8_lossy(error)));
            }
        }
        Ok(replies)
    }

    async fn script<K: AsRef<[u8]>, A: AsRef<[u8]>>(
        &self,
        script: &scripts::Script,
        keys: &[K],
        args: &[A],
    ) -> Result<Reply> {
        let mut connection = self.take().await?;
        let result = script.run(&mut connection, keys, args).await;
        self.give_back(connection, result)
    }

    /// Settles pending ids by hand through the same script as a worker's commit.
    async fn settle(
        &self,
        stage: usize,
        ids: &[EntryId],
        outcome: impl Fn(&Fields, Tried) -> Outcome,
        discard: bool,
    ) -> Result<Vec<Fate>> {
        let keys = self
            .keys
            .get(stage)
            .ok_or_else(|| bad(format!("no stage {stage}")))?;
        let mut fates = Vec::with_capacity(ids.len());
        for ids in ids.chunks(200) {
            let mut commands: Vec<_> = ids.iter().map(|id| range(&keys.stream, *id)).collect();
            commands.extend(
                ids.iter()
                    .map(|id| words(&[b"HGET", keys.retry.as_bytes(), id.to_string().as_bytes()])),
            );
            let mut replies = self.call_many(&commands).await?;
            let retries = replies.split_off(ids.len());
            let mut gone = Vec::new();
            let mut entries = Vec::new();
            for (place, ((id, reply), retry)) in ids.iter().zip(replies).zip(retries).enumerate() {
                let tried = match &retry {
                    Reply::Bulk(row) => parse_retry(row).map_or((0, 0), |row| (row.1, row.2)),
                    _ => (0, 0),
                };
                match reply
                    .items()
                    .map_err(bad)?
                    .into_iter()
                    .next()
                    .map(entry_of)
                    .transpose()?
                {
                    Some((_, Some(fields))) => {
                        let event_id = self.event_id_of(stage, &fields);
                        let settle = Settle {
                            id: *id,
                            event_id,
                            outcome: outcome(&fields, tried),
                        };
                        entries.push((settle, place));
                    }
                    _ => gone.push(*id),
                }
            }
            let mut here = vec![Fate::Done; ids.len()];
            if !gone.is_empty() {
                let mut args = vec![
                    self.layout.stages[stage].group.clone(),
                    self.layout.stages[stage].name.clone(),
                ];
                args.extend(gone.iter().map(EntryId::to_string));
                let booked = self.script(&scripts::LOST, &keys.claim(), &args).await?;
                let booked: Vec<EntryId> = booked
                    .items()
                    .map_err(bad)?
                    .into_iter()
                    .map(id_of)
                    .collect::<Result<_>>()?;
                for (fate, id) in here.iter_mut().zip(ids) {
                    if gone.contains(id) {
                        *fate = if booked.contains(id) {
                            Fate::Trimmed
                        } else {
                            Fate::NotFound
                        };
                    }
                }
            }
            // The script takes entries in stream order; a person may name them in any.
            entries.sort_by_key(|(settle, _)| settle.id);
            let (entries, places): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
            if !entries.is_empty() {
                let commit = Commit {
                    consumer: Arc::from("operator"),
                    entries,
                    repeated: true,
                };
                let connection = self.take().await?;
                let stage_layout = self.layout.stages[stage].clone();
                let mut lane = Lane {
                    layout: Arc::clone(&self.layout),
                    stage: stage_layout,
                    keys: keys.clone(),
                    consumer: "operator".to_owned(),
                    connection,
                    commits: None,
                };
                let result = run_commit(&mut lane, &commit, discard).await;
                let done = self.give_back(lane.connection, result)?;
                for (at, code) in done.exceptions {
                    here[places[at]] = match code {
                        Code::Superseded | Code::NotPending | Code::Redelivered => {
                            Fate::AlreadyDone
                        }
                        Code::Applied | Code::Duplicate => Fate::Done,
                    };
                }
            }
            fates.append(&mut here);
        }
        Ok(fates)
    }

    fn event_id_of(&self, stage: usize, fields: &Fields) -> Option<[u8; 16]> {
        if self.layout.dedupe.is_none()
            || !self.layout.stages[stage].reads_source
            || self.layout.id_field.is_empty()
        {
            return None;
        }
        fields
            .iter()
            .find(|(name, _)| *name == self.layout.id_field)
            .map(|(_, value)| event_id(value))
    }

    async fn dead_rows(&self, replies: Vec<Reply>) -> Result<Vec<DeadRow>> {
        let mut rows: Vec<DeadRow> = replies.into_iter().map(dead_row).collect::<Result<_>>()?;
        if rows.is_empty() {
            return Ok(rows);
        }
        let mut words = vec!["HMGET".to_owned(), self.layout.key("redriven")];
        words.extend(rows.iter().map(|row| row.id.to_string()));
        let marks = self.call(&words).await?.items().map_err(bad)?;
        for (row, mark) in rows.iter_mut().zip(marks) {
            if let Reply::Bulk(_) = mark {
                row.redriven = Some(id_of(mark)?);
            }
        }
        Ok(rows)
    }
}

fn range(stream: &str, id: EntryId) -> Vec<Vec<u8>> {
    let id = id.to_string().into_bytes();
    vec![
        b"XRANGE".to_vec(),
        stream.as_bytes().to_vec(),
        id.clone(),
        id,
    ]
}

fn dead_row(reply: Reply) -> Result<DeadRow> {
    let (id, fields) = entry_of(reply)?;
    let fields = fields.unwrap_or_default();
    let mut row = DeadRow {
        id,
        counts: true,
        ..DeadRow::default()
    };
    let text = |value: &Bytes| String::from_utf8_lossy(value).into_owned();
    let number = |value: &Bytes| {
        std::str::from_utf8(value)
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(0)
    };
    let n_meta = DEAD_META.min(fields.len());
    for (name, value) in &fields[..n_meta] {
        match name.as_ref() {
            b"_stage" => row.stage = text(value),
            b"_stream" => row.origin_stream = text(value),
            b"_id" => row.origin_id = text(value).parse().unwrap_or(EntryId::MIN),
            b"_cause" => row.cause = text(value),
            b"_reason" => row.reason = text(value),
            b"_error" => row.error = text(value),
            b"_tries" => row.tries = u32::try_from(number(value)).unwrap_or(u32::MAX),
            b"_first_ms" => row.first_ms = number(value),
            b"_counts" => row.counts = value.as_ref() == b"1",
            // A third party wrote to the stream: shown with what can be made of it.
            _ => {}
        }
    }
    row.fields = fields[n_meta..].to_vec();
    if let [(name, packed)] = row.fields.as_slice()
        && name.as_ref() == b"_packed"
        && let Some(fields) = unpack(packed)
    {
        row.fields = fields;
    }
    Ok(row)
}

fn count(reply: Reply) -> Result<u64> {
    Ok(u64::try_from(reply.int().map_err(bad)?).unwrap_or(0))
}

impl RedisAdmin {
    /// Runs the door's script and, unless a spool keeps the events, waits until what it did, or found done, has survived what
    /// is asked for. The wait is on the same connection: it is for everything that the server did before it.
    async fn enter(
        &self,
        events: &[Admission],
        checked: bool,
        place: Option<SpoolPlace>,
    ) -> Result<Vec<Option<Admitted>>> {
        let layout = &self.layout;
        let mut keys = vec![
            layout.source.clone(),
            layout.key("ledger"),
            layout.key("seen:0"),
            layout.key("seen:1"),
        ];
        let window = layout
            .dedupe
            .map_or((0, 0), |d| (d.window.as_millis(), d.max_ids));
        let checked = checked && layout.dedupe.is_some();
        let mut args: Vec<Vec<u8>> = vec![
            u8::from(checked).to_string().into_bytes(),
            window.0.to_string().into_bytes(),
            window.1.to_string().into_bytes(),
            encode_admissions(events),
        ];
        if let Some(place) = place {
            keys.push(layout.key("spool"));
            args.push(format!("{:016x}", place.life).into_bytes());
            args.push(place.first.to_string().into_bytes());
        }
        let mut connection = self.take().await?;
        let done = async {
            let reply = scripts::ADMIT.run(&mut connection, &keys, &args).await?;
            if place.is_none() {
                self.survival.wait(&mut connection).await?;
            }
            Ok(reply)
        };
        let done = done.await;
        let reply = self.give_back(connection, done)?;
        let mut admitted = Vec::with_capacity(events.len());
        for id in reply.items().map_err(bad)? {
            let id = id.bytes().map_err(bad)?;
            admitted.push(match id.strip_prefix(b"=") {
                _ if id.is_empty() => None,
                Some(_) => Some(Admitted::Duplicate(id_of(Reply::Bulk(id.slice(1..)))?)),
                None => Some(Admitted::Added(id_of(Reply::Bulk(id))?)),
            });
        }
        if admitted.len() != events.len() {
            return Err(bad(format!(
                "{} answers for {} events",
                admitted.len(),
                events.len()
            )));
        }
        Ok(admitted)
    }
}

#[async_trait]
impl Admin for RedisAdmin {
    async fn prepare(&self) -> Result<Vec<Mended>> {
        let layout = &self.layout;
        let mut keys = vec![
            layout.source.clone(),
            layout.key("owner"),
            layout.key("ledger"),
            layout.key("counts"),
            layout.key("dead"),
        ];
        let mut args = vec![layout.pipeline.clone()];
        for (stage, names) in layout.stages.iter().zip(&self.keys) {
            keys.push(names.stream.clone());
            keys.extend([
                names.settled.clone(),
                names.position.clone(),
                names.lease.clone(),
                names.parked.clone(),
                names.retry.clone(),
            ]);
            args.extend([
                stage.name.clone(),
                stage.group.clone(),
                u8::from(stage.reads_source).to_string(),
                u8::from(stage.owned).to_string(),
            ]);
        }
        let reply = self.script(&scripts::PREPARE, &keys, &args).await?;
        let mut mended = Vec::new();
        for row in reply.items().map_err(bad)? {
            let words: Vec<String> = row
                .items()
                .map_err(bad)?
                .into_iter()
                .map(|word| {
                    word.bytes()
                        .map(|b| String::from_utf8_lossy(&b).into_owned())
                        .map_err(bad)
                })
                .collect::<Result<_>>()?;
            let [what, stage, detail] = words.as_slice() else {
                return Err(bad("a row of prepare.lua is not of three words"));
            };
            let what = match what.as_str() {
                "group.created" => "group.created",
                "group.recreated" => "group.recreated",
                "group.adopted" => "group.adopted",
                "group.rewound" => "group.rewound",
                "group.ahead" => "group.ahead",
                "parked.mended" => "parked.mended",
                "stage.shared" => "stage.shared",
                _ => "stream.recreated",
            };
            mended.push(Mended {
                what,
                stage: Some(stage.clone()),
                detail: detail.clone(),
            });
        }
        for (stage, names) in layout.stages.iter().zip(&self.keys) {
            if stage.owned {
                mended.extend(self.kept_state(stage, names).await?);
            }
        }
        Ok(mended)
    }

    async fn depth(&self) -> Result<Depth> {
        let layout = &self.layout;
        let mut keys = vec![
            layout.key("ledger"),
            layout.key("counts"),
            layout.key("dead"),
        ];
        keys.extend(self.keys.iter().map(|k| k.stream.clone()));
        let mut args = Vec::with_capacity(2 * layout.stages.len());
        for (stage, names) in layout.stages.iter().zip(&self.keys) {
            args.extend([stage.group.as_str(), if stage.owned { "1" } else { "" }]);
            if stage.owned {
                keys.extend([names.lease.clone(), names.position.clone()]);
            }
        }
        let reply = self.script(&scripts::DEPTH, &keys, &args).await?;
        depth::decode(layout, reply)
    }

    async fn consumers(&self, stage: usize) -> Result<Vec<ConsumerDepth>> {
        let (keys, stage) = (&self.keys[stage], &self.layout.stages[stage]);
        let rows = self
            .call(&["XINFO", "CONSUMERS", &keys.stream, &stage.group])
            .await?
            .items()
            .map_err(bad)?;
        let mut consumers = Vec::with_capacity(rows.len());
        for row in rows {
            let mut consumer = ConsumerDepth::default();
            let mut words = row.items().map_err(bad)?.into_iter();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                match name.bytes().map_err(bad)?.as_ref() {
                    b"name" => consumer.name = value.bytes().map_err(bad)?,
                    b"pending" => consumer.pending = count(value)?,
                    b"idle" => consumer.idle_ms = count(value)?,
                    // -1 = it never got anything.
                    b"inactive" => {
                        consumer.inactive_ms = u64::try_from(value.int().map_err(bad)?).ok();
                    }
                    _ => {}
                }
            }
            consumers.push(consumer);
        }
        let holding: Vec<usize> = (0..consumers.len())
            .filter(|i| consumers[*i].pending > 0)
            .collect();
        let commands: Vec<_> = holding
            .iter()
            .map(|i| {
                words(&[
                    b"XPENDING",
                    keys.stream.as_bytes(),
                    stage.group.as_bytes(),
                    b"-",
                    b"+",
                    b"1",
                    &consumers[*i].name,
                ])
            })
            .collect();
        for (i, reply) in holding.into_iter().zip(self.call_many(&commands).await?) {
            if let Some(row) = reply.items().map_err(bad)?.into_iter().next() {
                consumers[i].oldest = row
                    .items()
                    .map_err(bad)?
                    .into_iter()
                    .next()
                    .map(id_of)
                    .transpose()?;
            }
        }
        Ok(consumers)
    }

    async fn pending(&self, stage: usize, query: &PendingQuery) -> Result<PendingPage> {
        let (keys, layout) = (&self.keys[stage], &self.layout.stages[stage]);
        let n_max = query.n_max.clamp(1, 1_000);
        let mut command = vec![
            b"XPENDING".to_vec(),
            keys.stream.clone().into_bytes(),
            layout.group.clone().into_bytes(),
        ];
        if !query.min_idle.is_zero() {
            command.extend([
                b"IDLE".to_vec(),
                query.min_idle.as_millis().to_string().into_bytes(),
            ]);
        }
        command.extend([
            format!("({}", query.after).into_bytes(),
            b"+".to_vec(),
            n_max.to_string().into_bytes(),
        ]);
        if let Some(consumer) = &query.consumer {
            command.push(consumer.to_vec());
        }
        let found = self.call(&command).await?.items().map_err(bad)?;
        let mut rows = Vec::with_capacity(found.len());
        for row in found {
            let mut row = row.items().map_err(bad)?.into_iter();
            let mut next = || row.next().unwrap_or(Reply::Nil);
            rows.push(PendingRow {
                id: id_of(next())?,
                consumer: next().bytes().map_err(bad)?,
                idle_ms: count(next())?,
                deliveries: count(next())?,
                ..PendingRow::default()
            });
        }
        let next = (rows.len() == n_max)
            .then(|| rows.last().map(|row| row.id))
            .flatten();
        // Payloads and retry rows, in one trip.
        let mut commands: Vec<_> = rows.iter().map(|row| range(&keys.stream, row.id)).collect();
        commands.extend(rows.iter().map(|row| {
            words(&[
                b"HGET",
                keys.retry.as_bytes(),
                row.id.to_string().as_bytes(),
            ])
        }));
        let mut replies = self.call_many(&commands).await?;
        let retries = replies.split_off(rows.len());
        for ((row, entry), retry) in rows.iter_mut().zip(replies).zip(retries) {
            let fields = entry
                .items()
                .map_err(bad)?
                .into_iter()
                .next()
                .map(entry_of)
                .transpose()?
                .and_then(|(_, fields)| fields);
            row.size = fields.as_ref().map(|fields| {
                Record {
                    id: row.id,
                    fields: fields.clone(),
                }
                .size()
            });
            row.fields = fields.filter(|_| query.fields);
            if let Reply::Bulk(retry) = retry
                && let Some((not_before_ms, failures, first_ms, error)) = parse_retry(&retry)
            {
                (
                    row.not_before_ms,
                    row.failures,
                    row.first_ms,
                    row.last_error,
                ) = (not_before_ms, failures, first_ms, Some(error));
            }
        }
        Ok(PendingPage { rows, next })
    }

    async fn pending_entry(&self, stage: usize, id: EntryId) -> Result<Option<PendingRow>> {
        let query = PendingQuery {
            after: id.previous(),
            n_max: 1,
            fields: true,
            ..PendingQuery::default()
        };
        let page = self.pending(stage, &query).await?;
        Ok(page.rows.into_iter().find(|row| row.id == id))
    }

    async fn dead(&self, before: EntryId, n_max: usize) -> Result<Vec<DeadRow>> {
        let n_max = n_max.clamp(1, 1_000).to_string();
        let from = if before == EntryId::MAX {
            "+".to_owned()
        } else {
            format!("({before}")
        };
        let rows = self
            .call(&[
                "XREVRANGE",
                &self.layout.key("dead"),
                &from,
                "-",
                "COUNT",
                &n_max,
            ])
            .await?
            .items()
            .map_err(bad)?;
        self.dead_rows(rows).await
    }

    async fn dead_entry(&self, id: EntryId) -> Result<Option<DeadRow>> {
        let rows = self
            .call(&range(&self.layout.key("dead"), id))
            .await?
            .items()
            .map_err(bad)?;
        Ok(self.dead_rows(rows).await?.into_iter().next())
    }

    async fn discard(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        self.settle(stage, ids, |_, _| Outcome::Apply(Effects::default()), true)
            .await
    }

    async fn kill(&self, stage: usize, ids: &[EntryId], why: &str) -> Result<Vec<Fate>> {
        let letter = |fields: &Fields, (tries, first_ms): Tried| {
            Outcome::Dead(DeadLetter {
                cause: "by_operator".to_owned(),
                reason: "by_operator".to_owned(),
                error: why.to_owned(),
                tries,
                first_ms,
                fields: fields.clone(),
            })
        };
        self.settle(stage, ids, letter, false).await
    }

    async fn release(&self, stage: usize, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let (keys, layout) = (&self.keys[stage], &self.layout.stages[stage]);
        let mut fates = Vec::with_capacity(ids.len());
        for ids in ids.chunks(200) {
            let mut commands = Vec::with_capacity(ids.len() * 2);
            for id in ids {
                let id = id.to_string();
                commands.push(words(&[
                    b"XPENDING",
                    keys.stream.as_bytes(),
                    layout.group.as_bytes(),
                    id.as_bytes(),
                    id.as_bytes(),
                    b"1",
                ]));
                commands.push(words(&[b"HGET", keys.retry.as_bytes(), id.as_bytes()]));
            }
            let replies = self.call_many(&commands).await?;
            let mut writes = Vec::new();
            for (id, pair) in ids.iter().zip(replies.chunks_exact(2)) {
                let pending = matches!(&pair[0], Reply::Array(rows) if !rows.is_empty());
                if let (true, Reply::Bulk(row)) = (pending, &pair[1])
                    && let Some((_, failures, first, error)) = parse_retry(row)
                {
                    let row = format!("0 {failures} {first} {error}");
                    writes.push(words(&[
                        b"HSET",
                        keys.retry.as_bytes(),
                        id.to_string().as_bytes(),
                        row.as_bytes(),
                    ]));
                }
                if pending && layout.owned {
                    // The owner hears of it with its next renewal.
                    let id = id.to_string();
                    let parked = keys.parked.as_bytes();
                    writes.push(words(&[b"ZADD", parked, b"XX", b"0", id.as_bytes()]));
                }
                fates.push(if pending {
                    Fate::Done
                } else {
                    Fate::AlreadyDone
                });
            }
            self.call_many(&writes).await?;
        }
        Ok(fates)
    }

    async fn redrive(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let layout = &self.layout;
        let dead = layout.key("dead");
        let mut keys = vec![
            dead.clone(),
            layout.key("redriven"),
            layout.key("ledger"),
            layout.key("seen:0"),
            layout.key("seen:1"),
        ];
        keys.extend(self.keys.iter().map(|k| k.stream.clone()));
        let mut head: Vec<Vec<u8>> = vec![
            if layout.dedupe.is_some() {
                b"1".to_vec()
            } else {
                b"0".to_vec()
            },
            layout.source.clone().into_bytes(),
            layout.stages.len().to_string().into_bytes(),
        ];
        for stage in &layout.stages {
            let readers = layout
                .stages
                .iter()
                .filter(|s| s.stream == stage.stream)
                .count();
            let parent = layout
                .stages
                .iter()
                .find(|s| s.output.as_deref() == Some(&stage.stream))
                .map_or("", |s| &s.name);
            head.extend([
                stage.name.clone().into_bytes(),
                readers.to_string().into_bytes(),
                parent.as_bytes().to_vec(),
            ]);
        }
        let mut fates = Vec::with_capacity(ids.len());
        for ids in ids.chunks(100) {
            let commands: Vec<_> = ids.iter().map(|id| range(&dead, *id)).collect();
            let mut args = head.clone();
            for (id, reply) in ids.iter().zip(self.call_many(&commands).await?) {
                let row = reply
                    .items()
                    .map_err(bad)?
                    .into_iter()
                    .next()
                    .map(dead_row)
                    .transpose()?;
                let event = row.and_then(|row| {
                    let (stage, _) = layout.stage(&row.stage)?;
                    self.event_id_of(stage, &row.fields)
                });
                args.push(id.to_string().into_bytes());
                args.push(event.map_or_else(Vec::new, |event| event.to_vec()));
            }
            for code in self
                .script(&scripts::REDRIVE, &keys, &args)
                .await?
                .items()
                .map_err(bad)?
            {
                fates.push(match code.bytes().map_err(bad)?.as_ref() {
                    b"A" => Fate::AlreadyDone,
                    b"T" => Fate::Trimmed,
                    b"N" => Fate::NotFound,
                    b"F" => Fate::Unfit,
                    _ => Fate::Done,
                });
            }
        }
        Ok(fates)
    }

    async fn purge(&self, ids: &[EntryId]) -> Result<Vec<Fate>> {
        let (dead, redriven) = (self.layout.key("dead"), self.layout.key("redriven"));
        let mut fates = Vec::with_capacity(ids.len());
        for ids in ids.chunks(500) {
            let mut commands = Vec::new();
            for id in ids {
                let id = id.to_string();
                commands.push(words(&[b"XDEL", dead.as_bytes(), id.as_bytes()]));
                commands.push(words(&[b"HDEL", redriven.as_bytes(), id.as_bytes()]));
            }
            for reply in self.call_many(&commands).await?.into_iter().step_by(2) {
                fates.push(if count(reply)? == 1 {
                    Fate::Done
                } else {
                    Fate::NotFound
                });
            }
        }
        Ok(fates)
    }

    async fn janitor(&self, keep: Duration, keep_dead: Duration) -> Result<Swept> {
        let layout = &self.layout;
        let mut streams: Vec<&str> = Vec::new();
        for stage in &layout.stages {
            if !streams.contains(&stage.stream.as_str()) {
                streams.push(&stage.stream);
            }
        }
        let mut swept = Swept::default();
        for stream in streams {
            let is_source = u8::from(stream == layout.source).to_string();
            let mut args = vec![
                keep.as_millis().to_string(),
                COUNTED_MAX.to_string(),
                is_source,
            ];
            let ledger = layout.key("ledger");
            let mut keys = vec![stream, &ledger];
            for (stage, its) in layout.stages.iter().zip(&self.keys) {
                if stage.stream == stream {
                    args.extend([stage.name.clone(), stage.group.clone()]);
                    keys.push(&its.position);
                }
            }
            let reply = self.script(&scripts::JANITOR, &keys, &args).await?;
            let mut counts = reply.items().map_err(bad)?.into_iter();
            swept.trimmed += counts.next().map_or(Ok(0), count)?;
            swept.lost_unread += counts.next().map_or(Ok(0), count)?;
        }
        if !keep_dead.is_zero() {
            swept.purged = self.purge_dead_older_than(keep_dead).await?;
        }
        Ok(swept)
    }

    async fn retire(&self, stage: usize, consumer: &str) -> Result<u64> {
        let (keys, stage) = (&self.keys[stage], &self.layout.stages[stage]);
        count(
            self.script(
                &scripts::RETIRE,
                &[&keys.stream],
                &[stage.group.as_str(), consumer],
            )
            .await?,
        )
    }

    async fn admit(&self, events: &[Admission], checked: bool) -> Result<Vec<Admitted>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let admitted = self.enter(events, checked, None).await?;
        admitted
            .into_iter()
            .map(|one| one.ok_or_else(|| bad("an event is known of a spool that it is not from")))
            .collect()
    }

    async fn admit_spooled(
        &self,
        place: SpoolPlace,
        events: &[Admission],
    ) -> Result<Vec<Option<Admitted>>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.enter(events, true, Some(place)).await
    }

    async fn survive(&self) -> Result<()> {
        let mut connection = self.take().await?;
        // A write of its own on this connection, whose survival is that of everything before it.
        let ledger = self.layout.key("ledger");
        connection.out.words(&["HINCRBY", &ledger, "rejected", "0"]);
        let done = async {
            connection.call(Duration::ZERO).await?;
            self.survival.wait(&mut connection).await
        };
        let done = done.await;
        self.give_back(connection, done)
    }

    async fn spool_position(&self, life: u64) -> Result<u64> {
        let reply = self
            .call(&["HGET", &self.layout.key("spool"), &format!("{life:016x}")])
            .await?;
        let Reply::Bulk(text) = reply else {
            return Ok(0);
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        text.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| StoreError::Broken(format!("the position of a spool is \"{text}\"")))
    }

    async fn epoch(&self, known: Option<&StreamMark>, fresh: u64) -> Result<EpochSeen> {
        let keys = [self.layout.source.clone(), self.layout.key("ledger")];
        let known = known.cloned().unwrap_or_default();
        let args = [
            format!("{fresh:016x}"),
            known.epoch,
            known.last.to_string(),
            known.added.to_string(),
            known.print,
        ];
        let reply = self.script(&scripts::EPOCH, &keys, &args).await?;
        let mut parts = reply.items().map_err(bad)?.into_iter();
        let mut next = || parts.next().unwrap_or(Reply::Nil);
        let text = |reply: Reply| {
            let bytes = reply.bytes().map_err(bad)?;
            Ok::<_, StoreError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let mark = StreamMark {
            epoch: text(next())?,
            last: id_of(next())?,
            added: count(next())?,
            print: text(next())?,
        };
        let why = text(next())?;
        Ok(EpochSeen {
            mark,
            why: (!why.is_empty()).then_some(why),
        })
    }

    async fn book_rejected(&self, n_events: u64) -> Result<()> {
        self.call(&[
            "HINCRBY",
            &self.layout.key("ledger"),
            "rejected",
            &n_events.to_string(),
        ])
        .await
        .map(drop)
    }

    async fn aggregates(&self, n_top: usize) -> Result<Aggregates> {
        let layout = &self.layout;
        let commands = [
            words(&[b"HGETALL", layout.key("counts").as_bytes()]),
            words(&[b"HLEN", layout.key("sessions:0").as_bytes()]),
            words(&[b"HLEN", layout.key("sessions:1").as_bytes()]),
        ];
        let mut replies = self.call_many(&commands).await?.into_iter();
        let mut next = || replies.next().unwrap_or(Reply::Nil);
        depth::aggregates(next(), count(next())? + count(next())?, n_top)
    }

    async fn session(&self, id: &[u8]) -> Result<Option<u64>> {
        let commands: Vec<_> = ["sessions:0", "sessions:1"]
            .iter()
            .map(|key| words(&[b"HGET", self.layout.key(key).as_bytes(), id]))
            .collect();
        let mut total = None;
        for reply in self.call_many(&commands).await? {
            if let Reply::Bulk(_) = reply {
                total = Some(total.unwrap_or(0) + count(reply)?);
            }
        }
        Ok(total)
    }

    async fn peek(&self, stage: usize, after: EntryId, n_max: usize) -> Result<Vec<Record>> {
        let keys = &self.keys[stage];
        let n_max = n_max.clamp(1, 1_000).to_string();
        let command = if after == EntryId::MAX {
            // The newest ones.
            words(&[
                b"XREVRANGE",
                keys.stream.as_bytes(),
                b"+",
                b"-",
                b"COUNT",
                n_max.as_bytes(),
            ])
        } else {
            words(&[
                b"XRANGE",
                keys.stream.as_bytes(),
                format!("({after}").as_bytes(),
                b"+",
                b"COUNT",
                n_max.as_bytes(),
            ])
        };
        let rows = self.call(&command).await?.items().map_err(bad)?;
        let mut records: Vec<Record> = rows
            .into_iter()
            .map(|row| {
                entry_of(row).map(|(id, fields)| Record {
                    id,
                    fields: fields.unwrap_or_default(),
                })
            })
            .collect::<Result<_>>()?;
        if after == EntryId::MAX {
            records.reverse();
        }
        Ok(records)
    }

    async fn beat(&self, instance: &str, ttl: Duration) -> Result<Vec<String>> {
        let key = self.layout.key("daemons");
        let ttl_s = ttl.as_secs().to_string();
        let alive = self
            .script(&scripts::BEAT, &[&key], &[instance, &ttl_s])
            .await?;
        names_of(alive)
    }

    async fn leave(&self, instance: &str) -> Result<()> {
        self.call(&["ZREM", &self.layout.key("daemons"), instance])
            .await
            .map(drop)
    }

    async fn server(&self) -> Result<Server> {
        let info = self.call(&["INFO"]).await?.bytes().map_err(bad)?;
        Ok(depth::server(&String::from_utf8_lossy(&info)))
    }
}

impl RedisAdmin {
    /// Bounded: at most 1,000 a call; the janitor comes again.
    async fn purge_dead_older_than(&self, keep: Duration) -> Result<u64> {
        let now = self.call(&["TIME"]).await?.items().map_err(bad)?;
        let now_ms = now.into_iter().next().map_or(Ok(0), count)? * 1_000;
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let Some(cut) = now_ms.checked_sub(keep_ms) else {
            return Ok(0);
        };
        let cut = EntryId { ms: cut, seq: 0 }.to_string();
        let rows = self
            .call(&[
                "XRANGE",
                &self.layout.key("dead"),
                "-",
                &cut,
                "COUNT",
                "1000",
            ])
            .await?
            .items()
            .map_err(bad)?;
        let ids: Vec<EntryId> = rows
            .into_iter()
            .map(|row| entry_of(row).map(|(id, _)| id))
            .collect::<Result<_>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        Ok(self
            .purge(&ids)
            .await?
            .iter()
            .filter(|fate| **fate == Fate::Done)
            .count() as u64)
    }
}

fn words(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

fn names_of(reply: Reply) -> Result<Vec<String>> {
    reply
        .items()
        .map_err(bad)?
        .into_iter()
        .map(|name| {
            name.bytes()
                .map(|b| String::from_utf8_lossy(&b).into_owned())
                .map_err(bad)
        })
        .collect()
}
