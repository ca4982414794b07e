//! What can happen to a call of the store on its way, and who decides it. [`Link`] does what was decided; the decorators
//! of the ports (`store`, `hands`, `admin`) send every call through one.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::store::{Result, StoreError};

/// A call that is about to go out.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Method of the port, such as `commit`.
    pub what: &'static str,
    /// Who calls: a consumer, or nobody in particular for [`crate::store::Admin`].
    pub who: &'a str,
}

/// Whether a call happens in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Happens {
    /// It does.
    #[default]
    Once,
    /// Never: it was refused, or lost on its way there.
    Never,
    /// This much later, when nobody waits for it any more, not even where the caller has died meanwhile: it was on its way.
    Later(Duration),
    /// It does, and once more this much later, unheard.
    Twice(Duration),
}

/// What becomes of one call. The default is fair weather.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// On its way there.
    pub before: Duration,
    /// Whether it happens.
    pub happens: Happens,
    /// On its way back. A caller that dies in this time has had its effect and never knew.
    pub after: Duration,
    /// Its answer is lost: the caller hears `Unavailable`.
    pub unheard: bool,
}

/// Decides what becomes of calls.
pub trait Weather: Send + Sync {
    /// Asked once for each call, before it goes out.
    fn fate(&self, call: Call<'_>) -> Fate;

    /// Grows when all connections are cut, as by a server that starts again: who waits for an answer then gets none.
    fn era(&self) -> u64 {
        0
    }
}

/// The way to the store. Clones are one; it owns what is still on its way, which ends with the last of them.
#[derive(Clone)]
pub(super) struct Link {
    weather: Arc<dyn Weather>,
    /// Bound: calls are made by workers that wait for each, so it holds as many as were belated at once.
    on_its_way: Arc<Mutex<JoinSet<()>>>,
}

impl Link {
    pub(super) fn new(weather: Arc<dyn Weather>) -> Self {
        Self {
            weather,
            on_its_way: Arc::default(),
        }
    }

    /// Sends a call that cannot be belated or repeated (a read, or what is harmless twice): there `Later` is `Never`, and
    /// `Twice` is once.
    pub(super) async fn send<T>(
        &self,
        call: Call<'_>,
        act: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let (fate, era) = (self.weather.fate(call), self.weather.era());
        pause(fate.before).await;
        let answer = match fate.happens {
            _ if self.weather.era() != era => Err(lost(call.what)),
            Happens::Once | Happens::Twice(_) => act.await,
            Happens::Never | Happens::Later(_) => Err(refused(call.what)),
        };
        pause(fate.after).await;
        self.heard(answer, fate, era, call.what)
    }

    /// Sends a call that may be belated and repeated; `act` makes it anew each time and owns all that it needs.
    pub(super) async fn send_twice<T, F>(
        &self,
        call: Call<'_>,
        act: impl Fn() -> F + Send,
    ) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (fate, era) = (self.weather.fate(call), self.weather.era());
        pause(fate.before).await;
        let answer = match fate.happens {
            _ if self.weather.era() != era => Err(lost(call.what)),
            Happens::Once => act().await,
            Happens::Never => Err(refused(call.what)),
            Happens::Later(wait) => {
                self.later(wait, era, act());
                Err(lost(call.what))
            }
            Happens::Twice(wait) => {
                self.later(wait, era, act());
                act().await
            }
        };
        pause(fate.after).await;
        self.heard(answer, fate, era, call.what)
    }

    fn heard<T>(&self, answer: Result<T>, fate: Fate, era: u64, what: &str) -> Result<T> {
        let is_lost = fate.unheard || self.weather.era() != era;
        if is_lost && answer.is_ok() {
            return Err(lost(what));
        }
        answer
    }

    fn later<T>(
        &self,
        wait: Duration,
        era: u64,
        act: impl Future<Output = Result<T>> + Send + 'static,
    ) {
        let mut on_its_way = self
            .on_its_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while on_its_way.try_join_next().is_some() {}
        let weather = Arc::clone(&self.weather);
        on_its_way.spawn(async move {
            sleep(wait).await;
            if weather.era() == era {
                // Nobody is there to hear it.
                let _ = act.await;
            }
        });
    }
}

async fn pause(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

fn refused(what: &str) -> StoreError {
    StoreError::Unavailable(format!("{what} was refused by a fault"))
}

fn lost(what: &str) -> StoreError {
    StoreError::Unavailable(format!("the answer to {what} was lost by a fault"))
}
