//! Decodes the reply of `depth.lua` into depths and the ledger (semantics.md section 3), and what INFO and the counters say.

use std::collections::HashMap;

use bytes::Bytes;

use super::lane::{bad, id_of};
use super::resp::Reply;
use crate::record::EntryId;
use crate::store::{
    Aggregates, Depth, ForeignGroup, Lag, Layout, Ledger, OwnerDepth, Result, Server, StageDepth,
};

/// The ledger hash with typed access; a field that is not there is 0.
struct Book(HashMap<Bytes, Bytes>);

impl Book {
    fn signed(&self, field: &str) -> i64 {
        self.0
            .get(field.as_bytes())
            .and_then(|v| std::str::from_utf8(v).ok())
            .and_then(|v| v.parse().ok())
            .unwrap_or(0)
    }

    fn count(&self, field: &str) -> u64 {
        u64::try_from(self.signed(field)).unwrap_or(0)
    }
}

/// One stage as the script tells it.
struct Told {
    exists: bool,
    length: u64,
    last: EntryId,
    added: i64,
    first: Option<EntryId>,
    first_undelivered: Option<EntryId>,
    groups: Vec<HashMap<Bytes, Reply>>,
    pending: u64,
    oldest: Option<EntryId>,
    owner: Option<OwnerDepth>,
}

fn map_of(reply: Reply) -> Result<HashMap<Bytes, Reply>> {
    let mut map = HashMap::new();
    let mut words = reply.items().map_err(bad)?.into_iter();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        map.insert(name.bytes().map_err(bad)?, value);
    }
    Ok(map)
}

fn maybe_id(reply: Reply) -> Result<Option<EntryId>> {
    match reply {
        Reply::Nil => Ok(None),
        Reply::Bulk(bytes) if bytes.is_empty() => Ok(None),
        reply => id_of(reply).map(Some),
    }
}

fn count(reply: Reply) -> Result<u64> {
    Ok(u64::try_from(reply.int().map_err(bad)?).unwrap_or(0))
}

fn told(reply: Reply) -> Result<Told> {
    let mut parts = reply.items().map_err(bad)?.into_iter();
    let mut next = || parts.next().unwrap_or(Reply::Nil);
    let exists = next().int().map_err(bad)? == 1;
    let length = count(next())?;
    let last = id_of(next())?;
    let added = next().int().map_err(bad)?;
    let first = maybe_id(next())?;
    let first_undelivered = maybe_id(next())?;
    let groups = next()
        .items()
        .map_err(bad)?
        .into_iter()
        .map(map_of)
        .collect::<Result<_>>()?;
    let mut summary = next().items().map_err(bad)?.into_iter();
    let pending = summary.next().map_or(Ok(0), count)?;
    let oldest = maybe_id(summary.next().unwrap_or(Reply::Nil))?;
    let owner = match next() {
        Reply::Nil => None,
        told => Some(owner(told)?),
    };
    Ok(Told {
        exists,
        length,
        last,
        added,
        first,
        first_undelivered,
        groups,
        pending,
        oldest,
        owner,
    })
}

fn owner(reply: Reply) -> Result<OwnerDepth> {
    let mut parts = reply.items().map_err(bad)?.into_iter();
    let mut next = || parts.next().unwrap_or(Reply::Nil);
    let name = next().bytes().map_err(bad)?;
    let (epoch, position, is_over) = (count(next())?, maybe_id(next())?, count(next())? == 1);
    Ok(OwnerDepth {
        consumer: (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned()),
        expired: is_over && !name.is_empty(),
        epoch,
        position,
    })
}

fn number(group: &HashMap<Bytes, Reply>, name: &'static [u8]) -> Option<u64> {
    group
        .get(name)
        .and_then(|reply| reply.clone().int().ok())
        .and_then(|n| u64::try_from(n).ok())
}

fn id_in(group: &HashMap<Bytes, Reply>, name: &'static [u8]) -> EntryId {
    group
        .get(name)
        .and_then(|reply| id_of(reply.clone()).ok())
        .unwrap_or_default()
}

fn name_of(group: &HashMap<Bytes, Reply>) -> Bytes {
    group
        .get(&b"name"[..])
        .and_then(|reply| reply.clone().bytes().ok())
        .unwrap_or_default()
}

