//! From a file on the disk to what is printed about it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;
use crate::clock;

const LEAST: &str = "name = \"shop\"\n[stage.enrich]\nworkers = 2\n";

fn folder(text: &[u8]) -> (tempfile::TempDir, Asked) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    fs::write(&file, text).unwrap();
    let asked = Asked {
        file: Some(file),
        sets: Vec::new(),
    };
    (dir, asked)
}

fn clock() -> clock::Manual {
    clock::Manual::at_ms(1_700_000_000_000)
}

fn env(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

/// Exit code, stdout and stderr, with the folder's own name taken out.
fn explained(asked: &Asked, env: &[(String, String)], format: Format) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = explain(asked, env, &clock(), format, &mut out, &mut err).unwrap();
    (code, plain(asked, &out), plain(asked, &err))
}

fn checked(asked: &Asked, env: &[(String, String)], format: Format) -> (u8, String) {
    let mut out = Vec::new();
    let code = check(asked, env, &clock(), format, &mut out).unwrap();
    (code, plain(asked, &out))
}

fn plain(asked: &Asked, bytes: &[u8]) -> String {
    let folder = asked.file.as_deref().and_then(Path::parent);
    let folder = folder.map_or(String::new(), |folder| format!("{}/", folder.display()));
    String::from_utf8(bytes.to_vec())
        .unwrap()
        .replace(&folder, "")
}

#[test]
fn a_named_file_that_is_missing_is_one_clear_fault() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Asked {
        file: Some(dir.path().join("gone.toml")),
        sets: Vec::new(),
    };
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 2);
    assert_eq!(
        out,
        "gone.toml: cannot read it: No such file or directory (os error 2)\n  hint: is the path right? --config names the file\n1 fault\n"
    );
}

#[test]
fn without_a_name_the_first_file_that_exists_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (
        dir.path().join("first.toml"),
        dir.path().join("second.toml"),
    );
    let paths = [first.as_path(), second.as_path()];
    let faults = load_from(&Asked::default(), &[], &paths).unwrap_err();
    assert!(
        faults[0].what.contains("first.toml and no "),
        "{}",
        faults[0]
    );
    assert!(faults[0].hint.as_deref().unwrap().contains("--config FILE"));
    fs::write(&second, LEAST.replace("shop", "second")).unwrap();
    let loaded = load_from(&Asked::default(), &[], &paths).unwrap();
    assert_eq!(loaded.config.name, "second");
    fs::write(&first, LEAST.replace("shop", "first")).unwrap();
    let loaded = load_from(&Asked::default(), &[], &paths).unwrap();
    assert_eq!(loaded.config.name, "first");
}

#[test]
fn a_file_that_is_there_but_unreadable_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let second = dir.path().join("second.toml");
    fs::write(&second, LEAST).unwrap();
    // A folder stands for what cannot be read; permissions do not stop root.
    let paths = [dir.path(), second.as_path()];
    let faults = load_from(&Asked::default(), &[], &paths).unwrap_err();
    assert!(faults[0].what.contains("directory"), "{}", faults[0]);
}

#[test]
fn bytes_that_are_no_text_are_pointed_at() {
    let (_dir, asked) = folder(b"name = \"shop\"\n# caf\xe9\n");
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 2);
    assert!(
        out.starts_with("pipeline.toml:2:6: from here on it is not UTF-8 text\n"),
        "{out}"
    );
}

#[test]
fn a_huge_file_is_refused_by_its_length() {
    // The second is cut inside a character.
    for text in [
        "#".repeat(3 << 20),
        format!("#{}", "\u{10348}".repeat(1 << 19)),
    ] {
        let (_dir, asked) = folder(text.as_bytes());
        let (code, out) = checked(&asked, &[], Format::Text);
        assert_eq!(code, 2);
        assert!(out.contains("bytes long, of at most"), "{out}");
    }
}

#[test]
fn check_prints_every_fault_and_answers_2() {
    let (_dir, asked) = folder(b"nmae = 1\n[stage.enrich]\nworkres = 2\n");
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 2);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("pipeline.toml:1:1: "), "{out}");
    assert!(out.contains("pipeline.toml:3:1: unknown key `workres` in [stage.enrich]\n  hint: did you mean `workers`?\n"));
    assert_eq!(lines.last(), Some(&"3 faults"));

    let (code, out) = checked(&asked, &[], Format::Json);
    assert_eq!((code, out.lines().count()), (2, 1));
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["schema"], "pipelined/check/1");
    assert_eq!(document["ts"], "2023-11-14T22:13:20.000Z");
    assert_eq!(document["ok"], false);
    assert_eq!(document["faults"].as_array().unwrap().len(), 3);
    let fault = &document["faults"][2];
    assert_eq!(
        (&fault["line"], &fault["col"]),
        (&Value::from(3), &Value::from(1))
    );
    assert_eq!(fault["hint"], "did you mean `workers`?");
    assert_eq!(document["config_hash"], Value::Null);
}

#[test]
fn check_names_what_would_run_as_a_running_daemon_names_itself() {
    let (_dir, asked) = folder(LEAST.as_bytes());
    let (_, out) = checked(&asked, &[], Format::Json);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        document["config_hash"],
        config_hash(&load(&asked, &[]).unwrap().config)
    );
    assert!(document["pipeline"].is_string(), "{document}");
}

