//! The spool with the store in memory: what was accepted is in the store once, whatever happens in between.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::System;
use crate::record::EntryId;
use crate::store::memory::{Meddler as _, Memory};
use crate::store::{Admin as _, Dedupe, Layout, StageLayout};

const LIMIT: u64 = 8 << 20;

fn layout(has_window: bool) -> Layout {
    Layout {
        pipeline: "test".to_owned(),
        source: "events".to_owned(),
        stages: vec![StageLayout {
            name: "count".to_owned(),
            stream: "events".to_owned(),
            group: "event_group".to_owned(),
            reads_source: true,
            output: None,
            output_readers: 0,
            aggregates: true,
            owned: false,
            state: Vec::new(),
        }],
        dedupe: has_window.then_some(Dedupe {
            window: Duration::from_secs(3_600),
            max_ids: 100_000,
        }),
        session_keep: Duration::from_secs(60),
        id_field: Bytes::from_static(b"event_id"),
    }
}

fn event(n: u64) -> Admission {
    Admission {
        event_id: None,
        fields: vec![(Bytes::from_static(b"n"), Bytes::from(n.to_string()))],
    }
}

fn events(range: std::ops::Range<u64>) -> Vec<Admission> {
    range.map(event).collect()
}

/// The source stream's events in order.
async fn in_the_store(store: &Memory) -> Vec<u64> {
    let (mut all, mut after) = (Vec::new(), EntryId::MIN);
    loop {
        let page = store.peek(0, after, 1_000).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = last.id;
        all.extend(
            page.iter()
                .map(|r| r.text("n").unwrap().parse::<u64>().unwrap()),
        );
    }
}

async fn store(has_window: bool) -> Memory {
    let store = Memory::new(layout(has_window), Arc::new(System));
    store.prepare().await.unwrap();
    store
}

/// One life of a daemon's spool. Dropping it is a kill.
struct Life {
    spool: Spool,
    receipt: Arc<Mutex<Receipt>>,
    pressure: watch::Sender<Option<String>>,
    tasks: JoinSet<()>,
    journal: Journal,
}

impl Life {
    fn begin(dir: &Path, life: u64, limit: u64) -> Self {
        let journal = Journal::new(Arc::new(System));
        let settings = Settings {
            dir: dir.join("spool"),
            limit,
            life,
        };
        let (spool, writer) = Spool::open(settings, journal.clone()).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(CancellationToken::new()));
        Self {
            spool,
            receipt: Arc::default(),
            pressure: watch::Sender::new(None),
            tasks,
            journal,
        }
    }

    fn drain_into(&mut self, store: &Memory) {
        let drain = Drain::new(
            self.spool.clone(),
            Arc::new(store.clone()),
            self.pressure.subscribe(),
        );
        self.tasks.spawn(drain.run(CancellationToken::new()));
    }

    async fn take(&self, events: Vec<Admission>) -> Result<u64, Refused> {
        self.spool.append(events, &self.receipt).await
    }

    async fn drained(&self) {
        let done = async {
            while self.spool.waiting() > 0 || !self.files().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), done)
            .await
            .expect("the spool does not drain");
    }

    fn files(&self) -> Vec<PathBuf> {
        files_of(&self.spool.0.dir, ".spool")
    }

    fn told(&self, name: &str) -> Vec<String> {
        let events = self.journal.last(100);
        let named = events.into_iter().filter(|event| event.name == name);
        named.map(|event| event.message).collect()
    }
}

