//! What an accepted event must have survived before its producer is answered (`redis.durability`), and how the server is
//! asked for it.
//!
//! `WAIT` and `WAITAOF` are about everything that the server did before them on the connection's behalf or not, as long as
//! the connection has sent a command since: so they stand right after the door's script, on the same connection, once a
//! batch. That holds for a batch of which every event was known before as well: its answer waits too, or an event whose
//! first wait ran out would be accepted by being sent again.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use pipectl_shared::config::Durability;
use pipectl_shared::units::print_duration;

use super::connection::Connection;
use super::lane::bad;
use super::resp::Reply;
use crate::store::{Result, StoreError};

/// How this server is asked about its append-only file; found by trying, never by its version.
const UNKNOWN: u8 = 0;
const WAITAOF: u8 = 1;
const ALWAYS: u8 = 2;

#[derive(Debug)]
pub(super) struct Survival {
    class: Durability,
    /// Longest wait.
    limit: Duration,
    way: AtomicU8,
}

impl Default for Survival {
    fn default() -> Self {
        Self::new(Durability::Memory, Duration::ZERO)
    }
}

impl Survival {
    pub(super) fn new(class: Durability, limit: Duration) -> Self {
        Self {
            class,
            limit,
            way: AtomicU8::new(UNKNOWN),
        }
    }

    /// Waits until everything that this connection's commands did has survived. [`StoreError::NotDurable`]: not in time,
    /// or the server is set up so that nobody can tell.
    pub(super) async fn wait(&self, connection: &mut Connection) -> Result<()> {
        let answer = match self.class {
            Durability::Memory => return Ok(()),
            Durability::Replica => self.on_a_replica(connection).await,
            Durability::Aof => self.on_the_disk(connection).await,
        };
        match answer {
            // Nothing is known of what the server did; the door sends the same again.
            Err(StoreError::Unavailable(why)) => Err(StoreError::Unavailable(why)),
            Err(StoreError::NotDurable(why)) => Err(StoreError::NotDurable(why)),
            Err(other) => {
                self.way.store(UNKNOWN, Ordering::Relaxed);
                Err(StoreError::NotDurable(other.to_string()))
            }
            Ok(()) => Ok(()),
        }
    }

    async fn on_a_replica(&self, connection: &mut Connection) -> Result<()> {
        let limit = self.limit.as_millis().to_string();
        connection.out.words(&["WAIT", "1", &limit]);
        let n = connection.call(self.limit).await?.int().map_err(bad)?;
        enough(n, "no replica has confirmed the events", self.limit)
    }

    async fn on_the_disk(&self, connection: &mut Connection) -> Result<()> {
        if self.way.load(Ordering::Relaxed) == UNKNOWN {
            connection.out.words(&["COMMAND", "INFO", "WAITAOF"]);
            let reply = connection.call(Duration::ZERO).await?;
            let way = if is_known(reply) { WAITAOF } else { ALWAYS };
            self.way.store(way, Ordering::Relaxed);
        }
        if self.way.load(Ordering::Relaxed) == WAITAOF {
            let limit = self.limit.as_millis().to_string();
            connection.out.words(&["WAITAOF", "1", "0", &limit]);
            let reply = connection.call(self.limit).await?;
            let mut counts = reply.items().map_err(bad)?.into_iter();
            let n = counts.next().unwrap_or(Reply::Nil).int().map_err(bad)?;
            return enough(
                n,
                "the append-only file was not forced to the disk",
                self.limit,
            );
        }
        // With `always` the answer to the script itself came after the fsync, if it was so when the script ran.
        connection
            .out
            .words(&["CONFIG", "GET", "appendonly", "appendfsync"]);
        let settings = words(connection.call(Duration::ZERO).await?)?;
        match unsafe_setting(&settings) {
            None => Ok(()),
            Some(why) => Err(StoreError::NotDurable(why)),
        }
    }
}

/// Why the answer of this server says nothing about its disk; `None` = it comes after the fsync.
pub(super) fn unsafe_setting(settings: &[String]) -> Option<String> {
    let value = |name: &str| {
        let at = settings.chunks(2).find(|pair| pair[0] == name)?;
        at.get(1).map(String::as_str)
    };
    match (value("appendonly"), value("appendfsync")) {
        (Some("yes"), Some("always")) => None,
        (Some("yes"), Some(other)) => Some(format!(
            "this server has no WAITAOF and appendfsync is {other}; only always tells when events are on the disk"
        )),
        (Some(_), _) => Some("appendonly is off, so nothing is on the disk".to_owned()),
        (None, _) => {
            Some("the server does not tell its settings of the append-only file".to_owned())
        }
    }
}

/// Whether COMMAND INFO of one command shows it.
fn is_known(reply: Reply) -> bool {
    let Ok(rows) = reply.items() else {
        return false;
    };
    rows.into_iter()
        .next()
        .is_some_and(|row| row.items().is_ok_and(|about| !about.is_empty()))
}

fn words(reply: Reply) -> Result<Vec<String>> {
    let words = reply.items().map_err(bad)?.into_iter();
    words
        .map(|word| {
            let word = word.bytes().map_err(bad)?;
            Ok(String::from_utf8_lossy(&word).into_owned())
        })
        .collect()
}

fn enough(n: i64, what: &str, limit: Duration) -> Result<()> {
    if n >= 1 {
        return Ok(());
    }
    Err(StoreError::NotDurable(format!(
        "{what} within {}; send them again",
        print_duration(limit)
    )))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn only_always_lets_an_answer_stand_for_the_disk() {
        let table = [
            (vec!["appendonly", "yes", "appendfsync", "always"], None),
            (vec!["appendfsync", "always", "appendonly", "yes"], None),
            (
                vec!["appendonly", "yes", "appendfsync", "everysec"],
                Some("everysec"),
            ),
            (
                vec!["appendonly", "no", "appendfsync", "always"],
                Some("appendonly is off"),
            ),
            (vec!["appendfsync", "always"], Some("does not tell")),
            (vec![], Some("does not tell")),
        ];
        for (settings, wanted) in table {
            let settings: Vec<String> = settings.iter().map(|&s| s.to_owned()).collect();
            let why = unsafe_setting(&settings);
            match (wanted, &why) {
                (None, None) => {}
                (Some(word), Some(why)) if why.contains(word) => {}
                _ => panic!("{settings:?}: {why:?}"),
            }
        }
    }

    #[test]
    fn a_command_is_known_if_the_server_describes_it() {
        let about = Reply::Array(vec![Reply::Array(vec![Reply::Bulk(Bytes::from_static(
            b"waitaof",
        ))])]);
        assert!(is_known(about));
        for unknown in [
            Reply::Array(vec![Reply::Nil]),
            Reply::Array(vec![Reply::Array(vec![])]),
            Reply::Array(vec![]),
            Reply::Nil,
        ] {
            assert!(!is_known(unknown.clone()), "{unknown:?}");
        }
    }

    #[test]
    fn one_confirmation_is_enough_and_none_is_not() {
        let limit = Duration::from_millis(500);
        assert_eq!(enough(1, "x", limit), Ok(()));
        assert_eq!(enough(2, "x", limit), Ok(()));
        assert!(matches!(
            enough(0, "no replica", limit),
            Err(StoreError::NotDurable(why)) if why.contains("no replica within 500ms")
        ));
    }
}
