//! The holes of delivery in the process as a whole (the list: `store_contract/holes.rs`). Others of them stand with what
//! they belong to: memory (`full.rs`), third parties, stuck entries.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::foreign_redis::ForeignRedis;
use crate::house::{House, QUIET, pipectl_bin, wait_for};
use crate::load::Load;

fn house_that(sets: &[&str]) -> House {
    let mut house = House::new(QUIET);
    for set in sets {
        house.set(set);
    }
    house.start();
    house.wait_healthy();
    house
}

#[track_caller]
fn balanced(ledger: &Value, wanted: &[(&str, u64)]) {
    assert_eq!(ledger["balanced"], true, "{ledger}");
    for (name, n) in wanted {
        assert_eq!(ledger[*name], *n, "{name}: {ledger}");
    }
}

#[test]
fn hole_08_noack_is_never_sent_and_cannot_be_configured() {
    let house = House::quiet();
    let seen = house.path().join("commands.txt");
    let mut monitor = Command::new("redis-cli")
        .arg("-s")
        .arg(house.redis_socket())
        .arg("MONITOR")
        .stdout(std::fs::File::create(&seen).unwrap())
        .spawn()
        .expect("start redis-cli");
    let commands = || std::fs::read_to_string(&seen).unwrap().to_lowercase();
    wait_for("the monitor to see something", || {
        commands().contains("xreadgroup").then_some(())
    });
    house.add_events(0, 200);
    house.settled();
    wait_for("the monitor to have seen the commits", || {
        commands().contains("\"xack\"").then_some(())
    });
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    let said = commands();
    let reads: Vec<_> = said.lines().filter(|l| l.contains("xreadgroup")).collect();
    assert!(
        reads.iter().all(|line| !line.contains("noack")),
        "{reads:#?}"
    );

    let mut house = House::new(&QUIET.replace("workers = 2", "workers = 2\nnoack = true"));
    let (code, said) = house.ended();
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("unknown key `noack` in [stage.enrich]") && said.contains("acknowledged"),
        "{said}"
    );
}

#[test]
fn hole_10_a_thousand_deliveries_without_a_result_are_no_failed_try() {
    let house = house_that(&["retry.attempts=2", "stage.enrich.claim_after=10m"]);
    house.ghost(0, 20);
    // Each look at one's own backlog counts as a delivery.
    let look = "for _ = 1, 1000 do \
        redis.call('XREADGROUP', 'GROUP', 'event_group', 'ghost', 'STREAMS', KEYS[1], '0') end";
    house.redis(&["EVAL", look, "1", "events"]);
    let rows = house.rows(&["pending", "ls"]);
    for row in &rows {
        assert_eq!(
            (&row["deliveries"], &row["tries"]),
            (&json!(1_001), &json!(0)),
            "{row}"
        );
    }
    let claimed = house.json(&["pending", "claim", "--consumer", "ghost", "--yes"]);
    assert_eq!(claimed["result"]["applied"], 20, "{claimed}");
    balanced(&house.settled(), &[("applied", 20), ("dead", 0)]);
    // Each was worked alone, so that one that takes the process down would have been known by name.
    assert_eq!(
        house.whole_log().matches("worked alone").count(),
        20,
        "{}",
        house.log()
    );
}

