//! What only the store in memory can show, because its clock stands still: forgetting by time, and waiting in virtual time. All else
//! is in the contract suite.

use std::sync::Arc;
use std::time::Duration;

use pipelined::clock::Manual;
use pipelined::effect::{Counter, Effects};
use pipelined::record::EntryId;
use pipelined::store::memory::{Meddler, Memory};
use pipelined::store::{
    Admin, Admission, Admitted, Commit, DeadLetter, Dedupe, Layout, Outcome, Settle, StageLayout,
    Store, StoreError,
};
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
const MINUTE_MS: i64 = 60_000;

/// A store whose id window and sessions last ten minutes.
async fn store() -> (Memory, Manual) {
    let stage = StageLayout {
        name: "count".into(),
        stream: "events".into(),
        group: "event_group".into(),
        reads_source: true,
        output: None,
        output_readers: 0,
        aggregates: true,
        owned: false,
        state: Vec::new(),
    };
    let layout = Layout {
        pipeline: "shop".into(),
        source: "events".into(),
        stages: vec![stage],
        dedupe: Some(Dedupe {
            window: 10 * MINUTE,
            max_ids: 1_000,
        }),
        session_keep: 10 * MINUTE,
        id_field: "event_id".into(),
    };
    let clock = Manual::at_ms(1_700_000_000_000);
    let store = Memory::new(layout, Arc::new(clock.clone()));
    store.prepare().await.expect("prepare");
    (store, clock)
}

/// Adds one entry and commits it with this outcome.
async fn commit_one(store: &Memory, outcome: Outcome) {
    store.add("events", vec![("a".into(), "1".into())]).await;
    let mut reader = store.reader(0, "one").await.expect("a reader");
    let batch = reader.next(9, Duration::ZERO).await.expect("read");
    let id = batch.entries[0].record.id;
    let entries = vec![Settle {
        id,
        event_id: None,
        outcome,
    }];
    let commit = Commit {
        consumer: "one".into(),
        entries,
        repeated: false,
    };
    store
        .writer(0, "one")
        .await
        .expect("a writer")
        .commit(&commit)
        .await
        .expect("commit");
}

fn in_session(id: &'static str) -> Outcome {
    Outcome::Apply(Effects {
        adds: vec![(Counter::Session(id.into()), 1)],
        ..Effects::default()
    })
}

#[tokio::test]
async fn a_session_is_kept_while_it_is_touched_and_forgotten_after_that() {
    let (store, clock) = store().await;
    commit_one(&store, in_session("busy")).await;
    commit_one(&store, in_session("idle")).await;
    for _ in 0..4 {
        clock.advance_ms(6 * MINUTE_MS);
        commit_one(&store, in_session("busy")).await;
    }
    assert_eq!(store.session(b"busy").await, Ok(Some(5)));
    assert_eq!(store.session(b"idle").await, Ok(None));
    assert_eq!(store.aggregates(0).await.expect("totals").sessions, 1);
}

#[tokio::test]
async fn an_event_id_is_known_for_half_the_window_and_forgotten_after_all_of_it() {
    let (store, clock) = store().await;
    let event = |n: u8| Admission {
        event_id: Some([n; 16]),
        fields: vec![("a".into(), "1".into())],
    };
    let is_known = async |n: u8| {
        let admitted = store.admit(&[event(n)], true).await.expect("admit");
        matches!(admitted[0], Admitted::Duplicate(_))
    };
    assert!(!is_known(1).await);
    clock.advance_ms(5 * MINUTE_MS);
    assert!(is_known(1).await);
    clock.advance_ms(1);
    assert!(!is_known(2).await);
    assert!(is_known(1).await, "it is in the older half now");
    clock.advance_ms(5 * MINUTE_MS + 1);
    assert!(!is_known(3).await);
    assert!(!is_known(1).await, "both halves were swapped");
}

#[tokio::test]
async fn dead_letters_are_purged_by_age_and_stay_in_the_ledger() {
    let (store, clock) = store().await;
    let letter = DeadLetter {
        cause: "0".into(),
        reason: "rejected".into(),
        error: "no".into(),
        tries: 1,
        first_ms: 0,
        fields: vec![("a".into(), "1".into())],
    };
    commit_one(&store, Outcome::Dead(letter)).await;
    clock.advance_ms(2 * MINUTE_MS);
    assert_eq!(
        store
            .janitor(MINUTE, Duration::ZERO)
            .await
            .expect("janitor")
            .purged,
        0
    );
    assert_eq!(
        store
            .janitor(MINUTE, 3 * MINUTE)
            .await
            .expect("janitor")
            .purged,
        0
    );
    assert_eq!(
        store.janitor(MINUTE, MINUTE).await.expect("janitor").purged,
        1
    );
    assert_eq!(store.dead(EntryId::MAX, 9).await, Ok(vec![]));
    assert_eq!(store.depth().await.expect("depth").ledger.dead, 1);
}

#[tokio::test]
async fn a_daemon_that_is_silent_is_forgotten() {
    let (store, clock) = store().await;
    store.beat("a", MINUTE).await.expect("beat");
    clock.advance_ms(MINUTE_MS - 1);
    assert_eq!(
        store.beat("b", MINUTE).await,
        Ok(vec!["a".into(), "b".into()])
    );
    clock.advance_ms(1);
    assert_eq!(store.beat("b", MINUTE).await, Ok(vec!["b".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_in_virtual_time_and_no_longer_than_asked() {
    let (store, _clock) = store().await;
    let mut reader = store.reader(0, "one").await.expect("a reader");
    let began = Instant::now();
    let batch = reader.next(9, MINUTE).await.expect("read");
    assert_eq!((batch.entries.len(), began.elapsed()), (0, MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_read_ends_when_an_entry_comes() {
    let (store, _clock) = store().await;
    let mut reader = store.reader(0, "one").await.expect("a reader");
    let began = Instant::now();
    let add_later = async {
        tokio::time::sleep(MINUTE).await;
        store.add("events", vec![("a".into(), "1".into())]).await
    };
    let (batch, id) = tokio::join!(reader.next(9, 60 * MINUTE), add_later);
    assert_eq!(batch.expect("read").entries[0].record.id, id);
    assert_eq!(began.elapsed(), MINUTE);
}

#[tokio::test]
async fn a_commit_over_the_limit_is_refused_whole() {
    let (store, _clock) = store().await;
    let entry = |n: u64| Settle {
        id: EntryId { ms: 1, seq: n },
        event_id: None,
        outcome: Outcome::Filtered,
    };
    let commit = Commit {
        consumer: "one".into(),
        entries: (0..501).map(entry).collect(),
        repeated: false,
    };
    let answer = store
        .writer(0, "one")
        .await
        .expect("a writer")
        .commit(&commit)
        .await;
    assert!(matches!(answer, Err(StoreError::Bug(_))), "{answer:?}");
}
