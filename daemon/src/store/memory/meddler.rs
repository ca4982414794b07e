//! What third parties and bad luck do to a store: acknowledge behind its back, delete, trim, reset groups, flush, lose a
//! reply. Only tests call it; the Redis store has its own meddler in the tests, which sends the raw commands.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Memory;
use super::state::{State, millis};
use crate::record::{EntryId, Fields};

/// Does what no honest caller of the store would do. Methods that cannot fail on Redis but for a missing key or group do
/// nothing there. A method that one store cannot do returns `false`; a test must then say so, not pass in silence.
#[async_trait]
pub trait Meddler: Send + Sync {
    /// A foreign XADD.
    async fn add(&self, stream: &str, fields: Fields) -> EntryId;
    /// A foreign XACK; returns how many were pending.
    async fn ack(&self, stream: &str, group: &str, ids: &[EntryId]) -> u64;
    /// A foreign XDEL; returns how many were there.
    async fn del(&self, stream: &str, ids: &[EntryId]) -> u64;
    /// A foreign XTRIM MAXLEN; returns how many went.
    async fn trim_to(&self, stream: &str, n_entries: usize) -> u64;
    /// A foreign XTRIM MINID; returns how many went.
    async fn trim_below(&self, stream: &str, id: EntryId) -> u64;
    /// A foreign XREADGROUP by another consumer of the group; returns what it took.
    async fn read(&self, stream: &str, group: &str, consumer: &str, n_max: usize) -> Vec<EntryId>;
    /// XGROUP CREATE.
    async fn create_group(&self, stream: &str, group: &str, at: EntryId);
    /// XGROUP SETID.
    async fn set_group(&self, stream: &str, group: &str, at: EntryId);
    /// XGROUP DESTROY.
    async fn destroy_group(&self, stream: &str, group: &str);
    /// XGROUP DELCONSUMER; returns how many pending entries were dropped with it.
    async fn delete_consumer(&self, stream: &str, group: &str, consumer: &str) -> u64;
    /// DEL of a stream.
    async fn delete_stream(&self, stream: &str);
    /// FLUSHALL.
    async fn flush(&self);
    /// Writes a counter of `{S}:counts` (the key is told whole) by hand.
    async fn set_count(&self, counts: &str, name: &str, value: &str);
    /// Writes a field of `{S}:state:<stage>` (the key is told whole) by hand, or takes it out.
    async fn set_state(&self, state: &str, field: &str, raw: Option<Bytes>);
    /// The raw field.
    async fn state(&self, state: &str, field: &str) -> Option<Bytes>;
    /// Lets every pending entry of the group be idle for this much longer. In memory the server's clock moves on.
    async fn age(&self, stream: &str, group: &str, by: Duration);
    /// Loses the reply of the next commit: it happens, and the caller hears `Unavailable`. Whether that can be done.
    async fn lose_reply(&self) -> bool;
    /// Remembers this instant. Whether that can be done.
    async fn remember(&self) -> bool;
    /// Goes back to the instant last remembered, as a server does that restarts from an old file.
    async fn roll_back(&self);
    /// The group as the server itself tells it; `None` when it is gone.
    async fn facts(&self, stream: &str, group: &str) -> Option<GroupFacts>;
}

/// A group as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// Entries in the stream.
    pub length: u64,
    /// `entries-added` of the stream.
    pub added: u64,
    /// `last-delivered-id`.
    pub last_delivered: EntryId,
    /// `entries-read`, where it is known.
    pub entries_read: Option<u64>,
    /// `lag` as the server tells it, wrong where it is wrong.
    pub lag: Option<u64>,
    /// Pending entries in id order.
    pub pending: Vec<PendingFacts>,
}

/// A pending entry as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingFacts {
    /// Its id.
    pub id: EntryId,
    /// Who holds it.
    pub consumer: Bytes,
    /// Delivery count.
    pub deliveries: u64,
}

#[async_trait]
impl Meddler for Memory {
    async fn add(&self, stream: &str, fields: Fields) -> EntryId {
        self.shared.change(|state, now| {
            state
                .streams
                .entry(stream.to_owned())
                .or_default()
                .add(now, fields)
        })
    }

    async fn ack(&self, stream: &str, group: &str, ids: &[EntryId]) -> u64 {
        self.shared.change(|state, _| {
            let Some(group) = state
                .streams
                .get_mut(stream)
                .and_then(|s| s.groups.get_mut(group))
            else {
                return 0;
            };
            ids.iter()
                .filter(|id| group.pending.remove(id).is_some())
                .count() as u64
        })
    }

    async fn del(&self, stream: &str, ids: &[EntryId]) -> u64 {
        self.shared
            .change(|state, _| state.streams.get_mut(stream).map_or(0, |s| s.delete(ids)))
    }

