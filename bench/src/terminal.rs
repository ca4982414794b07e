//! `pipectl` on a terminal of its own, read all the time, as a terminal does that is never the slow one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::daemon::sibling;
use crate::strict::Strict;

/// What should come, comes by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// A console that runs; killed when dropped.
pub(crate) struct Session {
    child: Child,
    master: File,
    shown: Arc<Shown>,
    begun: Instant,
}

struct Shown {
    strict: Mutex<Strict>,
    changed: Condvar,
}

impl Shown {
    fn strict(&self) -> MutexGuard<'_, Strict> {
        self.strict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Starts it on a daemon's socket.
    pub(crate) fn open(socket: &Path, size: (u16, u16), args: &[&str]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("open a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let open = || {
            let path = OsStr::new(name.to_str().unwrap_or_default());
            File::options().read(true).write(true).open(path)
        };
        tcsetwinsize(
            &master,
            Winsize {
                ws_row: size.1,
                ws_col: size.0,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )?;
        let master = File::from(master);
        let mut reader = master.try_clone()?;
        let (stdin, stdout, stderr) = (open()?, open()?, open()?);
        let mut command = Command::new(sibling("pipectl")?);
        command
            .arg("--socket")
            .arg(socket)
            .args(args)
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env_remove("NO_COLOR")
            .env_remove("SSH_CONNECTION")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let shown = Arc::new(Shown {
            strict: Mutex::new(Strict::new(size.0, size.1)),
            changed: Condvar::new(),
        });
        let begun = Instant::now();
        let child = command.spawn().context("start pipectl")?;
        // It holds our ends of the terminal, which must close when it ends.
        drop(command);
        let told = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut chunk = [0; 64 * 1024];
            // The end of the last process on it ends the terminal with an error.
            while let Ok(n) = reader.read(&mut chunk) {
                if n == 0 {
                    return;
                }
                told.strict().take(&chunk[..n]);
                told.changed.notify_all();
            }
        });
        Ok(Self {
            child,
            master,
            shown,
            begun,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes written to the terminal so far.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.shown.strict().n_bytes()
    }

    /// Waits until this stands on the screen; the time since its start.
    pub(crate) fn sees(&self, wanted: &str) -> Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        let mut strict = self.shown.strict();
        loop {
            if strict.text().contains(wanted) {
                return Ok(self.begun.elapsed());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{wanted:?} never came; there is\n{}", strict.text());
            }
            strict = self
                .shown
                .changed
                .wait_timeout(strict, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn press(&mut self, keys: &str) -> Result<()> {
        self.master
            .write_all(keys.as_bytes())
            .context("type on the terminal")
    }

    /// Quits; insists that it ended well and wrote nothing but its own sequences.
    pub(crate) fn quit(mut self) -> Result<()> {
        self.press("\u{3}")?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "the console ended with {ended}");
        let strict = self.shown.strict();
        ensure!(
            strict.faults().is_empty(),
            "the console wrote {:?}",
            strict.faults()
        );
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
