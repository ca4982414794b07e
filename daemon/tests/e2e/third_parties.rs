//! What others do to our streams and groups while we work: counted as it is, nothing twice, and running again.

use serde_json::{Value, json};

use crate::house::{House, QUIET, wait_for};
use crate::load::Load;

/// A foreign client that adds events until it is stopped; some have arrived when this returns.
fn load(house: &House) -> Load {
    let load = Load::start(house, "load", 7, 1_000);
    more(&load, 200);
    load
}

/// Waits until this many more have arrived.
fn more(load: &Load, n: u64) {
    let goal = load.sent() + n;
    wait_for("the load to go on", || (load.sent() >= goal).then_some(()));
}

fn house_that(sets: &[&str]) -> House {
    let mut house = House::new(QUIET);
    for set in sets {
        house.set(set);
    }
    house.start();
    house.wait_healthy();
    house
}

/// The ledger once it says `wanted`; polled, because a loss is booked within seconds.
#[track_caller]
fn ledger_with(house: &House, wanted: &[(&str, Value)]) -> Value {
    let mut last = Value::Null;
    let deadline = std::time::Instant::now() + crate::house::PATIENCE;
    while std::time::Instant::now() < deadline {
        last = house.json(&["ledger"]);
        if wanted.iter().all(|(name, value)| last[*name] == *value) {
            return last;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    panic!("the ledger never said {wanted:?}: {last}\n{}", house.log());
}

fn total(house: &House) -> u64 {
    house.json(&["aggregates"])["total_count"].as_u64().unwrap()
}

/// Whether an alert is open.
#[track_caller]
fn wait_alert(house: &House, name: &str) {
    wait_for(&format!("the alert {name}"), || {
        house
            .alerts()
            .iter()
            .any(|alert| alert == name)
            .then_some(())
    });
}

/// `lag` of the first stage's group, as the server tells it.
fn server_lag(house: &House) -> String {
    let text = house.redis(&["XINFO", "GROUPS", "events"]);
    let lines: Vec<_> = text.lines().collect();
    let at = lines.iter().position(|l| *l == "lag").expect("a lag");
    lines[at + 1].to_owned()
}

#[test]
fn trimmed_while_pending_is_lost_and_named_by_a_claim() {
    let house = house_that(&["stage.enrich.claim_after=10m"]);
    let ids = house.ghost(0, 40);
    house.redis(&["XTRIM", "events", "MAXLEN", "0"]);
    let rows = house.rows(&["pending", "ls"]);
    assert_eq!(rows.len(), 40);
    assert!(
        rows.iter()
            .all(|row| row["entry"] == "trimmed" && row["size_bytes"].is_null()),
        "{rows:?}"
    );
    let load = load(&house);
    let claimed = house.ends(5, &["pending", "claim", "--consumer", "ghost", "--yes"]);
    assert_eq!(claimed["result"]["trimmed"], 40, "{claimed}");
    trimmed_is_lost(&house, load, &ids);
}

#[test]
fn hole_06_trimmed_while_pending_is_lost_and_named_by_the_sweep() {
    let house = house_that(&["stage.enrich.claim_after=1s", "stage.enrich.timeout=500ms"]);
    let load = load(&house);
    let ids = house.ghost_and(0, 40, "redis.call('XDEL', KEYS[1], unpack(ids))");
    trimmed_is_lost(&house, load, &ids);
}

/// All of `ids`, and nothing else, is lost; the load is applied.
#[track_caller]
fn trimmed_is_lost(house: &House, load: Load, ids: &[String]) {
    let sent = load.stop().events;
    let ledger = house.settled();
    assert_eq!(
        [
            &ledger["lost"],
            &ledger["applied"],
            &ledger["dead"],
            &ledger["balanced"]
        ],
        [&json!(ids.len()), &json!(sent), &json!(0), &json!(true)],
        "{ledger}"
    );
    assert_eq!(total(house), sent);
    let dead = house.rows(&["dead", "ls", "--limit", "1000"]);
    assert_eq!(dead.len(), ids.len());
    for row in &dead {
        assert_eq!(
            (&row["reason"], &row["counts"]),
            (&json!("trimmed"), &json!(false)),
            "{row}"
        );
        assert!(ids.contains(&row["origin_id"].as_str().unwrap().to_owned()));
    }
    wait_alert(house, "lost");
}

#[test]
fn trimmed_in_the_hand_of_a_parked_worker_counts_once() {
    let house = house_that(&["stage.enrich.workers=1", "stage.enrich.claim_after=10m"]);
    let worker = wait_for("a worker", || house.workers("enrich").first().cloned());
    house.json(&["x-fault", "park", &worker, "before_commit"]);
    house.add_events(0, 30);
    wait_for("the worker to hold them", || {
        (house.json(&["ledger"])["pending"] == 30).then_some(())
    });
    house.redis(&["XTRIM", "events", "MAXLEN", "0"]);
    house.json(&["x-fault", "release", &worker]);
    // It has their payload in its hand: they are applied after all, not lost.
    let ledger = house.settled();
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert_eq!(
        ledger["applied"].as_u64().unwrap() + ledger["lost"].as_u64().unwrap(),
        30,
        "{ledger}"
    );
    assert_eq!(total(&house), ledger["applied"].as_u64().unwrap());
}

#[test]
fn trimmed_unread_is_lost_and_the_lag_is_right_again() {
    let house = House::quiet();
    house.add_events(0, 100);
    house.settled();
    house.pause("enrich");
    house.add_events(100, 150);
    house.redis(&["XTRIM", "events", "MAXLEN", "0"]);
    let ledger = ledger_with(&house, &[("lost", json!(50)), ("undelivered", json!(0))]);
    assert_eq!(ledger["balanced"], true, "{ledger}");
    wait_for("the lag to be healed", || {
        (server_lag(&house) == "0").then_some(())
    });
    house.json(&["resume", "enrich"]);
    let sent = load(&house).stop().events;
    let ledger = house.settled();
    assert_eq!(
        [&ledger["lost"], &ledger["applied"], &ledger["balanced"]],
        [&json!(50), &json!(100 + sent), &json!(true)],
        "{ledger}"
    );
    assert_eq!(server_lag(&house), "0");
    assert_eq!(total(&house), 100 + sent);
}

#[test]
fn trimmed_unread_under_load_is_lost_although_reading_went_on_at_once() {
    let house = House::quiet();
    let load = load(&house);
    house.pause("enrich");
    more(&load, 300);
    // How many are unread at that instant is told by the step that trims them.
    let script = "local g, at = redis.call('XINFO', 'GROUPS', KEYS[1])[1], nil \
        for i = 1, #g, 2 do if g[i] == 'last-delivered-id' then at = g[i + 1] end end \
        local n = #redis.call('XRANGE', KEYS[1], '(' .. at, '+') \
        redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) return n";
    let trimmed: u64 = house
        .redis(&["EVAL", script, "1", "events"])
        .parse()
        .expect("a count");
    assert!(trimmed >= 300);
    house.json(&["resume", "enrich"]);
    more(&load, 300);
    let sent = load.stop().events;
    let ledger = house.settled();
    assert_eq!(
        [&ledger["lost"], &ledger["applied"], &ledger["balanced"]],
        [&json!(trimmed), &json!(sent - trimmed), &json!(true)],
        "{ledger}"
    );
    assert_eq!(total(&house), sent - trimmed);
    wait_for("the lag to be healed", || {
        (server_lag(&house) == "0").then_some(())
    });
}

#[test]
fn trimmed_unread_and_new_ones_read_before_anybody_looked_is_lost() {
    let house = House::quiet();
    house.add_events(0, 20);
    house.settled();
    house.pause("enrich");
    house.add_events(20, 70);
    // One step: the unread ones go, new ones come, and they are read at once.
    house.redis(&["EVAL", "redis.call('XTRIM', 'events', 'MAXLEN', 0) for i = 1, 5 do redis.call('XADD', 'events', '*', 'event_id', 'new-' .. i, 'user_id', 'u', 'event_type', 'view', 'ts', '1640995200000') end redis.call('XREADGROUP', 'GROUP', 'event_group', 'ghost', 'COUNT', 2, 'STREAMS', 'events', '>')", "0"]);
    house.json(&["resume", "enrich"]);
    house.json(&["pending", "claim", "--consumer", "ghost", "--yes"]);
    let ledger = house.settled();
    assert_eq!(
        [&ledger["lost"], &ledger["applied"], &ledger["balanced"]],
        [&json!(50), &json!(25), &json!(true)],
        "{ledger}"
    );
    wait_for("the lag to be healed", || {
        (server_lag(&house) == "0").then_some(())
    });
}

#[test]
fn deleted_unread_is_lost_and_the_rest_is_applied() {
    let house = House::quiet();
    house.pause("enrich");
    house.add_events(0, 30);
    let text = house.redis(&["XRANGE", "events", "-", "+"]);
    let ids: Vec<_> = text
        .lines()
        .filter(|l| {
            l.len() > 13 && l.contains('-') && l.chars().all(|c| c.is_ascii_digit() || c == '-')
        })
        .collect();
    assert_eq!(ids.len(), 30);
    let mut command = vec!["XDEL", "events"];
    command.extend(&ids[10..20]);
    assert_eq!(house.redis(&command), "10");
    ledger_with(&house, &[("lost", json!(10)), ("undelivered", json!(20))]);
    wait_for("the loss to be booked", || {
        let booked = house.redis(&["HGET", "{events}:ledger", "enrich:lost"]);
        (booked == "10").then_some(())
    });
    house.json(&["resume", "enrich"]);
    let sent = load(&house).stop().events;
    let ledger = house.settled();
    assert_eq!(
        [&ledger["lost"], &ledger["applied"], &ledger["balanced"]],
        [&json!(10), &json!(20 + sent), &json!(true)],
        "{ledger}"
    );
    assert_eq!(total(&house), 20 + sent);
}

#[test]
fn deleted_unread_and_passed_before_anybody_looked_is_told_one_way_or_the_other() {
    let house = House::quiet();
    let load = load(&house);
    house.pause("enrich");
    more(&load, 100);
    // The server forgets what it deleted as soon as the group has passed it: then it is a residual, and an alert.
    let script = "local g, at = redis.call('XINFO', 'GROUPS', KEYS[1])[1], nil \
        for i = 1, #g, 2 do if g[i] == 'last-delivered-id' then at = g[i + 1] end end \
        local n = 0 \
        for _, e in ipairs(redis.call('XRANGE', KEYS[1], '(' .. at, '+', 'COUNT', 10)) do \
          n = n + redis.call('XDEL', KEYS[1], e[1]) end return n";
    house.json(&["resume", "enrich"]);
    let deleted: u64 = house
        .redis(&["EVAL", script, "1", "events"])
        .parse()
        .expect("a count");
    let sent = load.stop().events;
    let ledger = ledger_with(
        &house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("accepted", json!(sent)),
            ("applied", json!(sent - deleted)),
        ],
    );
    assert_eq!(
        ledger["lost"].as_u64().unwrap() + ledger["unaccounted"].as_u64().unwrap(),
        deleted,
        "{ledger}"
    );
    assert_eq!(total(&house), sent - deleted);
}

#[test]
fn a_destroyed_group_under_load_is_made_again_and_nothing_is_lost_or_doubled() {
    let house = House::quiet();
    let load = load(&house);
    for _ in 0..3 {
        assert_eq!(
            house.redis(&["XGROUP", "DESTROY", "events", "event_group"]),
            "1"
        );
        more(&load, 150);
        wait_for("the group to be there again", || {
            house
                .redis(&["XINFO", "GROUPS", "events"])
                .contains("event_group")
                .then_some(())
        });
    }
    house.redis(&["XGROUP", "DESTROY", "{events}:enrich", "correlate"]);
    more(&load, 150);
    all_applied(&house, load);
}

/// The load ends; each of its events was applied exactly once.
#[track_caller]
fn all_applied(house: &House, load: Load) {
    let sent = load.stop().events;
    let ledger = ledger_with(
        house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("accepted", json!(sent)),
        ],
    );
    assert_eq!(
        [
            &ledger["applied"],
            &ledger["lost"],
            &ledger["duplicated"],
            &ledger["unaccounted"]
        ],
        [&json!(sent), &json!(0), &json!(0), &json!(0)],
        "{ledger}\n{}",
        house.log()
    );
    assert_eq!(total(house), sent);
    house.wait_healthy();
}

