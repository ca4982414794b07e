//! The ledger in words.

use pipectl_shared::snapshot::Ledger;

use super::stages::Piece;
use crate::output::human::{UNKNOWN, count, signed};
use crate::theme::Role;

/// The ledger as a sum that can be checked, the verdict first. `is_whole`: terms that are 0 are said too.
pub(super) fn ledger_terms(ledger: Option<&Ledger>, is_whole: bool) -> Vec<Piece> {
    let Some(ledger) = ledger else {
        let text = format!("{UNKNOWN} unknown while Redis is away");
        return vec![(text, Role::Warn)];
    };
    let mut terms = vec![verdict(ledger)];
    terms.push((format!("accepted {}", count(ledger.accepted)), Role::Plain));
    let estimate = if ledger.estimated { "~" } else { "" };
    let sum = [
        ("+ spawned", ledger.spawned, Role::Plain),
        ("= applied", ledger.applied, Role::Plain),
        ("+ filtered", ledger.filtered, Role::Plain),
        ("+ late", ledger.late, Role::Plain),
        ("+ discarded", ledger.discarded, Role::Warn),
        ("+ deduplicated", ledger.deduplicated, Role::Plain),
        ("+ dead", ledger.dead, Role::Warn),
        ("+ lost", ledger.lost, Role::Bad),
        ("+ pending", ledger.pending, Role::Plain),
    ];
    let mut n_left_out = 0;
    for (name, n, role) in sum {
        // Applied is never left out: it is what the sum is for.
        if n == 0 && !is_whole && name != "= applied" {
            n_left_out += 1;
            continue;
        }
        let role = if n == 0 { Role::Plain } else { role };
        terms.push((format!("{name} {}", count(n)), role));
    }
    terms.push((
        format!("+ undelivered {estimate}{}", count(ledger.undelivered)),
        Role::Plain,
    ));
    if is_whole || ledger.unaccounted != 0 {
        let role = match ledger.unaccounted {
            0 => Role::Plain,
            _ => Role::Bad,
        };
        terms.push((
            format!("+ unaccounted {}", signed(ledger.unaccounted)),
            role,
        ));
    } else {
        n_left_out += 1;
    }
    if n_left_out > 0 {
        terms.push((format!("({n_left_out} others 0)"), Role::Dim));
    }
    // Outside the sum, so without a sign.
    if let Some(duplicated) = ledger.duplicated.filter(|n| is_whole || *n != 0) {
        let role = if duplicated == 0 {
            Role::Plain
        } else {
            Role::Bad
        };
        terms.push((format!("duplicated {}", signed(duplicated)), role));
    }
    if is_whole || ledger.rejected > 0 {
        let role = if ledger.rejected == 0 {
            Role::Plain
        } else {
            Role::Warn
        };
        terms.push((format!("rejected {}", count(ledger.rejected)), role));
    }
    terms
}

/// Whether the sum comes out, and by how much it does not.
pub(super) fn verdict(ledger: &Ledger) -> Piece {
    if ledger.balanced {
        return ("balanced".to_owned(), Role::Good);
    }
    let mut text = format!("UNBALANCED: unaccounted {}", signed(ledger.unaccounted));
    if let Some(duplicated) = ledger.duplicated.filter(|n| *n != 0) {
        text.push_str(&format!(", duplicated {}", signed(duplicated)));
    }
    (text, Role::Bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(terms: &[Piece]) -> String {
        let texts: Vec<&str> = terms.iter().map(|(text, _)| text.as_str()).collect();
        texts.join(" ")
    }

    #[test]
    fn the_ledger_is_a_sum_that_can_be_checked() {
        let ledger = Ledger {
            accepted: 1_010,
            applied: 1_000,
            dead: 3,
            pending: 7,
            balanced: true,
            duplicated: Some(0),
            ..Ledger::default()
        };
        assert_eq!(
            text(&ledger_terms(Some(&ledger), false)),
            "balanced accepted 1,010 = applied 1,000 + dead 3 + pending 7 + undelivered 0 (7 others 0)"
        );
        assert_eq!(
            text(&ledger_terms(Some(&ledger), true)),
            "balanced accepted 1,010 + spawned 0 = applied 1,000 + filtered 0 + late 0 + discarded 0 + deduplicated 0 \
             + dead 3 + lost 0 + pending 7 + undelivered 0 + unaccounted 0 duplicated 0 rejected 0"
        );
    }

    #[test]
    fn a_ledger_that_does_not_come_out_says_by_how_much() {
        let table = [
            (-3, None, "UNBALANCED: unaccounted -3"),
            (0, Some(2), "UNBALANCED: unaccounted 0, duplicated 2"),
            (
                12_000,
                Some(-1),
                "UNBALANCED: unaccounted 12,000, duplicated -1",
            ),
        ];
        for (unaccounted, duplicated, expected) in table {
            let ledger = Ledger {
                unaccounted,
                duplicated,
                estimated: true,
                undelivered: 4,
                ..Ledger::default()
            };
            assert_eq!(verdict(&ledger), (expected.to_owned(), Role::Bad));
            let terms = text(&ledger_terms(Some(&ledger), false));
            assert!(terms.contains("+ undelivered ~4"), "{terms}");
        }
        let unknown = ledger_terms(None, false);
        assert_eq!(unknown[0].0, "? unknown while Redis is away");
    }
}
