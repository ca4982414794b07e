//! Entries that cannot be worked: they die with their bytes and their cause, their neighbours are applied, and what was
//! mended is brought back once.

use serde_json::{Value, json};

use crate::house::{House, QUIET, wait_for};

/// The error of a key is remembered for a second, but every further try looks again.
const N_TRIES: u32 = 3;
/// Of the events `0..500` six are of user 7.
pub const N_POISONED: u64 = 6;

/// A pipeline that tries `attempts` times with this back-off, before a profile that cannot be read.
pub fn poisoned(attempts: u32, backoff: &str) -> House {
    let mut house = House::new(QUIET);
    house
        .set(&format!("retry.attempts={attempts}"))
        .set(&format!("retry.backoff={backoff}"));
    house.start();
    house.wait_healthy();
    assert_eq!(house.redis(&["SET", "profile:user-7", "no profile"]), "OK");
    house
}

#[track_caller]
fn line(ledger: &Value) -> [u64; 4] {
    assert_eq!(ledger["balanced"], true, "{ledger}");
    ["accepted", "applied", "dead", "pending"].map(|name| ledger[name].as_u64().unwrap())
}

/// One XADD of raw words, bytes included.
fn add(house: &House, fields: &[(&str, &[u8])]) {
    let mut words: Vec<&[u8]> = vec![b"XADD", b"events", b"*"];
    words.extend(
        fields
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value]),
    );
    let mut resp = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        resp.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        resp.extend_from_slice(word);
        resp.extend_from_slice(b"\r\n");
    }
    house.redis_pipe(&resp);
}

#[test]
fn poison_dies_after_its_tries_and_is_brought_back_by_cause_once() {
    let house = poisoned(N_TRIES, "100ms..500ms");
    house.add_events(0, 500);
    let ledger = house.settled();
    assert_eq!(
        line(&ledger),
        [500, 500 - N_POISONED, N_POISONED, 0],
        "{ledger}"
    );
    assert_eq!(house.json(&["aggregates"])["total_count"], 500 - N_POISONED);

    let dead = house.rows(&["dead", "ls"]);
    assert_eq!(dead.len() as u64, N_POISONED);
    for row in &dead {
        assert_eq!(
            [
                &row["stage"],
                &row["reason"],
                &row["tries"],
                &row["counts"],
                &row["redriven"]
            ],
            [
                &json!("enrich"),
                &json!("retries_exhausted"),
                &json!(N_TRIES),
                &json!(true),
                &Value::Null
            ],
            "{row}"
        );
        assert!(row["error"].as_str().unwrap().contains("user-7"), "{row}");
        assert_eq!(row["origin_stream"], "events");
    }
    let causes = house.rows(&["dead", "causes"]);
    assert_eq!(causes.len(), 1, "one cause, whatever the ids: {causes:?}");
    assert_eq!(causes[0]["count"], N_POISONED);
    let cause = causes[0]["cause"].as_str().unwrap();

    // Brought back while nothing is mended: it dies again, and nothing else happens.
    let id = dead[0]["id"].as_str().unwrap();
    house.ends(4, &["dead", "redrive", "--id", id]);
    house.ends(0, &["dead", "redrive", "--id", id, "--dry-run"]);
    let again = house.json(&["dead", "redrive", "--id", id, "--yes"]);
    assert_eq!(again["result"]["applied"], 1, "{again}");
    let ledger = house.settled();
    assert_eq!(
        line(&ledger),
        [500, 500 - N_POISONED, N_POISONED, 0],
        "{ledger}"
    );
    let again = house.ends(0, &["dead", "redrive", "--id", id, "--yes"]);
    assert_eq!(
        (
            &again["plan"]["matched"],
            &again["plan"]["skipped"][0]["reason"]
        ),
        (&json!(0), &json!("already redriven")),
        "{again}"
    );

    house.redis(&["DEL", "profile:user-7"]);
    // Two plans for the same: the second finds everything done.
    let first = house.ends(4, &["dead", "redrive", "--cause", cause]);
    let second = house.ends(4, &["dead", "redrive", "--cause", cause]);
    assert_eq!(first["plan"]["matched"], N_POISONED, "{first}");
    let run = |plan: &Value, code| {
        let id = plan["plan"]["id"].as_str().unwrap();
        house.ends(
            code,
            &["plan", "run", id, "--confirm", &N_POISONED.to_string()],
        )
    };
    let done = run(&first, 0);
    assert_eq!(done["result"]["applied"], N_POISONED, "{done}");
    let done = run(&second, 5);
    assert_eq!(
        (&done["result"]["already_done"], &done["result"]["applied"]),
        (&json!(N_POISONED), &json!(0)),
        "{done}"
    );
    let ledger = house.settled();
    assert_eq!(line(&ledger), [500, 500, 0, 0], "{ledger}");
    assert_eq!(ledger["deduplicated"], 0, "{ledger}");
    assert_eq!(house.json(&["aggregates"])["total_count"], 500);

    // Purging is housekeeping: the ledger stays as it is.
    house.ends(4, &["dead", "purge", "--all"]);
    let purged = house.json(&["dead", "purge", "--all", "--yes"]);
    assert_eq!(purged["result"]["applied"], N_POISONED + 1, "{purged}");
    assert_eq!(house.rows(&["dead", "ls"]), Vec::<Value>::new());
    assert_eq!(line(&house.json(&["ledger"])), [500, 500, 0, 0]);
}

