//! Keyed state of owned stages: a number for each key, kept exactly through kills, hand-overs and failures, with the
//! daemon's memory bounded; and timers that forget.
//!
//! The long form, with a million keys and fifty kills, is left out unless it is asked for, with release builds:
//! `cargo build --release --workspace && cargo test --release -p pipelined --test e2e -- --ignored --nocapture a_million_keys`

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use crate::house::{House, wait_for};

/// For whoever looks into a run: past the capture of a test's output, as stdout is the runner's.
macro_rules! tell {
    ($($words:tt)*) => {{
        // Nobody may be listening.
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

/// An owned stage that numbers the records of each user, and a shared one that counts those above three.
const COUNTED: &str = r#"
version = 1
name = "test"
retention = { keep = "0s" }

[stage.counted]
group = "event_group"
delivery = "owned"
operators = [
  { kind = "validate", required = ["event_id", "user_id"] },
  { kind = "count", key = "user_id", into = "user_count" },
]

[stage.loud]
from = "counted"
operators = [
  { kind = "filter", keep = "user_count > 3" },
  { kind = "aggregate", by = ["type"] },
]
"#;

const STATE: &str = "{events}:state:counted";
const TIMERS: &str = "{events}:timers:counted";

/// One connection that only this test has.
struct Redis(BufReader<UnixStream>);

impl Redis {
    fn connect(socket: PathBuf) -> Self {
        let stream = UnixStream::connect(socket).expect("connect to redis");
        Self(BufReader::new(stream))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    }

    fn bulk(&mut self) -> String {
        let head = self.line();
        let length = head.strip_prefix('$').unwrap_or_else(|| panic!("{head}"));
        let mut bytes = vec![0; length.parse::<usize>().expect("a length") + 2];
        self.0.read_exact(&mut bytes).expect("a value");
        bytes.truncate(bytes.len() - 2);
        String::from_utf8(bytes).expect("text")
    }

    fn list(&mut self) -> usize {
        let head = self.line();
        let length = head.strip_prefix('*').unwrap_or_else(|| panic!("{head}"));
        length.parse().expect("a length")
    }

    fn send(&mut self, commands: &[u8]) {
        self.0.get_mut().write_all(commands).expect("send");
    }

    /// A hash of any size, in pages.
    fn hash(&mut self, key: &str) -> HashMap<String, String> {
        let mut all = HashMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut command = Vec::new();
            write_command(&["HSCAN", key, &cursor, "COUNT", "5000"], &mut command);
            self.send(&command);
            assert_eq!(self.list(), 2);
            cursor = self.bulk();
            for _ in 0..self.list() / 2 {
                let field = self.bulk();
                all.insert(field, self.bulk());
            }
            if cursor == "0" {
                return all;
            }
        }
    }
}

fn write_command(words: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// What was sent, by the sender alone.
struct Sent {
    /// Distinct events by key.
    by_key: Vec<u32>,
    events: u64,
    /// Sent a second time on purpose.
    again: u64,
}

/// Sends until it is stopped; Redis stays up, so it knows of every event.
struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Sent>,
}

impl Sender {
    /// `per_s` events a second over this many keys: each once first, then at random.
    fn start(house: &House, n_keys: usize, per_s: u64, seed: u64) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut redis = Redis::connect(house.redis_socket());
        let (is_over, told) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut record = Sent {
                by_key: vec![0; n_keys],
                events: 0,
                again: 0,
            };
            let begun = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let passed = u64::try_from(begun.elapsed().as_micros()).expect("a short test");
                let n_due = (passed * per_s / 1_000_000).saturating_sub(record.events);
                if n_due == 0 {
                    std::thread::park_timeout(Duration::from_millis(2));
                    continue;
                }
                let (mut commands, mut n_commands) = (Vec::new(), 0);
                for _ in 0..n_due.min(500) {
                    let at = usize::try_from(record.events).expect("few");
                    let key = match at < n_keys {
                        true => at,
                        false => random.random_range(0..n_keys),
                    };
                    // One in a hundred comes twice, as from a client that lost an answer.
                    let n_times = if random.random_ratio(1, 100) { 2 } else { 1 };
                    for _ in 0..n_times {
                        let (id, user) = (format!("e-{at}"), format!("user-{key}"));
                        write_command(
                            &["XADD", "events", "*", "event_id", &id, "user_id", &user],
                            &mut commands,
                        );
                    }
                    n_commands += n_times;
                    record.again += n_times - 1;
                    record.by_key[key] += 1;
                    record.events += 1;
                }
                redis.send(&commands);
                for _ in 0..n_commands {
                    redis.bulk();
                }
                told.store(record.events, Ordering::Relaxed);
            }
            record
        });
        Self { stop, sent, thread }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn stop(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sender")
    }
}

