//! `redis.oom`: the server is at its memory limit and refuses to write.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, number, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, ServerFault, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Nothing is acknowledged without its effect while Redis refuses to write.",
    copy_only: false,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![number(
        "percent",
        "New limit, in percent of the memory in use.",
        (50, 200),
        "100",
    )];
    spec(
        "redis.oom",
        "Lowers the memory limit of Redis until it refuses to write.",
        Scope::Redis,
        Risk::High,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    Ok(Method {
        targets: vec!["the managed server".to_owned()],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Server(ServerFault::MaxMemory {
                percent: params.number("percent"),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 6_000)?,
        reverts: vec![Revert::MaxMemory],
        expects: Expects::default(),
        recover_from: RecoverFrom::Revert,
    })
}