/// Back-off is between nothing and its limit; with this one an entry waits until an operator acts.
const FOR_EVER: &str = "1h..1h";

#[test]
fn while_poison_waits_its_neighbours_are_applied_and_an_operator_can_try_it_now() {
    let house = poisoned(100, FOR_EVER);
    house.add_events(0, 97);
    wait_for("the neighbours to be applied", || {
        (house.json(&["ledger"])["applied"] == 96).then_some(())
    });
    assert_eq!(line(&house.json(&["ledger"])), [97, 96, 0, 1]);
    let waiting = house.rows(&["pending", "ls", "--min-tries", "1"]);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let row = &waiting[0];
    assert_eq!(row["tries"], 1, "{row}");
    assert!(row["not_before"].is_string(), "{row}");
    assert!(
        row["last_error"].as_str().unwrap().contains("user-7"),
        "{row}"
    );
    // Still poison: the try is made, booked, and waits again.
    let tried = house.ends(5, &["pending", "retry", "--min-tries", "1", "--yes"]);
    assert_eq!(tried["result"]["waiting"], 1, "{tried}");
    let waiting = house.rows(&["pending", "ls", "--min-tries", "2"]);
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(line(&house.json(&["ledger"])), [97, 96, 0, 1]);

    house.redis(&["DEL", "profile:user-7"]);
    // The error of a key is remembered for a second.
    wait_for("a try to succeed", || {
        let tried = house.pipectl(&["pending", "retry", "--stage", "enrich", "--all", "--yes"]);
        (tried.status.code() == Some(0)).then_some(())
    });
    assert_eq!(line(&house.settled()), [97, 97, 0, 0]);
    assert_eq!(house.json(&["aggregates"])["total_count"], 97);
    assert_eq!(house.rows(&["dead", "ls"]), Vec::<Value>::new());
}

#[test]
fn tries_and_back_off_outlive_the_daemon() {
    let mut house = poisoned(3, FOR_EVER);
    house.add_events(0, 97);
    let waiting = |house: &House| house.rows(&["pending", "ls", "--min-tries", "1"]);
    wait_for("the first try to fail", || {
        (waiting(&house).len() == 1).then_some(())
    });
    house.kill();
    house.start();
    house.wait_healthy();
    let rows = waiting(&house);
    assert_eq!(
        (rows.len(), &rows[0]["tries"]),
        (1, &json!(1)),
        "a restart is no try: {rows:?}"
    );
    assert!(rows[0]["not_before"].is_string(), "{rows:?}");
    let tried = house.ends(5, &["pending", "retry", "--all", "--yes"]);
    assert_eq!(tried["result"]["waiting"], 1, "{tried}");
    // The third try is the last one.
    let last = house.ends(5, &["pending", "retry", "--all", "--yes"]);
    assert_eq!(last["result"]["dead"], 1, "{last}");
    assert_eq!(line(&house.settled()), [97, 96, 1, 0]);
}

