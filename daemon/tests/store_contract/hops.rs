//! From stage to stage: children, fan-out, several readers, and the ledger over all of it.

use bytes::Bytes;
use pipelined::record::{EntryId, FIELD_ORIGIN, FIELD_REDRIVE_FOR};
use pipelined::store::{Fate, Layout, Outcome};

use super::harness::*;

pub(crate) async fn children_reach_the_next_stage_with_their_origin(backend: &dyn Backend) {
    let bench = Bench::new(backend, chain()).await;
    let ids = bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    one.read(9).await;
    let mut with_origin = event(1);
    with_origin.insert(0, (Bytes::from_static(FIELD_ORIGIN), "5-5".into()));
    let batch = vec![
        settle(ids[0], emits(vec![event(0)])),
        settle(ids[1], emits(vec![with_origin.clone()])),
    ];
    one.commit(batch).await;
    let mut stamped = event(0);
    stamped.push((Bytes::from_static(FIELD_ORIGIN), ids[0].to_string().into()));
    let arrived: Vec<_> = two
        .read(9)
        .await
        .into_iter()
        .map(|entry| entry.record.fields)
        .collect();
    assert_eq!(arrived, [stamped, with_origin]);
}

pub(crate) async fn only_the_first_hop_notes_the_origin(backend: &dyn Backend) {
    let mut layout = chain();
    layout.stages[1].output = Some("{events}:count".into());
    layout.stages[1].output_readers = 1;
    layout.stages.push(stage("last", "{events}:count", "last"));
    let bench = Bench::new(backend, layout).await;
    bench.add(0, 1).await;
    for hop in 0..2 {
        let mut hands = bench.hands(hop, "one").await;
        let ids = hands.read_ids(9).await;
        hands
            .commit(vec![settle(ids[0], emits(vec![event(0)]))])
            .await;
    }
    let arrived = bench.hands(2, "one").await.read(9).await;
    assert_eq!(arrived[0].record.fields, event(0));
}

pub(crate) async fn an_entry_is_applied_at_the_last_stage(backend: &dyn Backend) {
    let bench = Bench::new(backend, chain()).await;
    bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let ids = one.read_ids(1).await;
    one.commit(vec![settle(ids[0], emits(vec![event(0)]))])
        .await;
    assert_eq!(bench.ledger().await, "accepted 2, undelivered 2");
    assert_eq!(
        bench.stage_ledger(0).await,
        "accepted 2, applied 1, undelivered 1"
    );
    assert_eq!(bench.stage_ledger(1).await, "accepted 1, undelivered 1");
    assert_eq!(two.count_all().await, 1);
    assert_eq!(bench.ledger().await, "accepted 2, applied 1, undelivered 1");
    assert_eq!(bench.stage_ledger(1).await, "accepted 1, applied 1");
}

pub(crate) async fn an_output_without_children_is_done_there(backend: &dyn Backend) {
    let bench = Bench::new(backend, chain()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![
        settle(ids[0], counted()),
        settle(ids[1], Outcome::Filtered),
    ])
    .await;
    assert_eq!(bench.ledger().await, "accepted 2, applied 1, filtered 1");
}

