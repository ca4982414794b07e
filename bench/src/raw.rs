//! The raw limit: what a client could do at the very best that reads and acknowledges, and does nothing else.
//!
//! It looks at nothing but the lengths in a reply, copies the ids as they stand there into the acknowledgement, and has the
//! next read under way before it looks at the last one, so that the server never waits for it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Larger than a reply of 500 events, so that most replies take one or two reads.
const BUFFER: usize = 512 * 1024;
/// A server that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that skips replies.
pub(crate) struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// What was read and not yet skipped: `buffer[from..to]`.
    from: usize,
    to: usize,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER],
            from: 0,
            to: 0,
        })
    }

    pub(crate) fn send(&mut self, commands: &[u8]) -> Result<()> {
        self.stream.write_all(commands).context("write to redis")
    }

    fn more(&mut self) -> Result<()> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        if self.to == self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        let n = self
            .stream
            .read(&mut self.buffer[self.to..])
            .context("read from redis")?;
        ensure!(n > 0, "redis closed the connection");
        self.to += n;
        Ok(())
    }

    /// One header line `<kind><number>`; leaves its end in `from`.
    fn header(&mut self) -> Result<(u8, i64)> {
        loop {
            if let Some((kind, number, n)) = header(&self.buffer[self.from..self.to]) {
                if kind == b'-' {
                    let line = String::from_utf8_lossy(&self.buffer[self.from..self.from + n]);
                    bail!("redis said {}", line.trim_end());
                }
                self.from += n;
                return Ok((kind, number));
            }
            self.more()?;
        }
    }

    /// Skips one whole reply of any shape; an error reply is an error.
    pub(crate) fn skip_reply(&mut self) -> Result<()> {
        let mut open = 1;
        while open > 0 {
            open -= 1;
            match self.header()? {
                (b'*', n) => open += n.max(0),
                (b'$', n) if n >= 0 => {
                    self.bytes(n)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The bytes of a string whose header was read.
    fn bytes(&mut self, n: i64) -> Result<&[u8]> {
        let n = usize::try_from(n).unwrap_or(0);
        while self.to - self.from < n + 2 {
            self.more()?;
        }
        let at = self.from;
        self.from += n + 2;
        Ok(&self.buffer[at..at + n])
    }

    /// Sends one command whatever it answers; an error reply is an error.
    pub(crate) fn tell(&mut self, words: &[&str]) -> Result<()> {
        self.command(words)?;
        self.skip_reply()
    }

    fn command(&mut self, words: &[&str]) -> Result<()> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send(command.as_bytes())
    }

    /// Sends one command and returns a string or number as text; nothing for nil.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<Option<String>> {
        self.command(words)?;
        match self.header()? {
            (b'$', n) if n >= 0 => {
                let text = String::from_utf8_lossy(self.bytes(n)?).into_owned();
                Ok(Some(text))
            }
            (b'$' | b'*', -1) => Ok(None),
            (b':', n) => Ok(Some(n.to_string())),
            (b'+', _) => Ok(Some(String::new())),
            (kind, _) => bail!("a reply of kind {:?} to {words:?}", char::from(kind)),
        }
    }
}

/// `(kind, number, bytes of the line)`. The number is 0 where there is none, as in `+OK`.
#[inline]
fn header(bytes: &[u8]) -> Option<(u8, i64, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let mut number = 0_i64;
    let mut negative = false;
    for (i, &byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                number = number.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
            }
            b'-' => negative = true,
            b'\r' => {
                rest.get(i + 1)?;
                return Some((kind, if negative { -number } else { number }, i + 3));
            }
            _ => {}
        }
    }
    None
}

/// How long it took from the first read to the last acknowledgement.
pub(crate) fn drain(socket: &Path, n: u64, batch: u64) -> Result<Duration> {
    let mut client = Client::connect(socket)?;
    client.ask(&["XGROUP", "CREATE", "events", "raw", "0"])?;
    let read = format!(
        "*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$3\r\nraw\r\n$1\r\nc\r\n$5\r\nCOUNT\r\n${}\r\n{batch}\r\n$7\r\nSTREAMS\r\n$6\r\nevents\r\n$1\r\n>\r\n",
        batch.to_string().len()
    );
    let mut out = Vec::with_capacity(64 * 1024);
    let mut ids = Vec::with_capacity(64 * 1024);
    let begin = Instant::now();
    let mut seen = 0;
    // Of each read the acknowledgement comes back two replies later.
    client.send(read.as_bytes())?;
    client.send(read.as_bytes())?;
    let mut replies: std::collections::VecDeque<Expected> =
        [Expected::Entries, Expected::Entries].into();
    while let Some(expected) = replies.pop_front() {
        if let Expected::Acknowledged(n_ids) = expected {
            let (_, n_acked) = client.header()?;
            ensure!(
                n_acked == n_ids,
                "redis acknowledged {n_acked} of {n_ids} entries"
            );
            continue;
        }
        ids.clear();
        let n_ids = client.entry_ids(&mut ids)?;
        if n_ids == 0 {
            continue;
        }
        seen += n_ids.unsigned_abs();
        out.clear();
        write!(
            out,
            "*{}\r\n$4\r\nXACK\r\n$6\r\nevents\r\n$3\r\nraw\r\n",
            n_ids + 3
        )?;
        out.extend_from_slice(&ids);
        out.extend_from_slice(read.as_bytes());
        client.send(&out)?;
        replies.push_back(Expected::Acknowledged(n_ids));
        replies.push_back(Expected::Entries);
    }
    let took = begin.elapsed();
    ensure!(seen == n, "the raw client read {seen} entries of {n}");
    let left = client.ask(&["XLEN", "events"])?;
    ensure!(
        left == Some(n.to_string()),
        "the stream has {left:?} entries"
    );
    Ok(took)
}

enum Expected {
    Entries,
    Acknowledged(i64),
}

impl Client {
    /// Skips the reply of an XREADGROUP of one stream; appends the ids to `ids` as they came, which is also how they are
    /// sent. Returns how many.
    fn entry_ids(&mut self, ids: &mut Vec<u8>) -> Result<i64> {
        let (_, n_streams) = self.header()?;
        if n_streams < 0 {
            return Ok(0);
        }
        self.header()?; // stream and entries
        let (_, n_name) = self.header()?;
        self.bytes(n_name)?;
        let (_, n_entries) = self.header()?;
        for _ in 0..n_entries {
            self.header()?; // id and fields
            let (_, n_id) = self.header()?;
            let digits = u8::try_from(n_id).unwrap_or(0);
            ensure!(
                (10..100).contains(&digits),
                "an id of {n_id} bytes; the clock of this machine is wrong"
            );
            ids.extend_from_slice(&[b'$', b'0' + digits / 10, b'0' + digits % 10, b'\r', b'\n']);
            let id = self.bytes(n_id)?;
            ids.extend_from_slice(id);
            ids.extend_from_slice(b"\r\n");
            let (_, n_words) = self.header()?;
            for _ in 0..n_words {
                let (_, n) = self.header()?;
                self.bytes(n)?;
            }
        }
        Ok(n_entries)
    }
}
