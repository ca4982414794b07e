//! `redis.pause`: the server takes connections and answers nobody.

use pipectl_shared::spec::{Risk, Scope, Spec};

use super::build::{choice, lasts, spec};
use super::experiment::{
    Act, Expects, Experiment, Method, Params, RecoverFrom, Revert, Scene, ServerFault, Step,
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    spec: describe,
    claim: "The daemon tells its last state with its age; all is well soon after.",
    copy_only: false,
    managed_only: true,
    method,
};

fn describe() -> Spec {
    let params = vec![choice(
        "how",
        "pause: CLIENT PAUSE, which ends by itself. stop: SIGSTOP to the process.",
        &["pause", "stop"],
        "pause",
    )];
    spec(
        "redis.pause",
        "The managed Redis answers nobody for a while.",
        Scope::Redis,
        Risk::Medium,
        params,
    )
}

fn method(scene: &Scene, params: &Params<'_>) -> Result<Method, String> {
    let ms = lasts(scene, params.for_ms, 3_000)?;
    if ms > MOST_MS {
        return Err(format!(
            "a server that hangs for over {} s is given up by its clients; --for {} s at most",
            MOST_MS / 1_000,
            MOST_MS / 1_000
        ));
    }
    let (act, revert) = match params.text("how") {
        "stop" => (ServerFault::Stop, Revert::Continue),
        _ => (ServerFault::Pause { ms }, Revert::Unpause),
    };
    Ok(Method {
        targets: vec!["the managed server".to_owned()],
        steps: vec![Step {
            at_ms: 0,
            act: Act::Server(act),
        }],
        for_ms: ms,
        reverts: vec![revert],
        expects: Expects::default(),
        recover_from: RecoverFrom::Revert,
    })
}

/// Longest pause.
const MOST_MS: u64 = 20_000;
