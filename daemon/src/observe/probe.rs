//! One round of questions to the store, each with what is left of one deadline; spawned and owned by the sampler, which
//! starts the next one only when this one is back. Cancel-safe: it only reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::facts::OldestPending;
use crate::runtime::Handle;
use crate::store::{
    self, Admin, Aggregates, ConsumerDepth, Depth, PendingQuery, Result, Server, StoreError,
};

/// An answer that takes longer counts as none.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
/// Greatest products asked for: the 20 of a Snapshot.
const N_PRODUCTS: usize = 20;

/// What to ask beside the depths.
#[derive(Debug, Clone, Default)]
pub(super) struct Due {
    /// Consumers of every stage, else only of those with pending entries or named in `consumers_of`.
    pub(super) consumers: bool,
    /// Stages whose last reading showed pending entries: they are asked once more, so that it is not shown when it is over.
    pub(super) consumers_of: Vec<bool>,
    /// First reads that are known already, per stage.
    pub(super) oldest: Vec<Option<OldestPending>>,
    /// Top of the results.
    pub(super) aggregates: bool,
    /// The server.
    pub(super) server: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answers {
    /// When the depths came.
    pub(super) at: Instant,
    /// How long they took.
    pub(super) took: Duration,
    /// The depths, or why there are none; then there is nothing else either.
    pub(super) depth: Result<Depth>,
    /// Per stage, where asked and answered.
    pub(super) consumers: Vec<Option<Vec<ConsumerDepth>>>,
    /// Per stage with pending entries that nobody here holds.
    pub(super) oldest: Vec<Option<OldestPending>>,
    /// Where asked and answered.
    pub(super) aggregates: Option<Aggregates>,
    /// Where asked and answered.
    pub(super) server: Option<Server>,
}

/// Asks. Takes at most [`DEADLINE`].
pub(super) async fn probe(admin: Arc<dyn Admin>, handle: Handle, due: Due) -> Answers {
    let begun = Instant::now();
    let deadline = begun + DEADLINE;
    let depth = match timeout_at(deadline, admin.depth()).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer within {} s",
            DEADLINE.as_secs()
        ))),
    };
    let at = Instant::now();
    let mut answers = Answers {
        at,
        took: at - begun,
        depth,
        consumers: Vec::new(),
        oldest: Vec::new(),
        aggregates: None,
        server: None,
    };
    let Ok(depth) = &answers.depth else {
        return answers;
    };
    // Beyond the depths a missing answer leaves the older one, or nothing: it must not cost the depths.
    // All at once: over a line with a long way there and back, one after the other would outlast the depths.
    let depth = Arc::new(depth.clone());
    let n = depth.stages.len();
    (answers.consumers, answers.oldest) = (vec![None; n], vec![None; n]);
    let mut asked: JoinSet<Answer> = JoinSet::new();
    for (i, stage) in depth.stages.iter().enumerate() {
        let known = due.oldest.get(i).copied().flatten();
        let wanted =
            due.consumers || stage.pending > 0 || due.consumers_of.get(i).is_some_and(|w| *w);
        if wanted && stage.present {
            let admin = Arc::clone(&admin);
            asked.spawn(async move { Answer::Consumers(i, admin.consumers(i).await.ok()) });
        }
        if stage.oldest_pending.is_some() {
            answers.oldest[i] = known;
            let (admin, handle, depth) = (Arc::clone(&admin), handle.clone(), Arc::clone(&depth));
            asked.spawn(async move {
                Answer::Oldest(i, oldest(&*admin, &handle, i, &depth, known).await)
            });
        }
    }
    if due.server {
        let admin = Arc::clone(&admin);
        asked.spawn(async move { Answer::Server(admin.server().await.ok()) });
    }
    if due.aggregates {
        asked.spawn(async move { Answer::Aggregates(admin.aggregates(N_PRODUCTS).await.ok()) });
    }
    // What was answered before the deadline stays; the rest is dropped with the set.
    while let Ok(Some(answer)) = timeout_at(deadline, asked.join_next()).await {
        match answer {
            Ok(Answer::Consumers(i, consumers)) => answers.consumers[i] = consumers,
            Ok(Answer::Oldest(i, oldest)) => answers.oldest[i] = oldest,
            Ok(Answer::Server(server)) => answers.server = server,
            Ok(Answer::Aggregates(aggregates)) => answers.aggregates = aggregates,
            // A question that failed in itself is one without an answer.
            Err(error) => tracing::debug!(%error, "a question to the store ended early"),
        }
    }
    answers
}

/// One of the questions beside the depths, answered.
enum Answer {
    Consumers(usize, Option<Vec<ConsumerDepth>>),
    Oldest(usize, Option<OldestPending>),
    Server(Option<Server>),
    Aggregates(Option<Aggregates>),
}

/// When the oldest pending entry was read first, if no worker here holds it (the worker then knows better).
async fn oldest(
    admin: &dyn Admin,
    handle: &Handle,
    i: usize,
    depth: &Depth,
    known: Option<OldestPending>,
) -> Option<OldestPending> {
    let stage = &depth.stages[i];
    let id = stage.oldest_pending.filter(|_| stage.pending > 0)?;
    if known.is_some_and(|k| k.id == id) {
        return known;
    }
    if handle
        .stages
        .get(i)
        .is_some_and(|s| s.first_read_ms(id).is_some())
    {
        return None;
    }
    let query = PendingQuery {
        after: id.previous(),
        n_max: 1,
        ..PendingQuery::default()
    };
    let page = admin.pending(i, &query).await.ok()?;
    let row = page.rows.into_iter().find(|r| r.id == id)?;
    Some(OldestPending {
        id,
        first_ms: first_ms(&row, depth.now_ms),
    })
}

/// By the store's own note; else, of an entry that was delivered once only, since then. 0 = unknown.
fn first_ms(row: &store::PendingRow, server_now_ms: u64) -> u64 {
    match row {
        row if row.first_ms > 0 => row.first_ms,
        row if row.deliveries == 1 => server_now_ms.saturating_sub(row.idle_ms),
        _ => 0,
    }
}
