//! The nouns that only read: their documents, their exit codes, the global flags.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod common;

use common::{Fake, Reply, assert_clean, on_terminal, pipectl, run};
use serde_json::{Value, json};

fn ledger(pending: u64) -> Value {
    json!({"accepted": 10, "spawned": 0, "applied": 10 - pending, "filtered": 0, "late": 0, "discarded": 0, "deduplicated": 0,
           "dead": 0, "lost": 0, "pending": pending, "undelivered": 0, "unaccounted": 0, "duplicated": null, "rejected": 0,
           "balanced": true})
}

fn status(healthy: bool) -> Value {
    json!({"pipeline": "orders", "state": if healthy { "running" } else { "starting" }, "reason": null, "healthy": healthy,
           "uptime_s": 372.5,
           "redis": {"url": "managed", "version": null, "state": "up", "used_memory_bytes": null, "max_memory_bytes": null,
                     "mode": "managed", "down_ms": null, "error": null},
           "throughput": {"in_per_s": 12400.0, "out_per_s": null},
           "latency_ms": {"p50": 1.2, "p95": null, "p99": null, "p999": null},
           "ledger": ledger(0),
           "stages": [{"name": "count", "delivery": "shared", "workers": 2, "state": "running", "reason": null,
                       "in_per_s": 3.0, "out_per_s": null, "lag": null, "lag_ms": null, "pending": 12400,
                       "oldest_pending_ms": 372000, "p50_ms": 0.4, "p99_ms": null, "errors": 0, "retries": 0, "dead": 0,
                       "ledger": null}],
           "alerts": [], "chaos": null,
           "daemon": {"pid": 7, "version": "0.1.0", "rss_bytes": null, "cpu_cores": null}})
}

fn pending_row(id: &str) -> Value {
    json!({"stage": "count", "stream": "events", "group": "count", "id": id, "consumer": "c1", "idle_ms": 1000, "held_ms": 61000,
           "tries": 2, "deliveries": 3, "age_ms": 70000, "size_bytes": null, "entry": "ok", "not_before": null,
           "last_error": "boom"})
}

fn daemon() -> Fake {
    Fake::new(|method, params| match method {
        "status.get" => Reply::Ok(status(true)),
        "ledger.get" => Reply::Ok(ledger(0)),
        "aggregates.get" => Reply::Ok(
            json!({"total_count": 3, "event_types": {"click": 2, "view": 1}, "products": {},
            "sessions": 1, "session": params["session"].as_str().map(|id| json!({"id": id, "count": null})),
            "last_updated": null, "windows": null}),
        ),
        "latency.get" => Reply::Ok(
            json!({"rows": [{"stage": "count", "measure": "total", "count": 0, "min": null,
            "p50": null, "p90": null, "p95": null, "p99": null, "p999": null, "p9999": null, "max": null, "buckets": [],
            "out_of_range": 0, "coarse": true}], "next": null}),
        ),
        "groups.get" => Reply::Ok(json!({
            "groups": [{"stage": "count", "stream": "events", "group": "count", "consumers": 1, "pending": 1, "lag": null,
                        "lag_estimated": false, "last_delivered": "1-1", "length": 5}],
            "consumers": [{"name": "c1", "stage": "count", "ours": true, "state": "stuck", "reason": "idle for long",
                           "pending": 1, "oldest_ms": null, "idle_ms": 5, "inactive_ms": null}]})),
        "pending.page" => match params["cursor"].as_str() {
            None => Reply::Ok(json!({"rows": [pending_row("1-1")], "next": "c1", "total": 2})),
            Some(_) => Reply::Ok(json!({"rows": [pending_row("2-1")], "next": null})),
        },
        "pending.show" => {
            let mut row = pending_row("1-1");
            row["fields"] =
                json!([{"name": "k", "value": {"b64": "/w=="}, "size": 1, "truncated": false}]);
            Reply::Ok(row)
        }
        "dead.page" => Reply::Ok(
            json!({"rows": [{"id": "9-1", "stage": "count", "origin_stream": "events",
            "origin_id": "1-1", "cause": "f00", "reason": "rejected", "error": "bad", "tries": 1, "first_ms": 1000,
            "dead_ms": 2000, "redriven": null, "counts": true}], "next": null}),
        ),
        "dead.causes" => Reply::Ok(
            json!([{"cause": "f00", "stage": "count", "reason": "rejected", "example": "bad",
            "count": 4, "first_ms": 1, "last_ms": 2}]),
        ),
        "plan.list" => Reply::Ok(json!({"rows": [], "next": null})),
        "audit.page" => Reply::Ok(
            json!({"rows": [{"seq": 1, "ts": "2026-01-01T00:00:00Z", "user": "root", "uid": 0,
            "pid": 1, "action": "plan.run", "target": "1 entry", "reason": null, "result": "ok", "hash": "00"}],
            "next": null}),
        ),
        _ => Reply::Err(-32601, "no such method", ""),
    })
}

