//! Hostile data in every format, and a daemon that hangs, lies, floods or dies.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod common;

use common::{Fake, Reply, assert_clean, hello, run};
use pipectl_shared::untrusted::corpus;
use serde_json::{Value, json};

fn texts() -> Vec<String> {
    // The longest ones would only test the patience of a debug build.
    let short = corpus::hostile()
        .into_iter()
        .filter(|it| it.bytes.len() < 4096);
    short
        .map(|it| String::from_utf8_lossy(&it.bytes).into_owned())
        .collect()
}

fn poisoned(text: &str) -> Fake {
    let t = text.to_owned();
    Fake::new(move |method, _| {
        Reply::Ok(match method {
            "pending.page" => json!({"rows": [{"stage": t, "stream": t, "group": t, "id": t, "consumer": t, "idle_ms": 0,
                "held_ms": 0, "tries": 0, "deliveries": 0, "age_ms": 0, "size_bytes": 1, "entry": t, "not_before": t,
                "last_error": t}], "next": t}),
            "pending.show" => json!({"stage": t, "stream": t, "group": t, "id": t, "consumer": t, "idle_ms": 0,
                "held_ms": 0, "tries": 0, "deliveries": 0, "age_ms": 0, "size_bytes": 1, "entry": t, "not_before": t,
                "last_error": t, "fields": [{"name": t, "value": t, "size": 1}, {"name": "b", "value": {"b64": "G1sySg=="}, "size": 4}]}),
            "dead.page" => json!({"rows": [{"id": t, "stage": t, "origin_stream": t, "origin_id": t, "cause": t, "reason": t,
                "error": t, "tries": 0, "first_ms": u64::MAX, "dead_ms": u64::MAX, "redriven": t, "counts": true}], "next": null}),
            "aggregates.get" => json!({"total_count": 0, "event_types": {t.clone(): 1}, "products": {t.clone(): 1},
                "sessions": 0, "last_updated": t, "windows": null}),
            "groups.get" => json!({"groups": [], "consumers": [{"name": t, "stage": t, "ours": false, "state": t, "reason": t,
                "pending": 0, "oldest_ms": null, "idle_ms": null, "inactive_ms": null}]}),
            "audit.page" => json!({"rows": [{"seq": 1, "ts": t, "user": t, "uid": 0, "pid": null, "action": t, "target": t,
                "reason": t, "result": t, "hash": t}], "next": null}),
            _ => return Reply::Raw(format!("{}\n", json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": t, "data": {"hint": t}}})).into_bytes()),
        })
    })
}

#[test]
fn no_hostile_text_reaches_the_terminal_in_any_format() {
    for text in texts() {
        let fake = poisoned(&text);
        for noun in [
            &["pending", "ls"][..],
            &["pending", "show", "1-1"],
            &["dead", "ls"],
            &["aggregates"],
            &["consumers", "ls"],
            &["audit"],
            &["status"],
        ] {
            for format in ["text", "json", "jsonl", "csv", "md"] {
                let ran = fake.run(
                    &[
                        noun,
                        &["-o", format, "--limit", "1"][..if noun.contains(&"ls")
                            && noun[0] != "consumers"
                        {
                            4
                        } else {
                            2
                        }],
                    ]
                    .concat(),
                );
                assert_clean(&format!("{noun:?} {format} stdout"), &ran.stdout);
                assert_clean(&format!("{noun:?} {format} stderr"), &ran.stderr);
            }
        }
    }
}

#[test]
fn json_gives_hostile_text_back_as_it_was() {
    for text in texts() {
        let document = poisoned(&text)
            .run(&["dead", "ls", "-o", "json"])
            .expect(0)
            .json();
        assert_eq!(document["rows"][0]["error"], *text);
    }
}

#[test]
fn a_formula_is_none_in_csv() {
    let csv = poisoned("=cmd|' /C calc'!A0")
        .run(&["dead", "ls", "-o", "csv"])
        .expect(0)
        .stdout;
    assert!(csv.lines().nth(1).unwrap().starts_with("'=cmd"), "{csv}");
}

#[test]
fn hostile_arguments_are_not_echoed_raw() {
    let fake = poisoned("x");
    for args in [
        &["\u{1b}[2Jnoun"][..],
        &["status", "-o", "\u{9b}2J"],
        &["ingest", "/\u{1b}]0;x\u{7}"],
        &["man", "\u{1b}[2J"],
    ] {
        let ran = fake.run(args);
        assert_ne!(ran.code, Some(0));
        assert_clean(&format!("{args:?}"), &ran.stderr);
    }
}

fn answers(bytes: &[u8]) -> Fake {
    let bytes = bytes.to_vec();
    Fake::new(move |_, _| Reply::RawThenClose(bytes.clone()))
}

#[test]
fn a_peer_that_breaks_the_protocol_is_exit_1_without_a_panic() {
    let deep = "[".repeat(100_000);
    let table: &[(&str, &[u8])] = &[
        ("dies before its answer", b""),
        (
            "dies in the middle of it",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"res",
        ),
        ("sends garbage", b"\x00\xff\xfe garbage\n"),
        (
            "sends another type",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[1,2,3]}\n",
        ),
        (
            "sends null",
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n",
        ),
        ("nests without end", deep.as_bytes()),
    ];
    for (desc, bytes) in table {
        let mut line = bytes.to_vec();
        if desc == &"nests without end" {
            line.push(b'\n');
        }
        let ran = answers(&line).run(&["status"]).expect(1);
        assert!(
            ran.stderr.starts_with("pipectl: ") && !ran.stderr.contains("panicked"),
            "{desc}: {ran:?}"
        );
        assert_clean(desc, &ran.stderr);
    }
}

#[test]
fn a_line_over_one_mebibyte_is_refused_and_not_kept() {
    let ran = answers(&vec![b'x'; 3 << 20]).run(&["status"]).expect(1);
    assert!(ran.stderr.contains("longer than 1 MiB"), "{ran:?}");
}

#[test]
fn a_silent_daemon_is_exit_7() {
    let silent = Fake::new(|_, _| Reply::Silence);
    let ran = silent.run(&["status", "--timeout", "200ms"]).expect(7);
    assert!(ran.stderr.contains("status.get"), "{ran:?}");
    let mute = Fake::greeting(Vec::new(), |_, _| Reply::Silence);
    mute.run(&["status", "--timeout", "200ms"]).expect(7);
}

#[test]
fn a_flood_of_notifications_does_not_replace_an_answer() {
    let flood = format!(
        "{}\n",
        json!({"jsonrpc": "2.0", "method": "stats", "params": {"seq": 1}})
    )
    .repeat(20_000);
    let fake = Fake::new(move |_, _| Reply::Raw(flood.clone().into_bytes()));
    fake.run(&["status", "--timeout", "2s"]).expect(7);
}

#[test]
fn answers_that_nobody_asked_for_are_not_kept_without_end() {
    let lies: String = (100..400)
        .map(|id| format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "result": 1})))
        .collect();
    let fake = Fake::new(move |_, _| Reply::Raw(lies.clone().into_bytes()));
    assert!(
        fake.run(&["status"])
            .expect(1)
            .stderr
            .contains("more answers than questions")
    );
}

