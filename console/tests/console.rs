//! The console on a terminal, against a daemon that is well, hangs, lies, floods or dies: it draws, answers keys, writes
//! nothing but its own sequences, and gives the terminal back.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::session::Session;
use common::{Fake, Reply, hello, until};
use pipectl::clock::{self, Deadline};
use pipectl_shared::plan::{Action, Plan, Selection, State};
use pipectl_shared::rpc::Bytes;
use pipectl_shared::snapshot::{
    Aggregates, Alert, Audit, Bucket, Cause, Consumer, Daemon, Dead, Event, Field, Group, Host,
    Latency, Ledger, Page, Pending, Redis, Snapshot, Source, Stage, Status,
};
use pipectl_shared::untrusted::corpus;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A console that asks this daemon.
fn console(fake: &Fake) -> Command {
    let mut command = fake.command(&[]);
    command
        .env("TERM", "xterm-256color")
        .env("LANG", "C.UTF-8")
        .env_remove("LC_ALL")
        .env_remove("SSH_CONNECTION")
        .env("XDG_STATE_HOME", fake.dir.path())
        .env("XDG_CONFIG_HOME", fake.dir.path());
    command
}

/// Everything that a Snapshot can hold, once for each text, and everything that is text is this text.
fn snapshot(texts: &[String]) -> Snapshot {
    let first = texts.first().cloned().unwrap_or_default();
    let each = |make: &dyn Fn(&String) -> Stage| texts.iter().map(make).collect();
    Snapshot {
        seq: 1,
        ts_ms: 1_795_258_809_343,
        status: Status {
            pipeline: first.clone(),
            state: pipectl_shared::snapshot::State::Degraded,
            reason: Some(first.clone()),
            uptime_s: 61.0,
            redis: Redis {
                url: first.clone(),
                version: Some(first.clone()),
                state: first.clone(),
                mode: first.clone(),
                error: Some(first.clone()),
                ..Redis::default()
            },
            ledger: Some(Ledger::default()),
            chaos: serde_json::from_value(running(&first)).ok(),
            stages: each(&|t| Stage {
                name: t.clone(),
                delivery: t.clone(),
                stream: t.clone(),
                group: t.clone(),
                from: t.clone(),
                operators: vec![t.clone()],
                workers: 2,
                reason: Some(t.clone()),
                ..Stage::default()
            }),
            alerts: texts
                .iter()
                .map(|t| Alert {
                    name: t.clone(),
                    severity: t.clone(),
                    message: t.clone(),
                    hint: Some(t.clone()),
                    since: t.clone(),
                })
                .collect(),
            daemon: Daemon {
                version: first.clone(),
                instance: first.clone(),
                ..Daemon::default()
            },
            ..Status::default()
        },
        consumers: texts
            .iter()
            .map(|t| Consumer {
                name: t.clone(),
                stage: t.clone(),
                state: t.clone(),
                reason: Some(t.clone()),
                pending: 1,
                ..Consumer::default()
            })
            .collect(),
        groups: texts
            .iter()
            .map(|t| Group {
                stage: Some(t.clone()),
                stream: t.clone(),
                group: t.clone(),
                last_delivered: t.clone(),
                ..Group::default()
            })
            .collect(),
        latency: latency(texts),
        aggregates: Aggregates {
            total_count: 3,
            event_types: texts.iter().map(|t| (t.clone(), 1)).collect(),
            products: texts.iter().map(|t| (t.clone(), 2)).collect(),
            last_updated: Some(first.clone()),
            ..Aggregates::default()
        },
        aggregates_age_ms: Some(1),
        sources: texts
            .iter()
            .map(|t| Source {
                name: t.clone(),
                kind: t.clone(),
                state: t.clone(),
                reason: Some(t.clone()),
                ..Source::default()
            })
            .collect(),
        host: Host {
            name: first,
            ..Host::default()
        },
        events: (1..).zip(texts).map(|(seq, t)| event(seq, t)).collect(),
        ..Snapshot::default()
    }
}

fn event(seq: u64, text: &str) -> Event {
    Event {
        seq,
        ts_ms: 1_795_258_809_343 + seq,
        level: text.to_owned(),
        name: text.to_owned(),
        message: text.to_owned(),
        stage: Some(text.to_owned()),
    }
}

