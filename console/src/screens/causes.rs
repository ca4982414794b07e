//! Causes: dead letters folded by what killed them, so that a hundred letters of one fault are one row and one act.

use pipectl_shared::plan::{Action, Selection};
use pipectl_shared::snapshot::Cause;
use ratatui::layout::Rect;

use super::body::{Line, draw_list_and_row};
use super::screen::{List, Screen, Source, no_act};
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model, word};
use crate::output::human::{count, duration_ms};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Causes,
    group: Group::Work,
    name: "Causes",
    letter: 'u',
    about: "What killed the dead letters: one row per cause.",
    legend: &[
        "CAUSE: fingerprint of stage, reason and error with numbers and ids taken out.",
        "LETTERS: those that were not redriven. FIRST and LAST: how long ago the first and the last died.",
        "Enter shows the letters of the cause; their filter is cause=FINGERPRINT.",
    ],
    list: Some(List {
        noun: "causes",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| model.causes.len(),
        id: |model, row| {
            model
                .causes
                .get(row)
                .map(|cause| cause.cause.clone())
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Pages,
    items,
    open: Some(("its letters", |model| match here(model).map(filter) {
        Some(filter) => model.go_filtered(Id::Dead, filter),
        None => Vec::<Effect>::new(),
    })),
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("CAUSE", 0, 8, 16),
    Column::figure("LETTERS", 0, 7),
    Column::text("STAGE", 2, 6, 14),
    Column::text("REASON", 1, 12, 18),
    Column::figure("FIRST", 4, 6),
    Column::figure("LAST", 1, 6),
    Column::text("EXAMPLE", 3, 12, u16::MAX),
];

fn here(model: &Model) -> Option<&Cause> {
    model.causes.get(model.list(Id::Causes).row()?)
}

fn filter(cause: &Cause) -> String {
    word("cause", &cause.cause)
}

fn ago(model: &Model, ms: u64) -> Option<u64> {
    let now = model.wall_ms();
    (now > 0).then(|| now.saturating_sub(ms))
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(cause) = model.causes.get(row) else {
        return Vec::new();
    };
    let since = |ms| {
        Cell::maybe(ago(model, ms).map(|ms| ms as f64), |ms| {
            duration_ms(ms as u64)
        })
    };
    vec![
        Cell::text(&cause.cause),
        Cell::figure(cause.count as f64, count(cause.count)),
        Cell::text(&cause.stage),
        Cell::text(&cause.reason),
        since(cause.first_ms),
        since(cause.last_ms),
        Cell::text(&cause.example),
    ]
}

fn items(model: &Model) -> Vec<Item> {
    let Some(cause) = here(model) else {
        return Vec::new();
    };
    let name = &cause.cause;
    let n = count(cause.count);
    let plan = |letter, words: &str, action| {
        let select = Selection {
            cause: Some(name.clone()),
            ..Selection::default()
        };
        let what = format!("all {n} letters of cause {name}");
        Item::plan(letter, words, &what, action, select)
    };
    vec![
        plan('r', "redrive: add to their stage again", Action::Redrive),
        plan('p', "purge: delete for good", Action::Purge),
        Item {
            letter: 'l',
            label: format!("list the letters of cause {name}"),
            kind: ItemKind::Filtered(Id::Dead, filter(cause)),
        },
    ]
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let lines = here(model).map(|cause| {
        let since = |ms| ago(model, ms).map_or_else(|| "?".to_owned(), duration_ms);
        vec![
            Line::plain(format!(
                "{}, {}: first died {} ago, last {} ago",
                cause.stage,
                cause.reason,
                since(cause.first_ms),
                since(cause.last_ms)
            )),
            Line::new(Role::Strong, cause.example.clone()),
        ]
    });
    draw_list_and_row(model, ink, area, &SCREEN, "one of its errors", lines);
}
