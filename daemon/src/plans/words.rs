//! Words for people: names quoted harmlessly, the nearest known name, store errors as answers. No logic.

use pipectl_shared::rpc::{Code, Error};
use pipectl_shared::untrusted;

use crate::store::StoreError;

/// Longest part of a peer's text that a message repeats, in bytes.
const SHOWN_MAX: usize = 64;

/// The text in quotes, cleaned and cut, so that a peer's bytes can stand in a message or a log line.
pub(crate) fn quote(text: &str) -> String {
    let shown = &text[..text.floor_char_boundary(SHOWN_MAX)];
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("\"{}{more}\"", untrusted::escape(shown))
}

/// The candidate that is most like `name`, where one is like it at all.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = &name[..name.floor_char_boundary(SHOWN_MAX)];
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        // 0.75: found by trying; `stats.get` still finds `status.get`, `xyz` finds nothing.
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `did you mean X?`, or what there is.
pub(crate) fn hint_names<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> String {
    match nearest(name, candidates.clone()) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("there are: {}", candidates.collect::<Vec<_>>().join(", ")),
    }
}

/// What a store error is to a peer: unavailable, with what to do.
#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands on")]
pub(crate) fn store_error(error: StoreError) -> Error {
    let hint = match &error {
        StoreError::Unavailable(_) | StoreError::Loading(_) | StoreError::ReadOnly(_) => {
            "the daemon reconnects by itself; see: pipectl status"
        }
        StoreError::OutOfMemory(_) => {
            "raise redis.max_memory or finish what is pending; see: pipectl redis"
        }
        StoreError::DiskFull(_) => "free space on the disk of Redis; see: pipectl redis",
        StoreError::GroupGone(_) => "the daemon creates the group again by itself; try again",
        StoreError::Broken(_) | StoreError::Foreign(_) | StoreError::Denied(_) => {
            "a person must mend this; see: pipectl status"
        }
        StoreError::NotDurable(_) => "send the same again: it counts once; see redis.durability",
        StoreError::Bug(_) => "this is a fault of ours; the log of the daemon says more",
    };
    Error::new(Code::Unavailable, untrusted::escape(&error.to_string())).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_is_quoted_clean_and_short() {
        let nasty = format!("\u{1b}[2J\u{202e}{}", "é".repeat(500));
        let shown = quote(&nasty);
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{shown}"
        );
        assert!(shown.len() < 200, "{shown}");
    }

    #[test]
    fn the_nearest_name_is_found_and_nonsense_finds_none() {
        let names = ["status.get", "stats.watch", "ledger.get"];
        assert_eq!(nearest("status.gte", names), Some("status.get"));
        assert_eq!(nearest("legder.get", names), Some("ledger.get"));
        assert_eq!(nearest("xyz", names), None);
        assert_eq!(nearest("", names), None);
    }
}
