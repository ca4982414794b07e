//! Facts become a Snapshot: one pure function. What is not known is `None`, never 0 and never the last known value.

use std::collections::BTreeMap;

use bytes::Bytes;
use pipectl_shared::chaos::Running;
use pipectl_shared::snapshot::{
    Aggregates, Consumer, Daemon, Group, Owner, Percentiles, Redis, Snapshot, Stage, Status,
    Throughput,
};

use super::facts::{Facts, StageFacts};
use super::judge::{self, Verdict};
use super::ledger::{ledger_document, stage_ledger};
use super::{consumers, fit, text, window};
use crate::clock;
use crate::store::{Depth, Lag, OwnerDepth, StageDepth};

/// Consumers in a Snapshot (semantics.md section 10).
const N_CONSUMERS: usize = 50;
/// Products in a Snapshot (semantics.md section 10).
const N_PRODUCTS: usize = 20;
/// Types in a Snapshot: a third party may send any number of them.
const N_TYPES: usize = 50;
/// Third parties' groups in a Snapshot.
const N_FOREIGN_GROUPS: usize = 20;
/// Targets of an experiment in a Snapshot.
const N_TARGETS: usize = 10;
/// Events in a Snapshot.
const N_EVENTS: usize = 20;

/// The Snapshot of this instant, at most 64 KiB encoded.
pub(super) fn build(facts: &Facts) -> Snapshot {
    let verdicts: Vec<_> = (0..facts.stages.len())
        .map(|i| judge::stage(facts, i))
        .collect();
    let mut truncated = BTreeMap::new();
    let mut snapshot = Snapshot {
        seq: facts.seq,
        ts_ms: facts.now_ms,
        status: status(facts, &verdicts),
        consumers: consumers(facts, &mut truncated),
        groups: groups(facts, &mut truncated),
        latency: facts.latency.clone(),
        aggregates: aggregates(facts, &mut truncated),
        aggregates_age_ms: facts.store.aggregates.as_ref().map(|(_, age)| millis(*age)),
        sources: facts.sources.clone(),
        host: facts.host.clone(),
        events: facts.events[facts.events.len().saturating_sub(N_EVENTS)..].to_vec(),
        truncated,
    };
    for event in &mut snapshot.events {
        event.message = text::cut(&event.message, text::LINE);
    }
    fit::fit(&mut snapshot);
    snapshot
}

fn status(facts: &Facts, verdicts: &[Verdict]) -> Status {
    let (state, reason) = judge::pipeline(facts, verdicts);
    let end_to_end = facts.latency.iter().find(|r| r.stage == window::PIPELINE);
    Status {
        pipeline: facts.fixed.pipeline.clone(),
        state,
        reason: reason.map(|r| text::cut(&r, text::LINE)),
        healthy: judge::is_healthy(facts, verdicts),
        uptime_s: millis(facts.uptime) as f64 / 1_000.0,
        redis: redis(facts),
        throughput: Throughput {
            in_per_s: facts.in_per_s,
            out_per_s: facts.out_per_s,
        },
        latency_ms: end_to_end.map_or_else(Percentiles::default, |r| Percentiles {
            p50: r.p50,
            p95: r.p95,
            p99: r.p99,
            p999: r.p999,
        }),
        ledger: depth(facts).map(|d| ledger_document(d, facts.fixed.has_aggregate())),
        stages: verdicts
            .iter()
            .enumerate()
            .map(|(i, verdict)| stage(facts, i, verdict))
            .collect(),
        alerts: facts.alerts.clone(),
        chaos: facts.chaos.clone().map(experiment),
        daemon: Daemon {
            pid: facts.fixed.pid,
            version: facts.fixed.version.clone(),
            rss_bytes: facts.rss_bytes,
            cpu_cores: facts.cpu_cores,
            instance: facts.fixed.instance.clone(),
            history_bytes: facts.history_bytes,
        },
    }
}

/// The experiment under way, with texts that fit.
fn experiment(mut running: Running) -> Running {
    running.by = text::cut(&running.by, text::NAME);
    running.targets.truncate(N_TARGETS);
    for target in &mut running.targets {
        *target = text::cut(target, text::LINE);
    }
    running
}

fn depth(facts: &Facts) -> Option<&Depth> {
    facts.store.depth.as_deref()
}

