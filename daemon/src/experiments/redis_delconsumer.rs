//! `redis.delconsumer`: somebody deletes a consumer that holds entries, and with it their place in the pending list. Who did it may
//! have worked them, so they are told and not worked again: data are lost, only on a copy.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, pick, spec, stage, workers};
use super::experiment::{
    Act, Expects, Experiment, Loss, Method, Params, RecoverFrom, Revert, Scene, SceneStage,
    ServerFault, Step,
};
use crate::chaos::{Order, Point};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Exactly what the deleted consumer held is told as unaccounted, and nothing else is harmed.",
    copy_only: true,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![stage()];
    spec(
        "redis.delconsumer",
        "XGROUP DELCONSUMER of a worker that holds entries.",
        Scope::Redis,
        Risk::High,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let fits = |stage: &SceneStage| !stage.owned && !stage.workers.is_empty();
    let stage = pick(
        scene,
        params.text("stage"),
        "consumer that holds entries (delivery shared)",
        fits,
    )?;
    // It stands before its commit, so that it holds entries when its name is deleted.
    let worker = workers(scene, stage, 1)?.pop().ok_or("no worker runs")?;
    let step = |at_ms, act| Step { at_ms, act };
    let park = Order::Park {
        consumer: worker.clone(),
        point: Point::BeforeCommit,
    };
    let delete = ServerFault::DelConsumer {
        stream: stage.stream.clone(),
        group: stage.group.clone(),
        consumer: Some(worker.clone()),
    };
    let release = Order::Release {
        consumer: worker.clone(),
    };
    Ok(Method {
        targets: vec![format!("consumer {worker} of {}", stage.group)],
        steps: vec![
            step(0, Act::Inside(park)),
            step(300, Act::Server(delete)),
            step(500, Act::Inside(release)),
        ],
        for_ms: lasts(scene, params.for_ms, 2_000)?,
        reverts: vec![Revert::Inside, Revert::Groups],
        expects: Expects {
            lost: Loss::Unaccounted,
            recover_ms: stage.claim_after_ms + 10_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
