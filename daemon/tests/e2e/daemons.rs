//! Several daemons in one pipeline: shared stages are worked by all of them, owned ones are spread; they join, leave, are
//! restarted one after the other and taken over by hand, and every event counts once.

use serde_json::json;

use crate::house::{House, QUIET, wait_for};
use crate::load::Load;

/// `enrich` shared by two workers a daemon, `correlate` owned.
fn mixed() -> House {
    let mut house = House::new(QUIET);
    house
        .set("stage.enrich.claim_after=2s")
        .set("stage.correlate.delivery=owned");
    house
}

/// Both stages owned.
fn owned() -> House {
    let mut house = mixed();
    house
        .set("stage.enrich.delivery=owned")
        .set("stage.enrich.workers=1");
    house
}

fn running(mut house: House) -> House {
    house.start();
    house.wait_healthy();
    house
}

/// One more daemon on the Redis of `house`.
fn guest(house: &House, like: fn() -> House) -> House {
    let mut guest = like();
    guest.on(&format!("redis+unix://{}", house.redis_socket().display()));
    running(guest)
}

/// Who has the lease of a stage; empty = nobody.
fn owner(house: &House, stage: &str) -> String {
    house.redis(&["HGET", &format!("{{events}}:lease:{stage}"), "owner"])
}

fn worker(house: &House, stage: &str) -> String {
    wait_for("a worker", || house.workers(stage).first().cloned())
}

fn committed(house: &House) -> u64 {
    let told = house.redis(&["HGET", "{events}:ledger", "correlate:ended"]);
    told.parse().unwrap_or(0)
}

/// No consumer of a group is one that no running daemon has.
#[track_caller]
fn no_name_is_left_behind(houses: &[&House]) {
    for (stream, group, stage) in [
        ("events", "event_group", "enrich"),
        ("{events}:enrich", "correlate", "correlate"),
    ] {
        let known: Vec<String> = houses.iter().flat_map(|h| h.workers(stage)).collect();
        let told = houses[0].redis(&["XINFO", "CONSUMERS", stream, group]);
        let lines: Vec<&str> = told.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "name") {
            let is_known = known.iter().any(|name| name == pair[1]) || pair[1] == "parked";
            assert!(is_known, "{stage}: {} of {known:?}", pair[1]);
        }
    }
}

#[test]
fn owned_stages_are_spread_over_the_daemons_and_come_back_from_one_that_leaves() {
    let house = running(owned());
    wait_for("both stages to be owned", || {
        ["enrich", "correlate"]
            .iter()
            .all(|stage| !owner(&house, stage).is_empty())
            .then_some(())
    });
    let load = Load::start(&house, "spread", 21, 3_000);
    let mut second = guest(&house, owned);
    let has_one = |of: &House| {
        let n = ["enrich", "correlate"]
            .iter()
            .filter(|stage| owner(&house, stage) == worker(of, stage))
            .count();
        n == 1
    };
    wait_for("each daemon to own one", || {
        (has_one(&house) && has_one(&second)).then_some(())
    });
    let before = committed(&house);
    wait_for("commits", || {
        (committed(&house) > before + 3_000).then_some(())
    });
    assert_eq!(second.terminate(), Some(0), "{}", second.log());
    wait_for("the first to own both", || {
        ["enrich", "correlate"]
            .iter()
            .all(|stage| owner(&house, stage) == worker(&house, stage))
            .then_some(())
    });
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, "spread");
    no_name_is_left_behind(&[&house]);
}

#[test]
fn a_stage_taken_over_by_hand_stays_where_it_was_put() {
    let house = running(owned());
    let second = guest(&house, owned);
    let load = Load::start(&house, "take", 22, 2_000);
    for stage in ["enrich", "correlate"] {
        let would = second.json(&["take", stage, "--dry-run"]);
        assert!(would["result"]["would"].as_str().is_some(), "{would}");
        let done = second.json(&["take", stage, "--reason", "the other host is slow"]);
        assert_eq!(done["result"]["here"], true, "{done}");
        assert_eq!(owner(&house, stage), worker(&second, stage));
    }
    // Long enough for the daemons to have looked three times at whose turn it is.
    let beats = |of: &House| of.redis(&["ZRANGE", "{events}:daemons", "0", "-1", "WITHSCORES"]);
    let (mut seen, mut last) = (0, beats(&house));
    wait_for("some beats", || {
        let now = beats(&house);
        seen += u32::from(now != last);
        last = now;
        (seen >= 6).then_some(())
    });
    for stage in ["enrich", "correlate"] {
        assert_eq!(owner(&house, stage), worker(&second, stage), "{stage}");
    }
    let again = second.json(&["take", "correlate"]);
    assert_eq!(again["result"]["was_here"], true, "{again}");
    house.json(&["pause", "correlate"]);
    house.ends(4, &["take", "correlate"]);
    house.json(&["resume", "correlate"]);
    house.json(&["take", "correlate"]);
    assert_eq!(owner(&house, "correlate"), worker(&house, "correlate"));
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, "taken over");
    let actions = second.json(&["audit"]);
    assert!(actions.to_string().contains("stage.take"), "{actions}");
}

#[test]
fn a_rolling_restart_of_three_daemons_loses_nothing_and_doubles_nothing() {
    let mut house = running(mixed());
    let mut second = guest(&house, mixed);
    let mut third = guest(&house, mixed);
    let load = Load::start(&house, "roll", 23, 5_000);
    for round in 0..2 {
        for n in 0..3 {
            let before = committed(&house);
            wait_for("commits", || (committed(&house) > before).then_some(()));
            let daemon = match n {
                0 => &mut house,
                1 => &mut second,
                _ => &mut third,
            };
            assert_eq!(
                daemon.terminate(),
                Some(0),
                "round {round}: {}",
                daemon.log()
            );
            daemon.start();
            daemon.wait_healthy();
        }
    }
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, "rolling restart");
    no_name_is_left_behind(&[&house, &second, &third]);
}

#[test]
fn daemons_that_join_leave_crash_and_stall_at_random_stay_exact() {
    let house = running(mixed());
    let mut others = [guest(&house, mixed), guest(&house, mixed)];
    let load = Load::start(&house, "random", 24, 5_000);
    for round in 0..6_u64 {
        let at = usize::try_from(round % 2).unwrap();
        let before = committed(&house);
        wait_for("commits", || (committed(&house) > before).then_some(()));
        let other = &mut others[at];
        match round % 3 {
            0 => other.kill(),
            1 => assert_eq!(other.terminate(), Some(0), "{}", other.log()),
            _ => {
                // A zombie: longer than the lease, while it may be the owner.
                let zombie = worker(other, "correlate");
                other.json(&["take", "correlate"]);
                crate::house::signal(other.pid(), "STOP");
                wait_for("somebody else to own the stage", || {
                    let now = owner(&house, "correlate");
                    (now != zombie && !now.is_empty()).then_some(())
                });
                crate::house::signal(other.pid(), "CONT");
                continue;
            }
        }
        other.start();
        other.wait_healthy();
    }
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, "at random");
    no_name_is_left_behind(&[&house, &others[0], &others[1]]);
}

#[test]
fn a_daemon_with_another_delivery_stands_still_and_says_why() {
    let house = running(owned());
    house.add_events(0, 100);
    house.settled();
    let mut other = mixed();
    other.on(&format!("redis+unix://{}", house.redis_socket().display()));
    other.start();
    wait_for("it to say why it does not work", || {
        other.whole_log().contains("still owned by").then_some(())
    });
    house.add_events(100, 300);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["duplicated"]),
        (&json!(300), &json!(0)),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
}
