//! Topology: the flow as a drawing, sources to ends, with rates on the arrows and what backs up. From left to right where
//! there is room, else from top to bottom; what does not fit scrolls with the cursor.

mod across;
mod down;
mod picture;

use picture::Picture;
use pipectl_shared::snapshot::{Snapshot, Stage};
use ratatui::layout::Rect;

use super::body::{draw_head, draw_rows};
use super::owner::{is_owned, owner_words};
use super::screen::{List, Screen, Source};
use super::stages::{amount, items_of, lag, open_pending, state_text};
use super::trends::{Trend, draw_trends, span};
use crate::keys::Act;
use crate::message::Effect;
use crate::model::Model;
use crate::output::human::{latency_ms, rate};
use crate::place::{Group, Id};
use crate::widgets::{Cell, Column, Flow, Ink, panel};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Topology,
    group: Group::Health,
    name: "Topology",
    letter: 't',
    about: "Who feeds whom, how fast, and where it backs up.",
    legend: &[
        "Up and Down walk the stages as they are drawn, Left and Right follow the flow; Enter: pending entries of the stage.",
        "A rate on an arrow: entries that the stage behind it reads a second, over the last 10 s.",
        "BACKS UP: its backlog (lag and pending) grew over the last 30 s; what feeds it is faster. catches up: it shrank.",
        "keeps up: less waits than it reads in half a second. backlog steady: more waits, and it stays about as much.",
        "A source in backpressure waits, because the first stage is behind or Redis is near its memory limit.",
        "Several stages that read the same are branches. circle: a stage was said to read, in the end, from itself.",
    ],
    list: Some(List {
        noun: "stages",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| model.facts.snapshot().map_or(0, |s| s.status.stages.len()),
        id: |model, row| stage(model, row).map_or_else(String::new, |stage| stage.name.clone()),
        cells,
    }),
    source: Source::Snapshot,
    items: |model| {
        let row = model.list(Id::Topology).row();
        row.and_then(|row| stage(model, row))
            .map(items_of)
            .unwrap_or_default()
    },
    open: Some(("its entries", |model| {
        let at = model
            .list(Id::Topology)
            .row()
            .and_then(|row| index(model, row));
        open_pending(model, at)
    })),
    act,
    draw,
};

/// For filter and export; the drawing shows the same.
const COLUMNS: &[Column] = &[
    Column::text("STAGE", 0, 10, 20),
    Column::text("FROM", 0, 8, 20),
    Column::text("STATE", 0, 10, 10),
    Column::text("OPERATORS", 1, 12, 40),
    Column::figure("IN 10s", 1, 7),
    Column::figure("LAG", 1, 7),
    Column::text("REASON", 2, 12, u16::MAX),
];

/// More stages than any pipeline has: from here on they are walked as they come, because their order is looked for often.
const ORDERED_MAX: usize = 256;

fn flow(snapshot: &Snapshot) -> Flow {
    let stages = &snapshot.status.stages;
    let named: Vec<(&str, &str)> = stages
        .iter()
        .map(|stage| (stage.name.as_str(), stage.from.as_str()))
        .collect();
    Flow::new(&named)
}

/// Stages row by row: in the order of the drawing.
fn order(flow: &Flow, n_stages: usize) -> Vec<usize> {
    if n_stages > ORDERED_MAX {
        (0..n_stages).collect()
    } else {
        flow.stages().collect()
    }
}

/// Which stage of the Snapshot stands at a row.
fn index(model: &Model, row: usize) -> Option<usize> {
    let snapshot = model.facts.snapshot()?;
    let n_stages = snapshot.status.stages.len();
    if n_stages > ORDERED_MAX {
        return Some(row);
    }
    order(&flow(snapshot), n_stages).get(row).copied()
}

fn stage(model: &Model, row: usize) -> Option<&Stage> {
    let at = index(model, row)?;
    model.facts.snapshot()?.status.stages.get(at)
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(stage) = stage(model, row) else {
        return Vec::new();
    };
    vec![
        Cell::text(&stage.name),
        Cell::text(&stage.from),
        Cell::text(state_text(model, stage.state)),
        Cell::text(stage.operators.join(" > ")),
        Cell::maybe(stage.in_per_s, rate),
        Cell::maybe(stage.lag.map(|n| n as f64), |_| lag(stage)),
        Cell::text(stage.reason.as_deref().unwrap_or("")),
    ]
}

/// Left and Right follow the flow.
fn act(model: &mut Model, act: Act) -> Option<Vec<Effect>> {
    if !matches!(act, Act::Left | Act::Right) {
        return None;
    }
    if let Some((at, name)) = neighbour(model, act) {
        let view = model.list_mut(Id::Topology);
        view.at = at;
        view.cursor = Some(name);
    }
    Some(Vec::new())
}

