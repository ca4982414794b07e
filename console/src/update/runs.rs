//! Runs of experiments: how far the watched one is, and the document of one.

use super::drill::{began_as, unfit};
use super::lists;
use crate::keys::{Act, Key};
use crate::message::{Answer, Effect, Fault};
use crate::model::{Layer, Model, PageWay};
use crate::screens;

/// How far the watched run is. With its verdict the catalogue and the list of runs are looked at anew.
pub(super) fn progress(model: &mut Model, id: &str, answer: Result<Answer, Fault>) -> Vec<Effect> {
    let answer = match answer {
        Ok(Answer::Run(progress)) => Ok(progress),
        Ok(_) => Err(unfit()),
        Err(fault) => Err(fault),
    };
    let Some((verdict, why)) = model.take_progress(id, answer) else {
        return Vec::new();
    };
    let result = format!("{}: {why}", verdict.word());
    let began = began_as(id);
    for deed in &mut model.deeds {
        if deed.result.as_ref() == Some(&began) {
            deed.result = Some(format!("{began}; {result}"));
        }
    }
    model.say(result);
    let screen = model.screen;
    let effects = model.ask_rows(screen, PageWay::First).into_iter().collect();
    lists::reorder(model);
    effects
}

/// The document of a run came, if it is still open.
pub(super) fn document(model: &mut Model, id: &str, answer: Result<Answer, Fault>) {
    let view = model.layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Run(view) if view.id == id => Some(view),
        _ => None,
    });
    let Some(view) = view else { return };
    match answer {
        Ok(Answer::Run(progress)) if progress.running.id == id => {
            view.fault = None;
            view.progress = Some(Box::new(progress));
        }
        Ok(_) => view.fault = Some(unfit()),
        Err(fault) => view.fault = Some(fault),
    }
}

/// A key for the document of a run.
pub(super) fn press_run(model: &mut Model, key: Key, act: Option<Act>) -> Vec<Effect> {
    let page = usize::from(model.size.1).saturating_sub(8).max(1);
    let width = model.size.0;
    let Some(Layer::Run(view)) = model.layers.last_mut() else {
        return Vec::new();
    };
    let most = screens::run_lines(view, width, false)
        .len()
        .saturating_sub(page / 2);
    match (act, key) {
        (Some(Act::Back | Act::Quit | Act::Open), _) => {
            model.layers.pop();
        }
        (Some(Act::Help), _) => model.layers.push(Layer::Help(0)),
        (Some(Act::Copy), _) => return vec![Effect::Copy(view.id.clone())],
        (Some(act), _) => scroll(&mut view.line, act, page, most),
        (None, Key::Char('r')) => {
            let id = view.id.clone();
            return model.ask_document(id).into_iter().collect();
        }
        _ => {}
    }
    Vec::new()
}

/// Moves the first line that is shown.
pub(super) fn scroll(line: &mut usize, act: Act, page: usize, most: usize) {
    *line = match act {
        Act::Down => line.saturating_add(1),
        Act::Up => line.saturating_sub(1),
        Act::PageDown | Act::HalfDown => line.saturating_add(page),
        Act::PageUp | Act::HalfUp => line.saturating_sub(page),
        Act::Top => 0,
        Act::Bottom => most,
        _ => *line,
    }
    .min(most);
}
