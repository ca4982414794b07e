//! `net.reset`: connections to Redis break, again and again.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, share, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Broken connections are made again; what was on its way counts once.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        span("every", "Time between two.", (100, 60_000), "1s"),
        share(
            "share",
            "Share of connections that have it.",
            (1, 100),
            "50%",
        ),
    ];
    spec(
        "net.reset",
        "Breaks connections to Redis again and again.",
        Scope::Redis,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let share = params.share("share");
    let for_ms = lasts(scene, params.for_ms, 8_000)?;
    let every = params.ms("every").max(1);
    let step = |n| Step {
        at_ms: n * every,
        act: Act::Inside(Order::Break { share }),
    };
    Ok(Method {
        targets: vec![format!(
            "{:.0} % of the daemon's connections to Redis",
            share * 100.0
        )],
        steps: (0..for_ms.div_ceil(every)).map(step).collect(),
        for_ms,
        reverts: vec![Revert::Inside],
        expects: Expects {
            fresh_during: false,
            recover_ms: 5_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
