//! Owned delivery: the fence, the position, parking, and what third parties do to the group meanwhile. After each step the
//! server's own figures (XINFO GROUPS, XPENDING) are looked at as any tool would see them.

use std::sync::Arc;
use std::time::Duration;

use pipelined::record::EntryId;
use pipelined::store::{
    Acquired, Code, Commit, Delivered, Fate, Layout, Lease, Outcome, OwnedCommit, OwnedDone, Owner,
    OwnerDepth, PARKED, Settle, StoreError, Wish,
};

use super::harness::*;

const LONG: Duration = Duration::from_secs(600);

/// One owned stage that counts.
pub(crate) fn owned() -> Layout {
    let mut layout = counting();
    layout.stages[0].owned = true;
    layout
}

/// One owner at work.
struct Own<'a> {
    bench: &'a Bench<'a>,
    owner: Box<dyn Owner>,
    name: Arc<str>,
    lease: Lease,
}

impl<'a> Own<'a> {
    /// Takes the lease; with a `ttl` of zero others may take it at once.
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
        }
    }

    /// What there is after its position.
    async fn read(&self, n_max: usize) -> Vec<EntryId> {
        let store = &self.bench.store;
        let mut reader = store
            .follow(0, &self.name, self.lease.position)
            .await
            .expect("follow");
        let batch = reader.next(n_max, Duration::ZERO).await.expect("read");
        batch.entries.iter().map(|entry| entry.record.id).collect()
    }

    async fn backlog(&self) -> Vec<Delivered> {
        let store = &self.bench.store;
        let mut reader = store
            .follow(0, &self.name, self.lease.position)
            .await
            .expect("follow");
        let batch = reader.backlog(EntryId::MIN, 99).await.expect("backlog");
        batch.entries
    }

    async fn run(
        &mut self,
        entries: Vec<Settle>,
        parked: bool,
        repeated: bool,
    ) -> Result<OwnedDone, StoreError> {
        let last = entries.last().map(|entry| entry.id);
        let commit = OwnedCommit {
            lease: self.lease,
            commit: Commit {
                consumer: Arc::clone(&self.name),
                entries,
                repeated,
            },
            parked,
            state: None,
            ttl: Duration::ZERO,
        };
        let done = self.owner.commit(&commit).await?;
        if let (OwnedDone::Done { .. }, false, Some(last)) = (&done, parked, last) {
            self.lease.position = last;
        }
        Ok(done)
    }

    /// Commits new entries; whether a foreign reader was put right.
    async fn commit(&mut self, entries: Vec<Settle>) -> bool {
        match self.run(entries, false, false).await {
            Ok(OwnedDone::Done { committed, foreign }) => {
                assert_eq!(committed.exceptions, []);
                foreign
            }
            other => panic!("{other:?}"),
        }
    }

    /// Counts everything that is there.
    async fn count(&mut self) {
        let ids = self.read(500).await;
        self.commit(all(&ids)).await;
    }

    /// Commits parked entries; what did not go as asked.
    async fn commit_parked(&mut self, entries: Vec<Settle>) -> Vec<(usize, Code)> {
        match self.run(entries, true, true).await {
            Ok(OwnedDone::Done { committed, .. }) => committed.exceptions,
            other => panic!("{other:?}"),
        }
    }
}

fn all(ids: &[EntryId]) -> Vec<Settle> {
    ids.iter().map(|id| settle(*id, counted())).collect()
}

fn behind() -> Outcome {
    Outcome::Retry {
        not_before_ms: 0,
        failures: 0,
        first_ms: 7,
        error: "behind".into(),
    }
}

/// The server's own figures: lag, and what is pending by holder.
async fn seen(bench: &Bench<'_>) -> (Option<u64>, Vec<(EntryId, String)>) {
    let facts = bench.meddler.facts(SOURCE, GROUP).await.expect("a group");
    let pending = facts.pending.into_iter();
    let pending = pending.map(|p| (p.id, String::from_utf8_lossy(&p.consumer).into_owned()));
    (facts.lag, pending.collect())
}

