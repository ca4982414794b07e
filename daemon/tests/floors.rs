//! The rooms of the daemon and what they may know of each other. Reads the source; test code is not looked at.
//!
//! Imports point down only. What must break a rule stands in [`EXCEPTIONS`] with its reason, and an exception that is not
//! needed any more fails as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From the roof to the cellar. A room may name rooms of lower floors, and of its own floor as long as there is no circle.
const FLOORS: &[&[&str]] = &[
    &["main"],
    &["app", "lib"],
    &["args"],
    &["doors"],
    &["commands"],
    &["plans"],
    &["observe"],
    &["runtime"],
    &["chaos", "world"],
    &["operators", "sources", "store", "lookup"],
    &["algorithms"],
    &[
        "record", "effect", "journal", "audit", "clock", "settings", "datadir", "logging",
    ],
];

/// `(room, room above it that it names, why)`.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Folders of one item a file with a slice in `mod.rs`: `(folder, files that are no item)`.
const GALLERIES: &[(&str, &[&str])] = &[
    ("operators", &["operator", "names", "quote", "testing"]),
    ("commands", &["command", "context", "check"]),
];

/// A file of the daemon: its path below `src`, its text without comments and test code.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// First part of the path: `doors/session.rs` is in `doors`, `clock.rs` in `clock`.
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the source") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let all: Vec<Source> = files
        .iter()
        .map(|path| Source {
            path: path
                .strip_prefix(&root)
                .expect("below src")
                .display()
                .to_string(),
            code: code(&std::fs::read_to_string(path).expect("a file of the source")),
        })
        .collect();
    // Files that are only compiled for tests: `#[cfg(test)] mod x;`.
    let tests: BTreeSet<String> = files
        .iter()
        .zip(&all)
        .flat_map(|(path, source)| {
            let beside = Path::new(&source.path)
                .parent()
                .unwrap_or(Path::new(""))
                .to_owned();
            let below = match path.file_stem().and_then(|stem| stem.to_str()) {
                Some("mod" | "lib" | "main") => beside.clone(),
                _ => Path::new(&source.path).with_extension(""),
            };
            let text = std::fs::read_to_string(path).expect("a file of the source");
            test_modules(&text)
                .into_iter()
                .flat_map(move |name| [beside.join(&name), below.join(&name)])
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        })
        .collect();
    all.into_iter()
        .filter(|source| {
            let path = source.path.trim_end_matches(".rs");
            !tests
                .iter()
                .any(|test| path == test || path.starts_with(&format!("{test}/")))
        })
        .collect()
}

/// Names of the modules that are files and only for tests.
fn test_modules(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            continue;
        }
        // A `#[path = ...]` in between names a file beside this one.
        let mut file = None;
        while let Some(attribute) = lines.peek().filter(|next| next.starts_with("#[")) {
            file = attribute
                .strip_prefix("#[path = \"")
                .and_then(|rest| rest.strip_suffix(".rs\"]"))
                .map(str::to_owned)
                .or(file);
            lines.next();
        }
        let Some(next) = lines.peek() else { break };
        let name = next
            .rsplit_once("mod ")
            .and_then(|(_, name)| name.strip_suffix(';'));
        if let Some(name) = name {
            found.push(file.unwrap_or_else(|| name.to_owned()));
        }
    }
    found
}

/// Without comments and without a module of tests at the end.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Places where `word` stands and is not the end or the middle of a longer path or name.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(|at| {
        let before = code[..*at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// Rooms named by `crate::room` and `crate::{room, ...}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for root in ["crate::", "pipelined::"] {
        for at in places(code, root) {
            let rest = &code[at + root.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                found.insert(name(rest));
                continue;
            };
            let mut depth = 0;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(name(item.trim()));
                        item.clear();
                        continue;
                    }
                    _ => {}
                }
                item.push(c);
            }
            found.insert(name(item.trim()));
        }
    }
    found.retain(|name| !name.is_empty() && !name.starts_with(char::is_uppercase));
    found
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Room -> rooms that it names, with the first file that does.
fn arrows() -> BTreeMap<(String, String), String> {
    let mut arrows = BTreeMap::new();
    for source in sources() {
        for named in rooms_named(&source.code) {
            if named != source.room() {
                arrows
                    .entry((source.room().to_owned(), named))
                    .or_insert(source.path.clone());
            }
        }
    }
    arrows
}