#[test]
fn every_document_carries_schema_and_time_and_unknown_is_null() {
    let fake = daemon();
    let table: &[(&[&str], &str, &str, Value)] = &[
        (&["status"], "status", "/redis/version", Value::Null),
        (&["status"], "status", "/stages/0/lag", Value::Null),
        (&["ledger"], "ledger", "/duplicated", Value::Null),
        (&["aggregates"], "aggregates", "/last_updated", Value::Null),
        (
            &["aggregates", "--session", "s1"],
            "aggregates",
            "/session/count",
            Value::Null,
        ),
        (&["stages"], "stages", "/rows/0/lag", Value::Null),
        (&["groups"], "groups", "/rows/0/lag", Value::Null),
        (
            &["consumers", "ls"],
            "consumers",
            "/rows/0/inactive_ms",
            Value::Null,
        ),
        (&["latency"], "latency", "/rows/0/p99", Value::Null),
        (
            &["pending", "ls", "--limit", "1"],
            "pending",
            "/next",
            json!("c1"),
        ),
        (&["pending", "ls"], "pending", "/rows/1/id", json!("2-1")),
        (
            &["pending", "show", "1-1"],
            "pending-entry",
            "/fields/0/value",
            json!({"b64": "/w=="}),
        ),
        (&["dead", "ls"], "dead", "/rows/0/redriven", Value::Null),
        (
            &["dead", "causes"],
            "dead-causes",
            "/rows/0/count",
            json!(4),
        ),
        (&["plan", "ls"], "plans", "/rows", json!([])),
        (
            &["audit"],
            "audit",
            "/rows/0/ts",
            json!("2026-01-01T00:00:00Z"),
        ),
    ];
    for (args, name, pointer, expected) in table {
        let document = fake
            .run(&[args, &["-o", "json"][..]].concat())
            .expect(0)
            .json();
        assert_eq!(document["schema"], format!("pipectl/{name}/1"), "{args:?}");
        assert!(document["ts"].as_str().unwrap().ends_with('Z'), "{args:?}");
        assert_eq!(
            document.pointer(pointer),
            Some(expected),
            "{args:?}: {document}"
        );
    }
}

#[test]
fn unknown_is_a_question_mark_for_people_and_empty_in_csv() {
    let fake = daemon();
    let text = fake.run(&["stages"]).expect(0).stdout;
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row[..6],
        ["count", "running", "?", "12,400", "6m12s", "3.0/s"],
        "{text}"
    );
    let csv = fake.run(&["stages", "-o", "csv"]).expect(0).stdout;
    assert_eq!(
        csv.lines().nth(1),
        Some("count,shared,2,running,,3.0,,,,12400,372000,0.4,,0,0,0")
    );
}

#[test]
fn json_lines_are_one_row_a_line_with_schema_and_time() {
    let text = daemon()
        .run(&["pending", "ls", "-o", "jsonl"])
        .expect(0)
        .stdout;
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row["schema"], "pipectl/pending/1");
        assert!(row["ts"].is_string() && row["id"].is_string());
    }
}

#[test]
fn markdown_has_tables() {
    let text = daemon().run(&["stages", "-o", "md"]).expect(0).stdout;
    assert!(text.starts_with("| stage | state |"), "{text}");
}