    async fn trim_to(&self, stream: &str, n_entries: usize) -> u64 {
        self.shared.change(|state, _| {
            state
                .streams
                .get_mut(stream)
                .map_or(0, |s| s.trim_to(n_entries))
        })
    }

    async fn trim_below(&self, stream: &str, id: EntryId) -> u64 {
        self.shared.change(|state, _| {
            state
                .streams
                .get_mut(stream)
                .map_or(0, |s| s.trim_below(id))
        })
    }

    async fn read(&self, stream: &str, group: &str, consumer: &str, n_max: usize) -> Vec<EntryId> {
        let consumer = Bytes::copy_from_slice(consumer.as_bytes());
        let read = self.shared.change(|state, now| {
            state
                .streams
                .get_mut(stream)?
                .read(group, &consumer, n_max, now)
        });
        read.unwrap_or_default()
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    }

    async fn create_group(&self, stream: &str, group: &str, at: EntryId) {
        self.shared.change(|state, _| {
            state
                .streams
                .entry(stream.to_owned())
                .or_default()
                .create_group(group, at, None);
        });
    }

    async fn set_group(&self, stream: &str, group: &str, at: EntryId) {
        self.shared.change(|state, _| {
            if let Some(group) = state
                .streams
                .get_mut(stream)
                .and_then(|s| s.groups.get_mut(group))
            {
                group.set_id(at, None);
            }
        });
    }

    async fn destroy_group(&self, stream: &str, group: &str) {
        self.shared.change(|state, _| {
            state
                .streams
                .get_mut(stream)
                .and_then(|s| s.groups.remove(group))
        });
    }

    async fn delete_consumer(&self, stream: &str, group: &str, consumer: &str) -> u64 {
        self.shared.change(|state, _| {
            let group = state
                .streams
                .get_mut(stream)
                .and_then(|s| s.groups.get_mut(group));
            group.map_or(0, |group| group.delete_consumer(consumer.as_bytes()))
        })
    }

    async fn delete_stream(&self, stream: &str) {
        self.shared.change(|state, _| state.streams.remove(stream));
    }

    async fn flush(&self) {
        self.shared.change(|state, _| *state = State::default());
    }

    async fn set_count(&self, _counts: &str, name: &str, value: &str) {
        let (name, value) = (
            Bytes::copy_from_slice(name.as_bytes()),
            Bytes::copy_from_slice(value.as_bytes()),
        );
        self.shared
            .change(|state, _| state.counts.insert(name, value));
    }

    async fn set_state(&self, state: &str, field: &str, raw: Option<Bytes>) {
        let (stage, field) = (
            stage_of_key(state),
            Bytes::copy_from_slice(field.as_bytes()),
        );
        self.shared.change(|state, _| {
            let cells = &mut state.keyed.entry(stage).or_default().cells;
            match raw {
                Some(raw) => cells.insert(field, raw),
                None => cells.remove(&field),
            }
        });
    }

    async fn state(&self, state: &str, field: &str) -> Option<Bytes> {
        let stage = stage_of_key(state);
        self.shared.look(|inside, _| {
            let keyed = inside.state.keyed.get(&stage)?;
            keyed.cells.get(field.as_bytes()).cloned()
        })
    }

    async fn age(&self, _stream: &str, _group: &str, by: Duration) {
        self.shared
            .look(|inside, _| inside.ahead_ms = inside.ahead_ms.saturating_add(millis(by)));
    }

    async fn lose_reply(&self) -> bool {
        self.shared.look(|inside, _| inside.loses_reply = true);
        true
    }

    async fn remember(&self) -> bool {
        self.shared
            .look(|inside, _| inside.instants.push(inside.state.clone()));
        true
    }

    async fn roll_back(&self) {
        self.shared.look(|inside, _| {
            if let Some(earlier) = inside.instants.pop() {
                inside.state = earlier;
            }
        });
        self.shared.changed.notify_waiters();
    }

    async fn facts(&self, stream: &str, group: &str) -> Option<GroupFacts> {
        self.shared.look(|inside, _| {
            let stream = inside.state.streams.get(stream)?;
            let group = stream.groups.get(group)?;
            let pending = group.pending.iter().map(|(id, pending)| PendingFacts {
                id: *id,
                consumer: pending.consumer.clone(),
                deliveries: pending.deliveries,
            });
            Some(GroupFacts {
                length: stream.entries.len() as u64,
                added: stream.added,
                last_delivered: group.last_delivered,
                entries_read: group.entries_read,
                lag: stream.lag(group),
                pending: pending.collect(),
            })
        })
    }
}

/// The stage in `{S}:state:<stage>`.
fn stage_of_key(key: &str) -> String {
    key.rsplit(':').next().unwrap_or(key).to_owned()
}
