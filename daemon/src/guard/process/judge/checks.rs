//! The hypothesis line by line.

use pipectl_shared::chaos::{Check, Measurements};
use pipectl_shared::snapshot::Ledger;

use super::{Seen, ms, ms_of};
use crate::experiments::{Amount, Loss};

impl Seen<'_> {
    pub(super) fn checks(&self, m: &Measurements) -> Vec<Check> {
        let e = self.expects;
        let mut checks = Vec::new();
        let mut add =
            |name: &str, tolerance: String, [before, during, after]: [Option<String>; 3], held| {
                checks.push(Check {
                    name: name.to_owned(),
                    tolerance,
                    before,
                    during,
                    after,
                    held,
                });
            };
        let count = |n: Option<u64>| n.map(|n| n.to_string());
        let wanted_loss = match e.lost {
            Loss::None | Loss::WithServer { .. } => 0,
            Loss::Injected => self.trimmed,
        };
        let tolerance = match e.lost {
            Loss::None => "= 0".to_owned(),
            Loss::Injected => format!("= {wanted_loss} (injected)"),
            Loss::WithServer { ms } => format!("= 0 beside what redis had for less than {ms} ms"),
        };
        add(
            "lost",
            tolerance,
            [None, None, count(m.lost)],
            m.lost.map(|n| n == wanted_loss),
        );
        add(
            "duplicated",
            "= 0".to_owned(),
            [None, None, count(m.duplicated)],
            m.duplicated.map(|n| n == 0),
        );
        let told = |ledger: Option<&Ledger>| {
            ledger.map(|l| format!("unaccounted {}, lost {}", l.unaccounted, l.lost))
        };
        let balanced = self.ledger_after.map(|after| {
            let lost = self
                .ledger_before
                .map_or(0, |before| after.lost.saturating_sub(before.lost));
            after.unaccounted == 0
                && after.duplicated.unwrap_or(0) == 0
                && (self.trimmed > 0 || lost == 0)
        });
        // The ledger also knows losses of others; it must know at least those that were injected.
        let knows = self
            .ledger_after
            .zip(self.ledger_before)
            .map(|(after, before)| after.lost.saturating_sub(before.lost) >= self.trimmed);
        add(
            "the product's ledger",
            if self.trimmed > 0 {
                format!("balanced, and knows {} lost", self.trimmed)
            } else {
                "balanced".to_owned()
            },
            [
                told(self.ledger_before),
                Some(format!("unaccounted {}", self.unaccounted)),
                told(self.ledger_after),
            ],
            balanced
                .zip(knows)
                .map(|(a, b)| a && b && self.unaccounted == 0),
        );
        add(
            "availability",
            format!(">= {:.1} %", e.availability * 100.0),
            [
                None,
                None,
                m.availability.map(|a| format!("{:.2} %", a * 100.0)),
            ],
            m.availability.map(|a| a >= e.availability),
        );
        let limit = ms_of(e.recover_ms);
        add(
            "recovered",
            format!("within {limit:.0} ms"),
            [
                None,
                None,
                Some(
                    m.recover_ms
                        .map_or_else(|| "not".to_owned(), |ms| format!("{ms:.0} ms")),
                ),
            ],
            self.recover_from
                .map(|_| m.recover_ms.is_some_and(|ms| ms <= limit)),
        );
        if self.has_canaries {
            let worst = |at: usize| {
                let max = self.latencies.get(at)?.iter().max()?;
                Some(format!("{:.0} ms", ms(*max)))
            };
            let held = e.fresh_during.then(|| {
                let during = self.latencies[1].iter().max();
                during.is_some_and(|max| *max <= self.target.fresh)
            });
            add(
                "slowest canary",
                if e.fresh_during {
                    format!("<= {:.0} ms", ms(self.target.fresh))
                } else {
                    "any while the fault is in".to_owned()
                },
                [worst(0), worst(1), worst(2)],
                Some(held.unwrap_or(true)),
            );
        }
        let books = self.books;
        let amount = |want: Amount, injected: u64, is: u64| match want {
            Amount::None => ("= 0".to_owned(), is == 0),
            Amount::Injected => (format!("= {injected} (injected)"), is == injected),
            Amount::Any => ("any".to_owned(), true),
        };
        if let Some(books) = books {
            let is = books.dead.len() as u64;
            let (tolerance, held) = amount(e.dead, books.poison, is);
            add(
                "dead letters of the run",
                tolerance,
                [None, None, Some(is.to_string())],
                Some(held),
            );
            if e.deduplicated != Amount::None {
                let (tolerance, held) = amount(e.deduplicated, self.copies_wanted, books.copies);
                add(
                    "copies that changed nothing",
                    tolerance,
                    [None, None, Some(books.copies.to_string())],
                    Some(held),
                );
            }
        }
        if e.claimed {
            let text = if self.was_claimed { "yes" } else { "no" };
            add(
                "entries went to another worker",
                "yes".to_owned(),
                [None, Some(text.to_owned()), None],
                Some(self.was_claimed),
            );
        }
        if let Some((asked, keys)) = self.backend_keys {
            add(
                "keys asked of the lookup",
                format!("<= {keys} (one a key and life)"),
                [None, Some(asked.to_string()), None],
                Some(asked <= keys),
            );
        }
        let back = self.reverts.iter().filter(|one| one.ok).count();
        add(
            "taken back",
            "all".to_owned(),
            [
                None,
                None,
                Some(format!("{back} of {}", self.reverts.len())),
            ],
            Some(back == self.reverts.len()),
        );
        checks
    }
}