fn parked(ids: &[EntryId]) -> Vec<(EntryId, String)> {
    ids.iter().map(|id| (*id, PARKED.to_owned())).collect()
}

pub(crate) async fn an_owner_works_by_position_and_every_tool_sees_it(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 6).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    assert_eq!(seen(&bench).await, (Some(6), vec![]));
    for left in [4, 2, 0] {
        let ids = own.read(2).await;
        assert!(!own.commit(all(&ids)).await);
        assert_eq!(seen(&bench).await, (Some(left), vec![]));
        assert_eq!(bench.admin.prepare().await, Ok(vec![]));
        assert_eq!(seen(&bench).await, (Some(left), vec![]));
    }
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 6, applied 6".into(), 6)
    );
    assert_eq!(own.read(9).await, []);
}

pub(crate) async fn a_lease_is_held_until_it_is_given_up_or_runs_out(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    let mut a = Own::take(&bench, "a", LONG).await;
    let mut b = bench.store.owner(0, "b").await.expect("an owner");
    let held = b.acquire(LONG).await.expect("acquire");
    assert!(
        matches!(&held, Acquired::Held { by, left_ms } if by == "a" && *left_ms > 500_000),
        "{held:?}"
    );
    assert_eq!(b.renew(a.lease.epoch, LONG).await, Ok(None));
    b.release(a.lease.epoch).await.expect("nothing happens");
    assert!(
        a.owner
            .renew(a.lease.epoch, LONG)
            .await
            .expect("renew")
            .is_some()
    );
    a.owner.release(a.lease.epoch).await.expect("release");
    let b = Own::take(&bench, "b", Duration::ZERO).await;
    assert_eq!(b.lease.epoch, a.lease.epoch + 1);
    assert_eq!(a.owner.renew(a.lease.epoch, LONG).await, Ok(None));
    // Run out; and its own of a life before is had at once, with a new epoch.
    let a = Own::take(&bench, "a", LONG).await;
    let again = Own::take(&bench, "a", LONG).await;
    assert_eq!(again.lease.epoch, a.lease.epoch + 1);
}

pub(crate) async fn who_asks_for_a_lease_is_heard_and_it_is_kept_for_them(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    let mut a = Own::take(&bench, "a", LONG).await;
    let asked_by = async |own: &mut Own<'_>| {
        let renewed = own.owner.renew(own.lease.epoch, LONG).await;
        renewed.expect("renew").expect("it is held").asked_by
    };
    assert_eq!(asked_by(&mut a).await, None);
    let mut b = bench.store.owner(0, "b").await.expect("an owner");
    let mut c = bench.store.owner(0, "c").await.expect("an owner");
    // A wish runs out.
    assert_eq!(b.ask(Wish::Balance, Duration::ZERO).await, Ok(true));
    assert_eq!(asked_by(&mut a).await, None);
    assert_eq!(b.ask(Wish::Balance, LONG).await, Ok(true));
    assert_eq!(asked_by(&mut a).await.as_deref(), Some("b"));
    a.owner.release(a.lease.epoch).await.expect("release");
    for other in [&mut a.owner, &mut c] {
        let held = other.acquire(LONG).await.expect("acquire");
        assert!(
            matches!(&held, Acquired::Held { by, left_ms } if by == "b" && *left_ms <= 1_000),
            "{held:?}"
        );
    }
    let mut b = Own::take(&bench, "b", LONG).await;
    assert_eq!((b.lease.epoch, b.lease.lives), (a.lease.epoch + 1, 0));
    assert_eq!(asked_by(&mut b).await, None, "the wish is fulfilled");
    // What a person gave to its holder is not asked for to balance; another person may.
    assert_eq!(b.owner.ask(Wish::Take, LONG).await, Ok(true));
    assert_eq!(c.ask(Wish::Balance, LONG).await, Ok(false));
    assert_eq!(asked_by(&mut b).await, None);
    assert_eq!(c.ask(Wish::Take, LONG).await, Ok(true));
    assert_eq!(asked_by(&mut b).await.as_deref(), Some("c"));
    b.owner.release(b.lease.epoch).await.expect("release");
    Own::take(&bench, "c", LONG).await;
    let back = a.owner.ask(Wish::Balance, LONG).await;
    assert_eq!(back, Ok(false), "it is c's now");
}

