//! A small world for the tests of plans, commands and doors: the store in memory, stages by hand, a worker that commits
//! what it is handed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::config::{self, Config, Delivery, From};
use pipectl_shared::rpc::{Identity, Role};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Plans, Setup};
use crate::audit::Audit;
use crate::clock::{Clock, Manual};
use crate::effect::Effects;
use crate::journal::Journal;
use crate::record::EntryId;
use crate::runtime::{Handed, Handle, Order, SourceHandle, StageHandle, WorkerView};
use crate::store::memory::Memory;
use crate::store::{
    Admission, Admitted, Commit, DeadLetter, Dedupe, Layout, Outcome, Settle, StageLayout, Store,
};

/// Wall time at the start of each test.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
/// The worker that [`Bench::worker`] starts.
pub(crate) const WORKER: &str = "a-enrich-0";

/// Two stages: `enrich` reads the source, `count` reads what it emits.
pub(crate) fn layout() -> Layout {
    let stage = |name: &str, stream: &str, group: &str| StageLayout {
        name: name.to_owned(),
        stream: stream.to_owned(),
        group: group.to_owned(),
        reads_source: stream == "events",
        output: None,
        output_readers: 0,
        aggregates: false,
        owned: false,
        state: Vec::new(),
    };
    let enrich = StageLayout {
        output: Some("{events}:enrich".to_owned()),
        output_readers: 1,
        ..stage("enrich", "events", "event_group")
    };
    let count = StageLayout {
        aggregates: true,
        owned: false,
        ..stage("count", "{events}:enrich", "count")
    };
    Layout {
        pipeline: "test".to_owned(),
        source: "events".to_owned(),
        stages: vec![enrich, count],
        dedupe: Some(Dedupe {
            window: Duration::from_secs(3_600),
            max_ids: 10_000,
        }),
        session_keep: Duration::from_secs(3_600),
        id_field: Bytes::from_static(b"event_id"),
    }
}

/// The configuration to that layout.
pub(crate) fn config() -> Config {
    let stage = |name: &str, from, group: &str| config::Stage {
        name: name.to_owned(),
        from,
        group: group.to_owned(),
        delivery: Delivery::Shared,
        workers: 1,
        operators: Vec::new(),
        timeout: Duration::from_secs(10),
        claim_after: Duration::from_secs(60),
        batch: 100,
        prefetch: 1,
        max_entry: 1024 * 1024,
    };
    Config {
        version: 1,
        name: "test".to_owned(),
        redis: config::Redis {
            url: "managed".to_owned(),
            username: None,
            password: None,
            keys_prefix: String::new(),
            timeout: Duration::from_secs(1),
            durability: config::Durability::Memory,
            durability_timeout: Duration::from_secs(5),
            max_memory: None,
            append_fsync: "everysec".to_owned(),
            tls_ca: None,
        },
        event: config::Event {
            stream: "events".to_owned(),
            id: "event_id".to_owned(),
            key: "user_id".to_owned(),
            kind: "event_type".to_owned(),
            time: "ts".to_owned(),
            value: "value".to_owned(),
            product: "product".to_owned(),
            session: "session_id".to_owned(),
            value_scale: 2,
            dedupe_window: Duration::from_secs(3_600),
            dedupe_max_ids: 10_000,
        },
        sources: Vec::new(),
        stages: vec![
            stage("enrich", From::Source, "event_group"),
            stage("count", From::Stage("enrich".to_owned()), "count"),
        ],
        retry: config::Retry {
            attempts: 3,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
        },
        dead: config::Dead {
            keep: Duration::ZERO,
        },
        retention: config::Retention {
            keep: Duration::from_secs(3_600),
        },
        ingest: config::Ingest {
            shed_at: 0.85,
            max_lag: 0,
            spool: None,
        },
        daemon: config::Daemon {
            drain: Duration::from_secs(5),
            instance: None,
        },
        control: config::Control {
            max_role: Role::Admin,
            max_clients: 16,
        },
        chaos: config::Chaos {
            enabled: false,
            allow: Vec::new(),
            copy: false,
            max_duration: Duration::from_secs(120),
            rate: 200,
            freshness: Duration::from_secs(2),
            stop_availability: 0.5,
            stop_freshness: Duration::from_secs(300),
            stop_memory: 0.9,
            schedule: config::Schedule {
                every: Duration::ZERO,
                from_hour: 9,
                to_hour: 17,
                seed: 1,
            },
        },
        log: config::Log {
            level: "info".to_owned(),
            format: "text".to_owned(),
        },
    }
}

