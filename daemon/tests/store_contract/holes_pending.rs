//! The holes of delivery, continued (`holes.rs` has the list): those of what was delivered and not finished.

use std::time::Duration;

use pipelined::record::EntryId;
use pipelined::store::{Batch, Code, Mended, PendingQuery, Swept};

use super::harness::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn ids_of(batch: &Batch) -> Vec<EntryId> {
    batch.entries.iter().map(|entry| entry.record.id).collect()
}

fn told(mended: &[Mended]) -> Vec<(&'static str, &str)> {
    mended
        .iter()
        .map(|m| (m.what, m.stage.as_deref().unwrap_or("")))
        .collect()
}

pub(crate) async fn hole_05_a_group_set_back_does_not_count_twice(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 5).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(4).await;
    one.commit(ids[..3].iter().map(|id| settle(*id, counted())).collect())
        .await;
    // 0..3 are settled, 3 is pending, 4 is new.
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    let again = one.read_ids(9).await;
    assert_eq!(again.len(), 5);
    let codes = one
        .commit(again.iter().map(|id| settle(*id, counted())).collect())
        .await;
    let redelivered = Code::Redelivered;
    assert_eq!(
        codes,
        [(0, redelivered), (1, redelivered), (2, redelivered)]
    );
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 5, applied 5".into(), 5)
    );
}

pub(crate) async fn hole_05_settled_entries_above_an_old_pending_one_are_known_after_a_reset(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 40).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(40).await;
    // The first stays pending and holds the mark back; many small commits above it.
    for id in &ids[1..] {
        one.commit(vec![settle(*id, counted())]).await;
    }
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    let again = one.read_ids(99).await;
    assert_eq!(again, ids);
    let codes = one
        .commit(again.iter().map(|id| settle(*id, counted())).collect())
        .await;
    assert_eq!(
        codes,
        (1..40).map(|i| (i, Code::Redelivered)).collect::<Vec<_>>()
    );
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 40, applied 40".into(), 40)
    );
}

pub(crate) async fn hole_05_a_destroyed_group_begins_again_where_all_before_is_settled(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 6).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(5).await;
    // Settled: 0, 1 and 3; pending: 2 and 4; new: 5.
    one.commit(
        [0, 1, 3]
            .iter()
            .map(|&i| settle(ids[i], counted()))
            .collect(),
    )
    .await;
    bench.meddler.destroy_group(SOURCE, GROUP).await;
    let mended = bench.admin.prepare().await.expect("prepare");
    assert_eq!(told(&mended), [("group.recreated", "count")]);
    let again = one.read_ids(9).await;
    assert_eq!(again[..3], ids[2..]);
    let codes = one
        .commit(again.iter().map(|id| settle(*id, counted())).collect())
        .await;
    assert_eq!(codes, [(1, Code::Redelivered)]);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 6, applied 6".into(), 6)
    );
}

pub(crate) async fn hole_06_an_entry_trimmed_while_pending_is_lost_once(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    one.commit(vec![settle(ids[0], failed(1))]).await;
    bench.meddler.trim_below(SOURCE, ids[1]).await;
    bench.meddler.del(SOURCE, &ids[1..2]).await;
    let batch = one.reader.backlog(EntryId::MIN, 9).await.expect("backlog");
    assert_eq!(
        (batch.lost.clone(), ids_of(&batch)),
        (ids[..2].to_vec(), ids[2..].to_vec())
    );
    assert_eq!(bench.ledger().await, "accepted 3, lost 2, pending 1");
    let again = one.reader.backlog(EntryId::MIN, 9).await.expect("backlog");
    assert_eq!(again.lost, []);
    let rows = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters");
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.origin_id, &row.reason[..], row.counts, row.tries))
        .collect();
    assert_eq!(
        told,
        [(ids[1], "trimmed", false, 0), (ids[0], "trimmed", false, 2)]
    );
}

