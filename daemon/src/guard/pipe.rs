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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream, Lines};
    use tokio::task::JoinSet;

    use super::*;
    use crate::guard::testkit::Recorder;

    /// The guard's end.
    struct Guard {
        write: DuplexStream,
        answers: Lines<BufReader<DuplexStream>>,
        words: mpsc::Sender<Word>,
        hands: Arc<Recorder>,
        n_late: Arc<AtomicU64>,
        tasks: JoinSet<End>,
    }

    fn guard() -> Guard {
        let (from_guard, write) = tokio::io::duplex(4_096);
        // As small as that: an answer that is not read fills it.
        let (to_guard, read) = tokio::io::duplex(64);
        let (words, mut told) = mpsc::channel(4);
        let hands = Arc::new(Recorder::default());
        let n_late = Arc::new(AtomicU64::new(0));
        let (obeys, late) = (Arc::clone(&hands), Arc::clone(&n_late));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pipe = Pipe::new(from_guard, to_guard, Duration::from_secs(600));
            let late = || drop(late.fetch_add(1, Ordering::SeqCst).to_string());
            pipe.serve(&*obeys, &mut told, late).await
        });
        Guard {
            write,
            answers: BufReader::new(read).lines(),
            words,
            hands,
            n_late,
            tasks,
        }
    }

    impl Guard {
        async fn ask(&mut self, n: u64, order: Order, limit_ms: u64) {
            let ask = wire::encode(&Ask { n, order, limit_ms }).unwrap();
            self.write.write_all(&ask).await.unwrap();
        }

        async fn told(&mut self) -> Told {
            serde_json::from_str(&self.answers.next_line().await.unwrap().unwrap()).unwrap()
        }

        async fn end(mut self) -> End {
            drop(self.write);
            self.tasks.join_next().await.unwrap().unwrap()
        }

        async fn after(&self, ms: u64) -> (u64, u64) {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            (self.n_late.load(Ordering::SeqCst), self.hands.n_clears())
        }
    }

    fn park() -> Order {
        Order::Park {
            consumer: "a-enrich-0".to_owned(),
            point: crate::chaos::Point::AfterRead,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_set_ends_with_its_time_limit_though_the_guard_lives() {
        let mut guard = guard();
        guard.ask(1, park(), 1_000).await;
        assert!(matches!(guard.told().await, Told::Done { n: 1, .. }));
        assert_eq!(guard.after(900).await, (0, 0));
        // Each order begins the time anew; one that only counts does not.
        guard.ask(2, park(), 1_000).await;
        assert!(matches!(guard.told().await, Told::Done { n: 2, .. }));
        assert_eq!(guard.after(500).await, (0, 0));
        guard.ask(3, Order::Count, 1_000_000).await;
        assert!(matches!(guard.told().await, Told::Done { n: 3, .. }));
        assert_eq!(guard.after(499).await, (0, 0));
        assert_eq!(guard.after(2).await, (1, 1));
        // What was taken back in order leaves nothing to be taken back.
        guard.ask(4, park(), 1_000).await;
        guard.told().await;
        guard.ask(5, Order::Clear, 1_000).await;
        guard.told().await;
        assert_eq!(guard.after(5_000).await, (1, 1));
        assert_eq!(guard.end().await, End::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_is_longer_than_the_longest() {
        let mut guard = guard();
        guard.ask(1, park(), u64::MAX).await;
        guard.told().await;
        assert_eq!(guard.after(599_900).await.0, 0);
        assert_eq!(guard.after(200).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_taken_back_when_the_pipe_closes() {
        let mut guard = guard();
        guard.ask(1, park(), 60_000).await;
        guard.told().await;
        let hands = Arc::clone(&guard.hands);
        assert_eq!(guard.end().await, End::Closed);
        assert_eq!(hands.n_clears(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guard_that_does_not_stop_when_told_is_not_waited_for() {
        let mut guard = guard();
        guard.ask(1, park(), 60_000).await;
        guard.told().await;
        let why = "enough".to_owned();
        guard.words.send(Word::Stop(why.clone())).await.unwrap();
        assert_eq!(guard.told().await, Told::Stop { why });
        assert_eq!(guard.after(4_900).await, (0, 0));
        assert_eq!(guard.after(200).await, (1, 1));
        guard.words.send(Word::Leaving).await.unwrap();
        assert_eq!(guard.told().await, Told::Leaving);
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_cannot_be_done_is_answered() {
        let mut guard = guard();
        guard.ask(1, Order::FlushCaches, 1_000).await;
        let why = "no stage has a lookup".to_owned();
        assert_eq!(guard.told().await, Told::Failed { n: 1, why });
        // One that is never done, too.
        guard.ask(2, Order::HoldServer { ms: 1 }, 60_000).await;
        assert!(matches!(guard.told().await, Told::Failed { n: 2, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guard_that_does_not_read_is_broken() {
        let mut guard = guard();
        for n in 0..3 {
            guard.ask(n, Order::Count, 1_000).await;
        }
        let end = guard.tasks.join_next().await.unwrap().unwrap();
        assert_eq!(end, End::Broken("it does not read its answers".to_owned()));
        assert_eq!(guard.hands.n_clears(), 1);
    }
}
