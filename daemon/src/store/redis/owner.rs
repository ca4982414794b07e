//! The owner's side of an owned stage: lease, commit, parked entries, and the reader that follows a position.
//!
//! Each over its own connection, like the hands of a shared worker (`lane`), whose commit script it shares.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::keyed;
use super::lane::{
    Lane, SMALL, bad, codes, delivered, entries_of, fields_of, id_of, reply_max, try_commit,
};
use super::resp::Reply;
use super::scripts::{self, Form};
use crate::record::{EntryId, Record};
use crate::store::{
    Acquired, Batch, Cell, Commit, Committed, Delivered, DueTimers, Fired, Firing, Lease,
    OwnedCommit, OwnedDone, Owner, Reader, Renewed, Result, StoreError, Wish,
};

/// Parked entries fetched by one script.
const FETCHED_MAX: usize = 200;

pub(super) struct RedisOwner(pub(super) Lane);

pub(super) struct RedisFollower {
    pub(super) lane: Lane,
    pub(super) position: EntryId,
}

async fn lease(lane: &mut Lane, mode: &str, epoch: u64, ttl: Duration) -> Result<Vec<Reply>> {
    let args = [
        mode.to_owned(),
        lane.consumer.clone(),
        epoch.to_string(),
        ttl.as_millis().to_string(),
        lane.stage.group.clone(),
    ];
    let reply = scripts::OWN_LEASE
        .run(&mut lane.connection, &lane.keys.lease(), &args)
        .await?;
    reply.items().map_err(bad)
}

fn number(reply: Reply) -> Result<u64> {
    u64::try_from(reply.int().map_err(bad)?).map_err(bad)
}

