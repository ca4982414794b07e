//! 26: the model check: random histories of the store, with third parties' meddling, on this server and in memory word by
//! word, and every test of the store's contract; by the test binary of the daemon that `scripts/fire` builds.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::trial::Field;
use crate::report::Goal;

pub(crate) fn run(field: &mut Field<'_>) -> Result<()> {
    let binary = std::env::var_os("FIRE_CONTRACT").filter(|path| !path.is_empty());
    let Some(binary) = binary else {
        field.not_run("scripts/fire builds the test binary; without it name one in FIRE_CONTRACT");
        return Ok(());
    };
    // The store in memory is a Redis 7.0; newer servers count trimmed entries as read, which the store has to bear.
    let skipped: &[&str] = if field.server.label == "redis7" {
        &[]
    } else {
        field.not_run("that the model's streams are this server's: the model is Redis 7.0's");
        &["--skip", "streams_of_the_model"]
    };
    let out = Command::new(&binary)
        .args(["--test-threads", "2", "--skip", "memory::"])
        .args(skipped)
        .env("PIPELINED_REDIS_SERVER", &field.server.program)
        .env("PROPTEST_CASES", if field.quick { "20" } else { "300" })
        .output()
        .context("start the contract's tests")?;
    let said = String::from_utf8_lossy(&out.stdout);
    let result = said
        .lines()
        .rev()
        .find(|line| line.starts_with("test result"));
    let number = |word: &str| -> Option<f64> {
        let mut words = result?
            .split([' ', ';'])
            .filter(|w| !w.is_empty())
            .peekable();
        let mut last = "";
        words.find_map(|w| {
            let found = (w == word).then(|| last.parse().ok()).flatten();
            last = w;
            found
        })
    };
    let (Some(passed), Some(failed)) = (number("passed"), number("failed")) else {
        anyhow::bail!(
            "the tests told nothing: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    for line in said.lines().filter(|line| line.ends_with("FAILED")) {
        field.say(line);
    }
    field.figure(
        "tests of the contract that hold",
        "",
        passed,
        Goal::AtLeast(50.0),
    );
    field.figure("counter-examples", "", failed, Goal::AtMost(0.0));
    Ok(())
}
