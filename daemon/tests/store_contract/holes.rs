//! The holes of delivery on Redis Streams, and for each a test that carries its number: `cargo nextest run hole_05`.
//!
//! Here are those of the commit; `holes_pending.rs` has those of what was delivered and not finished, `holes_redis.rs`
//! those that only a server has, and `tests/e2e/` those that show in the process as a whole only, or there as well.
//! Without its guard each test fails, as told here; `scripts/mutate` takes the guards out one by one and shows it.
//!
//! | hole | guard | what the tests see without it |
//! |---|---|---|
//! | 1 a script error does not roll back | commit.lua: types and counters are checked before the first write | acknowledged although the commit answers an error; an error of Lua for a counter that is no number |
//! | 2 out of memory | scripts begin with `#!lua`; what forwards nothing runs with allow-oom | a hop goes on past maxmemory; a full server cannot be worked empty |
//! | 3 XACK asks for no owner | commit.lua: no effect without an acknowledgement; a failed try only by the holder | the late commit is taken; a loser writes a failed try |
//! | 4 XACK 0 has many causes | commit.lua: a code for each cause | a foreign acknowledgement passes for done |
//! | 5 group set back or made anew | commit.lua: the settled mark and the spans above it; prepare.lua: begins at the mark | counted again; not delivered again |
//! | 6 payload gone while pending | claim.lua books it; janitor.lua stops at what a group needs; ids compared as numbers | 2 unaccounted instead of lost; 5 and 4 trimmed instead of 1 |
//! | 7 DELCONSUMER drops what is pending | retire.lua: refused while it holds something | deleted, entries unaccounted |
//! | 8 NOACK | lane.rs never sends it; no such key in the configuration | nothing is pending after a read |
//! | 9 idle counts from the read | claim.lua: a sweep passes over its own; keep.lua: only what is still held | own entries swept; taken back from a rescuer |
//! | 10 deliveries are no failures | lane.rs: two counters; worker.rs: tries of a suspect are booked before they are made | failed tries made up; what kills the process stays at one try for ever |
//! | 11 reply lost after the commit | commit.lua: a repeated commit may find its work done | an alarm about a foreign acknowledgement |
//! | 14 one slot for a script | keys.rs: every key carries the stream's name as its hash tag | `CROSSSLOT` from a server in cluster mode |
//! | 15 a hop between stages | commit.lua: children and acknowledgement are one step, per entry | children of a refused entry, and a second time those of a hop whose reply was lost |
//! | 16 NOSCRIPT after a restart | scripts.rs: the script is sent again | `NOSCRIPT` from the first call on |
//! | 17 eviction | preflight.rs warns, rules.rs raises an alert; the managed server has noeviction | no warning in the log, no alert |
//! | 18 the rewritten log forgets pending entries whose payload is gone | managed/config.rs: aof-use-rdb-preamble | after a restart they are unaccounted, not pending |
//!
//! | 19 a sweep forgets deleted entries | claim.lua books them in the step that drops them | the ids are gone from the pending list and nowhere else |
//!
//! 12 and 13 need a replica: nothing here has one.

use std::time::Duration;

use pipelined::record::EntryId;
use pipelined::store::{Code, Outcome, StoreError};

use super::harness::*;

pub(crate) async fn hole_01_a_commit_that_meets_a_spoilt_counter_changes_nothing(
    backend: &dyn Backend,
) {
    let cases = [
        ("a word", "many", 1, true),
        ("a fraction", "1.5", 1, true),
        ("nothing", "", 1, true),
        ("16 digits", "1000000000000000", 1, true),
        ("would grow past 15 digits", "999999999999999", 1, true),
        (
            "would fall past 15 digits",
            "-99999999999999",
            -900_000_000_000_001,
            true,
        ),
        ("grows to 15 digits", "999999999999998", 1, false),
        ("a negative number", "-5", 5, false),
    ];
    let bench = Bench::new(backend, counting()).await;
    let counts = bench.store.layout().key("counts");
    let mut one = bench.hands(0, "one").await;
    for (desc, value, by, is_refused) in cases {
        bench.add(0, 2).await;
        let ids = one.read_ids(9).await;
        let before = (bench.ledger().await, bench.total().await);
        bench.meddler.set_count(&counts, "total_value", value).await;
        let batch = vec![
            settle(ids[0], counted()),
            settle(ids[1], adds(&[("total_value", by)])),
        ];
        let answer = one.try_commit(batch, false).await;
        bench.meddler.set_count(&counts, "total_value", "0").await;
        if is_refused {
            assert!(
                matches!(answer, Err(StoreError::Broken(_))),
                "{desc}: {answer:?}"
            );
            assert_eq!(
                (bench.ledger().await, bench.total().await),
                before,
                "{desc}"
            );
            one.commit(
                ids.iter()
                    .map(|id| settle(*id, Outcome::Filtered))
                    .collect(),
            )
            .await;
        } else {
            assert_eq!(answer, Ok(vec![]), "{desc}");
        }
    }
}

