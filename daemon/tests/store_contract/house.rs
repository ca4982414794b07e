//! Operators' actions, trimming, lists and figures.

use std::time::Duration;

use bytes::Bytes;
use pipelined::record::{EntryId, FIELD_REDRIVE};
use pipelined::store::{Code, Fate, Lag, PendingQuery, Swept};

use super::harness::*;

const HOUR: Duration = Duration::from_secs(3_600);
const NEVER: EntryId = EntryId {
    ms: u64::MAX,
    seq: 1,
};

pub(crate) async fn a_discarded_entry_is_acknowledged_unapplied(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle(ids[0], counted()), settle(ids[1], failed(1))])
        .await;
    let fates = bench
        .admin
        .discard(0, &[ids[0], ids[1], NEVER])
        .await
        .expect("discard");
    assert_eq!(fates, [Fate::AlreadyDone, Fate::Done, Fate::NotFound]);
    assert_eq!(
        bench.ledger().await,
        "accepted 3, applied 1, discarded 1, pending 1"
    );
    assert_eq!(
        one.repeat(vec![settle(ids[1], counted())]).await,
        [(0, Code::Superseded)]
    );
    assert_eq!(bench.total().await, 1);
}

pub(crate) async fn an_entry_killed_by_hand_becomes_a_dead_letter(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle(ids[0], counted()), settle(ids[1], failed(1))])
        .await;
    let fates = bench
        .admin
        .kill(0, &[ids[0], ids[1], NEVER], "it blocks the rest")
        .await
        .expect("kill");
    assert_eq!(fates, [Fate::AlreadyDone, Fate::Done, Fate::NotFound]);
    assert_eq!(
        bench.ledger().await,
        "accepted 3, applied 1, dead 1, pending 1"
    );
    let row = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters")
        .remove(0);
    assert_eq!(
        (&row.reason[..], &row.error[..]),
        ("by_operator", "it blocks the rest")
    );
    assert_eq!(
        (row.origin_id, row.tries, row.first_ms, row.counts),
        (ids[1], 2, 7, true)
    );
    assert_eq!(row.fields, event(1));
}

pub(crate) async fn an_operator_finds_a_trimmed_entry_lost(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let ids = bench.hands(0, "one").await.read_ids(9).await;
    bench.meddler.trim_to(SOURCE, 0).await;
    assert_eq!(
        bench.admin.kill(0, &ids[..1], "why").await,
        Ok(vec![Fate::Trimmed])
    );
    assert_eq!(
        bench.admin.discard(0, &ids[1..]).await,
        Ok(vec![Fate::Trimmed])
    );
    assert_eq!(bench.ledger().await, "accepted 2, lost 2");
}

pub(crate) async fn a_released_entry_is_swept_at_once(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let ids = one.read_ids(9).await;
    let not_before_ms = bench.now_ms().await + 86_400_000;
    one.commit(
        ids.iter()
            .map(|id| settle(*id, failed(not_before_ms)))
            .collect(),
    )
    .await;
    let fates = bench
        .admin
        .release(0, &[ids[1], NEVER])
        .await
        .expect("release");
    // Whether an id that is not pending was ever there costs another look, which a store may spare itself.
    assert!(
        fates[0] == Fate::Done && fates[1] != Fate::Done,
        "{fates:?}"
    );
    let swept = two
        .writer
        .sweep(Duration::ZERO, EntryId::MIN, 9)
        .await
        .expect("sweep");
    assert_eq!(
        (swept.entries.len(), swept.entries[0].record.id),
        (1, ids[1])
    );
    assert_eq!(
        (swept.entries[0].failures, swept.entries[0].not_before_ms),
        (2, 0)
    );
}

