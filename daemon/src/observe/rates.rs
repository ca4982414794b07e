//! Rates from readings of a counter that only grows: a pure ring, fed by the sampler once a tick.
//!
//! A rate is unknown until two readings exist, never 0. A reading that is missing (the store was away) leaves a gap; a
//! counter that went back (the key was deleted, the server restored) starts over.

use std::collections::VecDeque;
use std::time::Duration;

/// Window of the rates that people see.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Readings kept: one a second over the window, both ends, and room for ticks that come early.
const KEPT: usize = 16;

/// Readings of one counter: `(time since start, value)`.
#[derive(Debug, Clone, Default)]
pub(super) struct Readings(VecDeque<(Duration, u64)>);

impl Readings {
    /// Takes a reading at `at` (monotonic, since start). `None` = unknown now; the earlier ones age out by themselves.
    pub(super) fn push(&mut self, at: Duration, value: Option<u64>) {
        if let Some(value) = value {
            if self.0.back().is_some_and(|(_, last)| value < *last) {
                self.0.clear();
            }
            self.0.push_back((at, value));
        }
        // A little more than the window, so that a tick that came late does not shorten the base.
        let oldest = at.saturating_sub(WINDOW + Duration::from_millis(500));
        while self.0.len() > KEPT || self.0.front().is_some_and(|(t, _)| *t < oldest) {
            self.0.pop_front();
        }
    }

    /// A second, over the last 10 s (or since the first reading); `None` with fewer than two readings, or when the last
    /// reading is not of `now`.
    pub(super) fn per_s(&self, now: Duration) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        rate(*first, *last, now)
    }

    /// A second, over the last two readings.
    pub(super) fn last_per_s(&self, now: Duration) -> Option<f64> {
        let last = self.0.back()?;
        let before = self.0.get(self.0.len().checked_sub(2)?)?;
        rate(*before, *last, now)
    }
}

fn rate(first: (Duration, u64), last: (Duration, u64), now: Duration) -> Option<f64> {
    let span = last.0.checked_sub(first.0)?.as_secs_f64();
    // An older last reading means that the counter is not known now: an old rate must not pass for a new one.
    if span <= 0.0 || last.0 < now {
        return None;
    }
    // Rounded to a thousandth: the figure is for people, and short on the wire.
    Some(((last.1 - first.1) as f64 / span * 1_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_unknown_until_there_are_two_readings() {
        let mut readings = Readings::default();
        assert_eq!(readings.per_s(s(0)), None);
        readings.push(s(0), Some(7));
        assert_eq!(readings.per_s(s(0)), None);
        readings.push(s(1), Some(7));
        assert_eq!(
            readings.per_s(s(1)),
            Some(0.0),
            "two equal readings are a known zero"
        );
    }

    #[test]
    fn a_rate_covers_the_last_ten_seconds_and_no_more() {
        let mut readings = Readings::default();
        for t in 0..=30u64 {
            // 100 a second for 20 s, then 40 a second.
            let value = if t <= 20 {
                t * 100
            } else {
                2_000 + (t - 20) * 40
            };
            readings.push(s(t), Some(value));
            if t == 20 {
                assert_eq!(readings.per_s(s(t)), Some(100.0));
            }
            if t == 25 {
                assert_eq!(
                    readings.per_s(s(t)),
                    Some(70.0),
                    "half of the window is old"
                );
                assert_eq!(readings.last_per_s(s(t)), Some(40.0));
            }
        }
        assert_eq!(readings.per_s(s(30)), Some(40.0));
    }

    #[test]
    fn a_missing_reading_makes_the_rate_unknown_and_not_stale() {
        let mut readings = Readings::default();
        readings.push(s(0), Some(0));
        readings.push(s(1), Some(100));
        readings.push(s(2), None);
        assert_eq!(readings.per_s(s(2)), None);
        readings.push(s(4), Some(100));
        assert_eq!(
            readings.per_s(s(4)),
            Some(25.0),
            "what came meanwhile counts over the whole span"
        );
        for t in 5..20 {
            readings.push(s(t), None);
        }
        readings.push(s(20), Some(500));
        assert_eq!(
            readings.per_s(s(20)),
            None,
            "one new reading after a long gap is no rate"
        );
    }

    #[test]
    fn a_counter_that_went_back_starts_over() {
        let mut readings = Readings::default();
        readings.push(s(0), Some(1_000));
        readings.push(s(1), Some(10));
        assert_eq!(readings.per_s(s(1)), None);
        readings.push(s(2), Some(30));
        assert_eq!(readings.per_s(s(2)), Some(20.0));
    }
}
