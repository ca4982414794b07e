//! What may run: an order to run becomes a draft (parameters, method), a draft is refused or begins. The checks come in one
//! order, each refusal says the next step, and a dry run gives the same answer.
//!
//! Past 500 lines because all that can refuse an experiment stands in one order, to be read as one.

use std::sync::Arc;
use std::time::Duration;

use pipectl_shared::chaos::{Phase, Preview, RunParams, Running, Started};
use pipectl_shared::rpc::{Code, Error};
use pipectl_shared::spec::Spec;
use pipectl_shared::units::{parse_duration, print_duration};
use rand::Rng as _;
use serde_json::Map;

use super::answers::on_shelf;
use super::job::Job;
use super::keeper::{Keeper, disk};
use super::scene::{self, millis};
use super::{tend, words};
use crate::clock::rfc3339;
use crate::experiments::{AND, Experiment, Method, Params, Scene, together};
use crate::journal::Level;
use crate::params::check;
use crate::plans::words::{hint_names, quote};

/// Most events a second of a run's own producers.
const RATE_MAX: u64 = 50_000;
/// A guard that has written its verdict ends within this.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
/// Experiments at once at most.
const TOGETHER_MAX: usize = 3;
/// Shortest fault that somebody may ask for: the guard looks ten times a second.
const FOR_MIN: Duration = Duration::from_millis(100);

/// An order to run, understood.
struct Draft {
    /// One, or several at once.
    parts: Vec<(&'static Experiment, Spec)>,
    params: Map<String, serde_json::Value>,
    scene: Scene,
    /// `Err` = why it cannot be done here.
    method: Result<Method, String>,
    rate: u64,
    seed: u64,
}

impl Draft {
    fn name(&self) -> String {
        let names: Vec<_> = self
            .parts
            .iter()
            .map(|(_, spec)| spec.name.as_str())
            .collect();
        names.join(&AND.to_string())
    }

    fn claim(&self) -> String {
        let claims: Vec<_> = self
            .parts
            .iter()
            .map(|(experiment, _)| experiment.claim)
            .collect();
        claims.join(" ")
    }
}

impl Keeper {
    /// What [`Keeper::run`] would do. Changes nothing.
    ///
    /// # Errors
    /// `NotFound`, `InvalidParams`; a refusal is part of the answer.
    pub async fn preview(&self, params: RunParams) -> Result<Preview, Error> {
        let setup = &self.0.setup;
        let draft = self.draft(&params)?;
        let refused = self.refusal(&draft).await;
        // What cannot be done has no steps and no hypothesis.
        let is_known = draft.method.is_ok();
        let (experiment, claim) = (draft.name(), draft.claim());
        let method = draft.method.unwrap_or_default();
        let refused = refused.map(|error| {
            let hint = error.data.and_then(|data| data.hint);
            match hint {
                Some(hint) => format!("{} ({hint})", error.message),
                None => error.message,
            }
        });
        Ok(Preview {
            experiment,
            claim,
            params: draft.params,
            targets: method.targets.clone(),
            steps: method.steps.iter().map(words::step).collect(),
            reverts: method
                .reverts
                .iter()
                .map(|revert| words::revert(*revert).to_owned())
                .collect(),
            hypothesis: if is_known {
                words::hypothesis(&method, millis(setup.config.chaos.freshness))
            } else {
                Vec::new()
            },
            stop_when: words::stop_when(&scene::stops(&setup.config)),
            for_ms: method.for_ms,
            about_ms: if is_known {
                words::about_ms(&method, &setup.timing)
            } else {
                0
            },
            rate: draft.rate,
            seed: draft.seed,
            refused,
        })
    }

