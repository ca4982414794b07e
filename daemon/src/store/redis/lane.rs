//! Reader and writer of one worker, each over its own connection.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::connection::Connection;
use super::encode::{encode, parse_retry};
use super::keyed;
use super::keys::Keys;
use super::left_out::Commits;
use super::resp::{BATCH_MAX, Cursor, REPLY_MAX, Reply};
use super::scripts::{self, Form};
use crate::record::{EntryId, Fields, Record};
use crate::store::{
    Batch, Code, Commit, Committed, Delivered, Layout, OwnedCommit, Reader, Result, StageLayout,
    StoreError, Writer,
};

/// A refused commit is tried again in pieces of this many entries when memory is full.
pub(super) const SMALL: usize = 50;

/// What both ends of a lane know.
pub(super) struct Lane {
    pub(super) layout: Arc<Layout>,
    pub(super) stage: StageLayout,
    pub(super) keys: Keys,
    pub(super) consumer: String,
    pub(super) connection: Connection,
    /// Commits without a guard; tests only.
    pub(super) commits: Option<Arc<Commits>>,
}

pub(super) struct RedisReader(pub(super) Lane);
pub(super) struct RedisWriter(pub(super) Lane);

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is made for map_err, which hands over the error"
)]
pub(super) fn bad(error: impl ToString) -> StoreError {
    StoreError::Bug(error.to_string())
}

pub(super) fn id_of(reply: Reply) -> Result<EntryId> {
    parse_id(&reply.bytes().map_err(bad)?)
}

fn parse_id(bytes: &[u8]) -> Result<EntryId> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad(format!("\"{}\" is no entry id", bytes.escape_ascii())))
}

/// A flat list of names and values.
pub(super) fn fields_of(reply: Reply) -> Result<Fields> {
    let words = reply.items().map_err(bad)?;
    let mut fields = Vec::with_capacity(words.len() / 2);
    let mut words = words.into_iter();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        fields.push((name.bytes().map_err(bad)?, value.bytes().map_err(bad)?));
    }
    Ok(fields)
}

/// `[id, fields | nil]`.
pub(super) fn entry_of(reply: Reply) -> Result<(EntryId, Option<Fields>)> {
    let mut parts = reply.items().map_err(bad)?.into_iter();
    let id = id_of(parts.next().unwrap_or(Reply::Nil))?;
    let fields = match parts.next() {
        None | Some(Reply::Nil) => None,
        Some(fields) => Some(fields_of(fields)?),
    };
    Ok((id, fields))
}

/// The entries of an XREADGROUP or XREAD of one stream; a timeout is an empty list. Every event passes here, so the reply
/// is walked over and not made into a tree first.
pub(super) fn entries_of(frame: &Bytes) -> Result<Vec<(EntryId, Option<Fields>)>> {
    let mut reply = Cursor::new(frame);
    if reply.array().map_err(bad)?.unwrap_or(0) == 0 {
        return Ok(Vec::new());
    }
    // The stream's name and its entries.
    reply.array().map_err(bad)?;
    reply.bulk().map_err(bad)?;
    let n_entries = reply.array().map_err(bad)?.unwrap_or(0);
    let mut entries = Vec::with_capacity(reply.bounded(n_entries));
    for _ in 0..n_entries {
        reply.array().map_err(bad)?;
        let id = parse_id(&reply.bulk().map_err(bad)?)?;
        let fields = match reply.array().map_err(bad)? {
            None => None,
            Some(n_words) => {
                let mut fields = Vec::with_capacity(reply.bounded(n_words) / 2);
                for _ in 0..n_words / 2 {
                    let name = reply.bulk().map_err(bad)?;
                    fields.push((name, reply.bulk().map_err(bad)?));
                }
                Some(fields)
            }
        };
        entries.push((id, fields));
    }
    Ok(entries)
}

