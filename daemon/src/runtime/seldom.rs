//! Things that happen thousands of times a second and are told once: a group set back under a long backlog would fill the
//! log otherwise. The meters count every one of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Told at most once in this time.
const ONCE_IN: Duration = Duration::from_secs(5);

/// A sum that is told now and then.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    untold: usize,
    told: Option<Instant>,
}

impl Seldom {
    /// Adds `n`; the sum since it was told last, if it is to be told now. The first is told at once.
    pub(super) fn add(&self, n: usize) -> Option<usize> {
        if n == 0 {
            return None;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += n;
        if state.told.is_some_and(|at| at.elapsed() < ONCE_IN) {
            return None;
        }
        state.told = Some(Instant::now());
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_told_once_and_summed() {
        let seldom = Seldom::default();
        assert_eq!(seldom.add(0), None);
        assert_eq!(seldom.add(3), Some(3));
        assert_eq!(seldom.add(500), None);
        assert_eq!(seldom.add(500), None);
        tokio::time::advance(ONCE_IN).await;
        assert_eq!(seldom.add(0), None);
        assert_eq!(seldom.add(1), Some(1_001));
        assert_eq!(seldom.add(1), None);
    }
}
