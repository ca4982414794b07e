//! The id window: an entry is a duplicate if and only if its event id is known with another entry.

use std::time::Duration;

use pipelined::store::{Admission, Admitted, Code, Dedupe, Outcome};

use super::harness::*;

fn admission(n: u32) -> Admission {
    Admission {
        event_id: Some(event_id(n)),
        fields: event(n),
    }
}

pub(crate) async fn the_second_entry_with_a_known_id_is_a_duplicate(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(7, 8).await;
    let mut one = bench.hands(0, "one").await;
    let first = one.read_ids(9).await[0];
    one.commit(vec![settle_event(first, 7, counted())]).await;
    bench.add(7, 9).await;
    let ids = one.read_ids(9).await;
    let batch = vec![
        settle_event(ids[0], 7, counted()),
        settle_event(ids[1], 8, counted()),
    ];
    assert_eq!(one.commit(batch).await, [(0, Code::Duplicate)]);
    assert_eq!(
        bench.ledger().await,
        "accepted 3, applied 2, deduplicated 1"
    );
    assert_eq!(bench.total().await, 2);
}

pub(crate) async fn of_two_in_one_batch_the_first_wins(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let batch = vec![
        settle_event(ids[0], 5, adds(&[("total_value", 1)])),
        settle_event(ids[1], 5, adds(&[("total_value", 10)])),
        settle_event(ids[2], 5, dead(5)),
    ];
    assert_eq!(
        one.commit(batch).await,
        [(1, Code::Duplicate), (2, Code::Duplicate)]
    );
    assert_eq!(
        bench.admin.aggregates(0).await.expect("totals").value,
        Some(1)
    );
    assert_eq!(
        bench.ledger().await,
        "accepted 3, applied 1, deduplicated 2"
    );
}

pub(crate) async fn every_settled_outcome_makes_the_id_known(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let mut one = bench.hands(0, "one").await;
    let outcomes = [
        ("applied", counted()),
        ("filtered", Outcome::Filtered),
        ("late", Outcome::Late),
        ("dead", dead(0)),
    ];
    for (n, (desc, outcome)) in (0..).zip(outcomes) {
        bench.add(n, n + 1).await;
        bench.add(n, n + 1).await;
        let ids = one.read_ids(9).await;
        assert_eq!(
            one.commit(vec![settle_event(ids[0], n, outcome)]).await,
            [],
            "{desc}"
        );
        let again = one.commit(vec![settle_event(ids[1], n, counted())]).await;
        assert_eq!(again, [(0, Code::Duplicate)], "{desc}");
    }
}

pub(crate) async fn a_failed_try_does_not_make_the_id_known(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 1).await;
    bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(vec![settle_event(ids[0], 0, failed(1))]).await;
    // The second comes first now; then the first is the duplicate.
    assert_eq!(
        one.commit(vec![settle_event(ids[1], 0, counted())]).await,
        []
    );
    assert_eq!(
        one.repeat(vec![settle_event(ids[0], 0, counted())]).await,
        [(0, Code::Duplicate)]
    );
    assert_eq!(
        bench.ledger().await,
        "accepted 2, applied 1, deduplicated 1"
    );
}

pub(crate) async fn an_entry_from_our_door_is_not_its_own_duplicate(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench
        .admin
        .admit(&[admission(3)], true)
        .await
        .expect("admit");
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    assert_eq!(
        one.commit(vec![settle_event(ids[0], 3, counted())]).await,
        []
    );
    assert_eq!(bench.ledger().await, "accepted 1, applied 1");
}

pub(crate) async fn a_door_answers_a_known_id_with_its_first_entry(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let first = bench
        .admin
        .admit(&[admission(1), admission(2), admission(1)], true)
        .await
        .expect("admit");
    let [
        Admitted::Added(one),
        Admitted::Added(two),
        Admitted::Duplicate(again),
    ] = first[..]
    else {
        panic!("{first:?}");
    };
    assert_eq!(one, again);
    assert!(one < two);
    let second = bench
        .admin
        .admit(&[admission(2), admission(3)], true)
        .await
        .expect("admit");
    assert_eq!(second[0], Admitted::Duplicate(two));
    assert!(matches!(second[1], Admitted::Added(_)));
    assert_eq!(
        bench.ledger().await,
        "accepted 5, deduplicated 2, undelivered 3"
    );
}

pub(crate) async fn an_unchecked_door_adds_everything(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let events = [
        admission(1),
        admission(1),
        Admission {
            event_id: None,
            fields: event(1),
        },
    ];
    let admitted = bench.admin.admit(&events, false).await.expect("admit");
    assert!(
        admitted.iter().all(|a| matches!(a, Admitted::Added(_))),
        "{admitted:?}"
    );
    assert_eq!(bench.ledger().await, "accepted 3, undelivered 3");
    let peeked = bench
        .admin
        .peek(0, pipelined::record::EntryId::MIN, 9)
        .await
        .expect("peek");
    assert_eq!(peeked[0].fields, event(1));
}

pub(crate) async fn an_event_without_an_id_is_never_a_duplicate(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let without = Admission {
        event_id: None,
        fields: event(1),
    };
    bench
        .admin
        .admit(&[without.clone(), without], true)
        .await
        .expect("admit");
    let mut one = bench.hands(0, "one").await;
    assert_eq!(one.count_all().await, 2);
}

pub(crate) async fn old_ids_are_forgotten_by_number(backend: &dyn Backend) {
    let mut layout = counting();
    layout.dedupe = Some(Dedupe {
        window: Duration::from_secs(3_600),
        max_ids: 8,
    });
    let bench = Bench::new(backend, layout).await;
    let mut one = bench.hands(0, "one").await;
    for n in 0..12 {
        bench.add(n, n + 1).await;
        let id = one.read_ids(9).await[0];
        assert_eq!(one.commit(vec![settle_event(id, n, counted())]).await, []);
    }
    bench.add(11, 12).await;
    bench.add(0, 1).await;
    let ids = one.read_ids(9).await;
    let newest_and_oldest = vec![
        settle_event(ids[0], 11, counted()),
        settle_event(ids[1], 0, counted()),
    ];
    assert_eq!(one.commit(newest_and_oldest).await, [(0, Code::Duplicate)]);
}

pub(crate) async fn without_a_window_nothing_is_a_duplicate(backend: &dyn Backend) {
    let mut layout = counting();
    layout.dedupe = None;
    let bench = Bench::new(backend, layout).await;
    bench
        .admin
        .admit(&[admission(1), admission(1)], true)
        .await
        .expect("admit");
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let batch = ids
        .iter()
        .map(|id| settle_event(*id, 1, counted()))
        .collect();
    assert_eq!(one.commit(batch).await, []);
    assert_eq!(bench.ledger().await, "accepted 2, applied 2");
}
