//! Actions on entries: every path of confirmation, and what the exit code says of the result.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod common;

use std::sync::Mutex;

use common::{Fake, Reply, on_terminal};
use serde_json::{Value, json};

fn plan(matched: u64, select: &Value, state: &str, result: &Value) -> Value {
    let sample: Vec<Value> = (0..matched)
        .map(|n| json!({"stage": "count", "id": format!("{n}-1")}))
        .collect();
    let bulk = select["ids"].as_array().is_none_or(|ids| ids.len() != 1);
    json!({"id": "8f21c0", "action": "claim", "select": select, "to": null, "matched": matched,
           "skipped": [{"id": "77-1", "reason": "trimmed"}], "ids_hash": "aa11", "sample": sample, "bulk": bulk,
           "state": state, "progress": 0, "result": result, "can_undo": false, "created": "2026-01-01T00:00:00Z",
           "expires": "2026-01-01T00:15:00Z", "by": "root", "reason": null,
           "command": "pipectl pending claim --id 1-1 --yes"})
}

fn applied(n: u64) -> Value {
    json!({"applied": n, "dead": 0, "already_done": 0, "trimmed": 0, "not_found": 0, "failed": 0, "waiting": 0, "exceptions": []})
}

/// A daemon whose plans match `matched` entries and end with `result`.
fn daemon(matched: u64, result: Value) -> Fake {
    let select = Mutex::new(json!({}));
    Fake::new(move |method, params| match method {
        "plan.create" => {
            *select.lock().unwrap() = params["select"].clone();
            Reply::Ok(plan(matched, &params["select"], "ready", &Value::Null))
        }
        "plan.show" => Reply::Ok(plan(
            matched,
            &select.lock().unwrap(),
            "ready",
            &Value::Null,
        )),
        "plan.run" => Reply::Ok(plan(matched, &select.lock().unwrap(), "done", &result)),
        "command.run" => Reply::Ok(json!({"message": "paused", "stage": "count"})),
        _ => Reply::Err(-32601, "no such method", ""),
    })
}

const BULK: &[&str] = &["pending", "claim", "--stage", "count"];
const ONE: &[&str] = &["pending", "claim", "--id", "1-1"];

fn with(args: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [args, more].concat()
}

#[test]
fn without_a_terminal_nothing_is_done_unless_it_was_confirmed() {
    let table: &[(&str, Vec<&str>, u64, i32, usize)] = &[
        ("bulk, not confirmed", with(BULK, &[]), 3, 4, 0),
        ("bulk, yes", with(BULK, &["--yes"]), 3, 0, 1),
        (
            "bulk, the right count",
            with(BULK, &["--confirm", "3"]),
            3,
            0,
            1,
        ),
        (
            "bulk, a wrong count",
            with(BULK, &["--confirm", "2"]),
            3,
            4,
            0,
        ),
        (
            "bulk, yes and a wrong count",
            with(BULK, &["--yes", "--confirm", "2"]),
            3,
            4,
            0,
        ),
        ("bulk, dry run", with(BULK, &["--dry-run"]), 3, 0, 0),
        (
            "bulk, dry run with yes",
            with(BULK, &["--dry-run", "--yes"]),
            3,
            0,
            0,
        ),
        ("one, not confirmed", with(ONE, &[]), 1, 4, 0),
        ("one, yes", with(ONE, &["--yes"]), 1, 0, 1),
        (
            "one, the right count",
            with(ONE, &["--confirm", "1"]),
            1,
            0,
            1,
        ),
        ("nothing matches", with(BULK, &[]), 0, 0, 0),
        ("nothing matches, yes", with(BULK, &["--yes"]), 0, 0, 0),
        (
            "nothing matches, fail empty",
            with(BULK, &["--yes", "--fail-empty"]),
            0,
            6,
            0,
        ),
        (
            "nothing matches, dry run, fail empty",
            with(BULK, &["--dry-run", "--fail-empty"]),
            0,
            6,
            0,
        ),
        (
            "nothing matches, but some were confirmed",
            with(BULK, &["--confirm", "2"]),
            0,
            4,
            0,
        ),
        ("read only", with(BULK, &["--yes", "--read-only"]), 3, 4, 0),
        (
            "read only, dry run",
            with(BULK, &["--dry-run", "--read-only"]),
            3,
            0,
            0,
        ),
    ];
    for (desc, args, matched, exit, runs) in table {
        let fake = daemon(*matched, applied(*matched));
        let ran = fake.run(&with(&[], args)).expect(*exit);
        assert_eq!(fake.asked("plan.run").len(), *runs, "{desc}: {ran:?}");
        if *exit == 4 {
            assert!(
                ran.stderr.contains("nothing was done") || ran.stderr.contains("--read-only"),
                "{desc}: {ran:?}"
            );
        }
    }
}

