//! `net.blackhole`: packets to Redis vanish: connections stay open and nothing arrives.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{choice, lasts, share, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::{Faults, Order};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "All is well within 5 s of the network being back.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        choice(
            "way",
            "What does not arrive.",
            &["both", "requests", "replies"],
            "both",
        ),
        share(
            "share",
            "Share of connections that have it.",
            (1, 100),
            "100%",
        ),
    ];
    spec(
        "net.blackhole",
        "Nothing arrives at Redis, or nothing comes back, and no connection breaks.",
        Scope::Redis,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let share = params.share("share");
    let for_ms = lasts(scene, params.for_ms, 6_000)?;
    let way = params.text("way");
    let faults = Faults {
        holds_requests: way != "replies",
        holds_replies: way != "requests",
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
