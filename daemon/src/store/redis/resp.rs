//! RESP2 on the hot loop: commands are written into one buffer, replies are sliced out of the read buffer without copying.
//!
//! The redis crate decodes an XREADGROUP reply into a tree of owned values, which costs twelve times as much client CPU
//! as this (engine.md section 2). Only what the hot loop needs is here; everything else uses the redis crate.

use bytes::{Bytes, BytesMut};

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
    /// Where the part of the reply ends whose header was read.
    wanted: usize,
}

impl Scan {
    /// A reply of at most `max` bytes.
    pub(super) fn up_to(max: usize) -> Self {
        Self {
            at: 0,
            open: 1,
            max,
            wanted: 0,
        }
    }

    /// How many bytes are known to come after the `have` that are there; at most the greatest reply.
    pub(super) fn missing(&self, have: usize) -> usize {
        self.wanted.saturating_sub(have)
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
            self.wanted = next;
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
    let (digits, sign) = match bytes.split_first() {
        Some((b'-', digits)) => (digits, -1),
        _ => (bytes, 1),
    };
    // 18 digits always fit; what is longer is not on the hot path.
    if (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) {
        let digits = digits.iter();
        return Ok(sign * digits.fold(0, |n, digit| n * 10 + i64::from(digit - b'0')));
    }
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
pub(super) fn decode(frame: &Bytes) -> Result<Reply, BadReply> {
    Cursor::new(frame).reply(0)
}

/// Walks over one whole reply without a copy. For replies of a known and frequent shape it saves the tree of [`Reply`]s;
/// only strings that are asked for count a reference to the frame.
pub(super) struct Cursor<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(frame: &'a Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// A header line: its kind, and where the rest of it is.
    fn line(&mut self) -> Result<(u8, std::ops::Range<usize>), BadReply> {
        let cut = || BadReply("a cut reply".to_owned());
        let end =
            self.at + find_crlf(self.frame.get(self.at..).ok_or_else(cut)?).ok_or_else(cut)?;
        let kind = *self
            .frame
            .get(self.at)
            .filter(|_| end > self.at)
            .ok_or_else(|| BadReply("a reply of unknown kind".to_owned()))?;
        let rest = self.at + 1..end;
        self.at = end + 2;
        Ok((kind, rest))
    }

    /// The length of an array; nil is `None`.
    pub(super) fn array(&mut self) -> Result<Option<usize>, BadReply> {
        match self.line()? {
            (b'*', rest) => Ok(usize::try_from(number(&self.frame[rest])?).ok()),
            // Nil as RESP2 says it for strings.
            (b'$', rest) if &self.frame[rest.clone()] == b"-1" => Ok(None),
            (kind, _) => Err(BadReply(format!(
                "a reply of kind {:?} where a list belongs",
                char::from(kind)
            ))),
        }
    }

    /// How many items of an array are worth a place beforehand: never trust a length with memory, what is really there
    /// bounds it.
    pub(super) fn bounded(&self, n: usize) -> usize {
        n.min((self.frame.len() - self.at.min(self.frame.len())) / 4 + 1)
    }

    /// A string.
    pub(super) fn bulk(&mut self) -> Result<Bytes, BadReply> {
        match self.line()? {
            (b'$', rest) => self
                .string(rest)?
                .ok_or_else(|| BadReply("nothing where a string belongs".to_owned())),
            (kind, _) => Err(BadReply(format!(
                "a reply of kind {:?} where a string belongs",
                char::from(kind)
            ))),
        }
    }

    /// The string whose header is `header`; nil is `None`.
    fn string(&mut self, header: std::ops::Range<usize>) -> Result<Option<Bytes>, BadReply> {
        let Ok(n) = usize::try_from(number(&self.frame[header])?) else {
            return Ok(None);
        };
        let begin = self.at;
        let end = begin
            .checked_add(n)
            .filter(|end| {
                end.checked_add(2)
                    .is_some_and(|end| end <= self.frame.len())
            })
            .ok_or_else(|| BadReply("a cut string".to_owned()))?;
        self.at = end + 2;
        Ok(Some(self.frame.slice(begin..end)))
    }

    fn reply(&mut self, depth: usize) -> Result<Reply, BadReply> {
        if depth > DEPTH_MAX {
            return Err(BadReply("a reply nested too deep".to_owned()));
        }
        let (kind, rest) = self.line()?;
        match kind {
            b'+' => Ok(Reply::Simple(self.frame.slice(rest))),
            b'-' => Ok(Reply::Error(self.frame.slice(rest))),
            b':' => Ok(Reply::Int(number(&self.frame[rest])?)),
            b'$' => Ok(self.string(rest)?.map_or(Reply::Nil, Reply::Bulk)),
            b'*' => {
                let Ok(n) = usize::try_from(number(&self.frame[rest])?) else {
                    return Ok(Reply::Nil);
                };
                let mut items = Vec::with_capacity(self.bounded(n));
                for _ in 0..n {
                    items.push(self.reply(depth + 1)?);
                }
                Ok(Reply::Array(items))
            }
            _ => Err(BadReply("a reply of unknown kind".to_owned())),
        }
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

    /// What the deadline of a large command is longer by: a second for each 8 MiB, which a slow disk under an append-only
    /// file still takes. Without it the commit of a giant entry would be cut off and repeated for ever.
    pub(super) fn allowance(&self) -> std::time::Duration {
        std::time::Duration::from_secs((self.buffer.len() >> 23) as u64)
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
            Some(n) => decode(&Bytes::copy_from_slice(&bytes[..n])).map(Some),
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