pub(crate) async fn a_redriven_entry_is_applied_and_accepted_only_once(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![
        settle_event(ids[0], 0, dead(0)),
        settle_event(ids[1], 1, counted()),
    ])
    .await;
    let row = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters")
        .remove(0);
    assert_eq!(
        bench.admin.redrive(&[row.id, row.id, NEVER]).await,
        Ok(vec![Fate::Done, Fate::AlreadyDone, Fate::NotFound])
    );
    assert_eq!(bench.ledger().await, "accepted 2, applied 1, undelivered 1");
    let mut expected = event(0);
    expected.push((Bytes::from_static(FIELD_REDRIVE), row.id.to_string().into()));
    let again = one.read(9).await.remove(0).record;
    assert_eq!(again.fields, expected);
    let kept = bench
        .admin
        .dead_entry(row.id)
        .await
        .expect("dead letter")
        .expect("it is kept");
    assert_eq!(kept.redriven, Some(again.id));
    // It is no duplicate of its own first life, and dies and comes back as often as it likes.
    assert_eq!(
        one.commit(vec![settle_event(again.id, 0, dead(0))]).await,
        []
    );
    let row = bench
        .admin
        .dead(EntryId::MAX, 1)
        .await
        .expect("dead letters")
        .remove(0);
    bench.admin.redrive(&[row.id]).await.expect("redrive");
    let again = one.read(9).await.remove(0).record;
    assert_eq!(
        one.commit(vec![settle_event(again.id, 0, counted())]).await,
        []
    );
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 2, applied 2".into(), 2)
    );
}

pub(crate) async fn after_a_redrive_the_same_event_from_outside_is_a_duplicate(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle_event(ids[0], 0, dead(0))]).await;
    let row = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters")
        .remove(0);
    bench.admin.redrive(&[row.id]).await.expect("redrive");
    bench.add(0, 1).await;
    let ids = one.read_ids(9).await;
    let batch = ids
        .iter()
        .map(|id| settle_event(*id, 0, counted()))
        .collect();
    assert_eq!(one.commit(batch).await, [(1, Code::Duplicate)]);
    assert_eq!(
        bench.ledger().await,
        "accepted 2, applied 1, deduplicated 1"
    );
}

pub(crate) async fn a_trimmed_entry_cannot_be_redriven(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    bench.meddler.trim_to(SOURCE, 0).await;
    one.reader.backlog(EntryId::MIN, 9).await.expect("backlog");
    let row = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters")
        .remove(0);
    assert_eq!(
        bench.admin.redrive(&[row.id]).await,
        Ok(vec![Fate::Trimmed])
    );
    assert_eq!(bench.ledger().await, "accepted 1, lost 1");
}

pub(crate) async fn purging_deletes_letters_and_leaves_the_ledger(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 2).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle(ids[0], dead(0)), settle(ids[1], dead(1))])
        .await;
    let rows = bench
        .admin
        .dead(EntryId::MAX, 9)
        .await
        .expect("dead letters");
    assert_eq!(
        bench.admin.purge(&[rows[0].id, rows[0].id]).await,
        Ok(vec![Fate::Done, Fate::NotFound])
    );
    assert_eq!(
        bench
            .admin
            .dead(EntryId::MAX, 9)
            .await
            .expect("dead letters"),
        rows[1..]
    );
    assert_eq!(bench.ledger().await, "accepted 2, dead 2");
}

pub(crate) async fn dead_letters_come_newest_first_in_pages(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 5).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(
        (0..)
            .zip(&ids)
            .map(|(n, id)| settle(*id, dead(n)))
            .collect(),
    )
    .await;
    let (mut found, mut before) = (Vec::new(), EntryId::MAX);
    loop {
        let page = bench.admin.dead(before, 2).await.expect("dead letters");
        let Some(last) = page.last() else { break };
        before = last.id;
        found.extend(page.iter().map(|row| row.origin_id));
    }
    assert_eq!(found, ids.iter().rev().copied().collect::<Vec<_>>());
}