fn files_of(dir: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_taken_comes_out_in_order_once_and_the_files_go() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let mut life = Life::begin(dir.path(), 1, LIMIT);
    assert!(!life.spool.is_open());
    assert_eq!(life.take(events(0..300)).await, Ok(300));
    assert_eq!(life.take(events(300..2_000)).await, Ok(2_000));
    assert!(life.spool.is_open() && !life.spool.is_drained(2_000));
    assert_eq!(life.spool.gauge().load(Ordering::Relaxed), 2_000);
    life.drain_into(&store);
    life.drained().await;
    assert!(!life.spool.is_open() && life.spool.is_drained(2_000));
    assert_eq!(in_the_store(&store).await, (0..2_000).collect::<Vec<_>>());
    // It goes on with what comes later.
    life.take(events(2_000..2_100)).await.unwrap();
    life.drained().await;
    assert_eq!(in_the_store(&store).await.len(), 2_100);
    let receipt = life.receipt.lock().unwrap();
    assert_eq!(
        (
            receipt.n_known,
            receipt.last.is_some(),
            receipt.ranges.is_empty()
        ),
        (0, true, false)
    );
    assert_eq!(life.told("spool.began").len(), 2);
    assert!(life.told("spool.drained")[0].contains("2000 events"));
}

#[tokio::test]
async fn an_answer_that_was_lost_doubles_nothing_with_the_id_window_off() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let mut life = Life::begin(dir.path(), 1, LIMIT);
    life.take(events(0..1_200)).await.unwrap();
    assert!(store.lose_reply().await);
    life.drain_into(&store);
    life.drained().await;
    assert_eq!(in_the_store(&store).await, (0..1_200).collect::<Vec<_>>());
}

/// A process of its own: when it ends, what is being written is written or not, and nothing goes on.
fn process<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(run);
    runtime.shutdown_timeout(Duration::from_secs(20));
    answer
}

#[test]
fn kills_at_any_moment_while_it_fills_and_drains_lose_and_double_nothing() {
    for seed in 0..40_u64 {
        let (dir, store) = (TempDir::new().unwrap(), process(store(false)));
        let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
        let mut n = 0;
        for number in 1..=6 {
            process(async {
                let mut life = Life::begin(dir.path(), seed * 100 + number, LIMIT);
                if random.random_bool(0.7) {
                    if random.random_bool(0.5) {
                        store.lose_reply().await;
                    }
                    life.drain_into(&store);
                }
                for _ in 0..random.random_range(0..6) {
                    let next = n + random.random_range(1..700);
                    life.take(events(n..next)).await.unwrap();
                    n = next;
                    for _ in 0..random.random_range(0..40) {
                        tokio::task::yield_now().await;
                    }
                }
                // The last one is killed before its answer: it may be there or not.
                let last = life.take(events(n..n + 10));
                let soon = Duration::from_micros(random.random_range(0..300));
                let _ = tokio::time::timeout(soon, last).await;
                n += 10;
            });
        }
        process(async {
            let mut life = Life::begin(dir.path(), seed * 100 + 99, LIMIT);
            life.drain_into(&store);
            life.drained().await;
        });
        let got = process(in_the_store(&store));
        let in_order = got.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "seed {seed}: doubled or out of order: {got:?}");
        let missing: Vec<u64> = (0..n).filter(|n| got.binary_search(n).is_err()).collect();
        // Only of those without an answer, and each ten of them as a whole.
        let is_whole = missing.len().is_multiple_of(10) && missing.len() <= 60;
        assert!(is_whole, "seed {seed}: {missing:?}");
    }
}

