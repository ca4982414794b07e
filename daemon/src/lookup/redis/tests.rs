use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::*;

/// A private server on a socket in `folder`; ends with the value.
async fn server(folder: &Path) -> tokio::process::Child {
    let socket = folder.join("s");
    let child = tokio::process::Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--unixsocket",
        ])
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is needed: apt-get install redis-server");
    let client = client(folder);
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.get_multiplexed_async_connection().await.is_err() {
        assert!(Instant::now() < deadline, "redis-server does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child
}

fn client(folder: &Path) -> redis::Client {
    redis::Client::open(format!("redis+unix://{}", folder.join("s").display())).unwrap()
}

async fn run(folder: &Path, words: &[&str]) {
    let mut connection = client(folder)
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.exec_async(&mut connection).await.unwrap();
}

fn keys(keys: &[&'static str]) -> Vec<Bytes> {
    keys.iter()
        .map(|key| Bytes::from_static(key.as_bytes()))
        .collect()
}

#[track_caller]
fn check(answer: &Answer, want: &[(&str, &str)]) {
    let fields = answer
        .as_ref()
        .unwrap()
        .as_ref()
        .expect("there is such a key");
    let fields: Vec<_> = fields.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    let want: Vec<_> = want
        .iter()
        .map(|(n, v)| {
            (
                Bytes::copy_from_slice(n.as_bytes()),
                Bytes::copy_from_slice(v.as_bytes()),
            )
        })
        .collect();
    assert_eq!(fields, want);
}

#[tokio::test]
async fn profiles_are_read_in_order_and_a_wrong_key_is_an_error_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let _server = server(folder.path()).await;
    run(
        folder.path(),
        &["HSET", "profile:u1", "tier", "gold", "city", "Ulm"],
    )
    .await;
    run(folder.path(), &["SET", "profile:u2", "a string"]).await;
    run(folder.path(), &["HSET", "profile:u3", "tier", "lead"]).await;
    let mut monster = vec!["HSET", "profile:monster"];
    let names: Vec<_> = (0..=N_FIELDS_MAX).map(|i| i.to_string()).collect();
    monster.extend(names.iter().flat_map(|name| [name.as_str(), "x"]));
    run(folder.path(), &monster).await;
    let fat = "x".repeat(BYTES_MAX + 1);
    run(folder.path(), &["HSET", "profile:fat", "bio", &fat]).await;

    let lookup = Profiles::new(client(folder.path()), Duration::from_secs(10)).lookup("profile:");
    let answers = lookup
        .load(&keys(&["u3", "u2", "nobody", "u1", "monster", "fat"]))
        .await
        .unwrap();
    assert_eq!(answers.len(), 6);
    check(&answers[0], &[("tier", "lead")]);
    assert!(
        answers[1].as_ref().unwrap_err().0.contains("WRONGTYPE"),
        "{:?}",
        answers[1]
    );
    assert_eq!(answers[2], Ok(None));
    check(&answers[3], &[("tier", "gold"), ("city", "Ulm")]);
    assert!(
        answers[4]
            .as_ref()
            .unwrap_err()
            .0
            .contains("more than 256 fields"),
        "{:?}",
        answers[4]
    );
    assert!(
        answers[5]
            .as_ref()
            .unwrap_err()
            .0
            .contains("more than 65536 bytes"),
        "{:?}",
        answers[5]
    );
    assert_eq!(lookup.load(&[]).await, Ok(vec![]));
}

#[tokio::test]
async fn it_reconnects_when_the_server_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = Profiles::new(client(folder.path()), Duration::from_secs(10));
    let lookup = profiles.lookup("profile:");
    let error = lookup.load(&keys(&["u1"])).await.unwrap_err();
    assert!(error.0.starts_with("connect to redis: "), "{error}");

    let mut first = server(folder.path()).await;
    assert_eq!(lookup.load(&keys(&["u1"])).await, Ok(vec![Ok(None)]));
    first.kill().await.unwrap();
    assert!(lookup.load(&keys(&["u1"])).await.is_err());

    let _second = server(folder.path()).await;
    run(folder.path(), &["HSET", "profile:u1", "tier", "gold"]).await;
    let answers = lookup.load(&keys(&["u1"])).await.unwrap();
    check(&answers[0], &[("tier", "gold")]);
}

#[tokio::test]
async fn a_server_that_refuses_everybody_is_a_failure_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let _server = server(folder.path()).await;
    let lookup = Profiles::new(client(folder.path()), Duration::from_secs(10)).lookup("profile:");
    assert_eq!(lookup.load(&keys(&["u1"])).await, Ok(vec![Ok(None)]));
    run(folder.path(), &["ACL", "SETUSER", "default", "-hgetall"]).await;
    let error = lookup.load(&keys(&["u1", "u2"])).await.unwrap_err();
    assert!(error.0.contains("no permissions"), "{error}");
}

/// What a bad peer does with each connection.
#[derive(Clone, Copy)]
enum Peer {
    Hangs,
    Closes,
    Garbage,
    Floods,
}

/// Serves until the value is dropped.
fn bad_peer(folder: &Path, peer: Peer) -> tokio::task::JoinSet<()> {
    let listener = UnixListener::bind(folder.join("s")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            match peer {
                Peer::Hangs => open.push(stream),
                Peer::Closes => drop(stream),
                Peer::Garbage => {
                    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                    open.push(stream);
                }
                Peer::Floods => {
                    let mut question = [0; 1_024];
                    let _ = stream.read(&mut question).await;
                    while stream.write_all(&b"+OK\r\n".repeat(1_000)).await.is_ok() {}
                }
            }
        }
    });
    tasks
}

#[tokio::test]
async fn a_bad_peer_is_an_error_in_time() {
    let table = [
        ("hangs", Peer::Hangs),
        ("closes", Peer::Closes),
        ("garbage", Peer::Garbage),
        ("floods", Peer::Floods),
    ];
    for (desc, peer) in table {
        let folder = tempfile::tempdir().unwrap();
        let _peer = bad_peer(folder.path(), peer);
        let lookup =
            Profiles::new(client(folder.path()), Duration::from_millis(100)).lookup("profile:");
        let asked =
            tokio::time::timeout(Duration::from_secs(10), lookup.load(&keys(&["u1", "u2"]))).await;
        let answer = asked.unwrap_or_else(|_| panic!("{desc}: no answer in ten seconds"));
        let is_error = answer
            .as_ref()
            .map_or(true, |answers| answers.iter().all(Result::is_err));
        assert!(is_error, "{desc}: {answer:?}");
    }
}
