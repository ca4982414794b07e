//! `redis.trim`: somebody trims the source before all of it was read. Data are lost for good: only on a copy.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, number, spec};
use super::experiment::{
    Act, Expects, Experiment, Loss, Method, Params, RecoverFrom, Revert, Scene, SceneStage,
    ServerFault, Step,
};
use crate::chaos::{Order, Point};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Exactly what was removed is told as lost.",
    copy_only: true,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![number(
        "n",
        "Undelivered entries that go.",
        (1, 100_000),
        "500",
    )];
    spec(
        "redis.trim",
        "XTRIM of undelivered entries from the source.",
        Scope::Redis,
        Risk::High,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let readers: Vec<&SceneStage> = scene
        .stages
        .iter()
        .filter(|stage| stage.stream == scene.source)
        .collect();
    let [stage] = readers[..] else {
        return Err("several stages read the source, so that what one of them has not read another may have".to_owned());
    };
    if stage.owned {
        return Err(format!(
            "stage {} is owned: its owner has entries in memory that the server counts as unread",
            stage.name
        ));
    }
    let step = |at_ms, act| Step { at_ms, act };
    // Shorter than the claim time: who claims an entry whose payload is gone tells it as lost, though its worker had it.
    // Nobody reads on while they stand, so that entries come together.
    let mut steps: Vec<Step> = stage
        .workers
        .iter()
        .map(|consumer| {
            let park = Order::Park {
                consumer: consumer.clone(),
                point: Point::AfterRead,
            };
            step(0, Act::Inside(park))
        })
        .collect();
    let trim = ServerFault::Trim {
        stream: stage.stream.clone(),
        group: stage.group.clone(),
        n: params.number("n"),
    };
    steps.push(step(800, Act::Server(trim)));
    Ok(Method {
        targets: vec![format!(
            "the first {} undelivered entries of {}",
            params.number("n"),
            stage.stream
        )],
        steps,
        for_ms: lasts(scene, params.for_ms, 1_000)?,
        reverts: vec![Revert::Inside],
        expects: Expects {
            lost: Loss::Injected,
            recover_ms: stage.claim_after_ms + 5_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