#[test]
fn an_empty_selection_is_refused_before_a_daemon_is_asked() {
    let fake = daemon(3, applied(3));
    for args in [
        &["pending", "ack", "--yes"][..],
        &["dead", "purge", "--yes"],
    ] {
        let ran = fake.run(args).expect(2);
        assert!(ran.stderr.contains("--all"), "{ran:?}");
    }
    assert!(fake.requests().is_empty());
    fake.run(&["dead", "purge", "--all", "--yes"]).expect(0);
}

#[test]
fn the_plan_is_run_as_it_was_shown() {
    let fake = daemon(3, applied(3));
    fake.run(&[
        "pending",
        "claim",
        "--stage",
        "count",
        "--min-idle",
        "60s",
        "--to",
        "w1",
        "--yes",
        "--reason",
        "stuck",
    ])
    .expect(0);
    let created = &fake.asked("plan.create")[0];
    assert_eq!(
        *created,
        json!({"action": "claim", "select": {"stage": "count", "min_idle_ms": 60000}, "to": "w1"})
    );
    let run = &fake.asked("plan.run")[0];
    assert_eq!(
        *run,
        json!({"id": "8f21c0", "ids_hash": "aa11", "confirm": 3, "reason": "stuck"})
    );
}

#[test]
fn on_a_terminal_a_person_is_asked() {
    let table: &[(&str, &[&str], &str, &str, i32)] = &[
        ("bulk, the count", BULK, "Type the count (3)", "3\n", 0),
        ("bulk, another count", BULK, "Type the count (3)", "2\n", 4),
        ("bulk, a mere y", BULK, "Type the count (3)", "y\n", 4),
        ("bulk, nothing", BULK, "Type the count (3)", "\n", 4),
        ("bulk, end of input", BULK, "Type the count (3)", "\u{4}", 4),
    ];
    for (desc, args, question, answer, exit) in table {
        let fake = daemon(3, applied(3));
        let (code, text) = on_terminal(fake.command(args), question, answer);
        assert_eq!(code, Some(*exit), "{desc}: {text}");
        assert_eq!(
            fake.asked("plan.run").len(),
            usize::from(*exit == 0),
            "{desc}"
        );
    }
    for (answer, exit) in [("y\n", 0), ("yes\n", 0), ("n\n", 4), ("\n", 4), ("1\n", 4)] {
        let fake = daemon(1, applied(1));
        let (code, text) = on_terminal(fake.command(ONE), "[y/N]", answer);
        assert_eq!(code, Some(exit), "{answer:?}: {text}");
        assert_eq!(
            fake.asked("plan.run").len(),
            usize::from(exit == 0),
            "{answer:?}"
        );
    }
}

#[test]
fn no_input_never_asks_not_even_on_a_terminal() {
    let fake = daemon(3, applied(3));
    let (code, text) = on_terminal(fake.command(&with(BULK, &["--no-input"])), "", "");
    assert_eq!(code, Some(4), "{text}");
    assert!(fake.asked("plan.run").is_empty());
}

