//! Entries that nobody finishes: they are seen, looked at, claimed, acknowledged, retried or given up; each counts once.

use serde_json::{Value, json};

use crate::house::{House, QUIET, wait_for};

/// One worker in `enrich` that reads 50 at a time and never sweeps within a test.
pub fn one_worker() -> House {
    let mut house = House::new(QUIET);
    house
        .set("stage.enrich.workers=1")
        .set("stage.enrich.batch=50")
        .set("stage.enrich.claim_after=10m");
    house.start();
    house.wait_healthy();
    house
}

/// Parks the only worker of `enrich` at a point, sends events, and starts a second worker that does the rest. Returns both
/// and the ids that the parked one holds, oldest first.
pub fn parked(house: &House, point: &str, n_events: u64) -> (String, String, Vec<String>) {
    let stuck = wait_for("a worker", || house.workers("enrich").first().cloned());
    house.json(&["x-fault", "park", &stuck, point]);
    house.add_events(0, n_events);
    wait_for("the worker to park", || {
        let rows = house.rows(&["consumers", "ls", "--stage", "enrich"]);
        rows.iter()
            .any(|row| row["name"] == *stuck && row["state"] == "parked")
            .then_some(())
    });
    house.json(&["scale", "enrich", "2"]);
    let live = wait_for("a second worker", || {
        house.workers("enrich").into_iter().find(|w| *w != stuck)
    });
    let mut ids = Vec::new();
    wait_for("only the parked worker to hold entries", || {
        let ledger = house.json(&["ledger"]);
        let rows = house.rows(&["pending", "ls"]);
        ids = rows
            .iter()
            .filter_map(|row| row["id"].as_str().map(str::to_owned))
            .collect();
        let alone = rows.iter().all(|row| row["consumer"] == *stuck);
        (alone && ledger["undelivered"] == 0 && ledger["pending"] == ids.len()).then_some(())
    });
    assert!(!ids.is_empty(), "{stuck} holds nothing");
    (stuck, live, ids)
}

/// Lets a parked worker go on and waits until it has worked off everything that it had in hand.
pub fn released(house: &House, stuck: &str) {
    house.json(&["x-fault", "release", stuck]);
    wait_for("the released worker to read again", || {
        let rows = house.rows(&["consumers", "ls", "--stage", "enrich"]);
        let row = rows.iter().find(|row| row["name"] == *stuck)?;
        (row["state"] != "parked" && row["pending"] == 0).then_some(())
    });
}

#[track_caller]
pub fn all_applied_once(house: &House, n: u64) {
    let ledger = house.settled();
    assert_eq!(
        [&ledger["applied"], &ledger["duplicated"], &ledger["lost"]],
        [&json!(n), &json!(0), &json!(0)],
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(house.json(&["aggregates"])["total_count"], n);
}

fn held_is_seen_claimed_and_applied_once(point: &str) {
    let house = one_worker();
    let (stuck, live, ids) = parked(&house, point, 400);
    let rows = house.rows(&["pending", "ls", "--consumer", &stuck]);
    assert_eq!(rows.len(), ids.len());
    for row in &rows {
        assert_eq!(row["stage"], "enrich");
        assert_eq!(row["stream"], "events");
        assert_eq!(row["group"], "event_group");
        assert_eq!(row["entry"], "ok");
        assert_eq!(
            (&row["tries"], &row["deliveries"]),
            (&json!(0), &json!(1)),
            "{row}"
        );
        for name in ["idle_ms", "held_ms", "age_ms", "size_bytes"] {
            assert!(row[name].is_u64(), "{name}: {row}");
        }
        assert!(
            row["not_before"].is_null() && row["last_error"].is_null(),
            "{row}"
        );
    }
    let shown = house.json(&["pending", "show", &ids[0]]);
    let fields = shown["fields"].as_array().expect("fields");
    let names: Vec<_> = fields.iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "event_id",
            "user_id",
            "event_type",
            "product",
            "session_id",
            "value",
            "ts"
        ]
    );
    assert!(
        fields[0]["value"].as_str().unwrap().starts_with("event-"),
        "{shown}"
    );

    let done = house.json(&[
        "pending",
        "claim",
        "--consumer",
        &stuck,
        "--yes",
        "--reason",
        "it hangs",
    ]);
    assert_eq!(done["schema"], "pipectl/plan/1");
    assert_eq!(done["plan"]["action"], "claim");
    assert_eq!(done["plan"]["matched"], ids.len());
    assert_eq!(done["plan"]["skipped"], json!([]));
    assert!(done["plan"]["ids_hash"].is_string());
    assert_eq!(done["result"]["applied"], ids.len(), "{done}");
    all_applied_once(&house, 400);

    released(&house, &stuck);
    house.add_events(400, 500);
    all_applied_once(&house, 500);
    let status = house.json(&["status"]);
    assert_eq!(
        status["alerts"],
        json!([]),
        "a late commit is no third party: {status}"
    );
    let audit = house.rows(&["audit"]);
    let row = audit
        .iter()
        .find(|row| row["action"] == "plan.run")
        .expect("an audit row");
    assert_eq!(row["reason"], "it hangs");
    let result = row["result"].as_str().unwrap();
    assert!(result.starts_with("ok: done") && result.contains(&format!("applied {}", ids.len())));
    assert!(house.workers("enrich").contains(&live));
}

