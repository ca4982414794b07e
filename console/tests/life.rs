//! `pipectl up` and `down`, with a shell script in the place of `pipelined`.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use common::{Fake, Reply, clean, hello, listen, pipectl, run, until};
use serde_json::{Value, json};
use tempfile::TempDir;

fn status(healthy: bool) -> Value {
    json!({"pipeline": "orders", "state": "running", "reason": null, "healthy": healthy, "uptime_s": 1.0,
           "redis": {"url": "managed", "version": null, "state": "up", "used_memory_bytes": null, "max_memory_bytes": null,
                     "mode": "managed", "down_ms": null, "error": null},
           "throughput": {"in_per_s": null, "out_per_s": null},
           "latency_ms": {"p50": null, "p95": null, "p99": null, "p999": null}, "ledger": null, "stages": [], "alerts": [],
           "chaos": null, "daemon": {"pid": 7, "version": "0.1.0", "rss_bytes": null, "cpu_cores": null}})
}

/// A folder with `pipectl` and a `pipelined` that is this shell script.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("pipectl");
        if fs::hard_link(env!("CARGO_BIN_EXE_pipectl"), &ours).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_pipectl"), &ours).unwrap();
        }
        let theirs = dir.path().join("pipelined");
        fs::write(
            &theirs,
            format!("#!/bin/sh\nD={}\n{script}\n", dir.path().display()),
        )
        .unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = clean(&self.path("pipectl"));
        command
            .current_dir(self.dir.path())
            .arg("--socket")
            .arg(self.path("control.sock"))
            .args(args);
        command.env("PIPELINED_DATA", self.path("data"));
        command
    }
}

/// `check` answers with the hash that the fake daemons have; `run` notes its pid and stays.
const SCRIPT: &str = r#"case "$1" in
check) echo '{"config_hash":"00112233aabbccdd"}' ;;
run) echo "$@" > "$D/args"; echo $$ > "$D/pid.new"; mv "$D/pid.new" "$D/pid"; echo "starting now" >&2; exec sleep 300 ;;
esac"#;

