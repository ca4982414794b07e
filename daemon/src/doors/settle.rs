//! Whether everything up to a mark has run to its end through all stages. Pure: it looks at depths that others read.
//!
//! A stage that reads the source is settled when nothing up to the mark is pending or undelivered. At that instant its
//! output stream holds everything that can ever come of the mark, so the output's last id becomes the mark of those who
//! read it, and so on down. It waits for whatever lies below a mark, others' entries too: an answer may come late, never
//! early.

use crate::record::EntryId;
use crate::store::{Depth, Layout, StageDepth};

/// The progress of one mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settle {
    /// Per stage: nothing up to this id may be open; `None` = not known yet, because a stage above is not settled.
    marks: Vec<Option<EntryId>>,
    settled: Vec<bool>,
}

impl Settle {
    /// Begins with the last id of the source that is waited for.
    pub(super) fn new(layout: &Layout, last: EntryId) -> Self {
        let marks = layout
            .stages
            .iter()
            .map(|stage| (stage.stream == layout.source).then_some(last))
            .collect();
        Self {
            marks,
            settled: vec![false; layout.stages.len()],
        }
    }

    /// Looks at the depths of one instant; true = everything is settled, from then on always.
    pub(super) fn look(&mut self, layout: &Layout, depth: &Depth) -> bool {
        // Inputs come before outputs in the layout, so one pass carries a mark as far down as this instant allows.
        for (index, stage) in layout.stages.iter().enumerate() {
            if self.settled[index] {
                continue;
            }
            let (Some(mark), Some(now)) = (self.marks[index], depth.stages.get(index)) else {
                continue;
            };
            if !is_past(now, mark) {
                continue;
            }
            self.settled[index] = true;
            let Some(output) = &stage.output else {
                continue;
            };
            for (reader, below) in layout
                .stages
                .iter()
                .enumerate()
                .filter(|(_, below)| below.stream == *output)
            {
                debug_assert!(
                    reader > index,
                    "stage {} comes before what it reads",
                    below.name
                );
                self.marks[reader] = depth.stages.get(reader).map(|d| d.last_id);
            }
        }
        self.settled.iter().all(|settled| *settled)
    }
}

fn is_past(now: &StageDepth, mark: EntryId) -> bool {
    if mark == EntryId::MIN {
        // Nothing was ever emitted.
        return true;
    }
    now.present
        && now.last_delivered >= mark
        && now.oldest_pending.is_none_or(|oldest| oldest > mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::testkit;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// Last id of the input, last delivered, oldest pending; 0 = none.
    fn stage(last: u64, delivered: u64, pending: u64) -> StageDepth {
        StageDepth {
            present: true,
            last_id: id(last),
            last_delivered: id(delivered),
            oldest_pending: (pending > 0).then(|| id(pending)),
            ..StageDepth::default()
        }
    }

    fn depth(stages: Vec<StageDepth>) -> Depth {
        Depth {
            stages,
            ..Depth::default()
        }
    }

    #[test]
    fn a_mark_settles_stage_after_stage() {
        let layout = testkit::layout();
        assert_eq!(
            layout.stages.len(),
            2,
            "enrich reads the source, count reads enrich"
        );
        let mut settle = Settle::new(&layout, id(10));
        let steps = [
            (
                "nothing delivered",
                vec![stage(10, 0, 0), stage(0, 0, 0)],
                false,
            ),
            (
                "delivered in part",
                vec![stage(10, 9, 4), stage(3, 3, 0)],
                false,
            ),
            (
                "all delivered, one pending",
                vec![stage(10, 10, 10), stage(9, 9, 0)],
                false,
            ),
            (
                "the first is settled, the second has not read",
                vec![stage(20, 20, 15), stage(110, 9, 0)],
                false,
            ),
            (
                "the second works; newer ones do not count",
                vec![stage(20, 20, 15), stage(150, 120, 110)],
                false,
            ),
            (
                "the second is past its mark",
                vec![stage(20, 20, 15), stage(150, 120, 111)],
                true,
            ),
        ];
        for (desc, stages, expected) in steps {
            assert_eq!(settle.look(&layout, &depth(stages)), expected, "{desc}");
        }
        // Once settled it stays so, whatever comes.
        assert!(settle.look(&layout, &depth(vec![stage(99, 0, 1), stage(99, 0, 1)])));
    }

    #[test]
    fn everything_can_settle_in_one_look() {
        let layout = testkit::layout();
        let mut settle = Settle::new(&layout, id(10));
        assert!(settle.look(&layout, &depth(vec![stage(10, 10, 0), stage(12, 12, 0)])));
    }

    #[test]
    fn an_output_that_was_never_written_is_settled() {
        let layout = testkit::layout();
        let mut settle = Settle::new(&layout, id(10));
        let nothing_emitted = StageDepth::default();
        assert!(settle.look(&layout, &depth(vec![stage(10, 10, 0), nothing_emitted])));
    }

    #[test]
    fn a_missing_group_or_an_empty_depth_settles_nothing() {
        let layout = testkit::layout();
        let mut settle = Settle::new(&layout, id(10));
        let gone = StageDepth {
            present: false,
            ..stage(10, 10, 0)
        };
        assert!(!settle.look(&layout, &depth(vec![gone, stage(0, 0, 0)])));
        assert!(!settle.look(&layout, &depth(vec![])));
    }
}
