//! The floor plan of this crate: no I/O, no clock, and no circle between its modules.

#![allow(clippy::unwrap_used)] // Clippy knows only functions marked #[test] as tests, not their helpers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that only code with I/O, a clock or an environment needs, and why each is out.
const BANNED: [(&str, &str); 16] = [
    ("std::fs", "files are read by the caller"),
    ("std::net", "sockets are the caller's"),
    ("std::os::unix::net", "sockets and files are the caller's"),
    ("std::os::unix::fs", "sockets and files are the caller's"),
    ("std::os::fd", "sockets and files are the caller's"),
    ("std::env", "the environment is read by the caller"),
    ("env!(", "the environment is read by the caller"),
    ("std::process", "processes are the caller's"),
    ("std::thread", "data in, data out needs no threads"),
    ("tokio", "this crate knows no runtime"),
    ("println!", "stdout belongs to the binaries"),
    ("eprint", "stderr belongs to the binaries"),
    (
        "SystemTime",
        "only `clock` of a binary reads the wall clock",
    ),
    ("Instant::now", "only `clock` of a binary reads a clock"),
    (
        "Timestamp::now",
        "only `clock` of a binary reads the wall clock",
    ),
    (
        "Zoned::now",
        "only `clock` of a binary reads the wall clock",
    ),
];

/// A file of the crate, without comments.
struct Source {
    path: PathBuf,
    /// Its top-level module: `lines` for `lines/csv.rs`.
    module: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap();
            let first = inside.iter().next().unwrap().to_str().unwrap();
            let module = first.trim_end_matches(".rs").to_owned();
            let code = without_comments(&fs::read_to_string(&path).unwrap());
            sources.push(Source { path, module, code });
        }
    }
    assert!(
        sources.len() > 10,
        "the crate's files are not where they were"
    );
    sources
}

/// Line comments only; the house has no others. A `//` inside a string cuts too much, never too little of a comment.
fn without_comments(text: &str) -> String {
    let code = text
        .lines()
        .map(|line| line.find("//").map_or(line, |at| &line[..at]));
    code.collect::<Vec<_>>().join("\n")
}

/// Modules that the code names as `crate::module`, also within braces: `use crate::{rpc, spec};`.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let behind = &code[at + "crate::".len()..];
        let names: Vec<&str> = match behind.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(list).split(',').collect(),
            None => vec![behind],
        };
        let is_name = |c: &char| c.is_ascii_lowercase() || *c == '_';
        modules.extend(
            names
                .iter()
                .map(|name| name.trim().chars().take_while(is_name).collect::<String>()),
        );
    }
    modules.remove("");
    modules
}

fn dependencies(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut dependencies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let named = modules_named(&source.code)
            .into_iter()
            .filter(|name| *name != source.module);
        dependencies
            .entry(source.module.clone())
            .or_default()
            .extend(named);
    }
    dependencies
}

/// One circle, if there is one, as the modules along it.
fn circle(dependencies: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        module: &str,
        dependencies: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|earlier| earlier == module) {
            return Some(way[at..].to_vec());
        }
        if done.contains(module) {
            return None;
        }
        way.push(module.to_owned());
        let next = dependencies.get(module).into_iter().flatten();
        let found = next
            .map(|name| visit(name, dependencies, way, done))
            .find_map(|found| found);
        way.pop();
        done.insert(module.to_owned());
        found
    }
    let mut done = BTreeSet::new();
    dependencies
        .keys()
        .find_map(|module| visit(module, dependencies, &mut Vec::new(), &mut done))
}

#[test]
fn shared_does_no_io_and_reads_no_clock() {
    for source in sources() {
        for (word, reason) in BANNED {
            assert!(
                !source.code.contains(word),
                "{} names {word}: {reason}",
                source.path.display()
            );
        }
    }
}

#[test]
fn modules_need_each_other_in_one_direction() {
    let dependencies = dependencies(&sources());
    assert!(
        dependencies["rpc"].contains("spec"),
        "imports are no longer found: {dependencies:?}"
    );
    assert_eq!(circle(&dependencies), None);
}

#[test]
fn a_circle_is_found() {
    let text = [
        "use crate::b;",
        "use crate::{c::X, d};",
        "pub x: crate::a::Y, // crate::e",
        "",
    ];
    let dependencies = ["a", "b", "c", "d"]
        .into_iter()
        .zip(text)
        .map(|(module, text)| (module.to_owned(), modules_named(&without_comments(text))));
    assert_eq!(
        circle(&dependencies.collect()),
        Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
    );
}
