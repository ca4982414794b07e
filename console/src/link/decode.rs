//! Questions as requests, answers and notifications as messages. What does not fit is told, never trusted.

use pipectl_shared::chaos::Progress;
use pipectl_shared::rpc::{LatencyParams, Request};
use pipectl_shared::snapshot::{Event, Snapshot};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{ClientError, Sender};
use crate::message::{Answer, Fault, LinkMsg, Question};

/// Sends the request that a question is; its number.
pub(super) fn send(sink: &mut Sender, question: &Question) -> Result<u64, ClientError> {
    match question {
        Question::Pending(params) => sink.send("pending.page", params),
        Question::PendingEntry(params) => sink.send("pending.show", params),
        Question::Dead(params) => sink.send("dead.page", params),
        Question::DeadEntry(params) => sink.send("dead.show", params),
        Question::Causes => sink.send("dead.causes", Value::Object(serde_json::Map::new())),
        Question::Latency => sink.send("latency.get", LatencyParams::default()),
        Question::Audit(params) => sink.send("audit.page", params),
        Question::PlanCreate(params) => sink.send("plan.create", params),
        Question::PlanRun(params) => sink.send("plan.run", params),
        Question::PlanShow(params) => sink.send("plan.show", params),
        Question::PlanCancel(params) => sink.send("plan.cancel", params),
        Question::Command(params) => sink.send("command.run", params),
        Question::Slots(params) => sink.send("latency.slots", params),
        Question::Series(params) => sink.send("history.series", params),
        Question::Experiments => sink.send("chaos.list", Value::Object(serde_json::Map::new())),
        Question::Run(params) => sink.send("chaos.get", params),
        Question::Runs(params) => sink.send("chaos.history", params),
        Question::RunExperiment(params) => sink.send("chaos.run", params),
        Question::StopExperiment(params) => sink.send("chaos.stop", params),
        Question::Lever(params) => sink.send("chaos.lever", params),
    }
}

/// Reads the answer to a question.
pub(super) fn answer(question: &Question, result: Value) -> Result<Answer, Fault> {
    match question {
        Question::Pending(_) => fit(result).map(Answer::Pending),
        Question::PendingEntry(_) => fit(result).map(Answer::PendingEntry),
        Question::Dead(_) => fit(result).map(Answer::Dead),
        Question::DeadEntry(_) => fit(result).map(Answer::DeadEntry),
        Question::Causes => fit(result).map(Answer::Causes),
        Question::Latency => {
            // A page like every list; its rows are all there is.
            fit::<pipectl_shared::snapshot::Page<_>>(result).map(|page| Answer::Latency(page.rows))
        }
        Question::Audit(_) => fit(result).map(Answer::Audit),
        Question::PlanCreate(_)
        | Question::PlanRun(_)
        | Question::PlanShow(_)
        | Question::PlanCancel(_) => fit(result).map(Answer::Plan),
        Question::Command(_) => Ok(Answer::Command(result)),
        Question::Slots(_) => fit(result).map(Answer::Slots),
        Question::Series(_) => fit(result).map(Answer::Series),
        Question::Experiments => fit(result).map(Answer::Experiments),
        Question::Run(_) => fit(result).map(|mut progress: Progress| {
            for mark in &mut progress.marks {
                clip_text(&mut mark.kind);
                clip_text(&mut mark.text);
            }
            Answer::Run(progress)
        }),
        Question::Runs(_) => fit(result).map(Answer::Runs),
        Question::RunExperiment(params) if params.dry_run => fit(result).map(Answer::Rehearsed),
        Question::RunExperiment(_) => fit(result).map(Answer::Began),
        Question::StopExperiment(_) => Ok(Answer::Stopped(result)),
        Question::Lever(_) => fit(result).map(Answer::Lever),
    }
}

fn fit<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_json::from_value(value).map_err(|error| Fault {
        message: format!("the daemon's answer does not fit: {error}"),
        hint: Some("daemon and pipectl may be of different versions".to_owned()),
    })
}

/// Reads a notification; one that is unknown or broken is passed over, because the next Snapshot makes up for it.
pub(super) fn notification(request: Request) -> Option<LinkMsg> {
    match request.method.as_str() {
        "stats" => {
            serde_json::from_value(request.params)
                .ok()
                .map(|mut snapshot: Box<Snapshot>| {
                    snapshot.events.iter_mut().for_each(clip);
                    LinkMsg::Stats(snapshot)
                })
        }
        "event" => serde_json::from_value(request.params)
            .ok()
            .map(|mut event: Box<Event>| {
                clip(&mut event);
                LinkMsg::Event(event)
            }),
        "plan.progress" => serde_json::from_value(request.params)
            .ok()
            .map(LinkMsg::Progress),
        _ => None,
    }
}

