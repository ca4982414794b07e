//! What is no request, and how the connection goes on after it.

use pipectl_shared::rpc::Code;
use pipectl_shared::snapshot;
use pipectl_shared::wire::MAX_LINE;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Door;

#[tokio::test]
async fn nonsense_is_answered_and_the_connection_goes_on() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep_params =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"status.get","params":{deep}}}"#);
    let long_id = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","method":"status.get"}}"#,
        "x".repeat(1_000)
    );
    let table: [(&str, &[u8], Code, Value); 16] = [
        ("no JSON", b"hello", Code::Parse, Value::Null),
        ("half a JSON", b"{\"jsonrpc\":", Code::Parse, Value::Null),
        ("no UTF-8", b"{\"a\":\"\xff\"}", Code::Parse, Value::Null),
        (
            "control characters",
            b"\x1b[2J\x00",
            Code::Parse,
            Value::Null,
        ),
        ("too deep", deep.as_bytes(), Code::Parse, Value::Null),
        (
            "too deep params",
            deep_params.as_bytes(),
            Code::Parse,
            Value::Null,
        ),
        ("a batch", b"[]", Code::InvalidRequest, Value::Null),
        (
            "a text",
            b"\"status.get\"",
            Code::InvalidRequest,
            Value::Null,
        ),
        (
            "another version",
            br#"{"jsonrpc":"1.0","id":7,"method":"status.get"}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "no version",
            br#"{"id":7,"method":"status.get"}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "no method",
            br#"{"jsonrpc":"2.0","id":7}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "a method that is no text",
            br#"{"jsonrpc":"2.0","id":7,"method":7}"#,
            Code::InvalidRequest,
            json!(7),
        ),
        (
            "an id that is an object",
            br#"{"jsonrpc":"2.0","id":{},"method":"status.get"}"#,
            Code::InvalidRequest,
            Value::Null,
        ),
        (
            "an id that is long",
            long_id.as_bytes(),
            Code::InvalidRequest,
            Value::Null,
        ),
        (
            "an unknown method",
            br#"{"jsonrpc":"2.0","id":"a","method":"status.got"}"#,
            Code::MethodNotFound,
            json!("a"),
        ),
        (
            "params that are a list",
            br#"{"jsonrpc":"2.0","id":7,"method":"plan.show","params":["x"]}"#,
            Code::InvalidParams,
            json!(7),
        ),
    ];
    let door = Door::open().await;
    let mut client = door.client().await;
    for (desc, line, code, id) in table {
        client.raw(line).await;
        client.raw(b"\n").await;
        let answer = client.next().await;
        assert_eq!(answer["error"]["code"], code as i64, "{desc}: {answer}");
        assert_eq!(answer["id"], id, "{desc}");
        assert!(
            !answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains('\u{1b}'),
            "{desc}"
        );
    }
    let _: snapshot::Status = client.get("status.get", json!({})).await;
}

#[tokio::test]
async fn unknown_params_are_refused_and_a_notification_is_not_answered() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (method, params) in [
        ("status.get", json!({"x": 1})),
        ("stats.watch", json!({"preset": "\u{1b}[2J"})),
        ("stats.watch", json!({"interval_ms": -1})),
        ("pending.page", json!({"limit": 1_001})),
        ("pending.page", json!({"cursor": "\u{1b}"})),
        (
            "pending.page",
            json!({"cursor": "count:1-1", "select": {"stage": "enrich"}}),
        ),
        ("dead.page", json!({"cursor": "enrich:1-1"})),
        ("history.range", json!({"cursor": "sideways:1"})),
        ("audit.page", json!({"cursor": "x"})),
        ("plan.list", json!({"cursor": "x"})),
        ("latency.get", json!({"stage": "enrch"})),
        ("latency.slots", json!({"stage": "\u{1b}[2J"})),
        ("latency.slots", json!({"measure": "sevice"})),
        ("latency.slots", json!({"after_ms": -1})),
        ("latency.slots", json!({"stage": "enrich", "limit": 1})),
        ("history.series", json!({"from_ms": 2, "to_ms": 1})),
        ("history.series", json!({"points": "many"})),
        ("history.series", json!({"cursor": "x"})),
        ("tap.watch", json!({"per_s": 5_000})),
        ("tap.watch", json!({"matching": "("})),
    ] {
        let error = client.call(method, params.clone()).await.expect_err(method);
        assert!(
            error.is(Code::InvalidParams),
            "{method} {params}: {error:?}"
        );
        assert!(!error.message.contains('\u{1b}'), "{method}: {error:?}");
    }
    client.raw(b"{\"jsonrpc\":\"2.0\",\"method\":\"command.run\",\"params\":{\"name\":\"daemon.drain\"}}\n").await;
    let _: snapshot::Status = client.get("status.get", json!({})).await;
    assert!(
        !door.context.shutdown.is_cancelled(),
        "a notification does nothing"
    );
}

#[tokio::test]
async fn a_line_over_the_limit_closes_only_its_own_connection() {
    let door = Door::open().await;
    let mut good = door.client().await;
    let mut bad = door.client().await;
    let flood = vec![b'x'; MAX_LINE + 1];
    // The server may close before it took everything.
    let _ = bad.write.write_all(&flood).await;
    let answer = bad.next().await;
    assert_eq!(answer["error"]["code"], Code::TooLarge as i64);
    assert!(bad.line().await.is_none());
    let _: snapshot::Status = good.get("status.get", json!({})).await;
}

#[tokio::test]
async fn a_client_that_will_send_no_more_still_gets_its_answers() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for _ in 0..5 {
        client.send("ledger.get", json!({})).await;
    }
    client.write.shutdown().await.unwrap();
    for _ in 0..5 {
        assert!(client.next().await["result"].is_object());
    }
    assert!(client.line().await.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_bytes_harm_the_server(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3_000), 1..8),
        wrapped in proptest::collection::vec(("[a-z.]{0,20}", "\\PC{0,40}"), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut door = Door::open().await;
            let mut client = door.client().await;
            for chunk in &chunks {
                if client.write.write_all(chunk).await.is_err() {
                    break;
                }
            }
            for (method, text) in &wrapped {
                let params = json!({"id": text, "name": text, "select": {"ids": [text]}, "cursor": text});
                let line = format!("\n{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
                if client.write.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
            drop(client);
            let mut other = door.client().await;
            let _: snapshot::Status = other.get("status.get", json!({})).await;
            assert!(door.tasks.try_join_next().is_none(), "the server goes on");
        });
    }
}
