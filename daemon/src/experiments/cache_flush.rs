//! `cache.flush`: all caches of lookups are empty at once.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, pick, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "The lookup is asked once a key, not once an event.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![span("every", "Time between two.", (100, 60_000), "1s")];
    spec(
        "cache.flush",
        "Empties the caches of lookups again and again.",
        Scope::Stage,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let stage = pick(scene, "", "lookup with a cache", |stage| {
        stage.has_lookup && stage.cache_entries > 0
    })?;
    let for_ms = lasts(scene, params.for_ms, 5_000)?;
    let every = params.ms("every").max(1);
    let step = |n| Step {
        at_ms: n * every,
        act: Act::Inside(Order::FlushCaches),
    };
    Ok(Method {
        targets: vec![format!("lookups of stage {}", stage.name)],
        steps: (0..for_ms.div_ceil(every)).map(step).collect(),
        for_ms,
        reverts: vec![Revert::Inside],
        expects: Expects {
            fresh_during: true,
            backend_keys: true,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
