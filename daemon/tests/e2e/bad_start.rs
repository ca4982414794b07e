//! Whatever is wrong with configuration, folders or Redis: the daemon says what and what to do, and loses nothing.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::foreign_redis::ForeignRedis;
use crate::house::{House, QUIET, signal, text, wait_for};

/// The `status` document while something is wrong: it is printed with any exit code.
fn status(house: &House) -> Option<Value> {
    let out = house.pipectl(&["status", "-o", "json"]);
    serde_json::from_slice(&out.stdout).ok()
}

/// Starts, and insists that it ends with exit code 1 after saying all of `words`. What it said.
#[track_caller]
fn refused(house: &mut House, words: &[&str]) -> String {
    let (code, said) = house.ended();
    assert_eq!(code, Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "no \"{word}\" in:\n{said}");
    }
    said
}

/// Adds events to any server, as `House::add_events` does to the managed one.
fn add(server: &ForeignRedis, from: u64, to: u64) {
    for n in from..to {
        let id = format!("event-{n}");
        let said = server.cli(&[
            "XADD",
            "events",
            "*",
            "event_id",
            &id,
            "user_id",
            "u",
            "event_type",
            "click",
            "ts",
            "1640995200000",
        ]);
        assert!(said.contains('-'), "XADD: {said}");
    }
}

#[test]
fn a_broken_file_is_refused_with_all_its_faults_at_once() {
    let mut house = House::new(
        "version = 1\nname = \"Not A Name\"\n[redis]\nurll = \"managed\"\n[stage.enrich]\nworkers = \"two\"\n",
    );
    let (code, said) = house.ended();
    assert_eq!(code, Some(2), "{said}");
    for fault in [
        "name",
        "urll",
        "url",
        "workers",
        "pipeline.toml:2",
        "pipeline.toml:4",
    ] {
        assert!(said.contains(fault), "no {fault} in:\n{said}");
    }
    assert!(!house.data().exists(), "nothing was touched");
}

