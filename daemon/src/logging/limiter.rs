//! Holds back what repeats: an error that comes a thousand times a second is told once, with how often it was not told.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Keys kept; beyond that strangers' keys share one entry, so that keys made of data are no memory bomb.
const KEYS_MAX: usize = 256;

/// The key of those that found no room.
const REST: &str = "";

/// Lets one event per key and interval through. Shared by reference; no task, no lock held beyond a map look-up.
#[derive(Debug)]
pub struct Limiter {
    every: Duration,
    seen: Mutex<HashMap<String, Seen>>,
}

#[derive(Debug)]
struct Seen {
    told: Instant,
    suppressed: u64,
}

impl Default for Limiter {
    /// Once a second per key.
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}

impl Limiter {
    /// Once per `every` and key.
    pub fn every(every: Duration) -> Self {
        Self {
            every,
            seen: Mutex::default(),
        }
    }

    /// `Some(n)`: tell it, `n` like it were held back since the last one told. `None`: hold it back (it is counted).
    ///
    /// Keys should be few and our own words (`"commit.failed"`), not data.
    pub fn allow(&self, key: &str) -> Option<u64> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= KEYS_MAX && !seen.contains_key(key) {
            // What was silent for long and owes nobody a count makes room.
            seen.retain(|_, entry| {
                entry.suppressed > 0 || now.duration_since(entry.told) < self.every
            });
        }
        let key = if seen.len() >= KEYS_MAX && !seen.contains_key(key) {
            REST
        } else {
            key
        };
        match seen.get_mut(key) {
            None => {
                seen.insert(
                    key.to_owned(),
                    Seen {
                        told: now,
                        suppressed: 0,
                    },
                );
                Some(0)
            }
            Some(entry) if now.duration_since(entry.told) >= self.every => {
                entry.told = now;
                Some(std::mem::take(&mut entry.suppressed))
            }
            Some(entry) => {
                entry.suppressed += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_told_once_a_second_with_what_was_held_back() {
        let limiter = Limiter::default();
        assert_eq!(limiter.allow("a"), Some(0));
        for _ in 0..1_000 {
            assert_eq!(limiter.allow("a"), None);
        }
        assert_eq!(
            limiter.allow("b"),
            Some(0),
            "another key has its own second"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(limiter.allow("a"), Some(1_000));
        assert_eq!(limiter.allow("b"), Some(0));
        assert_eq!(limiter.allow("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn endless_keys_use_bounded_memory_and_are_still_limited() {
        let limiter = Limiter::default();
        let told = (0..10_000)
            .filter(|n| limiter.allow(&format!("key{n}")).is_some())
            .count();
        assert!(told <= KEYS_MAX + 1, "{told}");
        assert!(limiter.seen.lock().unwrap().len() <= KEYS_MAX + 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(limiter.allow("late"), Some(0), "silent keys made room");
    }
}
