//! What is opened and asked about experiments wherever one is named: the form, the lever's form, the stop, the document.

use pipectl_shared::chaos::{GetParams, StopParams};
use pipectl_shared::rpc::Role;
use pipectl_shared::spec::{Param, ParamKind, Risk, Scope, Spec};

use super::{Deed, Form, FormOf, Layer, Model, Purpose, RunView, TextField};
use crate::message::{Effect, Question};

/// Parameters that every run has, behind those of its experiment: for, rate, seed.
pub(crate) const N_COMMON: usize = 3;

/// May be left empty.
fn common() -> [Param; N_COMMON] {
    let param = |name: &str, summary: &str, kind| Param {
        name: name.to_owned(),
        summary: summary.to_owned(),
        kind,
        default: Some(String::new()),
    };
    [
        param(
            "for",
            "How long the fault lasts; empty = the experiment's own.",
            ParamKind::Duration,
        ),
        param(
            "rate",
            "Events a second; empty = [chaos] rate.",
            ParamKind::Integer {
                min: 1,
                max: 50_000,
            },
        ),
        param(
            "seed",
            "Decides what is random; empty = drawn.",
            ParamKind::Integer {
                min: 0,
                max: i64::MAX,
            },
        ),
    ]
}

impl Model {
    /// What the daemon says of an experiment, wherever it said it.
    fn spec_of(&self, name: &str) -> Option<(Spec, Option<String>)> {
        let catalogue = self.drill.catalogue.as_ref();
        let row = catalogue.and_then(|told| told.rows.iter().find(|row| row.spec.name == name));
        if let Some(row) = row {
            return Some((row.spec.clone(), row.refused.clone()));
        }
        let hello = self.facts.hello.as_ref()?;
        let spec = hello.experiments.iter().find(|spec| spec.name == name)?;
        Some((spec.clone(), None))
    }

    /// Opens the form of an experiment; where it cannot run the reason is said and nothing opens.
    pub(crate) fn open_experiment(&mut self, name: &str) {
        let Some((mut spec, refused)) = self.spec_of(name) else {
            self.complain(format!("this daemon has no experiment {name}"));
            return;
        };
        if let Some(why) = self.why_not_drill().or(refused) {
            self.complain(format!("{name}: {why}"));
            return;
        }
        spec.params.extend(common());
        let fields: Vec<TextField> = spec
            .params
            .iter()
            .map(|param| TextField::new(param.default.as_deref().unwrap_or("")))
            .collect();
        // Showing what would happen changes nothing, so that is where it begins, unless something must be given.
        let missing = spec.params.iter().position(|param| param.default.is_none());
        let focus = missing.unwrap_or(fields.len() + 2);
        self.layers.push(Layer::Form(Form {
            of: FormOf::Experiment,
            spec,
            fields,
            reason: TextField::default(),
            focus,
            would: None,
            is_sent: false,
        }));
    }

    /// Opens the form of the lever: a reason, and what it does.
    pub(crate) fn open_lever(&mut self, pull: bool) {
        let name = if pull {
            "pull the lever"
        } else {
            "take the lever back"
        };
        if let Some(why) = self.why_not_chaos() {
            self.complain(format!("{name}: {why}"));
            return;
        }
        let summary = if pull {
            "Ends the experiment that is under way and blocks every other, scheduled ones too, until it is taken back."
        } else {
            "Lets experiments run again, the scheduled ones too."
        };
        self.layers.push(Layer::Form(Form {
            of: FormOf::Lever(pull),
            spec: Spec {
                name: name.to_owned(),
                summary: summary.to_owned(),
                params: Vec::new(),
                scope: Scope::Daemon,
                risk: Risk::Low,
                role: Role::Operator,
            },
            fields: Vec::new(),
            reason: TextField::default(),
            focus: 0,
            would: None,
            is_sent: false,
        }));
    }

    /// Ends the run that is under way, at once: stopping is safe, so nothing is asked before.
    pub(crate) fn stop_experiment(&mut self) -> Vec<Effect> {
        if let Some(why) = self.why_not_chaos() {
            self.complain(format!("stop: {why}"));
            return Vec::new();
        }
        let is_watched = self
            .drill
            .watch
            .as_ref()
            .is_some_and(|watch| !watch.has_ended());
        if self.running().is_none() && !is_watched {
            self.say("no experiment is under way");
            return Vec::new();
        }
        if self.is_asked(&Purpose::Stop) {
            self.say("asked to stop already");
            return Vec::new();
        }
        self.say("asked to stop; it is reverted first, then counted");
        let command = "pipectl chaos stop".to_owned();
        self.remember(Deed::of("chaos stop", command, Purpose::Stop));
        vec![self.ask(
            Purpose::Stop,
            Question::StopExperiment(StopParams::default()),
        )]
    }

    /// Opens the document of a run.
    pub(crate) fn open_run(&mut self, id: String, experiment: String) -> Vec<Effect> {
        self.layers.push(Layer::Run(Box::new(RunView {
            id: id.clone(),
            experiment,
            progress: None,
            fault: None,
            line: 0,
        })));
        self.ask_document(id).into_iter().collect()
    }

    /// Asks for the document of a run, unless it is under way.
    pub(crate) fn ask_document(&mut self, id: String) -> Option<Effect> {
        let purpose = Purpose::Document(id.clone());
        if !self.facts.is_up() || self.is_asked(&purpose) {
            return None;
        }
        let params = GetParams {
            id: Some(id),
            ..GetParams::default()
        };
        Some(self.ask(purpose, Question::Run(params)))
    }
}
