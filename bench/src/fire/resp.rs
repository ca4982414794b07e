//! A client of Redis that knows nothing of the product: commands as words, replies as values.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A server that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Int(i64),
    List(Vec<Value>),
    Nil,
    Error(String),
}

impl Value {
    /// A string as text, a number as its digits; empty for all else.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(n) => n.to_string(),
            Self::List(_) | Self::Nil | Self::Error(_) => String::new(),
        }
    }

    /// A number, also one written as text; 0 for all else.
    pub(crate) fn number(&self) -> u64 {
        self.text().parse().unwrap_or(0)
    }

    /// Its items; none for what is no list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The value after the item of this name, in a list of names and values.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let mut pairs = self.items().chunks_exact(2);
        pairs
            .find(|pair| pair[0].text() == name)
            .map(|pair| &pair[1])
    }
}

pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(256 * 1024, stream)))
    }

    /// How long it waits for a reply.
    pub(crate) fn wait_at_most(&self, limit: Duration) -> io::Result<()> {
        self.0.get_ref().set_read_timeout(Some(limit))
    }

    /// One command; an error reply is an error.
    pub(crate) fn call(&mut self, words: &[&str]) -> Result<Value> {
        let reply = self.try_call(words)?;
        if let Value::Error(error) = reply {
            bail!("redis answered {words:?} with {error}");
        }
        Ok(reply)
    }

    /// One command; an error reply is a value.
    pub(crate) fn try_call(&mut self, words: &[&str]) -> Result<Value> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.send(&command(&words)).context("write to redis")?;
        self.reply().context("read from redis")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line)?;
        let (Some(b"\r\n"), Some(&kind)) = (line.last_chunk::<2>().map(|c| &c[..]), line.first())
        else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let rest = String::from_utf8_lossy(&line[1..line.len() - 2]).into_owned();
        let number = || {
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("a reply {rest:?}"));
            rest.parse::<i64>().map_err(|_| wrong())
        };
        Ok(match kind {
            b'+' => Value::Text(rest.into_bytes()),
            b'-' => Value::Error(rest),
            b':' => Value::Int(number()?),
            b'$' => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(n) => {
                    let mut bytes = vec![0; n + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(n);
                    Value::Text(bytes)
                }
            },
            b'*' => match usize::try_from(number()?) {
                Err(_) => Value::Nil,
                Ok(n) => {
                    let mut items = Vec::with_capacity(n.min(10_000));
                    for _ in 0..n {
                        items.push(self.reply()?);
                    }
                    Value::List(items)
                }
            },
            _ => {
                let what = format!("a reply of kind {:?}", char::from(kind));
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        })
    }
}

/// A command as it is sent.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}
