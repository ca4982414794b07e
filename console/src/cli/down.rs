//! `pipectl down`: drain the daemon over its socket and wait until it is gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Verdict;
use super::act;
use super::app::App;
use crate::client::{Candidate, Client, ClientError, is_listening};
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::output::{Document, Text, Tone};

/// How long a drain may take unless `--timeout` says otherwise: longer than the daemon's own grace period.
const DRAIN: Duration = Duration::from_secs(120);

/// Drain the daemon and wait until it is gone; without a daemon there is nothing to do (exit 0)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop Redis too, even while other daemons use it
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Serialize)]
struct Body {
    stopped: bool,
    pid: Option<u32>,
    message: Option<String>,
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    app.may_change("down")?;
    let deadline = Deadline::after(app.timeout(DRAIN));
    let (client, candidate) =
        match app.connect_to(&app.candidates(), deadline.slice(Duration::from_secs(10))) {
            Ok(found) => found,
            Err(ClientError::Absent(_)) => {
                let mut text = Text::default();
                text.say("no daemon runs");
                let body = Body {
                    stopped: false,
                    pid: None,
                    message: None,
                };
                app.screen.show(&Document::one("down", &body, text)?)?;
                return Ok(Exit::Ok);
            }
            Err(other) => return Err(other.into()),
        };
    let pid = client.hello().pid;
    let message = drain(app, client, &candidate, args.all, deadline)?;
    let mut text = Text::default();
    text.tell(
        Tone::Good,
        format!("pipelined (pid {pid}) is drained and gone"),
    );
    app.screen.show(&Document::one(
        "down",
        &Body {
            stopped: true,
            pid: Some(pid),
            message,
        },
        text,
    )?)?;
    Ok(Exit::Ok)
}

/// Asks for the drain and waits until nobody listens and the process is gone. Returns what the daemon said.
pub(super) fn drain(
    app: &App,
    mut client: Client,
    candidate: &Candidate,
    all: bool,
    deadline: Deadline,
) -> Result<Option<String>, Failure> {
    let pid = client.hello().pid;
    // A daemon in another PID namespace has a pid that says nothing to us.
    let pid_counts = is_alive(pid);
    let params = if all {
        Map::from_iter([("all".to_owned(), Value::from(true))])
    } else {
        Map::new()
    };
    let message = match act::call_until(&mut client, "daemon.drain", params, deadline) {
        Ok(answer) => answer
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned),
        // It may be gone before its answer is.
        Err(ClientError::Closed { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    app.note(message.as_deref().unwrap_or("draining"));
    loop {
        let is_there = is_listening(&candidate.path) || (pid_counts && is_alive(pid));
        if !is_there {
            return Ok(message);
        }
        if deadline.is_over() {
            return Err(Failure::new(
                Exit::TimedOut,
                format!("wait until pipelined (pid {pid}) is gone"),
            )
            .hint("it goes on draining: see `pipectl status`, or wait longer with --timeout"));
        }
        clock::pause(deadline.slice(Duration::from_millis(50)));
    }
}

/// Whether the process runs; a zombie, which only waits for its parent to look, does not.
fn is_alive(pid: u32) -> bool {
    if !Path::new("/proc/self").exists() {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        return pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    }
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in brackets may hold anything; the state follows the last bracket.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_only_waits_for_its_parent_to_look_is_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("300")
            .spawn()
            .unwrap();
        assert!(is_alive(child.id()));
        child.kill().unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        while is_alive(child.id()) {
            assert!(!deadline.is_over(), "a zombie counts as alive");
            clock::pause(Duration::from_millis(5));
        }
        child.wait().unwrap();
    }
}
