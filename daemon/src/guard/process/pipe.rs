//! The pipe to the daemon: the guard asks on its standard output, the daemon answers on the guard's standard input. When the
//! pipe closes without a word of leaving, the daemon is dead.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::sync::{oneshot, watch};

use crate::chaos::{Ask, Hits, Order, Told};

/// Longest line of either side.
const LINE_MAX: u64 = 1 << 20;
/// The daemon obeys within this, or counts as one that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the daemon is, as the pipe tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// It is there.
    There,
    /// It wants the experiment to end; why.
    Stop(String),
    /// It ended in order.
    Left,
    /// It is dead.
    Dead,
}

type Answers = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Hits, String>>>>>;

/// Cheap to clone; all clones are one pipe.
#[derive(Clone)]
pub(super) struct Pipe {
    out: Arc<tokio::sync::Mutex<tokio::io::Stdout>>,
    answers: Answers,
    side: watch::Receiver<Side>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// The reading half; [`Listener::run`] belongs to a task.
pub(super) struct Listener<R> {
    reader: BufReader<R>,
    answers: Answers,
    side: watch::Sender<Side>,
}

impl<R: AsyncRead + Unpin> Listener<R> {
    /// Reads what the daemon says until it says no more. Cancel-safe.
    pub(super) async fn run(mut self) {
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut self.reader).take(LINE_MAX);
            let told = match limited.read_until(b'\n', &mut line).await {
                Ok(n) if n > 0 => serde_json::from_slice::<Told>(&line),
                _ => break,
            };
            let answer = |n, result| {
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(sender) = answers.remove(&n) {
                    // Who asked may have gone on.
                    let _ = sender.send(result);
                }
            };
            match told {
                Ok(Told::Done { n, hits }) => answer(n, Ok(hits)),
                Ok(Told::Failed { n, why }) => answer(n, Err(why)),
                Ok(Told::Stop { why }) => {
                    self.side.send_replace(Side::Stop(why));
                }
                Ok(Told::Leaving) => {
                    self.side.send_replace(Side::Left);
                }
                // Nonsense from the daemon: as good as dead.
                Err(_) => break,
            }
        }
        self.side.send_modify(|side| {
            if *side != Side::Left {
                *side = Side::Dead;
            }
        });
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Pipe {
    /// Over the process' own standard output, and what is left of its input behind the job.
    pub(super) fn new<R: AsyncRead + Unpin>(reader: BufReader<R>) -> (Self, Listener<R>) {
        let (sender, side) = watch::channel(Side::There);
        let answers = Answers::default();
        let listener = Listener {
            reader,
            answers: Arc::clone(&answers),
            side: sender,
        };
        let pipe = Self {
            out: Arc::new(tokio::sync::Mutex::new(tokio::io::stdout())),
            answers,
            side,
            next: Arc::default(),
        };
        (pipe, listener)
    }

    /// What the daemon is now.
    pub(super) fn side(&self) -> Side {
        self.side.borrow().clone()
    }

    /// Has the daemon do something to itself, which it takes back by itself after `limit`.
    ///
    /// # Errors
    /// When it refuses, hangs or is dead; in words.
    pub(super) async fn ask(&self, order: Order, limit: Duration) -> Result<Hits, String> {
        if matches!(self.side(), Side::Dead | Side::Left) {
            return Err("the daemon is gone".to_owned());
        }
        let n = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask { n, order, limit_ms };
        let mut text = serde_json::to_vec(&ask).map_err(|e| e.to_string())?;
        text.push(b'\n');
        let (sender, answer) = oneshot::channel();
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(n, sender);
        let exchange = async {
            let mut out = self.out.lock().await;
            out.write_all(&text).await.map_err(|e| e.to_string())?;
            out.flush().await.map_err(|e| e.to_string())?;
            drop(out);
            answer.await.map_err(|_| "the daemon is gone".to_owned())?
        };
        match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("the daemon did not obey within {ANSWER_WITHIN:?}")),
        }
    }
}
