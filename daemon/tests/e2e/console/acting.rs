//! Found, looked at, claimed, brought back, cancelled: with the keyboard alone, each counted once.

use serde_json::{Value, json};

use super::SIZES;
use super::driver::{Console, Setting};
use crate::house::{House, QUIET, wait_for};
use crate::needs::tmux;
use crate::poison::{N_POISONED, poisoned};
use crate::stuck::{all_applied_once, one_worker, parked, released};

/// Moves from the top down until the cursor's row has this text.
#[track_caller]
fn walk_to(console: &Console, text: &str) {
    console.sees(text);
    // The cursor stays on its row when others come above it.
    console.press(&["g"]);
    console.is_read();
    for _ in 0..60 {
        let before = console.sees_one("a list", |screen| Console::cursor_line(screen).is_some());
        let before = Console::cursor_line(&before).map(str::to_owned);
        if before.as_ref().is_some_and(|line| line.contains(text)) {
            return;
        }
        console.press(&["j"]);
        console.sees_one("the cursor to move", |screen| {
            Console::cursor_line(screen).map(str::to_owned) != before
        });
    }
    panic!("no row with {text:?}:\n{}", console.text());
}

/// Confirms an open plan for `n` entries: types the count where that is asked for, gives a reason, runs it.
#[track_caller]
fn confirm(console: &Console, verb: &str, n: usize, reason: &str) {
    let screen = console.sees("nothing is done yet");
    let count = format!("type {n} to go on: ");
    let is_counted = screen.contains(&count);
    assert_eq!(is_counted, n != 1, "many are counted:\n{screen}");
    console.is_read();
    // It opens with the focus on Cancel, the last but one part.
    if is_counted {
        console.types(&n.to_string());
        console.sees(&format!("{count}{n}"));
        console.press(&["Tab"]);
    } else {
        console.press(&["BTab"]);
    }
    console.types(reason);
    console.sees(&format!("reason (optional): {reason}"));
    console.press(&["Tab", "Tab"]);
    console.sees(&format!(">[ {verb} {n} ]<"));
    console.press(&["Enter"]);
}

/// The command that the last row of the audit log about a plan stands for, as the plan itself tells it.
fn command_of_plan(house: &House) -> String {
    let plans = house.rows(&["plan", "ls"]);
    let done = plans.iter().find(|plan| plan["state"] == "done");
    let command = done.and_then(|plan| plan["command"].as_str());
    command
        .unwrap_or_else(|| panic!("no plan is done: {plans:?}"))
        .to_owned()
}

fn a_stuck_batch_is_found_read_claimed_and_applied_once(columns: u16, rows: u16) {
    let house = one_worker();
    let (stuck, _, ids) = parked(&house, "before_commit", 400);
    let console = Console::open(&house, &Setting::sized(columns, rows));
    console.sees("LIVE");

    // Who is it?
    console.press(&["2", "c"]);
    console.sees("[Consumers]");
    walk_to(&console, "parked");
    let screen = console.text();
    let line = Console::cursor_line(&screen).expect("a cursor");
    assert!(line.contains(&stuck[..12]), "{stuck}: {line}");

    // What does it hold?
    console.press(&["Enter"]);
    console.sees("[Pending]");
    console.sees(&format!("consumer={}", &stuck[..12]));
    let n = ids.len();
    console.sees(&format!("1 of {n} entries"));
    console.sees(&ids[0]);

    // Its payload.
    let shown = house.json(&["pending", "show", &ids[0]]);
    let sent = shown["fields"][0]["value"].as_str().expect("an event id");
    assert!(sent.starts_with("event-"));
    console.press(&["Enter"]);
    console.sees(&format!("pending entry {}", ids[0]));
    console.sees("event_id");
    let screen = console.sees(sent);
    assert!(screen.contains("1640995200000"), "{screen}");
    console.press(&["Escape"]);
    console.sees(&format!("1 of {n} entries"));

    // One, under the cursor.
    console.press(&["x"]);
    console.sees("claim: hand to a live worker, now");
    console.press(&["c"]);
    confirm(&console, "claim", 1, "try one");
    console.sees("applied 1");
    console.press(&["Enter"]);
    console.sees(&format!("1 of {} entries", n - 1));

    // Two that are marked.
    console.press(&["Space", "Space"]);
    console.sees("2 marked");
    console.press(&["x"]);
    console.sees("2 marked entries");
    console.press(&["c"]);
    confirm(&console, "claim", 2, "and two");
    console.sees("applied 2");
    console.press(&["Escape"]);

    // The rest, by its consumer.
    console.sees(&format!("1 of {} entries", n - 3));
    console.press(&["x"]);
    console.sees("claim -- all entries of");
    console.press(&["C"]);
    confirm(&console, "claim", n - 3, "it hangs");
    console.sees(&format!("applied {}", n - 3));
    console.press(&["Enter"]);
    console.sees("no entries match the filter");

    all_applied_once(&house, 400);
    console.press(&["@"]);
    let screen = console.sees(&format!("pending claim ({})", n - 3));
    assert!(
        screen.contains(&format!("done: applied {}", n - 3)),
        "{screen}"
    );
    let command = command_of_plan(&house);
    let wanted: String = command.chars().take(40).collect();
    assert!(screen.contains(&wanted), "{command}\n{screen}");
    console.press(&["Escape"]);
    let audit = house.rows(&["audit"]);
    let ran: Vec<&Value> = audit
        .iter()
        .filter(|row| row["action"] == "plan.run")
        .map(|row| &row["reason"])
        .collect();
    assert_eq!(ran.len(), 3, "{audit:?}");
    for reason in ["try one", "and two", "it hangs"] {
        assert!(ran.contains(&&json!(reason)), "{audit:?}");
    }

    // The worker wakes up: its late commit changes nothing.
    released(&house, &stuck);
    all_applied_once(&house, 400);
    console.quit();
}

