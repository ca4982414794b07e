//! The private server against a real redis-server: what survives whose death, and what is refused.
//!
//! Past 400 lines because it is a list: one test for each way in which server, daemon and data folder can meet.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic names the line"
)]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::{config, places};
use pipelined::clock::System;
use pipelined::datadir::{self, DataDir};
use pipelined::journal::Journal;
use pipelined::logging::is_foreign;
use pipelined::store::redis::managed::{Managed, ManagedError, Settings};
use pipelined::store::redis::preflight::{self, Refusal};
use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Ten times what a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder with a server that does not outlive the test, however the test ends.
struct Place {
    folder: PathBuf,
    _tmp: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self::named("redis")
    }

    fn named(name: &str) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let folder = tmp.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, _tmp: tmp }
    }

    fn settings(&self) -> Settings {
        Settings {
            folder: self.folder.clone(),
            socket: self.folder.join("redis.sock"),
            max_memory: Some(100 << 20),
            append_fsync: "always".to_owned(),
            search_path: std::env::var_os("PATH"),
            binary: None,
            answer_within: DEADLINE,
        }
    }

    async fn start(&self) -> Managed {
        let managed = Managed::start(self.settings(), journal()).await.unwrap();
        managed.loaded().await.unwrap();
        managed
    }

    async fn refusal(&self, settings: Settings) -> ManagedError {
        match Managed::start(settings, journal()).await {
            Ok(_) => panic!("{} was started", self.folder.display()),
            Err(fault) => fault,
        }
    }

    fn pid(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(self.folder.join("redis.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        // Only a process that works in our folder: the number alone may be somebody else's by now.
        let at = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        if at != self.folder.canonicalize().ok()? {
            return None;
        }
        Pid::from_raw(pid)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid().unwrap(), signal).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn journal() -> Journal {
    Journal::new(Arc::new(System))
}

fn count(journal: &Journal, name: &str) -> usize {
    journal
        .last(100)
        .iter()
        .filter(|event| event.name == name)
        .count()
}

async fn connect(socket: &Path) -> MultiplexedConnection {
    try_connect(socket).await.unwrap()
}

async fn try_connect(socket: &Path) -> redis::RedisResult<MultiplexedConnection> {
    let client = redis::Client::open(redis::ConnectionAddr::Unix(socket.to_owned()))?;
    client.get_multiplexed_async_connection().await
}

async fn set(socket: &Path, key: &str, value: &str) {
    let mut connection = connect(socket).await;
    redis::cmd("SET")
        .arg(key)
        .arg(value)
        .exec_async(&mut connection)
        .await
        .unwrap();
}

async fn get(socket: &Path, key: &str) -> Option<String> {
    redis::cmd("GET")
        .arg(key)
        .query_async(&mut connect(socket).await)
        .await
        .unwrap()
}

async fn setting(socket: &Path, name: &str) -> String {
    let mut connection = connect(socket).await;
    let pair: (String, String) = redis::cmd("CONFIG")
        .arg("GET")
        .arg(name)
        .query_async(&mut connection)
        .await
        .unwrap();
    pair.1
}

#[track_caller]
fn assert_clean(text: &str) {
    let foreign: Vec<char> = text.chars().filter(|c| is_foreign(*c)).collect();
    assert!(foreign.is_empty(), "{foreign:?} in {text:?}");
}

/// Polls until it holds, with a deadline.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn script(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A process of the test's own; ends with the value.
struct Stranger(Child);

impl Stranger {
    /// A server that has nothing to do with the product.
    async fn start(socket: &Path, arguments: &[&str]) -> Self {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(socket)
            .args(arguments)
            .current_dir(socket.parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stranger = Self(child);
        until("the stranger listens", async || {
            tokio::net::UnixStream::connect(socket).await.is_ok()
        })
        .await;
        stranger
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_starts_set_up_so_that_nothing_is_lost() {
    let place = Place::new();
    let managed = place.start().await;
    assert!(!managed.was_adopted());
    for (name, value) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("aof-use-rdb-preamble", "yes"),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "104857600"),
        ("port", "0"),
        ("save", ""),
    ] {
        assert_eq!(setting(managed.socket_path(), name).await, value, "{name}");
    }
    let mode = std::fs::metadata(managed.socket_path())
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    let server = preflight::look(&mut connect(managed.socket_path()).await)
        .await
        .unwrap();
    assert_eq!(server.warnings, Vec::<String>::new());
    assert_eq!(server.run_id, managed.run_id());
    assert_eq!(
        std::fs::read_to_string(place.folder.join("run_id"))
            .unwrap()
            .trim(),
        managed.run_id()
    );
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_keeps_the_data_and_can_be_repeated() {
    let place = Place::new();
    let managed = place.start().await;
    set(managed.socket_path(), "k", "v").await;
    managed.stop().await.unwrap();
    assert!(place.pid().is_none());
    managed.stop().await.unwrap();
    let again = place.start().await;
    assert!(!again.was_adopted());
    assert_eq!(get(again.socket_path(), "k").await.as_deref(), Some("v"));
    again.stop().await.unwrap();
}

/// Not a test of its own: the daemon's part, played by a process of its own for the tests that kill it.
#[tokio::test]
async fn helper_plays_the_daemon() {
    let Some(folder) = std::env::var_os("PIPELINED_TEST_PLAY_DAEMON") else {
        return;
    };
    let place = Place {
        folder: folder.into(),
        _tmp: tempfile::tempdir().unwrap(),
    };
    let managed = Managed::start(place.settings(), journal()).await.unwrap();
    set(managed.socket_path(), "k", "of the first daemon").await;
    std::fs::write(place.folder.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

async fn play_daemon(place: &Place) -> Stranger {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "helper_plays_the_daemon", "--nocapture"]);
    command
        .env("PIPELINED_TEST_PLAY_DAEMON", &place.folder)
        .process_group(0);
    let daemon = Stranger(
        command
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    until("the daemon is ready", async || {
        place.folder.join("ready").exists()
    })
    .await;
    daemon
}

#[tokio::test]
async fn it_outlives_a_daemon_that_is_killed_and_is_adopted() {
    let place = Place::new();
    let mut daemon = play_daemon(&place).await;
    let pid = place.pid();
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    let managed = place.start().await;
    assert!(managed.was_adopted());
    assert_eq!(place.pid(), pid);
    assert_eq!(
        get(managed.socket_path(), "k").await.as_deref(),
        Some("of the first daemon")
    );
    managed.stop().await.unwrap();
    assert!(
        place.pid().is_none(),
        "an adopted server is stopped as well"
    );
}

#[tokio::test]
async fn control_c_on_the_terminal_does_not_reach_it() {
    let place = Place::new();
    let mut daemon = play_daemon(&place).await;
    let group = Pid::from_raw(i32::try_from(daemon.0.id()).unwrap()).unwrap();
    let redis = place.pid().unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    daemon.0.wait().unwrap();
    // Redis heeds SIGINT at its next tick only, so that it still answers now would prove nothing.
    assert_eq!(
        getpgid(Some(redis)).unwrap(),
        redis,
        "it leads a group of its own"
    );
    assert_eq!(
        get(&place.settings().socket, "k").await.as_deref(),
        Some("of the first daemon")
    );
    place.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn an_adopted_server_takes_the_limits_of_the_configuration() {
    let place = Place::new();
    drop(place.start().await);
    let settings = Settings {
        max_memory: Some(77 << 20),
        append_fsync: "everysec".to_owned(),
        ..place.settings()
    };
    let managed = Managed::start(settings, journal()).await.unwrap();
    assert!(managed.was_adopted());
    assert_eq!(
        setting(managed.socket_path(), "maxmemory").await,
        (77 << 20).to_string()
    );
    assert_eq!(
        setting(managed.socket_path(), "appendfsync").await,
        "everysec"
    );
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_daemon_died_before_noting_it_is_adopted() {
    let place = Place::new();
    let first = place.start().await;
    let run_id = first.run_id();
    drop(first);
    std::fs::remove_file(place.folder.join("run_id")).unwrap();
    let managed = place.start().await;
    assert!(managed.was_adopted());
    assert_eq!(managed.run_id(), run_id);
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn it_is_adopted_where_it_listens_even_if_the_environment_says_elsewhere() {
    let place = Place::new();
    let first = place.start().await;
    let elsewhere = Settings {
        socket: place.folder.join("other.sock"),
        ..place.settings()
    };
    let managed = Managed::start(elsewhere, journal()).await.unwrap();
    assert!(managed.was_adopted());
    assert_eq!(managed.socket_path(), first.socket_path());
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn a_dead_one_is_started_again_with_its_data() {
    let place = Place::new();
    let first = place.start().await;
    set(first.socket_path(), "k", "v").await;
    let run_id = first.run_id();
    drop(first);
    place.signal(Signal::KILL);
    let managed = place.start().await;
    assert!(!managed.was_adopted());
    assert_ne!(managed.run_id(), run_id);
    assert_eq!(get(managed.socket_path(), "k").await.as_deref(), Some("v"));
    managed.stop().await.unwrap();
}

async fn survives_kills(place: Place, adopted: bool) {
    if adopted {
        drop(place.start().await);
    }
    let journal = journal();
    let managed = Arc::new(
        Managed::start(place.settings(), journal.clone())
            .await
            .unwrap(),
    );
    assert_eq!(managed.was_adopted(), adopted);
    let mut tasks = JoinSet::new();
    let watched = Arc::clone(&managed);
    tasks.spawn(async move { watched.watch(CancellationToken::new()).await });
    for round in ["one", "two"] {
        set(managed.socket_path(), "k", round).await;
        let run_id = managed.run_id();
        place.signal(Signal::KILL);
        until("redis is up again", async || {
            managed.run_id() != run_id && managed.pid().is_some()
        })
        .await;
        managed.loaded().await.unwrap();
        assert_eq!(
            get(managed.socket_path(), "k").await.as_deref(),
            Some(round)
        );
    }
    until("it was told", async || {
        count(&journal, "redis.restarted") == 2
    })
    .await;
    assert_eq!(count(&journal, "redis.died"), 2);
    timeout(DEADLINE, managed.stop())
        .await
        .expect("stop ends the watch first")
        .unwrap();
    timeout(DEADLINE, tasks.join_all())
        .await
        .expect("stop ends the watch");
    assert!(
        place.pid().is_none(),
        "what was stopped is not started again"
    );
}

#[tokio::test]
async fn a_killed_server_is_restarted_and_nothing_is_lost() {
    survives_kills(Place::new(), false).await;
}

#[tokio::test]
async fn a_killed_server_that_was_adopted_is_restarted_too() {
    survives_kills(Place::new(), true).await;
}

#[tokio::test]
async fn a_killed_server_that_is_held_stays_down_until_the_hold_ends_or_is_released() {
    let place = Place::new();
    let managed = Arc::new(place.start().await);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (watched, end) = (Arc::clone(&managed), shutdown.clone());
    tasks.spawn(async move { watched.watch(end).await });
    let is_up = async || try_connect(managed.socket_path()).await.is_ok();
    managed.hold(Duration::from_secs(600));
    assert!(is_up().await, "the one that lives lives on");
    place.signal(Signal::KILL);
    until("it is down", async || !is_up().await).await;
    // Without the hold it would be up at once.
    sleep(Duration::from_millis(500)).await;
    assert!(!is_up().await, "it is held");
    managed.release();
    until("it is up again", is_up).await;

    managed.hold(Duration::from_millis(700));
    let held = Instant::now();
    place.signal(Signal::KILL);
    until("it is down again", async || !is_up().await).await;
    until("the hold has ended by itself", is_up).await;
    assert!(held.elapsed() >= Duration::from_millis(700));

    managed.hold(Duration::from_secs(600));
    place.signal(Signal::KILL);
    until("it is down for the third time", async || !is_up().await).await;
    shutdown.cancel();
    timeout(DEADLINE, tasks.join_next())
        .await
        .expect("a hold does not keep the daemon");
}

#[tokio::test]
async fn a_server_that_nobody_can_reach_any_more_is_restarted() {
    let place = Place::new();
    let managed = place.start().await;
    set(managed.socket_path(), "k", "v").await;
    let run_id = managed.run_id();
    std::fs::remove_file(managed.socket_path()).unwrap();
    let shutdown = CancellationToken::new();
    tokio::join!(managed.watch(shutdown.clone()), async {
        until("redis is up again", async || managed.run_id() != run_id).await;
        shutdown.cancel();
    });
    assert_eq!(get(managed.socket_path(), "k").await.as_deref(), Some("v"));
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_stands_still_is_ended_by_force() {
    let place = Place::new();
    let managed = place.start().await;
    place.signal(Signal::STOP);
    timeout(DEADLINE, managed.stop())
        .await
        .expect("it ends")
        .unwrap();
    assert!(place.pid().is_none());
}

#[tokio::test]
async fn a_server_left_for_other_daemons_stays_up() {
    let place = Place::new();
    let managed = place.start().await;
    managed.leave();
    drop(managed);
    let again = place.start().await;
    assert!(again.was_adopted());
    again.stop().await.unwrap();
}

#[tokio::test]
async fn loading_is_waited_for_and_its_progress_told() {
    let place = Place::new();
    let first = place.start().await;
    let mut pipe = redis::pipe();
    for n in 0..12_000 {
        pipe.cmd("SET").arg(n).arg("v").ignore();
    }
    pipe.exec_async(&mut connect(first.socket_path()).await)
        .await
        .unwrap();
    first.stop().await.unwrap();
    // 200 microseconds a key, and Redis looks at its clients after every 1,024 commands.
    let slow = "exec redis-server \"$@\" --key-load-delay 200";
    let slow = script(&place, "slow-redis", slow);
    let journal = journal();
    let settings = Settings {
        binary: Some(slow),
        ..place.settings()
    };
    let managed = Managed::start(settings, journal.clone()).await.unwrap();
    timeout(DEADLINE, managed.loaded())
        .await
        .expect("it loads")
        .unwrap();
    assert_eq!(
        get(managed.socket_path(), "11999").await.as_deref(),
        Some("v")
    );
    assert!(count(&journal, "redis.loading") >= 1);
    managed.stop().await.unwrap();
}

fn append(place: &Place, bytes: &[u8]) {
    use std::io::Write;
    let folder = place.folder.join("appendonlydir");
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let log = files
        .filter(|path| path.to_string_lossy().contains(".incr.aof"))
        .max()
        .unwrap();
    std::fs::OpenOptions::new()
        .append(true)
        .open(log)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

#[tokio::test]
async fn a_log_cut_by_a_crash_is_loaded() {
    let place = Place::new();
    let first = place.start().await;
    set(first.socket_path(), "k", "v").await;
    first.stop().await.unwrap();
    append(&place, b"*3\r\n$3\r\nSET\r\n$1\r\nq\r\n$100\r\ncut");
    let managed = place.start().await;
    assert_eq!(get(managed.socket_path(), "k").await.as_deref(), Some("v"));
    assert_eq!(get(managed.socket_path(), "q").await, None);
    managed.stop().await.unwrap();
}

const DAMAGE: &[u8] = b"this is no log of commands\r\nand more than a cut tail\r\n";

#[tokio::test]
async fn a_server_that_ends_at_its_start_says_why_and_speaks_to_no_terminal() {
    let place = Place::named("da\x1b[2Jta");
    place.start().await.stop().await.unwrap();
    append(&place, DAMAGE);
    let fault = place.refusal(place.settings()).await;
    assert!(
        fault
            .to_string()
            .contains("Bad file format reading the append only file"),
        "{fault}"
    );
    let ManagedError::Exited { last_words, .. } = fault else {
        panic!("{fault}")
    };
    assert_clean(&last_words.join(""));
}

#[tokio::test]
async fn a_server_that_does_not_come_up_again_is_told_once_and_tried_on() {
    let place = Place::new();
    let journal = journal();
    let managed = Managed::start(place.settings(), journal.clone())
        .await
        .unwrap();
    managed.loaded().await.unwrap();
    append(&place, DAMAGE);
    place.signal(Signal::KILL);
    let tries = || {
        std::fs::read_to_string(place.folder.join("redis.log"))
            .unwrap()
            .matches("Bad file format")
            .count()
    };
    let shutdown = CancellationToken::new();
    tokio::join!(managed.watch(shutdown.clone()), async {
        until("three tries", async || tries() >= 3).await;
        shutdown.cancel();
    });
    assert_eq!(count(&journal, "redis.restart_failed"), 1);
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_no_server_is_named() {
    let place = Place::new();
    let with = |binary: PathBuf| Settings {
        binary: Some(binary),
        answer_within: Duration::from_secs(2),
        ..place.settings()
    };
    let missing = place.refusal(with(place.folder.join("nothing"))).await;
    assert!(
        matches!(
            missing,
            ManagedError::Io {
                action: "start",
                ..
            }
        ),
        "{missing}"
    );
    let quits = script(&place, "quits", "printf 'I \\033[2J quit\\n' >&2; exit 3");
    let fault = place.refusal(with(quits)).await.to_string();
    assert!(
        fault.contains("exit status: 3") && fault.contains("I \\x1b[2J quit"),
        "{fault}"
    );
    let hangs = script(&place, "hangs", "echo $$ > hanging; exec sleep 600");
    let fault = place.refusal(with(hangs)).await;
    assert!(matches!(fault, ManagedError::NoAnswer { .. }), "{fault}");
    let pid = std::fs::read_to_string(place.folder.join("hanging")).unwrap();
    assert!(
        !Path::new(&format!("/proc/{}", pid.trim())).exists(),
        "what did not answer was ended"
    );
    place.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_foreign_server_is_refused_and_left_alone() {
    let place = Place::new();
    let elsewhere = Place::new();
    let socket = place.settings().socket;
    let _stranger =
        Stranger::start(&socket, &["--dir", &elsewhere.folder.display().to_string()]).await;
    set(&socket, "k", "a stranger's").await;
    let fault = place.refusal(place.settings()).await;
    assert!(matches!(fault, ManagedError::Foreign { .. }), "{fault}");
    assert!(fault.to_string().contains("redis+unix://"), "{fault}");
    assert_eq!(get(&socket, "k").await.as_deref(), Some("a stranger's"));
}

#[tokio::test]
async fn a_server_that_does_not_hold_the_lock_is_refused_whatever_its_run_id() {
    let place = Place::new();
    drop(place.start().await);
    std::fs::remove_file(place.folder.join("alive")).unwrap();
    let fault = place.refusal(place.settings()).await;
    assert!(matches!(fault, ManagedError::Foreign { .. }), "{fault}");
}

#[tokio::test]
async fn whoever_listens_and_is_no_redis_is_refused() {
    for answer in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n+\x1b[2J\r\n+OK\r\n+OK\r\n+OK\r\n",
    ] {
        let place = Place::new();
        let listener = tokio::net::UnixListener::bind(place.settings().socket).unwrap();
        let serve = async {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
                kept.push(stream);
            }
        };
        let fault = tokio::select! {
            () = serve => unreachable!(),
            fault = timeout(DEADLINE, place.refusal(place.settings())) => fault.expect("an answer in time"),
        };
        let ManagedError::Foreign { why, .. } = fault else {
            panic!("{fault}")
        };
        assert_clean(&why);
    }
}

#[tokio::test]
async fn a_living_server_that_stands_still_is_not_doubled() {
    let place = Place::new();
    let first = place.start().await;
    let pid = place.pid().unwrap().as_raw_nonzero();
    place.signal(Signal::STOP);
    let fault = place
        .refusal(Settings {
            answer_within: Duration::from_secs(3),
            ..place.settings()
        })
        .await;
    assert!(
        matches!(fault, ManagedError::Stuck { pid: Some(_), .. }),
        "{fault}"
    );
    assert!(
        fault.to_string().contains(&format!("kill {pid}")),
        "{fault}"
    );
    place.signal(Signal::CONT);
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_data_folder_with_a_long_path_works() {
    let tmp = tempfile::tempdir().unwrap();
    let data_path = tmp.path().join("d".repeat(120));
    let env = places::Env {
        runtime_dir: Some(tmp.path().join("runtime").into()),
        ..datadir::environment()
    };
    let data = DataDir::open(Some(&data_path), &env).unwrap();
    let redis = config::Redis {
        url: "managed".to_owned(),
        username: None,
        password: None,
        keys_prefix: String::new(),
        timeout: Duration::from_secs(5),
        max_memory: None,
        append_fsync: "everysec".to_owned(),
        tls_ca: None,
        // Which makes it always.
        durability: config::Durability::Aof,
        durability_timeout: Duration::from_secs(5),
    };
    let settings = Settings::new(&data, &env, &redis).unwrap();
    assert!(settings.socket.as_os_str().len() <= places::SOCKET_PATH_BYTES_MAX);
    let place = Place {
        folder: settings.folder.clone(),
        _tmp: tmp,
    };
    let managed = Managed::start(settings, journal()).await.unwrap();
    set(managed.socket_path(), "k", "v").await;
    managed.stop().await.unwrap();
    drop(place);
}

#[tokio::test]
async fn preflight_refuses_what_cannot_serve() {
    let place = Place::new();
    let table: [(&str, &[&str], &str); 4] = [
        (
            "older than 7.0",
            &["--rename-command", "EVAL_RO", ""],
            "EVAL_RO",
        ),
        (
            "without scripts",
            &["--rename-command", "EVAL", ""],
            "#!lua",
        ),
        (
            "replica",
            &["--replicaof", "127.0.0.1", "1"],
            "REPLICAOF NO ONE",
        ),
        (
            "no password given",
            &["--requirepass", "secret"],
            "redis.password",
        ),
    ];
    for (n, (desc, arguments, hint)) in table.into_iter().enumerate() {
        let socket = place.folder.join(format!("s{n}.sock"));
        let _stranger = Stranger::start(&socket, arguments).await;
        let refusal = match try_connect(&socket).await {
            Ok(mut connection) => preflight::look(&mut connection).await.unwrap_err(),
            Err(fault) => preflight::classify(&fault),
        };
        assert!(refusal.to_string().contains(hint), "{desc}: {refusal}");
        assert!(!refusal.may_pass(), "{desc}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_right_are_told_apart() {
    let place = Place::new();
    let managed = place.start().await;
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER")
        .arg("low")
        .arg("on")
        .arg(">pass")
        .arg("+ping");
    acl.exec_async(&mut connect(managed.socket_path()).await)
        .await
        .unwrap();
    let open = async |password: &str| {
        let url = format!(
            "redis+unix://{}?user=low&pass={password}",
            managed.socket_path().display()
        );
        redis::Client::open(url)
            .unwrap()
            .get_multiplexed_async_connection()
            .await
    };
    let wrong = preflight::classify(&open("wrong").await.err().unwrap());
    assert!(matches!(wrong, Refusal::Password { .. }), "{wrong:?}");
    let low = preflight::look(&mut open("pass").await.unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(&low, Refusal::Permission { said } if said.contains("info")),
        "{low:?}"
    );
    managed.stop().await.unwrap();
}

#[tokio::test]
async fn preflight_warns_about_settings_that_lose_data() {
    let place = Place::new();
    let socket = place.folder.join("s.sock");
    let _stranger = Stranger::start(
        &socket,
        &["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"],
    )
    .await;
    let server = preflight::look(&mut connect(&socket).await).await.unwrap();
    assert_eq!(
        (server.flavour.as_str(), server.mode.as_str()),
        ("redis", "standalone")
    );
    assert_eq!((server.max_memory, server.append_only), (50 << 20, false));
    assert_eq!(server.warnings.len(), 2, "{:?}", server.warnings);
}
