//! The server seen and hurt from outside: what the guard of an experiment asks of Redis, does to it and takes back. It
//! speaks to the server directly, never through the daemon or its proxy.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::store::redis::{Address, Answer, Outside};
use crate::store::{Result, StoreError};

/// One server, connected when something is asked.
pub struct Server {
    address: Address,
    line: Option<Outside>,
}

/// A process, known beyond its pid, so that a signal never meets a stranger who got the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since the machine's start (field 22 of proc(5)'s stat).
    pub began: u64,
}

/// What lies between the producers and the results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Undelivered and pending entries over all groups; `None` = a group is away or does not know its lag.
    pub lag: Option<u64>,
    /// Entries that the groups of the last stages have read and not left pending; `None` = not known.
    pub settled: Option<u64>,
    /// When the oldest pending entry was added, milliseconds since 1970 by the server's clock; `None` = nothing is pending.
    pub oldest_ms: Option<u64>,
}

/// One group to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Stream.
    pub stream: String,
    /// Group.
    pub group: String,
    /// Whether nothing reads what it sends on.
    pub is_last: bool,
}

impl Process {
    /// The process with this pid; `None` = there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let rest = stat.rsplit_once(')')?.1;
        // One that has ended and was not waited for yet does nothing any more.
        if matches!(rest.split_whitespace().next(), Some("Z" | "X")) {
            return None;
        }
        let began = rest.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, began })
    }

    /// Whether it still lives.
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends it a signal; false = it is gone, or not ours.
    pub fn signal(self, signal: Signal) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        self.lives() && pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
}

impl Server {
    /// Names it; connects later.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            line: None,
        }
    }

    /// One command, on a new connection where the last one broke.
    ///
    /// # Errors
    /// When the server does not answer in time, or with an error.
    pub async fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Answer> {
        let line = self.line().await?;
        let answer = line.call(words).await;
        if let Err(StoreError::Unavailable(_)) = &answer {
            self.line = None;
        }
        answer
    }

    /// Several commands in one go; a refusal stays in its place.
    ///
    /// # Errors
    /// When the server does not answer in time.
    pub async fn call_many(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Answer>> {
        let line = self.line().await?;
        for words in commands {
            line.add(words);
        }
        let answers = line.send(commands.len()).await;
        if answers.is_err() {
            self.line = None;
        }
        answers
    }

    async fn line(&mut self) -> Result<&mut Outside> {
        let line = match self.line.take() {
            Some(line) => line,
            None => Outside::open(&self.address).await?,
        };
        Ok(self.line.insert(line))
    }

    /// Fields of a section of INFO.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>> {
        let text = self.call(&["INFO", section]).await?.text();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// The server's process, if it is on this machine.
    ///
    /// # Errors
    /// When the server does not answer, or is none of this machine's processes.
    pub async fn process(&mut self) -> Result<Process> {
        let info = self.info("server").await?;
        let pid = info.get("process_id").and_then(|pid| pid.parse().ok());
        pid.and_then(Process::of).ok_or_else(|| {
            StoreError::Denied("the server is no process of this machine".to_owned())
        })
    }

    /// A setting.
    ///
    /// # Errors
    /// When the server does not answer, or does not tell.
    pub async fn setting(&mut self, name: &str) -> Result<String> {
        let answer = self.call(&["CONFIG", "GET", name]).await?;
        answer
            .get(name)
            .map(Answer::text)
            .ok_or_else(|| StoreError::Denied(format!("CONFIG GET {name} tells nothing")))
    }

    /// Changes a setting.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.call(&["CONFIG", "SET", name, value]).await.map(drop)
    }

    /// What lies between producers and results now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn backlog(&mut self, groups: &[Watched]) -> Result<Backlog> {
        let mut commands = Vec::new();
        for group in groups {
            commands.push(words(&["XINFO", "GROUPS", &group.stream]));
            commands.push(words(&["XPENDING", &group.stream, &group.group]));
        }
        let answers = self.call_many(&commands).await?;
        let mut backlog = Backlog {
            lag: Some(0),
            settled: Some(0),
            oldest_ms: None,
        };
        for (group, answers) in groups.iter().zip(answers.chunks_exact(2)) {
            let [answer, held] = answers else { continue };
            let first = held.items().get(1).map(Answer::text).unwrap_or_default();
            let added = first.split('-').next().and_then(|ms| ms.parse().ok());
            backlog.oldest_ms = backlog.oldest_ms.into_iter().chain(added).min();
            let mut rows = answer.items().iter();
            let row = rows.find(|row| row.get("name").is_some_and(|n| n.text() == group.group));
            let figure = |name| row.and_then(|row| row.get(name)).and_then(Answer::number);
            let pending = figure("pending");
            let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
            backlog.lag = sum(backlog.lag, sum(figure("lag"), pending));
            if group.is_last {
                let read = figure("entries-read");
                let settled = read
                    .zip(pending)
                    .map(|(read, held)| read.saturating_sub(held));
                backlog.settled = sum(backlog.settled, settled);
            }
        }
        Ok(backlog)
    }

    /// The consumer of a group that holds most entries; `None` = none holds any.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn fullest(&mut self, stream: &str, group: &str) -> Result<Option<(String, u64)>> {
        let answer = self.call(&["XINFO", "CONSUMERS", stream, group]).await?;
        let rows = answer.items().iter().map(|row| {
            let held = row.get("pending").and_then(Answer::number).unwrap_or(0);
            (row.get("name").map(Answer::text).unwrap_or_default(), held)
        });
        Ok(rows
            .max_by_key(|(_, held)| *held)
            .filter(|(_, held)| *held > 0))
    }

    /// Waits until it takes commands again, at most for `limit`; false = it does not. Cancel-safe.
    pub async fn opens_within(&mut self, limit: Duration) -> bool {
        let wait = async {
            loop {
                self.line = None;
                let answer = tokio::time::timeout(Duration::from_millis(500), self.call(&["PING"]));
                if matches!(answer.await, Ok(Ok(_))) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

/// A command from texts.
pub fn words(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
