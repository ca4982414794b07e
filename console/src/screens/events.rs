//! Events: what the daemon noticed and what was done to it, newest first. The cursor at the top follows what comes.

use pipectl_shared::snapshot::Event;
use ratatui::layout::Rect;

use super::alerts::screen_about;
use super::body::{Line, draw_list_and_row, stamp};
use super::screen::{List, Screen, Source, no_act, no_items};
use crate::clock;
use crate::message::Effect;
use crate::model::Model;
use crate::output::human::duration_ms;
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Events,
    group: Group::Log,
    name: "Events",
    letter: 't',
    about: "What the daemon noticed and what was done, newest first.",
    legend: &[
        "LEVEL: info, action (an operator did it), warning, error.",
        "TIME UTC: hours, minutes, seconds; of another day: month-day hours:minutes.",
        "The last 1,000 since this console came, and up to 20 from before; the daemon's journal file has all.",
        "Enter goes to the screen that shows what it is about.",
        "With the cursor on the first row the list follows what comes.",
    ],
    list: Some(List {
        noun: "events",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| model.facts.n_shown_events(),
        id: |model, row| {
            event(model, row)
                .map(|event| format!("{} {}", event.ts_ms, event.seq))
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
    Column::text("TIME UTC", 0, 8, 11),
    Column::text("LEVEL", 1, 7, 7),
    Column::text("EVENT", 0, 14, 22),
    Column::text("STAGE", 2, 6, 14),
    Column::text("MESSAGE", 3, 12, u16::MAX),
];

/// Row 0 is the newest.
fn event(model: &Model, row: usize) -> Option<&Event> {
    let n = model.facts.n_shown_events();
    model.facts.events.get(n.checked_sub(row + 1)?)
}

/// Enter: where it is seen.
fn open(model: &mut Model) -> Vec<Effect> {
    let row = model.list(Id::Events).row();
    let Some(event) = row.and_then(|row| event(model, row)) else {
        return Vec::new();
    };
    // The message of an alert's event begins with the alert's name.
    let name = match event.name.as_str() {
        "alert.opened" | "alert.closed" => event.message.split(':').next().unwrap_or_default(),
        name => name,
    };
    let screen = super::of(screen_about(name));
    model.go(screen.id, screen.group)
}

fn role(event: &Event) -> Role {
    match event.level.as_str() {
        "error" => Role::Bad,
        "warning" => Role::Warn,
        "action" => Role::Strong,
        _ => Role::Plain,
    }
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(event) = event(model, row) else {
        return Vec::new();
    };
    let role = role(event);
    vec![
        Cell::figure(
            event.ts_ms as f64,
            stamp(&clock::rfc3339(event.ts_ms), model),
        ),
        Cell::text(&event.level).role(role),
        Cell::text(&event.name),
        Cell::text(event.stage.as_deref().unwrap_or("")),
        Cell::text(&event.message).role(if role == Role::Bad { Role::Warn } else { role }),
    ]
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let row = model.list(Id::Events).row();
    let lines = row.and_then(|row| event(model, row)).map(|event| {
        let ago = match model.wall_ms() {
            0 => "?".to_owned(),
            now => duration_ms(now.saturating_sub(event.ts_ms)),
        };
        let stage = event
            .stage
            .as_ref()
            .map(|stage| format!("  stage {stage}"))
            .unwrap_or_default();
        vec![
            Line::plain(format!(
                "{}  {ago} ago  {}{stage}",
                clock::rfc3339(event.ts_ms),
                event.level
            )),
            Line::new(Role::Strong, event.message.clone()),
        ]
    });
    let name = row
        .and_then(|row| event(model, row))
        .map_or("", |event| &event.name);
    draw_list_and_row(model, ink, area, &SCREEN, name, lines);
}