fn word(reply: Option<Reply>) -> Result<String> {
    let bytes = reply.unwrap_or(Reply::Nil).bytes().map_err(bad)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn fetch(lane: &mut Lane, ids: &[EntryId]) -> Result<Batch> {
    let mut batch = Batch::default();
    for ids in ids.chunks(FETCHED_MAX) {
        let mut args = vec![lane.stage.group.clone(), lane.stage.name.clone()];
        args.extend(ids.iter().map(EntryId::to_string));
        let reply = scripts::OWN_FETCH
            .run(&mut lane.connection, &lane.keys.claim(), &args)
            .await?;
        let mut parts = reply.items().map_err(bad)?.into_iter();
        let mut next = || parts.next().unwrap_or(Reply::Nil).items().map_err(bad);
        for id in next()? {
            batch.lost.push(id_of(id)?);
        }
        for row in next()? {
            let mut row = row.items().map_err(bad)?.into_iter();
            let mut next = || row.next().unwrap_or(Reply::Nil);
            let id = id_of(next())?;
            let fields = fields_of(next())?;
            batch
                .entries
                .push(delivered(Record { id, fields }, 0, next()));
        }
    }
    Ok(batch)
}

/// One run of the commit script.
async fn run(lane: &mut Lane, commit: &OwnedCommit, form: Form) -> (Result<OwnedDone>, bool) {
    let (reply, forwards) = try_commit(lane, &commit.commit, false, Some(commit), form).await;
    (reply.and_then(|reply| done(reply, commit)), forwards)
}

fn done(reply: Reply, commit: &OwnedCommit) -> Result<OwnedDone> {
    let mut words = reply.items().map_err(bad)?.into_iter();
    let status = word(words.next())?;
    let foreign = word(words.next())? == "1";
    match status.as_str() {
        "OK" => Ok(OwnedDone::Done {
            committed: codes(words.collect(), commit.commit.entries.len())?,
            foreign,
        }),
        "FENCED" => Ok(OwnedDone::Fenced),
        "MOVED" => Ok(OwnedDone::Moved),
        "STALE" => Ok(OwnedDone::Stale),
        "AGAIN" => Ok(OwnedDone::Again(
            codes(words.collect(), commit.commit.entries.len())?.exceptions,
        )),
        other => Err(bad(format!("an owner's commit answered \"{other}\""))),
    }
}

#[async_trait]
impl Owner for RedisOwner {
    async fn acquire(&mut self, ttl: Duration) -> Result<Acquired> {
        let mut words = lease(&mut self.0, "acquire", 0, ttl).await?.into_iter();
        let status = word(words.next())?;
        let mut next = || words.next().unwrap_or(Reply::Nil);
        Ok(match status.as_str() {
            "leased" => Acquired::Leased(Lease {
                epoch: number(next())?,
                position: id_of(next())?,
                lives: u32::try_from(number(next())?).unwrap_or(u32::MAX),
            }),
            "held" => Acquired::Held {
                by: word(Some(next()))?,
                left_ms: number(next())?,
            },
            other => return Err(bad(format!("own_lease.lua answered \"{other}\""))),
        })
    }

    async fn ask(&mut self, wish: Wish, ttl: Duration) -> Result<bool> {
        let mode = match wish {
            Wish::Balance => "ask",
            Wish::Take => "take",
        };
        let words = lease(&mut self.0, mode, 0, ttl).await?;
        Ok(word(words.into_iter().next())? == "ok")
    }

    async fn renew(&mut self, epoch: u64, ttl: Duration) -> Result<Option<Renewed>> {
        let mut words = lease(&mut self.0, "renew", epoch, ttl).await?.into_iter();
        if word(words.next())? != "ok" {
            return Ok(None);
        }
        let position = match words.next() {
            Some(Reply::Bulk(id)) if !id.is_empty() => Some(id_of(Reply::Bulk(id))?),
            _ => None,
        };
        let n_parked = number(words.next().unwrap_or(Reply::Nil))?;
        let asked_by = Some(word(words.next())?).filter(|name| !name.is_empty());
        let due = words.map(id_of).collect::<Result<_>>()?;
        Ok(Some(Renewed {
            position,
            n_parked,
            due,
            asked_by,
        }))
    }

    async fn release(&mut self, epoch: u64) -> Result<()> {
        lease(&mut self.0, "release", epoch, Duration::ZERO)
            .await
            .map(drop)
    }

    async fn commit(&mut self, commit: &OwnedCommit) -> Result<OwnedDone> {
        if commit.commit.entries.is_empty() {
            return Ok(OwnedDone::Done {
                committed: Committed::default(),
                foreign: false,
            });
        }
        let (result, forwards) = run(&mut self.0, commit, Form::Plain).await;
        if forwards || !matches!(result, Err(StoreError::OutOfMemory(_))) {
            return result;
        }
        if commit.state.is_some() {
            // Its state is that of the whole.
            return run(&mut self.0, commit, Form::AllowOom).await.0;
        }
        // In small pieces, each from where the one before it ended. What an error leaves half done is found by the
        // position: the same commit answers `Moved`.
        let mut position = commit.lease.position;
        let (mut all, mut is_foreign) = (Committed::default(), false);
        for (n, entries) in commit.commit.entries.chunks(SMALL).enumerate() {
            let piece = OwnedCommit {
                lease: Lease {
                    position,
                    ..commit.lease
                },
                commit: Commit {
                    consumer: Arc::clone(&commit.commit.consumer),
                    entries: entries.to_vec(),
                    repeated: commit.commit.repeated,
                },
                parked: commit.parked,
                state: None,
                ttl: commit.ttl,
            };
            match run(&mut self.0, &piece, Form::AllowOom).await.0? {
                OwnedDone::Done { committed, foreign } => {
                    is_foreign |= foreign;
                    let exceptions = committed.exceptions.into_iter();
                    all.exceptions
                        .extend(exceptions.map(|(i, code)| (i + n * SMALL, code)));
                }
                refused => return Ok(refused),
            }
            if let (false, Some(last)) = (commit.parked, entries.last()) {
                position = last.id;
            }
        }
        Ok(OwnedDone::Done {
            committed: all,
            foreign: is_foreign,
        })
    }

    async fn fetch(&mut self, ids: &[EntryId]) -> Result<Batch> {
        fetch(&mut self.0, ids).await
    }

    async fn load_state(&mut self, keys: &[Bytes]) -> Result<Vec<Option<Cell>>> {
        keyed::load(&mut self.0, keys).await
    }

    async fn due_timers(&mut self, n_max: usize) -> Result<DueTimers> {
        keyed::due_timers(&mut self.0, n_max).await
    }

    async fn fire(&mut self, firing: &Firing) -> Result<Fired> {
        keyed::fire(&mut self.0, firing).await
    }
}

#[async_trait]
impl Reader for RedisFollower {
    async fn backlog(&mut self, after: EntryId, n_records_max: usize) -> Result<Batch> {
        let lane = &mut self.lane;
        lane.connection
            .out
            .words(&["ZRANGE", &lane.keys.parked, "0", "-1"]);
        let reply = lane.connection.call(Duration::ZERO).await?;
        let mut ids: Vec<EntryId> = reply
            .items()
            .map_err(bad)?
            .into_iter()
            .map(id_of)
            .collect::<Result<_>>()?;
        ids.retain(|id| *id > after);
        ids.sort_unstable();
        ids.truncate(n_records_max);
        let mut batch = fetch(lane, &ids).await?;
        batch.next = ids.last().copied().filter(|_| ids.len() == n_records_max);
        Ok(batch)
    }

    async fn next(&mut self, n_records_max: usize, block: Duration) -> Result<Batch> {
        let lane = &mut self.lane;
        lane.connection.reply_max = reply_max(n_records_max);
        let (count, after) = (n_records_max.to_string(), self.position.to_string());
        let block_ms = block.as_millis().to_string();
        let mut words = vec!["XREAD", "COUNT", &count];
        // BLOCK 0 would wait for ever.
        if !block.is_zero() {
            words.extend(["BLOCK", &block_ms]);
        }
        words.extend(["STREAMS", &lane.keys.stream, &after]);
        lane.connection.out.words(&words);
        let entries = entries_of(&lane.connection.call_undecoded(block).await?)?;
        if let Some((last, _)) = entries.last() {
            self.position = *last;
        }
        let entries = entries.into_iter().map(|(id, fields)| Delivered {
            record: Record {
                id,
                fields: fields.unwrap_or_default(),
            },
            ..Delivered::default()
        });
        Ok(Batch {
            entries: entries.collect(),
            ..Batch::default()
        })
    }
}
