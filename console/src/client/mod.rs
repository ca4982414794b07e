//! The control socket, blocking: connect, greeting, requests with deadlines, notifications.
//!
//! The daemon is not trusted: lines are limited, answers must fit their types, a flood of notifications is bounded, and
//! every wait has a deadline. Nothing here prints.

mod error;
mod lines;
mod locate;
mod whole;

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pipectl_shared::rpc::{FromServer, Hello, PROTOCOL, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use error::ClientError;
use lines::{LINE_BYTES_MAX, LineReader};
pub(crate) use locate::{Candidate, Places, is_listening};
pub(crate) use whole::Whole;

use crate::clock::Deadline;
use crate::interrupt::Interrupt;

/// Notifications kept while we wait for an answer; when full the oldest is dropped, because a sample or a progress report
/// is worth less the older it is.
const NOTIFICATIONS_MAX: usize = 1_024;

/// Answers kept that belong to other requests than the one waited for; more than our own window is a lie of the peer.
const ANSWERS_MAX: usize = 64;

/// The writing half of a connection.
#[derive(Debug)]
pub(crate) struct Sender {
    writer: UnixStream,
    next_id: u64,
    timeout: Duration,
}

/// The reading half of a connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    reader: LineReader,
}

/// A connection after its greeting.
#[derive(Debug)]
pub(crate) struct Client {
    sender: Sender,
    receiver: Receiver,
    hello: Hello,
    notifications: VecDeque<Request>,
    answers: VecDeque<Response>,
}

impl Client {
    /// Connects to one socket and reads the greeting; at most `timeout` in all.
    pub(crate) fn connect(
        path: &Path,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Self, ClientError> {
        let deadline = Deadline::after(timeout);
        let stream = locate::dial(path, deadline, interrupt)?;
        let io = |error| ClientError::Io {
            doing: "set up the connection",
            error,
        };
        stream.set_nonblocking(false).map_err(io)?;
        let writer = stream.try_clone().map_err(io)?;
        let mut reader = LineReader::new(stream, interrupt.clone());
        let line = match reader.next(deadline) {
            Ok(line) => line,
            Err(ClientError::Closed { .. }) => {
                return Err(ClientError::NoGreeting(
                    "the connection was closed before a greeting".to_owned(),
                ));
            }
            Err(other) => return Err(other),
        };
        let hello = greeting(&line)?;
        Ok(Self {
            sender: Sender {
                writer,
                next_id: 1,
                timeout,
            },
            receiver: Receiver { reader },
            hello,
            notifications: VecDeque::new(),
            answers: VecDeque::new(),
        })
    }

    /// What the daemon said first.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Asks and waits for the answer, at most the connection's timeout.
    pub(crate) fn call<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<T, ClientError> {
        let timeout = self.sender.timeout;
        self.call_until(method, params, Deadline::after(timeout))
    }

    /// Asks and waits for the answer until `deadline`.
    pub(crate) fn call_until<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        params: impl Serialize,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        let id = self.send(method, params)?;
        self.answer(method, id, deadline)
    }

