//! The daemon dies, hangs, comes back; the terminal shrinks, is flooded, is taken away: nothing freezes, nothing acts.

use serde_json::Value;

use super::driver::{Console, Setting};
use crate::house::{House, signal};
use crate::needs::tmux;

#[test]
fn a_daemon_that_is_killed_is_seen_waited_for_and_found_again() {
    if !tmux() {
        return;
    }
    let mut house = House::quiet();
    house.ghost(0, 10);
    let console = Console::open(&house, &Setting::sized(80, 24));
    console.sees("LIVE");
    console.press(&["2", "p"]);
    console.sees("1 of 10 entries");
    house.kill();
    console.sees("STALE");
    // What was known stays, and is marked as old; nothing can be done to it.
    let screen = console.sees("1 of 10 entries");
    assert!(!screen.contains("LIVE"), "{screen}");
    console.answers();
    console.press(&["x"]);
    console.sees("claim");
    console.press(&["c"]);
    console.sees("the daemon is not connected");
    console.press(&["Escape"]);
    for key in ["c", "d", "p", "1", "5", "2"] {
        console.press(&[key]);
    }
    console.answers();

    house.start();
    console.sees("LIVE");
    console.press(&["2", "p"]);
    console.sees("1 of 10 entries");
    house.wait_healthy();
    console.answers();
    console.quit();
}

#[test]
fn a_console_that_finds_no_daemon_waits_for_one() {
    if !tmux() {
        return;
    }
    let mut house = House::new(crate::house::QUIET);
    let console = Console::open(&house, &Setting::sized(80, 24));
    console.sees("NOT CONNECTED");
    console.sees("pipectl up");
    console.answers();
    house.start();
    console.sees("LIVE");
    console.quit();
}

#[test]
fn a_daemon_that_hangs_is_stale_in_seconds_and_keys_answer() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    let console = Console::open(&house, &Setting::sized(80, 24));
    console.sees("LIVE");
    signal(house.pid(), "STOP");
    console.sees("STALE");
    console.answers();
    // Beyond the silence after which the connection is given up, and through an attempt that is not answered either.
    console.sees("connecting");
    console.answers();
    signal(house.pid(), "CONT");
    console.sees("LIVE");
    console.answers();
    console.quit();
}

#[test]
fn a_terminal_may_shrink_to_one_cell_and_grow_again() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    let mut console = Console::open(&house, &Setting::sized(160, 45));
    console.sees("LIVE");
    for (columns, rows) in [
        (1, 1),
        (2, 40),
        (200, 1),
        (40, 12),
        (1, 1),
        (80, 24),
        (300, 90),
    ] {
        console.resize(columns, rows);
        if columns >= 40 && rows >= 12 {
            console.sees("LIVE");
            console.answers();
        } else {
            console.is_read();
        }
    }
    console.quit();
}

#[test]
fn ten_megabytes_pasted_act_on_nothing() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    house.ghost(0, 10);
    let console = Console::open(&house, &Setting::sized(80, 24));
    console.sees("LIVE");
    console.press(&["2", "p"]);
    console.sees("1 of 10 entries");
    let before = (
        house.rows(&["audit"]),
        house.json(&["ledger"])["pending"].clone(),
    );
    let mut paste = Vec::new();
    while paste.len() < 10 * 1024 * 1024 {
        paste.extend_from_slice(
            b"xc10\r\t\t\rxC\t\t\t\r:stage.pause\renrich\r\x1b[200~q\x1b[?1 y\n",
        );
    }
    console.paste(&paste);
    console.sees("taken for a paste and ignored");
    console.answers();
    assert_eq!(house.rows(&["plan", "ls"]), <[Value; 0]>::default());
    let after = (
        house.rows(&["audit"]),
        house.json(&["ledger"])["pending"].clone(),
    );
    assert_eq!(after, before);
    console.quit();
}

#[test]
fn every_end_gives_the_terminal_back() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    type End = fn(&Console);
    let table: [(&str, End); 5] = [
        ("q", |console| console.press(&["q"])),
        ("Ctrl-C", |console| console.press(&["C-c"])),
        ("SIGTERM", |console| console.signal("TERM")),
        ("SIGHUP", |console| console.signal("HUP")),
        ("SIGINT", |console| console.signal("INT")),
    ];
    for (desc, end) in table {
        let console = Console::open(&house, &Setting::sized(80, 24));
        console.sees("LIVE");
        end(&console);
        assert_eq!(console.ended(), 0, "{desc}");
    }
}
