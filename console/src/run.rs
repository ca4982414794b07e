//! The only loop: messages in, `update`, effects out, a frame when one is due. Nothing else waits.
//!
//! Four threads tell it things: keys, signals (two), the link's keeper. They may wait for it; it waits for none of them. What
//! can hold it is a terminal that does not read what is drawn: then keys and link wait too, only the newest Snapshot is
//! kept, and a signal still ends the process within a second.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipectl_shared::snapshot::Snapshot;

use crate::clock::{self, Deadline, monotonic};
use crate::failure::Exit;
use crate::interrupt::Interrupt;
use crate::keys::Key;
use crate::link::{Link, Target};
use crate::message::{Effect, LinkMsg, Msg};
use crate::model::{Layer, Model, Options, PlanStep};
use crate::terminal::{self, Terminal};
use crate::update::update;
use crate::view::view;
use crate::widgets::Ink;

/// Messages under way to the loop. Keys and link wait when it is full; neither is needed faster than it is drawn.
const MESSAGES: usize = 64;
/// Messages taken before the loop looks whether a frame is due.
const DRAIN: usize = 64;
/// Ages on the screen grow by the second.
const TICK: Duration = Duration::from_secs(1);
/// How long the loop may take to end when a signal asks for it, and then once more when the terminal held it.
const END: Duration = Duration::from_millis(400);

/// Everything a console needs to start.
pub(crate) struct Start {
    /// Looks, keys, rights.
    pub(crate) options: Options,
    /// Where the daemon may be.
    pub(crate) target: Target,
    /// Time a frame, in the long run.
    pub(crate) frame: Duration,
    /// Folder for exports; `None` = there is no home.
    pub(crate) state: Option<PathBuf>,
    /// The process's signals.
    pub(crate) interrupt: Interrupt,
}

/// What the threads tell the loop.
enum Told {
    Msg(Msg),
    /// A key or a paste, and when it was read.
    Typed(Instant, Msg),
    /// There is a Snapshot in [`Newest`].
    Snapshot,
}

/// The newest Snapshot that was not taken yet. A loop that stands still finds one and not a queue of them.
type Newest = Arc<Mutex<Option<Box<Snapshot>>>>;

/// Runs the console until somebody quits.
///
/// # Errors
/// When the terminal cannot be used, or is lost while drawing.
pub(crate) fn run(start: Start) -> io::Result<()> {
    let (tell, told) = sync_channel(MESSAGES);
    // Before the terminal is ours, so that no signal can leave it behind.
    let tell_end = tell.clone();
    start.interrupt.on_end(move || end(&tell_end))?;
    let tell_size = tell.clone();
    start.interrupt.on_resize(move || {
        // When there is no room the next frame finds out.
        if let Ok((columns, rows)) = terminal::size() {
            let _full = tell_size.try_send(Told::Msg(Msg::Resize(columns, rows)));
        }
    })?;
    let mut terminal = Terminal::open()?;
    let tell_keys = tell.clone();
    terminal::listen(move |msg| tell_keys.send(Told::Typed(monotonic(), msg)).is_ok())?;
    let newest = Newest::default();
    let put = Arc::clone(&newest);
    let link = Link::start(start.target, move |msg| tell_link(&tell, &put, msg))?;
    let mut console = Loop {
        model: Model::new(start.options, terminal::size()?),
        link,
        newest,
        began: monotonic(),
        pace: Pace::new(start.frame),
        state: start.state,
        seen: Seen::default(),
    };
    // The link hears of the end when the console is dropped, the terminal is given back when it is, in this order.
    console.turn(&mut terminal, &told)
}

fn tell_link(tell: &SyncSender<Told>, newest: &Newest, msg: LinkMsg) -> bool {
    let LinkMsg::Stats(snapshot) = msg else {
        return tell.send(Told::Msg(Msg::Link(msg))).is_ok();
    };
    let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
    let is_told = newest.replace(snapshot).is_some();
    drop(newest);
    is_told || tell.send(Told::Snapshot).is_ok()
}

