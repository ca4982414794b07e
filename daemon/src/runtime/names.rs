//! Consumer names of workers that are gone: of daemons that died and of workers that a life before this one had and this one
//! has not. A worker that ends in order takes its name along; a killed one cannot. Called by the janitor.

use std::collections::BTreeSet;
use std::time::Duration;

use super::handle::Handle;
use crate::store::{Admin, Result};

/// Deletes the names of those that hold nothing. What one of them holds is claimed by others first, and its name goes in a
/// later round. A name that turns out to be alive all the same comes back with its next read. `alive` are the daemons with
/// a heartbeat; of others a name goes only when it was not heard of for `silence`.
pub(super) async fn retire_the_gone(
    admin: &dyn Admin,
    handle: &Handle,
    instance: &str,
    alive: &BTreeSet<String>,
    silence: Duration,
) -> Result<()> {
    for (index, stage) in handle.stages.iter().enumerate() {
        for consumer in admin.consumers(index).await? {
            let name = std::str::from_utf8(&consumer.name).ok();
            let Some((name, of)) =
                name.and_then(|name| Some((name, instance_of(name, &stage.name)?)))
            else {
                continue;
            };
            let is_silent = Duration::from_millis(consumer.idle_ms) >= silence;
            let is_gone = if of == instance {
                !stage.workers().iter().any(|worker| worker.consumer == name)
            } else {
                !alive.contains(of) && is_silent
            };
            if is_gone && consumer.pending == 0 {
                // One that got something in the meantime is refused.
                admin.retire(index, name).await?;
            }
        }
    }
    Ok(())
}

/// The daemon in a consumer name of ours: `<instance>-<stage>-<n>`.
fn instance_of<'a>(consumer: &'a str, stage: &str) -> Option<&'a str> {
    let (rest, n) = consumer.rsplit_once('-')?;
    let is_number = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    let instance = rest.strip_suffix(stage)?.strip_suffix('-')?;
    (is_number && !instance.is_empty()).then_some(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_workers_name_a_daemon() {
        let of = |name| instance_of(name, "in-out");
        assert_eq!(of("a-b-in-out-12"), Some("a-b"));
        for name in [
            "parked",
            "in-out-1",
            "-in-out-1",
            "a-in-out-",
            "a-in-out-x",
            "a-out-1",
            "a-in-out",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
