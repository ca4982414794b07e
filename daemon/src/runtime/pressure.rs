//! Why doors shed load now: memory of the server or lag of the first stages, as the last Snapshot tells.
//!
//! One task, owned by `app`; ends when the sampler ends. Doors shed before Redis is full, so that commits have room.

use std::sync::Arc;

use pipectl_shared::config::Ingest;
use pipectl_shared::snapshot::Snapshot;
use tokio::sync::watch;

/// Follows Snapshots and says why load is shed; `None` = it is not.
pub async fn follow(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    source: String,
    limits: Ingest,
    pressure: watch::Sender<Option<String>>,
) {
    while snapshots.changed().await.is_ok() {
        let why = reason(&snapshots.borrow_and_update(), &source, &limits);
        pressure.send_if_modified(|now| {
            let changed = *now != why;
            *now = why;
            changed
        });
    }
}

/// Why load is to be shed.
pub fn reason(snapshot: &Snapshot, source: &str, limits: &Ingest) -> Option<String> {
    let redis = &snapshot.status.redis;
    if let (Some(used), Some(max)) = (redis.used_memory_bytes, redis.max_memory_bytes)
        && max > 0
    {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of memory needs no 53 bits"
        )]
        let share = used as f64 / max as f64;
        if share > limits.shed_at {
            return Some(format!(
                "redis uses {:.0} % of its memory (doors shed above {:.0} %)",
                share * 100.0,
                limits.shed_at * 100.0
            ));
        }
    }
    if limits.max_lag > 0 {
        let behind = snapshot
            .status
            .stages
            .iter()
            .find(|s| s.stream == source && s.lag.is_some_and(|lag| lag > limits.max_lag));
        if let Some(stage) = behind {
            return Some(format!(
                "stage {} is {} entries behind (doors shed above {})",
                stage.name,
                stage.lag.unwrap_or_default(),
                limits.max_lag
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipectl_shared::snapshot::Stage;

    #[test]
    fn doors_shed_by_memory_and_by_lag_and_never_on_what_is_unknown() {
        let limits = Ingest {
            shed_at: 0.85,
            max_lag: 100,
            spool: None,
        };
        let mut snapshot = Snapshot::default();
        assert_eq!(
            reason(&snapshot, "events", &limits),
            None,
            "unknown is no pressure"
        );
        snapshot.status.redis.used_memory_bytes = Some(86);
        snapshot.status.redis.max_memory_bytes = Some(100);
        assert!(
            reason(&snapshot, "events", &limits)
                .unwrap()
                .contains("86 %")
        );
        snapshot.status.redis.used_memory_bytes = Some(85);
        let stage = |stream: &str, lag| Stage {
            name: "enrich".into(),
            stream: stream.into(),
            lag,
            ..Stage::default()
        };
        snapshot.status.stages = vec![stage("other", Some(1_000)), stage("events", None)];
        assert_eq!(reason(&snapshot, "events", &limits), None);
        snapshot.status.stages = vec![stage("events", Some(101))];
        assert!(
            reason(&snapshot, "events", &limits)
                .unwrap()
                .contains("101 entries behind")
        );
    }
}
