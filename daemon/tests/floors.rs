//! Imports point down only, and what one room alone may know stays there (ARCHITECTURE.md).

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

/// Each source that is no test with its path below `src`, without comments and without the tests at its end.
fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let mut all = Vec::new();
    for path in &found {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let of_tests = ["tests.rs", "testkit.rs", "testing.rs", "fixtures.rs"];
        if of_tests.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<_> = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        all.push((name, code.join("\n")));
    }
    assert!(all.len() > 50, "the sources were not found");
    all
}

/// Rooms from the lowest floor up; a room may name those on floors below it.
const FLOORS: &[&[&str]] = &[
    &["algorithms", "args", "clock", "datadir", "record"],
    &["effect", "journal", "logging", "settings"],
    &["audit"],
    &["lookup", "operators", "store"],
    &["chaos"],
    &["sources", "spool"],
    &["world"],
    &["runtime"],
    &["observe", "plans"],
    &["experiments", "params"],
    &["guard"],
    &["commands"],
    &["doors"],
    &["app"],
    &["main", "lib"],
];

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn imports_point_down_only() {
    for (file, code) in all() {
        let room = file.split(['/', '.']).next().unwrap();
        let floor = floor_of(room).unwrap_or_else(|| panic!("{file}: which floor is it on?"));
        for (at, _) in code.match_indices("crate::") {
            let named: String = code[at + "crate::".len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            // `use crate::{...}` would hide the names from this test.
            assert!(
                !named.is_empty(),
                "{file}: name the room right after crate::"
            );
            let Some(other) = floor_of(&named) else {
                panic!("{file} names {named}, which is no room");
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
    // A word, and the beginnings of the paths that may say it.
    let table: &[(&str, &[&str])] = &[
        ("use redis::", &["store/redis/", "lookup/"]),
        ("redis::cmd", &["store/redis/", "lookup/redis.rs"]),
        ("redis::aio", &["store/redis/", "lookup/redis.rs"]),
        ("XREADGROUP", &["store/redis/"]),
        ("XACK", &["store/redis/"]),
        ("SystemTime", &["clock.rs"]),
        ("UNIX_EPOCH", &["clock.rs"]),
        ("Timestamp::now", &["clock.rs"]),
        ("Zoned::now", &["clock.rs"]),
        ("std::time::Instant", &[]),
        ("UnixListener", &["doors/", "chaos/proxy.rs"]),
        ("thread::sleep", &[]),
        ("unbounded_channel", &[]),
        ("std::sync::mpsc::channel", &[]),
        // Every task has an owner that joins it: a set, never the air.
        ("tokio::spawn", &[]),
        ("task::spawn(", &[]),
        ("spawn_local", &[]),
        ("thread::spawn", &[]),
    ];
    for (file, code) in all() {
        for (word, rooms) in table {
            assert!(
                !code.contains(word) || rooms.iter().any(|room| file.starts_with(room)),
                "{file} knows {word}"
            );
        }
        let room = file.split(['/', '.']).next().unwrap();
        if ["algorithms", "effect", "operators", "record"].contains(&room) {
            for word in [
                "tokio", "async ", ".await", "std::fs", "std::env", "std::net",
            ] {
                assert!(
                    !code.contains(word),
                    "{file} knows {word}: it is to be pure"
                );
            }
        }
    }
}

/// Folders with one item a file and a slice of them in `mod.rs`: `(folder, the slice's items, files that are no item)`.
const GALLERIES: &[(&str, &str, &[&str])] = &[
    ("operators", "KIND", &["mod", "operator", "names", "quote"]),
    ("commands", "COMMAND", &["mod", "command", "context"]),
    (
        "experiments",
        "EXPERIMENT",
        &["mod", "experiment", "build", "together"],
    ),
];

#[test]
fn every_file_of_a_gallery_is_in_its_slice() {
    let all = all();
    for (folder, item, others) in GALLERIES {
        let inside = |file: &str| {
            let name = file.strip_prefix(folder)?.strip_prefix('/')?;
            Some(name.strip_suffix(".rs")?.to_owned())
        };
        let (_, slice) = all
            .iter()
            .find(|(file, _)| inside(file).as_deref() == Some("mod"))
            .unwrap();
        let mut n_items = 0;
        for name in all.iter().filter_map(|(file, _)| inside(file)) {
            if others.contains(&name.as_str()) {
                continue;
            }
            n_items += 1;
            assert!(
                slice.contains(&format!("{name}::{item}")),
                "{folder}/{name}.rs is not in the slice of its gallery"
            );
        }
        assert!(n_items > 0, "{folder} is empty");
    }
}
