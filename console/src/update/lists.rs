//! Lists: walking, marking, sorting, filtering, and fetching the next page when the cursor comes near the end.

use std::collections::BTreeSet;

use crate::keys::{Act, Key};
use crate::message::Effect;
use crate::model::{Model, PageWay, TextField, has_selection, parse_selector};
use crate::place::Id;
use crate::screens::{self, Source};

/// Rows from an end of the loaded ones at which the next page is asked for.
const NEAR: usize = 50;

/// Computes which rows of the shown list are shown, and in which order.
pub(super) fn reorder(model: &mut Model) {
    reorder_of(model, model.screen);
}

/// The same for a list that need not be shown.
pub(super) fn reorder_of(model: &mut Model, id: Id) {
    let screen = screens::of(id);
    let Some(list) = &screen.list else { return };
    let n_rows = (list.n_rows)(model);
    let view = model.list(id);
    let wanted = match &view.typing {
        // While it is typed it already narrows what is loaded.
        Some(field) => local_text(id, field.text()),
        None => local_text(id, &view.filter),
    };
    let mut order: Vec<usize> = (0..n_rows).collect();
    let sort = view.sort;
    if !wanted.is_empty() || sort.is_some() {
        let cells: Vec<_> = (0..n_rows).map(|row| (list.cells)(model, row)).collect();
        if !wanted.is_empty() {
            let wanted = wanted.to_lowercase();
            order.retain(|row| {
                cells[*row]
                    .iter()
                    .any(|cell| cell.text.to_lowercase().contains(&wanted))
            });
        }
        if let Some((column, reverse)) = sort {
            order.sort_by(|a, b| {
                let (a, b) = (cells[*a].get(column), cells[*b].get(column));
                match (a, b) {
                    (Some(a), Some(b)) if a.is_known() && b.is_known() && reverse => b.compare(a),
                    (Some(a), Some(b)) => a.compare(b),
                    _ => std::cmp::Ordering::Equal,
                }
            });
        }
    }
    let ids: Vec<String> = (0..n_rows).map(|row| (list.id)(model, row)).collect();
    let id_of = |row: usize| ids.get(row).cloned().unwrap_or_default();
    let is_at_top = model.list(id).at == 0;
    let view = model.list_mut(id);
    // Nothing is done to events: at their top the newest is followed, as a log is.
    if id == Id::Events && is_at_top && view.anchor.is_none() {
        view.cursor = None;
    }
    let is_gone = view.reorder(order, id_of);
    // Without the id it would jump onto what took the row's place: that is told, unless nobody had moved yet.
    if is_gone && !is_at_top && id == model.screen {
        model.say("the row under the cursor is gone from the list");
    }
}

/// The part of a filter that the console itself looks for in the rows.
fn local_text(id: Id, filter: &str) -> String {
    if has_selection(id) {
        parse_selector(filter).map_or_else(|_| String::new(), |read| read.text)
    } else {
        filter.to_owned()
    }
}

/// Moves the cursor, or the columns.
pub(super) fn walk(model: &mut Model, act: Act) -> Vec<Effect> {
    let id = model.screen;
    let Some(list) = &screens::of(id).list else {
        return Vec::new();
    };
    let half = usize::from(model.size.1 / 2).max(1);
    let page = usize::from(model.size.1).saturating_sub(6).max(1);
    let view = model.list(id);
    let n = view.order.len();
    let to = match act {
        Act::Up | Act::PreviousMatch => view.at.saturating_sub(1),
        Act::Down | Act::NextMatch => view.at + 1,
        Act::HalfUp => view.at.saturating_sub(half),
        Act::HalfDown => view.at + half,
        Act::PageUp => view.at.saturating_sub(page),
        Act::PageDown => view.at + page,
        Act::Top => 0,
        Act::Bottom => n.saturating_sub(1),
        Act::Left | Act::Right => {
            let most = list.columns.len().saturating_sub(2);
            let view = model.list_mut(id);
            view.column = match act {
                Act::Left => view.column.saturating_sub(1),
                _ => (view.column + 1).min(most),
            };
            return Vec::new();
        }
        _ => return Vec::new(),
    };
    let ids: Vec<String> = {
        let target = to.min(n.saturating_sub(1));
        view.order
            .get(target)
            .map(|row| (list.id)(model, *row))
            .into_iter()
            .collect()
    };
    let view = model.list_mut(id);
    view.at = to.min(n.saturating_sub(1));
    view.cursor = ids.into_iter().next();
    fetch_near(model, act)
}

