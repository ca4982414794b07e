//! The first minutes: it starts, counts, drains, and starts again where it was.

use serde_json::json;

use crate::house::House;

#[test]
fn events_of_a_foreign_client_are_counted_once_and_survive_a_restart() {
    let mut house = House::quiet();
    house.add_events(0, 1_000);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&json!(1_000), &json!(true)),
        "{ledger}"
    );

    assert_eq!(house.terminate(), Some(0), "{}", house.log());
    house.start();
    house.wait_healthy();
    house.add_events(500, 1_500);
    let ledger = house.settled();
    assert_eq!(ledger["applied"], 1_500, "{ledger}");
    assert_eq!(ledger["deduplicated"], 500, "{ledger}");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    let totals = house.json(&["aggregates"]);
    assert_eq!(totals["total_count"], 1_500);
    assert_eq!(totals["event_types"], json!({"click": 500, "view": 1_000}));
}
