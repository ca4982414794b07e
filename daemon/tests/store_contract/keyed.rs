//! Keyed state and timers of owned stages: in one step with the position, from the versions that were read, once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipelined::effect::{Change, Timer};
use pipelined::record::EntryId;
use pipelined::store::{
    Acquired, Cell, Code, Commit, DueTimers, Fired, Firing, Layout, Lease, Outcome, OwnedCommit,
    OwnedDone, Owner, Settle, StateCommit, StateLayout, StoreError, VALUE_MAX,
};

use super::harness::*;

const LONG: Duration = Duration::from_secs(600);
const STATE: &str = "{events}:state:count";

/// One owned stage that counts and keeps state.
fn keeping() -> Layout {
    let mut layout = counting();
    layout.stages[0].owned = true;
    layout.stages[0].state = vec![made_of("n", "count of key user_id")];
    layout
}

fn made_of(name: &str, made_of: &str) -> StateLayout {
    StateLayout {
        name: name.into(),
        made_of: made_of.into(),
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn set(value: &str) -> Change {
    Change::Set(text(value))
}

/// One owner at work.
struct Own<'a> {
    bench: &'a Bench<'a>,
    owner: Box<dyn Owner>,
    name: Arc<str>,
    lease: Lease,
    n_commits: u64,
}

impl<'a> Own<'a> {
    async fn take(bench: &'a Bench<'a>, name: &str, ttl: Duration) -> Self {
        let mut owner = bench.store.owner(0, name).await.expect("an owner");
        let Acquired::Leased(lease) = owner.acquire(ttl).await.expect("acquire") else {
            panic!("{name} does not get the lease");
        };
        Self {
            bench,
            owner,
            name: name.into(),
            lease,
            n_commits: 0,
        }
    }

    async fn anew(&mut self) {
        let store = &self.bench.store;
        self.owner = store.owner(0, &self.name).await.expect("an owner");
    }

    async fn read(&self, n_max: usize) -> Vec<EntryId> {
        let store = &self.bench.store;
        let mut reader = store
            .follow(0, &self.name, self.lease.position)
            .await
            .expect("follow");
        let batch = reader.next(n_max, Duration::ZERO).await.expect("read");
        batch.entries.iter().map(|entry| entry.record.id).collect()
    }

    async fn cells(&mut self, keys: &[&str]) -> Vec<Option<Cell>> {
        let keys: Vec<Bytes> = keys.iter().map(|key| text(key)).collect();
        self.owner.load_state(&keys).await.expect("load")
    }

    /// The value under a key.
    async fn value(&mut self, key: &str) -> Option<String> {
        let cell = self.cells(&[key]).await.remove(0);
        cell.map(|cell| String::from_utf8_lossy(&cell.value).into_owned())
    }

    /// State made from what is there now.
    async fn state(&mut self, writes: &[(&str, Change)], by: &[usize]) -> StateCommit {
        let keys: Vec<&str> = writes.iter().map(|(key, _)| *key).collect();
        let cells = match keys.is_empty() {
            true => Vec::new(),
            false => self.cells(&keys).await,
        };
        self.n_commits += 1;
        let keys = keys.iter().map(|key| text(key));
        StateCommit {
            version: format!("{}-{}", self.lease.epoch, self.n_commits).into(),
            expected: keys
                .zip(cells)
                .map(|(key, cell)| (key, cell.map(|cell| cell.version)))
                .collect(),
            writes: writes.iter().map(|(k, c)| (text(k), c.clone())).collect(),
            timers: Vec::new(),
            by: by.to_vec(),
        }
    }

    fn asks(&self, entries: Vec<Settle>, parked: bool, state: StateCommit) -> OwnedCommit {
        OwnedCommit {
            lease: self.lease,
            commit: Commit {
                consumer: Arc::clone(&self.name),
                entries,
                repeated: parked,
            },
            parked,
            state: Some(state),
            ttl: Duration::ZERO,
        }
    }

    async fn run(&mut self, commit: &OwnedCommit) -> Result<OwnedDone, StoreError> {
        let done = self.owner.commit(commit).await?;
        let last = commit.commit.entries.last().map(|entry| entry.id);
        if let (OwnedDone::Done { .. }, false, Some(last)) = (&done, commit.parked, last) {
            self.lease.position = last;
        }
        Ok(done)
    }

    /// Commits new entries with these changes of state.
    async fn commit(&mut self, entries: Vec<Settle>, writes: &[(&str, Change)]) {
        let by: Vec<usize> = (0..entries.len()).collect();
        let state = self.state(writes, &by).await;
        let commit = self.asks(entries, false, state);
        let done = self.run(&commit).await;
        let Ok(OwnedDone::Done { committed, .. }) = done else {
            panic!("{done:?}");
        };
        assert_eq!(committed.exceptions, []);
    }

    /// Commits the next entry with a timer for this key.
    async fn commit_timer(&mut self, key: &str, timer: Timer) {
        let ids = self.read(1).await;
        let mut state = self.state(&[(key, set("1"))], &[0]).await;
        state.timers = vec![(text(key), timer)];
        let commit = self.asks(all(&ids), false, state);
        let done = self.run(&commit).await;
        assert!(matches!(done, Ok(OwnedDone::Done { .. })), "{done:?}");
    }

    /// Waits until this many timers are due.
    async fn due(&mut self, n: usize) -> DueTimers {
        let owner = &mut self.owner;
        within(async {
            loop {
                let looked = owner.due_timers(99).await.expect("look");
                if looked.due.len() >= n {
                    return looked;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    fn firing(&self, fired: &[(Bytes, u64)], state: StateCommit) -> Firing {
        Firing {
            epoch: self.lease.epoch,
            fired: fired.to_vec(),
            state,
            ttl: Duration::ZERO,
        }
    }
}

fn all(ids: &[EntryId]) -> Vec<Settle> {
    ids.iter().map(|id| settle(*id, counted())).collect()
}

const SHORT: Timer = Timer::After(Duration::from_millis(1));

pub(crate) async fn state_moves_with_the_position_and_the_next_owner_reads_it(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", Duration::ZERO).await;
    assert_eq!(own.cells(&["n:x", "n:y"]).await, [None, None]);
    let ids = own.read(2).await;
    own.commit(all(&ids), &[("n:x", set("2")), ("n:z", set(""))])
        .await;
    let ids = own.read(1).await;
    own.commit(all(&ids), &[("n:x", set("a b\n")), ("n:z", Change::Forget)])
        .await;
    let mut next = Own::take(&bench, "b", LONG).await;
    assert_eq!(next.value("n:x").await.as_deref(), Some("a b\n"));
    assert_eq!(next.value("n:z").await, None);
    let version = next.cells(&["n:x"]).await.remove(0).map(|c| c.version);
    assert_eq!(version, Some(text("1-2")));
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 3, undelivered 1".into(), 3)
    );
}

pub(crate) async fn hole_03_a_zombie_with_an_old_version_changes_no_state(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 4).await;
    let mut zombie = Own::take(&bench, "a", Duration::ZERO).await;
    let ids = zombie.read(1).await;
    zombie.commit(all(&ids), &[("n:x", set("1"))]).await;
    let held = zombie.read(2).await;
    let state = zombie.state(&[("n:x", set("3"))], &[0, 1]).await;
    let late = zombie.asks(all(&held), false, state);
    let mut own = Own::take(&bench, "b", LONG).await;
    own.commit(all(&held[..1]), &[("n:x", set("2"))]).await;
    assert_eq!(zombie.run(&late).await, Ok(OwnedDone::Fenced));
    assert_eq!(own.value("n:x").await.as_deref(), Some("2"));
    assert_eq!(bench.total().await, 2);
    // The same for timers.
    own.commit_timer("n:t", SHORT).await;
    bench
        .meddler
        .age(SOURCE, GROUP, Duration::from_secs(1))
        .await;
    let due = own.due(1).await.due;
    let state = zombie.state(&[("n:t", Change::Forget)], &[]).await;
    let late = zombie.firing(&due, state);
    assert_eq!(zombie.owner.fire(&late).await, Ok(Fired::Fenced));
    assert_eq!(own.value("n:t").await.as_deref(), Some("1"));
    assert_eq!(own.due(1).await.due, due);
}

pub(crate) async fn hole_03_state_that_somebody_changed_refuses_the_commit(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 3).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(1).await;
    own.commit(all(&ids), &[("n:x", set("1"))]).await;
    let ids = own.read(1).await;
    // A key that is only read counts as well: what was told of it may be in the outcome.
    for raw in [Some(text("99-9 5")), None] {
        let state = own
            .state(&[("n:x", set("2")), ("n:y", set("1"))], &[0])
            .await;
        let mut read_only = state.clone();
        read_only.writes.remove(0);
        bench.meddler.set_state(STATE, "n:x", raw.clone()).await;
        for state in [state, read_only] {
            let commit = own.asks(all(&ids), false, state);
            assert_eq!(own.run(&commit).await, Ok(OwnedDone::Stale));
        }
        assert_eq!(bench.meddler.state(STATE, "n:x").await, raw);
        assert_eq!(own.value("n:y").await, None);
        assert_eq!(bench.total().await, 1);
    }
    // Something that was not there when it was read.
    let state = own.state(&[("n:x", set("1"))], &[0]).await;
    bench
        .meddler
        .set_state(STATE, "n:x", Some(text("99-9 5")))
        .await;
    let commit = own.asks(all(&ids), false, state);
    assert_eq!(own.run(&commit).await, Ok(OwnedDone::Stale));
    // Read again, it goes on.
    own.commit(all(&ids), &[("n:x", set("6"))]).await;
    assert_eq!(own.value("n:x").await.as_deref(), Some("6"));
    assert_eq!(bench.ledger().await, "accepted 3, applied 2, undelivered 1");
}

pub(crate) async fn state_that_is_not_ours_is_broken_and_nothing_is_done(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 2).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(1).await;
    let state = own.state(&[("n:x", set("1"))], &[0]).await;
    let huge = format!("1-1 {}", "x".repeat(VALUE_MAX + 1));
    for raw in ["5", "x-1 5", "-1 5", "1 5", "1-1-1 5", &huge] {
        bench.meddler.set_state(STATE, "n:x", Some(text(raw))).await;
        let loaded = own.owner.load_state(&[text("n:x")]).await;
        assert!(matches!(loaded, Err(StoreError::Broken(_))), "{loaded:?}");
        let commit = own.asks(all(&ids), false, state.clone());
        let done = own.run(&commit).await;
        assert!(matches!(done, Err(StoreError::Broken(_))), "{done:?}");
    }
    assert_eq!(bench.total().await, 0);
    bench.meddler.set_state(STATE, "n:x", None).await;
    own.commit(all(&ids), &[("n:x", set("1"))]).await;
    assert_eq!(bench.total().await, 1);
}

pub(crate) async fn large_state_is_loaded_in_parts(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 40).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let value = "y".repeat(VALUE_MAX);
    let names: Vec<String> = (0..40).map(|n| format!("n:{n}")).collect();
    for name in &names {
        let ids = own.read(1).await;
        own.commit(all(&ids), &[(name, set(&value))]).await;
    }
    let keys: Vec<Bytes> = names.iter().map(|name| text(name)).collect();
    let (mut n, mut n_calls) = (0, 0);
    while n < keys.len() {
        let cells = own.owner.load_state(&keys[n..]).await.expect("load");
        assert!(!cells.is_empty());
        let is_whole = |cell: &Option<Cell>| cell.as_ref().is_some_and(|c| c.value == value);
        assert!(cells.iter().all(is_whole));
        n += cells.len();
        n_calls += 1;
    }
    assert!((2..10).contains(&n_calls), "{n_calls}");
}

pub(crate) async fn hole_11_state_changes_once_when_the_reply_was_lost(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 3).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let first = own.read(1).await;
    own.commit(all(&first), &[("n:x", set("1"))]).await;
    let ids = own.read(9).await;
    let mut entries = all(&ids);
    entries[1].outcome = failed(0);
    let state = own.state(&[("n:x", set("2"))], &[0]).await;
    let mut commit = own.asks(entries, false, state);
    assert!(bench.meddler.lose_reply().await);
    let lost = own.run(&commit).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    own.anew().await;
    commit.commit.repeated = true;
    let again = own.run(&commit).await;
    assert!(matches!(again, Ok(OwnedDone::Done { .. })), "{again:?}");
    assert_eq!(own.value("n:x").await.as_deref(), Some("2"));
    // A parked one: told that it is done, so that the rest can be worked from what is there now.
    let state = own.state(&[("n:x", set("3"))], &[0]).await;
    let commit = own.asks(all(&ids[1..]), true, state);
    assert!(bench.meddler.lose_reply().await);
    let lost = own.run(&commit).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    own.anew().await;
    assert_eq!(
        own.run(&commit).await,
        Ok(OwnedDone::Again(vec![(0, Code::Superseded)]))
    );
    assert_eq!(own.value("n:x").await.as_deref(), Some("3"));
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 3, applied 3".into(), 3)
    );
}