#[test]
fn a_batch_parked_after_its_read_is_claimed_and_applied_once() {
    held_is_seen_claimed_and_applied_once("after_read");
}

#[test]
fn hole_03_a_batch_parked_before_its_commit_is_claimed_and_the_late_commit_changes_nothing() {
    held_is_seen_claimed_and_applied_once("before_commit");
}

#[test]
fn a_batch_parked_after_its_commit_is_done_and_what_was_read_ahead_is_claimed() {
    held_is_seen_claimed_and_applied_once("after_commit");
}

#[test]
fn hole_07_a_dead_consumer_is_retired_once_what_it_held_was_claimed_and_applied() {
    let house = House::quiet();
    let ids = house.ghost(0, 120);
    house.add_events(120, 200);
    wait_for("the others to be applied", || {
        (house.json(&["ledger"])["pending"] == 120).then_some(())
    });
    let refused = house.ends(4, &["consumers", "retire", "ghost", "--yes"]);
    assert!(
        refused.is_null() || refused["result"].is_null(),
        "{refused}"
    );

    // One by its id, the rest by their consumer.
    let one = house.json(&["pending", "claim", "--id", &ids[7], "--yes"]);
    assert_eq!(one["result"]["applied"], 1, "{one}");
    let rest = house.json(&[
        "pending",
        "claim",
        "--consumer",
        "ghost",
        "--confirm",
        "119",
    ]);
    assert_eq!(rest["result"]["applied"], 119, "{rest}");
    all_applied_once(&house, 200);
    house.json(&["consumers", "retire", "ghost", "--yes"]);
    let rows = house.rows(&["consumers", "ls", "--stage", "enrich"]);
    assert!(rows.iter().all(|row| row["name"] != "ghost"), "{rows:?}");
}

#[test]
fn a_dry_run_and_a_missing_or_wrong_confirmation_change_nothing() {
    let house = House::quiet();
    let ids = house.ghost(0, 10);
    let before = house.redis(&[
        "XPENDING",
        "events",
        "event_group",
        "-",
        "+",
        "100",
        "ghost",
    ]);
    let before: Vec<_> = before.lines().collect();
    assert_eq!(before.len() % 10, 0);
    for verb in ["claim", "ack", "retry", "dead"] {
        let planned = house.ends(0, &["pending", verb, "--consumer", "ghost", "--dry-run"]);
        assert_eq!(planned["plan"]["matched"], 10, "{planned}");
        assert_eq!(planned["result"], Value::Null);
        let planned = house.ends(4, &["pending", verb, "--consumer", "ghost"]);
        assert_eq!(
            planned["plan"]["matched"], 10,
            "the plan is printed: {planned}"
        );
        assert_eq!(planned["result"], Value::Null);
        house.ends(4, &["pending", verb, "--id", &ids[0]]);
        house.ends(
            4,
            &["pending", verb, "--consumer", "ghost", "--confirm", "9"],
        );
        house.ends(
            4,
            &[
                "--read-only",
                "pending",
                verb,
                "--consumer",
                "ghost",
                "--yes",
            ],
        );
        house.ends(2, &["pending", verb, "--yes"]);
        house.ends(
            6,
            &[
                "pending",
                verb,
                "--consumer",
                "nobody",
                "--yes",
                "--fail-empty",
            ],
        );
        house.ends(0, &["pending", verb, "--consumer", "nobody", "--yes"]);
    }
    let rows = house.rows(&["pending", "ls", "--consumer", "ghost"]);
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row["deliveries"] == 1), "{rows:?}");
    let ledger = house.json(&["ledger"]);
    assert_eq!(
        [&ledger["pending"], &ledger["applied"], &ledger["balanced"]],
        [&json!(10), &json!(0), &json!(true)],
        "{ledger}"
    );
    assert!(
        house
            .rows(&["audit"])
            .iter()
            .all(|row| row["action"] != "plan.run"),
        "nothing ran"
    );
}

