//! What every screen with a list has in common: the count line, the filter being typed, the states without rows, and the
//! table itself.

use ratatui::layout::Rect;

use super::screen::{List, Screen, Source};
use crate::facts::Link;
use crate::model::{ListView, Model};
use crate::output::human::{count, duration_ms};
use crate::place::Id;
use crate::theme::Role;
use crate::widgets::{Ink, Table, draw_table};

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
        _ => (None, 0, false, None),
    };
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

/// Never heard, failed, filtered away, or truly nothing: never the same words.
fn why_empty(model: &Model, screen: &Screen, list: &List, view: &ListView) -> (String, Role) {
    let is_loaded = match (screen.source, screen.id) {
        (Source::Snapshot, _) => model.facts.snapshot().is_some(),
        (Source::Latency, _) => model.latency.is_some(),
        (Source::Pages, Id::Pending) => model.pending.is_loaded,
        (Source::Pages, Id::Dead) => model.dead.is_loaded,
        (Source::Pages, Id::Causes) => model.causes.is_loaded,
        (Source::Pages, _) => model.audit.is_loaded,
    };
    if let Some(fault) = model.faults.get(&screen.id) {
        let hint = fault
            .hint
            .as_ref()
            .map(|hint| format!(" -- {hint}"))
            .unwrap_or_default();
        return (format!("{}{hint}", fault.message), Role::Warn);
    }
    if !is_loaded {
        let text = match &model.facts.link {
            Link::Connecting { .. } => "connecting to the daemon ...",
            Link::Up { .. } => "asking the daemon ...",
            Link::Down { .. } | Link::Refused { .. } => "unknown: the daemon was never reached",
        };
        return (text.to_owned(), Role::Dim);
    }
    if !view.filter.is_empty() {
        let text = format!("no {} match the filter; Esc clears it", list.noun);
        return (text, Role::Plain);
    }
    (format!("no {}", list.noun), Role::Good)
}