fn latency(texts: &[String]) -> Vec<Latency> {
    let measures = ["wait", "service", "total", "end_to_end"];
    texts
        .iter()
        .flat_map(|t| measures.map(|measure| (t, measure)))
        .map(|(t, measure)| Latency {
            stage: t.clone(),
            measure: measure.to_owned(),
            count: 10,
            p50: Some(1.0),
            max: Some(9.0),
            buckets: vec![Bucket {
                le_ms: 1.0,
                count: 10,
            }],
            ..Latency::default()
        })
        .collect()
}

fn pending(t: &str) -> Pending {
    Pending {
        stage: t.to_owned(),
        stream: t.to_owned(),
        group: t.to_owned(),
        id: t.to_owned(),
        consumer: t.to_owned(),
        entry: t.to_owned(),
        not_before: Some(t.to_owned()),
        last_error: Some(t.to_owned()),
        size_bytes: Some(1),
        ..Pending::default()
    }
}

fn dead(t: &str) -> Dead {
    Dead {
        id: t.to_owned(),
        stage: t.to_owned(),
        origin_stream: t.to_owned(),
        origin_id: t.to_owned(),
        cause: t.to_owned(),
        reason: t.to_owned(),
        error: t.to_owned(),
        redriven: Some(t.to_owned()),
        first_ms: u64::MAX,
        ..Dead::default()
    }
}

fn fields(texts: &[String]) -> Option<Vec<Field>> {
    let field = |t: &String| Field {
        name: Bytes::Text(t.clone()),
        value: Bytes::from(t.as_bytes()),
        size: t.len() as u64,
        offset: 0,
        truncated: false,
    };
    Some(texts.iter().map(field).collect())
}

fn page<T>(rows: Vec<T>) -> Page<T> {
    let total = Some(rows.len() as u64);
    Page {
        rows,
        next: None,
        total,
    }
}

fn plan(t: &str) -> Plan {
    Plan {
        id: t.to_owned(),
        action: Action::Claim,
        select: Selection::default(),
        to: Some(t.to_owned()),
        matched: 1,
        skipped: vec![pipectl_shared::plan::Skipped {
            id: t.to_owned(),
            reason: t.to_owned(),
        }],
        ids_hash: t.to_owned(),
        sample: vec![pipectl_shared::plan::PlanEntry {
            stage: t.to_owned(),
            id: t.to_owned(),
        }],
        bulk: false,
        state: State::Ready,
        progress: 0,
        result: None,
        can_undo: false,
        created: t.to_owned(),
        expires: t.to_owned(),
        by: t.to_owned(),
        reason: Some(t.to_owned()),
        command: t.to_owned(),
    }
}

/// What a run came to.
fn run(t: &str) -> Value {
    json!({
        "id": t, "experiment": t, "started_ms": 1, "ended_ms": null, "seed": 1, "verdict": null, "why": t, "by": t,
        "recover_ms": null, "availability": 0.5, "lost": 1, "duplicated": null,
    })
}

/// Where a run is.
fn running(t: &str) -> Value {
    json!({
        "id": t, "experiment": t, "phase": "during", "started_ms": 1, "injected_ms": 2, "reverted_ms": null,
        "until_ms": 3, "targets": [t], "by": t,
    })
}

/// Experiments of these names, one of them under way.
fn catalogue(texts: &[String]) -> Value {
    let t = texts[0].as_str();
    let row = |t: &String| {
        json!({
            "spec": {
                "name": t, "summary": t, "scope": "daemon", "risk": "medium", "role": "operator",
                "params": [{"name": t, "summary": t, "kind": "text", "default": t}],
            },
            "claim": t, "copy_only": true, "refused": t, "last": run(t),
        })
    };
    json!({
        "enabled": true, "rows": texts.iter().map(row).collect::<Vec<_>>(),
        "lever": {"pulled": true, "by": t, "reason": t, "since_ms": 1}, "running": running(t),
        "schedule": {"at_ms": 1, "name": t, "seed": 1},
    })
}