pub(crate) async fn a_lease_tells_of_owners_that_ended_without_a_word(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 3).await;
    let lives = async |name: &str| {
        let own = Own::take(&bench, name, Duration::ZERO).await;
        own.lease.lives
    };
    assert_eq!(lives("a").await, 0, "the first");
    assert_eq!(lives("b").await, 1);
    assert_eq!(lives("b").await, 2, "its own life before counts as well");
    let mut own = Own::take(&bench, "a", LONG).await;
    assert_eq!(own.lease.lives, 3);
    let ids = own.read(1).await;
    own.commit(all(&ids)).await;
    // The commit let the lease run out at once.
    assert_eq!(lives("b").await, 1, "the last one got past it");
    let own = Own::take(&bench, "c", LONG).await;
    assert_eq!(own.lease.lives, 2);
    let mut own = own;
    own.owner.release(own.lease.epoch).await.expect("release");
    assert_eq!(lives("a").await, 0, "given up");
}

pub(crate) async fn the_depth_tells_who_owns_a_stage_and_how_far_it_is(backend: &dyn Backend) {
    // Two stages, so that each is told its own.
    let mut layout = chain();
    for stage in &mut layout.stages {
        stage.owned = true;
    }
    let bench = Bench::new(backend, layout).await;
    let told = async || {
        let depth = bench.admin.depth().await.expect("depth");
        let owners = depth.stages.into_iter().map(|stage| stage.owner);
        let owners: Vec<OwnerDepth> = owners.map(|owner| owner.expect("it is owned")).collect();
        owners
    };
    let nobody = OwnerDepth::default();
    assert_eq!(told().await, [nobody.clone(), nobody.clone()]);
    let ids = bench.add(0, 3).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let owner = OwnerDepth {
        consumer: Some("a".to_owned()),
        expired: false,
        epoch: 1,
        position: Some(EntryId::MIN),
    };
    assert_eq!(told().await, [owner.clone(), nobody.clone()]);
    // These commits let the lease run out at once.
    own.commit(all(&ids[..2])).await;
    let owner = OwnerDepth {
        position: Some(ids[1]),
        ..owner
    };
    let run_out = OwnerDepth {
        expired: true,
        ..owner.clone()
    };
    assert_eq!(told().await[0], run_out);
    let renewed = own.owner.renew(own.lease.epoch, LONG).await;
    renewed.expect("renew").expect("it is still its own");
    assert_eq!(told().await[0], owner);
    own.owner.release(own.lease.epoch).await.expect("release");
    let given_up = OwnerDepth {
        consumer: None,
        ..owner.clone()
    };
    assert_eq!(told().await[0], given_up);
    // One that does not renew it is told as the one who had it.
    Own::take(&bench, "b", Duration::ZERO).await;
    let run_out = OwnerDepth {
        consumer: Some("b".to_owned()),
        expired: true,
        epoch: 2,
        ..owner
    };
    assert_eq!(told().await, [run_out, nobody]);
}

