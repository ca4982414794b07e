//! `lookup.error`: what enriches events fails.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, pick, share, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "The stage waits or uses what it knew; no event is given up for it.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![share("share", "Share of lookups.", (1, 100), "50%")];
    spec(
        "lookup.error",
        "Lookups fail.",
        Scope::Stage,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let stage = pick(scene, "", "lookup", |stage| stage.has_lookup)?;
    Ok(Method {
        targets: vec![format!("lookups of stage {}", stage.name)],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Inside(Order::Lookup {
                delay_ms: 0,
                fails: params.share("share"),
            }),
        }],
        for_ms: lasts(scene, params.for_ms, 8_000)?,
        reverts: vec![Revert::Inside],
        expects: Expects {
            recover_ms: 10_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