#[tokio::test]
async fn after_a_roll_back_of_the_store_what_is_on_the_disk_goes_in_again() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let life = Life::begin(dir.path(), 1, LIMIT);
    life.take(events(0..800)).await.unwrap();
    store.remember().await;
    // As much as one call takes, and then the server goes back.
    let events = events(0..500);
    let place = crate::store::SpoolPlace { life: 1, first: 1 };
    store.admit_spooled(place, &events).await.unwrap();
    store.roll_back().await;
    let mut life = life;
    life.drain_into(&store);
    life.drained().await;
    assert_eq!(in_the_store(&store).await, (0..800).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_spool_refuses_and_has_room_again_when_it_drains() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let mut life = Life::begin(dir.path(), 1, 64 << 10);
    let mut n = 0;
    let refused = loop {
        match life.take(events(n..n + 100)).await {
            Ok(_) => n += 100,
            Err(refused) => break refused,
        }
        assert!(n < 10_000, "it is never full");
    };
    assert_eq!(
        refused,
        Refused::Full {
            waiting: n,
            limit: 64 << 10
        }
    );
    let used: u64 = life
        .files()
        .iter()
        .map(|f| f.metadata().unwrap().len())
        .sum();
    assert!(used <= 64 << 10 && life.files().len() > 4, "{used}");
    life.drain_into(&store);
    life.drained().await;
    life.take(events(n..n + 100)).await.unwrap();
    life.drained().await;
    assert_eq!(in_the_store(&store).await, (0..n + 100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_told() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let life = Life::begin(dir.path(), 1, LIMIT);
    life.take(events(0..10)).await.unwrap();
    let file = life.files().remove(0);
    drop(life);
    let whole = std::fs::read(&file).unwrap();
    let mut torn = whole.clone();
    // Half a record of a write that was not answered.
    torn.extend_from_slice(&whole[..whole.len() / 20]);
    std::fs::write(&file, &torn).unwrap();
    let mut life = Life::begin(dir.path(), 2, LIMIT);
    assert_eq!(life.told("spool.cut").len(), 1);
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    life.drain_into(&store);
    life.drained().await;
    assert_eq!(in_the_store(&store).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_damaged_file_costs_what_was_hit_and_is_kept_aside() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let life = Life::begin(dir.path(), 1, 64 << 10);
    for n in 0..40 {
        life.take(events(n * 10..(n + 1) * 10)).await.unwrap();
    }
    let file = life.files()[1].clone();
    drop(life);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&file, &bytes).unwrap();
    let mut life = Life::begin(dir.path(), 2, 64 << 10);
    life.drain_into(&store);
    life.drained().await;
    let got = in_the_store(&store).await;
    assert_eq!(got.len(), 399, "{got:?}");
    assert!(got.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(life.told("spool.damaged").len(), 1);
    assert!(life.told("spool.damaged")[0].starts_with("1 accepted events"));
    let aside = files_of(&life.spool.0.dir, ".damaged");
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read(&aside[0]).unwrap(), bytes, "as it was found");
}

#[tokio::test]
async fn a_disk_that_does_not_take_it_is_a_refusal_and_no_false_accept() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    // A file where the folder should be: nothing can be made in it.
    std::fs::create_dir(dir.path().join("spool")).unwrap();
    let mut life = Life::begin(dir.path(), 1, LIMIT);
    std::fs::remove_dir(dir.path().join("spool")).unwrap();
    std::fs::write(dir.path().join("spool"), "in the way").unwrap();
    for _ in 0..2 {
        assert!(matches!(
            life.take(events(0..10)).await,
            Err(Refused::Disk(_))
        ));
    }
    assert!(!life.spool.is_open());
    assert_eq!(life.told("spool.refused").len(), 1, "told once");
    std::fs::remove_file(dir.path().join("spool")).unwrap();
    life.take(events(10..20)).await.unwrap();
    life.drain_into(&store);
    life.drained().await;
    assert_eq!(in_the_store(&store).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_spool_that_was_turned_off_drains_what_it_holds_and_takes_nothing() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let life = Life::begin(dir.path(), 1, LIMIT);
    life.take(events(0..10)).await.unwrap();
    drop(life);
    let mut life = Life::begin(dir.path(), 2, 0);
    assert!(life.spool.is_open() && !life.spool.is_on());
    assert_eq!(life.take(events(10..11)).await, Err(Refused::Off(10)));
    life.spool.expect_outage();
    life.drain_into(&store);
    life.drained().await;
    assert!(!life.spool.is_open());
    assert_eq!(in_the_store(&store).await.len(), 10);
}

#[tokio::test]
async fn back_pressure_holds_the_drain_back() {
    let (dir, store) = (TempDir::new().unwrap(), store(false).await);
    let mut life = Life::begin(dir.path(), 1, LIMIT);
    life.pressure.send_replace(Some("redis is full".to_owned()));
    life.take(events(0..10)).await.unwrap();
    life.drain_into(&store);
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(in_the_store(&store).await.len(), 0);
    life.pressure.send_replace(None);
    life.drained().await;
    assert_eq!(in_the_store(&store).await.len(), 10);
}
