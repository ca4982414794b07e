//! What an action says: the plan, how many by stage, what is skipped, the equal command, and what came of it.

use std::collections::BTreeMap;

use pipectl_shared::plan::{ActionDocument, Outcome, Plan, State};

use super::title;
use crate::cli::status;
use crate::failure::Failure;
use crate::output::human::count;
use crate::output::{Cell, Column, Document, Span, Table, Text, Tone};

/// Ids of the frozen list that the text shows.
const SAMPLE: usize = 10;

const GROUPED: &[Column] = &[
    Column::text("STAGE", 0, 6),
    Column::number("ENTRIES", 0),
    Column::text("FIRST IDS", 1, 15),
];

/// The document of every action, and of `plan show`.
pub(in crate::cli) fn document(
    plan: &Plan,
    outcome: Option<&Outcome>,
) -> Result<Document, Failure> {
    let mut text = Text::default();
    let mut head = vec![
        Span(
            Tone::Strong,
            format!("{} {}", title(plan), entries(plan.matched)),
        ),
        Span(Tone::Dim, format!("plan {}", plan.id)),
        Span(state_tone(plan.state), status::word(&plan.state)),
    ];
    if let Some(to) = &plan.to {
        head.push(Span(Tone::Plain, format!("to {to}")));
    }
    text.0.push(crate::output::Block::Line(head));
    if !plan.sample.is_empty() {
        // The sample is the whole list unless the plan is larger than what the daemon names.
        let whole = plan.sample.len() as u64 == plan.matched;
        let mut by_stage: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in &plan.sample {
            by_stage.entry(&entry.stage).or_default().push(&entry.id);
        }
        let mut table = Table::new(GROUPED);
        for (stage, ids) in by_stage {
            let n = count(ids.len() as u64);
            let mut first = ids
                .iter()
                .take(SAMPLE)
                .copied()
                .collect::<Vec<_>>()
                .join(" ");
            if ids.len() > SAMPLE {
                first.push_str(" ...");
            }
            table.rows.push(vec![
                Cell::new(stage),
                Cell::new(if whole { n } else { format!("{n}+") }),
                Cell::new(first).tone(Tone::Dim),
            ]);
        }
        text.table(table);
    }
    if !plan.skipped.is_empty() {
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for skipped in &plan.skipped {
            *reasons.entry(&skipped.reason).or_default() += 1;
        }
        let fields = reasons
            .iter()
            .map(|(reason, n)| Span(Tone::Warn, format!("{} ({reason})", count(*n))));
        text.labelled("skipped", fields.collect());
    }
    match outcome {
        // Whole, so that it can be copied.
        None => text.whole("equal", vec![Span(Tone::Dim, plan.command.clone())]),
        Some(outcome) => result(outcome, &mut text),
    }
    let body = ActionDocument {
        plan: plan.clone(),
        result: outcome.cloned(),
    };
    Document::one("plan", &body, text)
}

fn result(outcome: &Outcome, text: &mut Text) {
    let counts = [
        ("applied", outcome.applied, Tone::Good),
        ("dead", outcome.dead, Tone::Warn),
        ("already done", outcome.already_done, Tone::Plain),
        ("trimmed", outcome.trimmed, Tone::Bad),
        ("not found", outcome.not_found, Tone::Warn),
        ("failed", outcome.failed, Tone::Bad),
        ("waiting", outcome.waiting, Tone::Warn),
    ];
    let mut fields: Vec<Span> = counts
        .into_iter()
        .filter(|(name, n, _)| *n > 0 || *name == "applied")
        .map(|(name, n, tone)| Span(tone, format!("{name} {}", count(n))))
        .collect();
    if outcome.waiting > 0 {
        fields.push(Span(
            Tone::Dim,
            "(handed over, not committed yet)".to_owned(),
        ));
    }
    text.labelled("result", fields);
    for exception in outcome.exceptions.iter().take(SAMPLE) {
        text.labelled(
            "",
            vec![
                Span(Tone::Plain, exception.id.clone()),
                Span(Tone::Warn, exception.reason.clone()),
            ],
        );
    }
    if outcome.exceptions.len() > SAMPLE {
        let rest = outcome.exceptions.len() - SAMPLE;
        text.labelled(
            "",
            vec![Span(
                Tone::Dim,
                format!("and {rest} more; see them all with -o json"),
            )],
        );
    }
}

/// The colour of a plan's state.
pub(in crate::cli) fn state_tone(state: State) -> Tone {
    match state {
        State::Ready => Tone::Plain,
        State::Done => Tone::Good,
        State::Running | State::Cancelled | State::Expired | State::Undone => Tone::Warn,
        State::Interrupted => Tone::Bad,
    }
}

fn entries(n: u64) -> String {
    if n == 1 {
        "1 entry".to_owned()
    } else {
        format!("{} entries", count(n))
    }
}
