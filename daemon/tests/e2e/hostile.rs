//! Hostile input: whatever a foreign client puts into Redis or writes to the control socket, nothing of it moves a cursor,
//! nothing of it is lost, and nobody else is disturbed.

use std::path::Path;

use base64::Engine as _;
use pipectl_shared::untrusted::corpus::hostile;
use serde_json::{Value, json};

use crate::control::Control;
use crate::foreign_redis::ForeignRedis;
use crate::house::{House, QUIET, text, wait_for};

/// Characters that may move the cursor, hide or turn text around. A joiner or a variation selector inside an emoji is
/// part of what people write.
fn is_foreign(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Insists that a person may look at these bytes in a terminal.
#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{what}: no UTF-8: {e}"));
    if let Some((at, c)) = text.char_indices().find(|(_, c)| is_foreign(*c)) {
        let around: String = text[..at].chars().rev().take(80).collect();
        let around: String = around.chars().rev().collect();
        panic!("{what}: {c:?} after {around:?}");
    }
}

/// A connection of a foreign client.
fn client(house: &House) -> redis::Connection {
    client_at(&house.redis_socket())
}

fn client_at(socket: &Path) -> redis::Connection {
    redis::Client::open(format!("redis+unix://{}", socket.display()))
        .and_then(|client| client.get_connection())
        .expect("connect to redis")
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn pairs(of: &[(&str, &[u8])]) -> Pairs {
    of.iter()
        .map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec()))
        .collect()
}

#[track_caller]
fn xadd(client: &mut redis::Connection, fields: &Pairs) -> String {
    let mut command = redis::cmd("XADD");
    command.arg("events").arg("*");
    for (name, value) in fields {
        command.arg(&name[..]).arg(&value[..]);
    }
    command.query(client).expect("XADD")
}

/// What a document shows of bytes.
fn bytes_of(shown: &Value) -> Vec<u8> {
    match shown {
        Value::String(text) => text.clone().into_bytes(),
        other => base64::engine::general_purpose::STANDARD
            .decode(
                other["b64"]
                    .as_str()
                    .unwrap_or_else(|| panic!("neither text nor b64: {other}")),
            )
            .expect("base64"),
    }
}

/// Entries with this text in every place where a foreign client can put one. The first two count, the others die.
fn entries(text: &[u8], n: usize) -> Vec<Pairs> {
    let id = [text, b" ", n.to_string().as_bytes()].concat();
    let whole: Pairs = pairs(&[
        ("event_id", &id),
        ("user_id", text),
        ("event_type", text),
        ("product", text),
        ("session_id", text),
        ("ts", b"1640995200000"),
    ]);
    let with = |more: &[(&[u8], &[u8])], without: &str, letter: &[u8]| {
        let mut fields: Pairs = whole
            .iter()
            .filter(|(name, _)| name != without.as_bytes())
            .cloned()
            .collect();
        fields[0].1.extend_from_slice(letter);
        fields.extend(
            more.iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec())),
        );
        fields
    };
    vec![
        with(&[], "", b"a"),
        // Names, an empty one, one twice, and our own from outside.
        with(
            &[
                (text, text),
                (b"", text),
                (b"twice", text),
                (b"twice", b"2"),
                (b"_origin", text),
                (b"_t", text),
                (b"_redrive", text),
                (b"traceparent", text),
            ],
            "",
            b"b",
        ),
        with(&[(b"ts", text)], "ts", b"c"),
        with(&[(text, text)], "user_id", b"d"),
        with(&[(b"parse_error", text), (b"raw", text)], "", b"e"),
    ]
}

