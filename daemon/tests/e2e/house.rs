//! A whole pipeline for one test: its own data folder, managed Redis, socket and configuration; gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Waits for outcomes are ten times what they take; a test that needs longer has found something.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// One daemon with everything beneath it.
pub struct House {
    dir: tempfile::TempDir,
    /// Arguments of `pipelined run` beside the paths.
    args: Vec<String>,
    /// Environment of the daemon beside ours.
    env: Vec<(String, String)>,
    /// Words before `pipelined run`: a program that becomes it in the end.
    wrap: Vec<String>,
    daemon: Option<Child>,
}

/// A configuration without a generator: tests send what they want to count.
pub const QUIET: &str = include_str!("quiet.toml");

impl House {
    /// Writes the configuration; nothing runs yet.
    pub fn new(config: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("house-")
            .tempdir()
            .expect("a temporary folder");
        std::fs::write(dir.path().join("pipeline.toml"), config).expect("write the configuration");
        Self {
            dir,
            args: Vec::new(),
            env: Vec::new(),
            wrap: Vec::new(),
            daemon: None,
        }
    }

    /// A quiet pipeline that runs and is healthy.
    pub fn quiet() -> Self {
        let mut house = Self::new(QUIET);
        house.start();
        house.wait_healthy();
        house
    }

    /// Adds `--set key=value`.
    pub fn set(&mut self, pair: &str) -> &mut Self {
        self.args.extend(["--set".to_owned(), pair.to_owned()]);
        self
    }

    /// Adds a word to its arguments; `--data` and `--socket` take the place of its own.
    pub fn arg(&mut self, word: &str) -> &mut Self {
        self.args.push(word.to_owned());
        self
    }

    /// Gives the daemon an environment variable.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the daemon by this program, which must become it (exec).
    pub fn wrap(&mut self, words: &[&str]) -> &mut Self {
        self.wrap = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Uses this server and not a managed one.
    pub fn on(&mut self, url: &str) -> &mut Self {
        self.set(&format!("redis.url={url}"))
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    pub fn redis_socket(&self) -> PathBuf {
        self.data().join("redis/redis.sock")
    }

    /// `pipelined run`, in the background, with test-only commands.
    pub fn start(&mut self) -> &mut Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("daemon.log"))
            .expect("open the log");
        let mut words: Vec<std::ffi::OsString> = self.wrap.iter().map(Into::into).collect();
        words.push(pipelined_bin().into());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .arg("run")
            .args([
                "--config".as_ref(),
                self.path().join("pipeline.toml").as_os_str(),
            ])
            .args(self.place("--data", &self.data()))
            .args(self.place("--socket", &self.socket()))
            .arg("--test-commands")
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start pipelined");
        self.daemon = Some(child);
        self
    }

    /// A flag and its path, unless the test gave the flag itself.
    fn place(&self, flag: &str, path: &Path) -> Vec<std::ffi::OsString> {
        if self.args.iter().any(|arg| arg == flag) {
            return Vec::new();
        }
        vec![flag.into(), path.into()]
    }

    /// Starts it and waits until it has ended by itself: its exit code and everything that it said.
    pub fn ended(&mut self) -> (Option<i32>, String) {
        self.start();
        let mut child = self.daemon.take().expect("a daemon runs");
        let ended = wait_for("the daemon to end by itself", || {
            child.try_wait().expect("wait for the daemon")
        });
        (ended.code(), self.whole_log())
    }

    pub fn wait_healthy(&self) {
        let out = self.pipectl(&["status", "--wait-healthy", "--timeout", "60s"]);
        assert!(
            out.status.success(),
            "not healthy: {}\n{}",
            text(&out),
            self.log()
        );
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// Kills the daemon with SIGKILL and waits until it is gone. Redis lives on.
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("a daemon runs");
        child.kill().expect("kill the daemon");
        child.wait().expect("wait for the daemon");
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.daemon.take().expect("a daemon runs");
        signal(child.id(), "TERM");
        let ended = wait_for("the daemon to drain", || {
            child.try_wait().expect("wait for the daemon")
        });
        ended.code()
    }

