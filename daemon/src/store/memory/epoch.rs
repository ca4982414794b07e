//! The stream's epoch, as `epoch.lua` keeps it on Redis.

use super::state::State;
use crate::record::{EntryId, Fields};
use crate::store::{EpochSeen, Layout, StreamMark};

/// What an entry says, in a few digits.
fn print_of(fields: &Fields) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("{fields:?}"));
    digest.iter().take(20).map(|b| format!("{b:02x}")).collect()
}

/// Looks whether the stream went back behind what is stored or what the caller knows; then a new epoch begins.
pub(super) fn look(
    state: &mut State,
    layout: &Layout,
    known: Option<&StreamMark>,
    fresh: u64,
) -> EpochSeen {
    let stream = state.streams.get(&layout.source);
    let (last, added) = stream.map_or((EntryId::MIN, 0), |s| (s.last_id, s.added));
    let went_back = |mark: &StreamMark| {
        let (id, n) = (mark.last, mark.added);
        if last < id || added < n {
            return true;
        }
        let Some(stream) = stream.filter(|_| n > 0) else {
            return false;
        };
        if let Some(fields) = stream.entries.get(&id) {
            return !mark.print.is_empty() && print_of(fields) != mark.print;
        }
        let Some(first) = stream.entries.keys().next() else {
            return false;
        };
        let is_whole = added == stream.entries.len() as u64;
        (is_whole && *first > id) || (*first < id && stream.max_deleted() < id)
    };
    let stored = state.epoch.clone();
    let number = |mark: Option<&StreamMark>| mark.map_or(0, StreamMark::number);
    let why = match (&stored, known) {
        (None, None) => Some("first"),
        (None, Some(_)) => Some("the server has forgotten it"),
        (Some(stored), Some(known))
            if known.epoch != stored.epoch && stored.number() <= known.number() =>
        {
            Some("the server is back in an earlier epoch")
        }
        (Some(stored), _) if went_back(stored) => Some("the stream began anew"),
        (Some(stored), Some(known)) if known.epoch == stored.epoch && went_back(known) => {
            Some("the server is back at an earlier instant")
        }
        (Some(_), _) => None,
    };
    let epoch = match (&stored, why) {
        (Some(stored), None) => stored.epoch.clone(),
        _ => {
            let next = number(stored.as_ref()).max(number(known)) + 1;
            format!("{next}-{fresh:016x}")
        }
    };
    let print = stream
        .and_then(|s| s.entries.get(&last))
        .map(print_of)
        .unwrap_or_default();
    let mark = StreamMark {
        epoch,
        last,
        added,
        print,
    };
    state.epoch = Some(mark.clone());
    EpochSeen {
        mark,
        why: why.map(str::to_owned),
    }
}
