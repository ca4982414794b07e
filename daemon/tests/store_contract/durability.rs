//! What an accepted event has survived (`redis.durability`), on real servers: a master and its replica, and a server with an
//! append-only file. `PIPELINED_WAITAOF_SERVER` names a server with WAITAOF (Redis or Valkey 7.2 or newer); `scripts/test`
//! fetches one.

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::config::Durability;
use pipelined::record::event_id;
use pipelined::store::redis::{Address, Login, RedisStore, preflight};
use pipelined::store::{Admin, Admission, Admitted, Store, StoreError};

use super::harness::*;
use crate::support::server::RedisServer;

const SHORT: Duration = Duration::from_millis(50);

fn open(server: &RedisServer, class: Durability, limit: Duration) -> Arc<dyn Admin> {
    let address =
        Address::parse(&server.url(), Login::default(), DEADLINE, None).expect("a socket");
    RedisStore::new(address, Arc::new(counting()))
        .durable(class, limit)
        .admin()
}

fn one(n: u32) -> [Admission; 1] {
    [Admission {
        event_id: Some(event_id(format!("e{n}").as_bytes())),
        fields: event(n),
    }]
}

#[track_caller]
fn not_durable(answer: &Result<Vec<Admitted>, StoreError>, word: &str) {
    assert!(
        matches!(answer, Err(StoreError::NotDurable(why)) if why.contains(word)),
        "{answer:?}"
    );
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, waited).await;
    in_time.unwrap_or_else(|_| panic!("{what} did not come"));
}

/// A master that replicas can reach, and one replica that is in step.
async fn pair() -> (RedisServer, RedisServer) {
    // Replication needs a port: a free one, asked for and given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its number").port().to_string();
    drop(free);
    let master =
        RedisServer::start_with(&["--port", &port, "--repl-diskless-sync-delay", "0"]).await;
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    until("the replica", || {
        replica
            .redis_cli(&["INFO", "replication"])
            .contains("master_link_status:up")
    })
    .await;
    (master, replica)
}

#[tokio::test]
async fn hole_12_nothing_is_accepted_that_no_replica_has_and_no_retry_changes_that() {
    let (master, replica) = pair().await;
    let admin = open(&master, Durability::Replica, DEADLINE);
    admin.prepare().await.expect("prepare");
    let added = admin.admit(&one(0), true).await;
    assert!(
        matches!(added.as_deref(), Ok([Admitted::Added(_)])),
        "{added:?}"
    );
    assert_eq!(
        replica.redis_cli(&["XLEN", SOURCE]),
        "1",
        "before the answer"
    );

    // The replica stands still: it is connected, and confirms nothing.
    let stop = |signal: &str| {
        let status = std::process::Command::new("kill")
            .args([signal, &replica.pid().to_string()])
            .status();
        assert!(status.expect("run kill").success());
    };
    stop("-STOP");
    let hasty = open(&master, Durability::Replica, SHORT);
    not_durable(&hasty.admit(&one(1), true).await, "no replica");
    // It is in the master. Sent again it is known there, and still not accepted, over the same connection or a new one.
    assert_eq!(master.redis_cli(&["XLEN", SOURCE]), "2");
    not_durable(&hasty.admit(&one(1), true).await, "no replica");
    let other = open(&master, Durability::Replica, SHORT);
    not_durable(&other.admit(&one(1), true).await, "no replica");
    let place = pipelined::store::SpoolPlace { life: 1, first: 1 };
    let spooled = other.admit_spooled(place, &one(2)).await;
    assert!(matches!(spooled.as_deref(), Ok([Some(_)])), "{spooled:?}");
    for admin in [&other, &hasty] {
        let answer = admin.survive().await;
        assert!(
            matches!(answer, Err(StoreError::NotDurable(_))),
            "the spool keeps it: {answer:?}"
        );
    }

    stop("-CONT");
    let known = admin.admit(&one(1), true).await;
    assert!(
        matches!(known.as_deref(), Ok([Admitted::Duplicate(_)])),
        "{known:?}"
    );
    assert_eq!(replica.redis_cli(&["XLEN", SOURCE]), "3");
    assert_eq!(admin.survive().await, Ok(()));
}

#[tokio::test]
async fn a_master_that_wants_replicas_and_has_none_refuses_and_nothing_was_done() {
    let server = RedisServer::start().await;
    let admin = open(&server, Durability::Memory, SHORT);
    admin.prepare().await.expect("prepare");
    server.redis_cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let answer = admin.admit(&one(0), true).await;
    assert!(matches!(answer, Err(StoreError::ReadOnly(_))), "{answer:?}");
    server.redis_cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(server.redis_cli(&["XLEN", SOURCE]), "0");
    let admin = open(&server, Durability::Replica, SHORT);
    not_durable(&admin.admit(&one(0), true).await, "no replica");
}