#[async_trait]
impl Reader for RedisReader {
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch> {
        let lane = &mut self.0;
        lane.connection.reply_max = reply_max(n_records_max);
        let count = n_records_max.to_string();
        let from = after.to_string();
        lane.connection.out.words(&[
            "XREADGROUP",
            "GROUP",
            &lane.stage.group,
            &lane.consumer,
            "COUNT",
            &count,
            "STREAMS",
            &lane.keys.stream,
            &from,
        ]);
        let entries = entries_of(&lane.connection.call_undecoded(Duration::ZERO).await?)?;
        let next = (entries.len() == n_records_max)
            .then(|| entries.last().map(|(id, _)| *id))
            .flatten();
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
            return Ok(Batch::default());
        };

        // What is known of their past: deliveries from the pending list, failures from the retry rows.
        let (first, last) = (first.to_string(), last.to_string());
        lane.connection.out.words(&[
            "XPENDING",
            &lane.keys.stream,
            &lane.stage.group,
            &first,
            &last,
            &count,
            &lane.consumer,
        ]);
        let mut deliveries = std::collections::HashMap::new();
        for row in lane
            .connection
            .call(Duration::ZERO)
            .await?
            .items()
            .map_err(bad)?
        {
            let mut row = row.items().map_err(bad)?.into_iter();
            let id = id_of(row.next().unwrap_or(Reply::Nil))?;
            let n = row.nth(2).map_or(Ok(0), Reply::int).map_err(bad)?;
            deliveries.insert(id, u64::try_from(n).unwrap_or(0));
        }
        let ids: Vec<String> = entries.iter().map(|(id, _)| id.to_string()).collect();
        lane.connection
            .out
            .start(2 + ids.len())
            .arg("HMGET")
            .arg(&lane.keys.retry);
        for id in &ids {
            lane.connection.out.arg(id);
        }
        let rows = lane
            .connection
            .call(Duration::ZERO)
            .await?
            .items()
            .map_err(bad)?;

        let mut batch = Batch {
            next,
            ..Batch::default()
        };
        let mut gone = Vec::new();
        for ((id, fields), row) in entries.into_iter().zip(rows) {
            let Some(fields) = fields else {
                gone.push(id.to_string());
                continue;
            };
            let n = deliveries.get(&id).copied().unwrap_or(0);
            batch.entries.push(delivered(Record { id, fields }, n, row));
        }
        if !gone.is_empty() {
            let mut args = vec![lane.stage.group.clone(), lane.stage.name.clone()];
            args.append(&mut gone);
            let booked = scripts::LOST
                .run(&mut lane.connection, &lane.keys.claim(), &args)
                .await?;
            batch.lost = booked
                .items()
                .map_err(bad)?
                .into_iter()
                .map(id_of)
                .collect::<Result<_>>()?;
        }
        Ok(batch)
    }

    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch> {
        let lane = &mut self.0;
        lane.connection.reply_max = reply_max(n_records_max);
        let count = n_records_max.to_string();
        let block_ms = block.as_millis().to_string();
        let command = &mut lane.connection.out;
        // BLOCK 0 would wait for ever.
        if block.is_zero() {
            command.words(&[
                "XREADGROUP",
                "GROUP",
                &lane.stage.group,
                &lane.consumer,
                "COUNT",
                &count,
                "STREAMS",
                &lane.keys.stream,
                ">",
            ]);
        } else {
            command.words(&[
                "XREADGROUP",
                "GROUP",
                &lane.stage.group,
                &lane.consumer,
                "COUNT",
                &count,
                "BLOCK",
                &block_ms,
                "STREAMS",
                &lane.keys.stream,
                ">",
            ]);
        }
        let entries = entries_of(&lane.connection.call_undecoded(block).await?)?;
        let entries = entries
            .into_iter()
            .filter_map(|(id, fields)| {
                fields.map(|fields| Delivered {
                    record: Record { id, fields },
                    ..Delivered::default()
                })
            })
            .collect();
        Ok(Batch {
            entries,
            ..Batch::default()
        })
    }
}

/// One entry may be as large as Redis lets it; several together may not.
pub(super) fn reply_max(n_records: usize) -> usize {
    if n_records > 1 { BATCH_MAX } else { REPLY_MAX }
}

