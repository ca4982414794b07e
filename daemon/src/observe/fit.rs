//! Cuts a Snapshot until it fits into 64 KiB encoded (semantics.md section 10), least wanted things first, and says in
//! `truncated` what was left out. A Snapshot of a pipeline of usual size passes untouched.

use std::io;

use pipectl_shared::snapshot::{Alert, Event, Snapshot};

use super::{text, window};

/// Encoded size at most.
pub(super) const MAX_BYTES: usize = 64 * 1_024;

/// One way to make a Snapshot smaller.
type Cut = fn(&mut Snapshot);

/// In this order, each only if the ones before did not suffice. The last ones make any Snapshot fit, whatever is in it.
const CUTS: &[Cut] = &[
    |s| buckets(s, |measure, _| measure == "wait"),
    |s| buckets(s, |measure, _| measure == "service"),
    |s| rows(s, "consumers", 20, |s| &mut s.consumers),
    |s| products(s, 10),
    |s| rows(s, "events", 5, |s| &mut s.events),
    |s| buckets(s, |_, stage| stage != window::PIPELINE),
    |s| buckets(s, |_, _| true),
    |s| rows(s, "groups", 20, |s| &mut s.groups),
    |s| rows(s, "latency", 0, |s| &mut s.latency),
    |s| rows(s, "consumers", 5, |s| &mut s.consumers),
    |s| rows(s, "alerts", 20, |s| &mut s.status.alerts),
    |s| rows(s, "sources", 20, |s| &mut s.sources),
    stage_ledgers,
    short_texts,
    |s| rows(s, "stages", 40, |s| &mut s.status.stages),
    |s| rows(s, "groups", 0, |s| &mut s.groups),
    |s| rows(s, "consumers", 0, |s| &mut s.consumers),
    |s| rows(s, "events", 0, |s| &mut s.events),
    |s| products(s, 0),
    |s| rows(s, "sources", 0, |s| &mut s.sources),
    |s| rows(s, "alerts", 5, |s| &mut s.status.alerts),
    |s| rows(s, "stages", 5, |s| &mut s.status.stages),
    |s| rows(s, "stages", 0, |s| &mut s.status.stages),
    |s| rows(s, "alerts", 0, |s| &mut s.status.alerts),
    |s| s.status.chaos = None,
];

/// Makes it fit.
pub(super) fn fit(snapshot: &mut Snapshot) {
    for cut in CUTS {
        if size(snapshot) <= MAX_BYTES {
            return;
        }
        cut(snapshot);
    }
}

/// Encoded size in bytes, without keeping the encoding.
pub(super) fn size(snapshot: &Snapshot) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, snapshot) {
        Ok(()) => count.0,
        // Cannot be: plain data with string keys. If it could, nothing could be sent either.
        Err(_) => usize::MAX,
    }
}

fn left_out(snapshot: &mut Snapshot, name: &str, n: u64) {
    if n > 0 {
        *snapshot.truncated.entry(name.to_owned()).or_default() += n;
    }
}

fn rows<T>(
    snapshot: &mut Snapshot,
    name: &str,
    n_max: usize,
    list: fn(&mut Snapshot) -> &mut Vec<T>,
) {
    let list = list(snapshot);
    let n = list.len().saturating_sub(n_max);
    if name == "events" {
        // Newest last: the oldest go.
        list.drain(..n);
    } else {
        list.truncate(n_max);
    }
    left_out(snapshot, name, n as u64);
}

fn buckets(snapshot: &mut Snapshot, which: fn(&str, &str) -> bool) {
    let mut n = 0;
    for row in snapshot
        .latency
        .iter_mut()
        .filter(|r| which(&r.measure, &r.stage))
    {
        n += row.buckets.len();
        row.buckets = Vec::new();
    }
    left_out(snapshot, "latency_buckets", n as u64);
}

fn products(snapshot: &mut Snapshot, n_max: usize) {
    for name in ["products", "event_types"] {
        let map = if name == "products" {
            &mut snapshot.aggregates.products
        } else {
            &mut snapshot.aggregates.event_types
        };
        let mut counts: Vec<u64> = map.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let n_before = map.len();
        match counts.get(n_max) {
            // Those equal to the first one that does not fit go too: which of them would stay is nobody's choice.
            Some(limit) => map.retain(|_, count| *count > *limit),
            None => continue,
        }
        let n = n_before - map.len();
        left_out(snapshot, name, n as u64);
    }
}

