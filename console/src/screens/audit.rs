//! Audit: who did what, why, and what came of it, newest first.

use pipectl_shared::snapshot::Audit;
use ratatui::layout::Rect;

use super::body::{Line, draw_list_and_row, stamp};
use super::screen::{List, Screen, Source, no_act, no_items};
use crate::model::Model;
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Audit,
    group: Group::Log,
    name: "Audit",
    letter: 'u',
    about: "Who did what, why, and what came of it, newest first.",
    legend: &[
        "Every act of an operator by any console, command line or script, refused ones too.",
        "TIME UTC: hours, minutes, seconds; of another day: month-day hours:minutes.",
        "Each row's hash covers the row before it, so that a cut or a change shows: pipectl audit -o json.",
    ],
    list: Some(List {
        noun: "acts",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| model.audit.len(),
        id: |model, row| {
            model
                .audit
                .get(row)
                .map(|act| act.seq.to_string())
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Pages,
    items: no_items,
    open: None,
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("TIME UTC", 0, 8, 11),
    Column::text("USER", 1, 6, 14),
    Column::text("ACTION", 0, 12, 18),
    Column::text("RESULT", 1, 10, 28),
    Column::text("TARGET", 2, 12, 40),
    Column::text("REASON", 3, 10, u16::MAX),
];

fn is_ok(act: &Audit) -> bool {
    act.result.starts_with("ok")
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(act) = model.audit.get(row) else {
        return Vec::new();
    };
    let result = Cell::text(&act.result).role(if is_ok(act) { Role::Plain } else { Role::Warn });
    vec![
        Cell::figure(act.seq as f64, stamp(&act.ts, model)),
        Cell::text(&act.user),
        Cell::text(&act.action).role(Role::Strong),
        result,
        Cell::text(&act.target),
        Cell::text(act.reason.as_deref().unwrap_or("")),
    ]
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let act = model
        .list(Id::Audit)
        .row()
        .and_then(|row| model.audit.get(row));
    let lines = act.map(|act| {
        let pid = act
            .pid
            .map(|pid| format!(", pid {pid}"))
            .unwrap_or_default();
        let reason = match &act.reason {
            Some(reason) => Line::plain(format!("reason: {reason}")),
            None => Line::new(Role::Dim, "no reason was given".to_owned()),
        };
        vec![
            Line::plain(format!("{}  {} (uid {}{pid})", act.ts, act.user, act.uid)),
            Line::new(Role::Strong, format!("{} {}", act.action, act.target)),
            Line::new(
                if is_ok(act) { Role::Plain } else { Role::Warn },
                format!("result: {}", act.result),
            ),
            reason,
        ]
    });
    let title = act.map_or_else(String::new, |act| format!("act {}", act.seq));
    draw_list_and_row(model, ink, area, &SCREEN, &title, lines);
}