pub(crate) async fn entries_trimmed_unread_are_booked_as_lost_once(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 10).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(2).await;
    one.commit(ids.iter().map(|id| settle(*id, counted())).collect())
        .await;
    bench.meddler.trim_to(SOURCE, 3).await;
    let depth = bench.admin.depth().await.expect("depth");
    assert_eq!(depth.stages[0].ledger.undelivered, 3);
    let swept = bench
        .admin
        .janitor(HOUR, Duration::ZERO)
        .await
        .expect("janitor");
    assert_eq!(swept.lost_unread, 5);
    assert_eq!(
        bench.ledger().await,
        "accepted 10, applied 2, lost 5, undelivered 3"
    );
    assert_eq!(
        bench.admin.janitor(HOUR, Duration::ZERO).await,
        Ok(Swept::default())
    );
    assert_eq!(one.count_all().await, 3);
    assert_eq!(
        bench.admin.janitor(HOUR, Duration::ZERO).await,
        Ok(Swept::default())
    );
    assert_eq!(bench.ledger().await, "accepted 10, applied 5, lost 5");
}

pub(crate) async fn entries_trimmed_unread_are_lost_even_if_the_rest_was_read_first(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 10).await;
    let mut one = bench.hands(0, "one").await;
    bench.meddler.trim_to(SOURCE, 3).await;
    assert_eq!(one.count_all().await, 3);
    bench
        .admin
        .janitor(HOUR, Duration::ZERO)
        .await
        .expect("janitor");
    assert_eq!(bench.ledger().await, "accepted 10, applied 3, lost 7");
}

pub(crate) async fn entries_deleted_unread_make_the_lag_an_estimate(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 6).await;
    let mut one = bench.hands(0, "one").await;
    one.read(1).await;
    bench.meddler.del(SOURCE, &ids[3..4]).await;
    let stage = bench.admin.depth().await.expect("depth").stages.remove(0);
    assert!(
        matches!(stage.lag, Lag::Estimate(_)) && stage.ledger.estimated,
        "{stage:?}"
    );
    assert_eq!(stage.ledger.unaccounted(), 0);
    bench
        .admin
        .janitor(HOUR, Duration::ZERO)
        .await
        .expect("janitor");
    assert_eq!(
        bench.ledger().await,
        "accepted 6, lost 1, pending 1, undelivered 4"
    );
}

pub(crate) async fn young_dead_letters_are_kept(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle(ids[0], dead(0))]).await;
    bench.admin.janitor(HOUR, HOUR).await.expect("janitor");
    assert_eq!(
        bench
            .admin
            .dead(EntryId::MAX, 9)
            .await
            .expect("dead letters")
            .len(),
        1
    );
    assert_eq!(bench.ledger().await, "accepted 1, dead 1");
}

