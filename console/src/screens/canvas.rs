//! A drawing that may be larger than its place: boxes and lines in coordinates of their own, of which a window is shown.

use ratatui::layout::Rect;

use super::stages::Piece;
use crate::theme::Role;
use crate::widgets::Ink;

/// What stands in a box.
#[derive(Debug, Default)]
pub(super) struct Boxed {
    /// In its upper edge, at the left.
    pub(super) title: String,
    /// In its upper edge, at the right.
    pub(super) state: Piece,
    /// Inside.
    pub(super) lines: Vec<Piece>,
    /// Whether the cursor is on it.
    pub(super) is_cursor: bool,
    /// Whether it is not what was asked for.
    pub(super) is_dim: bool,
}

/// The window.
pub(super) struct Canvas<'a, 'b> {
    /// What it is drawn with.
    pub(super) ink: &'a mut Ink<'b>,
    area: Rect,
    left: i64,
    top: i64,
}

impl<'a, 'b> Canvas<'a, 'b> {
    /// Shows the drawing from `left`, `top` on.
    pub(super) fn new(ink: &'a mut Ink<'b>, area: Rect, left: i64, top: i64) -> Self {
        Self {
            ink,
            area,
            left,
            top,
        }
    }

    /// Whether rows from `from` to before `to` touch the window.
    pub(super) fn is_near(&self, from: i64, to: i64) -> bool {
        to > self.top && from < self.top + i64::from(self.area.height)
    }

    fn x(&self, x: i64) -> Option<u16> {
        let x = u16::try_from(x - self.left).ok()?;
        (x < self.area.width).then(|| self.area.x + x)
    }

    fn y(&self, y: i64) -> Option<u16> {
        let y = u16::try_from(y - self.top).ok()?;
        (y < self.area.height).then(|| self.area.y + y)
    }

    /// Text as far as the window goes; nothing where it would begin before it. Returns the cells used.
    pub(super) fn text(&mut self, x: i64, y: i64, text: &str, role: Role) -> i64 {
        self.text_in(x, y, i64::MAX, text, role)
    }

    fn text_in(&mut self, x: i64, y: i64, width: i64, text: &str, role: Role) -> i64 {
        let (Some(x), Some(y)) = (self.x(x), self.y(y)) else {
            return 0;
        };
        let room = self.area.right() - x;
        let width = u16::try_from(width.max(0)).unwrap_or(u16::MAX).min(room);
        i64::from(self.ink.text(x, y, width, text, role))
    }

    /// One of our own glyphs.
    pub(super) fn glyph(&mut self, x: i64, y: i64, unicode: char, ascii: char, role: Role) {
        if let (Some(x), Some(y)) = (self.x(x), self.y(y)) {
            self.ink.glyph(x, y, unicode, ascii, role);
        }
    }

    /// From `x` to before `to`.
    pub(super) fn line_across(&mut self, x: i64, to: i64, y: i64) {
        if self.y(y).is_none() {
            return;
        }
        let to = to.min(self.left + i64::from(self.area.width));
        for x in x.max(self.left)..to {
            self.glyph(x, y, '─', '-', Role::Frame);
        }
    }

    /// From `y` to before `to`.
    pub(super) fn line_down(&mut self, x: i64, y: i64, to: i64) {
        if self.x(x).is_none() {
            return;
        }
        let to = to.min(self.top + i64::from(self.area.height));
        for y in y.max(self.top)..to {
            self.glyph(x, y, '│', '|', Role::Frame);
        }
    }