pub(crate) async fn several_children_and_readers_are_spawned(backend: &dyn Backend) {
    let bench = Bench::new(backend, fan_out()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let batch = vec![
        settle(ids[0], emits(vec![event(0); 3])),
        settle(ids[1], emits(vec![event(1)])),
    ];
    one.commit(batch).await;
    // 4 children for 2 readers from 2 parents.
    assert_eq!(bench.ledger().await, "accepted 2, spawned 6, undelivered 8");
    bench.hands(1, "two").await.count_all().await;
    assert_eq!(
        bench.ledger().await,
        "accepted 2, spawned 6, applied 4, undelivered 4"
    );
    bench.hands(2, "three").await.count_all().await;
    assert_eq!(bench.ledger().await, "accepted 2, spawned 6, applied 8");
    for stage in 1..3 {
        assert_eq!(bench.stage_ledger(stage).await, "accepted 4, applied 4");
    }
}

pub(crate) async fn two_stages_on_the_source_both_see_every_entry(backend: &dyn Backend) {
    let bench = Bench::new(backend, two_readers()).await;
    bench.add(0, 3).await;
    assert_eq!(bench.ledger().await, "accepted 3, spawned 3, undelivered 6");
    bench.hands(0, "one").await.count_all().await;
    let mut two = bench.hands(1, "two").await;
    let ids = two.read_ids(9).await;
    two.commit(ids.iter().map(|id| settle(*id, Outcome::Late)).collect())
        .await;
    assert_eq!(
        bench.ledger().await,
        "accepted 3, spawned 3, applied 3, late 3"
    );
}

pub(crate) async fn an_entry_redriven_between_stages_does_not_pass_the_first_again(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, chain()).await;
    bench.add(0, 1).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let ids = one.read_ids(9).await;
    one.commit(vec![settle_event(ids[0], 0, emits(vec![event(0)]))])
        .await;
    let ids = two.read_ids(9).await;
    two.commit(vec![settle(ids[0], dead(0))]).await;
    assert_eq!(bench.ledger().await, "accepted 1, dead 1");
    let row = bench
        .admin
        .dead(pipelined::record::EntryId::MAX, 9)
        .await
        .expect("dead letters")
        .remove(0);
    assert_eq!(row.stage, "count");
    assert_eq!(bench.admin.redrive(&[row.id]).await, Ok(vec![Fate::Done]));
    assert_eq!(bench.ledger().await, "accepted 1, undelivered 1");
    assert_eq!(bench.stage_ledger(1).await, "accepted 1, undelivered 1");
    assert_eq!(one.read_ids(9).await, []);
    assert_eq!(two.count_all().await, 1);
    assert_eq!(bench.ledger().await, "accepted 1, applied 1");
}

pub(crate) async fn a_redriven_entry_is_spawned_for_the_other_readers(backend: &dyn Backend) {
    let bench = Bench::new(backend, two_readers()).await;
    bench.add(0, 1).await;
    bench.hands(0, "one").await.count_all().await;
    let mut two = bench.hands(1, "two").await;
    let ids = two.read_ids(9).await;
    two.commit(vec![settle(ids[0], dead(0))]).await;
    assert_eq!(
        bench.ledger().await,
        "accepted 1, spawned 1, applied 1, dead 1"
    );
    let row = bench
        .admin
        .dead(pipelined::record::EntryId::MAX, 9)
        .await
        .expect("dead letters")
        .remove(0);
    bench.admin.redrive(&[row.id]).await.expect("redrive");
    assert_eq!(
        bench.ledger().await,
        "accepted 1, spawned 2, applied 1, undelivered 2"
    );
    assert_eq!(bench.stage_ledger(1).await, "accepted 1, undelivered 1");
}

pub(crate) async fn a_redriven_entry_names_its_stage_where_others_read_the_stream(
    backend: &dyn Backend,
) {
    for layout in [two_readers(), counting()] {
        let is_shared = layout.stages.len() > 1;
        bench_of_names(backend, layout, is_shared).await;
        backend.meddler().flush().await;
    }
}

async fn bench_of_names(backend: &dyn Backend, layout: Layout, is_shared: bool) {
    let bench = Bench::new(backend, layout).await;
    bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    // Twice, so that what the first redrive wrote is not there twice.
    for _ in 0..2 {
        let ids = one.read_ids(9).await;
        one.commit(vec![settle(ids[0], dead(0))]).await;
        let rows = bench.admin.dead(EntryId::MAX, 9).await.expect("letters");
        bench.admin.redrive(&[rows[0].id]).await.expect("redrive");
        let records = bench.admin.peek(0, ids[0], 9).await.expect("peek");
        let names: Vec<_> = records[0]
            .fields
            .iter()
            .filter(|(name, _)| name == FIELD_REDRIVE_FOR)
            .map(|(_, stage)| stage.clone())
            .collect();
        let want: &[&str] = if is_shared { &["count"] } else { &[] };
        assert_eq!(names, want);
    }
}

pub(crate) async fn what_is_redriven_for_one_stage_is_no_duplicate_in_another(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, two_readers()).await;
    bench.add(0, 1).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let first = one.read_ids(9).await;
    one.commit(vec![settle_event(first[0], 7, dead(0))]).await;
    let rows = bench.admin.dead(EntryId::MAX, 9).await.expect("letters");
    bench.admin.redrive(&[rows[0].id]).await.expect("redrive");
    // Its first life comes to the other stage only now, and counts there.
    let both = two.read_ids(9).await;
    assert_eq!(both[0], first[0]);
    let late = settle_event(both[0], 7, Outcome::Late);
    assert_eq!(two.commit(vec![late]).await, []);
}
