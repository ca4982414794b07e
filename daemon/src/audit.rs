//! The audit file: one hash-chained row per action of an operator, also for refused and failed ones.
//!
//! Append-only JSON lines, flushed to the disk row by row. Each row's `hash` is SHA-256 over the previous row's hash and
//! this row's own bytes, and a small file beside it (`<path>.head`) remembers the last row, so that a change, a cut in the
//! middle and a cut at the end show when the file is opened next. It protects against accident and quiet editing, not
//! against somebody who may write both files and computes the whole chain anew. Text is kept as it was given; whoever
//! shows it cleans it. Called by doors (commands, refusals) and plans.

mod chain;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::snapshot::{self, Page};
use pipectl_shared::untrusted::escape_json;

use self::chain::{chained, check, next_line};
use crate::clock::Clock;
use crate::journal::{Journal, Level};

/// Name of the row that says where the chain was found broken.
pub const BROKEN: &str = "audit.broken";
/// Longest text of one field, in bytes; a door refuses longer reasons, so that a cut here is rare.
const TEXT_MAX: usize = 4 * 1024;
/// An offset is remembered for every so many rows: a page then reads at most this many rows too much.
const INDEX_EVERY: u64 = 100;
/// Rows of a page are cut when they are larger than this together; the page is then shorter than asked for.
const PAGE_BYTES_MAX: usize = 192 * 1024;

/// Cheap to clone; all clones are one file.
#[derive(Clone)]
pub struct Audit {
    log: Arc<Mutex<Log>>,
    clock: Arc<dyn Clock>,
    journal: Journal,
}

/// What an operator did, or was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Act {
    /// Login name.
    pub user: String,
    /// User id.
    pub uid: u32,
    /// Process id of the peer, where known.
    pub pid: Option<i32>,
    /// Method or command.
    pub action: String,
    /// On what.
    pub target: String,
    /// Why, as the operator gave it.
    pub reason: Option<String>,
    /// `ok`, `refused: ...`, `failed: ...`, with counts.
    pub result: String,
}

struct Log {
    path: PathBuf,
    file: File,
    /// Lines in the file; the next row gets the number after it as its `seq`.
    n_rows: u64,
    last_hash: String,
    end: u64,
    /// Offsets of the lines 1, 101, 201, ...
    index: Vec<u64>,
}

impl Audit {
    /// Opens or creates the file, checks the whole chain (reading it once, line by line) and goes on after its last row.
    /// A break is told in the journal at every start and gets one row, [`BROKEN`], the first time it is seen. Blocks.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, journal: &Journal) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(path)?;
        let checked = check(&file, path)?;
        let mut log = Log {
            path: path.to_owned(),
            file,
            n_rows: checked.n_rows,
            last_hash: checked.last_hash,
            end: checked.end,
            index: checked.index,
        };
        if checked.is_torn {
            log.file.write_all(b"\n")?;
            log.end += 1;
        }
        if log.n_rows == 0 && checked.breaks.is_empty() {
            log.write_head()?;
        }
        let audit = Self {
            log: Arc::new(Mutex::new(log)),
            clock,
            journal: journal.clone(),
        };
        audit.tell_breaks(&checked.breaks, &checked.known)?;
        Ok(audit)
    }

    fn tell_breaks(&self, breaks: &[(u64, &'static str)], known: &[u64]) -> io::Result<()> {
        let Some((first_line, what)) = breaks.first() else {
            return Ok(());
        };
        let detail = format!(
            "{} in the audit file, first at line {first_line}: {what}",
            count_breaks(breaks.len())
        );
        self.journal
            .tell(Level::Warning, BROKEN, None, detail.clone());
        let new: Vec<_> = breaks
            .iter()
            .filter(|(line, _)| !known.contains(line))
            .take(100)
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = new.iter().map(|(line, _)| line.to_string()).collect();
        let act = Act {
            user: "pipelined".to_owned(),
            pid: i32::try_from(std::process::id()).ok(),
            action: BROKEN.to_owned(),
            target: lines.join(","),
            result: format!("failed: {detail}"),
            ..Act::default()
        };
        self.append(&act).map(drop)
    }

    /// Adds one row and returns its number when it is on the disk. Not cancelled by dropping: the row is then written
    /// nevertheless. An error is also told in the journal, because the action itself has happened by then.
    pub async fn record(&self, act: Act) -> io::Result<u64> {
        let audit = self.clone();
        let written = tokio::task::spawn_blocking(move || audit.append(&act))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)));
        if let Err(error) = &written {
            let text = format!("an action could not be written to the audit file: {error}");
            self.journal
                .tell(Level::Error, "audit.unwritable", None, text);
        }
        written
    }

    /// As [`Audit::record`], on this thread: it blocks on the disk. Errors are only returned.
    pub fn append(&self, act: &Act) -> io::Result<u64> {
        let ts = self.clock.now_rfc3339();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.append(act, ts)
    }

    /// Rows, newest last. Without a cursor the newest ones, and `next` leads to older rows; with `after:N` those after
    /// row N, and `next` leads to newer ones. A bare number is `after:`. Errors: `InvalidInput` = no such cursor.
    pub async fn page(
        &self,
        cursor: Option<&str>,
        limit: usize,
    ) -> io::Result<Page<snapshot::Audit>> {
        let cursor = cursor.map(Cursor::parse).transpose()?;
        let log = Arc::clone(&self.log);
        tokio::task::spawn_blocking(move || read_page(&log, cursor, limit))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

fn count_breaks(n: usize) -> String {
    if n == 1 {
        "1 break".to_owned()
    } else {
        format!("{n} breaks")
    }
}

impl Log {
    fn append(&mut self, act: &Act, ts: String) -> io::Result<u64> {
        let seq = self.n_rows + 1;
        let row = snapshot::Audit {
            seq,
            ts,
            user: clip(&act.user),
            uid: act.uid,
            pid: act.pid,
            action: clip(&act.action),
            target: clip(&act.target),
            reason: act.reason.as_deref().map(clip),
            result: clip(&act.result),
            hash: String::new(),
        };
        // People read this file with cat: nothing that a caller named may move their cursor.
        let mut line = escape_json(&serde_json::to_string(&row)?);
        line.truncate(line.len() - r#","hash":""}"#.len());
        let hash = chained(&self.last_hash, line.as_bytes());
        line.push_str(r#","hash":""#);
        line.push_str(&hash);
        line.push_str("\"}\n");
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Part of a line would break the chain of the rows to come. If even this fails, the next open says so.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        if self.n_rows.is_multiple_of(INDEX_EVERY) {
            self.index.push(self.end);
        }
        self.n_rows = seq;
        self.end += line.len() as u64;
        self.last_hash = hash;
        self.write_head()?;
        Ok(seq)
    }

    /// Remembers the last row beside the file. Not flushed: after a power cut an older head is as good, because it only
    /// says how far the file must at least go.
    fn write_head(&self) -> io::Result<()> {
        let path = head_path(&self.path);
        let temporary = path.with_extension("head.new");
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        writeln!(file, "{} {}", self.n_rows, self.last_hash)?;
        std::fs::rename(&temporary, &path)
    }
}

fn head_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".head");
    PathBuf::from(name)
}

fn clip(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_MAX)].to_owned()
}

