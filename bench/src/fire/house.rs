//! One trial's own server, pipeline and daemons, and how to look at them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::resp::{Client, Value};
use super::trial::Field;
use crate::daemon::Daemon;
use crate::server::{Keeps, Server};

/// Which of the two stages has an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `enrich` is shared, `count` is owned.
    OwnedCount,
    /// `enrich` is owned, `count` is shared.
    OwnedEnrich,
}

impl Shape {
    pub(crate) const BOTH: [Self; 2] = [Self::OwnedCount, Self::OwnedEnrich];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OwnedCount => "shared > owned",
            Self::OwnedEnrich => "owned > shared",
        }
    }

    fn config(self) -> String {
        let (enrich, count) = match self {
            Self::OwnedCount => (SHARED, OWNED),
            Self::OwnedEnrich => (OWNED, SHARED),
        };
        format!(
            r#"version = 1
name = "fire"

[event.dedupe]
max_ids = 5_000_000

[retention]
keep = "1d"

[stage.enrich]
group = "event_group"
{enrich}
max_entry = "1MiB"

[[stage.enrich.operators]]
kind = "validate"
required = ["event_id", "user_id", "event_type", "ts"]
integers = ["ts"]

[[stage.enrich.operators]]
kind = "lookup"
key = "user_id"
into = "profile"

[stage.count]
from = "enrich"
{count}

[[stage.count.operators]]
kind = "aggregate"
by = ["type", "product", "session"]
session_keep = "30d"
"#
        )
    }
}

const SHARED: &str = "workers = 2\ntimeout = \"1s\"\nclaim_after = \"3s\"";
/// How long a shared entry may be held by a worker that is gone.
pub(crate) const CLAIM_AFTER: Duration = Duration::from_secs(3);
const OWNED: &str = "delivery = \"owned\"\ntimeout = \"1s\"\nclaim_after = \"3s\"";

/// Streams and groups of both stages.
pub(crate) const GROUPS: [(&str, &str); 2] = [("events", "event_group"), (HOP, "count")];
/// Between the stages.
pub(crate) const HOP: &str = "{events}:enrich";

pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) shape: Shape,
    /// Further `--set key=value` for every daemon.
    pub(crate) sets: Vec<String>,
    /// Where the daemons find the server, when not at its own socket.
    pub(crate) through: Option<std::path::PathBuf>,
}

impl House {
    /// With a server of the field's kind that runs.
    pub(crate) fn new(field: &Field<'_>, keeps: Keeps, shape: Shape) -> Result<Self> {
        Ok(Self::on(
            Server::of(&field.server.program, keeps, &[])?,
            shape,
        ))
    }

    pub(crate) fn on(server: Server, shape: Shape) -> Self {
        Self {
            server,
            shape,
            sets: Vec::new(),
            through: None,
        }
    }

    /// Starts the daemon of this name: its folder, and so its instance, outlive it.
    pub(crate) fn daemon(&self, name: &str) -> Result<Daemon> {
        self.daemon_with(name, &[], &[])
    }

    pub(crate) fn daemon_with(
        &self,
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Daemon> {
        let dir = self.server.dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let socket = self.through.clone().unwrap_or_else(|| self.server.socket());
        let url = format!("redis.url=redis+unix://{}", socket.display());
        let instance = format!("daemon.instance={name}");
        let mut sets = vec![url.as_str(), instance.as_str()];
        sets.extend(self.sets.iter().map(String::as_str));
        Daemon::start_with(&dir, &self.shape.config(), &sets, args, env)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.server.socket())?)
    }

    pub(crate) fn watch(&self) -> Result<Watch> {
        Watch::open(&self.server.socket())
    }
}

/// How far both stages are, looked at as cheaply as can be.
pub(crate) struct Watch(Client);

impl Watch {
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        Ok(Self(Client::connect(socket)?))
    }

    /// Entries that `enrich` has handed on and `count` has counted.
    pub(crate) fn done(&mut self) -> Result<[u64; 2]> {
        let reply = self.0.call(&[
            "HMGET",
            "{events}:ledger",
            "enrich:forwarded",
            "count:ended",
        ])?;
        let at = |i: usize| reply.items().get(i).map_or(0, Value::number);
        Ok([at(0), at(1)])
    }

    /// Waits until `count` has done more than `than`.
    pub(crate) fn wait_counted(&mut self, than: u64) -> Result<()> {
        wait("a commit", Duration::from_secs(30), || {
            Ok((self.done()?[1] > than).then_some(()))
        })
    }
}

/// Looks every millisecond until there is something.
pub(crate) fn wait<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| anyhow::anyhow!("no process id"))?;
    Ok(rustix::process::kill_process(pid, signal)?)
}
