//! `worker.kill`: a worker and its connections vanish at a point of its work, as a task that panics or a machine that is gone.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{at_point, lasts, number, span, spec, stage, with_workers, workers};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, Step, point,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "What a dead worker held is worked by others within the claim time and 2 s; nothing is lost or doubled.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        stage(),
        at_point(),
        number("count", "Workers, at most half of a stage's.", (1, 32), "1"),
        span("down", "How long they stay away.", (0, 600_000), "5s"),
    ];
    spec(
        "worker.kill",
        "Kills workers at a point of their work; others claim what they held.",
        Scope::Stage,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let stage = with_workers(scene, params.text("stage"))?;
    let (name, down_ms) = (params.text("point"), params.ms("down"));
    let doomed = workers(scene, stage, params.number("count"))?;
    let kill = |consumer: &String| Step {
        at_ms: 0,
        act: Act::Inside(Order::Kill {
            consumer: consumer.clone(),
            point: point(name),
            down_ms,
        }),
    };
    Ok(Method {
        targets: doomed.clone(),
        steps: doomed.iter().map(kill).collect(),
        for_ms: lasts(scene, params.for_ms, down_ms.max(2_000))?,
        reverts: vec![Revert::Inside],
        expects: Expects {
            // A stage whose only worker is away does nothing until it is back, and then works off what came.
            recover_ms: stage.claim_after_ms
                + 2_000
                + if stage.workers.len() > doomed.len() {
                    0
                } else {
                    2 * down_ms
                },
            ..Expects::default()
        },
        recover_from: RecoverFrom::Injection,
    })
}
