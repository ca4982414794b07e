//! Topology: the flow as a drawing, sources to ends, with rates on the arrows and what backs up. From left to right where
//! there is room, else from top to bottom; what does not fit scrolls with the cursor.

use pipectl_shared::snapshot::{Snapshot, Stage};
use ratatui::layout::Rect;

use super::body::{draw_head, draw_rows};
use super::canvas::{Boxed, Canvas};
use super::screen::{List, Screen, Source};
use super::stages::{
    Piece, Pressure, aged, aged_role, amount, choose, items_of, lag, open_pending, source_state,
    state_role, state_text, workers,
};
use super::trends::{Trend, draw_trends, span};
use crate::keys::Act;
use crate::message::Effect;
use crate::model::Model;
use crate::output::human::{count, duration_ms, latency_ms, or_unknown, rate};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Flow, Ink, Node, panel};

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
    open: |model| {
        let at = model
            .list(Id::Topology)
            .row()
            .and_then(|row| index(model, row));
        open_pending(model, at)
    },
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
    let title = format!("{}: {}", stage.name, span(ink, width, height, &trends));
    let area = Rect::new(area.x, area.y, area.width, height + 2);
    let inner = panel(ink, area, &title, true);
    draw_trends(model, ink, inner, &trends);
}

/// Least and greatest cells of a box, cells of an arrow with its rate, and of the end behind the last one.
const BOX_LEAST: u16 = 24;
const BOX_MOST: u16 = 36;
const GAP: u16 = 14;
const END: u16 = 8;

struct Picture<'a> {
    model: &'a Model,
    snapshot: &'a Snapshot,
    flow: Flow,
    /// Stage under the cursor.
    cursor: Option<usize>,
    /// By stage: whether the filter lets it through.
    is_shown: Vec<bool>,
}