#[test]
fn hole_05_a_group_set_back_under_load_counts_nothing_twice() {
    // Without the id window: what keeps it exact is the settled mark alone.
    let house = house_that(&["event.dedupe.window=0s"]);
    let load = load(&house);
    for _ in 0..5 {
        house.redis(&["XGROUP", "SETID", "events", "event_group", "0"]);
        more(&load, 100);
        house.redis(&["XGROUP", "SETID", "{events}:enrich", "correlate", "0"]);
        more(&load, 100);
    }
    all_applied(&house, load);
}

#[test]
fn a_group_set_back_while_an_old_entry_is_pending_counts_nothing_twice() {
    let house = house_that(&["event.dedupe.window=0s", "stage.enrich.claim_after=10m"]);
    house.ghost(0, 3);
    let load = load(&house);
    for _ in 0..5 {
        house.redis(&["XGROUP", "SETID", "events", "event_group", "0"]);
        more(&load, 150);
    }
    let sent = load.stop().events;
    // Those of the ghost were delivered again, to us.
    let ledger = house.settled();
    assert_eq!(
        [&ledger["applied"], &ledger["unaccounted"], &ledger["lost"]],
        [&json!(sent + 3), &json!(0), &json!(0)],
        "{ledger}\n{}",
        house.log()
    );
    assert_eq!(total(&house), sent + 3);
    wait_alert(&house, "group.redelivered");
}

