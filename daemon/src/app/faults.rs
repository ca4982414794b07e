//! What is put between the daemon and its world where experiments may run, and what tests leave out.

use std::sync::Arc;

use anyhow::Context as _;
use pipectl_shared::places::Env;

use crate::chaos::{self, FaultBoard, Precaution, Proxy};
use crate::datadir::{self, DataDir};
use crate::journal::{Journal, Level};
use crate::store::redis::{Address, LeftOut, RedisStore};

/// What `--test-without` names.
pub(super) fn precautions(names: &[String]) -> Result<Vec<Precaution>, String> {
    let known = |name: &String| {
        Precaution::named(name).ok_or_else(|| {
            let all = Precaution::ALL.iter().chain(Precaution::ON_REDIS);
            let all: Vec<_> = all.map(|one| one.name()).collect();
            format!(
                "--test-without \"{name}\": there is only {}",
                all.join(", ")
            )
        })
    };
    names.iter().map(known).collect()
}

/// Does without these; without any it changes nothing.
pub(super) fn leave_out(
    precautions: &[Precaution],
    store: RedisStore,
    faults: &FaultBoard,
    journal: &Journal,
) -> anyhow::Result<RedisStore> {
    if precautions.is_empty() {
        return Ok(store);
    }
    for precaution in precautions {
        faults.leave_out(*precaution);
    }
    let names: Vec<_> = precautions.iter().map(|one| one.name()).collect();
    let text = format!(
        "this daemon does without {}, for a test: do not trust its results",
        names.join(", ")
    );
    journal.tell(Level::Warning, "precaution.left_out", None, text);
    let left_out = LeftOut {
        fence: !faults.takes(Precaution::Fence),
        atomic: !faults.takes(Precaution::Atomic),
    };
    match left_out == LeftOut::default() {
        true => Ok(store),
        false => Ok(store.leaving_out(left_out)?),
    }
}

/// The same server behind the proxy of experiments; without one, and direct, where nothing can stand between.
pub(super) fn proxied(
    direct: &Address,
    data: &DataDir,
    places: &Env,
    seed: u64,
) -> anyhow::Result<(Address, Option<Arc<Proxy>>)> {
    let socket = datadir::socket_in(&data.folder("proxy")?, "redis", places)?;
    let started = chaos::between(direct, &socket, seed)
        .with_context(|| format!("start the proxy of experiments on {}", socket.display()))?;
    Ok(match started {
        Some((address, proxy)) => (address, Some(Arc::new(proxy))),
        None => (direct.clone(), None),
    })
}
