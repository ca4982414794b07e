//! The link to the daemon: its own threads, so that the console never waits. Connects, watches, asks, and reconnects for
//! ever with back-off; tells everything by messages.
//!
//! Two threads: the keeper owns the connection and writes, the reader blocks on reading. The keeper's inbox takes both
//! what the console asks and what the reader heard. The console owns the keeper: dropping [`Link`] ends both.

mod decode;

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pipectl_shared::backoff::Backoff;
use pipectl_shared::rpc::{FromServer, PROTOCOL, Preset, Response, WatchParams};
use serde_json::Value;

use crate::client::{Candidate, Client, ClientError, Receiver as LineSource, Sender as LineSink};
use crate::clock::{self, Deadline};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::message::{Fault, LinkMsg, Question, Ticket};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A daemon pushes a Snapshot each second and pings; this long without a word means that the line is dead.
const SILENCE: Duration = Duration::from_secs(6);
/// How long an answer may take. Plans are followed by their progress, so that this bounds single answers only.
const ANSWER: Duration = Duration::from_secs(15);
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The keeper's inbox: questions are few, and the reader waits while it is full, which slows the daemon's pushing and
/// nothing else: it drops Snapshots for a slow reader.
const INBOX: usize = 64;
/// Requests that may wait for their answers; a console asks a handful.
const OPEN_MAX: usize = 256;

/// What reaches the keeper.
enum Inbox {
    Ask(Ticket, Box<Question>),
    Reconnect,
    Heard(u64, Result<Box<FromServer>, ClientError>),
    End,
}

/// The console's end.
pub(crate) struct Link {
    inbox: SyncSender<Inbox>,
    keeper: Option<JoinHandle<()>>,
}

/// Where to connect and as what.
pub(crate) struct Target {
    /// Sockets in the order they are tried.
    pub(crate) candidates: Vec<Candidate>,
    /// How much is pushed.
    pub(crate) preset: Preset,
    /// How often, milliseconds.
    pub(crate) interval_ms: u64,
}

impl Link {
    /// Starts the keeper. `tell` takes the messages; it returns `false` once the console is gone, and may block for a
    /// moment: then the daemon's pushes wait, not the console.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(crate) fn start(
        target: Target,
        tell: impl Fn(LinkMsg) -> bool + Send + Sync + Clone + 'static,
    ) -> std::io::Result<Self> {
        let (inbox, receiver) = sync_channel(INBOX);
        let back = inbox.clone();
        let keeper = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || keep(&target, &receiver, &back, &tell))?;
        Ok(Self {
            inbox,
            keeper: Some(keeper),
        })
    }

    /// Sends a question; `Err` when the link is too busy or gone. Never blocks.
    pub(crate) fn ask(&self, ticket: Ticket, question: Box<Question>) -> Result<(), Fault> {
        self.inbox
            .try_send(Inbox::Ask(ticket, question))
            .map_err(|error| Fault {
                message: match error {
                    TrySendError::Full(_) => "too many questions at once".to_owned(),
                    TrySendError::Disconnected(_) => "the link has ended".to_owned(),
                },
                hint: Some("try again".to_owned()),
            })
    }

    /// Tries to connect now.
    pub(crate) fn reconnect(&self) {
        // A full inbox means that the keeper is awake anyway.
        let _full = self.inbox.try_send(Inbox::Reconnect);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The keeper leaves at its next look at the inbox; it is not waited for while it dials, which may take seconds.
        let is_told = self.inbox.try_send(Inbox::End).is_ok();
        if let Some(keeper) = self.keeper.take()
            && (is_told && keeper.is_finished())
        {
            let _panicked = keeper.join();
        }
    }
}

enum Ended {
    /// Somebody wants the link to end.
    ByUs,
    /// The connection is lost or never was.
    Lost(ClientError),
}

