//! Commands and plans over the socket, each with its audit row.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipectl_shared::plan::Plan;
use pipectl_shared::rpc::Code;
use pipectl_shared::snapshot::{self, Page};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Door, SOON};
use crate::audit::BROKEN;
use crate::plans::testkit::WORKER;

#[tokio::test]
async fn commands_do_what_they_say_and_leave_one_row_each() {
    let mut door = Door::open().await;
    door.bench.worker();
    door.bench.add_pending(1, "holder").await;
    let enrich = Arc::clone(&door.context.handle.stages[0]);
    let mut client = door.client().await;
    let run = |name: &str, params: Value| json!({"name": name, "params": params, "reason": "why"});
    let done = [
        ("stage.pause", json!({"stage": "enrich"})),
        ("stage.resume", json!({"stage": "enrich"})),
        ("stage.scale", json!({"stage": "enrich", "workers": 7})),
        ("x-fault.park", json!({"consumer": WORKER})),
        ("x-fault.release", json!({"consumer": WORKER})),
    ];
    for (n, (name, params)) in done.into_iter().enumerate() {
        client
            .call("command.run", run(name, params))
            .await
            .unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let rows = door.bench.audit_rows();
        assert_eq!(rows.len(), n + 1, "{name}");
        assert_eq!(
            (rows[n].action.as_str(), rows[n].result.as_str()),
            (name, "ok")
        );
        assert_eq!(rows[n].reason.as_deref(), Some("why"));
        assert_eq!(enrich.is_paused(), name == "stage.pause");
    }
    assert_eq!(*enrich.wanted.borrow(), 7);
    let refused = [
        (
            "stage.scale",
            json!({"stage": "enrich", "workers": 65}),
            Code::InvalidParams,
        ),
        ("stage.pause", json!({"stage": "nope"}), Code::InvalidParams),
        (
            "consumer.retire",
            json!({"consumer": "holder"}),
            Code::Refused,
        ),
        (
            "consumer.retire",
            json!({"consumer": "nobody"}),
            Code::NotFound,
        ),
        (
            "x-fault.park",
            json!({"consumer": "\u{1b}"}),
            Code::NotFound,
        ),
        ("\u{1b}[2J", json!({}), Code::NotFound),
        (
            "stage.pause",
            json!({"stage": "enrich", "\u{1b}": 1}),
            Code::InvalidParams,
        ),
    ];
    for (name, params, code) in refused {
        let n = door.bench.audit_rows().len();
        let error = client
            .call("command.run", run(name, params))
            .await
            .unwrap_err();
        assert!(error.is(code), "{name}: {error:?}");
        assert!(!error.message.contains('\u{1b}'), "{name}");
        let rows = door.bench.audit_rows();
        assert_eq!(rows.len(), n + 1, "{name}");
        assert!(
            rows[n].result.starts_with("refused: "),
            "{name}: {}",
            rows[n].result
        );
    }
    let long =
        json!({"name": "stage.pause", "params": {"stage": "enrich"}, "reason": "x".repeat(2_000)});
    assert!(
        client
            .call("command.run", long)
            .await
            .unwrap_err()
            .is(Code::InvalidParams)
    );
    assert!(!enrich.is_paused());
}

#[tokio::test]
async fn a_dry_run_does_nothing_and_a_drain_begins_at_once() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (name, params) in [
        ("stage.pause", json!({"stage": "enrich"})),
        ("stage.scale", json!({"stage": "enrich", "workers": 0})),
        ("daemon.drain", json!({})),
    ] {
        let answer = client
            .call(
                "command.run",
                json!({"name": name, "params": params, "dry_run": true}),
            )
            .await
            .unwrap();
        assert!(answer["would"].is_string(), "{name}: {answer}");
    }
    assert!(!door.context.handle.stages[0].is_paused());
    assert!(!door.context.shutdown.is_cancelled());
    assert!(door.bench.audit_rows().is_empty());
    client
        .call("command.run", json!({"name": "daemon.drain"}))
        .await
        .unwrap();
    assert!(door.context.shutdown.is_cancelled());
    assert_eq!(door.bench.audit_rows().len(), 1);
    let rows: Page<snapshot::Audit> = client.get("audit.page", json!({})).await;
    assert_eq!(rows.rows[0].action, "daemon.drain");
    assert_ne!(rows.rows[0].action, BROKEN);
}

