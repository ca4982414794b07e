//! Timers of keyed state: the owner looks for due ones, lets their operators say what becomes of the state, and commits
//! that in one step with taking the timers off. No entries are involved, and the ledger does not change.
//!
//! Time is the server's. A timer fires when it is due or up to [`LOOK_EVERY`] later, while an owner is there and the stage
//! is not paused; one that came due without an owner fires with the next one. It fires once: its commit requires that it is
//! still set to the time for which it was found, so that a lost answer or a hand-over changes nothing.

use super::*;
use crate::store::{Fired, Firing, KEYS_MAX};

/// Between looks for due timers.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// The same where no operator keeps state: timers of one that is configured no more are dropped when they are due.
const LOOK_FOR_OLD_EVERY: Duration = Duration::from_secs(60);

/// When to look for timers.
pub(super) struct Look {
    pub(super) next: Instant,
    /// When timers without an operator were told of.
    told: Option<Instant>,
}

impl Look {
    /// At once: they may have been due for long.
    pub(super) fn new() -> Self {
        Self {
            next: Instant::now(),
            told: None,
        }
    }
}

impl Worker {
    /// Looks for due timers and fires at most as many as one commit takes; the rest at the next look, which is soon.
    pub(super) async fn fire_timers(&mut self, own: &mut Own) -> Result<(), Over> {
        let every = if self.chain.keeps_state() {
            LOOK_EVERY
        } else {
            LOOK_FOR_OLD_EVERY
        };
        own.look.next = Instant::now() + LOOK_EVERY.min(every);
        if self.handle.is_paused() {
            return Ok(());
        }
        let looked = own.owner.due_timers(KEYS_MAX).await?;
        own.look.next = Instant::now() + looked.next.map_or(every, |next| next.min(every));
        if looked.due.is_empty() {
            return Ok(());
        }
        let rung = own
            .keyed
            .fire(&self.chain, own.owner.as_mut(), &looked.due)
            .await?;
        self.tell_of_timers(own, &rung);
        let mut fired = looked.due;
        if rung.n_taken < fired.len() {
            own.look.next = Instant::now();
            fired.truncate(rung.n_taken);
        }
        let firing = Firing {
            epoch: own.lease.epoch,
            fired,
            state: rung.state,
            ttl: LEASE,
        };
        self.pass(Point::BeforeCommit).await;
        let answer = own.owner.fire(&firing).await?;
        self.pass(Point::AfterCommit).await;
        match answer {
            Fired::Done => own.keyed.done(Some(&firing.state)),
            // Somebody changed the timer or the state: what is true now is found by the next look.
            Fired::Stale => {
                own.keyed.forget();
                own.look.next = Instant::now() + STALL;
            }
            Fired::Fenced => return Err(Over::Lost("another owner has taken the lease")),
        }
        Ok(())
    }

    fn tell_of_timers(&self, own: &mut Own, rung: &super::keyed::Rung) {
        let stage = Some(self.settings.name.as_str());
        if let Some(why) = &rung.panic {
            let text = format!("a timer is tried again in a minute: {why}");
            self.world
                .journal
                .tell(Level::Error, "timer.panic", stage, text);
        }
        let is_new = own
            .look
            .told
            .is_none_or(|told| told.elapsed() >= TELL_AGAIN);
        if let (Some(key), true) = (&rung.gone, is_new) {
            own.look.told = Some(Instant::now());
            let text = format!(
                "{} timers were dropped, such as that of {}: no operator of this stage keeps state of that name any more",
                rung.n_gone,
                crate::operators::quote::quoted(key)
            );
            self.world
                .journal
                .tell(Level::Warning, "timer.dropped", stage, text);
        }
    }
}
