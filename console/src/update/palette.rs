//! Keys of the palette. What it offers is in `screens`.

use super::dialogs::choose;
use crate::keys::Key;
use crate::message::Effect;
use crate::model::{Layer, Model};
use crate::screens::matches;

/// Lines remembered.
const PAST_MAX: usize = 50;

/// A key for the palette.
pub(super) fn press(model: &mut Model, key: Key) -> Vec<Effect> {
    let Some(Layer::Palette(palette)) = model.layers.last() else {
        return Vec::new();
    };
    let typed = palette.field.text().to_owned();
    let at = palette.at;
    let n = matches(model, &typed).len();
    match key {
        Key::Esc => {
            model.layers.pop();
            return Vec::new();
        }
        Key::Enter => {
            let Some(item) = matches(model, &typed).into_iter().nth(at) else {
                model.complain(format!("no screen, action or command fits {typed}"));
                return Vec::new();
            };
            if !typed.trim().is_empty() {
                model.palette_past.retain(|line| *line != typed);
                model.palette_past.push(typed);
                if model.palette_past.len() > PAST_MAX {
                    model.palette_past.remove(0);
                }
            }
            return choose(model, item);
        }
        _ => {}
    }
    let past = model.palette_past.clone();
    let completed = matches(model, &typed).get(at).map(|item| {
        item.label
            .split(" -- ")
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    let Some(Layer::Palette(palette)) = model.layers.last_mut() else {
        return Vec::new();
    };
    match key {
        Key::Down => palette.at = (at + 1).min(n.saturating_sub(1)),
        Key::Up if at > 0 => palette.at = at - 1,
        Key::Up => {
            // From the top of the list further up: what was typed before.
            let back = (palette.past + 1).min(past.len());
            if let Some(line) = past.len().checked_sub(back).and_then(|n| past.get(n)) {
                palette.past = back;
                palette.field = crate::model::TextField::new(line);
            }
        }
        Key::Tab => {
            if let Some(label) = completed {
                palette.field = crate::model::TextField::new(&label);
                palette.at = 0;
            }
        }
        _ => {
            if palette.field.press(key) {
                palette.at = 0;
            }
        }
    }
    Vec::new()
}
