//! Answers: each goes where its question came from. One that does not fit its question is a fault of the daemon's, told
//! and thrown away.

use super::{detail, dialogs, drill, lists, plans, runs};
use crate::message::{Answer, Effect, Fault};
use crate::model::{Model, PageWay, Purpose};
use crate::place::Id;

/// Takes the answer to a question asked for `purpose`.
pub(super) fn take(
    model: &mut Model,
    purpose: Purpose,
    answer: Result<Answer, Fault>,
) -> Vec<Effect> {
    match (purpose, answer) {
        (Purpose::Rows(id, way, cursor), Ok(answer)) => rows(model, id, way, cursor, answer),
        (Purpose::Rows(id, ..), Err(fault)) => {
            if !model.list(id).order.is_empty() {
                model.complain(format!(
                    "refresh {}: {}",
                    crate::screens::of(id).name,
                    fault.message
                ));
            }
            model.faults.insert(id, fault);
        }
        (Purpose::Detail, answer) => detail::take(model, answer),
        (Purpose::Plan, Ok(Answer::Plan(plan))) => return plans::take(model, plan),
        (Purpose::Plan, Ok(_)) => unfit(model),
        (Purpose::Plan, Err(fault)) => return plans::fail(model, fault),
        (Purpose::Command, answer) => return dialogs::command_answered(model, answer),
        (Purpose::Latency, Ok(Answer::Latency(rows))) => {
            model.latency = Some(rows);
            model.faults.remove(&Id::Latency);
            lists::reorder_of(model, Id::Latency);
        }
        (Purpose::Latency, Ok(_)) => unfit(model),
        (Purpose::Latency, Err(fault)) => {
            model.faults.insert(Id::Latency, fault);
        }
        (Purpose::Slots(series), Ok(Answer::Slots(page))) => model.slots.take(series, page.rows),
        (Purpose::Slots(_), Err(fault)) => model.slots.fault = Some(fault),
        (Purpose::Series, Ok(Answer::Series(past))) => model.history.fill(&past),
        // An older daemon has no such method: trends begin now.
        (Purpose::Series, Err(_)) => {}
        (Purpose::Slots(_) | Purpose::Series, Ok(_)) => unfit(model),
        (Purpose::Progress(id), answer) => return runs::progress(model, &id, answer),
        (Purpose::Document(id), answer) => runs::document(model, &id, answer),
        (Purpose::Rehearsal, answer) => drill::rehearsed(model, answer),
        (Purpose::Begin, answer) => return drill::began(model, answer),
        (purpose @ (Purpose::Stop | Purpose::Lever), answer) => {
            return drill::stopped(model, &purpose, answer);
        }
    }
    Vec::new()
}

fn unfit(model: &mut Model) {
    model.complain("the daemon answered something else than was asked; are both of one version?");
}

fn rows(model: &mut Model, id: Id, way: PageWay, cursor: Option<String>, answer: Answer) {
    model.faults.remove(&id);
    let now_ms = model.now_ms;
    match (id, answer) {
        (Id::Pending, Answer::Pending(page)) => model.pending.take(page, way, cursor, now_ms),
        (Id::Dead, Answer::Dead(page)) => model.dead.take(page, way, cursor, now_ms),
        (Id::Causes, Answer::Causes(page)) => model.causes.take(page, PageWay::First, None, now_ms),
        (Id::Audit, Answer::Audit(page)) => model.audit.take(page, way, cursor, now_ms),
        (Id::Chaos, Answer::Experiments(catalogue)) => model.take_catalogue(catalogue),
        (Id::Runs, Answer::Runs(page)) => model.drill.runs.take(page, way, cursor, now_ms),
        _ => return unfit(model),
    }
    lists::reorder_of(model, id);
}