fn redis(facts: &Facts) -> Redis {
    let server = facts.store.server.as_deref();
    let memory = memory(facts);
    Redis {
        url: text::cut(&facts.fixed.redis_url, text::LINE),
        version: server.map(|s| text::cut(&s.version, text::NAME)),
        state: judge::redis_state(facts).to_owned(),
        used_memory_bytes: memory.map(|(used, _)| used),
        max_memory_bytes: memory.map(|(_, max)| max).filter(|max| *max > 0),
        mode: match server {
            _ if facts.fixed.managed => "managed".to_owned(),
            Some(server) if !server.mode.is_empty() => text::cut(&server.mode, text::NAME),
            Some(_) | None => "standalone".to_owned(),
        },
        down_ms: facts.store.away.map(millis),
        error: facts
            .store
            .error
            .as_ref()
            .map(|e| text::cut(&e.to_string(), text::LINE)),
        durability: facts.fixed.durability.to_owned(),
        spooled: facts.sources.iter().map(|source| source.spooled).sum(),
    }
}

/// Used and greatest memory (0 = no limit) as of now; `None` while the store is away.
pub(super) fn memory(facts: &Facts) -> Option<(u64, u64)> {
    let depth = depth(facts)?;
    // The script may not see the limit; the server's own report, which is at most 10 s old, does.
    depth.memory.or_else(|| {
        facts
            .store
            .server
            .as_ref()
            .map(|s| (s.used_memory, s.max_memory))
    })
}

fn stage(facts: &Facts, i: usize, verdict: &Verdict) -> Stage {
    let (fixed, stage) = (&facts.fixed.stages[i], &facts.stages[i]);
    let all = depth(facts);
    let depth = all.and_then(|d| d.stages.get(i)).filter(|d| d.present);
    let service = facts
        .latency
        .iter()
        .find(|r| r.stage == fixed.name && r.measure == "service");
    Stage {
        name: fixed.name.clone(),
        delivery: fixed.delivery.clone(),
        stream: fixed.stream.clone(),
        group: fixed.group.clone(),
        from: fixed.from.clone(),
        operators: fixed.operators.clone(),
        workers: stage.running,
        state: verdict.state,
        reason: verdict.reason.clone(),
        in_per_s: stage.in_per_s,
        out_per_s: stage.out_per_s,
        lag: depth.and_then(|d| lag(d).0),
        lag_estimated: depth.is_some_and(|d| lag(d).1),
        lag_ms: depth
            .zip(all)
            .and_then(|(d, all)| judge::lag_ms(all.now_ms, d)),
        pending: depth.map(|d| d.pending),
        oldest_pending_ms: depth.and_then(|d| judge::oldest_pending_ms(facts, i, d)),
        p50_ms: service.and_then(|r| r.p50),
        p99_ms: service.and_then(|r| r.p99),
        errors: stage.counters.errors,
        retries: stage.counters.retries,
        dead: stage.counters.dead,
        ledger: depth.map(|d| stage_ledger(&d.ledger)),
        owner: depth.and_then(|d| Some(owner(stage, d.owner.as_ref()?))),
    }
}

/// Who owns a stage by the lease in the store, which is the truth: a worker of ours that lost it may not know yet.
fn owner(stage: &StageFacts, owner: &OwnerDepth) -> Owner {
    let by_name = |name: &String| stage.workers.iter().find(|w| w.consumer == *name);
    let worker = owner.consumer.as_ref().and_then(by_name);
    Owner {
        consumer: owner
            .consumer
            .as_ref()
            .map(|name| text::cut(name, text::NAME)),
        expired: owner.expired,
        epoch: owner.epoch,
        here: worker.is_some(),
        position: owner.position.map(|id| id.to_string()),
        in_flight: worker.map(|worker| worker.held.len() as u64),
    }
}

fn lag(depth: &StageDepth) -> (Option<u64>, bool) {
    match depth.lag {
        Lag::Known(n) => (Some(n), false),
        Lag::Estimate(n) => (Some(n), true),
        Lag::Unknown => (None, false),
    }
}

