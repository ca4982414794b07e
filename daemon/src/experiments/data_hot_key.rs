//! `data.hot_key`: most events are about one and the same key.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, share, spec};
use super::experiment::{
    Act, Expects, Experiment, LoadFault, Method, Params, RecoverFrom, Revert, Scene, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "One hot key makes nobody else wait.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![share(
        "share",
        "Share of the run's events.",
        (1, 100),
        "80%",
    )];
    spec(
        "data.hot_key",
        "Gives most events one key.",
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
            act: Act::Load(LoadFault::HotKey {
                share: params.share("share"),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 10_000)?,
        reverts: vec![Revert::Load],
        expects: Expects {
            fresh_during: true,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
