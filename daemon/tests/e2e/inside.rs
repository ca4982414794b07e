//! What is put between a daemon and its world where experiments may run, and what can be left out for them: neither is seen
//! while nothing is wrong.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::foreign_redis::ForeignRedis;
use crate::house::{House, QUIET, signal, wait_for};
use crate::stuck::{all_applied_once, parked};

/// Clients of the server that came by the daemon's own names.
fn n_clients(house: &House) -> usize {
    let list = house.redis(&["CLIENT", "LIST"]);
    list.lines()
        .filter(|line| line.contains("name=pipelined:"))
        .count()
}

/// Connections that whoever listens on this socket has taken, by the kernel's account.
fn taken(socket: &Path) -> usize {
    let all = std::fs::read_to_string("/proc/net/unix").unwrap();
    let path = socket.to_str().unwrap();
    all.lines().filter(|line| line.ends_with(path)).count() - 1
}

#[test]
fn with_chaos_enabled_everything_goes_through_the_proxy_and_survives_deaths_of_both_ends() {
    let mut house = House::new(QUIET);
    house.set("chaos.enabled=true");
    house.start();
    house.wait_healthy();
    let socket = house.data().join("proxy/redis.sock");
    let mode = |path: &Path| {
        let found = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        found.permissions().mode() & 0o777
    };
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    house.add_events(0, 200);
    all_applied_once(&house, 200);
    wait_for("all connections to come through it", || {
        let (through, in_all) = (taken(&socket), taken(&house.redis_socket()));
        (through >= n_clients(&house) && through > 2 && in_all == through).then_some(())
    });
    let shown = house.json(&["status"]).to_string();
    assert!(!shown.contains("proxy/redis.sock"), "{shown}");

    let pid = house.redis_pid();
    signal(pid, "KILL");
    wait_for("redis to be up again", || {
        (house.redis_pid_now() != Some(pid) && house.redis(&["PING"]) == "PONG").then_some(())
    });
    house.add_events(200, 300);
    all_applied_once(&house, 300);

    // Its socket file is still there.
    house.kill();
    assert!(socket.exists());
    house.start();
    house.wait_healthy();
    house.add_events(300, 400);
    all_applied_once(&house, 400);
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

#[test]
fn without_chaos_there_is_no_proxy() {
    let house = House::quiet();
    assert!(!house.data().join("proxy").exists());
}

#[test]
fn the_proxy_stands_before_a_port_with_a_password_and_names_the_server_while_it_is_away() {
    // Bound and closed: nothing else gets it while the test runs, as the system hands out others first.
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let words = port.to_string();
    let mut server = ForeignRedis::away(&["--port", &words, "--requirepass", "s3cret"]);
    let mut house = House::new(QUIET);
    house
        .on(&format!("redis://127.0.0.1:{port}/2"))
        .set("redis.password=env:PIPELINE_SECRET")
        .env("PIPELINE_SECRET", "s3cret")
        .set("chaos.enabled=true");
    house.start();
    let why = wait_for("the daemon to say that redis is down", || {
        let out = house.pipectl(&["status", "-o", "json"]);
        let status: Value = serde_json::from_slice(&out.stdout).ok()?;
        status["redis"]["error"].as_str().map(str::to_owned)
    });
    assert!(why.contains(&words), "{why}");
    assert!(!why.contains("proxy"), "{why}");
    assert!(house.data().join("proxy/redis.sock").exists());
    server.come();
    house.wait_healthy();
    for n in 0..20 {
        let id = format!("event-{n}");
        let fields = ["user_id", "u", "event_type", "click", "ts", "1640995200000"];
        let add = [
            "-a", "s3cret", "-n", "2", "XADD", "events", "*", "event_id", &id,
        ];
        server.cli(&[&add[..], &fields[..]].concat());
    }
    all_applied_once(&house, 20);
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

/// Parks the worker of `enrich`, has its entries claimed and applied, lets it go on.
fn late_commit(house: &House) {
    let (stuck, _, ids) = parked(house, "before_commit", 400);
    let done = house.json(&["pending", "claim", "--consumer", &stuck, "--yes"]);
    assert_eq!(done["result"]["applied"], ids.len(), "{done}");
    all_applied_once(house, 400);
    house.json(&["x-fault", "release", &stuck]);
}

#[test]
fn a_daemon_without_the_fence_counts_a_late_commit_again_and_says_that_it_is_without() {
    let mut house = House::new(QUIET);
    house
        .set("stage.enrich.workers=1")
        .set("stage.enrich.batch=50")
        .set("stage.enrich.claim_after=10m")
        .arg("--test-without")
        .arg("fence");
    house.start();
    house.wait_healthy();
    late_commit(&house);
    wait_for("the late commit to count again", || {
        let total = house.json(&["aggregates"])["total_count"].as_u64();
        (total > Some(400)).then_some(())
    });
    let log = house.whole_log();
    assert!(log.contains("this daemon does without fence"), "{log}");
}

#[test]
fn nothing_is_left_out_by_a_wrong_name_or_without_test_commands() {
    let mut house = House::new(QUIET);
    house.arg("--test-without").arg("fense");
    let (code, said) = house.ended();
    assert_eq!(code, Some(2), "{said}");
    for word in ["fense", "fence", "atomic", "parks_behind", "backlog_first"] {
        assert!(said.contains(word), "no {word} in: {said}");
    }
    assert!(!house.data().exists(), "nothing was touched");

    let run = std::process::Command::new(env!("CARGO_BIN_EXE_pipelined"))
        .args(["run", "--test-without", "fence"])
        .current_dir(house.path())
        .output()
        .expect("run pipelined");
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("--test-commands"), "{said}");
}
