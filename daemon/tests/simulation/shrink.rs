//! Makes a failing scenario smaller while it still fails: delta debugging over its steps, then over the events in them.

use super::scenario::{Scenario, What};

/// Lives at most; a life takes some tens of milliseconds.
const LIVES_MAX: usize = 600;

/// The smallest that was found.
pub(crate) fn shrink(scenario: &Scenario, fails: impl Fn(&Scenario) -> bool) -> Scenario {
    let mut best = scenario.clone();
    let mut n_lives = 0;
    let mut try_it = |best: &mut Scenario, smaller: Scenario| {
        n_lives += 1;
        let is_better = n_lives <= LIVES_MAX && fails(&smaller);
        if is_better {
            *best = smaller;
        }
        is_better
    };
    loop {
        let before = size(&best);
        let mut chunk = best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.steps.len() {
                let mut smaller = best.clone();
                let end = (at + chunk).min(smaller.steps.len());
                smaller.steps.drain(at..end);
                if !try_it(&mut best, smaller) {
                    at += chunk;
                }
            }
            if chunk == 1 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
        for at in 0..best.steps.len() {
            let mut n = 0;
            loop {
                let mut smaller = best.clone();
                let (What::Foreign(events) | What::Door { events, .. }) =
                    &mut smaller.steps[at].what
                else {
                    break;
                };
                if events.len() <= 1 || n >= events.len() {
                    break;
                }
                events.remove(n);
                if !try_it(&mut best, smaller) {
                    n += 1;
                }
            }
        }
        if size(&best) == before {
            return best;
        }
    }
}

fn size(scenario: &Scenario) -> usize {
    let events = scenario.steps.iter().map(|step| match &step.what {
        What::Foreign(events) | What::Door { events, .. } => events.len(),
        _ => 1,
    });
    events.sum()
}
