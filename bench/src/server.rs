//! A private redis-server on a Unix socket, gone when dropped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::raw::Client;

/// A new server answers by then.
const START: Duration = Duration::from_secs(10);
/// One that has to read its files first.
const LOAD: Duration = Duration::from_secs(60);

/// How the server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing.
    Nothing,
    /// An append-only file, forced to the disk every second.
    EverySecond,
    /// An append-only file, forced to the disk before each answer.
    Always,
}

pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
    launch: Launch,
}

/// How it is started, also again.
struct Launch {
    program: PathBuf,
    keeps: Keeps,
    /// Words before the program: what becomes it in the end.
    wrap: Vec<String>,
    args: Vec<String>,
    /// Where its files are.
    data: PathBuf,
}

impl Launch {
    fn spawn(&self, socket: &Path) -> Result<Child> {
        let (append, fsync) = match self.keeps {
            Keeps::Nothing => ("no", "everysec"),
            Keeps::EverySecond => ("yes", "everysec"),
            Keeps::Always => ("yes", "always"),
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(socket.with_file_name("redis.log"))
            .context("open the server's log")?;
        let mut words: Vec<&OsStr> = self.wrap.iter().map(OsStr::new).collect();
        words.push(self.program.as_os_str());
        let (first, rest) = words.split_first().context("no program")?;
        Command::new(first)
            .args(rest)
            .args(["--port", "0", "--save", "", "--appendfsync", fsync])
            .args(["--appendonly", append, "--dir"])
            .arg(&self.data)
            .arg("--unixsocket")
            .arg(socket)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))
    }
}

impl Server {
    /// The server on PATH.
    pub(crate) fn start(keeps: Keeps) -> Result<Self> {
        let program = ["redis-server", "valkey-server"]
            .into_iter()
            .find_map(on_path)
            .context("neither redis-server nor valkey-server is on PATH")?;
        Self::of(&program, keeps, &[])
    }

    /// This one, with further arguments.
    pub(crate) fn of(program: &Path, keeps: Keeps, args: &[&str]) -> Result<Self> {
        let dir = folder()?;
        let data = dir.path().to_owned();
        Self::launch(dir, data, &[], program, keeps, args)
    }

    /// This one with its files in `data`, which `wrap` may first have to make.
    pub(crate) fn launch(
        dir: tempfile::TempDir,
        data: PathBuf,
        wrap: &[String],
        program: &Path,
        keeps: Keeps,
        args: &[&str],
    ) -> Result<Self> {
        let launch = Launch {
            program: program.to_owned(),
            keeps,
            wrap: wrap.to_vec(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            data,
        };
        let child = launch.spawn(&dir.path().join("redis.sock"))?;
        let mut server = Self { child, dir, launch };
        server.wait(START)?;
        Ok(server)
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the server")?;
        self.child.wait().context("wait for the server")?;
        Ok(())
    }

    /// Starts it again with the data that it has, and waits until it answers.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.child = self.launch.spawn(&self.socket())?;
        self.wait(LOAD)
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(mut client) = Client::connect(&self.socket())
                && client.ask(&["PING"]).is_ok()
            {
                return Ok(());
            }
            ensure!(
                self.child.try_wait()?.is_none(),
                "the redis server ended at once"
            );
            ensure!(
                Instant::now() < deadline,
                "the redis server does not answer"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    /// Its folder, also for others that end with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for a server and all that belongs to it.
pub(crate) fn folder() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("pipelined-bench-")
        .tempdir()
        .context("make a temporary folder")
}

/// The first program of that name on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
