//! Plans from the console: made (which is the dry run), confirmed, run, followed, cancelled. The connection may go at any
//! moment; the plan belongs to the daemon and is looked up again when it is back.

use pipectl_shared::plan::{Plan, PlanParams, State};
use pipectl_shared::rpc::{PlanIdParams, PlanRunParams};

use super::lists;
use crate::keys::Key;
use crate::message::{Effect, Fault, Question};
use crate::model::{Confirm, Deed, Focus, Layer, Model, PageWay, PlanStep, Purpose, TextField};
use crate::output::human::count;
use crate::screens::{self, Source};

/// Keys typed before a dialog was drawn are not meant for it.
const TYPE_AHEAD_MS: u64 = 150;

/// Asks the daemon for a plan. Nothing is changed by it.
pub(super) fn make(model: &mut Model, params: PlanParams) -> Vec<Effect> {
    if let Some(why) = model.why_not_act() {
        model.complain(format!("{}: {why}", params.action.word()));
        return Vec::new();
    }
    model
        .layers
        .push(Layer::Plan(Box::new(PlanStep::Making(params.clone()))));
    model.forget(&Purpose::Plan);
    vec![model.ask(Purpose::Plan, Question::PlanCreate(params))]
}

fn step(model: &mut Model) -> Option<&mut PlanStep> {
    model.layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Plan(step) => Some(&mut **step),
        _ => None,
    })
}

/// A plan that was asked for came, in whatever state it is.
pub(super) fn take(model: &mut Model, plan: Plan) -> Vec<Effect> {
    let opened_ms = model.now_ms;
    book(model, &plan);
    let Some(step) = step(model) else {
        return Vec::new();
    };
    match step {
        PlanStep::Making(_) => {
            *step = PlanStep::Confirm(Confirm {
                plan,
                count: TextField::default(),
                reason: TextField::default(),
                focus: Focus::Cancel,
                fault: None,
                is_sent: false,
                opened_ms,
            });
        }
        PlanStep::Confirm(confirm) if confirm.plan.id == plan.id => {
            *step = following(plan, false);
        }
        PlanStep::Running(shown, is_cancelled) if shown.id == plan.id => {
            *step = following(plan, *is_cancelled);
        }
        PlanStep::Ended(shown) if shown.id == plan.id => *shown = plan,
        PlanStep::Failed(..)
        | PlanStep::Confirm(_)
        | PlanStep::Running(..)
        | PlanStep::Ended(_) => {}
    }
    after_end(model)
}

fn following(plan: Plan, is_cancelled: bool) -> PlanStep {
    match plan.state {
        State::Ready | State::Running => PlanStep::Running(plan, is_cancelled),
        State::Done | State::Cancelled | State::Interrupted | State::Expired | State::Undone => {
            PlanStep::Ended(plan)
        }
    }
}

/// Told by the daemon while it runs; also of plans of other people, which are not ours to show.
pub(super) fn progress(model: &mut Model, plan: Plan) -> Vec<Effect> {
    book(model, &plan);
    match step(model) {
        Some(step) => match step {
            PlanStep::Running(shown, is_cancelled) if shown.id == plan.id => {
                *step = following(plan, *is_cancelled);
            }
            PlanStep::Confirm(confirm) if confirm.is_sent && confirm.plan.id == plan.id => {
                *step = following(plan, false);
            }
            _ => return Vec::new(),
        },
        None => return Vec::new(),
    }
    after_end(model)
}

/// Notes in the journal how a plan of ours ended.
fn book(model: &mut Model, plan: &Plan) {
    if matches!(plan.state, State::Ready | State::Running) {
        return;
    }
    let told = outcome(plan);
    for deed in &mut model.deeds {
        if deed.plan.as_deref() == Some(&plan.id) && deed.result.is_none() {
            deed.result = Some(told.clone());
        }
    }
}

/// What came of a plan, in words.
pub(super) fn outcome(plan: &Plan) -> String {
    let state = match plan.state {
        State::Done => "done",
        State::Cancelled => "cancelled",
        State::Interrupted => "interrupted",
        State::Expired => "expired",
        State::Undone => "undone",
        State::Ready => "ready",
        State::Running => "running",
    };
    let Some(result) = &plan.result else {
        return state.to_owned();
    };
    let mut text = format!("{state}: applied {}", count(result.applied));
    for (name, n) in [
        ("dead", result.dead),
        ("already done", result.already_done),
        ("trimmed", result.trimmed),
        ("not found", result.not_found),
        ("failed", result.failed),
        ("waiting", result.waiting),
    ] {
        if n > 0 {
            text.push_str(&format!(", {name} {}", count(n)));
        }
    }
    text
}

