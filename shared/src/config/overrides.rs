//! Environment and flags, laid over the tree of the file.

use super::fault::shown;
use super::load::{Input, Origin};
use super::report::Reporter;
use super::tree::{self, Blocked, Node, Place};

/// What the names in the environment begin with; the rest is the key with `__` for each dot.
pub const ENV_PREFIX: &str = "PIPELINED__";

/// Longest text of one override, in bytes, and the most parts of a key; arbitrary, and above all sensible ones.
const VALUE_MAX: usize = 64 << 10;
const PARTS_MAX: usize = 8;
/// Overrides that are looked at; more of them is an accident.
const OVERRIDES_MAX: usize = 1_000;

/// Lays the environment over the file and the flags over both.
pub(super) fn lay_all(input: &Input, root: &mut Node, report: &mut Reporter<'_>) {
    let mut env: Vec<_> = input
        .env
        .iter()
        .filter_map(|(name, value)| Some((name, name.strip_prefix(ENV_PREFIX)?, value)))
        .collect();
    // The environment has no order of its own.
    env.sort();
    for (name, rest, value) in env.into_iter().take(OVERRIDES_MAX) {
        let path: Vec<String> = rest.to_lowercase().split("__").map(str::to_owned).collect();
        let source = report.add_source(Origin::Env(name.clone()), format!("env {}", shown(name)));
        lay(root, &path, value, source, true, report);
    }
    for (i, set) in input.sets.iter().take(OVERRIDES_MAX).enumerate() {
        let Some((key, value)) = set.split_once('=') else {
            // Its text is not repeated: it may be a secret that was put in the wrong place.
            let source = report.add_source(Origin::Flag, format!("--set number {}", i + 1));
            report.fault(
                Place::new(source, &(0..0)),
                "no `=` in it",
                Some("write --set KEY=VALUE, such as --set stage.enrich.workers=4"),
            );
            continue;
        };
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        let source = report.add_source(Origin::Flag, format!("--set {}", shown(key.trim())));
        lay(root, &path, value, source, false, report);
    }
}

fn lay(
    root: &mut Node,
    path: &[String],
    value: &str,
    source: usize,
    loose: bool,
    report: &mut Reporter<'_>,
) {
    let place = Place::new(source, &(0..0));
    if value.len() > VALUE_MAX || path.len() > PARTS_MAX {
        report.fault(place, "longer than any key or value can be", None);
        return;
    }
    if path.iter().any(String::is_empty) {
        report.fault(place, "a part of the key is empty", None);
        return;
    }
    match tree::lay(root, path, value, source, loose) {
        Ok(()) => {}
        Err(Blocked::List(list)) => {
            let what = format!(
                "`{}` is a list, which can only be given whole",
                shown(&list)
            );
            let hint = format!("give `{}` as it would stand in the file", shown(&list));
            report.fault(place, &what, Some(&hint));
        }
        Err(Blocked::Value(value)) => {
            let what = format!(
                "`{}` is a single value and has no keys below it",
                shown(&value)
            );
            report.fault(place, &what, None);
        }
    }
}
