//! `worker.churn`: workers die again and again, each at another point.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{lasts, random, span, spec, stage, with_workers};
use super::experiment::{
    Act, Expects, Experiment, Method, POINTS, Params, RecoverFrom, Revert, Scene, Step,
};
use crate::chaos::Order;

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "Deaths in a row leave no consumer behind and nothing pending.",
    copy_only: false,
    managed_only: false,
    method,
};

fn describe() -> Spec {
    let params = vec![
        stage(),
        span("every", "Time between two deaths.", (500, 600_000), "3s"),
    ];
    spec(
        "worker.churn",
        "Kills a worker again and again.",
        Scope::Stage,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    use rand::seq::IndexedRandom as _;
    let stage = with_workers(scene, params.text("stage"))?;
    let for_ms = lasts(scene, params.for_ms, 12_000)?;
    let every = params.ms("every").max(1);
    let mut random = random(scene);
    let mut steps = Vec::new();
    for n in 0..for_ms.div_ceil(every) {
        let victim = stage.workers.choose(&mut random);
        let place = POINTS.choose(&mut random);
        if let (Some(consumer), Some((_, point))) = (victim, place) {
            let order = Order::Kill {
                consumer: consumer.clone(),
                point: *point,
                down_ms: 0,
            };
            steps.push(Step {
                at_ms: n * every,
                act: Act::Inside(order),
            });
        }
    }
    Ok(Method {
        targets: stage.workers.clone(),
        steps,
        for_ms,
        reverts: vec![Revert::Inside, Revert::Groups],
        expects: Expects {
            recover_ms: stage.claim_after_ms + 2_000,
            ..Expects::default()
        },
        recover_from: RecoverFrom::Revert,
    })
}
