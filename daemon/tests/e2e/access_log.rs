//! A real server's log, exact to the line: through our own door, again through our own door, and by a foreign client.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::house::{House, text};
use crate::needs;

const LOG: &str = "apache-access.log.gz";

/// Line 8,899 of the log, which ends in the middle of its last field.
const TRUNCATED: &str = r#"46.118.127.106 - - [20/May/2015:12:05:17 +0000] "GET /scripts/grok-py-test/configlib.py HTTP/1.1" 200 235 "-" "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html"#;

/// As the README beside the log says.
fn statuses() -> Value {
    json!({
        "200": 9_125, "304": 445, "404": 213, "301": 164, "206": 45, "500": 3, "403": 2, "416": 2,
    })
}

#[test]
fn a_real_log_counts_once_however_often_it_is_ingested() {
    let Some(log) = needs::real_data(LOG, "a_real_log_counts_once_however_often_it_is_ingested")
    else {
        return;
    };
    let log = log.to_str().expect("a path of text");
    let house = House::quiet();

    let ingested = house.json(&["ingest", log, "--map", "type=status"]);
    assert_counts(
        &ingested,
        &[
            ("lines", 10_000),
            ("accepted", 10_000),
            ("deduplicated", 0),
            ("rejected", 0),
            ("dead", 1),
        ],
    );
    let first = house.json(&["ledger"]);
    assert_counts(
        &first,
        &[
            ("accepted", 10_000),
            ("applied", 9_999),
            ("deduplicated", 0),
            ("dead", 1),
            ("lost", 0),
            ("pending", 0),
            ("undelivered", 0),
            ("unaccounted", 0),
            ("duplicated", 0),
        ],
    );
    assert_eq!(first["balanced"], true, "{first}");
    assert_statuses(&house);
    let dead = the_dead_letter(&house);
    assert_eq!(dead["reason"], "parse_error", "{dead}");
    assert!(
        dead["error"]
            .as_str()
            .is_some_and(|error| error.contains("agent")),
        "the reason names the field that is cut: {dead}"
    );

    let again = house.json(&["ingest", log, "--map", "type=status"]);
    assert_counts(
        &again,
        &[
            ("lines", 10_000),
            ("accepted", 10_000),
            ("deduplicated", 10_000),
            ("rejected", 0),
            ("dead", 0),
        ],
    );
    let second = house.settled();
    assert_counts(
        &second,
        &[
            ("accepted", 20_000),
            ("applied", 9_999),
            ("deduplicated", 10_000),
            ("dead", 1),
            ("lost", 0),
            ("unaccounted", 0),
            ("duplicated", 0),
        ],
    );
    assert_eq!(second["balanced"], true, "{second}");
    assert_statuses(&house);
    the_dead_letter(&house);
}

#[test]
fn a_foreign_client_gets_the_same_counts() {
    let test = "a_foreign_client_gets_the_same_counts";
    let (Some(log), Some(python)) = (needs::real_data(LOG, test), needs::foreign_python(test))
    else {
        return;
    };
    let house = House::quiet();
    let out = Command::new(python)
        .args(["-c", include_str!("foreign.py")])
        .arg(house.redis_socket())
        .arg(log)
        .stdin(Stdio::null())
        .output()
        .expect("start python");
    assert!(out.status.success(), "{}", text(&out));

    let ledger = house.settled();
    assert_counts(
        &ledger,
        &[
            ("accepted", 10_000),
            ("applied", 9_999),
            ("deduplicated", 0),
            ("dead", 1),
            ("lost", 0),
            ("unaccounted", 0),
            ("duplicated", 0),
        ],
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_statuses(&house);
    // It sent what it could not read without the required fields.
    let dead = the_dead_letter(&house);
    assert_eq!(dead["stage"], "enrich", "{dead}");
}

#[track_caller]
fn assert_counts(document: &Value, wanted: &[(&str, u64)]) {
    for (name, wanted) in wanted {
        assert_eq!(document[name], *wanted, "{name} in {document}");
    }
}

#[track_caller]
fn assert_statuses(house: &House) {
    let totals = house.json(&["aggregates"]);
    assert_eq!(totals["event_types"], statuses());
    assert_eq!(totals["total_count"], 9_999);
}

/// There is exactly one, and it holds the line's own bytes.
#[track_caller]
fn the_dead_letter(house: &House) -> Value {
    let rows = house.json(&["dead", "ls"])["rows"].take();
    let [row] = rows.as_array().map(Vec::as_slice).unwrap_or_default() else {
        panic!("not one dead letter: {rows}");
    };
    let id = row["id"].as_str().expect("an id");
    let dead = house.json(&["dead", "show", id]);
    let raw = dead["fields"]
        .as_array()
        .and_then(|fields| fields.iter().find(|field| field["name"] == "raw"));
    assert_eq!(
        raw.map(|field| &field["value"]),
        Some(&json!(TRUNCATED)),
        "{dead}"
    );
    dead
}
