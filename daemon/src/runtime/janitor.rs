//! The janitor: trims what every group has finished, heals lags, looks after groups that went missing, and says that this
//! daemon lives. One task, owned by the supervisor; ends when `stop` is cancelled; blocks on the store only.

use std::collections::BTreeSet;
use std::time::Duration;

use pipectl_shared::config::Config;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use super::mender::Mender;
use crate::journal::Level;
use crate::store::StoreError;
use crate::world::World;

/// Often enough that a group that was destroyed while idle is noticed before a person does.
const EVERY: Duration = Duration::from_secs(2);
/// A daemon that said nothing for this long is taken for dead: several beats.
pub(super) const ALIVE_FOR: Duration = Duration::from_secs(15);
/// No answer for this long is no answer.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn run(
    world: World,
    mender: Mender,
    config: Config,
    handle: Handle,
    instance: String,
    stop: CancellationToken,
) {
    let admin = world.store.admin();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    let mut known = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let round = async {
            mender.prepare().await?;
            let alive: BTreeSet<String> = admin
                .beat(&instance, ALIVE_FOR)
                .await?
                .into_iter()
                .collect();
            let swept = admin
                .janitor(config.retention.keep, config.dead.keep)
                .await?;
            Ok::<_, StoreError>((alive, swept))
        };
        match tokio::time::timeout(DEADLINE, round).await {
            Ok(Ok((alive, swept))) => {
                failing = false;
                // Twice the same, so that nothing is moved while daemons come and go.
                if alive == known {
                    handle.spread(&alive, &instance);
                }
                known = alive;
                if swept.lost_unread > 0 {
                    let text = format!(
                        "{} entries were trimmed by somebody before they were read; booked as lost",
                        swept.lost_unread
                    );
                    world
                        .journal
                        .tell(Level::Error, "stream.trimmed_unread", None, text);
                }
                if swept.trimmed > 0 {
                    tracing::debug!(swept.trimmed, "finished entries trimmed");
                }
            }
            Ok(Err(error)) => {
                // Once per outage; the sampler shows that the store is away.
                if !failing {
                    tracing::warn!(%error, "housekeeping has to wait");
                }
                failing = true;
            }
            Err(_) => {
                if !failing {
                    tracing::warn!("housekeeping got no answer within {DEADLINE:?}");
                }
                failing = true;
            }
        }
    }
}
