//! `pipectl chaos` against a daemon made of one closure: confirmation, following a run whose daemon dies, exit codes.
//!
//! Past 500 lines because each verb and each verdict is a test of its own, on one daemon that is made up.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Fake, Reply, kill, on_terminal, until};
use serde_json::{Value, json};

const ID: &str = "20260101T000000.000Z-net.latency";

fn experiment(name: &str) -> Value {
    let point = json!({"name": "point", "summary": "Where.", "default": "a",
                       "kind": {"choice": ["a", "b"]}});
    let delay = json!({"name": "delay", "summary": "How much.", "default": "100ms",
                       "kind": {"span": {"min_ms": 1, "max_ms": 2_000}}});
    json!({"spec": {"name": name, "summary": "Delays answers.", "scope": "daemon", "risk": "medium", "role": "viewer",
                    "params": if name == "worker.kill" { json!([point]) } else { json!([delay]) }},
           "claim": "It costs time and no events.", "copy_only": false, "refused": null, "last": null})
}

fn catalogue() -> Value {
    let names = [
        "worker.kill",
        "worker.pause",
        "daemon.kill",
        "redis.kill",
        "redis.flushgroup",
        "net.latency",
        "data.poison",
        "data.duplicate",
        "data.burst",
    ];
    json!({"enabled": true, "rows": names.map(experiment), "running": null, "schedule": null,
           "lever": {"pulled": true, "by": "bob\u{1b}[2J", "reason": "the sale", "since_ms": 0}})
}

fn preview(refused: Option<&str>) -> Value {
    json!({"experiment": "net.latency", "claim": "It costs time.", "params": {"delay": "100ms"},
           "targets": ["30% of connections"], "steps": ["0s after the begin: 100ms on each way"],
           "reverts": ["the network is as before"], "hypothesis": [["lost", "= 0"]], "stop_when": [],
           "for_ms": 30_000, "about_ms": 60_000, "rate": 200, "seed": 7, "refused": refused})
}

fn run(verdict: &str, seed: u64) -> Value {
    json!({"id": ID, "experiment": "net.latency", "claim": "It costs time.", "params": {"delay": "100ms"},
           "targets": ["30% of connections"], "seed": seed, "rate": 200, "started_ms": 1_000, "ended_ms": 31_000,
           "injected_t_ms": 5_000, "reverted_t_ms": 15_000, "verdict": verdict, "why": "as it\u{1b}[2J was",
           "hypothesis": [{"name": "lost", "tolerance": "= 0", "before": null, "during": null, "after": "0", "held": true}],
           "measurements": {"detect_ms": null, "detected_by": null, "mitigate_ms": null, "recover_ms": 1_000.0 * seed as f64,
               "availability": 0.99, "probes_good": 99, "probes": 100, "unavailable_ms": 100.0,
               "freshness_worst_ms": 2.5, "lost": 0, "duplicated": 0, "gone": null, "dead": 0, "peak_lag": 3,
               "drain_per_s": null, "peak_rss_bytes": null, "faults_injected": 4, "acknowledged": 1_000,
               "latency_ms": {"before": {"n": 3, "p50": 1.0, "p95": 2.0, "p99": null, "max": 4.0}}},
           "ledger_before": null, "ledger_after": null, "timeline": [], "reverted": [], "judged_by": [],
           "compared": null, "by": "root", "versions": {}, "config_hash": "", "folder": "/d/chaos/x"})
}

fn progress(verdict: Option<&str>, seed: u64) -> Value {
    let phase = if verdict.is_some() { "ended" } else { "during" };
    json!({"running": {"id": ID, "experiment": "net.latency", "phase": phase, "started_ms": 1_000, "injected_ms": null,
                       "reverted_ms": null, "until_ms": null, "targets": [], "by": "root"},
           "seed": seed, "verdict": verdict, "why": "", "slots": [],
           "marks": [{"seq": 1, "t_ms": 7_300, "kind": "fault", "text": "100 ms on\u{1b}[2J each way"}],
           "run": verdict.map(|verdict| run(verdict, seed))})
}

/// A daemon on which each run ends with this verdict at the second question.
fn daemon(verdict: &'static str) -> Fake {
    let seed = AtomicU64::new(7);
    let asked = AtomicU64::new(0);
    Fake::new(move |method, params| answer(method, params, verdict, &seed, &asked))
}

