//! Stands in for what the observer will export; to be deleted when `observe::ledger_document` is there.

use pipectl_shared::snapshot;

use crate::store::Depth;

/// The whole pipeline's ledger as the document of the wire.
pub(super) fn ledger_document(depth: &Depth, has_aggregate: bool) -> snapshot::Ledger {
    let ledger = &depth.ledger;
    let unaccounted = ledger.unaccounted();
    let duplicated = has_aggregate.then(|| {
        let rest = i128::from(depth.aggregated) - i128::from(ledger.applied_in_aggregates);
        i64::try_from(rest).unwrap_or(if rest > 0 { i64::MAX } else { i64::MIN })
    });
    snapshot::Ledger {
        accepted: ledger.accepted,
        spawned: u64::try_from(ledger.spawned).unwrap_or(0),
        applied: ledger.applied,
        filtered: ledger.filtered,
        late: ledger.late,
        discarded: ledger.discarded,
        deduplicated: ledger.deduplicated,
        dead: u64::try_from(ledger.dead).unwrap_or(0),
        lost: ledger.lost,
        pending: ledger.pending,
        undelivered: ledger.undelivered,
        estimated: ledger.estimated,
        unaccounted,
        duplicated,
        rejected: ledger.rejected,
        balanced: unaccounted == 0 && duplicated.unwrap_or(0) == 0,
    }
}
