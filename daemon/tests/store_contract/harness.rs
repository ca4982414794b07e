//! What every test of the contract stands on: layouts, a bench with a prepared store, hands of one consumer, and the
//! ledger as one readable line.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pipelined::clock::Manual;
use pipelined::effect::{Counter, Effects};
use pipelined::record::{EntryId, Fields};
use pipelined::store::memory::{Meddler, Memory};
use pipelined::store::{
    Admin, Code, Commit, DeadLetter, Dedupe, Delivered, Layout, Ledger, Outcome, Reader, Settle,
    StageLayout, Store, StoreError, Writer,
};

/// Longer than anything takes; only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Stream of the source.
pub(crate) const SOURCE: &str = "events";
/// Group of the first stage.
pub(crate) const GROUP: &str = "event_group";

/// One set of data, on which stores are opened.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// A store on these data, as one more daemon would open it.
    async fn open(&self, layout: Layout) -> Arc<dyn Store>;
    /// What third parties do to these data.
    fn meddler(&self) -> &dyn Meddler;
}

/// The store in memory. The clock stands still but for what the meddler moves it.
pub(crate) struct MemoryBackend(Memory);

impl MemoryBackend {
    pub(crate) async fn start() -> Self {
        Self(Memory::new(
            counting(),
            Arc::new(Manual::at_ms(1_700_000_000_000)),
        ))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn open(&self, layout: Layout) -> Arc<dyn Store> {
        Arc::new(self.0.beside(layout))
    }

    fn meddler(&self) -> &dyn Meddler {
        &self.0
    }
}

/// A stage without an output.
pub(crate) fn stage(name: &str, stream: &str, group: &str) -> StageLayout {
    StageLayout {
        name: name.into(),
        stream: stream.into(),
        group: group.into(),
        reads_source: stream == SOURCE,
        output: None,
        output_readers: 0,
        aggregates: name == "count",
        owned: false,
        state: Vec::new(),
    }
}

/// A layout of these stages.
pub(crate) fn layout(stages: Vec<StageLayout>) -> Layout {
    Layout {
        pipeline: "shop".into(),
        source: SOURCE.into(),
        stages,
        dedupe: Some(Dedupe {
            window: Duration::from_secs(3_600),
            max_ids: 500_000,
        }),
        session_keep: Duration::from_secs(3_600),
        id_field: "event_id".into(),
    }
}

/// One stage that counts.
pub(crate) fn counting() -> Layout {
    layout(vec![stage("count", SOURCE, GROUP)])
}

/// Stream between the stages of [`chain`] and [`fan_out`].
pub(crate) const BETWEEN: &str = "{events}:enrich";

/// `enrich`, then `count`.
pub(crate) fn chain() -> Layout {
    let enrich = StageLayout {
        output: Some(BETWEEN.into()),
        output_readers: 1,
        ..stage("enrich", SOURCE, GROUP)
    };
    layout(vec![enrich, stage("count", BETWEEN, "count")])
}

/// `enrich`, whose output `count` and `audit` read.
pub(crate) fn fan_out() -> Layout {
    let mut layout = chain();
    layout.stages[0].output_readers = 2;
    layout.stages.push(stage("audit", BETWEEN, "audit"));
    layout
}

/// Two terminal stages that read the source.
pub(crate) fn two_readers() -> Layout {
    layout(vec![
        stage("count", SOURCE, GROUP),
        stage("audit", SOURCE, "audit"),
    ])
}

/// A prepared store and what belongs to it.
pub(crate) struct Bench<'a> {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) meddler: &'a dyn Meddler,
}

impl<'a> Bench<'a> {
    /// Opens a store and prepares it.
    pub(crate) async fn new(backend: &'a dyn Backend, layout: Layout) -> Self {
        let store = backend.open(layout).await;
        let admin = store.admin();
        admin.prepare().await.expect("prepare");
        Self {
            store,
            admin,
            meddler: backend.meddler(),
        }
    }

    /// Reader and writer of one consumer.
    pub(crate) async fn hands(&self, stage: usize, consumer: &str) -> Hands {
        let reader = self
            .store
            .reader(stage, consumer)
            .await
            .expect("open a reader");
        let writer = self
            .store
            .writer(stage, consumer)
            .await
            .expect("open a writer");
        Hands {
            reader,
            writer,
            consumer: consumer.into(),
        }
    }

    /// Events number `from` to `to` (excluded), added by a third party.
    pub(crate) async fn add(&self, from: u32, to: u32) -> Vec<EntryId> {
        let mut ids = Vec::new();
        for n in from..to {
            ids.push(self.meddler.add(SOURCE, event(n)).await);
        }
        ids
    }

    /// The ledger as [`line()`] writes it.
    pub(crate) async fn ledger(&self) -> String {
        line(&self.admin.depth().await.expect("read the depth").ledger)
    }

    /// A stage's own line of the ledger.
    pub(crate) async fn stage_ledger(&self, stage: usize) -> String {
        line(&self.admin.depth().await.expect("read the depth").stages[stage].ledger)
    }

    /// Total counted.
    pub(crate) async fn total(&self) -> u64 {
        self.admin
            .aggregates(0)
            .await
            .expect("read the totals")
            .total
    }

    /// The server's clock, milliseconds since 1970.
    pub(crate) async fn now_ms(&self) -> u64 {
        self.admin.depth().await.expect("read the depth").now_ms
    }

