//! The weather between one daemon and the store, from the seed: calm but for small delays, unless a storm is on.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pipelined::chaos::{Call, Fate, Happens, Weather};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use super::scenario::Storm;

/// No client waits longer for an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// One daemon's sky. What becomes of a call follows from the seed, the caller and how often it has called; so a step taken
/// out of a scenario changes little else.
pub(crate) struct Sky {
    seed: u64,
    state: Mutex<State>,
    era: AtomicU64,
}

#[derive(Default)]
struct State {
    storm: Option<(Storm, Instant)>,
    /// By caller and method.
    n_calls: BTreeMap<u64, u64>,
}

impl Sky {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            state: Mutex::default(),
            era: AtomicU64::new(0),
        }
    }

    pub(crate) fn storm(&self, kind: Storm, until: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.storm = Some((kind, until));
    }

    pub(crate) fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.storm = None;
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.era.fetch_add(1, Ordering::Relaxed);
    }
}

impl Weather for Sky {
    fn fate(&self, call: Call<'_>) -> Fate {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hasher = DefaultHasher::new();
        (self.seed, call.who, call.what).hash(&mut hasher);
        let caller = hasher.finish();
        let n = state.n_calls.entry(caller).or_default();
        *n += 1;
        let mut random = SmallRng::seed_from_u64(caller.wrapping_add(*n));
        let mut fate = Fate::default();
        // Every fourth call takes a moment, so that others come between a call and its answer.
        match random.random_range(0..8) {
            0 => fate.before = Duration::from_millis(random.random_range(1..4)),
            1 => fate.after = Duration::from_millis(random.random_range(1..4)),
            _ => {}
        }
        let now = Instant::now();
        let Some((storm, until)) = state.storm.filter(|(_, until)| *until > now) else {
            return fate;
        };
        let hit = random.random_range(0..100);
        match storm {
            Storm::Refuses(percent) if hit < percent => fate.happens = Happens::Never,
            Storm::LosesAnswers(percent) if hit < percent => fate.unheard = true,
            Storm::Belates(percent, ms) if hit < percent => {
                fate.happens = Happens::Later(Duration::from_millis(random.random_range(0..=ms)));
            }
            Storm::Repeats(percent, ms) if hit < percent => {
                fate.happens = Happens::Twice(Duration::from_millis(random.random_range(0..=ms)));
            }
            Storm::Slow(ms) => {
                fate.before += Duration::from_millis(random.random_range(0..=ms));
                fate.after += Duration::from_millis(random.random_range(0..=ms));
            }
            Storm::Frozen => {
                let left = until.duration_since(now);
                if left <= CLIENT_TIMEOUT {
                    // It was only late.
                    fate.before += left;
                } else {
                    fate.before += CLIENT_TIMEOUT;
                    fate.happens = if hit < 50 {
                        Happens::Never
                    } else {
                        Happens::Later(left - CLIENT_TIMEOUT)
                    };
                }
            }
            _ => {}
        }
        fate
    }

    fn era(&self) -> u64 {
        self.era.load(Ordering::Relaxed)
    }
}