pub(super) fn delivered(record: Record, deliveries: u64, row: Reply) -> Delivered {
    let past = match row {
        Reply::Bulk(row) => parse_retry(&row),
        _ => None,
    };
    let (not_before_ms, failures, first_ms, _) = past.unwrap_or_default();
    Delivered {
        record,
        failures,
        not_before_ms,
        deliveries,
        first_ms,
    }
}

#[async_trait]
impl Writer for RedisWriter {
    async fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        run_commit(&mut self.0, commit, false).await
    }

    async fn acknowledge(&mut self, ids: &[EntryId]) -> Result<()> {
        let lane = &mut self.0;
        if lane.commits.is_none() || ids.is_empty() {
            return Ok(());
        }
        lane.connection
            .out
            .start(3 + ids.len())
            .arg("XACK")
            .arg(&lane.keys.stream)
            .arg(&lane.stage.group);
        for id in ids {
            lane.connection.out.arg(id.to_string());
        }
        lane.connection.call(Duration::ZERO).await.map(drop)
    }

    async fn keep(&mut self, ids: &[EntryId]) -> Result<Vec<EntryId>> {
        let lane = &mut self.0;
        let mut args = vec![lane.stage.group.clone(), lane.consumer.clone()];
        args.extend(ids.iter().map(EntryId::to_string));
        let held = scripts::KEEP
            .run(&mut lane.connection, &[&lane.keys.stream], &args)
            .await?;
        held.items().map_err(bad)?.into_iter().map(id_of).collect()
    }

    async fn sweep(
        &mut self,
        min_idle: Duration,
        after: EntryId,
        n_records_max: usize,
    ) -> Result<Batch> {
        let args = vec![
            "sweep".to_owned(),
            after.to_string(),
            n_records_max.to_string(),
        ];
        claim(&mut self.0, min_idle, args).await
    }

    async fn claim(&mut self, ids: &[EntryId], min_idle: Duration) -> Result<Batch> {
        let args = std::iter::once("ids".to_owned())
            .chain(ids.iter().map(EntryId::to_string))
            .collect();
        claim(&mut self.0, min_idle, args).await
    }
}

async fn claim(lane: &mut Lane, min_idle: Duration, rest: Vec<String>) -> Result<Batch> {
    let mut args = vec![
        lane.stage.group.clone(),
        lane.consumer.clone(),
        lane.stage.name.clone(),
        min_idle.as_millis().to_string(),
    ];
    args.extend(rest);
    let reply = scripts::CLAIM
        .run(&mut lane.connection, &lane.keys.claim(), &args)
        .await?;
    let mut parts = reply.items().map_err(bad)?.into_iter();
    let cursor = parts.next().unwrap_or(Reply::Nil).bytes().map_err(bad)?;
    let next = if cursor.is_empty() {
        None
    } else {
        Some(id_of(Reply::Bulk(cursor))?)
    };
    let lost = parts
        .next()
        .unwrap_or(Reply::Nil)
        .items()
        .map_err(bad)?
        .into_iter()
        .map(id_of)
        .collect::<Result<_>>()?;
    let mut entries = Vec::new();
    for row in parts.next().unwrap_or(Reply::Nil).items().map_err(bad)? {
        let mut row = row.items().map_err(bad)?.into_iter();
        let id = id_of(row.next().unwrap_or(Reply::Nil))?;
        let fields = fields_of(row.next().unwrap_or(Reply::Nil))?;
        let deliveries = row.next().map_or(Ok(0), Reply::int).map_err(bad)?;
        let past = row.next().unwrap_or(Reply::Nil);
        entries.push(delivered(
            Record { id, fields },
            u64::try_from(deliveries).unwrap_or(0),
            past,
        ));
    }
    Ok(Batch {
        entries,
        lost,
        next,
    })
}

