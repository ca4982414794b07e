//! 14, 18 and 19: entries that cannot be worked, giants, and bytes that are meant for somebody's terminal.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use super::books::{Against, Books};
use super::house::{House, Shape, wait};
use super::load::{Load, Policy};
use super::resp::{Client, Value, command};
use super::trial::Field;
use crate::daemon::Daemon;
use crate::host;
use crate::latency::end_to_end;
use crate::report::Goal;
use crate::server::Keeps;

const PER_S: u64 = 2_000;
/// Tries before an entry is given up, as in the default configuration.
const TRIES: u64 = 5;
/// Of the 997 users of the load, the one whose profile is no profile.
const BAD_USER: usize = 7;

pub(crate) fn pills(field: &mut Field<'_>) -> Result<()> {
    let mut house = House::new(field, Keeps::EverySecond, Shape::OwnedCount)?;
    house.sets.push("retry.backoff=100ms..500ms".to_owned());
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let stay = Duration::from_secs(if field.quick { 4 } else { 12 });
    let name = format!("u{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    std::thread::sleep(Duration::from_secs(2));
    let start = end_to_end(&daemon)?;
    std::thread::sleep(stay);
    let middle = end_to_end(&daemon)?;
    let clean = p99(&start, &middle)?;
    let healthy = load.stop()?;
    daemon.pipectl(&["ledger", "--wait-settled", "--timeout", "60s"])?;
    daemon.drain()?;
    let mut client = house.client()?;
    client.call(&["SET", &format!("profile:user-{BAD_USER}"), "no profile"])?;
    // A new one remembers no value that would be used instead.
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let name = format!("v{:x}.", field.seed);
    let load = Load::start(&house.server.socket(), &name, PER_S, &[Policy::Once]);
    std::thread::sleep(Duration::from_secs(2));
    let before = end_to_end(&daemon)?;
    std::thread::sleep(stay);
    let poisoned = p99(&before, &end_to_end(&daemon)?)?;
    let record = load.stop()?;
    let ledger = daemon.pipectl(&["ledger", "--wait-settled", "--timeout", "120s"])?;
    let bad = record
        .sent
        .iter()
        .map(|sent| (0..sent.len()).filter(|n| n % 997 == BAD_USER).count() as u64)
        .sum::<u64>();
    let dead = client.call(&["XLEN", "{events}:dead"])?.number();
    let rows = client.call(&["XRANGE", "{events}:dead", "-", "+"])?;
    let few = rows.items().iter().filter(|row| {
        let text = format!("{row:?}");
        !text.contains("Text") || dead_tries(row) != Some(TRIES)
    });
    let few = few.count() as u64;
    let total = client
        .call(&["HGET", "{events}:counts", "total_count"])?
        .number();
    let wanted = healthy.acked() + record.acked() - bad;
    daemon.drain()?;
    #[expect(clippy::cast_precision_loss, reason = "some thousand")]
    field.figure("pills", "events", bad as f64, Goal::AtLeast(1.0));
    field.none(
        "pills not among the dead letters",
        "events",
        bad.abs_diff(dead),
    );
    field.none("dead letters not after 5 tries", "events", few);
    field.none(
        "others not counted exactly once",
        "events",
        total.abs_diff(wanted),
    );
    field.none(
        "pending, or unbalanced",
        "events",
        ledger["pending"].as_u64().unwrap_or(1) + u64::from(ledger["balanced"] != true),
    );
    field.figure("p99 without pills", "ms", clean, Goal::None);
    field.figure("p99 with pills, of the others", "ms", poisoned, Goal::None);
    // Below a few milliseconds the machine's own noise is the larger part.
    field.figure(
        "p99 with pills / without",
        "ratio",
        poisoned.max(5.0) / clean.max(5.0),
        Goal::AtMost(2.0),
    );
    field.not_run("pills that panic, hang for a minute or eat memory: no operator that can is shipped; the tests of the worker have them");
    Ok(())
}

/// How many tries a dead letter says it had.
fn dead_tries(row: &Value) -> Option<u64> {
    let fields = row.items().get(1)?;
    ["_tries", "tries", "_failures", "failures"]
        .iter()
        .find_map(|name| fields.get(name))
        .map(Value::number)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds")]
fn p99(before: &Histogram<u64>, after: &Histogram<u64>) -> Result<f64> {
    let mut all = after.clone();
    all.subtract(before)
        .ok()
        .context("take the beginning away")?;
    Ok(all.value_at_quantile(0.99) as f64 / 1e3)
}

/// XADD of raw fields; the id.
fn add(client: &mut Client, fields: &[(&[u8], &[u8])]) -> Result<String> {
    let mut words: Vec<&[u8]> = vec![b"XADD", b"events", b"*"];
    words.extend(fields.iter().flat_map(|(name, value)| [*name, *value]));
    client.send(&command(&words))?;
    match client.reply()? {
        Value::Error(error) => anyhow::bail!("redis refused an entry: {error}"),
        id => Ok(id.text()),
    }
}

pub(crate) fn giants(field: &mut Field<'_>) -> Result<()> {
    for shape in Shape::BOTH {
        let house = House::new(field, Keeps::Nothing, shape)?;
        let mut daemon = house.daemon("one")?;
        daemon.wait_healthy()?;
        let name = format!("i{:x}.", field.seed);
        let load = Load::start(&house.server.socket(), &name, 500, &[Policy::Once]);
        house.watch()?.wait_counted(0)?;
        let mut client = house.client()?;
        let what = format!("{}: ", shape.name());
        let mut n_dead = 0;
        for mib in [1, 16, 64] {
            let before = host::mib(daemon.pid(), "VmHWM")?;
            // With its other fields the smallest is just too large.
            let giant = vec![b'g'; mib << 20];
            for n in 0..2 {
                let id = format!("giant-{mib}-{n}");
                let base: [(&[u8], &[u8]); 5] = [
                    (b"event_id", id.as_bytes()),
                    (b"user_id", b"user-1"),
                    (b"event_type", b"view"),
                    (b"ts", b"1"),
                    (b"giant", &giant),
                ];
                add(&mut client, &base)?;
                n_dead += 1;
                dead(&mut client, n_dead)?;
            }
            #[expect(clippy::cast_precision_loss, reason = "tens")]
            let size = mib as f64;
            field.figure(
                &format!("{what}memory at most for entries of {mib} MiB, beyond before"),
                "MiB",
                host::mib(daemon.pid(), "VmHWM")? - before,
                // Beside it the batches of the load itself take some.
                Goal::AtMost(3.0 * size + 8.0),
            );
        }
        // A hundred thousand fields.
        let names: Vec<Vec<u8>> = (0..100_000).map(|n| format!("f{n}").into_bytes()).collect();
        let mut fields: Vec<(&[u8], &[u8])> = vec![
            (b"event_id", b"wide"),
            (b"user_id", b"user-1"),
            (b"event_type", b"view"),
            (b"ts", b"1"),
        ];
        fields.extend(names.iter().map(|name| (&name[..], &b"vvvvvvvvvv"[..])));
        add(&mut client, &fields)?;
        dead(&mut client, n_dead + 1)?;
        let record = load.stop()?;
        let mut books = Books::settle(&house, &daemon, &record, Against::Stream)?;
        // The giants are nobody's in the source; they are among the dead, and nowhere else.
        books.foreign = books.foreign.abs_diff(n_dead + 1);
        daemon.drain()?;
        books.names_left(&house)?;
        books.tell(field, &what);
    }
    Ok(())
}

/// Waits for so many dead letters.
fn dead(client: &mut Client, n: u64) -> Result<()> {
    wait(
        "giants among the dead letters",
        Duration::from_secs(60),
        || Ok((client.call(&["XLEN", "{events}:dead"])?.number() >= n).then_some(())),
    )
}

/// Text that would take over a terminal, hide itself, or break a document.
const HOSTILE: &[&[u8]] = &[
    b"\x1b]52;c;ZXZpbA==\x07",
    b"\x1b]0;title\x1b\\",
    b"\x1b[2J\x1b[31mred",
    b"\xc2\x9b31mC1",
    b"\x90\x9c\x9d8-bit",
    "\u{202e}gnp.exe\u{2066}".as_bytes(),
    "zero\u{200b}\u{feff}width".as_bytes(),
    b"\xff\xfe\x80 no utf-8",
    b"line\r\nbreak\ttab\0nul\x7f",
    b"\"],\"quote\\",
    b"",
];

pub(crate) fn hostile(field: &mut Field<'_>) -> Result<()> {
    let house = House::new(field, Keeps::Nothing, Shape::OwnedCount)?;
    let mut daemon = house.daemon("one")?;
    daemon.wait_healthy()?;
    let mut client = house.client()?;
    let mut sent = Vec::new();
    for (n, text) in HOSTILE.iter().enumerate() {
        let id = [format!("h{n}-").as_bytes(), text].concat();
        let key = [b"key-", *text].concat();
        // Dead: its time is no number. Its neighbour is counted.
        for time in [*text, b"1"] {
            let fields: [(&[u8], &[u8]); 7] = [
                (b"event_id", if time == b"1" { &key } else { &id }),
                (b"user_id", &key),
                (b"event_type", &key),
                (b"product", &key),
                (b"session_id", &key),
                (b"ts", time),
                (&key, text),
            ];
            let id = add(&mut client, &fields)?;
            if time != b"1" {
                let fields = fields.map(|(name, value)| (name.to_vec(), value.to_vec()));
                sent.push((id, fields));
            }
        }
        // Somebody's consumer of that name holds an entry that is nobody's.
        let consumer = [b"c-", *text].concat();
        client.send(&command(&[
            b"XGROUP",
            b"CREATECONSUMER",
            b"events",
            b"event_group",
            &consumer,
        ]))?;
        client.reply()?;
    }
    dead(&mut client, sent.len() as u64)?;
    daemon.pipectl(&["ledger", "--wait-settled", "--timeout", "60s"])?;
    let (bad, not_json) = shown(&daemon)?;
    let log = daemon.whole_log();
    let in_log = log.lines().filter(|line| is_foul(line.as_bytes())).count() as u64;
    let lossy = lossy(&mut client, &sent)?;
    // Redriven entries are the same bytes again.
    daemon.pipectl(&["dead", "redrive", "--all", "--yes"])?;
    let again = wait("redriven entries", Duration::from_secs(20), || {
        let entries = client.call(&["XRANGE", "events", "-", "+"])?;
        let redriven: Vec<&Value> = entries
            .items()
            .iter()
            .filter(|entry| {
                entry
                    .items()
                    .get(1)
                    .is_some_and(|f| f.get("_redrive").is_some())
            })
            .collect();
        Ok((redriven.len() >= sent.len()).then(|| {
            let has = |fields: &[(Vec<u8>, Vec<u8>)]| {
                redriven.iter().any(|entry| {
                    fields
                        .iter()
                        .all(|(name, value)| has_field(entry, name, value))
                })
            };
            sent.iter().filter(|(_, fields)| !has(fields)).count() as u64
        }))
    })?;
    daemon.drain()?;
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    field.figure(
        "hostile texts, in every field and name",
        "",
        HOSTILE.len() as f64,
        Goal::None,
    );
    field.none("lines of pipectl with foreign control bytes", "", bad);
    field.none("documents that are no JSON", "", not_json);
    field.none("lines of the log with foreign control bytes", "", in_log);
    field.none("dead letters that lost a byte", "events", lossy);
    field.none("redriven entries that lost a byte", "events", again);
    field.not_run("the console on a terminal and /metrics: the console's own tests have the one, there is no other");
    Ok(())
}

fn has_field(entry: &Value, name: &[u8], value: &[u8]) -> bool {
    let fields = entry.items().get(1).map(Value::items).unwrap_or_default();
    fields
        .chunks_exact(2)
        .any(|pair| pair[0] == Value::Text(name.to_vec()) && pair[1] == Value::Text(value.to_vec()))
}

type Fields = [(Vec<u8>, Vec<u8>); 7];

/// How many of what was sent are not among the dead letters byte for byte.
fn lossy(client: &mut Client, sent: &[(String, Fields)]) -> Result<u64> {
    let rows = client.call(&["XRANGE", "{events}:dead", "-", "+"])?;
    let has = |fields: &Fields| {
        rows.items().iter().any(|row| {
            fields
                .iter()
                .all(|(name, value)| has_field(row, name, value))
        })
    };
    Ok(sent.iter().filter(|(_, fields)| !has(fields)).count() as u64)
}

/// Runs what shows foreign text, in each form; lines with control bytes, and documents that are none.
fn shown(daemon: &Daemon) -> Result<(u64, u64)> {
    let (mut bad, mut not_json) = (0, 0);
    let asked = Instant::now();
    for words in [
        &["dead", "ls"][..],
        &["dead", "causes"],
        &["aggregates"],
        &["consumers", "ls"],
        &["groups"],
        &["pending", "ls"],
        &["status"],
        &["audit"],
    ] {
        for form in ["text", "json", "jsonl", "csv", "md"] {
            let out: Output = daemon.pipectl_raw(&[words, &["-o", form]].concat())?;
            // Not every list has every form.
            ensure!(out.status.code().is_some(), "pipectl {words:?} was killed");
            for stream in [&out.stdout, &out.stderr] {
                bad += stream.split(|b| *b == b'\n').filter(|l| is_foul(l)).count() as u64;
            }
            if form == "json" && out.status.success() {
                let told = serde_json::from_slice::<serde_json::Value>(&out.stdout);
                not_json += u64::from(told.is_err());
            }
        }
    }
    ensure!(
        asked.elapsed() < Duration::from_secs(120),
        "pipectl was slow"
    );
    Ok((bad, not_json))
}

/// Whether a line has what a terminal would obey or hide: control characters, C1, bidi, zero width, or no UTF-8.
fn is_foul(line: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(line) else {
        return true;
    };
    text.chars().any(|c| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    })
}
