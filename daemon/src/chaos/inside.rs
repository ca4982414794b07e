//! Everything that an experiment can do inside this daemon, in one value: obeys the [`Order`]s of a guard, takes all of it
//! back, and says how often it hit. Built by `app`; whose orders are heard, and until when, is the keeper's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::network::REFUSED;
use super::{FaultBoard, Hits, LookupWeather, Order, Proxy};
use crate::store::redis::managed::Managed;

/// Whether a consumer is a worker of this daemon that runs.
pub type IsOurs = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What it acts on.
pub struct Setup {
    /// The workers'.
    pub faults: FaultBoard,
    /// Between this daemon and Redis; `None` where nothing can stand between.
    pub network: Option<Arc<Proxy>>,
    /// Between the caches and their lookups.
    pub lookups: LookupWeather,
    /// The managed server.
    pub server: Option<Arc<Managed>>,
    /// Knows the workers.
    pub is_ours: IsOurs,
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Inside(Arc<Parts>);

struct Parts {
    setup: Setup,
    holds: AtomicU64,
}

impl Inside {
    /// Nothing is set yet.
    pub fn new(setup: Setup) -> Self {
        Self(Arc::new(Parts {
            setup,
            holds: AtomicU64::new(0),
        }))
    }

    /// A new experiment begins: counts from zero, and draws what is random with this seed.
    pub fn begin(&self, seed: u64) {
        let Setup {
            faults,
            network,
            lookups,
            ..
        } = &self.0.setup;
        faults.begin();
        lookups.begin(seed);
        if let Some(proxy) = network {
            proxy.begin(seed);
        }
        self.0.holds.store(0, Ordering::Relaxed);
    }

    /// Does as ordered and returns the hits since the last [`Inside::begin`]; a fault that was just set has hit nothing yet.
    /// Cancel-safe: it waits for nothing.
    ///
    /// # Errors
    /// Why it cannot be done here, for a person; nothing was done then.
    pub async fn obey(&self, order: Order) -> Result<Hits, String> {
        let setup = &self.0.setup;
        match order {
            Order::Kill {
                consumer,
                point,
                down_ms,
            } => {
                self.check_ours(&consumer)?;
                let down = Duration::from_millis(down_ms);
                setup.faults.kill(&consumer, point, down);
            }
            Order::Park { consumer, point } => {
                self.check_ours(&consumer)?;
                setup.faults.park(&consumer, point);
            }
            // Also of one that is gone: taking something back cannot fail.
            Order::Release { consumer } => drop(setup.faults.release(&consumer)),
            Order::Network { faults, share } => {
                check_share(share)?;
                self.network()?.set_share(faults, share);
            }
            Order::Break { share } => {
                check_share(share)?;
                self.network()?.break_share(share);
            }
            Order::Lookup { delay_ms, fails } => {
                check_share(fails)?;
                match (delay_ms, fails) {
                    (0, 0.0) => setup.lookups.clear(),
                    _ => setup.lookups.set(Duration::from_millis(delay_ms), fails),
                }
            }
            Order::FlushCaches => setup.faults.flush_caches(),
            Order::HoldServer { ms } => {
                let server = setup.server.as_ref().ok_or(
                    "this daemon does not manage its Redis, so it cannot keep it down; set redis.url = \"managed\"",
                )?;
                server.hold(Duration::from_millis(ms));
                self.0.holds.fetch_add(1, Ordering::Relaxed);
            }
            Order::Clear => self.clear(),
            Order::Count => {}
        }
        Ok(self.hits())
    }

    /// Takes everything back, whatever was ordered. What hit stays counted.
    pub fn clear(&self) {
        let Setup {
            faults,
            network,
            lookups,
            server,
            ..
        } = &self.0.setup;
        faults.clear();
        lookups.clear();
        if let Some(proxy) = network {
            proxy.set(super::Faults::default());
        }
        if let Some(server) = server {
            server.release();
        }
    }

    /// How often faults hit since the last [`Inside::begin`].
    pub fn hits(&self) -> Hits {
        let setup = &self.0.setup;
        let (kills, parks, flushes) = setup.faults.counts();
        let (pieces, breaks) = setup
            .network
            .as_ref()
            .map_or((0, 0), |proxy| proxy.counts());
        let lookups = setup.lookups.counts();
        Hits {
            kills,
            parks,
            pieces,
            breaks,
            slow_lookups: lookups.slow,
            failed_lookups: lookups.failed,
            flushes,
            backend_keys: lookups.keys,
            holds: self.0.holds.load(Ordering::Relaxed),
        }
    }