#[derive(Debug, Clone, Copy)]
enum Cursor {
    After(u64),
    Before(u64),
}

impl Cursor {
    fn parse(text: &str) -> io::Result<Self> {
        let parsed = match text.split_once(':') {
            Some(("before", n)) => n.parse().ok().map(Self::Before),
            Some(("after", n)) => n.parse().ok().map(Self::After),
            Some(_) => None,
            None => text.parse().ok().map(Self::After),
        };
        parsed.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "no such cursor (after:N or before:N)",
            )
        })
    }
}

fn read_page(
    log: &Mutex<Log>,
    cursor: Option<Cursor>,
    limit: usize,
) -> io::Result<Page<snapshot::Audit>> {
    let limit = limit as u64;
    let (path, n_rows, first, past, offset, skip) = {
        let log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, past) = match cursor {
            Some(Cursor::After(n)) => {
                let first = n.min(log.n_rows) + 1;
                (first, (first + limit).min(log.n_rows + 1))
            }
            Some(Cursor::Before(n)) => {
                let past = n.clamp(1, log.n_rows + 1);
                (past.saturating_sub(limit).max(1), past)
            }
            None => (
                (log.n_rows + 1).saturating_sub(limit).max(1),
                log.n_rows + 1,
            ),
        };
        let slot = usize::try_from((first - 1) / INDEX_EVERY).unwrap_or(usize::MAX);
        let offset = log.index.get(slot).copied().unwrap_or(log.end);
        (
            log.path.clone(),
            log.n_rows,
            first,
            past,
            offset,
            (first - 1) % INDEX_EVERY,
        )
    };
    let mut reader = BufReader::new(File::open(path)?);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    for _ in 0..skip {
        next_line(&mut reader, &mut line)?;
    }
    let mut rows = Vec::new();
    for number in first..past {
        if next_line(&mut reader, &mut line)?.is_none() {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(row) => rows.push((number, line.len(), row)),
            Err(_) => rows.push((number, 0, unreadable(number))),
        }
    }
    let forward = matches!(cursor, Some(Cursor::After(_)));
    cut(&mut rows, forward);
    let next = match (rows.first(), rows.last()) {
        (_, Some((last, ..))) if forward && *last < n_rows => Some(format!("after:{last}")),
        (Some((first, ..)), _) if !forward && *first > 1 => Some(format!("before:{first}")),
        _ => None,
    };
    Ok(Page {
        rows: rows.into_iter().map(|(_, _, row)| row).collect(),
        next,
        total: Some(n_rows),
    })
}

fn unreadable(seq: u64) -> snapshot::Audit {
    snapshot::Audit {
        seq,
        action: "unreadable".to_owned(),
        result: "failed: this line of the audit file was cut or changed".to_owned(),
        ..snapshot::Audit::default()
    }
}

/// Cuts what makes the page too large, at the end from which the next page goes on; keeps at least one row.
fn cut(rows: &mut Vec<(u64, usize, snapshot::Audit)>, forward: bool) {
    let mut sum = 0;
    let mut fits = |(_, size, _): &&(u64, usize, snapshot::Audit)| {
        sum += size;
        sum <= PAGE_BYTES_MAX
    };
    if forward {
        let n = rows.iter().take_while(&mut fits).count().max(1);
        rows.truncate(n);
    } else {
        let n = rows
            .iter()
            .rev()
            .take_while(&mut fits)
            .count()
            .max(1)
            .min(rows.len());
        rows.drain(..rows.len() - n);
    }
}
