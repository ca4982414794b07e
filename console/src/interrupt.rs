//! Ctrl-C. Normally it ends the process at once with exit code 130; inside [`Interrupt::cooperate`] the first one is only
//! noted, so that a running plan or a half-read file can be left in order, and the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Exit;

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    seen: Arc<AtomicBool>,
    abrupt: Arc<AtomicBool>,
}

impl Interrupt {
    /// Registers the handlers. Fails only where the system refuses signal handlers; then Ctrl-C keeps its default.
    pub(crate) fn install() -> Self {
        let this = Self {
            seen: Arc::default(),
            abrupt: Arc::new(AtomicBool::new(true)),
        };
        // The order is the trick: the handlers run in it, so the first signal in a cooperative section passes the
        // shutdown, arms it, and is noted.
        let registered = flag::register_conditional_shutdown(
            SIGINT,
            i32::from(Exit::Interrupted.code()),
            Arc::clone(&this.abrupt),
        )
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

    /// Calls `tell` for each signal that asks the process to end (SIGINT, SIGTERM, SIGHUP) instead of ending it at once. For
    /// the rest of the process; `tell` gets how many came so far.
    ///
    /// # Errors
    /// When the system refuses handlers, a socket pair or a thread.
    pub(crate) fn on_end(&self, tell: impl Fn(u32) + Send + 'static) -> std::io::Result<()> {
        use std::io::Read as _;
        self.cooperate();
        let (mut heard, told) = std::os::unix::net::UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, told.try_clone()?)?;
        }
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut byte = [0_u8; 1];
                let mut n = 0;
                // Ends with the process: the writing end lives in the signal handlers.
                while heard.read_exact(&mut byte).is_ok() {
                    n += 1;
                    tell(n);
                }
                drop(told);
            })?;
        Ok(())
    }

    /// Whether Ctrl-C came since [`Interrupt::cooperate`].
    pub(crate) fn seen(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }
}
