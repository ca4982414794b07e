//! What every screen with a list has in common: the count line, the filter being typed, the states without rows, and the
//! table itself.

use ratatui::layout::Rect;

use super::screen::{List, Screen, Source};
use crate::clock;
use crate::facts::Link;
use crate::model::{ListView, Model};
use crate::output::human::{count, duration_ms};
use crate::place::Id;
use crate::theme::Role;
use crate::widgets::{Ink, Table, draw_table, panel};

/// Draws a screen's list in `area`: one line of counts and filter, then the table, or why there is none.
pub(crate) fn draw_list(model: &Model, ink: &mut Ink<'_>, area: Rect, screen: &Screen) {
    let Some(list) = &screen.list else { return };
    if area.height == 0 {
        return;
    }
    let view = model.list(screen.id);
    let head = Rect::new(area.x, area.y, area.width, 1);
    draw_head(model, ink, head, screen, list, view);
    let body = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    draw_rows(model, ink, body, screen);
}

/// The list without its line of counts: the table, or why there is none.
pub(super) fn draw_rows(model: &Model, ink: &mut Ink<'_>, body: Rect, screen: &Screen) {
    let Some(list) = &screen.list else { return };
    let view = model.list(screen.id);
    if view.order.is_empty() {
        let (text, role) = why_empty(model, screen, list, view);
        ink.wrapped(inset(body), &text, role);
        return;
    }
    let height = usize::from(body.height.saturating_sub(1));
    let table = Table {
        columns: list.columns,
        n_rows: view.order.len(),
        offset: view.offset(height),
        cursor: Some(view.at),
        cells: &|at| {
            let mut cells = (list.cells)(model, view.order[at]);
            if ink_is_old(model) {
                for cell in &mut cells {
                    if cell.role == Role::Plain {
                        cell.role = Role::Dim;
                    }
                }
            }
            cells
        },
        is_marked: &|at| {
            !view.marks.is_empty() && view.marks.contains(&(list.id)(model, view.order[at]))
        },
        sort: view.sort,
        skip: view.column,
    };
    draw_table(ink, body, &table);
}

/// A line of the pane beneath a list.
pub(super) struct Line {
    role: Role,
    text: String,
}

impl Line {
    /// In a look.
    pub(super) fn new(role: Role, text: String) -> Self {
        Self { role, text }
    }

    /// Ordinary.
    pub(super) fn plain(text: String) -> Self {
        Self::new(Role::Plain, text)
    }
}

/// The list and, beneath it, what the row under the cursor says in full: tables cut long messages, this does not.
pub(super) fn draw_list_and_row(
    model: &Model,
    ink: &mut Ink<'_>,
    area: Rect,
    screen: &Screen,
    title: &str,
    lines: Option<Vec<Line>>,
) {
    // Narrow tables show little of a message, so more of the place is for the pane.
    let height = match area.width {
        ..60 => (area.height / 2).clamp(3, 9),
        _ => (area.height / 4).clamp(3, 7),
    };
    let Some(lines) = lines.filter(|_| area.height >= height + 4) else {
        return draw_list(model, ink, area, screen);
    };
    let (list, pane) = split(area, area.height - height);
    draw_list(model, ink, list, screen);
    let inner = panel(ink, pane, title, false);
    let mut y = inner.y;
    for line in &lines {
        let left = Rect::new(
            inner.x + 1,
            y,
            inner.width.saturating_sub(2),
            inner.bottom().saturating_sub(y),
        );
        y += ink.wrapped(left, &line.text, line.role);
    }
}

fn split(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    (
        Rect::new(area.x, area.y, area.width, height),
        Rect::new(area.x, area.y + height, area.width, area.height - height),
    )
}

/// A stamp in as few cells as it needs: `13:02:40`, or `11-20 13:02` of another day than today. What is no RFC 3339 stamp
/// stays as it came.
pub(super) fn stamp(rfc3339: &str, model: &Model) -> String {
    let today = match model.wall_ms() {
        0 => String::new(),
        ms => clock::rfc3339(ms),
    };
    let day = today.get(..10);
    match (rfc3339.get(..10), rfc3339.get(11..19)) {
        (date, Some(time)) if date == day => time.to_owned(),
        (Some(date), Some(time)) => format!(
            "{} {}",
            date.get(5..).unwrap_or(date),
            time.get(..5).unwrap_or(time)
        ),
        _ => rfc3339.to_owned(),
    }
}

fn ink_is_old(model: &Model) -> bool {
    use crate::facts::Freshness;
    matches!(
        model.facts.freshness(model.now_ms),
        Freshness::Gone(_) | Freshness::Stale(_)
    )
}

/// Takes rows from the top of an area.
pub(super) fn take(area: &mut Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    let taken = Rect::new(area.x, area.y, area.width, rows);
    *area = Rect::new(area.x, area.y + rows, area.width, area.height - rows);
    taken
}

fn inset(area: Rect) -> Rect {
    let margin = 2.min(area.width / 4);
    let top = u16::from(area.height > 4);
    Rect::new(
        area.x + margin,
        area.y + top,
        area.width - 2 * margin,
        area.height - top,
    )
}

