//! Pending: entries that were delivered and are not acknowledged, oldest first. Where a stuck batch is found.

use pipectl_shared::plan::{Action, Selection};
use pipectl_shared::snapshot::Pending;
use ratatui::layout::Rect;

use super::body::{Line, draw_list, draw_list_and_row, take};
use super::owner::{pieces, take_over_of};
use super::screen::{List, Screen, Source, no_act};
use super::stages::{draw_pieces, wrap};
use crate::message::Effect;
use crate::model::{DetailOf, Item, ItemKind, Model, word};
use crate::output::human::{bytes, count, duration_ms};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Pending,
    group: Group::Work,
    name: "Pending",
    letter: 'p',
    about: "What was delivered and is not acknowledged, oldest first.",
    legend: &[
        "IDLE: since it was last delivered, claimed or kept alive by its consumer.",
        "HELD: since it was first read. Long HELD with short IDLE: somebody keeps it without finishing.",
        "TRIES: failed tries. DELIV: deliveries by Redis, failed or not. AGE: since it was added.",
        "ENTRY trimmed: its payload is gone; claiming it books it as lost.",
        "ENTRY in flight (IDLE flight): the owner of an owned stage has read it and not committed it; wait, or have another daemon take over.",
        "CONSUMER parked: of an owned stage; it waits for its next try, or behind an earlier one of its key.",
        "Filter words: stage=S consumer=C idle>60s tries>=3 id=ID where EXPRESSION; others are looked for in the loaded rows.",
    ],
    list: Some(List {
        noun: "entries",
        has_marks: true,
        columns: COLUMNS,
        n_rows: |model| model.pending.len(),
        id: |model, row| {
            model
                .pending
                .get(row)
                .map(|entry| format!("{} {}", entry.stage, entry.id))
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
    Column::text("STAGE", 3, 6, 14),
    Column::text("CONSUMER", 0, 10, 30),
    Column::figure("IDLE", 1, 6),
    Column::figure("HELD", 2, 6),
    Column::figure("TRIES", 2, 5),
    Column::figure("DELIV", 6, 5),
    Column::figure("AGE", 5, 6),
    Column::figure("SIZE", 6, 5),
    Column::text("ENTRY", 4, 9, 9),
    Column::text("LAST ERROR", 4, 10, u16::MAX),
];

/// Longer idle than any healthy batch takes: worth a look.
const IDLE_WARN_MS: u64 = 30_000;

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(entry) = model.pending.get(row) else {
        return Vec::new();
    };
    let duration = |ms: u64| Cell::figure(ms as f64, duration_ms(ms));
    let idle = if entry.in_flight {
        // Redis knows of no consumer that it could be idle with. This column is there in the narrowest table, too.
        Cell::figure(entry.idle_ms as f64, "flight").role(Role::Dim)
    } else if entry.idle_ms >= IDLE_WARN_MS {
        duration(entry.idle_ms).role(Role::Warn)
    } else {
        duration(entry.idle_ms)
    };
    let state = match entry.entry.as_str() {
        "ok" if entry.in_flight => Cell::text("in flight"),
        "ok" => Cell::text("ok"),
        _ => Cell::text("TRIMMED").role(Role::Bad),
    };
    vec![
        Cell::text(&entry.id),
        Cell::text(&entry.stage),
        Cell::text(&entry.consumer),
        idle,
        duration(entry.held_ms),
        Cell::figure(f64::from(entry.tries), entry.tries.to_string()),
        Cell::figure(entry.deliveries as f64, entry.deliveries.to_string()),
        duration(entry.age_ms),
        Cell::maybe(entry.size_bytes.map(|n| n as f64), |n| bytes(n as u64)),
        state,
        Cell::text(entry.last_error.as_deref().unwrap_or("")),
    ]
}

fn open(model: &mut Model) -> Vec<Effect> {
    let row = model.list(Id::Pending).row();
    match row.and_then(|row| model.pending.get(row)).cloned() {
        Some(entry) => model.open_detail(DetailOf::Pending(entry)),
        None => Vec::new(),
    }
}

/// Which entries: the marked ones, else the one under the cursor. Ids may stand in several stages, so marks of more than
/// one stage are no selection by id.
fn chosen(model: &Model) -> Option<(Selection, String)> {
    let view = model.list(Id::Pending);
    if view.marks.is_empty() {
        let entry = model.pending.get(view.row()?)?;
        let select = Selection {
            stage: Some(entry.stage.clone()),
            ids: vec![entry.id.clone()],
            ..Selection::default()
        };
        return Some((select, format!("entry {}", entry.id)));
    }
    let mut stage = None;
    let mut is_mixed = false;
    let mut ids = Vec::new();
    for mark in &view.marks {
        let (of, id) = mark.split_once(' ')?;
        is_mixed |= stage.is_some_and(|stage| stage != of);
        stage = Some(of);
        ids.push(id.to_owned());
    }
    let n = ids.len();
    let select = Selection {
        stage: stage.filter(|_| !is_mixed).map(str::to_owned),
        ids,
        ..Selection::default()
    };
    let what = if n == 1 {
        "1 marked entry".to_owned()
    } else {
        format!("{} marked entries", count(n as u64))
    };
    Some((select, what))
}

/// What is in flight is its owner's: nothing is done to it but by it.
fn is_in_flight(model: &Model) -> Option<&Pending> {
    let view = model.list(Id::Pending);
    let entry = model.pending.get(view.row()?)?;
    (view.marks.is_empty() && entry.in_flight).then_some(entry)
}

fn items(model: &Model) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(entry) = is_in_flight(model) {
        let why = format!(
            "in flight with {}: wait, or have another daemon take over",
            entry.consumer
        );
        for (letter, word) in [('c', "claim"), ('r', "retry"), ('d', "dead"), ('a', "ack")] {
            items.push(Item {
                letter,
                label: format!("{word} -- no: it is in flight with {}", entry.consumer),
                kind: ItemKind::Off(why.clone()),
            });
        }
    } else if let Some((select, what)) = chosen(model) {
        for (letter, action, words) in [
            ('c', Action::Claim, "claim: hand to a live worker, now"),
            ('r', Action::Retry, "retry: forget the back-off and try now"),
            ('d', Action::Dead, "dead: give up, move to the dead letters"),
            (
                'a',
                Action::Ack,
                "ack: acknowledge without applying (discarded)",
            ),
        ] {
            items.push(Item::plan(letter, words, &what, action, select.clone()));
        }
    }
    let view = model.list(Id::Pending);
    if let Some(entry) = view.row().and_then(|row| model.pending.get(row))
        && view.marks.is_empty()
    {
        let select = Selection {
            stage: Some(entry.stage.clone()),
            consumer: Some(entry.consumer.clone()),
            ..Selection::default()
        };
        let what = format!("all entries of {}", entry.consumer);
        if !entry.in_flight {
            items.push(Item::plan('C', "claim", &what, Action::Claim, select));
        }
        items.push(Item {
            letter: 'f',
            label: format!("show only entries of {}", entry.consumer),
            kind: ItemKind::Filtered(Id::Pending, word("consumer", &entry.consumer)),
        });
    }
    if model.is_filtered_by_daemon(Id::Pending) {
        items.push(Item::plan(
            'F',
            "claim",
            &format!("all that match {}", view.filter),
            Action::Claim,
            model.selection(Id::Pending),
        ));
    }
    // Of the stage under the cursor; without one of that which the filter names.
    let entry = view.row().and_then(|row| model.pending.get(row));
    let stage = match entry {
        Some(entry) => Some(entry.stage.clone()),
        None => model.selection(Id::Pending).stage,
    };
    items.extend(stage.and_then(|stage| take_over_of(model, &stage)));
    items
}

