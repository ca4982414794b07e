//! Groups and their consumers, those in trouble first: who holds what, and since when.

use pipectl_shared::plan::{Action, PlanParams, Selection};
use pipectl_shared::snapshot::Consumer;
use ratatui::layout::Rect;

use super::body::draw_list;
use super::screen::{List, Screen, Source, no_act};
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model, word};
use crate::output::human::{count, duration_ms};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Consumers,
    group: Group::Work,
    name: "Consumers",
    letter: 'c',
    about: "Who reads, who holds entries, and who is stuck.",
    legend: &[
        "STATE: ok, idle (nothing to do), parked or stuck (holds entries, no progress), gone (its process is away).",
        "OLDEST: since its oldest entry was read first. IDLE: since it last asked. INACTIVE: since it last got something (Redis 7.2 on).",
        "A consumer that asks (short IDLE) and holds old entries (long OLDEST) is stuck in its work, not dead.",
    ],
    list: Some(List {
        noun: "consumers",
        columns: COLUMNS,
        n_rows: |model| model.facts.snapshot().map_or(0, |s| s.consumers.len()),
        id: |model, row| {
            consumer(model, row)
                .map(|consumer| format!("{} {}", consumer.stage, consumer.name))
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Snapshot,
    items,
    open,
    act: no_act,
    draw: |model: &Model, ink: &mut Ink<'_>, area: Rect| draw_list(model, ink, area, &SCREEN),
};

const COLUMNS: &[Column] = &[
    Column::text("CONSUMER", 0, 12, 40),
    Column::text("STAGE", 1, 8, 16),
    Column::text("STATE", 0, 6, 7),
    Column::figure("PENDING", 0, 7),
    Column::figure("OLDEST", 1, 6),
    Column::figure("IDLE", 2, 6),
    Column::figure("INACTIVE", 4, 8),
    Column::text("OURS", 5, 4, 4),
    Column::text("REASON", 3, 12, u16::MAX),
];

fn consumer(model: &Model, row: usize) -> Option<&Consumer> {
    model.facts.snapshot()?.consumers.get(row)
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(consumer) = consumer(model, row) else {
        return Vec::new();
    };
    let since = |ms: Option<u64>| Cell::maybe(ms.map(|ms| ms as f64), |ms| duration_ms(ms as u64));
    let role = match consumer.state.as_str() {
        "ok" => Role::Good,
        "idle" => Role::Dim,
        "gone" => Role::Warn,
        _ => Role::Bad,
    };
    vec![
        Cell::text(&consumer.name),
        Cell::text(&consumer.stage),
        Cell::text(&consumer.state).role(role),
        Cell::figure(consumer.pending as f64, count(consumer.pending)),
        // Holding nothing is no unknown: there is no oldest.
        if consumer.pending == 0 {
            Cell::text("")
        } else {
            since(consumer.oldest_ms)
        },
        since(consumer.idle_ms),
        since(consumer.inactive_ms),
        Cell::text(if consumer.ours { "yes" } else { "no" }),
        Cell::text(consumer.reason.as_deref().unwrap_or("")),
    ]
}

/// Enter: the entries that it holds.
fn open(model: &mut Model) -> Vec<Effect> {
    let row = model.list(Id::Consumers).row();
    let Some(name) = row.and_then(|row| consumer(model, row)).map(held_by) else {
        return Vec::new();
    };
    model.go_filtered(Id::Pending, name)
}

/// The filter for the entries that it holds.
fn held_by(consumer: &Consumer) -> String {
    format!(
        "{} {}",
        word("stage", &consumer.stage),
        word("consumer", &consumer.name)
    )
}

fn items(model: &Model) -> Vec<Item> {
    let row = model.list(Id::Consumers).row();
    let Some(consumer) = row.and_then(|row| consumer(model, row)) else {
        return Vec::new();
    };
    let name = &consumer.name;
    let mut items = vec![Item {
        letter: 'p',
        label: format!(
            "show the {} entries that {name} holds",
            count(consumer.pending)
        ),
        kind: ItemKind::Filtered(Id::Pending, held_by(consumer)),
    }];
    if consumer.pending > 0 {
        items.push(Item {
            letter: 'c',
            label: format!("claim -- all {} entries of {name}", count(consumer.pending)),
            kind: ItemKind::Plan(PlanParams {
                action: Action::Claim,
                select: Selection {
                    stage: Some(consumer.stage.clone()),
                    consumer: Some(name.clone()),
                    ..Selection::default()
                },
                to: None,
            }),
        });
    }
    items.push(Item {
        letter: 't',
        label: format!("retire {name}: hand over what it holds, then delete it"),
        kind: ItemKind::Command {
            name: "consumer.retire".to_owned(),
            given: vec![
                ("stage".to_owned(), consumer.stage.clone()),
                ("consumer".to_owned(), name.clone()),
            ],
        },
    });
    items
}