/// Once a plan has ended its rows are no longer marked, and the list is looked at anew.
fn after_end(model: &mut Model) -> Vec<Effect> {
    if !matches!(step(model), Some(PlanStep::Ended(_))) {
        return Vec::new();
    }
    let id = model.screen;
    model.list_mut(id).marks.clear();
    if screens::of(id).source != Source::Pages {
        return Vec::new();
    }
    let effects: Vec<Effect> = model.ask_rows(id, PageWay::First).into_iter().collect();
    lists::reorder(model);
    effects
}

/// A question about a plan was answered with no.
pub(super) fn fail(model: &mut Model, fault: Fault) -> Vec<Effect> {
    let message = fault.message.clone();
    let mut refused = None;
    match step(model) {
        Some(step) => match step {
            PlanStep::Making(params) => {
                let params = params.clone();
                *step = PlanStep::Failed(params, fault);
            }
            PlanStep::Confirm(confirm) => {
                refused = Some(confirm.plan.id.clone());
                confirm.focus = Focus::Cancel;
                confirm.is_sent = false;
                confirm.fault = Some(fault);
            }
            // It is followed on: the next look tells more.
            PlanStep::Running(..) => model.complain(message.clone()),
            PlanStep::Failed(..) | PlanStep::Ended(_) => {}
        },
        None => model.complain(message.clone()),
    }
    for deed in &mut model.deeds {
        if deed.plan.is_some() && deed.plan == refused && deed.result.is_none() {
            deed.result = Some(format!("refused: {message}"));
        }
    }
    Vec::new()
}

/// A running plan is looked up from time to time, in case its messages were lost.
pub(super) fn tick(model: &mut Model) -> Vec<Effect> {
    if !model.facts.is_up() || model.is_asked(&Purpose::Plan) {
        return Vec::new();
    }
    let Some(id) = model.running_plan().map(str::to_owned) else {
        return Vec::new();
    };
    vec![model.ask(Purpose::Plan, Question::PlanShow(PlanIdParams { id }))]
}

/// The daemon went away: nobody will answer what was asked.
pub(super) fn connection_lost(model: &mut Model) {
    model.asked.clear();
    let gone = Fault {
        message: "the connection to the daemon was lost".to_owned(),
        hint: Some("try again when it is back".to_owned()),
    };
    match model.layers.last_mut() {
        Some(Layer::Form(form)) if form.is_sent => {
            form.is_sent = false;
            form.would = Some(Err(gone.clone()));
        }
        _ => {}
    }
    match step(model) {
        Some(step @ PlanStep::Making(_)) => {
            if let PlanStep::Making(params) = &*step {
                *step = PlanStep::Failed(params.clone(), gone);
            }
        }
        Some(PlanStep::Confirm(confirm)) if confirm.is_sent => {
            // Whether it began is looked up once the daemon is back.
            confirm.fault = Some(gone);
        }
        Some(
            PlanStep::Confirm(_)
            | PlanStep::Failed(..)
            | PlanStep::Running(..)
            | PlanStep::Ended(_),
        )
        | None => {}
    }
    // A single command leaves no trace to look up: say so instead of leaving it "under way" for ever.
    for deed in &mut model.deeds {
        if deed.result.is_none() && deed.plan.is_none() {
            deed.result = Some(
                "unknown: the connection was lost before the answer; see the audit log".to_owned(),
            );
        }
    }
}

/// The daemon is back: what became of the plan that ran?
pub(super) fn reconnected(model: &mut Model) -> Vec<Effect> {
    tick(model)
}