#[test]
fn what_is_refused_dies_at_once_with_its_bytes_and_can_be_looked_at() {
    let house = House::quiet();
    house.add_events(0, 100);
    let bytes: &[u8] = b"\xff\x00\x1b[2Jnot text";
    add(
        &house,
        &[
            ("event_id", b"bad-1"),
            ("event_type", b"click"),
            ("ts", b"1"),
            ("odd", bytes),
        ],
    );
    add(
        &house,
        &[("event_id", b"bad-2"), ("user_id", b"u"), ("ts", b"1")],
    );
    house.add_events(100, 200);
    let ledger = house.settled();
    assert_eq!(line(&ledger), [202, 200, 2, 0], "{ledger}");
    let dead = house.rows(&["dead", "ls"]);
    assert!(
        dead.iter()
            .all(|row| row["reason"] == "rejected" && row["tries"] == 1),
        "{dead:?}"
    );
    assert_eq!(
        house.rows(&["dead", "causes"]).len(),
        2,
        "two fields are missing"
    );
    // Newest first.
    let shown = house.json(&["dead", "show", dead[1]["id"].as_str().unwrap()]);
    let fields: Vec<_> = shown["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| (field["name"].as_str().unwrap(), field["value"].clone()))
        .collect();
    assert_eq!(
        fields,
        [
            ("event_id", json!("bad-1")),
            ("event_type", json!("click")),
            ("ts", json!("1")),
            ("odd", json!({"b64": "/wAbWzJKbm90IHRleHQ="})),
        ],
        "byte for byte, in order"
    );
    // As text the terminal is safe.
    let text = house.pipectl(&["dead", "show", dead[1]["id"].as_str().unwrap()]);
    assert!(!text.stdout.contains(&0x1b), "{text:?}");
    // By an expression: only the one without a user.
    let some = house.json(&["dead", "redrive", "--match", "event_type = click", "--yes"]);
    assert_eq!(some["result"]["applied"], 1, "{some}");
    assert_eq!(line(&house.settled()), [202, 200, 2, 0]);
    assert_eq!(house.rows(&["dead", "ls"]).len(), 3);
}

#[test]
fn a_line_that_cannot_be_read_is_a_dead_letter_with_its_bytes() {
    let house = House::quiet();
    let mut lines = String::new();
    for n in 0..50 {
        lines.push_str(&format!(
            "{{\"event_id\":\"e{n}\",\"user_id\":\"u{n}\",\"event_type\":\"view\",\"product\":\"p\",\"session_id\":\"s\",\"value\":1.5,\"ts\":1640995200000}}\n"
        ));
        if n == 20 {
            lines.push_str("{\"event_id\": broken\n");
        }
    }
    let out = house.pipectl_with(
        &[
            "ingest", "-", "--format", "ndjson", "--name", "lines", "-o", "json",
        ],
        lines.as_bytes(),
    );
    let done: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", crate::house::text(&out)));
    assert_eq!(
        [
            &done["lines"],
            &done["accepted"],
            &done["rejected"],
            &done["dead"]
        ],
        [&json!(51), &json!(51), &json!(0), &json!(1)],
        "{done}"
    );
    let ledger = house.settled();
    assert_eq!(line(&ledger), [51, 50, 1, 0], "{ledger}");
    let dead = house.rows(&["dead", "ls"]);
    assert_eq!(
        (dead.len(), &dead[0]["reason"]),
        (1, &json!("parse_error")),
        "{dead:?}"
    );
    let id = dead[0]["id"].as_str().unwrap();
    let shown = house.json(&["dead", "show", id]);
    let raw = shown["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|field| field["name"] == "raw")
        .unwrap_or_else(|| panic!("no raw line: {shown}"));
    assert_eq!(raw["value"], "{\"event_id\": broken", "{shown}");
    // It goes back to the first stage, and dies there again.
    house.json(&["dead", "redrive", "--id", id, "--yes"]);
    assert_eq!(line(&house.settled()), [51, 50, 1, 0]);
    house.json(&["dead", "purge", "--stage", "enrich", "--yes"]);
    assert_eq!(line(&house.json(&["ledger"])), [51, 50, 1, 0]);
    assert_eq!(house.json(&["aggregates"])["total_count"], 50);
}
