//! Dead letters: entries that were given up, newest first, and bringing them back.

use pipectl_shared::plan::{Action, Selection};
use ratatui::layout::Rect;

use super::body::{Line, draw_list, draw_list_and_row};
use super::screen::{List, Screen, Source, no_act};
use crate::message::Effect;
use crate::model::{DetailOf, Item, ItemKind, Model, word};
use crate::output::human::{count, duration_ms};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Dead,
    group: Group::Work,
    name: "Dead",
    letter: 'd',
    about: "Dead letters: what was given up, newest first.",
    legend: &[
        "DIED: how long ago. ORIGIN: its id in the stream it came from.",
        "CAUSE: fingerprint of stage, reason and error; filter with cause=FINGERPRINT.",
        "A redriven letter keeps its row; REDRIVEN is its new entry.",
        "Filter words: stage=S cause=F id=ID where EXPRESSION; others are looked for in the loaded rows.",
    ],
    list: Some(List {
        noun: "dead letters",
        has_marks: true,
        columns: COLUMNS,
        n_rows: |model| model.dead.len(),
        id: |model, row| {
            model
                .dead
                .get(row)
                .map(|letter| letter.id.clone())
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Pages,
    items,
    open: Some(("payload", open)),
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("ID", 0, 15, 22),
    Column::text("STAGE", 2, 6, 14),
    Column::figure("DIED", 1, 6),
    Column::text("REASON", 1, 12, 18),
    Column::figure("TRIES", 3, 5),
    Column::text("CAUSE", 4, 8, 16),
    Column::text("ORIGIN", 5, 15, 22),
    Column::text("REDRIVEN", 3, 8, 20),
    Column::text("ERROR", 2, 12, u16::MAX),
];

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(letter) = model.dead.get(row) else {
        return Vec::new();
    };
    let now = model.wall_ms();
    let died = (now > 0).then(|| now.saturating_sub(letter.dead_ms) as f64);
    let role = if letter.redriven.is_some() {
        Role::Dim
    } else {
        Role::Plain
    };
    vec![
        Cell::text(&letter.id).role(role),
        Cell::text(&letter.stage).role(role),
        Cell::maybe(died, |ms| duration_ms(ms as u64)),
        Cell::text(&letter.reason).role(role),
        Cell::figure(f64::from(letter.tries), letter.tries.to_string()),
        Cell::text(&letter.cause).role(role),
        Cell::text(&letter.origin_id).role(role),
        Cell::text(letter.redriven.as_deref().unwrap_or("")),
        Cell::text(&letter.error).role(role),
    ]
}

fn open(model: &mut Model) -> Vec<Effect> {
    let row = model.list(Id::Dead).row();
    match row.and_then(|row| model.dead.get(row)).cloned() {
        Some(letter) => model.open_detail(DetailOf::Dead(letter)),
        None => Vec::new(),
    }
}

fn items(model: &Model) -> Vec<Item> {
    let view = model.list(Id::Dead);
    let mut items = Vec::new();
    let here = view.row().and_then(|row| model.dead.get(row));
    let chosen: Option<(Vec<String>, String)> = if view.marks.is_empty() {
        here.map(|letter| (vec![letter.id.clone()], format!("letter {}", letter.id)))
    } else {
        let ids: Vec<String> = view.marks.iter().cloned().collect();
        let n = ids.len();
        Some((ids, format!("{} marked letters", count(n as u64))))
    };
    if let Some((ids, what)) = chosen {
        let select = Selection {
            ids,
            ..Selection::default()
        };
        items.push(Item::plan(
            'r',
            "redrive: add to its stage again",
            &what,
            Action::Redrive,
            select.clone(),
        ));
        items.push(Item::plan(
            'p',
            "purge: delete for good",
            &what,
            Action::Purge,
            select,
        ));
    }
    if let Some(letter) = here.filter(|_| view.marks.is_empty()) {
        let select = Selection {
            cause: Some(letter.cause.clone()),
            ..Selection::default()
        };
        items.push(Item::plan(
            'R',
            "redrive",
            &format!("all of cause {}", letter.cause),
            Action::Redrive,
            select,
        ));
        items.push(Item {
            letter: 'f',
            label: format!("show only cause {}", letter.cause),
            kind: ItemKind::Filtered(Id::Dead, word("cause", &letter.cause)),
        });
    }
    if model.is_filtered_by_daemon(Id::Dead) {
        items.push(Item::plan(
            'F',
            "redrive",
            &format!("all that match {}", view.filter),
            Action::Redrive,
            model.selection(Id::Dead),
        ));
    }
    items
}

/// The list; where there is room also the whole error and what the table has no column for.
fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let row = model.list(Id::Dead).row();
    let Some(letter) = row.and_then(|row| model.dead.get(row)) else {
        return draw_list(model, ink, area, &SCREEN);
    };
    let mut lines = vec![
        Line::new(Role::Warn, letter.error.clone()),
        Line::plain(format!(
            "{} in stage {} after {} tries, cause {}",
            letter.reason, letter.stage, letter.tries, letter.cause
        )),
    ];
    if let Some(id) = &letter.redriven {
        lines.push(Line::new(Role::Strong, format!("redriven as {id}")));
    }
    lines.push(Line::new(
        Role::Dim,
        format!("was {} in {}", letter.origin_id, letter.origin_stream),
    ));
    let lines = Some(lines).filter(|_| area.height >= 14);
    draw_list_and_row(model, ink, area, &SCREEN, &letter.id, lines);
}
