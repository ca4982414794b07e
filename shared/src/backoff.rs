//! How long to wait after a failure: capped exponential growth with full jitter.
//!
//! The formula and the choice of full jitter are from Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture
//! Blog, March 2015: `sleep = random_between(0, min(cap, base * 2 ** attempt))`. It spreads retries that failed together
//! better than equal or decorrelated jitter for the least total work. Pure: the caller brings the random number (from
//! the seed of its World) and does the waiting.

use std::time::Duration;

/// The shape of the waits. Any values are fine: a `max` below `min` wins, and a `min` of zero means no wait at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest possible wait after the first failure.
    pub min: Duration,
    /// Longest possible wait after any failure.
    pub max: Duration,
}

impl Backoff {
    /// The wait after failure number `attempt`, uniform between zero and [`Backoff::ceiling`].
    ///
    /// `attempt` counts failures and starts at 1; 0 is read as 1. `random` must be uniform over all of `u64`.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        // The high half of the product scales without the bias and the division of a modulo.
        let nanos = self.ceiling(attempt).as_nanos();
        let seconds = (nanos / NANOS) * u128::from(random);
        let rest = (nanos % NANOS) * u128::from(random);
        // `seconds` is below 2^128, `rest` below 2^94; what the first loses by its shift comes back as nanoseconds.
        let whole = seconds >> 64;
        let fraction = ((seconds & u128::from(u64::MAX)) * NANOS + rest) >> 64;
        let total = whole * NANOS + fraction;
        duration(total)
    }

    /// The longest that [`Backoff::delay`] can answer for this attempt: `min * 2^(attempt - 1)`, at most `max`.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let mut wait = self.min;
        // At most 94 rounds, since 2^94 ns are more than a `Duration` holds.
        for _ in 1..attempt {
            if wait >= self.max || wait.is_zero() {
                break;
            }
            wait = wait.saturating_mul(2);
        }
        wait.min(self.max)
    }

    /// The sum of the ceilings of the first `attempts` failures: the longest time that a record spends waiting. A lint
    /// compares it with limits such as `max_lateness`. Saturates.
    pub fn ceiling_sum(&self, attempts: u32) -> Duration {
        let mut sum = Duration::ZERO;
        for attempt in 1..=attempts {
            let wait = self.ceiling(attempt);
            sum = sum.saturating_add(wait);
            if wait.is_zero() || wait >= self.max {
                let n_left = attempts - attempt;
                return sum.saturating_add(wait.saturating_mul(n_left));
            }
        }
        sum
    }
}

const NANOS: u128 = 1_000_000_000;

fn duration(nanos: u128) -> Duration {
    let seconds = u64::try_from(nanos / NANOS).unwrap_or(u64::MAX);
    let rest = u32::try_from(nanos % NANOS).expect("a remainder of a billion fits");
    Duration::new(seconds, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Backoff = Backoff {
        min: Duration::from_millis(100),
        max: Duration::from_secs(5),
    };

    #[test]
    fn ceilings_double_up_to_the_longest_wait() {
        let table = [
            (0, 100),
            (1, 100),
            (2, 200),
            (6, 3_200),
            (7, 5_000),
            (u32::MAX, 5_000),
        ];
        for (attempt, expected) in table {
            assert_eq!(
                USUAL.ceiling(attempt),
                Duration::from_millis(expected),
                "attempt {attempt}"
            );
        }
    }

    #[test]
    fn odd_shapes_neither_panic_nor_loop() {
        let none = Backoff {
            min: Duration::ZERO,
            max: Duration::from_secs(1),
        };
        assert_eq!(none.delay(u32::MAX, u64::MAX), Duration::ZERO);
        assert_eq!(none.ceiling_sum(u32::MAX), Duration::ZERO);
        let crossed = Backoff {
            min: Duration::from_secs(9),
            max: Duration::from_secs(1),
        };
        assert_eq!(crossed.ceiling(1), Duration::from_secs(1));
        let huge = Backoff {
            min: Duration::MAX,
            max: Duration::MAX,
        };
        assert!(huge.delay(3, u64::MAX) < Duration::MAX);
        assert_eq!(huge.ceiling_sum(u32::MAX), Duration::MAX);
    }

    #[test]
    fn the_sum_is_what_a_record_can_wait_at_most() {
        assert_eq!(USUAL.ceiling_sum(0), Duration::ZERO);
        assert_eq!(USUAL.ceiling_sum(3), Duration::from_millis(700));
        assert_eq!(
            USUAL.ceiling_sum(1_000),
            Duration::from_millis(6_300) + Duration::from_secs(5) * 994
        );
    }

    #[test]
    fn random_numbers_spread_over_the_whole_range() {
        assert_eq!(USUAL.delay(1, 0), Duration::ZERO);
        assert_eq!(USUAL.delay(1, 1 << 63), Duration::from_millis(50));
        assert!(USUAL.delay(1, u64::MAX) > Duration::from_micros(99_999));
    }

    proptest! {
        #[test]
        fn a_delay_never_exceeds_its_ceiling(min in 0_u64.., max in 0_u64.., attempt: u32, random: u64) {
            let backoff = Backoff { min: Duration::from_nanos(min), max: Duration::from_nanos(max) };
            prop_assert!(backoff.delay(attempt, random) <= backoff.ceiling(attempt));
            prop_assert!(backoff.ceiling(attempt) <= backoff.max);
        }

        #[test]
        fn the_sum_equals_adding_up(min in 0_u64..1 << 40, max in 0_u64..1 << 50, attempts in 0_u32..200) {
            let backoff = Backoff { min: Duration::from_nanos(min), max: Duration::from_nanos(max) };
            let sum: Duration = (1..=attempts).map(|attempt| backoff.ceiling(attempt)).sum();
            prop_assert_eq!(backoff.ceiling_sum(attempts), sum);
        }
    }
}
