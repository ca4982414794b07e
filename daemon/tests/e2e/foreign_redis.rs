//! A redis-server that the daemon did not start: the user's own. Gone when dropped.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::house::{signal, wait_for};

pub struct ForeignRedis {
    dir: tempfile::TempDir,
    args: Vec<String>,
    /// Size of its disk, where it has one of its own.
    disk: Option<String>,
    child: Option<Child>,
}

impl ForeignRedis {
    /// Runs and answers, on a Unix socket only.
    pub fn start(args: &[&str]) -> Self {
        let mut server = Self::away(args);
        server.come();
        server
    }

    /// Its place is known, and nothing answers there.
    pub fn away(args: &[&str]) -> Self {
        Self {
            dir: tempfile::Builder::new()
                .prefix("redis-")
                .tempdir()
                .expect("a temporary folder"),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            disk: None,
            child: None,
        }
    }

    /// Gives it a disk of its own, such as `16m`, that nobody else sees. Needs root.
    pub fn on_small_disk(&mut self, size: &str) -> &mut Self {
        self.disk = Some(size.to_owned());
        self
    }

    /// A file on its disk, as we can reach it while it runs.
    pub fn inside(&self, name: &str) -> PathBuf {
        let path = self.data().join(name);
        let path = path.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.pid())).join(path)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Starts it with the data that it had and waits until it takes connections.
    pub fn come(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("redis.log")).expect("a log");
        std::fs::create_dir_all(self.data()).expect("a folder for its data");
        let mut command = Command::new("redis-server");
        if let Some(size) = &self.disk {
            command = Command::new("unshare");
            let mount =
                "mount -t tmpfs -o size=\"$1\" none \"$2\"; shift 2; exec redis-server \"$@\"";
            command
                .args(["-m", "sh", "-c", mount, "sh", size])
                .arg(self.data());
        }
        let child = command
            .args(["--port", "0", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--maxmemory", "1gb"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.data())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("start redis-server");
        self.child = Some(child);
        wait_for("redis-server to take connections", || {
            std::os::unix::net::UnixStream::connect(self.socket()).ok()
        });
    }

    /// SIGKILL, and waits until it is gone.
    pub fn die(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        signal(child.id(), "KILL");
        child.wait().expect("wait for redis-server");
    }

    /// `redis-cli ARGS`; its raw answer.
    pub fn cli(&self, args: &[&str]) -> String {
        let out = Command::new("redis-cli")
            .arg("-s")
            .arg(self.socket())
            .args(args)
            .output()
            .expect("start redis-cli");
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

impl Drop for ForeignRedis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