/// Every way to look, in every format; and actions on names that are hostile themselves. All output.
fn look_everywhere(house: &House, dead: &[String], pending: &[String], names: &[String]) {
    let mut looks: Vec<Vec<&str>> = [
        "status",
        "stages",
        "groups",
        "consumers ls",
        "pending ls",
        "dead ls",
        "dead causes",
        "plan ls",
        "aggregates",
        "ledger",
        "latency",
        "audit",
        "tap -n 3 --timeout 5s",
        "config path",
    ]
    .iter()
    .map(|line| line.split(' ').collect())
    .collect();
    looks.extend(dead.iter().map(|id| vec!["dead", "show", id]));
    looks.extend(pending.iter().map(|id| vec!["pending", "show", id]));
    for name in names {
        looks.extend([
            vec!["aggregates", "--product", name],
            vec!["aggregates", "--session", name],
            vec!["pending", "show", name],
            vec!["pending", "ls", "--consumer", name],
            vec!["dead", "ls", "--cause", name],
            vec!["dead", "ls", "--match", name],
            vec![
                "consumers",
                "retire",
                name,
                "--stage",
                "enrich",
                "--dry-run",
            ],
            vec!["pause", name],
            vec!["plan", "show", name],
            vec!["ingest", name],
            vec![name],
        ]);
    }
    for look in &looks {
        for format in ["text", "csv", "md", "json", "jsonl"] {
            let mut args = look.clone();
            args.extend(["-o", format]);
            let out = house.pipectl(&args);
            let what = format!("pipectl {args:?}");
            assert_clean(&format!("stdout of {what}"), &out.stdout);
            assert_clean(&format!("stderr of {what}"), &out.stderr);
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(
                !String::from_utf8_lossy(&out.stderr).contains("panicked"),
                "{what}: {}",
                text(&out)
            );
            match format {
                "json" if !said.is_empty() && look[0] != "tap" => {
                    serde_json::from_str::<Value>(&said)
                        .unwrap_or_else(|e| panic!("{what}: {e}: {said}"));
                }
                "json" | "jsonl" => {
                    for line in said.lines().filter(|_| format == "jsonl") {
                        serde_json::from_str::<Value>(line)
                            .unwrap_or_else(|e| panic!("{what}: {e}: {line}"));
                    }
                }
                _ => {}
            }
        }
    }
}

/// What the daemon wrote for people: its stderr, its log, its audit file.
fn read_logs(house: &House) {
    assert_clean("stderr of the daemon", house.whole_log().as_bytes());
    for entry in std::fs::read_dir(house.data().join("log"))
        .expect("a log folder")
        .flatten()
    {
        let bytes = std::fs::read(entry.path()).expect("read a log");
        assert_clean(&entry.path().display().to_string(), &bytes);
    }
    let audit = std::fs::read(house.data().join("audit.jsonl")).unwrap_or_default();
    assert_clean("the audit file", &audit);
}

/// Ids and fields of all dead letters that count.
fn dead_letters(house: &House) -> Vec<Value> {
    let rows = house.json(&["dead", "ls", "--limit", "1000"]);
    rows["rows"].as_array().expect("rows").clone()
}

