//! A plain client of the server for who watches the pipeline from outside and hurts the server on purpose: the guard of
//! experiments. It knows no keys and no scripts, and it never goes through the daemon's proxy.

use bytes::Bytes;

use super::address::Address;
use super::connection::Connection;
use super::resp::Reply;
use crate::store::{Result, StoreError};

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing there.
    Nil,
    /// A number.
    Int(i64),
    /// A string.
    Text(Bytes),
    /// The server refused.
    Error(String),
    /// Several.
    List(Vec<Answer>),
}

impl Answer {
    /// A string as text, a number as its digits; empty for all else.
    pub fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(n) => n.to_string(),
            Self::Nil | Self::Error(_) | Self::List(_) => String::new(),
        }
    }

    /// A number, also one written as text; `None` for all else.
    pub fn number(&self) -> Option<u64> {
        self.text().parse().ok()
    }

    /// Its items; none for what is no list.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The value behind this name, in a list of names and values.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let mut pairs = self.items().chunks_exact(2);
        pairs.find(|pair| pair[0].text() == name).map(|p| &p[1])
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Nil => Self::Nil,
            Reply::Int(n) => Self::Int(n),
            Reply::Simple(text) | Reply::Bulk(text) => Self::Text(text),
            Reply::Error(text) => Self::Error(String::from_utf8_lossy(&text).into_owned()),
            Reply::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
        }
    }
}

/// One connection. Not cancel-safe: after a dropped or failed call it must be opened anew.
pub struct Outside(Connection);

impl Outside {
    /// Connects and logs in.
    ///
    /// # Errors
    /// When the server does not take the connection within the address' limit.
    pub async fn open(address: &Address) -> Result<Self> {
        Ok(Self(Connection::open(address, "chaos-guard").await?))
    }

    /// One command.
    ///
    /// # Errors
    /// When no answer comes in time, or the answer is an error.
    pub async fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Answer> {
        self.add(words);
        match self.send(1).await?.pop() {
            Some(Answer::Error(why)) => Err(super::errors::from_reply(&why)),
            Some(answer) => Ok(answer),
            None => Err(StoreError::Bug("no reply".to_owned())),
        }
    }

    /// A command for the next [`Outside::send`].
    pub fn add<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        self.0.out.words(words);
    }

    /// Sends the `n` commands that were added, and returns their answers; a refusal stays in its place.
    ///
    /// # Errors
    /// When the connection breaks or no answer comes in time.
    pub async fn send(&mut self, n: usize) -> Result<Vec<Answer>> {
        let replies = self.0.call_many(n).await?;
        Ok(replies.into_iter().map(Answer::from).collect())
    }
}
