//! Ctrl-C. Normally it ends the process at once with exit code 130; inside [`Interrupt::cooperate`] the first one is only
//! noted, so that a running plan or a half-read file can be left in order, and the second one ends the process.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::{SigId, flag, low_level};

use crate::failure::Exit;

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    seen: Arc<AtomicBool>,
    abrupt: Arc<AtomicBool>,
    /// What ends the process at the second Ctrl-C.
    shutdown: Option<SigId>,
}

impl Interrupt {
    /// Registers the handlers. Fails only where the system refuses signal handlers; then Ctrl-C keeps its default.
    pub(crate) fn install() -> Self {
        let mut this = Self {
            seen: Arc::default(),
            abrupt: Arc::new(AtomicBool::new(true)),
            shutdown: None,
        };
        // The order is the trick: the handlers run in it, so the first signal in a cooperative section passes the
        // shutdown, arms it, and is noted.
        let registered = flag::register_conditional_shutdown(
            SIGINT,
            i32::from(Exit::Interrupted.code()),
            Arc::clone(&this.abrupt),
        )
        .inspect(|id| this.shutdown = Some(*id))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&this.abrupt)))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&this.seen)));
        if registered.is_err() {
            this.abrupt.store(true, Ordering::SeqCst);
        }
        this
    }

    /// From now on the first Ctrl-C is only noted; for the rest of the process.
    pub(crate) fn cooperate(&self) {
        self.abrupt.store(false, Ordering::SeqCst);
    }

    /// Calls `tell` for each signal that asks the process to end (SIGINT, SIGTERM, SIGHUP) instead of ending it, from a thread
    /// of its own, for the rest of the process. It is `tell` who must see to the end, also at the second Ctrl-C.
    ///
    /// # Errors
    /// When the system refuses handlers, a socket pair or a thread.
    pub(crate) fn on_end(&self, tell: impl Fn() + Send + 'static) -> std::io::Result<()> {
        self.cooperate();
        call(&[SIGINT, SIGTERM, SIGHUP], tell)?;
        if let Some(id) = self.shutdown {
            // It would end the process with the terminal as it is.
            low_level::unregister(id);
        }
        Ok(())
    }

    /// Calls `tell` when the terminal has a new size, from a thread of its own, for the rest of the process.
    ///
    /// # Errors
    /// As [`Interrupt::on_end`].
    pub(crate) fn on_resize(&self, tell: impl Fn() + Send + 'static) -> std::io::Result<()> {
        call(&[SIGWINCH], tell)
    }

    /// Whether Ctrl-C came since [`Interrupt::cooperate`].
    pub(crate) fn seen(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }
}

/// A thread that calls `tell` for each of these signals; several at once may be one call.
fn call(signals: &[i32], tell: impl Fn() + Send + 'static) -> std::io::Result<()> {
    let (mut heard, told) = UnixStream::pair()?;
    for signal in signals {
        low_level::pipe::register(*signal, told.try_clone()?)?;
    }
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut bytes = [0_u8; 64];
            // Ends with the process: the writing end lives in the signal handlers.
            while heard.read(&mut bytes).is_ok_and(|n| n > 0) {
                tell();
            }
            drop(told);
        })?;
    Ok(())
}
