//! Alerts: what a person should look at now, worst first, each with the next command.

use pipectl_shared::snapshot::Alert;
use ratatui::layout::Rect;

use super::body::{Line, draw_list_and_row};
use super::screen::{List, Screen, Source, no_act, no_items};
use crate::clock;
use crate::message::Effect;
use crate::model::Model;
use crate::output::human::duration_ms;
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Alerts,
    group: Group::Log,
    name: "Alerts",
    letter: 'a',
    about: "What needs a person now, worst first, with the next step.",
    legend: &[
        "SINCE: how long it has been open. NEXT: a command to begin with.",
        "Enter goes to the screen that shows what it is about.",
        "An alert goes away by itself when its cause is gone; Events keeps that it was there.",
    ],
    list: Some(List {
        noun: "alerts",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| alerts(model).len(),
        id: |model, row| {
            alerts(model)
                .get(row)
                .map(|alert| format!("{} {} {}", alert.name, alert.since, alert.message))
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Snapshot,
    items: no_items,
    open: Some(("its screen", open)),
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("ALERT", 0, 16, 28),
    Column::text("SEVERITY", 0, 8, 8),
    Column::figure("SINCE", 0, 6),
    Column::text("MESSAGE", 1, 16, 90),
    Column::text("NEXT", 2, 16, u16::MAX),
];

fn alerts(model: &Model) -> &[Alert] {
    model
        .facts
        .snapshot()
        .map_or(&[], |snapshot| &snapshot.status.alerts)
}

/// The screen that shows what an alert, or an event, of this name is about. Names are the daemon's and grow; those that
/// are not known here lead to the overview.
pub(super) fn screen_about(name: &str) -> Id {
    match name.split('.').next().unwrap_or_default() {
        "pending" => Id::Pending,
        "dead" | "entry" => Id::Dead,
        "ack" | "group" | "consumer" | "worker" => Id::Consumers,
        "redis" | "memory" | "disk" | "host" | "history" => Id::System,
        "plan" | "audit" => Id::Audit,
        "latency" => Id::Latency,
        _ => Id::Overview,
    }
}

/// Enter: where it is seen.
fn open(model: &mut Model) -> Vec<Effect> {
    let row = model.list(Id::Alerts).row();
    let Some(alert) = row.and_then(|row| alerts(model).get(row)) else {
        return Vec::new();
    };
    let screen = super::of(screen_about(&alert.name));
    model.go(screen.id, screen.group)
}

fn is_critical(alert: &Alert) -> bool {
    alert.severity == "critical"
}

/// How long it has been open; `None` when the stamp cannot be read or nobody knows what time it is.
fn open_ms(model: &Model, alert: &Alert) -> Option<u64> {
    let now = model.facts.snapshot().map(|snapshot| snapshot.ts_ms)?;
    Some(now.saturating_sub(clock::ms_of_rfc3339(&alert.since)?))
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(alert) = alerts(model).get(row) else {
        return Vec::new();
    };
    let severity = if is_critical(alert) {
        Cell::text("CRITICAL").role(Role::Bad)
    } else {
        Cell::text(&alert.severity).role(Role::Warn)
    };
    vec![
        Cell::text(&alert.name).role(Role::Strong),
        severity,
        Cell::maybe(open_ms(model, alert).map(|ms| ms as f64), |ms| {
            duration_ms(ms as u64)
        }),
        Cell::text(&alert.message),
        Cell::text(alert.hint.as_deref().unwrap_or("")).role(Role::Key),
    ]
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let row = model.list(Id::Alerts).row();
    let alert = row.and_then(|row| alerts(model).get(row));
    let lines = alert.map(|alert| {
        let open = open_ms(model, alert).map_or_else(|| "?".to_owned(), duration_ms);
        let mut lines = vec![Line::new(Role::Strong, alert.message.clone())];
        if let Some(hint) = &alert.hint {
            lines.push(Line::new(Role::Key, format!("next: {hint}")));
        }
        lines.push(Line::new(
            Role::Dim,
            format!("{}, open for {open}, since {}", alert.severity, alert.since),
        ));
        lines
    });
    let name = alert.map_or("", |alert| &alert.name);
    draw_list_and_row(model, ink, area, &SCREEN, name, lines);
}