/// How far a run is.
fn progress(texts: &[String]) -> Value {
    let t = texts[0].as_str();
    let mark = |(seq, t): (u64, &String)| json!({"seq": seq, "t_ms": seq, "kind": t, "text": t});
    json!({
        "running": running(t), "seed": 1, "verdict": null, "why": t, "run": null,
        "marks": (1..).zip(texts).map(mark).collect::<Vec<_>>(),
        "slots": [{
            "t_ms": 1_000, "phase": "during", "in_per_s": 1.0, "out_per_s": null, "lag": 3, "p99_ms": 1e300,
            "fresh_ms": null, "good": 7, "probes": 0,
        }],
    })
}

/// A daemon all whose texts are these.
fn daemon(texts: Vec<String>) -> Fake {
    let mut greeting = hello();
    greeting["params"]["pipeline"] = json!(texts[0]);
    greeting["params"]["identity"]["user"] = json!(texts[0]);
    Fake::greeting(format!("{greeting}\n").into_bytes(), move |method, _| {
        let t = texts[0].as_str();
        let value = |value: Value| Reply::Ok(value);
        match method {
            "stats.watch" => Reply::Told(vec![("stats", json!(snapshot(&texts)))], Value::Null),
            "pending.page" => value(json!(page(texts.iter().map(|t| pending(t)).collect()))),
            "dead.page" => value(json!(page(texts.iter().map(|t| dead(t)).collect()))),
            "dead.causes" => value(json!(page(
                texts
                    .iter()
                    .map(|t| Cause {
                        cause: t.clone(),
                        stage: t.clone(),
                        reason: t.clone(),
                        example: t.clone(),
                        ..Cause::default()
                    })
                    .collect()
            ))),
            "audit.page" => value(json!(page(
                texts
                    .iter()
                    .map(|t| Audit {
                        ts: t.clone(),
                        user: t.clone(),
                        action: t.clone(),
                        target: t.clone(),
                        reason: Some(t.clone()),
                        result: t.clone(),
                        hash: t.clone(),
                        ..Audit::default()
                    })
                    .collect()
            ))),
            "pending.show" => value(json!(Pending {
                fields: fields(&texts),
                ..pending(t)
            })),
            "dead.show" => value(json!(Dead {
                fields: fields(&texts),
                ..dead(t)
            })),
            "latency.get" => value(json!(page(latency(&texts)))),
            "plan.create" => value(json!(plan(t))),
            "chaos.list" => value(catalogue(&texts)),
            "chaos.history" => value(json!({"rows": texts.iter().map(|t| run(t)).collect::<Vec<_>>(), "next": null})),
            "chaos.get" => value(progress(&texts)),
            "events.watch" => value(Value::Null),
            _ => Reply::Raw(
                format!(
                    "{}\n",
                    json!({"jsonrpc": "2.0", "id": 3, "error": {"code": -1, "message": t, "data": {"hint": t}}})
                )
                .into_bytes(),
            ),
        }
    })
}

fn well() -> Fake {
    daemon(vec!["shop".to_owned()])
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    let fake = well();
    type End = fn(&Session);
    let table: [(&str, End); 6] = [
        ("q", |session| session.press("q")),
        ("Ctrl-C", |session| session.press("\u{3}")),
        ("SIGTERM", |session| session.signal(Signal::TERM)),
        ("SIGHUP", |session| session.signal(Signal::HUP)),
        ("SIGINT", |session| session.signal(Signal::INT)),
        ("SIGINT twice", |session| {
            session.signal(Signal::INT);
            session.signal(Signal::INT);
        }),
    ];
    for (desc, end) in table {
        let mut session = Session::open(console(&fake), 80, 24);
        session.sees("LIVE");
        assert!(session.with(|strict| strict.is_alternate() && !strict.is_cursor_shown()));
        end(&session);
        let status = session.ended(common::PATIENCE);
        assert_eq!(status.code(), Some(0), "{desc}");
        session.is_as_before();
    }
}

#[test]
fn a_terminal_that_does_not_read_holds_nobody() {
    let fake = well();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut session = Session::open(console(&fake), 160, 45);
        session.sees("LIVE");
        session.reads(false);
        // Whole frames, until one no longer fits and the console waits in the middle of it.
        until("it waits for the terminal", || {
            session.press("\u{c}");
            session.is_held()
        });
        session.signal(signal);
        session.ended(Duration::from_secs(5));
        session.reads(true);
        session.is_given_back();
    }
}

