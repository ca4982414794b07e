//! The only room that reads the wall clock. Waiting is tokio's (pausable in tests); this tells what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Wall time, for stamps that leave the process; never for measuring how long something took.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970.
    fn now_us(&self) -> u64;

    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64 {
        self.now_us() / 1_000
    }

    /// RFC 3339 UTC with milliseconds.
    fn now_rfc3339(&self) -> String {
        rfc3339(self.now_ms())
    }
}

/// RFC 3339 UTC with milliseconds; out-of-range values are clamped to the greatest that can be written.
pub fn rfc3339(ms: u64) -> String {
    let stamp = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX);
    format!("{stamp:.3}")
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Clock for System {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that may read it"
    )]
    fn now_us(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Clone, Default)]
pub struct Manual(Arc<AtomicI64>);

impl Manual {
    /// Starts at this many milliseconds since 1970.
    pub fn at_ms(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms * 1_000)))
    }

    /// Moves by this many milliseconds, back if negative.
    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms * 1_000, Ordering::SeqCst);
    }
}

impl Clock for Manual {
    fn now_us(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::SeqCst)).unwrap_or(0)
    }
}

/// A clock that goes with tokio's time: where that is paused it stands, where that jumps to the next timer it jumps along.
/// It can be set ahead, as a server's clock is by an administrator; clones are one clock. For tests and simulation only.
#[derive(Debug, Clone)]
pub struct Following {
    began: tokio::time::Instant,
    began_us: u64,
    ahead_us: Arc<AtomicI64>,
}

impl Following {
    /// Says `ms` milliseconds since 1970 now. Needs a tokio runtime around it.
    pub fn from_ms(ms: u64) -> Self {
        Self {
            began: tokio::time::Instant::now(),
            began_us: ms.saturating_mul(1_000),
            ahead_us: Arc::default(),
        }
    }

    /// A clock of another machine: the same time now, set ahead apart from this one.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            ahead_us: Arc::default(),
            ..self.clone()
        }
    }

    /// Sets it ahead by this many milliseconds, back if negative.
    pub fn jump_ms(&self, ms: i64) {
        self.ahead_us
            .fetch_add(ms.saturating_mul(1_000), Ordering::SeqCst);
    }
}

impl Clock for Following {
    fn now_us(&self) -> u64 {
        let gone_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.began_us
            .saturating_add(gone_us)
            .saturating_add_signed(self.ahead_us.load(Ordering::SeqCst))
    }
}
