//! A door's spool on its way into the store: once, whatever is sent again.

use pipelined::record::{EntryId, event_id};
use pipelined::store::{Admission, Admitted, SpoolPlace, StoreError};

use super::harness::*;

fn events(range: std::ops::Range<u32>) -> Vec<Admission> {
    range
        .map(|n| Admission {
            event_id: Some(event_id(format!("e{n}").as_bytes())),
            fields: event(n),
        })
        .collect()
}

fn at(first: u64) -> SpoolPlace {
    SpoolPlace { life: 7, first }
}

/// How many were added now, known by id, and known of the spool.
fn counts(answers: &[Option<Admitted>]) -> (usize, usize, usize) {
    let n = |wanted: fn(&Option<Admitted>) -> bool| answers.iter().filter(|a| wanted(a)).count();
    (
        n(|a| matches!(a, Some(Admitted::Added(_)))),
        n(|a| matches!(a, Some(Admitted::Duplicate(_)))),
        n(|a| a.is_none()),
    )
}

fn without_window() -> pipelined::store::Layout {
    let mut layout = counting();
    layout.dedupe = None;
    layout
}

pub(crate) async fn a_spools_events_are_added_once_with_the_window_off(backend: &dyn Backend) {
    let bench = Bench::new(backend, without_window()).await;
    let admin = &bench.admin;
    assert_eq!(admin.spool_position(7).await, Ok(0));
    let table = [
        ("the first", 1, 0..10, (10, 0, 0), 10),
        ("the same", 1, 0..10, (0, 0, 10), 10),
        ("cut otherwise, half of it known", 6, 5..15, (5, 0, 5), 15),
        ("an older one", 3, 2..4, (0, 0, 2), 15),
        ("behind damaged ones", 21, 20..30, (10, 0, 0), 30),
    ];
    for (desc, first, range, wanted, position) in table {
        let answers = admin.admit_spooled(at(first), &events(range)).await;
        assert_eq!(counts(&answers.expect(desc)), wanted, "{desc}");
        assert_eq!(admin.spool_position(7).await, Ok(position), "{desc}");
    }
    assert_eq!(bench.ledger().await, "accepted 25, undelivered 25");
    assert_eq!(admin.admit_spooled(at(31), &[]).await, Ok(vec![]));
}

pub(crate) async fn a_batch_of_a_spool_whose_answer_was_lost_is_known(backend: &dyn Backend) {
    let bench = Bench::new(backend, without_window()).await;
    // So that the server knows the script.
    let admin = &bench.admin;
    admin
        .admit_spooled(at(1), &events(0..1))
        .await
        .expect("one");
    assert!(bench.meddler.lose_reply().await);
    let lost = admin.admit_spooled(at(2), &events(1..9)).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    assert_eq!(admin.spool_position(7).await, Ok(9));
    let again = admin.admit_spooled(at(2), &events(1..9)).await;
    assert_eq!(counts(&again.expect("again")), (0, 0, 8));
    assert_eq!(bench.ledger().await, "accepted 9, undelivered 9");
}

pub(crate) async fn a_spools_events_are_checked_by_their_ids(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let admin = &bench.admin;
    // They were added, and the door did not hear it: then they came into the spool.
    admin.admit(&events(0..3), true).await.expect("admit");
    let answers = admin.admit_spooled(at(1), &events(0..5)).await;
    assert_eq!(counts(&answers.expect("spool")), (2, 3, 0));
    assert_eq!(
        bench.ledger().await,
        "accepted 8, deduplicated 3, undelivered 5"
    );
    let all = admin.peek(0, EntryId::MIN, 100).await.expect("peek");
    assert_eq!(all.len(), 5);
}

pub(crate) async fn spools_do_not_know_each_other_and_go_back_with_the_store(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, without_window()).await;
    let admin = &bench.admin;
    admin
        .admit_spooled(at(1), &events(0..5))
        .await
        .expect("one");
    let other = SpoolPlace { life: 8, first: 1 };
    let answers = admin.admit_spooled(other, &events(5..7)).await;
    assert_eq!(counts(&answers.expect("other")), (2, 0, 0));
    assert!(bench.meddler.remember().await);
    admin
        .admit_spooled(at(6), &events(7..9))
        .await
        .expect("two");
    bench.meddler.roll_back().await;
    let mut position = admin.spool_position(7).await;
    // The first question may meet the connection to the server that died.
    if position.is_err() {
        position = admin.spool_position(7).await;
    }
    assert_eq!(position, Ok(5), "with what it says is in");
    let answers = admin.admit_spooled(at(6), &events(7..9)).await;
    assert_eq!(counts(&answers.expect("two again")), (2, 0, 0));
    assert_eq!(bench.ledger().await, "accepted 9, undelivered 9");
}