/// The most memory that the daemon has had in this life, in KiB.
fn peak_kib(house: &House) -> u64 {
    let path = format!("/proc/{}/status", house.pid());
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.unwrap_or(0)
}

fn committed(house: &House) -> u64 {
    house
        .redis(&["HGET", "{events}:ledger", "counted:forwarded"])
        .parse()
        .unwrap_or(0)
}

/// Keys, kills and load; tells what came of it. The caller looks at the greatest memory of the daemon (KiB).
fn kills(n_keys: usize, n_kills: u32, per_s: u64, n_events: u64) -> u64 {
    let begun = Instant::now();
    let seed = 42;
    let mut random = SmallRng::seed_from_u64(seed);
    let mut house = House::new(COUNTED);
    // The record knows of each duplicate only as long as the window does.
    house.set("event.dedupe.max_ids=10000000").start();
    house.wait_healthy();
    let sender = Sender::start(&house, n_keys, per_s, seed);
    let (mut peak, mut slowest) = (0, Duration::ZERO);
    for n in 0..n_kills {
        let before = committed(&house);
        let waits = Instant::now();
        wait_for("the new daemon to commit", || {
            (committed(&house) > before).then_some(())
        });
        slowest = slowest.max(waits.elapsed());
        // Spread over all that is to be sent.
        let until = n_events * u64::from(n + 1) / u64::from(n_kills + 1);
        wait_for("the load", || (sender.sent() >= until).then_some(()));
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..300)));
        peak = peak.max(peak_kib(&house));
        house.kill();
        house.start();
    }
    wait_for("the load", || (sender.sent() >= n_events).then_some(()));
    let sent = sender.stop();
    house.wait_healthy();
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "600s"]);
    peak = peak.max(peak_kib(&house));

    let mut state = Redis::connect(house.redis_socket()).hash(STATE);
    state.remove("=");
    let (mut n_lost, mut n_doubled, mut loud) = (0_u64, 0_u64, 0_u64);
    for (key, n) in sent.by_key.iter().enumerate() {
        let raw = state.remove(&format!("user_count:user-{key}"));
        let kept = raw.and_then(|raw| raw.split_once(' ')?.1.parse().ok());
        let kept: u32 = kept.unwrap_or(0);
        n_lost += u64::from(n.saturating_sub(kept));
        n_doubled += u64::from(kept.saturating_sub(*n));
        loud += u64::from(n.saturating_sub(3));
    }
    let memory = house.redis(&["INFO", "memory"]);
    let of_redis = memory
        .lines()
        .find(|line| line.starts_with("used_memory_human"));
    let of_state = house.redis(&["MEMORY", "USAGE", STATE, "SAMPLES", "100"]);
    tell!(
        "{n_keys} keys, {n_kills} kills, {} events and {} of them twice: {n_lost} lost, {n_doubled} doubled; {:.0} s, first commit after a kill at most {slowest:.1?}; daemon at most {} MiB, {}, state {of_state} bytes",
        sent.events,
        sent.again,
        begun.elapsed().as_secs_f64(),
        peak / 1024,
        of_redis.unwrap_or_default().trim()
    );
    assert_eq!((n_lost, n_doubled), (0, 0));
    assert!(state.is_empty(), "{} keys that nobody sent", state.len());
    let figures = [
        "accepted",
        "deduplicated",
        "applied",
        "filtered",
        "dead",
        "lost",
    ];
    let figures = figures.map(|name| ledger[name].clone());
    let wanted = [
        sent.events + sent.again,
        sent.again,
        loud,
        sent.events - loud,
        0,
        0,
    ];
    assert_eq!(figures, wanted.map(|n| json!(n)), "{ledger}");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    // Every record bore its own number: above three are as many as there should be.
    assert_eq!(house.json(&["aggregates"])["total_count"], loud);
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
    peak
}

#[test]
fn the_number_of_every_key_is_exact_through_eight_kills_of_the_daemon() {
    kills(20_000, 8, 10_000, 80_000);
}

#[test]
#[ignore = "five minutes, and only told by release builds; see the head of this file"]
fn a_million_keys_are_exact_through_fifty_kills_and_the_daemons_memory_is_bounded() {
    let peak = kills(1_000_000, 50, 20_000, 3_000_000);
    assert!(peak < 256 << 10, "{peak} KiB");
}

fn add(house: &House, n: u64, user: &str) {
    let id = format!("e-{user}-{n}");
    house.redis(&["XADD", "events", "*", "event_id", &id, "user_id", user]);
}

fn kept(house: &House, user: &str) -> String {
    let raw = house.redis(&["HGET", STATE, &format!("user_count:{user}")]);
    raw.split_once(' ')
        .map_or(raw.clone(), |(_, n)| n.to_owned())
}

