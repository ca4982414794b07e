//! A private redis-server on a Unix socket, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::raw::Client;

/// How the server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing.
    Nothing,
    /// An append-only file, forced to the disk every second.
    EverySecond,
}

pub(crate) struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(keeps: Keeps) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("pipelined-bench-")
            .tempdir()
            .context("make a temporary folder")?;
        let program = ["redis-server", "valkey-server"]
            .into_iter()
            .find(|name| on_path(name))
            .context("neither redis-server nor valkey-server is on PATH")?;
        let append = match keeps {
            Keeps::Nothing => "no",
            Keeps::EverySecond => "yes",
        };
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--appendfsync", "everysec"])
            .args(["--appendonly", append, "--dir"])
            .arg(dir.path())
            .arg("--unixsocket")
            .arg(dir.path().join("redis.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let mut server = Self { child, dir };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
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

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