#[test]
fn hostile_text_moves_no_cursor_and_is_kept_to_the_byte() {
    let mut house = House::new(QUIET);
    house.set("stage.enrich.claim_after=10m").start();
    house.wait_healthy();
    let mut foreign = client(&house);
    let mut sent: Vec<(String, Pairs)> = Vec::new();
    let corpus = hostile();
    for (n, one) in corpus.iter().enumerate() {
        for fields in entries(&one.bytes, n) {
            sent.push((xadd(&mut foreign, &fields), fields));
        }
    }
    let ledger = house.settled();
    assert_eq!(
        (&ledger["accepted"], &ledger["balanced"]),
        (&json!(sent.len()), &json!(true)),
        "{ledger}"
    );
    assert_eq!(
        (&ledger["lost"], &ledger["unaccounted"]),
        (&json!(0), &json!(0)),
        "{ledger}"
    );
    let dead = dead_letters(&house);
    assert_eq!(ledger["dead"], dead.len(), "{ledger}");
    assert!(
        dead.len() >= 2 * corpus.len(),
        "{} of {}",
        dead.len(),
        sent.len()
    );

    // Kept to the byte: as they died, and as they die again after a redrive.
    for round in ["died", "died again"] {
        let rows = dead_letters(&house);
        let open: Vec<_> = rows
            .iter()
            .filter(|row| row["redriven"].is_null())
            .collect();
        assert_eq!(open.len(), dead.len(), "{round}");
        for row in open {
            let id = row["id"].as_str().unwrap();
            let origin = row["origin_id"].as_str().unwrap();
            let shown = house.json(&["dead", "show", id]);
            let shown = shown["fields"].as_array().expect("fields");
            let Some((_, fields)) = sent.iter().find(|(id, fields)| {
                // A redriven one has another origin: then by what it says.
                id == origin
                    || (round == "died again"
                        && fields.len() + 1 >= shown.len()
                        && same(fields, shown))
            }) else {
                panic!("{round}: {row} is none of ours");
            };
            assert!(same(fields, shown), "{round}: {row}\n{shown:?}");
        }
        if round == "died" {
            let out = house.pipectl(&["dead", "redrive", "--all", "--yes", "-o", "json"]);
            assert!(out.status.success(), "{}", text(&out));
            house.settled();
        }
    }

    // Consumers and groups of others with such names, and pending entries that they hold.
    house.json(&["pause", "enrich"]);
    let names: Vec<_> = corpus
        .iter()
        .filter(|one| one.bytes.len() < 10_001)
        .collect();
    for (n, one) in names.iter().enumerate() {
        for fields in entries(&one.bytes, 1_000 + n) {
            xadd(&mut foreign, &fields);
        }
        let read: redis::Value = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg("event_group")
            .arg(&one.bytes[..])
            .arg("COUNT")
            .arg(1)
            .arg("STREAMS")
            .arg("events")
            .arg(">")
            .query(&mut foreign)
            .expect("XREADGROUP");
        assert_ne!(read, redis::Value::Nil);
        redis::cmd("XGROUP")
            .arg("CREATE")
            .arg("events")
            .arg(&one.bytes[..])
            .arg("$")
            .query::<()>(&mut foreign)
            .expect("XGROUP");
    }
    let pending = house.json(&["pending", "ls", "--limit", "1000"]);
    let pending: Vec<String> = pending["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(pending.len() >= names.len(), "{pending:?}");
    // A counter that is none, under a hostile name: the reason of a stage that stands still.
    let dead: Vec<String> = dead
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .step_by(7)
        .collect();
    let arguments: Vec<String> = corpus
        .iter()
        .filter(|one| one.bytes.len() < 10_001 && !one.bytes.contains(&0))
        .filter_map(|one| String::from_utf8(one.bytes.clone()).ok())
        .filter(|name| !name.starts_with('-'))
        .step_by(4)
        .collect();
    look_everywhere(&house, &dead, &pending[..8], &arguments);
    read_logs(&house);
}

/// Whether these are the fields, but for what a redrive adds; long values by their beginning and their size.
fn same(sent: &Pairs, shown: &[Value]) -> bool {
    let sent: Vec<_> = sent
        .iter()
        .filter(|(name, _)| name != b"_redrive")
        .collect();
    let shown: Vec<_> = shown
        .iter()
        .filter(|field| bytes_of(&field["name"]) != b"_redrive")
        .collect();
    // Together at most 128 KiB are shown.
    let n = shown.len();
    n > 0
        && n <= sent.len()
        && sent.iter().zip(&shown).all(|((name, value), field)| {
            let part = bytes_of(&field["value"]);
            bytes_of(&field["name"]) == name[..part_of(&field["name"], name)]
                && field["size"] == value.len()
                && value.starts_with(&part)
                && (part.len() == value.len() || field["truncated"] == true)
        })
}

/// Length of the name as shown: very long ones are cut.
fn part_of(shown: &Value, name: &[u8]) -> usize {
    bytes_of(shown).len().min(name.len())
}

#[test]
fn a_counter_that_is_no_number_is_named_harmlessly_and_nothing_is_lost() {
    let house = House::quiet();
    let mut foreign = client(&house);
    let name = b"product:\x1b[2J\xe2\x80\xaeevil:count";
    redis::cmd("HSET")
        .arg("{events}:counts")
        .arg(&name[..])
        .arg("three")
        .query::<()>(&mut foreign)
        .unwrap();
    let fields = pairs(&[
        ("event_id", b"1"),
        ("user_id", b"u"),
        ("event_type", b"click"),
        ("product", b"\x1b[2J\xe2\x80\xaeevil"),
        ("session_id", b"s"),
        ("ts", b"1640995200000"),
    ]);
    xadd(&mut foreign, &fields);
    wait_for("the stage to name the counter", || {
        let out = house.pipectl(&["status"]);
        assert_clean("pipectl status", &out.stdout);
        String::from_utf8_lossy(&out.stdout)
            .contains("is no integer")
            .then_some(())
    });
    read_logs(&house);
    redis::cmd("HDEL")
        .arg("{events}:counts")
        .arg(&name[..])
        .query::<()>(&mut foreign)
        .unwrap();
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&json!(1), &json!(true)),
        "{ledger}"
    );
}