#[test]
fn narrow_terminals_get_every_noun_within_their_width() {
    let fake = daemon();
    for width in ["40", "60", "80", "160"] {
        for args in [
            &["status"][..],
            &["stages"],
            &["pending", "ls"],
            &["dead", "ls"],
            &["groups"],
            &["audit"],
        ] {
            let mut command = fake.command(args);
            command.env("COLUMNS", width);
            let text = run(command).expect(0).stdout;
            for line in text.lines() {
                assert!(
                    line.chars().count() <= width.parse().unwrap(),
                    "{width} {args:?}: {line:?}"
                );
            }
        }
    }
}

#[test]
fn colours_come_only_where_they_are_wanted() {
    let fake = daemon();
    assert!(
        fake.run(&["status", "--color", "always"])
            .expect(0)
            .stdout
            .contains("\u{1b}[")
    );
    assert_clean("piped", &fake.run(&["status"]).expect(0).stdout);
    let (code, text) = on_terminal(fake.command(&["status"]), "", "");
    assert!(code == Some(0) && text.contains("\u{1b}["), "{text:?}");
    let mut command = fake.command(&["status"]);
    command.env("NO_COLOR", "1");
    let (_, text) = on_terminal(command, "", "");
    assert!(
        !text.contains('\u{1b}') && text.contains("orders"),
        "{text:?}"
    );
}

#[test]
fn no_daemon_is_exit_3_with_the_next_step() {
    let mut command = pipectl();
    command.args(["status", "--socket", "/nonexistent/control.sock"]);
    let ran = run(command).expect(3);
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains("no socket there")
            && ran.stderr.contains("hint: ")
            && ran.stderr.contains("pipectl up")
    );
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for args in [
        &["nonsense"][..],
        &["status", "-o", "xml"],
        &["scale", "s", "many"],
        &["status", "--timeout", "soon"],
    ] {
        let mut command = pipectl();
        command.args(args);
        let ran = run(command).expect(2);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn help_and_version_need_no_daemon() {
    for args in [
        &[][..],
        &["--help"],
        &["-V"],
        &["pending", "claim", "-h"],
        &["completion", "bash"],
        &["man"],
        &["man", "pending", "claim"],
    ] {
        let mut command = pipectl();
        command.args(args);
        assert!(!run(command).expect(0).stdout.is_empty(), "{args:?}");
    }
    let mut command = pipectl();
    command.arg("--help");
    let help = run(command).stdout;
    assert!(
        help.contains("Exit codes") && !help.contains("x-fault"),
        "{help}"
    );
}

#[test]
fn the_socket_is_found_by_the_environment_too() {
    let fake = daemon();
    let mut command = pipectl();
    command.arg("status").env("PIPELINED_SOCKET", &fake.socket);
    run(command).expect(0);
    let runtime = tempfile::tempdir().unwrap();
    std::fs::create_dir(runtime.path().join("pipelined")).unwrap();
    std::os::unix::fs::symlink(&fake.socket, runtime.path().join("pipelined/control.sock"))
        .unwrap();
    let mut command = pipectl();
    command.arg("status").env("XDG_RUNTIME_DIR", runtime.path());
    run(command).expect(0);
    let mut command = pipectl();
    command
        .args(["config", "path", "-o", "json"])
        .env("XDG_RUNTIME_DIR", runtime.path());
    let rows = run(command).expect(0).json();
    assert!(
        rows["rows"][0]["state"]
            .as_str()
            .unwrap()
            .contains("answers"),
        "{rows}"
    );
}

#[test]
fn waiting_for_health_ends_when_it_is_healthy_or_when_time_is_up() {
    let well_at_third = Fake::new({
        let n = std::sync::atomic::AtomicU32::new(0);
        move |_, _| {
            Reply::Ok(status(
                n.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2,
            ))
        }
    });
    well_at_third.run(&["status", "--wait-healthy"]).expect(0);
    assert_eq!(well_at_third.requests().len(), 3);
    let never = Fake::new(|_, _| Reply::Ok(status(false)));
    let ran = never
        .run(&["status", "--wait-healthy", "--timeout", "300ms"])
        .expect(7);
    assert!(ran.stderr.contains("starting"), "{ran:?}");
    let mut absent = pipectl();
    absent.args([
        "status",
        "--wait-healthy",
        "--timeout",
        "200ms",
        "--socket",
        "/nonexistent/s",
    ]);
    run(absent).expect(7);
}

#[test]
fn waiting_for_the_ledger_to_settle_prints_it_either_way() {
    let settles = Fake::new({
        let n = std::sync::atomic::AtomicU64::new(3);
        move |_, _| match n.fetch_update(
            std::sync::atomic::Ordering::SeqCst,
            std::sync::atomic::Ordering::SeqCst,
            |n| n.checked_sub(1),
        ) {
            Ok(left) => Reply::Ok(ledger(left)),
            Err(_) => Reply::Ok(ledger(0)),
        }
    });
    assert_eq!(
        settles
            .run(&["ledger", "--wait-settled", "-o", "json"])
            .expect(0)
            .json()["pending"],
        0
    );
    let never = Fake::new(|_, _| Reply::Ok(ledger(2)));
    let ran = never
        .run(&[
            "ledger",
            "--wait-settled",
            "--timeout",
            "200ms",
            "-o",
            "json",
        ])
        .expect(7);
    assert_eq!(ran.json()["pending"], 2);
    let away = Fake::new(|_, _| Reply::Err(-32012, "redis is away", "wait"));
    away.run(&["ledger", "--wait-settled", "--timeout", "200ms"])
        .expect(7);
}

#[test]
fn tap_ends_after_the_rows_asked_for_or_in_time() {
    let row = |id: &str| {
        (
            "tap",
            json!({"stage": "count", "id": id, "fields": [{"name": "k", "value": "v", "size": 1}]}),
        )
    };
    let fake = Fake::new(move |_, _| {
        Reply::Told(
            vec![row("1-1"), ("stats", json!({})), row("2-1"), row("3-1")],
            json!({}),
        )
    });
    let text = fake
        .run(&["tap", "-n", "2", "-o", "json", "--rate", "5"])
        .expect(0)
        .stdout;
    let ids: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone())
        .collect();
    assert_eq!(ids, ["1-1", "2-1"]);
    assert_eq!(fake.asked("tap.watch")[0]["per_s"], 5);
    let ran = fake
        .run(&["tap", "-n", "9", "--timeout", "200ms"])
        .expect(7);
    assert_eq!(ran.stdout.lines().count(), 3);
    assert!(ran.stdout.contains("k=v"), "{ran:?}");
}

