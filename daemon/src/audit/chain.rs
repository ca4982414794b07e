//! The chain of the audit file: how a row is hashed, and the check of a whole file. Knows nothing of who acts.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use pipectl_shared::snapshot;
use sha2::{Digest, Sha256};

use super::{BROKEN, INDEX_EVERY, head_path};

/// Hash before the first row.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// `,"hash":"` + 64 hex digits + `"}`: how every intact row ends.
const TAIL_LEN: usize = 9 + 64 + 2;
/// Longest line that can be one of ours: six texts, each byte escaped to at most six.
const LINE_MAX: u64 = 256 * 1024;
pub(super) fn chained(previous: &str, body: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(previous.as_bytes());
    hasher.update(body);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The hashed part and the claimed hash of a line, where it has the shape of a row.
fn split(line: &[u8]) -> Option<(&[u8], &str)> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL_LEN)?)?;
    let hash = tail.strip_prefix(br#","hash":""#)?.strip_suffix(br#""}"#)?;
    let hash = std::str::from_utf8(hash).ok()?;
    hash.bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then_some((body, hash))
}

pub(super) struct Checked {
    pub(super) n_rows: u64,
    pub(super) last_hash: String,
    pub(super) end: u64,
    pub(super) index: Vec<u64>,
    /// Line numbers where the chain does not hold, and what is wrong there.
    pub(super) breaks: Vec<(u64, &'static str)>,
    /// Line numbers that earlier rows named [`BROKEN`] already tell of.
    pub(super) known: Vec<u64>,
    /// Whether the last line has no end.
    pub(super) is_torn: bool,
}

pub(super) fn check(file: &File, path: &Path) -> io::Result<Checked> {
    let head = std::fs::read_to_string(head_path(path)).ok();
    let head = head.as_deref().and_then(|text| {
        let (n, hash) = text.trim_end().split_once(' ')?;
        Some((n.parse::<u64>().ok()?, hash.to_owned()))
    });
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut checked = Checked {
        n_rows: 0,
        last_hash: GENESIS.to_owned(),
        end: 0,
        index: Vec::new(),
        breaks: Vec::new(),
        known: Vec::new(),
        is_torn: false,
    };
    let mut line = Vec::new();
    while let Some(LineRead {
        n_bytes,
        is_ended,
        is_short,
    }) = next_line(&mut reader, &mut line)?
    {
        if checked.n_rows.is_multiple_of(INDEX_EVERY) {
            checked.index.push(checked.end);
        }
        checked.n_rows += 1;
        checked.end += n_bytes;
        checked.is_torn = !is_ended;
        let number = checked.n_rows;
        match split(&line).filter(|_| is_ended && is_short) {
            // Not in the chain: the rows around it are checked as if it were not there.
            None => checked.breaks.push((number, "the line is no row")),
            Some((body, claimed)) => {
                if chained(&checked.last_hash, body) != claimed {
                    let what = "the row or one before it was changed or cut out";
                    checked.breaks.push((number, what));
                } else if let Ok(row) = serde_json::from_slice::<snapshot::Audit>(&line)
                    && row.action == BROKEN
                {
                    checked
                        .known
                        .extend(row.target.split(',').filter_map(|n| n.parse::<u64>().ok()));
                }
                claimed.clone_into(&mut checked.last_hash);
            }
        }
        let is_other = head
            .as_ref()
            .is_some_and(|(n, hash)| *n == number && *hash != checked.last_hash);
        // After a break the numbers may have moved, so only the first one is told by this.
        if is_other && checked.breaks.is_empty() {
            checked
                .breaks
                .push((number, "it is not the row that was written last"));
        }
    }
    match &head {
        Some((n, hash)) if *n > checked.n_rows && *hash != checked.last_hash => {
            checked
                .breaks
                .push((checked.n_rows + 1, "rows were cut off at the end"));
        }
        None if checked.n_rows > 0 => {
            checked.breaks.push((
                checked.n_rows,
                "the file that remembers the last row is gone",
            ));
        }
        _ => {}
    }
    Ok(checked)
}

/// What reading one line brought.
pub(super) struct LineRead {
    pub(super) n_bytes: u64,
    /// Whether it ends with a newline: the file's last line may not.
    pub(super) is_ended: bool,
    /// Whether it is within [`LINE_MAX`].
    pub(super) is_short: bool,
}

/// Reads one line into `line` without its end; `None` = the end of the file. What is over the limit is passed over, so
/// that a foreign file cannot fill the memory.
pub(super) fn next_line(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
) -> io::Result<Option<LineRead>> {
    line.clear();
    let mut n_bytes = reader.by_ref().take(LINE_MAX).read_until(b'\n', line)? as u64;
    if n_bytes == 0 {
        return Ok(None);
    }
    if line.pop_if(|b| *b == b'\n').is_some() {
        return Ok(Some(LineRead {
            n_bytes,
            is_ended: true,
            is_short: true,
        }));
    }
    loop {
        let (n, is_end, is_ended) = {
            let chunk = reader.fill_buf()?;
            match chunk.iter().position(|b| *b == b'\n') {
                Some(at) => (at + 1, true, true),
                None => (chunk.len(), chunk.is_empty(), false),
            }
        };
        reader.consume(n);
        n_bytes += n as u64;
        if is_end {
            return Ok(Some(LineRead {
                n_bytes,
                is_ended,
                is_short: n_bytes <= LINE_MAX,
            }));
        }
    }
}
