//! The comments of the shipped `pipeline.toml`: complete, true, and taken from the catalogue word for word.

use std::collections::BTreeMap;

use pipectl_shared::config::catalogue::{KEYS, Preset};
use pipectl_shared::config::{Input, Loaded, load};

const SHIPPED: &str = include_str!("../../pipeline.toml");

/// A key of the file, set or commented out (`#key = value`), with the prose above it.
#[derive(Debug)]
struct Line {
    pattern: String,
    value: String,
    is_set: bool,
    prose: String,
}

/// `stage.enrich` is `stage.*` in the catalogue; an operator's pattern depends on the `kind` that was read last.
fn pattern(section: &str, kind: &str, name: &str) -> String {
    let mut parts: Vec<String> = section.split('.').map(str::to_owned).collect();
    if matches!(parts[0].as_str(), "stage" | "source") {
        parts[1] = "*".to_owned();
    }
    if parts.len() > 2 && parts[2] == "operators" {
        let kind = if name == "kind" { "*" } else { kind };
        parts[2] = format!("operators[{kind}]");
    }
    parts.push(name.to_owned());
    parts.retain(|part| !part.is_empty());
    parts.join(".")
}

fn lines() -> Vec<Line> {
    let (mut section, mut kind, mut prose) = (String::new(), String::new(), Vec::new());
    let mut found = Vec::new();
    for line in SHIPPED.lines() {
        if line.is_empty() || line.starts_with("# ----") || line == "#" {
            prose.clear();
            continue;
        }
        if let Some(text) = line.strip_prefix("# ") {
            prose.push(text);
            continue;
        }
        let (code, is_set) = line
            .strip_prefix('#')
            .map_or((line, true), |code| (code, false));
        if let Some(header) = code.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
            if code.starts_with("[[") {
                found.push(Line {
                    pattern: "stage.*.operators".to_owned(),
                    value: "[]".to_owned(),
                    is_set,
                    prose: prose.join(" "),
                });
            }
        } else {
            let (name, value) = code.split_once(" = ").expect(code);
            if name == "kind" {
                kind = value.trim_matches('"').to_owned();
            }
            found.push(Line {
                pattern: pattern(&section, &kind, name),
                value: value.to_owned(),
                is_set,
                prose: prose.join(" "),
            });
        }
        prose.clear();
    }
    found
}

#[track_caller]
fn loaded(text: &str) -> Loaded {
    let input = Input {
        file_name: "pipeline.toml".to_owned(),
        text: text.to_owned(),
        ..Input::default()
    };
    load(&input).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[test]
fn every_key_stands_in_the_file_with_the_comment_of_the_catalogue() {
    let lines = lines();
    for key in KEYS {
        let mut here = lines.iter().filter(|line| line.pattern == key.path);
        assert!(
            here.clone().next().is_some(),
            "{} is not in pipeline.toml; its comment: {}",
            key.path,
            key.comment()
        );
        assert!(
            here.any(|line| line.prose == key.comment()),
            "{} has another comment than: {}",
            key.path,
            key.comment()
        );
    }
}

#[test]
fn a_key_that_is_commented_out_shows_its_default() {
    for line in lines().iter().filter(|line| !line.is_set) {
        let key = KEYS.iter().find(|key| key.path == line.pattern);
        let key = key.unwrap_or_else(|| panic!("no key {}", line.pattern));
        let Preset::Is(default) = key.default else {
            continue;
        };
        // Of these the file shows examples, which are no part of its pipeline.
        if matches!(key.name(), "operators" | "delivery") {
            continue;
        }
        let quoted = format!("\"{default}\"");
        assert!(
            line.value == default || line.value == quoted,
            "{}: the file says {}, the default is {default}",
            key.path,
            line.value
        );
    }
}

#[test]
fn taking_every_mark_of_a_comment_away_leaves_a_configuration() {
    let all: String = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(code) if code.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                format!("{code}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let all = loaded(&all);
    assert_eq!(all.config.stages[0].operators.len(), 3);
    assert_eq!(all.config.redis.username.as_deref(), Some("pipelined"));
}

#[test]
fn what_the_file_leaves_out_is_what_it_says_it_leaves_out() {
    // The same file with every commented default set, examples apart, is the same configuration.
    let is_default: BTreeMap<&str, bool> = KEYS
        .iter()
        .map(|key| (key.path, matches!(key.default, Preset::Is(_))))
        .collect();
    let by_line = lines();
    let mut marked = by_line.iter().filter(|line| !line.is_set);
    let filter = [
        "[[stage",
        "kind = \"filter\"",
        "keep = \"value",
        "delivery = \"owned\"",
    ];
    let all: String = SHIPPED
        .lines()
        .map(|line| {
            let code = line
                .strip_prefix('#')
                .filter(|code| !code.starts_with([' ', '#']) && !code.is_empty());
            let Some(code) = code else {
                return format!("{line}\n");
            };
            if code.starts_with('[') && !code.starts_with("[[") {
                return format!("{line}\n");
            }
            let key = marked.next().expect("each marked line was read");
            let example = filter.iter().any(|start| code.starts_with(start))
                || key.pattern.contains("[count]");
            if is_default[key.pattern.as_str()] && !example {
                format!("{code}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    assert_eq!(loaded(&all).config, loaded(SHIPPED).config);
}

#[test]
fn lines_stay_readable() {
    for line in SHIPPED.lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
}
