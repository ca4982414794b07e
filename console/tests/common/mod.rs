//! A daemon made of one closure, and the real `pipectl` run against it.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]
#![allow(dead_code, reason = "each test file uses its part of this")]

pub(crate) mod session;
#[allow(
    unreachable_pub,
    reason = "the tests of the other package read the same file"
)]
pub(crate) mod strict;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipectl::clock::{self, Deadline};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Ten times what the slowest of these commands should need.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An answer that is no text but the signal of that key.
pub(crate) const CTRL_C: &str = "\u{3}";

/// What the fake daemon does with a request.
pub(crate) enum Reply {
    /// Answers.
    Ok(Value),
    /// Refuses with code, message and hint.
    Err(i64, &'static str, &'static str),
    /// Sends these notifications (method, params), then answers.
    Told(Vec<(&'static str, Value)>, Value),
    /// Sends these bytes as they are.
    Raw(Vec<u8>),
    /// Sends these bytes and closes the connection.
    RawThenClose(Vec<u8>),
    /// Sends these bytes again and again until the peer hangs up, and answers nothing any more.
    Flood(Vec<u8>),
    /// Says nothing.
    Silence,
}

type Handler = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// Listens until it is dropped.
pub(crate) struct Fake {
    pub(crate) dir: TempDir,
    pub(crate) socket: PathBuf,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

/// The greeting of a daemon that is as ours.
pub(crate) fn hello() -> Value {
    json!({"jsonrpc": "2.0", "method": "hello", "params": {
        "protocol": 1, "version": env!("CARGO_PKG_VERSION"), "config_hash": "00112233aabbccdd", "role": "admin",
        "identity": {"uid": 0, "gid": 0, "pid": 1, "user": "root"}, "pipeline": "orders", "pid": 4_194_999,
        "time": "2026-01-01T00:00:00.000Z", "specs": []}})
}

impl Fake {
    pub(crate) fn new(handler: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::greeting(format!("{}\n", hello()).into_bytes(), handler)
    }

    /// One that greets with these bytes.
    pub(crate) fn greeting(
        greeting: Vec<u8>,
        handler: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let requests = listen(&socket, greeting, handler);
        Self {
            dir,
            socket,
            requests,
        }
    }

    /// What was asked so far, in order.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self, method: &str) -> Vec<Value> {
        self.requests()
            .into_iter()
            .filter(|(name, _)| name == method)
            .map(|(_, params)| params)
            .collect()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = pipectl();
        command.arg("--socket").arg(&self.socket).args(args);
        command
    }
}

/// Serves the socket from threads of this test process.
pub(crate) fn listen(
    socket: &Path,
    greeting: Vec<u8>,
    handler: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static,
) -> Arc<Mutex<Vec<(String, Value)>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let requests: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
    let handler: Arc<Handler> = Arc::new(handler);
    let told = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (handler, told, greeting) =
                (Arc::clone(&handler), Arc::clone(&told), greeting.clone());
            std::thread::spawn(move || {
                // The client hanging up is its right.
                let _ = serve(&stream.unwrap(), &greeting, &*handler, &told);
            });
        }
    });
    requests
}

