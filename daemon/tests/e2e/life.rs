//! A daemon's life under load: it drains, pauses, scales, restarts, shares its work with another, and the counts stay exact.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::house::{House, PATIENCE, QUIET, pipelined_bin, signal, text, wait_for};
use crate::load::{Load, Record};

/// Enough that there is always something in flight, little enough that a debug build can follow.
const PER_S: u64 = 3_000;

const GROUPS: [(&str, &str); 2] = [("events", "event_group"), ("{events}:enrich", "correlate")];

#[test]
fn a_drain_under_load_leaves_nothing_pending_and_the_next_start_goes_on() {
    let mut house = House::quiet();
    let load = Load::start(&house, "d", 1, PER_S);
    for _ in 0..3 {
        wait_for_work(&house);
        assert_eq!(house.terminate(), Some(0), "{}", house.log());
        let server = Server::on_data_of(&house);
        for (stream, group) in GROUPS {
            let pending = server.ask(&["XPENDING", stream, group]);
            assert_eq!(pending.lines().next(), Some("0"), "{stream}: {pending}");
            assert_eq!(server.ask(&["XINFO", "CONSUMERS", stream, group]), "");
        }
        assert_eq!(server.ask(&["EXISTS", "{events}:daemons"]), "0");
        drop(server);
        house.start();
        house.wait_healthy();
    }
    finish(&house, load, "drains");
}

#[test]
fn a_paused_stage_reads_nothing_and_catches_up_when_it_is_resumed() {
    let house = House::quiet();
    let load = Load::start(&house, "p", 2, PER_S);
    for stage in ["correlate", "enrich"] {
        wait_for_work(&house);
        house.json(&["pause", stage]);
        wait_for("the stage to be paused and empty", || {
            let shown = stage_of(&house, stage);
            (shown["state"] == "paused" && shown["pending"] == 0).then_some(())
        });
        let delivered = last_delivered(&house, stage);
        let lag = stage_of(&house, stage)["lag"].as_u64().expect("a lag");
        wait_for("the lag to grow", || {
            let shown = stage_of(&house, stage);
            (shown["lag"].as_u64()? > lag + 2 * PER_S).then_some(())
        });
        assert_eq!(last_delivered(&house, stage), delivered, "{stage} has read");
        let ledger = house.json(&["ledger"]);
        assert_eq!(ledger["balanced"], true, "{ledger}");
        house.json(&["resume", stage]);
        wait_for("the stage to catch up", || {
            let shown = stage_of(&house, stage);
            (shown["lag"].as_u64()? < PER_S).then_some(())
        });
    }
    finish(&house, load, "pauses");
}

#[test]
fn a_stage_scales_to_none_and_back_under_load() {
    let house = House::quiet();
    let load = Load::start(&house, "s", 3, PER_S);
    for workers in ["1", "4", "0", "2"] {
        wait_for_sent(&load, PER_S);
        for stage in ["enrich", "correlate"] {
            house.json(&["scale", stage, workers]);
        }
        for (stage, (stream, group)) in ["enrich", "correlate"].into_iter().zip(GROUPS) {
            wait_for("the workers wanted, and no names of others", || {
                let running = stage_of(&house, stage)["workers"].to_string();
                let names = consumers(&house, stream, group).len().to_string();
                (running == workers && names == workers).then_some(())
            });
        }
    }
    finish(&house, load, "scaling");
}

#[test]
fn up_attaches_refuses_another_configuration_and_restarts_and_down_is_idempotent() {
    let up = Up(House::new(QUIET));
    let house = &up.0;
    let (config, data) = (house.path().join("pipeline.toml"), house.data());
    let config = config.to_str().expect("a path of text");
    let data = data.to_str().expect("a path of text");
    let base = ["up", "--config", config, "--data", data, "-o", "json"];

    let status = started(house, &base, &[]);
    house.add_events(0, 500);
    assert_eq!(house.settled()["applied"], 500);
    let again = started(house, &base, &[]);
    assert_eq!(pid_of(&again), pid_of(&status), "it attaches");

    let other = ["--set", "stage.enrich.workers=3"];
    let refused = house.pipectl(&[&base[..], &other].concat());
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    let hashes = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        hashes.contains("runs") && hashes.contains("wanted"),
        "{hashes}"
    );
    assert_eq!(pid_of(&house.json(&["status"])), pid_of(&status));

    let restarted = started(house, &base, &[&other[..], &["--restart"]].concat());
    assert_ne!(pid_of(&restarted), pid_of(&status));
    assert_eq!(stage_of(house, "enrich")["workers"], 3);
    let attached = started(house, &base, &other);
    assert_eq!(pid_of(&attached), pid_of(&restarted));
    house.add_events(250, 750);
    let ledger = house.settled();
    assert_eq!(ledger["applied"], 750, "{ledger}");
    assert_eq!(ledger["deduplicated"], 250, "{ledger}");
    assert_eq!(ledger["balanced"], true, "{ledger}");

    for stopped in [true, false] {
        let down = house.json(&["down"]);
        assert_eq!(down["stopped"], stopped, "{down}");
    }
    assert!(
        house.redis(&["PING"]).is_empty(),
        "the managed server ends with the daemon"
    );
}

