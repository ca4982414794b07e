//! One connection of the hot loop: TCP, TLS or Unix socket, one command at a time, every wait with a deadline.
//!
//! Not shared and not cancel-safe: after a dropped or failed call the connection must be thrown away ([`Connection::call`]
//! marks it broken), because a reply may still be on its way.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::address::{Address, Transport};
use super::errors::from_reply;
use super::resp::{Command, REPLY_MAX, Reply, Scan, decode};
use crate::store::{Result, StoreError};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The read buffer shrinks back to this once a larger reply was handed out.
const BUFFER: usize = 64 * 1024;

pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    pub(super) out: Command,
    limit: Duration,
    broken: bool,
    /// Longest reply that is taken in; a longer one breaks the connection.
    pub(super) reply_max: usize,
}

impl Connection {
    /// Connects, says who we are (AUTH, SELECT) and gives the connection a name for CLIENT LIST.
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self> {
        let stream = timeout(address.timeout, connect(address))
            .await
            .map_err(|_| {
                StoreError::Unavailable(format!(
                    "connect to {}: no answer within {:?}",
                    address.shown, address.timeout
                ))
            })??;
        let mut connection = Self {
            stream,
            input: BytesMut::with_capacity(BUFFER),
            out: Command::default(),
            limit: address.timeout,
            broken: false,
            reply_max: REPLY_MAX,
        };
        connection.log_in(address, name).await.map_err(|error| {
            // Who stands between may take the connection and find nobody behind.
            match error {
                StoreError::Unavailable(why) => {
                    StoreError::Unavailable(format!("connect to {}: {why}", address.shown))
                }
                error => error,
            }
        })?;
        Ok(connection)
    }

    async fn log_in(&mut self, address: &Address, name: &str) -> Result<()> {
        if let Some(password) = &address.password {
            match &address.username {
                Some(user) => self.out.words(&["AUTH", user, password]),
                None => self.out.words(&["AUTH", password]),
            };
            self.call(Duration::ZERO).await?;
        }
        if address.database != 0 {
            self.out.words(&["SELECT", &address.database.to_string()]);
            self.call(Duration::ZERO).await?;
        }
        self.out.words(&["CLIENT", "SETNAME", name]);
        // An ACL may forbid it, and it is only for people who look at CLIENT LIST.
        match self.call(Duration::ZERO).await {
            Err(StoreError::Unavailable(error)) => Err(StoreError::Unavailable(error)),
            _ => Ok(()),
        }
    }

    /// Sends what was written to `out` and reads one reply; `block` is added to the deadline for a blocking command. An
    /// error reply is an `Err`.
    pub(super) async fn call(&mut self, block: Duration) -> Result<Reply> {
        let frame = self.call_undecoded(block).await?;
        decode(&frame).map_err(|e| StoreError::Bug(e.to_string()))
    }

    /// The same; the reply as it came, which is whole and no error.
    pub(super) async fn call_undecoded(&mut self, block: Duration) -> Result<Bytes> {
        if self.broken {
            return Err(StoreError::Unavailable(
                "the connection is broken".to_owned(),
            ));
        }
        // Until the reply is in, a dropped future leaves a connection that nobody may use again.
        self.broken = true;
        let limit = self.limit + block + self.out.allowance();
        let frame = timeout(limit, self.exchange()).await.map_err(|_| {
            StoreError::Unavailable(format!("no answer from redis within {limit:?}"))
        })??;
        self.broken = false;
        match frame.strip_prefix(b"-") {
            Some(error) => Err(from_reply(String::from_utf8_lossy(error).trim_end())),
            None => Ok(frame),
        }
    }

    /// Sends `n` commands written to `out` in one go and reads their replies; an error reply stays in its place.
    pub(super) async fn call_many(&mut self, n: usize) -> Result<Vec<Reply>> {
        if self.broken {
            return Err(StoreError::Unavailable(
                "the connection is broken".to_owned(),
            ));
        }
        self.broken = true;
        let limit = self.limit + self.out.allowance();
        let all = async {
            let mut replies = Vec::with_capacity(n);
            self.send().await?;
            for _ in 0..n {
                let frame = self.receive().await?;
                replies.push(decode(&frame).map_err(|e| StoreError::Bug(e.to_string()))?);
            }
            Ok(replies)
        };
        let replies: Result<Vec<Reply>> = timeout(limit, all).await.map_err(|_| {
            StoreError::Unavailable(format!("no answer from redis within {limit:?}"))
        })?;
        self.broken = replies.is_err();
        replies
    }

    async fn exchange(&mut self) -> Result<Bytes> {
        self.send().await?;
        self.receive().await
    }

    async fn send(&mut self) -> Result<()> {
        let out = self.out.take();
        self.stream
            .write_all(&out)
            .await
            .map_err(|e| lost("write to redis", &e))?;
        self.stream
            .flush()
            .await
            .map_err(|e| lost("write to redis", &e))
    }

    async fn receive(&mut self) -> Result<Bytes> {
        let mut scan = Scan::up_to(self.reply_max);
        loop {
            if let Some(n) = scan
                .advance(&self.input)
                .map_err(|e| StoreError::Bug(e.to_string()))?
            {
                let frame = self.input.split_to(n).freeze();
                if self.input.is_empty() {
                    self.input = BytesMut::with_capacity(BUFFER);
                }
                return Ok(frame);
            }
            // A giant's room at once: growing by doubling would take twice as much.
            self.input
                .reserve(scan.missing(self.input.len()).max(BUFFER));
            let n = self
                .stream
                .read_buf(&mut self.input)
                .await
                .map_err(|e| lost("read from redis", &e))?;
            if n == 0 {
                return Err(StoreError::Unavailable(
                    "redis closed the connection".to_owned(),
                ));
            }
        }
    }
}

fn lost(what: &str, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{what}: {error}"))
}

async fn connect(address: &Address) -> Result<Box<dyn Stream>> {
    let failed =
        |e: std::io::Error| StoreError::Unavailable(format!("connect to {}: {e}", address.shown));
    match &address.transport {
        Transport::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
        Transport::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Ok(Box::new(stream))
        }
        Transport::Tls { host, port, config } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let name = rustls::pki_types::ServerName::try_from(host.clone()).map_err(|_| {
                StoreError::Denied(format!("\"{host}\" is no name for a TLS certificate"))
            })?;
            let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
                .connect(name, stream)
                .await
                .map_err(|e| StoreError::Unavailable(format!("TLS with {}: {e}", address.shown)))?;
            Ok(Box::new(stream))
        }
    }
}
