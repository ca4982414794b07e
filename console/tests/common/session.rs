//! The console on a terminal of its own, typed at and looked at.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipectl::clock::{self, Deadline};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::strict::Strict;
use super::{PATIENCE, kill, until};

/// A console that runs. Killed when dropped.
pub(crate) struct Session {
    child: Child,
    master: Option<File>,
    /// Keeps the terminal alive, with its modes, when the console has ended.
    slave: File,
    before: Termios,
    strict: Arc<Mutex<Strict>>,
    is_read: Arc<AtomicBool>,
    is_gone: Arc<AtomicBool>,
}

impl Session {
    /// Starts it on a terminal of this size.
    #[track_caller]
    pub(crate) fn open(mut command: Command, columns: u16, rows: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
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
        let master = File::from(master);
        let slave = open();
        tcsetwinsize(&master, winsize(columns, rows)).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let child = command
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let strict = Arc::new(Mutex::new(Strict::new(columns, rows)));
        let is_read = Arc::new(AtomicBool::new(true));
        let is_gone = Arc::new(AtomicBool::new(false));
        let (shown, reads, gone) = (
            Arc::clone(&strict),
            Arc::clone(&is_read),
            Arc::clone(&is_gone),
        );
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                while !reads.load(Ordering::SeqCst) {
                    clock::pause(Duration::from_millis(5));
                }
                match reader.read(&mut chunk) {
                    _ if gone.load(Ordering::SeqCst) => return,
                    Ok(n) if n > 0 => shown.lock().unwrap().take(&chunk[..n]),
                    // The end of the last process on it ends the terminal with an error.
                    _ => return,
                }
            }
        });
        Self {
            child,
            master: Some(master),
            slave,
            before,
            strict,
            is_read,
            is_gone,
        }
    }

    /// Presses keys, all at once.
    pub(crate) fn press(&self, keys: impl AsRef<[u8]>) {
        self.master
            .as_ref()
            .unwrap()
            .write_all(keys.as_ref())
            .unwrap();
    }

    /// Presses keys one after the other, as a person does: with the pause that tells them from a paste.
    pub(crate) fn walk(&self, keys: &str) {
        for key in keys.chars() {
            self.press(key.to_string());
            clock::pause(Duration::from_millis(8));
        }
    }

    /// What is on the screen.
    pub(crate) fn text(&self) -> String {
        self.strict.lock().unwrap().text()
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&Strict) -> T) -> T {
        look(&self.strict.lock().unwrap())
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub(crate) fn sees(&self, text: &str) {
        let deadline = Deadline::after(PATIENCE);
        while !self.text().contains(text) {
            assert!(
                !deadline.is_over(),
                "{text:?} never came; there is\n{}",
                self.text()
            );
            clock::pause(Duration::from_millis(10));
        }
    }

    /// Waits until this is no longer on the screen.
    #[track_caller]
    pub(crate) fn sees_no(&self, text: &str) {
        until(&format!("{text:?} is gone"), || !self.text().contains(text));
    }

    /// Opens help and leaves it: a console that does this is alive and takes keys.
    #[track_caller]
    pub(crate) fn answers(&self) {
        self.press("?");
        self.sees("help: ");
        self.press("\u{1b}");
        self.sees_no("help: ");
    }

    /// Changes the size of the terminal.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.strict.lock().unwrap().resize(columns, rows);
        tcsetwinsize(self.master.as_ref().unwrap(), winsize(columns, rows)).unwrap();
        // The kernel tells it to the processes of a controlling terminal; this one is nobody's.
        self.signal(Signal::WINCH);
    }

    /// Whether the terminal reads what is written to it.
    pub(crate) fn reads(&self, is_read: bool) {
        self.is_read.store(is_read, Ordering::SeqCst);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Whether its main thread is inside write(2): with a terminal that does not read, for good. By the number of the system
    /// call, which is 1 on x86-64 and 64 elsewhere; told to the same user only.
    pub(crate) fn is_held(&self) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", self.child.id()));
        let call = call.unwrap_or_default();
        let mut words = call.split(' ');
        let number = if cfg!(target_arch = "x86_64") {
            "1"
        } else {
            "64"
        };
        words.next() == Some(number) && words.next() == Some("0x1")
    }

    /// Takes the terminal away. What reads it notices with the next frame, which a console draws each second.
    pub(crate) fn hang_up(&mut self) {
        self.is_gone.store(true, Ordering::SeqCst);
        self.master = None;
    }

    /// Waits until the console has ended, by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Deadline::after(patience);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                !deadline.is_over(),
                "it does not end; there is\n{}",
                self.text()
            );
            clock::pause(Duration::from_millis(5));
        }
    }

    /// Insists that the terminal is as it was, and that nothing but our own sequences was written.
    #[track_caller]
    pub(crate) fn is_as_before(&self) {
        self.is_given_back();
        self.is_ours();
    }

    /// Insists that the terminal is as it was. For a console that had to end while its terminal did not read: what was thrown
    /// away then may have been the middle of a character or of a sequence.
    #[track_caller]
    pub(crate) fn is_given_back(&self) {
        until("the ordinary screen is back", || {
            self.with(|strict| !strict.is_alternate() && strict.is_cursor_shown())
        });
        let now = tcgetattr(&self.slave).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
    }

    /// Insists that nothing but our own sequences was written.
    #[track_caller]
    pub(crate) fn is_ours(&self) {
        let faults = self.with(|strict| strict.faults().to_vec());
        assert!(faults.is_empty(), "{faults:?}\n{}", self.text());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reads(true);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn winsize(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
