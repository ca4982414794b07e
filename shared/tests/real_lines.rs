//! The real files of the card's user, read to the last line: a web server's log with one line cut off, and a CSV.
//!
//! They lie beside the checkout (semantics.md section 12): `PIPELINED_REAL_DATA` says where, and where they are missing
//! a test fails in CI and says its name elsewhere.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // Clippy knows only functions marked #[test] as tests, not their helpers.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;
use pipectl_shared::lines::{Format, LineParser, Mapping, Splitter};
use pipectl_shared::rpc::{Bytes, IngestEvent};

fn real_file(name: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PIPELINED_REAL_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        !is_ci,
        "{} is missing; set PIPELINED_REAL_DATA",
        path.display()
    );
    println!("left out: {test}, for want of {}", path.display());
    None
}

/// All events of a gzipped file, decompressed in pieces as a client does it.
fn events(path: PathBuf, format: Format, mappings: &[&str]) -> Vec<IngestEvent> {
    let mappings: Vec<Mapping> = mappings
        .iter()
        .map(|mapping| mapping.parse().unwrap())
        .collect();
    let mut parser = LineParser::new(format, mappings, "real").unwrap();
    let mut splitter = Splitter::new(format);
    let mut stream = MultiGzDecoder::new(std::fs::File::open(path).unwrap());
    let mut piece = vec![0; 50_000];
    let mut events = Vec::new();
    loop {
        let n_bytes = stream.read(&mut piece).unwrap();
        match n_bytes {
            0 => splitter.finish(),
            n_bytes => splitter.push(&piece[..n_bytes]),
        }
        while let Some(record) = splitter.next_record() {
            events.extend(parser.event(&record));
        }
        if n_bytes == 0 {
            return events;
        }
    }
}

fn text<'e>(pairs: &'e [(String, Bytes)], name: &str) -> Option<&'e str> {
    pairs.iter().find_map(|(field, value)| match value {
        Bytes::Text(text) if field == name => Some(text.as_str()),
        Bytes::Text(_) | Bytes::Binary { .. } => None,
    })
}

#[test]
fn a_real_access_log_is_read_but_for_its_one_broken_line() {
    let Some(path) = real_file(
        "apache-access.log.gz",
        "a_real_access_log_is_read_but_for_its_one_broken_line",
    ) else {
        return;
    };
    let events = events(path, Format::Combined, &["type=status"]);
    let (broken, read): (Vec<_>, Vec<_>) = events
        .iter()
        .partition(|event| text(&event.fields, "parse_error").is_some());
    assert_eq!((read.len(), broken.len()), (9_999, 1));
    assert!(
        text(&broken[0].fields, "raw")
            .unwrap()
            .starts_with("46.118.127.106 - - [20/May/2015:12:05:17 +0000]")
    );
    assert!(
        text(&broken[0].fields, "parse_error")
            .unwrap()
            .starts_with("no closing quote for the agent")
    );

    let mut statuses: BTreeMap<&str, u32> = BTreeMap::new();
    for event in &read {
        let status = text(&event.roles, "type").unwrap();
        assert_eq!(
            text(&event.fields, "status"),
            Some(status),
            "the field is carried beside its role"
        );
        *statuses.entry(status).or_default() += 1;
    }
    let expected = [
        ("200", 9_125),
        ("206", 45),
        ("301", 164),
        ("304", 445),
        ("403", 2),
        ("404", 213),
        ("416", 2),
        ("500", 3),
    ];
    assert_eq!(statuses, BTreeMap::from(expected));

    let hosts: HashSet<_> = events
        .iter()
        .filter_map(|event| text(&event.roles, "key"))
        .collect();
    assert!(
        (1_752..=1_753).contains(&hosts.len()),
        "{} hosts; the broken line may be one's only",
        hosts.len()
    );
    let ids: HashSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!(
        ids.len(),
        10_000,
        "lines that are alike differ in their offset"
    );
    for event in read {
        let ms: i64 = text(&event.roles, "time").unwrap().parse().unwrap();
        // 17 May 2015, 00:00 to 21 May 2015, 00:00 UTC.
        assert!((1_431_820_800_000..1_432_166_400_000).contains(&ms), "{ms}");
        assert!(
            text(&event.roles, "product")
                .unwrap()
                .starts_with(['/', '*']),
            "{event:?}"
        );
    }
}