pub(crate) async fn a_duplicate_is_named_before_state_counts_it(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    for n in [0, 1, 0, 2, 1] {
        bench.add(n, n + 1).await;
    }
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(1).await;
    own.commit(
        vec![settle_event(ids[0], 0, counted())],
        &[("n:x", set("1"))],
    )
    .await;
    let ids = own.read(9).await;
    let numbers = [1, 0, 2, 1];
    let entries = |known: &[usize]| -> Vec<Settle> {
        let outcome = |i| match known.contains(&i) {
            true => Outcome::Duplicate,
            false => counted(),
        };
        let each = ids.iter().zip(numbers).enumerate();
        each.map(|(i, (id, n))| settle_event(*id, n, outcome(i)))
            .collect()
    };
    let state = own.state(&[("n:x", set("5"))], &[0, 1, 2, 3]).await;
    let commit = own.asks(entries(&[]), false, state);
    assert_eq!(
        own.run(&commit).await,
        Ok(OwnedDone::Again(vec![
            (1, Code::Duplicate),
            (3, Code::Duplicate)
        ]))
    );
    assert_eq!(own.value("n:x").await.as_deref(), Some("1"));
    assert_eq!(bench.total().await, 1);
    let state = own.state(&[("n:x", set("3"))], &[0, 2]).await;
    let commit = own.asks(entries(&[1, 3]), false, state);
    let done = own.run(&commit).await;
    let Ok(OwnedDone::Done { committed, .. }) = done else {
        panic!("{done:?}");
    };
    assert_eq!(
        committed.exceptions,
        [(1, Code::Duplicate), (3, Code::Duplicate)]
    );
    assert_eq!(own.value("n:x").await.as_deref(), Some("3"));
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 5, applied 3, deduplicated 2".into(), 3)
    );
}

