//! Canaries: one event every tenth of a second, each under a session of its own, watched until it is in the results. Their
//! age is the freshness of the pipeline as a reader of its results would feel it, whatever the pipeline says of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::load::Names;
use crate::chaos::{Server, words};
use crate::store::redis::Answer;

/// Between two canaries.
const EVERY: Duration = Duration::from_millis(100);
/// Between two looks while some are out.
const LOOK: Duration = Duration::from_millis(5);
/// Canaries asked for at once; the oldest first.
const ASKED: usize = 256;
/// A canary that is out for so long is looked for in the source: what a server lost, or a third party removed, never comes.
const SOUGHT_AFTER: Duration = Duration::from_secs(1);

/// Where all canaries are.
#[derive(Clone, Default)]
pub(super) struct Canaries(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By number: when it was due, and its entry's id.
    out: BTreeMap<u64, Out>,
    /// When it was due, and how long it took to be in effect.
    arrived: Vec<(Instant, Duration)>,
    /// Written off: not in the source any more, and not in the results.
    gone: u64,
}

struct Out {
    due: Instant,
    entry: Option<String>,
}

impl Canaries {
    /// Age of the oldest that is out; zero = none is.
    pub(super) fn oldest(&self) -> Duration {
        let state = self.lock();
        state
            .out
            .values()
            .next()
            .map_or(Duration::ZERO, |out| out.due.elapsed())
    }

    /// How long those took that were due between these instants, and are there.
    pub(super) fn arrived(&self, from: Instant, to: Instant) -> Vec<Duration> {
        let state = self.lock();
        let inside = state
            .arrived
            .iter()
            .filter(|(due, _)| (from..to).contains(due));
        inside.map(|(_, took)| *took).collect()
    }

    /// The slowest that came since the `n`-th, and how many have come in all.
    pub(super) fn since(&self, n: usize) -> (Option<Duration>, usize) {
        let state = self.lock();
        let came = state.arrived.get(n..).unwrap_or_default();
        (
            came.iter().map(|(_, took)| *took).max(),
            state.arrived.len(),
        )
    }

    /// Nobody waits for this one any more: it was taken away on purpose.
    pub(super) fn forget(&self, n: u64) {
        let mut state = self.lock();
        state.gone += u64::from(state.out.remove(&n).is_some());
    }

    /// Written off.
    pub(super) fn gone(&self) -> u64 {
        self.lock().gone
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one every tenth of a second, at its own time whatever became of those before. Cancel-safe.
    pub(super) async fn send(self, mut server: Server, names: Names) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for n in 0.. {
            let due = ticks.tick().await;
            let id = format!("{}c{n}", names.prefix);
            let command = names.add(&id, "chaos-canary", &id, false);
            self.lock().out.insert(n, Out { due, entry: None });
            // One try: where the server is away, the canary is out from its due time on until a later try is taken.
            loop {
                match server.call(&command).await {
                    Ok(entry) => {
                        if let Some(out) = self.lock().out.get_mut(&n) {
                            out.entry = Some(entry.text());
                        }
                        break;
                    }
                    Err(_) => tokio::time::sleep(EVERY / 2).await,
                }
            }
        }
    }

    /// Looks for those that are out. Cancel-safe.
    pub(super) async fn look(self, mut server: Server, names: Names, sessions: [String; 2]) {
        let mut sought = Instant::now();
        loop {
            let out: Vec<(u64, Option<String>)> = {
                let state = self.lock();
                let sent = state.out.iter().filter(|(_, out)| out.entry.is_some());
                sent.take(ASKED)
                    .map(|(n, out)| (*n, out.entry.clone()))
                    .collect()
            };
            if out.is_empty() {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let ids: Vec<_> = out
                .iter()
                .map(|(n, _)| format!("{}c{n}", names.prefix))
                .collect();
            let Some(there) = counted(&mut server, &sessions, &ids).await else {
                tokio::time::sleep(LOOK * 4).await;
                continue;
            };
            let now = Instant::now();
            {
                let mut state = self.lock();
                for ((n, _), count) in out.iter().zip(&there) {
                    if *count > 0
                        && let Some(out) = state.out.remove(n)
                    {
                        state.arrived.push((out.due, now.duration_since(out.due)));
                    }
                }
            }
            if sought.elapsed() > SOUGHT_AFTER {
                sought = now;
                self.write_off(&mut server, &names, &sessions).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes off those that are in the source no more, and were not counted before that was seen nor after.
    async fn write_off(&self, server: &mut Server, names: &Names, sessions: &[String; 2]) {
        let old: Vec<(u64, String)> = {
            let state = self.lock();
            let old = state
                .out
                .iter()
                .filter(|(_, out)| out.due.elapsed() > SOUGHT_AFTER);
            let known = old.filter_map(|(n, out)| Some((*n, out.entry.clone()?)));
            known.take(ASKED).collect()
        };
        if old.is_empty() {
            return;
        }
        let asked: Vec<_> = old
            .iter()
            .map(|(_, entry)| words(&["XRANGE", &names.source, entry, entry]))
            .collect();
        let Ok(found) = server.call_many(&asked).await else {
            return;
        };
        let missing: Vec<u64> = old
            .iter()
            .zip(&found)
            .filter(|(_, found)| matches!(found, Answer::List(rows) if rows.is_empty()))
            .map(|((n, _), _)| *n)
            .collect();
        let ids: Vec<_> = missing
            .iter()
            .map(|n| format!("{}c{n}", names.prefix))
            .collect();
        let Some(there) = counted(server, sessions, &ids).await else {
            return;
        };
        let mut state = self.lock();
        for (n, count) in missing.iter().zip(there) {
            if count == 0 && state.out.remove(n).is_some() {
                state.gone += 1;
            }
        }
    }
}

/// How often each of these sessions was counted; a session is in both generations while it passes from the one to the
/// other. `None` = the server does not answer.
pub(super) async fn counted(
    server: &mut Server,
    keys: &[String; 2],
    sessions: &[String],
) -> Option<Vec<u64>> {
    let mut sums = vec![0_u64; sessions.len()];
    for (at, part) in sessions.chunks(500).enumerate() {
        let asked: Vec<Vec<Vec<u8>>> = keys
            .iter()
            .map(|key| {
                let mut command = words(&["HMGET", key]);
                command.extend(part.iter().map(|session| session.as_bytes().to_vec()));
                command
            })
            .collect();
        for answer in server.call_many(&asked).await.ok()? {
            let Answer::List(items) = answer else {
                return None;
            };
            for (sum, item) in sums[at * 500..].iter_mut().zip(&items) {
                *sum += item.number().unwrap_or(0);
            }
        }
    }
    Some(sums)
}
