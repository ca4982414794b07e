//! Keyed state and timers: the readable model of `state.lua`, `own_{state,timers,fire,names}.lua` and of what `commit.lua`
//! does with them.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::owner::Hands;
use super::state::{State, millis};
use crate::effect::{Change, Timer};
use crate::store::{
    Cell, Code, DueTimers, Fired, Firing, KEYS_MAX, Layout, Mended, Outcome, OwnedCommit, Result,
    StageLayout, StateCommit, StoreError, VALUE_MAX,
};

/// Bytes of state that one call loads, about.
const LOAD_BYTES: usize = 4 << 20;

/// What is kept of one stage.
#[derive(Debug, Clone, Default)]
pub(super) struct Keyed {
    /// `version value` as text, because a third party may write anything into it.
    pub(super) cells: BTreeMap<Bytes, Bytes>,
    /// When they are due.
    timers: BTreeMap<Bytes, u64>,
    /// Whose state there is: what it is made of, and whether it is configured.
    names: BTreeMap<String, (String, bool)>,
}

fn cell(stage: &StageLayout, key: &Bytes, raw: &Bytes) -> Result<Cell> {
    let is_version = |text: &[u8]| {
        let mut parts = text.split(|b| *b == b'-');
        let mut digits = || {
            let part = parts.next();
            part.is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit))
        };
        digits() && digits() && parts.next().is_none()
    };
    let at = raw.iter().position(|b| *b == b' ');
    match at {
        Some(at) if is_version(&raw[..at]) && raw.len() <= at + 1 + VALUE_MAX => Ok(Cell {
            version: raw.slice(..at),
            value: raw.slice(at + 1..),
        }),
        _ => Err(StoreError::Broken(format!(
            "field \"{}\" of the state of stage \"{}\" is no state that this pipeline has written",
            key.escape_ascii(),
            stage.name
        ))),
    }
}

/// Before the first change: whether every key has the version with which it was read.
pub(super) fn check(state: &State, stage: &StageLayout, asked: &StateCommit) -> Result<bool> {
    let mut is_same = true;
    for (key, expected) in &asked.expected {
        let keyed = state.keyed.get(&stage.name);
        let raw = keyed.and_then(|keyed| keyed.cells.get(key));
        let version = raw.map(|raw| cell(stage, key, raw)).transpose()?;
        is_same &= version.map(|cell| cell.version) == *expected;
    }
    Ok(is_same)
}

/// Which entries that state depends on would fall out of the commit.
pub(super) fn falling_out(
    state: &State,
    layout: &Layout,
    stage: &StageLayout,
    owned: &OwnedCommit,
) -> Vec<(usize, Code)> {
    let depends: HashSet<usize> = owned.state.iter().flat_map(|s| s.by.clone()).collect();
    let window = stage.reads_source && layout.dedupe.is_some();
    let mut fresh = BTreeMap::new();
    let mut found = Vec::new();
    for (i, entry) in owned.commit.entries.iter().enumerate() {
        let kept = state.owned.get(&stage.name);
        let is_parked = kept.is_some_and(|kept| kept.parked.contains_key(&entry.id));
        if depends.contains(&i) && owned.parked && !is_parked {
            found.push((i, Code::Superseded));
            continue;
        }
        let is_settled = !matches!(entry.outcome, Outcome::Retry { .. } | Outcome::Duplicate);
        let Some(event) = entry.event_id.filter(|_| window && is_settled) else {
            continue;
        };
        let first = fresh.get(&event).or_else(|| state.seen.get(&event));
        match first.copied() {
            None => {
                fresh.insert(event, entry.id);
            }
            Some(first) if first != entry.id && depends.contains(&i) => {
                found.push((i, Code::Duplicate));
            }
            Some(_) => {}
        }
    }
    found
}

/// Changes state and timers.
pub(super) fn write(state: &mut State, stage: &StageLayout, asked: &StateCommit, now: u64) {
    let keyed = state.keyed.entry(stage.name.clone()).or_default();
    for (key, change) in &asked.writes {
        match change {
            Change::Set(value) => {
                let raw = [&asked.version[..], b" ", &value[..]].concat();
                keyed.cells.insert(key.clone(), raw.into());
            }
            Change::Forget => drop(keyed.cells.remove(key)),
        }
    }
    for (key, timer) in &asked.timers {
        match timer {
            Timer::After(wait) => {
                let due = now.saturating_add(millis(*wait));
                keyed.timers.insert(key.clone(), due);
            }
            Timer::Clear => drop(keyed.timers.remove(key)),
        }
    }
}

