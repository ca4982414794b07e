//! The cache in front of a lookup, shared by all workers of a stage.
//!
//! What it promises: a fresh key is answered from memory (keys that do not exist too); a key is loaded by one caller at a
//! time, and others that want it wait for that answer; when the lookup fails, values that are not older than
//! `ttl + stale_ok` are used instead; a lookup that fails is left in peace for 250 ms, doubling to 5 s, and meanwhile
//! everybody is answered at once, with an old value or the last error.
//!
//! It does not limit how long the lookup takes: the lookup itself does, and the worker by the stage's timeout.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pipectl_shared::backoff::Backoff;
use pipectl_shared::config;
use tokio::sync::watch;
use tokio::time::Instant;

use super::port::{Answer, Lookup, LookupError, Unknown};
use crate::record::Fields;

/// What a caller gets for one key: its fields, `None` where there is none, or why it is not known.
pub type Found = Result<Option<Arc<Fields>>, Unknown>;

/// A load that somebody else has under way: `None` until its answer is there.
type Awaited = watch::Receiver<Option<Found>>;

/// Rests after failed calls. The first is long enough that a dead server is asked four times a second and not thousands,
/// short enough that one hiccup is hardly seen; the longest says how late a server's return is noticed. Used without
/// jitter: there is one prober in a process.
const REST: Backoff = Backoff {
    min: Duration::from_millis(250),
    max: Duration::from_secs(5),
};

/// How long the error of a single key (wrong type) is remembered for records that come first, so that a hot broken key is
/// asked for once a second, and else once for each try.
const KEY_ERROR_KEPT: Duration = Duration::from_secs(1);

/// `cache_entries` counts profiles of up to this many bytes; a greater one takes as many places as it needs, so that
/// memory is bounded by `cache_entries` times this whatever the profiles are.
const PLACE_BYTES: usize = 4_096;

/// Counters since start, for screens and metrics. They count keys, once per call, not records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readings {
    /// Answered from memory with fields.
    pub hits: u64,
    /// Answered from memory: there is no such key.
    pub negative: u64,
    /// Not fresh in memory: loaded, or waited for while another caller loaded it.
    pub misses: u64,
    /// Answered with an old value, because the lookup failed or rests.
    pub stale: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Calls of the lookup behind.
    pub loads: u64,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    negative: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    errors: AtomicU64,
    loads: AtomicU64,
}

fn tick(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One cache; share it by `Arc`.
pub struct Cache {
    behind: Arc<dyn Lookup>,
    ttl: Duration,
    negative_ttl: Duration,
    stale_ok: Duration,
    /// Values carry their own times: how long they are good depends on whether the lookup works.
    known: moka::sync::Cache<Bytes, Known>,
    /// Loads under way. Bounded by callers times keys per call (64 workers, 500 records).
    flights: Mutex<HashMap<Bytes, Awaited>>,
    rest: Mutex<Rest>,
    counters: Counters,
}

/// What is known of one key.
#[derive(Clone, Default)]
struct Known {
    /// The last answer and when it came.
    value: Option<(Option<Arc<Fields>>, Instant)>,
    /// The last error of this key alone and when it came; a later answer removes it.
    error: Option<(Arc<str>, Instant)>,
}

/// The rest after failures of the whole lookup.
#[derive(Default)]
struct Rest {
    n_failures: u32,
    /// Nobody asks before this, and after it one at a time; `None` = it works.
    until: Option<Instant>,
    /// Whether somebody is asking whether it works again.
    is_probed: bool,
    error: String,
}

/// Whether the remembered error of a key is an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errors {
    Remembered,
    Forgotten,
}

/// Whether the lookup may be asked now.
enum Leave {
    Ask,
    /// It failed and had its rest: this caller goes alone and finds out.
    Probe,
    /// Not now; the last error.
    Rest(String),
}

