//! RESP2 on the hot loop: commands are written into one buffer, replies are sliced out of the read buffer without copying.
//!
//! The redis crate decodes an XREADGROUP reply into a tree of owned values, which costs twelve times as much client CPU
//! as this (engine.md section 2). Only what the hot loop needs is here; everything else uses the redis crate.

use bytes::{Buf, Bytes, BytesMut};

/// A reply, its bytes shared with the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Nil,
    Int(i64),
    Simple(Bytes),
    Error(Bytes),
    Bulk(Bytes),
    Array(Vec<Reply>),
}

/// The peer does not speak RESP2, or sends more than we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad reply from redis: {0}")]
pub(super) struct BadReply(pub(super) String);

/// Longest reply accepted. A foreign client may have added entries far over `max_entry`, which still must be read to be
/// dead-lettered. 1 GiB is Redis' own limit of two strings of 512 MiB.
pub(super) const REPLY_MAX: usize = 1 << 30;
/// Longest reply with a batch of entries: a batch of giants is refused before it fills our memory, and its entries are
/// then read one by one.
pub(super) const BATCH_MAX: usize = 256 << 20;
/// Deepest nesting accepted; ours is 5.
const DEPTH_MAX: usize = 16;

/// Finds where a reply ends, over several reads without starting again.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    at: usize,
    open: u64,
    max: usize,
}

impl Scan {
    /// A reply of at most `max` bytes.
    pub(super) fn up_to(max: usize) -> Self {
        Self {
            at: 0,
            open: 1,
            max,
        }
    }

    /// Length of the first whole reply in `buffer`, or `None` while more must be read.
    pub(super) fn advance(&mut self, buffer: &[u8]) -> Result<Option<usize>, BadReply> {
        while self.open > 0 {
            let Some(rest) = buffer.get(self.at..) else {
                return Ok(None);
            };
            let Some(end) = find_crlf(rest) else {
                // A header line is short; anything else is no RESP.
                if rest.len() > 64 * 1024 && !matches!(rest.first(), Some(b'+' | b'-')) {
                    return Err(BadReply("a header line of over 64 KiB".to_owned()));
                }
                return Ok(None);
            };
            let line = &rest[..end];
            let mut next = self.at + end + 2;
            match line.first() {
                Some(b'+' | b'-' | b':') => {}
                Some(b'$') => {
                    let n = number(&line[1..])?;
                    if let Ok(n) = usize::try_from(n) {
                        next = next
                            .checked_add(n)
                            .and_then(|x| x.checked_add(2))
                            .ok_or_else(too_long)?;
                    }
                }
                Some(b'*') => {
                    if let Ok(n) = u64::try_from(number(&line[1..])?) {
                        self.open = self.open.checked_add(n).ok_or_else(too_long)?;
                    }
                }
                _ => {
                    return Err(BadReply(format!(
                        "a reply of unknown kind {:?}",
                        line.first().map(|b| char::from(*b))
                    )));
                }
            }
            if next > self.max {
                return Err(BadReply(format!("a reply of over {} MiB", self.max >> 20)));
            }
            if next > buffer.len() {
                // Bulk data is still on its way; the header is read again then, which is cheap.
                if matches!(line.first(), Some(b'*')) {
                    self.at = next;
                    self.open -= 1;
                    continue;
                }
                return Ok(None);
            }
            self.at = next;
            self.open -= 1;
        }
        Ok(Some(self.at))
    }
}

fn too_long() -> BadReply {
    BadReply("a reply longer than any".to_owned())
}

fn find_crlf(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == b'\r') {
        match bytes.get(from + at + 1) {
            Some(b'\n') => return Some(from + at),
            Some(_) => from += at + 1,
            None => return None,
        }
    }
    None
}

fn number(bytes: &[u8]) -> Result<i64, BadReply> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            BadReply(format!(
                "\"{}\" where a number belongs",
                bytes.escape_ascii()
            ))
        })
}

/// Decodes one whole reply; `frame` is exactly what [`Scan`] measured.
pub(super) fn decode(mut frame: Bytes) -> Result<Reply, BadReply> {
    decode_at(&mut frame, 0)
}

fn decode_at(frame: &mut Bytes, depth: usize) -> Result<Reply, BadReply> {
    if depth > DEPTH_MAX {
        return Err(BadReply("a reply nested too deep".to_owned()));
    }
    let end = find_crlf(frame).ok_or_else(|| BadReply("a cut reply".to_owned()))?;
    let line = frame.split_to(end);
    frame.advance(2);
    let rest = line.slice(1.min(line.len())..);
    match line.first() {
        Some(b'+') => Ok(Reply::Simple(rest)),
        Some(b'-') => Ok(Reply::Error(rest)),
        Some(b':') => Ok(Reply::Int(number(&rest)?)),
        Some(b'$') => match usize::try_from(number(&rest)?) {
            Err(_) => Ok(Reply::Nil),
            Ok(n) if frame.len() >= n + 2 => {
                let data = frame.split_to(n);
                frame.advance(2);
                Ok(Reply::Bulk(data))
            }
            Ok(_) => Err(BadReply("a cut string".to_owned())),
        },
        Some(b'*') => match usize::try_from(number(&rest)?) {
            Err(_) => Ok(Reply::Nil),
            Ok(n) => {
                // Never trust a length with memory: what is really there bounds it.
                let mut items = Vec::with_capacity(n.min(frame.len() / 4 + 1));
                for _ in 0..n {
                    items.push(decode_at(frame, depth + 1)?);
                }
                Ok(Reply::Array(items))
            }
        },
        _ => Err(BadReply("a reply of unknown kind".to_owned())),
    }
}

