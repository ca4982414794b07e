//! README.md cannot rot: each `$ ` line of its `console` blocks is run, in order, as a newcomer would: in the root of the
//! repository, with an empty home. `./scripts/up` and `./scripts/down` stand for what they end with; building is theirs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::house::{pipectl_bin, signal, text};

/// One command with what the page says it prints.
struct Step {
    line: usize,
    command: String,
    /// From a comment at the end: `# exit 4`.
    exit: i32,
    shown: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the root of the repository")
        .to_owned()
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (at, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            inside = language == "console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let exit = command
                .rsplit_once("# exit ")
                .map_or(0, |(_, code)| code.trim().parse().expect("an exit code"));
            steps.push(Step {
                line: at + 1,
                command: command.to_owned(),
                exit,
                shown: Vec::new(),
            });
        } else if inside {
            let step = steps.last_mut().expect("a command before its output");
            step.shown.push(line.to_owned());
        }
    }
    steps
}

/// Words that are the same in every run: no figures, ids, times or names made of them.
fn words(line: &str) -> Vec<&str> {
    let lasting = |word: &&str| word.len() > 1 && !word.contains(|c: char| c.is_ascii_digit());
    line.split_whitespace()
        .filter(|word| !word.contains(['…', '?', '/']))
        .filter(lasting)
        .collect()
}

fn has_in_order(line: &str, wanted: &[&str]) -> bool {
    let mut rest = line.split_whitespace();
    wanted.iter().all(|word| rest.any(|have| have == *word))
}

/// Ids of entries, in the order in which they are shown.
fn ids(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_digit() && c != '-')
        .filter(|word| word.split_once('-').is_some_and(|(ms, _)| ms.len() == 13))
        .map(str::to_owned)
        .collect()
}

/// An empty home with a pipeline in it.
struct Newcomer {
    home: tempfile::TempDir,
}

impl Newcomer {
    fn data(&self) -> PathBuf {
        self.home.path().join(".local/state/pipelined")
    }

    fn bash(&self, command: &str) -> Output {
        let programs = pipectl_bin();
        let mut path = programs
            .parent()
            .expect("a folder")
            .as_os_str()
            .to_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Command::new("bash")
            .args(["-o", "pipefail", "-c", &format!("{{ {command}\n}} 2>&1")])
            .current_dir(root())
            .env("HOME", self.home.path())
            .env("PATH", path)
            .env("COLUMNS", "100")
            .env("PIPELINED_SOCKET", self.home.path().join("control.sock"))
            .env_remove("PIPELINED_DATA")
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null())
            .output()
            .expect("start bash")
    }

    fn json(&self, command: &str) -> Value {
        let out = self.bash(&format!("{command} -o json"));
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("{command} printed no JSON ({e}): {}", text(&out)))
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        // The page stops the pipeline itself; this is for a test that failed on the way.
        let _ = self.bash("pipectl down --timeout 30s");
        if let Ok(pid) = std::fs::read_to_string(self.data().join("redis/redis.pid"))
            && let Ok(pid) = pid.trim().parse()
        {
            signal(pid, "KILL");
        }
    }
}

#[test]
fn every_command_of_the_readme_does_what_the_readme_shows() {
    let page = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let steps = steps(&page);
    assert!(steps.len() > 20, "the commands were not found");
    let newcomer = Newcomer {
        home: tempfile::Builder::new()
            .prefix("home-")
            .tempdir()
            .expect("a temporary folder"),
    };
    // The page's ids, and what they are in this run.
    let mut renamed: HashMap<String, String> = HashMap::new();
    for step in &steps {
        let mut command = step
            .command
            .replace("./scripts/up", "pipectl up --config pipeline.toml")
            .replace("./scripts/down", "pipectl down");
        for id in ids(&step.command) {
            let ours = renamed
                .get(&id)
                .unwrap_or_else(|| panic!("README.md:{}: no output showed {id}", step.line));
            command = command.replace(&id, ours);
        }
        if command == "pipectl down" {
            the_page_is_right_about_the_numbers(&newcomer);
        }
        let out = newcomer.bash(&command);
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(
            out.status.code(),
            Some(step.exit),
            "README.md:{}: {command}\n{said}",
            step.line
        );
        for shown in &step.shown {
            let wanted = words(shown);
            if shown == "..." {
                continue;
            }
            assert!(
                said.lines().any(|line| has_in_order(line, &wanted)),
                "README.md:{}: `{}` no longer says {wanted:?} in one line; it says\n{said}",
                step.line,
                step.command
            );
        }
        let pairs = ids(&step.shown.join("\n")).into_iter().zip(ids(&said));
        renamed.extend(pairs);
    }
    let log = std::fs::read_to_string(newcomer.data().join("log/pipelined.out"));
    assert!(!log.unwrap_or_default().contains("panicked"));
}

/// What the page says in words, after everything but the stop.
#[track_caller]
fn the_page_is_right_about_the_numbers(newcomer: &Newcomer) {
    let ledger = newcomer.json("pipectl ledger");
    for (name, value) in [
        ("unaccounted", 0),
        ("duplicated", 0),
        ("lost", 0),
        ("dead", 2),
    ] {
        assert_eq!(ledger[name], value, "{name}: {ledger}");
    }
    // The second XADD and the second time of the four lines.
    assert_eq!(ledger["deduplicated"], 5, "{ledger}");
    let counted = newcomer.json("pipectl aggregates --session session_456");
    assert_eq!(counted["session"]["count"], 1, "{}", counted["session"]);
}

#[test]
fn words_that_last_are_told_from_those_that_do_not() {
    let table: &[(&str, &[&str])] = &[
        (
            "enrich  running    0        2     2ms   ?",
            &["enrich", "running"],
        ),
        (
            "started pipelined 0.1.0, pid 17, log ~/x.out",
            &["started", "pipelined", "pid", "log"],
        ),
        (
            "enrich  1795258809716-0  forgetful  46ms",
            &["enrich", "forgetful"],
        ),
    ];
    for (line, want) in table {
        assert_eq!(words(line), *want, "{line}");
    }
    assert_eq!(ids("a 1795258809716-0 b 12-3"), ["1795258809716-0"]);
}
