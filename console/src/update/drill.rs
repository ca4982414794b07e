//! Experiments from the console: the form, what would happen, the question, the begin, the stop, the lever.

use pipectl_shared::chaos::{LeverParams, RunParams};
use pipectl_shared::spec::Spec;
use serde_json::{Map, Value};

use super::dialogs::parameters;
use super::go;
use super::runs::scroll;
use crate::keys::{Act, Key};
use crate::message::{Answer, Effect, Fault, Question};
use crate::model::{
    Deed, Focus, Form, FormOf, Layer, Model, N_COMMON, PageWay, Purpose, Rehearsal,
};
use crate::output::shell::quote;
use crate::place::Id;
use crate::screens;

/// Keys typed before the question was drawn are not meant for it.
const TYPE_AHEAD_MS: u64 = 150;

fn top_form(model: &mut Model) -> Option<&mut Form> {
    match model.layers.last_mut() {
        Some(Layer::Form(form)) => Some(form),
        _ => None,
    }
}

fn reason_of(form: &Form) -> Option<String> {
    Some(form.reason.text().trim().to_owned()).filter(|text| !text.is_empty())
}

/// Asks what the experiment of the form would do.
pub(super) fn rehearse(model: &mut Model) -> Vec<Effect> {
    let blocked = model.why_not_drill();
    let Some(form) = top_form(model) else {
        return Vec::new();
    };
    let asked = match (blocked, run_params(form)) {
        (Some(why), _) => Err((form.focus, why)),
        (None, asked) => asked,
    };
    match asked {
        Ok(params) => {
            form.is_sent = true;
            form.would = None;
            // What an earlier form of the same experiment asked is not what this one asks.
            model.forget(&Purpose::Rehearsal);
            vec![model.ask(
                Purpose::Rehearsal,
                Question::RunExperiment(Box::new(params)),
            )]
        }
        Err((focus, message)) => {
            form.focus = focus;
            form.would = Some(Err(Fault {
                message,
                hint: None,
            }));
            Vec::new()
        }
    }
}

/// What the fields say; or which field is wrong, and why.
fn run_params(form: &Form) -> Result<RunParams, (usize, String)> {
    let n_own = form.spec.params.len().saturating_sub(N_COMMON);
    // By place and not by name: an experiment may have a parameter called rate.
    let own = &form.spec.params[..n_own];
    let params: Map<String, Value> = parameters(
        &Spec {
            params: own.to_vec(),
            ..form.spec.clone()
        },
        &form.fields[..n_own],
    )?;
    let common = parameters(
        &Spec {
            params: form.spec.params[n_own..].to_vec(),
            ..form.spec.clone()
        },
        &form.fields[n_own..],
    )
    .map_err(|(at, why)| (n_own + at, why))?;
    let number = |name: &str| common.get(name).and_then(Value::as_u64);
    Ok(RunParams {
        name: form.spec.name.clone(),
        params,
        lasts: common.get("for").and_then(Value::as_str).map(str::to_owned),
        rate: number("rate"),
        seed: number("seed"),
        dry_run: true,
        reason: reason_of(form),
    })
}

/// Says what the lever would do, and with that on the screen moves it.
pub(super) fn move_lever(model: &mut Model, pull: bool) -> Vec<Effect> {
    let blocked = model.why_not_chaos();
    let running = model.running().map(|running| running.experiment.clone());
    let Some(form) = top_form(model) else {
        return Vec::new();
    };
    if let Some(message) = blocked {
        form.would = Some(Err(Fault {
            message,
            hint: None,
        }));
        return Vec::new();
    }
    if !matches!(form.would, Some(Ok(_))) {
        let would = match (pull, running) {
            (true, Some(name)) => {
                format!("would stop {name} now, revert it, and block every experiment")
            }
            (true, None) => "nothing is under way; would block every experiment".to_owned(),
            (false, _) => "would let experiments run again".to_owned(),
        };
        form.would = Some(Ok(would));
        form.focus = form.cancel();
        return Vec::new();
    }
    form.is_sent = true;
    let reason = reason_of(form);
    let word = if pull { "on" } else { "off" };
    let mut command = format!("pipectl chaos lever {word}");
    if let Some(reason) = &reason {
        command.push_str(&format!(" --reason {}", quote(reason)));
    }
    let what = if pull {
        "lever pulled"
    } else {
        "lever taken back"
    };
    model.remember(Deed::of(what, command, Purpose::Lever));
    let params = LeverParams { pull, reason };
    vec![model.ask(Purpose::Lever, Question::Lever(params))]
}

