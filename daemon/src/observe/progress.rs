//! Who makes no progress: compares a consumer's standing at one tick with that at the tick before. Pure; fed by the
//! sampler, judged by `judge`.
//!
//! A consumer progresses when it holds nothing, holds fewer, its oldest entry changed, or (our own workers) its view
//! changed. While the store is away nothing is known, and nothing counts as stalled.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::record::EntryId;
use crate::runtime::WorkerView;
use crate::store::ConsumerDepth;

/// Consumers of one group that are followed; a group with more has a third party's leak, and the rest are not judged.
const FOLLOWED: usize = 1_000;

/// A consumer that holds entries and has not progressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stall {
    /// For how long.
    pub(super) lasts: Duration,
    /// Whether one of our workers has the entries in hand (else they are only listed under its name).
    pub(super) in_hand: bool,
}

#[derive(Debug)]
struct Mark {
    standing: Standing,
    since: Duration,
    round: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    pending: u64,
    oldest: Option<EntryId>,
    /// State, its time, first entry and number of entries of the worker's view.
    view: Option<(&'static str, u64, Option<EntryId>, usize)>,
}

/// One stage's consumers over time.
#[derive(Debug, Default)]
pub(super) struct Progress {
    marks: HashMap<Bytes, Mark>,
    round: u64,
    unread_since: Option<(Duration, u64)>,
    short_since: Option<Duration>,
}

impl Progress {
    /// One tick at `at` (monotonic). `consumers`: `None` = unknown. Returns who stalls and for how long.
    pub(super) fn observe(
        &mut self,
        at: Duration,
        consumers: Option<&[ConsumerDepth]>,
        workers: &[WorkerView],
    ) -> HashMap<Bytes, Stall> {
        let Some(consumers) = consumers else {
            self.marks.clear();
            return HashMap::new();
        };
        self.round += 1;
        let mut stalls = HashMap::new();
        for consumer in consumers.iter().filter(|c| c.pending > 0).take(FOLLOWED) {
            let view = workers
                .iter()
                .find(|w| w.consumer.as_bytes() == &consumer.name[..]);
            let standing = Standing {
                pending: consumer.pending,
                oldest: consumer.oldest,
                view: view.map(|v| {
                    (
                        v.state,
                        v.since_ms,
                        v.held.first().map(|h| h.0),
                        v.held.len(),
                    )
                }),
            };
            let mark = self
                .marks
                .entry(consumer.name.clone())
                .or_insert_with(|| Mark {
                    standing: standing.clone(),
                    since: at,
                    round: 0,
                });
            mark.round = self.round;
            let in_hand = view.is_some_and(|v| !v.held.is_empty());
            if progressed(&mark.standing, &standing, in_hand) {
                mark.since = at;
            }
            mark.standing = standing;
            let lasts = at.saturating_sub(mark.since);
            if !lasts.is_zero() {
                stalls.insert(consumer.name.clone(), Stall { lasts, in_hand });
            }
        }
        let round = self.round;
        self.marks.retain(|_, mark| mark.round == round);
        stalls
    }

    /// How long entries have waited while `n_read` did not grow; `None` when nothing waits (or nobody knows).
    pub(super) fn unread(&mut self, at: Duration, waits: bool, n_read: u64) -> Option<Duration> {
        if !waits {
            self.unread_since = None;
            return None;
        }
        match self.unread_since {
            Some((since, before)) if before == n_read => Some(at.saturating_sub(since)),
            _ => {
                self.unread_since = Some((at, n_read));
                Some(Duration::ZERO)
            }
        }
    }

