//! What is done to the server.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::Deeds;
use crate::chaos::words;
use crate::experiments::ServerFault;
use crate::store::redis::Answer;

/// For something to be there that a fault can hit.
const TARGET_WITHIN: Duration = Duration::from_secs(3);

/// Entries of one consumer that are counted at most: two batches of the largest size, many times over.
const HELD_MAX: &str = "100000";

impl Deeds {
    pub(super) async fn server_fault(&mut self, fault: &ServerFault) -> Result<String, String> {
        let said = |e: crate::store::StoreError| e.to_string();
        let text = match fault {
            ServerFault::Kill => {
                let process = self.server.process().await.map_err(said)?;
                self.server_killed = Some(Instant::now());
                if !process.signal(Signal::KILL) {
                    return Err("the server could not be killed".to_owned());
                }
                format!("SIGKILL to redis (pid {})", process.pid)
            }
            ServerFault::Stop => {
                let process = self.server.process().await.map_err(said)?;
                if !process.signal(Signal::STOP) {
                    return Err("the server could not be stopped".to_owned());
                }
                format!("SIGSTOP to redis (pid {})", process.pid)
            }
            ServerFault::Pause { ms } => {
                let ms = ms.to_string();
                self.server
                    .call(&["CLIENT", "PAUSE", &ms, "ALL"])
                    .await
                    .map_err(said)?;
                format!("CLIENT PAUSE {ms} ALL")
            }
            ServerFault::MaxMemory { percent } => {
                self.refusals_before = self.refusals().await;
                let used = self.server.info("memory").await.map_err(said)?;
                let used: u64 = used
                    .get("used_memory")
                    .and_then(|n| n.parse().ok())
                    .ok_or("INFO tells no used_memory")?;
                let limit = (used / 100).saturating_mul(*percent).to_string();
                self.server.set("maxmemory", &limit).await.map_err(said)?;
                return Ok(format!("maxmemory {limit} ({percent} % of what is used)"));
            }
            ServerFault::DestroyGroup { stream, group } => {
                let gone = self
                    .server
                    .call(&["XGROUP", "DESTROY", stream, group])
                    .await
                    .map_err(said)?;
                if gone.number() != Some(1) {
                    return Err(format!("{stream} has no group {group}"));
                }
                format!("XGROUP DESTROY {stream} {group}")
            }
            ServerFault::DelConsumer {
                stream,
                group,
                consumer,
            } => {
                let (name, _) = self.holder(stream, group, consumer.as_deref()).await?;
                let ids = self.held_by(stream, group, &name).await?;
                let own = self.own(stream, &ids).await?;
                let gone = self
                    .server
                    .call(&["XGROUP", "DELCONSUMER", stream, group, &name])
                    .await
                    .map_err(said)?;
                let held = gone.number().unwrap_or(0);
                if held != ids.len() as u64 {
                    return Err(format!(
                        "{name} held {} entries when they were counted and {held} when it was deleted",
                        ids.len()
                    ));
                }
                self.taken += own;
                self.dropped += held;
                format!("XGROUP DELCONSUMER {stream} {group} {name}, which held {held} entries")
            }
            ServerFault::Trim { stream, group, n } => return self.trim(stream, group, *n).await,
            ServerFault::ScriptFlush => {
                self.server
                    .call(&["SCRIPT", "FLUSH", "SYNC"])
                    .await
                    .map_err(said)?;
                "SCRIPT FLUSH".to_owned()
            }
        };
        self.outside += 1;
        Ok(text)
    }