pub(crate) async fn a_parked_entry_taken_by_a_person_changes_no_state(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 3).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(3).await;
    let parked = ids.iter().map(|id| settle(*id, failed(1))).collect();
    own.commit(parked, &[]).await;
    bench.admin.discard(0, &ids[..1]).await.expect("discard");
    bench.admin.kill(0, &ids[1..2], "no").await.expect("kill");
    let state = own.state(&[("n:x", set("3"))], &[0, 1, 2]).await;
    let commit = own.asks(all(&ids), true, state);
    assert_eq!(
        own.run(&commit).await,
        Ok(OwnedDone::Again(vec![
            (0, Code::Superseded),
            (1, Code::Superseded)
        ]))
    );
    assert_eq!(own.value("n:x").await, None);
    let state = own.state(&[("n:x", set("1"))], &[0]).await;
    let commit = own.asks(all(&ids[2..]), true, state);
    let done = own.run(&commit).await;
    assert!(matches!(done, Ok(OwnedDone::Done { .. })), "{done:?}");
    assert_eq!(own.value("n:x").await.as_deref(), Some("1"));
    assert_eq!(
        bench.ledger().await,
        "accepted 3, applied 1, discarded 1, dead 1"
    );
}

pub(crate) async fn a_timer_fires_once_with_what_it_changes(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 3).await;
    let mut own = Own::take(&bench, "a", Duration::ZERO).await;
    assert_eq!(own.owner.due_timers(9).await, Ok(DueTimers::default()));
    own.commit_timer("n:x", SHORT).await;
    own.commit_timer("n:y", Timer::After(LONG)).await;
    // Memory's clock stands still.
    bench
        .meddler
        .age(SOURCE, GROUP, Duration::from_secs(1))
        .await;
    let looked = own.due(1).await;
    assert_eq!(looked.due.len(), 1, "{looked:?}");
    let next = looked.next.expect("the other");
    assert!(next > LONG / 2 && next <= LONG, "{next:?}");
    // It is not lost with its owner.
    let mut own = Own::take(&bench, "b", LONG).await;
    assert_eq!(own.due(1).await.due, looked.due);
    let mut state = own.state(&[("n:x", Change::Forget)], &[]).await;
    state.timers = vec![(text("n:z"), Timer::After(LONG))];
    let firing = own.firing(&looked.due, state);
    assert!(bench.meddler.lose_reply().await);
    let _ = own.owner.fire(&firing).await;
    own.anew().await;
    // Where the server had to be told the script first, nothing was lost.
    let again = own.owner.fire(&firing).await;
    assert!(matches!(again, Ok(Fired::Stale | Fired::Done)), "{again:?}");
    assert_eq!(own.owner.fire(&firing).await, Ok(Fired::Stale));
    assert_eq!(own.value("n:x").await, None);
    assert_eq!(own.due(0).await.due, []);
    assert_eq!(bench.ledger().await, "accepted 3, applied 2, undelivered 1");
}