fn answer(
    method: &str,
    params: &Value,
    verdict: &'static str,
    seed: &AtomicU64,
    asked: &AtomicU64,
) -> Reply {
    match method {
        "chaos.list" => Reply::Ok(catalogue()),
        "chaos.run" if params["dry_run"] == true => Reply::Ok(preview(None)),
        "chaos.run" => {
            let given = params["seed"].as_u64().unwrap();
            seed.store(given, Ordering::SeqCst);
            asked.store(0, Ordering::SeqCst);
            Reply::Ok(json!({"id": ID, "seed": given}))
        }
        "chaos.get" => {
            let is_over = asked.fetch_add(1, Ordering::SeqCst) > 0;
            Reply::Ok(progress(
                is_over.then_some(verdict),
                seed.load(Ordering::SeqCst),
            ))
        }
        "chaos.stop" => Reply::Ok(json!({"id": ID, "message": "stopping"})),
        "chaos.lever" => Reply::Ok(
            json!({"pulled": params["pull"], "by": "root", "reason": params["reason"], "since_ms": 1}),
        ),
        "chaos.report" => {
            Reply::Ok(json!({"id": ID, "text": format!("# {}\u{1b}[2J\n", params["form"])}))
        }
        "chaos.history" => Reply::Ok(json!({"rows": [], "next": null, "total": 0})),
        "status.get" => Reply::Ok(status()),
        _ => Reply::Err(-32601, "no such method", ""),
    }
}

fn status() -> Value {
    json!({"pipeline": "orders", "state": "running", "reason": null, "healthy": true, "uptime_s": 1.0,
           "redis": {"url": "managed", "version": null, "state": "up", "used_memory_bytes": null, "max_memory_bytes": null,
                     "mode": "managed", "down_ms": null, "error": null},
           "throughput": {"in_per_s": null, "out_per_s": null},
           "latency_ms": {"p50": null, "p95": null, "p99": null, "p999": null}, "ledger": null, "stages": [], "alerts": [],
           "chaos": null, "daemon": {"pid": 7, "version": "0.1.0", "rss_bytes": null, "cpu_cores": null}})
}

