//! Owned stages: one owner in order, others stand by; exact through kills, hand-overs, zombies and third parties, and what
//! redis-cli shows of the group is right all the while.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::{House, QUIET, wait_for};
use crate::load::Load;
use crate::needs;

/// Both stages owned.
fn owned() -> House {
    let mut house = House::new(QUIET);
    own(&mut house);
    house
}

fn own(house: &mut House) {
    house
        .set("stage.enrich.delivery=owned")
        .set("stage.enrich.workers=1")
        .set("stage.correlate.delivery=owned");
}

fn running(mut house: House) -> House {
    house.start();
    house.wait_healthy();
    house
}

/// A second daemon on the same Redis.
fn guest_of(house: &House) -> House {
    let mut guest = owned();
    guest.on(&format!("redis+unix://{}", house.redis_socket().display()));
    running(guest)
}

/// The state of the one worker of a stage, as its own daemon tells it.
fn state(house: &House, stage: &str) -> Option<String> {
    let rows = house.rows(&["consumers", "ls", "--stage", stage]);
    let row = rows.iter().find(|row| row["name"] != "parked")?;
    Some(format!("{}: {}", row["state"].as_str()?, row["reason"]))
}

/// Who has the lease of a stage; empty = nobody.
fn owner(house: &House, stage: &str) -> String {
    house.redis(&["HGET", &format!("{{events}}:lease:{stage}"), "owner"])
}

fn worker(house: &House, stage: &str) -> String {
    wait_for("a worker", || {
        let rows = house.rows(&["consumers", "ls", "--stage", stage]);
        let row = rows.iter().find(|row| row["name"] != "parked")?;
        row["name"].as_str().map(str::to_owned)
    })
}

/// A figure of XINFO GROUPS, as redis-cli shows it.
fn group(house: &House, stream: &str, name: &str) -> String {
    let told = house.redis(&["XINFO", "GROUPS", stream]);
    let lines: Vec<&str> = told.lines().collect();
    let at = lines.iter().position(|line| *line == name).expect(name);
    lines[at + 1].to_owned()
}

#[track_caller]
fn all_applied_once(house: &House, n: u64) {
    let ledger = house.settled();
    assert_eq!(
        [&ledger["applied"], &ledger["duplicated"], &ledger["lost"]],
        [&json!(n), &json!(0), &json!(0)],
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(house.json(&["aggregates"])["total_count"], n);
    for (stream, stage) in [("events", "enrich"), ("{events}:enrich", "correlate")] {
        let (lag, pending) = (group(house, stream, "lag"), group(house, stream, "pending"));
        assert_eq!((lag.as_str(), pending.as_str()), ("0", "0"), "{stage}");
    }
}

fn committed(house: &House) -> u64 {
    house
        .redis(&["HGET", "{events}:ledger", "correlate:ended"])
        .parse()
        .unwrap_or(0)
}

#[test]
fn a_real_log_counts_once_in_owned_stages_and_they_are_shown_as_such() {
    let test = "a_real_log_counts_once_in_owned_stages_and_they_are_shown_as_such";
    let Some(log) = needs::real_data("apache-access.log.gz", test) else {
        return;
    };
    let log = log.to_str().expect("a path of text");
    let house = running(owned());
    for applied in [9_999, 9_999] {
        house.json(&["ingest", log, "--map", "type=status"]);
        let ledger = house.settled();
        assert_eq!(
            (&ledger["applied"], &ledger["dead"]),
            (&json!(applied), &json!(1))
        );
        assert_eq!(ledger["balanced"], true, "{ledger}");
    }
    assert_eq!(house.json(&["aggregates"])["total_count"], 9_999);
    assert_eq!(
        (
            group(&house, "events", "lag"),
            group(&house, "events", "pending")
        ),
        ("0".into(), "0".into())
    );
    // The status is of the last tick.
    wait_for("the status to tell the same", || {
        let status = house.json(&["status"]);
        let stages = status["stages"].as_array()?;
        assert!(stages.iter().all(|s| s["delivery"] == "owned"), "{status}");
        let is_done = |s: &Value| s["lag"] == 0 && s["pending"] == 0;
        stages.iter().all(is_done).then_some(())
    });
    let refused = house.ends(4, &["scale", "enrich", "2"]);
    assert!(
        refused.is_null() || refused["result"].is_null(),
        "{refused}"
    );
}

#[test]
fn ten_kills_of_the_daemon_under_load_are_exact_with_owned_stages() {
    let mut house = running(owned());
    let load = Load::start(&house, "w", 11, 10_000);
    for n in 0..10 {
        let before = committed(&house);
        wait_for("the new daemon to commit", || {
            (committed(&house) > before).then_some(())
        });
        std::thread::park_timeout(Duration::from_millis(n * 67 % 500));
        house.kill();
        house.start();
    }
    house.wait_healthy();
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, "owned");
    assert_eq!(
        (
            group(&house, "events", "lag"),
            group(&house, "events", "pending")
        ),
        ("0".into(), "0".into())
    );
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

#[test]
fn another_daemon_takes_over_when_the_owner_dies_or_leaves() {
    let house = running(owned());
    let mut guest = guest_of(&house);
    let (first, second) = (worker(&house, "correlate"), worker(&guest, "correlate"));
    assert_ne!(first, second);
    wait_for("the guest to stand by", || {
        let told = state(&guest, "correlate")?;
        told.contains(&format!("owned by {first}")).then_some(())
    });
    let load = Load::start(&house, "h", 12, 5_000);
    wait_for("commits", || (committed(&house) > 0).then_some(()));
    // A clean leave, as soon as the stage is asked to have no worker.
    house.json(&["scale", "correlate", "0"]);
    wait_for("the guest to own the stage", || {
        (owner(&house, "correlate") == second).then_some(())
    });
    // Given to it by a person, it is not asked for to balance.
    guest.json(&["take", "correlate"]);
    house.json(&["scale", "correlate", "1"]);
    wait_for("the first to stand by", || {
        state(&house, "correlate")?
            .contains(&format!("owned by {second}"))
            .then_some(())
    });
    // A crash.
    guest.kill();
    let died = Instant::now();
    wait_for("the first to own it again", || {
        (owner(&house, "correlate") == first).then_some(())
    });
    assert!(
        died.elapsed() < Duration::from_secs(20),
        "ten times what is promised"
    );
    let before = committed(&house);
    wait_for("commits", || (committed(&house) > before).then_some(()));
    guest.start();
    guest.wait_healthy();
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, "hand-overs");
}

