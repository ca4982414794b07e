use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::algorithms::decimal;
use crate::operators::testing::event;
use crate::record::{EntryId, Record};

const T: u64 = 1_700_000_000_123_456;

fn config() -> config::Generator {
    config::Generator {
        rate: 1_000.0,
        seed: 7,
        users: 10_000,
        products: 500,
        limit: None,
    }
}

fn events(config: &config::Generator, nonce: u64, n: u64) -> Vec<Record> {
    let mut generator = Generator::new(config, &event(), nonce);
    (0..n)
        .map(|i| Record {
            id: EntryId::MIN,
            fields: generator.next(T + i),
        })
        .collect()
}

fn line(record: &Record) -> String {
    let field = |(name, value): &(Bytes, Bytes)| {
        format!(
            "{}={}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value)
        )
    };
    record
        .fields
        .iter()
        .map(field)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_first_events_of_a_seed_stay_the_same() {
    let first: Vec<_> = events(&config(), 1, 5).iter().map(line).collect();
    insta::assert_snapshot!(first.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_events_but_for_their_times() {
    let strip = |records: Vec<Record>| -> Vec<Fields> {
        let timeless = |record: Record| {
            record
                .fields
                .into_iter()
                .filter(|(name, _)| name != "ts" && name != "_t")
                .collect()
        };
        records.into_iter().map(timeless).collect()
    };
    let mut late = Generator::new(&config(), &event(), 1);
    let late = (0..1_000)
        .map(|i| Record {
            id: EntryId::MIN,
            fields: late.next(2 * T + i * 977),
        })
        .collect();
    assert_eq!(strip(events(&config(), 1, 1_000)), strip(late));
    assert_ne!(
        strip(events(&config(), 1, 10)),
        strip(events(
            &config::Generator {
                seed: 8,
                ..config()
            },
            1,
            10
        ))
    );
}

#[test]
fn ids_have_16_bytes_and_neither_repeat_nor_come_back_after_a_restart() {
    let mut seen = HashSet::new();
    for nonce in 0..4 {
        for record in events(&config(), nonce, 25_000) {
            let id = record.get(b"event_id").unwrap().clone();
            assert_eq!(id.len(), 16);
            assert!(seen.insert(id), "an id came twice");
        }
    }
    let sessions = |nonce| -> HashSet<Bytes> {
        events(&config(), nonce, 1_000)
            .iter()
            .map(|record| record.get(b"session_id").unwrap().clone())
            .collect()
    };
    assert!(sessions(1).is_disjoint(&sessions(2)));
}

#[test]
fn event_ids_do_not_wrap_around() {
    let ids = Ids::new(7, 1, 0);
    let id = |n| {
        let mut text = BytesMut::new();
        ids.write(n, &mut text).unwrap();
        text.freeze()
    };
    assert_eq!(id(0)[8..], b"00000000"[..]);
    assert_ne!(id(0), id(1 << 40));
    assert_ne!(id(5), id((1 << 40) + 5));
}

#[test]
fn every_event_is_whole() {
    for (i, record) in events(&config(), 1, 20_000).iter().enumerate() {
        let kind = record.text("event_type").unwrap();
        assert!(matches!(
            kind,
            "click" | "view" | "purchase" | "signup" | "logout" | "search"
        ));
        assert!(record.text("user_id").unwrap().starts_with("user_"));
        assert!(record.text("session_id").unwrap().starts_with("session_"));
        assert_eq!(record.text("_t").unwrap(), (T + i as u64).to_string());
        assert_eq!(
            record.text("ts").unwrap(),
            ((T + i as u64) / 1_000).to_string()
        );
        let value = record.get(b"value");
        assert_eq!(value.is_some(), kind == "purchase");
        if let Some(value) = value {
            let cents = decimal::scaled(value, 2).unwrap();
            assert!((50..=5_000_000).contains(&cents));
            assert_eq!(
                value.split(|byte| *byte == b'.').nth(1).unwrap().len(),
                2,
                "two decimals"
            );
        }
        assert_eq!(
            record.get(b"product").is_none(),
            matches!(kind, "signup" | "logout")
        );
    }
}

/// Counts of a field's values, greatest first.
fn counts<'a>(records: &'a [Record], field: &str) -> Vec<(&'a str, u32)> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for record in records {
        if let Some(value) = record.text(field) {
            *counts.entry(value).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    counts
}

#[test]
fn a_few_users_and_products_make_much_of_the_traffic() {
    let records = events(&config(), 1, 100_000);
    let products = counts(&records, "product");
    assert_eq!(products[0].0, "laptop");
    let n_products: u32 = products.iter().map(|(_, n)| n).sum();
    let n_top: u32 = products[..10].iter().map(|(_, n)| n).sum();
    assert!(
        (40..70).contains(&(n_top * 100 / n_products)),
        "top ten products: {n_top} of {n_products}"
    );
    assert!(
        products.len() > 400,
        "the tail is there: {}",
        products.len()
    );
    let users = counts(&records, "user_id");
    assert!(users[0].1 > 500, "{:?}", users[0]);
    assert!(users.len() > 3_000, "{}", users.len());
}

#[test]
fn sessions_follow_the_funnel() {
    let records = events(&config(), 1, 100_000);
    let types: HashMap<_, _> = counts(&records, "event_type").into_iter().collect();
    assert!(
        types["view"] > types["click"] && types["click"] > types["purchase"],
        "{types:?}"
    );
    assert!(types["purchase"] > types["logout"], "{types:?}");

    let mut sessions: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in &records {
        sessions
            .entry(record.text("session_id").unwrap())
            .or_default()
            .push(record);
    }
    let mut n_buying = 0;
    for path in sessions.values() {
        let user = path[0].get(b"user_id");
        assert!(
            path.iter().all(|record| record.get(b"user_id") == user),
            "one user a session"
        );
        for pair in path.windows(2) {
            let kinds = (
                pair[0].text("event_type").unwrap(),
                pair[1].text("event_type").unwrap(),
            );
            assert_ne!(kinds.0, "logout", "nothing follows a logout");
            if kinds.1 == "purchase" {
                assert_eq!(kinds.0, "click", "who buys has clicked");
                assert_eq!(
                    pair[0].get(b"product"),
                    pair[1].get(b"product"),
                    "and buys what he clicked"
                );
            }
        }
        n_buying += u32::from(
            path.iter()
                .any(|record| record.text("event_type") == Some("purchase")),
        );
    }
    let n_sessions = u32::try_from(sessions.len()).unwrap();
    assert!(
        (10..35).contains(&(n_buying * 100 / n_sessions)),
        "{n_buying} of {n_sessions} sessions buy"
    );
    let per_session = 100_000 / n_sessions;
    assert!(
        (2..8).contains(&per_session),
        "{per_session} events a session"
    );
}

#[test]
fn purchases_have_a_heavy_tail() {
    let mut cents: Vec<i64> = events(&config(), 1, 200_000)
        .iter()
        .filter_map(|record| decimal::scaled(record.get(b"value")?, 2).ok())
        .collect();
    cents.sort_unstable();
    let at = |share: usize| cents[cents.len() * share / 1_000];
    assert!((3_500..4_500).contains(&at(500)), "median {}", at(500));
    assert!(
        at(990) > 8 * at(500),
        "one in a hundred is over eight times the median: {}",
        at(990)
    );
}

#[test]
fn memory_is_bounded() {
    for (rate, most) in [
        (0.001, 1),
        (10.0, 100),
        (1e9, N_SESSIONS_MAX),
        (f64::NAN, N_SESSIONS_MAX),
    ] {
        let mut generator = Generator::new(&config::Generator { rate, ..config() }, &event(), 1);
        for i in 0..50_000 {
            generator.next(T + i);
        }
        assert!(
            generator.sessions.len() <= most,
            "{rate}: {}",
            generator.sessions.len()
        );
    }
}

#[test]
fn roles_name_the_fields_and_roles_without_a_field_are_left_out() {
    let event = config::Event {
        id: String::new(),
        kind: "what".into(),
        session: String::new(),
        ..event()
    };
    let mut generator = Generator::new(&config(), &event, 1);
    for i in 0..100 {
        let record = Record {
            id: EntryId::MIN,
            fields: generator.next(T + i),
        };
        assert!(record.get(b"what").is_some() && record.get(b"").is_none());
        assert!(record.get(b"event_id").is_none() && record.get(b"session_id").is_none());
    }
}

#[test]
fn one_user_and_one_product_are_enough() {
    let config = config::Generator {
        users: 0,
        products: 1,
        ..config()
    };
    for record in events(&config, 1, 1_000) {
        assert_eq!(record.text("user_id"), Some("user_1"));
        assert!(
            record
                .text("product")
                .is_none_or(|product| product == "laptop")
        );
    }
}