    /// Waits until the store answers again after its server was started anew.
    pub(crate) async fn healed(&self) {
        let answers = async {
            while self.admin.depth().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(answers).await;
    }
}

/// Fails a test that hangs.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("it did not happen in time")
}

/// One consumer at work.
pub(crate) struct Hands {
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) writer: Box<dyn Writer>,
    pub(crate) consumer: Arc<str>,
}

impl Hands {
    /// New entries, without waiting.
    pub(crate) async fn read(&mut self, n_max: usize) -> Vec<Delivered> {
        self.reader
            .next(n_max, Duration::ZERO)
            .await
            .expect("read")
            .entries
    }

    /// Ids of new entries.
    pub(crate) async fn read_ids(&mut self, n_max: usize) -> Vec<EntryId> {
        self.read(n_max)
            .await
            .iter()
            .map(|entry| entry.record.id)
            .collect()
    }

    /// Commits as a worker does the first time; what did not go as asked.
    pub(crate) async fn commit(&mut self, entries: Vec<Settle>) -> Vec<(usize, Code)> {
        self.try_commit(entries, false).await.expect("commit")
    }

    /// Commits as a worker does again.
    pub(crate) async fn repeat(&mut self, entries: Vec<Settle>) -> Vec<(usize, Code)> {
        self.try_commit(entries, true).await.expect("commit again")
    }

    /// Commits, and may fail.
    pub(crate) async fn try_commit(
        &mut self,
        entries: Vec<Settle>,
        repeated: bool,
    ) -> Result<Vec<(usize, Code)>, StoreError> {
        let commit = Commit {
            consumer: Arc::clone(&self.consumer),
            entries,
            repeated,
        };
        Ok(self.writer.commit(&commit).await?.exceptions)
    }

    /// Reads what is new and counts it; returns how many.
    pub(crate) async fn count_all(&mut self) -> usize {
        let mut n_counted = 0;
        loop {
            let ids = self.read_ids(100).await;
            if ids.is_empty() {
                return n_counted;
            }
            n_counted += ids.len();
            let exceptions = self
                .commit(ids.iter().map(|id| settle(*id, counted())).collect())
                .await;
            n_counted -= exceptions.len();
        }
    }
}

/// Event number `n`: its id has 16 bytes, so that it is its own key in the window.
pub(crate) fn event(n: u32) -> Fields {
    vec![
        ("event_id".into(), Bytes::copy_from_slice(&event_id(n))),
        ("value".into(), n.to_string().into()),
    ]
}

/// Id of event number `n`.
pub(crate) fn event_id(n: u32) -> [u8; 16] {
    let text = format!("event-{n:010}");
    text.as_bytes().try_into().expect("16 bytes")
}

/// An outcome for an entry, without an event id.
pub(crate) fn settle(id: EntryId, outcome: Outcome) -> Settle {
    Settle {
        id,
        event_id: None,
        outcome,
    }
}

/// An outcome for an entry that carries event number `n`.
pub(crate) fn settle_event(id: EntryId, n: u32, outcome: Outcome) -> Settle {
    Settle {
        id,
        event_id: Some(event_id(n)),
        outcome,
    }
}

/// Adds one to the total.
pub(crate) fn counted() -> Outcome {
    adds(&[("total_count", 1)])
}

/// Adds to counters.
pub(crate) fn adds(list: &[(&str, i64)]) -> Outcome {
    let adds = list
        .iter()
        .map(|(name, by)| (Counter::Count(Bytes::copy_from_slice(name.as_bytes())), *by));
    Outcome::Apply(Effects {
        adds: adds.collect(),
        ..Effects::default()
    })
}

/// Emits these entries.
pub(crate) fn emits(children: Vec<Fields>) -> Outcome {
    Outcome::Apply(Effects {
        children,
        ..Effects::default()
    })
}

/// A dead letter of event number `n`.
pub(crate) fn dead(n: u32) -> Outcome {
    Outcome::Dead(DeadLetter {
        cause: "00000000000000aa".into(),
        reason: "rejected".into(),
        error: "no".into(),
        tries: 1,
        first_ms: 5,
        fields: event(n),
    })
}

/// A failed try.
pub(crate) fn failed(not_before_ms: u64) -> Outcome {
    Outcome::Retry {
        not_before_ms,
        failures: 2,
        first_ms: 7,
        error: "lookup: refused".into(),
    }
}

/// What is not 0 in a ledger, such as `accepted 3, applied 2, pending 1`.
pub(crate) fn line(ledger: &Ledger) -> String {
    let signed = |n: u64| i64::try_from(n).expect("a small number");
    let members = [
        ("accepted", signed(ledger.accepted)),
        ("spawned", ledger.spawned),
        ("applied", signed(ledger.applied)),
        ("filtered", signed(ledger.filtered)),
        ("late", signed(ledger.late)),
        ("discarded", signed(ledger.discarded)),
        ("deduplicated", signed(ledger.deduplicated)),
        ("dead", ledger.dead),
        ("lost", signed(ledger.lost)),
        ("pending", signed(ledger.pending)),
        ("undelivered", signed(ledger.undelivered)),
        ("unaccounted", ledger.unaccounted()),
        ("rejected", signed(ledger.rejected)),
    ];
    let told = members
        .iter()
        .filter(|(_, n)| *n != 0)
        .map(|(name, n)| format!("{name} {n}"));
    told.collect::<Vec<_>>().join(", ")
}
