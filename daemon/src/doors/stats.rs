//! `stats.watch`: Snapshots in three sizes, each (preset, tick) encoded once and shared by all clients.
//!
//! The Snapshot itself, its rates and its trimming to 64 KiB are the observer's; here only whole parts are left out.

use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::rpc::Preset;
use pipectl_shared::snapshot::{Host, Snapshot};
use serde_json::json;
use tokio::sync::watch;

use super::outbox::Outbox;

/// Encoded size of a Snapshot at most (semantics.md section 10).
pub(super) const SNAPSHOT_MAX: usize = 64 * 1024;
/// Base ticks between two Snapshots of a watcher, of which the next greater is taken.
const INTERVALS_S: [u64; 4] = [1, 2, 5, 10];

/// A Snapshot and its JSON.
type Encoded = (Arc<Snapshot>, Arc<str>);

/// The encodings of the newest tick, made when the first client wants them.
#[derive(Default)]
pub(super) struct Encoder {
    /// One slot a preset.
    slots: Mutex<[Option<Encoded>; 3]>,
}

impl Encoder {
    /// The Snapshot as a JSON object, never empty.
    pub(super) fn encode(&self, snapshot: &Arc<Snapshot>, preset: Preset) -> Arc<str> {
        let slot = match preset {
            Preset::Full => 0,
            Preset::Overview => 1,
            Preset::Line => 2,
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, text)) = &slots[slot]
            && Arc::ptr_eq(of, snapshot)
        {
            return Arc::clone(text);
        }
        // Under the lock, so that others wait for this one instead of doing the same work.
        let text: Arc<str> = text(snapshot, preset).into();
        slots[slot] = Some((Arc::clone(snapshot), Arc::clone(&text)));
        text
    }
}

fn text(snapshot: &Snapshot, preset: Preset) -> String {
    let text = match preset {
        Preset::Full => serde_json::to_string(snapshot),
        Preset::Overview => serde_json::to_string(&overview(snapshot)),
        Preset::Line => return line(snapshot),
    };
    match text {
        Ok(text) if text.len() <= SNAPSHOT_MAX => text,
        // The observer trims, so this is a fault of ours; the client still learns the state.
        _ => line(snapshot),
    }
}

/// Without consumers, latency buckets and host details.
fn overview(snapshot: &Snapshot) -> Snapshot {
    let mut small = snapshot.clone();
    small.consumers = Vec::new();
    small.host = Host::default();
    for latency in &mut small.latency {
        latency.buckets = Vec::new();
    }
    small
}

/// Only the `status` document, and what was left of it where even that is too large.
fn line(snapshot: &Snapshot) -> String {
    let head = |status| {
        json!({"seq": snapshot.seq, "ts_ms": snapshot.ts_ms, "status": status}).to_string()
    };
    let text = head(json!(snapshot.status));
    if text.len() <= SNAPSHOT_MAX {
        return text;
    }
    let mut status = snapshot.status.clone();
    let truncated = json!({"stages": status.stages.len(), "alerts": status.alerts.len()});
    status.stages = Vec::new();
    status.alerts = Vec::new();
    status.chaos = None;
    for text in [&mut status.reason, &mut status.redis.error]
        .into_iter()
        .flatten()
    {
        text.truncate(text.floor_char_boundary(1_024));
    }
    status
        .redis
        .url
        .truncate(status.redis.url.floor_char_boundary(1_024));
    json!({"seq": snapshot.seq, "ts_ms": snapshot.ts_ms, "status": status, "truncated": truncated})
        .to_string()
}

/// The whole seconds between two Snapshots that an interval means.
pub(super) fn interval_s(interval_ms: u64) -> u64 {
    INTERVALS_S
        .into_iter()
        .find(|s| interval_ms <= s * 1_000)
        .unwrap_or(10)
}

