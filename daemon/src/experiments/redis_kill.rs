//! `redis.kill`: the server dies and comes back from its append-only file.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, span, spec};
use super::experiment::{
    Act, Expects, Experiment, Loss, Method, Params, RecoverFrom, Revert, Scene, ServerFault, Step,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "What Redis had on disk counts once; all is well within 3 s of the server being back.",
    copy_only: false,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![span("down", "How long it stays away.", (0, 30_000), "3s")];
    spec(
        "redis.kill",
        "SIGKILL to the managed Redis, which the daemon starts again.",
        Scope::Redis,
        Risk::High,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let down_ms = params.ms("down");
    Ok(Method {
        targets: vec!["the managed server".to_owned()],
        steps: vec![
            Step {
                at_ms: 0,
                act: Act::Inside(Order::HoldServer { ms: down_ms }),
            },
            Step {
                at_ms: 0,
                act: Act::Server(ServerFault::Kill),
            },
        ],
        for_ms: lasts(scene, params.for_ms, down_ms + 500)?,
        reverts: vec![Revert::Inside, Revert::Server, Revert::Groups],
        expects: Expects {
            recover_ms: 3_000,
            // Redis' own promise: everysec forces its file to the disk once a second, and may be a second late.
            lost: if scene.append_fsync == "everysec" {
                Loss::WithServer { ms: 2_000 }
            } else {
                Loss::None
            },
            ..Expects::default()
        },
        recover_from: RecoverFrom::ServerOpen,
    })
}