/// Lines that say of owned stages what is parked and in flight.
const OWNED_LINES_MAX: usize = 2;

/// Who owns what of the stages in sight, in a line or two above the list; returns what is left of the area.
fn draw_owned(model: &Model, ink: &mut Ink<'_>, area: Rect) -> Rect {
    let mut left = area;
    let row = model.list(Id::Pending).row();
    let at_cursor = row.and_then(|row| model.pending.get(row));
    let pieces = pieces(model, ink, at_cursor.map(|entry| entry.stage.as_str()));
    let mut lines = wrap(ink, &pieces, area.width);
    let n_most = match area.height {
        ..10 => return area,
        10..24 => 1,
        _ => OWNED_LINES_MAX,
    };
    let n_over: usize = lines.iter().skip(n_most).map(Vec::len).sum();
    lines.truncate(n_most);
    if let (true, Some(line)) = (n_over > 0, lines.last_mut()) {
        // In place of the last one where it would not fit behind it.
        let more = |n: usize| (format!("and {n} more owned"), Role::Dim);
        let used: u16 = line.iter().map(|(text, _)| ink.width_of(text) + 2).sum();
        let n_replaced = usize::from(used + 20 > area.width && line.len() > 1);
        line.truncate(line.len() - n_replaced);
        line.push(more(n_over + n_replaced));
    }
    let mut pieces = lines.iter_mut().flatten().rev().skip(1);
    pieces.by_ref().for_each(|(text, _)| text.push(';'));
    for line in &lines {
        let at = take(&mut left, 1);
        draw_pieces(ink, at.x, at.y, at.width, line);
    }
    left
}

/// The list; where there is room also what the table has no column for.
fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let area = draw_owned(model, ink, area);
    let row = model.list(Id::Pending).row();
    let Some(entry) = row.and_then(|row| model.pending.get(row)) else {
        return draw_list(model, ink, area, &SCREEN);
    };
    let mut lines = vec![Line::plain(if entry.in_flight {
        format!(
            "in flight: {} read it {} ago and has not committed it; for Redis it is not delivered",
            entry.consumer,
            duration_ms(entry.held_ms)
        )
    } else {
        format!(
            "held by {} for {}, idle {}; deliveries {}, failed tries {}",
            entry.consumer,
            duration_ms(entry.held_ms),
            duration_ms(entry.idle_ms),
            count(entry.deliveries),
            entry.tries
        )
    })];
    if let Some(error) = &entry.last_error {
        lines.push(Line::new(Role::Warn, format!("last error: {error}")));
    }
    if let Some(at) = &entry.not_before {
        lines.push(Line::plain(format!("not tried again before {at}")));
    }
    lines.push(Line::new(
        Role::Dim,
        format!(
            "stage {}, stream {}, group {}",
            entry.stage, entry.stream, entry.group
        ),
    ));
    // A small terminal is for the rows; Enter shows one of them.
    let lines = Some(lines).filter(|_| area.height >= 14);
    draw_list_and_row(model, ink, area, &SCREEN, &entry.id, lines);
}
