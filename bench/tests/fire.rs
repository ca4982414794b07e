//! The short form of `scripts/fire`: a few rounds of the hardest trials on the server of this machine. Only outcomes are
//! judged here; figures of time are those of `scripts/fire`, on a machine that does nothing else.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::process::Command;

use serde_json::Value;

/// Runs these trials; what it told.
fn fire(trials: &[&str]) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_pipelined-fire"))
        .args(trials)
        .args(["--quick", "--server", "installed", "-o", "json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    let told: Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}\n{said}", out.status));
    assert_eq!(told["failures"], serde_json::json!([]), "{said}");
    told
}

/// Every count is what it must be. Figures with a unit of time are left out.
#[track_caller]
fn assert_exact(told: &Value, trials: &[&str]) {
    let figures = told["figures"].as_array().unwrap();
    for trial in trials {
        assert!(
            figures
                .iter()
                .any(|f| f["trial"] == *trial && f["unit"] == "events"),
            "{trial} told nothing"
        );
    }
    for figure in figures {
        let is_time = ["ms", "s", "/s"].iter().any(|unit| figure["unit"] == *unit);
        assert!(
            is_time || figure["met"] == true,
            "--seed {}: {figure:#}",
            told["seed"]
        );
    }
}

#[test]
fn kills_of_the_daemon_and_of_redis_lose_nothing_and_double_nothing() {
    let trials = ["1", "2"];
    assert_exact(&fire(&trials), &trials);
}

#[test]
fn owned_stages_are_handed_over_and_groups_show_the_truth() {
    let trials = ["hand-over", "groups"];
    assert_exact(&fire(&trials), &trials);
}

#[test]
fn third_parties_cost_exactly_what_they_took() {
    let trials = ["12", "13"];
    assert_exact(&fire(&trials), &trials);
}

#[test]
fn zombies_change_nothing() {
    let trials = ["4"];
    assert_exact(&fire(&trials), &trials);
}
