//! Runs: the experiments that were run, newest first, with what came of them.

use pipectl_shared::chaos::Summary;
use ratatui::layout::Rect;

use super::body::{Line, draw_list_and_row};
use super::chaos::{ago, share, verdict_cell, verdict_role};
use super::screen::{List, Screen, Source, no_act};
use crate::clock;
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model};
use crate::output::human::{count, duration_ms, latency_ms, or_unknown};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Runs,
    group: Group::Drill,
    name: "Runs",
    letter: 'r',
    about: "Experiments that were run, newest first.",
    legend: &[
        "Enter opens the document of a run: hypothesis, figures, what happened, what was taken back, the equal command.",
        "RECOVER: from the fault's end to all well. AVAIL: good probes of all. LOST and DUP: by the run's own ledger.",
        "? = not known, or it did not happen. A run whose end nobody saw has no verdict.",
    ],
    list: Some(List {
        noun: "runs",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| model.drill.runs.len(),
        id: |model, row| {
            let run = model.drill.runs.get(row);
            run.map(|run| run.id.clone()).unwrap_or_default()
        },
        cells,
    }),
    source: Source::Pages,
    items,
    open: Some(("document", open)),
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("RUN", 3, 20, 36),
    Column::text("EXPERIMENT", 0, 14, 20),
    Column::text("VERDICT", 0, 12, 12),
    Column::figure("AGO", 1, 6),
    Column::figure("RECOVER", 4, 7),
    Column::figure("AVAIL", 2, 7),
    Column::figure("LOST", 2, 5),
    Column::figure("DUP", 5, 5),
    Column::text("BY", 6, 8, 16),
    Column::text("WHY", 7, 16, u16::MAX),
];

fn here(model: &Model) -> Option<&Summary> {
    model.drill.runs.get(model.list(Id::Runs).row()?)
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(run) = model.drill.runs.get(row) else {
        return Vec::new();
    };
    let since = ago(model, run.ended_ms.unwrap_or(run.started_ms));
    let number = |n: Option<u64>| {
        let cell = Cell::maybe(n.map(|n| n as f64), |n| count(n as u64));
        match n {
            Some(1..) => cell.role(Role::Warn),
            _ => cell,
        }
    };
    vec![
        Cell::text(&run.id),
        Cell::text(&run.experiment),
        verdict_cell(run.verdict),
        Cell::maybe(since.map(|ms| ms as f64), |ms| duration_ms(ms as u64)),
        Cell::maybe(run.recover_ms, latency_ms),
        Cell::maybe(run.availability, |at| share(Some(at))),
        number(run.lost),
        number(run.duplicated),
        Cell::text(&run.by),
        Cell::text(&run.why),
    ]
}

fn open(model: &mut Model) -> Vec<Effect> {
    match here(model).map(|run| (run.id.clone(), run.experiment.clone())) {
        Some((id, experiment)) => model.open_run(id, experiment),
        None => Vec::new(),
    }
}

fn items(model: &Model) -> Vec<Item> {
    let Some(run) = here(model) else {
        return Vec::new();
    };
    let name = &run.experiment;
    let again = match model.why_not_drill() {
        None => Item {
            letter: 'r',
            label: format!("run {name} again: the form, then what would happen"),
            kind: ItemKind::Experiment(name.clone()),
        },
        Some(why) => Item {
            letter: 'r',
            label: format!("run {name} again -- no: {why}"),
            kind: ItemKind::Off(why),
        },
    };
    vec![
        Item {
            letter: 'd',
            label: format!("document of run {}", run.id),
            kind: ItemKind::Run(run.id.clone(), name.clone()),
        },
        again,
    ]
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let run = here(model);
    let title = run.map_or("", |run| run.id.as_str());
    let lines = run.map(|run| {
        let verdict = run
            .verdict
            .map_or("nobody saw its end", |verdict| verdict.word());
        let role = run
            .verdict
            .map_or(Role::Warn, |verdict| match verdict_role(verdict) {
                // A sentence reversed from end to end would be hard to read.
                Role::Bad => Role::Warn,
                other => other,
            });
        let number = |n: Option<u64>| or_unknown(n, count);
        vec![
            Line::new(role, format!("{verdict}: {}", run.why)),
            Line::plain(format!(
                "{} by {}, began {}, seed {}",
                run.experiment,
                run.by,
                clock::rfc3339(run.started_ms),
                run.seed
            )),
            Line::plain(format!(
                "recover {}, available {}, lost {}, duplicated {}",
                or_unknown(run.recover_ms, latency_ms),
                share(run.availability),
                number(run.lost),
                number(run.duplicated)
            )),
        ]
    });
    draw_list_and_row(model, ink, area, &SCREEN, title, lines);
}