/// Puts Snapshots into the outbox: one at once, then one whenever a multiple of the interval has passed in base ticks, so
/// that all watchers with one interval get the same ones. Ends when the observer does. Owned by the session.
pub(super) async fn watch(
    mut ticks: watch::Receiver<Arc<Snapshot>>,
    encoder: &Encoder,
    outbox: &Outbox,
    preset: Preset,
    interval_s: u64,
) {
    let mut shown_at = None;
    loop {
        let snapshot = ticks.borrow_and_update().clone();
        let period = snapshot.seq / interval_s;
        if shown_at != Some(period) {
            shown_at = Some(period);
            outbox.show(encoder.encode(&snapshot, preset));
        }
        if ticks.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use pipectl_shared::snapshot::{Bucket, Consumer, Latency, Stage};

    use super::*;

    fn snapshot() -> Arc<Snapshot> {
        let bucket = Bucket {
            le_ms: 1.0,
            count: 2,
        };
        let snapshot = Snapshot {
            seq: 7,
            consumers: vec![Consumer::default()],
            latency: vec![Latency {
                buckets: vec![bucket],
                ..Latency::default()
            }],
            host: Host {
                name: "here".to_owned(),
                ..Host::default()
            },
            ..Snapshot::default()
        };
        Arc::new(snapshot)
    }

    #[test]
    fn intervals_round_up_to_1_2_5_or_10_s() {
        let table = [
            (0, 1),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (2_500, 5),
            (5_001, 10),
            (u64::MAX, 10),
        ];
        for (ms, s) in table {
            assert_eq!(interval_s(ms), s, "{ms} ms");
        }
    }

    #[test]
    fn each_preset_of_a_tick_is_encoded_once_and_can_be_read_back() {
        let encoder = Encoder::default();
        let tick = snapshot();
        for (preset, n_consumers, n_buckets, host) in [
            (Preset::Full, 1, Some(1), "here"),
            (Preset::Overview, 0, Some(0), ""),
            (Preset::Line, 0, None, ""),
        ] {
            let text = encoder.encode(&tick, preset);
            assert!(
                Arc::ptr_eq(&text, &encoder.encode(&tick, preset)),
                "{preset:?} encoded twice"
            );
            let read: Snapshot = serde_json::from_str(&text).unwrap();
            assert_eq!(read.seq, 7);
            assert_eq!(read.consumers.len(), n_consumers, "{preset:?}");
            assert_eq!(
                read.latency.first().map(|l| l.buckets.len()),
                n_buckets,
                "{preset:?}"
            );
            assert_eq!(read.host.name, host, "{preset:?}");
        }
        let next = Arc::new(Snapshot {
            seq: 8,
            ..Snapshot::clone(&tick)
        });
        let read: Snapshot = serde_json::from_str(&encoder.encode(&next, Preset::Full)).unwrap();
        assert_eq!(read.seq, 8, "a new tick is encoded anew");
    }

    #[test]
    fn no_snapshot_is_larger_than_64_kib_whatever_is_in_it() {
        let mut huge = Snapshot::clone(&snapshot());
        huge.consumers = vec![
            Consumer {
                name: "x".repeat(1_000),
                ..Consumer::default()
            };
            500
        ];
        let encoder = Encoder::default();
        assert!(encoder.encode(&Arc::new(huge.clone()), Preset::Full).len() <= SNAPSHOT_MAX);
        huge.status.stages = vec![
            Stage {
                name: "x".repeat(1_000),
                ..Stage::default()
            };
            500
        ];
        huge.status.reason = Some("é".repeat(100_000));
        for preset in [Preset::Full, Preset::Overview, Preset::Line] {
            let text = Encoder::default().encode(&Arc::new(huge.clone()), preset);
            assert!(text.len() <= SNAPSHOT_MAX, "{preset:?}: {}", text.len());
            serde_json::from_str::<Snapshot>(&text).unwrap();
        }
    }

    #[tokio::test]
    async fn a_watcher_gets_one_at_once_and_then_those_of_its_interval() {
        let (tell, ticks) = watch::channel(Arc::new(Snapshot {
            seq: 3,
            ..Snapshot::default()
        }));
        let (encoder, outbox) = (Encoder::default(), Outbox::new());
        let (client, server) = tokio::io::duplex(64 * 1024);
        let telling = async {
            tokio::task::yield_now().await;
            for seq in 4..=11 {
                tell.send_replace(Arc::new(Snapshot {
                    seq,
                    ..Snapshot::default()
                }));
                // Lets the watcher and the writer see each tick.
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
            drop(tell);
        };
        let watching = async {
            watch(ticks, &encoder, &outbox, Preset::Line, 5).await;
            outbox.finish();
        };
        let ((), (), written) = tokio::join!(watching, telling, outbox.write_to(server));
        written.unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(client));
        let mut seqs = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            seqs.push(value["params"]["seq"].as_u64().unwrap());
        }
        assert_eq!(seqs, [3, 5, 10]);
    }
}
