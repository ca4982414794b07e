//! How everything is taken back, and looked at whether it is.

use std::time::Duration;

use pipectl_shared::chaos::Reverted;
use rustix::process::Signal;
use tokio::time::Instant;

use super::super::books;
use super::super::load::Mix;
use super::super::pipe::Side;
use super::{DEAD_MAN, Deeds};
use crate::chaos::Order;
use crate::experiments::Revert;
use crate::guard::recover::Undo;

/// A daemon that was started answers within this.
const DAEMON_WITHIN: Duration = Duration::from_secs(30);
/// A server that was killed or paused answers again within this beyond what was asked.
const SERVER_WITHIN: Duration = Duration::from_secs(30);

impl Deeds {
    /// Takes one thing back, and looks whether it is.
    pub(in crate::guard::process) async fn revert(&mut self, revert: Revert) -> Reverted {
        let (what, result) = match revert {
            Revert::Inside => ("faults inside the daemon", self.clear().await),
            Revert::Unpause => ("CLIENT PAUSE", self.answers("it answers").await),
            Revert::Continue => ("SIGSTOP", self.go_on().await),
            Revert::MaxMemory => ("maxmemory", self.max_memory().await),
            Revert::Load => {
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                self.load.set(Mix::plain(self.job.scene.rate as f64));
                ("the run's events", Ok("plain again".to_owned()))
            }
            Revert::Daemon => ("the daemon", self.daemon_up().await),
            Revert::Server => ("the server", self.answers("it answers").await),
            Revert::Groups => ("consumer groups", self.groups().await),
            Revert::DeadLetters => (
                "dead letters of the run",
                Ok("purged when they are counted".to_owned()),
            ),
        };
        let ok = result.is_ok();
        Reverted {
            what: what.to_owned(),
            ok,
            found: result.unwrap_or_else(|why| why),
        }
    }

    async fn clear(&mut self) -> Result<String, String> {
        match self.pipe.side() {
            Side::Dead | Side::Left => Ok("gone with the daemon".to_owned()),
            Side::There | Side::Stop(_) => {
                self.inside = self.pipe.ask(Order::Clear, DEAD_MAN).await?;
                Ok("cleared".to_owned())
            }
        }
    }

    async fn answers(&mut self, text: &str) -> Result<String, String> {
        if self.server.opens_within(SERVER_WITHIN).await {
            return Ok(text.to_owned());
        }
        Err(format!("redis does not answer within {SERVER_WITHIN:?}"))
    }

    async fn go_on(&mut self) -> Result<String, String> {
        for undo in &self.undos {
            if let Undo::Continue(process) = undo
                && !process.signal(Signal::CONT)
            {
                return Err(format!("redis (pid {}) is gone", process.pid));
            }
        }
        self.answers("it goes on and answers").await
    }

    async fn max_memory(&mut self) -> Result<String, String> {
        let was = self.undos.iter().find_map(|undo| match undo {
            Undo::MaxMemory(was) => Some(was.clone()),
            Undo::Continue(_) => None,
        });
        let Some(was) = was else {
            return Ok("was not changed".to_owned());
        };
        self.server
            .set("maxmemory", &was)
            .await
            .map_err(|e| e.to_string())?;
        let refused = self.refusals().await.saturating_sub(self.refusals_before);
        self.outside += refused;
        let is = self
            .server
            .setting("maxmemory")
            .await
            .map_err(|e| e.to_string())?;
        if is == was {
            return Ok(format!("{is} again; {refused} commands had been refused"));
        }
        Err(format!("{is}, not {was}"))
    }

    /// Waits until the daemon takes connections; starts it where it is dead.
    async fn daemon_up(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + DAEMON_WITHIN;
        if !self.daemon_lives() && self.pipe.side() != Side::Left {
            self.start_daemon()?;
        }
        while tokio::net::UnixStream::connect(&self.job.daemon.socket)
            .await
            .is_err()
        {
            if Instant::now() > deadline {
                return Err(format!(
                    "no control socket within {DAEMON_WITHIN:?}; see daemon.out"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok("takes connections".to_owned())
    }

    async fn groups(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + SERVER_WITHIN;
        for stage in self.job.scene.stages.clone() {
            loop {
                let groups = self.server.call(&["XINFO", "GROUPS", &stage.stream]).await;
                let is_there = groups.is_ok_and(|groups| {
                    let mut rows = groups.items().iter();
                    rows.any(|row| {
                        row.get("name")
                            .is_some_and(|name| name.text() == stage.group)
                    })
                });
                if is_there {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{} has no group {}", stage.stream, stage.group));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok("all there".to_owned())
    }

    /// Deletes the dead letters of the run; how many.
    pub(in crate::guard::process) async fn purge(&mut self, entries: &[String]) -> Reverted {
        let purged = books::purge(&mut self.server, &self.job.keys.dead, entries).await;
        let wanted = entries.len() as u64;
        Reverted {
            what: "dead letters of the run".to_owned(),
            ok: purged.as_ref().is_ok_and(|n| *n == wanted),
            found: match purged {
                Ok(n) => format!("{n} of {wanted} purged"),
                Err(error) => error.to_string(),
            },
        }
    }
}
