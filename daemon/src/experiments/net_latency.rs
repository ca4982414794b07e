//! `net.latency`: the network to Redis is slow.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, share, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::{Faults, Order};
use std::time::Duration;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Slower, and still right.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        span("delay", "Added on each way.", (1, 2_000), "50ms"),
        span(
            "jitter",
            "More or less, drawn for each piece.",
            (0, 1_000),
            "10ms",
        ),
        share(
            "share",
            "Share of connections that have it.",
            (1, 100),
            "100%",
        ),
    ];
    spec(
        "net.latency",
        "Delays what goes to Redis and back.",
        Scope::Redis,
        Risk::Low,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let share = params.share("share");
    let for_ms = lasts(scene, params.for_ms, 8_000)?;
    let faults = Faults {
        delay: Duration::from_millis(params.ms("delay")),
        jitter: Duration::from_millis(params.ms("jitter")),
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
            fresh_during: false,
            recover_ms: 5_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