    /// A consumer that holds entries now.
    async fn holder(
        &mut self,
        stream: &str,
        group: &str,
        consumer: Option<&str>,
    ) -> Result<(String, u64), String> {
        let deadline = Instant::now() + TARGET_WITHIN;
        loop {
            let found = self
                .server
                .fullest(stream, group)
                .await
                .map_err(|e| e.to_string())?;
            if let Some((name, held)) = found
                && consumer.is_none_or(|wanted| wanted == name)
            {
                return Ok((name, held));
            }
            if Instant::now() > deadline {
                return Err(format!("no consumer of {group} holds an entry"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ids of the entries that a consumer holds.
    async fn held_by(
        &mut self,
        stream: &str,
        group: &str,
        name: &str,
    ) -> Result<Vec<String>, String> {
        let command = ["XPENDING", stream, group, "-", "+", HELD_MAX, name];
        let rows = self
            .server
            .call(&command)
            .await
            .map_err(|e| e.to_string())?;
        let ids = rows.items().iter();
        Ok(ids
            .filter_map(|row| Some(row.items().first()?.text()))
            .collect())
    }

    /// How many of these entries are the run's events.
    async fn own(&mut self, stream: &str, ids: &[String]) -> Result<u64, String> {
        let field = self.names.roles.id.clone();
        let mut own = 0;
        for part in ids.chunks(500) {
            let asked: Vec<_> = part
                .iter()
                .map(|id| words(&["XRANGE", stream, id, id]))
                .collect();
            let found = self
                .server
                .call_many(&asked)
                .await
                .map_err(|e| e.to_string())?;
            for answer in found {
                let fields = answer
                    .items()
                    .first()
                    .and_then(|entry| entry.items().get(1));
                let id = fields
                    .and_then(|fields| fields.get(&field))
                    .map(Answer::text);
                own += self.ours(id.as_deref());
            }
        }
        Ok(own)
    }

    /// 1 for an event of the run; a canary is waited for no more.
    fn ours(&self, id: Option<&str>) -> u64 {
        let Some(id) = id.map(str::as_bytes) else {
            return 0;
        };
        if let Some(n) = self.names.canary(id) {
            self.canaries.forget(n);
        }
        u64::from(self.names.number(id).is_some())
    }

    /// Removes everything up to the `n`-th undelivered entry.
    async fn trim(&mut self, stream: &str, group: &str, n: u64) -> Result<String, String> {
        let said = |e: crate::store::StoreError| e.to_string();
        let deadline = Instant::now() + TARGET_WITHIN;
        let rows = loop {
            let groups = self
                .server
                .call(&["XINFO", "GROUPS", stream])
                .await
                .map_err(said)?;
            let mut rows = groups.items().iter();
            let row = rows.find(|row| row.get("name").is_some_and(|name| name.text() == group));
            let from = row
                .and_then(|row| row.get("last-delivered-id"))
                .map(Answer::text);
            let from = from.ok_or_else(|| format!("{stream} has no group {group}"))?;
            let (from, count) = (format!("({from}"), n.to_string());
            let page = self
                .server
                .call(&["XRANGE", stream, &from, "+", "COUNT", &count])
                .await
                .map_err(said)?;
            if page.items().len() as u64 == n {
                break page;
            }
            if Instant::now() > deadline {
                let have = page.items().len();
                return Err(format!(
                    "only {have} undelivered entries came together, of {n}"
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let field = self.names.roles.id.as_bytes();
        let mut own = 0;
        for entry in rows.items() {
            let event = entry
                .items()
                .get(1)
                .map(|fields| fields.items().chunks_exact(2));
            let mut pairs = event.into_iter().flatten();
            let id = pairs
                .find(|pair| pair[0].text().as_bytes() == field)
                .map(|pair| pair[1].text());
            own += self.ours(id.as_deref());
        }
        let last = rows
            .items()
            .last()
            .and_then(|entry| entry.items().first())
            .map(Answer::text);
        let (ms, seq) = last
            .as_deref()
            .and_then(|id| id.split_once('-'))
            .and_then(|(ms, seq)| Some((ms.to_owned(), seq.parse::<u64>().ok()?)))
            .ok_or("an entry without an id")?;
        let below = format!("{ms}-{}", seq.saturating_add(1));
        self.server
            .call(&["XTRIM", stream, "MINID", "=", &below])
            .await
            .map_err(said)?;
        self.taken += own;
        self.outside += n;
        Ok(format!(
            "XTRIM {stream} MINID {below}: {n} undelivered entries, {own} of them the run's events"
        ))
    }

    pub(super) async fn refusals(&mut self) -> u64 {
        let stats = self.server.info("errorstats").await.unwrap_or_default();
        let oom = stats
            .get("errorstat_OOM")
            .and_then(|text| text.strip_prefix("count="));
        oom.and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}
