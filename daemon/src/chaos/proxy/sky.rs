//! The weather of one direction of one connection: whether it has the faults at all, and how late each piece is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;

use super::{Counts, Faults, Line};

/// The faults, and which connections have them.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    pub(super) faults: Faults,
    pub(super) share: f64,
    pub(super) seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Requests,
    Replies,
}

/// A stream of randomness of its own for each seed, connection and use.
pub(super) fn random(seed: u64, connection: u64, what: u64) -> SmallRng {
    // Odd constants spread numbers that lie close together (Knuth's multiplicative hashing with 2^64 / phi).
    let mixed = connection
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(what.wrapping_mul(0xD1B5_4A32_D192_ED03));
    SmallRng::seed_from_u64(seed ^ mixed)
}

/// Uses of [`random`]; breaks come after them.
const LOT: u64 = 0;
const REQUESTS: u64 = 1;
const REPLIES: u64 = 2;
pub(super) const BREAKS: u64 = 3;

/// The weather as one direction of one connection has it.
pub(super) struct Sky {
    /// Number of the connection.
    n: u64,
    weather: watch::Receiver<Weather>,
    counts: Arc<Counts>,
    way: Way,
    /// Of this seed is all that follows.
    seed: u64,
    random: SmallRng,
    lot: f64,
}

impl Sky {
    pub(super) fn new(line: &Line, way: Way) -> Self {
        let seed = line.weather.borrow().seed;
        let mut sky = Self {
            n: line.n,
            weather: line.weather.clone(),
            counts: Arc::clone(&line.counts),
            way,
            seed,
            random: SmallRng::seed_from_u64(seed),
            lot: 0.0,
        };
        sky.draw(seed);
        sky
    }

    fn draw(&mut self, seed: u64) {
        let way = match self.way {
            Way::Requests => REQUESTS,
            Way::Replies => REPLIES,
        };
        self.seed = seed;
        self.random = random(seed, self.n, way);
        self.lot = random(seed, self.n, LOT).random();
    }

    /// The faults as of now; `None` = none for this connection.
    pub(super) fn faults(&mut self) -> Option<Faults> {
        let weather = self.weather.borrow().clone();
        if weather.seed != self.seed {
            self.draw(weather.seed);
        }
        (weather.faults != Faults::default() && self.lot < weather.share).then_some(weather.faults)
    }

    /// Returns when nothing holds this direction back, and whether anything did.
    pub(super) async fn open(&mut self) -> bool {
        let mut was_held = false;
        loop {
            // Marked as seen before the look, so that a change in between is not missed.
            self.weather.mark_unchanged();
            let is_held = self.faults().is_some_and(|faults| match self.way {
                Way::Requests => faults.holds_requests,
                Way::Replies => faults.holds_replies,
            });
            if !is_held {
                return was_held;
            }
            if !was_held {
                was_held = true;
                self.counts.pieces.fetch_add(1, Ordering::Relaxed);
            }
            if self.weather.changed().await.is_err() {
                // The proxy ends, and this with it.
                return was_held;
            }
        }
    }

    /// How much later the next piece arrives.
    pub(super) fn delay(&mut self) -> Duration {
        self.faults()
            .map_or(Duration::ZERO, |faults| late(&faults, &mut self.random))
    }
}

fn late(faults: &Faults, random: &mut SmallRng) -> Duration {
    if faults.jitter.is_zero() {
        return faults.delay;
    }
    let moved = faults.delay + faults.jitter.mul_f64(2.0 * random.random::<f64>());
    moved.saturating_sub(faults.jitter)
}
