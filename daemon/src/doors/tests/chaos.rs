//! Experiments over the socket: the right to them, and their audit rows.

use pipectl_shared::chaos::{Catalogue, Lever, Preview, Progress, Started};
use pipectl_shared::rpc::{Code, Role};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Client, Door, SOON};
use crate::guard::testkit::make_well;

async fn door(max_role: Role) -> Door {
    let door = Door::open_with(|config| {
        config.control.max_role = max_role;
        config.chaos.enabled = true;
        config.chaos.allow = vec!["worker".to_owned()];
    })
    .await;
    make_well(&door.bench);
    door.snapshot(|snapshot| snapshot.status.healthy).await;
    door
}

#[tokio::test]
async fn the_greeting_tells_the_right() {
    for (max_role, rights) in [(Role::Admin, json!(["chaos"])), (Role::Operator, json!([]))] {
        let door = door(max_role).await;
        let mut client = Client::silent(&door.path).await;
        let hello = client.next().await;
        assert_eq!(hello["params"]["rights"], rights, "{max_role:?}");
        assert_eq!(
            hello["params"]["role"],
            json!(max_role),
            "acting is another right"
        );
    }
}

#[tokio::test]
async fn without_the_right_experiments_can_be_looked_at_and_nothing_else() {
    let door = door(Role::Operator).await;
    let mut client = door.client().await;
    let catalogue: Catalogue = client.get("chaos.list", json!({})).await;
    assert_eq!(catalogue.rows.len(), 5);
    client.get::<Value>("chaos.history", json!({})).await;
    let acts = [
        ("chaos.run", json!({"name": "worker.test", "reason": "why"})),
        ("chaos.stop", json!({"reason": "why"})),
        ("chaos.lever", json!({"pull": true, "reason": "why"})),
    ];
    for (n, (method, params)) in acts.into_iter().enumerate() {
        let error = client.call(method, params).await.unwrap_err();
        assert!(error.is(Code::Refused), "{method}: {error:?}");
        let hint = error.data.unwrap().hint.unwrap();
        assert!(hint.contains("pipelined-chaos"), "{hint}");
        let rows = door.bench.audit_rows();
        assert_eq!(rows.len(), n + 1, "{method}");
        assert_eq!(rows[n].action, method);
        assert!(rows[n].result.starts_with("refused: "), "{method}");
        assert_eq!(rows[n].reason.as_deref(), Some("why"), "{method}");
    }
    assert!(!door.context.chaos.catalogue().await.unwrap().lever.pulled);
    assert!(door.context.chaos.running().is_none());
}

#[tokio::test]
async fn each_act_leaves_one_row_and_a_dry_run_none() {
    let door = door(Role::Admin).await;
    let mut client = door.client().await;
    let dry = json!({"name": "worker.test", "dry_run": true});
    let preview: Preview = client.get("chaos.run", dry).await;
    assert_eq!((preview.refused, preview.for_ms), (None, 1_000));
    let bad = json!({"name": "worker.tset", "dry_run": true});
    assert!(client.call("chaos.run", bad).await.is_err());
    assert_eq!(door.bench.audit_rows().len(), 0);

    let run =
        json!({"name": "worker.test", "params": {"count": 2}, "seed": 7, "reason": "a drill"});
    let started: Started = client.get("chaos.run", run).await;
    let asked = json!({"id": started.id});
    let progress: Progress = client.get("chaos.get", asked).await;
    assert_eq!(progress.running.experiment, "worker.test");
    let deadline = Instant::now() + SOON;
    while door.context.chaos.running().is_some() {
        assert!(
            Instant::now() < deadline,
            "the guard has ended, the run has not"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let refused = client.call("chaos.stop", json!({})).await.unwrap_err();
    assert!(refused.is(Code::Refused), "{refused:?}");
    let lever: Lever = client
        .get("chaos.lever", json!({"pull": true, "reason": "\u{1b}[2J"}))
        .await;
    assert!(lever.pulled);
    let error = client
        .call("chaos.run", json!({"name": "worker.test"}))
        .await
        .unwrap_err();
    assert!(!error.message.contains('\u{1b}'), "{error:?}");
    let long = json!({"pull": false, "reason": "x".repeat(2_000)});
    assert!(
        client
            .call("chaos.lever", long)
            .await
            .unwrap_err()
            .is(Code::InvalidParams)
    );
    let unread = json!({"pull": "yes"});
    assert!(
        client
            .call("chaos.lever", unread)
            .await
            .unwrap_err()
            .is(Code::InvalidParams)
    );

    let rows: Vec<_> = door
        .bench
        .audit_rows()
        .into_iter()
        .map(|row| (row.action, row.result))
        .collect();
    let expected = [
        ("chaos.run", "ok"),
        ("chaos.stop", "refused: "),
        ("chaos.lever", "ok"),
        ("chaos.run", "refused: the lever is pulled"),
        ("chaos.lever", "refused: the reason is longer"),
        ("chaos.lever", "refused: "),
    ];
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    for ((action, result), (expected_action, begin)) in rows.iter().zip(expected) {
        assert_eq!(action, expected_action);
        assert!(result.starts_with(begin), "{action}: {result}");
    }
    let target = &door.bench.audit_rows()[0].target;
    assert!(
        target.contains("name=worker.test") && target.contains("count=2"),
        "{target}"
    );
}