pub(crate) async fn pending_entries_are_listed_by_holder_age_and_page(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 4).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let mut ids = one.read_ids(2).await;
    bench.meddler.age(SOURCE, GROUP, 2 * HOUR).await;
    ids.extend(two.read_ids(2).await);
    bench.meddler.del(SOURCE, &ids[1..2]).await;
    let all = PendingQuery {
        n_max: 9,
        ..PendingQuery::default()
    };
    let cases = [
        ("all", all.clone(), vec![0, 1, 2, 3]),
        (
            "after",
            PendingQuery {
                after: ids[1],
                ..all.clone()
            },
            vec![2, 3],
        ),
        (
            "of one",
            PendingQuery {
                consumer: Some("two".into()),
                ..all.clone()
            },
            vec![2, 3],
        ),
        (
            "of nobody",
            PendingQuery {
                consumer: Some("nobody".into()),
                ..all.clone()
            },
            vec![],
        ),
        (
            "a page",
            PendingQuery {
                n_max: 3,
                ..all.clone()
            },
            vec![0, 1, 2],
        ),
    ];
    for (desc, query, expected) in cases {
        let page = bench.admin.pending(0, &query).await.expect("pending");
        let found: Vec<EntryId> = page.rows.iter().map(|row| row.id).collect();
        assert_eq!(
            found,
            expected.iter().map(|&i| ids[i]).collect::<Vec<_>>(),
            "{desc}"
        );
        let has_more = found.len() == query.n_max;
        assert_eq!(
            page.next,
            has_more.then(|| ids[expected.len() - 1]),
            "{desc}"
        );
        assert!(page.rows.iter().all(|row| row.fields.is_none()), "{desc}");
    }
    let old = bench
        .admin
        .pending(
            0,
            &PendingQuery {
                min_idle: HOUR,
                ..all.clone()
            },
        )
        .await
        .expect("pending");
    assert_eq!(old.rows[0].id, ids[0]);
    assert!(
        old.rows
            .iter()
            .all(|row| row.id < ids[2] && row.idle_ms >= 3_600_000)
    );
    let rows = bench
        .admin
        .pending(
            0,
            &PendingQuery {
                fields: true,
                ..all
            },
        )
        .await
        .expect("pending")
        .rows;
    assert_eq!(
        (rows[0].fields.clone(), rows[0].size),
        (Some(event(0)), Some(8 + 16 + 5 + 1))
    );
    assert_eq!((rows[1].fields.clone(), rows[1].size), (None, None));
    let shown = bench
        .admin
        .pending_entry(0, ids[0])
        .await
        .expect("pending")
        .expect("it is pending");
    assert_eq!((shown.fields, shown.deliveries), (Some(event(0)), 1));
    assert_eq!(bench.admin.pending_entry(0, NEVER).await, Ok(None));
}

pub(crate) async fn the_depth_tells_where_a_stage_stands(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 5).await;
    bench.hands(0, "one").await.read(2).await;
    bench.meddler.create_group(SOURCE, "tool", ids[0]).await;
    bench.meddler.read(SOURCE, "tool", "t", 1).await;
    let depth = bench.admin.depth().await.expect("depth");
    let stage = &depth.stages[0];
    assert_eq!(
        (stage.present, stage.length, stage.consumers, stage.pending),
        (true, 5, 1, 2)
    );
    assert_eq!(
        (stage.oldest_pending, stage.first_undelivered),
        (Some(ids[0]), Some(ids[2]))
    );
    assert_eq!(
        (stage.last_delivered, stage.last_id, stage.lag),
        (ids[1], ids[4], Lag::Known(3))
    );
    assert_eq!(stage.owner, None, "it is shared");
    let foreign = &depth.foreign[0];
    assert_eq!((&foreign.stream[..], &foreign.group[..]), (SOURCE, "tool"));
    assert_eq!(
        (foreign.pending, foreign.last_delivered, foreign.consumers),
        (1, ids[1], 1)
    );
    assert_eq!(depth.foreign.len(), 1);
}

pub(crate) async fn peeking_consumes_nothing(backend: &dyn Backend) {
    let bench = Bench::new(backend, chain()).await;
    let ids = bench.add(0, 3).await;
    let seen = bench.admin.peek(0, ids[0], 1).await.expect("peek");
    assert_eq!(
        (seen.len(), seen[0].id, &seen[0].fields),
        (1, ids[1], &event(1))
    );
    assert_eq!(bench.admin.peek(1, EntryId::MIN, 9).await, Ok(vec![]));
    assert_eq!(bench.ledger().await, "accepted 3, undelivered 3");
}

pub(crate) async fn refused_events_are_outside_the_sum(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.admin.book_rejected(3).await.expect("book");
    bench.admin.book_rejected(2).await.expect("book");
    assert_eq!(bench.ledger().await, "rejected 5");
}

pub(crate) async fn daemons_know_of_each_other(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    assert_eq!(bench.admin.beat("a", HOUR).await, Ok(vec!["a".to_owned()]));
    let mut both = bench.admin.beat("b", HOUR).await.expect("beat");
    both.sort();
    assert_eq!(both, ["a", "b"]);
    bench.admin.leave("a").await.expect("leave");
    assert_eq!(bench.admin.beat("b", HOUR).await, Ok(vec!["b".to_owned()]));
}
