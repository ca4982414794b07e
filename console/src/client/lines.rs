//! Lines from the socket: at most 1 MiB each, each wait bounded by a deadline and ended by Ctrl-C.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::error::ClientError;
use crate::clock::Deadline;
use crate::interrupt::Interrupt;

/// Bytes a line may have (contract.md, control socket), its newline included.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How long one read may block before Ctrl-C and the deadline are looked at again.
const SLICE: Duration = Duration::from_millis(100);

/// Splits what comes into lines.
#[derive(Debug)]
pub(super) struct LineReader {
    stream: UnixStream,
    interrupt: Interrupt,
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` known to hold no newline.
    searched: usize,
}

impl LineReader {
    pub(super) fn new(stream: UnixStream, interrupt: Interrupt) -> Self {
        Self {
            stream,
            interrupt,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next line without its newline. What was read of a line stays for the next call when time runs out.
    pub(super) fn next(&mut self, deadline: Deadline) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let end = self.searched + end;
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= LINE_BYTES_MAX {
                return Err(ClientError::Nonsense {
                    what: "a line longer than 1 MiB".to_owned(),
                });
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Deadline) -> Result<(), ClientError> {
        loop {
            if self.interrupt.seen() {
                return Err(ClientError::Interrupted);
            }
            if deadline.is_over() {
                return Err(ClientError::TimedOut { method: None });
            }
            let slice = deadline.slice(SLICE).max(Duration::from_millis(1));
            let io = |error| ClientError::from_io("read from the daemon", error);
            self.stream.set_read_timeout(Some(slice)).map_err(io)?;
            let mut chunk = [0_u8; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed { method: None }),
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(io(error)),
            }
        }
    }
}