pub(crate) async fn a_timer_that_was_cleared_or_moved_never_fires(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    own.commit_timer("n:x", SHORT).await;
    own.commit_timer("n:y", SHORT).await;
    bench
        .meddler
        .age(SOURCE, GROUP, Duration::from_secs(1))
        .await;
    let due = own.due(2).await.due;
    let both = [("n:x", Change::Forget), ("n:y", Change::Forget)];
    let state = own.state(&both, &[]).await;
    let stale = own.firing(&due, state);
    own.commit_timer("n:x", Timer::Clear).await;
    own.commit_timer("n:y", Timer::After(LONG)).await;
    assert_eq!(own.owner.fire(&stale).await, Ok(Fired::Stale));
    // Also from the state as it is now.
    let state = own.state(&both, &[]).await;
    let stale = own.firing(&due, state);
    assert_eq!(own.owner.fire(&stale).await, Ok(Fired::Stale));
    assert_eq!(own.due(0).await.due, []);
    assert_eq!(own.value("n:x").await.as_deref(), Some("1"));
    assert_eq!(own.value("n:y").await.as_deref(), Some("1"));
}

pub(crate) async fn a_timer_is_refused_when_its_state_was_changed(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 1).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    own.commit_timer("n:x", SHORT).await;
    bench
        .meddler
        .age(SOURCE, GROUP, Duration::from_secs(1))
        .await;
    let due = own.due(1).await.due;
    let state = own.state(&[("n:x", Change::Forget)], &[]).await;
    bench
        .meddler
        .set_state(STATE, "n:x", Some(text("9-9 7")))
        .await;
    let firing = own.firing(&due, state);
    assert_eq!(own.owner.fire(&firing).await, Ok(Fired::Stale));
    assert_eq!(own.value("n:x").await.as_deref(), Some("7"));
    assert_eq!(own.due(1).await.due, due);
}