#[test]
fn a_stuck_batch_is_found_read_claimed_and_applied_once_on_80_columns() {
    if !tmux() {
        return;
    }
    let [(columns, rows), _] = SIZES;
    a_stuck_batch_is_found_read_claimed_and_applied_once(columns, rows);
}

#[test]
fn a_stuck_batch_is_found_read_claimed_and_applied_once_on_160_columns() {
    if !tmux() {
        return;
    }
    let [_, (columns, rows)] = SIZES;
    a_stuck_batch_is_found_read_claimed_and_applied_once(columns, rows);
}

#[test]
fn what_a_dead_foreign_consumer_holds_is_claimed_from_its_row() {
    if !tmux() {
        return;
    }
    for (columns, rows) in SIZES {
        let house = House::quiet();
        house.ghost(0, 30);
        let console = Console::open(&house, &Setting::sized(columns, rows));
        console.sees("LIVE");
        console.press(&["2", "c"]);
        walk_to(&console, "ghost");
        console.press(&["x"]);
        console.sees("claim -- all 30 entries of ghost");
        console.press(&["c"]);
        confirm(&console, "claim", 30, "its script died");
        console.sees("applied 30");
        console.press(&["Enter"]);
        all_applied_once(&house, 30);
        console.quit();
    }
}

#[test]
fn a_dead_letter_is_read_and_brought_back() {
    if !tmux() {
        return;
    }
    for (columns, rows) in SIZES {
        let house = poisoned(2, "1ms..2ms");
        house.add_events(0, 500);
        let ledger = house.settled();
        assert_eq!(ledger["dead"], N_POISONED, "{ledger}");
        house.redis(&["DEL", "profile:user-7"]);
        let n = usize::try_from(N_POISONED).expect("a few");

        let console = Console::open(&house, &Setting::sized(columns, rows));
        console.sees("LIVE");
        console.press(&["2", "d"]);
        console.sees("[Dead]");
        console.sees(&format!("1 of {n} dead letters"));
        console.press(&["Enter"]);
        console.sees("retries_exhausted");
        console.sees("user-7");
        console.press(&["Escape"]);
        console.sees_no("field 1 of");

        console.press(&["x"]);
        console.sees("redrive: add to its stage again");
        console.press(&["r"]);
        confirm(&console, "redrive", 1, "profile mended");
        console.sees("applied 1");
        console.press(&["Enter"]);
        // Its error may be remembered for a second; then it dies once more, which is another letter.
        wait_for("one to be applied", || {
            (house.settled()["applied"].as_u64() >= Some(500 - N_POISONED)).then_some(())
        });

        console.press(&["x"]);
        console.sees("redrive -- all of cause");
        console.press(&["R"]);
        console.sees("nothing is done yet");
        console.press(&["Escape"]);
        console.sees("nothing was done");
        // Until what is remembered of the profile is forgotten.
        wait_for("the cause to be gone", || {
            house.pipectl(&["dead", "redrive", "--all", "--yes"]);
            (house.settled()["dead"] == 0).then_some(())
        });
        all_applied_once(&house, 500);
        console.quit();
    }
}