/// Resident memory of a process in bytes.
fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .expect("a number")
        * 1024
}

/// A daemon on a server that writes nothing to a disk: hundreds of megabytes are about our memory, not about its disk.
fn with_room_for_giants() -> (ForeignRedis, House, redis::Connection) {
    let server = ForeignRedis::start(&["--appendonly", "no", "--maxmemory", "0"]);
    let mut house = House::new(QUIET);
    house.on(&server.url()).start();
    house.wait_healthy();
    let foreign = client_at(&server.socket());
    (server, house, foreign)
}

#[test]
fn giants_die_alone_in_bounded_memory() {
    let (_server, house, mut foreign) = with_room_for_giants();
    let entry = |id: &[u8], more: &Pairs| {
        let mut fields = pairs(&[
            ("event_id", id),
            ("user_id", b"u"),
            ("event_type", b"click"),
            ("ts", b"1640995200000"),
        ]);
        fields.extend(more.iter().cloned());
        fields
    };
    let before = rss(house.pid());
    xadd(&mut foreign, &entry(b"before", &Vec::new()));
    // At the limit of an entry, beyond it, far beyond it.
    xadd(
        &mut foreign,
        &entry(b"1000k", &vec![(b"blob".to_vec(), vec![0x1b; 1_000 << 10])]),
    );
    xadd(
        &mut foreign,
        &entry(b"1m", &vec![(b"blob".to_vec(), vec![0x1b; 1 << 20])]),
    );
    xadd(
        &mut foreign,
        &entry(b"64m", &vec![(b"blob".to_vec(), vec![0x1b; 64 << 20])]),
    );
    let many = |n: usize| {
        (0..n)
            .map(|i| (format!("field-{i}").into_bytes(), b"\x1b".to_vec()))
            .collect::<Pairs>()
    };
    xadd(&mut foreign, &entry(b"1000f", &many(1_000)));
    xadd(&mut foreign, &entry(b"3500f", &many(3_500)));
    xadd(&mut foreign, &entry(b"10000f", &many(10_000)));
    xadd(&mut foreign, &entry(b"after", &Vec::new()));
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["dead"]),
        (&json!(4), &json!(4)),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
    let mut reasons: Vec<String> = dead_letters(&house)
        .iter()
        .map(|row| row["reason"].as_str().unwrap().to_owned())
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "too_large",
            "too_large",
            "too_many_fields",
            "too_many_fields"
        ]
    );
    let grown = rss(house.pid()) - before;
    assert!(
        grown < 512 << 20,
        "grew by {} MiB for an entry of 64",
        grown >> 20
    );
    for row in dead_letters(&house) {
        let shown = house.json(&["dead", "show", row["id"].as_str().unwrap()]);
        assert_eq!(bytes_of(&shown["fields"][1]["value"]), b"u", "{row}");
    }
    // What can go back does, and dies again; what cannot stays, with the reason.
    let out = house.pipectl(&["dead", "redrive", "--all", "--yes", "-o", "json"]);
    assert_eq!(out.status.code(), Some(5), "{}", text(&out));
    let again: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(
        (&again["result"]["applied"], &again["result"]["failed"]),
        (&json!(2), &json!(2)),
        "{again}"
    );
    assert!(again.to_string().contains("too many fields"), "{again}");
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["dead"]),
        (&json!(4), &json!(4)),
        "{ledger}"
    );
    assert_eq!(ledger["balanced"], true, "{ledger}");
}