#[test]
fn acknowledged_is_discarded_killed_is_dead_and_retried_is_applied() {
    let house = House::quiet();
    let ids = house.ghost(0, 30);
    let acked = house.json(&["pending", "ack", "--id", &ids[0], "--id", &ids[1], "--yes"]);
    assert_eq!(acked["result"]["applied"], 2, "{acked}");
    let killed = house.json(&[
        "pending",
        "dead",
        "--id",
        &ids[2],
        "--yes",
        "--reason",
        "looks odd",
    ]);
    assert_eq!(killed["result"]["dead"], 1, "{killed}");
    let retried = house.json(&["pending", "retry", "--id", &ids[3], "--yes"]);
    assert_eq!(retried["result"]["applied"], 1, "{retried}");
    // What is done already is passed over when the plan is made.
    let again = house.ends(0, &["pending", "ack", "--id", &ids[0], "--yes"]);
    assert_eq!(again["plan"]["matched"], 0);
    assert_eq!(again["plan"]["skipped"][0]["reason"], "no longer pending");
    let rest = house.json(&["pending", "claim", "--match", "event_type = click", "--yes"]);
    let n_clicks = rest["plan"]["matched"].as_u64().unwrap();
    assert_eq!(rest["result"]["applied"], n_clicks);
    assert_eq!(n_clicks, 8, "of 4 to 29 every third: {rest}");
    house.json(&["pending", "claim", "--all", "--yes"]);

    let ledger = house.settled();
    assert_eq!(
        [
            &ledger["discarded"],
            &ledger["dead"],
            &ledger["applied"],
            &ledger["balanced"]
        ],
        [&json!(2), &json!(1), &json!(27), &json!(true)],
        "{ledger}"
    );
    assert_eq!(house.json(&["aggregates"])["total_count"], 27);
    let dead = house.rows(&["dead", "ls"]);
    assert_eq!(
        (
            &dead[0]["reason"],
            &dead[0]["origin_id"],
            &dead[0]["counts"]
        ),
        (&json!("by_operator"), &json!(ids[2]), &json!(true)),
        "{dead:?}"
    );
    assert!(
        dead[0]["error"].as_str().unwrap().contains("looks odd"),
        "{dead:?}"
    );
    let ran: Vec<_> = house
        .rows(&["audit"])
        .into_iter()
        .filter(|row| row["action"] == "plan.run")
        .collect();
    assert_eq!(ran.len(), 5, "one row for each that ran: {ran:?}");
}

#[test]
fn a_plan_is_run_once_passes_over_what_is_gone_and_can_be_cancelled() {
    let house = House::quiet();
    let ids = house.ghost(0, 20);
    let planned = house.ends(4, &["pending", "claim", "--consumer", "ghost"]);
    let plan = planned["plan"]["id"].as_str().unwrap().to_owned();
    let other = house.ends(4, &["pending", "ack", "--consumer", "ghost"]);
    let other = other["plan"]["id"].as_str().unwrap().to_owned();
    let listed = house.rows(&["plan", "ls"]);
    let state = |id: &str| {
        let row = listed.iter().find(|row| row["id"] == *id).cloned();
        row.expect("it is listed")["state"].clone()
    };
    assert_eq!(
        (state(&plan), state(&other)),
        (json!("ready"), json!("ready"))
    );

    let cancelled = house.json(&["plan", "cancel", &other]);
    assert_eq!(cancelled["plan"]["state"], "cancelled", "{cancelled}");
    house.ends(4, &["plan", "run", &other, "--yes"]);
    // One of the frozen ids is finished by somebody else, one loses its payload before the plan runs.
    house.json(&["pending", "claim", "--id", &ids[0], "--yes"]);
    house.redis(&["XDEL", "events", &ids[1]]);
    house.ends(4, &["plan", "run", &plan]);
    let done = house.ends(5, &["plan", "run", &plan, "--confirm", "20"]);
    assert_eq!(done["plan"]["state"], "done", "{done}");
    let result = &done["result"];
    assert_eq!(
        [
            &result["applied"],
            &result["already_done"],
            &result["trimmed"]
        ],
        [&json!(18), &json!(1), &json!(1)],
        "{done}"
    );
    house.ends(4, &["plan", "run", &plan, "--yes"]);
    let shown = house.json(&["plan", "show", &plan]);
    assert_eq!(shown["result"]["applied"], 18, "{shown}");
    house.ends(1, &["plan", "show", "000000"]);
    let ledger = house.settled();
    assert_eq!(
        [
            &ledger["applied"],
            &ledger["lost"],
            &ledger["discarded"],
            &ledger["balanced"]
        ],
        [&json!(19), &json!(1), &json!(0), &json!(true)],
        "{ledger}"
    );
}