/// Somebody who acts.
pub(crate) fn ann() -> Identity {
    Identity {
        uid: 1_000,
        gid: 1_000,
        pid: Some(42),
        user: "ann".to_owned(),
    }
}

/// One test's world.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Manual,
    pub(crate) memory: Memory,
    pub(crate) setup: Setup,
    workers: JoinSet<()>,
}

impl Bench {
    /// An empty, prepared store and no workers.
    pub(crate) async fn new() -> Self {
        Self::of(layout()).await
    }

    /// The same with `enrich` owned.
    pub(crate) async fn owned() -> Self {
        let mut layout = layout();
        layout.stages[0].owned = true;
        Self::of(layout).await
    }

    async fn of(layout: Layout) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Manual::at_ms(NOW_MS);
        let wall: Arc<dyn Clock> = Arc::new(clock.clone());
        let memory = Memory::new(layout, Arc::clone(&wall));
        memory.admin().prepare().await.unwrap();
        let journal = Journal::new(Arc::clone(&wall));
        let audit =
            Audit::open(&dir.path().join("audit.jsonl"), Arc::clone(&wall), &journal).unwrap();
        let stages = memory.layout().stages.iter().map(|stage| {
            let mut handle = StageHandle::for_tests(&stage.name, 1);
            handle.owned = stage.owned;
            Arc::new(handle)
        });
        let source = SourceHandle {
            name: "ingest".to_owned(),
            kind: "ingest",
            ..SourceHandle::default()
        };
        let handle = Handle {
            stages: Arc::new(stages.collect()),
            sources: Arc::new(vec![Arc::new(source)]),
            draining: Arc::default(),
        };
        let layout = Arc::clone(memory.layout());
        let setup = Setup {
            clock: wall,
            admin: memory.admin(),
            layout,
            handle,
            journal,
            audit,
        };
        Self {
            dir,
            clock,
            memory,
            setup,
            workers: JoinSet::new(),
        }
    }

    pub(crate) fn plans_dir(&self) -> PathBuf {
        self.dir.path().join("plans")
    }

    pub(crate) fn plans(&self) -> Plans {
        Plans::open(&self.plans_dir(), self.setup.clone()).unwrap()
    }

    /// Adds events with these values of field `n`.
    pub(crate) async fn add(&self, n_events: u64) -> Vec<EntryId> {
        let events: Vec<_> = (0..n_events)
            .map(|n| Admission {
                event_id: None,
                fields: vec![
                    (Bytes::from_static(b"n"), Bytes::from(n.to_string())),
                    (
                        Bytes::from_static(b"event_type"),
                        Bytes::from_static(b"click"),
                    ),
                ],
            })
            .collect();
        let admitted = self.setup.admin.admit(&events, false).await.unwrap();
        admitted
            .into_iter()
            .map(|one| match one {
                Admitted::Added(id) | Admitted::Duplicate(id) => id,
            })
            .collect()
    }

    /// Adds events and lets a consumer read them and die.
    pub(crate) async fn add_pending(&self, n_events: u64, consumer: &str) -> Vec<EntryId> {
        let ids = self.add(n_events).await;
        let mut reader = self.memory.reader(0, consumer).await.unwrap();
        let n = usize::try_from(n_events).unwrap();
        assert_eq!(
            reader.next(n, Duration::ZERO).await.unwrap().entries.len(),
            n
        );
        ids
    }

    /// Adds events that die at once in `enrich`.
    pub(crate) async fn add_dead(&self, n_events: u64, cause: &str) -> Vec<EntryId> {
        let ids = self.add_pending(n_events, "gone").await;
        let letter = |n: usize| DeadLetter {
            cause: cause.to_owned(),
            reason: "rejected".to_owned(),
            error: "field \"\u{1b}[2J\" is wrong".to_owned(),
            tries: 1,
            first_ms: u64::try_from(NOW_MS).unwrap(),
            fields: vec![(Bytes::from_static(b"n"), Bytes::from(n.to_string()))],
        };
        let entries = ids
            .iter()
            .enumerate()
            .map(|(n, id)| (*id, Outcome::Dead(letter(n))))
            .collect();
        self.commit(0, "gone", entries).await;
        ids
    }

    async fn commit(&self, stage: usize, consumer: &str, outcomes: Vec<(EntryId, Outcome)>) {
        commit(&self.memory, stage, consumer, outcomes).await;
    }

    /// Starts a worker of `enrich` that commits what it is handed.
    pub(crate) fn worker(&mut self) {
        self.worker_with(|memory, order| Box::pin(work(memory, order)));
    }

    /// Starts a worker of `enrich` that does this with each order.
    pub(crate) fn worker_with(
        &mut self,
        act: impl Fn(Memory, Order) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + 'static,
    ) {
        let (to_worker, mut orders) = mpsc::channel(8);
        let view = WorkerView {
            consumer: WORKER.to_owned(),
            state: "reading",
            ..WorkerView::default()
        };
        self.setup.handle.stages[0].show_worker_with(view, to_worker);
        let memory = self.memory.clone();
        self.workers.spawn(async move {
            while let Some(order) = orders.recv().await {
                act(memory.clone(), order).await;
            }
        });
    }

    /// Reads and commits everything in both stages.
    pub(crate) async fn run_all(&self) {
        for stage in 0..2 {
            let mut reader = self.memory.reader(stage, "runner").await.unwrap();
            loop {
                let batch = reader.next(500, Duration::ZERO).await.unwrap();
                if batch.entries.is_empty() {
                    break;
                }
                let apply = |d: crate::store::Delivered| {
                    let children = if stage == 0 {
                        vec![d.record.fields]
                    } else {
                        Vec::new()
                    };
                    (
                        d.record.id,
                        Outcome::Apply(Effects {
                            children,
                            ..Effects::default()
                        }),
                    )
                };
                self.commit(
                    stage,
                    "runner",
                    batch.entries.into_iter().map(apply).collect(),
                )
                .await;
            }
        }
    }

    pub(crate) fn audit_rows(&self) -> Vec<pipectl_shared::snapshot::Audit> {
        let text = std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

async fn commit(memory: &Memory, stage: usize, consumer: &str, outcomes: Vec<(EntryId, Outcome)>) {
    let settle = |(id, outcome)| Settle {
        id,
        event_id: None,
        outcome,
    };
    let entries = outcomes.into_iter().map(settle).collect();
    let commit = Commit {
        consumer: consumer.into(),
        entries,
        repeated: true,
    };
    memory
        .writer(stage, consumer)
        .await
        .unwrap()
        .commit(&commit)
        .await
        .unwrap();
}

async fn work(memory: Memory, order: Order) {
    let mut writer = memory.writer(0, WORKER).await.unwrap();
    let batch = writer.claim(&order.ids, order.min_idle).await.unwrap();
    let mut outcomes = Vec::new();
    for entry in &batch.entries {
        let children = vec![entry.record.fields.clone()];
        outcomes.push((
            entry.record.id,
            Outcome::Apply(Effects {
                children,
                ..Effects::default()
            }),
        ));
    }
    let done: Vec<_> = outcomes.iter().map(|(id, _)| *id).collect();
    commit(&memory, 0, WORKER, outcomes).await;
    let handed = |id: &EntryId| {
        if done.contains(id) {
            Handed::Applied
        } else if batch.lost.contains(id) {
            Handed::Trimmed
        } else {
            Handed::NotFound
        }
    };
    let _ = order.answer.send(order.ids.iter().map(handed).collect());
}
