//! A titled frame. In narrow or flat places it is only a ruled title, because a frame costs two columns and two rows.

use ratatui::layout::Rect;

use super::Ink;
use crate::theme::Role;

/// Draws a frame with a title and returns what is inside. With `is_boxed` false: a title line with a rule behind it.
pub(crate) fn panel(ink: &mut Ink<'_>, area: Rect, title: &str, is_boxed: bool) -> Rect {
    if area.width == 0 || area.height == 0 {
        return Rect::new(area.x, area.y, 0, 0);
    }
    if !is_boxed || area.width < 8 || area.height < 3 {
        ink.rule(area.x, area.y, area.width, Role::Frame);
        if !title.is_empty() && area.width > 4 {
            let title = format!(" {title} ");
            ink.text(area.x + 2, area.y, area.width - 4, &title, Role::Title);
        }
        return Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    }
    let (left, right) = (area.left(), area.right() - 1);
    let (top, bottom) = (area.top(), area.bottom() - 1);
    ink.rule(left, top, area.width, Role::Frame);
    ink.rule(left, bottom, area.width, Role::Frame);
    for y in top + 1..bottom {
        ink.glyph(left, y, '│', '|', Role::Frame);
        ink.glyph(right, y, '│', '|', Role::Frame);
    }
    for (x, y, unicode) in [
        (left, top, '┌'),
        (right, top, '┐'),
        (left, bottom, '└'),
        (right, bottom, '┘'),
    ] {
        ink.glyph(x, y, unicode, '+', Role::Frame);
    }
    if !title.is_empty() {
        let title = format!(" {title} ");
        ink.text(left + 2, top, area.width - 4, &title, Role::Title);
    }
    Rect::new(left + 1, top + 1, area.width - 2, area.height - 2)
}