    /// Pid of the managed Redis.
    pub fn redis_pid(&self) -> u32 {
        self.redis_pid_now().expect("the pid file of redis")
    }

    /// The same, while it may be starting.
    pub fn redis_pid_now(&self) -> Option<u32> {
        let path = self.data().join("redis/redis.pid");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// `pipectl ARGS` on this daemon.
    pub fn pipectl(&self, args: &[&str]) -> Output {
        self.pipectl_with(args, b"")
    }

    pub fn pipectl_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        use std::io::Write as _;
        let mut child = Command::new(pipectl_bin())
            .args(["--socket".as_ref(), self.socket().as_os_str()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("PIPELINED_SOCKET")
            .spawn()
            .expect("start pipectl");
        let mut pipe = child.stdin.take().expect("a pipe");
        let input = stdin.to_vec();
        let feeder = std::thread::spawn(move || {
            // It may end before it has read everything.
            let _ = pipe.write_all(&input);
        });
        let out = child.wait_with_output().expect("wait for pipectl");
        feeder.join().expect("the feeder");
        out
    }

    /// Runs and insists on success; the JSON document.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let out = self.pipectl(&all);
        assert!(
            out.status.success(),
            "pipectl {args:?}: {}\n{}",
            text(&out),
            self.log()
        );
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|e| panic!("pipectl {args:?} printed no JSON ({e}): {}", text(&out)))
    }

    /// The ledger once nothing is pending or undelivered.
    #[track_caller]
    pub fn settled(&self) -> Value {
        self.json(&["ledger", "--wait-settled", "--timeout", "60s"])
    }

