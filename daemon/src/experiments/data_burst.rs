//! `data.burst`: far more events than usual.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, number, spec};
use super::experiment::{
    Act, Expects, Experiment, LoadFault, Method, Params, RecoverFrom, Revert, Scene, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "The backlog is worked off; nothing is lost.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![number("factor", "Times the rate.", (2, 50), "10")];
    spec(
        "data.burst",
        "Sends many times the events.",
        Scope::Entry,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    Ok(Method {
        targets: vec!["events of the run".to_owned()],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Load(LoadFault::Burst {
                factor: params.number("factor"),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 5_000)?,
        reverts: vec![Revert::Load],
        expects: Expects {
            recover_ms: 30_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
