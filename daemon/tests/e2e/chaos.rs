//! Experiments on the real pipeline: they are taken back whoever dies, they tell what the product does wrong, and the short
//! suite passes.

use std::path::PathBuf;

use serde_json::Value;

use crate::house::{House, QUIET, signal, text, wait_for};

/// A pipeline that may be hurt.
struct Trial {
    house: House,
}

impl Drop for Trial {
    /// The daemon that runs at the end may be one that a guard started: nobody's child here.
    fn drop(&mut self) {
        let out = self.house.pipectl(&["status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        kill(&status);
    }
}

/// Kills the daemon that told this; one that has only just begun does not know its pid yet, and 0 would be ourselves.
fn kill(status: &Value) {
    if let Some(pid) = status["daemon"]["pid"].as_u64().filter(|pid| *pid > 1) {
        signal(u32::try_from(pid).unwrap(), "KILL");
    }
}

impl Trial {
    fn begin(args: &[&str]) -> Self {
        let mut house = House::new(QUIET);
        for set in [
            "chaos.enabled=true",
            "chaos.copy=true",
            "chaos.rate=500",
            "stage.enrich.claim_after=2s",
            "stage.enrich.timeout=1s",
            "stage.correlate.claim_after=2s",
            "stage.correlate.timeout=1s",
            "stage.correlate.workers=2",
        ] {
            house.set(set);
        }
        for arg in args {
            house.arg(arg);
        }
        house.start();
        house.wait_healthy();
        Self { house }
    }

    /// Begins an experiment; its id.
    fn begin_run(&self, words: &[&str]) -> String {
        let mut args = vec!["chaos", "run"];
        args.extend(words);
        args.extend(["--yes", "--no-wait"]);
        let started = self.house.json(&args);
        started["id"].as_str().unwrap().to_owned()
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.house.data().join("chaos").join(id)
    }

    fn file(&self, id: &str, name: &str) -> Option<Value> {
        let text = std::fs::read(self.folder(id).join(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Waits until the fault is in.
    fn hurts(&self, id: &str) {
        wait_for("the fault to be in", || {
            let progress = self.file(id, "progress.json")?;
            let marks = progress["marks"].as_array()?;
            marks
                .iter()
                .any(|mark| mark["kind"] == "fault")
                .then_some(())
        });
    }

    /// Waits until there is a verdict; the document.
    fn verdict(&self, id: &str) -> Value {
        wait_for("the verdict", || self.file(id, "run.json"))
    }

    fn guard_pid(&self) -> u32 {
        let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent: u32 = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            (words.ends_with(b"\0guard\0") && parent == self.house.pid()).then_some(pid)
        });
        children.last().expect("a guard of this daemon")
    }

    fn limit(&self) -> String {
        let told = self.house.redis(&["CONFIG", "GET", "maxmemory"]);
        told.lines().last().unwrap().to_owned()
    }
}

fn lost_and_doubled(run: &Value) -> (&Value, &Value) {
    (
        &run["measurements"]["lost"],
        &run["measurements"]["duplicated"],
    )
}

#[test]
fn a_lowered_memory_limit_is_taken_back_by_the_next_start_when_daemon_and_guard_are_killed() {
    let mut trial = Trial::begin(&[]);
    let before = trial.limit();
    let id = trial.begin_run(&["redis.oom", "--for", "100s"]);
    trial.hurts(&id);
    let guard = trial.guard_pid();
    assert_ne!(trial.limit(), before, "nothing was injected");
    // The guard first: it would start the daemon again.
    signal(guard, "KILL");
    trial.house.kill();
    assert!(!trial.folder(&id).join("run.json").exists());
    trial.house.start();
    let run = trial.verdict(&id);
    assert_eq!(run["verdict"], "aborted", "{run}");
    assert_eq!(trial.limit(), before);
    assert!(trial.house.whole_log().contains("chaos.recovered"));
    trial.house.wait_healthy();
    trial.house.add_events(0, 100);
    trial.house.settled();
}

#[test]
fn a_stopped_server_goes_on_at_the_next_start_when_daemon_and_guard_are_killed() {
    let mut trial = Trial::begin(&[]);
    // The server is nobody's child then: the system itself wakes stopped children of a process that dies.
    trial.house.kill();
    trial.house.start();
    trial.house.wait_healthy();
    let id = trial.begin_run(&["redis.pause", "--set", "how=stop", "--for", "20s"]);
    trial.hurts(&id);
    let state = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')')
            .unwrap()
            .1
            .trim()
            .chars()
            .next()
            .unwrap()
    };
    let server = trial.house.redis_pid();
    let guard = trial.guard_pid();
    wait_for("redis to be stopped", || {
        (state(server) == 'T').then_some(())
    });
    signal(guard, "KILL");
    trial.house.kill();
    assert_eq!(state(server), 'T', "nobody was there to take it back");
    trial.house.start();
    trial.house.wait_healthy();
    assert_ne!(state(server), 'T');
    assert_eq!(trial.verdict(&id)["verdict"], "aborted");
}

#[test]
fn a_guard_that_is_killed_leaves_nothing_in_and_the_daemon_goes_on() {
    let trial = Trial::begin(&[]);
    let before = trial.limit();
    let pid = trial.house.pid();
    for words in [
        &["net.blackhole", "--for", "100s"][..],
        &["redis.oom", "--for", "100s"],
    ] {
        let id = trial.begin_run(words);
        trial.hurts(&id);
        signal(trial.guard_pid(), "KILL");
        assert_eq!(trial.verdict(&id)["verdict"], "aborted");
        wait_for("the limit to be as before", || {
            (trial.limit() == before).then_some(())
        });
        trial.house.wait_healthy();
    }
    assert_eq!(trial.house.pid(), pid);
    trial.house.add_events(0, 100);
    trial.house.settled();
}

#[test]
fn a_daemon_that_is_killed_mid_fault_is_started_again_and_everything_is_taken_back_and_counted() {
    let mut trial = Trial::begin(&[]);
    let before = trial.limit();
    let id = trial.begin_run(&["redis.oom", "--for", "100s"]);
    trial.hurts(&id);
    trial.house.kill();
    let run = trial.verdict(&id);
    assert_eq!(run["verdict"], "aborted", "{run}");
    assert_eq!(run["why"], "the daemon died");
    assert_eq!(lost_and_doubled(&run), (&0.into(), &0.into()), "{run}");
    let reverted = run["reverted"].as_array().unwrap();
    assert!(
        reverted.len() >= 2 && reverted.iter().all(|one| one["ok"] == true),
        "{run}"
    );
    assert_eq!(trial.limit(), before);
    // The guard started another, which knows of the run.
    let shown = trial
        .house
        .json(&["chaos", "report", &id, "--form", "json"]);
    assert!(shown.to_string().contains(&id), "{shown}");
}

/// Eight minutes: `cargo nextest run -p pipelined --test e2e --run-ignored only -E 'test(every_experiment)'`.
#[test]
#[ignore = "eight minutes; README says how to run it"]
fn every_experiment_is_taken_back_when_the_daemon_is_killed_in_the_middle_of_it() {
    let trial = Trial::begin(&[]);
    let before = trial.limit();
    let list = trial.house.json(&["chaos", "ls"]);
    let names: Vec<String> = list["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            row["spec"]["name"]
                .as_str()
                .or(row["name"].as_str())
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(names.len(), 22, "{list}");
    for name in names {
        trial.house.wait_healthy();
        let id = trial.begin_run(&[&name, "--for", "20s"]);
        trial.hurts(&id);
        let status = trial.house.pipectl(&["status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        // daemon.kill may have killed it already.
        kill(&status);
        let run = trial.verdict(&id);
        let reverted = run["reverted"].as_array().unwrap();
        assert!(!reverted.is_empty(), "{name}: {run}");
        assert!(
            reverted.iter().all(|one| one["ok"] == true),
            "{name}: {reverted:?}"
        );
        assert_eq!(trial.limit(), before, "{name}");
        assert_eq!(run["measurements"]["duplicated"], 0, "{name}: {run}");
        // What these remove is gone, and what a dead daemon had read of it, too.
        if !["redis.trim", "redis.delconsumer"].contains(&name.as_str()) {
            assert_eq!(run["measurements"]["lost"], 0, "{name}: {run}");
            assert_ne!(run["verdict"], "failed", "{name}: {run}");
        }
        println!("{name}: {} ({})", run["verdict"], run["why"]);
    }
}

#[test]
fn stopping_by_hand_takes_back_at_once_and_says_who() {
    let trial = Trial::begin(&[]);
    let id = trial.begin_run(&["net.latency", "--for", "100s"]);
    trial.hurts(&id);
    let out = trial.house.pipectl(&["chaos", "stop", "--reason", "lunch"]);
    assert!(out.status.success(), "{}", text(&out));
    let run = trial.verdict(&id);
    assert_eq!(run["verdict"], "aborted");
    assert!(run["why"].as_str().unwrap().contains("lunch"), "{run}");
    assert_eq!(lost_and_doubled(&run), (&0.into(), &0.into()));
}

/// `chaos run` to its end: its exit code and the document.
fn run(trial: &Trial, words: &[&str]) -> (Option<i32>, Value) {
    let mut args = vec!["chaos", "run"];
    args.extend(words);
    args.extend(["--yes", "-o", "json"]);
    let out = trial.house.pipectl(&args);
    let document = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out)));
    (out.status.code(), document)
}

#[test]
fn without_its_fence_the_pipeline_deviates_under_a_zombie() {
    let zombie = [
        "worker.pause",
        "--set",
        "stage=enrich",
        "--set",
        "point=before_commit",
        "--seed",
        "5",
    ];
    let trial = Trial::begin(&["--test-without", "fence"]);
    let (code, document) = run(&trial, &zombie);
    assert_eq!(code, Some(8), "{document}");
    assert_eq!(document["verdict"], "deviated");
    assert!(
        document["measurements"]["duplicated"].as_u64().unwrap() > 0,
        "{document}"
    );
}

#[test]
fn without_acknowledging_in_the_commit_the_pipeline_deviates_under_a_dying_worker() {
    let killed = [
        "worker.kill",
        "--set",
        "stage=enrich",
        "--set",
        "point=after_commit",
        "--seed",
        "5",
    ];
    let trial = Trial::begin(&["--test-without", "atomic"]);
    let (code, document) = run(&trial, &killed);
    assert_eq!(code, Some(8), "{document}");
    assert!(
        document["measurements"]["duplicated"].as_u64().unwrap() > 0,
        "{document}"
    );
}

#[test]
fn the_short_suite_passes_on_a_copy_of_the_shipped_pipeline() {
    let house = House::new(QUIET);
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipeline.toml");
    let out = house.pipectl(&[
        "chaos", "suite", "smoke", "--copy", "--config", shipped, "-o", "json",
    ]);
    let table: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out)));
    let rows = table["runs"]
        .as_array()
        .unwrap_or_else(|| panic!("{table}"));
    assert_eq!(rows.len(), 8, "{table}");
    for row in rows {
        assert_eq!(row["verdict"], "pass", "{row}\n{}", text(&out));
        assert_eq!(
            (&row["lost"], &row["duplicated"]),
            (&0.into(), &0.into()),
            "{row}"
        );
    }
    assert_eq!(out.status.code(), Some(0));
}