/// The whole reply.
pub(super) fn decode(layout: &Layout, reply: Reply) -> Result<Depth> {
    let mut parts = reply.items().map_err(bad)?.into_iter();
    let mut next = || parts.next().unwrap_or(Reply::Nil);
    let now_ms = count(next())?;
    let mut book = HashMap::new();
    let mut words = next().items().map_err(bad)?.into_iter();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        book.insert(name.bytes().map_err(bad)?, value.bytes().map_err(bad)?);
    }
    let book = Book(book);
    let aggregated = count(next())?;
    let dead_length = count(next())?;
    let stages: Vec<Told> = next()
        .items()
        .map_err(bad)?
        .into_iter()
        .map(told)
        .collect::<Result<_>>()?;
    if stages.len() != layout.stages.len() {
        return Err(bad(format!(
            "depths of {} stages where there are {}",
            stages.len(),
            layout.stages.len()
        )));
    }

    let mut depth = Depth {
        now_ms,
        dead_length,
        aggregated,
        ..Depth::default()
    };
    for (names, told) in layout.stages.iter().zip(&stages) {
        depth.stages.push(stage(names, told, &book));
        for group in &told.groups {
            let name = name_of(group);
            let ours = layout
                .stages
                .iter()
                .any(|s| s.stream == names.stream && s.group.as_bytes() == name);
            let known = depth
                .foreign
                .iter()
                .any(|f| f.stream == names.stream && f.group.as_bytes() == name);
            if !ours && !known {
                depth.foreign.push(ForeignGroup {
                    stream: names.stream.clone(),
                    group: String::from_utf8_lossy(&name).into_owned(),
                    pending: number(group, b"pending").unwrap_or(0),
                    lag: number(group, b"lag").map_or(Lag::Unknown, Lag::Known),
                    last_delivered: id_in(group, b"last-delivered-id"),
                    consumers: number(group, b"consumers").unwrap_or(0),
                });
            }
        }
    }
    depth.ledger = whole(layout, &depth.stages, &book);
    Ok(depth)
}

fn stage(names: &crate::store::StageLayout, told: &Told, book: &Book) -> StageDepth {
    let group = told
        .groups
        .iter()
        .find(|group| name_of(group) == names.group.as_bytes());
    let delivered = group
        .map(|g| id_in(g, b"last-delivered-id"))
        .unwrap_or_default();
    let server_lag = group.and_then(|g| number(g, b"lag"));

    let name = &names.name;
    let field = |what: &str| book.count(&format!("{name}:{what}"));
    let base = book.signed(&format!("base:{name}")) + book.signed(&format!("readded:{name}"));
    let came = if names.reads_source {
        told.added
    } else {
        book.signed(&format!("emitted:{}", names.stream))
    };
    let accepted = u64::try_from(came - base).unwrap_or(0);
    let (ended, forwarded) = (field("ended"), field("forwarded"));
    let dead = book.signed(&format!("{name}:dead"));
    let settled = ["filtered", "late", "discarded", "deduplicated", "lost"]
        .iter()
        .fold(ended + forwarded, |sum, what| sum + field(what));
    let left = i64::try_from(accepted).unwrap_or(i64::MAX)
        - i64::try_from(settled + told.pending).unwrap_or(i64::MAX)
        - dead;

    // Trimmed unread by somebody else: the server's lag stays above 0 for ever. What is left is what is undelivered, and
    // the rest is lost (missed by the ledger and not read by the group); the janitor books it and heals the lag, until
    // then it is told from here.
    let read = group
        .and_then(|g| number(g, b"entries-read"))
        .and_then(|n| i64::try_from(n).ok());
    let missed = |n_there: u64| {
        // From a stream that nothing was taken out of nothing is lost: somebody moved the group over what it skipped.
        if i64::try_from(told.length) == Ok(told.added) {
            return 0;
        }
        let n_there = i64::try_from(n_there).unwrap_or(i64::MAX);
        // From a stream that nothing was taken out of nothing is lost: somebody moved the group over what it skipped.
        let whole = i64::try_from(told.length) == Ok(told.added);
        let unread = match read {
            _ if whole => 0,
            Some(read) => told.added - read,
            None => i64::MAX,
        };
        u64::try_from(left.min(unread).saturating_sub(n_there)).unwrap_or(0)
    };
    let mut unbooked = 0;
    let lag = match (group, told.first_undelivered) {
        (None, _) => Lag::Unknown,
        // Also after the server loaded its append-only file, when its own figure is wrong.
        (Some(_), None) => {
            unbooked = missed(0);
            Lag::Known(0)
        }
        (Some(_), first) if first == told.first => {
            unbooked = missed(told.length);
            Lag::Known(told.length)
        }
        (Some(_), Some(_)) => match server_lag {
            Some(lag) => Lag::Known(lag),
            None => u64::try_from(left).map_or(Lag::Unknown, Lag::Estimate),
        },
    };
    let undelivered = match lag {
        Lag::Known(n) | Lag::Estimate(n) => n,
        Lag::Unknown => 0,
    };

    let ledger = Ledger {
        accepted,
        spawned: 0,
        applied: ended + forwarded,
        filtered: field("filtered"),
        late: field("late"),
        discarded: field("discarded"),
        deduplicated: field("deduplicated"),
        dead,
        lost: field("lost") + unbooked,
        pending: told.pending,
        undelivered,
        estimated: !matches!(lag, Lag::Known(_)),
        applied_in_aggregates: if names.aggregates {
            ended + forwarded
        } else {
            0
        },
        rejected: 0,
    };
    StageDepth {
        present: told.exists && group.is_some(),
        length: told.length,
        consumers: group.and_then(|g| number(g, b"consumers")).unwrap_or(0),
        pending: told.pending,
        oldest_pending: told.oldest,
        lag,
        first_undelivered: told.first_undelivered,
        last_delivered: delivered,
        last_id: told.last,
        ledger,
        owner: told.owner.clone(),
    }
}