pub(crate) async fn hole_06_sweep_and_claim_book_what_is_gone_as_lost(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 4).await;
    bench.hands(0, "one").await.read(9).await;
    bench.meddler.del(SOURCE, &[ids[0], ids[2]]).await;
    let mut two = bench.hands(0, "two").await;
    let claimed = two
        .writer
        .claim(&ids[2..], Duration::ZERO)
        .await
        .expect("claim");
    assert_eq!(
        (ids_of(&claimed), claimed.lost),
        (vec![ids[3]], vec![ids[2]])
    );
    let swept = two
        .writer
        .sweep(Duration::ZERO, EntryId::MIN, 9)
        .await
        .expect("sweep");
    assert_eq!((ids_of(&swept), swept.lost), (vec![ids[1]], vec![ids[0]]));
    assert_eq!(bench.ledger().await, "accepted 4, lost 2, pending 2");
}

pub(crate) async fn hole_06_the_janitor_keeps_what_anyone_still_needs(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 600).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(500).await;
    one.commit(ids[..450].iter().map(|id| settle(*id, counted())).collect())
        .await;
    let length = async || bench.admin.depth().await.expect("depth").stages[0].length;
    // A third party's group has read nothing.
    bench
        .meddler
        .create_group(SOURCE, "tool", EntryId::MIN)
        .await;
    assert_eq!(
        bench.admin.janitor(Duration::ZERO, Duration::ZERO).await,
        Ok(Swept::default())
    );
    assert_eq!(length().await, 600);
    bench.meddler.destroy_group(SOURCE, "tool").await;
    // Everything is younger than an hour.
    assert_eq!(
        bench.admin.janitor(HOUR, Duration::ZERO).await,
        Ok(Swept::default())
    );
    // The rest goes up to the oldest pending one; a server may trim whole blocks only.
    bench
        .meddler
        .age(SOURCE, GROUP, Duration::from_secs(1))
        .await;
    let swept = bench
        .admin
        .janitor(Duration::ZERO, Duration::ZERO)
        .await
        .expect("janitor");
    assert!((200..=450).contains(&swept.trimmed), "{swept:?}");
    assert_eq!(length().await, 600 - swept.trimmed);
    assert_eq!(
        bench.ledger().await,
        "accepted 600, applied 450, pending 50, undelivered 100"
    );
    let backlog = one
        .reader
        .backlog(EntryId::MIN, 500)
        .await
        .expect("backlog");
    assert_eq!((backlog.entries.len(), backlog.lost.len()), (50, 0));
}

pub(crate) async fn hole_07_only_a_consumer_that_holds_nothing_is_retired(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    assert_eq!(bench.admin.retire(0, "one").await, Ok(2));
    let consumers = bench.admin.consumers(0).await.expect("consumers");
    let told: Vec<_> = consumers
        .iter()
        .map(|c| (&c.name[..], c.pending, c.oldest))
        .collect();
    assert_eq!(told, [(&b"one"[..], 2, Some(ids[0]))]);
    one.commit(ids.iter().map(|id| settle(*id, counted())).collect())
        .await;
    assert_eq!(bench.admin.retire(0, "one").await, Ok(0));
    assert_eq!(bench.admin.retire(0, "nobody").await, Ok(0));
    assert_eq!(bench.admin.consumers(0).await, Ok(vec![]));
}

pub(crate) async fn hole_07_a_consumer_deleted_by_others_leaves_its_entries_unaccounted(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    assert_eq!(bench.meddler.delete_consumer(SOURCE, GROUP, "one").await, 2);
    assert_eq!(bench.ledger().await, "accepted 2, unaccounted 2");
    let codes = one
        .commit(ids.iter().map(|id| settle(*id, counted())).collect())
        .await;
    assert_eq!(codes, [(0, Code::NotPending), (1, Code::NotPending)]);
    assert_eq!(bench.total().await, 0);
}