/// The stage before or behind that under the cursor, as a position in the list.
fn neighbour(model: &Model, act: Act) -> Option<(usize, String)> {
    let snapshot = model.facts.snapshot()?;
    let view = model.list(Id::Topology);
    let here = index(model, view.row()?)?;
    let flow = flow(snapshot);
    let node = flow.nodes.iter().find(|node| node.stage == Some(here))?;
    let other = match act {
        Act::Left => node.parent?,
        _ => *node.children.first()?,
    };
    let wanted = flow.nodes.get(other)?.stage?;
    let at = view
        .order
        .iter()
        .position(|row| index(model, *row) == Some(wanted))?;
    Some((at, snapshot.status.stages.get(wanted)?.name.clone()))
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let mut area = area;
    let view = model.list(Id::Topology);
    if (view.typing.is_some() || !view.filter.is_empty())
        && area.height > 3
        && let Some(list) = &SCREEN.list
    {
        let head = Rect::new(area.x, area.y, area.width, 1);
        draw_head(model, ink, head, &SCREEN, list, view);
        area = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    }
    let drawable = model
        .facts
        .snapshot()
        .filter(|snapshot| !snapshot.status.stages.is_empty() && !view.order.is_empty());
    let Some(snapshot) = drawable else {
        draw_rows(model, ink, area, &SCREEN);
        return;
    };
    let stages = &snapshot.status.stages;
    let flow = flow(snapshot);
    let order = order(&flow, stages.len());
    let at_row = |row: usize| order.get(row).copied();
    let mut is_shown = vec![false; stages.len()];
    for row in &view.order {
        if let Some(shown) = at_row(*row).and_then(|at| is_shown.get_mut(at)) {
            *shown = true;
        }
    }
    let picture = Picture {
        model,
        snapshot,
        flow,
        cursor: view.row().and_then(at_row),
        is_shown,
    };
    let levels =
        |least: u16| usize::from(area.width.saturating_sub(END)) / usize::from(least + GAP);
    let is_all = levels(BOX_LEAST) >= picture.flow.n_levels;
    let needed = if area.width >= 140 || is_all {
        // Where they do not all fit side by side anyway, those that do get room for their words.
        let least = if is_all { BOX_LEAST } else { BOX_MOST };
        picture.draw_across(ink, area, levels(least).max(1))
    } else {
        picture.draw_down(ink, area)
    };
    // What the drawing leaves free shows the stage under the cursor over time.
    let free = area.height.saturating_sub(needed);
    if free >= 7
        && let Some(stage) = picture.cursor.and_then(|at| stages.get(at))
    {
        let rest = Rect::new(area.x, area.y + needed, area.width, free);
        draw_stage(model, ink, rest, stage);
    }
}

fn draw_stage(model: &Model, ink: &mut Ink<'_>, area: Rect, stage: &Stage) {
    let of = |figure: &str| format!("stage.{}.{figure}", stage.name);
    let entries = |n: f64| amount(n as u64);
    let trends = [
        Trend::new("in", of("in_per_s"), rate),
        Trend::new("out", of("out_per_s"), rate).second(),
        Trend::new("lag", of("lag"), entries),
        Trend::new("pending", of("pending"), entries).second(),
        Trend::new("p99 1m", of("p99_ms"), latency_ms),
    ];
    let width = area.width.saturating_sub(2);
    let height = area.height.saturating_sub(2).min(15);
    let owner = if is_owned(stage) {
        format!(" ({})", owner_words(stage))
    } else {
        String::new()
    };
    let span = span(model, ink, width, height, &trends);
    let title = format!("{}{owner}: {span}", stage.name);
    let area = Rect::new(area.x, area.y, area.width, height + 2);
    let inner = panel(ink, area, &title, true);
    draw_trends(model, ink, inner, &trends);
}

/// Least and greatest cells of a box, cells of an arrow with its rate, and of the end behind the last one.
const BOX_LEAST: u16 = 24;
const BOX_MOST: u16 = 36;
const GAP: u16 = 14;
const END: u16 = 8;

/// First row that is shown so that the middle of what the cursor is on is in view.
fn scroll(middle: i64, total: i64, height: i64) -> i64 {
    (middle - height / 2).min(total - height).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_is_in_view_and_nothing_scrolls_that_fits() {
        let table = [
            (3, 10, 20, 0),
            (3, 100, 20, 0),
            (50, 100, 20, 40),
            (99, 100, 20, 80),
            (0, 0, 20, 0),
        ];
        for (middle, total, height, expected) in table {
            assert_eq!(scroll(middle, total, height), expected, "{middle} {total}");
        }
    }
}
