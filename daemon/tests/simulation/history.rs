//! What really happened at the store, kept apart from it: every answer of every call, written down at the moment it was
//! given. The invariants are checked here, at every step. A store that goes back to an earlier instant takes the book of
//! that instant with it.
//!
//! Past 400 lines because the book and its rules are to be read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipelined::effect::Counter;
use pipelined::record::{EntryId, FIELD_REDRIVE, FIELD_REDRIVE_FOR, Record, event_id};
use pipelined::store::{
    Acquired, Admission, Admitted, Aggregates, Batch, Code, Commit, Committed, Depth, Fate, Layout,
    Lease, Outcome, OwnedCommit, OwnedDone, Settle,
};
use tokio::time::Instant;

/// Shared by all recorders of one world.
#[derive(Clone)]
pub(crate) struct History(Arc<Mutex<Inner>>);

/// Under the lock.
pub(crate) struct Inner {
    layout: Arc<Layout>,
    key_field: Vec<u8>,
    began: Instant,
    lines: Option<Vec<String>>,
    digest: DefaultHasher,
    line: String,
    violation: Option<String>,
    pub(crate) book: Book,
    kept: Vec<Book>,
}

/// What was so far; goes back with the store.
#[derive(Clone, Default)]
pub(crate) struct Book {
    /// What third parties did that shows in the ledger for a while or for ever; until then it is exact at every step.
    pub(crate) meddled: bool,
    /// Entries whose pending state a third party dropped: at most these may be unaccounted for.
    pub(crate) n_dropped: u64,
    /// Whether a group was set back or destroyed. Together with deletions nobody can tell then what became of some entries:
    /// they may be booked as lost although they are done, or not be booked.
    pub(crate) is_reset: bool,
    /// Of those, the ones that were seen to be booked twice.
    n_twice: u64,
    /// Entries that were deleted before they were finished, at most.
    pub(crate) n_deleted: u64,
    /// Entries as they were read, by stage.
    seen: BTreeMap<(usize, EntryId), Seen>,
    /// How each entry ended.
    ended: BTreeMap<(usize, EntryId), &'static str>,
    /// How often an event was worked to its end, by stage of the source.
    worked: BTreeMap<(usize, Bytes), u64>,
    /// How often an event was redriven, by stage.
    redriven: BTreeMap<(usize, Bytes), u64>,
    /// Dead letters that were redriven.
    letters: BTreeSet<EntryId>,
    /// Event ids that the store must know; `None` = with an entry that is not known here.
    window: BTreeMap<[u8; 16], Option<EntryId>>,
    /// Events that were added.
    sent: BTreeSet<Bytes>,
    /// Last entry that ended, by owned stage and key.
    last_of_key: BTreeMap<(usize, Bytes), EntryId>,
    /// Who holds an entry and since when, by shared stage.
    held: BTreeMap<(usize, EntryId), (String, u64)>,
    /// Owner, epoch and when it runs out.
    leases: BTreeMap<usize, (String, u64, u64)>,
    positions: BTreeMap<usize, EntryId>,
    counts: BTreeMap<Bytes, i64>,
    tallies: BTreeMap<usize, Tally>,
}

#[derive(Clone)]
struct Seen {
    event: Bytes,
    key: Bytes,
    is_redriven: bool,
    redriven_for: Option<Bytes>,
}

/// A stage's line of the ledger, as it must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    applied: u64,
    filtered: u64,
    late: u64,
    dead: i64,
    discarded: u64,
    deduplicated: u64,
}