#[test]
fn check_answers_0_and_says_what_it_read() {
    let (_dir, asked) = folder(LEAST.as_bytes());
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "ok: pipeline shop, stages enrich; an entry that keeps failing is dead-lettered after 5 tries and at most 1.5s of waiting\n"
    );
    let (code, out) = checked(&asked, &[], Format::Json);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["ok"]), (0, &Value::from(true)));
}

#[test]
fn warnings_leave_the_exit_code_at_0() {
    let (_dir, mut asked) = folder(LEAST.as_bytes());
    asked.sets.push("stage.enrich.claim_after=1s".to_owned());
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("warning: --set stage.enrich.claim_after: "),
        "{out}"
    );
}

#[test]
fn explain_names_the_origin_of_each_value() {
    let (_dir, mut asked) = folder(LEAST.as_bytes());
    asked.sets.push("stage.enrich.batch=50".to_owned());
    let env = env("PIPELINED__REDIS__TIMEOUT", "2s");
    let (code, out, err) = explained(&asked, &env, Format::Text);
    assert_eq!((code, err.as_str()), (0, ""));
    let line = |start: &str| {
        let found = out.lines().find(|line| line.starts_with(start));
        let found = found.unwrap_or_else(|| panic!("no {start} in\n{out}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("name"), "name = \"shop\" # pipeline.toml:1");
    assert_eq!(
        line("redis.timeout"),
        "redis.timeout = \"2s\" # env PIPELINED__REDIS__TIMEOUT"
    );
    assert_eq!(
        line("stage.enrich.workers"),
        "stage.enrich.workers = 2 # pipeline.toml:3"
    );
    assert_eq!(
        line("stage.enrich.batch"),
        "stage.enrich.batch = 50 # --set"
    );
    assert_eq!(
        line("stage.enrich.group"),
        "stage.enrich.group = \"event_group\" # default"
    );
    assert_eq!(
        line("# redis.password"),
        "# redis.password is not set: no password # default"
    );
    let columns: Vec<usize> = out
        .lines()
        .map(|line| line.rfind("  # ").unwrap())
        .collect();
    assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{out}");
}

#[test]
fn explain_as_json_has_values_of_their_own_type() {
    let (_dir, asked) = folder(LEAST.as_bytes());
    let (code, out, _) = explained(&asked, &[], Format::Json);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &document["schema"]),
        (0, &Value::from("pipelined/explain/1"))
    );
    let rows = document["rows"].as_array().unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(row("stage.enrich.workers")["value"], 2);
    assert_eq!(row("stage.enrich.workers")["from"], "file");
    assert_eq!(row("stage.enrich.workers")["line"], 3);
    assert_eq!(row("redis.timeout")["value"], "5s");
    assert_eq!(row("redis.password")["value"], Value::Null);
    assert_eq!(document["config_hash"].as_str().unwrap().len(), 16);
}

#[test]
fn explain_of_a_broken_file_prints_only_faults() {
    let (_dir, asked) = folder(b"name = 1\n");
    let (code, out, err) = explained(&asked, &[], Format::Text);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("`name` cannot be a whole number"), "{err}");
    let (code, out, err) = explained(&asked, &[], Format::Json);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, err.as_str()), (2, ""));
    assert_eq!(document["ok"], false);
}

#[test]
fn secrets_are_shown_as_references_only() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "hunter2\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (_dir, mut asked) = folder(LEAST.as_bytes());
    asked.sets.push("redis.url=redis://db.example".to_owned());
    asked
        .sets
        .push(format!("redis.password=file:{}", secret.display()));
    for format in [Format::Text, Format::Json] {
        let (code, out, err) = explained(&asked, &[], format);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("file:/") && !out.contains("hunter2"), "{out}");
    }
    let (_, out) = checked(&asked, &[], Format::Text);
    assert!(!out.contains("warning"), "{out}");

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 0);
    assert!(
        out.contains("everybody on this machine may read or change"),
        "{out}"
    );
    fs::remove_file(&secret).unwrap();
    let (code, out) = checked(&asked, &[], Format::Text);
    assert_eq!(code, 0);
    assert!(
        out.contains("warning: redis.password: read the secret from"),
        "{out}"
    );
}

#[test]
fn what_a_file_says_cannot_drive_the_terminal() {
    let text = "name = \"shop\"\n[stage.enrich]\noperators = [{ kind = \"lookup\", key = \"\u{202e}k\u{feff}\" }]\n[redis]\ntls_ca = \"/\u{202e}ca\"\n";
    let (_dir, asked) = folder(text.as_bytes());
    for format in [Format::Text, Format::Json] {
        let (_, out, err) = explained(&asked, &[], format);
        let (_, checked) = checked(&asked, &[], format);
        for printed in [out, err, checked] {
            assert!(!printed.contains(['\u{202e}', '\u{feff}']), "{printed:?}");
        }
    }
}

#[test]
fn the_hash_follows_what_holds_and_not_who_said_so() {
    let (_dir, asked) = folder(LEAST.as_bytes());
    let hash = |sets: &[&str]| {
        let asked = Asked {
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            ..asked.clone()
        };
        config_hash(&load(&asked, &[]).unwrap().config)
    };
    assert_eq!(hash(&[]), hash(&["stage.enrich.workers=2"]));
    assert_ne!(hash(&[]), hash(&["stage.enrich.workers=3"]));
    assert!(hash(&[]).chars().all(|c| c.is_ascii_hexdigit()) && hash(&[]).len() == 16);
}
