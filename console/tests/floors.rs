//! Imports point down only, and what one room alone may know stays there.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each source with its path below `src`.
fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 20, "the sources were not found");
    let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    found
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Files that are only built for tests, and may know more than the rooms they try.
fn is_of_tests(file: &str) -> bool {
    let alone = [
        "emitted.rs",
        "properties.rs",
        "update/tests.rs",
        "view/pictures.rs",
    ];
    file.starts_with("fixtures/") || alone.contains(&file)
}

/// Rooms from the lowest floor up; a room may name those before it.
const FLOORS: &[&[&str]] = &[
    &["clock"],
    &["failure"],
    &["interrupt"],
    &["client", "output", "keys", "theme", "place"],
    &["message", "settings"],
    &["facts", "history", "link", "terminal"],
    &["model"],
    &["widgets"],
    &["screens"],
    &["update", "view"],
    &["run"],
    &["cli"],
];

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_point_down_only() {
    for (file, text) in all() {
        let room = file.split(['/', '.']).next().unwrap();
        let Some(floor) = floor_of(room) else {
            continue;
        };
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let named: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            // `use crate::{...}` would hide the names from this test.
            assert!(
                !named.is_empty(),
                "{file}: name the room right after crate::"
            );
            let Some(other) = floor_of(&named) else {
                continue;
            };
            assert!(
                named == room || other < floor,
                "{file} names {named}, which is not below it"
            );
        }
    }
}

#[test]
fn what_one_room_alone_may_know_stays_there() {
    let table: &[(&str, &[&str])] = &[
        ("Instant::now", &["clock.rs"]),
        ("Timestamp::now", &["clock.rs"]),
        ("SystemTime", &[]),
        ("thread::sleep", &["clock.rs"]),
        (
            "shared::untrusted",
            &["output/clean.rs", "widgets/ink.rs", "cli/ingest/feed.rs"],
        ),
        ("shared::lines", &["cli/ingest/feed.rs"]),
        ("signal_hook", &["interrupt.rs"]),
        (
            "UnixStream",
            &[
                "client/mod.rs",
                "client/lines.rs",
                "client/locate.rs",
                // A pair of its own, to hear of signals.
                "interrupt.rs",
            ],
        ),
        ("tokio", &[]),
        ("crossterm", &["terminal/mod.rs", "terminal/backend.rs"]),
        // Text reaches a frame through the ink only.
        ("set_string", &["widgets/ink.rs"]),
        ("set_symbol", &[]),
        ("set_char", &["widgets/ink.rs"]),
        ("ratatui::widgets", &[]),
        ("println!", &[]),
    ];
    for (file, text) in all() {
        if is_of_tests(&file) {
            continue;
        }
        // Tests at the end of a file may know more, and comments may say words.
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: String = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        for (word, rooms) in table {
            assert!(
                !code.contains(word) || rooms.contains(&file.as_str()),
                "{file} knows {word}"
            );
        }
    }
}

#[test]
fn update_and_view_are_pure() {
    for (file, text) in all() {
        let is_pure = ["update/", "view/", "screens/", "widgets/", "model/"]
            .iter()
            .any(|room| file.starts_with(room));
        if !is_pure || is_of_tests(&file) {
            continue;
        }
        for word in [
            "std::env",
            "std::fs",
            "std::net",
            "std::thread",
            "std::io",
            "monotonic(",
            "now_ms()",
            "now_rfc3339",
            "tracing",
        ] {
            assert!(!text.contains(word), "{file} knows {word}");
        }
    }
}
