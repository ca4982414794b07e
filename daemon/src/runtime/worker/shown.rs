//! What a worker shows of itself: its state for `consumers ls`, trouble for a person, and where faults park it.
//!
//! Part of `Worker`.

use super::*;

impl Worker {
    pub(super) async fn pass(&self, point: Point) {
        if self.world.faults.is_set(&self.consumer, point) {
            self.show("parked", Some(format!("parked at {point:?} by a fault")));
            self.world.faults.pass(&self.consumer, point).await;
        }
    }

    pub(super) fn trouble(&self, text: &str) {
        let mut trouble = self
            .handle
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if trouble.as_deref() != Some(text) {
            self.world.journal.tell(
                Level::Error,
                "stage.trouble",
                Some(&self.settings.name),
                text,
            );
            *trouble = Some(text.to_owned());
        }
    }

    pub(super) fn clear_trouble(&self) {
        let mut trouble = self
            .handle
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            self.world.journal.tell(
                Level::Info,
                "stage.recovered",
                Some(&self.settings.name),
                "commits go through again",
            );
        }
    }

    pub(super) fn show(&self, state: &'static str, reason: Option<String>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.state != state || view.reason != reason {
            view.state = state;
            view.reason = reason;
            view.since_ms = self.world.clock.now_ms();
        }
    }

    pub(super) fn hold(&self, entries: &[(Delivered, u64)]) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.held = entries
            .iter()
            .map(|(entry, first_ms)| (entry.record.id, *first_ms))
            .collect();
    }

    pub(super) fn release(&self) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.held.clear();
    }
}
