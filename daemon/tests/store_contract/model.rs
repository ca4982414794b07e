//! The streams of the model against a real server: the same random commands on both, compared after every step by what
//! the server itself tells (lag and entries-read, wrong where Redis is wrong, included).

use std::time::Duration;

use pipelined::record::EntryId;
use pipelined::store::memory::{GroupFacts, Meddler};
use proptest::prelude::*;

use super::harness::{Backend, MemoryBackend, SOURCE, event};
use super::properties::{runner, runtime};
use crate::support::meddler::RedisMeddler;
use crate::support::server::RedisServer;

/// Groups and consumers that the commands speak of.
const GROUPS: [&str; 2] = ["g0", "g1"];
const CONSUMERS: [&str; 2] = ["a", "b"];

/// One raw command. Entries are named by the order in which they were added; a number past the end is an unknown entry.
#[derive(Debug, Clone)]
enum Step {
    Add,
    Read {
        group: usize,
        consumer: usize,
        n: usize,
    },
    Ack {
        group: usize,
        nth: usize,
    },
    Del {
        nth: usize,
    },
    TrimTo {
        n: usize,
    },
    TrimBelow {
        nth: usize,
    },
    Create {
        group: usize,
        nth: usize,
    },
    Set {
        group: usize,
        nth: usize,
    },
    Destroy {
        group: usize,
    },
    DeleteConsumer {
        group: usize,
        consumer: usize,
    },
    DeleteStream,
}

fn step() -> impl Strategy<Value = Step> {
    let (group, consumer, nth) = (0..GROUPS.len(), 0..CONSUMERS.len(), 0..30_usize);
    prop_oneof![
        8 => Just(Step::Add),
        6 => (group.clone(), consumer.clone(), 1..4_usize).prop_map(|(group, consumer, n)| Step::Read { group, consumer, n }),
        4 => (group.clone(), nth.clone()).prop_map(|(group, nth)| Step::Ack { group, nth }),
        3 => nth.clone().prop_map(|nth| Step::Del { nth }),
        1 => (0..6_usize).prop_map(|n| Step::TrimTo { n }),
        1 => nth.clone().prop_map(|nth| Step::TrimBelow { nth }),
        3 => (group.clone(), nth.clone()).prop_map(|(group, nth)| Step::Create { group, nth }),
        2 => (group.clone(), nth).prop_map(|(group, nth)| Step::Set { group, nth }),
        1 => group.clone().prop_map(|group| Step::Destroy { group }),
        1 => (group, consumer).prop_map(|(group, consumer)| Step::DeleteConsumer { group, consumer }),
        1 => Just(Step::DeleteStream),
    ]
}

/// A meddler, and the ids of what was added by it, in order.
struct Side<'a> {
    meddler: &'a dyn Meddler,
    ids: Vec<EntryId>,
}

impl Side<'_> {
    fn id(&self, nth: usize) -> EntryId {
        self.ids.get(nth).copied().unwrap_or(EntryId {
            ms: 1,
            seq: nth as u64,
        })
    }

    /// Runs one step; what it answered, in numbers of entries instead of ids.
    async fn run(&mut self, step: &Step) -> Vec<u64> {
        let meddler = self.meddler;
        match *step {
            Step::Add => {
                let id = meddler.add(SOURCE, event(0)).await;
                self.ids.push(id);
                vec![]
            }
            Step::Read { group, consumer, n } => {
                let read = meddler
                    .read(SOURCE, GROUPS[group], CONSUMERS[consumer], n)
                    .await;
                read.iter().map(|id| self.nth(*id)).collect()
            }
            Step::Ack { group, nth } => {
                vec![meddler.ack(SOURCE, GROUPS[group], &[self.id(nth)]).await]
            }
            Step::Del { nth } => vec![meddler.del(SOURCE, &[self.id(nth)]).await],
            Step::TrimTo { n } => vec![meddler.trim_to(SOURCE, n).await],
            Step::TrimBelow { nth } => vec![meddler.trim_below(SOURCE, self.id(nth)).await],
            Step::Create { group, nth } => {
                meddler
                    .create_group(SOURCE, GROUPS[group], self.id(nth))
                    .await;
                vec![]
            }
            Step::Set { group, nth } => {
                meddler.set_group(SOURCE, GROUPS[group], self.id(nth)).await;
                vec![]
            }
            Step::Destroy { group } => {
                meddler.destroy_group(SOURCE, GROUPS[group]).await;
                vec![]
            }
            Step::DeleteConsumer { group, consumer } => {
                vec![
                    meddler
                        .delete_consumer(SOURCE, GROUPS[group], CONSUMERS[consumer])
                        .await,
                ]
            }
            Step::DeleteStream => {
                meddler.delete_stream(SOURCE).await;
                // Both clocks must move on, or the next life of the stream would use its ids again.
                meddler
                    .age(SOURCE, GROUPS[0], Duration::from_millis(2))
                    .await;
                tokio::time::sleep(Duration::from_millis(2)).await;
                vec![]
            }
        }
    }

    /// Which entry this is; ids that were made up keep their number.
    fn nth(&self, id: EntryId) -> u64 {
        self.ids
            .iter()
            .position(|known| *known == id)
            .map_or(1_000_000 + id.seq, |nth| nth as u64)
    }

    /// What the server tells of a group, with numbers of entries instead of ids.
    async fn facts(&self, group: &str) -> Option<GroupFacts> {
        let mut facts = self.meddler.facts(SOURCE, group).await?;
        let named = |id: EntryId| EntryId {
            ms: self.nth(id),
            seq: 0,
        };
        facts.last_delivered = named(facts.last_delivered);
        for pending in &mut facts.pending {
            pending.id = named(pending.id);
        }
        Some(facts)
    }
}

async fn compare(
    memory: &dyn Meddler,
    redis: &dyn Meddler,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut sides = [
        Side {
            meddler: memory,
            ids: Vec::new(),
        },
        Side {
            meddler: redis,
            ids: Vec::new(),
        },
    ];
    for (i, step) in steps.iter().enumerate() {
        let [model, real] = &mut sides;
        prop_assert_eq!(
            model.run(step).await,
            real.run(step).await,
            "answer to step {}: {:?}",
            i,
            step
        );
        for group in GROUPS {
            prop_assert_eq!(
                model.facts(group).await,
                real.facts(group).await,
                "{} after step {}: {:?}",
                group,
                i,
                step
            );
        }
    }
    Ok(())
}

/// Runs without the Redis store: it is the model's ground.
#[test]
fn streams_of_the_model_are_streams_of_a_server() {
    let runtime = runtime();
    let server =
        runtime.block_on(async { RedisMeddler::new(RedisServer::start().await, None).await });
    let checked = runner(64).run(&prop::collection::vec(step(), 1..60), |steps| {
        runtime.block_on(async {
            server.flush().await;
            let memory = MemoryBackend::start().await;
            let both = compare(memory.meddler(), &server, &steps);
            tokio::time::timeout(Duration::from_secs(60), both)
                .await
                .expect("a history takes too long")
        })
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
