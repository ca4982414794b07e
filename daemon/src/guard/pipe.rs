//! One end of the pipe between the daemon and the guard of one experiment: reads its orders, has them done, answers, and
//! takes everything back when the guard ends, falls silent beyond its own time limit, floods or talks nonsense.
//!
//! Owned by the task of the run (`tend.rs`). Waits for the guard's lines, for words of the keeper and for the time limit;
//! an order that is being done is never raced, it has a limit of its own.

use std::time::Duration;

use pipectl_shared::wire::{self, Decoder};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::hands::Hands;
use crate::chaos::{Ask, Order, Told};
use crate::plans::words::quote;

/// Longest line of a guard in bytes; an order has a few hundred.
const LINE_MAX: usize = 64 * 1024;
/// Orders a second at most. A run with churn gives a dozen; who gives more has lost its senses.
const ASKS_PER_S: u32 = 200;
/// How long one order may take.
const OBEY_WAIT: Duration = Duration::from_secs(10);
/// How long the guard may leave an answer unread: the pipe holds hundreds of them.
const WRITE_WAIT: Duration = Duration::from_secs(5);
/// How long a guard that was told to stop may take until everything in the daemon is taken back without it.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the keeper has to say to a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// End the experiment now.
    Stop(String),
    /// The daemon ends in order.
    Leaving,
}

/// Why the pipe is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The guard closed it.
    Closed,
    /// It did something that no guard does; what, for a person.
    Broken(String),
}

/// See the head of the file.
pub(super) struct Pipe<R, W> {
    from_guard: R,
    to_guard: W,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// When the daemon takes everything back by itself; `None` = nothing is set.
    deadline: Option<Instant>,
    /// No order's limit may be longer.
    limit_max: Duration,
    /// Begin of the second in which orders are counted, and how many came in it.
    second: (Instant, u32),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pipe<R, W> {
    pub(super) fn new(from_guard: R, to_guard: W, limit_max: Duration) -> Self {
        Self {
            from_guard,
            to_guard,
            decoder: Decoder::new(),
            buffer: vec![0; 8 * 1024],
            deadline: None,
            limit_max,
            second: (Instant::now(), 0),
        }
    }

    /// Serves the guard until the pipe is of no more use; then nothing is set in the daemon. `late` is called when the time
    /// limit took everything back. Not cancel-safe: an answer may be cut in half; whoever drops this must call
    /// [`Hands::clear`].
    pub(super) async fn serve(
        &mut self,
        hands: &dyn Hands,
        words: &mut mpsc::Receiver<Word>,
        late: impl Fn(),
    ) -> End {
        let end = loop {
            let deadline = self.deadline;
            let told = tokio::select! {
                biased;
                Some(word) = words.recv() => self.say(word).await,
                () = at(deadline) => {
                    self.deadline = None;
                    hands.clear();
                    late();
                    Ok(())
                }
                line = self.line() => match line {
                    Ok(Some(ask)) => self.obey(ask, hands).await,
                    Ok(None) => break End::Closed,
                    Err(what) => Err(what),
                },
            };
            if let Err(what) = told {
                break End::Broken(what);
            }
        };
        hands.clear();
        end
    }

    /// The next order; `None` = the guard closed the pipe. Cancel-safe: what was read is kept.
    async fn line(&mut self) -> Result<Option<Ask>, String> {
        loop {
            match self.decoder.next_line() {
                Ok(Some(line)) => {
                    if line.bytes().len() > LINE_MAX {
                        return Err(format!("a line of {} bytes", line.bytes().len()));
                    }
                    return line.parse().map(Some).map_err(|_| {
                        let text = String::from_utf8_lossy(line.bytes()).into_owned();
                        format!("no order: {}", quote(&text))
                    });
                }
                Err(too_long) => return Err(too_long.to_string()),
                Ok(None) => {}
            }
            match self.from_guard.read(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(n) => self.decoder.push(&self.buffer[..n]),
            }
        }
    }

    async fn obey(&mut self, ask: Ask, hands: &dyn Hands) -> Result<(), String> {
        let now = Instant::now();
        if now.duration_since(self.second.0) >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        self.second.1 += 1;
        if self.second.1 > ASKS_PER_S {
            return Err(format!("more than {ASKS_PER_S} orders a second"));
        }
        let Ask { n, order, limit_ms } = ask;
        // Armed before it is done: what is half done is taken back, too.
        match order {
            Order::Clear => self.deadline = None,
            Order::Count => {}
            _ => self.deadline = Some(now + Duration::from_millis(limit_ms).min(self.limit_max)),
        }
        let told = match timeout(OBEY_WAIT, hands.obey(order)).await {
            Ok(Ok(hits)) => Told::Done { n, hits },
            Ok(Err(why)) => Told::Failed { n, why },
            Err(_) => Told::Failed {
                n,
                why: format!("it was not done within {} s", OBEY_WAIT.as_secs()),
            },
        };
        self.tell(&told).await
    }

    async fn say(&mut self, word: Word) -> Result<(), String> {
        let told = match word {
            Word::Stop(why) => Told::Stop { why },
            Word::Leaving => Told::Leaving,
        };
        if let Some(deadline) = &mut self.deadline {
            *deadline = (*deadline).min(Instant::now() + STOP_GRACE);
        }
        self.tell(&told).await
    }

    /// Writes one line. `Err` = the guard does not read. A guard that is gone shows at the next read.
    async fn tell(&mut self, told: &Told) -> Result<(), String> {
        let line = wire::encode(told).map_err(|fault| fault.to_string())?;
        match timeout(WRITE_WAIT, self.to_guard.write_all(&line)).await {
            Ok(_) => Ok(()),
            Err(_) => Err("it does not read its answers".to_owned()),
        }
    }
}

/// Never, where there is no deadline.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
