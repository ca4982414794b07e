//! The commit with one of its guards left out, to show that tests and experiments notice. Made only when somebody asks for
//! it by `pipelined run --test-commands --test-without NAME`; nobody else's commit comes by here.

use super::scripts::{COMMIT_BODY, Script};
use crate::store::{Result, StoreError};

/// What is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// A commit does not ask any more whether it takes the entry, or owns the stage: a late one counts again.
    pub fence: bool,
    /// Shared stages: the acknowledgement is a step of its own, after the effects.
    pub atomic: bool,
}

/// The two commit scripts of a store that leaves something out.
pub(super) struct Commits {
    pub(super) plain: Script,
    pub(super) allow_oom: Script,
}

impl Commits {
    /// # Errors
    /// `Bug` when a guard is not where it was.
    pub(super) fn without(left_out: LeftOut) -> Result<Self> {
        let body = without(COMMIT_BODY, left_out).map_err(|line| {
            StoreError::Bug(format!("commit.lua has no line \"{line}\" to leave out"))
        })?;
        Ok(Self {
            plain: Script::new("", &body),
            allow_oom: Script::new("allow-oom", &body),
        })
    }
}

/// Takes an entry, and tells whether it was there to be taken.
const TAKES: &str = "    if mode == nil then taken = call('XACK', S, group, id)\n";
/// Knows what was settled before, also where the entry is pending again.
const KNOWS: &str = "    local was_settled = suspicious and settled_before(id, close)\n";
/// The same for parked entries, and for owners: their epoch, position and what they read.
const OWNED: &[(&str, &str)] = &[
    (
        "      taken = call('ZREM', PARKED, id)\n",
        "      taken = 1 + 0 * call('ZREM', PARKED, id)\n",
    ),
    (
        "  if lease[1] ~= consumer or lease[2] ~= ARGV[11] then return {'FENCED', '0'} end\n",
        "",
    ),
    (
        "  if position ~= ARGV[12] then return {'MOVED', '0'} end\n",
        "",
    ),
    ("  if not is_same then return {'STALE', '0'} end\n", ""),
];

/// The script without them. `Err` = the line that is not there exactly once.
fn without(body: &str, left_out: LeftOut) -> std::result::Result<String, &'static str> {
    let takes = match (left_out.fence, left_out.atomic) {
        (false, false) => return Ok(body.to_owned()),
        (true, false) => "    if mode == nil then taken = 1 + 0 * call('XACK', S, group, id)\n",
        (false, true) => "    if mode == nil then taken = #call('XPENDING', S, group, id, id, 1)\n",
        (true, true) => "    if mode == nil then taken = 1\n",
    };
    let mut changes = vec![(TAKES, takes), (KNOWS, "    local was_settled = false\n")];
    if left_out.fence {
        changes.extend(OWNED);
    }
    let mut body = body.to_owned();
    for (line, instead) in changes {
        if body.matches(line).count() != 1 {
            return Err(line.trim());
        }
        body = body.replace(line, instead);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FENCE: LeftOut = LeftOut {
        fence: true,
        atomic: false,
    };
    const ATOMIC: LeftOut = LeftOut {
        fence: false,
        atomic: true,
    };

    #[test]
    fn each_guard_is_found_and_what_is_not_left_out_stays() {
        assert_eq!(
            without(COMMIT_BODY, LeftOut::default()).unwrap(),
            COMMIT_BODY
        );
        let unfenced = without(COMMIT_BODY, FENCE).unwrap();
        assert!(!unfenced.contains("then return {'FENCED'"));
        assert!(unfenced.contains("1 + 0 * call('XACK', S, group, id)"));
        let apart = without(COMMIT_BODY, ATOMIC).unwrap();
        assert!(apart.contains("then return {'FENCED'") && !apart.contains(TAKES));
        let both = LeftOut {
            fence: true,
            atomic: true,
        };
        let both = without(COMMIT_BODY, both).unwrap();
        assert!(both != unfenced && both != apart);
    }

    #[test]
    fn a_guard_that_is_not_where_it_was_is_named() {
        for line in [TAKES, KNOWS] {
            for left_out in [FENCE, ATOMIC] {
                let body = COMMIT_BODY.replace(line, "\n");
                assert_eq!(without(&body, left_out), Err(line.trim()));
                let twice = COMMIT_BODY.replace(line, &line.repeat(2));
                assert_eq!(without(&twice, left_out), Err(line.trim()));
            }
        }
        for (line, _) in OWNED {
            let body = COMMIT_BODY.replace(line, "\n");
            assert_eq!(without(&body, FENCE), Err(line.trim()));
            assert!(without(&body, ATOMIC).is_ok());
        }
    }
}