#[test]
fn a_terminal_that_is_gone_ends_it() {
    let fake = well();
    let mut session = Session::open(console(&fake), 80, 24);
    session.sees("LIVE");
    session.hang_up();
    session.ended(common::PATIENCE);
}

#[test]
fn ten_megabytes_pasted_do_nothing_and_freeze_nothing() {
    let fake = well();
    let mut session = Session::open(console(&fake), 80, 24);
    session.sees("LIVE");
    session.walk("2p");
    session.sees("[Pending]");
    let mut line = b"xc1\r\t\t\ry :pause\r\x1b[200~\x1b[?1\x1b[<2\x1b[Aqq\x03\xff\xc3".to_vec();
    line.extend(corpus::hostile().remove(2).bytes);
    let mut paste = Vec::new();
    while paste.len() < 10 * 1024 * 1024 {
        paste.extend_from_slice(&line);
    }
    session.press(&paste);
    session.sees("taken for a paste and ignored");
    session.answers();
    for method in ["plan.create", "plan.run", "command.run"] {
        assert_eq!(fake.asked(method), Vec::<Value>::new(), "{method}");
    }
    session.press("q");
    session.ended(common::PATIENCE);
    session.is_as_before();
}

#[test]
fn a_sequence_without_an_end_swallows_no_key() {
    let fake = well();
    let session = Session::open(console(&fake), 80, 24);
    session.sees("LIVE");
    for begun in [
        "\u{1b}[?1;2",
        "\u{1b}[<",
        "\u{1b}[200~",
        "\u{1b}[",
        "\u{1b}O",
        "\u{1b}]0;",
        "\u{1b}P",
    ] {
        session.press(begun);
        clock::pause(Duration::from_millis(60));
        session.answers();
    }
    session.is_ours();
}

/// Every screen with everything that can be opened on it, full of hostile text.
fn no_hostile_text_writes_a_sequence_of_its_own(columns: u16, rows: u16, locale: &str) {
    // The longest ones would only test the patience of a debug build.
    let texts: Vec<String> = corpus::hostile()
        .into_iter()
        .filter(|it| it.bytes.len() < 2_048)
        .map(|it| String::from_utf8_lossy(&it.bytes).into_owned())
        .collect();
    let fake = daemon(texts);
    let mut command = console(&fake);
    command.env("LANG", locale);
    let mut session = Session::open(command, columns, rows);
    session.sees("LIVE");
    // Ten frames a second: each of these is drawn.
    let press = |keys: &str| {
        session.press(keys);
        clock::pause(Duration::from_millis(110));
    };
    let mut seen = Vec::new();
    for group in ["1", "2", "3", "4", "5", "6"] {
        press(group);
        while let Some(name) = shown(&session).filter(|name| !seen.contains(name)) {
            seen.push(name.clone());
            // What is there, its menu and the first item of it, the palette, the journal, help.
            for keys in ["\r", "h", "\t", "\u{1b}", "x", "\r", "\u{1b}", "\u{1b}"] {
                press(keys);
            }
            for keys in [":", "@", "?", "x"] {
                press(keys);
                press("\u{1b}");
            }
            press("y");
            session.is_ours();
            // Opening may have led to another screen, of this group or another.
            press(group);
            for _ in 0..8 {
                if shown(&session).as_ref() == Some(&name) {
                    break;
                }
                press("\t");
            }
            assert_eq!(shown(&session).as_ref(), Some(&name), "not back");
            press("\t");
        }
    }
    assert!(seen.len() > 2, "{seen:?}");
    assert!(session.with(|strict| !strict.copies().is_empty()));
    session.press("\u{3}");
    session.ended(common::PATIENCE);
    session.is_as_before();
}