#[test]
fn every_room_has_a_floor_and_imports_point_down() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        if floor(source.room()).is_none() {
            faults.push(format!("{} is on no floor", source.path));
        }
    }
    for ((room, named), file) in arrows() {
        let (Some(from), Some(to)) = (floor(&room), floor(&named)) else {
            faults.push(format!("{file} names crate::{named}, which is on no floor"));
            continue;
        };
        if to < from {
            match EXCEPTIONS
                .iter()
                .find(|(a, b, _)| *a == room && *b == named)
            {
                Some(exception) => {
                    used.insert(exception);
                }
                None => faults.push(format!("{file}: {room} names {named}, which is above it")),
            }
        }
    }
    for exception in EXCEPTIONS {
        if !used.contains(exception) {
            faults.push(format!("the exception {exception:?} is not needed"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_circles_between_rooms_of_one_floor() {
    let arrows = arrows();
    let on_a_floor = |room: &str| -> BTreeSet<&str> {
        arrows
            .keys()
            .filter(|(from, to)| from == room && floor(from) == floor(to))
            .map(|(_, to)| to.as_str())
            .collect()
    };
    for start in FLOORS.iter().flat_map(|rooms| rooms.iter()) {
        let mut seen = BTreeSet::new();
        let mut open = on_a_floor(start);
        while let Some(room) = open.pop_first() {
            assert_ne!(room, *start, "{start} names itself over rooms of its floor");
            if seen.insert(room) {
                open.extend(on_a_floor(room));
            }
        }
    }
}

/// Files that hold one of the words outside the rooms that may.
#[track_caller]
fn only(words: &[&str], may: impl Fn(&str) -> bool, why: &str) {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| !may(&source.path))
        .flat_map(|source| {
            words
                .iter()
                .filter(|word| places(&source.code, word).next().is_some())
                .map(|word| format!("{}: {word}", source.path))
        })
        .collect();
    assert!(faults.is_empty(), "{why}:\n{}", faults.join("\n"));
}

#[test]
fn only_two_rooms_speak_to_redis() {
    // `lookup/mod.rs` names its own module `redis`.
    let may = |path: &str| {
        path.starts_with("store/redis/")
            || path.starts_with("lookup/redis")
            || path == "lookup/mod.rs"
    };
    only(
        &["redis::", "use redis"],
        may,
        "only store/redis and lookup/redis name the redis crate",
    );
}

#[test]
fn only_the_clock_reads_the_wall_clock() {
    only(
        &[
            "SystemTime",
            "std::time::SystemTime",
            "UNIX_EPOCH",
            "std::time::UNIX_EPOCH",
            "Timestamp::now",
            "jiff::Timestamp::now",
            "Zoned::now",
            "jiff::Zoned::now",
            "std::time::Instant",
        ],
        |path| path == "clock.rs",
        "ask the clock of the World",
    );
}

#[test]
fn operators_and_algorithms_are_pure() {
    let words = [
        "tokio",
        "std::fs",
        "std::net",
        "std::env",
        "std::thread",
        "async",
        "tracing",
    ];
    let outside = |path: &str| !path.starts_with("operators/") && !path.starts_with("algorithms/");
    only(
        &words,
        outside,
        "operators and algorithms are data in, data out",
    );
}

#[test]
fn every_channel_is_bounded_and_every_task_has_an_owner() {
    let words = [
        "unbounded_channel",
        "mpsc::unbounded_channel",
        "tokio::sync::mpsc::unbounded_channel",
        "std::sync::mpsc::channel",
        "tokio::spawn",
        "tokio::task::spawn(",
        "task::spawn(",
        "spawn_local",
        "std::thread::spawn",
        "thread::spawn",
    ];
    only(
        &words,
        |_| false,
        "bounded channels, and tasks in a JoinSet of an owner",
    );
}

#[test]
fn every_file_of_a_gallery_is_in_its_slice() {
    let all = sources();
    for (folder, others) in GALLERIES {
        let module = all
            .iter()
            .find(|source| source.path == format!("{folder}/mod.rs"))
            .expect("a gallery");
        let mut n_items = 0;
        for source in &all {
            let Some(name) = source
                .path
                .strip_prefix(&format!("{folder}/"))
                .and_then(|name| name.strip_suffix(".rs"))
                .filter(|name| *name != "mod" && !others.contains(name))
            else {
                continue;
            };
            n_items += 1;
            let in_slice = ["KIND", "COMMAND"]
                .iter()
                .any(|item| module.code.contains(&format!("{name}::{item}")));
            assert!(
                in_slice,
                "{folder}/{name}.rs is not in the slice of its gallery"
            );
        }
        assert!(n_items > 0, "{folder} is empty");
    }
}

#[test]
fn the_reader_of_imports_sees_what_it_must() {
    let code = code(
        "use crate::a::b;\nuse crate::{c, d::{e, f}, g};\n// crate::comment\nlet x = crate::h::new();\n\
         use super::crate_like;\n#[cfg(test)]\nmod tests {\n    use crate::only_in_tests;\n}\n",
    );
    let named: Vec<_> = rooms_named(&code).into_iter().collect();
    assert_eq!(named, ["a", "c", "d", "g", "h"]);
    assert_eq!(
        test_modules("#[cfg(test)]\nmod tests;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod t;\n"),
        ["tests", "x_tests"]
    );
    assert_eq!(places("store::redis::x redis::y", "redis::").count(), 1);
    assert!(sources().len() > 100, "the source was found");
}
