//! Every screen by its keys, in every kind of terminal.

use serde_json::json;

use super::SIZES;
use super::driver::{Console, Setting};
use crate::house::{House, QUIET, wait_for};
use crate::needs::tmux;

/// A group's key, and its screens with theirs.
type Group = (&'static str, &'static [(&'static str, &'static str)]);

/// All screens, in the order of the bar.
const SCREENS: &[Group] = &[
    ("1", &[("Overview", "o"), ("Topology", "t")]),
    (
        "2",
        &[
            ("Pending", "p"),
            ("Dead", "d"),
            ("Causes", "u"),
            ("Consumers", "c"),
        ],
    ),
    ("3", &[("Results", "r"), ("Latency", "l")]),
    ("5", &[("Events", "t"), ("Alerts", "a"), ("Audit", "u")]),
    ("6", &[("System", "t")]),
];

/// A house where every screen has something to show.
fn lived_in() -> House {
    let mut house = House::new(QUIET);
    house.set("stage.enrich.claim_after=10m");
    house.start();
    house.wait_healthy();
    house.add_events(0, 300);
    house.redis(&["XADD", "events", "*", "event_id", "broken"]);
    house.settled();
    house.ghost(300, 310);
    house.json(&["pause", "correlate", "--reason", "looking"]);
    house.json(&["resume", "correlate"]);
    house
}

fn every_screen_is_there_under_its_keys(columns: u16, rows: u16) {
    let house = lived_in();
    let console = Console::open(&house, &Setting::sized(columns, rows));
    let screen = console.sees("LIVE");
    assert!(screen.starts_with(" test"), "{screen}");
    assert!(screen.lines().count() <= usize::from(rows));
    for (group, screens) in SCREENS {
        console.press(&[group]);
        for (name, _) in *screens {
            console.is_on(name);
            console.press(&["?"]);
            console.sees(&format!("help: {name}"));
            console.press(&["Escape"]);
            console.sees_no("help: ");
            // What a screen shows comes by itself or is asked for.
            let screen = console.sees_no("asking the daemon");
            assert!(screen.contains("LIVE"), "{screen}");
            console.press(&["Tab"]);
        }
        // Once round: the group has no other screen.
        console.is_on(screens[0].0);
        // By letter, which the bar shows.
        for (name, letter) in screens.iter().rev() {
            let screen = console.text();
            if Console::shown(&screen).as_deref() != Some(name) {
                let bar = screen.lines().nth(1).unwrap_or_default().to_lowercase();
                assert!(bar.contains(&format!("({letter})")), "{name}: {bar}");
                console.press(&[letter]);
                console.is_on(name);
            }
        }
    }
    // By name.
    console.press(&[":"]);
    console.sees("palette");
    console.types("overview");
    console.press(&["Enter"]);
    console.sees("[Overview]");
    console.quit();
}

#[test]
fn every_screen_is_there_under_its_keys_on_80_columns() {
    if !tmux() {
        return;
    }
    let [(columns, rows), _] = SIZES;
    every_screen_is_there_under_its_keys(columns, rows);
}

#[test]
fn every_screen_is_there_under_its_keys_on_160_columns() {
    if !tmux() {
        return;
    }
    let [_, (columns, rows)] = SIZES;
    every_screen_is_there_under_its_keys(columns, rows);
}

#[test]
fn any_terminal_gets_a_picture_that_it_can_show() {
    if !tmux() {
        return;
    }
    let house = lived_in();
    type Look = fn(&str) -> bool;
    let any: Look = |_| true;
    let seven_bits: Look = str::is_ascii;
    let table: &[(&str, Setting<'_>, Look)] = &[
        (
            "NO_COLOR",
            Setting {
                size: (80, 24),
                env: &[("NO_COLOR", "1")],
                args: &[],
            },
            any,
        ),
        (
            "TERM=dumb",
            Setting {
                size: (80, 24),
                env: &[("TERM", "dumb")],
                args: &[],
            },
            seven_bits,
        ),
        (
            "LANG=C",
            Setting {
                size: (80, 24),
                env: &[("LANG", "C")],
                args: &[],
            },
            seven_bits,
        ),
        (
            "--ascii",
            Setting {
                size: (160, 45),
                env: &[],
                args: &["--ascii"],
            },
            seven_bits,
        ),
        ("40x12", Setting::sized(40, 12), any),
        (
            "16 colours over SSH",
            Setting {
                size: (100, 30),
                env: &[("TERM", "screen"), ("SSH_CONNECTION", "::1 1 ::1 22")],
                args: &[],
            },
            any,
        ),
        (
            "--low-bandwidth",
            Setting {
                size: (80, 24),
                env: &[],
                args: &["--low-bandwidth"],
            },
            any,
        ),
    ];
    for (desc, setting, look) in table {
        let console = Console::open(&house, setting);
        console.sees("LIVE");
        for (group, _) in SCREENS {
            console.press(&[group]);
            console.answers();
            let screen = console.text();
            assert!(look(&screen), "{desc}:\n{screen}");
        }
        let colours = console.colours();
        match *desc {
            "NO_COLOR" | "TERM=dumb" => assert!(colours.is_empty(), "{desc}: {colours:?}"),
            _ => assert!(!colours.is_empty(), "{desc}"),
        }
        console.quit();
    }
}

#[test]
fn a_read_only_console_changes_nothing() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    house.ghost(0, 10);
    let console = Console::open(
        &house,
        &Setting {
            size: (80, 24),
            env: &[],
            args: &["--read-only"],
        },
    );
    console.sees("LIVE");
    console.sees(" RO ");
    console.press(&["2", "p"]);
    console.sees("1 of 10 entries");
    console.press(&["Enter"]);
    console.sees("event-0");
    console.press(&["Escape", "x"]);
    console.sees("claim");
    console.press(&["c"]);
    console.sees("read-only");
    console.press(&["Escape"]);
    let plans = house.rows(&["plan", "ls"]);
    assert_eq!(plans, <[serde_json::Value; 0]>::default());
    assert_eq!(house.json(&["ledger"])["pending"], 10);
    console.quit();
}