impl History {
    pub(crate) fn new(layout: Arc<Layout>, key_field: &str, traced: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            layout,
            key_field: key_field.as_bytes().to_vec(),
            began: Instant::now(),
            lines: traced.then(Vec::new),
            digest: DefaultHasher::new(),
            line: String::new(),
            violation: None,
            book: Book::default(),
            kept: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id without the long beginning that all of one world share.
pub(crate) fn short(id: EntryId) -> String {
    format!("{}-{}", id.ms.saturating_sub(1_700_000_000_000), id.seq)
}

fn ids(ids: impl IntoIterator<Item = EntryId>) -> String {
    let ids: Vec<String> = ids.into_iter().map(short).collect();
    ids.join(" ")
}

impl Inner {
    /// Writes one line: it counts for the hash of the history, and is kept where a trace is wanted.
    pub(crate) fn tell(&mut self, who: &str, what: std::fmt::Arguments<'_>) {
        let ms = self.began.elapsed().as_millis();
        self.line.clear();
        // Writing to a string does not fail.
        let _ = write!(self.line, "{ms:>6} ms  {who:<18} {what}");
        self.digest.write(self.line.as_bytes());
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }

    /// The first thing that must not be; what follows from it is not looked at.
    pub(crate) fn violate(&mut self, what: String) {
        if self.violation.is_none() {
            self.tell("VIOLATION", format_args!("{what}"));
            self.violation = Some(what);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    pub(crate) fn hash(&self) -> u64 {
        self.digest.finish()
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }

    fn stage(&self, stage: usize) -> &str {
        self.layout.stages.get(stage).map_or("?", |s| &s.name)
    }

    /// The store remembers this instant.
    pub(crate) fn remember(&mut self) {
        self.kept.push(self.book.clone());
    }

    /// The store has gone back.
    pub(crate) fn roll_back(&mut self) {
        if let Some(book) = self.kept.pop() {
            self.book = book;
        }
    }

    /// The store is empty.
    pub(crate) fn flush(&mut self) {
        self.book = Book {
            meddled: true,
            ..Book::default()
        };
    }

    /// A stream is gone with all that was in it.
    pub(crate) fn stream_gone(&mut self, stage: usize) {
        let stream = self.layout.stages.get(stage).map(|s| s.stream.clone());
        for (i, other) in self.layout.stages.iter().enumerate() {
            if Some(&other.stream) == stream.as_ref() {
                self.book.last_of_key.retain(|(s, _), _| *s != i);
                self.book.held.retain(|(s, _), _| *s != i);
                self.book.positions.remove(&i);
            }
        }
    }

    /// An event that another client added.
    pub(crate) fn sent(&mut self, event: &Bytes) {
        self.book.sent.insert(event.clone());
    }

    /// What a door did.
    pub(crate) fn admitted(&mut self, events: &[Admission], checked: bool, admitted: &[Admitted]) {
        self.tell(
            "door",
            format_args!("{} events: {admitted:?}", events.len()),
        );
        for (event, admitted) in events.iter().zip(admitted) {
            let name = event
                .fields
                .iter()
                .find(|(n, _)| *n == self.layout.id_field);
            if let (Some((_, name)), Admitted::Added(_)) = (name, admitted) {
                self.book.sent.insert(name.clone());
            }
            let Some(id) = event
                .event_id
                .filter(|_| checked && self.layout.dedupe.is_some())
            else {
                continue;
            };
            let known = self.book.window.get(&id).copied();
            match (admitted, known) {
                (Admitted::Added(new), None) => {
                    self.book.window.insert(id, Some(*new));
                }
                (Admitted::Added(new), Some(_)) => self.violate(format!(
                    "a door that checks added entry {} for an event that was known",
                    short(*new)
                )),
                (Admitted::Duplicate(first), Some(Some(known))) if *first != known => {
                    self.violate(format!(
                        "a door answered entry {} for an event of entry {}",
                        short(*first),
                        short(known)
                    ));
                }
                (Admitted::Duplicate(_), _) => {}
            }
        }
    }

    fn see(&mut self, stage: usize, record: &Record) {
        let text = |name: &[u8]| record.get(name).cloned().unwrap_or_default();
        let seen = Seen {
            event: text(&self.layout.id_field),
            key: text(&self.key_field),
            is_redriven: record.get(FIELD_REDRIVE).is_some(),
            redriven_for: record.get(FIELD_REDRIVE_FOR).cloned(),
        };
        self.book.seen.insert((stage, record.id), seen);
    }

    /// Entries that were handed out. `min_idle` where they were taken from others.
    pub(crate) fn delivered(
        &mut self,
        stage: usize,
        who: &str,
        what: &str,
        batch: &Batch,
        min_idle: Option<Duration>,
        now_ms: u64,
    ) {
        if !batch.entries.is_empty() || !batch.lost.is_empty() {
            let got = ids(batch.entries.iter().map(|e| e.record.id));
            let lost = ids(batch.lost.iter().copied());
            self.tell(who, format_args!("{what} got {got} lost {lost}"));
        }
        let is_shared = !self.layout.stages[stage].owned;
        for entry in &batch.entries {
            let id = entry.record.id;
            self.see(stage, &entry.record);
            if let (Some(min_idle), Some((holder, since_ms))) =
                (min_idle, self.book.held.get(&(stage, id)).cloned())
            {
                let idle = Duration::from_millis(now_ms.saturating_sub(since_ms));
                if idle < min_idle {
                    self.violate(format!(
                        "{who} took entry {} from {holder}, who had held it for {idle:?} and not {min_idle:?}",
                        short(id)
                    ));
                }
                if what == "sweep" && entry.not_before_ms > now_ms {
                    self.violate(format!(
                        "{who} swept up entry {} {} ms before its time",
                        short(id),
                        entry.not_before_ms - now_ms
                    ));
                }
            }
            if is_shared {
                self.book.held.insert((stage, id), (who.to_owned(), now_ms));
            }
        }
        for id in &batch.lost {
            self.end(stage, *id, "lost");
        }
    }

    /// A heartbeat.
    pub(crate) fn kept(&mut self, stage: usize, who: &str, kept: &[EntryId], now_ms: u64) {
        self.tell(who, format_args!("keeps {}", ids(kept.iter().copied())));
        for id in kept {
            match self.book.held.get(&(stage, *id)).cloned() {
                Some((holder, _)) if holder != who => self.violate(format!(
                    "the heartbeat of {who} took entry {} back from {holder}",
                    short(*id)
                )),
                Some(_) => {
                    self.book
                        .held
                        .insert((stage, *id), (who.to_owned(), now_ms));
                }
                None => {}
            }
        }
    }

    /// An entry is finished; it must not have been before.
    fn end(&mut self, stage: usize, id: EntryId, how: &'static str) {
        self.book.held.remove(&(stage, id));
        if let Some(before) = self.book.ended.insert((stage, id), how) {
            if how == "lost" && self.book.is_reset {
                self.book.n_twice += 1;
                return;
            }
            let stage = self.stage(stage).to_owned();
            self.violate(format!(
                "entry {} of stage {stage} ended twice: {before}, then {how}",
                short(id)
            ));
        }
    }

    /// A worker's commit.
    pub(crate) fn committed(
        &mut self,
        stage: usize,
        commit: &Commit,
        done: &Committed,
        now_ms: u64,
    ) {
        let who = Arc::clone(&commit.consumer);
        self.told(&who, commit, done);
        for (i, settle) in commit.entries.iter().enumerate() {
            let code = code_of(done, i);
            if commit.repeated && code == Code::NotPending {
                self.violate(format!(
                    "a repeated commit of entry {} is an alarm",
                    short(settle.id)
                ));
            }
            if let (Code::Applied, Outcome::Retry { .. }) = (code, &settle.outcome) {
                let held = self.book.held.get(&(stage, settle.id)).cloned();
                if let Some((holder, _)) = held.filter(|(holder, _)| **holder != *who) {
                    self.violate(format!(
                        "{who} noted a failed try of entry {}, which {holder} holds",
                        short(settle.id)
                    ));
                }
                let _ = now_ms;
                continue;
            }
            self.settled(stage, settle, code);
        }
    }

    fn told(&mut self, who: &str, commit: &Commit, done: &Committed) {
        let mut text = String::new();
        for (i, settle) in commit.entries.iter().enumerate() {
            let code = code_of(done, i);
            let _ = write!(text, " {}:{}", short(settle.id), word(&settle.outcome));
            if code != Code::Applied {
                let _ = write!(text, "({code:?})");
            }
        }
        let again = if commit.repeated { " again" } else { "" };
        self.tell(who, format_args!("commits{again}{text}"));
    }

    /// One entry of a commit that was done.
    fn settled(&mut self, stage: usize, settle: &Settle, code: Code) {
        if matches!(settle.outcome, Outcome::Retry { .. })
            || matches!(
                code,
                Code::NotPending | Code::Superseded | Code::Redelivered
            )
        {
            return;
        }
        let id = settle.id;
        let names = self.layout.stages[stage].clone();
        self.end(stage, id, word(&settle.outcome));
        let seen = self.book.seen.get(&(stage, id)).cloned();
        if names.owned
            && let Some(seen) = &seen
            && !seen.key.is_empty()
        {
            let before = self.book.last_of_key.insert((stage, seen.key.clone()), id);
            if let Some(before) = before.filter(|before| *before > id) {
                let key = String::from_utf8_lossy(&seen.key).into_owned();
                self.violate(format!(
                    "stage {}: entry {} of key {key} ended after {}, which came later",
                    names.name,
                    short(id),
                    short(before)
                ));
            }
        }
        let tally = self.book.tallies.entry(stage).or_default();
        if code == Code::Duplicate {
            tally.deduplicated += 1;
            if seen.is_some_and(|seen| seen.is_redriven) && self.n_source_stages() == 1 {
                self.violate(format!(
                    "entry {}, a redriven one, was taken for a duplicate",
                    short(id)
                ));
            }
            return;
        }
        match &settle.outcome {
            Outcome::Apply(effects) => {
                tally.applied += 1;
                for (counter, by) in &effects.adds {
                    if let Counter::Count(name) = counter {
                        *self.book.counts.entry(name.clone()).or_default() += by;
                    }
                }
            }
            Outcome::Filtered => tally.filtered += 1,
            Outcome::Late => tally.late += 1,
            Outcome::Dead(_) => tally.dead += 1,
            Outcome::Duplicate => tally.deduplicated += 1,
            Outcome::Retry { .. } => {}
        }
        if matches!(settle.outcome, Outcome::Duplicate) {
            return;
        }
        if let Some(event) = settle
            .event_id
            .filter(|_| names.reads_source && self.layout.dedupe.is_some())
        {
            self.book.window.entry(event).or_insert(Some(id));
        }
        // One that was sent again for another stage is passed over here.
        let is_anothers = |seen: &Seen| {
            let stage = seen.redriven_for.as_ref();
            stage.is_some_and(|stage| *stage != names.name)
        };
        if let Some(seen) = &seen
            && is_anothers(seen)
        {
            if !matches!(settle.outcome, Outcome::Filtered) {
                self.violate(format!(
                    "entry {} was redriven for another stage and worked in {}",
                    short(id),
                    names.name
                ));
            }
            return;
        }
        if let Some(seen) = seen {
            self.worked(stage, &seen.event, id);
        }
    }

    fn n_source_stages(&self) -> usize {
        self.layout.stages.iter().filter(|s| s.reads_source).count()
    }

    /// Exactly once per event: an event was worked to its end.
    fn worked(&mut self, stage: usize, event: &Bytes, id: EntryId) {
        let names = &self.layout.stages[stage];
        if event.is_empty() || !names.reads_source || self.layout.dedupe.is_none() {
            return;
        }
        let name = names.name.clone();
        let at = (stage, event.clone());
        let n_redriven = self.book.redriven.get(&at).copied().unwrap_or(0);
        let n = self.book.worked.entry(at).or_default();
        *n += 1;
        if *n > 1 + n_redriven {
            let n = *n;
            let event = String::from_utf8_lossy(event).into_owned();
            self.violate(format!(
                "event {event} was worked {n} times in stage {name} (redriven {n_redriven} times), last as entry {}",
                short(id)
            ));
        }
    }

    /// The answer to an attempt to take a lease.
    pub(crate) fn acquired(
        &mut self,
        stage: usize,
        who: &str,
        ttl: Duration,
        acquired: &Acquired,
        now_ms: u64,
    ) {
        let Acquired::Leased(lease) = acquired else {
            return;
        };
        self.tell(
            who,
            format_args!(
                "owns {} from {} on, epoch {}",
                self.stage(stage).to_owned(),
                short(lease.position),
                lease.epoch
            ),
        );
        let until_ms = now_ms + u64::try_from(ttl.as_millis()).unwrap_or(0);
        let before = self
            .book
            .leases
            .insert(stage, (who.to_owned(), lease.epoch, until_ms));
        if let Some((owner, epoch, until_ms)) = before {
            if owner != who && until_ms > now_ms {
                self.violate(format!(
                    "{who} took the lease of {owner}, which has {} ms left",
                    until_ms - now_ms
                ));
            }
            if epoch >= lease.epoch {
                self.violate(format!("epoch {} comes after {epoch}", lease.epoch));
            }
        }
        let position = self.book.positions.insert(stage, lease.position);
        if !self.book.meddled && position.is_some_and(|p| p != lease.position) {
            self.violate(format!(
                "{who} begins at {}, not where the last one ended",
                short(lease.position)
            ));
        }
    }

    /// A renewal that was granted.
    pub(crate) fn renewed(
        &mut self,
        stage: usize,
        who: &str,
        epoch: u64,
        ttl: Duration,
        now_ms: u64,
    ) {
        let until_ms = now_ms + u64::try_from(ttl.as_millis()).unwrap_or(0);
        match self.book.leases.get_mut(&stage) {
            Some((owner, at, until)) if owner == who && *at == epoch => *until = until_ms,
            _ => self.violate(format!("{who} renewed epoch {epoch}, which is over")),
        }
    }

    /// A lease was given up.
    pub(crate) fn released(&mut self, stage: usize, who: &str, epoch: u64) {
        self.tell(who, format_args!("gives up epoch {epoch}"));
        if let Some((owner, at, until)) = self.book.leases.get_mut(&stage)
            && owner == who
            && *at == epoch
        {
            *until = 0;
        }
    }

    /// An owner's commit.
    pub(crate) fn owner_committed(
        &mut self,
        stage: usize,
        owned: &OwnedCommit,
        done: &OwnedDone,
        now_ms: u64,
    ) {
        let commit = &owned.commit;
        let who = Arc::clone(&commit.consumer);
        let OwnedDone::Done { committed, .. } = done else {
            self.tell(&who, format_args!("commit refused: {done:?}"));
            return;
        };
        let Some(to) = commit.entries.last().map(|entry| entry.id) else {
            return;
        };
        let Lease {
            epoch, position, ..
        } = owned.lease;
        let stored = self.book.positions.get(&stage).copied();
        match self.book.leases.get(&stage).cloned() {
            Some((owner, at, _)) if *owner == *who && at == epoch => {}
            other => self.violate(format!(
                "a commit of {who} in epoch {epoch} was done, but the lease is {other:?}"
            )),
        }
        if !owned.parked && commit.repeated && stored == Some(to) {
            // An answer, and no renewal.
            self.tell(&who, format_args!("heard that it was done"));
            return;
        }
        self.told(&who, commit, committed);
        if stored.is_some_and(|stored| stored != position) {
            self.violate(format!(
                "a commit of {who} from {} on was done, but the position is {}",
                short(position),
                short(stored.unwrap_or_default())
            ));
        }
        for (i, settle) in commit.entries.iter().enumerate() {
            self.settled(stage, settle, code_of(committed, i));
        }
        if !owned.parked {
            self.book.positions.insert(stage, to);
        }
        if let Some((_, _, until)) = self.book.leases.get_mut(&stage) {
            *until = now_ms + u64::try_from(owned.ttl.as_millis()).unwrap_or(0);
        }
    }

    /// What an operator did to open entries; the ledger before and after tells which counted as duplicates.
    pub(crate) fn by_hand(
        &mut self,
        stage: usize,
        what: &'static str,
        wanted: &[EntryId],
        fates: &[Fate],
        before: &Depth,
        after: &Depth,
    ) {
        self.tell(
            "operator",
            format_args!("{what} {}: {fates:?}", ids(wanted.iter().copied())),
        );
        let (before, after) = (&before.stages[stage].ledger, &after.stages[stage].ledger);
        let n_done = fates.iter().filter(|fate| **fate == Fate::Done).count() as u64;
        let n_duplicates = after.deduplicated - before.deduplicated;
        let tally = self.book.tallies.entry(stage).or_default();
        tally.deduplicated += n_duplicates;
        let n = n_done.saturating_sub(n_duplicates);
        if what == "discard" {
            tally.discarded += n;
        } else {
            tally.dead += i64::try_from(n).unwrap_or(0);
        }
        for (id, fate) in wanted.iter().zip(fates) {
            match fate {
                Fate::Done => {
                    self.end(stage, *id, what);
                    let seen = self.book.seen.get(&(stage, *id)).cloned();
                    let Some(seen) = seen else { continue };
                    if self.layout.stages[stage].reads_source && !seen.event.is_empty() {
                        self.book
                            .window
                            .entry(event_id(&seen.event))
                            .or_insert(None);
                    }
                    if n_duplicates == 0 {
                        self.worked(stage, &seen.event, *id);
                    }
                }
                Fate::Trimmed => self.end(stage, *id, "lost"),
                _ => {}
            }
        }
    }

    /// A dead letter of this stage was sent again.
    pub(crate) fn redrove(&mut self, letter: EntryId, stage: &str, event: Option<Bytes>) {
        self.tell("operator", format_args!("redrives {}", short(letter)));
        if !self.book.letters.insert(letter) {
            self.violate(format!("dead letter {} was redriven twice", short(letter)));
        }
        let Some((stage, names)) = self.layout.stage(stage) else {
            return;
        };
        let reads_source = names.reads_source;
        self.book.tallies.entry(stage).or_default().dead -= 1;
        let Some(event) = event else { return };
        if reads_source {
            self.book.window.insert(event_id(&event), None);
        }
        *self.book.redriven.entry((stage, event)).or_default() += 1;
    }

    /// The ledger after a step.
    pub(crate) fn check(&mut self, depth: &Depth) {
        if self.violation.is_some() {
            return;
        }
        let ledger = &depth.ledger;
        if !self.book.meddled && (ledger.unaccounted() != 0 || ledger.lost != 0 || ledger.estimated)
        {
            self.violate(format!(
                "the ledger does not add up ({} unaccounted, {} lost): {ledger:?}",
                ledger.unaccounted(),
                ledger.lost
            ));
        }
        for (i, stage) in depth.stages.iter().enumerate() {
            let line = &stage.ledger;
            let told = Tally {
                applied: line.applied,
                filtered: line.filtered,
                late: line.late,
                dead: line.dead,
                discarded: line.discarded,
                deduplicated: line.deduplicated,
            };
            let tally = self.book.tallies.get(&i).copied().unwrap_or_default();
            if told != tally {
                let name = self.stage(i).to_owned();
                self.violate(format!(
                    "the ledger of {name} says {told:?}, the history {tally:?}"
                ));
            }
        }
    }

    /// What must be so at the end, when all is healed and at rest.
    pub(crate) fn check_the_end(&mut self, depth: &Depth, totals: &Aggregates) {
        self.check(depth);
        let ledger = &depth.ledger;
        let rest = ledger.unaccounted();
        let n_untold = if self.book.is_reset {
            self.book.n_deleted
        } else {
            0
        };
        let n_dropped = i64::try_from(self.book.n_dropped + n_untold).unwrap_or(i64::MAX);
        let n_twice = i64::try_from(self.book.n_twice).unwrap_or(i64::MAX);
        if rest < -n_twice || rest > n_dropped {
            self.violate(format!(
                "{rest} entries are unaccounted for, third parties dropped {n_dropped}: {ledger:?}"
            ));
        }
        if ledger.lost > self.book.n_deleted {
            self.violate(format!(
                "{} entries are lost, third parties deleted {}",
                ledger.lost, self.book.n_deleted
            ));
        }
        let mut told: BTreeMap<Bytes, i64> = BTreeMap::new();
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        told.insert("total_count".into(), signed(totals.total));
        told.insert("total_value".into(), totals.value.unwrap_or(0));
        for (kind, names) in [("type", &totals.types), ("product", &totals.products)] {
            for (name, n) in names {
                let name = String::from_utf8_lossy(name);
                told.insert(format!("{kind}:{name}:count").into(), signed(*n));
            }
        }
        told.retain(|_, n| *n != 0);
        let mut counts = self.book.counts.clone();
        counts.retain(|_, n| *n != 0);
        if told != counts {
            self.violate(format!(
                "the aggregates say {told:?}, the history {counts:?}"
            ));
        }
        if self.book.meddled || self.layout.dedupe.is_none() {
            return;
        }
        let layout = Arc::clone(&self.layout);
        for (i, stage) in layout.stages.iter().enumerate() {
            let forgotten = self.book.sent.iter().find(|event| {
                stage.reads_source && !self.book.worked.contains_key(&(i, (*event).clone()))
            });
            if let Some(event) = forgotten.cloned() {
                let event = String::from_utf8_lossy(&event).into_owned();
                self.violate(format!(
                    "event {event} was never worked in stage {}",
                    stage.name
                ));
            }
        }
    }
}

fn code_of(done: &Committed, i: usize) -> Code {
    let found = done.exceptions.iter().find(|(at, _)| *at == i);
    found.map_or(Code::Applied, |(_, code)| *code)
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Apply(_) => "applied",
        Outcome::Filtered => "filtered",
        Outcome::Late => "late",
        Outcome::Dead(_) => "dead",
        Outcome::Duplicate => "duplicate",
        Outcome::Retry { .. } => "retry",
    }
}
