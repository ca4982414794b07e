//! A switch that tasks wait for, woken in the order in which they began to wait.
//!
//! A watch channel would do as well, but it wakes its receivers in an order drawn by lot, and a simulated life must be the
//! same each time.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Off at first. Shared by those who set it and those who wait.
#[derive(Debug, Default)]
pub struct Switch {
    on: AtomicBool,
    changed: Notify,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Sets it.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Returns when it is off. Cancel-safe.
    pub async fn off(&self) {
        loop {
            // Registered before the look, so that what is set in between wakes it.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_on() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn who_waits_first_goes_first() {
        let switch = Arc::new(Switch::default());
        switch.off().await;
        switch.set(true);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for n in 0..32 {
            let (switch, order) = (Arc::clone(&switch), Arc::clone(&order));
            tasks.spawn(async move {
                switch.off().await;
                order.lock().unwrap().push(n);
            });
        }
        tokio::task::yield_now().await;
        assert!(order.lock().unwrap().is_empty(), "it is on");
        switch.set(false);
        tasks.join_all().await;
        assert_eq!(*order.lock().unwrap(), (0..32).collect::<Vec<_>>());
    }
}