impl Cache {
    /// A cache before `behind` with the limits of `lookup`.
    pub fn new(behind: Arc<dyn Lookup>, lookup: &config::Lookup) -> Self {
        let known = moka::sync::Cache::builder()
            .max_capacity(lookup.cache_entries)
            .weigher(|key: &Bytes, known: &Known| known.places(key))
            .build();
        Self {
            behind,
            ttl: lookup.ttl,
            negative_ttl: lookup.negative_ttl,
            stale_ok: lookup.stale_ok,
            known,
            flights: Mutex::default(),
            rest: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// Counters as of now.
    pub fn readings(&self) -> Readings {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Readings {
            hits: get(&self.counters.hits),
            negative: get(&self.counters.negative),
            misses: get(&self.counters.misses),
            stale: get(&self.counters.stale),
            errors: get(&self.counters.errors),
            loads: get(&self.counters.loads),
        }
    }

    /// Forgets everything, old values and errors too. Returns whether it held anything. Loads under way are kept when they
    /// come.
    pub fn empty(&self) -> bool {
        let held = self.known.iter().next().is_some();
        self.known.invalidate_all();
        held
    }

    /// One answer for each distinct key, with at most one call of the lookup (and one more for each caller that gave up
    /// while we waited for it). Cancel-safe: who waits for our load then loads for itself.
    pub async fn load_many(&self, keys: &[Bytes]) -> HashMap<Bytes, Found> {
        self.answer(keys, Errors::Remembered).await
    }

    /// The same for records that are tried again: the remembered error of a key is no answer, else their tries would be
    /// used up without anybody having looked.
    pub async fn load_again(&self, keys: &[Bytes]) -> HashMap<Bytes, Found> {
        self.answer(keys, Errors::Forgotten).await
    }

    async fn answer(&self, keys: &[Bytes], errors: Errors) -> HashMap<Bytes, Found> {
        let mut found = HashMap::with_capacity(keys.len());
        let mut open: BTreeSet<&Bytes> = BTreeSet::new();
        let now = Instant::now();
        for key in keys {
            if found.contains_key(key) || open.contains(key) {
                continue;
            }
            match self.fresh(key, errors, now) {
                Some(answer) => {
                    found.insert(key.clone(), answer);
                }
                None => {
                    tick(&self.counters.misses);
                    open.insert(key);
                }
            }
        }
        // Each round answers every key that we load ourselves, and every key whose loader answers; another round is
        // needed only for keys whose loader was dropped, and there we are the loader or somebody else is.
        while !open.is_empty() {
            let (mine, theirs) = self.divide(&open, errors, &mut found);
            if !mine.keys.is_empty() {
                // First our own, then waiting: two callers that want each other's keys cannot wait in a circle.
                found.extend(self.fly(mine).await);
            }
            for (key, mut flight) in theirs {
                if let Ok(answer) = flight.wait_for(Option::is_some).await
                    && let Some(answer) = answer.clone()
                {
                    found.insert(key, answer);
                }
            }
            open.retain(|key| !found.contains_key(*key));
        }
        found
    }

    /// The answer from memory, where it is still good. Counts.
    fn fresh(&self, key: &Bytes, errors: Errors, now: Instant) -> Option<Found> {
        let known = self.known.get(key)?;
        if let Some((error, since)) = &known.error
            && errors == Errors::Remembered
            && now.duration_since(*since) < KEY_ERROR_KEPT
        {
            return Some(self.old_or(&known, Unknown::Key(error.to_string()), now));
        }
        let (value, since) = known.value?;
        if now.duration_since(since) >= self.ttl_of(value.as_ref()) {
            return None;
        }
        tick(if value.is_some() {
            &self.counters.hits
        } else {
            &self.counters.negative
        });
        Some(Ok(value))
    }

    fn ttl_of(&self, value: Option<&Arc<Fields>>) -> Duration {
        if value.is_some() {
            self.ttl
        } else {
            self.negative_ttl
        }
    }

    /// The old value where it may be used, else the error. Counts.
    fn old_or(&self, known: &Known, error: Unknown, now: Instant) -> Found {
        if let Some((value, since)) = &known.value
            && now.duration_since(*since)
                < self.ttl_of(value.as_ref()).saturating_add(self.stale_ok)
        {
            tick(&self.counters.stale);
            return Ok(value.clone());
        }
        tick(&self.counters.errors);
        Err(error)
    }

    /// Which keys we load, and whose loads we wait for. Keys that became known in the meantime, and all keys that nobody
    /// may load now, are answered into `found`.
    fn divide<'a>(
        &'a self,
        open: &BTreeSet<&Bytes>,
        errors: Errors,
        found: &mut HashMap<Bytes, Found>,
    ) -> (Flight<'a>, Vec<(Bytes, Awaited)>) {
        let mut mine = Flight {
            cache: self,
            probes: false,
            keys: Vec::new(),
            answers: Vec::new(),
        };
        let mut theirs = Vec::new();
        let now = Instant::now();
        let mut leave: Option<Leave> = None;
        let mut flights = self.flights();
        for key in open {
            if let Some(flight) = flights.get(*key) {
                theirs.push(((*key).clone(), flight.clone()));
                continue;
            }
            // Again, and now under the lock: a load that ended since we looked has put its answer there before it left
            // `flights`, and loading the same key again right away is what a cache is there to prevent.
            if let Some(answer) = self.fresh(key, errors, now) {
                found.insert((*key).clone(), answer);
                continue;
            }
            match leave.get_or_insert_with(|| self.leave(now)) {
                Leave::Ask => {}
                Leave::Probe => mine.probes = true,
                Leave::Rest(error) => {
                    let known = self.known.get(*key).unwrap_or_default();
                    found.insert(
                        (*key).clone(),
                        self.old_or(&known, Unknown::Away(error.clone()), now),
                    );
                    continue;
                }
            }
            // The cache's own copy: the caller's is a slice of a read buffer, which must not live as long as the entry.
            let own = Bytes::copy_from_slice(key);
            let (sender, receiver) = watch::channel(None);
            flights.insert(own.clone(), receiver);
            mine.keys.push(own);
            mine.answers.push(sender);
        }
        (mine, theirs)
    }

    /// Loads our keys and tells everybody who waits for them.
    async fn fly(&self, flight: Flight<'_>) -> Vec<(Bytes, Found)> {
        tick(&self.counters.loads);
        let loaded = self.behind.load(&flight.keys).await;
        let now = Instant::now();
        let loaded = loaded.and_then(|answers| {
            // A lookup that breaks its contract must not hand one key's profile to another.
            if answers.len() == flight.keys.len() {
                return Ok(answers);
            }
            Err(LookupError(format!(
                "the lookup gave {} answers for {} keys",
                answers.len(),
                flight.keys.len()
            )))
        });
        let found: Vec<(Bytes, Found)> = match loaded {
            Ok(answers) => {
                self.works();
                let keys = flight.keys.iter().cloned();
                keys.zip(answers)
                    .map(|(key, answer)| (key.clone(), self.learn(key, answer, now)))
                    .collect()
            }
            Err(LookupError(error)) => {
                self.fails(&error, flight.probes, now);
                let old = |key: &Bytes| {
                    self.old_or(
                        &self.known.get(key).unwrap_or_default(),
                        Unknown::Away(error.clone()),
                        now,
                    )
                };
                flight
                    .keys
                    .iter()
                    .map(|key| (key.clone(), old(key)))
                    .collect()
            }
        };
        for ((_, answer), sender) in found.iter().zip(&flight.answers) {
            // Fails when nobody waits, which is the rule.
            let _ = sender.send(Some(answer.clone()));
        }
        // Dropping the flight takes the keys out of `flights`, after they became known.
        drop(flight);
        found
    }

    /// Remembers one answer.
    fn learn(&self, key: Bytes, answer: Answer, now: Instant) -> Found {
        match answer {
            Ok(value) => {
                let known = Known {
                    value: Some((value.clone(), now)),
                    error: None,
                };
                self.known.insert(key, known);
                Ok(value)
            }
            Err(LookupError(error)) => {
                let mut known = self.known.get(&key).unwrap_or_default();
                known.error = Some((Arc::from(error.as_str()), now));
                let found = self.old_or(&known, Unknown::Key(error), now);
                self.known.insert(key, known);
                found
            }
        }
    }

    /// Whether the lookup may be asked now; who gets [`Leave::Probe`] must end it (the flight's drop does).
    fn leave(&self, now: Instant) -> Leave {
        let mut rest = self.rest();
        match rest.until {
            None => Leave::Ask,
            Some(until) if now < until || rest.is_probed => Leave::Rest(rest.error.clone()),
            Some(_) => {
                rest.is_probed = true;
                Leave::Probe
            }
        }
    }

    fn works(&self) {
        let mut rest = self.rest();
        if rest.until.is_some() {
            *rest = Rest::default();
        }
    }

    fn fails(&self, error: &str, was_probe: bool, now: Instant) {
        let mut rest = self.rest();
        // Calls that were under way together fail together; that is one failure, the first of them.
        if rest.until.is_some() && !was_probe {
            return;
        }
        rest.n_failures = rest.n_failures.saturating_add(1);
        rest.until = Some(now + REST.ceiling(rest.n_failures));
        error.clone_into(&mut rest.error);
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Bytes, Awaited>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn places(&self, key: &Bytes) -> u32 {
        let profile = self.value.as_ref().and_then(|(value, _)| value.as_ref());
        let n_bytes = profile.map_or(0, |fields| {
            fields.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
        });
        u32::try_from(1 + (key.len() + n_bytes) / PLACE_BYTES).unwrap_or(u32::MAX)
    }
}

/// Keys that one caller loads. However it ends (answered, dropped, panicked), the keys leave `flights` and the senders
/// are dropped, so nobody waits for ever.
struct Flight<'a> {
    cache: &'a Cache,
    /// Whether it finds out for all whether the lookup works again.
    probes: bool,
    keys: Vec<Bytes>,
    answers: Vec<watch::Sender<Option<Found>>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.cache.flights();
        for key in &self.keys {
            flights.remove(key);
        }
        drop(flights);
        if self.probes {
            self.cache.rest().is_probed = false;
        }
    }
}

#[cfg(test)]
mod tests;
