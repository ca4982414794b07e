//! When the events of an open loop are meant to be sent: the k-th at start + k / rate, whatever happened to those before.
//! No clock: the caller says what time it is.

use std::time::Duration;

use tokio::time::Instant;

/// A steady rate from a start on.
pub(super) struct Schedule {
    start: Instant,
    rate: f64,
    /// Events taken or skipped so far; the index of the next one.
    next: u64,
}

impl Schedule {
    /// `rate` in events a second; with one that is not above 0 nothing is ever due.
    pub(super) fn new(start: Instant, rate: f64) -> Self {
        Self {
            start,
            rate,
            next: 0,
        }
    }

    /// When the next event is meant to be sent; `None` = never, or in more years than a clock counts.
    pub(super) fn next_at(&self) -> Option<Instant> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact up to 2^53 events, 285 years at a million a second"
        )]
        let after_s = self.next as f64 / self.rate;
        let after = Duration::try_from_secs_f64(after_s).ok()?;
        self.start.checked_add(after)
    }

    /// The next event, if it is due: when it was meant to be sent, never after `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        if self.next >= self.n_due(now) {
            return None;
        }
        let at = self.next_at()?.min(now);
        self.next += 1;
        Some(at)
    }

    /// Passes over everything that is due; returns how many events that were.
    pub(super) fn skip_until(&mut self, now: Instant) -> u64 {
        let n_due = self.n_due(now);
        let n_skipped = n_due.saturating_sub(self.next);
        self.next += n_skipped;
        n_skipped
    }

    /// Events meant for `now` or earlier, since the start.
    fn n_due(&self, now: Instant) -> u64 {
        let Some(elapsed) = now
            .checked_duration_since(self.start)
            .filter(|_| self.rate > 0.0)
        else {
            return 0;
        };
        // Half a nanosecond more, because times are cut to nanoseconds: the event whose time has come is due.
        let n_gone = (elapsed.as_secs_f64() + 0.5e-9) * self.rate;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and saturation is right"
        )]
        let n_gone = n_gone.floor() as u64;
        n_gone.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn events_are_due_at_their_times_whatever_the_steps() {
        let start = Instant::now();
        for rate in [0.1, 0.7, 1.0, 3.0, 7.0, 999.0, 1_000.0, 12_345.6] {
            let mut schedule = Schedule::new(start, rate);
            assert_eq!(schedule.next_at(), Some(start));
            let mut n_taken = 0_u32;
            for ms in 0..20_000_u64 {
                let now = start + Duration::from_millis(ms);
                while let Some(at) = schedule.take(now) {
                    let meant = start + Duration::from_secs_f64(f64::from(n_taken) / rate);
                    assert!(
                        at <= now && at.duration_since(meant.min(now)) <= Duration::from_nanos(1),
                        "{rate}"
                    );
                    n_taken += 1;
                }
                let next = schedule.next_at().unwrap();
                assert!(
                    next > now,
                    "{rate}: event {n_taken} is due at {ms} ms and was not taken"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_skipped_is_not_taken() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 100.0);
        assert_eq!(schedule.skip_until(start + Duration::from_millis(995)), 100);
        assert_eq!(
            schedule.skip_until(start + Duration::from_millis(500)),
            0,
            "never back"
        );
        assert_eq!(schedule.take(start + Duration::from_millis(999)), None);
        let at = start + Duration::from_secs(1);
        assert_eq!(schedule.take(at), Some(at));
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_rates_neither_panic_nor_spin() {
        let start = Instant::now();
        let later = start + Duration::from_secs(3_600);
        for rate in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let mut schedule = Schedule::new(start, rate);
            assert_eq!(
                (schedule.take(later), schedule.skip_until(later)),
                (None, 0),
                "{rate}"
            );
        }
        let mut slow = Schedule::new(start, f64::MIN_POSITIVE);
        assert_eq!(slow.skip_until(later), 1, "the first is due at the start");
        assert_eq!(slow.next_at(), None);
        let mut fast = Schedule::new(start, f64::MAX);
        assert_eq!(fast.skip_until(later), u64::MAX);
        assert_eq!(fast.skip_until(later), 0);
    }
}