#[test]
fn a_plan_that_ran_when_the_daemon_died_is_interrupted_and_never_resumed() {
    let mut house = House::new(QUIET);
    house.set("stage.enrich.claim_after=10m");
    house.start();
    house.wait_healthy();
    house.ghost(0, 20);
    let ready = house.ends(4, &["pending", "ack", "--consumer", "ghost"]);
    let ready = ready["plan"]["id"].as_str().unwrap().to_owned();
    // The worker that the entries are handed to stops before it commits them.
    let workers = house.workers("enrich");
    house.json(&["x-fault", "park", &workers[0], "before_commit"]);
    house.ends(
        7,
        &[
            "pending",
            "claim",
            "--consumer",
            "ghost",
            "--to",
            &workers[0],
            "--yes",
            "--timeout",
            "1s",
        ],
    );
    let running = house.rows(&["plan", "ls"]);
    let plan = running.iter().find(|row| row["state"] == "running");
    let plan = plan.expect("it runs")["id"].as_str().unwrap().to_owned();
    house.kill();
    house.start();
    house.wait_healthy();
    let shown = house.json(&["plan", "show", &plan]);
    assert_eq!(shown["plan"]["state"], "interrupted", "{shown}");
    house.ends(4, &["plan", "run", &plan, "--yes"]);
    let audit = house.rows(&["audit"]);
    let row = audit.iter().find(|row| row["action"] == "plan.run");
    let result = row.expect("an audit row")["result"].as_str().unwrap();
    assert!(result.starts_with("failed: interrupted"), "{result}");
    // What the dead worker held is in its own backlog; the plan that was only made is still there to be run.
    all_applied_once(&house, 20);
    assert_eq!(
        house.json(&["plan", "show", &ready])["plan"]["state"],
        "ready"
    );
    let done = house.ends(5, &["plan", "run", &ready, "--yes"]);
    assert_eq!(done["result"]["already_done"], 20, "{done}");
    all_applied_once(&house, 20);
}

#[test]
fn the_sweep_claims_what_was_idle_for_too_long_by_itself() {
    let mut house = House::new(QUIET);
    house
        .set("stage.enrich.workers=1")
        .set("stage.enrich.batch=50")
        .set("stage.enrich.timeout=500ms")
        .set("stage.enrich.claim_after=1s");
    house.start();
    house.wait_healthy();
    let stuck = wait_for("a worker", || house.workers("enrich").first().cloned());
    house.json(&["x-fault", "park", &stuck, "before_commit"]);
    house.add_events(0, 300);
    wait_for("the worker to park", || {
        let rows = house.rows(&["consumers", "ls", "--stage", "enrich"]);
        rows.iter()
            .any(|row| row["state"] == "parked")
            .then_some(())
    });
    house.json(&["scale", "enrich", "2"]);
    all_applied_once(&house, 300);
    released(&house, &stuck);
    house.ghost(300, 360);
    all_applied_once(&house, 360);
    let status = house.json(&["status"]);
    assert_eq!(status["alerts"], json!([]), "{status}");
}

#[test]
fn hole_09_a_heartbeat_takes_nothing_back_from_a_rescuer() {
    let mut house = House::new(QUIET);
    house
        .set("retry.attempts=100")
        .set("retry.backoff=1h..1h")
        .set("stage.enrich.timeout=500ms")
        .set("stage.enrich.claim_after=1s");
    house.start();
    house.wait_healthy();
    assert_eq!(house.redis(&["SET", "profile:user-7", "x"]), "OK");
    house.add_events(0, 97);
    let row = |house: &House| house.rows(&["pending", "ls"]).first().cloned();
    let first = wait_for("the poison to wait for its next try", || {
        row(&house).filter(|row| row["tries"] == 1)
    });
    let (id, holder) = (first["id"].as_str().unwrap(), first["consumer"].clone());
    let workers = house.workers("enrich");
    let rescuer = workers.iter().find(|name| **name != holder);
    let rescuer = rescuer.expect("a second worker");
    house.ends(
        5,
        &["pending", "claim", "--id", id, "--to", rescuer, "--yes"],
    );
    // Each worker keeps what waits in its hands alive, several times a second. Twelve beats: both have come by often.
    let mut before = 0;
    for _ in 0..12 {
        wait_for("a heartbeat", || {
            let row = row(&house).expect("it is pending");
            assert_eq!(row["consumer"], *rescuer, "taken back by {holder}: {row}");
            let idle = row["idle_ms"].as_u64().unwrap();
            let has_beaten = idle < before;
            before = idle;
            has_beaten.then_some(())
        });
    }
}
