//! The drain: takes the spool's events to the store in order, whenever it answers. Owned by `app`; ends with the token; waits
//! for the store, the disk and back-pressure, and holds nothing that a kill could lose: how far it came is written down by
//! the script that adds.

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::backoff::Backoff;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Spool;
use super::files::{self, Page, Segment};
use crate::journal::Level;
use crate::store::{Admin, SpoolPlace, StoreError};

/// Events and bytes of one call to the store: the limits of a door.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 512 * 1024;

/// While the store is away it is tried again after this. Without jitter: there is one drain a daemon.
const RETRY: Backoff = Backoff {
    min: Duration::from_millis(50),
    max: Duration::from_secs(1),
};

/// See the header. Run it once.
pub struct Drain {
    spool: Spool,
    admin: Arc<dyn Admin>,
    /// Why doors shed load now: what is spooled waits for it as well.
    pressure: watch::Receiver<Option<String>>,
    cursor: Option<Cursor>,
    /// Events drained since the spool was empty, for the event log.
    n_drained: u64,
    told: Option<String>,
}

/// Where in the first file the drain stands.
struct Cursor {
    place: u64,
    at: u64,
    /// Number expected there.
    expected: u64,
    /// Number of the last event that the store has of this life; `None` = it is to be asked.
    position: Option<u64>,
    /// Number of the last event of this file that was read; 0 = none.
    read: u64,
    /// Events passed that cannot be read.
    n_lost: u64,
}