/// The daemon says what would happen.
pub(super) fn rehearsed(model: &mut Model, answer: Result<Answer, Fault>) {
    let opened_ms = model.now_ms;
    let Some(form) = top_form(model) else { return };
    if form.of != FormOf::Experiment || !form.is_sent {
        return;
    }
    form.is_sent = false;
    let preview = match answer {
        Ok(Answer::Rehearsed(preview)) if preview.experiment == form.spec.name => preview,
        Ok(_) => {
            form.would = Some(Err(unfit()));
            return;
        }
        Err(fault) => {
            form.would = Some(Err(fault));
            return;
        }
    };
    // The fields cannot have changed: they take no keys while the question is open.
    let Ok(mut params) = run_params(form) else {
        return;
    };
    params.dry_run = false;
    // What was drawn for the preview is what runs: its targets are those that were shown.
    params.seed = Some(preview.seed);
    model.layers.push(Layer::Rehearsal(Box::new(Rehearsal {
        preview,
        params,
        line: 0,
        focus: Focus::Cancel,
        fault: None,
        is_sent: false,
        opened_ms,
    })));
}

pub(super) fn unfit() -> Fault {
    Fault {
        message: "the daemon answered something else than was asked".to_owned(),
        hint: Some("daemon and pipectl may be of different versions".to_owned()),
    }
}

/// A key for the question whether to begin.
pub(super) fn press_rehearsal(model: &mut Model, key: Key, act: Option<Act>) -> Vec<Effect> {
    let now_ms = model.now_ms;
    let page = usize::from(model.size.1 / 2).max(1);
    let Some(Layer::Rehearsal(rehearsal)) = model.layers.last_mut() else {
        return Vec::new();
    };
    if now_ms.saturating_sub(rehearsal.opened_ms) < TYPE_AHEAD_MS && key != Key::Esc {
        return Vec::new();
    }
    let most = screens::rehearsal_lines(rehearsal)
        .len()
        .saturating_sub(page / 2);
    match (key, act) {
        (Key::Tab | Key::BackTab | Key::Left | Key::Right, _) => {
            rehearsal.focus = match rehearsal.focus {
                Focus::Run => Focus::Cancel,
                // What would be refused has no button that runs it.
                _ if rehearsal.preview.refused.is_some() => Focus::Cancel,
                _ => Focus::Run,
            };
        }
        (Key::Enter, _) if rehearsal.is_sent => {}
        (Key::Enter, _) if rehearsal.focus == Focus::Run => return begin(model),
        (Key::Enter | Key::Esc, _) | (_, Some(Act::Back | Act::Quit)) => {
            model.layers.pop();
        }
        (_, Some(Act::Copy)) => return vec![Effect::Copy(screens::run_command(&rehearsal.params))],
        (_, Some(act)) => scroll(&mut rehearsal.line, act, page, most),
        _ => {}
    }
    Vec::new()
}

fn begin(model: &mut Model) -> Vec<Effect> {
    let blocked = model.why_not_drill();
    let Some(Layer::Rehearsal(rehearsal)) = model.layers.last_mut() else {
        return Vec::new();
    };
    let refused = rehearsal.preview.refused.clone();
    if let Some(message) = blocked.or(refused) {
        rehearsal.focus = Focus::Cancel;
        rehearsal.fault = Some(Fault {
            message,
            hint: None,
        });
        return Vec::new();
    }
    rehearsal.is_sent = true;
    rehearsal.fault = None;
    let params = rehearsal.params.clone();
    let what = format!("chaos {}", params.name);
    model.remember(Deed::of(
        &what,
        screens::run_command(&params),
        Purpose::Begin,
    ));
    vec![model.ask(Purpose::Begin, Question::RunExperiment(Box::new(params)))]
}

/// Puts the result into the journal of what was done from here.
fn book(model: &mut Model, awaits: &Purpose, result: String) {
    let deed = model
        .deeds
        .iter_mut()
        .rev()
        .find(|deed| deed.result.is_none() && deed.awaits == *awaits);
    if let Some(deed) = deed {
        deed.result = Some(result);
    }
}

