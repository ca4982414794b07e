//! SIGKILL at random moments under load: the daemon's, and its Redis'. What was sent is counted once, by a record that
//! the pipeline has no part in.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use crate::house::{House, QUIET, signal, wait_for};
use crate::load::Load;

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
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, &format!("seed {seed}"));
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

#[test]
fn five_kills_of_redis_under_load_lose_nothing_and_count_nothing_twice() {
    let (mut random, seed) = seeded();
    let mut house = House::new(QUIET);
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
    let ledger = house.json(&["ledger", "--wait-settled", "--timeout", "300s"]);
    record.assert_exact(&house, &ledger, &format!("seed {seed}"));
    assert_eq!(house.terminate(), Some(0), "{}", house.log());
}

/// A new seed at each run, told when the test fails; `PIPELINED_TEST_SEED` repeats one.
fn seeded() -> (SmallRng, u64) {
    let seed = std::env::var("PIPELINED_TEST_SEED").map_or_else(
        |_| SmallRng::from_os_rng().next_u64(),
        |seed| seed.parse().expect("PIPELINED_TEST_SEED is a number"),
    );
    println!("PIPELINED_TEST_SEED={seed}");
    (SmallRng::seed_from_u64(seed), seed)
}

/// Entries that the terminal stage has finished, as Redis has them; 0 while it is away.
fn committed(house: &House) -> u64 {
    house
        .redis(&["HGET", "{events}:ledger", "correlate:ended"])
        .parse()
        .unwrap_or(0)
}