/// Bytes of a text of an event, or of what happened in a run, that are kept, and these are kept by the hundred: a line of
/// theirs is a sentence, and one of a megabyte is a lie.
const EVENT_TEXT_MAX: usize = 4 * 1024;

fn clip(event: &mut Event) {
    let texts = [&mut event.level, &mut event.name, &mut event.message];
    for text in texts.into_iter().chain(event.stage.as_mut()) {
        clip_text(text);
    }
}

fn clip_text(text: &mut String) {
    text.truncate(text.floor_char_boundary(EVENT_TEXT_MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_about_experiments_are_read_and_misfits_are_told() {
        use pipectl_shared::chaos::{GetParams, LeverParams, RunParams, StopParams};
        let run = |dry_run| {
            Question::RunExperiment(Box::new(RunParams {
                name: "net.latency".to_owned(),
                dry_run,
                ..RunParams::default()
            }))
        };
        let running = serde_json::json!({
            "id": "a", "experiment": "net.latency", "phase": "during", "started_ms": 1,
            "injected_ms": null, "reverted_ms": null, "until_ms": null, "targets": [], "by": "ana",
        });
        let progress = serde_json::json!({
            "running": running, "seed": 1, "verdict": null, "why": "", "marks": [], "slots": [],
            "run": null,
        });
        let catalogue = serde_json::json!({
            "enabled": true, "rows": [], "lever": {"pulled": false}, "running": running,
            "schedule": null,
        });
        let preview = serde_json::to_value(pipectl_shared::chaos::Preview::default()).unwrap();
        let started = serde_json::json!({"id": "a", "seed": 7});
        let page = serde_json::json!({"rows": [], "next": "b"});
        let table = [
            (Question::Experiments, catalogue),
            (Question::Run(GetParams::default()), progress),
            (Question::Runs(Default::default()), page),
            (run(true), preview),
            (run(false), started),
            (
                Question::Lever(LeverParams::default()),
                serde_json::json!({"pulled": true}),
            ),
        ];
        for (question, right) in &table {
            let found = answer(question, right.clone()).unwrap();
            let fits = matches!(
                (question, &found),
                (Question::Experiments, Answer::Experiments(_))
                    | (Question::Run(_), Answer::Run(_))
                    | (Question::Runs(_), Answer::Runs(_))
                    | (Question::Lever(_), Answer::Lever(_))
                    | (
                        Question::RunExperiment(_),
                        Answer::Rehearsed(_) | Answer::Began(_)
                    )
            );
            assert!(fits, "{question:?}: {found:?}");
            for wrong in [Value::Null, Value::from(7), serde_json::json!([{"id": 3}])] {
                let fault = answer(question, wrong).unwrap_err();
                assert!(fault.message.contains("does not fit"), "{}", fault.message);
            }
        }
        // That it stops is told in whatever words: the run's own progress tells the rest.
        let stop = Question::StopExperiment(StopParams::default());
        assert_eq!(answer(&stop, Value::Null), Ok(Answer::Stopped(Value::Null)));
    }

    #[test]
    fn what_happened_in_a_run_is_kept_as_sentences() {
        let long = "ä".repeat(400_000);
        let progress = serde_json::json!({
            "running": {
                "id": "a", "experiment": "net.latency", "phase": "during", "started_ms": 1, "injected_ms": null,
                "reverted_ms": null, "until_ms": null, "targets": [], "by": "ana",
            },
            "seed": 1, "verdict": null, "why": "", "slots": [], "run": null,
            "marks": [{"seq": 1, "t_ms": 2, "kind": long, "text": long}],
        });
        let question = Question::Run(Default::default());
        let Ok(Answer::Run(progress)) = answer(&question, progress) else {
            panic!("no run");
        };
        let mark = &progress.marks[0];
        assert_eq!(
            (mark.kind.len(), mark.text.len()),
            (EVENT_TEXT_MAX, EVENT_TEXT_MAX)
        );
    }

    #[test]
    fn an_event_of_a_megabyte_is_kept_as_a_sentence() {
        let long = "ä".repeat(400_000);
        let params = serde_json::json!({
            "seq": 1, "ts_ms": 2, "level": "info", "name": long, "message": long, "stage": long,
        });
        let request = Request {
            jsonrpc: "2.0".to_owned(),
            id: None,
            method: "event".to_owned(),
            params,
        };
        let Some(LinkMsg::Event(event)) = notification(request) else {
            panic!("no event");
        };
        assert_eq!(event.level, "info");
        assert_eq!(event.message, "ä".repeat(EVENT_TEXT_MAX / 2));
        assert_eq!(event.stage, Some(event.message));
    }
}