/// `began 20220101T000000-1`: how the journal finds the run again when it has ended.
pub(super) fn began_as(id: &str) -> String {
    format!("began {id}")
}

/// The daemon says that it began, or why not.
pub(super) fn began(model: &mut Model, answer: Result<Answer, Fault>) -> Vec<Effect> {
    let started = match answer {
        Ok(Answer::Began(started)) => started,
        other => {
            let fault = other.err().unwrap_or_else(unfit);
            book(model, &Purpose::Begin, format!("failed: {}", fault.message));
            match model.layers.last_mut() {
                Some(Layer::Rehearsal(rehearsal)) if rehearsal.is_sent => {
                    rehearsal.is_sent = false;
                    rehearsal.focus = Focus::Cancel;
                    rehearsal.fault = Some(fault);
                }
                _ => model.complain(format!("the experiment did not begin: {}", fault.message)),
            }
            return Vec::new();
        }
    };
    book(model, &Purpose::Begin, began_as(&started.id));
    let mut experiment = None;
    if let Some(Layer::Rehearsal(rehearsal)) = model.layers.last()
        && rehearsal.is_sent
    {
        experiment = Some(rehearsal.params.name.clone());
        // The question, and the form beneath it.
        model.layers.pop();
        if matches!(model.layers.last(), Some(Layer::Form(_))) {
            model.layers.pop();
        }
    }
    let Some(experiment) = experiment else {
        model.say(format!("the experiment began: {}", started.id));
        return Vec::new();
    };
    let key = model.options.keymap.label(Act::Reverse).unwrap_or_default();
    model.say(format!(
        "{experiment} began with seed {}; {key} stops it",
        started.seed
    ));
    model.watch_own(started.id, experiment);
    go(model, Id::Chaos)
}

/// The daemon says that it stops, or that the lever moved.
pub(super) fn stopped(
    model: &mut Model,
    purpose: &Purpose,
    answer: Result<Answer, Fault>,
) -> Vec<Effect> {
    let what = if *purpose == Purpose::Stop {
        "stop"
    } else {
        "lever"
    };
    let answer = match answer {
        Ok(Answer::Stopped(value)) => Ok(super::dialogs::told(&value)),
        Ok(Answer::Lever(lever)) => {
            let text = if lever.pulled { "pulled" } else { "taken back" };
            if let Some(catalogue) = &mut model.drill.catalogue {
                catalogue.lever = lever;
            }
            Ok(text.to_owned())
        }
        Ok(_) => Err(unfit()),
        Err(fault) => Err(fault),
    };
    let form = top_form(model).filter(|form| {
        *purpose == Purpose::Lever && matches!(form.of, FormOf::Lever(_)) && form.is_sent
    });
    match answer {
        Ok(text) => {
            if form.is_some() {
                model.layers.pop();
            }
            book(model, purpose, text.clone());
            model.say(format!("{what}: {text}"));
        }
        Err(fault) => {
            let message = fault.message.clone();
            match form {
                Some(form) => {
                    form.is_sent = false;
                    form.would = Some(Err(fault));
                }
                None => model.complain(format!("{what}: {message}")),
            }
            book(model, purpose, format!("failed: {message}"));
        }
    }
    model
        .ask_rows(Id::Chaos, PageWay::First)
        .into_iter()
        .collect()
}

/// What was asked has no answer any more: the dialogs say so, and nothing is under way for ever. A run that began goes on
/// without this console; the daemon tells of it when it is back.
pub(super) fn connection_lost(model: &mut Model) {
    let lost = || Fault {
        message: "the connection was lost before the answer".to_owned(),
        hint: Some("once it is back the catalogue says what is under way".to_owned()),
    };
    for layer in &mut model.layers {
        match layer {
            Layer::Form(form) if form.is_sent && form.of != FormOf::Command => {
                form.is_sent = false;
                form.would = Some(Err(lost()));
            }
            Layer::Rehearsal(rehearsal) if rehearsal.is_sent => {
                rehearsal.is_sent = false;
                rehearsal.focus = Focus::Cancel;
                rehearsal.fault = Some(lost());
            }
            Layer::Run(view) if view.progress.is_none() => view.fault = Some(lost()),
            _ => {}
        }
    }
}