pub(crate) async fn hole_03_a_shared_worker_beside_an_owner_is_refused(backend: &dyn Backend) {
    let shared = Bench::new(backend, counting()).await;
    shared.add(0, 4).await;
    let mut worker = shared.hands(0, "one").await;
    let ids = worker.read_ids(2).await;
    // A daemon with another configuration takes the stage as its own.
    let bench = Bench::new(backend, owned()).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let late = worker.try_commit(all(&ids), false).await;
    assert!(matches!(late, Err(StoreError::Broken(_))), "{late:?}");
    let refused = shared.admin.prepare().await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(bench.total().await, 0);
    own.count().await;
    assert_eq!(own.commit_parked(all(&ids)).await, []);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 4".into(), 4)
    );
}

pub(crate) async fn hole_06_the_janitor_keeps_what_the_owner_has_not_passed(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    // More than a block, of which a server trims whole ones only.
    let ids = bench.add(0, 450).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let first = own.read(2).await;
    own.commit(all(&first)).await;
    // Somebody moves the group to the end, and nothing is pending there.
    bench.meddler.set_group(SOURCE, GROUP, ids[449]).await;
    bench
        .meddler
        .age(SOURCE, GROUP, Duration::from_secs(1))
        .await;
    let swept = bench.admin.janitor(Duration::ZERO, Duration::ZERO).await;
    let swept = swept.expect("janitor");
    assert_eq!(
        (swept.lost_unread, swept.trimmed <= 1),
        (0, true),
        "{swept:?}"
    );
    assert_eq!(own.read(500).await, ids[2..], "all that is left is there");
    own.count().await;
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 450, applied 450".into(), 450)
    );
}

pub(crate) async fn a_zombies_commit_is_refused_and_changes_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 4).await;
    let mut zombie = Own::take(&bench, "a", Duration::ZERO).await;
    let ids = zombie.read(4).await;
    let mut own = Own::take(&bench, "b", LONG).await;
    let late = zombie.run(all(&ids), false, false).await;
    assert_eq!(late, Ok(OwnedDone::Fenced));
    let late = zombie.run(all(&ids), false, true).await;
    assert_eq!(late, Ok(OwnedDone::Fenced), "nor when it asks again");
    assert_eq!(bench.ledger().await, "accepted 4, undelivered 4");
    own.commit(all(&ids)).await;
    let late = zombie.run(all(&ids), false, true).await;
    assert_eq!(late, Ok(OwnedDone::Fenced));
    // The same name in a life before, too.
    let mut second = Own::take(&bench, "b", LONG).await;
    let late = own.run(all(&ids), true, true).await;
    assert_eq!(late, Ok(OwnedDone::Fenced));
    assert_eq!(second.read(9).await, []);
    second.lease.position = EntryId::MIN;
    let moved = second.run(all(&ids[..2]), false, false).await;
    assert_eq!(moved, Ok(OwnedDone::Moved), "a wrong position is refused");
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 4".into(), 4)
    );
}

pub(crate) async fn a_commit_whose_reply_was_lost_is_known_as_done(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    // A server that does not know the script yet would lose only the reply that says so.
    let first = own.read(1).await;
    own.commit(all(&first)).await;
    let ids = own.read(9).await;
    let mut entries = all(&ids);
    entries[1].outcome = failed(0);
    assert!(
        bench.meddler.lose_reply().await,
        "this store cannot lose a reply"
    );
    let lost = own.run(entries.clone(), false, false).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    own.owner = bench.store.owner(0, "a").await.expect("an owner");
    let again = own.run(entries, false, true).await;
    assert!(matches!(again, Ok(OwnedDone::Done { .. })), "{again:?}");
    assert_eq!(bench.ledger().await, "accepted 4, applied 3, pending 1");
    assert!(bench.meddler.lose_reply().await);
    let lost = own.run(all(&ids[1..2]), true, true).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    own.owner = bench.store.owner(0, "a").await.expect("an owner");
    assert_eq!(
        own.commit_parked(all(&ids[1..2])).await,
        [(0, Code::Superseded)]
    );
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 4".into(), 4)
    );
}