    /// Why experiments with the network are not possible here; `None` = they are.
    pub fn network_refused(&self) -> Option<String> {
        self.network().err()
    }

    fn network(&self) -> Result<&Proxy, String> {
        self.0.setup.network.as_deref().ok_or(REFUSED.to_owned())
    }

    fn check_ours(&self, consumer: &str) -> Result<(), String> {
        if (self.0.setup.is_ours)(consumer) {
            return Ok(());
        }
        let shown = pipectl_shared::untrusted::escape(consumer);
        Err(format!(
            "\"{shown}\" is no worker of this daemon that runs; see: pipectl consumers ls"
        ))
    }
}

fn check_share(share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(format!("a share is 0 to 1, not {share}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::{Faults, Point};

    fn inside(network: Option<Arc<Proxy>>) -> (Inside, FaultBoard, LookupWeather) {
        let (faults, lookups) = (FaultBoard::default(), LookupWeather::default());
        let inside = Inside::new(Setup {
            faults: faults.clone(),
            network,
            lookups: lookups.clone(),
            server: None,
            is_ours: Arc::new(|consumer| consumer == "w"),
        });
        (inside, faults, lookups)
    }

    #[tokio::test]
    async fn what_cannot_be_done_here_is_refused_with_its_reason_and_nothing_is_done() {
        let (inside, faults, _) = inside(None);
        assert_eq!(inside.network_refused().as_deref(), Some(REFUSED));
        let (point, ms) = (Point::AfterRead, 5);
        let consumer = "x\u{1b}".to_owned();
        let network = |share| Order::Network {
            faults: Faults::default(),
            share,
        };
        for (order, why) in [
            (
                Order::Kill {
                    consumer: consumer.clone(),
                    point,
                    down_ms: 0,
                },
                "no worker of this daemon",
            ),
            (Order::Park { consumer, point }, "no worker of this daemon"),
            (network(1.0), "rediss://"),
            (network(f64::NAN), "0 to 1"),
            (Order::Break { share: 0.5 }, "rediss://"),
            (Order::Break { share: -0.1 }, "0 to 1"),
            (
                Order::Lookup {
                    delay_ms: 0,
                    fails: 1.1,
                },
                "0 to 1",
            ),
            (Order::HoldServer { ms }, "does not manage its Redis"),
        ] {
            let told = inside.obey(order.clone()).await.unwrap_err();
            assert!(told.contains(why), "{order:?}: {told}");
            assert!(!told.contains('\u{1b}'), "{told:?}");
        }
        assert!(!faults.is_set("x\u{1b}", point));
        assert_eq!(inside.obey(Order::Count).await, Ok(Hits::default()));
    }

    #[tokio::test]
    async fn all_is_taken_back_and_what_hit_stays_counted_until_the_next_begin() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = folder.path().join("nobody.sock");
        let proxy = Proxy::start(&folder.path().join("proxy.sock"), &nobody, 1).unwrap();
        let (inside, faults, lookups) = inside(Some(Arc::new(proxy)));
        assert_eq!(inside.network_refused(), None);
        let consumer = "w".to_owned();
        for order in [
            Order::Park {
                consumer: consumer.clone(),
                point: Point::AfterRead,
            },
            Order::Kill {
                consumer: consumer.clone(),
                point: Point::BeforeCommit,
                down_ms: 60_000,
            },
            Order::Network {
                faults: Faults {
                    holds_replies: true,
                    ..Faults::default()
                },
                share: 0.5,
            },
            Order::Break { share: 1.0 },
            Order::Lookup {
                delay_ms: 0,
                fails: 1.0,
            },
            Order::FlushCaches,
        ] {
            inside.obey(order).await.unwrap();
        }
        assert!(faults.is_set("w", Point::AfterRead));
        assert!(faults.is_set("w", Point::BeforeCommit));
        let lookup = lookups.around(Arc::new(crate::lookup::Fixed::default()));
        assert!(lookup.load(&["k".into()]).await.is_err());
        inside.obey(Order::Clear).await.unwrap();
        assert!(!faults.is_set("w", Point::AfterRead));
        assert!(!faults.is_set("w", Point::BeforeCommit));
        assert!(lookup.load(&["k".into()]).await.is_ok());
        let hits = inside.hits();
        assert_eq!((hits.failed_lookups, hits.backend_keys), (1, 1));
        inside.begin(2);
        assert_eq!(inside.hits(), Hits::default());
        inside.obey(Order::Release { consumer }).await.unwrap();
    }
}
