//! Rows of the store become the documents of the wire. No I/O; sizes are bounded here and nowhere else.

use std::collections::BTreeMap;

use pipectl_shared::config::Config;
use pipectl_shared::rpc::Bytes;
use pipectl_shared::snapshot::{self, Field};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::record::Fields;
use crate::store::{Aggregates, DeadRow, PendingRow, StageLayout};

/// Longest part of a field's value in one answer (semantics.md section 10).
pub(super) const FIELD_MAX: usize = 16 * 1024;
/// Bytes of rows in one page at most; a longer page is cut and its cursor moved.
pub(super) const PAGE_MAX: usize = 192 * 1024;
/// Longest text that a row quotes from elsewhere (errors, names of consumers).
const TEXT_MAX: usize = 2 * 1024;

/// One pending entry. `held_since_ms`: when one of our workers read it first, where one holds it.
pub(super) fn pending(
    stage: &StageLayout,
    row: &PendingRow,
    held_since_ms: Option<u64>,
    now_ms: u64,
) -> snapshot::Pending {
    let held_since = held_since_ms.or((row.first_ms > 0).then_some(row.first_ms));
    snapshot::Pending {
        stage: stage.name.clone(),
        stream: stage.stream.clone(),
        group: stage.group.clone(),
        id: row.id.to_string(),
        consumer: clip(&String::from_utf8_lossy(&row.consumer)),
        idle_ms: row.idle_ms,
        held_ms: held_since.map_or(row.idle_ms, |since| now_ms.saturating_sub(since)),
        tries: row.failures,
        deliveries: row.deliveries,
        age_ms: now_ms.saturating_sub(row.id.ms),
        size_bytes: row.size,
        entry: if row.size.is_some() { "ok" } else { "trimmed" }.to_owned(),
        not_before: (row.not_before_ms > 0).then(|| rfc3339(row.not_before_ms)),
        last_error: row.last_error.as_deref().map(clip),
        in_flight: false,
        fields: None,
    }
}

/// One dead letter.
pub(super) fn dead(row: &DeadRow) -> snapshot::Dead {
    snapshot::Dead {
        id: row.id.to_string(),
        stage: clip(&row.stage),
        origin_stream: clip(&row.origin_stream),
        origin_id: row.origin_id.to_string(),
        cause: clip(&row.cause),
        reason: clip(&row.reason),
        error: clip(&row.error),
        tries: row.tries,
        first_ms: row.first_ms,
        dead_ms: row.id.ms,
        redriven: row.redriven.map(|id| id.to_string()),
        counts: row.counts,
        fields: None,
    }
}

/// Cuts at a character and says so.
pub(super) fn clip(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    if end < text.len() {
        format!("{}...", &text[..end])
    } else {
        text.to_owned()
    }
}

/// Fields, each value cut at 16 KiB and all together at `budget` bytes: what is over it comes with an empty value and
/// `truncated`, and after 1,000 of those the rest is left out.
pub(super) fn fields(fields: &Fields, budget: usize) -> Vec<Field> {
    let mut left = budget;
    let mut n_over = 0;
    let mut shown = Vec::new();
    for (name, value) in fields {
        let name = &name[..name.len().min(FIELD_MAX)];
        let part = &value[..value.len().min(FIELD_MAX)];
        let cost = name.len() + part.len();
        let part = if cost <= left {
            left -= cost;
            part
        } else if n_over < 1_000 && name.len() <= 256 {
            n_over += 1;
            &[]
        } else {
            continue;
        };
        shown.push(Field {
            name: Bytes::from(name),
            value: Bytes::from(whole_characters(value, 0, part.len())),
            size: value.len() as u64,
            offset: 0,
            truncated: part.len() < value.len(),
        });
    }
    shown
}

/// One field from a byte offset on.
pub(super) fn field_part(name: &[u8], value: &[u8], offset: u64) -> Field {
    let from = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(value.len());
    let part = whole_characters(value, from, FIELD_MAX);
    Field {
        name: Bytes::from(&name[..name.len().min(FIELD_MAX)]),
        value: Bytes::from(part),
        size: value.len() as u64,
        offset: from as u64,
        truncated: from + part.len() < value.len(),
    }
}