/// Why it did not go on.
enum Stop {
    Store(StoreError),
    Disk(std::io::Error),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Drain {
    /// Nothing happens yet.
    pub fn new(
        spool: Spool,
        admin: Arc<dyn Admin>,
        pressure: watch::Receiver<Option<String>>,
    ) -> Self {
        Self {
            spool,
            admin,
            pressure,
            cursor: None,
            n_drained: 0,
            told: None,
        }
    }

    /// Runs until `stop`. A call that is under way then is dropped: it may have happened, and the next start knows.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut n_failures = 0;
        loop {
            let work = async {
                while self.pressure.borrow_and_update().is_some() {
                    // Its owner ends before us: the last value stays.
                    if self.pressure.changed().await.is_err() {
                        break;
                    }
                }
                let Some(segment) = self.spool.front() else {
                    self.spool.0.came.notified().await;
                    return;
                };
                match self.step(&segment).await {
                    Ok(true) => n_failures = 0,
                    // More may come into this file.
                    Ok(false) => self.spool.0.came.notified().await,
                    Err(why) => {
                        n_failures += 1;
                        self.fails(&why);
                        tokio::time::sleep(RETRY.ceiling(n_failures)).await;
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = work => {}
            }
        }
    }

    /// One page of the first file; `false`: all of it is drained and it may still grow.
    async fn step(&mut self, segment: &Segment) -> Result<bool, Stop> {
        let life = segment.format.life;
        let cursor = match self.cursor.take() {
            Some(cursor) if cursor.place == segment.place => cursor,
            _ => Cursor {
                place: segment.place,
                at: 0,
                expected: segment.first,
                position: None,
                read: 0,
                n_lost: 0,
            },
        };
        // After an error the cursor is lost on purpose: the file is begun again, and what the store has of it is passed over.
        // So a store that went back to an earlier instant gets again what is still on the disk.
        let position = match cursor.position {
            Some(position) => position,
            None => self.admin.spool_position(life).await?,
        };
        let mut page = self.read(segment, &cursor).await?;
        if page.events.is_empty() {
            return self.finish(segment, cursor).await;
        }
        let n_lost = page.first - cursor.expected;
        let n_read = page.events.len() as u64;
        let n_known = (position + 1).saturating_sub(page.first).min(n_read);
        page.events
            .drain(..usize::try_from(n_known).unwrap_or(usize::MAX));
        let first = page.first + n_known;
        let mut admitted = Vec::new();
        if !page.events.is_empty() {
            let place = SpoolPlace { life, first };
            admitted = self.admin.admit_spooled(place, &page.events).await?;
        }
        self.n_drained += admitted.len() as u64;
        self.spool.advance(segment, page.next, first, &admitted);
        self.cursor = Some(Cursor {
            at: page.at,
            expected: page.next,
            position: Some(position.max(page.next - 1)),
            read: page.next - 1,
            n_lost: cursor.n_lost + n_lost,
            ..cursor
        });
        Ok(true)
    }

    async fn read(&self, segment: &Segment, cursor: &Cursor) -> Result<Page, Stop> {
        let (mut segment, at, expected) = (segment.clone(), cursor.at, cursor.expected);
        let read = move || {
            let page = files::read(&segment, at, expected, CHUNK, CHUNK_BYTES)?;
            if page.events.is_empty() && expected < segment.next && segment.n_damaged == 0 {
                // It was whole at the start: damage is looked for in all of the rest.
                segment.n_damaged = segment.next - expected;
                return files::read(&segment, at, expected, CHUNK, CHUNK_BYTES);
            }
            Ok(page)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(page) => page.map_err(Stop::Disk),
            Err(error) => Err(Stop::Disk(std::io::Error::other(error))),
        }
    }

    /// All that can be read of the first file is in the store.
    async fn finish(&mut self, segment: &Segment, cursor: Cursor) -> Result<bool, Stop> {
        let n_lost = cursor.n_lost + (segment.next - cursor.expected);
        if segment.next > segment.first {
            // Only now the events may leave the disk. One wait for all of them: a server that forces its log to the disk once
            // a second would take a second for each batch.
            self.admin.survive().await?;
            let position = self.admin.spool_position(segment.format.life).await?;
            if position < cursor.read {
                // Another server, or an earlier instant: the cursor is gone, so the file is begun again.
                return Ok(true);
            }
        }
        if segment.next > cursor.expected {
            self.spool.advance(segment, segment.next, segment.next, &[]);
        }
        if !self.spool.take_off(segment) {
            // It has grown, or is about to. What comes is read from where we are.
            let has_grown = self.spool.front().is_some_and(|s| s.end > segment.end);
            self.cursor = Some(Cursor {
                expected: segment.next,
                at: segment.end,
                n_lost,
                ..cursor
            });
            return Ok(has_grown);
        }
        let journal = self.spool.0.journal.clone();
        if n_lost > 0 {
            let text = format!(
                "{n_lost} accepted events of the spool cannot be read, the disk has damaged {}; all others of it are in \
                 Redis, and the file is kept as {0}.damaged",
                segment.path.display()
            );
            journal.tell(Level::Error, "spool.damaged", None, text);
        }
        let (dir, mut gone) = (self.spool.0.dir.clone(), segment.clone());
        gone.n_damaged = n_lost;
        let finished = tokio::task::spawn_blocking(move || files::finish(&dir, &gone)).await;
        match finished.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(kept) => {
                let mut index = self.spool.index();
                index.used = index.used.saturating_sub(segment.end) + kept;
            }
            // Its events are in Redis, which knows it: the next start passes over them and tries again.
            Err(error) => {
                let text = format!("remove {}: {error}", segment.path.display());
                journal.tell(Level::Error, "spool.stays", None, text);
            }
        }
        if self.spool.waiting() == 0 {
            self.told = None;
            let n = std::mem::take(&mut self.n_drained);
            let text = format!("the spool is drained: {n} events are in Redis");
            journal.tell(Level::Info, "spool.drained", None, text);
        }
        Ok(true)
    }

    fn fails(&mut self, why: &Stop) {
        let text = match why {
            // The status says that redis is away.
            Stop::Store(StoreError::Unavailable(_) | StoreError::Loading(_)) => return,
            Stop::Store(error) => format!("the events in the spool wait: {error}"),
            Stop::Disk(error) => format!("read the spool: {error}"),
        };
        if self.told.as_ref() != Some(&text) {
            let journal = &self.spool.0.journal;
            journal.tell(Level::Error, "spool.waits", None, text.clone());
            self.told = Some(text);
        }
    }
}