#[test]
fn ctrl_c_at_the_question_does_nothing_and_is_130() {
    let fake = daemon(3, applied(3));
    let (code, text) = on_terminal(fake.command(BULK), "Type the count (3)", common::CTRL_C);
    assert_eq!(code, Some(130), "{text}");
    assert!(fake.asked("plan.run").is_empty());
}

#[test]
fn the_document_holds_plan_and_result() {
    let fake = daemon(3, applied(3));
    let document = fake
        .run(&with(BULK, &["--yes", "-o", "json"]))
        .expect(0)
        .json();
    assert_eq!(document["schema"], "pipectl/plan/1");
    assert_eq!(document["plan"]["matched"], 3);
    assert_eq!(document["plan"]["skipped"][0]["reason"], "trimmed");
    assert_eq!(document["result"]["applied"], 3);
    let planned = fake
        .run(&with(BULK, &["--dry-run", "-o", "json"]))
        .expect(0)
        .json();
    assert_eq!(planned["result"], Value::Null);
    let refused = fake.run(&with(BULK, &["-o", "json"])).expect(4);
    assert_eq!(refused.json()["result"], Value::Null);
}

#[test]
fn the_text_shows_what_how_many_what_is_skipped_and_the_equal_command() {
    let text = daemon(3, applied(3))
        .run(&with(BULK, &["--dry-run"]))
        .expect(0)
        .stdout;
    for part in [
        "pending claim 3 entries",
        "count",
        "0-1 1-1 2-1",
        "1 (trimmed)",
        "pipectl pending claim --id 1-1 --yes",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_exit_code_says_how_much_was_done() {
    let outcome = |key: &str, n: u64| {
        let mut made = applied(3 - n);
        made[key] = json!(n);
        made
    };
    let table = [
        (applied(3), 0),
        (outcome("dead", 1), 5),
        (outcome("already_done", 3), 5),
        (outcome("trimmed", 1), 5),
        (outcome("waiting", 2), 5),
        (outcome("failed", 1), 5),
        (outcome("failed", 3), 1),
    ];
    for (result, exit) in table {
        daemon(3, result).run(&with(BULK, &["--yes"])).expect(exit);
    }
}

#[test]
fn a_plan_that_runs_on_after_its_answer_is_followed_to_its_end() {
    let polls = std::sync::atomic::AtomicU32::new(0);
    let fake = Fake::new(move |method, params| match method {
        "plan.create" => Reply::Ok(plan(3, &params["select"], "ready", &Value::Null)),
        "plan.run" => Reply::Told(
            vec![
                ("plan.progress", json!({"id": "8f21c0", "progress": 1})),
                ("plan.progress", json!("nonsense")),
            ],
            plan(3, &json!({}), "running", &Value::Null),
        ),
        "plan.show" if polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 => {
            Reply::Ok(plan(3, &json!({}), "running", &Value::Null))
        }
        "plan.show" => Reply::Ok(plan(3, &json!({}), "done", &applied(3))),
        _ => Reply::Silence,
    });
    fake.run(&with(BULK, &["--yes"])).expect(0);
    assert_eq!(fake.asked("plan.show").len(), 3);
}

#[test]
fn a_plan_that_takes_too_long_is_exit_7_and_goes_on() {
    let fake = Fake::new(|method, params| match method {
        "plan.create" => Reply::Ok(plan(3, &params["select"], "ready", &Value::Null)),
        _ => Reply::Silence,
    });
    let ran = fake
        .run(&with(BULK, &["--yes", "--timeout", "300ms"]))
        .expect(7);
    assert!(
        ran.stderr.contains("goes on in the daemon") && ran.stderr.contains("plan cancel 8f21c0"),
        "{ran:?}"
    );
}

#[test]
fn ctrl_c_leaves_a_running_plan_to_the_daemon() {
    let fake = Fake::new(|method, params| match method {
        "plan.create" => Reply::Ok(plan(3, &params["select"], "ready", &Value::Null)),
        _ => Reply::Silence,
    });
    let mut command = fake.command(&with(BULK, &["--yes"]));
    let child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    common::until("the plan runs", || !fake.asked("plan.run").is_empty());
    common::kill(child.id(), rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).contains("plan show 8f21c0"));
}

#[test]
fn a_refusal_at_run_time_is_exit_4() {
    let fake = Fake::new(|method, params| match method {
        "plan.create" => Reply::Ok(plan(3, &params["select"], "ready", &Value::Null)),
        _ => Reply::Err(-32010, "2 match now, 3 were confirmed", "look again"),
    });
    let ran = fake.run(&with(BULK, &["--yes"])).expect(4);
    assert!(ran.stderr.contains("2 match now"), "{ran:?}");
}

#[test]
fn a_plan_made_elsewhere_needs_the_same_confirmation() {
    let fake = daemon(3, applied(3));
    fake.run(&["plan", "run", "8f21c0"]).expect(4);
    fake.run(&["plan", "run", "8f21c0", "--confirm", "2"])
        .expect(4);
    assert!(fake.asked("plan.run").is_empty());
    fake.run(&["plan", "run", "8f21c0", "--confirm", "3"])
        .expect(0);
    fake.run(&["plan", "run", "8f21c0", "--yes", "--read-only"])
        .expect(4);
    let done = Fake::new(|_, _| Reply::Ok(plan(3, &json!({}), "done", &applied(3))));
    done.run(&["plan", "run", "8f21c0", "--yes"]).expect(4);
    assert!(done.asked("plan.run").is_empty());
}

#[test]
fn stages_are_steered_by_commands() {
    let fake = daemon(0, Value::Null);
    fake.run(&["pause", "count", "--reason", "maintenance"])
        .expect(0);
    fake.run(&["resume", "count"]).expect(0);
    fake.run(&["scale", "count", "4"]).expect(0);
    fake.run(&["consumers", "retire", "c1", "--stage", "count"])
        .expect(0);
    fake.run(&["x-fault", "park", "c1", "after_read"]).expect(0);
    fake.run(&["pause", "count", "--dry-run", "--read-only"])
        .expect(0);
    fake.run(&["pause", "count", "--read-only"]).expect(4);
    let asked = fake.asked("command.run");
    let brief: Vec<(&str, Value)> = asked
        .iter()
        .map(|params| (params["name"].as_str().unwrap(), params["params"].clone()))
        .collect();
    assert_eq!(
        brief,
        [
            ("stage.pause", json!({"stage": "count"})),
            ("stage.resume", json!({"stage": "count"})),
            ("stage.scale", json!({"stage": "count", "workers": 4})),
            (
                "consumer.retire",
                json!({"stage": "count", "consumer": "c1"})
            ),
            (
                "x-fault.park",
                json!({"consumer": "c1", "point": "after_read"})
            ),
            ("stage.pause", json!({"stage": "count"})),
        ]
    );
    assert_eq!(
        (&asked[0]["reason"], &asked[5]["dry_run"]),
        (&json!("maintenance"), &json!(true))
    );
}

#[test]
fn a_command_of_high_risk_is_asked_for_and_its_parameters_are_named_by_the_daemon() {
    let mut hello = common::hello();
    hello["params"]["specs"] = json!([{"name": "stage.scale", "summary": "", "scope": "stage", "risk": "high",
        "role": "operator", "params": [
            {"name": "of", "summary": "", "kind": "stage", "default": null},
            {"name": "to", "summary": "", "kind": {"integer": {"min": 1, "max": 64}}, "default": null}]}]);
    let fake = Fake::greeting(format!("{hello}\n").into_bytes(), |_, _| {
        Reply::Ok(json!({}))
    });
    fake.run(&["scale", "count", "4"]).expect(4);
    assert!(fake.requests().is_empty());
    fake.run(&["scale", "count", "4", "--yes"]).expect(0);
    assert_eq!(
        fake.asked("command.run")[0]["params"],
        json!({"of": "count", "to": 4})
    );
}