fn consumers(facts: &Facts, truncated: &mut BTreeMap<String, u64>) -> Vec<Consumer> {
    let mut rows: Vec<_> = (0..facts.stages.len())
        .flat_map(|i| consumers::consumers(facts, i))
        .collect();
    rows.sort_by(|a, b| {
        consumers::trouble_rank(&a.state)
            .cmp(&consumers::trouble_rank(&b.state))
            .then_with(|| (b.pending > 0).cmp(&(a.pending > 0)))
            .then_with(|| a.stage.cmp(&b.stage))
            .then_with(|| a.name.cmp(&b.name))
    });
    cut(&mut rows, N_CONSUMERS, "consumers", truncated);
    let left: u64 = facts.stages.iter().map(|s| s.consumers_left).sum();
    if left > 0 {
        *truncated.entry("consumers".to_owned()).or_default() += left;
    }
    rows
}

fn groups(facts: &Facts, truncated: &mut BTreeMap<String, u64>) -> Vec<Group> {
    let Some(depth) = depth(facts) else {
        return Vec::new();
    };
    let ours = facts
        .fixed
        .stages
        .iter()
        .zip(&depth.stages)
        .filter(|(_, d)| d.present)
        .map(|(fixed, d)| {
            let (lag, lag_estimated) = lag(d);
            Group {
                stage: Some(fixed.name.clone()),
                stream: fixed.stream.clone(),
                group: fixed.group.clone(),
                consumers: d.consumers,
                pending: d.pending,
                lag,
                lag_estimated,
                last_delivered: d.last_delivered.to_string(),
                length: d.length,
            }
        });
    let mut rows: Vec<_> = ours.collect();
    let n_ours = rows.len();
    rows.extend(depth.foreign.iter().map(|f| {
        let (lag, lag_estimated) = match f.lag {
            Lag::Known(n) => (Some(n), false),
            Lag::Estimate(n) => (Some(n), true),
            Lag::Unknown => (None, false),
        };
        let length = facts
            .fixed
            .stages
            .iter()
            .zip(&depth.stages)
            .find(|(s, _)| s.stream == f.stream);
        Group {
            stage: None,
            stream: text::cut(&f.stream, text::NAME),
            group: text::cut(&f.group, text::NAME),
            consumers: f.consumers,
            pending: f.pending,
            lag,
            lag_estimated,
            last_delivered: f.last_delivered.to_string(),
            length: length.map_or(0, |(_, d)| d.length),
        }
    }));
    cut(&mut rows, n_ours + N_FOREIGN_GROUPS, "groups", truncated);
    rows
}

fn aggregates(facts: &Facts, truncated: &mut BTreeMap<String, u64>) -> Aggregates {
    let Some((totals, _)) = &facts.store.aggregates else {
        return Aggregates::default();
    };
    let (event_types, types_left) = top(&totals.types, N_TYPES);
    let (products, products_left) = top(&totals.products, N_PRODUCTS);
    for (name, left) in [
        ("event_types", types_left),
        ("products", products_left + totals.products_left),
    ] {
        if left > 0 {
            truncated.insert(name.to_owned(), left);
        }
    }
    Aggregates {
        total_count: totals.total,
        total_value: totals
            .value
            .map(|v| v as f64 / 10f64.powi(i32::try_from(facts.fixed.value_scale).unwrap_or(0))),
        event_types,
        products,
        sessions: totals.sessions,
        session: None,
        last_updated: (totals.last_updated_ms > 0).then(|| clock::rfc3339(totals.last_updated_ms)),
        windows: None,
    }
}

/// The `n` greatest and how many were left out. Names that are equal once cut are added up.
fn top(counts: &[(Bytes, u64)], n: usize) -> (BTreeMap<String, u64>, u64) {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let left = sorted.len().saturating_sub(n) as u64;
    let mut map = BTreeMap::new();
    for (name, count) in sorted.into_iter().take(n) {
        let total: &mut u64 = map.entry(text::cut_bytes(name, text::NAME)).or_default();
        *total = total.saturating_add(*count);
    }
    (map, left)
}

fn cut<T>(rows: &mut Vec<T>, n_max: usize, name: &str, truncated: &mut BTreeMap<String, u64>) {
    if rows.len() > n_max {
        truncated.insert(name.to_owned(), (rows.len() - n_max) as u64);
        rows.truncate(n_max);
    }
}

fn millis(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
