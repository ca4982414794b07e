//! The bytes of a file or of stdin, decompressed, read by a thread of their own so that a slow input keeps neither Ctrl-C
//! nor what was read already from going on.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

use crate::failure::{Exit, Failure};

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks read ahead; when full the reader waits, so a fast disk does not fill the memory.
const CHUNKS: usize = 8;

/// What came of waiting for input.
#[derive(Debug)]
pub(super) enum Next {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing yet.
    Nothing,
    /// The end.
    End,
    /// It cannot be read further, and why.
    Broken(String),
}

/// An input that is being read.
#[derive(Debug)]
pub(super) struct Input {
    chunks: Receiver<Next>,
    n_read: Arc<AtomicU64>,
    /// Bytes of the file as it lies on the disk; `None` for a pipe.
    pub(super) size: Option<u64>,
}

impl Input {
    /// Opens the file, `-` for stdin.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let n_read = Arc::new(AtomicU64::new(0));
        let (source, size): (Box<dyn Read + Send>, Option<u64>) = if path.as_os_str() == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let failed = |error: io::Error| {
                Failure::new(Exit::Failed, format!("read {}: {error}", path.display()))
            };
            let file = File::open(path).map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            if meta.is_dir() {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("read {}: it is a folder", path.display()),
                ));
            }
            let size = meta.is_file().then_some(meta.len());
            (Box::new(file), size)
        };
        let (tx, chunks) = sync_channel(CHUNKS);
        let counted = Counted {
            source,
            n_read: Arc::clone(&n_read),
        };
        // Owned by the process: it ends with its input, or when nobody takes its chunks any more.
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || read(counted, &tx))
            .map_err(|error| Failure::new(Exit::Failed, format!("start reading: {error}")))?;
        Ok(Self {
            chunks,
            n_read,
            size,
        })
    }

    /// The next chunk, waiting at most this long.
    pub(super) fn next(&self, patience: Duration) -> Next {
        match self.chunks.recv_timeout(patience) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// Bytes read from the disk so far.
    pub(super) fn n_read(&self) -> u64 {
        self.n_read.load(Ordering::Relaxed)
    }
}

struct Counted {
    source: Box<dyn Read + Send>,
    n_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.n_read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Sends what the source holds, and at last how it ended.
fn read(mut source: Counted, tx: &SyncSender<Next>) {
    let mut head = Vec::new();
    let magic = match source.by_ref().take(2).read_to_end(&mut head) {
        Ok(_) => head == [0x1f, 0x8b],
        Err(error) => {
            let _ = tx.send(Next::Broken(error.to_string()));
            return;
        }
    };
    let whole = Cursor::new(head).chain(source);
    let ended = if magic {
        let buffered = io::BufReader::with_capacity(CHUNK_BYTES, whole);
        pump(MultiGzDecoder::new(buffered), tx).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the gzip stream is cut off".to_owned(),
            _ => format!("the gzip stream is broken: {error}"),
        })
    } else {
        pump(whole, tx).map_err(|error| error.to_string())
    };
    // Nobody listening is no fault: the command has ended.
    let _ = tx.send(match ended {
        Ok(()) => Next::End,
        Err(why) => Next::Broken(why),
    });
}

fn pump(mut source: impl Read, tx: &SyncSender<Next>) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let n = match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        chunk.truncate(n);
        if tx.send(Next::Bytes(chunk)).is_err() {
            return Ok(());
        }
    }
}