#[test]
fn a_group_set_forward_over_unread_entries_is_told() {
    let house = House::quiet();
    house.pause("enrich");
    house.add_events(0, 25);
    house.redis(&["XGROUP", "SETID", "events", "event_group", "$"]);
    house.json(&["resume", "enrich"]);
    let sent = load(&house).stop().events;
    let ledger = ledger_with(
        &house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("applied", json!(sent)),
        ],
    );
    assert_eq!(
        [
            &ledger["accepted"],
            &ledger["unaccounted"],
            &ledger["balanced"]
        ],
        [&json!(sent + 25), &json!(25), &json!(false)],
        "{ledger}"
    );
    wait_alert(&house, "ledger.unaccounted");
    assert_eq!(total(&house), sent);
}

#[test]
fn a_consumer_deleted_with_what_it_held_is_told() {
    let house = house_that(&["stage.enrich.claim_after=10m"]);
    house.ghost(0, 12);
    let load = load(&house);
    assert_eq!(
        house.redis(&["XGROUP", "DELCONSUMER", "events", "event_group", "ghost"]),
        "12"
    );
    more(&load, 100);
    let sent = load.stop().events;
    let ledger = ledger_with(
        &house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("applied", json!(sent)),
        ],
    );
    assert_eq!(
        [
            &ledger["accepted"],
            &ledger["unaccounted"],
            &ledger["balanced"]
        ],
        [&json!(sent + 12), &json!(12), &json!(false)],
        "{ledger}"
    );
    wait_alert(&house, "ledger.unaccounted");
    assert_eq!(total(&house), sent);
}