const RUN: &[&str] = &["chaos", "run", "net.latency"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[test]
fn the_exit_code_follows_the_verdict() {
    let table = [
        ("pass", 0),
        ("failed", 1),
        ("refused", 4),
        ("aborted", 5),
        ("inconclusive", 6),
        ("deviated", 8),
    ];
    for (verdict, code) in table {
        let daemon = daemon(verdict);
        let ran = daemon
            .run(&with(RUN, &["--yes", "-o", "json"]))
            .expect(code);
        let document = ran.json();
        assert_eq!(document["schema"], "pipectl/chaos/1", "{verdict}");
        assert_eq!(document["verdict"], verdict);
        assert_eq!(
            document["measurements"]["gone"],
            Value::Null,
            "unknown is not 0"
        );
        assert!(
            ran.stderr.contains("fault   100 ms on\\x1b[2J each way"),
            "{}",
            ran.stderr
        );
        let text = daemon.run(&with(RUN, &["--yes"])).expect(code).stdout;
        for part in [
            verdict,
            "as it\\x1b[2J was",
            "lost",
            "pipectl chaos report 2026",
            "--set delay=100ms --rate 200 --seed 7",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn without_a_terminal_nothing_is_hurt_unless_it_was_confirmed() {
    let table: &[(&[&str], i32, usize)] = &[
        (&[], 4, 0),
        (&["--yes"], 0, 1),
        (&["--dry-run"], 0, 0),
        (&["--dry-run", "--yes"], 0, 0),
        (&["--yes", "--read-only"], 4, 0),
        (&["--dry-run", "--read-only"], 0, 0),
        (&["--yes", "--for", "soon"], 2, 0),
        (&["--yes", "--set", "delay"], 2, 0),
        (&["--yes", "--no-wait"], 0, 1),
    ];
    for (flags, code, n_runs) in table {
        let daemon = daemon("pass");
        let ran = daemon.run(&with(RUN, flags)).expect(*code);
        let begun = daemon
            .asked("chaos.run")
            .into_iter()
            .filter(|p| p["dry_run"] == false);
        assert_eq!(begun.count(), *n_runs, "{flags:?}");
        if *code == 4 && !flags.contains(&"--read-only") {
            assert!(ran.stdout.contains("30% of connections"), "{ran:?}");
            assert!(ran.stderr.contains("hint: add --yes"), "{ran:?}");
        }
    }
}

#[test]
fn on_a_terminal_a_person_is_asked() {
    for (answer, code, n) in [("y\n", 0, 1), ("n\n", 4, 0)] {
        let daemon = daemon("pass");
        let (exit, _) = on_terminal(daemon.command(RUN), "? [y/N]", answer);
        assert_eq!(exit, Some(code), "{answer}");
        let begun = daemon
            .asked("chaos.run")
            .into_iter()
            .filter(|p| p["dry_run"] == false);
        assert_eq!(begun.count(), n, "{answer}");
    }
}

#[test]
fn what_is_given_reaches_the_daemon() {
    let daemon = daemon("pass");
    let flags = [
        "--yes",
        "--for",
        "30s",
        "--set",
        "delay=200ms",
        "--rate",
        "500",
        "--seed",
        "3",
        "--reason",
        "a drill",
    ];
    daemon.run(&with(RUN, &flags)).expect(0);
    let expected = json!({"name": "net.latency", "params": {"delay": "200ms"}, "for": "30s", "rate": 500, "seed": 3, "reason": "a drill"});
    for (params, dry_run) in daemon.asked("chaos.run").iter().zip([true, false]) {
        let mut expected = expected.clone();
        expected["dry_run"] = json!(dry_run);
        if dry_run || params["seed"] == 7 {
            // The seed that the dry run told is the one that is run.
            expected["seed"] = params["seed"].clone();
        }
        assert_eq!(*params, expected);
    }
}

#[test]
fn a_refusal_is_told_before_a_person_is_asked() {
    let daemon = Fake::new(|method, _| match method {
        "chaos.run" => Reply::Ok(preview(Some(
            "the lever is pulled (take it back: pipectl chaos lever off)",
        ))),
        _ => Reply::Err(-32601, "no such method", ""),
    });
    let ran = daemon.run(&with(RUN, &["--yes"])).expect(4);
    assert!(ran.stderr.contains("the lever is pulled"), "{ran:?}");
    let ran = daemon.run(&with(RUN, &["--dry-run"])).expect(4);
    assert!(ran.stdout.contains("the lever is pulled"), "{ran:?}");
    assert_eq!(daemon.asked("chaos.run").len(), 2, "nothing was begun");
}

#[test]
fn several_runs_follow_each_other_by_their_seeds_and_the_worst_counts() {
    let daemon = Fake::new({
        let (seed, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        move |method, params| {
            let verdict = if seed.load(Ordering::SeqCst) == 8 {
                "deviated"
            } else {
                "pass"
            };
            answer(method, params, verdict, &seed, &asked)
        }
    });
    let ran = daemon
        .run(&with(RUN, &["--yes", "--repeat", "3", "-o", "json"]))
        .expect(8);
    let document = ran.json();
    let seeds: Vec<_> = document["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["seed"].clone())
        .collect();
    assert_eq!(seeds, [7, 8, 9]);
    assert_eq!(
        (&document["verdict"], &document["schema"]),
        (&json!("deviated"), &json!("pipectl/chaos-repeat/1"))
    );
    assert_eq!(document["median"]["recover_ms"], 8_000.0);
    assert_eq!(document["worst"]["recover_ms"], 9_000.0);
    let text = daemon
        .run(&with(RUN, &["--yes", "--repeat", "3"]))
        .expect(8);
    assert!(
        text.stdout.contains("median") && text.stderr.contains("2/3"),
        "{text:?}"
    );
}

#[test]
fn a_daemon_that_dies_meanwhile_is_waited_for() {
    let first = Mutex::new(true);
    let daemon = Fake::new(move |method, params| match method {
        "chaos.get" if std::mem::take(&mut *first.lock().unwrap()) => {
            Reply::RawThenClose(b"".to_vec())
        }
        _ => answer(
            method,
            params,
            "pass",
            &AtomicU64::new(7),
            &AtomicU64::new(1),
        ),
    });
    let ran = daemon.run(&with(RUN, &["--yes"])).expect(0);
    assert!(ran.stderr.contains("waiting for the daemon"), "{ran:?}");
    assert!(ran.stderr.contains("the daemon answers again"), "{ran:?}");
}

#[test]
fn ctrl_c_stops_the_experiment_and_waits_for_its_end() {
    let stopped = std::sync::Arc::new(Mutex::new(false));
    let is_stopped = std::sync::Arc::clone(&stopped);
    let daemon = Fake::new(move |method, params| {
        let (seed, asked) = (AtomicU64::new(7), AtomicU64::new(0));
        match method {
            "chaos.stop" => *is_stopped.lock().unwrap() = true,
            "chaos.get" if *is_stopped.lock().unwrap() => asked.store(1, Ordering::SeqCst),
            _ => {}
        }
        answer(method, params, "aborted", &seed, &asked)
    });
    let mut command = daemon.command(&with(RUN, &["--yes", "-o", "json"]));
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("it follows", || !daemon.asked("chaos.get").is_empty());
    kill(child.id(), rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert_eq!(daemon.asked("chaos.stop"), [json!({"reason": "Ctrl-C"})]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["verdict"], "aborted");
}

#[test]
fn a_guard_that_died_is_not_followed_for_ever_and_a_lost_run_is_told() {
    let daemon = Fake::new(|method, params| match method {
        "chaos.get" => Reply::Err(
            -32011,
            "there is no run \"x\"",
            "see: pipectl chaos history",
        ),
        _ => answer(
            method,
            params,
            "pass",
            &AtomicU64::new(7),
            &AtomicU64::new(0),
        ),
    });
    let ran = daemon.run(&with(RUN, &["--yes"]));
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("there is no run"), "{ran:?}");
}

#[test]
fn lists_and_reports_are_shown_clean() {
    let daemon = daemon("pass");
    let list = daemon.run(&["chaos", "ls"]).expect(0).stdout;
    assert!(
        list.contains("net.latency") && list.contains("the lever is pulled"),
        "{list}"
    );
    let rows = daemon.run(&["chaos", "ls", "-o", "json"]).expect(0).json();
    assert_eq!(
        (&rows["rows"][5]["name"], &rows["lever"]["pulled"]),
        (&json!("net.latency"), &json!(true))
    );
    let shown = daemon
        .run(&["chaos", "show", "net.latency"])
        .expect(0)
        .stdout;
    assert!(
        shown.contains("1ms to 2s")
            && shown.contains("pipectl chaos run net.latency --set delay=100ms"),
        "{shown}"
    );
    daemon.run(&["chaos", "show", "nothing"]).expect(1);
    let report = daemon.run(&["chaos", "report"]).expect(0).stdout;
    assert_eq!(report, "# \"markdown\"\\x1b[2J\n");
    let series = daemon
        .run(&["chaos", "report", ID, "--form", "series"])
        .expect(0)
        .stdout;
    assert!(series.starts_with("# \"series\""), "{series}");
    assert_eq!(
        daemon.asked("chaos.report")[1],
        json!({"id": ID, "form": "series"})
    );
    let none = daemon.run(&["chaos", "history"]).expect(0).stdout;
    assert!(none.contains("no experiment has run here yet"), "{none}");
    let markdown = daemon
        .run(&with(RUN, &["--yes", "-o", "md"]))
        .expect(0)
        .stdout;
    assert!(markdown.starts_with("# \"markdown\""), "{markdown}");
    for text in [list, shown, report, series, markdown] {
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn the_lever_is_pulled_with_a_reason_and_a_stop_is_told() {
    let daemon = daemon("pass");
    daemon
        .run(&["chaos", "lever", "on", "--reason", "the sale"])
        .expect(0);
    daemon.run(&["chaos", "lever", "off"]).expect(0);
    assert_eq!(
        daemon.asked("chaos.lever"),
        [
            json!({"pull": true, "reason": "the sale"}),
            json!({"pull": false})
        ]
    );
    daemon.run(&["chaos", "lever", "status"]).expect(0);
    assert_eq!(
        daemon.asked("chaos.lever").len(),
        2,
        "looking changes nothing"
    );
    daemon
        .run(&["chaos", "stop", "--reason", "enough"])
        .expect(0);
    assert_eq!(daemon.asked("chaos.stop"), [json!({"reason": "enough"})]);
    for args in [["chaos", "stop"].as_slice(), &["chaos", "lever", "off"]] {
        daemon.run(&with(args, &["--read-only"])).expect(4);
    }
}

#[test]
fn the_files_of_a_run_are_copied_out_and_a_lying_id_is_no_path() {
    let daemon = daemon("pass");
    let out = daemon.dir.path().join("out");
    let flag = format!("--out={}", out.display());
    daemon.run(&with(RUN, &["--yes", &flag])).expect(0);
    for name in [
        "report.md",
        "run.json",
        "journal.json",
        "junit.xml",
        "series.csv",
    ] {
        assert!(out.join(ID).join(name).exists(), "{name}");
    }
    let liar = Fake::new(|method, params| {
        match answer(
            method,
            params,
            "pass",
            &AtomicU64::new(7),
            &AtomicU64::new(1),
        ) {
            Reply::Ok(mut value) if method == "chaos.get" => {
                value["run"]["id"] = json!("../../../tmp/x");
                Reply::Ok(value)
            }
            other => other,
        }
    });
    let ran = liar.run(&with(RUN, &["--yes", &flag])).expect(1);
    assert!(ran.stderr.contains("nonsense"), "{ran:?}");
}

#[test]
fn a_suite_goes_on_behind_its_last_row() {
    let daemon = daemon("pass");
    let state = daemon.dir.path().join("state.json");
    let state = state.to_str().unwrap();
    daemon.run(&["chaos", "suite", "smoke"]).expect(4);
    let plan = daemon
        .run(&["chaos", "suite", "full", "--dry-run", "--yes", "-o", "json"])
        .expect(0)
        .json();
    let steps: Vec<_> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap())
        .collect();
    assert_eq!(
        steps[..3],
        ["worker.kill a", "worker.kill b", "worker.pause"]
    );
    assert!(steps.contains(&"net.latency+worker.kill"), "{steps:?}");
    assert!(
        daemon.asked("chaos.run").is_empty(),
        "a dry run begins nothing"
    );
    let suite = [
        "chaos", "suite", "smoke", "--yes", "--state", state, "-o", "json",
    ];
    let document = daemon.run(&suite).expect(0).json();
    assert_eq!(document["runs"].as_array().unwrap().len(), 8);
    assert_eq!(
        (&document["probes_good"], &document["probes"]),
        (&json!(792), &json!(800))
    );
    assert_eq!(daemon.asked("chaos.run").len(), 8);
    // Two rows less, as if it had been ended there.
    let mut kept: Value = serde_json::from_str(&std::fs::read_to_string(state).unwrap()).unwrap();
    kept["rows"].as_array_mut().unwrap().truncate(6);
    std::fs::write(state, kept.to_string()).unwrap();
    let table = daemon
        .run(&with(&suite[..suite.len() - 1], &["md"]))
        .expect(0)
        .stdout;
    assert_eq!(daemon.asked("chaos.run").len(), 10);
    let seeds: Vec<_> = daemon
        .asked("chaos.run")
        .iter()
        .map(|p| p["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(
        seeds,
        [1, 2, 3, 4, 5, 6, 7, 8, 7, 8],
        "each has its own seed, also after the break"
    );
    assert!(table.starts_with("| experiment | verdict |"), "{table}");
    assert!(table.contains("availability 99.00%"), "{table}");
    daemon.run(&with(&suite, &["--seed", "9"])).expect(2);
}

#[test]
fn a_suite_goes_on_after_a_run_that_was_refused_and_tells_the_worst() {
    let daemon = Fake::new(|method, params| match method {
        "chaos.run" if params["name"] == "redis.kill" => {
            Reply::Err(-32010, "redis.kill hurts Redis itself", "use --copy")
        }
        _ => answer(
            method,
            params,
            "pass",
            &AtomicU64::new(7),
            &AtomicU64::new(1),
        ),
    });
    let ran = daemon.run(&["chaos", "suite", "smoke", "--yes", "-o", "json"]);
    let runs = ran.json()["runs"].clone();
    assert_eq!(runs.as_array().unwrap().len(), 8);
    assert_eq!(
        (&runs[3]["experiment"], &runs[3]["why"]),
        (
            &json!("redis.kill"),
            &json!("redis.kill hurts Redis itself")
        )
    );
    assert_ne!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_copy_that_cannot_be_started_is_told() {
    // No `pipelined` lies beside this copy of the program, and PATH leads nowhere.
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("pipectl");
    std::fs::copy(env!("CARGO_BIN_EXE_pipectl"), &alone).unwrap();
    let mut command = common::clean(&alone);
    command
        .env("PATH", "/nonexistent")
        .args(["chaos", "run", "net.latency", "--copy"]);
    let ran = common::run(command).expect(1);
    assert!(
        ran.stderr.contains("neither beside pipectl nor in PATH"),
        "{ran:?}"
    );
}
