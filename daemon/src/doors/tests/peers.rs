//! Who comes in, and that one client harms no other.

use std::time::Duration;

use pipectl_shared::rpc::{Code, Role};
use pipectl_shared::snapshot::{self, Page};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{Client, Door, SOON};
use crate::commands::COMMANDS;
use crate::doors::methods::{Call, METHODS};

#[tokio::test]
async fn the_server_speaks_first_and_says_who_you_are() {
    let door = Door::open_with(|c| c.control.max_role = Role::Operator).await;
    let mut client = Client::silent(&door.path).await;
    let hello = client.next().await["params"].take();
    assert_eq!(hello["protocol"], 1);
    assert_eq!(hello["role"], "operator");
    assert_eq!(hello["pipeline"], "test");
    assert_eq!(hello["config_hash"], "0123456789abcdef");
    assert_eq!(
        hello["identity"]["uid"],
        rustix::process::geteuid().as_raw()
    );
    assert_eq!(hello["identity"]["pid"], std::process::id());
    let names: Vec<_> = hello["specs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].clone())
        .collect();
    assert!(
        names.contains(&json!("stage.pause")) && names.contains(&json!("x-fault.park")),
        "{names:?}"
    );
}

#[tokio::test]
async fn the_whole_policy_is_kept_for_every_role_and_refusals_leave_one_row() {
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let door = Door::open_with(|c| c.control.max_role = role).await;
        let mut client = door.client().await;
        for method in METHODS {
            let n_rows = door.bench.audit_rows().len();
            let answer = client.call(method.name, json!({})).await;
            let is_refused = answer
                .as_ref()
                .is_err_and(|e| e.message.contains("needs role"));
            assert_eq!(
                is_refused,
                role < method.role,
                "{} as {role:?}: {answer:?}",
                method.name
            );
            let rows = door.bench.audit_rows();
            let is_read = matches!(method.call, Call::Read(_));
            if is_refused {
                assert!(!is_read, "{}", method.name);
                assert_eq!(rows.len(), n_rows + 1, "{} as {role:?}", method.name);
                assert!(
                    rows[n_rows].result.starts_with("refused: "),
                    "{}",
                    rows[n_rows].result
                );
            } else if is_read {
                assert_eq!(rows.len(), n_rows, "{} as {role:?}", method.name);
            }
        }
        for command in COMMANDS {
            let spec = (command.spec)();
            let params = json!({"name": spec.name, "dry_run": true});
            let error = client.call("command.run", params).await;
            let is_refused = error.as_ref().is_err_and(|e| e.is(Code::Refused));
            assert_eq!(
                is_refused,
                role < spec.role,
                "{} as {role:?}: {error:?}",
                spec.name
            );
        }
    }
}

#[tokio::test]
async fn the_last_places_are_for_admins_and_the_rest_is_refused_politely() {
    let door = Door::open_with(|c| {
        c.control.max_clients = 4;
        c.control.max_role = Role::Viewer;
    })
    .await;
    let _first = door.client().await;
    let _second = door.client().await;
    let mut third = Client::silent(&door.path).await;
    let refusal = third.next().await;
    assert_eq!(refusal["error"]["code"], Code::Busy as i64);
    assert!(
        refusal["error"]["data"]["hint"]
            .as_str()
            .unwrap()
            .contains("max_clients")
    );
    assert!(third.line().await.is_none(), "closed after that");
    drop(_first);
    // A place is free again as soon as the server notices.
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let mut again = Client::silent(&door.path).await;
        if again.next().await["method"] == "hello" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
    }
}

#[tokio::test]
async fn a_client_that_floods_and_never_reads_slows_nobody() {
    let door = Door::open().await;
    door.bench.add_pending(500, "gone").await;
    let mut flooder = Client::silent(&door.path).await;
    flooder.send("stats.watch", json!({})).await;
    flooder.send("events.watch", json!({})).await;
    // Until nothing goes in any more: the server reads no further.
    let line =
        json!({"jsonrpc": "2.0", "id": 1, "method": "pending.page", "params": {"limit": 500}});
    let lines = format!("{line}\n").repeat(100);
    let mut n_sent = 0;
    while timeout(
        Duration::from_millis(500),
        flooder.write.write_all(lines.as_bytes()),
    )
    .await
    .is_ok()
    {
        n_sent += 100;
        assert!(n_sent < 100_000, "the server takes everything");
    }
    for n in 0..1_000 {
        door.context.journal.tell(
            crate::journal::Level::Info,
            "test.event",
            None,
            format!("event {n}"),
        );
    }
    let mut good = door.client().await;
    let page: Page<snapshot::Pending> = good.get("pending.page", json!({"limit": 500})).await;
    assert_eq!(page.rows.len(), 500);
}
