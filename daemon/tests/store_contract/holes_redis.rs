//! The holes of delivery, continued (`holes.rs` has the list): those that only a server has, so that no store in memory
//! can fall into them.

use std::time::Duration;

use pipelined::effect::{Counter, Effects};
use pipelined::record::{EntryId, Fields};
use pipelined::store::{
    Acquired, Admission, Commit, Lease, Outcome, OwnedCommit, OwnedDone, Settle, StoreError, Wish,
};

use super::harness::*;
use super::on_redis::RedisBackend;

/// Every key with what it holds, as one text.
const EVERYTHING: &str = "local keys, all = redis.call('KEYS', '*'), {} table.sort(keys) \
    for i, key in ipairs(keys) do all[i] = key .. ' ' .. redis.sha1hex(redis.call('DUMP', key)) end \
    return table.concat(all, '\\n')";

/// A commit with every kind of effect there is: counter, session, hop, id, dead letter, failed try.
fn everything_at_once(ids: &[EntryId]) -> Vec<Settle> {
    let counters = [
        Counter::Count("total_count".into()),
        Counter::Session("s1".into()),
    ];
    let effects = Effects {
        adds: counters.into_iter().map(|counter| (counter, 1)).collect(),
        children: vec![event(0)],
        ..Effects::default()
    };
    vec![
        settle_event(ids[0], 0, Outcome::Apply(effects)),
        settle_event(ids[1], 1, dead(1)),
        settle(ids[2], failed(1)),
    ]
}

#[tokio::test]
async fn hole_01_a_key_of_another_type_refuses_the_commit_before_its_first_write() {
    let backend = RedisBackend::start().await;
    let bench = Bench::new(&backend, chain()).await;
    bench.add(0, 4).await;
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let suffixes = [
        "ledger",
        "counts",
        "sessions:0",
        "sessions:1",
        "seen:0",
        "seen:1",
        "retry:enrich",
        "settled:enrich",
        "dead",
    ];
    let mut keys: Vec<String> = suffixes
        .iter()
        .map(|suffix| bench.store.layout().key(suffix))
        .collect();
    keys.push(BETWEEN.to_owned());
    // So that most of them are there.
    one.commit(vec![settle_event(
        ids[3],
        3,
        everything_at_once(&ids)[0].outcome.clone(),
    )])
    .await;
    let mut answers = Vec::new();
    for key in &keys {
        let was_there = backend.cli(&["EXISTS", key]).await == "1";
        if was_there {
            backend.cli(&["RENAME", key, "kept"]).await;
        }
        backend.cli(&["SET", key, "a word"]).await;
        let before = backend.cli(&["EVAL", EVERYTHING, "0"]).await;
        let answer = one.try_commit(everything_at_once(&ids), false).await;
        let after = backend.cli(&["EVAL", EVERYTHING, "0"]).await;
        assert_eq!(after, before, "{key}: {answer:?}");
        answers.push((key, answer));
        backend.cli(&["DEL", key]).await;
        if was_there {
            backend.cli(&["RENAME", "kept", key]).await;
        }
    }
    for (key, answer) in answers {
        assert!(
            matches!(&answer, Err(StoreError::Broken(why)) if why.contains(&**key)),
            "{key}: {answer:?}"
        );
    }
    assert_eq!(one.commit(everything_at_once(&ids)).await, []);
    assert_eq!(
        bench.ledger().await,
        "accepted 4, dead 1, pending 1, undelivered 2"
    );
}

#[tokio::test]
async fn hole_02_a_full_server_refuses_a_hop_whole_and_can_be_worked_empty() {
    let backend = RedisBackend::start().await;
    let bench = Bench::new(&backend, chain()).await;
    bench.add(0, 3).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(1, "two").await);
    let ids = one.read_ids(9).await;
    let hop = |id: &EntryId| settle(*id, emits(vec![event(0)]));
    one.commit(vec![hop(&ids[0])]).await;
    backend.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;

    let before = backend.cli(&["EVAL_RO", EVERYTHING, "0"]).await;
    let answer = one
        .try_commit(ids[1..].iter().map(hop).collect(), false)
        .await;
    assert!(
        matches!(answer, Err(StoreError::OutOfMemory(_))),
        "{answer:?}"
    );
    let admission = Admission {
        event_id: None,
        fields: event(9),
    };
    let answer = bench.admin.admit(&[admission], false).await;
    assert!(
        matches!(answer, Err(StoreError::OutOfMemory(_))),
        "{answer:?}"
    );
    let after = backend.cli(&["EVAL_RO", EVERYTHING, "0"]).await;
    assert_eq!(after, before, "refused and yet done in part");

    // What forwards nothing takes from a full server, so it goes on: reading, counting, trimming.
    assert_eq!(two.count_all().await, 1);
    let swept = bench.admin.janitor(Duration::ZERO, Duration::ZERO).await;
    swept.expect("trim a full server");
    assert_eq!(bench.ledger().await, "accepted 3, applied 1, pending 2");

    backend.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(
        one.repeat(ids[1..].iter().map(hop).collect()).await,
        [],
        "the same commit"
    );
    assert_eq!(two.count_all().await, 2);
    assert_eq!(bench.ledger().await, "accepted 3, applied 3");
}

