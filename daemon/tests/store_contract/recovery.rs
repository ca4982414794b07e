//! What was delivered and not finished: backlog, sweep, claim, heartbeat, payloads that are gone.

use std::time::Duration;

use pipelined::record::EntryId;
use pipelined::store::{Batch, PendingQuery};

use super::harness::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn ids_of(batch: &Batch) -> Vec<EntryId> {
    batch.entries.iter().map(|entry| entry.record.id).collect()
}

pub(crate) async fn a_backlog_is_ones_own_and_comes_in_pages(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 6).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let mut own = one.read_ids(2).await;
    two.read(1).await;
    own.extend(one.read_ids(9).await);
    // Another process with the same consumer name finds them after a crash.
    let mut one = bench.hands(0, "one").await;
    let (mut found, mut after) = (Vec::new(), EntryId::MIN);
    loop {
        let page = one.reader.backlog(after, 2).await.expect("backlog");
        found.extend(ids_of(&page));
        assert!(page.entries.iter().all(|entry| entry.deliveries > 0));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(found, own);
    assert_eq!(
        bench
            .hands(0, "three")
            .await
            .reader
            .backlog(EntryId::MIN, 9)
            .await,
        Ok(Batch::default())
    );
}

pub(crate) async fn an_entry_trimmed_between_read_and_commit_is_applied(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    bench.meddler.trim_to(SOURCE, 0).await;
    let batch = ids.iter().map(|id| settle(*id, counted())).collect();
    assert_eq!(one.commit(batch).await, []);
    assert_eq!(bench.ledger().await, "accepted 2, applied 2");
}

pub(crate) async fn a_sweep_passes_over_entries_in_back_off(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 3).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    let now = bench.now_ms().await;
    one.commit(vec![
        settle(ids[0], failed(now + 86_400_000)),
        settle(ids[1], failed(now.saturating_sub(1))),
    ])
    .await;
    let swept = two
        .writer
        .sweep(Duration::ZERO, EntryId::MIN, 9)
        .await
        .expect("sweep");
    assert_eq!(ids_of(&swept), ids[1..]);
    assert_eq!(
        (swept.entries[0].failures, swept.entries[0].first_ms),
        (2, 7)
    );
    assert_eq!(swept.entries[1].failures, 0);
}

pub(crate) async fn a_sweep_goes_on_page_by_page(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 5).await;
    bench.hands(0, "one").await.read(9).await;
    let mut two = bench.hands(0, "two").await;
    let (mut found, mut after, mut n_pages) = (Vec::new(), EntryId::MIN, 0);
    loop {
        let page = two
            .writer
            .sweep(Duration::ZERO, after, 2)
            .await
            .expect("sweep");
        found.extend(ids_of(&page));
        n_pages += 1;
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!((found, n_pages), (ids, 3));
}

pub(crate) async fn a_claim_takes_exactly_these_whatever_their_back_off(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 3).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    let not_before_ms = bench.now_ms().await + 86_400_000;
    one.commit(vec![settle(ids[1], failed(not_before_ms))])
        .await;
    let young = two.writer.claim(&ids[1..], HOUR).await.expect("claim");
    assert_eq!(young, Batch::default());
    bench.meddler.age(SOURCE, GROUP, 2 * HOUR).await;
    let claimed = two.writer.claim(&ids[1..], HOUR).await.expect("claim");
    assert_eq!(ids_of(&claimed), ids[1..]);
    assert_eq!(
        (
            claimed.entries[0].failures,
            claimed.entries[0].not_before_ms
        ),
        (2, not_before_ms)
    );
    let held = bench
        .admin
        .pending(
            0,
            &PendingQuery {
                n_max: 9,
                ..PendingQuery::default()
            },
        )
        .await
        .expect("pending");
    let held: Vec<_> = held.rows.iter().map(|row| &row.consumer[..]).collect();
    assert_eq!(held, [b"one", b"two", b"two"]);
}

pub(crate) async fn a_claim_of_what_is_not_pending_answers_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    one.read(1).await;
    one.commit(vec![settle(ids[0], counted())]).await;
    let never = EntryId { ms: 1, seq: 1 };
    assert_eq!(
        one.writer
            .claim(&[ids[0], ids[1], never], Duration::ZERO)
            .await,
        Ok(Batch::default())
    );
    assert_eq!(
        one.writer.claim(&[], Duration::ZERO).await,
        Ok(Batch::default())
    );
}

pub(crate) async fn a_heartbeat_does_not_hide_a_payload_that_is_gone(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    bench.meddler.trim_to(SOURCE, 0).await;
    assert_eq!(one.writer.keep(&ids).await, Ok(ids.clone()));
    assert_eq!(
        one.reader
            .backlog(EntryId::MIN, 9)
            .await
            .expect("backlog")
            .lost,
        ids
    );
    assert_eq!(bench.ledger().await, "accepted 1, lost 1");
}

pub(crate) async fn entries_taken_by_a_foreign_reader_are_swept(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let taken = bench.meddler.read(SOURCE, GROUP, "some tool", 9).await;
    let mut one = bench.hands(0, "one").await;
    assert_eq!(one.read_ids(9).await, []);
    let swept = one
        .writer
        .sweep(Duration::ZERO, EntryId::MIN, 9)
        .await
        .expect("sweep");
    assert_eq!(ids_of(&swept), taken);
    assert_eq!(
        one.repeat(taken.iter().map(|id| settle(*id, counted())).collect())
            .await,
        []
    );
    assert_eq!(bench.ledger().await, "accepted 2, applied 2");
}
