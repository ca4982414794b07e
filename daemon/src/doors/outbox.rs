//! What one client is still to be sent, bounded, and the loop that writes it.
//!
//! Three kinds: replies (in order; who answers waits while they are full, so a client that does not read is asked no
//! more), extras (events, tap, progress: dropped and counted when full), and the Snapshot (only the newest). Together at
//! most 256 KiB, or one larger reply alone. Each client has its own, so a slow one slows nobody else.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes of replies that wait at most; a larger one waits until it is alone.
const REPLIES_MAX: usize = 128 * 1024;
/// Bytes of extras that wait at most.
const EXTRAS_MAX: usize = 64 * 1024;
/// A client that takes nothing for this long is cut.
pub(super) const STALL: Duration = Duration::from_secs(10);

/// One client's queue. Shared by everything that talks to it.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Told when there is something to write, or when no more will come.
    ready: Notify,
    /// Permits are bytes of replies.
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    replies: VecDeque<(Vec<u8>, Option<OwnedSemaphorePermit>)>,
    extras: VecDeque<Vec<u8>>,
    extras_bytes: usize,
    stats: Option<Arc<str>>,
    dropped: u64,
    finishing: bool,
}

/// What is written next.
enum Out {
    Line(Vec<u8>, Option<OwnedSemaphorePermit>),
    Stats { snapshot: Arc<str>, dropped: u64 },
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::default(),
            ready: Notify::new(),
            room: Arc::new(Semaphore::new(REPLIES_MAX)),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a reply, waiting for room. Cancel-safe: then it is not queued. Dropped when the client is gone.
    pub(super) async fn reply(&self, line: Vec<u8>) {
        let n = u32::try_from(line.len().clamp(1, REPLIES_MAX)).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(n).await else {
            return;
        };
        self.queue().replies.push_back((line, Some(permit)));
        self.ready.notify_one();
    }

    /// Queues a short reply without waiting, for the greeting and for answers that must not be lost; not to be used for
    /// anything that a peer can ask for again and again.
    pub(super) fn reply_now(&self, line: Vec<u8>) {
        self.queue().replies.push_back((line, None));
        self.ready.notify_one();
    }

    /// Queues an extra, or drops and counts it.
    pub(super) fn offer(&self, line: Vec<u8>) {
        let mut queue = self.queue();
        if queue.extras_bytes + line.len() > EXTRAS_MAX {
            queue.dropped += 1;
            return;
        }
        queue.extras_bytes += line.len();
        queue.extras.push_back(line);
        drop(queue);
        self.ready.notify_one();
    }

    /// Puts the newest Snapshot (its JSON object) in the place of one that was not sent yet.
    pub(super) fn show(&self, snapshot: Arc<str>) {
        let mut queue = self.queue();
        if queue.stats.replace(snapshot).is_some() {
            queue.dropped += 1;
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// No more will come: the writer ends when everything is written.
    pub(super) fn finish(&self) {
        self.queue().finishing = true;
        self.ready.notify_one();
    }

    /// The client is gone: who waits for room stops waiting.
    pub(super) fn abandon(&self) {
        self.room.close();
    }

    fn take(&self) -> Option<Out> {
        let mut queue = self.queue();
        if let Some((line, permit)) = queue.replies.pop_front() {
            return Some(Out::Line(line, permit));
        }
        if let Some(line) = queue.extras.pop_front() {
            queue.extras_bytes -= line.len();
            return Some(Out::Line(line, None));
        }
        let dropped = queue.dropped;
        queue
            .stats
            .take()
            .map(|snapshot| Out::Stats { snapshot, dropped })
    }

    /// Writes until [`Outbox::finish`] and everything is out (`Ok`), or the client fails or stalls (`Err`). Not cancel-safe:
    /// a line may then be half written.
    pub(super) async fn write_to(&self, mut sink: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            match self.take() {
                Some(Out::Line(line, _permit)) => write_all(&mut sink, &line).await?,
                Some(Out::Stats { snapshot, dropped }) => {
                    // The Snapshot is shared by all clients; what is this client's own is spliced in before it.
                    let head = format!(
                        r#"{{"jsonrpc":"2.0","method":"stats","params":{{"dropped":{dropped},"#
                    );
                    write_all(&mut sink, head.as_bytes()).await?;
                    write_all(&mut sink, snapshot.as_bytes().get(1..).unwrap_or_default()).await?;
                    write_all(&mut sink, b"}\n").await?;
                }
                None if self.queue().finishing => return timeout(STALL, sink.shutdown()).await?,
                None => self.ready.notified().await,
            }
        }
    }
}

/// `write_all` whose time limit begins anew with each part that was taken.
async fn write_all(sink: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match timeout(STALL, sink.write(bytes)).await?? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => bytes = &bytes[n..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn queued_bytes(outbox: &Outbox) -> usize {
        let queue = outbox.queue();
        let replies: usize = queue.replies.iter().map(|(line, _)| line.len()).sum();
        replies + queue.extras_bytes + queue.stats.as_ref().map_or(0, |s| s.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_reads_holds_256_kib_at_most_and_is_cut() {
        let outbox = Arc::new(Outbox::new());
        let (client, server) = tokio::io::duplex(1024);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let outbox = Arc::clone(&outbox);
            tasks.spawn(async move { outbox.reply(vec![b'x'; 10_000]).await });
        }
        for _ in 0..1_000 {
            outbox.offer(vec![b'y'; 1_000]);
            outbox.show("{}".into());
        }
        let writing = outbox.write_to(server);
        tokio::pin!(writing);
        let waited = timeout(Duration::from_secs(9), &mut writing).await;
        assert!(waited.is_err(), "cut too early");
        assert!(
            queued_bytes(&outbox) <= 256 * 1024,
            "{}",
            queued_bytes(&outbox)
        );
        assert!(outbox.queue().dropped >= 900);
        let ended = timeout(Duration::from_secs(2), writing)
            .await
            .expect("cut after 10 s");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        outbox.abandon();
        // Nobody waits for ever for room that will not come.
        while let Some(done) = timeout(Duration::from_secs(1), tasks.join_next())
            .await
            .unwrap()
        {
            done.unwrap();
        }
        drop(client);
    }

    #[tokio::test]
    async fn only_the_newest_snapshot_is_sent_and_the_skipped_ones_are_counted() {
        let outbox = Outbox::new();
        for n in 1..=5 {
            outbox.show(format!(r#"{{"seq":{n}}}"#).into());
        }
        outbox.finish();
        let (mut client, server) = tokio::io::duplex(1024);
        outbox.write_to(server).await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        let sent = r#"{"jsonrpc":"2.0","method":"stats","params":{"dropped":4,"seq":5}}"#;
        assert_eq!(text, format!("{sent}\n"));
    }

    #[tokio::test]
    async fn a_reply_larger_than_the_room_goes_out_alone() {
        let outbox = Arc::new(Outbox::new());
        let (mut client, server) = tokio::io::duplex(4096);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let outbox = Arc::clone(&outbox);
            tasks.spawn(async move { outbox.reply(vec![b'x'; 500_000]).await });
        }
        let writer = Arc::clone(&outbox);
        tasks.spawn(async move { drop(writer.write_to(server).await) });
        let mut got = vec![0; 1_500_000];
        timeout(Duration::from_secs(10), client.read_exact(&mut got))
            .await
            .unwrap()
            .unwrap();
    }
}