pub(crate) async fn state_outlives_resets_of_the_group_and_of_the_stream(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", Duration::ZERO).await;
    let ids = own.read(2).await;
    own.commit(all(&ids), &[("n:x", set("2"))]).await;
    let held = own.read(1).await;
    let state = own.state(&[("n:x", set("3"))], &[0]).await;
    let commit = own.asks(all(&held), false, state.clone());
    bench.meddler.destroy_group(SOURCE, GROUP).await;
    let done = own.run(&commit).await;
    assert!(matches!(done, Err(StoreError::GroupGone(_))), "{done:?}");
    assert_eq!(own.value("n:x").await.as_deref(), Some("2"));
    bench.admin.prepare().await.expect("prepare");
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    let mut own = Own::take(&bench, "a", Duration::ZERO).await;
    let ids = own.read(9).await;
    own.commit(all(&ids), &[("n:x", set("4"))]).await;
    assert_eq!(bench.total().await, 4);
    // The stream goes: what is kept of its keys stays, and goes on.
    bench.meddler.delete_stream(SOURCE).await;
    bench.add(4, 5).await;
    bench.admin.prepare().await.expect("prepare");
    let mut own = Own::take(&bench, "a", LONG).await;
    assert_eq!(own.value("n:x").await.as_deref(), Some("4"));
    let ids = own.read(9).await;
    own.commit(all(&ids), &[("n:x", set("5"))]).await;
    assert_eq!(own.value("n:x").await.as_deref(), Some("5"));
    assert_eq!(bench.total().await, 5);
}