fn pid_of(home: &Home) -> u32 {
    fs::read_to_string(home.path("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn up_starts_the_sibling_in_its_own_session_and_waits_for_its_health() {
    let home = Home::new(SCRIPT);
    let mut command = home.command(&["up", "--set", "source.users.enabled=false", "-o", "json"]);
    let handle = std::thread::spawn(move || {
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        run(command)
    });
    until("it has started", || home.path("pid").exists());
    let pid = pid_of(&home);
    let mut greeting = hello();
    greeting["params"]["pid"] = json!(pid);
    listen(
        &home.path("control.sock"),
        format!("{greeting}\n").into_bytes(),
        |_, _| Reply::Ok(status(true)),
    );
    let ran = handle.join().unwrap().expect(0);
    assert_eq!(ran.json()["schema"], "pipectl/status/1");
    let args = fs::read_to_string(home.path("args")).unwrap();
    assert!(
        args.starts_with("run --set source.users.enabled=false") && args.contains("--socket"),
        "{args}"
    );
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
    assert_eq!(rustix::process::getsid(raw).unwrap(), raw.unwrap());
    let log = fs::read_to_string(home.path("data/log/pipelined.out")).unwrap();
    assert_eq!(log, "starting now\n");
    common::kill(pid, rustix::process::Signal::KILL);
}

#[test]
fn up_tells_the_words_of_a_daemon_that_ends_at_once() {
    let home = Home::new("[ \"$1\" = run ] && { printf 'no redis\\033[2J here\\n' >&2; exit 1; }");
    let ran = run(home.command(&["up"])).expect(1);
    assert!(
        ran.stderr.contains("no redis") && ran.stderr.contains("ended at once"),
        "{ran:?}"
    );
    common::assert_clean("stderr", &ran.stderr);
}

#[test]
fn up_gives_up_in_time_with_the_last_words_of_the_log() {
    let home = Home::new(SCRIPT);
    let ran = run(home.command(&["up", "--timeout", "1s"])).expect(7);
    assert!(
        ran.stderr.contains("starting now") && ran.stderr.contains("hint: "),
        "{ran:?}"
    );
    common::kill(pid_of(&home), rustix::process::Signal::KILL);
}

#[test]
fn up_tells_the_faults_of_a_configuration_and_starts_nothing() {
    let home = Home::new("echo \"pipeline.toml:3:1: unknown key 'stge'\"; exit 2");
    let ran = run(home.command(&["up", "--config", "pipeline.toml"])).expect(2);
    assert!(ran.stderr.contains("3:1"), "{ran:?}");
    assert!(!home.path("data").exists());
}

#[test]
fn up_without_the_daemon_program_says_so() {
    let home = Home::new("");
    fs::remove_file(home.path("pipelined")).unwrap();
    let mut command = home.command(&["up"]);
    command.env("PATH", "/nonexistent");
    assert!(
        run(command)
            .expect(1)
            .stderr
            .contains("neither beside pipectl nor in PATH")
    );
}

#[test]
fn up_attaches_to_the_same_and_refuses_another_configuration_or_version() {
    let same = Home::new(SCRIPT);
    listen(
        &same.path("control.sock"),
        format!("{}\n", hello()).into_bytes(),
        |_, _| Reply::Ok(status(true)),
    );
    run(same.command(&["up", "--config", "pipeline.toml"])).expect(0);
    run(same.command(&["up"])).expect(0);
    assert!(!same.path("pid").exists());

    let mut other = hello();
    other["params"]["config_hash"] = json!("ffff");
    let home = Home::new(SCRIPT);
    listen(
        &home.path("control.sock"),
        format!("{other}\n").into_bytes(),
        |_, _| Reply::Ok(status(true)),
    );
    let ran = run(home.command(&["up", "--config", "pipeline.toml"])).expect(4);
    assert!(
        ran.stderr.contains("ffff") && ran.stderr.contains("00112233aabbccdd"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("--restart"), "{ran:?}");

    let mut old = hello();
    old["params"]["version"] = json!("0.0.9");
    let home = Home::new(SCRIPT);
    listen(
        &home.path("control.sock"),
        format!("{old}\n").into_bytes(),
        |_, _| Reply::Ok(status(true)),
    );
    assert!(
        run(home.command(&["up"]))
            .expect(4)
            .stderr
            .contains("0.0.9")
    );
}

#[test]
fn down_without_a_daemon_is_exit_0() {
    let mut command = pipectl();
    command.args(["down", "--socket", "/nonexistent/s", "-o", "json"]);
    assert_eq!(run(command).expect(0).json()["stopped"], false);
}

#[test]
fn down_drains_and_waits_until_the_daemon_is_gone() {
    let home = Home::new(SCRIPT);
    let socket = home.path("control.sock");
    let gone = socket.clone();
    let requests = listen(
        &socket,
        format!("{}\n", hello()).into_bytes(),
        move |_, _| {
            fs::remove_file(&gone).unwrap();
            Reply::RawThenClose(Vec::new())
        },
    );
    let document = run(home.command(&["down", "--all", "-o", "json"]))
        .expect(0)
        .json();
    assert_eq!(document["stopped"], true);
    let asked = requests.lock().unwrap().clone();
    assert_eq!(
        (&asked[0].1["name"], &asked[0].1["params"]),
        (&json!("daemon.drain"), &json!({"all": true}))
    );
}

#[test]
fn down_is_exit_7_when_the_daemon_stays() {
    let fake = Fake::new(|_, _| Reply::Ok(json!({"message": "draining"})));
    fake.run(&["down", "--timeout", "300ms"]).expect(7);
    fake.run(&["down", "--read-only"]).expect(4);
}
