//! `data.duplicate`: producers send events twice.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, share, spec};
use super::experiment::{
    Act, Amount, Expects, Experiment, LoadFault, Method, Params, RecoverFrom, Revert, Scene, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Every event counts once.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![share(
        "share",
        "Share of the run's events.",
        (1, 100),
        "10%",
    )];
    spec(
        "data.duplicate",
        "Sends events twice under one id.",
        Scope::Entry,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    if scene.dedupe_ms.is_none() {
        return Err("the id window is off ([event.dedupe] window), so duplicates count as often as they come".to_owned());
    }
    Ok(Method {
        targets: vec!["events of the run".to_owned()],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Load(LoadFault::Duplicate {
                share: params.share("share"),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 10_000)?,
        reverts: vec![Revert::Load],
        expects: Expects {
            fresh_during: true,
            deduplicated: Amount::Injected,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