#[test]
fn our_own_consumers_deleted_under_load_double_nothing() {
    let house = House::quiet();
    let load = load(&house);
    let workers = wait_for("both workers", || {
        let workers = house.workers("enrich");
        (workers.len() == 2).then_some(workers)
    });
    let mut deleted = 0;
    for _ in 0..10 {
        for worker in &workers {
            let n = house.redis(&["XGROUP", "DELCONSUMER", "events", "event_group", worker]);
            deleted += n.parse::<u64>().unwrap();
        }
        more(&load, 20);
    }
    let sent = load.stop().events;
    let ledger = ledger_with(
        &house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("accepted", json!(sent)),
        ],
    );
    let applied = ledger["applied"].as_u64().unwrap();
    assert_eq!(
        (applied, &ledger["unaccounted"]),
        (sent - deleted, &json!(deleted)),
        "{ledger}"
    );
    assert_eq!(total(&house), applied);
}

#[test]
fn hole_04_a_foreign_acknowledgement_is_an_alarm_and_its_effects_are_dropped() {
    let house = house_that(&["stage.enrich.workers=1", "stage.enrich.claim_after=10m"]);
    let worker = wait_for("a worker", || house.workers("enrich").first().cloned());
    house.json(&["x-fault", "park", &worker, "before_commit"]);
    house.add_events(0, 20);
    let ids = wait_for("the worker to hold them", || {
        let rows = house.rows(&["pending", "ls"]);
        let ids: Vec<_> = rows
            .iter()
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .collect();
        (ids.len() == 20).then_some(ids)
    });
    let mut command = vec!["XACK", "events", "event_group"];
    command.extend(ids[..8].iter().map(String::as_str));
    assert_eq!(house.redis(&command), "8");
    house.json(&["x-fault", "release", &worker]);
    let sent = load(&house).stop().events;
    let ledger = ledger_with(
        &house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("applied", json!(sent + 12)),
        ],
    );
    assert_eq!(
        [
            &ledger["unaccounted"],
            &ledger["duplicated"],
            &ledger["balanced"]
        ],
        [&json!(8), &json!(0), &json!(false)],
        "{ledger}"
    );
    assert_eq!(total(&house), sent + 12);
    wait_alert(&house, "ack.foreign");
    wait_alert(&house, "ledger.unaccounted");
}