/// Notes whose state there is; refuses state that was made otherwise.
pub(super) fn names(
    state: &mut State,
    stage: &StageLayout,
    mended: &mut Vec<Mended>,
) -> Result<()> {
    if stage.state.is_empty() && !state.keyed.contains_key(&stage.name) {
        return Ok(());
    }
    let keyed = state.keyed.entry(stage.name.clone()).or_default();
    for layout in &stage.state {
        if let Some((made_of, _)) = keyed.names.get(&layout.name)
            && *made_of != layout.made_of
        {
            return Err(StoreError::Broken(format!(
                "stage \"{}\" keeps state named \"{}\" that was made by: {made_of}; the configuration now says: {}",
                stage.name, layout.name, layout.made_of
            )));
        }
    }
    let mut note = |what, name: &str| {
        mended.push(Mended {
            what,
            stage: Some(stage.name.clone()),
            detail: format!("state of operator \"{name}\""),
        });
    };
    for layout in &stage.state {
        let entry = (layout.made_of.clone(), true);
        let before = keyed.names.insert(layout.name.clone(), entry);
        if before.is_some_and(|(_, is_configured)| !is_configured) {
            note("state.found", &layout.name);
        }
    }
    for (name, (_, is_configured)) in &mut keyed.names {
        let is_there = stage.state.iter().any(|layout| layout.name == *name);
        if !is_there && std::mem::take(is_configured) {
            note("state.left", name);
        }
    }
    Ok(())
}

impl Hands {
    pub(super) fn load_now(&self, keys: &[Bytes]) -> Result<Vec<Option<Cell>>> {
        let stage = self.stage()?;
        self.store.shared.look(|inside, _| {
            let (mut found, mut size) = (Vec::with_capacity(keys.len()), 0);
            for key in keys.iter().take(KEYS_MAX) {
                let keyed = inside.state.keyed.get(&stage.name);
                let raw = keyed.and_then(|keyed| keyed.cells.get(key));
                let loaded = raw.map(|raw| cell(stage, key, raw)).transpose()?;
                size += loaded.as_ref().map_or(0, |cell| cell.value.len());
                found.push(loaded);
                if size >= LOAD_BYTES {
                    break;
                }
            }
            Ok(found)
        })
    }

    pub(super) fn due_now(&self, n_max: usize) -> Result<DueTimers> {
        let stage = self.stage()?;
        Ok(self.store.shared.look(|inside, now| {
            let keyed = inside.state.keyed.get(&stage.name);
            let timers = keyed.into_iter().flat_map(|keyed| &keyed.timers);
            let mut all: Vec<(u64, &Bytes)> = timers.map(|(key, due)| (*due, key)).collect();
            all.sort_unstable();
            let n_due = all.iter().take_while(|(due, _)| *due <= now).count();
            let n_told = n_due.min(n_max).min(KEYS_MAX);
            let next = all.get(n_told);
            let due = all[..n_told]
                .iter()
                .map(|(due, key)| ((*key).clone(), *due));
            DueTimers {
                due: due.collect(),
                next: next.map(|(due, _)| Duration::from_millis(due.saturating_sub(now))),
            }
        }))
    }

    pub(super) fn fire_now(&self, firing: &Firing) -> Result<Fired> {
        let stage = self.stage()?;
        let done = self.store.shared.change(|state, now| -> Result<Fired> {
            let owned = state.owned(stage).clone();
            if owned.owner != self.consumer || owned.epoch != firing.epoch {
                return Ok(Fired::Fenced);
            }
            let keyed = state.keyed.entry(stage.name.clone()).or_default();
            let is_set = |(key, due): &(Bytes, u64)| keyed.timers.get(key) == Some(due);
            if !firing.fired.iter().all(is_set) || !check(state, stage, &firing.state)? {
                return Ok(Fired::Stale);
            }
            let keyed = state.keyed.entry(stage.name.clone()).or_default();
            for (key, _) in &firing.fired {
                keyed.timers.remove(key);
            }
            write(state, stage, &firing.state, now);
            state.owned(stage).until_ms = now.saturating_add(millis(firing.ttl));
            Ok(Fired::Done)
        })?;
        let loses = |inside: &mut super::Inside| std::mem::take(&mut inside.loses_reply);
        if self.store.shared.look(|inside, _| loses(inside)) {
            return Err(StoreError::Unavailable("the answer was lost".into()));
        }
        Ok(done)
    }
}
