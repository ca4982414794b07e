//! `redis.scriptflush`: the server forgets all scripts, as after a restart or a failover.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, ServerFault, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Nobody notices: scripts are loaded again on the way.",
    copy_only: false,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![span("every", "Time between two.", (100, 60_000), "500ms")];
    spec(
        "redis.scriptflush",
        "SCRIPT FLUSH.",
        Scope::Redis,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let for_ms = lasts(scene, params.for_ms, 5_000)?;
    let every = params.ms("every").max(1);
    let step = |n| Step {
        at_ms: n * every,
        act: Act::Server(ServerFault::ScriptFlush),
    };
    Ok(Method {
        targets: vec!["the managed server".to_owned()],
        steps: (0..for_ms.div_ceil(every)).map(step).collect(),
        for_ms,
        reverts: vec![Revert::Server],
        expects: Expects {
            fresh_during: true,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