pub(crate) async fn hole_03_a_stale_workers_commit_after_a_claim_changes_nothing(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    two.writer.claim(&ids, Duration::ZERO).await.expect("claim");
    assert_eq!(
        two.repeat(vec![settle(ids[0], counted()), settle(ids[1], dead(1))])
            .await,
        []
    );
    let late = vec![settle(ids[0], dead(0)), settle(ids[1], counted())];
    assert_eq!(
        one.commit(late).await,
        [(0, Code::Superseded), (1, Code::Superseded)]
    );
    assert_eq!(bench.ledger().await, "accepted 2, applied 1, dead 1");
    assert_eq!(bench.total().await, 1);
}

pub(crate) async fn hole_03_the_first_of_two_commits_wins_whoever_holds_the_entry(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 1).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    two.writer.claim(&ids, Duration::ZERO).await.expect("claim");
    assert_eq!(one.commit(vec![settle(ids[0], counted())]).await, []);
    assert_eq!(
        two.repeat(vec![settle(ids[0], counted())]).await,
        [(0, Code::Superseded)]
    );
    assert_eq!(bench.total().await, 1);
}

pub(crate) async fn hole_03_only_who_holds_an_entry_may_note_a_failed_try(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let id = bench.add(0, 1).await[0];
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    one.read(9).await;
    two.writer
        .claim(&[id], Duration::ZERO)
        .await
        .expect("claim");
    assert_eq!(
        one.commit(vec![settle(id, failed(1))]).await,
        [(0, Code::NotPending)]
    );
    assert_eq!(
        one.repeat(vec![settle(id, failed(1))]).await,
        [(0, Code::Superseded)]
    );
    let row = bench
        .admin
        .pending_entry(0, id)
        .await
        .expect("pending")
        .expect("it is pending");
    assert_eq!((row.failures, &row.consumer[..]), (0, &b"two"[..]));
}

pub(crate) async fn hole_04_not_pending_without_a_marker_is_an_alarm(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    bench.meddler.ack(SOURCE, GROUP, &ids[1..2]).await;
    let batch: Vec<_> = ids
        .iter()
        .map(|id| settle(*id, adds(&[("total_count", 1), ("total_value", 3)])))
        .collect();
    assert_eq!(one.commit(batch).await, [(1, Code::NotPending)]);
    let totals = bench.admin.aggregates(0).await.expect("totals");
    assert_eq!((totals.total, totals.value), (2, Some(6)));
    assert_eq!(bench.ledger().await, "accepted 3, applied 2, unaccounted 1");
}

pub(crate) async fn hole_04_an_id_that_was_never_delivered_is_not_pending(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    assert_eq!(
        one.commit(vec![settle(ids[0], counted())]).await,
        [(0, Code::NotPending)]
    );
    assert_eq!(bench.ledger().await, "accepted 1, undelivered 1");
    assert_eq!(bench.total().await, 0);
}

pub(crate) async fn hole_04_without_a_group_every_call_says_so(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    let ids = bench.add(0, 1).await;
    let mut one = bench.hands(0, "one").await;
    one.read(9).await;
    for gone in ["group", "stream"] {
        bench.admin.prepare().await.expect("prepare");
        match gone {
            "group" => bench.meddler.destroy_group(SOURCE, GROUP).await,
            _ => bench.meddler.delete_stream(SOURCE).await,
        }
        let answers = [
            ("next", one.reader.next(9, Duration::ZERO).await.err()),
            ("backlog", one.reader.backlog(EntryId::MIN, 9).await.err()),
            (
                "commit",
                one.try_commit(vec![settle(ids[0], counted())], false)
                    .await
                    .err(),
            ),
            ("keep", one.writer.keep(&ids).await.err()),
            (
                "sweep",
                one.writer
                    .sweep(Duration::ZERO, EntryId::MIN, 9)
                    .await
                    .err(),
            ),
            ("claim", one.writer.claim(&ids, Duration::ZERO).await.err()),
        ];
        for (call, error) in answers {
            assert!(
                matches!(error, Some(StoreError::GroupGone(_))),
                "{call} without its {gone}: {error:?}"
            );
        }
        assert!(
            !bench.admin.depth().await.expect("depth").stages[0].present,
            "{gone}"
        );
    }
    assert_eq!(bench.total().await, 0);
}