/// Sees to the end of the process: by the loop, which gives the terminal back in order; if the terminal holds it, by letting
/// it go; and if even that does not help, here.
fn end(tell: &SyncSender<Told>) {
    let mut is_told = false;
    let mut ask = |patience: Duration, meanwhile: &dyn Fn()| {
        let deadline = Deadline::after(patience);
        while !deadline.is_over() {
            is_told = is_told || tell.try_send(Told::Msg(Msg::Stop)).is_ok();
            meanwhile();
            clock::pause(Duration::from_millis(20));
        }
    };
    ask(END, &|| {});
    ask(END, &terminal::unblock);
    terminal::abandon();
    std::process::exit(i32::from(Exit::Interrupted.code()));
}

struct Loop {
    model: Model,
    link: Link,
    newest: Newest,
    began: Instant,
    pace: Pace,
    state: Option<PathBuf>,
    seen: Seen,
}

/// Frames that may be drawn at once after a rest.
const AT_ONCE: u32 = 3;

/// Bytes a second that frames may take in the long run: a slow line queues what is more, and keys then seem to do nothing.
const BYTES_PER_S: u64 = 55_000;

/// When a frame may be drawn: one each `every` in the long run, later after large ones, and after a rest a few at once, so that neither the first
/// connection nor the answer to a key waits for the beat.
struct Pace {
    every: Duration,
    /// When all the frames so far are paid for.
    paid: Option<Instant>,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { every, paid: None }
    }

    /// How long until the next frame may be drawn.
    fn wait(&self, now: Instant) -> Duration {
        self.paid.map_or(Duration::ZERO, |paid| {
            paid.saturating_duration_since(now + self.every * (AT_ONCE - 1))
        })
    }

    /// A frame of so many bytes was drawn.
    fn drew(&mut self, now: Instant, n_bytes: u64) {
        let by_size = Duration::from_millis(n_bytes.saturating_mul(1_000) / BYTES_PER_S);
        let price = self.every.max(by_size);
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + price);
    }
}

/// A question that is answered by keys: which layer, and what it asks.
type Dialog = (usize, Option<std::mem::Discriminant<PlanStep>>);

/// Which question a person has seen, and since when.
#[derive(Debug, Default)]
struct Seen {
    dialog: Option<Dialog>,
    since: Option<Instant>,
}

impl Seen {
    /// A frame with this question, or with none, is on the screen.
    fn drew(&mut self, dialog: Option<Dialog>, now: Instant) {
        if dialog != self.dialog {
            self.dialog = dialog;
            self.since = Some(now);
        }
    }

    /// Whether a key that was read at a time can be meant for the question that is open now.
    fn is_meant(&self, at: Instant, open: Option<Dialog>) -> bool {
        open.is_none() || (open == self.dialog && self.since.is_some_and(|since| since <= at))
    }
}