#[test]
fn another_protocol_is_exit_3_and_says_both_versions() {
    let mut other = hello();
    other["params"]["protocol"] = json!(2);
    other["params"]["version"] = json!("9.9\u{1b}[2J");
    // Of another major nothing else needs to fit.
    other["params"]["specs"] = Value::Null;
    let fake = Fake::greeting(format!("{other}\n").into_bytes(), |_, _| Reply::Silence);
    let ran = fake.run(&["status"]).expect(3);
    assert!(
        ran.stderr.contains("protocol 2") && ran.stderr.contains("speaks 1"),
        "{ran:?}"
    );
    assert_clean("stderr", &ran.stderr);
}

#[test]
fn something_else_on_the_socket_is_exit_3() {
    for greeting in [
        &b"SSH-2.0-OpenSSH\r\n"[..],
        b"{}\n",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"hi\"}\n",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"hello\",\"params\":{}}\n",
    ] {
        let fake = Fake::greeting(greeting.to_vec(), |_, _| Reply::Silence);
        let ran = fake.run(&["status"]).expect(3);
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
}

#[test]
fn a_full_queue_of_connections_is_a_timeout_and_not_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Nobody accepts; fill the queue until a connect would block.
    let mut kept = Vec::new();
    for _ in 0..5_000 {
        use rustix::net::{
            AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        };
        let one = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK,
            None,
        );
        let Ok(one) = one else { break };
        if connect(&one, &SocketAddrUnix::new(&socket).unwrap()).is_err() {
            break;
        }
        kept.push(one);
    }
    let mut command = common::pipectl();
    command
        .arg("--socket")
        .arg(&socket)
        .args(["status", "--timeout", "300ms"]);
    run(command).expect(7);
}
