//! Ctrl-C. Normally it ends the process at once with exit code 130; inside [`Interrupt::cooperate`] the first one is only
//! noted, so that a running plan or a half-read file can be left in order, and the second one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
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

    /// Whether Ctrl-C came since [`Interrupt::cooperate`].
    pub(crate) fn seen(&self) -> bool {
        self.seen.load(Ordering::SeqCst)
    }
}