pub(crate) async fn hole_09_a_sweep_takes_idle_entries_of_others_only(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let old = one.read_ids(1).await;
    two.read(1).await;
    bench.meddler.age(SOURCE, GROUP, 2 * HOUR).await;
    bench.add(2, 3).await;
    one.read(1).await;
    let swept = two
        .writer
        .sweep(HOUR, EntryId::MIN, 9)
        .await
        .expect("sweep");
    assert_eq!((ids_of(&swept), swept.next), (old.clone(), None));
    assert_eq!(swept.entries[0].record.fields, event(0));
    assert!(swept.entries[0].deliveries >= 2);
    // It is young now, and the sweeper's own.
    assert_eq!(
        one.writer
            .sweep(HOUR, EntryId::MIN, 9)
            .await
            .map(|b| ids_of(&b))
            .map(|b| b.contains(&old[0])),
        Ok(false)
    );
    assert_eq!(two.repeat(vec![settle(old[0], counted())]).await, []);
}

pub(crate) async fn hole_09_a_heartbeat_makes_own_entries_young_and_takes_none_back(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 3).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    two.writer
        .claim(&ids[..1], Duration::ZERO)
        .await
        .expect("claim");
    bench.meddler.age(SOURCE, GROUP, 2 * HOUR).await;
    let held = one
        .writer
        .keep(&[ids[0], ids[1], EntryId { ms: 1, seq: 1 }])
        .await
        .expect("keep");
    assert_eq!(held, ids[1..2]);
    let query = PendingQuery {
        n_max: 9,
        min_idle: HOUR,
        ..PendingQuery::default()
    };
    let idle = bench.admin.pending(0, &query).await.expect("pending");
    let idle: Vec<_> = idle
        .rows
        .iter()
        .map(|row| (row.id, &row.consumer[..]))
        .collect();
    assert_eq!(idle, [(ids[0], &b"two"[..]), (ids[2], &b"one"[..])]);
}

pub(crate) async fn hole_10_deliveries_and_failed_tries_are_two_counters(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    one.commit(vec![settle(ids[1], failed(1))]).await;
    // Looked at again and again, as after crashes, and claimed: nobody has failed in between.
    for _ in 0..20 {
        let seen = one.reader.backlog(EntryId::MIN, 9).await.expect("backlog");
        let failures: Vec<_> = seen.entries.iter().map(|entry| entry.failures).collect();
        assert_eq!(failures, [0, 2]);
    }
    let claimed = two.writer.claim(&ids, Duration::ZERO).await.expect("claim");
    let told: Vec<_> = claimed
        .entries
        .iter()
        .map(|entry| (entry.failures, entry.deliveries >= 20))
        .collect();
    assert_eq!(told, [(0, true), (2, true)]);
    for id in ids {
        let row = bench.admin.pending_entry(0, id).await.expect("pending");
        assert!(row.expect("it is pending").deliveries >= 20);
    }
}

/// XAUTOCLAIM drops ids whose payload is gone from the pending list and names them once; whoever does not look loses them.
pub(crate) async fn hole_19_deleted_entries_are_booked_before_a_sweep_forgets_them(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 6).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    bench.meddler.del(SOURCE, &ids[1..3]).await;
    let mut two = bench.hands(0, "two").await;
    let mut lost = Vec::new();
    let mut after = EntryId::MIN;
    loop {
        let batch = two.writer.sweep(Duration::ZERO, after, 2).await;
        let batch = batch.expect("sweep");
        lost.extend(batch.lost);
        match batch.next {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(lost, ids[1..3]);
    assert_eq!(bench.ledger().await, "accepted 6, lost 2, pending 4");
    let rows = bench.admin.dead(EntryId::MAX, 9).await.expect("dead");
    assert_eq!(rows.len(), 2, "a row for each: {rows:?}");
    assert!(rows.iter().all(|row| !row.counts), "{rows:?}");
}
