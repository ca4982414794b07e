//! The thread that reads keys. Keys that follow one another faster than a person types are taken for a paste and never for
//! commands; bracketed paste stays off, because a paste that never ends would hold all keys.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::stdio::stdin;

use super::decode::Decoder;
use crate::keys::Key;
use crate::message::{Msg, PASTE_MAX};

/// Keys that follow one another without this pause are one burst. A key held down repeats every 25 ms or slower.
const QUIET: Duration = Duration::from_millis(3);

/// How long the rest of a key may take: longer than a line needs between two bytes of an arrow, shorter than a person
/// notices when Esc was meant.
const UNFINISHED: Duration = Duration::from_millis(30);

/// Keys of one burst that a person, or a script that types a command, may send. More are a paste.
const BURST_MAX: usize = 32;

/// After a paste everything belongs to it until this long nothing came.
const PASTE_QUIET: Duration = Duration::from_millis(250);

/// Reads keys for ever and tells them. The thread ends with the process, or when nobody listens (`tell` says no) or the
/// terminal is gone, which is told as [`Msg::Stop`]. It blocks on the terminal, and for a moment on `tell`.
///
/// # Errors
/// When the system has no thread left.
pub(crate) fn listen(tell: impl Fn(Msg) -> bool + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            if hear(&tell).is_err() {
                let _nobody = tell(Msg::Stop);
            }
        })?;
    Ok(())
}

fn hear(tell: &impl Fn(Msg) -> bool) -> io::Result<()> {
    let mut typed = Typed::default();
    let mut chunk = [0_u8; 4 * 1024];
    loop {
        if !wait(typed.patience())? {
            if !typed.end().into_iter().all(tell) {
                return Ok(());
            }
            continue;
        }
        match read(stdin(), &mut chunk) {
            // Hung up.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => typed.take(&chunk[..n]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until there is something to read; `false` when the patience is over.
fn wait(patience: Option<Duration>) -> io::Result<bool> {
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    loop {
        let stdin = stdin();
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What came without a pause.
#[derive(Debug, Default)]
struct Typed {
    decoder: Decoder,
    keys: Vec<Key>,
    text: String,
    n_keys: u64,
}

impl Typed {
    fn take(&mut self, bytes: &[u8]) {
        let mut decoder = std::mem::take(&mut self.decoder);
        for byte in bytes {
            decoder.take(*byte, &mut |key| self.press(key));
        }
        self.decoder = decoder;
    }

    fn press(&mut self, key: Key) {
        self.n_keys += 1;
        // A few megabytes of keys are not kept.
        if self.keys.len() <= BURST_MAX {
            self.keys.push(key);
        }
        if let Key::Char(c) = key
            && self.text.len() + c.len_utf8() <= PASTE_MAX
        {
            self.text.push(c);
        }
    }

    fn is_paste(&self) -> bool {
        self.n_keys > BURST_MAX as u64
    }

    /// How long nothing must come before this is all; `None` = nothing has come at all.
    fn patience(&self) -> Option<Duration> {
        if self.is_paste() {
            Some(PASTE_QUIET)
        } else if !self.decoder.is_whole() {
            Some(UNFINISHED)
        } else if self.n_keys > 0 {
            Some(QUIET)
        } else {
            None
        }
    }

    /// Nothing more came; begins anew.
    fn end(&mut self) -> Vec<Msg> {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.rest(&mut |key| self.press(key));
        let typed = std::mem::take(self);
        if typed.is_paste() {
            return vec![Msg::Paste {
                text: typed.text,
                n_keys: typed.n_keys,
            }];
        }
        typed.keys.into_iter().map(Msg::Key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(bytes: &[u8]) -> Vec<Msg> {
        let mut typed = Typed::default();
        for chunk in bytes.chunks(4_096) {
            typed.take(chunk);
        }
        let told = typed.end();
        assert_eq!(typed.patience(), None, "it begins anew");
        told
    }

    #[test]
    fn a_typed_command_is_keys_and_a_flood_is_a_paste() {
        let typed = burst(b"/idle>60s\r");
        assert_eq!(typed.len(), 10);
        assert!(matches!(typed.last(), Some(Msg::Key(Key::Enter))));
        let pasted = burst("xc\r".repeat(1_000_000).as_bytes());
        assert!(
            matches!(&pasted[..], [Msg::Paste { n_keys: 3_000_000, text }] if text.len() <= PASTE_MAX)
        );
    }

    #[test]
    fn it_waits_as_long_as_what_came_deserves() {
        let mut typed = Typed::default();
        assert_eq!(typed.patience(), None);
        typed.take(b"\x1b");
        assert_eq!(typed.patience(), Some(UNFINISHED));
        typed.take(b"[A");
        assert_eq!(typed.patience(), Some(QUIET));
        typed.take(&[b'j'; 64]);
        assert_eq!(typed.patience(), Some(PASTE_QUIET));
    }
}