#[test]
fn a_plan_that_is_left_changes_nothing() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    house.ghost(0, 30);
    let console = Console::open(&house, &Setting::sized(80, 24));
    console.sees("LIVE");
    console.press(&["2", "p"]);
    console.sees("1 of 30 entries");
    let open = |letter: &str| {
        console.press(&["x"]);
        console.sees("all entries of ghost");
        console.press(&[letter]);
        console.sees("nothing is done yet");
        console.is_read();
    };
    open("C");
    console.press(&["Escape"]);
    console.sees("nothing was done");
    // Enter is Cancel, because that is where a dialog opens.
    open("d");
    console.press(&["Enter"]);
    console.sees_no("nothing is done yet");
    // A wrong count is no confirmation.
    open("C");
    console.types("29");
    console.sees("go on: 29");
    console.press(&["Tab", "Tab", "Tab", "Enter"]);
    console.sees("type the count, 30, to go on");
    console.press(&["Escape"]);
    console.sees_no("type 30 to go on");

    let rows = house.rows(&["pending", "ls", "--consumer", "ghost"]);
    assert_eq!(rows.len(), 30);
    assert!(rows.iter().all(|row| row["deliveries"] == 1), "{rows:?}");
    let audit = house.rows(&["audit"]);
    assert!(
        audit.iter().all(|row| row["action"] != "plan.run"),
        "{audit:?}"
    );
    console.quit();
}

/// A console with a plan under way for all that a foreign consumer holds: the only worker stops before it commits what it is
/// handed, so that the plan waits.
fn under_way(n: u64) -> (House, Console, String) {
    let mut house = House::new(QUIET);
    house
        .set("stage.enrich.workers=1")
        .set("stage.enrich.claim_after=10m");
    house.start();
    house.wait_healthy();
    house.ghost(0, n);
    let worker = wait_for("a worker", || house.workers("enrich").first().cloned());
    house.json(&["x-fault", "park", &worker, "before_commit"]);
    let console = Console::open(&house, &Setting::sized(80, 24));
    console.sees("LIVE");
    console.press(&["2", "c"]);
    walk_to(&console, "ghost");
    console.press(&["x"]);
    console.sees(&format!("claim -- all {n} entries of ghost"));
    console.press(&["c"]);
    let count = usize::try_from(n).expect("a few");
    confirm(&console, "claim", count, "by mistake");
    console.sees("c cancels the rest");
    (house, console, worker)
}

#[test]
fn a_plan_that_runs_is_cancelled_with_a_key() {
    if !tmux() {
        return;
    }
    // A hundred at a time: the first are handed over and waited for, and between two hundreds a cancel is heard.
    let (house, console, worker) = under_way(250);
    console.press(&["c"]);
    console.sees("cancelling");
    console.sees("CANCELLED");
    console.sees("waiting 100");
    console.press(&["Enter"]);
    console.press(&["@"]);
    console.sees("cancelled: applied 0, waiting 100");
    console.press(&["Escape"]);
    let plans = house.rows(&["plan", "ls"]);
    assert_eq!(plans[0]["state"], "cancelled", "{plans:?}");
    let rows = house.rows(&["consumers", "ls"]);
    let ghost = rows.iter().find(|row| row["name"] == "ghost");
    assert_eq!(ghost.expect("it is there")["pending"], 150, "{rows:?}");
    // What was handed over is the worker's, and is applied once when it goes on.
    house.json(&["x-fault", "release", &worker]);
    house.json(&["pending", "claim", "--consumer", "ghost", "--yes"]);
    all_applied_once(&house, 250);
    console.quit();
}

#[test]
fn quitting_asks_while_a_plan_runs_and_the_plan_goes_on_without_its_dialog() {
    if !tmux() {
        return;
    }
    let (house, console, worker) = under_way(30);
    console.press(&["Escape"]);
    console.sees_no("c cancels the rest");
    console.press(&["q"]);
    console.sees("a plan runs");
    console.press(&["Enter"]);
    console.sees_no("a plan runs");

    let running = wait_for("the running plan", || {
        let plans = house.rows(&["plan", "ls"]);
        plans
            .iter()
            .find(|plan| plan["state"] == "running")
            .cloned()
    });
    assert_eq!(running["matched"], 30, "{running}");
    console.press(&["@"]);
    console.sees("under way");
    console.press(&["Escape"]);
    house.json(&["x-fault", "release", &worker]);
    console.press(&["@"]);
    console.sees("done: applied 30");
    console.press(&["Escape"]);
    all_applied_once(&house, 30);
    console.quit();
}