pub(crate) async fn what_must_wait_is_parked_and_worked_off(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(9).await;
    let mut entries = all(&ids);
    entries[1].outcome = failed(5);
    entries[2].outcome = behind();
    own.commit(entries).await;
    assert_eq!(seen(&bench).await, (Some(0), parked(&ids[1..3])));
    assert_eq!(bench.ledger().await, "accepted 4, applied 2, pending 2");
    // The next owner finds them with their past.
    own.owner.release(own.lease.epoch).await.expect("release");
    let mut own = Own::take(&bench, "b", LONG).await;
    let backlog = own.backlog().await;
    let past: Vec<_> = backlog
        .iter()
        .map(|e| (e.record.id, e.failures, e.first_ms))
        .collect();
    assert_eq!(past, [(ids[1], 2, 7), (ids[2], 0, 7)]);
    let due = own.owner.renew(own.lease.epoch, LONG).await.expect("renew");
    assert_eq!(
        due.expect("the lease").due,
        ids[1..2],
        "who waits behind is not due"
    );
    let fetched = own.owner.fetch(&[ids[1], ids[0]]).await.expect("fetch");
    assert_eq!(fetched.entries.len(), 1);
    assert_eq!(fetched.entries[0].record.fields, event(1));
    // One fails again, one becomes a dead letter.
    let entries = vec![settle(ids[1], failed(9)), settle(ids[2], dead(2))];
    assert_eq!(own.commit_parked(entries).await, []);
    assert_eq!(seen(&bench).await, (Some(0), parked(&ids[1..2])));
    assert_eq!(own.commit_parked(all(&ids[1..2])).await, []);
    assert_eq!(bench.ledger().await, "accepted 4, applied 3, dead 1");
    assert_eq!(
        own.commit_parked(all(&ids[1..2])).await,
        [(0, Code::Superseded)]
    );
    assert_eq!((bench.total().await, own.backlog().await), (3, vec![]));
}

pub(crate) async fn what_was_trimmed_is_lost_once(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 6).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(2).await;
    own.commit(ids.iter().map(|id| settle(*id, failed(0))).collect())
        .await;
    let rest = own.read(2).await;
    own.commit(all(&rest[..1])).await;
    // Both parked ones, the applied one and one that was not read; then one while it is in the owner's hand.
    bench.meddler.trim_to(SOURCE, 2).await;
    let fetched = own.owner.fetch(&ids).await.expect("fetch");
    assert_eq!((fetched.entries.len(), fetched.lost.len()), (0, 2));
    assert_eq!(own.owner.fetch(&ids).await.expect("fetch").lost, []);
    let rest = own.read(1).await;
    bench.meddler.trim_to(SOURCE, 1).await;
    own.commit(vec![settle(rest[0], failed(0))]).await;
    assert_eq!(seen(&bench).await, (Some(1), vec![]));
    own.count().await;
    assert_eq!(seen(&bench).await, (Some(0), vec![]));
    for _ in 0..2 {
        bench.admin.prepare().await.expect("prepare");
        bench
            .admin
            .janitor(LONG, Duration::ZERO)
            .await
            .expect("janitor");
        assert_eq!(bench.ledger().await, "accepted 6, applied 2, lost 4");
    }
}

pub(crate) async fn entries_deleted_unread_are_lost_once_they_are_passed(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    let ids = bench.add(0, 5).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let first = own.read(1).await;
    own.commit(all(&first)).await;
    bench.meddler.del(SOURCE, &ids[2..4]).await;
    own.count().await;
    assert_eq!(seen(&bench).await, (Some(0), vec![]));
    assert_eq!(bench.ledger().await, "accepted 5, applied 3, lost 2");
}

