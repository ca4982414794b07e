//! Groups and their consumers, those in trouble first: who holds what, and since when.

use pipectl_shared::plan::{Action, Selection};
use pipectl_shared::snapshot::{Consumer, Group as Readers};
use ratatui::layout::Rect;

use super::body::{draw_list, take};
use super::owner::{is_owner, take_over_of};
use super::screen::{List, Screen, Source, no_act};
use super::stages::amount;
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model, word};
use crate::output::human::{count, duration_ms};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink, Table, draw_table, panel};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Consumers,
    group: Group::Work,
    name: "Consumers",
    letter: 'c',
    about: "Groups and consumers: who holds what, and who is stuck.",
    legend: &[
        "STATE: ok, idle (nothing to do), parked or stuck (holds entries, no progress), gone (its process is away).",
        "OLDEST: since its oldest entry was read first. IDLE: since it last asked. INACTIVE: since it last got something (Redis 7.2 on).",
        "Groups: LAG: entries not delivered yet (~ = estimate); LAST: newest id delivered; LENGTH: entries that the stream keeps.",
        "third party: a group of somebody else on our stream. It holds nothing up here, but what it has not read stays kept.",
        "A consumer that asks (short IDLE) and holds old entries (long OLDEST) is stuck in its work, not dead.",
    ],
    list: Some(List {
        noun: "consumers",
        has_marks: false,
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
    open: Some(("its entries", open)),
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("CONSUMER", 0, 12, 40),
    Column::text("STAGE", 1, 8, 14),
    Column::text("STATE", 0, 6, 7),
    Column::figure("PENDING", 0, 7),
    Column::figure("OLDEST", 1, 6),
    Column::figure("IDLE", 2, 6),
    Column::figure("INACTIVE", 4, 8),
    Column::text("OURS", 5, 4, 4),
    Column::text("REASON", 3, 12, u16::MAX),
];

const GROUP_COLUMNS: &[Column] = &[
    Column::text("STAGE", 0, 11, 16),
    Column::text("STREAM", 3, 8, 24),
    Column::text("GROUP", 1, 11, 20),
    Column::figure("CONSUMERS", 4, 9),
    Column::figure("PENDING", 0, 7),
    Column::figure("LAG", 0, 7),
    Column::text("LAST DELIVERED", 5, 17, 22),
    Column::figure("LENGTH", 2, 9),
];

/// Rows from which on groups are shown above their consumers.
const GROUPS_FROM: u16 = 18;

/// From this width on the table's last column has room for a reason.
const REASON_FITS: u16 = 140;

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let mut left = area;
    let groups = model.facts.snapshot().map(|snapshot| &snapshot.groups);
    if let Some(groups) = groups.filter(|groups| !groups.is_empty())
        && area.height >= GROUPS_FROM
    {
        let is_boxed = area.width >= 140;
        let frame = if is_boxed { 3 } else { 2 };
        let all = u16::try_from(groups.len()).unwrap_or(u16::MAX);
        let rows = all.saturating_add(frame).min(area.height / 3);
        draw_groups(ink, take(&mut left, rows), groups, is_boxed);
    }
    // Why, in full, of the one under the cursor: the table cuts it.
    let row = model.list(Id::Consumers).row();
    let reason = row
        .and_then(|row| consumer(model, row))
        .and_then(|consumer| Some(format!("{}: {}", consumer.name, consumer.reason.as_ref()?)));
    if let Some(reason) = reason.filter(|_| left.height >= 10 && area.width < REASON_FITS) {
        let rows = 1 + u16::from(ink.width_of(&reason) > area.width);
        let n_list = left.height - rows;
        draw_list(model, ink, take(&mut left, n_list), &SCREEN);
        ink.wrapped(left, &reason, Role::Warn);
        return;
    }
    draw_list(model, ink, left, &SCREEN);
}

/// Those that fit, ours first: third parties have no say in the ledger.
fn draw_groups(ink: &mut Ink<'_>, area: Rect, groups: &[Readers], is_boxed: bool) {
    let mut order: Vec<&Readers> = groups.iter().collect();
    order.sort_by_key(|group| group.stage.is_none());
    let frame = if is_boxed { 3 } else { 2 };
    let n_shown = usize::from(area.height.saturating_sub(frame)).min(order.len());
    let n_foreign = groups.iter().filter(|group| group.stage.is_none()).count();
    let mut title = format!("groups ({})", groups.len());
    if n_foreign > 0 {
        title.push_str(&format!(", {n_foreign} of third parties"));
    }
    if n_shown < order.len() {
        title.push_str(&format!(", the first {n_shown}"));
    }
    let inner = panel(ink, area, &title, is_boxed);
    let is_old = ink.is_old;
    let table = Table {
        columns: GROUP_COLUMNS,
        n_rows: n_shown,
        offset: 0,
        cursor: None,
        cells: &|row| {
            let mut cells = order
                .get(row)
                .map_or_else(Vec::new, |group| group_cells(group));
            for cell in cells
                .iter_mut()
                .filter(|cell| is_old && cell.role == Role::Plain)
            {
                cell.role = Role::Dim;
            }
            cells
        },
        is_marked: &|_| false,
        sort: None,
        skip: 0,
    };
    draw_table(ink, inner, &table);
}

fn group_cells(group: &Readers) -> Vec<Cell> {
    let entries = |n: u64| Cell::figure(n as f64, amount(n));
    let estimate = if group.lag_estimated { "~" } else { "" };
    vec![
        match &group.stage {
            Some(stage) => Cell::text(stage).role(Role::Strong),
            None => Cell::text("third party").role(Role::Warn),
        },
        Cell::text(&group.stream),
        Cell::text(&group.group),
        entries(group.consumers),
        entries(group.pending),
        Cell::maybe(group.lag.map(|n| n as f64), |n| {
            format!("{estimate}{}", amount(n as u64))
        }),
        Cell::text(&group.last_delivered),
        entries(group.length),
    ]
}

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
    if consumer.pending > 0 && is_owner(model, &consumer.stage, name) {
        let why =
            format!("{name} owns the stage: what it holds is in flight, and finished by it alone");
        items.push(Item {
            letter: 'c',
            label: format!("claim -- no: {name} owns the stage"),
            kind: ItemKind::Off(why),
        });
    } else if consumer.pending > 0 {
        let select = Selection {
            stage: Some(consumer.stage.clone()),
            consumer: Some(name.clone()),
            ..Selection::default()
        };
        let what = format!("all {} entries of {name}", count(consumer.pending));
        items.push(Item::plan('c', "claim", &what, Action::Claim, select));
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
    items.extend(take_over_of(model, &consumer.stage));
    items
}
