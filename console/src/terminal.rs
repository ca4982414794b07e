//! The terminal: raw mode and the other screen, keys in, frames out. Restored on every path: normal end, panic, signal.
//!
//! Bracketed paste stays off: crossterm 0.29 waits for its end for ever when it never comes (crossterm#1060). Instead,
//! keys that arrive faster than a person types are taken for a paste and never for commands. No mouse: nothing here needs
//! it, and the terminal's own selection keeps working.

use std::io::{self, Stdout, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read};
use crossterm::{cursor, execute, style, terminal};
use ratatui::Frame;
use ratatui::backend::CrosstermBackend;

use crate::keys::Key;
use crate::message::{Msg, PASTE_MAX};

/// Whether the terminal is ours, so that it is given back once and not twice.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// A frame is collected and written at once: about 2,500 small writes become one.
const BUFFER_BYTES: usize = 64 * 1024;

/// Keys that follow one another without this pause are one burst. A key held down repeats every 25 ms or slower.
const QUIET: Duration = Duration::from_millis(3);

/// Keys of one burst that a person, or a script that types a command, may send. More are a paste.
const BURST_MAX: usize = 32;

/// After a paste everything belongs to it until this long nothing came.
const PASTE_QUIET: Duration = Duration::from_millis(100);

/// Longest text put on the clipboard, in bytes before its encoding; k9s caps the encoded form at 74,994.
const COPY_MAX: usize = 50_000;

/// Counts what goes out, so that the rate can be told.
#[derive(Debug)]
pub(crate) struct Counted<W> {
    inner: W,
    bytes: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

type Out = io::BufWriter<Counted<Stdout>>;

/// The terminal while it is ours.
pub(crate) struct Terminal {
    inner: ratatui::Terminal<CrosstermBackend<Out>>,
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
        terminal::enable_raw_mode()?;
        IS_OURS.store(true, Ordering::SeqCst);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
        let opened = Self::draw_on();
        if opened.is_err() {
            restore();
        }
        opened
    }

    fn draw_on() -> io::Result<Self> {
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        let out = io::BufWriter::with_capacity(
            BUFFER_BYTES,
            Counted {
                inner: io::stdout(),
                bytes: Arc::new(AtomicU64::new(0)),
            },
        );
        let mut inner = ratatui::Terminal::new(CrosstermBackend::new(out))?;
        inner.clear()?;
        Ok(Self { inner })
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.inner.size()?;
        Ok((size.width, size.height))
    }

    /// Draws one frame and writes what changed, at once.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.inner.draw(draw)?;
        self.inner.backend_mut().flush()
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
        out.flush()?;
        Ok(Ok(text.len()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back; harmless when it is not ours.
pub(crate) fn restore() {
    if !IS_OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone cannot be restored, and there is nobody to tell.
    let _gone = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    let _gone = terminal::disable_raw_mode();
}

/// Reads keys for ever and tells them. The thread ends with the process, or when nobody listens or the terminal is gone.
///
/// # Errors
/// When the system has no thread left.
pub(crate) fn listen(tell: SyncSender<Msg>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            let heard = hear(&tell);
            if heard.is_err() {
                let _nobody = tell.send(Msg::Stop);
            }
        })?;
    Ok(())
}

fn hear(tell: &SyncSender<Msg>) -> io::Result<()> {
    loop {
        let mut burst = Burst::default();
        burst.take(read()?, tell);
        while poll(burst.quiet())? {
            burst.take(read()?, tell);
        }
        for msg in burst.end() {
            if tell.send(msg).is_err() {
                return Ok(());
            }
        }
    }
}

/// Keys that came without a pause.
#[derive(Debug, Default)]
struct Burst {
    keys: Vec<Key>,
    text: String,
    n_keys: u64,
}

impl Burst {
    fn take(&mut self, event: Event, tell: &SyncSender<Msg>) {
        match event {
            Event::Resize(columns, rows) => {
                let _nobody = tell.send(Msg::Resize(columns, rows));
            }
            Event::Key(event) => {
                if let Some(key) = key_of(event) {
                    self.press(key);
                }
            }
            Event::FocusGained | Event::FocusLost | Event::Mouse(_) => {}
            #[allow(
                unreachable_patterns,
                reason = "other features of crossterm add events"
            )]
            _ => {}
        }
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

    fn quiet(&self) -> Duration {
        if self.is_paste() { PASTE_QUIET } else { QUIET }
    }

    fn end(self) -> Vec<Msg> {
        if self.is_paste() {
            return vec![Msg::Paste {
                text: self.text,
                n_keys: self.n_keys,
            }];
        }
        self.keys.into_iter().map(Msg::Key).collect()
    }
}

fn key_of(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    // Alt is never asked for: many terminals send it as Esc and a key.
    let is_ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    Some(match event.code {
        // Terminals send Ctrl-\ as byte 0x1c, which crossterm calls Ctrl-4.
        KeyCode::Char('4') if is_ctrl => Key::Ctrl('\\'),
        KeyCode::Char(c) if is_ctrl => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(keys: impl IntoIterator<Item = Key>) -> Vec<Msg> {
        let mut burst = Burst::default();
        for key in keys {
            burst.press(key);
        }
        burst.end()
    }

    #[test]
    fn a_typed_command_is_keys_and_a_flood_is_a_paste() {
        let typed = burst("/idle>60s".chars().map(Key::Char).chain([Key::Enter]));
        assert_eq!(typed.len(), 10);
        assert!(matches!(typed.last(), Some(Msg::Key(Key::Enter))));
        let pasted = burst("xc\t".repeat(1_000_000).chars().map(|c| match c {
            '\t' => Key::Enter,
            c => Key::Char(c),
        }));
        assert!(
            matches!(&pasted[..], [Msg::Paste { n_keys: 3_000_000, text }] if text.len() <= PASTE_MAX)
        );
    }

    #[test]
    fn keys_are_named_as_people_press_them() {
        let key = |code, modifiers| key_of(KeyEvent::new(code, modifiers));
        let ctrl = KeyModifiers::CONTROL;
        assert_eq!(key(KeyCode::Char('4'), ctrl), Some(Key::Ctrl('\\')));
        assert_eq!(key(KeyCode::Char('C'), ctrl), Some(Key::Ctrl('c')));
        assert_eq!(
            key(KeyCode::Char('G'), KeyModifiers::SHIFT),
            Some(Key::Char('G'))
        );
        assert_eq!(key(KeyCode::F(1), KeyModifiers::NONE), None);
    }
}
