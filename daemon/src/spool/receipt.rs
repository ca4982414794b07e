//! Where the events of one input ended up: ranges of ids, and how many were known before. Pure.

use crate::record::EntryId;
use crate::store::Admitted;

/// Ranges of ids kept; beyond that the last one grows over what lies between.
const RANGES_MAX: usize = 100_000;

/// Filled by a door, or later by the drain for what went through the spool.
#[derive(Debug, Default)]
pub struct Receipt {
    /// First and last id of what was added together, in order.
    pub ranges: Vec<(EntryId, EntryId)>,
    /// The greatest id: added, or known before.
    pub last: Option<EntryId>,
    /// Events that were known before.
    pub n_known: u64,
}

impl Receipt {
    /// Adds the answers of one call, whose ids have nothing of others between them.
    pub fn note(&mut self, admitted: impl Iterator<Item = Admitted>) {
        let mut range: Option<(EntryId, EntryId)> = None;
        for one in admitted {
            let id = match one {
                Admitted::Added(id) => {
                    range = Some((range.map_or(id, |(first, _)| first), id));
                    id
                }
                Admitted::Duplicate(id) => {
                    self.n_known += 1;
                    id
                }
            };
            self.last = self.last.max(Some(id));
        }
        let is_full = self.ranges.len() >= RANGES_MAX;
        match (range, self.ranges.last_mut()) {
            (Some((_, last)), Some(grown)) if is_full => grown.1 = last,
            (Some(range), _) => self.ranges.push(range),
            (None, _) => {}
        }
    }
}
