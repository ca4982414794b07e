//! Weather between the caches and what they look up: slower answers, and a share that fails. Wired in by `app` where
//! experiments may run; counts what reaches the backend, so that a stampede would be seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::lookup::{Answer, Lookup, LookupError};

/// One for all lookups of a daemon. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct LookupWeather(Arc<State>);

#[derive(Default)]
struct State {
    /// `None` = fair.
    faults: Mutex<Option<Faults>>,
    seed: AtomicU64,
    keys: AtomicU64,
    slow: AtomicU64,
    failed: AtomicU64,
}

struct Faults {
    delay: Duration,
    fails: f64,
    random: SmallRng,
}

/// How often it hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookupCounts {
    /// Keys that were asked of the backend.
    pub keys: u64,
    /// Calls that were slowed.
    pub slow: u64,
    /// Calls that failed.
    pub failed: u64,
}

impl LookupWeather {
    /// Puts the weather between `inner` and its callers.
    pub fn around(&self, inner: Arc<dyn Lookup>) -> Arc<dyn Lookup> {
        Arc::new(Weathered {
            inner,
            weather: self.clone(),
        })
    }

    /// From now on each call takes this much longer, and this share of them (0 to 1) fails.
    pub fn set(&self, delay: Duration, fails: f64) {
        let seed = self.0.seed.load(Ordering::Relaxed);
        *self.faults() = Some(Faults {
            delay,
            fails,
            random: SmallRng::seed_from_u64(seed),
        });
    }

    /// From now on the weather is fair.
    pub fn clear(&self) {
        *self.faults() = None;
    }

    /// What fails is drawn with this seed from the next [`LookupWeather::set`] on; counts from zero.
    pub fn begin(&self, seed: u64) {
        self.0.seed.store(seed, Ordering::Relaxed);
        for counter in [&self.0.keys, &self.0.slow, &self.0.failed] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Since the last [`LookupWeather::begin`].
    pub fn counts(&self) -> LookupCounts {
        LookupCounts {
            keys: self.0.keys.load(Ordering::Relaxed),
            slow: self.0.slow.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
        }
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Option<Faults>> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Weathered {
    inner: Arc<dyn Lookup>,
    weather: LookupWeather,
}

#[async_trait]
impl Lookup for Weathered {
    async fn load(&self, keys: &[Bytes]) -> Result<Vec<Answer>, LookupError> {
        let state = &self.weather.0;
        // A lookup is a trip over the network; beside it this lock is nothing.
        let (delay, fails) = match &mut *self.weather.faults() {
            None => (Duration::ZERO, false),
            Some(faults) => (faults.delay, faults.random.random::<f64>() < faults.fails),
        };
        if !delay.is_zero() {
            state.slow.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
        }
        if fails {
            state.failed.fetch_add(1, Ordering::Relaxed);
            return Err(LookupError("failed by a fault".to_owned()));
        }
        state.keys.fetch_add(keys.len() as u64, Ordering::Relaxed);
        self.inner.load(keys).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::lookup::Fixed;

    fn keys(n: usize) -> Vec<Bytes> {
        (0..n).map(|n| Bytes::from(format!("k{n}"))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_late_while_it_lasts_and_every_key_that_reaches_the_backend_counts() {
        let (weather, behind) = (LookupWeather::default(), Fixed::default());
        let lookup = weather.around(Arc::new(behind.clone()));
        assert_eq!(lookup.load(&keys(3)).await.unwrap().len(), 3);
        weather.set(Duration::from_secs(2), 0.0);
        let begun = Instant::now();
        assert_eq!(lookup.load(&keys(2)).await.unwrap().len(), 2);
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        let counts = LookupCounts {
            keys: 5,
            slow: 1,
            failed: 0,
        };
        assert_eq!(weather.counts(), counts);
        weather.clear();
        let begun = Instant::now();
        lookup.load(&keys(1)).await.unwrap();
        assert!(begun.elapsed().is_zero());
        weather.begin(1);
        assert_eq!(weather.counts(), LookupCounts::default());
        assert_eq!(behind.calls().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_calls_fails_as_the_seed_says_and_those_do_not_reach_the_backend() {
        let mut runs = Vec::new();
        for seed in [7, 7, 8] {
            let (weather, behind) = (LookupWeather::default(), Fixed::default());
            let lookup = weather.around(Arc::new(behind.clone()));
            weather.begin(seed);
            weather.set(Duration::ZERO, 0.5);
            let mut failed = Vec::new();
            for _ in 0..40 {
                failed.push(lookup.load(&keys(1)).await.is_err());
            }
            let n_failed = failed.iter().filter(|failed| **failed).count();
            assert!((1..40).contains(&n_failed), "{n_failed}");
            assert_eq!(weather.counts().failed, n_failed as u64);
            assert_eq!(behind.calls().len(), 40 - n_failed);
            runs.push(failed);
            weather.set(Duration::ZERO, 1.0);
            assert!(lookup.load(&keys(1)).await.is_err());
        }
        assert_eq!(runs[0], runs[1], "the same seed");
        assert_ne!(runs[0], runs[2], "another seed");
    }
}
