//! The only loop: messages in, `update`, effects out, a frame when one is due. Nothing else waits.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::clock::{self, monotonic};
use crate::interrupt::Interrupt;
use crate::link::{Link, Target};
use crate::message::{Effect, LinkMsg, Msg};
use crate::model::{Model, Options};
use crate::terminal::{self, Terminal};
use crate::update::update;
use crate::view::view;
use crate::widgets::Ink;

/// Messages under way to the loop. Keys and link wait when it is full; neither is needed faster than it is drawn.
const MESSAGES: usize = 256;
/// Messages taken before the loop looks whether a frame is due.
const DRAIN: usize = 64;
/// Ages on the screen grow by the second.
const TICK: Duration = Duration::from_secs(1);

/// Everything a console needs to start.
pub(crate) struct Start {
    /// Looks, keys, rights.
    pub(crate) options: Options,
    /// Where the daemon may be.
    pub(crate) target: Target,
    /// Least time between two frames.
    pub(crate) frame: Duration,
    /// Folder for exports; `None` = there is no home.
    pub(crate) state: Option<PathBuf>,
    /// The process's signals.
    pub(crate) interrupt: Interrupt,
}

/// Runs the console until somebody quits.
///
/// # Errors
/// When the terminal cannot be used, or is lost while drawing.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let (tell, messages) = sync_channel(MESSAGES);
    let mut terminal = Terminal::open()?;
    let ended = {
        let tell_end = tell.clone();
        start.interrupt.on_end(move |n| {
            if n > 1 || tell_end.try_send(Msg::Stop).is_err() {
                // Asked twice, or the loop is stuck in a write: leave at once.
                terminal::restore();
                std::process::exit(130);
            }
        })?;
        terminal::listen(tell.clone())?;
        let link = Link::start(start.target, move |msg: LinkMsg| {
            tell.send(Msg::Link(msg)).is_ok()
        })?;
        let model = Model::new(start.options, terminal.size()?);
        let mut console = Loop {
            model,
            link,
            began: monotonic(),
            drawn: None,
            frame: start.frame,
            state: start.state,
        };
        console.turn(&mut terminal, &messages)
    };
    drop(terminal);
    ended
}

struct Loop {
    model: Model,
    link: Link,
    began: Instant,
    drawn: Option<Instant>,
    frame: Duration,
    state: Option<PathBuf>,
}

impl Loop {
    fn turn(&mut self, terminal: &mut Terminal, messages: &Receiver<Msg>) -> io::Result<()> {
        let mut is_dirty = true;
        let mut ticked = monotonic();
        loop {
            let now = monotonic();
            let frame_in = self.drawn.map_or(Duration::ZERO, |at| {
                (at + self.frame).saturating_duration_since(now)
            });
            if is_dirty && frame_in.is_zero() {
                self.draw(terminal)?;
                is_dirty = false;
                continue;
            }
            let tick_in = (ticked + TICK).saturating_duration_since(now);
            let wait = if is_dirty {
                frame_in.min(tick_in)
            } else {
                tick_in
            };
            let mut next = match messages.recv_timeout(wait) {
                Ok(msg) => Some(msg),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if next.is_none() && (ticked + TICK) <= monotonic() {
                next = Some(Msg::Tick);
            }
            let mut n = 0;
            while let Some(msg) = next {
                is_dirty = true;
                if self.take(terminal, msg)? {
                    return Ok(());
                }
                n += 1;
                next = if n < DRAIN {
                    messages.try_recv().ok()
                } else {
                    None
                };
            }
            // Also when messages never let the loop come to rest.
            if (ticked + TICK) <= monotonic() {
                ticked = monotonic();
                is_dirty = true;
                if self.take(terminal, Msg::Tick)? {
                    return Ok(());
                }
            }
        }
    }

    /// Takes a message and carries out what it wants; says whether to end.
    fn take(&mut self, terminal: &mut Terminal, msg: Msg) -> io::Result<bool> {
        let mut todo = vec![msg];
        while let Some(msg) = todo.pop() {
            let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            for effect in update(&mut self.model, now_ms, msg) {
                match effect {
                    Effect::Quit => return Ok(true),
                    Effect::Ask(ticket, question) => {
                        if let Err(fault) = self.link.ask(ticket, question) {
                            todo.push(Msg::Link(LinkMsg::Answer {
                                ticket,
                                answer: Err(fault),
                            }));
                        }
                    }
                    Effect::Reconnect => self.link.reconnect(),
                    Effect::Redraw => terminal.clear()?,
                    Effect::Copy(text) => {
                        let done = terminal.copy(&text)?;
                        todo.push(Msg::Done(match done {
                            Ok(n) => Ok(format!("sent {n} bytes to the clipboard: {text}")),
                            Err(why) => Err(format!("copy: {why}")),
                        }));
                    }
                    Effect::Export { name, content } => {
                        todo.push(Msg::Done(export(self.state.as_deref(), name, &content)));
                    }
                }
            }
        }
        Ok(false)
    }

    fn draw(&mut self, terminal: &mut Terminal) -> io::Result<()> {
        let model = &mut self.model;
        terminal.draw(|frame| {
            let area = frame.area();
            // The terminal may have changed its size before it said so.
            model.size = (area.width, area.height);
            let theme = model.options.theme;
            view(model, &mut Ink::new(frame.buffer_mut(), theme));
        })?;
        self.drawn = Some(monotonic());
        Ok(())
    }
}

/// Writes a file that only its owner may read; says where it is.
fn export(folder: Option<&std::path::Path>, name: &str, content: &str) -> Result<String, String> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let folder = folder.ok_or("export: no HOME and no XDG_STATE_HOME to write to")?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| format!("export: make {}: {error}", folder.display()))?;
    let stamp = clock::now_rfc3339().replace(':', "");
    let path = folder.join(format!("{}-{stamp}.csv", name.to_lowercase()));
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| format!("export: write {}: {error}", path.display()))?;
    Ok(format!("written: {}", path.display()))
}