#[tokio::test]
async fn hole_06_ids_are_compared_as_numbers_where_it_is_decided_what_to_trim() {
    let backend = RedisBackend::start().await;
    // One entry a node, so that trimming is exact.
    backend
        .cli(&["CONFIG", "SET", "stream-node-max-entries", "1"])
        .await;
    let bench = Bench::new(&backend, counting()).await;
    for id in ["9-9", "9-10", "99-1", "100-1", "100-2"] {
        backend
            .cli(&["XADD", SOURCE, id, "event_id", id, "value", "1"])
            .await;
    }
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    let told: Vec<String> = ids.iter().map(EntryId::to_string).collect();
    assert_eq!(told, ["9-9", "9-10", "99-1", "100-1", "100-2"]);
    // 9-10 and 99-1 stay pending: smaller than what follows them, and greater as text.
    let finished = [0, 3, 4].map(|i| settle(ids[i], counted()));
    assert_eq!(one.commit(finished.to_vec()).await, []);
    let swept = bench.admin.janitor(Duration::ZERO, Duration::ZERO).await;
    assert_eq!(swept.expect("janitor").trimmed, 1);
    let backlog = one.reader.backlog(EntryId::MIN, 9).await.expect("backlog");
    assert_eq!(
        backlog.lost,
        [],
        "trimmed while they were pending: {backlog:?}"
    );
    assert_eq!(
        one.commit([1, 2].map(|i| settle(ids[i], counted())).to_vec())
            .await,
        []
    );
    assert_eq!(bench.ledger().await, "accepted 5, applied 5");
}

#[tokio::test]
async fn hole_16_every_script_is_given_again_to_a_server_that_forgot_it() {
    let backend = RedisBackend::start().await;
    let store = backend.open(chain()).await;
    let admin = store.admin();
    let forget = || backend.cli(&["SCRIPT", "FLUSH"]);
    forget().await;
    admin.prepare().await.expect("prepare");
    let bench = Bench::new(&backend, chain()).await;
    let (mut one, mut two) = (bench.hands(0, "one").await, bench.hands(0, "two").await);
    let fields: Fields = event(0);
    let admission = |fields: &Fields| Admission {
        event_id: None,
        fields: fields.clone(),
    };
    forget().await;
    admin
        .admit(&[admission(&fields), admission(&fields)], false)
        .await
        .expect("admit");
    let ids = one.read_ids(9).await;
    forget().await;
    assert_eq!(one.writer.keep(&ids).await, Ok(ids.clone()));
    forget().await;
    let claimed = two.writer.claim(&ids, Duration::ZERO).await;
    assert_eq!(claimed.expect("claim").entries.len(), 2);
    forget().await;
    let swept = one.writer.sweep(Duration::ZERO, EntryId::MIN, 9).await;
    assert_eq!(swept.expect("sweep").entries.len(), 2);
    bench.meddler.del(SOURCE, &ids[1..]).await;
    forget().await;
    let backlog = one.reader.backlog(EntryId::MIN, 9).await;
    assert_eq!(backlog.expect("backlog").lost, ids[1..]);
    forget().await;
    assert_eq!(one.repeat(vec![settle(ids[0], dead(0))]).await, []);
    let letters = admin.dead(EntryId::MAX, 9).await.expect("dead letters");
    let letter = letters.iter().find(|row| row.counts).expect("a letter");
    forget().await;
    admin.redrive(&[letter.id]).await.expect("redrive");
    forget().await;
    assert_eq!(admin.retire(0, "two").await, Ok(0));
    forget().await;
    admin
        .janitor(Duration::ZERO, Duration::ZERO)
        .await
        .expect("janitor");
    forget().await;
    admin
        .beat("a daemon", Duration::from_secs(9))
        .await
        .expect("beat");
    forget().await;
    assert_eq!(bench.ledger().await, "accepted 2, lost 1, undelivered 1");
}

