use proptest::prelude::*;

use super::super::fixed::Fixed;
use super::*;

const TTL: Duration = Duration::from_secs(5);
const NEGATIVE_TTL: Duration = Duration::from_secs(2);
const STALE_OK: Duration = Duration::from_secs(300);

fn limits() -> config::Lookup {
    config::Lookup {
        key: "user_id".into(),
        into: "profile".into(),
        hash: "profile:".into(),
        cache_entries: 1_000,
        ttl: TTL,
        negative_ttl: NEGATIVE_TTL,
        stale_ok: STALE_OK,
    }
}

fn cache(fixed: &Fixed) -> Arc<Cache> {
    Arc::new(Cache::new(Arc::new(fixed.clone()), &limits()))
}

fn profile(tier: &'static str) -> Fields {
    vec![(
        Bytes::from_static(b"tier"),
        Bytes::from_static(tier.as_bytes()),
    )]
}

fn keys(keys: &[&'static str]) -> Vec<Bytes> {
    keys.iter()
        .map(|key| Bytes::from_static(key.as_bytes()))
        .collect()
}

/// What one key's answer looks like: the tier, `-` for no such key, `!` and the error.
fn shown(found: &Found) -> String {
    match found {
        Ok(Some(fields)) => String::from_utf8_lossy(&fields[0].1).into_owned(),
        Ok(None) => "-".into(),
        Err(error) => format!("!{error}"),
    }
}

async fn ask(cache: &Cache, key: &'static str) -> String {
    let found = cache.load_many(&keys(&[key])).await;
    assert_eq!(found.len(), 1);
    shown(&found[key.as_bytes()])
}

#[tokio::test(start_paused = true)]
async fn a_fresh_value_is_answered_from_memory_and_an_old_one_loaded_again() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    let cache = cache(&fixed);
    assert_eq!(ask(&cache, "u1").await, "gold");
    fixed.set("u1", profile("lead"));
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(ask(&cache, "u1").await, "gold");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(ask(&cache, "u1").await, "lead");
    assert_eq!(fixed.calls().len(), 2);
    let want = Readings {
        hits: 1,
        misses: 2,
        loads: 2,
        ..Readings::default()
    };
    assert_eq!(cache.readings(), want);
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_remembered_for_its_own_time() {
    let fixed = Fixed::default();
    let cache = cache(&fixed);
    assert_eq!(ask(&cache, "u1").await, "-");
    fixed.set("u1", profile("gold"));
    tokio::time::advance(NEGATIVE_TTL - Duration::from_millis(1)).await;
    assert_eq!(ask(&cache, "u1").await, "-");
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(ask(&cache, "u1").await, "gold");
    let want = Readings {
        negative: 1,
        misses: 2,
        loads: 2,
        ..Readings::default()
    };
    assert_eq!(cache.readings(), want);
}

#[tokio::test(start_paused = true)]
async fn one_call_loads_all_keys_that_are_not_known_each_once() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    fixed.set("u2", profile("lead"));
    let cache = cache(&fixed);
    ask(&cache, "u1").await;
    let found = cache
        .load_many(&keys(&["u2", "u1", "u2", "u3", "u1"]))
        .await;
    assert_eq!(found.len(), 3);
    let shown: Vec<_> = ["u1", "u2", "u3"]
        .map(|key| shown(&found[key.as_bytes()]))
        .into();
    assert_eq!(shown, ["gold", "lead", "-"]);
    let mut asked = fixed.calls().remove(1);
    asked.sort();
    assert_eq!(asked, keys(&["u2", "u3"]));
    assert!(cache.load_many(&[]).await.is_empty());
    assert_eq!(fixed.calls().len(), 2, "no keys, no call");
}

#[tokio::test(start_paused = true)]
async fn callers_that_want_a_key_under_way_wait_for_the_first() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    fixed.slow(Duration::from_millis(100));
    let cache = cache(&fixed);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move { ask(&cache, "u1").await });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.unwrap(), "gold");
    }
    assert_eq!(fixed.calls().len(), 1);
    assert!(cache.flights().is_empty(), "nothing is left under way");
}

