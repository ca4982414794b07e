//! `lookup.slow`: what enriches events is slow.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, pick, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Slower, and still right.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![span("delay", "Added to each.", (1, 60_000), "200ms")];
    spec(
        "lookup.slow",
        "Lookups take longer.",
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
                delay_ms: params.ms("delay"),
                fails: 0.0,
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
