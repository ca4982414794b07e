//! What is read once, and what is watched.

use std::time::Duration;

use pipectl_shared::plan::Plan;
use pipectl_shared::rpc::Code;
use pipectl_shared::snapshot::{self, Page, Snapshot};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Door, SOON};
use crate::plans::testkit::{Bench, NOW_MS};
use crate::record::EntryId;
use crate::runtime::WorkerView;
use crate::store::Store as _;

#[tokio::test]
async fn a_watcher_gets_snapshots_events_and_progress() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.context
        .journal
        .tell(crate::journal::Level::Info, "before", None, "\u{1b}[2J");
    let page: Page<snapshot::Event> = client.get("events.watch", json!({})).await;
    assert!(page.rows.iter().any(|e| e.name == "before"));
    let answer = client
        .call(
            "stats.watch",
            json!({"interval_ms": 1, "preset": "overview"}),
        )
        .await
        .unwrap();
    assert_eq!(answer, json!({"interval_ms": 1_000, "preset": "overview"}));
    let first: Snapshot = serde_json::from_value(client.told("stats").await).unwrap();
    let next = client.told("stats").await;
    assert!(next["seq"].as_u64().unwrap() > first.seq);
    assert_eq!(next["dropped"], 0);
    door.context
        .journal
        .tell(crate::journal::Level::Info, "after", None, "text");
    let event = loop {
        let event = client.told("event").await;
        assert_ne!(event["name"], "before", "told in the answer already");
        if event["name"] == "after" {
            break event;
        }
    };
    assert_eq!(event["message"], "text");
    door.bench.add_pending(3, "gone").await;
    let plan: Plan = client
        .get(
            "plan.create",
            json!({"action": "ack", "select": {"all": true}}),
        )
        .await;
    let run = json!({"id": plan.id, "ids_hash": plan.ids_hash, "confirm": 3});
    let done: Plan = client.get("plan.run", run).await;
    assert_eq!(done.result.unwrap().applied, 3);
    let progress = client.told("plan.progress").await;
    assert_eq!(
        (
            progress["id"].as_str().unwrap(),
            progress["progress"].as_u64()
        ),
        (plan.id.as_str(), Some(3))
    );
    client.get::<Value>("stats.stop", json!({})).await;
    client.get::<Value>("events.stop", json!({})).await;
}

