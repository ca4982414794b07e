//! Asks who is behind a socket. One short connection per question; what answers may be anything.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use tokio::net::UnixStream;

use super::super::info::Info;
use crate::logging::clean;

/// For one answer. A server that loads or waits for its disk answers late, so callers ask again rather than wait longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Who is there.
#[derive(Debug)]
pub(super) enum Who {
    /// Nobody listens.
    Nobody,
    /// Somebody listens and does not (yet) answer as Redis does; why, for a person.
    Silent(String),
    /// A server.
    Server(Server),
}

/// A server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// Changes with every start.
    pub(super) run_id: String,
    /// As it says itself.
    pub(super) pid: Option<u32>,
    /// How far it is while it loads; `None` = ready.
    pub(super) loading: Option<String>,
}

/// Asks once; takes about two seconds at most.
pub(super) async fn ask(socket: &Path) -> Who {
    match tokio::time::timeout(ANSWER_WITHIN, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => {}
        Ok(Err(fault))
            if matches!(
                fault.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Who::Nobody;
        }
        Ok(Err(fault)) => return Who::Silent(fault.to_string()),
        Err(_) => return Who::Silent("no answer".to_owned()),
    }
    let answer = async {
        let mut connection = connect(socket).await?;
        redis::cmd("INFO")
            .query_async::<String>(&mut connection)
            .await
    };
    // A deadline of our own around all: the handshake is several answers.
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(text)) => {
            let info = Info::parse(&text);
            if !info.has("run_id") {
                return Who::Silent("it answers, but not as Redis does".to_owned());
            }
            let pid = info
                .number("process_id")
                .and_then(|pid| u32::try_from(pid).ok());
            Who::Server(Server {
                run_id: info.text("run_id"),
                pid,
                loading: info.loading(),
            })
        }
        Ok(Err(fault)) => Who::Silent(clean(&fault.to_string())),
        Err(_) => Who::Silent("no answer".to_owned()),
    }
}

/// A connection with short limits.
pub(super) async fn connect(socket: &Path) -> RedisResult<MultiplexedConnection> {
    let client = Client::open(ConnectionAddr::Unix(socket.to_owned()))?;
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WITHIN))
        .set_response_timeout(Some(ANSWER_WITHIN));
    client
        .get_multiplexed_async_connection_with_config(&limits)
        .await
}