/// The screen that the bar says is shown.
fn shown(session: &Session) -> Option<String> {
    let text = session.text();
    let bar = text.lines().nth(1)?;
    let (_, rest) = bar.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[test]
fn no_hostile_text_writes_a_sequence_of_its_own_on_80_columns() {
    no_hostile_text_writes_a_sequence_of_its_own(80, 24, "C.UTF-8");
}

#[test]
fn no_hostile_text_writes_a_sequence_of_its_own_on_160_columns() {
    no_hostile_text_writes_a_sequence_of_its_own(160, 45, "C.UTF-8");
}

#[test]
fn no_hostile_text_writes_a_sequence_of_its_own_in_seven_bits() {
    no_hostile_text_writes_a_sequence_of_its_own(40, 12, "C");
}

#[test]
fn a_daemon_that_floods_is_no_reason_to_miss_a_key() {
    let mut flood = Vec::new();
    for seq in 0..200 {
        let params = json!(event(seq, "again and again"));
        let note = json!({"jsonrpc": "2.0", "method": "event", "params": params});
        flood.extend_from_slice(format!("{note}\n").as_bytes());
        if seq % 10 == 0 {
            let params = json!(snapshot(&["shop".to_owned()]));
            let note = json!({"jsonrpc": "2.0", "method": "stats", "params": params});
            flood.extend_from_slice(format!("{note}\n").as_bytes());
        }
    }
    let fake = Fake::new(move |method, _| match method {
        "stats.watch" => Reply::Flood(flood.clone()),
        _ => Reply::Ok(Value::Null),
    });
    let mut session = Session::open(console(&fake), 80, 24);
    session.sees("LIVE");
    for _ in 0..5 {
        session.answers();
    }
    session.press("q");
    session.ended(common::PATIENCE);
    session.is_as_before();
}

#[test]
fn a_daemon_that_lies_is_told_of_and_every_key_goes_on() {
    let long = vec![b'x'; 2 * 1024 * 1024];
    let mut other = hello();
    other["params"]["protocol"] = json!(99);
    let table: [(&str, Fake, &str); 7] = [
        (
            "answers of the wrong kind",
            Fake::new(|_, _| Reply::Ok(json!({"rows": 7, "id": []}))),
            "waiting for the first figures",
        ),
        (
            "no JSON",
            Fake::new(|_, _| Reply::Raw(b"\x1b[2J\x00\xff nonsense\n".to_vec())),
            "NOT CONNECTED",
        ),
        (
            "a line without an end",
            Fake::new(move |_, _| Reply::Raw(long.clone())),
            "NOT CONNECTED",
        ),
        (
            "closes after each question",
            Fake::new(|_, _| Reply::RawThenClose(Vec::new())),
            "NOT CONNECTED",
        ),
        (
            "closes at once",
            Fake::greeting(b"\n".to_vec(), |_, _| Reply::Silence),
            "NOT CONNECTED",
        ),
        (
            "speaks another protocol",
            Fake::greeting(format!("{other}\n").into_bytes(), |_, _| Reply::Silence),
            "refused",
        ),
        (
            "says nothing",
            Fake::greeting(Vec::new(), |_, _| Reply::Silence),
            "connecting",
        ),
    ];
    for (desc, fake, seen) in table {
        let mut session = Session::open(console(&fake), 80, 24);
        session.sees(seen);
        for group in ["2", "4", "5", "1"] {
            session.press(group);
            session.answers();
        }
        assert_eq!(fake.asked("plan.run").len(), 0, "{desc}");
        session.press("q");
        session.ended(common::PATIENCE);
        session.is_as_before();
    }
}

#[test]
fn a_daemon_that_falls_silent_is_stale_in_seconds_and_reconnected_to() {
    let fake = well();
    let session = Session::open(console(&fake), 80, 24);
    session.sees("LIVE");
    // It sends one Snapshot and no more.
    let deadline = Deadline::after(Duration::from_secs(15));
    session.sees("STALE");
    assert!(!deadline.is_over(), "after three seconds without a word");
    session.answers();
    until("it asks anew", || fake.asked("stats.watch").len() > 1);
    session.sees("LIVE");
    session.is_ours();
}

#[test]
fn any_size_is_drawn_and_the_way_back_is_whole() {
    let fake = well();
    let session = Session::open(console(&fake), 0, 0);
    clock::pause(Duration::from_millis(300));
    for (columns, rows) in [
        (80, 24),
        (1, 1),
        (80, 24),
        (0, 0),
        (2, 300),
        (500, 2),
        (40, 12),
        (500, 200),
        (1, 1),
        (80, 24),
    ] {
        session.resize(columns, rows);
        if columns >= 40 && rows >= 12 {
            until("it is drawn anew", || session.text().contains("shop"));
            session.answers();
        } else {
            clock::pause(Duration::from_millis(150));
        }
    }
    session.sees("LIVE");
    session.is_ours();
}
