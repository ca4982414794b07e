//! Pushing events through the control socket: a window of four unanswered pushes, and back-pressure obeyed.

use std::collections::VecDeque;
use std::time::Duration;

use pipectl_shared::rpc::{
    Code, IngestClosed, IngestEvent, IngestOpenParams, IngestOpened, IngestPushParams, IngestPushed,
};
use serde_json::json;

use super::feed::Line;
use crate::client::{Client, ClientError};
use crate::clock::Deadline;

/// Encoded bytes of the events of one push; the contract allows 512 KiB with the frame around them.
const PUSH_BYTES_MAX: usize = 502 * 1024;

/// Pushes that may be unanswered at once (contract.md).
const WINDOW: usize = 4;

/// How long to wait when the daemon refuses for now without saying for how long.
const BREATH: Duration = Duration::from_secs(1);

/// How long nothing at all may be accepted, unless `--timeout` says otherwise.
const STANDSTILL: Duration = Duration::from_secs(300);

/// What became of the lines so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) deduplicated: u64,
    pub(super) rejected: u64,
}

/// One ingest session.
pub(super) struct Sender<'a> {
    client: &'a mut Client,
    session: String,
    batch: Vec<IngestEvent>,
    batch_bytes: usize,
    window: VecDeque<Flight>,
    limit: Option<Deadline>,
    standstill: Deadline,
    /// Answered lines.
    pub(super) counts: Counts,
    /// Why lines were refused for good, the first time.
    pub(super) refusal: Option<String>,
}

struct Flight {
    request: u64,
    events: Vec<IngestEvent>,
}

/// Events to be pushed again, after a while.
struct Back {
    events: Vec<IngestEvent>,
    wait: Duration,
}

impl<'a> Sender<'a> {
    /// Opens a session. `limit` bounds everything; without it only a standstill ends the wait.
    pub(super) fn open(
        client: &'a mut Client,
        name: &str,
        limit: Option<Deadline>,
    ) -> Result<Self, ClientError> {
        let opened: IngestOpened = client.call(
            "ingest.open",
            IngestOpenParams {
                name: name.to_owned(),
            },
        )?;
        Ok(Self {
            client,
            session: opened.session,
            batch: Vec::new(),
            batch_bytes: 0,
            window: VecDeque::new(),
            limit,
            standstill: Deadline::after(STANDSTILL),
            counts: Counts::default(),
            refusal: None,
        })
    }

    /// Takes a line; pushes when enough are together.
    pub(super) fn add(&mut self, line: Line) -> Result<(), ClientError> {
        if !self.batch.is_empty() && self.batch_bytes + line.bytes + 1 > PUSH_BYTES_MAX {
            self.flush()?;
        }
        self.batch_bytes += line.bytes + 1;
        self.batch.push(line.event);
        Ok(())
    }

    /// Pushes what is together.
    pub(super) fn flush(&mut self) -> Result<(), ClientError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.make_room(WINDOW - 1)?;
        let events = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.push(events)
    }

    /// Waits until every push is answered.
    pub(super) fn finish(&mut self) -> Result<(), ClientError> {
        self.flush()?;
        self.make_room(0)
    }

    /// Polls until the session's own entries are settled; `Ok(None)` when time ran out. With `wait` false it only closes.
    pub(super) fn close(
        &mut self,
        wait: bool,
    ) -> Result<(Option<IngestClosed>, bool), ClientError> {
        let deadline = self.limit.unwrap_or_else(|| Deadline::after(STANDSTILL));
        let mut pause = Duration::from_millis(20);
        let mut last = None;
        loop {
            let params = json!({"session": self.session, "wait": wait});
            let trouble = match self.client.call::<IngestClosed>("ingest.close", params) {
                Ok(closed) => {
                    let settled = closed.settled;
                    last = Some(closed);
                    if settled || !wait {
                        return Ok((last, settled));
                    }
                    None
                }
                Err(error) if is_for_now(&error) => Some(error),
                Err(error) => return Err(error),
            };
            if deadline.is_over() {
                return match trouble {
                    Some(error) if last.is_none() => Err(error),
                    _ => Ok((last, false)),
                };
            }
            self.client.idle(deadline.or_after(pause))?;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    fn push(&mut self, events: Vec<IngestEvent>) -> Result<(), ClientError> {
        let params = IngestPushParams {
            session: self.session.clone(),
            events,
        };
        let request = self.client.send("ingest.push", &params)?;
        self.window.push_back(Flight {
            request,
            events: params.events,
        });
        Ok(())
    }

    /// Waits for answers until at most `room` pushes are unanswered. On back-pressure all answers are waited for, and what
    /// was refused is pushed again in its order; what a later push got in meanwhile stays in.
    fn make_room(&mut self, room: usize) -> Result<(), ClientError> {
        while self.window.len() > room {
            let Some(first) = self.answer_oldest()? else {
                continue;
            };
            let mut again = vec![first];
            while !self.window.is_empty() {
                again.extend(self.answer_oldest()?);
            }
            let wait = again.iter().map(|back| back.wait).max().unwrap_or_default();
            let patience = self.patience();
            if patience.is_over() {
                return Err(ClientError::TimedOut {
                    method: Some("ingest.push"),
                });
            }
            self.client.idle(patience.or_after(wait))?;
            for back in again {
                self.push(back.events)?;
            }
        }
        Ok(())
    }

    fn patience(&self) -> Deadline {
        self.limit.unwrap_or(self.standstill)
    }

    /// The answer to the oldest push: counts it, and returns what is to be pushed again.
    fn answer_oldest(&mut self) -> Result<Option<Back>, ClientError> {
        let Some(mut flight) = self.window.pop_front() else {
            return Ok(None);
        };
        let answered =
            self.client
                .answer::<IngestPushed>("ingest.push", flight.request, self.patience());
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) if is_for_now(&error) => {
                return Ok(Some(Back {
                    events: flight.events,
                    wait: BREATH,
                }));
            }
            Err(error) => return Err(error),
        };
        let n = flight.events.len() as u64;
        if answer.accepted > n || answer.rejected > n || answer.deduplicated > answer.accepted {
            return Err(ClientError::Nonsense {
                what: "an answer to ingest.push that counts more than was pushed".to_owned(),
            });
        }
        self.counts.accepted += answer.accepted;
        self.counts.deduplicated += answer.deduplicated;
        if answer.accepted > 0 {
            self.standstill = Deadline::after(STANDSTILL);
        }
        if answer.rejected == 0 {
            return Ok(None);
        }
        let from = answer.first_rejected.map_or(n, |at| at.min(n));
        let mut tail = flight
            .events
            .split_off(usize::try_from(from).unwrap_or(usize::MAX));
        if answer.retry_after_ms > 0 && !tail.is_empty() {
            return Ok(Some(Back {
                events: tail,
                wait: Duration::from_millis(answer.retry_after_ms.min(60_000)),
            }));
        }
        // Refused for good: the first of the tail, or as many as the daemon says when it does not say which. The rest of
        // the tail was not looked at.
        self.refusal = self.refusal.take().or(answer.reason);
        if tail.is_empty() {
            self.counts.rejected += answer.rejected;
            return Ok(None);
        }
        self.counts.rejected += 1;
        tail.remove(0);
        Ok((!tail.is_empty()).then_some(Back {
            events: tail,
            wait: Duration::ZERO,
        }))
    }
}

/// Whether the daemon will take it later: its queues are full, or Redis is away.
fn is_for_now(error: &ClientError) -> bool {
    matches!(error, ClientError::Refusal(error) if error.is(Code::Busy) || error.is(Code::Unavailable))
}