#[tokio::test]
async fn without_waitaof_only_always_lets_an_event_be_accepted() {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    if has_waitaof(&server) {
        // The server under test is a newer one: the other test has it.
        return;
    }
    let admin = open(&server, Durability::Aof, DEADLINE);
    admin.prepare().await.expect("prepare");
    admin.admit(&one(0), true).await.expect("always");
    // Somebody changes it while we run: found out before the next answer.
    server.redis_cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    not_durable(&admin.admit(&one(1), true).await, "everysec");
    not_durable(&admin.admit(&one(1), true).await, "everysec");
    server.redis_cli(&["CONFIG", "SET", "appendfsync", "always"]);
    let known = admin.admit(&one(1), true).await;
    assert!(
        matches!(known.as_deref(), Ok([Admitted::Duplicate(_)])),
        "{known:?}"
    );
    server.redis_cli(&["CONFIG", "SET", "appendonly", "no"]);
    not_durable(&admin.admit(&one(2), true).await, "appendonly is off");
}

#[tokio::test]
async fn preflight_refuses_a_server_that_cannot_tell_and_says_what_to_do() {
    async fn said(server: &RedisServer, class: Durability) -> Result<Vec<String>, String> {
        let client = pipelined::store::redis::Client::open(server.url()).expect("a client");
        let server = preflight::ask_once(&client, class).await;
        server
            .map(|s| s.warnings)
            .map_err(|refusal| refusal.to_string())
    }
    let server = RedisServer::start().await;
    let off = said(&server, Durability::Aof).await.expect_err("no log");
    assert!(
        off.contains("appendonly is off") && off.contains("CONFIG SET appendonly yes"),
        "{off}"
    );
    let alone = said(&server, Durability::Replica)
        .await
        .expect("a replica may come");
    assert!(
        alone.iter().any(|w| w.contains("no replica is connected")),
        "{alone:?}"
    );
    server.redis_cli(&["CONFIG", "SET", "appendonly", "yes"]);
    if has_waitaof(&server) {
        said(&server, Durability::Aof).await.expect("WAITAOF");
        return;
    }
    let lazy = said(&server, Durability::Aof).await.expect_err("everysec");
    assert!(
        lazy.contains("appendfsync is everysec") && lazy.contains("CONFIG SET appendfsync always"),
        "{lazy}"
    );
    server.redis_cli(&["CONFIG", "SET", "appendfsync", "always"]);
    said(&server, Durability::Aof).await.expect("always");
    server.redis_cli(&["ACL", "SETUSER", "default", "-config"]);
    let blind = said(&server, Durability::Aof).await.expect_err("blind");
    assert!(blind.contains("+config|get"), "{blind}");
}

fn has_waitaof(server: &RedisServer) -> bool {
    !server.redis_cli(&["COMMAND", "INFO", "WAITAOF"]).is_empty()
}

#[tokio::test]
async fn with_waitaof_an_event_is_accepted_once_it_is_on_the_disk() {
    let test = "with_waitaof_an_event_is_accepted_once_it_is_on_the_disk";
    let Some(program) = crate::needs::waitaof_server(test) else {
        return;
    };
    let options = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let server = RedisServer::start_program(&program, &options).await;
    assert!(has_waitaof(&server), "{program} has no WAITAOF");
    let admin = open(&server, Durability::Aof, DEADLINE);
    admin.prepare().await.expect("prepare");
    admin
        .admit(&one(0), true)
        .await
        .expect("within two seconds");
    // With `no` nothing is ever forced to the disk by itself.
    server.redis_cli(&["CONFIG", "SET", "appendfsync", "no"]);
    let hasty = open(&server, Durability::Aof, SHORT);
    not_durable(&hasty.admit(&one(1), true).await, "not forced to the disk");
    not_durable(&hasty.admit(&one(1), true).await, "not forced to the disk");
    server.redis_cli(&["CONFIG", "SET", "appendfsync", "always"]);
    let known = admin.admit(&one(1), true).await;
    assert!(
        matches!(known.as_deref(), Ok([Admitted::Duplicate(_)])),
        "{known:?}"
    );
    server.redis_cli(&["CONFIG", "SET", "appendonly", "no"]);
    not_durable(&admin.admit(&one(2), true).await, "appendonly");
}
