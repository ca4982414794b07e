//! `view(&model, ink)`: the whole picture, drawn anew each time from the model alone.
//!
//! ```text
//! shop  LIVE  redis 7.0.15 up  up 3d04h                14:03:27Z  RW operator
//! 1 Health  2 Work  3 Data  4 Drill  5 Log  6 System   [Pending] Dead Causes Consumers
//! !! CRITICAL pending.stuck: ...                                             +2
//! (body of the screen)
//! enter open  space mark  x act  / filter  s sort  f freeze  : palette  ? help
//! ```

mod chrome;
mod detail;
mod dialogs;
mod drill;
mod help;
#[cfg(test)]
mod pictures;
mod plans;
mod small;

use ratatui::layout::Rect;

use crate::facts::Freshness;
use crate::model::{Layer, Model};
use crate::screens;
use crate::widgets::Ink;

/// Below this many columns or rows only the state and the alerts are drawn.
const SMALL: (u16, u16) = (40, 12);

/// Draws everything.
pub(crate) fn view(model: &Model, ink: &mut Ink<'_>) {
    let area = ink.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    ink.is_old = matches!(
        model.facts.freshness(model.now_ms),
        Freshness::Stale(_) | Freshness::Gone(_)
    );
    if area.width < SMALL.0 || area.height < SMALL.1 {
        small::draw(model, ink, area);
        return;
    }
    let top = chrome::draw_top(model, ink, area);
    let foot = Rect::new(area.x, area.bottom() - 1, area.width, 1);
    let body = Rect::new(area.x, area.y + top, area.width, area.height - top - 1);
    let is_covered = matches!(
        model.layers.last(),
        Some(Layer::Detail(_) | Layer::Run(_) | Layer::Help(_) | Layer::Journal(_))
    );
    if !is_covered {
        (screens::of(model.screen).draw)(model, ink, body);
    }
    for layer in &model.layers {
        match layer {
            Layer::Help(line) => help::draw_help(model, ink, body, *line),
            Layer::Journal(at) => help::draw_journal(model, ink, body, *at),
            Layer::Menu(menu) => dialogs::draw_menu(ink, body, menu),
            Layer::Palette(palette) => dialogs::draw_palette(model, ink, body, palette),
            Layer::Form(form) => dialogs::draw_form(ink, body, form),
            Layer::Plan(step) => plans::draw_plan(model, ink, body, step),
            Layer::Rehearsal(rehearsal) => drill::draw_rehearsal(ink, body, rehearsal),
            Layer::Run(view) => drill::draw_run(ink, body, view),
            Layer::Detail(detail) => detail::draw(model, ink, body, detail),
            Layer::Quit(focus) => dialogs::draw_quit(ink, body, *focus),
        }
    }
    chrome::draw_foot(model, ink, foot);
}