/// Runs a commit; when memory is full and nothing is forwarded, again in small pieces that are allowed to.
pub(super) async fn run_commit(
    lane: &mut Lane,
    commit: &Commit,
    discard: bool,
) -> Result<Committed> {
    if commit.entries.is_empty() {
        return Ok(Committed::default());
    }
    let (reply, forwards) = try_commit(lane, commit, discard, None, Form::Plain).await;
    let result = reply.and_then(|reply| codes_of(reply, commit.entries.len()));
    match result {
        Err(StoreError::OutOfMemory(_)) if !forwards => {
            let mut all = Committed::default();
            for (n, piece) in commit.entries.chunks(SMALL).enumerate() {
                let piece = Commit {
                    consumer: Arc::clone(&commit.consumer),
                    entries: piece.to_vec(),
                    repeated: commit.repeated,
                };
                let (reply, _) = try_commit(lane, &piece, discard, None, Form::AllowOom).await;
                let done = codes_of(reply?, piece.entries.len())?;
                all.exceptions.extend(
                    done.exceptions
                        .into_iter()
                        .map(|(i, code)| (i + n * SMALL, code)),
                );
            }
            Ok(all)
        }
        result => result,
    }
}

/// One run of the script: its reply, and whether anything is forwarded. `owned` = by the owner of an owned stage.
pub(super) async fn try_commit(
    lane: &mut Lane,
    commit: &Commit,
    discard: bool,
    owned: Option<&OwnedCommit>,
    form: Form,
) -> (Result<Reply>, bool) {
    let mut encoded = encode(commit, &lane.stage, lane.layout.dedupe.is_some(), discard);
    let forwards = encoded.forwards;
    let window = lane
        .layout
        .dedupe
        .map_or((0, 0), |d| (d.window.as_millis(), d.max_ids));
    if lane.stage.owned {
        encoded.flags.push(match owned {
            None => 'h',
            Some(owned) if owned.parked => 'p',
            Some(_) => 'w',
        });
        if lane.stage.reads_source {
            encoded.flags.push('s');
        }
    }
    let mut args: Vec<Bytes> = vec![
        Bytes::copy_from_slice(lane.stage.group.as_bytes()),
        Bytes::copy_from_slice(commit.consumer.as_bytes()),
        Bytes::copy_from_slice(lane.stage.name.as_bytes()),
        Bytes::from(encoded.flags),
        Bytes::from(lane.stage.output_readers.to_string()),
        Bytes::from(lane.layout.session_keep.as_millis().to_string()),
        Bytes::from(window.0.to_string()),
        Bytes::from(window.1.to_string()),
        Bytes::from(encoded.batch),
        Bytes::from(encoded.parts),
    ];
    if let Some(owned) = owned {
        args.extend([
            Bytes::from(owned.lease.epoch.to_string()),
            Bytes::from(owned.lease.position.to_string()),
            Bytes::from(owned.ttl.as_millis().to_string()),
        ]);
        args.extend(owned.state.as_ref().map(|s| Bytes::from(keyed::block(s))));
    }
    let left_out = lane.commits.clone();
    let script = match (form, &left_out) {
        (Form::Plain, None) => &*scripts::COMMIT,
        (Form::AllowOom, None) => &*scripts::COMMIT_ALLOW_OOM,
        (Form::Plain, Some(commits)) => &commits.plain,
        (Form::AllowOom, Some(commits)) => &commits.allow_oom,
    };
    let reply = script
        .run(&mut lane.connection, &lane.keys.commit(), &args)
        .await;
    (reply, forwards)
}

fn codes_of(reply: Reply, n_entries: usize) -> Result<Committed> {
    codes(reply.items().map_err(bad)?, n_entries)
}

/// Pairs of an entry's place and its code.
pub(super) fn codes(words: Vec<Reply>, n_entries: usize) -> Result<Committed> {
    let mut exceptions = Vec::with_capacity(words.len() / 2);
    let mut words = words.into_iter();
    while let (Some(at), Some(code)) = (words.next(), words.next()) {
        let at = usize::try_from(at.int().map_err(bad)?).unwrap_or(usize::MAX);
        let code = match code.bytes().map_err(bad)?.as_ref() {
            b"D" => Code::Duplicate,
            b"N" => Code::NotPending,
            b"S" => Code::Superseded,
            b"R" => Code::Redelivered,
            other => return Err(bad(format!("commit code \"{}\"", other.escape_ascii()))),
        };
        if at >= n_entries {
            return Err(bad(format!("commit code for entry {at} of {n_entries}")));
        }
        exceptions.push((at, code));
    }
    Ok(Committed { exceptions })
}