pub(crate) async fn a_destroyed_group_is_made_again_with_what_was_parked(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 6).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(3).await;
    let mut entries = all(&ids);
    entries[1].outcome = failed(0);
    own.commit(entries).await;
    bench.meddler.destroy_group(SOURCE, GROUP).await;
    let next = own.read(9).await;
    let gone = own.run(all(&next), false, false).await;
    assert!(matches!(gone, Err(StoreError::GroupGone(_))), "{gone:?}");
    bench.admin.prepare().await.expect("prepare");
    assert_eq!(seen(&bench).await, (Some(3), parked(&ids[1..2])));
    own.count().await;
    assert_eq!(own.commit_parked(all(&ids[1..2])).await, []);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 6, applied 6".into(), 6)
    );
    assert_eq!(seen(&bench).await, (Some(0), vec![]));
}

pub(crate) async fn a_group_set_back_or_ahead_is_put_right(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    let ids = bench.add(0, 8).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let first = own.read(2).await;
    own.commit(all(&first)).await;
    for at in [EntryId::MIN, ids[6]] {
        bench.meddler.set_group(SOURCE, GROUP, at).await;
        bench.admin.prepare().await.expect("prepare");
        assert_eq!(seen(&bench).await, (Some(6), vec![]), "set to {at}");
    }
    // By the next commit as well.
    bench.meddler.set_group(SOURCE, GROUP, ids[6]).await;
    let next = own.read(2).await;
    assert!(own.commit(all(&next)).await, "it is told");
    assert_eq!(seen(&bench).await, (Some(4), vec![]));
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    own.count().await;
    assert_eq!(seen(&bench).await, (Some(0), vec![]));
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 8, applied 8".into(), 8)
    );
}

pub(crate) async fn foreign_hands_in_the_group_change_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 6).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(2).await;
    own.commit(vec![settle(ids[0], failed(0)), settle(ids[1], failed(0))])
        .await;
    // A foreign reader takes two, a foreign XACK takes a parked one away.
    assert_eq!(bench.meddler.read(SOURCE, GROUP, "thief", 2).await.len(), 2);
    bench.meddler.ack(SOURCE, GROUP, &ids[..1]).await;
    bench.admin.prepare().await.expect("prepare");
    assert_eq!(seen(&bench).await, (Some(4), parked(&ids)));
    bench.meddler.read(SOURCE, GROUP, "thief", 9).await;
    bench.meddler.ack(SOURCE, GROUP, &ids[..1]).await;
    let rest = own.read(9).await;
    assert!(own.commit(all(&rest)).await, "it is told");
    assert_eq!(seen(&bench).await, (Some(0), parked(&ids[1..])));
    bench.meddler.delete_consumer(SOURCE, GROUP, PARKED).await;
    assert_eq!(own.commit_parked(all(&ids)).await, []);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 6, applied 6".into(), 6)
    );
    assert_eq!(seen(&bench).await, (Some(0), vec![]));
}

pub(crate) async fn a_stream_that_began_anew_is_owned_from_its_beginning(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(3).await;
    own.commit(vec![
        settle(ids[0], counted()),
        settle(ids[1], failed(0)),
        settle(ids[2], counted()),
    ])
    .await;
    bench
        .admin
        .janitor(LONG, Duration::ZERO)
        .await
        .expect("janitor");
    let held = own.read(9).await;
    bench.meddler.delete_stream(SOURCE).await;
    bench.add(4, 6).await;
    bench.admin.prepare().await.expect("prepare");
    let renewed = own.owner.renew(own.lease.epoch, LONG).await.expect("renew");
    assert_eq!(renewed.expect("the lease").position, None);
    let late = own.run(all(&held), false, false).await;
    assert_eq!(late, Ok(OwnedDone::Moved));
    let mut own = Own::take(&bench, "a", LONG).await;
    assert_eq!(own.backlog().await, []);
    own.count().await;
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 6, applied 4, lost 2".into(), 4)
    );
}

