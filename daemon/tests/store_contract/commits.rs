//! Reading and committing: what happens to an entry, once.

use std::time::Duration;

use bytes::Bytes;
use pipelined::effect::{Counter, Effects};
use pipelined::record::EntryId;
use pipelined::store::{DeadLetter, Outcome};

use super::harness::*;

pub(crate) async fn new_entries_are_delivered_once_and_in_order(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let added = bench.add(0, 5).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let mut read = one.read_ids(2).await;
    read.extend(two.read_ids(2).await);
    read.extend(one.read_ids(9).await);
    assert_eq!(read, added);
    assert_eq!(two.read_ids(9).await, []);
}

pub(crate) async fn entries_come_byte_for_byte(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let fields = vec![
        (
            Bytes::from_static(b"\xff\x00\r\n"),
            Bytes::from_static(b"\x1b]52;c;\x07"),
        ),
        ("".into(), "".into()),
        ("twice".into(), "1".into()),
        ("twice".into(), "2".into()),
    ];
    bench.meddler.add(SOURCE, fields.clone()).await;
    let read = bench.hands(0, "one").await.read(9).await;
    assert_eq!(read[0].record.fields, fields);
    assert_eq!(
        (read[0].failures, read[0].not_before_ms, read[0].first_ms),
        (0, 0, 0)
    );
}

pub(crate) async fn reading_returns_when_an_entry_comes(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let mut one = bench.hands(0, "one").await;
    let add_later = async {
        // The reader is polled first and waits by then; if it does not, the test still holds.
        tokio::task::yield_now().await;
        bench.add(0, 1).await
    };
    let (read, added) =
        within(async { tokio::join!(one.reader.next(9, DEADLINE), add_later) }).await;
    let read: Vec<EntryId> = read
        .expect("read")
        .entries
        .iter()
        .map(|entry| entry.record.id)
        .collect();
    assert_eq!(read, added);
}

pub(crate) async fn a_read_without_new_entries_is_empty(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let mut one = bench.hands(0, "one").await;
    for block in [Duration::ZERO, Duration::from_millis(20)] {
        let batch = within(one.reader.next(9, block)).await.expect("read");
        assert_eq!(batch, pipelined::store::Batch::default());
    }
}

pub(crate) async fn applied_entries_are_counted_and_no_longer_pending(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(2).await;
    assert_eq!(bench.ledger().await, "accepted 3, pending 2, undelivered 1");
    assert_eq!(
        one.commit(ids.iter().map(|id| settle(*id, counted())).collect())
            .await,
        []
    );
    assert_eq!(bench.ledger().await, "accepted 3, applied 2, undelivered 1");
    let depth = bench.admin.depth().await.expect("depth");
    assert_eq!(
        (depth.aggregated, depth.ledger.applied_in_aggregates),
        (2, 2)
    );
}

pub(crate) async fn counters_and_sessions_add_up_over_commits(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let effects = |product: &str, value: i64| {
        let count = |name: String, by| (Counter::Count(name.into()), by);
        let adds = vec![
            count("total_count".into(), 1),
            count("type:click:count".into(), 1),
            count(format!("product:{product}:count"), 1),
            count("total_value".into(), value),
            (Counter::Session("s1".into()), 1),
        ];
        Outcome::Apply(Effects {
            adds,
            ..Effects::default()
        })
    };
    let ids = one.read_ids(9).await;
    one.commit(vec![
        settle(ids[0], effects("tea", 250)),
        settle(ids[1], effects("milk", -50)),
    ])
    .await;
    one.commit(vec![settle(ids[2], effects("tea", 5))]).await;
    let totals = bench.admin.aggregates(1).await.expect("totals");
    assert_eq!(
        (totals.total, totals.value, totals.sessions),
        (3, Some(205), 1)
    );
    assert_eq!(totals.types, [("click".into(), 3)]);
    assert_eq!(
        (totals.products, totals.products_left),
        (vec![("tea".into(), 2)], 1)
    );
    assert!(totals.last_updated_ms > 0);
    assert_eq!(bench.admin.session(b"s1").await.expect("session"), Some(3));
    assert_eq!(bench.admin.session(b"s2").await.expect("session"), None);
}

