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
            Loss::Injected | Loss::Unaccounted => self.taken,
        };
        let tolerance = match e.lost {
            Loss::None => "= 0".to_owned(),
            Loss::Injected | Loss::Unaccounted => format!("= {wanted_loss} (injected)"),
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
        // Against the one before: what an earlier fault left unexplained is not this one's.
        let wanted_off = match e.lost {
            Loss::Unaccounted => self.dropped,
            Loss::None | Loss::WithServer { .. } | Loss::Injected => 0,
        };
        let is_right = self
            .ledger_before
            .zip(self.ledger_after)
            .map(|(before, after)| {
                let lost = after.lost.saturating_sub(before.lost);
                let off = after.unaccounted.saturating_sub(before.unaccounted);
                let doubled = after.duplicated.unwrap_or(0) - before.duplicated.unwrap_or(0);
                // It also knows what others lost; it must know at least what was removed.
                let knows = match e.lost {
                    Loss::Injected => lost >= self.taken,
                    Loss::None | Loss::WithServer { .. } | Loss::Unaccounted => lost == 0,
                };
                let steady = wanted_off > 0 || self.unaccounted <= before.unaccounted.abs();
                u64::try_from(off) == Ok(wanted_off) && doubled == 0 && knows && steady
            });
        add(
            "the product's ledger",
            match e.lost {
                Loss::Injected => format!("knows {} lost, nothing unaccounted", self.taken),
                Loss::Unaccounted => format!("knows {wanted_off} unaccounted, nothing lost"),
                Loss::None | Loss::WithServer { .. } => {
                    "nothing lost, nothing unaccounted".to_owned()
                }
            },
            [
                told(self.ledger_before),
                Some(format!("unaccounted {}", self.unaccounted)),
                told(self.ledger_after),
            ],
            is_right,
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