/// At most `n_max` bytes from `from` on, a little less where that keeps a cut text UTF-8.
fn whole_characters(value: &[u8], from: usize, n_max: usize) -> &[u8] {
    let part = &value[from..(from + n_max).min(value.len())];
    if from + part.len() == value.len() {
        return part;
    }
    match std::str::from_utf8(part) {
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => &part[..e.valid_up_to()],
        _ => part,
    }
}

/// How many of the rows fit into one answer; at least one, so that a list always goes on.
pub(super) fn n_fitting<T: Serialize>(rows: &[T]) -> usize {
    let mut sum = 0;
    let fits = |row: &&T| {
        sum += serde_json::to_vec(row).map_or(0, |bytes| bytes.len() + 1);
        sum <= PAGE_MAX
    };
    rows.iter().take_while(fits).count().max(1).min(rows.len())
}

/// The `aggregates` document; what does not fit is counted in `truncated`.
pub(super) fn aggregates(found: &Aggregates, config: &Config, only: Option<&str>) -> Value {
    let mut left = PAGE_MAX;
    let mut take = |counts: &[(bytes::Bytes, u64)], only: Option<&str>| {
        let mut taken = BTreeMap::new();
        let mut n_left = 0_u64;
        for (name, n) in counts {
            if only.is_some_and(|only| only.as_bytes() != name) {
                continue;
            }
            let name = String::from_utf8_lossy(name).into_owned();
            let cost = name.len() + 24;
            if cost > left {
                n_left += 1;
                continue;
            }
            left -= cost;
            *taken.entry(name).or_insert(0) += n;
        }
        (taken, n_left)
    };
    let (event_types, types_left) = take(&found.types, None);
    let (products, products_left) = take(&found.products, only);
    let scale = 10_f64.powi(i32::try_from(config.event.value_scale).unwrap_or(0));
    let document = snapshot::Aggregates {
        total_count: found.total,
        // A sum of money beyond 2^53 of its smallest unit is shown rounded; the store keeps it exact.
        #[expect(
            clippy::cast_precision_loss,
            reason = "for display; the store keeps the exact integer"
        )]
        total_value: found.value.map(|value| value as f64 / scale),
        event_types,
        products,
        sessions: found.sessions,
        session: None,
        last_updated: (found.last_updated_ms > 0).then(|| rfc3339(found.last_updated_ms)),
        windows: None,
    };
    let mut document = json!(document);
    let products_left = if only.is_some() {
        0
    } else {
        products_left + found.products_left
    };
    let truncated: BTreeMap<_, _> = [("products", products_left), ("event_types", types_left)]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .collect();
    if !truncated.is_empty() {
        document["truncated"] = json!(truncated);
    }
    document
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value_of(field: &Field) -> Vec<u8> {
        field.value.decode().unwrap()
    }

    #[test]
    fn a_field_over_16_kib_comes_in_pages_that_add_up() {
        let value: Vec<u8> = "aé😀".repeat(20_000).into_bytes();
        let (mut got, mut offset) = (Vec::new(), 0);
        loop {
            let part = field_part(b"name", &value, offset);
            assert_eq!((part.size, part.offset), (value.len() as u64, offset));
            assert!(
                matches!(part.value, Bytes::Text(_)),
                "cut within a character"
            );
            got.extend(value_of(&part));
            offset = got.len() as u64;
            if !part.truncated {
                break;
            }
        }
        assert_eq!(got, value);
        assert!(value_of(&field_part(b"name", &value, u64::MAX)).is_empty());
    }

    #[test]
    fn a_row_of_a_hundred_thousand_fields_stays_within_its_budget() {
        let many: Fields = (0..100_000)
            .map(|n| {
                (
                    format!("field{n}").into(),
                    bytes::Bytes::from_static(b"0123456789"),
                )
            })
            .collect();
        let shown = fields(&many, 64 * 1024);
        let size = serde_json::to_vec(&shown).unwrap().len();
        assert!(size < 512 * 1024, "{size}");
        assert!(shown.iter().any(|f| f.truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_come_through_a_field_unchanged(value in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            let (mut got, mut offset) = (Vec::new(), 0);
            loop {
                let part = field_part(b"f", &value, offset);
                prop_assert!(!part.truncated || !value_of(&part).is_empty(), "a page without progress");
                got.extend(value_of(&part));
                offset = got.len() as u64;
                if !part.truncated { break; }
            }
            prop_assert_eq!(got, value);
        }
    }
}
