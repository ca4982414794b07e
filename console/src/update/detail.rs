//! The detail view: walking through fields and lines, text or hex, pages of large fields.

use pipectl_shared::snapshot::Field;

use crate::keys::{Act, Key};
use crate::message::{Answer, Effect, Fault};
use crate::model::{DetailOf, Layer, Model, PayloadView};
use crate::widgets::payload_lines;

/// Bytes of a page of a field, as the daemon cuts them.
const FIELD_PAGE: u64 = 16 * 1024;

/// Takes a payload that came.
pub(super) fn take(model: &mut Model, answer: Result<Answer, Fault>) {
    let Some(Layer::Detail(detail)) = model.layers.last_mut() else {
        return;
    };
    match (answer, &mut detail.of) {
        (Ok(Answer::PendingEntry(row)), DetailOf::Pending(shown)) if row.id == shown.id => {
            let fields = merge(shown.fields.take(), row.fields.clone(), detail.offset);
            *shown = row;
            shown.fields = fields;
            detail.fault = None;
        }
        (Ok(Answer::DeadEntry(row)), DetailOf::Dead(shown)) if row.id == shown.id => {
            let fields = merge(shown.fields.take(), row.fields.clone(), detail.offset);
            *shown = row;
            shown.fields = fields;
            detail.fault = None;
        }
        (Ok(_), _) => {
            detail.fault = Some(Fault {
                message: "the daemon answered with another entry".to_owned(),
                hint: None,
            });
        }
        (Err(fault), _) => detail.fault = Some(fault),
    }
}

/// A page of one field replaces that field; the first page is the whole list.
fn merge(old: Option<Vec<Field>>, new: Option<Vec<Field>>, offset: u64) -> Option<Vec<Field>> {
    match (old, new) {
        (Some(mut old), Some(new)) if offset > 0 => {
            for field in new {
                if let Some(at) = old.iter().position(|known| known.name == field.name) {
                    old[at] = field;
                }
            }
            Some(old)
        }
        (old, None) => old,
        (_, new) => new,
    }
}

/// A key for the detail view.
pub(super) fn press(model: &mut Model, key: Key, act: Option<Act>) -> Vec<Effect> {
    let page = usize::from(model.size.1).saturating_sub(8).max(1);
    // A frame takes two columns where there is one.
    let width = usize::from(model.size.0).saturating_sub(if model.size.0 >= 60 { 2 } else { 0 });
    let Some(Layer::Detail(detail)) = model.layers.last_mut() else {
        return Vec::new();
    };
    let n_fields = detail.of.fields().map_or(0, <[Field]>::len);
    // Past its end there is nothing to see, and a long way back.
    let last_line = detail.of.fields().map_or(0, |fields| {
        let is_hex = detail.view == PayloadView::Hex;
        let n = payload_lines(fields, detail.field, is_hex, width).count();
        n.saturating_sub(1)
    });
    match (act, key) {
        (Some(Act::Back | Act::Quit), _) => {
            model.layers.pop();
        }
        (Some(Act::Menu), _) => {
            // The menu is about the row beneath, which is the one that is shown.
            super::dialogs::open_menu(model);
        }
        (Some(Act::Help), _) => model.layers.push(Layer::Help(0)),
        (Some(Act::Down), _) => detail.line = (detail.line + 1).min(last_line),
        (Some(Act::Up), _) => detail.line = detail.line.saturating_sub(1),
        (Some(Act::PageDown | Act::HalfDown), _) => {
            detail.line = (detail.line + page).min(last_line);
        }
        (Some(Act::PageUp | Act::HalfUp), _) => detail.line = detail.line.saturating_sub(page),
        (Some(Act::Top), _) => detail.line = 0,
        (Some(Act::Bottom), _) => detail.line = last_line.saturating_sub(page / 2),
        (Some(Act::NextScreen), _) => {
            detail.field = if n_fields == 0 {
                0
            } else {
                (detail.field + 1) % n_fields
            };
            (detail.line, detail.offset) = (0, 0);
        }
        (Some(Act::PreviousScreen), _) => {
            detail.field = if n_fields == 0 {
                0
            } else {
                (detail.field + n_fields - 1) % n_fields
            };
            (detail.line, detail.offset) = (0, 0);
        }
        (Some(Act::Later | Act::Earlier), _) => {
            let Some(field) = detail
                .of
                .fields()
                .and_then(|fields| fields.get(detail.field))
            else {
                return Vec::new();
            };
            let to = if act == Some(Act::Later) {
                detail.offset + FIELD_PAGE
            } else {
                detail.offset.saturating_sub(FIELD_PAGE)
            };
            if to >= field.size || to == detail.offset {
                return Vec::new();
            }
            detail.offset = to;
            detail.line = 0;
            return model.ask_detail().into_iter().collect();
        }
        (Some(Act::Copy), _) => {
            let id = match &detail.of {
                DetailOf::Pending(row) => row.id.clone(),
                DetailOf::Dead(row) => row.id.clone(),
            };
            return vec![Effect::Copy(id)];
        }
        // h is `left` everywhere else; there is nothing to the left here.
        (_, Key::Char('h')) => {
            detail.view = match detail.view {
                PayloadView::Text => PayloadView::Hex,
                PayloadView::Hex => PayloadView::Text,
            };
            detail.line = 0;
        }
        (_, Key::Char('r')) => return model.ask_detail().into_iter().collect(),
        _ => {}
    }
    Vec::new()
}
