//! Random experiments: which comes next, when, and with which seed. A pure function of the configuration and of how many
//! there were, so that a schedule can be told beforehand and repeated.

use pipectl_shared::chaos::Scheduled;
use pipectl_shared::config;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How far the schedule is; kept in a file, so that a daemon that starts again goes on and does not begin anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// How many there were.
    pub(super) n: u64,
    /// When the last was due, milliseconds since 1970.
    pub(super) last_ms: u64,
}

/// The experiment after so many, when the last was due at `last_ms`; `None` = nothing is scheduled, or no name is given.
/// It is due half to one and a half of `every` later; outside of the hours it moves into the next ones, somewhere in their
/// first `every`.
pub(super) fn next(settings: &config::Schedule, names: &[String], at: Place) -> Option<Scheduled> {
    let every_ms = u64::try_from(settings.every.as_millis()).unwrap_or(u64::MAX);
    let (from, to) = (
        u64::from(settings.from_hour) * HOUR_MS,
        u64::from(settings.to_hour) * HOUR_MS,
    );
    if every_ms == 0 || names.is_empty() || from >= to {
        return None;
    }
    // The number goes into the seed and not into the state of a generator: nothing has to be replayed. The factor is
    // 2^64 / golden ratio, which spreads small numbers (Knuth, The Art of Computer Programming 3, 6.4).
    let mut random = SmallRng::seed_from_u64(
        settings.seed ^ at.n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    );
    let gap_ms = every_ms / 2 + random.random_range(0..every_ms);
    let into_ms = random.random_range(0..every_ms.min(to - from));
    let name = names[random.random_range(0..names.len())].clone();
    // 53 bits, so that every reader of JSON keeps it.
    let seed = random.random::<u64>() >> 11;
    let at_ms = at.last_ms.saturating_add(gap_ms);
    let in_day_ms = at_ms % DAY_MS;
    let at_ms = if (from..to).contains(&in_day_ms) {
        at_ms
    } else {
        let day_ms = at_ms - in_day_ms;
        let day_ms = if in_day_ms >= to {
            day_ms + DAY_MS
        } else {
            day_ms
        };
        day_ms + from + into_ms
    };
    Some(Scheduled { at_ms, name, seed })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(every_s: u64, from_hour: u32, to_hour: u32) -> config::Schedule {
        config::Schedule {
            every: Duration::from_secs(every_s),
            from_hour,
            to_hour,
            seed: 7,
        }
    }

    fn names() -> Vec<String> {
        ["worker.kill", "net.latency", "redis.kill"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn experiments_come_within_their_hours_and_half_to_one_and_a_half_apart() {
        let settings = settings(3_600, 9, 17);
        let mut at = Place {
            n: 0,
            last_ms: 1_700_000_000_000,
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let next = next(&settings, &names(), at).unwrap();
            let hour = next.at_ms % DAY_MS / HOUR_MS;
            assert!((9..17).contains(&hour), "{next:?}");
            let gap = next.at_ms - at.last_ms;
            assert!(gap >= HOUR_MS / 2, "{next:?}");
            assert!(gap < DAY_MS, "{next:?}");
            if (9..15).contains(&(at.last_ms % DAY_MS / HOUR_MS)) {
                assert!(gap < HOUR_MS * 3 / 2, "{next:?}");
            }
            seen.insert(next.name);
            at = Place {
                n: at.n + 1,
                last_ms: next.at_ms,
            };
        }
        assert_eq!(seen.len(), 3, "every experiment has its turn");
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_gives_another() {
        let at = Place { n: 3, last_ms: 5 };
        let one = settings(60, 0, 24);
        assert_eq!(next(&one, &names(), at), next(&one, &names(), at));
        let other = config::Schedule { seed: 8, ..one };
        assert_ne!(next(&one, &names(), at), next(&other, &names(), at));
        assert_ne!(
            next(&one, &names(), at),
            next(&one, &names(), Place { n: 4, ..at })
        );
    }

    #[test]
    fn nothing_comes_without_a_time_or_a_name() {
        let at = Place::default();
        assert_eq!(next(&settings(0, 9, 17), &names(), at), None);
        assert_eq!(next(&settings(60, 9, 17), &[], at), None);
        assert_eq!(next(&settings(60, 17, 9), &names(), at), None);
    }
}
