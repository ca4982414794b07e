//! Profiles in Redis hashes: one HGETALL per key, all keys of a call in one pipeline over one shared connection.
//!
//! It reconnects by itself at the next call after the connection broke; how often that is tried is the cache's matter
//! (`cache`, error rest), so a dead server is not hammered. The caller names the server: this room knows no configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult, Value};

use super::port::{Answer, Lookup, LookupError};
use crate::record::Fields;

/// Most fields of one profile. Its fields are added to every record that looks it up, so a hash that somebody uses as a
/// table would turn each entry into a monster; such a key is an error of that key.
const N_FIELDS_MAX: usize = 256;

/// Most bytes of one profile, names and values together; the reason is the same.
const BYTES_MAX: usize = 64 * 1024;

/// The connection that all lookups of a daemon share. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Profiles {
    client: redis::Client,
    timeout: Duration,
    /// The living connection with its number; `None` = to be opened by the next call.
    link: Arc<Mutex<Link>>,
}

#[derive(Default)]
struct Link {
    n: u64,
    connection: Option<MultiplexedConnection>,
}

impl Profiles {
    /// `timeout` limits the opening of the connection and each call, apart. Does not connect yet.
    pub fn new(client: redis::Client, timeout: Duration) -> Self {
        Self {
            client,
            timeout,
            link: Arc::default(),
        }
    }

    /// The lookup of the hashes whose keys are `hash` and the key: `profile:` and `u1` make `profile:u1`.
    pub fn lookup(&self, hash: &str) -> Arc<dyn Lookup> {
        Arc::new(Hashes {
            profiles: self.clone(),
            hash: hash.as_bytes().into(),
        })
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), LookupError> {
        {
            let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(connection) = &link.connection {
                return Ok((link.n, connection.clone()));
            }
        }
        // Several workers may open one at the same time; the last stays, the others end with the calls that use them.
        // That is rarer and simpler than a lock held over the connect.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let opening = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        // The crate's own limit covers the TCP connect; this one also a server that accepts and then says nothing.
        let connection = tokio::time::timeout(self.timeout, opening)
            .await
            .map_err(|_| self.timed_out("connect to redis"))?
            .map_err(|error| LookupError(format!("connect to redis: {error}")))?;
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.n += 1;
        link.connection = Some(connection.clone());
        Ok((link.n, connection))
    }

    /// Throws connection `n` away, unless somebody has opened another one since.
    fn broken(&self, n: u64) {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.n == n {
            link.connection = None;
        }
    }

    fn timed_out(&self, what: &str) -> LookupError {
        LookupError(format!("{what}: no answer within {:?}", self.timeout))
    }
}

struct Hashes {
    profiles: Profiles,
    hash: Box<[u8]>,
}

#[async_trait]
impl Lookup for Hashes {
    async fn load(&self, keys: &[Bytes]) -> Result<Vec<Answer>, LookupError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::Pipeline::with_capacity(keys.len());
        for key in keys {
            pipe.cmd("HGETALL").arg([&self.hash[..], &key[..]].concat());
        }
        pipe.ignore_errors();
        let (n, mut connection) = self.profiles.connection().await?;
        let asking = pipe.query_async::<Vec<RedisResult<Value>>>(&mut connection);
        let answers = match tokio::time::timeout(self.profiles.timeout, asking).await {
            Ok(Ok(answers)) => answers,
            // Whatever it was, nothing is known of the connection's state; a new one costs one round trip.
            Ok(Err(error)) => {
                self.profiles.broken(n);
                return Err(LookupError(format!(
                    "read {} profiles: {error}",
                    keys.len()
                )));
            }
            Err(_) => {
                self.profiles.broken(n);
                return Err(self
                    .profiles
                    .timed_out(&format!("read {} profiles", keys.len())));
            }
        };
        whole_call_fails(&answers)?;
        Ok(answers
            .into_iter()
            .map(|answer| self.answer(answer))
            .collect())
    }
}

impl Hashes {
    fn answer(&self, answer: RedisResult<Value>) -> Answer {
        let hash = String::from_utf8_lossy(&self.hash);
        let value = answer
            .map_err(|error| LookupError(format!("read a profile at \"{hash}\": {error}")))?;
        let fields = fields(value)
            .map_err(|what| LookupError(format!("read a profile at \"{hash}\": {what}")))?;
        // To Redis a hash without fields and no hash at all are the same.
        Ok((!fields.is_empty()).then(|| Arc::new(fields)))
    }
}

/// A server that is loading, or that does not know us, answers so for every key: then it is the server that is away, not
/// the keys that are wrong, and old values may be used for all.
fn whole_call_fails(answers: &[RedisResult<Value>]) -> Result<(), LookupError> {
    let wrong_type = |error: &redis::RedisError| error.code() == Some("WRONGTYPE");
    let first = answers
        .iter()
        .find_map(|answer| answer.as_ref().err().filter(|error| !wrong_type(error)));
    match first {
        Some(error) => Err(LookupError(format!("read profiles: {error}"))),
        None => Ok(()),
    }
}

/// The fields of a hash: pairs in an array (RESP2) or a map (RESP3).
fn fields(value: Value) -> Result<Fields, String> {
    let unexpected = || "unexpected answer".to_owned();
    let mut fields = Fields::new();
    let mut n_bytes = 0;
    let mut add = |name: Value, value: Value| {
        let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else {
            return Err(unexpected());
        };
        n_bytes += name.len() + value.len();
        fields.push((Bytes::from(name), Bytes::from(value)));
        if fields.len() > N_FIELDS_MAX {
            return Err(format!("more than {N_FIELDS_MAX} fields"));
        }
        if n_bytes > BYTES_MAX {
            return Err(format!("more than {BYTES_MAX} bytes"));
        }
        Ok(())
    };
    match value {
        Value::Nil => {}
        Value::Map(pairs) => pairs
            .into_iter()
            .try_for_each(|(name, value)| add(name, value))?,
        Value::Array(items) => {
            let mut items = items.into_iter();
            while let Some(name) = items.next() {
                add(name, items.next().ok_or_else(unexpected)?)?;
            }
        }
        _ => return Err(unexpected()),
    }
    Ok(fields)
}

#[cfg(test)]
mod tests;