#[tokio::test]
async fn plans_are_made_run_and_refused_over_the_socket() {
    let mut door = Door::open().await;
    door.bench.worker();
    let ids = door.bench.add_pending(4, "gone").await;
    let mut client = door.client().await;
    let plan: Plan = client
        .get(
            "plan.create",
            json!({"action": "claim", "select": {"stage": "enrich"}, "to": WORKER}),
        )
        .await;
    assert_eq!((plan.matched, plan.bulk), (4, true));
    let not_confirmed = json!({"id": plan.id, "ids_hash": plan.ids_hash});
    let error = client
        .call("plan.run", not_confirmed.clone())
        .await
        .unwrap_err();
    assert!(error.is(Code::Refused), "{error:?}");
    let mut confirmed = not_confirmed;
    confirmed["confirm"] = json!(4);
    let done: Plan = client.get("plan.run", confirmed).await;
    assert_eq!(done.result.unwrap().applied, 4);
    let error = client
        .call("plan.undo", json!({"id": plan.id}))
        .await
        .unwrap_err();
    assert!(error.is(Code::Refused), "{error:?}");
    let error = client
        .call("plan.run", json!({"wat": 1}))
        .await
        .unwrap_err();
    assert!(error.is(Code::InvalidParams), "{error:?}");
    let actions: Vec<_> = door
        .bench
        .audit_rows()
        .into_iter()
        .map(|r| (r.action, r.result))
        .collect();
    assert_eq!(actions.len(), 4, "{actions:?}");
    let single: Plan = client
        .get(
            "plan.create",
            json!({"action": "ack", "select": {"ids": [ids[0].to_string()]}}),
        )
        .await;
    assert_eq!(
        (single.matched, single.skipped[0].reason.as_str()),
        (0, "no longer pending")
    );
    door.context.handle.draining.store(true, Ordering::Relaxed);
    let error = client
        .call(
            "plan.create",
            json!({"action": "ack", "select": {"all": true}}),
        )
        .await
        .unwrap_err();
    assert!(error.is(Code::Unavailable), "{error:?}");
}

#[tokio::test]
async fn what_a_client_asked_for_is_done_even_if_it_leaves_and_cannot_be_written_to() {
    let mut door = Door::open().await;
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(8);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    door.bench.worker_with(move |_, order| {
        let (begun, opened) = (begun.clone(), Arc::clone(&opened));
        Box::pin(async move {
            begun.send(()).await.unwrap();
            opened.acquire().await.unwrap().forget();
            drop(order);
        })
    });
    door.bench.add_pending(1, "gone").await;
    let mut client = door.client().await;
    client.get::<Value>("events.watch", json!({})).await;
    let plan: Plan = client
        .get(
            "plan.create",
            json!({"action": "claim", "select": {"all": true}}),
        )
        .await;
    let run = json!({"id": plan.id, "ids_hash": plan.ids_hash, "confirm": 1});
    client.send("plan.run", run).await;
    let pause = json!({"name": "stage.pause", "params": {"stage": "enrich"}});
    client.send("command.run", pause).await;
    has_begun.recv().await.unwrap();
    // First it says that it sends no more, then it is gone: the writer ends while the answers are waited for.
    client.write.shutdown().await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(client);
    let deadline = tokio::time::Instant::now() + SOON;
    while !door.context.handle.stages[0].is_paused() {
        // Makes the writer fail while the acts are under way.
        let level = crate::journal::Level::Info;
        door.context.journal.tell(level, "test", None, "text");
        assert!(
            tokio::time::Instant::now() < deadline,
            "the command was given up"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    gate.add_permits(1);
    while door.bench.audit_rows().len() < 2 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "no row for each act"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
