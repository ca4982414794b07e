//! Events in through the socket, until they are settled.

use std::sync::atomic::Ordering;

use pipectl_shared::rpc::{Code, IngestClosed, IngestPushed};
use pipectl_shared::snapshot;
use serde_json::{Value, json};

use super::{Door, SOON};

fn events(n: u64) -> Value {
    let event = |i| json!({"id": format!("{i:032x}"), "roles": [["type", "click"]], "fields": [["line", format!("{i}")]]});
    (0..n).map(event).collect()
}

#[tokio::test]
async fn an_input_goes_in_once_and_is_settled_when_all_of_it_ran_through() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let opened = client
        .call("ingest.open", json!({"name": "a.log"}))
        .await
        .unwrap();
    let session = opened["session"].clone();
    let push = json!({"session": session, "events": events(1_200)});
    let pushed: IngestPushed = client.get("ingest.push", push.clone()).await;
    assert_eq!(
        (pushed.accepted, pushed.deduplicated, pushed.rejected),
        (1_200, 0, 0)
    );
    // As after a lost answer: nothing is added twice.
    let pushed: IngestPushed = client.get("ingest.push", push).await;
    assert_eq!((pushed.accepted, pushed.deduplicated), (1_200, 1_200));
    let close = json!({"session": session, "wait": true});
    let closed: IngestClosed = client.get("ingest.close", close.clone()).await;
    assert!(!closed.settled, "nothing has run yet");
    door.bench.run_all().await;
    let closed: IngestClosed = client.get("ingest.close", close.clone()).await;
    assert_eq!(
        (
            closed.accepted,
            closed.deduplicated,
            closed.dead,
            closed.settled
        ),
        (2_400, 1_200, 0, true)
    );
    let error = client.call("ingest.close", close).await.unwrap_err();
    assert!(error.is(Code::NotFound), "the session is over: {error:?}");
    let source = &door.context.handle.sources[0];
    assert_eq!(source.sent.load(Ordering::Relaxed), 1_200);
    let rows = door.bench.audit_rows();
    assert_eq!(
        (rows.len(), rows[0].action.as_str(), rows[0].target.as_str()),
        (1, "ingest", "a.log")
    );
}

#[tokio::test]
async fn an_empty_input_is_settled_and_one_that_is_left_behind_leaves_its_row() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let session = client
        .call("ingest.open", json!({"name": ""}))
        .await
        .unwrap()["session"]
        .clone();
    let closed: IngestClosed = client
        .get("ingest.close", json!({"session": session, "wait": true}))
        .await;
    assert!(closed.settled);
    let session = client
        .call("ingest.open", json!({"name": "b"}))
        .await
        .unwrap()["session"]
        .clone();
    client
        .get::<IngestPushed>(
            "ingest.push",
            json!({"session": session, "events": events(3)}),
        )
        .await;
    drop(client);
    let deadline = tokio::time::Instant::now() + SOON;
    while door.bench.audit_rows().len() < 2 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "no row for the input that was left"
        );
        tokio::task::yield_now().await;
    }
    assert!(door.bench.audit_rows()[1].result.contains("accepted 3"));
}

#[tokio::test]
async fn broken_pushes_are_refused_as_a_whole() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let session = client
        .call("ingest.open", json!({"name": "c"}))
        .await
        .unwrap()["session"]
        .clone();
    let big = "x".repeat(300 * 1024);
    let two_big = json!([
        {"id": "0".repeat(32), "roles": [], "fields": [["f", big]]},
        {"id": "1".repeat(32), "roles": [], "fields": [["f", big]]},
    ]);
    for (desc, params, code) in [
        (
            "another session",
            json!({"session": "i9", "events": []}),
            Code::NotFound,
        ),
        (
            "a bad id",
            json!({"session": session, "events": [{"id": "x", "roles": [], "fields": []}]}),
            Code::InvalidParams,
        ),
        (
            "too much",
            json!({"session": session, "events": two_big}),
            Code::TooLarge,
        ),
    ] {
        let error = client.call("ingest.push", params).await.unwrap_err();
        assert!(error.is(code), "{desc}: {error:?}");
    }
    assert_eq!(door.context.admin.depth().await.unwrap().ledger.accepted, 0);
    for _ in 0..3 {
        client
            .call("ingest.open", json!({"name": "more"}))
            .await
            .unwrap();
    }
    assert!(
        client
            .call("ingest.open", json!({"name": "one too many"}))
            .await
            .unwrap_err()
            .is(Code::Busy)
    );
}

#[tokio::test]
async fn a_door_sheds_load_when_the_first_stage_lags_and_counts_what_it_refused() {
    let door = Door::open_with(|c| c.ingest.max_lag = 10).await;
    door.bench.add(50).await;
    door.snapshot(|s| {
        s.status
            .stages
            .first()
            .and_then(|stage| stage.lag)
            .is_some_and(|lag| lag > 10)
    })
    .await;
    let mut client = door.client().await;
    let session = client
        .call("ingest.open", json!({"name": "d"}))
        .await
        .unwrap()["session"]
        .clone();
    let pushed: IngestPushed = client
        .get(
            "ingest.push",
            json!({"session": session, "events": events(20)}),
        )
        .await;
    assert_eq!(
        (pushed.accepted, pushed.rejected, pushed.first_rejected),
        (0, 20, Some(0))
    );
    assert!(pushed.retry_after_ms > 0);
    assert!(pushed.reason.unwrap().contains("50 entries behind"));
    let ledger: snapshot::Ledger = client.get("ledger.get", json!({})).await;
    assert_eq!((ledger.rejected, ledger.accepted), (20, 50));
    let source = &door.context.handle.sources[0];
    assert_eq!(source.state.lock().unwrap().0, "backpressure");
}