pub(crate) async fn hole_08_what_is_read_is_pending_until_it_is_committed(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let held = async || {
        let facts = bench.meddler.facts(SOURCE, GROUP).await;
        let pending = facts.expect("the group is there").pending;
        pending.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(held().await, ids);
    one.commit(vec![settle(ids[1], counted())]).await;
    assert_eq!(held().await, [ids[0], ids[2]]);
}

pub(crate) async fn hole_11_a_commit_run_again_after_a_lost_reply_changes_nothing(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 3).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    // The first commit also makes the script known to the server.
    one.commit(vec![settle(ids[0], counted())]).await;
    assert!(
        bench.meddler.lose_reply().await,
        "this store cannot lose a reply"
    );
    let batch: Vec<_> = ids[1..].iter().map(|id| settle(*id, counted())).collect();
    let answer = one.try_commit(batch.clone(), false).await;
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
    let mut one = bench.hands(0, "one").await;
    assert_eq!(
        one.repeat(batch).await,
        [(0, Code::Superseded), (1, Code::Superseded)]
    );
    assert_eq!(
        (bench.ledger().await, bench.total().await),
        ("accepted 3, applied 3".into(), 3)
    );
}

pub(crate) async fn hole_15_a_hop_whose_reply_was_lost_is_made_once(backend: &dyn Backend) {
    let bench = Bench::new(backend, chain()).await;
    bench.add(0, 3).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let ids = one.read_ids(9).await;
    let hop = |id: &EntryId| settle(*id, emits(vec![event(0)]));
    // The first commit also makes the script known to the server.
    one.commit(vec![hop(&ids[0])]).await;
    assert!(
        bench.meddler.lose_reply().await,
        "this store cannot lose a reply"
    );
    let batch: Vec<_> = ids[1..].iter().map(hop).collect();
    let answer = one.try_commit(batch.clone(), false).await;
    assert!(
        matches!(answer, Err(StoreError::Unavailable(_))),
        "{answer:?}"
    );
    // What left the first stage is in the second one, whatever its writer heard.
    assert_eq!(bench.ledger().await, "accepted 3, undelivered 3");
    let mut one = bench.hands(0, "one").await;
    assert_eq!(
        one.repeat(batch).await,
        [(0, Code::Superseded), (1, Code::Superseded)]
    );
    assert_eq!(two.count_all().await, 3);
    assert_eq!(bench.ledger().await, "accepted 3, applied 3");
}

pub(crate) async fn hole_15_effects_and_children_of_a_refused_entry_do_not_happen(
    backend: &dyn Backend,
) {
    let bench = Bench::new(backend, chain()).await;
    bench.add(0, 2).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let ids = one.read_ids(9).await;
    bench.meddler.ack(SOURCE, GROUP, &ids[..1]).await;
    one.commit(
        ids.iter()
            .map(|id| settle(*id, emits(vec![event(0); 2])))
            .collect(),
    )
    .await;
    assert_eq!(two.read(9).await.len(), 2);
    assert_eq!(
        bench.ledger().await,
        "accepted 2, spawned 1, pending 2, unaccounted 1"
    );
}

pub(crate) async fn hole_16_a_batch_of_five_hundred_is_one_step(backend: &dyn Backend) {
    let bench = Bench::new(backend, counting()).await;
    bench.add(0, 500).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(500).await;
    let many = |id: &EntryId| {
        let product = format!("product:{id}:count");
        settle(*id, adds(&[("total_count", 1), (&product, 1)]))
    };
    assert_eq!(one.commit(ids.iter().map(many).collect()).await, []);
    let totals = bench.admin.aggregates(0).await.expect("totals");
    assert_eq!((totals.total, totals.products.len()), (500, 500));
    assert_eq!(bench.ledger().await, "accepted 500, applied 500");
}
