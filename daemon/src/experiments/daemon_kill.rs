//! `daemon.kill`: the daemon dies with everything in its hands, and is started again.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "A daemon that died goes on where it was: nothing lost, nothing doubled.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![span("down", "How long it stays away.", (0, 60_000), "0s")];
    spec(
        "daemon.kill",
        "SIGKILL to the daemon, which the guard starts again.",
        Scope::Daemon,
        Risk::High,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let down_ms = params.ms("down");
    let claim_ms = scene.stages.iter().map(|stage| stage.claim_after_ms).max();
    Ok(Method {
        targets: vec!["this daemon".to_owned()],
        steps: vec![Step {
            at_ms: 0,
            act: Act::KillDaemon { down_ms },
        }],
        for_ms: lasts(scene, params.for_ms, 2_000)?,
        reverts: vec![Revert::Daemon, Revert::Server, Revert::Groups],
        expects: Expects {
            // A start takes a fifth of a second, some of it while questions come in.
            availability: if down_ms == 0 { 0.97 } else { 0.5 },
            recover_ms: claim_ms.unwrap_or(0) + 5_000 + down_ms,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Injection,
    })
}