#[test]
fn a_second_daemon_is_refused_a_data_folder_and_a_socket_that_are_in_use() {
    let house = House::quiet();
    let other = House::new(QUIET);
    for (data, socket, named) in [
        (house.data(), other.socket(), house.data()),
        (other.data(), house.socket(), house.socket()),
    ] {
        let out = Command::new(pipelined_bin())
            .args(["run", "--config"])
            .arg(house.path().join("pipeline.toml"))
            .args(["--data".as_ref(), data.as_os_str()])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .stdin(Stdio::null())
            .output()
            .expect("start pipelined");
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            why.contains(named.to_str().expect("a path of text")),
            "it does not say what is in use: {why}"
        );
    }
    house.add_events(0, 500);
    let ledger = house.settled();
    assert_eq!(ledger["applied"], 500, "the first works on: {ledger}");
}

#[test]
fn two_daemons_share_the_groups_and_restart_one_after_the_other_under_load() {
    let mut owner = House::quiet();
    let redis = owner.redis_pid();
    let mut guest = House::new(QUIET);
    let url = format!("redis.url=redis+unix://{}", owner.redis_socket().display());
    guest.set(&url).start();
    guest.wait_healthy();

    let load = Load::start(&owner, "o", 4, PER_S);
    for _ in 0..2 {
        for (stream, group) in GROUPS {
            // Two workers of `enrich` and one of `correlate` in each daemon.
            let wanted = if group == "correlate" { 2 } else { 4 };
            wait_for("the workers of both daemons in the group", || {
                (consumers(&owner, stream, group).len() == wanted).then_some(())
            });
        }
        for house in [&owner, &guest] {
            wait_for("both daemons to commit", || {
                let out = stage_of(house, "enrich")["out_per_s"].as_f64()?;
                (out > 0.0).then_some(())
            });
        }
        assert_eq!(guest.terminate(), Some(0), "{}", guest.log());
        for (stream, group) in GROUPS {
            let names = consumers(&owner, stream, group);
            let left = if group == "correlate" { 1 } else { 2 };
            assert_eq!(
                names.len(),
                left,
                "a drained daemon leaks no names: {names:?}"
            );
        }
        wait_for_work(&owner);
        guest.start();
        guest.wait_healthy();
        // The owner leaves its server to the guest, and adopts it when it comes back.
        assert_eq!(owner.terminate(), Some(0), "{}", owner.log());
        assert_eq!(owner.redis(&["PING"]), "PONG", "{}", owner.log());
        wait_for_work(&owner);
        owner.start();
        owner.wait_healthy();
        assert_eq!(owner.redis_pid(), redis);
    }
    let record = finish(&owner, load, "rolling restarts");
    let ledger = guest.settled();
    record.assert_exact(&owner, &ledger, "as the guest sees it");

    assert_eq!(guest.terminate(), Some(0), "{}", guest.log());
    assert_eq!(owner.terminate(), Some(0), "{}", owner.log());
    let server = Server::on_data_of(&owner);
    for (stream, group) in GROUPS {
        assert_eq!(server.ask(&["XINFO", "CONSUMERS", stream, group]), "");
    }
}

#[test]
fn down_all_stops_the_server_although_another_daemon_uses_it() {
    let owner = Up(House::new(QUIET));
    let house = &owner.0;
    let (config, data) = (house.path().join("pipeline.toml"), house.data());
    let config = config.to_str().expect("a path of text");
    let data = data.to_str().expect("a path of text");
    let base = ["up", "--config", config, "--data", data, "-o", "json"];
    started(house, &base, &[]);
    let mut guest = House::new(QUIET);
    let url = format!("redis.url=redis+unix://{}", house.redis_socket().display());
    guest.set(&url).start();
    guest.wait_healthy();

    let down = house.json(&["down"]);
    assert_eq!(down["stopped"], true, "{down}");
    assert_eq!(house.redis(&["PING"]), "PONG", "left to the guest");
    started(house, &base, &[]);
    let down = house.json(&["down", "--all"]);
    assert_eq!(down["stopped"], true, "{down}");
    assert_eq!(house.redis(&["PING"]), "", "--all stops it all the same");
}

