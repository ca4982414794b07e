//! The commit: one atomic step for a batch of one stage. The readable model of the commit script of the Redis store; the
//! order of the steps is semantics.md section 4.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::owner;
use super::state::{RetryRow, State, millis, signed};
use crate::effect::{Counter, Effects};
use crate::record::{EntryId, FIELD_ORIGIN, Fields};
use crate::store::{
    Code, Commit, Committed, DeadLetter, DeadRow, Layout, Outcome, Result, Settle, StageLayout,
    StoreError,
};

/// Who commits, which decides when an entry counts as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A worker of a shared stage, or a person: what is pending.
    Group,
    /// The owner, or a person, of an owned stage: what is parked.
    Parked,
    /// The owner, entries read after its position: all of them.
    Position,
}

/// Most entries of one commit.
const ENTRIES_MAX: usize = 500;
/// A counter has at most 15 digits: what a script of Redis can add exactly.
const COUNTER_END: i64 = 1_000_000_000_000_000;

/// Does all of it or, on an error, nothing. With `discards`, what would be applied is acknowledged by hand instead.
pub(super) fn commit(
    state: &mut State,
    layout: &Layout,
    stage: &StageLayout,
    commit: &Commit,
    discards: bool,
    now: u64,
) -> Result<Committed> {
    let by = if stage.owned { By::Parked } else { By::Group };
    commit_by(state, layout, stage, commit, by, discards, now)
}

/// The same for who is known; the owner's fence was passed before.
pub(super) fn commit_by(
    state: &mut State,
    layout: &Layout,
    stage: &StageLayout,
    commit: &Commit,
    by: By,
    discards: bool,
    now: u64,
) -> Result<Committed> {
    check(state, stage, commit)?;
    if by == By::Group
        && state
            .owned
            .get(&stage.name)
            .is_some_and(|owned| owned.position.is_some())
    {
        return Err(StoreError::Broken(format!(
            "stage \"{}\" is worked by one owner in another daemon; give every daemon the same delivery",
            stage.name
        )));
    }
    let mut step = Step {
        state,
        layout,
        stage,
        commit,
        by,
        discards,
        now,
        settled: Vec::new(),
        fresh: BTreeMap::new(),
    };
    let mut committed = Committed::default();
    for (i, entry) in commit.entries.iter().enumerate() {
        let code = match &entry.outcome {
            Outcome::Retry { .. } => step.retry_code(entry)?,
            _ => step.acknowledge(entry)?,
        };
        if code == Code::Applied {
            step.execute(entry);
        } else {
            committed.exceptions.push((i, code));
        }
    }
    step.finish();
    Ok(committed)
}

/// Everything that can fail, before the first change.
pub(super) fn check(state: &State, stage: &StageLayout, commit: &Commit) -> Result<()> {
    state.group(stage)?;
    if state
        .lines
        .get(&stage.name)
        .and_then(|line| line.base)
        .is_none()
    {
        return Err(StoreError::GroupGone(format!(
            "the ledger of stage \"{}\" is gone",
            stage.name
        )));
    }
    if commit.entries.len() > ENTRIES_MAX {
        return Err(StoreError::Bug(format!(
            "a commit of {} entries",
            commit.entries.len()
        )));
    }
    let mut sums: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for entry in &commit.entries {
        let Outcome::Apply(effects) = &entry.outcome else {
            continue;
        };
        if stage.output.is_some() && effects.children.iter().any(Vec::is_empty) {
            return Err(StoreError::Bug("an entry without fields".into()));
        }
        for (counter, by) in &effects.adds {
            if let Counter::Count(name) = counter {
                let sum = sums.entry(name).or_default();
                *sum = sum.saturating_add(*by);
            }
        }
    }
    for (name, by) in sums {
        let text = String::from_utf8_lossy(name);
        let old = count(&state.counts, name).ok_or_else(|| {
            StoreError::Broken(format!(
                "counter \"{text}\" is no integer of at most 15 digits"
            ))
        })?;
        if old.saturating_add(by).saturating_abs() >= COUNTER_END {
            return Err(StoreError::Broken(format!(
                "counter \"{text}\" would grow past 15 digits"
            )));
        }
    }
    Ok(())
}