/// Adds the stages up: entries that a stage forwarded are not applied yet, and every further reader of a stream is fan-out.
fn whole(layout: &Layout, stages: &[StageDepth], book: &Book) -> Ledger {
    let mut sum = Ledger {
        rejected: book.count("rejected"),
        ..Ledger::default()
    };
    let at_door = book.count("door_deduplicated");
    let mut first_source = true;
    for (names, stage) in layout.stages.iter().zip(stages) {
        let line = &stage.ledger;
        if names.reads_source {
            let accepted = i64::try_from(line.accepted).unwrap_or(i64::MAX);
            if first_source {
                // Entries added again for other readers of the source are no new ones.
                let others =
                    book.signed("readded") - book.signed(&format!("readded:{}", names.name));
                let new = u64::try_from(accepted - others).unwrap_or(0);
                sum.accepted = new + at_door;
                sum.spawned += accepted - i64::try_from(new).unwrap_or(i64::MAX);
                first_source = false;
            } else {
                sum.spawned += accepted;
            }
        }
        sum.spawned += book.signed(&format!("{}:spawned", names.name));
        sum.applied += book.count(&format!("{}:ended", names.name));
        sum.filtered += line.filtered;
        sum.late += line.late;
        sum.discarded += line.discarded;
        sum.deduplicated += line.deduplicated;
        sum.dead += line.dead;
        sum.lost += line.lost;
        sum.pending += line.pending;
        sum.undelivered += line.undelivered;
        sum.estimated |= line.estimated;
        sum.applied_in_aggregates += line.applied_in_aggregates;
    }
    sum.deduplicated += at_door;
    sum
}

/// `{S}:counts` as totals.
pub(super) fn aggregates(counts: Reply, sessions: u64, n_top: usize) -> Result<Aggregates> {
    let mut totals = Aggregates {
        sessions,
        ..Aggregates::default()
    };
    let mut words = counts.items().map_err(bad)?.into_iter();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let name = name.bytes().map_err(bad)?;
        let Ok(value) = value.int() else { continue };
        let n = u64::try_from(value).unwrap_or(0);
        let middle = |prefix: &[u8]| {
            name.strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(b":count"))
                .map(|m| name.slice(prefix.len()..prefix.len() + m.len()))
        };
        match name.as_ref() {
            b"total_count" => totals.total = n,
            b"total_value" => totals.value = Some(value),
            b"last_updated" => totals.last_updated_ms = n,
            _ => {
                if let Some(kind) = middle(b"type:") {
                    totals.types.push((kind, n));
                } else if let Some(product) = middle(b"product:") {
                    totals.products.push((product, n));
                }
            }
        }
    }
    totals.types.sort();
    totals
        .products
        .sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if n_top > 0 && totals.products.len() > n_top {
        totals.products_left = (totals.products.len() - n_top) as u64;
        totals.products.truncate(n_top);
    }
    Ok(totals)
}

/// What INFO says.
pub(super) fn server(info: &str) -> Server {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let number = |name: &str| field(name).and_then(|v| v.parse().ok()).unwrap_or(0);
    let flavour = field("server_name").unwrap_or("redis").to_owned();
    let version = field("valkey_version")
        .or(field("redis_version"))
        .unwrap_or_default()
        .to_owned();
    Server {
        version,
        flavour,
        mode: field("server_mode")
            .or(field("redis_mode"))
            .unwrap_or("standalone")
            .to_owned(),
        used_memory: number("used_memory"),
        max_memory: number("maxmemory"),
        eviction: field("maxmemory_policy").unwrap_or_default().to_owned(),
        append_only: field("aof_enabled") == Some("1"),
        run_id: field("run_id").unwrap_or_default().to_owned(),
        warnings: Vec::new(),
    }
}