pub(crate) async fn a_person_settles_and_releases_what_is_parked(backend: &dyn Backend) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 3).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(3).await;
    let later = bench.now_ms().await + 600_000;
    own.commit(ids.iter().map(|id| settle(*id, failed(later))).collect())
        .await;
    let due = |renewed: Option<pipelined::store::Renewed>| renewed.expect("the lease").due;
    let renewed = own.owner.renew(own.lease.epoch, LONG).await.expect("renew");
    assert_eq!(due(renewed), []);
    assert_eq!(
        bench.admin.release(0, &ids[2..]).await,
        Ok(vec![Fate::Done])
    );
    let renewed = own.owner.renew(own.lease.epoch, LONG).await.expect("renew");
    assert_eq!(due(renewed), ids[2..]);
    assert_eq!(
        bench.admin.discard(0, &ids[..1]).await,
        Ok(vec![Fate::Done])
    );
    assert_eq!(
        bench.admin.kill(0, &ids[1..2], "no").await,
        Ok(vec![Fate::Done])
    );
    assert_eq!(
        bench.admin.discard(0, &ids[..1]).await,
        Ok(vec![Fate::AlreadyDone])
    );
    let codes = own.commit_parked(all(&ids)).await;
    assert_eq!(codes, [(0, Code::Superseded), (1, Code::Superseded)]);
    assert_eq!(
        bench.ledger().await,
        "accepted 3, applied 1, discarded 1, dead 1"
    );
    assert_eq!(seen(&bench).await, (Some(0), vec![]));
}

pub(crate) async fn a_stage_changes_its_delivery_without_loss(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 6).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(3).await;
    one.commit(all(&ids[1..2])).await;
    // Owned: what was pending is parked.
    let bench = Bench::new(backend, owned()).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let open: Vec<EntryId> = own.backlog().await.iter().map(|e| e.record.id).collect();
    assert_eq!(open, [ids[0], ids[2]]);
    assert_eq!(own.commit_parked(all(&ids[..1])).await, []);
    let next = own.read(2).await;
    own.commit(all(&next)).await;
    assert_eq!(
        bench.ledger().await,
        "accepted 6, applied 4, pending 1, undelivered 1"
    );
    // Shared again, but not while an owner is there: what was parked is pending.
    let store = backend.open(counting()).await;
    assert!(
        own.owner
            .renew(own.lease.epoch, LONG)
            .await
            .expect("renew")
            .is_some()
            && store.admin().prepare().await.is_err()
    );
    own.owner.release(own.lease.epoch).await.expect("release");
    let bench = Bench::new(backend, counting()).await;
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    bench.admin.prepare().await.expect("prepare");
    let mut two = bench.hands(0, "two").await;
    let swept = two
        .writer
        .sweep(Duration::ZERO, EntryId::MIN, 9)
        .await
        .expect("sweep");
    let swept: Vec<EntryId> = swept.entries.iter().map(|e| e.record.id).collect();
    assert_eq!(swept, ids[2..]);
    two.repeat(all(&swept)).await;
    two.count_all().await;
    assert_eq!(bench.total().await, 6);
    assert!(bench.ledger().await.starts_with("accepted 6, applied 6"));
}

pub(crate) async fn after_a_roll_back_the_owner_starts_from_the_stored_position(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, owned()).await;
    bench.add(0, 4).await;
    let mut own = Own::take(&bench, "a", LONG).await;
    let ids = own.read(2).await;
    own.commit(all(&ids)).await;
    assert!(
        bench.meddler.remember().await,
        "this store cannot be rolled back"
    );
    let ids = own.read(1).await;
    own.commit(all(&ids)).await;
    bench.meddler.roll_back().await;
    bench.healed().await;
    own.owner = bench.store.owner(0, "a").await.expect("an owner");
    let held = own.read(9).await;
    assert_eq!(
        own.run(all(&held), false, false).await,
        Ok(OwnedDone::Moved)
    );
    let mut own = Own::take(&bench, "a", LONG).await;
    own.count().await;
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 4".into(), 4)
    );
}