    /// Begins an experiment for `by`, and answers as soon as its guard runs.
    ///
    /// # Errors
    /// `NotFound`, `InvalidParams`, `Refused` with the next step; `Internal` where the guard cannot be started.
    pub async fn run(&self, params: RunParams, by: &str) -> Result<Started, Error> {
        let inner = &self.0;
        let draft = self.draft(&params)?;
        if let Some(refusal) = self.refusal(&draft).await {
            return Err(refusal);
        }
        let (experiment, claim) = (draft.name(), draft.claim());
        let Ok(method) = draft.method else {
            return Err(Error::new(
                Code::Internal,
                "a method that was refused was run",
            ));
        };
        let seed = draft.seed;
        let now_ms = inner.setup.clock.now_ms();
        let id = format!("{}-{experiment}", stamp(now_ms));
        let running = Running {
            id: id.clone(),
            experiment: experiment.clone(),
            phase: Phase::Preparing,
            started_ms: now_ms,
            injected_ms: None,
            reverted_ms: None,
            until_ms: None,
            targets: method.targets.clone(),
            by: by.to_owned(),
        };
        // The place is taken before anything is waited for, so that two who ask at once do not both get it.
        let Some(to_guard) = inner.take_place(running.clone(), seed) else {
            return Err(busy("another experiment runs"));
        };
        let setup = &inner.setup;
        let job = Job {
            id: id.clone(),
            folder: inner.shelf.folder_of(&id),
            experiment,
            claim,
            params: draft.params,
            stops: scene::stops(&setup.config),
            freshness_ms: millis(setup.config.chaos.freshness),
            daemon: setup.daemon.clone(),
            server: setup.server.clone(),
            roles: scene::roles(&setup.config),
            keys: scene::keys(&setup.config, &setup.layout),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: setup.config_hash.to_string(),
            timing: setup.timing,
            scene: draft.scene,
            method,
            seed,
            by: by.to_owned(),
            started_ms: now_ms,
        };
        // From here on it goes to its end even if whoever asked is gone.
        let task = Arc::clone(inner);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let cut = inner.cut();
        inner.tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = begin(task, job, running, to_guard, answer) => {}
            }
        });
        match answered.await {
            Ok(Ok(())) => Ok(Started { id, seed }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(Code::Unavailable, "the daemon ends")),
        }
    }

    /// Why an experiment can never run in this daemon as it is configured; `None` = it can.
    pub(super) fn refused_here(&self, experiment: &Experiment, spec: &Spec) -> Option<String> {
        if let Err(error) = self.allowed(experiment, spec) {
            return Some(error.message);
        }
        let setup = &self.0.setup;
        let params = check(spec, &Map::new(), &setup.layout).ok()?;
        let rate = setup.config.chaos.rate;
        let scene = scene::scene(&setup.config, &setup.layout, &setup.handle, rate, 0);
        let params = Params {
            given: &params,
            for_ms: None,
        };
        (experiment.method)(&scene, &params).err()
    }

    /// What the schedule chooses from.
    pub(super) fn schedulable(&self) -> Vec<String> {
        let all = self.0.setup.experiments.iter();
        all.map(|experiment| (experiment, (experiment.spec)()))
            .filter(|(experiment, spec)| self.allowed(experiment, spec).is_ok())
            .map(|(_, spec)| spec.name)
            .collect()
    }

    /// Parameters checked and the method made. Says nothing on whether it may run.
    fn draft(&self, params: &RunParams) -> Result<Draft, Error> {
        let setup = &self.0.setup;
        let parts = self.named(&params.name)?;
        let invalid = |message: String| Error::new(Code::InvalidParams, message);
        let lasts = match &params.lasts {
            None => None,
            Some(text) => match parse_duration(text) {
                Ok(lasts) if lasts >= FOR_MIN => Some(lasts),
                Ok(_) => {
                    let min = print_duration(FOR_MIN);
                    return Err(invalid(format!(
                        "for is {}, the least is {min}",
                        quote(text)
                    )));
                }
                Err(fault) => {
                    let message = format!("for {fault}");
                    return Err(invalid(message).hint("give a duration such as 30s"));
                }
            },
        };
        let rate = params.rate.unwrap_or(setup.config.chaos.rate);
        if !(1..=RATE_MAX).contains(&rate) {
            return Err(invalid(format!(
                "rate is {rate}, not 1 to {RATE_MAX} events a second"
            )));
        }
        let seed = params
            .seed
            // 53 bits, so that every reader of JSON keeps it.
            .unwrap_or_else(|| self.0.state().draws.random::<u64>() >> 11);
        let scene = scene::scene(&setup.config, &setup.layout, &setup.handle, rate, seed);
        let (mut methods, mut used) = (Vec::new(), Map::new());
        for (experiment, spec) in &parts {
            let checked = check(spec, &Self::of(&parts, spec, &params.params), &setup.layout)?;
            let given = Params {
                given: &checked,
                for_ms: lasts.map(millis),
            };
            methods.push((experiment.method)(&scene, &given));
            used.extend(checked);
        }
        let methods: Result<Vec<Method>, String> = methods.into_iter().collect();
        Ok(Draft {
            parts,
            params: used,
            scene,
            method: methods.map(|methods| together(methods).unwrap_or_default()),
            rate,
            seed,
        })
    }

    /// The experiment with this name, or those whose names stand in it.
    fn named(&self, name: &str) -> Result<Vec<(&'static Experiment, Spec)>, Error> {
        let all = || self.0.setup.experiments.iter().map(|e| (e, (e.spec)()));
        let mut parts: Vec<(&'static Experiment, Spec)> = Vec::new();
        for part in name.split(AND) {
            let Some(found) = all().find(|(_, spec)| spec.name == part) else {
                let message = format!("there is no experiment {}", quote(part));
                let names: Vec<_> = all().map(|(_, spec)| spec.name).collect();
                let hint = hint_names(part, names.iter().map(String::as_str));
                return Err(Error::new(Code::NotFound, message).hint(hint));
            };
            if parts.len() == TOGETHER_MAX || parts.iter().any(|(_, spec)| spec.name == part) {
                let message = format!("{} is named twice, or too much at once", quote(part));
                let hint = format!(
                    "at most {TOGETHER_MAX} different ones, such as net.latency+worker.kill"
                );
                return Err(Error::new(Code::InvalidParams, message).hint(hint));
            }
            parts.push(found);
        }
        Ok(parts)
    }

    /// What of the parameters is this one's; what is nobody's is the first one's, whose check refuses it.
    fn of(
        parts: &[(&'static Experiment, Spec)],
        spec: &Spec,
        given: &Map<String, serde_json::Value>,
    ) -> Map<String, serde_json::Value> {
        let knows = |spec: &Spec, name: &str| spec.params.iter().any(|param| param.name == name);
        let is_first = parts
            .first()
            .is_some_and(|(_, first)| first.name == spec.name);
        given
            .iter()
            .filter(|(name, _)| {
                let nobodys = parts.iter().all(|(_, spec)| !knows(spec, name));
                knows(spec, name) || (is_first && nobodys)
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Why this may not begin now; the first reason in a fixed order.
    async fn refusal(&self, draft: &Draft) -> Option<Error> {
        let checks = async {
            for (experiment, spec) in &draft.parts {
                self.allowed(experiment, spec)?;
            }
            self.free().await?;
            let max = self.0.setup.config.chaos.max_duration;
            match &draft.method {
                Ok(method) if method.for_ms > millis(max) => {
                    let message = format!(
                        "the fault would last {}, longer than chaos.max_duration ({})",
                        print_duration(Duration::from_millis(method.for_ms)),
                        print_duration(max)
                    );
                    return Err(refused(
                        message,
                        "give a shorter time, or raise chaos.max_duration",
                    ));
                }
                _ => {}
            }
            self.well()?;
            match &draft.method {
                Ok(_) => Ok(()),
                Err(why) => {
                    let hint = format!("see: pipectl chaos show {}", draft.name());
                    Err(refused(why.clone(), hint))
                }
            }
        };
        checks.await.err()
    }

    /// What the configuration says.
    fn allowed(&self, experiment: &Experiment, spec: &Spec) -> Result<(), Error> {
        let setup = &self.0.setup;
        let config = &setup.config.chaos;
        if !config.enabled {
            return Err(refused(
                "experiments are off in this daemon",
                "set chaos.enabled = true where they may hurt, and restart; or try one on a copy: pipectl chaos run NAME --copy",
            ));
        }
        let family = spec.name.split('.').next().unwrap_or_default();
        if !config.allow.iter().any(|allowed| allowed == family) {
            return Err(refused(
                format!("chaos.allow has no {family}"),
                format!("add \"{family}\" to chaos.allow and restart"),
            ));
        }
        if experiment.copy_only && !config.copy {
            return Err(refused(
                format!(
                    "{} destroys data, and this pipeline is not marked as a copy",
                    spec.name
                ),
                format!("run it on one: pipectl chaos run {} --copy", spec.name),
            ));
        }
        if experiment.managed_only && !setup.server.managed {
            return Err(refused(
                format!(
                    "{} hurts Redis itself, and this one is not managed by the daemon",
                    spec.name
                ),
                format!("run it on a copy: pipectl chaos run {} --copy", spec.name),
            ));
        }
        match setup.inside.network_refused() {
            Some(why) if family == "net" => Err(refused(
                why,
                "see: pipectl chaos ls; other families can run",
            )),
            _ => Ok(()),
        }
    }

    /// Whether the lever is up and nothing runs.
    async fn free(&self) -> Result<(), Error> {
        let inner = &self.0;
        if inner.is_closed() {
            return Err(refused(
                "the daemon ends",
                "wait for it to be started again",
            ));
        }
        let lever = inner.state().lever.clone();
        if lever.pulled {
            let by = lever.by.map(|by| format!(" by {}", quote(&by)));
            let why = lever.reason.map(|why| format!(": {}", quote(&why)));
            let message = format!(
                "the lever is pulled{}{}",
                by.unwrap_or_default(),
                why.unwrap_or_default()
            );
            return Err(refused(message, "take it back: pipectl chaos lever off"));
        }
        self.let_it_leave().await?;
        if let Some((running, _)) = inner.running() {
            return Err(busy(&format!(
                "{} ({}) runs",
                running.experiment, running.id
            )));
        }
        match on_shelf(inner, |shelf| shelf.alive()).await? {
            Some(id) => Err(busy(&format!("the guard of {id} is still at work"))),
            None => Ok(()),
        }
    }

    /// A run whose verdict everybody can read may have a guard that is just about to end: whoever runs one after the other is
    /// not to be refused for that.
    async fn let_it_leave(&self) -> Result<(), Error> {
        let inner = &self.0;
        let deadline = tokio::time::Instant::now() + LEAVES_WITHIN;
        while tokio::time::Instant::now() < deadline {
            let id = match inner.running() {
                Some((running, _)) => Some(running.id),
                None => on_shelf(inner, |shelf| shelf.alive()).await?,
            };
            let Some(id) = id else { return Ok(()) };
            if !on_shelf(inner, move |shelf| shelf.has_ended(&id)).await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Whether the pipeline is well enough to be hurt.
    fn well(&self) -> Result<(), Error> {
        let setup = &self.0.setup;
        if setup.handle.is_draining() {
            return Err(refused(
                "the daemon drains",
                "wait for it to be started again",
            ));
        }
        let stages = setup.handle.stages.iter();
        if let Some(stage) = stages.into_iter().find(|stage| stage.is_paused()) {
            return Err(refused(
                format!("stage {} is paused", stage.name),
                format!("let it go on: pipectl resume {}", stage.name),
            ));
        }
        let snapshot = setup.observer.latest();
        let status = &snapshot.status;
        if snapshot.seq == 0 {
            return Err(refused(
                "the daemon has just started and does not know yet how it is",
                "try again in a second",
            ));
        }
        if !status.healthy {
            let why = status.reason.as_deref().map(|why| format!(": {why}"));
            return Err(refused(
                format!("the pipeline is not well{}", why.unwrap_or_default()),
                "mend it first; see: pipectl status",
            ));
        }
        Ok(())
    }
}

/// Makes the folder, starts the guard, answers, and sees the run to its end.
async fn begin(
    inner: Arc<super::keeper::Inner>,
    job: Job,
    running: Running,
    to_guard: tokio::sync::mpsc::Receiver<super::pipe::Word>,
    answer: tokio::sync::oneshot::Sender<Result<(), Error>>,
) {
    let id = job.id.clone();
    let started = async {
        let made = id.clone();
        on_shelf(&inner, move |shelf| shelf.create(&made))
            .await?
            .map_err(|fault| disk("make the folder of the run", &fault))?;
        inner.setup.inside.begin(job.seed);
        tend::start(&inner, &job, to_guard).await.map_err(|why| {
            Error::new(Code::Internal, why).hint("see the daemon's log; nothing was done")
        })
    };
    let started = match started.await {
        Ok(started) => started,
        Err(error) => {
            inner.over(&id);
            // A folder that was there before is another run's; ours is younger than any progress.
            let discarded = on_shelf(&inner, move |shelf| match shelf.running(&id) {
                None => shelf.discard(&id),
                Some(_) => Ok(()),
            });
            if let Ok(Err(fault)) = discarded.await {
                tracing::warn!(%fault, "the folder of a run that did not begin could not be removed");
            }
            // Whoever asked may be gone.
            let _ = answer.send(Err(error));
            return;
        }
    };
    let text = format!(
        "{} starts {} ({}), seed {}",
        quote(&job.by),
        job.experiment,
        job.id,
        job.seed
    );
    inner.tell(Level::Action, "chaos.started", text);
    let _ = answer.send(Ok(()));
    tend::tend(inner, running, started).await;
}

fn refused(message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(Code::Refused, message.into()).hint(hint.into())
}

fn busy(message: &str) -> Error {
    refused(
        message,
        "one at a time: wait for it, or end it with: pipectl chaos stop",
    )
}

/// `20261121T191006.123Z`: sorts by time and is a plain file name.
fn stamp(ms: u64) -> String {
    rfc3339(ms).replace(['-', ':'], "")
}