#[test]
fn a_batch_of_giants_is_worked_one_by_one_in_bounded_memory() {
    let (_server, house, mut foreign) = with_room_for_giants();
    house.json(&["pause", "enrich"]);
    let before = rss(house.pid());
    let blob = vec![b'x'; 5 << 20];
    for n in 0..60_u32 {
        let id = n.to_string();
        xadd(
            &mut foreign,
            &pairs(&[
                ("event_id", id.as_bytes()),
                ("user_id", b"u"),
                ("event_type", b"click"),
                ("ts", b"1"),
                ("blob", &blob),
            ]),
        );
    }
    house.json(&["resume", "enrich"]);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["dead"], &ledger["balanced"]),
        (&json!(60), &json!(true)),
        "{ledger}"
    );
    // Together they are more than a batch may bring.
    assert!(
        house.whole_log().contains("a reply of over 256 MiB"),
        "{}",
        house.log()
    );
    let grown = rss(house.pid()) - before;
    assert!(grown < 768 << 20, "grew by {} MiB", grown >> 20);
    wait_for("the trouble to be over", || {
        let stages = house.json(&["status"])["stages"].as_array()?.clone();
        stages
            .iter()
            .all(|stage| stage["state"] == "running")
            .then_some(())
    });
}

#[test]
fn nonsense_on_the_control_socket_is_answered_or_cut_and_disturbs_nobody() {
    let house = House::quiet();
    let socket = house.socket();
    let mut other = Control::open(&socket);
    let code = |answer: &Value| answer["error"]["code"].as_i64();
    let lines: [(&str, Vec<u8>, i64); 9] = [
        ("no JSON", b"hello\n".to_vec(), -32700),
        ("binary", [vec![0x00, 0xff, 0xfe, 0x1b, 0x9b], b"\n".to_vec()].concat(), -32700),
        ("a number", b"42\n".to_vec(), -32600),
        ("a list", b"[]\n".to_vec(), -32600),
        ("no method", b"{\"jsonrpc\":\"2.0\",\"id\":1}\n".to_vec(), -32600),
        ("an unknown method", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\u001b[2J\"}\n".to_vec(), -32601),
        ("wrong parameters", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pending.page\",\"params\":{\"limit\":\"many\"}}\n".to_vec(), -32602),
        ("a list a thousand deep", [vec![b'['; 1_000], vec![b']'; 1_000], b"\n".to_vec()].concat(), -32700),
        ("an object half a mebibyte deep", [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000), b"\n".to_vec()].concat(), -32700),
    ];
    let mut control = Control::open(&socket);
    for (what, line, wanted) in lines {
        assert!(control.send(&line), "{what}");
        let answer = control.line();
        assert_eq!(code(&answer), Some(wanted), "{what}: {answer}");
        assert_clean(
            what,
            answer["error"]["message"].as_str().unwrap().as_bytes(),
        );
    }
    control.call("status.get", json!({}));

    // A line that never ends is cut at its limit.
    let mut endless = Control::open(&socket);
    let taken = endless.send(&vec![b'x'; 2 << 20]);
    let answer = endless.line();
    assert!(
        code(&answer) == Some(-32014) || (answer.is_null() && !taken),
        "{answer}"
    );
    assert!(endless.line().is_null(), "the connection is closed");

    // Half a request and then silence, a request and then gone, and random bytes.
    let mut half = Control::open(&socket);
    half.send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"met");
    Control::open_unread(&socket)
        .send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status.get\"}\n");
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..50 {
        let bytes: Vec<u8> = (0..4_096)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                noise.to_le_bytes()[7]
            })
            .collect();
        Control::open_unread(&socket).send(&bytes);
    }
    other.call("status.get", json!({}));
    half.send(b"hod\":\"status.get\"}\n");
    assert!(
        half.line()["result"].is_object(),
        "the other half came late"
    );
    house.add_events(0, 100);
    assert_eq!(house.settled()["applied"], 100);
    read_logs(&house);
}

