//! The mender: makes missing groups and a lost ledger again, once for all workers that notice at the same time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::journal::{Journal, Level};
use crate::store::{Admin, Result};

/// Workers that notice the same loss within this time share one mending.
const ONCE_IN: Duration = Duration::from_millis(100);

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Mender {
    admin: Arc<dyn Admin>,
    journal: Journal,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Mender {
    pub(super) fn new(admin: Arc<dyn Admin>, journal: Journal) -> Self {
        Self {
            admin,
            journal,
            last: Arc::default(),
        }
    }

    /// Mends what is missing, because `stage` found `why`.
    pub(super) async fn mend(&self, stage: &str, why: &str) -> Result<()> {
        let mut last = self.last.lock().await;
        if last.is_some_and(|at| at.elapsed() < ONCE_IN) {
            return Ok(());
        }
        self.journal
            .tell(Level::Warning, "group.missing", Some(stage), why);
        self.prepare().await?;
        *last = Some(Instant::now());
        Ok(())
    }

    /// Looks after everything when the store answers again after an outage.
    pub(super) async fn look(&self) -> Result<()> {
        let mut last = self.last.lock().await;
        if last.is_some_and(|at| at.elapsed() < ONCE_IN) {
            return Ok(());
        }
        self.prepare().await?;
        *last = Some(Instant::now());
        Ok(())
    }

    /// Looks after groups and ledger and tells what it had to mend.
    pub(super) async fn prepare(&self) -> Result<()> {
        for mended in self.admin.prepare().await? {
            let level = if mended.what == "group.created" {
                Level::Info
            } else {
                Level::Warning
            };
            self.journal
                .tell(level, mended.what, mended.stage.as_deref(), mended.detail);
        }
        Ok(())
    }
}