#[tokio::test]
async fn tap_shows_what_passes_now_and_only_what_matches() {
    let door = Door::open().await;
    door.bench.add(5).await;
    let mut client = door.client().await;
    let params = json!({"stage": "enrich", "per_s": 1_000, "matching": "n = 7"});
    assert_eq!(
        client.get::<Value>("tap.watch", params).await["stage"],
        "enrich"
    );
    // The first look only finds the end of the stream; what comes after it is shown.
    let telling = async {
        loop {
            door.bench.add(10).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let tap = tokio::select! {
        tap = client.told("tap") => tap,
        () = telling => unreachable!(),
    };
    let tap: snapshot::Tap = serde_json::from_value(tap).unwrap();
    assert_eq!(tap.fields[0].value.decode().unwrap(), b"7");
    client.get::<Value>("tap.stop", json!({})).await;
    assert_eq!(
        door.context.admin.depth().await.unwrap().stages[0].pending,
        0,
        "nothing was consumed"
    );
}

#[tokio::test]
async fn when_the_daemon_closes_watchers_get_a_last_snapshot_and_the_socket_is_gone() {
    let mut door = Door::open().await;
    let mut client = door.client().await;
    client
        .get::<Value>(
            "stats.watch",
            json!({"interval_ms": 10_000, "preset": "line"}),
        )
        .await;
    client.told("stats").await;
    door.context.shutdown.cancel();
    // While the daemon drains it still answers.
    let _: snapshot::Status = door.client().await.get("status.get", json!({})).await;
    door.closed.cancel();
    assert_eq!(client.next().await["method"], "stats");
    assert!(client.line().await.is_none());
    timeout(SOON, door.tasks.join_next())
        .await
        .expect("serve ends")
        .unwrap()
        .unwrap();
    assert!(!door.path.exists());
}

#[tokio::test]
async fn pending_entries_come_in_pages_that_hold_each_once() {
    let door = Door::open().await;
    let ids = door.bench.add_pending(25, "\u{1b}[2Jgone").await;
    door.bench.clock.advance_ms(5_000);
    let mut client = door.client().await;
    let (mut got, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let params =
            json!({"limit": 10, "cursor": cursor, "select": {"consumer": "\u{1b}[2Jgone"}});
        let page: Page<snapshot::Pending> = client.get("pending.page", params).await;
        assert!(page.rows.len() <= 10);
        got.extend(page.rows);
        match page.next {
            Some(next) => cursor = json!(next),
            None => break,
        }
    }
    let expected: Vec<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(
        got.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
        expected
    );
    let row = &got[0];
    assert_eq!(
        (row.stage.as_str(), row.stream.as_str(), row.group.as_str()),
        ("enrich", "events", "event_group")
    );
    assert_eq!(
        (row.idle_ms, row.held_ms, row.age_ms, row.tries),
        (5_000, 5_000, 5_000, 0)
    );
    assert_eq!(row.consumer, "\u{1b}[2Jgone", "cleaned by whoever shows it");
    let named =
        json!({"limit": 2, "select": {"ids": [expected[3], "1-1", expected[5], expected[7]]}});
    let page: Page<snapshot::Pending> = client.get("pending.page", named).await;
    assert_eq!(
        page.rows.iter().map(|r| r.id.clone()).collect::<Vec<_>>(),
        [expected[3].clone(), expected[5].clone()]
    );
    assert!(page.next.is_some());

    let shown: snapshot::Pending = client.get("pending.show", json!({"id": expected[4]})).await;
    let fields = shown.fields.unwrap();
    assert_eq!(
        (fields[0].value.decode().unwrap(), fields[0].size),
        (b"4".to_vec(), 1)
    );
    let error = client
        .call("pending.show", json!({"id": "1-1"}))
        .await
        .unwrap_err();
    assert!(error.is(Code::NotFound), "{error:?}");
    let error = client
        .call(
            "pending.show",
            json!({"id": expected[4], "field": "\u{1b}"}),
        )
        .await
        .unwrap_err();
    assert!(
        error.is(Code::NotFound) && !error.message.contains('\u{1b}'),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_an_owner_has_in_hand_is_listed_for_who_asks_and_no_plan_selects_it() {
    let door = Door::open_on(Bench::owned().await, |_| {}).await;
    let text = |ids: &[EntryId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let pending = text(&door.bench.add_pending(2, "parked").await);
    let held = door.bench.add(5).await;
    let in_hand = text(&held);
    door.bench.clock.advance_ms(3_000);
    let now = u64::try_from(NOW_MS).unwrap();
    door.context.handle.stages[0].show_worker(WorkerView {
        consumer: "a-enrich-0".to_owned(),
        state: "committing",
        held: held.iter().map(|id| (*id, now + 1_000)).collect(),
        ..WorkerView::default()
    });
    let mut client = door.client().await;
    let mut list = async |params: Value| -> (Vec<String>, Vec<snapshot::Pending>) {
        let (mut rows, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let mut params = params.clone();
            params["cursor"] = cursor;
            let page: Page<snapshot::Pending> = client.get("pending.page", params).await;
            rows.extend(page.rows);
            match page.next {
                Some(next) => cursor = json!(next),
                None => break,
            }
        }
        (rows.iter().map(|row| row.id.clone()).collect(), rows)
    };
    let (ids, rows) = list(json!({})).await;
    assert_eq!(ids, pending);
    assert!(rows.iter().all(|row| !row.in_flight));

    // Behind what is parked, by whatever pages.
    let everything = [pending.clone(), in_hand.clone()].concat();
    for limit in [0, 1, 2, 3, 5, 6, 7] {
        let (ids, rows) = list(json!({"in_flight": true, "limit": limit})).await;
        assert_eq!(ids, everything, "pages of {limit}");
        let flags: Vec<_> = rows.iter().map(|row| row.in_flight).collect();
        assert_eq!(flags, [false, false, true, true, true, true, true]);
        let row = &rows[3];
        assert_eq!(
            (
                row.stage.as_str(),
                row.consumer.as_str(),
                row.entry.as_str()
            ),
            ("enrich", "a-enrich-0", "ok")
        );
        assert_eq!((row.held_ms, row.deliveries, row.tries), (2_000, 0, 0));
        assert!(row.size_bytes.is_some());
    }
    let table = [
        (json!({"stage": "count"}), vec![]),
        (json!({"stage": "enrich"}), everything.clone()),
        (json!({"consumer": "a-enrich-0"}), in_hand.clone()),
        (json!({"min_tries": 1}), vec![]),
        (json!({"min_idle_ms": 2_500}), pending.clone()),
        (
            json!({"matching": "n = 1"}),
            vec![pending[1].clone(), in_hand[1].clone()],
        ),
        (
            json!({"ids": [in_hand[4], "1-1", pending[0]]}),
            vec![in_hand[4].clone(), pending[0].clone()],
        ),
    ];
    for (select, expected) in table {
        let (ids, _) = list(json!({"in_flight": true, "select": select})).await;
        assert_eq!(ids, expected, "{select}");
    }

    let shown: snapshot::Pending = client.get("pending.show", json!({"id": in_hand[3]})).await;
    assert!(shown.in_flight);
    assert_eq!(shown.fields.unwrap()[0].value.decode().unwrap(), b"3");

    // Its owner's alone.
    let all = json!({"action": "ack", "select": {"all": true}});
    let plan: Plan = client.get("plan.create", all).await;
    assert_eq!(plan.matched, 2);
    let one = json!({"action": "dead", "select": {"ids": [in_hand[0]]}});
    let plan: Plan = client.get("plan.create", one).await;
    assert_eq!((plan.matched, plan.skipped.len()), (0, 1));
    let why = &plan.skipped[0].reason;
    assert!(
        why.contains("a-enrich-0") && why.contains("another daemon take"),
        "{why}"
    );

    // One that lost its lease and has not noticed has nothing in hand that is its own.
    let mut other = door.bench.memory.owner(0, "b-enrich-0").await.unwrap();
    other.acquire(Duration::from_secs(600)).await.unwrap();
    door.snapshot(|s| {
        let owner = s
            .status
            .stages
            .first()
            .and_then(|stage| stage.owner.as_ref());
        owner.is_some_and(|owner| owner.consumer.as_deref() == Some("b-enrich-0") && !owner.here)
    })
    .await;
    let params = json!({"in_flight": true});
    let page: Page<snapshot::Pending> = client.get("pending.page", params).await;
    assert_eq!(page.rows.len(), 2);
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_and_counted_by_cause() {
    let door = Door::open().await;
    door.bench.add_dead(3, "aaaa").await;
    door.bench.clock.advance_ms(10);
    door.bench.add_dead(5, "bbbb").await;
    let mut client = door.client().await;
    let first: Page<snapshot::Dead> = client.get("dead.page", json!({"limit": 6})).await;
    let rest: Page<snapshot::Dead> = client.get("dead.page", json!({"cursor": first.next})).await;
    assert_eq!((first.rows.len(), rest.rows.len(), rest.next), (6, 2, None));
    assert!(first.rows[0].dead_ms > rest.rows[1].dead_ms);
    let some: Page<snapshot::Dead> = client
        .get("dead.page", json!({"select": {"cause": "aaaa"}}))
        .await;
    assert_eq!(some.rows.len(), 3);
    let shown: snapshot::Dead = client
        .get("dead.show", json!({"id": some.rows[0].id}))
        .await;
    assert_eq!(shown.fields.unwrap()[0].value.decode().unwrap(), b"2");
    let causes: Page<snapshot::Cause> = client.get("dead.causes", json!({})).await;
    let told: Vec<_> = causes
        .rows
        .iter()
        .map(|c| (c.cause.as_str(), c.count))
        .collect();
    assert_eq!(told, [("bbbb", 5), ("aaaa", 3)]);
    assert!(
        causes.rows[0].example.contains('\u{1b}'),
        "data, cleaned by whoever shows it"
    );
}

#[tokio::test]
async fn the_ledger_is_read_now_and_other_documents_answer() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.bench.add(4).await;
    let ledger: snapshot::Ledger = client.get("ledger.get", json!({})).await;
    assert_eq!(
        (ledger.accepted, ledger.undelivered, ledger.balanced),
        (4, 4, true)
    );
    door.bench.run_all().await;
    let ledger: snapshot::Ledger = client.get("ledger.get", json!({})).await;
    assert_eq!(
        (ledger.applied, ledger.undelivered, ledger.pending),
        (4, 0, 0)
    );
    let aggregates = client
        .call("aggregates.get", json!({"session": "\u{1b}"}))
        .await
        .unwrap();
    assert_eq!(
        aggregates["session"],
        json!({"id": "\u{1b}", "count": null})
    );
    let _: Page<snapshot::Latency> = client
        .get("latency.get", json!({"stage": "pipeline"}))
        .await;
    door.snapshot(|s| !s.groups.is_empty()).await;
    let groups = client.call("groups.get", json!({})).await.unwrap();
    assert_eq!(groups["groups"].as_array().unwrap().len(), 2);
    assert!(groups["consumers"].is_array());
    let history: Page<snapshot::Event> = client.get("history.range", json!({"limit": 1})).await;
    assert!(history.rows.len() <= 1);
    assert_eq!(
        client
            .get::<Page<Plan>>("plan.list", json!({}))
            .await
            .rows
            .len(),
        0
    );
}

#[tokio::test]
async fn latency_over_time_comes_in_slots_and_only_new_ones_are_asked_for_again() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.bench.add(4).await;
    door.bench.run_all().await;
    // A slot is closed every fifth tick.
    door.snapshot(|s| s.seq >= 6).await;
    let all: Page<snapshot::LatencySlot> = client
        .get(
            "latency.slots",
            json!({"stage": "enrich", "measure": "service"}),
        )
        .await;
    assert_eq!(all.total, Some(all.rows.len() as u64));
    let first = &all.rows[0];
    assert_eq!(first.step_ms, 5_000);
    assert_eq!(
        first.buckets.iter().map(|bucket| bucket.count).sum::<u64>(),
        first.count
    );
    let last = all.rows.last().unwrap().end_ms;
    let newer: Page<snapshot::LatencySlot> = client
        .get(
            "latency.slots",
            json!({"stage": "enrich", "measure": "service", "after_ms": last}),
        )
        .await;
    assert!(newer.rows.iter().all(|row| row.end_ms > last));
    // Without parameters: the whole pipeline, end to end.
    let whole: Page<snapshot::LatencySlot> = client.get("latency.slots", json!({})).await;
    assert!(!whole.rows.is_empty());
}

#[tokio::test]
async fn figures_over_time_come_column_by_column() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.snapshot(|s| s.seq >= 2).await;
    let history: snapshot::History = client.get("history.series", json!({})).await;
    assert!(!history.ts_ms.is_empty() && history.ts_ms.is_sorted());
    assert_eq!(
        history.step_ms, 6_001,
        "an hour in 600 points, ends included"
    );
    for name in ["in_per_s", "p99_ms", "stage.enrich.lag"] {
        assert_eq!(history.series[name].len(), history.ts_ms.len(), "{name}");
    }
    let before: snapshot::History = client
        .get(
            "history.series",
            json!({"from_ms": 0, "to_ms": 1_000, "points": 4_294_967_295_u32}),
        )
        .await;
    assert!(before.ts_ms.is_empty(), "nothing was recorded then");
}