/// Asks for the neighbouring page when the cursor is near an end of the loaded rows.
fn fetch_near(model: &mut Model, act: Act) -> Vec<Effect> {
    let id = model.screen;
    if screens::of(id).source != Source::Pages {
        return Vec::new();
    }
    let (has_before, has_after) = match id {
        Id::Pending => (model.pending.has_before(), model.pending.has_after()),
        Id::Dead => (model.dead.has_before(), model.dead.has_after()),
        Id::Audit => (model.audit.has_before(), model.audit.has_after()),
        Id::Runs => (model.drill.runs.has_before(), model.drill.runs.has_after()),
        _ => (false, false),
    };
    let view = model.list(id);
    let way = match act {
        Act::Up | Act::HalfUp | Act::PageUp | Act::Top if has_before && view.at < NEAR => {
            PageWay::Before
        }
        Act::Down | Act::HalfDown | Act::PageDown | Act::Bottom
            if has_after && view.at + NEAR >= view.order.len() =>
        {
            PageWay::After
        }
        _ => return Vec::new(),
    };
    model.ask_rows(id, way).into_iter().collect()
}

/// Marks rows.
pub(super) fn mark(model: &mut Model, act: Act) {
    let id = model.screen;
    let Some(list) = screens::of(id).list.as_ref().filter(|list| list.has_marks) else {
        model.say("no marks on this screen: its menu acts on one row at a time");
        return;
    };
    let view = model.list(id);
    let id_at = |at: usize| view.order.get(at).map(|row| (list.id)(model, *row));
    match act {
        Act::Mark => {
            let Some(mark) = id_at(view.at) else { return };
            let view = model.list_mut(id);
            if !view.marks.remove(&mark) {
                view.marks.insert(mark);
            }
            // Down, as in other programs, so that several presses mark several rows.
            let _no_page = walk(model, Act::Down);
        }
        Act::Range => {
            let Some(here) = id_at(view.at) else { return };
            let Some(anchor) = view.anchor.clone() else {
                model.list_mut(id).anchor = Some(here);
                let key = model.options.keymap.label(Act::Range).unwrap_or_default();
                model.say(format!("range begun; go to its other end and press {key}"));
                return;
            };
            let from = (0..view.order.len()).find(|at| id_at(*at).as_deref() == Some(&anchor));
            let marks: BTreeSet<String> = match from {
                Some(from) => (from.min(view.at)..=from.max(view.at))
                    .filter_map(id_at)
                    .collect(),
                None => BTreeSet::new(),
            };
            let is_lost = marks.is_empty();
            let view = model.list_mut(id);
            view.anchor = None;
            view.marks.extend(marks);
            if is_lost {
                model.complain("the range's first row is gone; nothing was marked");
            }
        }
        Act::MarkAll => {
            let marks: BTreeSet<String> = (0..view.order.len()).filter_map(id_at).collect();
            model.list_mut(id).marks = marks;
        }
        Act::ClearMarks => {
            let view = model.list_mut(id);
            view.marks.clear();
            view.anchor = None;
        }
        _ => {}
    }
}