#[test]
fn a_client_that_never_reads_costs_nobody_anything() {
    let house = House::quiet();
    let before = rss(house.pid());
    let mut deaf: Vec<Control> = (0..10)
        .map(|_| Control::open_unread(&house.socket()))
        .collect();
    for control in &mut deaf {
        control.send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats.watch\",\"params\":{\"interval_ms\":1000,\"preset\":\"full\"}}\n");
        control.send(b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tap.watch\",\"params\":{}}\n");
        // More answers than its socket holds; it is read no further then, so what it still sends may wait for ever.
        let asks = b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"status.get\"}\n".repeat(50);
        control.send(&asks);
    }
    let mut reader = Control::open(&house.socket());
    reader.call(
        "stats.watch",
        json!({"interval_ms": 1000, "preset": "full"}),
    );
    house.add_events(0, 20_000);
    let ledger = house.settled();
    assert_eq!(
        (&ledger["applied"], &ledger["balanced"]),
        (&json!(20_000), &json!(true)),
        "{ledger}"
    );
    // Others get every tick.
    let first = reader.wait_note("stats", |s| s["seq"].as_u64());
    reader.wait_note("stats", |s| {
        s["seq"].as_u64().filter(|seq| *seq >= first + 5)
    });
    let grown = rss(house.pid()) - before;
    assert!(grown < 256 << 20, "grew by {} MiB", grown >> 20);
    let mut house = house;
    assert_eq!(
        house.terminate(),
        Some(0),
        "a drain does not wait for them: {}",
        house.log()
    );
    drop(deaf);
}

#[test]
fn clients_beyond_the_limit_are_refused_politely_and_come_in_when_others_leave() {
    let mut house = House::new(QUIET);
    house.set("control.max_clients=5").start();
    house.wait_healthy();
    // Whoever waited for health may still be leaving.
    let mut inside = wait_for("five clients to be in", || {
        let mut all: Vec<_> = (0..5)
            .map(|_| Control::open_unread(&house.socket()))
            .collect();
        all.iter_mut()
            .all(|control| control.line()["method"] == "hello")
            .then_some(all)
    });
    for _ in 0..100 {
        let mut refused = Control::open_unread(&house.socket());
        let said = refused.line();
        assert_eq!(said["error"]["code"], -32013, "{said}");
        assert!(
            said["error"]["data"]["hint"]
                .as_str()
                .is_some_and(|h| h.contains("max_clients")),
            "{said}"
        );
        assert!(refused.line().is_null(), "and closed");
    }
    let out = house.pipectl(&["status"]);
    assert!(
        !out.status.success() && text(&out).contains("max_clients"),
        "{}",
        text(&out)
    );
    for control in &mut inside {
        control.call("status.get", json!({}));
    }
    drop(inside);
    wait_for("a place to be free", || {
        house.pipectl(&["status"]).status.success().then_some(())
    });
}

