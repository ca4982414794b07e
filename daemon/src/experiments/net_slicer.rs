//! `net.slicer`: the network cuts everything into small pieces.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, number, share, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::{Faults, Order};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "No parser minds where a piece ends.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        number("bytes", "Bytes of a piece.", (1, 65_536), "7"),
        share(
            "share",
            "Share of connections that have it.",
            (1, 100),
            "30%",
        ),
    ];
    spec(
        "net.slicer",
        "Cuts what goes to Redis and back into pieces of a few bytes.",
        Scope::Redis,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let share = params.share("share");
    let for_ms = lasts(scene, params.for_ms, 8_000)?;
    let faults = Faults {
        slice: usize::try_from(params.number("bytes")).unwrap_or(1),
        ..Faults::default()
    };
    Ok(Method {
        targets: vec![format!(
            "{:.0} % of the daemon's connections to Redis",
            share * 100.0
        )],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Inside(Order::Network { faults, share }),
        }],
        for_ms,
        reverts: vec![Revert::Inside],
        expects: Expects {
            fresh_during: true,
            recover_ms: 5_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
