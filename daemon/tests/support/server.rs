//! A private redis-server for one test: on a Unix socket in a folder of its own, killed when dropped. No port is opened.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long a start may take; ten times what it takes on a slow machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct RedisServer {
    child: Child,
    folder: TempDir,
    program: String,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk and answers when this returns.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with further options, such as `--appendonly yes`.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let program =
            std::env::var("PIPELINED_REDIS_SERVER").unwrap_or_else(|_| "redis-server".into());
        Self::start_program(&program, options).await
    }

    /// Starts this program, whatever the others are.
    pub(crate) async fn start_program(program: &str, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("redis-")
            .tempdir()
            .expect("make a folder");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let child = launch(program, folder.path(), &options);
        let mut server = Self {
            child,
            folder,
            program: program.to_owned(),
            options,
        };
        server.wait_until_it_answers().await;
        server
    }

    /// Its folder: socket, dump file, log.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Its URL as clients take it.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Its process, for tests that stop or kill it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs redis-cli against it; what it printed, without the last line break.
    #[track_caller]
    pub(crate) fn redis_cli(&self, args: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(self.socket())
            .args(args)
            .output();
        let output = output.expect("run redis-cli: is it installed? (apt-get install redis-tools)");
        assert!(
            output.status.success(),
            "redis-cli {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Kills it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        // It may have died before; there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same folder; what its files hold is what it knows then.
    pub(crate) async fn start_again(&mut self) {
        self.kill();
        self.child = launch(&self.program, self.folder.path(), &self.options);
        self.wait_until_it_answers().await;
    }

    async fn wait_until_it_answers(&mut self) {
        let answers = async {
            loop {
                let pong = Command::new("redis-cli")
                    .arg("-s")
                    .arg(self.socket())
                    .arg("ping")
                    .output();
                if pong.is_ok_and(|pong| pong.stdout.starts_with(b"PONG")) {
                    return;
                }
                if let Some(status) = self
                    .child
                    .try_wait()
                    .expect("ask for the state of redis-server")
                {
                    let log = std::fs::read_to_string(self.folder.path().join("redis.log"))
                        .unwrap_or_default();
                    panic!("redis-server ended with {status}: {log}");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(START_DEADLINE, answers).await;
        in_time.expect("redis-server did not answer in time");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(program: &str, folder: &Path, options: &[String]) -> Child {
    let _ = std::fs::remove_file(folder.join("redis.sock"));
    let mut command = Command::new(program);
    command.args([
        "--port",
        "0",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
    ]);
    command
        .arg("--dir")
        .arg(folder)
        .arg("--unixsocket")
        .arg(folder.join("redis.sock"));
    command
        .arg("--logfile")
        .arg(folder.join("redis.log"))
        .args(options);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!(
            "start {program}: {error}; install it (apt-get install redis-server) or name one in PIPELINED_REDIS_SERVER"
        ),
    }
}
