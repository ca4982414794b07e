//! Groups set back, groups and streams deleted, everything flushed, an earlier instant restored.

use std::time::Duration;

use pipelined::record::EntryId;
use pipelined::store::{Code, Mended, StoreError};

use super::harness::*;

fn told(mended: &[Mended]) -> Vec<(&'static str, &str)> {
    mended
        .iter()
        .map(|m| (m.what, m.stage.as_deref().unwrap_or("")))
        .collect()
}

pub(crate) async fn the_first_start_creates_groups_and_the_second_nothing(backend: &dyn Backend) {
    let store = backend.open(chain()).await;
    let first = store.admin().prepare().await.expect("prepare");
    assert_eq!(
        told(&first),
        [("group.created", "enrich"), ("group.created", "count")]
    );
    assert_eq!(store.admin().prepare().await, Ok(vec![]));
    let depth = store.admin().depth().await.expect("depth");
    assert!(depth.stages.iter().all(|stage| stage.present));
}

pub(crate) async fn entries_added_before_the_first_start_are_read(backend: &dyn Backend) {
    for n in 0..3 {
        backend.meddler().add(SOURCE, event(n)).await;
    }
    let bench = Bench::new(backend, counting()).await;
    assert_eq!(bench.ledger().await, "accepted 3, undelivered 3");
    assert_eq!(bench.hands(0, "one").await.count_all().await, 3);
    assert_eq!(bench.ledger().await, "accepted 3, applied 3");
}

pub(crate) async fn of_a_group_that_was_there_before_the_open_entries_count(backend: &dyn Backend) {
    let meddler = backend.meddler();
    meddler.create_group(SOURCE, GROUP, EntryId::MIN).await;
    for n in 0..5 {
        meddler.add(SOURCE, event(n)).await;
    }
    let read = meddler.read(SOURCE, GROUP, "before us", 3).await;
    meddler.ack(SOURCE, GROUP, &read[..2]).await;
    let bench = Bench::new(backend, counting()).await;
    assert_eq!(bench.ledger().await, "accepted 3, pending 1, undelivered 2");
    let mut one = bench.hands(0, "one").await;
    assert_eq!(one.count_all().await, 2);
    let swept = one
        .writer
        .sweep(Duration::ZERO, EntryId::MIN, 9)
        .await
        .expect("sweep");
    one.repeat(vec![settle(swept.entries[0].record.id, counted())])
        .await;
    assert_eq!(bench.ledger().await, "accepted 3, applied 3");
}

pub(crate) async fn a_stream_of_another_pipeline_is_refused(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let mut layout = counting();
    layout.pipeline = "other".into();
    let other = backend.open(layout).await;
    let answer = other.admin().prepare().await;
    assert!(
        matches!(&answer, Err(StoreError::Foreign(text)) if text.contains("shop")),
        "{answer:?}"
    );
    assert_eq!(bench.admin.prepare().await, Ok(vec![]));
}

pub(crate) async fn a_commit_from_before_a_reset_does_not_hide_what_comes_again(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 5).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let ids = one.read_ids(5).await;
    bench.meddler.destroy_group(SOURCE, GROUP).await;
    bench.admin.prepare().await.expect("prepare");
    // Only the first has come again when the old batch is committed.
    assert_eq!(two.read_ids(1).await, ids[..1]);
    let old = ids.iter().map(|id| settle(*id, counted())).collect();
    let missing: Vec<_> = (1..5).map(|i| (i, Code::NotPending)).collect();
    assert_eq!(one.commit(old).await, missing);
    assert_eq!(two.count_all().await, 4);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 5, applied 5".into(), 5)
    );
}

pub(crate) async fn entries_unfinished_before_a_reset_are_applied_after_it(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 40).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(40).await;
    one.commit(vec![settle(ids[39], counted())]).await;
    bench.meddler.destroy_group(SOURCE, GROUP).await;
    bench.admin.prepare().await.expect("prepare");
    // The first stays pending and holds the mark back; so many commits of one entry that a store folds what it remembers,
    // while 30 to 38 have not come again yet.
    assert_eq!(one.read_ids(30).await, ids[..30]);
    for id in &ids[1..25] {
        assert_eq!(one.commit(vec![settle(*id, counted())]).await, []);
    }
    assert_eq!(one.count_all().await, 9);
    let rest = [&ids[..1], &ids[25..30]].concat();
    let rest = rest.iter().map(|id| settle(*id, counted())).collect();
    assert_eq!(one.commit(rest).await, []);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 40, applied 40".into(), 40)
    );
}

pub(crate) async fn prepare_moves_a_group_on_that_was_set_back(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    assert_eq!(one.count_all().await, 3);
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    let mended = bench.admin.prepare().await.expect("prepare");
    assert_eq!(told(&mended), [("group.rewound", "count")]);
    assert_eq!(one.read_ids(9).await, []);
    bench.add(3, 4).await;
    assert_eq!(one.count_all().await, 1);
    assert_eq!(bench.ledger().await, "accepted 4, applied 4");
}

pub(crate) async fn a_group_destroyed_when_all_was_settled_delivers_nothing_again(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 4).await;
    let mut one = bench.hands(0, "one").await;
    assert_eq!(one.count_all().await, 4);
    bench.meddler.destroy_group(SOURCE, GROUP).await;
    bench.admin.prepare().await.expect("prepare");
    assert_eq!(bench.ledger().await, "accepted 4, applied 4");
    assert_eq!(one.read_ids(9).await, []);
}