    /// How long fewer workers run than should.
    pub(super) fn short(&mut self, at: Duration, is_short: bool) -> Duration {
        if !is_short {
            self.short_since = None;
            return Duration::ZERO;
        }
        at.saturating_sub(*self.short_since.get_or_insert(at))
    }
}

fn progressed(before: &Standing, now: &Standing, in_hand: bool) -> bool {
    // A worker between two reads changes its view all the time, while an entry that only stands under its name (it was
    // claimed for it and never handed over) does not move: then the view says nothing.
    let view_moved = in_hand && before.view != now.view;
    // The worker waits for the store: that has its own alert.
    let waits = now.view.is_some_and(|(state, ..)| state == "waiting");
    now.pending < before.pending || before.oldest != now.oldest || view_moved || waits
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn consumer(name: &str, pending: u64, oldest: u64) -> ConsumerDepth {
        ConsumerDepth {
            name: Bytes::copy_from_slice(name.as_bytes()),
            pending,
            oldest: (pending > 0).then_some(EntryId { ms: oldest, seq: 0 }),
            ..ConsumerDepth::default()
        }
    }

    fn view(name: &str, state: &'static str, since_ms: u64, held: u64) -> WorkerView {
        WorkerView {
            consumer: name.to_owned(),
            state,
            since_ms,
            held: (0..held)
                .map(|i| (EntryId { ms: i + 1, seq: 0 }, 5))
                .collect(),
            ..WorkerView::default()
        }
    }

    #[test]
    fn only_what_stands_still_is_a_stall() {
        type Step = (Option<ConsumerDepth>, Option<WorkerView>);
        let cases: [(&str, Step, Step, bool); 9] = [
            (
                "a foreign consumer with the same entries",
                (Some(consumer("f", 3, 10)), None),
                (Some(consumer("f", 3, 10)), None),
                true,
            ),
            (
                "a foreign consumer that took more and finished none",
                (Some(consumer("f", 3, 10)), None),
                (Some(consumer("f", 9, 10)), None),
                true,
            ),
            (
                "fewer entries",
                (Some(consumer("f", 3, 10)), None),
                (Some(consumer("f", 2, 10)), None),
                false,
            ),
            (
                "as many, but others",
                (Some(consumer("f", 3, 10)), None),
                (Some(consumer("f", 3, 11)), None),
                false,
            ),
            (
                "nothing held",
                (Some(consumer("f", 0, 0)), None),
                (Some(consumer("f", 0, 0)), None),
                false,
            ),
            (
                "our worker went on to its next step",
                (Some(consumer("w", 3, 10)), Some(view("w", "working", 1, 3))),
                (
                    Some(consumer("w", 3, 10)),
                    Some(view("w", "committing", 2, 3)),
                ),
                false,
            ),
            (
                "our worker hangs in its work",
                (Some(consumer("w", 3, 10)), Some(view("w", "working", 1, 3))),
                (Some(consumer("w", 3, 10)), Some(view("w", "working", 1, 3))),
                true,
            ),
            (
                "entries stand under a worker that does not have them in hand",
                (Some(consumer("w", 3, 10)), Some(view("w", "reading", 1, 0))),
                (Some(consumer("w", 3, 10)), Some(view("w", "reading", 2, 0))),
                true,
            ),
            (
                "our worker waits for the store",
                (Some(consumer("w", 3, 10)), Some(view("w", "waiting", 1, 3))),
                (Some(consumer("w", 3, 10)), Some(view("w", "waiting", 1, 3))),
                false,
            ),
        ];
        for (desc, first, second, stalls) in cases {
            let mut progress = Progress::default();
            let mut seen = HashMap::new();
            for (at, (consumer, view)) in [(HOUR, first), (HOUR * 2, second)] {
                let consumers: Vec<_> = consumer.into_iter().collect();
                let views: Vec<_> = view.into_iter().collect();
                seen = progress.observe(at, Some(&consumers), &views);
            }
            assert_eq!(!seen.is_empty(), stalls, "{desc}: {seen:?}");
            if stalls {
                assert!(seen.values().all(|s| s.lasts == HOUR), "{desc}");
            }
        }
    }

    #[test]
    fn an_outage_of_the_store_is_no_stall() {
        let mut progress = Progress::default();
        let same = [consumer("f", 3, 10)];
        progress.observe(HOUR, Some(&same), &[]);
        progress.observe(HOUR * 2, None, &[]);
        assert!(progress.observe(HOUR * 3, Some(&same), &[]).is_empty());
    }

    #[test]
    fn consumers_that_are_gone_are_forgotten() {
        let mut progress = Progress::default();
        let many: Vec<_> = (0..5_000)
            .map(|i| consumer(&format!("c{i}"), 1, 1))
            .collect();
        progress.observe(HOUR, Some(&many), &[]);
        assert_eq!(progress.marks.len(), FOLLOWED);
        progress.observe(HOUR, Some(&[]), &[]);
        assert!(progress.marks.is_empty());
    }

    #[test]
    fn entries_wait_unread_only_while_nothing_is_read() {
        let mut progress = Progress::default();
        assert_eq!(progress.unread(HOUR, false, 5), None);
        assert_eq!(progress.unread(HOUR, true, 5), Some(Duration::ZERO));
        assert_eq!(progress.unread(HOUR * 2, true, 5), Some(HOUR));
        assert_eq!(progress.unread(HOUR * 3, true, 6), Some(Duration::ZERO));
        assert_eq!(progress.unread(HOUR * 4, true, 6), Some(HOUR));
    }
}
