//! The control socket by hand: what any program may write to it, right or wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::house::PATIENCE;

pub struct Control {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    n_sent: u64,
}

impl Control {
    /// Connects and reads the greeting.
    #[track_caller]
    pub fn open(socket: &Path) -> Self {
        let mut control = Self::open_unread(socket);
        let hello = control.line();
        assert_eq!(hello["method"], "hello", "{hello}");
        control
    }

    /// Connects and reads nothing.
    #[track_caller]
    pub fn open_unread(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("connect to the control socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time limit");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        Self {
            stream,
            reader,
            n_sent: 0,
        }
    }

    /// Bytes as they are. Whether the daemon still takes them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next line; `null` when the daemon closed the connection.
    #[track_caller]
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Value::Null,
            Ok(_) => {
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"))
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Value::Null,
            Err(error) => panic!("no line from the daemon: {error}"),
        }
    }

    /// Asks; the whole answer, with `result` or `error`.
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "calls read better with a document made in place"
    )]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.n_sent += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.n_sent, "method": method, "params": params});
        assert!(
            self.send(format!("{request}\n").as_bytes()),
            "the daemon takes no request"
        );
        loop {
            let line = self.line();
            assert!(!line.is_null(), "closed before the answer to {method}");
            if line["id"] == self.n_sent {
                return line;
            }
        }
    }

    /// Asks; `None` when the daemon died or refused before it answered.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "calls read better with a document made in place"
    )]
    pub fn try_call(&mut self, method: &str, params: Value) -> Option<Value> {
        self.n_sent += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.n_sent, "method": method, "params": params});
        if !self.send(format!("{request}\n").as_bytes()) {
            return None;
        }
        loop {
            let mut line = self.line();
            if line.is_null() {
                return None;
            }
            if line["id"] == self.n_sent {
                return line.get("result").is_some().then(|| line["result"].take());
            }
        }
    }

    /// Asks and insists on a result.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Waits for a notification that answers the question.
    pub fn wait_note<T>(&mut self, method: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let line = self.line();
            assert!(
                !line.is_null(),
                "closed before the {method} that was waited for"
            );
            if line["method"] == method
                && let Some(found) = look(&line["params"])
            {
                return found;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "waited for a {method}; the last was {line}"
            );
        }
    }
}
