//! The only room of `pipectl` that reads a clock or waits for time to pass.

use std::time::{Duration, Instant};

/// Monotonic time, for deadlines and for how long something took.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that may read it"
)]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Now, RFC 3339 UTC with milliseconds: the `ts` of documents.
pub fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// RFC 3339 UTC with seconds for milliseconds since 1970; out-of-range values are clamped.
pub fn rfc3339(ms: u64) -> String {
    let stamp = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX);
    format!("{stamp:.0}")
}

/// Milliseconds since 1970 of an RFC 3339 stamp; `None` when it is none, or from before 1970.
pub fn ms_of_rfc3339(stamp: &str) -> Option<u64> {
    let stamp: jiff::Timestamp = stamp.parse().ok()?;
    u64::try_from(stamp.as_millisecond()).ok()
}

/// Milliseconds since 1970, to tell how long ago a daemon's stamp was.
pub fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Blocks this thread: the pause between two polls of something that cannot be waited for.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that may sleep"
)]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// A point in time at which patience ends; `None` inside means never.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// That much from now; a duration too long to add means never.
    pub fn after(duration: Duration) -> Self {
        Self(monotonic().checked_add(duration))
    }

    /// Patience without end; the user's Ctrl-C owns the wait.
    pub fn never() -> Self {
        Self(None)
    }

    /// What is left, zero when it is over; `None` = never over.
    pub fn left(&self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(monotonic()))
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// What is left, but at most `slice`.
    pub fn slice(&self, slice: Duration) -> Duration {
        self.left().map_or(slice, |left| left.min(slice))
    }

    /// The earlier of the two.
    #[must_use]
    pub fn or_after(self, duration: Duration) -> Self {
        let other = Self::after(duration);
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}