pub(crate) async fn a_reader_that_waits_is_told_that_its_stream_is_gone(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let mut one = bench.hands(0, "one").await;
    let delete_later = async {
        tokio::task::yield_now().await;
        bench.meddler.delete_stream(SOURCE).await;
    };
    let (read, ()) =
        within(async { tokio::join!(one.reader.next(9, DEADLINE * 2), delete_later) }).await;
    assert!(matches!(read, Err(StoreError::GroupGone(_))), "{read:?}");
}

pub(crate) async fn a_deleted_source_is_noticed_and_the_ledger_goes_on(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 5).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(3).await;
    one.commit(ids[..2].iter().map(|id| settle(*id, counted())).collect())
        .await;
    bench
        .admin
        .janitor(Duration::from_secs(3_600), Duration::ZERO)
        .await
        .expect("janitor");
    bench.meddler.delete_stream(SOURCE).await;
    bench.add(5, 7).await;
    let mended = bench.admin.prepare().await.expect("prepare");
    assert_eq!(
        told(&mended),
        [("stream.recreated", "count"), ("group.created", "count")]
    );
    assert_eq!(
        bench.ledger().await,
        "accepted 7, applied 2, lost 3, undelivered 2"
    );
    assert_eq!(one.count_all().await, 2);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 7, applied 4, lost 3".into(), 4)
    );
    assert_eq!(bench.admin.prepare().await, Ok(vec![]));
}

pub(crate) async fn a_deleted_stream_between_stages_is_noticed(backend: &dyn Backend) {
    let bench = Bench::new(backend, chain()).await;
    bench.add(0, 3).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let ids = one.read_ids(9).await;
    one.commit(
        ids.iter()
            .map(|id| settle(*id, emits(vec![event(0)])))
            .collect(),
    )
    .await;
    let first = two.read_ids(1).await;
    two.commit(vec![settle(first[0], counted())]).await;
    bench.meddler.delete_stream(BETWEEN).await;
    let mended = bench.admin.prepare().await.expect("prepare");
    assert_eq!(
        told(&mended),
        [("stream.recreated", "count"), ("group.created", "count")]
    );
    assert_eq!(bench.ledger().await, "accepted 3, applied 1, lost 2");
    bench.add(3, 4).await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle(ids[0], emits(vec![event(3)]))])
        .await;
    assert_eq!(two.count_all().await, 1);
    assert_eq!(bench.ledger().await, "accepted 4, applied 2, lost 2");
}

pub(crate) async fn a_stream_between_stages_deleted_before_anything_was_worked_is_noticed(
    backend: &dyn Backend,
) {
    for grows_again in [false, true] {
        let bench = Bench::new(backend, chain()).await;
        bench.meddler.flush().await;
        bench.admin.prepare().await.expect("prepare");
        bench.add(0, 4).await;
        let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
        let ids = one.read_ids(9).await;
        let hop = |id: EntryId| settle(id, emits(vec![event(0)]));
        one.commit(ids[..3].iter().map(|id| hop(*id)).collect())
            .await;
        bench.meddler.delete_stream(BETWEEN).await;
        if grows_again {
            one.commit(vec![hop(ids[3])]).await;
        }
        let mended = bench.admin.prepare().await.expect("prepare");
        assert_eq!(
            told(&mended),
            [("stream.recreated", "count"), ("group.created", "count")]
        );
        if !grows_again {
            one.commit(vec![hop(ids[3])]).await;
        }
        assert_eq!(two.count_all().await, 1, "what came after is there");
        assert_eq!(bench.ledger().await, "accepted 4, applied 1, lost 3");
    }
}

pub(crate) async fn after_a_flush_everything_begins_anew(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    one.count_all().await;
    bench.meddler.flush().await;
    let mended = bench.admin.prepare().await.expect("prepare");
    assert_eq!(told(&mended), [("group.created", "count")]);
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        (String::new(), 0)
    );
    bench.add(0, 2).await;
    assert_eq!(one.count_all().await, 2);
    assert_eq!(bench.ledger().await, "accepted 2, applied 2");
}

pub(crate) async fn after_a_roll_back_effects_and_acknowledgements_agree(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 4).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(4).await;
    one.commit(ids[..2].iter().map(|id| settle(*id, counted())).collect())
        .await;
    assert!(
        bench.meddler.remember().await,
        "this store cannot be rolled back"
    );
    one.commit(ids[2..].iter().map(|id| settle(*id, counted())).collect())
        .await;
    assert_eq!(bench.total().await, 4);
    bench.meddler.roll_back().await;
    bench.healed().await;
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 2, pending 2".into(), 2)
    );
    let mut one = bench.hands(0, "one").await;
    let backlog = one.reader.backlog(EntryId::MIN, 9).await.expect("backlog");
    let again: Vec<EntryId> = backlog
        .entries
        .iter()
        .map(|entry| entry.record.id)
        .collect();
    assert_eq!(again, ids[2..]);
    assert_eq!(
        one.commit(again.iter().map(|id| settle(*id, counted())).collect())
            .await,
        []
    );
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 4, applied 4".into(), 4)
    );
}