    /// Sends a request without waiting; the returned id is for [`Client::answer`].
    pub(crate) fn send(
        &mut self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<u64, ClientError> {
        self.sender.send(method, params)
    }

    /// Parts the halves, for one thread that writes and one that reads. What was received and not taken is dropped.
    pub(crate) fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Waits for the answer to request `id`. Notifications that come meanwhile are kept for [`Client::notification`].
    pub(crate) fn answer<T: DeserializeOwned>(
        &mut self,
        method: &'static str,
        id: u64,
        deadline: Deadline,
    ) -> Result<T, ClientError> {
        loop {
            if let Some(value) = self.take_answer(id)? {
                return serde_json::from_value(value).map_err(|error| ClientError::Nonsense {
                    what: format!("the answer to {method}: {error}"),
                });
            }
            self.receive(deadline)
                .map_err(|error| error.during(method))?;
        }
    }

    /// The answer to request `id` if it has come by `deadline`, else `None`.
    pub(crate) fn answer_by(
        &mut self,
        id: u64,
        deadline: Deadline,
    ) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(value) = self.take_answer(id)? {
                return Ok(Some(value));
            }
            match self.receive(deadline) {
                Ok(()) => {}
                Err(ClientError::TimedOut { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next notification by `deadline`, else `None`.
    pub(crate) fn notification(
        &mut self,
        deadline: Deadline,
    ) -> Result<Option<Request>, ClientError> {
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                return Ok(Some(notification));
            }
            match self.receive(deadline) {
                Ok(()) => {}
                Err(ClientError::TimedOut { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets time pass until `deadline` while the connection is listened to, so that Ctrl-C and its end are noticed.
    pub(crate) fn idle(&mut self, deadline: Deadline) -> Result<(), ClientError> {
        loop {
            match self.receive(deadline) {
                Ok(()) => {}
                Err(ClientError::TimedOut { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// A notification that has come already.
    pub(crate) fn pending_notification(&mut self) -> Option<Request> {
        self.notifications.pop_front()
    }

    fn take_answer(&mut self, id: u64) -> Result<Option<Value>, ClientError> {
        let Some(at) = self
            .answers
            .iter()
            .position(|answer| answer.id.as_u64() == Some(id))
        else {
            return Ok(None);
        };
        let Some(answer) = self.answers.remove(at) else {
            return Ok(None);
        };
        match (answer.result, answer.error) {
            (_, Some(error)) => Err(ClientError::Refusal(error)),
            (Some(result), None) => Ok(Some(result)),
            // A `result` of null arrives as none.
            (None, None) => Ok(Some(Value::Null)),
        }
    }

    fn receive(&mut self, deadline: Deadline) -> Result<(), ClientError> {
        match self.receiver.next(deadline)? {
            FromServer::Notification(request) => {
                if self.notifications.len() == NOTIFICATIONS_MAX {
                    self.notifications.pop_front();
                }
                self.notifications.push_back(request);
            }
            // The daemon answers a line it could not read with the id null, and may hang up after it.
            FromServer::Response(Response {
                id: Value::Null,
                error: Some(error),
                ..
            }) => {
                return Err(ClientError::Refusal(error));
            }
            FromServer::Response(response) => {
                if self.answers.len() == ANSWERS_MAX {
                    return Err(ClientError::Nonsense {
                        what: "more answers than questions".to_owned(),
                    });
                }
                self.answers.push_back(response);
            }
        }
        Ok(())
    }
}

impl Sender {
    /// Sends a request without waiting; returns its id, which its answer carries.
    pub(crate) fn send(
        &mut self,
        method: &'static str,
        params: impl Serialize,
    ) -> Result<u64, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let encode = |error: serde_json::Error| ClientError::Encode {
            method,
            why: error.to_string(),
        };
        let request = Request {
            jsonrpc: "2.0".to_owned(),
            id: Some(Value::from(id)),
            method: method.to_owned(),
            params: serde_json::to_value(params).map_err(encode)?,
        };
        let mut line = serde_json::to_vec(&request).map_err(encode)?;
        if line.len() >= LINE_BYTES_MAX {
            return Err(ClientError::Encode {
                method,
                why: format!("{} bytes are more than one line may have", line.len()),
            });
        }
        line.push(b'\n');
        // A peer that stops reading must not hold us for ever.
        let io = |error| ClientError::from_io("send a request", error);
        self.writer
            .set_write_timeout(Some(self.timeout.max(Duration::from_millis(1))))
            .map_err(io)?;
        self.writer.write_all(&line).map_err(io)?;
        Ok(id)
    }

    /// Ends the connection for both halves: a reader that blocks returns.
    pub(crate) fn hang_up(&self) {
        // It may be closed already, which is as good.
        let _closed = self.writer.shutdown(std::net::Shutdown::Both);
    }
}

impl Receiver {
    /// The next message, at the latest at `deadline`.
    pub(crate) fn next(&mut self, deadline: Deadline) -> Result<FromServer, ClientError> {
        let line = self.reader.next(deadline)?;
        serde_json::from_slice(&line).map_err(|error| ClientError::Nonsense {
            what: format!("a line that is no message: {error}"),
        })
    }
}

fn greeting(line: &[u8]) -> Result<Hello, ClientError> {
    let nonsense = |why: String| ClientError::NoGreeting(why);
    let request = match serde_json::from_slice(line)
        .map_err(|error| nonsense(format!("it does not speak our protocol: {error}")))?
    {
        FromServer::Notification(request) => request,
        // It has no place for us, or we may not come in; it says which and hangs up.
        FromServer::Response(Response {
            id: Value::Null,
            error: Some(error),
            ..
        }) => return Err(ClientError::Refusal(error)),
        FromServer::Response(_) => return Err(nonsense("it does not greet".to_owned())),
    };
    if request.method != "hello" {
        return Err(nonsense(format!(
            "it greets with {:?} instead of \"hello\"",
            request.method
        )));
    }
    // The version first: a daemon of another major may shape the rest as it likes.
    if let Some(protocol) = request.params.get("protocol").and_then(Value::as_u64)
        && protocol != u64::from(PROTOCOL)
    {
        let version = request
            .params
            .get("version")
            .and_then(Value::as_str)
            .unwrap_or("of unknown version")
            .to_owned();
        return Err(ClientError::OtherProtocol {
            theirs: protocol,
            version,
        });
    }
    serde_json::from_value(request.params)
        .map_err(|error| nonsense(format!("its greeting is broken: {error}")))
}