fn stage_ledgers(snapshot: &mut Snapshot) {
    let mut n = 0;
    for stage in &mut snapshot.status.stages {
        n += u64::from(stage.ledger.take().is_some());
    }
    left_out(snapshot, "stage_ledgers", n);
}

fn short_texts(snapshot: &mut Snapshot) {
    const SHORT: usize = 40;
    let shorten = |text: &mut String| *text = text::cut(text, SHORT);
    for Event { message, .. } in &mut snapshot.events {
        shorten(message);
    }
    for Alert { message, hint, .. } in &mut snapshot.status.alerts {
        shorten(message);
        // A command that was cut is worse than none.
        *hint = hint.take().filter(|h| h.len() <= 2 * SHORT);
    }
    for stage in &mut snapshot.status.stages {
        stage.reason.iter_mut().for_each(shorten);
        shorten(&mut stage.stream);
        shorten(&mut stage.group);
        stage.operators.truncate(5);
    }
    for source in &mut snapshot.sources {
        source.reason.iter_mut().for_each(shorten);
        shorten(&mut source.name);
    }
    let status = &mut snapshot.status;
    status
        .reason
        .iter_mut()
        .chain(&mut status.redis.error)
        .for_each(shorten);
    for text in [
        &mut status.redis.url,
        &mut status.redis.mode,
        &mut snapshot.host.name,
    ] {
        shorten(text);
    }
}

#[cfg(test)]
mod tests {
    use pipectl_shared::chaos::{Phase, Running};
    use pipectl_shared::snapshot::{Consumer, Group, Latency, Source, Stage};

    use super::*;

    #[test]
    fn whatever_is_in_a_snapshot_it_fits_in_the_end() {
        let long = "\u{1}".repeat(3_000);
        let stage = || Stage {
            name: long.clone(),
            operators: vec![long.clone(); 9],
            ..Stage::default()
        };
        let alert = || Alert {
            name: long.clone(),
            severity: long.clone(),
            message: long.clone(),
            hint: None,
            since: long.clone(),
        };
        let mut s = Snapshot::default();
        s.status.stages = (0..100).map(|_| stage()).collect();
        s.status.alerts = (0..100).map(|_| alert()).collect();
        s.status.chaos = Some(Running {
            id: long.clone(),
            experiment: long.clone(),
            phase: Phase::During,
            started_ms: 1,
            injected_ms: Some(1),
            reverted_ms: None,
            until_ms: None,
            targets: vec![long.clone(); 9],
            by: long.repeat(10),
        });
        s.consumers = vec![
            Consumer {
                name: long.clone(),
                ..Consumer::default()
            };
            100
        ];
        s.groups = vec![
            Group {
                stream: long.clone(),
                ..Group::default()
            };
            100
        ];
        s.latency = vec![
            Latency {
                stage: long.clone(),
                ..Latency::default()
            };
            100
        ];
        s.events = vec![
            Event {
                name: long.clone(),
                ..Event::default()
            };
            100
        ];
        s.sources = vec![
            Source {
                kind: long.clone(),
                ..Source::default()
            };
            100
        ];
        s.aggregates.products = (0..100).map(|i| (format!("{i}{long}"), 1)).collect();
        fit(&mut s);
        assert!(size(&s) <= MAX_BYTES, "{}", size(&s));
        for list in [
            "stages",
            "alerts",
            "consumers",
            "groups",
            "latency",
            "events",
            "sources",
            "products",
        ] {
            assert_eq!(s.truncated[list], 100, "{list}");
        }
    }

    #[test]
    fn the_newest_events_and_the_greatest_products_stay() {
        let mut s = Snapshot {
            events: (1..=20)
                .map(|seq| Event {
                    seq,
                    ..Event::default()
                })
                .collect(),
            ..Snapshot::default()
        };
        rows(&mut s, "events", 5, |s| &mut s.events);
        assert_eq!(
            s.events.iter().map(|e| e.seq).collect::<Vec<_>>(),
            [16, 17, 18, 19, 20]
        );
        s.aggregates.products = (0..30u64).map(|i| (format!("p{i}"), i)).collect();
        products(&mut s, 10);
        assert_eq!(
            (
                s.aggregates.products.len(),
                s.aggregates.products.values().min()
            ),
            (10, Some(&20))
        );
        assert_eq!(s.truncated["products"], 20);
    }
}
