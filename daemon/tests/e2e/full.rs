//! Redis out of memory, Redis on a full disk: load is shed at the doors, nothing is lost, nothing needs a person.

use serde_json::{Value, json};

use crate::control::Control;
use crate::foreign_redis::ForeignRedis;
use crate::house::{House, QUIET, wait_for};
use crate::needs::leave_out;

/// Whether this test may make mounts of its own. Without the right to, it fails, unless tests without it were asked for.
pub fn may_mount(test: &str) -> bool {
    if std::env::var_os("PIPELINED_TESTS_UNPRIVILEGED").is_some_and(|on| on == "1") {
        leave_out(test, "PIPELINED_TESTS_UNPRIVILEGED=1, and it mounts");
        return false;
    }
    let tried = std::process::Command::new("unshare")
        .args(["-m", "true"])
        .output()
        .expect("unshare(1) is missing: apt-get install util-linux");
    assert!(
        tried.status.success(),
        "{test} needs root (unshare -m): run it as root, or set PIPELINED_TESTS_UNPRIVILEGED=1 to leave it out"
    );
    true
}

fn status(house: &House) -> Option<Value> {
    let out = house.pipectl(&["status", "-o", "json"]);
    serde_json::from_slice(&out.stdout).ok()
}

/// The line of a stage in the status.
fn stage(house: &House, name: &str) -> Option<Value> {
    let stages = status(house)?["stages"].as_array()?.clone();
    stages.into_iter().find(|stage| stage["name"] == name)
}

fn number(info: &str, name: &str) -> u64 {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|n| n.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {info}"))
}

impl House {
    /// Makes the server use so much that a per cent of it is room enough for what is under way.
    fn use_memory(&self) {
        assert_eq!(
            self.redis(&["SETRANGE", "ballast", "67108863", "x"]),
            "67108864"
        );
    }

    /// Sets the server's limit to what it uses now times `share`.
    fn limit_memory(&self, share: f64) {
        let used = number(&self.redis(&["INFO", "memory"]), "used_memory");
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of memory"
        )]
        let limit = (used as f64 * share) as u64;
        assert_eq!(
            self.redis(&["CONFIG", "SET", "maxmemory", &limit.to_string()]),
            "OK"
        );
    }
}

