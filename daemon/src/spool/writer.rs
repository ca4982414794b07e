//! The one who writes the spool: takes all requests that are there, writes them as one group, forces it to the disk once,
//! answers each. Owned by `app`; ends with the token. It waits for the disk only, on a blocking thread.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::{self, Segment, Tail};
use super::format::Format;
use super::{Append, OWNERS_MAX, Owner, Refused, SEGMENT_MAX, SEGMENTS, Spool};
use crate::journal::Level;

/// Events of one group; with more waiting the next group takes them. Bounds the memory of a write.
const GROUP_EVENTS: usize = 16_384;

/// See the header. Run it once.
pub struct Writer {
    spool: Spool,
    requests: mpsc::Receiver<Append>,
    state: Option<State>,
    /// The last failure told, so that a full disk is one line and not one a push.
    told: Option<String>,
}

/// What goes to the blocking thread and back.
struct State {
    dir: PathBuf,
    limit: u64,
    format: Format,
    place: u64,
    /// Number of the next event.
    next: u64,
    tail: Option<Tail>,
}

/// What a write came to.
struct Written {
    /// Answers in the order of the requests.
    answers: Vec<Result<u64, Refused>>,
    /// The file that was begun.
    begun: Option<Segment>,
    /// End of the last file, and number behind its last event.
    end: u64,
    next: u64,
    n_bytes: u64,
}

impl Writer {
    pub(super) fn new(spool: Spool, requests: mpsc::Receiver<Append>, last_place: u64) -> Self {
        let state = State {
            dir: spool.0.dir.clone(),
            limit: spool.0.limit,
            format: spool.0.format,
            place: last_place,
            next: 1,
            tail: None,
        };
        Self {
            spool,
            requests,
            state: Some(state),
            told: None,
        }
    }

    /// Runs until `stop`. What is not answered then was perhaps written: nobody was told that it was accepted.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                request = self.requests.recv() => request,
            };
            let Some(first) = first else { return };
            let mut n_events = first.events.len();
            let mut group = vec![first];
            while n_events < GROUP_EVENTS
                && let Ok(more) = self.requests.try_recv()
            {
                n_events += more.events.len();
                group.push(more);
            }
            self.write(group).await;
        }
    }

    async fn write(&mut self, group: Vec<Append>) {
        let Some(mut state) = self.state.take() else {
            // The last write panicked: its requests were refused by being dropped, and so are these.
            return;
        };
        let (used, waiting) = {
            let mut index = self.spool.index();
            index.is_writing = true;
            let is_there = index
                .segments
                .back()
                .is_some_and(|last| last.place == state.place && last.format == state.format);
            if !is_there {
                state.tail = None;
            }
            (index.used, index.waiting())
        };
        let done = tokio::task::spawn_blocking(move || {
            let written = state.write(&group, used, waiting);
            (state, group, written)
        })
        .await;
        let (state, group, written) = match done {
            Ok(done) => done,
            Err(error) => {
                self.spool.index().is_writing = false;
                let text = format!("the spool takes nothing more: its writer failed: {error}");
                self.tell(text);
                return;
            }
        };
        self.state = Some(state);
        let began = self.enter(&group, &written);
        match written.answers.iter().find_map(|a| a.as_ref().err()) {
            Some(refused) => self.tell(format!("events were refused: {refused}")),
            None => self.told = None,
        }
        if began {
            let text = "redis is away: events that come in go into the spool on disk";
            let journal = &self.spool.0.journal;
            journal.tell(Level::Warning, "spool.began", None, text);
        }
        for (append, answer) in group.into_iter().zip(written.answers) {
            // Whoever asked may be gone; its events are kept all the same.
            let _ = append.answer.send(answer);
        }
        self.spool.0.came.notify_one();
    }

    /// Makes a write known; whether the spool was empty before.
    fn enter(&self, group: &[Append], written: &Written) -> bool {
        let mut index = self.spool.index();
        index.is_writing = false;
        let was_empty = index.waiting() == 0;
        index.segments.extend(written.begun.clone());
        index.used += written.n_bytes;
        if written.n_bytes > 0
            && let Some(last) = index.segments.back_mut()
        {
            (last.end, last.next) = (written.end, written.next);
        }
        for (append, answer) in group.iter().zip(&written.answers) {
            let Ok(last) = answer else { continue };
            let (first, next) = (last + 1 - append.events.len() as u64, last + 1);
            let has_room = index.owners.len() < OWNERS_MAX;
            match index.owners.back_mut() {
                Some(owner) if owner.next == first && owner.receipt.ptr_eq(&append.receipt) => {
                    owner.next = next;
                }
                _ if has_room => index.owners.push_back(Owner {
                    first,
                    next,
                    receipt: append.receipt.clone(),
                }),
                _ => {}
            }
        }
        self.spool.0.gauge.store(index.waiting(), Ordering::Relaxed);
        was_empty && index.waiting() > 0
    }

    fn tell(&mut self, text: String) {
        if self.told.as_ref() != Some(&text) {
            let journal = &self.spool.0.journal;
            journal.tell(Level::Error, "spool.refused", None, text.clone());
            self.told = Some(text);
        }
    }
}

impl State {
    /// Writes what fits as one group.
    fn write(&mut self, group: &[Append], used: u64, waiting: u64) -> Written {
        let mut bytes = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        let first = self.next;
        let mut next = first;
        for append in group {
            let before = (bytes.len(), next);
            let mut answer = Ok(());
            for event in &append.events {
                answer = self
                    .format
                    .encode(&mut bytes, next, first, event)
                    .map_err(|_| Refused::TooLarge);
                if answer.is_err() {
                    break;
                }
                next += 1;
            }
            if answer.is_ok() && used + bytes.len() as u64 > self.limit {
                answer = Err(Refused::Full {
                    waiting: waiting + (before.1 - first),
                    limit: self.limit,
                });
            }
            if answer.is_err() {
                bytes.truncate(before.0);
                next = before.1;
            }
            answers.push(answer.map(|()| next - 1));
        }
        let mut written = Written {
            answers,
            begun: None,
            end: self.tail.as_ref().map_or(0, |tail| tail.end),
            next: first,
            n_bytes: 0,
        };
        if bytes.is_empty() {
            return written;
        }
        match self.append(&bytes, &mut written) {
            Ok(()) => self.next = next,
            Err(error) => {
                let refused = Refused::Disk(error.to_string());
                for answer in &mut written.answers {
                    if answer.is_ok() {
                        *answer = Err(refused.clone());
                    }
                }
            }
        }
        written.next = self.next;
        written
    }

    fn append(&mut self, bytes: &[u8], written: &mut Written) -> std::io::Result<()> {
        let limit = SEGMENT_MAX.min(self.limit / SEGMENTS);
        let tail = match self.tail.take() {
            Some(tail) if tail.end < limit => self.tail.insert(tail),
            _ => {
                let (segment, tail) =
                    files::create(&self.dir, self.place + 1, self.format, self.next)?;
                self.place += 1;
                written.begun = Some(segment);
                self.tail.insert(tail)
            }
        };
        match tail.append(bytes) {
            Ok(()) => {
                written.end = tail.end;
                written.n_bytes = bytes.len() as u64;
                Ok(())
            }
            Err((error, is_spoilt)) => {
                if is_spoilt {
                    self.tail = None;
                }
                Err(error)
            }
        }
    }
}
