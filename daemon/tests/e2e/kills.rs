//! SIGKILL at random moments under load: the daemon's, and its Redis'. What was sent is counted once, by a record that
//! the pipeline has no part in.

use std::collections::HashSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use serde_json::Value;

use crate::house::{House, QUIET, signal, wait_for};
use crate::load::{Load, Record};

/// For whoever looks into a run: past the capture of a test's output, as stdout is the runner's.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        // Nobody may be listening.
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

/// What the sender aims at; what the pipeline cannot follow waits in the stream.
const PER_S: u64 = 20_000;

#[test]
fn twenty_kills_of_the_daemon_under_load_lose_nothing_and_count_nothing_twice() {
    let (mut random, seed) = seeded();
    let mut house = House::new(QUIET);
    house.start();
    house.wait_healthy();
    let load = Load::start(&house, "k", seed, PER_S);
    for n in 0..20 {
        // One in five dies while it starts; the others once they work, since each new one has to recover the last.
        if n % 5 != 4 {
            let before = committed(&house);
            wait_for("the new daemon to commit", || {
                (committed(&house) > before).then_some(())
            });
        }
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..800)));
        house.kill();
        house.start();
    }
    house.wait_healthy();
    let record = load.stop();
    tell!(
        "{} events sent in {} s, {} of them once more",
        record.events,
        record.seconds,
        record.resent
    );
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, &format!("seed {seed}"));
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

#[test]
fn five_kills_of_redis_that_forces_every_write_lose_nothing_and_count_nothing_twice() {
    let (house, record, ledger, seed) = kill_redis_under_load("always");
    record.assert_exact(&house, &ledger, &format!("seed {seed}"));
}

/// The kernel has every write before it is acknowledged, so only a crash of the machine costs anything.
#[test]
fn five_kills_of_redis_that_forces_no_write_lose_nothing_and_count_nothing_twice() {
    let (house, record, ledger, seed) = kill_redis_under_load("no");
    record.assert_exact(&house, &ledger, &format!("seed {seed}"));
}

/// While an earlier part of its log is being forced to the disk the server holds back writes for up to two seconds and
/// acknowledges them all the same, so a SIGKILL can cost the newest ones. What it comes back with is an earlier instant as
/// a whole: every event that is there counts once, and nothing else does.
#[test]
fn five_kills_of_redis_that_forces_writes_each_second_count_nothing_twice() {
    let (house, record, ledger, seed) = kill_redis_under_load("everysec");
    let told = format!("seed {seed}\nledger {ledger}\nrecord {record:?}");
    let ids = distinct_event_ids(&house);
    tell!("{} acknowledged events were lost", record.events - ids);
    for zero in [
        "pending",
        "undelivered",
        "dead",
        "lost",
        "unaccounted",
        "duplicated",
    ] {
        assert_eq!(ledger[zero], 0, "{zero}: {told}");
    }
    assert_eq!(ledger["applied"], ids, "{told}");
    let totals = house.json(&["aggregates"]);
    assert_eq!(totals["total_count"], ids, "{told}");
    let types = totals["event_types"].as_object().expect("counts");
    for (name, n) in types {
        assert!(
            n.as_u64() <= record.types.get(name).copied(),
            "{name}: {told}"
        );
    }
}

/// Five times at a random moment while events come in and are counted; then everything runs to its end.
fn kill_redis_under_load(append_fsync: &str) -> (House, Record, Value, u64) {
    let (mut random, seed) = seeded();
    let mut house = House::new(QUIET);
    house.set(&format!("redis.append_fsync={append_fsync}"));
    house.start();
    house.wait_healthy();
    let load = Load::start(&house, "r", seed, PER_S);
    for _ in 0..5 {
        let (before, sent) = (committed(&house), load.sent());
        wait_for("commits and answers after a restart", || {
            (committed(&house) > before && load.sent() > sent).then_some(())
        });
        std::thread::park_timeout(Duration::from_millis(random.random_range(0..2_000)));
        let pid = house.redis_pid();
        signal(pid, "KILL");
        wait_for("redis to be up again", || {
            (house.redis_pid_now() != Some(pid) && house.redis(&["PING"]) == "PONG").then_some(())
        });
    }
    let record = load.stop();
    tell!(
        "{} events sent in {} s, {} of them once more",
        record.events,
        record.seconds,
        record.resent
    );
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    (house, record, ledger, seed)
}

/// What is in the source stream, by the server's own account: nothing is trimmed within the retention of ten minutes.
fn distinct_event_ids(house: &House) -> u64 {
    let entries = house.redis(&["XRANGE", "events", "-", "+"]);
    let ids: HashSet<&str> = entries
        .lines()
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| pair[0] == "event_id")
        .map(|pair| pair[1])
        .collect();
    u64::try_from(ids.len()).expect("a count")
}

/// A new seed at each run, told when the test fails; `PIPELINED_TEST_SEED` repeats one.
fn seeded() -> (SmallRng, u64) {
    let seed = std::env::var("PIPELINED_TEST_SEED").map_or_else(
        |_| SmallRng::from_os_rng().next_u64(),
        |seed| seed.parse().expect("PIPELINED_TEST_SEED is a number"),
    );
    tell!("PIPELINED_TEST_SEED={seed}");
    (SmallRng::seed_from_u64(seed), seed)
}

/// Entries that the terminal stage has finished, as Redis has them; 0 while it is away.
fn committed(house: &House) -> u64 {
    house
        .redis(&["HGET", "{events}:ledger", "correlate:ended"])
        .parse()
        .unwrap_or(0)
}