#[test]
fn doors_shed_load_before_redis_is_full_and_take_it_again_after() {
    let generator = "\n[source.users]\nkind = \"generator\"\nrate = \"200/s\"\n";
    let mut house = House::new(&format!("{QUIET}{generator}"));
    house.start();
    house.wait_healthy();
    let mut control = Control::open(&house.socket());
    control.call(
        "stats.watch",
        json!({"interval_ms": 1000, "preset": "full"}),
    );
    let users = |snapshot: &Value| {
        snapshot["sources"]
            .as_array()?
            .iter()
            .find(|s| s["name"] == "users")
            .cloned()
    };
    control.wait_note("stats", |s| {
        users(s).filter(|u| u["sent"].as_u64() > Some(100))
    });

    house.use_memory();
    // Nine tenths: above the doors' limit, and the commits have room.
    house.limit_memory(1.0 / 0.9);
    let shed = control.wait_note("stats", |s| {
        users(s).filter(|u| u["state"] == "backpressure")
    });
    assert!(
        shed["reason"]
            .as_str()
            .is_some_and(|why| why.contains("doors shed above 85 %")),
        "{shed}"
    );
    let rejected = control.wait_note("stats", |s| {
        let ledger = s["status"]["ledger"].clone();
        (ledger["rejected"].as_u64() > Some(0)).then_some(ledger)
    });
    assert_eq!(rejected["balanced"], true, "{rejected}");

    let mut door = Control::open(&house.socket());
    let session = door.call("ingest.open", json!({"name": "shed"}))["session"].clone();
    let event = json!({"id": "00112233445566778899aabbccddeeff", "roles": [["key", "u"], ["type", "click"], ["time", "1640995200000"]], "fields": []});
    let push = json!({"session": session, "events": [event]});
    let pushed = door.call("ingest.push", push.clone());
    assert_eq!(
        (&pushed["accepted"], &pushed["rejected"]),
        (&json!(0), &json!(1)),
        "{pushed}"
    );
    assert!(pushed["retry_after_ms"].as_u64() > Some(0), "{pushed}");
    assert!(
        pushed["reason"]
            .as_str()
            .is_some_and(|why| why.contains("memory")),
        "{pushed}"
    );
    assert_eq!(
        stage(&house, "enrich").unwrap()["state"],
        "running",
        "what is in flows on"
    );

    house.limit_memory(10.0);
    control.wait_note("stats", |s| users(s).filter(|u| u["state"] == "running"));
    // The doors follow the same Snapshot.
    assert_eq!(door.call("ingest.push", push)["accepted"], 1);
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

#[test]
fn hole_02_out_of_memory_stops_what_forwards_and_not_what_frees_and_loses_nothing() {
    let mut house = House::new(QUIET);
    house.set("retention.keep=1s").start();
    house.wait_healthy();
    house.use_memory();
    house.json(&["pause", "correlate"]);
    house.add_events(0, 2_000);
    // Asked of Redis: a Snapshot may be a second old and know nothing of the load yet.
    wait_for("enrich to have forwarded all", || {
        (house.redis(&["HGET", "{events}:ledger", "enrich:forwarded"]) == "2000").then_some(())
    });
    house.json(&["pause", "enrich"]);
    // Reads that are under way when a stage is paused still take what comes first.
    house.add_events(2_000, 3_000);
    house.limit_memory(0.5);
    assert!(
        house
            .redis(&["XADD", "events", "*", "a", "b"])
            .contains("OOM")
    );

    house.json(&["resume", "correlate"]);
    let counted = wait_for("the terminal stage to work its input empty", || {
        let totals = house.json(&["aggregates"]);
        (totals["total_count"].as_u64() >= Some(2_000)).then_some(totals)
    });
    let counted = counted["total_count"].as_u64().unwrap();
    assert!(counted < 2_500, "the paused stage left the rest: {counted}");
    // Finished entries of both streams go, so that a full server gets room. A node of a hundred may stay.
    for stream in ["events", "{events}:enrich"] {
        let kept = if stream == "events" {
            3_000 - counted
        } else {
            0
        };
        wait_for("finished entries to be trimmed", || {
            let length: u64 = house.redis(&["XLEN", stream]).parse().ok()?;
            (length < kept + 200).then_some(())
        });
    }

    // Trimming gave memory back: full again.
    house.limit_memory(0.5);
    house.json(&["resume", "enrich"]);
    let full = wait_for("the status to say that redis is full", || {
        status(&house).filter(|s| s["redis"]["state"] == "full" && s["healthy"] == false)
    });
    let blocked = wait_for("the stage to say that redis is out of memory", || {
        stage(&house, "enrich").filter(|s| {
            s["reason"]
                .as_str()
                .is_some_and(|r| r.contains("redis is out of memory"))
        })
    });
    assert_eq!(
        blocked["ledger"]["applied"], counted,
        "nothing is acknowledged: {blocked} {full}"
    );
    assert_eq!(house.redis(&["XLEN", "{events}:dead"]), "0");

    assert_eq!(house.redis(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    house.wait_healthy();
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&json!(3_000), &json!(true)),
        "{ledger}"
    );
    assert_eq!(
        (&ledger["lost"], &ledger["dead"]),
        (&json!(0), &json!(0)),
        "{ledger}"
    );
    let totals = house.json(&["aggregates"]);
    assert_eq!(totals["total_count"], 3_000);
    assert_eq!(
        totals["event_types"],
        json!({"click": 1_000, "view": 2_000})
    );
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_once_there_is_room() {
    if !may_mount("a_full_disk_is_told_and_costs_nothing_once_there_is_room") {
        return;
    }
    // The server's folder is a small file system that only it sees.
    let mut server = ForeignRedis::away(&["--appendfsync", "everysec"]);
    server.on_small_disk("16m");
    server.come();
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    house.wait_healthy();
    let mut n_added = 0;
    let mut add = |n: u64| {
        let id = format!("event-{n}");
        let said = server.cli(&[
            "XADD",
            "events",
            "*",
            "event_id",
            &id,
            "user_id",
            "u",
            "event_type",
            "click",
            "ts",
            "1640995200000",
        ]);
        let taken = !said.contains("MISCONF");
        assert!(!taken || said.contains('-'), "{said}");
        n_added += u64::from(taken);
        taken
    };
    for n in 0..100 {
        assert!(add(n));
    }
    house.settled();

    let ballast = server.inside("ballast");
    fill(&ballast);
    let mut n = 100;
    while add(n) {
        n += 1;
        assert!(n < 20_000, "the disk is never full");
    }
    let full = wait_for("the status to say that redis cannot write its disk", || {
        status(&house).filter(|s| s["redis"]["state"] == "misconf" && s["healthy"] == false)
    });
    assert!(
        full.to_string().contains("redis cannot write its disk"),
        "{full}"
    );
    for n in n..n + 20 {
        assert!(!add(n), "the server takes nothing");
    }

    std::fs::remove_file(&ballast).unwrap();
    house.wait_healthy();
    wait_for("the server to take events again", || {
        add(30_000).then_some(())
    });
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&json!(n_added), &json!(true)),
        "{ledger}"
    );
    assert_eq!(house.json(&["aggregates"])["total_count"], n_added);
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

/// Fills the disk to the last byte.
fn fill(path: &std::path::Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 16, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}