/// `pipectl pending claim` of one entry, which does not come to an end.
fn claim(house: &House, id: &str) -> Child {
    Command::new(pipectl_bin())
        .args(["--socket".as_ref(), house.socket().as_os_str()])
        .args(["pending", "claim", "--id", id, "--yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start pipectl")
}

#[test]
fn hole_10_an_entry_that_takes_the_process_down_runs_out_of_tries() {
    let mut house = house_that(&[
        "retry.attempts=2",
        "stage.enrich.workers=1",
        "stage.enrich.claim_after=10m",
    ]);
    let ids = house.ghost(0, 1);
    let id = &ids[0];
    for _ in 0..2 {
        house.redis(&[
            "XREADGROUP",
            "GROUP",
            "event_group",
            "ghost",
            "STREAMS",
            "events",
            "0",
        ]);
    }
    for n_tries in 1..=2 {
        let worker = wait_for("a worker", || house.workers("enrich").first().cloned());
        house.json(&["x-fault", "park", &worker, "after_read"]);
        let mut claim = claim(&house, id);
        wait_for("the worker to have it in hand", || {
            let rows = house.rows(&["consumers", "ls", "--stage", "enrich"]);
            let row = rows.iter().find(|row| row["name"] == *worker)?;
            (row["state"] == "parked").then_some(())
        });
        let row = house.rows(&["pending", "ls"]).remove(0);
        assert_eq!(row["tries"], n_tries, "booked before it is made: {row}");
        house.kill();
        claim.wait().unwrap();
        // So that the next one does not take it up before it is parked.
        let back = [
            "XCLAIM",
            "events",
            "event_group",
            "ghost",
            "0",
            id,
            "JUSTID",
        ];
        assert_eq!(house.redis(&back), *id);
        house.start();
        house.wait_healthy();
    }
    let claimed = house.ends(5, &["pending", "claim", "--id", id, "--yes"]);
    assert_eq!(claimed["result"]["dead"], 1, "{claimed}");
    balanced(&house.settled(), &[("applied", 0), ("dead", 1)]);
    let letter = house.rows(&["dead", "ls"]).remove(0);
    assert_eq!(
        (&letter["reason"], &letter["tries"]),
        (&json!("retries_exhausted"), &json!(2)),
        "{letter}"
    );
    let error = letter["error"].as_str().unwrap();
    assert!(error.contains("without a result"), "{letter}");
}

#[test]
fn hole_16_scripts_that_the_server_forgets_under_load_cost_nothing() {
    let house = House::quiet();
    let load = Load::start(&house, "load", 16, 1_000);
    for n in 1..=20 {
        assert_eq!(house.redis(&["SCRIPT", "FLUSH"]), "OK");
        wait_for("the load to go on", || {
            (load.sent() >= n * 100).then_some(())
        });
    }
    let sent = load.stop().events;
    balanced(
        &house.settled(),
        &[("applied", sent), ("dead", 0), ("duplicated", 0)],
    );
    assert_eq!(house.json(&["aggregates"])["total_count"], sent);
    let status = house.json(&["status"]);
    assert_eq!(status["alerts"], json!([]), "{status}");
    assert!(
        !house.whole_log().contains("NOSCRIPT"),
        "it is no fault, so nobody is told: {}",
        house.log()
    );
}

#[test]
fn hole_17_a_server_that_may_evict_the_stream_is_warned_about() {
    let server = ForeignRedis::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    house.wait_healthy();
    let alert = wait_for("the alert", || {
        let status = house.json(&["status"]);
        let alerts = status["alerts"].as_array().cloned().unwrap_or_default();
        alerts.into_iter().find(|a| a["name"] == "eviction.policy")
    });
    assert!(
        alert["message"].as_str().unwrap().contains("allkeys-lru")
            && alert["hint"].as_str().unwrap().contains("noeviction"),
        "{alert}"
    );
    let log = house.whole_log();
    assert!(log.contains("maxmemory-policy is allkeys-lru"), "{log}");
    // The managed one never evicts.
    let house = House::quiet();
    let policy = house.redis(&["CONFIG", "GET", "maxmemory-policy"]);
    assert_eq!(policy, "maxmemory-policy\nnoeviction");
    assert_eq!(house.alerts(), Vec::<String>::new());
}

#[test]
fn hole_18_a_log_written_anew_keeps_pending_entries_whose_payload_is_gone() {
    let house = house_that(&["stage.enrich.claim_after=10m"]);
    house.add_events(0, 100);
    house.settled();
    house.ghost_and(100, 140, "redis.call('XDEL', KEYS[1], unpack(ids))");
    let says = |line: &str| house.redis(&["INFO", "persistence"]).contains(line);
    let before = house.redis(&["INFO", "persistence"]);
    house.redis(&["BGREWRITEAOF"]);
    wait_for("the log to be written anew", || {
        let began = house.redis(&["INFO", "persistence"]) != before;
        (began
            && says("aof_rewrite_in_progress:0")
            && says("aof_rewrite_scheduled:0")
            && says("aof_rewrites:1"))
        .then_some(())
    });
    let pid = house.redis_pid();
    // It ends in order, so that what it comes back with is what it wrote.
    house.redis(&["SHUTDOWN", "NOSAVE"]);
    wait_for("redis to be up again", || {
        (house.redis_pid_now() != Some(pid) && house.redis(&["PING"]) == "PONG").then_some(())
    });
    // The first question after that may still meet the old connection.
    let ledger = wait_for("the daemon to have it back", || {
        let out = house.pipectl(&["ledger", "-o", "json"]);
        serde_json::from_slice::<Value>(&out.stdout).ok()
    });
    balanced(&ledger, &[("applied", 100), ("pending", 40), ("lost", 0)]);
    house.wait_healthy();
    let claimed = house.ends(5, &["pending", "claim", "--consumer", "ghost", "--yes"]);
    assert_eq!(claimed["result"]["trimmed"], 40, "{claimed}");
    house.add_events(140, 200);
    balanced(&house.settled(), &[("applied", 160), ("lost", 40)]);
    assert_eq!(house.json(&["aggregates"])["total_count"], 160);
    // In its other form the log would have forgotten them.
    let setting = house.redis(&["CONFIG", "GET", "aof-use-rdb-preamble"]);
    assert_eq!(setting, "aof-use-rdb-preamble\nyes");
}
