//! `redis.flushgroup`: somebody destroys a consumer group.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, pick, spec, stage};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, ServerFault, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "The group is made again where it was; nothing is lost or doubled.",
    copy_only: false,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![stage()];
    spec(
        "redis.flushgroup",
        "XGROUP DESTROY on a stage.",
        Scope::Redis,
        Risk::High,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let stage = pick(scene, params.text("stage"), "group", |_| true)?;
    Ok(Method {
        targets: vec![format!("group {} of {}", stage.group, stage.stream)],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Server(ServerFault::DestroyGroup {
                stream: stage.stream.clone(),
                group: stage.group.clone(),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 2_000)?,
        reverts: vec![Revert::Groups],
        expects: Expects::default(),
        recover_from: RecoverFrom::Injection,
    })
}