impl Reply {
    /// The items of an array; nil is an empty one.
    pub(super) fn items(self) -> Result<Vec<Self>, BadReply> {
        match self {
            Self::Array(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            other => Err(BadReply(format!("{} where a list belongs", other.kind()))),
        }
    }

    /// A string.
    pub(super) fn bytes(self) -> Result<Bytes, BadReply> {
        match self {
            Self::Bulk(bytes) | Self::Simple(bytes) => Ok(bytes),
            other => Err(BadReply(format!("{} where a string belongs", other.kind()))),
        }
    }

    /// A whole number, also as a string.
    pub(super) fn int(self) -> Result<i64, BadReply> {
        match self {
            Self::Int(n) => Ok(n),
            Self::Bulk(bytes) | Self::Simple(bytes) => number(&bytes),
            other => Err(BadReply(format!("{} where a number belongs", other.kind()))),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nothing",
            Self::Int(_) => "a number",
            Self::Simple(_) | Self::Bulk(_) => "a string",
            Self::Error(_) => "an error",
            Self::Array(_) => "a list",
        }
    }
}

/// Writes commands.
#[derive(Debug, Default)]
pub(super) struct Command {
    buffer: BytesMut,
}

impl Command {
    /// Starts a command of `n_args` words, its name included.
    pub(super) fn start(&mut self, n_args: usize) -> &mut Self {
        self.header(b'*', n_args);
        self
    }

    /// One word.
    pub(super) fn arg(&mut self, word: impl AsRef<[u8]>) -> &mut Self {
        let word = word.as_ref();
        self.header(b'$', word.len());
        self.buffer.extend_from_slice(word);
        self.buffer.extend_from_slice(b"\r\n");
        self
    }

    /// A whole command.
    pub(super) fn words<W: AsRef<[u8]>>(&mut self, words: &[W]) -> &mut Self {
        self.start(words.len());
        for word in words {
            self.arg(word);
        }
        self
    }

    fn header(&mut self, kind: u8, n: usize) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut n = n;
        loop {
            at -= 1;
            // n % 10 is below 10, so the cast cannot lose.
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.buffer.extend_from_slice(&[kind]);
        self.buffer.extend_from_slice(&digits[at..]);
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Takes what was written.
    pub(super) fn take(&mut self) -> BytesMut {
        self.buffer.split()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Option<Reply>, BadReply> {
        let mut scan = Scan::up_to(REPLY_MAX);
        match scan.advance(bytes)? {
            None => Ok(None),
            Some(n) => decode(Bytes::copy_from_slice(&bytes[..n])).map(Some),
        }
    }

    #[test]
    fn a_reply_is_found_whole_wherever_the_network_cuts_it() {
        let bytes = b"*2\r\n$3\r\na\rb\r\n*3\r\n:42\r\n$-1\r\n+OK\r\n";
        let whole = read(bytes).unwrap().unwrap();
        for step in 1..bytes.len() {
            let mut scan = Scan::up_to(REPLY_MAX);
            let mut seen = 0;
            let mut found = None;
            while found.is_none() {
                seen = (seen + step).min(bytes.len());
                found = scan.advance(&bytes[..seen]).unwrap();
                assert!(found.is_none() || seen == bytes.len());
            }
            assert_eq!(found, Some(bytes.len()));
        }
        let items = whole.items().unwrap();
        assert_eq!(items[0], Reply::Bulk(Bytes::from_static(b"a\rb")));
    }

    #[test]
    fn lengths_that_lie_are_refused_and_cost_no_memory() {
        assert!(read(b"$9999999999999999999\r\n").is_err());
        assert!(read(b"$99999999999\r\n").is_err());
        assert!(read(b"?\r\n").is_err());
        assert_eq!(read(b"*1000000000\r\n").unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn commands_decode_as_arrays_of_their_words(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8)) {
            let mut command = Command::default();
            command.words(&words);
            let reply = read(&command.take()).unwrap().unwrap();
            let back: Vec<Vec<u8>> = reply.items().unwrap().into_iter().map(|r| r.bytes().unwrap().to_vec()).collect();
            prop_assert_eq!(back, words);
        }
    }
}