#[test]
fn a_key_without_records_is_forgotten_when_its_time_is_over_also_by_the_next_owner() {
    let config = COUNTED.replace(
        "into = \"user_count\"",
        "into = \"user_count\", forget_after = \"3s\"",
    );
    let mut house = House::new(&config);
    house.start();
    house.wait_healthy();
    for n in 0..3 {
        add(&house, n, "a");
    }
    wait_for("three to be counted", || {
        (kept(&house, "a") == "3").then_some(())
    });
    assert_eq!(house.redis(&["ZCARD", TIMERS]), "1");
    house.kill();
    house.start();
    wait_for("it to be forgotten", || {
        (kept(&house, "a").is_empty() && house.redis(&["ZCARD", TIMERS]) == "0").then_some(())
    });
    add(&house, 3, "a");
    wait_for("it to begin anew", || {
        (kept(&house, "a") == "1").then_some(())
    });
    assert_eq!(house.settled()["balanced"], true);
}

#[test]
fn what_fails_changes_no_state_and_what_is_tried_again_counts_once() {
    let config = COUNTED.replace(
        "  { kind = \"count\"",
        "  { kind = \"lookup\", key = \"user_id\" },\n  { kind = \"count\"",
    );
    let config = config + "\n[retry]\nattempts = 3\nbackoff = \"100ms..1s\"\n";
    let mut house = House::new(&config);
    house.start();
    house.wait_healthy();
    for user in ["bad", "worse"] {
        house.redis(&["SET", &format!("profile:{user}"), "no hash"]);
    }
    add(&house, 0, "bad");
    add(&house, 1, "bad");
    wait_for("it to be parked", || {
        (house.redis(&["ZCARD", "{events}:parked:counted"]) == "2").then_some(())
    });
    house.redis(&["DEL", "profile:bad"]);
    add(&house, 0, "good");
    wait_for("both to be counted", || {
        (kept(&house, "bad") == "2").then_some(())
    });
    add(&house, 0, "worse");
    wait_for("it to be given up", || {
        (house.redis(&["XLEN", "{events}:dead"]) == "1").then_some(())
    });
    assert_eq!(kept(&house, "worse"), "");
    house.redis(&["DEL", "profile:worse"]);
    add(&house, 1, "worse");
    wait_for("the next one", || {
        (kept(&house, "worse") == "1").then_some(())
    });
    assert_eq!(kept(&house, "good"), "1");
    let ledger = house.settled();
    assert_eq!(
        [&ledger["dead"], &ledger["filtered"], &ledger["balanced"]],
        [&json!(1), &json!(4), &json!(true)],
        "{ledger}"
    );
}

#[test]
fn state_that_somebody_changes_is_read_again_and_counting_goes_on() {
    let mut house = House::new(COUNTED);
    house.start();
    house.wait_healthy();
    add(&house, 0, "a");
    wait_for("one", || (kept(&house, "a") == "1").then_some(()));
    house.redis(&["HSET", STATE, "user_count:a", "0-0 41"]);
    add(&house, 1, "a");
    wait_for("the new number to be used", || {
        (kept(&house, "a") == "42").then_some(())
    });
    assert!(
        house
            .whole_log()
            .contains("somebody else has changed the state")
    );
    // Garbage stops the stage, says so, and loses nothing.
    house.redis(&["HSET", STATE, "user_count:a", "garbage"]);
    add(&house, 2, "a");
    wait_for("trouble", || {
        let rows = house.rows(&["consumers", "ls", "--stage", "counted"]);
        let reason = rows.iter().find_map(|row| row["reason"].as_str());
        reason?
            .contains("no state that this pipeline")
            .then_some(())
    });
    house.redis(&["HDEL", STATE, "user_count:a"]);
    wait_for("a new beginning", || {
        (kept(&house, "a") == "1").then_some(())
    });
    assert_eq!(house.settled()["balanced"], true);
}

#[test]
fn a_daemon_that_would_mix_the_state_of_two_keys_is_refused() {
    let mut house = House::new(COUNTED);
    house.start();
    house.wait_healthy();
    add(&house, 0, "a");
    wait_for("one", || (kept(&house, "a") == "1").then_some(()));
    // Redis ends with a daemon that ends cleanly.
    house.kill();
    let config = COUNTED.replace("key = \"user_id\"", "key = \"session_id\"");
    std::fs::write(house.path().join("pipeline.toml"), config).expect("write");
    let (code, said) = house.ended();
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "count of key user_id",
        "count of key session_id",
        "redis-cli DEL",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let other = COUNTED.replace("user_count", "n");
    std::fs::write(house.path().join("pipeline.toml"), other).expect("write");
    house.start();
    house.wait_healthy();
    assert!(
        house.whole_log().contains("its state stays in"),
        "{}",
        house.log()
    );
    assert_eq!(kept(&house, "a"), "1");
}