    /// A box with `n_lines` lines inside. The one under the cursor has a heavy frame and a mark, so that it is seen without
    /// any colour.
    pub(super) fn draw_box(&mut self, x: i64, y: i64, width: i64, n_lines: i64, boxed: &Boxed) {
        let (right, bottom) = (x + width - 1, y + n_lines + 1);
        let role = if boxed.is_cursor {
            Role::Key
        } else {
            Role::Frame
        };
        let edge = |light: char, heavy: char| if boxed.is_cursor { heavy } else { light };
        let (flat, side, corner) = if boxed.is_cursor {
            ('=', '#', '#')
        } else {
            ('-', '|', '+')
        };
        for row in [y, bottom] {
            for column in x + 1..right {
                self.glyph(column, row, edge('─', '━'), flat, role);
            }
        }
        for row in y + 1..bottom {
            self.glyph(x, row, edge('│', '┃'), side, role);
            self.glyph(right, row, edge('│', '┃'), side, role);
        }
        for (column, row, light, heavy) in [
            (x, y, '┌', '┏'),
            (right, y, '┐', '┓'),
            (x, bottom, '└', '┗'),
            (right, bottom, '┘', '┛'),
        ] {
            self.glyph(column, row, edge(light, heavy), corner, role);
        }
        let dimmed = |role: Role| if boxed.is_dim { Role::Dim } else { role };
        let state_width = match boxed.state.0.as_str() {
            "" => 0,
            state => i64::from(self.ink.width_of(state)) + 2,
        };
        let title = format!(" {} ", boxed.title);
        let room = (width - 4 - state_width).max(0);
        let title_role = if boxed.is_cursor {
            Role::Cursor
        } else {
            dimmed(Role::Strong)
        };
        self.text_in(x + 2, y, room, &title, title_role);
        if boxed.is_cursor {
            self.glyph(x + 1, y, '▶', '>', Role::Cursor);
        }
        if state_width > 0 && state_width + 4 < width {
            let state = format!(" {} ", boxed.state.0);
            let role = dimmed(boxed.state.1);
            self.text_in(right - state_width - 1, y, state_width, &state, role);
        }
        let lines = boxed
            .lines
            .iter()
            .take(usize::try_from(n_lines).unwrap_or(0));
        for (row, (text, role)) in (y + 1..bottom).zip(lines) {
            self.text_in(x + 2, row, width - 4, text, dimmed(*role));
        }
    }

    /// Marks at the right edge that there is more above, below, before or behind.
    pub(super) fn more(&mut self, n_rows: i64, is_before: bool, is_behind: bool) {
        let height = i64::from(self.area.height);
        if self.area.width < 12 || height < 3 {
            return;
        }
        // Where there is hardly room the glyph alone says it.
        let word = if self.area.width < 70 { "" } else { " more" };
        let mut mark = |y: u16, unicode: &str, ascii: &str| {
            let glyph = if self.ink.is_ascii() { ascii } else { unicode };
            let text = format!("{glyph}{word}");
            self.ink.right(self.area.right(), y, 10, &text, Role::Key);
        };
        let bottom = self.area.bottom() - 1;
        if self.top > 0 {
            mark(self.area.y, "▲", "^");
        }
        if self.top + height < n_rows {
            mark(bottom, "▼", "v");
        }
        if is_behind {
            mark(bottom - 1, "▶", ">");
        }
        if is_before {
            let text = if self.ink.is_ascii() {
                "< more "
            } else {
                "◀ more "
            };
            self.ink.text(self.area.x, bottom, 10, text, Role::Key);
        }
    }
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::theme::{Charset, Depth, Theme};

    #[test]
    fn nothing_is_drawn_outside_the_window() {
        let theme = Theme {
            depth: Depth::Mono,
            charset: Charset::Ascii,
        };
        let area = Rect::new(5, 5, 10, 4);
        let boxed = Boxed {
            title: "a name that is too long".to_owned(),
            state: ("RUNNING".to_owned(), Role::Good),
            lines: vec![("a line that is too long".to_owned(), Role::Plain); 9],
            is_cursor: true,
            is_dim: false,
        };
        for (left, top) in [(0, 0), (-3, -3), (4, 4), (1_000_000, -1_000_000), (15, 2)] {
            let mut buffer = Buffer::empty(Rect::new(0, 0, 30, 20));
            let mut ink = Ink::new(&mut buffer, theme);
            let mut canvas = Canvas::new(&mut ink, area, left, top);
            canvas.draw_box(0, 0, 24, 5, &boxed);
            canvas.line_across(-10, i64::MAX, 1);
            canvas.line_down(1, -10, i64::MAX);
            canvas.more(1_000, true, true);
            for y in 0..20 {
                for x in 0..30 {
                    let is_inside = area.contains((x, y).into());
                    assert!(is_inside || buffer[(x, y)].symbol() == " ", "{x} {y}");
                }
            }
        }
    }
}
