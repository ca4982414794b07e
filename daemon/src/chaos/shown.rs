//! The experiment under way: its keeper writes it, the sampler puts it into each Snapshot.

use std::sync::{Arc, Mutex, PoisonError};

use pipectl_shared::chaos::Running;

/// Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<Mutex<Option<Running>>>);

impl Shown {
    /// What is shown from now on; `None` = no experiment runs.
    pub fn set(&self, running: Option<Running>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    /// The experiment under way.
    pub fn get(&self) -> Option<Running> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }
}