#[test]
fn a_zombie_owner_is_refused_and_nothing_counts_twice() {
    for point in ["after_read", "before_commit", "after_commit"] {
        let house = running(owned());
        let guest = guest_of(&house);
        let zombie = owner(&house, "enrich");
        let home = if zombie == worker(&house, "enrich") {
            &house
        } else {
            &guest
        };
        home.json(&["x-fault", "park", &zombie, point]);
        house.add_events(0, 300);
        wait_for("the other to take over", || {
            let now = owner(&house, "enrich");
            (now != zombie && !now.is_empty()).then_some(())
        });
        wait_for("it to work", || (committed(&house) == 300).then_some(()));
        let other = if std::ptr::eq(home, &house) {
            &guest
        } else {
            &house
        };
        other.json(&["take", "enrich"]);
        home.json(&["x-fault", "release", &zombie]);
        wait_for("the zombie to stand by", || {
            state(home, "enrich")?.contains("owned by").then_some(())
        });
        all_applied_once(&house, 300);
        let log = home.whole_log();
        assert!(log.contains("owns the stage no more"), "{point}: {log}");
    }
}

#[test]
fn a_group_destroyed_set_or_read_by_others_is_put_right_and_exact() {
    let house = running(owned());
    house.add_events(0, 200);
    all_applied_once(&house, 200);
    house.redis(&["XGROUP", "DESTROY", "events", "event_group"]);
    house.add_events(200, 300);
    all_applied_once(&house, 300);
    house.redis(&["XGROUP", "SETID", "events", "event_group", "0"]);
    house.add_events(300, 400);
    all_applied_once(&house, 400);
    house.pause("enrich");
    house.add_events(400, 500);
    house.redis(&[
        "XREADGROUP",
        "GROUP",
        "event_group",
        "thief",
        "COUNT",
        "50",
        "STREAMS",
        "events",
        ">",
    ]);
    house.json(&["resume", "enrich"]);
    all_applied_once(&house, 500);
}

#[test]
fn records_of_a_key_keep_their_order_behind_one_that_is_tried_again() {
    let mut house = owned();
    house.set("retry.attempts=5").set("retry.backoff=10m..10m");
    let house = running(house);
    // A profile that cannot be read: a failed try, while other keys go on.
    house.redis(&["SET", "profile:bad", "no hash"]);
    let add = |user: &str, n: u64| {
        let id = format!("event-{n:010}");
        house.redis(&[
            "XADD",
            "events",
            "*",
            "event_id",
            &id,
            "user_id",
            user,
            "event_type",
            "view",
            "ts",
            "1",
        ])
    };
    let ids: Vec<String> = (0..3).map(|n| add("bad", n)).collect();
    add("good", 3);
    wait_for(
        "the good one to be applied, the bad ones to be parked",
        || {
            let ledger = house.json(&["ledger"]);
            (ledger["applied"] == 1 && ledger["pending"] == 3).then_some(())
        },
    );
    assert_eq!(
        (
            group(&house, "events", "lag"),
            group(&house, "events", "pending")
        ),
        ("0".into(), "3".into())
    );
    let rows = house.rows(&["pending", "ls"]);
    let tries: Vec<&Value> = rows.iter().map(|row| &row["tries"]).collect();
    assert_eq!(tries, [&json!(1), &json!(0), &json!(0)], "{rows:?}");
    assert!(
        rows.iter().all(|row| row["consumer"] == "parked"),
        "{rows:?}"
    );
    // Retried by hand it fails again; acknowledged by hand, the next of its key is tried; the last two after the mending.
    let again = house.ends(5, &["pending", "claim", "--id", &ids[0], "--yes"]);
    assert_eq!(again["result"]["waiting"], 1, "{again}");
    house.json(&["pending", "ack", "--id", &ids[0], "--yes"]);
    wait_for("the next to be tried", || {
        let rows = house.rows(&["pending", "ls"]);
        (rows.len() == 2 && rows[0]["tries"] == 1).then_some(())
    });
    house.redis(&["DEL", "profile:bad"]);
    let done = house.json(&["pending", "retry", "--consumer", "parked", "--yes"]);
    assert_eq!(done["result"]["applied"], 2, "{done}");
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["discarded"]),
        (&json!(3), &json!(1)),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
}