impl Loop {
    fn turn(&mut self, terminal: &mut Terminal, told: &Receiver<Told>) -> io::Result<()> {
        let mut is_dirty = true;
        let mut ticked = monotonic();
        loop {
            let now = monotonic();
            let frame_in = self.pace.wait(now);
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
            let mut next = match told.recv_timeout(wait) {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let mut n = 0;
            while let Some(told_now) = next {
                if let Some(msg) = self.heard(told_now) {
                    is_dirty = true;
                    if self.take(terminal, msg)? {
                        return Ok(());
                    }
                }
                n += 1;
                next = if n < DRAIN {
                    told.try_recv().ok()
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

    /// What was told as a message; `None` when there is nothing in it.
    fn heard(&mut self, told: Told) -> Option<Msg> {
        match told {
            Told::Msg(msg) => Some(msg),
            Told::Snapshot => {
                let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
                newest
                    .take()
                    .map(|snapshot| Msg::Link(LinkMsg::Stats(snapshot)))
            }
            // Keys that were pressed before a question was on the screen are no answer to it: a slow line may hold the
            // picture back for seconds while a person types on. Esc and Ctrl-C change nothing and always count.
            Told::Typed(at, Msg::Key(key))
                if !is_harmless(key) && !self.seen.is_meant(at, dialog(&self.model)) =>
            {
                None
            }
            Told::Typed(_, msg) => Some(msg),
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
        let n_bytes = terminal.draw(|frame| {
            let area = frame.area();
            // The terminal may have changed its size before it said so.
            model.size = (area.width, area.height);
            let theme = model.options.theme;
            view(model, &mut Ink::new(frame.buffer_mut(), theme));
        })?;
        let now = monotonic();
        self.pace.drew(now, n_bytes);
        self.seen.drew(dialog(&self.model), now);
        Ok(())
    }
}

/// The question that the keys answer, if there is one.
fn dialog(model: &Model) -> Option<Dialog> {
    match model.layers.last() {
        Some(Layer::Plan(step)) => {
            Some((model.layers.len(), Some(std::mem::discriminant(&**step))))
        }
        Some(Layer::Rehearsal(_)) => Some((model.layers.len(), None)),
        _ => None,
    }
}

fn is_harmless(key: Key) -> bool {
    matches!(key, Key::Esc | Key::Ctrl('c'))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_beat_in_the_long_run_and_the_first_do_not_wait() {
        let every = Duration::from_millis(100);
        let begun = monotonic();
        let mut pace = Pace::new(every);
        let mut now = begun;
        let mut at = Vec::new();
        while now < begun + Duration::from_secs(2) {
            now += pace.wait(now);
            pace.drew(now, 1_000);
            at.push((now - begun).as_millis());
        }
        assert_eq!(at[..5], [0, 0, 0, 100, 200]);
        assert_eq!(at.len(), 3 + 20);
        // After a rest again.
        now += Duration::from_secs(60);
        for _ in 0..3 {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.drew(now, 1_000);
        }
        assert_eq!(pace.wait(now), every);
    }

    #[test]
    fn large_frames_come_later_so_that_the_line_keeps_up() {
        let begun = monotonic();
        let mut pace = Pace::new(Duration::from_millis(100));
        let (mut now, mut n_bytes) = (begun, 0);
        while now < begun + Duration::from_secs(10) {
            now += pace.wait(now);
            pace.drew(now, 11_000);
            n_bytes += 11_000;
        }
        assert!((540_000..=600_000).contains(&n_bytes), "{n_bytes}");
    }

    #[test]
    fn a_key_pressed_before_a_question_was_drawn_is_no_answer_to_it() {
        let begun = monotonic();
        let at = |ms| begun + Duration::from_millis(ms);
        let question = |step: &PlanStep| Some((1, Some(std::mem::discriminant(step))));
        let params = pipectl_shared::plan::PlanParams {
            action: pipectl_shared::plan::Action::Claim,
            select: pipectl_shared::plan::Selection::default(),
            to: None,
        };
        let fault = crate::message::Fault {
            message: "no".to_owned(),
            hint: None,
        };
        let making = question(&PlanStep::Making(params.clone()));
        let failed = question(&PlanStep::Failed(params, fault));
        let mut seen = Seen::default();
        seen.drew(None, at(0));
        assert!(seen.is_meant(at(1), None), "for the screen");
        assert!(!seen.is_meant(at(2), making), "it is open and not drawn");
        seen.drew(making, at(900));
        assert!(
            !seen.is_meant(at(899), making),
            "pressed while it was drawn"
        );
        assert!(seen.is_meant(at(901), making));
        seen.drew(making, at(1_000));
        assert!(seen.is_meant(at(950), making), "it was there before");
        assert!(!seen.is_meant(at(1_100), failed), "another question");
        seen.drew(failed, at(1_200));
        assert!(seen.is_meant(at(1_201), failed));
    }
}
