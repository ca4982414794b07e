//! The terminal: raw mode and the other screen, keys in, frames out. Restored on every path: normal end, panic, signal, and
//! when it no longer reads what is written.
//!
//! No mouse: nothing here needs it, and the terminal's own selection keeps working.

mod backend;
mod decode;
mod keyboard;

use std::io::{self, Stdout, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossterm::{cursor, execute, style, terminal};
use ratatui::Frame;
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

use backend::Mute;
pub(crate) use keyboard::listen;

/// How the terminal was before it became ours; `None` = it is not ours, so that it is given back once and not twice.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Ends colours, leaves the other screen, shows the cursor.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?25h";

/// How long a terminal may take to read [`LEAVE`] when the process must end.
const LEAVING: Duration = Duration::from_millis(100);

/// A frame is collected and written at once: about 2,500 small writes become one.
const BUFFER_BYTES: usize = 64 * 1024;

/// Longest text put on the clipboard, in bytes before its encoding; k9s caps the encoded form at 74,994.
const COPY_MAX: usize = 50_000;

type Out = io::BufWriter<Counted>;

/// Counts what goes out: the loop keeps the rate of a slow line by it.
struct Counted {
    out: Stdout,
    n_bytes: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.n_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The terminal while it is ours.
pub(crate) struct Terminal {
    inner: ratatui::Terminal<Mute<Out>>,
    n_bytes: Arc<AtomicU64>,
}

impl Terminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When stdin or stdout is no terminal, or does not do as told.
    pub(crate) fn open() -> io::Result<Self> {
        // Our theme knows NO_COLOR. crossterm's own way of honouring it resets all attributes with every colour, so that a
        // reversed cursor line would vanish (crossterm#1069).
        style::force_color_output(true);
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *ours() = Some(before);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
            // Another thread's panic would leave a console that draws on a terminal that is no longer its own, and waits
            // for a link or for keys that never come.
            if std::thread::current().name() != Some("main") {
                std::process::exit(101);
            }
        }));
        let opened = tcsetattr(stdin(), OptionalActions::Now, &raw)
            .map_err(io::Error::from)
            .and_then(|()| Self::draw_on());
        if opened.is_err() {
            restore();
        }
        opened
    }

    fn draw_on() -> io::Result<Self> {
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        let n_bytes = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            out: io::stdout(),
            n_bytes: Arc::clone(&n_bytes),
        };
        let out = io::BufWriter::with_capacity(BUFFER_BYTES, counted);
        let mut inner = ratatui::Terminal::new(Mute::new(out))?;
        inner.clear()?;
        Ok(Self { inner, n_bytes })
    }

    /// Draws one frame and writes what changed, at once; how many bytes that took.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<u64> {
        let before = self.n_bytes.load(Ordering::Relaxed);
        self.inner.draw(draw)?;
        Write::flush(self.inner.backend_mut())?;
        Ok(self.n_bytes.load(Ordering::Relaxed) - before)
    }

    /// Makes the next frame draw every cell.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    /// Puts text on the clipboard of the person's terminal (OSC 52), if that terminal allows it.
    pub(crate) fn copy(&mut self, text: &str) -> io::Result<Result<usize, &'static str>> {
        use base64::Engine as _;
        if text.len() > COPY_MAX {
            return Ok(Err("too long for the clipboard"));
        }
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let out = self.inner.backend_mut();
        write!(out, "\u{1b}]52;c;{encoded}\u{7}")?;
        Write::flush(out)?;
        Ok(Ok(text.len()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What is left of a frame belongs on the other screen.
        let _gone = Write::flush(self.inner.backend_mut());
        restore();
    }
}

/// Columns and rows.
///
/// # Errors
/// When the terminal is gone.
pub(crate) fn size() -> io::Result<(u16, u16)> {
    let size = backend::size()?;
    Ok((size.width, size.height))
}

fn ours() -> MutexGuard<'static, Option<Termios>> {
    // It is only ever replaced whole.
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back; harmless when it is not ours. Writes past `Stdout`, whose lock the thread that draws may hold.
pub(crate) fn restore() {
    if give_back_keys() {
        leave();
    }
}

/// The part that never blocks: how the terminal treats keys.
fn give_back_keys() -> bool {
    let Some(before) = ours().take() else {
        return false;
    };
    // A terminal that is gone cannot be restored, and there is nobody to tell.
    let _gone = tcsetattr(stdin(), OptionalActions::Now, &before);
    true
}

fn leave() {
    let mut rest = LEAVE;
    while !rest.is_empty() {
        match rustix::io::write(stdout(), rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Lets a write go on that waits for a terminal that does not read: what it has not read yet is thrown away.
pub(crate) fn unblock() {
    let _gone = tcflush(stdout(), QueueSelector::OFlush);
    // The kernel does not wake a writer for that, but a signal does; ours is the harmless one that tells of a new size.
    let _never = kill_process(getpid(), Signal::WINCH);
}

/// Gives the terminal back as far as that is possible at once, for a process that must end whatever holds it.
pub(crate) fn abandon() {
    if !give_back_keys() {
        return;
    }
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let writer = std::thread::Builder::new().spawn(move || {
        leave();
        let _late = tell.send(());
    });
    if writer.is_ok() {
        let _late = told.recv_timeout(LEAVING);
    }
}