pub(super) fn draw_head(
    model: &Model,
    ink: &mut Ink<'_>,
    area: Rect,
    screen: &Screen,
    list: &List,
    view: &ListView,
) {
    let counts = counts(model, screen, list, view);
    let n = ink.width_of(&counts).min(area.width);
    ink.right(area.right(), area.y, n, &counts, Role::Dim);
    let room = area.width.saturating_sub(n + 1);
    if let Some(field) = &view.typing {
        let used = ink.pieces(
            area.x,
            area.y,
            room,
            &[("/", Role::Key), (field.before_cursor(), Role::Strong)],
        );
        ink.glyph(area.x + used.min(room), area.y, '▏', '_', Role::Key);
        let rest = &field.text()[field.before_cursor().len()..];
        let x = area.x + used + 1;
        ink.text(x, area.y, room.saturating_sub(used + 1), rest, Role::Strong);
    } else if !view.filter.is_empty() {
        ink.pieces(
            area.x,
            area.y,
            room,
            &[
                ("filter: ", Role::Dim),
                (&view.filter, Role::Strong),
                ("  Esc clears", Role::Dim),
            ],
        );
    } else {
        ink.text(area.x, area.y, room, screen.about, Role::Dim);
    }
}

/// `rows 3 of 418, 3 marked, 2.1s old`
fn counts(model: &Model, screen: &Screen, list: &List, view: &ListView) -> String {
    let (total, before, has_after, at_ms) = match screen.id {
        Id::Pending => paged(&model.pending),
        Id::Dead => paged(&model.dead),
        Id::Causes => paged(&model.causes),
        Id::Audit => paged(&model.audit),
        Id::Runs => paged(&model.drill.runs),
        Id::Chaos => (
            None,
            0,
            false,
            model.drill.catalogue.as_ref().map(|_| model.drill.at_ms),
        ),
        _ => (None, 0, false, None),
    };
    if !is_loaded(model, screen) {
        // Nobody knows, which is not 0.
        return format!("? {}", list.noun);
    }
    let n_rows = (list.n_rows)(model);
    let n_shown = view.order.len();
    let mut text = String::new();
    if n_shown > 0 {
        text.push_str(&count((before + view.at + 1) as u64));
        text.push_str(" of ");
    }
    if n_shown < n_rows {
        text.push_str(&format!("{} shown of ", count(n_shown as u64)));
    }
    match total {
        Some(total) => text.push_str(&count(total)),
        None if before > 0 || has_after => {
            text.push_str(&format!("{}+", count((before + n_rows) as u64)));
        }
        None => text.push_str(&count(n_rows as u64)),
    }
    text.push(' ');
    text.push_str(list.noun);
    let left_out = model.facts.snapshot().and_then(|snapshot| {
        let name = match screen.id {
            Id::Consumers => "consumers",
            Id::Alerts => "alerts",
            _ => return None,
        };
        snapshot.truncated.get(name).copied()
    });
    if let Some(n) = left_out {
        text.push_str(&format!(", {} more not sent", count(n)));
    }
    if !view.marks.is_empty() {
        text.push_str(&format!(", {} marked", count(view.marks.len() as u64)));
    }
    if let Some(at_ms) = at_ms {
        let age = model.now_ms.saturating_sub(at_ms);
        if age >= 5_000 {
            text.push_str(&format!(", {} old", duration_ms(age)));
        }
    }
    text
}

fn paged<T>(pages: &crate::model::Pages<T>) -> (Option<u64>, usize, bool, Option<u64>) {
    (
        pages.total,
        pages.n_before(),
        pages.has_after(),
        pages.is_loaded.then_some(pages.at_ms),
    )
}

/// Whether what the screen shows was ever told.
fn is_loaded(model: &Model, screen: &Screen) -> bool {
    match (screen.source, screen.id) {
        (Source::Snapshot, _) => model.facts.snapshot().is_some(),
        (Source::Latency, _) => {
            model.latency.is_some()
                || model
                    .facts
                    .snapshot()
                    .is_some_and(|s| !s.latency.is_empty())
        }
        (Source::Pages, Id::Pending) => model.pending.is_loaded,
        (Source::Pages, Id::Dead) => model.dead.is_loaded,
        (Source::Pages, Id::Causes) => model.causes.is_loaded,
        (Source::Pages, Id::Chaos) => model.drill.catalogue.is_some(),
        (Source::Pages, Id::Runs) => model.drill.runs.is_loaded,
        (Source::Pages, _) => model.audit.is_loaded,
    }
}

/// Never heard, failed, filtered away, or truly nothing: never the same words.
fn why_empty(model: &Model, screen: &Screen, list: &List, view: &ListView) -> (String, Role) {
    if let Some(fault) = model.faults.get(&screen.id) {
        let hint = fault
            .hint
            .as_ref()
            .map(|hint| format!(" -- {hint}"))
            .unwrap_or_default();
        return (format!("{}{hint}", fault.message), Role::Warn);
    }
    if !is_loaded(model, screen) {
        let text = match &model.facts.link {
            Link::Connecting { .. } => "connecting to the daemon ...",
            Link::Up { .. } => "asking the daemon ...",
            Link::Down { .. } | Link::Refused { .. } => "unknown: the daemon was never reached",
        };
        return (text.to_owned(), Role::Dim);
    }
    if view.typing.is_some() && (list.n_rows)(model) > 0 {
        let text = format!("none of the loaded {} match so far", list.noun);
        return (text, Role::Plain);
    }
    if !view.filter.is_empty() {
        let text = format!("no {} match the filter; Esc clears it", list.noun);
        return (text, Role::Plain);
    }
    (format!("no {}", list.noun), Role::Good)
}