pub(crate) async fn an_empty_store_has_no_totals(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    assert_eq!(
        bench.admin.aggregates(0).await.expect("totals"),
        pipelined::store::Aggregates::default()
    );
    assert_eq!(bench.ledger().await, "");
}

pub(crate) async fn entries_ended_by_an_operator_are_acknowledged_without_effects(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let outcomes = [Outcome::Filtered, Outcome::Late, dead(2)];
    one.commit(
        ids.iter()
            .zip(outcomes)
            .map(|(id, outcome)| settle(*id, outcome))
            .collect(),
    )
    .await;
    assert_eq!(
        bench.ledger().await,
        "accepted 3, filtered 1, late 1, dead 1"
    );
    assert_eq!(bench.total().await, 0);
}

pub(crate) async fn a_dead_letter_keeps_everything(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let id = bench.add(0, 1).await[0];
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    let letter = DeadLetter {
        cause: "0123456789abcdef".into(),
        reason: "parse_error".into(),
        error: "line 1:\n\"\u{1b}[31m\"".into(),
        tries: 3,
        first_ms: 1_600_000_000_000,
        fields: vec![
            (
                Bytes::from_static(b"\xfe\x00"),
                Bytes::from_static(b"\xff\r\n"),
            ),
            ("_stage".into(), "a field of the user's own".into()),
            ("same".into(), "1".into()),
            ("same".into(), "2".into()),
        ],
    };
    one.commit(vec![settle(id, Outcome::Dead(letter.clone()))])
        .await;
    let rows = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters");
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row.stage[..], &row.origin_stream[..], row.origin_id),
        ("count", SOURCE, id)
    );
    assert_eq!(
        (&row.cause, &row.reason, &row.error),
        (&letter.cause, &letter.reason, &letter.error)
    );
    assert_eq!(
        (row.tries, row.first_ms, row.redriven, row.counts),
        (3, letter.first_ms, None, true)
    );
    assert_eq!(row.fields, letter.fields);
    assert_eq!(
        bench.admin.dead_entry(row.id).await.expect("dead letter"),
        Some(row.clone())
    );
    assert_eq!(
        bench
            .admin
            .dead_entry(row.id.next())
            .await
            .expect("dead letter"),
        None
    );
    assert_eq!(bench.admin.depth().await.expect("depth").dead_length, 1);
}

pub(crate) async fn a_failed_try_stays_pending_with_its_back_off(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let id = bench.add(0, 1).await[0];
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    let not_before_ms = bench.now_ms().await + 86_400_000;
    assert_eq!(
        one.commit(vec![settle(id, failed(not_before_ms))]).await,
        []
    );
    assert_eq!(bench.ledger().await, "accepted 1, pending 1");
    let backlog = one
        .reader
        .backlog(EntryId::MIN, 9)
        .await
        .expect("backlog")
        .entries;
    let seen = &backlog[0];
    assert_eq!(
        (
            seen.record.id,
            seen.failures,
            seen.not_before_ms,
            seen.first_ms
        ),
        (id, 2, not_before_ms, 7)
    );
    let row = bench
        .admin
        .pending_entry(0, id)
        .await
        .expect("pending")
        .expect("it is pending");
    assert_eq!(
        (row.failures, row.not_before_ms, row.first_ms),
        (2, not_before_ms, 7)
    );
    assert_eq!(row.last_error.as_deref(), Some("lookup: refused"));
}

pub(crate) async fn settling_forgets_the_failed_tries(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let id = bench.add(0, 1).await[0];
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    one.commit(vec![settle(id, failed(1))]).await;
    assert_eq!(one.repeat(vec![settle(id, counted())]).await, []);
    // The same entry once more: nothing of its failed try is left.
    bench.meddler.set_group(SOURCE, GROUP, EntryId::MIN).await;
    one.read(9).await;
    let row = bench
        .admin
        .pending_entry(0, id)
        .await
        .expect("pending")
        .expect("it is pending");
    assert_eq!((row.failures, row.last_error), (0, None));
}