#[tokio::test(start_paused = true)]
async fn callers_that_want_each_others_keys_do_not_wait_in_a_circle() {
    let fixed = Fixed::default();
    fixed.slow(Duration::from_millis(100));
    let cache = cache(&fixed);
    let mut callers = tokio::task::JoinSet::new();
    for wanted in [&["a", "b"][..], &["b", "c"], &["c", "a"], &["a", "b", "c"]] {
        let cache = Arc::clone(&cache);
        callers.spawn(async move { cache.load_many(&keys(wanted)).await.len() == wanted.len() });
    }
    while let Some(is_whole) = callers.join_next().await {
        assert!(is_whole.unwrap());
    }
    let mut asked: Vec<_> = fixed.calls().into_iter().flatten().collect();
    asked.sort();
    assert_eq!(asked, keys(&["a", "b", "c"]), "each key once");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_loader_that_is_dropped_loads_for_himself() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    fixed.slow(Duration::from_secs(3_600));
    let cache = cache(&fixed);
    let mut callers = tokio::task::JoinSet::new();
    let leader = {
        let cache = Arc::clone(&cache);
        callers.spawn(async move { ask(&cache, "u1").await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixed.calls().len(), 1, "the loader is under way");
    let cache_of_follower = Arc::clone(&cache);
    callers.spawn(async move { ask(&cache_of_follower, "u1").await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(fixed.calls().len(), 1, "the follower waits");
    fixed.slow(Duration::ZERO);
    leader.abort();
    let mut answers = Vec::new();
    while let Some(answer) = callers.join_next().await {
        answers.extend(answer.ok());
    }
    assert_eq!(answers, ["gold"]);
    assert_eq!(fixed.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn old_values_are_used_while_the_lookup_fails_and_not_for_ever() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    let cache = cache(&fixed);
    assert_eq!(ask(&cache, "u1").await, "gold");
    assert_eq!(ask(&cache, "missing").await, "-");
    fixed.fail(Some("connection refused"));
    tokio::time::advance(TTL).await;
    assert_eq!(ask(&cache, "u1").await, "gold");
    assert_eq!(
        ask(&cache, "missing").await,
        "-",
        "an old no is an old value"
    );
    assert_eq!(ask(&cache, "u2").await, "!connection refused");
    assert_eq!(cache.readings().stale, 2);
    assert_eq!(cache.readings().errors, 1);
    tokio::time::advance(STALE_OK).await;
    assert_eq!(
        ask(&cache, "u1").await,
        "!connection refused",
        "older than ttl + stale_ok"
    );
    fixed.fail(None);
    tokio::time::advance(REST.max).await;
    assert_eq!(ask(&cache, "u1").await, "gold");
}

#[tokio::test(start_paused = true)]
async fn without_leave_for_old_values_none_is_used() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    let limits = config::Lookup {
        stale_ok: Duration::ZERO,
        ..limits()
    };
    let cache = Cache::new(Arc::new(fixed.clone()), &limits);
    assert_eq!(ask(&cache, "u1").await, "gold");
    fixed.fail(Some("down"));
    tokio::time::advance(TTL).await;
    assert_eq!(ask(&cache, "u1").await, "!down");
}

#[tokio::test(start_paused = true)]
async fn a_failing_lookup_is_left_in_peace() {
    let fixed = Fixed::default();
    fixed.fail(Some("down"));
    let cache = cache(&fixed);
    let start = Instant::now();
    let mut called_at = Vec::new();
    while start.elapsed() < Duration::from_secs(30) {
        let n_before = fixed.calls().len();
        assert_eq!(ask(&cache, "u1").await, "!down");
        if fixed.calls().len() > n_before {
            called_at.push(start.elapsed().as_millis());
        }
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    // 250 ms, doubling to 5 s.
    assert_eq!(
        called_at,
        [
            0, 250, 750, 1_750, 3_750, 7_750, 12_750, 17_750, 22_750, 27_750
        ]
    );

    fixed.fail(None);
    tokio::time::advance(REST.max).await;
    assert_eq!(ask(&cache, "u1").await, "-");
    fixed.fail(Some("down again"));
    tokio::time::advance(NEGATIVE_TTL).await;
    ask(&cache, "u2").await;
    tokio::time::advance(REST.min).await;
    let n_before = fixed.calls().len();
    ask(&cache, "u2").await;
    assert_eq!(
        fixed.calls().len(),
        n_before + 1,
        "after a success the rest begins short again"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_together_are_one_failure() {
    let fixed = Fixed::default();
    fixed.fail(Some("down"));
    fixed.slow(Duration::from_millis(100));
    let cache = cache(&fixed);
    let mut callers = tokio::task::JoinSet::new();
    for key in ["u1", "u2", "u3", "u4", "u5"] {
        let cache = Arc::clone(&cache);
        callers.spawn(async move { ask(&cache, key).await });
    }
    while callers.join_next().await.is_some() {}
    assert_eq!(fixed.calls().len(), 5);
    tokio::time::advance(REST.min).await;
    ask(&cache, "u6").await;
    assert_eq!(
        fixed.calls().len(),
        6,
        "the rest was the first one, not the fifth"
    );
}

/// Real threads: between a look at what is known and a look at what is under way a load may end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_that_ends_between_two_looks_is_not_repeated() {
    let fixed = Fixed::default();
    let limits = config::Lookup {
        negative_ttl: Duration::from_secs(3_600),
        cache_entries: 100_000,
        ..limits()
    };
    let cache = Arc::new(Cache::new(Arc::new(fixed.clone()), &limits));
    const N_ROUNDS: usize = 2_000;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let cache = Arc::clone(&cache);
        callers.spawn(async move {
            for round in 0..N_ROUNDS {
                cache.load_many(&[Bytes::from(round.to_string())]).await;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    assert_eq!(fixed.calls().len(), N_ROUNDS);
}

#[tokio::test(start_paused = true)]
async fn one_caller_finds_out_whether_a_hanging_lookup_works_again() {
    let fixed = Fixed::default();
    fixed.fail(Some("down"));
    let cache = cache(&fixed);
    ask(&cache, "u0").await;
    tokio::time::advance(REST.min).await;
    fixed.slow(Duration::from_secs(60));
    let mut callers = tokio::task::JoinSet::new();
    for key in ["u1", "u2", "u3", "u4"] {
        let cache = Arc::clone(&cache);
        callers.spawn(async move {
            let start = Instant::now();
            ask(&cache, key).await;
            start.elapsed()
        });
    }
    let mut waits = Vec::new();
    while let Some(wait) = callers.join_next().await {
        waits.push(wait.unwrap().as_secs());
    }
    assert_eq!(waits, [0, 0, 0, 60], "the others are answered at once");

    // A prober that is dropped leaves the way free for the next.
    tokio::time::advance(REST.max).await;
    let prober = Arc::clone(&cache);
    let probe = tokio::time::timeout(
        Duration::from_secs(1),
        async move { ask(&prober, "u5").await },
    );
    assert!(probe.await.is_err());
    fixed.slow(Duration::ZERO);
    fixed.fail(None);
    assert_eq!(ask(&cache, "u6").await, "-");
}

#[tokio::test(start_paused = true)]
async fn the_error_of_one_key_is_its_own() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    fixed.set("u2", profile("lead"));
    fixed.break_key("bad");
    let cache = cache(&fixed);
    let found = cache.load_many(&keys(&["u1", "bad"])).await;
    assert_eq!(shown(&found[&b"u1"[..]]), "gold");
    assert_eq!(shown(&found[&b"bad"[..]]), "!the key holds something else");
    assert_eq!(ask(&cache, "u2").await, "lead", "no rest for the others");

    let n_before = fixed.calls().len();
    for _ in 0..100 {
        assert_eq!(ask(&cache, "bad").await, "!the key holds something else");
    }
    assert_eq!(
        fixed.calls().len(),
        n_before,
        "a hot broken key is not asked for each time"
    );
    fixed.mend_key(b"bad");
    tokio::time::advance(KEY_ERROR_KEPT).await;
    assert_eq!(ask(&cache, "bad").await, "-");

    fixed.break_key("u1");
    tokio::time::advance(TTL).await;
    assert_eq!(ask(&cache, "u1").await, "gold", "its old value is used");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_breaks_its_contract_is_an_error_and_no_mix_up() {
    let fixed = Fixed::default();
    fixed.set("u1", profile("gold"));
    fixed.cut_answers(1);
    let cache = cache(&fixed);
    let found = cache.load_many(&keys(&["u1", "u2"])).await;
    for key in ["u1", "u2"] {
        assert_eq!(
            shown(&found[key.as_bytes()]),
            "!the lookup gave 1 answers for 2 keys"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_whatever_is_looked_up() {
    let fixed = Fixed::default();
    let limits = config::Lookup {
        cache_entries: 100,
        ..limits()
    };
    let cache = Cache::new(Arc::new(fixed.clone()), &limits);
    for i in 0..5_000 {
        let key = Bytes::from(format!("u{i}"));
        fixed.set(
            key.clone(),
            vec![(key.clone(), Bytes::from(vec![0; PLACE_BYTES]))],
        );
        cache.load_many(&[key]).await;
    }
    cache.known.run_pending_tasks();
    // Each takes two places.
    assert!(
        cache.known.entry_count() <= 50,
        "{}",
        cache.known.entry_count()
    );
    assert!(cache.known.weighted_size() <= 100);
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Ask(Vec<u8>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::collection::vec(0_u8..6, 1..4).prop_map(Step::Ask),
        1 => (0_u64..4_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With a lookup that works, each key is loaded at most once in each time of its freshness, whatever the callers do.
    #[test]
    fn each_key_is_loaded_at_most_once_per_ttl(steps in proptest::collection::vec(step(), 1..40), delay_ms in 0_u64..50) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let fixed = Fixed::default();
            for key in 0_u8..6 {
                fixed.set(vec![key], profile("gold"));
            }
            fixed.slow(Duration::from_millis(delay_ms));
            let cache = cache(&fixed);
            let start = Instant::now();
            let mut callers = tokio::task::JoinSet::new();
            for step in steps {
                match step {
                    Step::Ask(wanted) => {
                        let cache = Arc::clone(&cache);
                        callers.spawn(async move {
                            let wanted: Vec<_> = wanted.into_iter().map(|key| Bytes::from(vec![key])).collect();
                            let found = cache.load_many(&wanted).await;
                            assert!(wanted.iter().all(|key| shown(&found[key]) == "gold"));
                        });
                        tokio::task::yield_now().await;
                    }
                    Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                }
            }
            while let Some(ended) = callers.join_next().await {
                ended.unwrap();
            }
            let n_periods_max = 1 + start.elapsed().as_millis() / TTL.as_millis();
            for key in 0_u8..6 {
                let n_loads = fixed.calls().iter().flatten().filter(|asked| asked[..] == [key]).count();
                assert!(n_loads as u128 <= n_periods_max, "{n_loads} loads in {n_periods_max} periods");
            }
        });
    }
}