/// `pipectl ARGS` as a user without a name, with this group as its only one.
fn pipectl_as(house: &House, gid: u32, args: &[&str]) -> std::process::Output {
    std::process::Command::new("setpriv")
        .args(["--reuid", "54321", "--regid", &gid.to_string()])
        .arg("--clear-groups")
        .arg(crate::house::pipectl_bin())
        .arg("--socket")
        .arg(house.socket())
        .args(args)
        .output()
        .expect("setpriv(1) is missing: apt-get install util-linux")
}

fn open_to(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
        .expect("change a mode");
}

#[test]
fn strangers_are_kept_out() {
    if !crate::full::may_mount("strangers_are_kept_out") {
        return;
    }
    let house = House::quiet();
    let out = pipectl_as(&house, 54_321, &["status"]);
    assert_eq!(
        out.status.code(),
        Some(4),
        "the folder keeps them out: {}",
        text(&out)
    );
    // Somebody opened everything: the daemon still asks who it is.
    open_to(house.path(), 0o755);
    open_to(&house.socket(), 0o666);
    for args in [["status"].as_slice(), &["pause", "enrich"]] {
        let out = pipectl_as(&house, 54_321, args);
        assert_eq!(out.status.code(), Some(4), "{}", text(&out));
        let said = text(&out);
        assert!(said.contains("may not use this socket"), "{said}");
    }
    assert_eq!(house.json(&["status"])["state"], "running");
}

#[test]
fn groups_tell_who_may_look_and_who_may_act() {
    if !crate::full::may_mount("groups_tell_who_may_look_and_who_may_act") {
        return;
    }
    const VIEWERS: u32 = 54_001;
    const OPERATORS: u32 = 54_002;
    let mut house = House::new(QUIET);
    // The groups exist in the daemon's own view of the system only.
    let groups = house.path().join("group");
    let table = format!("root:x:0:\npipelined:x:{VIEWERS}:\npipelined-ops:x:{OPERATORS}:\n");
    std::fs::write(&groups, table).expect("write the groups");
    let groups = groups.display().to_string();
    let bind = "mount --bind \"$1\" /etc/group && shift && exec \"$@\"";
    house.wrap(&["unshare", "-m", "sh", "-c", bind, "sh", &groups]);
    house.start();
    house.wait_healthy();
    open_to(house.path(), 0o755);
    let mode = std::fs::metadata(house.socket()).expect("a socket");
    assert_eq!(
        std::os::unix::fs::MetadataExt::gid(&mode),
        VIEWERS,
        "members of pipelined can open it"
    );
    // Operators that are no viewers come in where the folder and the socket let them.
    open_to(&house.socket(), 0o666);

    let code = |gid, args: &[&str]| {
        let out = pipectl_as(&house, gid, args);
        (out.status.code(), text(&out))
    };
    let table: [(&str, u32, &[&str], i32); 8] = [
        ("a viewer looks", VIEWERS, &["status"], 0),
        ("a viewer looks at data", VIEWERS, &["pending", "ls"], 0),
        ("a viewer acts", VIEWERS, &["pause", "enrich"], 4),
        ("a viewer stops the daemon", VIEWERS, &["down"], 4),
        ("an operator looks", OPERATORS, &["status"], 0),
        ("an operator acts", OPERATORS, &["pause", "enrich"], 0),
        ("an operator undoes it", OPERATORS, &["resume", "enrich"], 0),
        ("a stranger looks", 54_321, &["status"], 4),
    ];
    for (what, gid, args, wanted) in table {
        let (got, said) = code(gid, args);
        assert_eq!(got, Some(wanted), "{what}: {said}");
    }
    let audit = text(&house.pipectl(&["audit"]));
    assert!(audit.contains("uid:54321"), "acts are signed: {audit}");
    assert_eq!(house.json(&["status"])["state"], "running");
}