/// A counter's value, 0 when it is not there; `None` when it is no integer of at most 15 digits.
pub(super) fn count(counts: &BTreeMap<Bytes, Bytes>, name: &Bytes) -> Option<i64> {
    let Some(text) = counts.get(name) else {
        return Some(0);
    };
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if text.len() > 15 || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A commit under way; nothing in it can fail any more but for a group that vanished, which [`check`] has ruled out.
struct Step<'a> {
    state: &'a mut State,
    layout: &'a Layout,
    stage: &'a StageLayout,
    commit: &'a Commit,
    by: By,
    discards: bool,
    now: u64,
    /// Finished by this commit.
    settled: Vec<EntryId>,
    /// Event ids that this commit makes known.
    fresh: BTreeMap<[u8; 16], EntryId>,
}

impl Step<'_> {
    /// A failed try may be noted only by who holds the entry.
    fn retry_code(&self, entry: &Settle) -> Result<Code> {
        if self.by == By::Position || self.is_parked(entry.id) {
            return Ok(Code::Applied);
        }
        let holder = self
            .state
            .group(self.stage)?
            .pending
            .get(&entry.id)
            .map(|pending| &pending.consumer);
        Ok(match holder {
            Some(holder) if *holder == self.commit.consumer.as_bytes() => Code::Applied,
            _ if self.commit.repeated => Code::Superseded,
            _ => Code::NotPending,
        })
    }

    fn is_parked(&self, id: EntryId) -> bool {
        self.by == By::Parked
            && self
                .state
                .owned
                .get(&self.stage.name)
                .is_some_and(|owned| owned.parked.contains_key(&id))
    }

    /// Takes an entry out of what is open; whether it was.
    fn take(&mut self, id: EntryId) -> Result<bool> {
        let stage = self.stage;
        if self.by == By::Position {
            return Ok(true);
        }
        let was_pending = self.state.group_mut(stage)?.pending.remove(&id).is_some();
        Ok(match self.by {
            By::Group => was_pending,
            _ => self.state.owned(stage).parked.remove(&id).is_some(),
        })
    }

    /// Acknowledges one entry and tells whether its effects may happen.
    fn acknowledge(&mut self, entry: &Settle) -> Result<Code> {
        let was_settled = self.by == By::Group && self.state.is_settled(self.stage, entry.id);
        if !self.take(entry.id)? {
            return Ok(if self.commit.repeated || was_settled {
                Code::Superseded
            } else {
                Code::NotPending
            });
        }
        self.state.forget_retry(self.stage, entry.id);
        if was_settled {
            return Ok(Code::Redelivered);
        }
        self.settled.push(entry.id);
        if entry.outcome == Outcome::Duplicate || self.is_duplicate(entry) {
            self.state.line(self.stage).deduplicated += 1;
            return Ok(Code::Duplicate);
        }
        Ok(Code::Applied)
    }

    /// Known with another entry id? If it was not known at all, it is from now on.
    fn is_duplicate(&mut self, entry: &Settle) -> bool {
        let Some(event) = entry.event_id else {
            return false;
        };
        if !self.stage.reads_source || self.layout.dedupe.is_none() {
            return false;
        }
        let first = self
            .fresh
            .get(&event)
            .or_else(|| self.state.seen.get(&event));
        match first {
            Some(first) => *first != entry.id,
            None => {
                self.fresh.insert(event, entry.id);
                false
            }
        }
    }

    /// Effects and ledger of one entry whose acknowledgement counted.
    fn execute(&mut self, entry: &Settle) {
        let stage = self.stage;
        match &entry.outcome {
            Outcome::Apply(_) if self.discards => self.state.line(stage).discarded += 1,
            Outcome::Apply(effects) => {
                self.add(effects);
                self.emit(entry.id, effects);
            }
            Outcome::Filtered => self.state.line(stage).filtered += 1,
            Outcome::Late => self.state.line(stage).late += 1,
            // It was acknowledged with a code of its own.
            Outcome::Duplicate => {}
            Outcome::Dead(letter) => {
                self.state.line(stage).dead += 1;
                self.state.bury(dead_row(stage, entry.id, letter), self.now);
            }
            Outcome::Retry {
                not_before_ms,
                failures,
                first_ms,
                error,
            } => {
                let row = RetryRow {
                    not_before_ms: *not_before_ms,
                    failures: *failures,
                    first_ms: *first_ms,
                    error: error.clone(),
                };
                self.state
                    .retry
                    .entry(stage.name.clone())
                    .or_default()
                    .insert(entry.id, row);
                if stage.owned {
                    owner::park(
                        self.state,
                        stage,
                        entry.id,
                        *failures,
                        *not_before_ms,
                        self.now,
                    );
                }
            }
        }
    }

    /// Counters and sessions.
    fn add(&mut self, effects: &Effects) {
        for (counter, by) in &effects.adds {
            match counter {
                Counter::Count(name) => {
                    let sum = count(&self.state.counts, name)
                        .unwrap_or(0)
                        .saturating_add(*by);
                    self.state
                        .counts
                        .insert(name.clone(), sum.to_string().into());
                    self.state
                        .counts
                        .insert("last_updated".into(), self.now.to_string().into());
                }
                Counter::Session(id) => {
                    self.state
                        .sessions
                        .turn(self.now, millis(self.layout.session_keep), None);
                    let sum = self
                        .state
                        .sessions
                        .take(id)
                        .unwrap_or(0)
                        .saturating_add(*by);
                    if sum > 0 {
                        self.state.sessions.put(id.clone(), sum);
                    }
                }
            }
        }
    }

    /// Children into the output stream, and the ledger of an applied entry.
    fn emit(&mut self, id: EntryId, effects: &Effects) {
        let stage = self.stage;
        let Some(output) = stage
            .output
            .as_ref()
            .filter(|_| !effects.children.is_empty())
        else {
            self.state.line(stage).ended += 1;
            return;
        };
        let stream = self.state.streams.entry(output.clone()).or_default();
        for child in &effects.children {
            stream.add(self.now, with_origin(stage, id, child));
        }
        let n_children = effects.children.len() as u64;
        *self.state.emitted.entry(output.clone()).or_default() += n_children;
        let line = self.state.line(stage);
        line.forwarded += 1;
        line.spawned += signed(n_children * u64::from(stage.output_readers)) - 1;
    }

    /// The id window and the settled mark.
    fn finish(self) {
        if !self.fresh.is_empty() {
            self.state.remember(self.layout, self.fresh, self.now);
        }
        if self.by == By::Group {
            self.state.settle(self.stage, &self.settled);
        }
    }
}

/// The first hop notes which source entry a child came from.
fn with_origin(stage: &StageLayout, id: EntryId, child: &Fields) -> Fields {
    let mut fields = child.clone();
    if stage.reads_source && !fields.iter().any(|(name, _)| name == FIELD_ORIGIN) {
        fields.push((Bytes::from_static(FIELD_ORIGIN), id.to_string().into()));
    }
    fields
}

/// The row of a dead letter; its id is set when it is buried.
fn dead_row(stage: &StageLayout, id: EntryId, letter: &DeadLetter) -> DeadRow {
    DeadRow {
        id: EntryId::MIN,
        stage: stage.name.clone(),
        origin_stream: stage.stream.clone(),
        origin_id: id,
        cause: letter.cause.clone(),
        reason: letter.reason.clone(),
        error: letter.error.clone(),
        tries: letter.tries,
        first_ms: letter.first_ms,
        redriven: None,
        counts: true,
        fields: letter.fields.clone(),
    }
}