#[test]
fn tap_and_watch_end_with_130_on_ctrl_c() {
    let row = json!({"stage": "count", "id": "1-1", "fields": []});
    for args in [&["tap"][..], &["status", "-w=100ms"]] {
        let row = row.clone();
        let fake = Fake::new(move |method, _| match method {
            "tap.watch" => Reply::Told(vec![("tap", row.clone())], json!({})),
            _ => Reply::Ok(status(true)),
        });
        let mut child = fake
            .command(args)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        common::until("it has asked", || !fake.requests().is_empty());
        common::kill(child.id(), rustix::process::Signal::INT);
        let mut code = None;
        common::until("it ends", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(130), "{args:?}");
    }
}

#[test]
fn watching_prints_document_after_document() {
    let fake = daemon();
    let mut child = fake
        .command(&["status", "-o", "json", "--watch=100ms"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let lines: Vec<String> = std::io::BufRead::lines(out)
        .take(3)
        .map(Result::unwrap)
        .collect();
    for line in lines {
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap()["schema"],
            "pipectl/status/1"
        );
    }
    // Its reader has gone: the next document ends it in silence.
    let mut code = None;
    common::until("it ends", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(0));
}

#[test]
fn a_closed_stdout_is_a_quiet_end() {
    let fake = daemon();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = fake
        .command(&["status"])
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn refusals_of_the_daemon_have_their_own_exit_codes() {
    for (code, exit) in [
        (-32602, 2),
        (-32603, 1),
        (-32010, 4),
        (-32011, 1),
        (-32012, 1),
        (-32601, 1),
    ] {
        let fake = Fake::new(move |_, _| Reply::Err(code, "no such luck", "try again"));
        let ran = fake.run(&["status"]).expect(exit);
        assert_eq!(ran.stderr, "pipectl: no such luck\nhint: try again\n");
    }
}