/// A server in cluster mode that has every slot; it refuses a script whose keys are of two.
async fn cluster() -> RedisBackend {
    let backend = RedisBackend::start_with(&["--cluster-enabled", "yes"]).await;
    backend
        .cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    let ready = async {
        while !backend
            .cli(&["CLUSTER", "INFO"])
            .await
            .contains("cluster_state:ok")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, ready).await;
    in_time.expect("the cluster did not come up");
    backend
}

#[tokio::test]
async fn hole_14_everything_of_a_partition_is_in_one_slot() {
    let backend = cluster().await;
    let refused = backend
        .cli(&["EVAL", "return 1", "2", "events", "{other}:ledger"])
        .await;
    assert!(
        refused.contains("CROSSSLOT"),
        "the server looks at slots: {refused}"
    );
    let mut layout = chain();
    layout.stages[1].owned = true;
    let bench = Bench::new(&backend, layout).await;
    bench.add(0, 6).await;
    let admission = Admission {
        event_id: Some(event_id(7)),
        fields: event(7),
    };
    let admitted = bench.admin.admit(&[admission], true).await;
    assert!(admitted.is_ok(), "{admitted:?}");
    // A shared stage with every kind of effect, claims and sweeps.
    let mut one = bench.hands(0, "one").await;
    let ids = one.read_ids(9).await;
    one.commit(everything_at_once(&ids[..3])).await;
    let mut two = bench.hands(0, "two").await;
    let swept = two.writer.sweep(Duration::ZERO, EntryId::MIN, 9).await;
    assert!(swept.is_ok(), "{swept:?}");
    let claimed = two.writer.claim(&ids[3..], Duration::ZERO).await;
    assert!(claimed.is_ok(), "{claimed:?}");
    assert!(two.writer.keep(&ids[3..]).await.is_ok());
    // An owned one behind it.
    let mut owner = bench.store.owner(1, "owner").await.expect("an owner");
    let leased = owner.acquire(Duration::from_secs(60)).await;
    let Ok(Acquired::Leased(lease)) = leased else {
        panic!("{leased:?}");
    };
    let mut reader = bench
        .store
        .follow(1, "owner", lease.position)
        .await
        .expect("follow");
    let batch = reader.next(9, Duration::ZERO).await.expect("read");
    let id = batch.entries[0].record.id;
    for (outcome, parked) in [(failed(1), false), (counted(), true)] {
        let commit = OwnedCommit {
            lease: Lease {
                position: if parked { id } else { lease.position },
                ..lease
            },
            commit: Commit {
                consumer: "owner".into(),
                entries: vec![settle(id, outcome)],
                repeated: false,
            },
            parked,
            state: None,
            ttl: Duration::from_secs(60),
        };
        let done = owner.commit(&commit).await;
        assert!(matches!(done, Ok(OwnedDone::Done { .. })), "{done:?}");
        assert!(owner.fetch(&[id]).await.is_ok());
    }
    assert!(owner.ask(Wish::Take, Duration::ZERO).await.is_ok());
    assert!(
        owner
            .renew(lease.epoch, Duration::from_secs(60))
            .await
            .is_ok()
    );
    assert!(owner.release(lease.epoch).await.is_ok());
    // What keeps house and what a person does.
    bench.admin.prepare().await.expect("prepare");
    bench.admin.depth().await.expect("depth");
    let swept = bench.admin.janitor(Duration::ZERO, Duration::ZERO).await;
    assert!(swept.is_ok(), "{swept:?}");
    bench
        .admin
        .beat("a", Duration::from_secs(9))
        .await
        .expect("beat");
    bench.admin.leave("a").await.expect("leave");
    let letters = bench.admin.dead(EntryId::MAX, 9).await.expect("dead");
    let letters: Vec<EntryId> = letters.iter().map(|row| row.id).collect();
    assert!(!letters.is_empty());
    let redriven = bench.admin.redrive(&letters).await;
    assert!(redriven.is_ok(), "{redriven:?}");
    bench.admin.retire(0, "nobody").await.expect("retire");
}
