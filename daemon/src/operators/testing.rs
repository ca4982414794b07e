//! What the tests of operators and chains share.

use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::config;

use crate::record::{EntryId, Fields, Record};

/// The roles of the default configuration.
pub(crate) fn event() -> config::Event {
    config::Event {
        stream: "events".into(),
        id: "event_id".into(),
        key: "user_id".into(),
        kind: "event_type".into(),
        time: "ts".into(),
        value: "value".into(),
        product: "product".into(),
        session: "session_id".into(),
        value_scale: 2,
        dedupe_window: Duration::from_secs(3_600),
        dedupe_max_ids: 500_000,
    }
}

/// Fields as tests write them.
pub(crate) type Given<'a> = &'a [(&'a str, &'a [u8])];

pub(crate) fn fields(fields: Given<'_>) -> Fields {
    fields
        .iter()
        .map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Bytes::copy_from_slice(value),
            )
        })
        .collect()
}

pub(crate) fn record(of: Given<'_>) -> Record {
    Record {
        id: EntryId { ms: 1, seq: 0 },
        fields: fields(of),
    }
}
