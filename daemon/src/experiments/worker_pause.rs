//! `worker.pause`: a worker stands still in the middle of its work for longer than its entries may wait, and then goes on: a zombie.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{at_point, lasts, number, spec, stage, with_workers, workers};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step, point,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "The late commit of a worker that was written off changes nothing.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        stage(),
        at_point(),
        number("count", "Workers, at most half of a stage's.", (1, 32), "1"),
    ];
    spec(
        "worker.pause",
        "Stops workers until others have claimed what they held, then lets them go on.",
        Scope::Stage,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let stage = with_workers(scene, params.text("stage"))?;
    let name = params.text("point");
    let parked = workers(scene, stage, params.number("count"))?;
    let park = |consumer: &String| Step {
        at_ms: 0,
        act: Act::Inside(Order::Park {
            consumer: consumer.clone(),
            point: point(name),
        }),
    };
    let for_ms = lasts(scene, params.for_ms, 3 * stage.claim_after_ms)?;
    Ok(Method {
        targets: parked.clone(),
        steps: parked.iter().map(park).collect(),
        // Long enough that others claim its entries, twice over.
        for_ms,
        reverts: vec![Revert::Inside],
        expects: Expects {
            // A stage whose only worker stands does nothing until it goes on, and then works off what came.
            recover_ms: stage.claim_after_ms
                + 2_000
                + if stage.workers.len() > parked.len() {
                    0
                } else {
                    2 * for_ms
                },
            // After its commit it holds nothing that anybody could claim.
            claimed: !stage.owned && stage.workers.len() > parked.len() && name != "after_commit",
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
