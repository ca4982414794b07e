//! Owned stages in the console: what an owner has in hand is seen as rows, and a partition is taken over with keys.

use super::SIZES;
use super::driver::{Console, Setting};
use crate::house::{House, QUIET, wait_for};
use crate::needs::tmux;
use crate::stuck::all_applied_once;

fn owned() -> House {
    let mut house = House::new(QUIET);
    house
        .set("stage.enrich.delivery=owned")
        .set("stage.enrich.workers=1")
        .set("stage.correlate.delivery=owned");
    house
}

fn running(mut house: House) -> House {
    house.start();
    house.wait_healthy();
    house
}

/// Who has the lease of a stage; empty = nobody.
fn owner(house: &House, stage: &str) -> String {
    house.redis(&["HGET", &format!("{{events}}:lease:{stage}"), "owner"])
}

fn worker(house: &House, stage: &str) -> String {
    wait_for("a worker", || house.workers(stage).first().cloned())
}

#[test]
fn what_an_owner_has_in_hand_is_seen_read_and_left_to_it() {
    if !tmux() {
        return;
    }
    for (columns, rows) in SIZES {
        let house = running(owned());
        let stuck = worker(&house, "enrich");
        wait_for("the stage to be owned", || {
            (owner(&house, "enrich") == stuck).then_some(())
        });
        house.json(&["x-fault", "park", &stuck, "before_commit"]);
        house.add_events(0, 3);
        let console = Console::open(&house, &Setting::sized(columns, rows));
        console.sees("LIVE");
        console.press(&["2", "p"]);
        console.sees("[Pending]");
        console.sees("in flight");
        let screen = console.sees(" entries");
        assert!(screen.contains("enrich: 0 parked"), "{screen}");
        assert_eq!(
            house.json(&["ledger"])["pending"],
            0,
            "it is no part of the ledger's pending"
        );
        assert!(house.rows(&["pending", "ls"]).is_empty());

        // Its payload.
        let newest = console.sees_one("a row in flight", |screen| {
            Console::cursor_line(screen).is_some_and(|line| line.contains("flight"))
        });
        let id = Console::cursor_line(&newest)
            .and_then(|line| line.split_whitespace().nth(1))
            .expect("an id")
            .to_owned();
        console.press(&["Enter"]);
        console.sees(&format!("entry in flight {id}"));
        console.sees("event_id");
        let shown = house.json(&["pending", "show", &id]);
        assert_eq!(shown["in_flight"], true, "{shown}");
        console.press(&["Escape"]);
        console.sees(" entries");

        // It is its owner's.
        console.press(&["x"]);
        console.sees("claim -- no: it is in flight with");
        console.press(&["c"]);
        console.sees("wait, or have another daemon take over");
        console.press(&["Escape"]);
        let plan = house.json(&["pending", "ack", "--id", &id, "--dry-run"]);
        assert_eq!(plan["plan"]["matched"], 0, "{plan}");
        let why = plan["plan"]["skipped"][0]["reason"].as_str();
        assert!(why.is_some_and(|why| why.contains(&stuck)), "{plan}");

        house.json(&["x-fault", "release", &stuck]);
        all_applied_once(&house, 3);
        console.sees("no entries");
        console.quit();
    }
}

#[test]
fn a_partition_is_taken_over_on_the_console_of_the_daemon_that_is_to_have_it() {
    if !tmux() {
        return;
    }
    let house = running(owned());
    let mut second = owned();
    second.on(&format!("redis+unix://{}", house.redis_socket().display()));
    let second = running(second);
    for (columns, rows) in SIZES {
        // Where it is not now.
        house.json(&["take", "correlate"]);
        let there = worker(&house, "correlate");
        assert_eq!(owner(&house, "correlate"), there);
        let console = Console::open(&second, &Setting::sized(columns, rows));
        console.sees("LIVE");
        console.press(&["2", "p"]);
        console.press(&["/"]);
        console.types("stage=correlate");
        console.press(&["Enter"]);
        console.sees("owned elsewhere by");
        console.press(&["1", "o"]);
        console.sees("[Overview]");
        console.sees("correlate");
        // It is the last one.
        console.press(&["G", "x"]);
        console.sees("take over partition of correlate: owned elsewhere by");
        console.press(&["o"]);
        console.sees("stage.take");
        console.press(&["Right", "Enter"]);
        console.sees("would take over stage correlate");
        assert_eq!(owner(&house, "correlate"), there, "nothing is done yet");
        console.press(&["Right", "Enter"]);
        console.sees("stage.take: stage correlate is owned here now");
        assert_eq!(owner(&house, "correlate"), worker(&second, "correlate"));
        console.press(&["@"]);
        console.sees("pipectl take correlate");
        console.press(&["Escape"]);
        console.press(&["2", "p"]);
        console.sees("owned here by");
        console.press(&["x"]);
        console.sees("take over partition -- no: correlate is owned here already");
        console.press(&["Escape"]);
        console.quit();
    }
    house.add_events(0, 200);
    all_applied_once(&house, 200);
    let audit = second.json(&["audit"]).to_string();
    assert!(audit.contains("stage.take"), "{audit}");
}