/// Sorts by the next column, or the other way round.
pub(super) fn sort(model: &mut Model, act: Act) {
    let id = model.screen;
    let Some(list) = &screens::of(id).list else {
        return;
    };
    let view = model.list_mut(id);
    view.sort = match (view.sort, act) {
        (None, _) => Some((0, act == Act::Reverse)),
        (Some((column, reverse)), Act::Reverse) => Some((column, !reverse)),
        // After the last column the screen's own order comes back.
        (Some((column, _)), _) if column + 1 >= list.columns.len() => None,
        (Some((column, _)), _) => Some((column + 1, false)),
    };
    let said = match view.sort {
        None => "in the screen's own order".to_owned(),
        Some((column, reverse)) => format!(
            "sorted by {}{}{}",
            list.columns[column].title,
            if reverse { ", greatest first" } else { "" },
            if screens::of(id).source == Source::Pages {
                ", of the loaded rows"
            } else {
                ""
            },
        ),
    };
    model.say(said);
    reorder(model);
}

/// Opens the filter line with what stands in it.
pub(super) fn begin_filter(model: &mut Model) {
    let id = model.screen;
    if screens::of(id).list.is_none() {
        model.say("nothing to filter on this screen");
        return;
    }
    let view = model.list_mut(id);
    view.typing = Some(TextField::new(&view.filter));
}

/// A key for the filter line: Enter keeps it, Esc clears it, anything else edits.
pub(super) fn type_filter(model: &mut Model, key: Key) -> Vec<Effect> {
    let id = model.screen;
    let Some(field) = model.list_mut(id).typing.as_mut() else {
        return Vec::new();
    };
    match key {
        Key::Enter => {
            let text = field.text().trim().to_owned();
            if has_selection(id)
                && let Err(why) = parse_selector(&text)
            {
                model.complain(why);
                return Vec::new();
            }
            model.list_mut(id).typing = None;
            return set_filter(model, text);
        }
        Key::Esc => {
            model.list_mut(id).typing = None;
            return set_filter(model, String::new());
        }
        _ => {
            field.press(key);
            reorder(model);
        }
    }
    Vec::new()
}

/// Takes a filter; a paged list is asked for anew when the daemon's part of it changes.
pub(super) fn set_filter(model: &mut Model, filter: String) -> Vec<Effect> {
    let id = model.screen;
    let before = model.selection(id);
    let view = model.list_mut(id);
    view.filter = filter;
    // Marks of rows that are out of sight would be acted on unseen.
    view.marks.clear();
    view.anchor = None;
    if has_selection(id) && model.selection(id) != before {
        model.empty_pages(id);
        reorder(model);
        return model.ask_rows(id, PageWay::First).into_iter().collect();
    }
    reorder(model);
    Vec::new()
}

/// Copies the id of the row under the cursor.
pub(super) fn copy(model: &mut Model) -> Vec<Effect> {
    let id = model.screen;
    let Some(list) = &screens::of(id).list else {
        model.say("nothing to copy on this screen");
        return Vec::new();
    };
    let view = model.list(id);
    let Some(row) = view.row() else {
        model.say("no row to copy");
        return Vec::new();
    };
    let text = (list.cells)(model, row)
        .first()
        .map(|cell| cell.text.clone())
        .unwrap_or_default();
    vec![Effect::Copy(text)]
}

/// Writes the shown rows as CSV.
pub(super) fn export(model: &mut Model) -> Vec<Effect> {
    use crate::output::clean::csv_cell;
    let id = model.screen;
    let screen = screens::of(id);
    let Some(list) = &screen.list else {
        model.say("nothing to export on this screen");
        return Vec::new();
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    let titles = list
        .columns
        .iter()
        .map(|column| column.title.to_lowercase());
    let mut is_written = writer.write_record(titles).is_ok();
    for row in &model.list(id).order {
        let cells = (list.cells)(model, *row);
        is_written &= writer
            .write_record(cells.iter().map(|cell| csv_cell(&cell.text)))
            .is_ok();
    }
    let content = writer
        .into_inner()
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    match content.filter(|_| is_written) {
        Some(content) => vec![Effect::Export {
            name: screen.name,
            content,
        }],
        None => {
            model.complain("could not write the rows as CSV");
            Vec::new()
        }
    }
}