/// A key for the plan dialog.
pub(super) fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    let now_ms = model.now_ms;
    let Some(Layer::Plan(step)) = model.layers.last_mut() else {
        return Vec::new();
    };
    match &mut **step {
        PlanStep::Making(_) => {
            if key == Key::Esc {
                model.layers.pop();
                model.forget(&Purpose::Plan);
            }
        }
        PlanStep::Failed(..) | PlanStep::Ended(_) => {
            if matches!(key, Key::Esc | Key::Enter | Key::Char('q')) {
                model.layers.pop();
            }
        }
        PlanStep::Confirm(confirm) => {
            if now_ms.saturating_sub(confirm.opened_ms) < TYPE_AHEAD_MS && key != Key::Esc {
                return Vec::new();
            }
            return confirming(model, key);
        }
        PlanStep::Running(plan, is_cancelled) => match key {
            Key::Char('c') if !*is_cancelled => {
                let id = plan.id.clone();
                if let Some(why) = model.why_not_act() {
                    model.complain(format!("cancel: {why}"));
                    return Vec::new();
                }
                if let Some(PlanStep::Running(_, is_cancelled)) = self::step(model) {
                    *is_cancelled = true;
                }
                // Not forgotten: the answer to plan.run comes as well, and either tells the end.
                return vec![model.ask(Purpose::Plan, Question::PlanCancel(PlanIdParams { id }))];
            }
            Key::Esc => {
                model.layers.pop();
                model.say("the plan goes on; @ shows how it ends");
            }
            _ => {}
        },
    }
    Vec::new()
}

fn confirming(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(Layer::Plan(step)) = model.layers.last_mut() else {
        return Vec::new();
    };
    let PlanStep::Confirm(confirm) = &mut **step else {
        return Vec::new();
    };
    if confirm.is_sent {
        if key == Key::Esc {
            model.layers.pop();
            model.say("the plan was sent; @ shows how it ends");
        }
        return Vec::new();
    }
    let parts = confirm.parts();
    let at = parts
        .iter()
        .position(|part| *part == confirm.focus)
        .unwrap_or(0);
    match (key, confirm.focus) {
        (Key::Esc, _) | (Key::Enter, Focus::Cancel) => {
            model.layers.pop();
            model.say("nothing was done");
        }
        (Key::Tab | Key::Down, _) => confirm.focus = parts[(at + 1) % parts.len()],
        (Key::BackTab | Key::Up, _) => {
            confirm.focus = parts[(at + parts.len() - 1) % parts.len()];
        }
        (Key::Left, Focus::Run) => confirm.focus = Focus::Cancel,
        (Key::Right, Focus::Cancel) => confirm.focus = Focus::Run,
        (Key::Enter, Focus::Run) => return run(model),
        (Key::Enter, Focus::Count | Focus::Reason) => confirm.focus = parts[(at + 1) % parts.len()],
        (_, Focus::Count) => {
            confirm.count.press(key);
        }
        (_, Focus::Reason) => {
            confirm.reason.press(key);
        }
        // A digit is the beginning of the count, wherever the focus is.
        (Key::Char('0'..='9'), Focus::Cancel | Focus::Run) if confirm.needs_count() => {
            confirm.focus = Focus::Count;
            confirm.count.press(key);
        }
        _ => {}
    }
    Vec::new()
}

fn run(model: &mut Model) -> Vec<Effect> {
    let blocked = model.why_not_act();
    let Some(Layer::Plan(step)) = model.layers.last_mut() else {
        return Vec::new();
    };
    let PlanStep::Confirm(confirm) = &mut **step else {
        return Vec::new();
    };
    let matched = confirm.plan.matched;
    let fault = if matched == 0 {
        Some("nothing matched: there is nothing to do".to_owned())
    } else if !confirm.count_fits() {
        confirm.focus = Focus::Count;
        Some(format!("type the count, {matched}, to go on"))
    } else {
        blocked
    };
    if let Some(message) = fault {
        confirm.fault = Some(Fault {
            message,
            hint: None,
        });
        return Vec::new();
    }
    let reason = Some(confirm.reason.text().trim().to_owned()).filter(|text| !text.is_empty());
    let plan = confirm.plan.clone();
    let params = PlanRunParams {
        id: plan.id.clone(),
        ids_hash: plan.ids_hash.clone(),
        confirm: confirm.needs_count().then_some(matched),
        reason,
    };
    let deed = Deed {
        ts_ms: 0,
        what: format!(
            "{} {} ({})",
            plan.action.noun(),
            plan.action.word(),
            count(matched)
        ),
        command: plan.command,
        result: None,
        plan: Some(plan.id),
        awaits: Purpose::Plan,
    };
    // The dialog stays at its question until the daemon takes it, so that a refusal is read where it was confirmed.
    confirm.fault = None;
    confirm.is_sent = true;
    model.remember(deed);
    vec![model.ask(Purpose::Plan, Question::PlanRun(params))]
}