#[test]
fn flushed_under_load_it_runs_again_and_the_ledger_begins_anew() {
    let house = House::quiet();
    let load = load(&house);
    assert_eq!(house.redis(&["FLUSHALL"]), "OK");
    more(&load, 500);
    let sent = load.stop().events;
    let ledger = house.settled();
    let accepted = ledger["accepted"].as_u64().unwrap();
    assert!((500..=sent).contains(&accepted), "{ledger}");
    assert_eq!(
        [
            &ledger["applied"],
            &ledger["duplicated"],
            &ledger["balanced"]
        ],
        [&json!(accepted), &json!(0), &json!(true)],
        "{ledger}\n{}",
        house.log()
    );
    assert_eq!(total(&house), accepted);
    house.wait_healthy();
}

#[test]
fn a_deleted_source_stream_begins_anew_and_the_ledger_goes_on() {
    let house = House::quiet();
    house.add_events(0, 100);
    house.settled();
    house.pause("enrich");
    house.add_events(100, 130);
    wait_for("the housekeeping to have seen them", || {
        let seen = house.redis(&["HGET", "{events}:ledger", "added:enrich"]);
        (seen == "130").then_some(())
    });
    assert_eq!(house.redis(&["DEL", "events"]), "1");
    house.json(&["resume", "enrich"]);
    let sent = load(&house).stop().events;
    let ledger = ledger_with(
        &house,
        &[
            ("pending", json!(0)),
            ("undelivered", json!(0)),
            ("applied", json!(100 + sent)),
        ],
    );
    assert_eq!(
        [&ledger["lost"], &ledger["accepted"], &ledger["balanced"]],
        [&json!(30), &json!(130 + sent), &json!(true)],
        "{ledger}\n{}",
        house.log()
    );
    assert_eq!(total(&house), 100 + sent);
}

#[test]
fn a_source_stream_deleted_under_load_doubles_nothing_and_balances() {
    let house = House::quiet();
    let load = load(&house);
    assert_eq!(house.redis(&["DEL", "events"]), "1");
    more(&load, 500);
    let sent = load.stop().events;
    let ledger = house.settled();
    let (applied, lost) = (
        ledger["applied"].as_u64().unwrap(),
        ledger["lost"].as_u64().unwrap(),
    );
    assert_eq!(ledger["balanced"], true, "{ledger}\n{}", house.log());
    assert_eq!(total(&house), applied);
    assert!(applied + lost <= sent && applied >= 500, "{sent}: {ledger}");
}

#[test]
fn a_deleted_stream_between_two_stages_loses_what_it_held_and_goes_on() {
    let house = House::quiet();
    house.add_events(0, 50);
    house.settled();
    house.pause("correlate");
    house.add_events(50, 90);
    ledger_with(&house, &[("undelivered", json!(40))]);
    assert_eq!(house.redis(&["DEL", "{events}:enrich"]), "1");
    let load = load(&house);
    house.json(&["resume", "correlate"]);
    more(&load, 200);
    let sent = load.stop().events;
    let ledger = house.settled();
    assert_eq!(
        [&ledger["lost"], &ledger["applied"], &ledger["balanced"]],
        [&json!(40), &json!(50 + sent), &json!(true)],
        "{ledger}\n{}",
        house.log()
    );
    assert_eq!(total(&house), 50 + sent);
}