#[test]
fn while_redis_is_away_the_daemon_is_up_and_says_why_and_begins_when_it_comes() {
    let mut server = ForeignRedis::away(&[]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    let status = wait_for("the daemon to say that redis is down", || {
        status(&house).filter(|s| s["redis"]["state"] == "down" && s["redis"]["error"].is_string())
    });
    let why = status["redis"]["error"].as_str().unwrap();
    assert!(why.contains("redis.sock"), "{why}");
    assert_eq!(status["healthy"], false, "{status}");
    assert!(status["ledger"].is_null(), "unknown is not 0: {status}");
    assert!(
        house.whole_log().contains("starts as soon as it answers"),
        "{}",
        house.log()
    );

    server.come();
    house.wait_healthy();
    add(&server, 0, 20);
    assert_eq!(house.settled()["applied"], 20);
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

#[test]
fn a_port_where_nobody_listens_is_named() {
    // Bound and closed: nothing else gets it while the test runs, as the system hands out others first.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut house = House::new(QUIET);
    house.on(&format!("redis://127.0.0.1:{port}/0")).start();
    let status = wait_for("the daemon to say that redis is down", || {
        status(&house).filter(|s| s["redis"]["state"] == "down" && s["redis"]["error"].is_string())
    });
    let why = status["redis"]["error"].as_str().unwrap();
    assert!(
        why.contains(&port.to_string()) && why.contains("refused"),
        "{why}"
    );
    assert_eq!(
        house.terminate(),
        Some(0),
        "a drain does not wait for redis: {}",
        house.log()
    );
}

#[test]
fn a_wrong_or_missing_password_is_refused_with_what_to_do_and_never_repeated() {
    let server = ForeignRedis::start(&["--requirepass", "right-secret-7f3a"]);
    let mut house = House::new(QUIET);
    house.on(&server.url());
    refused(&mut house, &["redis.password", "env:NAME"]);

    let mut house = House::new(QUIET);
    house
        .on(&server.url())
        .set("redis.password=env:PIPELINE_SECRET")
        .env("PIPELINE_SECRET", "wrong-secret-9b1d");
    refused(&mut house, &["refused the password", "redis.password"]);
    for file in walk(house.path()) {
        let kept = std::fs::read(&file).unwrap();
        let kept = String::from_utf8_lossy(&kept);
        assert!(
            !kept.contains("wrong-secret"),
            "{} holds the password",
            file.display()
        );
    }

    let mut house = House::new(QUIET);
    house
        .on(&server.url())
        .set("redis.password=env:PIPELINE_NOT_SET");
    refused(&mut house, &["PIPELINE_NOT_SET is not set"]);
}

#[test]
fn the_right_password_comes_from_the_environment_or_a_file_and_is_shown_nowhere() {
    let server = ForeignRedis::start(&["--requirepass", "right-secret-7f3a"]);
    let file = server.socket().with_file_name("password");
    std::fs::write(&file, "right-secret-7f3a\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for reference in [
        "env:PIPELINE_SECRET".to_owned(),
        format!("file:{}", file.display()),
    ] {
        let mut house = House::new(QUIET);
        house
            .on(&server.url())
            .set(&format!("redis.password={reference}"))
            .env("PIPELINE_SECRET", "right-secret-7f3a")
            .start();
        house.wait_healthy();
        let said =
            text(&house.pipectl(&["status", "-o", "json"])) + &text(&house.pipectl(&["config"]));
        assert!(!said.contains("right-secret"), "{said}");
        assert_eq!(house.terminate(), Some(0), "{}", house.log());
        for file in walk(house.path()) {
            let kept = std::fs::read(&file).unwrap();
            let kept = String::from_utf8_lossy(&kept);
            assert!(
                !kept.contains("right-secret"),
                "{} holds the password",
                file.display()
            );
        }
    }
}

/// Every file below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(walk(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

#[test]
fn a_source_key_of_another_type_is_refused_by_name() {
    let server = ForeignRedis::start(&[]);
    server.cli(&["SET", "events", "x"]);
    let mut house = House::new(QUIET);
    house.on(&server.url());
    refused(&mut house, &["key \"events\" holds a string", "stream"]);
    assert_eq!(server.cli(&["GET", "events"]), "x", "it is left as it is");
}

#[test]
fn a_stream_of_another_pipeline_is_refused_and_left_alone() {
    let server = ForeignRedis::start(&[]);
    server.cli(&["SET", "{events}:owner", "other\u{1b}[2J"]);
    let mut house = House::new(QUIET);
    house.on(&server.url());
    let said = refused(
        &mut house,
        &["\"events\"", "belongs to pipeline", "keys_prefix"],
    );
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert_eq!(server.cli(&["EXISTS", "events"]), "0", "no group was made");

    let mut house = House::new(QUIET);
    house
        .on(&server.url())
        .set("redis.keys_prefix=mine:")
        .start();
    house.wait_healthy();
}

#[test]
fn a_key_that_becomes_another_type_stops_the_stage_by_name_and_nothing_is_lost() {
    let server = ForeignRedis::start(&[]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    house.wait_healthy();
    add(&server, 0, 10);
    house.settled();
    let key = "{events}:counts";
    server.cli(&["RENAME", key, "kept"]);
    server.cli(&["SET", key, "x"]);
    add(&server, 10, 30);
    let status = wait_for("the status to name the key", || {
        status(&house).filter(|s| {
            let stages = s["stages"].as_array().cloned().unwrap_or_default();
            stages.iter().any(|stage| {
                stage["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains(key))
            })
        })
    });
    assert_eq!(status["healthy"], false, "{status}");
    assert_eq!(status["state"], "failed", "{status}");

    server.cli(&["RENAME", "kept", key]);
    house.wait_healthy();
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&30.into(), &true.into()),
        "{ledger}"
    );
    assert_eq!(house.json(&["aggregates"])["total_count"], 30);
}

#[test]
fn a_data_folder_that_cannot_be_used_is_refused_by_name() {
    // A file in its place: also root cannot make a folder of it.
    let mut house = House::new(QUIET);
    std::fs::write(house.data(), "a file").unwrap();
    let data = house.data().display().to_string();
    refused(&mut house, &[&data]);

    let mut house = House::new(QUIET);
    std::fs::create_dir(house.data()).unwrap();
    std::fs::set_permissions(
        house.data(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let data = house.data().display().to_string();
    refused(&mut house, &[&data, "chmod"]);
}

#[test]
fn a_second_daemon_is_refused_on_the_same_folder_and_on_the_same_socket() {
    let house = House::quiet();
    let mut second = House::new(QUIET);
    let socket = house.socket().display().to_string();
    second.arg("--socket").arg(&socket);
    refused(&mut second, &["already answers", &socket]);

    let mut third = House::new(QUIET);
    let data = house.data().display().to_string();
    third.arg("--data").arg(&data);
    let pid = house.pid().to_string();
    refused(&mut third, &["in use", &data, &pid]);
    assert!(
        status(&house).is_some_and(|s| s["healthy"] == true),
        "the first is unharmed"
    );
}

#[test]
fn without_a_redis_server_on_the_machine_it_says_what_to_install() {
    if !crate::full::may_mount("without_a_redis_server_on_the_machine_it_says_what_to_install") {
        return;
    }
    let mut house = House::new(QUIET);
    // In a mount namespace of its own there is no such program; a device is no program.
    house.wrap(&[
        "unshare",
        "-m",
        "sh",
        "-c",
        "for f in $(which -a redis-server valkey-server); do mount --bind /dev/null \"$(readlink -f $f)\"; done; exec \"$@\"",
        "sh",
    ]);
    refused(
        &mut house,
        &["no redis-server or valkey-server found", "apt-get install"],
    );
}

#[test]
fn a_server_that_hangs_is_told_and_costs_nothing() {
    let server = ForeignRedis::start(&[]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).set("redis.timeout=500ms").start();
    house.wait_healthy();
    add(&server, 0, 10);
    house.settled();
    signal(server.pid(), "STOP");
    let status = wait_for("the status to say that redis does not answer", || {
        status(&house).filter(|s| s["redis"]["state"] == "down" && s["healthy"] == false)
    });
    assert!(
        status["redis"]["error"]
            .as_str()
            .is_some_and(|e| e.contains("no answer")),
        "{status}"
    );
    signal(server.pid(), "CONT");
    house.wait_healthy();
    add(&server, 5, 30);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["deduplicated"]),
        (&30.into(), &5.into()),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
}

#[test]
fn the_managed_server_may_hang_as_well() {
    let mut house = House::new(QUIET);
    house.set("redis.timeout=500ms").start();
    house.wait_healthy();
    house.add_events(0, 500);
    signal(house.redis_pid(), "STOP");
    wait_for("the status to say that redis does not answer", || {
        status(&house).filter(|s| s["redis"]["state"] == "down" && s["healthy"] == false)
    });
    signal(house.redis_pid(), "CONT");
    house.wait_healthy();
    house.add_events(250, 1_000);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["deduplicated"]),
        (&1_000.into(), &250.into()),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
}

#[test]
fn a_server_of_the_user_that_dies_and_comes_back_is_waited_for() {
    let mut server = ForeignRedis::start(&[]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    house.wait_healthy();
    add(&server, 0, 20);
    server.die();
    wait_for("the status to say that redis is down", || {
        status(&house).filter(|s| s["redis"]["state"] == "down" && s["healthy"] == false)
    });
    server.come();
    house.wait_healthy();
    add(&server, 10, 40);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["deduplicated"]),
        (&40.into(), &10.into()),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
}

#[test]
fn a_server_that_evicts_or_forgets_is_used_with_a_warning() {
    let server = ForeignRedis::start(&["--maxmemory-policy", "allkeys-lru"]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    house.wait_healthy();
    assert!(
        house
            .whole_log()
            .contains("CONFIG SET maxmemory-policy noeviction"),
        "{}",
        house.log()
    );
    let alert = wait_for("the alert", || {
        let alerts = status(&house)?["alerts"].as_array()?.clone();
        alerts
            .into_iter()
            .find(|a| a.to_string().contains("eviction.policy"))
    });
    assert!(alert.to_string().contains("allkeys-lru"), "{alert}");
    assert!(
        alert.to_string().contains("noeviction"),
        "what to do: {alert}"
    );
    let said = text(&house.pipectl(&["status"]));
    assert!(said.contains("allkeys-lru"), "{said}");
}

/// Answers as a server of another age does.
fn old_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// One client of the old server, until it leaves.
fn answer(mut stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut words = Vec::new();
        let n = number(&mut reader)?;
        for _ in 0..n {
            let mut word = vec![0; number(&mut reader)? + 2];
            reader.read_exact(&mut word).ok()?;
            word.truncate(word.len() - 2);
            words.push(String::from_utf8_lossy(&word).to_uppercase());
        }
        let info = "redis_version:6.2.0\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\n";
        let reply = match words.first()?.as_str() {
            "INFO" => format!("${}\r\n{info}\r\n", info.len()),
            // Everything is known there but the last.
            "COMMAND" => {
                let n = words.len() - 2;
                format!("*{n}\r\n{}*-1\r\n", "*1\r\n+x\r\n".repeat(n - 1))
            }
            "PING" => "+PONG\r\n".to_owned(),
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        stream.write_all(reply.as_bytes()).ok()?;
    }
}

/// The number of a `*N` or `$N` line.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim().parse().ok()
}

#[test]
fn a_server_that_is_too_old_is_refused_with_what_to_install() {
    let mut house = House::new(QUIET);
    house.on(&format!("redis://127.0.0.1:{}/0", old_server()));
    refused(
        &mut house,
        &[
            "redis 6.2.0 lacks EVAL_RO",
            "Redis 7.0 or newer",
            "apt-get install",
        ],
    );
}
