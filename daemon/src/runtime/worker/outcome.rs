//! What becomes of one record: the outcome that the worker asks the store for.
//!
//! Part of `Worker`; called by its `work` only. Pure but for the clock and the meters.

use super::*;

impl Worker {
    /// What becomes of one record.
    pub(super) fn settle(
        &self,
        entry: &Delivered,
        first_ms: u64,
        ended: Ended,
        random: &mut SmallRng,
    ) -> Settle {
        let outcome = match ended {
            Ended::Apply(effects) => Outcome::Apply(effects),
            Ended::Filtered => Outcome::Filtered,
            Ended::Late => Outcome::Late,
            Ended::Failed(failure) => self.fail(entry, first_ms, &failure, random),
        };
        let id_field = self.settings.id_field.as_deref();
        let event_id = id_field
            .and_then(|field| entry.record.get(field))
            .filter(|id| !id.is_empty())
            // Sent again for this stage while others read the stream: its event is known by its first life.
            .filter(|_| entry.record.get(FIELD_REDRIVE_FOR).is_none())
            .map(|id| event_id(id));
        Settle {
            id: entry.record.id,
            event_id,
            outcome,
        }
    }

    pub(super) fn fail(
        &self,
        entry: &Delivered,
        first_ms: u64,
        failure: &Failure,
        random: &mut SmallRng,
    ) -> Outcome {
        let meter = &self.handle.meter;
        StageMeter::add(&meter.errors, 1);
        let failures = entry.failures.saturating_add(1);
        let dead = |reason: &str, error: String| {
            StageMeter::add(&meter.dead, 1);
            Outcome::Dead(DeadLetter {
                cause: fingerprint(&self.settings.name, failure.reason, &failure.error),
                reason: reason.to_owned(),
                error,
                tries: failures,
                first_ms,
                fields: entry.record.fields.clone(),
            })
        };
        match failure.class {
            Class::Reject => dead(failure.reason, failure.error.clone()),
            Class::Retry if failures >= self.settings.attempts => dead(
                "retries_exhausted",
                format!("{}: {}", failure.reason, failure.error),
            ),
            // What the stage itself cannot do does not come here: `work` holds it.
            Class::Retry | Class::Fatal => {
                StageMeter::add(&meter.retries, 1);
                let wait = self.settings.backoff.delay(failures, random.random());
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                Outcome::Retry {
                    not_before_ms: self.world.clock.now_ms() + wait_ms,
                    failures,
                    first_ms,
                    error: format!("{}: {}", failure.reason, failure.error),
                }
            }
        }
    }
}
