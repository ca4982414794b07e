//! Several experiments at once: their methods laid over each other, with what each tolerates.

use super::experiment::{Amount, Expects, Loss, Method, RecoverFrom};

/// Between the names of experiments that are run at once: `net.latency+worker.kill`.
pub const AND: char = '+';

/// All of them at once; `None` = there is none.
///
/// Steps keep their times, everything lasts as long as the longest, and what one tolerates is tolerated: two faults together
/// are not expected to be harmless where one alone is not.
pub fn together(methods: Vec<Method>) -> Option<Method> {
    methods.into_iter().reduce(|mut all, other| {
        all.targets.extend(other.targets);
        all.steps.extend(other.steps);
        all.steps.sort_by_key(|step| step.at_ms);
        all.for_ms = all.for_ms.max(other.for_ms);
        for revert in other.reverts {
            if !all.reverts.contains(&revert) {
                all.reverts.push(revert);
            }
        }
        all.expects = both(&all.expects, &other.expects);
        all.recover_from = later(all.recover_from, other.recover_from);
        all
    })
}

fn both(a: &Expects, b: &Expects) -> Expects {
    Expects {
        availability: a.availability.min(b.availability),
        recover_ms: a.recover_ms + b.recover_ms,
        fresh_during: a.fresh_during && b.fresh_during,
        lost: match (a.lost, b.lost) {
            (Loss::None, other) | (other, Loss::None) => other,
            (first, _) => first,
        },
        dead: amount(a.dead, b.dead),
        deduplicated: amount(a.deduplicated, b.deduplicated),
        // Who claims what, and who asks how often, is another matter while something else is wrong, too.
        claimed: false,
        backend_keys: false,
    }
}

fn amount(a: Amount, b: Amount) -> Amount {
    match (a, b) {
        (Amount::None, other) | (other, Amount::None) => other,
        (Amount::Injected, Amount::Injected) => Amount::Injected,
        (Amount::Any, _) | (_, Amount::Any) => Amount::Any,
    }
}

/// What is over last decides from when on the recovery is timed.
fn later(a: RecoverFrom, b: RecoverFrom) -> RecoverFrom {
    use RecoverFrom::{Injection, Revert, ServerOpen};
    match (a, b) {
        (Injection, Injection) => Injection,
        (ServerOpen, ServerOpen) => ServerOpen,
        _ => Revert,
    }
}