fn serve(
    mut stream: &UnixStream,
    greeting: &[u8],
    handler: &Handler,
    told: &Mutex<Vec<(String, Value)>>,
) -> std::io::Result<()> {
    stream.write_all(greeting)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let request: Value = serde_json::from_str(&line).unwrap();
        line.clear();
        let method = request["method"].as_str().unwrap().to_owned();
        told.lock()
            .unwrap()
            .push((method.clone(), request["params"].clone()));
        let id = request["id"].clone();
        let answer = |result: Value| {
            format!(
                "{}\n",
                json!({"jsonrpc": "2.0", "id": id, "result": result})
            )
        };
        match handler(&method, &request["params"]) {
            Reply::Ok(result) => stream.write_all(answer(result).as_bytes())?,
            Reply::Err(code, message, hint) => {
                let error = json!({"code": code, "message": message, "data": {"hint": hint}});
                let line = format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "error": error}));
                stream.write_all(line.as_bytes())?;
            }
            Reply::Told(notifications, result) => {
                for (method, params) in notifications {
                    let line = format!(
                        "{}\n",
                        json!({"jsonrpc": "2.0", "method": method, "params": params})
                    );
                    stream.write_all(line.as_bytes())?;
                }
                stream.write_all(answer(result).as_bytes())?;
            }
            Reply::Raw(bytes) => stream.write_all(&bytes)?,
            Reply::RawThenClose(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(std::net::Shutdown::Both)?;
                return Ok(());
            }
            Reply::Flood(bytes) => loop {
                stream.write_all(&bytes)?;
            },
            Reply::Silence => {}
        }
    }
    Ok(())
}

/// `pipectl` in an environment that holds nothing of the machine's.
pub(crate) fn pipectl() -> Command {
    clean(Path::new(env!("CARGO_BIN_EXE_pipectl")))
}

pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in [
        "PIPELINED_SOCKET",
        "PIPELINED_DATA",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
        "NO_COLOR",
        "COLUMNS",
    ] {
        command.env_remove(name);
    }
    command
        .env("HOME", "/nonexistent")
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs to the end, or fails the test when that takes too long.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Ran {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (tx, rx) = sync_channel(1);
    std::thread::spawn(move || tx.send(child.wait_with_output()));
    let Ok(output) = rx.recv_timeout(PATIENCE) else {
        kill(pid, rustix::process::Signal::KILL);
        panic!("{command:?} did not end within {PATIENCE:?}");
    };
    let output = output.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Polls until it is so, or fails the test.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Deadline::after(PATIENCE);
    while !is_so() {
        assert!(!deadline.is_over(), "waited too long until {what}");
        clock::pause(Duration::from_millis(10));
    }
}

/// Runs on a terminal of its own and types `answer` when `question` has appeared. Returns the exit code and all that was
/// written to the terminal.
#[track_caller]
pub(crate) fn on_terminal(
    mut command: Command,
    question: &str,
    answer: &str,
) -> (Option<i32>, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let open = || {
        File::options()
            .read(true)
            .write(true)
            .open(OsStr::new(name.to_str().unwrap()))
            .unwrap()
    };
    let mut child = command
        .stdin(open())
        .stdout(open())
        .stderr(open())
        .spawn()
        .unwrap();
    let mut master = File::from(master);
    let mut writer = master.try_clone().unwrap();
    let seen: Arc<Mutex<String>> = Arc::default();
    let told = Arc::clone(&seen);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        // The end of the last process on it ends the terminal with an error.
        while let Ok(n) = master.read(&mut chunk) {
            told.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&chunk[..n]));
            if n == 0 {
                break;
            }
        }
    });
    if !question.is_empty() {
        until(&format!("it asks {question:?}"), || {
            seen.lock().unwrap().contains(question)
        });
        if answer == CTRL_C {
            // Not typed, because this terminal is nobody's controlling terminal.
            kill(child.id(), rustix::process::Signal::INT);
        } else {
            writer.write_all(answer.as_bytes()).unwrap();
        }
    }
    let mut code = None;
    until("it ends", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    // What was written last may still be on its way through the terminal.
    clock::pause(Duration::from_millis(50));
    let text = seen.lock().unwrap().clone();
    (code.and_then(|status| status.code()), text)
}

/// (A joiner may stay inside an emoji.) No byte of the text is a control character but our newlines, and no character reorders or hides others.
#[track_caller]
pub(crate) fn assert_clean(what: &str, text: &str) {
    for c in text.chars() {
        let hidden = matches!(u32::from(c), 0x200b..=0x200c | 0x200e..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe0000..=0xe007f);
        assert!(
            (!c.is_control() || c == '\n') && !hidden,
            "{what}: {c:?} in {text:?}"
        );
    }
}
