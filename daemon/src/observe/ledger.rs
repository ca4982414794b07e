//! The store's ledger counters become the document that people and scripts read (semantics.md section 3).
//!
//! Pure; called by `build` for the Snapshot and by `ledger.get`. Counts nothing itself: the store did, at one instant.

use pipectl_shared::snapshot;

use crate::store;

/// The whole pipeline's ledger. `has_aggregate`: whether any stage aggregates; without one `duplicated` is unknown by
/// nature and stays `None`.
pub fn ledger_document(depth: &store::Depth, has_aggregate: bool) -> snapshot::Ledger {
    let duplicated = has_aggregate.then(|| {
        clamp(i128::from(depth.aggregated) - i128::from(depth.ledger.applied_in_aggregates))
    });
    document(&depth.ledger, duplicated)
}

/// One stage's own line. `duplicated` belongs to the whole and is `None` here.
pub fn stage_ledger(ledger: &store::Ledger) -> snapshot::Ledger {
    document(ledger, None)
}

/// `spawned` and `dead` can be negative in the store (a dead letter of an earlier ledger that was redriven in this one);
/// the document has no negative counts, so they show as 0. The residual is computed from the true ones, so that
/// such a ledger is not reported as unbalanced.
fn document(ledger: &store::Ledger, duplicated: Option<i64>) -> snapshot::Ledger {
    let unaccounted = ledger.unaccounted();
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

fn clamp(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n > 0 { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled() -> store::Ledger {
        store::Ledger {
            accepted: 100,
            spawned: 10,
            applied: 80,
            filtered: 5,
            late: 4,
            discarded: 3,
            deduplicated: 2,
            dead: 6,
            lost: 1,
            pending: 7,
            undelivered: 2,
            estimated: false,
            applied_in_aggregates: 80,
            rejected: 9,
        }
    }

    #[test]
    fn the_document_says_what_the_counters_say() {
        struct Case {
            desc: &'static str,
            change: fn(&mut store::Depth),
            has_aggregate: bool,
            unaccounted: i64,
            duplicated: Option<i64>,
            balanced: bool,
        }
        let cases = [
            Case {
                desc: "everything has its place",
                change: |_| {},
                has_aggregate: true,
                unaccounted: 0,
                duplicated: Some(0),
                balanced: true,
            },
            Case {
                desc: "a foreign acknowledgement leaves a residual",
                change: |d| d.ledger.pending -= 2,
                has_aggregate: true,
                unaccounted: 2,
                duplicated: Some(0),
                balanced: false,
            },
            Case {
                desc: "an effect applied twice is a duplicate, and the sum still holds",
                change: |d| d.aggregated += 1,
                has_aggregate: true,
                unaccounted: 0,
                duplicated: Some(1),
                balanced: false,
            },
            Case {
                desc: "an effect that is missing is a negative duplicate",
                change: |d| d.aggregated -= 1,
                has_aggregate: true,
                unaccounted: 0,
                duplicated: Some(-1),
                balanced: false,
            },
            Case {
                desc: "without an aggregate nobody knows of duplicates",
                change: |d| d.aggregated = 0,
                has_aggregate: false,
                unaccounted: 0,
                duplicated: None,
                balanced: true,
            },
            Case {
                desc: "lost entries are known, not hidden: still balanced",
                change: |d| {
                    d.ledger.lost += 5;
                    d.ledger.pending -= 5;
                },
                has_aggregate: true,
                unaccounted: 0,
                duplicated: Some(0),
                balanced: true,
            },
        ];
        for case in cases {
            let mut depth = store::Depth {
                ledger: settled(),
                aggregated: 80,
                ..store::Depth::default()
            };
            (case.change)(&mut depth);
            let document = ledger_document(&depth, case.has_aggregate);
            assert_eq!(document.unaccounted, case.unaccounted, "{}", case.desc);
            assert_eq!(document.duplicated, case.duplicated, "{}", case.desc);
            assert_eq!(document.balanced, case.balanced, "{}", case.desc);
            assert_eq!(document.rejected, 9, "{}", case.desc);
        }
    }

    #[test]
    fn more_redriven_than_dead_shows_no_negative_count_and_stays_balanced() {
        let mut ledger = settled();
        ledger.dead = -3;
        ledger.applied += 9;
        let document = stage_ledger(&ledger);
        assert_eq!(
            (document.dead, document.unaccounted, document.balanced),
            (0, 0, true)
        );
        assert_eq!(document.duplicated, None);
    }

    prop_compose! {
        fn any_ledger(max: u64)(
            n in proptest::collection::vec(0..max, 11),
            spawned in -5i64..1_000,
            dead in -5i64..1_000,
            estimated: bool,
        ) -> store::Ledger {
            store::Ledger {
                accepted: n[0], spawned, applied: n[1], filtered: n[2], late: n[3], discarded: n[4],
                deduplicated: n[5], dead, lost: n[6], pending: n[7], undelivered: n[8], estimated,
                applied_in_aggregates: n[9], rejected: n[10],
            }
        }
    }

    proptest! {
        #[test]
        fn the_equation_holds_for_every_document(ledger in any_ledger(1 << 40)) {
            let d = stage_ledger(&ledger);
            let came = i128::from(d.accepted) + i128::from(ledger.spawned);
            let went = i128::from(d.applied) + i128::from(d.filtered) + i128::from(d.late) + i128::from(d.discarded)
                + i128::from(d.deduplicated) + i128::from(ledger.dead) + i128::from(d.lost) + i128::from(d.pending)
                + i128::from(d.undelivered);
            prop_assert_eq!(came, went + i128::from(d.unaccounted));
            prop_assert_eq!(d.balanced, d.unaccounted == 0);
            if ledger.spawned >= 0 && ledger.dead >= 0 {
                prop_assert_eq!((d.spawned, d.dead), (ledger.spawned.unsigned_abs(), ledger.dead.unsigned_abs()));
            } else {
                prop_assert!(ledger.spawned >= 0 || d.spawned == 0);
                prop_assert!(ledger.dead >= 0 || d.dead == 0);
            }
        }

        #[test]
        fn no_counters_make_it_overflow(ledger in any_ledger(u64::MAX), aggregated: u64) {
            let depth = store::Depth { ledger, aggregated, ..store::Depth::default() };
            let d = ledger_document(&depth, true);
            prop_assert_eq!(d.balanced, d.unaccounted == 0 && d.duplicated == Some(0));
        }
    }
}