impl Picture<'_> {
    fn glyph(&self, unicode: char, ascii: char) -> char {
        choose(self.model, unicode, ascii)
    }

    fn stage(&self, node: &Node) -> Option<&Stage> {
        self.snapshot.status.stages.get(node.stage?)
    }

    fn at_cursor(&self) -> Option<&Node> {
        let nodes = self.flow.nodes.iter();
        nodes
            .into_iter()
            .find(|node| node.stage.is_some() && node.stage == self.cursor)
    }

    /// Entries that a stage reads a second, with a mark where it backs up.
    fn arrow(&self, ink: &Ink<'_>, stage: &Stage) -> Piece {
        let per_s = aged(ink, or_unknown(stage.in_per_s, rate));
        match Pressure::of_stage(self.model, stage) {
            Pressure::Grows(_) => (format!("{}{per_s}", self.glyph('▲', '!')), Role::Bad),
            _ => (per_s, aged_role(ink, Role::Strong)),
        }
    }

    fn end(&self, ink: &Ink<'_>, stage: &Stage) -> Piece {
        let per_s = aged(ink, or_unknown(stage.out_per_s, rate));
        (per_s, aged_role(ink, Role::Strong))
    }

    /// Name of the stream that a root reads, and the entries that it keeps.
    fn stream(&self, node: &Node) -> (String, Option<u64>) {
        let first = node
            .children
            .first()
            .and_then(|at| self.flow.nodes.get(*at));
        let Some(stage) = first.and_then(|node| self.stage(node)) else {
            return (String::new(), None);
        };
        let name = if stage.stream.is_empty() {
            &stage.from
        } else {
            &stage.stream
        };
        let group = self
            .snapshot
            .groups
            .iter()
            .find(|group| group.stream == *name);
        (name.clone(), group.map(|group| group.length))
    }

    fn stream_box(&self, ink: &Ink<'_>, at: usize, n_lines: usize) -> Boxed {
        let node = &self.flow.nodes[at];
        let (name, length) = self.stream(node);
        let mut lines = Vec::new();
        if node.is_circular {
            lines.push(("circle: it reads from itself".to_owned(), Role::Bad));
        }
        // All sources write the first stream.
        if at == 0 {
            lines.extend(self.source_lines(ink, n_lines.saturating_sub(1)));
        }
        let kept = aged(ink, or_unknown(length, count));
        lines.push((format!("{kept} entries kept"), aged_role(ink, Role::Plain)));
        Boxed {
            title: format!("stream {name}"),
            state: (String::new(), Role::Plain),
            lines,
            is_cursor: false,
            is_dim: false,
        }
    }

    /// The sources, at most `n` lines of them.
    fn source_lines(&self, ink: &Ink<'_>, n: usize) -> Vec<Piece> {
        let sources = &self.snapshot.sources;
        if sources.is_empty() {
            return vec![("no sources; clients add to it".to_owned(), Role::Dim)];
        }
        let n_shown = if sources.len() > n {
            n.saturating_sub(1)
        } else {
            n
        };
        let mut lines: Vec<Piece> = sources
            .iter()
            .take(n_shown)
            .map(|source| {
                let (state, role) = source_state(self.model, source);
                let per_s = aged(ink, or_unknown(source.per_s, rate));
                let text = format!("{state} {per_s} {}", source.name);
                let role = aged_role(ink, role);
                (text, role)
            })
            .collect();
        if sources.len() > n_shown {
            let n_more = sources.len() - n_shown;
            lines.push((format!("and {n_more} more sources"), Role::Dim));
        }
        lines
    }

    fn stage_box(&self, ink: &Ink<'_>, node: &Node, n_lines: usize) -> Boxed {
        let Some(stage) = self.stage(node) else {
            return Boxed::default();
        };
        let plain = aged_role(ink, Role::Plain);
        let operators = if stage.operators.is_empty() {
            "no operators".to_owned()
        } else {
            stage.operators.join(" > ")
        };
        let pressure = Pressure::of_stage(self.model, stage).shown(self.model);
        let pending = aged(ink, or_unknown(stage.pending, amount));
        let backlog = format!("lag {}  pending {pending}", aged(ink, lag(stage)));
        let workers = format!(
            "{}  p99 {}",
            workers(stage),
            aged(ink, or_unknown(stage.p99_ms, latency_ms))
        );
        let why = match (&stage.reason, stage.oldest_pending_ms) {
            (Some(reason), _) => (reason.clone(), Role::Warn),
            (None, Some(ms)) => (
                format!("oldest pending {}", aged(ink, duration_ms(ms))),
                plain,
            ),
            (None, None) => (String::new(), plain),
        };
        let pressure = (pressure.0, aged_role(ink, pressure.1));
        let lines = match n_lines {
            // The reason says more than the operators do.
            0..=2 if stage.reason.is_some() => vec![(backlog, plain), why],
            0..=2 => vec![
                (format!("{workers}  {operators}"), plain),
                (format!("{backlog}  {}", pressure.0), pressure.1),
            ],
            3 if stage.reason.is_some() => vec![(backlog, plain), pressure, why],
            3 => vec![(operators, plain), (backlog, plain), pressure],
            _ => vec![
                (operators, plain),
                (workers, plain),
                (backlog, plain),
                pressure,
                why,
            ],
        };
        Boxed {
            title: stage.name.clone(),
            state: (
                state_text(self.model, stage.state),
                aged_role(ink, state_role(stage.state)),
            ),
            lines,
            is_cursor: node.stage.is_some() && node.stage == self.cursor,
            is_dim: node
                .stage
                .is_none_or(|at| !self.is_shown.get(at).copied().unwrap_or(true)),
        }
    }

    /// From left to right: a column a level, a row of boxes a lane. Returns the rows used.
    fn draw_across(&self, ink: &mut Ink<'_>, area: Rect, fits: usize) -> u16 {
        let n_levels = self.flow.n_levels;
        let n_visible = fits.min(n_levels).max(1);
        let share = usize::from(area.width.saturating_sub(END)) / n_visible;
        let width = u16::try_from(share).unwrap_or(u16::MAX).saturating_sub(GAP);
        let width = i64::from(width.clamp(8, BOX_MOST));
        let n_lanes = self.flow.n_lanes;
        // Five lines a box where they all fit that way, else three.
        let n_lines = if n_lanes.saturating_mul(8) <= usize::from(area.height) {
            5
        } else {
            3
        };
        let pitch = (width + i64::from(GAP), n_lines as i64 + 3);
        let cursor = self.at_cursor();
        let depth = cursor.map_or(0, |node| node.depth);
        let first = depth
            .saturating_sub(n_visible / 2)
            .min(n_levels - n_visible.min(n_levels));
        let total = n_lanes as i64 * pitch.1 - 1;
        let middle = cursor.map_or(0, |node| node.lane as i64 * pitch.1 + pitch.1 / 2);
        let top = scroll(middle, total, i64::from(area.height));
        let left = first as i64 * pitch.0;
        let mut canvas = Canvas::new(ink, area, left, top);
        let place = |node: &Node| (node.depth as i64 * pitch.0, node.lane as i64 * pitch.1);
        // The last branch first: where the trunk of a later one passes, an earlier one turns off.
        for node in self.flow.nodes.iter().rev() {
            self.draw_arrow_across(&mut canvas, node, place(node), n_lines as i64, pitch);
        }
        for (at, node) in self.flow.nodes.iter().enumerate() {
            let (x, y) = place(node);
            if !canvas.is_near(y - 1, y + pitch.1) || node.depth < first {
                continue;
            }
            let boxed = if node.stage.is_some() {
                self.stage_box(canvas.ink, node, n_lines)
            } else {
                self.stream_box(canvas.ink, at, n_lines)
            };
            canvas.draw_box(x, y, width, n_lines as i64, &boxed);
            if node.children.is_empty()
                && let Some(stage) = self.stage(node)
            {
                let (per_s, role) = self.end(canvas.ink, stage);
                let y = y + n_lines as i64 / 2 + 1;
                canvas.line_across(x + width, x + width + i64::from(GAP) - 2, y);
                canvas.glyph(x + width + i64::from(GAP) - 2, y, '▶', '>', Role::Frame);
                canvas.text(x + width + 2, y, &format!(" {per_s} "), role);
                canvas.text(x + width + i64::from(GAP), y, "applied", Role::Dim);
            }
        }
        canvas.more(total, first > 0, first + n_visible < n_levels);
        u16::try_from(total + 1).unwrap_or(u16::MAX)
    }

    /// The arrow that leads to a box, with its rate; a branch turns off the trunk behind its parent.
    fn draw_arrow_across(
        &self,
        canvas: &mut Canvas<'_, '_>,
        node: &Node,
        (x, y): (i64, i64),
        n_lines: i64,
        pitch: (i64, i64),
    ) {
        let Some(parent) = node.parent.and_then(|at| self.flow.nodes.get(at)) else {
            return;
        };
        let Some(stage) = self.stage(node) else {
            return;
        };
        let row = y + n_lines / 2 + 1;
        let start = x - i64::from(GAP);
        let trunk = start + 1;
        let parent_row = parent.lane as i64 * pitch.1 + n_lines / 2 + 1;
        let is_last = parent
            .children
            .last()
            .and_then(|at| self.flow.nodes.get(*at))
            == Some(node);
        if parent.lane == node.lane {
            canvas.line_across(start, x - 1, row);
            if parent.children.len() > 1 {
                canvas.glyph(trunk, row, '┬', '+', Role::Frame);
            }
        } else {
            canvas.line_across(trunk, x - 1, row);
            canvas.line_down(trunk, parent_row + 1, row);
            let (unicode, ascii) = if is_last { ('└', '`') } else { ('├', '+') };
            canvas.glyph(trunk, row, unicode, ascii, Role::Frame);
        }
        canvas.glyph(x - 1, row, '▶', '>', Role::Frame);
        let (per_s, role) = self.arrow(canvas.ink, stage);
        canvas.text(trunk + 2, row, &format!(" {per_s} "), role);
    }

    /// From top to bottom; branches are indented. Returns the rows used.
    fn draw_down(&self, ink: &mut Ink<'_>, area: Rect) -> u16 {
        let n_lines: i64 = if area.height < 15 { 2 } else { 3 };
        let room = i64::from(area.width);
        // Indented as far as a box of 30 cells still fits; deeper ones say in words where they come from.
        let most = ((room - 30) / 4).max(0) * 4;
        let indent = |node: &Node| (node.branches as i64 * 4).min(most);
        let n_sources = (self.snapshot.sources.len().max(1) as i64).min(4);
        let mut places = Vec::with_capacity(self.flow.nodes.len());
        let mut y = 0;
        for (at, node) in self.flow.nodes.iter().enumerate() {
            if node.stage.is_none() {
                places.push(y);
                y += if at == 0 { n_sources + 1 } else { 2 };
                continue;
            }
            // The row above a box is for its arrow.
            y += 1;
            places.push(y);
            y += n_lines + 2;
            if node.children.is_empty() {
                y += 1;
            }
        }
        let total = y;
        let cursor = self.flow.nodes.iter().zip(&places);
        let middle = cursor
            .clone()
            .find(|(node, _)| node.stage.is_some() && node.stage == self.cursor)
            .map_or(0, |(_, y)| y + n_lines / 2);
        let top = scroll(middle, total, i64::from(area.height));
        let mut canvas = Canvas::new(ink, area, 0, top);
        for (at, node) in self.flow.nodes.iter().enumerate().rev() {
            let place = (indent(node), places[at]);
            self.draw_arrow_down(&mut canvas, node, place, n_lines, &places, indent);
        }
        for (at, node) in self.flow.nodes.iter().enumerate() {
            let y = places[at];
            let x = indent(node);
            if !canvas.is_near(y - 1, y + n_lines + 3) {
                continue;
            }
            let Some(stage) = self.stage(node) else {
                self.draw_stream_down(&mut canvas, at, y, n_sources);
                continue;
            };
            let boxed = self.stage_box(canvas.ink, node, n_lines as usize);
            let width = (room - x).min(60);
            canvas.draw_box(x, y, width, n_lines, &boxed);
            if node.children.is_empty() {
                let (per_s, role) = self.end(canvas.ink, stage);
                let y = y + n_lines + 2;
                canvas.glyph(x + 2, y, '└', '`', Role::Frame);
                canvas.glyph(x + 3, y, '▶', '>', Role::Frame);
                let used = canvas.text(x + 5, y, &per_s, role);
                canvas.text(x + 6 + used, y, "applied (10 s)", Role::Dim);
            }
        }
        canvas.more(total, false, false);
        u16::try_from(total).unwrap_or(u16::MAX)
    }

    fn draw_stream_down(&self, canvas: &mut Canvas<'_, '_>, at: usize, y: i64, n_sources: i64) {
        let node = &self.flow.nodes[at];
        let (name, length) = self.stream(node);
        let mut y = y;
        if at == 0 {
            for (line, (text, role)) in (y..).zip(self.source_lines(canvas.ink, n_sources as usize))
            {
                canvas.text(2, line, &text, role);
            }
            y += n_sources;
        } else {
            y += 1;
        }
        let kept = aged(canvas.ink, or_unknown(length, count));
        let circle = if node.is_circular {
            "  circle: it reads from itself"
        } else {
            ""
        };
        canvas.glyph(2, y, '▼', 'v', Role::Frame);
        let used = canvas.text(4, y, &format!("stream {name}"), Role::Title);
        let kept = format!("{kept} entries kept{circle}");
        let role = if node.is_circular {
            Role::Bad
        } else {
            Role::Dim
        };
        canvas.text(6 + used, y, &kept, role);
    }

    fn draw_arrow_down(
        &self,
        canvas: &mut Canvas<'_, '_>,
        node: &Node,
        (x, y): (i64, i64),
        n_lines: i64,
        places: &[i64],
        indent: impl Fn(&Node) -> i64,
    ) {
        let Some((at, stage)) = node.parent.zip(self.stage(node)) else {
            return;
        };
        let parent = &self.flow.nodes[at];
        let (per_s, role) = self.arrow(canvas.ink, stage);
        let from = indent(parent);
        if from < x {
            let below = match parent.stage {
                Some(_) => places[at] + n_lines + 2,
                None => y - 1,
            };
            let is_last = parent
                .children
                .last()
                .and_then(|at| self.flow.nodes.get(*at))
                == Some(node);
            // For the stream the trunk begins above its first branch and goes on from branch to branch.
            let start = match parent.stage {
                Some(_) => below,
                None => parent
                    .children
                    .first()
                    .map_or(y, |first| places[*first] - 1),
            };
            canvas.line_down(from + 2, start, y + 1);
            let (unicode, ascii) = if is_last { ('└', '`') } else { ('├', '+') };
            canvas.glyph(from + 2, y + 1, unicode, ascii, Role::Frame);
            canvas.glyph(from + 3, y + 1, '▶', '>', Role::Frame);
            let used = canvas.text(x + 2, y - 1, &per_s, role);
            canvas.text(x + 3 + used, y - 1, "(10 s)", Role::Dim);
            return;
        }
        canvas.glyph(from + 2, y - 1, '▼', 'v', Role::Frame);
        let used = canvas.text(from + 4, y - 1, &per_s, role);
        let is_only = parent.children.len() == 1;
        let words = if is_only {
            "(10 s)".to_owned()
        } else {
            format!("(10 s) from {}", stage.from)
        };
        canvas.text(from + 5 + used, y - 1, &words, Role::Dim);
    }
}

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