fn keep(
    target: &Target,
    inbox: &Receiver<Inbox>,
    back: &SyncSender<Inbox>,
    tell: &(impl Fn(LinkMsg) -> bool + Send + Sync + Clone + 'static),
) {
    let backoff = Backoff {
        min: PAUSE.0,
        max: PAUSE.1,
    };
    // Consoles of one machine start at different times as different processes, which is all the spread that is needed.
    let mut jitter = Jitter((clock::now_ms() ^ u64::from(std::process::id()) << 32) | 1);
    let mut attempt = 1_u32;
    // Tells apart what readers of earlier connections still say.
    let mut generation = 0_u64;
    loop {
        if !tell(LinkMsg::Connecting { attempt }) {
            return;
        }
        generation += 1;
        let ended = converse(target, inbox, back, tell, generation, &mut || attempt = 0);
        let error = match ended {
            Ended::ByUs => return,
            Ended::Lost(error) => error,
        };
        attempt = attempt.saturating_add(1);
        // A permission or another protocol does not mend itself in seconds; but a daemon may be replaced, so it is tried
        // again, only rarely.
        let is_final = matches!(
            error,
            ClientError::Forbidden { .. } | ClientError::OtherProtocol { .. }
        );
        let pause = backoff.delay(attempt.saturating_sub(1), jitter.next());
        let failure = Failure::from(error);
        let why = failure.message.unwrap_or_default();
        let msg = if is_final {
            LinkMsg::Refused {
                why,
                hint: failure.hint,
            }
        } else {
            LinkMsg::Down {
                why,
                hint: failure.hint,
                retry_in_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            }
        };
        if !tell(msg) {
            return;
        }
        let pause = if is_final { PAUSE.1 * 6 } else { pause };
        if wait(inbox, pause, tell) {
            return;
        }
    }
}

/// Lets the pause pass; says whether the link is to end. Questions are answered with no at once.
fn wait(inbox: &Receiver<Inbox>, pause: Duration, tell: &impl Fn(LinkMsg) -> bool) -> bool {
    let deadline = Deadline::after(pause);
    loop {
        let left = deadline.left().unwrap_or_default();
        match inbox.recv_timeout(left) {
            Ok(Inbox::Ask(ticket, _)) => {
                if !tell(unanswered(ticket, "the daemon is not connected")) {
                    return true;
                }
            }
            Ok(Inbox::Heard(..)) => {}
            Ok(Inbox::Reconnect) | Err(RecvTimeoutError::Timeout) => return false,
            Ok(Inbox::End) | Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

fn unanswered(ticket: Ticket, why: &str) -> LinkMsg {
    LinkMsg::Answer {
        ticket,
        answer: Err(Fault {
            message: why.to_owned(),
            hint: None,
        }),
    }
}

/// Spreads attempts of many consoles; quality does not matter (xorshift, Marsaglia 2003).
struct Jitter(u64);

impl Jitter {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

struct Open {
    ticket: Ticket,
    question: Box<Question>,
    deadline: Deadline,
}

/// One connection from greeting to its end.
fn converse(
    target: &Target,
    inbox: &Receiver<Inbox>,
    back: &SyncSender<Inbox>,
    tell: &(impl Fn(LinkMsg) -> bool + Send + Sync + Clone + 'static),
    generation: u64,
    greeted: &mut dyn FnMut(),
) -> Ended {
    let interrupt = Interrupt::default();
    let (client, candidate) = match Client::connect_first(&target.candidates, CONNECT, &interrupt) {
        Ok(found) => found,
        Err(error) => return Ended::Lost(error),
    };
    greeted();
    let hello = Box::new(client.hello().clone());
    debug_assert_eq!(hello.protocol, PROTOCOL);
    let socket = candidate.path.display().to_string();
    if !tell(LinkMsg::Up { hello, socket }) {
        return Ended::ByUs;
    }
    let (mut sink, source) = client.split();
    let reader = match read_on(source, back.clone(), generation) {
        Ok(reader) => reader,
        Err(error) => {
            return Ended::Lost(ClientError::Io {
                doing: "start a thread",
                error,
            });
        }
    };
    let ended = talk(target, inbox, tell, generation, &mut sink);
    // Ends the reader, which blocks on the same socket. It leaves by itself when its words find no ear: it is not waited
    // for, because the inbox that it may be blocked on is drained only by us.
    sink.hang_up();
    drop(reader);
    ended
}

fn read_on(
    mut source: LineSource,
    back: SyncSender<Inbox>,
    generation: u64,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("link-reader".to_owned())
        .spawn(move || {
            loop {
                let heard = source.next(Deadline::after(SILENCE)).map(Box::new);
                let is_over = heard.is_err();
                if back.send(Inbox::Heard(generation, heard)).is_err() || is_over {
                    return;
                }
            }
        })
}

fn talk(
    target: &Target,
    inbox: &Receiver<Inbox>,
    tell: &impl Fn(LinkMsg) -> bool,
    generation: u64,
    sink: &mut LineSink,
) -> Ended {
    let watch = WatchParams {
        interval_ms: target.interval_ms,
        preset: target.preset,
    };
    let mut open: HashMap<u64, Open> = HashMap::new();
    let ours = (|| {
        sink.send("events.watch", Value::Object(serde_json::Map::new()))?;
        sink.send("stats.watch", &watch)
    })();
    if let Err(error) = ours {
        return Ended::Lost(error);
    }
    let ended = loop {
        // Woken for the next deadline, or from time to time.
        let next = open
            .values()
            .filter_map(|open| open.deadline.left())
            .min()
            .unwrap_or(SILENCE)
            .min(SILENCE);
        match inbox.recv_timeout(next.max(Duration::from_millis(1))) {
            Ok(Inbox::Ask(ticket, question)) => {
                if open.len() >= OPEN_MAX {
                    if !tell(unanswered(ticket, "too many questions are open")) {
                        break Ended::ByUs;
                    }
                    continue;
                }
                match decode::send(sink, &question) {
                    Ok(id) => {
                        let deadline = Deadline::after(ANSWER);
                        open.insert(
                            id,
                            Open {
                                ticket,
                                question,
                                deadline,
                            },
                        );
                    }
                    Err(error @ ClientError::Encode { .. }) => {
                        if !tell(unanswered(ticket, &error.to_string())) {
                            break Ended::ByUs;
                        }
                    }
                    Err(error) => {
                        tell(unanswered(ticket, &error.to_string()));
                        break Ended::Lost(error);
                    }
                }
            }
            Ok(Inbox::Heard(of, _)) if of != generation => {}
            Ok(Inbox::Heard(_, Err(error))) => break Ended::Lost(error),
            Ok(Inbox::Heard(_, Ok(heard))) => {
                let goes_on = match *heard {
                    FromServer::Notification(request) => match decode::notification(request) {
                        Some(msg) => tell(msg),
                        None => true,
                    },
                    FromServer::Response(response) => answered(&mut open, response, tell),
                };
                if !goes_on {
                    break Ended::ByUs;
                }
            }
            Ok(Inbox::Reconnect) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Inbox::End) | Err(RecvTimeoutError::Disconnected) => break Ended::ByUs,
        }
        let late: Vec<u64> = open
            .iter()
            .filter(|(_, open)| open.deadline.is_over())
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(open) = open.remove(&id) {
                tell(unanswered(open.ticket, "no answer in time"));
            }
        }
    };
    for open in open.into_values() {
        tell(unanswered(open.ticket, "the connection was lost"));
    }
    ended
}

fn answered(
    open: &mut HashMap<u64, Open>,
    response: Response,
    tell: &impl Fn(LinkMsg) -> bool,
) -> bool {
    let Some(open) = response.id.as_u64().and_then(|id| open.remove(&id)) else {
        // Of a watch, or of a question that was given up.
        return true;
    };
    let answer = match (response.error, response.result) {
        (Some(error), _) => Err(Fault::from(&error)),
        (None, result) => decode::answer(&open.question, result.unwrap_or(Value::Null)),
    };
    tell(LinkMsg::Answer {
        ticket: open.ticket,
        answer: answer.map(Box::new),
    })
}