    /// `redis-cli ARGS` on the managed Redis; its raw answer.
    #[track_caller]
    pub fn redis(&self, args: &[&str]) -> String {
        let out = Command::new("redis-cli")
            .arg("-s")
            .arg(self.redis_socket())
            .args(args)
            .output()
            .expect("start redis-cli");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Adds complete events `from..to` with redis-cli's pipe mode, as any foreign client would. Event ids are `event-N`.
    pub fn add_events(&self, from: u64, to: u64) {
        let mut commands = String::new();
        for n in from..to {
            let words = [
                "XADD",
                "events",
                "*",
                "event_id",
                &format!("event-{n}"),
                "user_id",
                &format!("user-{}", n % 97),
                "event_type",
                if n % 3 == 0 { "click" } else { "view" },
                "product",
                &format!("p{}", n % 11),
                "session_id",
                &format!("s{}", n % 29),
                "value",
                "1.25",
                "ts",
                "1640995200000",
            ]
            .map(str::to_owned);
            commands.push_str(&format!("*{}\r\n", words.len()));
            for word in words {
                commands.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
        }
        self.redis_pipe(commands.as_bytes());
    }

    /// Sends raw RESP with redis-cli --pipe and insists that no command failed.
    pub fn redis_pipe(&self, resp: &[u8]) {
        use std::io::Write as _;
        let mut child = Command::new("redis-cli")
            .arg("-s")
            .arg(self.redis_socket())
            .arg("--pipe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start redis-cli");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(resp)
            .expect("feed redis-cli");
        let out = child.wait_with_output().expect("wait for redis-cli");
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.contains("errors: 0"), "redis-cli --pipe: {said}");
    }

    /// Runs and insists on this exit code; the JSON document where one was printed, else null.
    #[track_caller]
    pub fn ends(&self, code: i32, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let out = self.pipectl(&all);
        assert_eq!(
            out.status.code(),
            Some(code),
            "pipectl {args:?}: {}\n{}",
            text(&out),
            self.log()
        );
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    /// The rows of a list.
    #[track_caller]
    pub fn rows(&self, args: &[&str]) -> Vec<Value> {
        let document = self.json(args);
        let rows = document["rows"].as_array();
        rows.unwrap_or_else(|| panic!("pipectl {args:?} printed no rows: {document}"))
            .clone()
    }

    /// Names of the open alerts.
    #[track_caller]
    pub fn alerts(&self) -> Vec<String> {
        let status = self.json(&["status"]);
        let names = status["alerts"].as_array().into_iter().flatten();
        names
            .filter_map(|alert| alert["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// Our workers of a stage, by name, as `consumers ls` shows them.
    #[track_caller]
    pub fn workers(&self, stage: &str) -> Vec<String> {
        let rows = self.rows(&["consumers", "ls", "--stage", stage]);
        let mut names: Vec<_> = rows
            .iter()
            .filter(|row| row["ours"] == true)
            .filter_map(|row| row["name"].as_str().map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    /// Pauses a stage and waits until no read of it is under way: a read waits half a second for entries, and a connection
    /// that has not asked for a whole one does not read.
    #[track_caller]
    pub fn pause(&self, stage: &str) {
        self.json(&["pause", stage]);
        let names: Vec<_> = self
            .workers(stage)
            .iter()
            .map(|worker| format!("name=pipelined:{worker}:read "))
            .collect();
        assert!(!names.is_empty(), "stage {stage} has no workers");
        wait_for("the last read to end", || {
            let clients = self.redis(&["CLIENT", "LIST"]);
            let is_quiet = |name: &String| {
                let line = clients.lines().find(|line| line.contains(name.as_str()));
                line.is_some_and(|line| {
                    let mut words = line.split(' ');
                    let flags = words.find_map(|word| word.strip_prefix("flags="));
                    flags.is_some_and(|flags| !flags.contains('b')) && !line.contains(" idle=0 ")
                })
            };
            names.iter().all(is_quiet).then_some(())
        });
    }

    /// Adds events `from..to` as [`House::add_events`] does and reads them as the foreign consumer `ghost`, which never
    /// acknowledges, in one step: no worker of ours gets any. Their ids.
    #[track_caller]
    pub fn ghost(&self, from: u64, to: u64) -> Vec<String> {
        self.ghost_and(from, to, "")
    }

    /// The same, and `then` (Lua, `ids` are the ids) in the same step.
    #[track_caller]
    pub fn ghost_and(&self, from: u64, to: u64, then: &str) -> Vec<String> {
        let script = format!(
            "local ids = {{}} \
            for n = ARGV[1], ARGV[2] - 1 do \
              ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', 'event_id', 'event-' .. n, 'user_id', 'user-' .. n % 97, \
                'event_type', n % 3 == 0 and 'click' or 'view', 'product', 'p' .. n % 11, 'session_id', 's' .. n % 29, \
                'value', '1.25', 'ts', '1640995200000') \
              redis.call('XREADGROUP', 'GROUP', 'event_group', 'ghost', 'STREAMS', KEYS[1], '>') \
            end {then} return ids"
        );
        let ids = self.redis(&[
            "EVAL",
            &script,
            "1",
            "events",
            &from.to_string(),
            &to.to_string(),
        ]);
        let ids: Vec<_> = ids.lines().map(str::to_owned).collect();
        assert_eq!(ids.len() as u64, to - from, "{ids:?}");
        ids
    }

    /// The daemon's stderr so far, all of it.
    pub fn whole_log(&self) -> String {
        let log = std::fs::read(self.path().join("daemon.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The daemon's stderr so far.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Ok(pid) = std::fs::read_to_string(self.data().join("redis/redis.pid"))
            && let Ok(pid) = pid.trim().parse()
        {
            signal(pid, "KILL");
        }
    }
}

pub fn pipelined_bin() -> PathBuf {
    env!("CARGO_BIN_EXE_pipelined").into()
}

/// Beside ours: `scripts/test` builds the whole workspace first.
pub fn pipectl_bin() -> PathBuf {
    let path = pipelined_bin().with_file_name("pipectl");
    assert!(
        path.exists(),
        "{} is missing; build the workspace first: cargo build --workspace",
        path.display()
    );
    path
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "start kill(1)");
}

pub fn text(out: &Output) -> String {
    format!(
        "{}{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

/// Polls until there is an answer; fails after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
