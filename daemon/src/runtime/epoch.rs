//! The keeper of the stream's epoch: remembers outside the store how far the stream was, so that a store that goes back to
//! an earlier instant, its own memory of that included, is found out and ids recorded elsewhere are not mistaken.
//!
//! One task, owned by `app`; ends with the token; blocks on the store and on one small file in the data folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngCore as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use crate::journal::{Journal, Level};
use crate::store::{Admin, StoreError, StreamMark};

/// What came and went with a server between two looks is not noticed here: whoever notes ids elsewhere asks the store with
/// its own last one ([`Admin::epoch`]) before it goes on.
const EVERY: Duration = Duration::from_secs(1);
/// No answer for this long is no answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// See the header. Run it once.
pub struct EpochKeeper {
    admin: Arc<dyn Admin>,
    journal: Journal,
    file: PathBuf,
    random: SmallRng,
    known: Option<StreamMark>,
    /// Told once: it cannot be kept across a restart.
    is_told: bool,
}

impl EpochKeeper {
    /// Reads what the last daemon on this data folder knew. Blocks on one small file.
    pub fn new(admin: Arc<dyn Admin>, journal: Journal, file: PathBuf, seed: u64) -> Self {
        // Missing at the first start; unreadable is as good as missing, since the store's own memory is the first guard.
        let known = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| StreamMark::parse(&text));
        Self {
            admin,
            journal,
            file,
            random: SmallRng::seed_from_u64(seed),
            known,
            is_told: false,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // An error is the sampler's to tell: it asks the same server.
            let look = tokio::time::timeout(DEADLINE, self.look());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = look => {}
            }
        }
    }

    /// One look. Cancel-safe: what the store has changed, the next look finds.
    async fn look(&mut self) -> Result<(), StoreError> {
        let fresh = self.random.next_u64();
        let seen = self.admin.epoch(self.known.as_ref(), fresh).await?;
        if let Some(why) = seen.why.filter(|_| self.known.is_some()) {
            let text = format!(
                "stream epoch {}: {why}; ids may come again, so what others have noted under older epochs is about other entries",
                seen.mark.epoch
            );
            self.journal
                .tell(Level::Warning, "stream.epoch", None, text);
        }
        if self.known.as_ref() != Some(&seen.mark) {
            self.keep(&seen.mark).await;
            self.known = Some(seen.mark);
        }
        Ok(())
    }

    /// Writes it beside and renames, so that a kill leaves the old or the new one. Without fsync: what a crash of the machine
    /// takes back is a second's memory, and the store's own is still there.
    async fn keep(&mut self, mark: &StreamMark) {
        let (file, text) = (self.file.clone(), mark.to_string());
        let write = move || {
            let beside = file.with_extension("new");
            std::fs::write(&beside, text)?;
            std::fs::rename(&beside, &file)
        };
        let written = tokio::task::spawn_blocking(write).await;
        let fault = match written {
            Ok(Ok(())) => return self.is_told = false,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if !self.is_told {
            self.is_told = true;
            let text = format!(
                "note the stream's epoch in {}: {fault}",
                self.file.display()
            );
            self.journal
                .tell(Level::Warning, "stream.epoch_not_kept", None, text);
        }
    }
}
