//! `data.poison`: events that cannot be worked.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, share, spec};
use super::experiment::{
    Act, Amount, Expects, Experiment, LoadFault, Method, Params, RecoverFrom, Revert, Scene, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Every bad event becomes a dead letter, and only those.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![share("share", "Share of the run's events.", (1, 50), "1%")];
    spec(
        "data.poison",
        "Sends events that the pipeline must reject.",
        Scope::Entry,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    Ok(Method {
        targets: vec!["events of the run".to_owned()],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Load(LoadFault::Poison {
                share: params.share("share"),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 10_000)?,
        reverts: vec![Revert::Load, Revert::DeadLetters],
        expects: Expects {
            fresh_during: true,
            dead: Amount::Injected,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