pub(crate) async fn after_a_roll_back_state_and_position_agree(backend: &dyn Backend) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(2).await;
    own.commit(all(&ids), &[("n:x", set("2"))]).await;
    assert!(bench.meddler.remember().await);
    let ids = own.read(1).await;
    own.commit(all(&ids), &[("n:x", set("3"))]).await;
    bench.meddler.roll_back().await;
    bench.healed().await;
    let mut own = Own::take(&bench, "a", LONG).await;
    assert_eq!(own.value("n:x").await.as_deref(), Some("2"));
    let ids = own.read(9).await;
    assert_eq!(ids.len(), 2);
    own.commit(all(&ids), &[("n:x", set("4"))]).await;
    assert_eq!(
        (own.value("n:x").await.as_deref(), bench.total().await),
        (Some("4"), 4)
    );
}

pub(crate) async fn state_made_otherwise_is_refused_and_what_is_left_is_told(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, keeping()).await;
    bench.add(0, 1).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(1).await;
    own.commit(all(&ids), &[("n:x", set("1"))]).await;
    assert_eq!(bench.admin.prepare().await, Ok(vec![]));
    let prepare = async |state: Vec<StateLayout>| {
        let mut layout = keeping();
        layout.stages[0].state = state;
        let mended = backend.open(layout).await.admin().prepare().await;
        mended.map(|list| list.into_iter().map(|m| m.what).collect::<Vec<_>>())
    };
    let other = made_of("n", "count of key session_id");
    let refused = prepare(vec![other.clone()]).await;
    let Err(StoreError::Broken(why)) = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        why.contains("user_id") && why.contains("session_id"),
        "{why}"
    );
    // One more is no harm; one that is gone is told of once, and nobody else takes its name.
    let kept = made_of("n", "count of key user_id");
    let more = made_of("m", "count of key product");
    assert_eq!(prepare(vec![kept.clone(), more.clone()]).await, Ok(vec![]));
    assert_eq!(prepare(vec![more.clone()]).await, Ok(vec!["state.left"]));
    assert_eq!(prepare(vec![more.clone()]).await, Ok(vec![]));
    assert!(prepare(vec![other]).await.is_err());
    assert_eq!(prepare(vec![more, kept]).await, Ok(vec!["state.found"]));
    assert_eq!(own.value("n:x").await.as_deref(), Some("1"));
}