/// A server that loads its append-only file forgets how much a group has read and tells a wrong lag. The backlog is more
/// than is ever counted at one go.
#[test]
fn a_backlog_is_told_rightly_after_its_server_and_its_daemon_restarted() {
    const N: u64 = 210_000;
    // Every write survives the server's death: with everysec those that Redis holds back while it flushes would not.
    let mut house = House::new(QUIET);
    house.set("redis.append_fsync=no").start();
    house.wait_healthy();
    house.add_events(0, 1_000);
    house.settled();
    house.pause("enrich");
    house.add_events(1_000, 1_000 + N);
    kill_redis(&house);
    wait_for_backlog(&house, N);

    assert_eq!(house.terminate(), Some(0), "{}", house.log());
    house.start();
    house.wait_healthy();
    let begun = Instant::now();
    let ledger = loop {
        let ledger = house.json(&["ledger"]);
        // At every instant, not only in the end.
        assert_eq!(ledger["balanced"], true, "{ledger}");
        if ledger["pending"] == 0 && ledger["undelivered"] == 0 {
            break ledger;
        }
        assert!(begun.elapsed() < 5 * PATIENCE, "{ledger}");
        std::thread::park_timeout(Duration::from_millis(100));
    };
    assert_eq!(ledger["applied"], 1_000 + N, "{ledger}");
    assert_eq!(ledger["lost"], 0, "{ledger}");
    assert_eq!(house.json(&["aggregates"])["total_count"], 1_000 + N);

    // A long past and a short backlog: the wrong lag is the whole past.
    house.pause("enrich");
    house.add_events(1_000 + N, 1_100 + N);
    kill_redis(&house);
    let ledger = wait_for_backlog(&house, 100);
    assert_eq!(ledger["estimated"], false, "{ledger}");
}

fn kill_redis(house: &House) {
    let pid = house.redis_pid();
    signal(pid, "KILL");
    wait_for("redis to be up again", || {
        (house.redis_pid_now() != Some(pid) && house.redis(&["PING"]) == "PONG").then_some(())
    });
}

/// The ledger and the paused stage both tell it.
fn wait_for_backlog(house: &House, n: u64) -> Value {
    wait_for("the whole backlog to be told", || {
        let out = house.pipectl(&["ledger", "-o", "json"]);
        let ledger: Value = serde_json::from_slice(&out.stdout).ok()?;
        let lag = stage_of(house, "enrich")["lag"].as_u64()?;
        let is_right = ledger["undelivered"] == n && lag == n && ledger["balanced"] == true;
        is_right.then_some(ledger)
    })
}

/// Stops the load and insists on exact counts.
#[track_caller]
fn finish(house: &House, load: Load, what: &str) -> Record {
    let record = load.stop();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "120s"]);
    record.assert_exact(house, &ledger, what);
    record
}

fn stage_of(house: &House, name: &str) -> Value {
    let stages = house.json(&["stages"]);
    let rows = stages["rows"].as_array().expect("rows");
    rows.iter()
        .find(|stage| stage["name"] == name)
        .unwrap_or_else(|| panic!("no stage {name}: {stages}"))
        .clone()
}

fn last_delivered(house: &House, stage: &str) -> Value {
    let groups = house.json(&["groups", "--stage", stage]);
    groups["rows"][0]["last_delivered"].clone()
}

/// Names of a group's consumers, as Redis has them.
fn consumers(house: &House, stream: &str, group: &str) -> Vec<String> {
    let told = house.redis(&["XINFO", "CONSUMERS", stream, group]);
    let lines: Vec<&str> = told.lines().collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "name")
        .map(|pair| pair[1].to_owned())
        .collect()
}

fn wait_for_work(house: &House) {
    let ended = || {
        let ended = house.redis(&["HGET", "{events}:ledger", "correlate:ended"]);
        ended.parse::<u64>().unwrap_or(0)
    };
    let before = ended();
    wait_for("entries to come through", || {
        (ended() > before + PER_S / 2).then_some(())
    });
}

fn wait_for_sent(load: &Load, n: u64) {
    let before = load.sent();
    wait_for("events to be sent", || {
        (load.sent() > before + n).then_some(())
    });
}

/// `pipectl up`, which must succeed; the status.
#[track_caller]
fn started(house: &House, base: &[&str], more: &[&str]) -> Value {
    let out = house.pipectl(&[base, more].concat());
    assert!(out.status.success(), "{}", text(&out));
    serde_json::from_slice(&out.stdout).expect("a status")
}

fn pid_of(status: &Value) -> u64 {
    status["daemon"]["pid"].as_u64().expect("a pid")
}

/// A house whose daemon `pipectl up` started: no child of ours, so it is taken down by name.
struct Up(House);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.pipectl(&["down", "--timeout", "30s"]);
    }
}

/// A server on the files that a daemon left behind, to look into them.
struct Server<'a> {
    house: &'a House,
    child: Child,
}

impl<'a> Server<'a> {
    fn on_data_of(house: &'a House) -> Self {
        let folder = house.data().join("redis");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--appendonly", "yes", "--save", ""])
            .args(["--dir".as_ref(), folder.as_os_str()])
            .args([
                "--unixsocket".as_ref(),
                house.path().join("look").as_os_str(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start redis-server");
        let server = Self { house, child };
        wait_for("the data to be loaded", || {
            (server.ask(&["PING"]) == "PONG").then_some(())
        });
        server
    }

    fn ask(&self, args: &[&str]) -> String {
        let out = Command::new("redis-cli")
            .args(["-s".as_ref(), self.house.path().join("look").as_os_str()])
            .args(args)
            .output()
            .expect("start redis-cli");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
