//! Keyed state over Redis: the block of a commit, loading, timers, and the check of who made what is kept.
//!
//! Part of the owner's side (`owner`); the scripts are `state.lua` (in `commit.lua`) and `own_{state,timers,fire,names}.lua`.

use std::time::Duration;

use bytes::Bytes;

use super::encode::Writer;
use super::lane::{Lane, bad};
use super::resp::Reply;
use super::scripts;
use crate::effect::{Change, Timer};
use crate::store::{Cell, DueTimers, Fired, Firing, KEYS_MAX, Mended, Result, StateCommit};

/// Bytes of state that one call loads, about: what one answer may hold in the memory of both sides.
const LOAD_BYTES: &str = "4194304";

/// As `state.lua` reads it.
pub(super) fn block(state: &StateCommit) -> Vec<u8> {
    let mut out = Writer::default();
    out.array(7);
    out.text(&state.version);
    out.array(state.expected.len() * 2);
    for (key, version) in &state.expected {
        out.text(key);
        out.text(version.as_deref().unwrap_or_default());
    }
    let mut set = Vec::new();
    let mut forgotten = Vec::new();
    for (key, change) in &state.writes {
        match change {
            Change::Set(value) => set.push((key, value)),
            Change::Forget => forgotten.push(key),
        }
    }
    out.array(set.len() * 2);
    for (key, value) in set {
        out.text(key);
        out.text(value);
    }
    out.texts(&forgotten);
    let mut due = Vec::new();
    let mut cleared = Vec::new();
    for (key, timer) in &state.timers {
        match timer {
            Timer::After(wait) => due.push((key, wait)),
            Timer::Clear => cleared.push(key),
        }
    }
    out.array(due.len() * 2);
    for (key, wait) in due {
        out.text(key);
        out.int(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    }
    out.texts(&cleared);
    out.array(state.by.len());
    for i in &state.by {
        out.index(*i);
    }
    out.bytes
}

pub(super) async fn load(lane: &mut Lane, keys: &[Bytes]) -> Result<Vec<Option<Cell>>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = vec![Bytes::from_static(LOAD_BYTES.as_bytes())];
    args.extend(keys.iter().take(KEYS_MAX).cloned());
    let reply = scripts::OWN_STATE
        .run(&mut lane.connection, &[&lane.keys.state], &args)
        .await?;
    let found = reply.items().map_err(bad)?;
    if found.is_empty() || found.len() > keys.len() {
        return Err(bad(format!(
            "{} values for {} keys",
            found.len(),
            keys.len()
        )));
    }
    found.into_iter().map(cell).collect()
}

fn cell(reply: Reply) -> Result<Option<Cell>> {
    let Reply::Bulk(raw) = reply else {
        return Ok(None);
    };
    let at = raw.iter().position(|b| *b == b' ');
    let Some(at) = at else {
        return Err(bad("own_state.lua passed a value without a version"));
    };
    // Copies: a slice would keep the whole answer in memory for as long as the cell is cached.
    Ok(Some(Cell {
        version: Bytes::copy_from_slice(&raw[..at]),
        value: Bytes::copy_from_slice(&raw[at + 1..]),
    }))
}

pub(super) async fn due_timers(lane: &mut Lane, n_max: usize) -> Result<DueTimers> {
    let n_max = n_max.min(KEYS_MAX).to_string();
    let reply = scripts::OWN_TIMERS
        .run(&mut lane.connection, &[&lane.keys.timers], &[n_max])
        .await?;
    let mut words = reply.items().map_err(bad)?.into_iter();
    let next = words.next().unwrap_or(Reply::Nil).int().map_err(bad)?;
    let mut due = Vec::with_capacity(words.len() / 2);
    while let (Some(key), Some(at)) = (words.next(), words.next()) {
        let key = key.bytes().map_err(bad)?;
        let at = at.bytes().map_err(bad)?;
        let at = std::str::from_utf8(&at).ok().and_then(|at| at.parse().ok());
        let Some(at) = at else {
            return Err(bad("own_timers.lua answered no time"));
        };
        due.push((Bytes::copy_from_slice(&key), at));
    }
    Ok(DueTimers {
        due,
        next: u64::try_from(next).ok().map(Duration::from_millis),
    })
}

pub(super) async fn fire(lane: &mut Lane, firing: &Firing) -> Result<Fired> {
    let mut fired = Writer::default();
    fired.array(firing.fired.len() * 2);
    for (key, due) in &firing.fired {
        fired.text(key);
        fired.text(due.to_string().as_bytes());
    }
    let args = [
        Bytes::from(lane.consumer.clone()),
        Bytes::from(firing.epoch.to_string()),
        Bytes::from(firing.ttl.as_millis().to_string()),
        Bytes::from(fired.bytes),
        Bytes::from(block(&firing.state)),
    ];
    let keys = [&lane.keys.lease, &lane.keys.state, &lane.keys.timers];
    let reply = scripts::OWN_FIRE
        .run(&mut lane.connection, &keys, &args)
        .await?;
    match reply.bytes().map_err(bad)?.as_ref() {
        b"OK" => Ok(Fired::Done),
        b"FENCED" => Ok(Fired::Fenced),
        b"STALE" => Ok(Fired::Stale),
        other => Err(bad(format!(
            "own_fire.lua answered \"{}\"",
            other.escape_ascii()
        ))),
    }
}

/// What `own_names.lua` noticed.
pub(super) fn told(reply: Reply) -> Result<Vec<Mended>> {
    let mut mended = Vec::new();
    for row in reply.items().map_err(bad)? {
        let mut words = row.items().map_err(bad)?.into_iter();
        let mut word = || -> Result<String> {
            let bytes = words.next().unwrap_or(Reply::Nil).bytes().map_err(bad)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let what = match word()?.as_str() {
            "state.found" => "state.found",
            _ => "state.left",
        };
        mended.push(Mended {
            what,
            stage: Some(word()?),
            detail: word()?,
        });
    }
    Ok(mended)
}