#[test]
fn keys_are_as_the_settings_say_and_a_wrong_file_is_told_with_its_fault() {
    if !tmux() {
        return;
    }
    let house = House::quiet();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = Console::settings(dir.path());
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("make it");
    std::fs::write(&path, "ascii = true\n[keys]\nhelp = [\"F\", \"?\"]\n").expect("write it");
    let home = dir.path().display().to_string();
    let setting = Setting {
        size: (80, 24),
        env: &[("XDG_CONFIG_HOME", &home)],
        args: &[],
    };
    let console = Console::open(&house, &setting);
    assert!(console.sees("LIVE").is_ascii());
    console.press(&["F"]);
    console.sees("help: ");
    console.press(&["Escape"]);
    console.quit();

    std::fs::write(&path, "[keys]\nfly = \"F\"\n").expect("write it");
    let console = Console::open(&house, &setting);
    console.sees("fly: no such act");
    assert_eq!(console.ended(), 2);
}

#[test]
fn hostile_names_and_payloads_write_no_sequence_of_their_own() {
    if !tmux() {
        return;
    }
    let house = lived_in();
    // Through Redis, as any stranger with access to it could.
    let hostile: Vec<Vec<u8>> = pipectl_shared::untrusted::corpus::hostile()
        .into_iter()
        .map(|it| it.bytes)
        .filter(|bytes| !bytes.is_empty() && bytes.len() < 2_048)
        .collect();
    let mut resp = Vec::new();
    let mut command = |words: &[&[u8]]| {
        resp.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            resp.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            resp.extend_from_slice(word);
            resp.extend_from_slice(b"\r\n");
        }
    };
    house.pause("enrich");
    let mut n = 0_u64;
    for text in &hostile {
        n += 1;
        let id = format!("hostile-{n}");
        let fields: &[&[u8]] = &[
            b"event_id",
            id.as_bytes(),
            b"user_id",
            text,
            b"event_type",
            text,
            b"product",
            text,
            b"session_id",
            text,
            b"value",
            b"1",
            b"ts",
            b"1640995200000",
            text,
            text,
        ];
        command(&[&[&b"XADD"[..], b"events", b"*"], fields].concat());
        // A consumer with such a name holds the oldest; the second is worked on, the third is refused with its text in the error.
        command(&[
            b"XREADGROUP",
            b"GROUP",
            b"event_group",
            text,
            b"COUNT",
            b"1",
            b"STREAMS",
            b"events",
            b">",
        ]);
        let id = format!("worked-{n}");
        command(&[
            b"XADD",
            b"events",
            b"*",
            b"event_id",
            id.as_bytes(),
            b"user_id",
            text,
            b"event_type",
            text,
            b"product",
            text,
            b"session_id",
            text,
            b"value",
            b"1",
            b"ts",
            b"1640995200000",
        ]);
        command(&[
            b"XADD",
            b"events",
            b"*",
            b"event_id",
            text,
            b"user_id",
            text,
            b"event_type",
            text,
            b"ts",
            text,
        ]);
    }
    house.redis_pipe(&resp);
    house.json(&["resume", "enrich"]);
    wait_for("all but the held ones to be settled", || {
        let ledger = house.json(&["ledger"]);
        (ledger["undelivered"] == 0 && ledger["pending"].as_u64() <= Some(n + 10)).then_some(())
    });
    house.json(&["pause", "correlate", "--reason", "a\u{1b}[2J\u{202e}b"]);
    house.json(&["resume", "correlate"]);

    for (columns, rows) in SIZES {
        let console = Console::open(&house, &Setting::sized(columns, rows));
        console.sees("LIVE");
        for (group, screens) in SCREENS {
            for (name, _) in *screens {
                console.press(&[group]);
                console.is_drawn();
                while Console::shown(&console.text()).as_deref() != Some(name) {
                    console.press(&["Tab"]);
                    console.is_drawn();
                }
                console.sees_no("asking the daemon");
                for keys in ["Enter", "h", "Tab", "G", "x", "Escape", "Escape", "Escape"] {
                    console.press(&[keys]);
                    console.is_drawn();
                }
            }
        }
        console.is_ours();
        console.quit();
    }
    assert_eq!(house.json(&["ledger"])["balanced"], json!(true));
}
