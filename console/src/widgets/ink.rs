//! The only way text gets into the picture. Everything is cleaned as untrusted text, our own words too, so that no screen
//! can forget it: control and format characters become visible, bytes that would move the terminal's cursor never reach
//! it, wide characters never stand half outside.

use pipectl_shared::untrusted::{Mode, Untrusted};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr as _;

use crate::theme::{Role, Theme};

/// No terminal is wider; and sums of a few such widths still fit.
const WIDEST: u16 = 8_192;

/// A buffer to write on, with the looks in use.
pub(crate) struct Ink<'a> {
    buffer: &'a mut Buffer,
    theme: Theme,
    /// Values are old: they get a mark and are dimmed by those who draw them.
    pub(crate) is_old: bool,
}

impl<'a> Ink<'a> {
    /// Writes on `buffer`.
    pub(crate) fn new(buffer: &'a mut Buffer, theme: Theme) -> Self {
        Self {
            buffer,
            theme,
            is_old: false,
        }
    }

    /// Whether only seven bits may be drawn.
    pub(crate) fn is_ascii(&self) -> bool {
        self.theme.is_ascii()
    }

    /// The whole buffer.
    pub(crate) fn area(&self) -> Rect {
        self.buffer.area
    }

    /// Writes one line of text from `x` rightwards, at most `width` cells of it; longer text ends with a mark. Returns the
    /// cells used. Outside the buffer nothing happens.
    pub(crate) fn text(&mut self, x: u16, y: u16, width: u16, text: &str, role: Role) -> u16 {
        self.bytes(x, y, width, text.as_bytes(), role)
    }

    /// The same for bytes of any encoding.
    pub(crate) fn bytes(&mut self, x: u16, y: u16, width: u16, text: &[u8], role: Role) -> u16 {
        let area = self.buffer.area;
        if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
            return 0;
        }
        let width = width.min(area.right() - x);
        let mode = if self.is_ascii() {
            Mode::Ascii
        } else {
            Mode::Unicode
        };
        let shown = Untrusted::new(text).to_display(Some(usize::from(width)), mode);
        let style = self.theme.style(role);
        let (end, _) = self
            .buffer
            .set_stringn(x, y, &shown.text, usize::from(width), style);
        let replaced = self.theme.style(Role::Replaced);
        for range in &shown.marked {
            let before = shown.text[..range.start].width();
            let within = shown.text[range.clone()].width();
            for at in before..before + within {
                let at = x.saturating_add(u16::try_from(at).unwrap_or(u16::MAX));
                if at < end
                    && let Some(cell) = self.buffer.cell_mut((at, y))
                {
                    cell.set_style(replaced);
                }
            }
        }
        end - x
    }

    /// Writes several pieces one behind the other in at most `width` cells; returns the cells used.
    pub(crate) fn pieces(&mut self, x: u16, y: u16, width: u16, pieces: &[(&str, Role)]) -> u16 {
        let mut used = 0;
        for (text, role) in pieces {
            if used >= width {
                break;
            }
            used += self.text(x.saturating_add(used), y, width - used, text, *role);
        }
        used
    }

    /// Writes text so that it ends before `right`, at most `width` cells of it; returns where it begins.
    pub(crate) fn right(&mut self, right: u16, y: u16, width: u16, text: &str, role: Role) -> u16 {
        let wanted = self.width_of(text).min(width);
        let x = right.saturating_sub(wanted);
        self.text(x, y, wanted, text, role);
        x
    }

    /// Cells that a text takes once it is cleaned; [`WIDEST`] for all that are longer.
    pub(crate) fn width_of(&self, text: &str) -> u16 {
        self.width_within(text, WIDEST)
    }

    /// The same for a text of which at most so many cells matter; cheap for long ones.
    pub(crate) fn width_within(&self, text: &str, most: u16) -> u16 {
        let mode = if self.is_ascii() {
            Mode::Ascii
        } else {
            Mode::Unicode
        };
        let shown = Untrusted::from(text).to_display(Some(usize::from(most)), mode);
        u16::try_from(shown.width).unwrap_or(most)
    }

    /// Gives every cell of a part the look of a role, keeping what stands there.
    pub(crate) fn paint(&mut self, area: Rect, role: Role) {
        let style = self.theme.style(role);
        let area = area.intersection(self.buffer.area);
        self.buffer.set_style(area, style);
    }

    /// Empties a part.
    pub(crate) fn clear(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                if let Some(cell) = self.buffer.cell_mut((x, y)) {
                    cell.reset();
                }
            }
        }
    }

    /// One of our own glyphs, given as Unicode and as ASCII; never data.
    pub(crate) fn glyph(&mut self, x: u16, y: u16, unicode: char, ascii: char, role: Role) {
        debug_assert!(ascii.is_ascii_graphic() || ascii == ' ');
        let glyph = if self.is_ascii() { ascii } else { unicode };
        let style = self.theme.style(role);
        if let Some(cell) = self.buffer.cell_mut((x, y)) {
            cell.set_char(glyph).set_style(style);
        }
    }

    /// A horizontal line.
    pub(crate) fn rule(&mut self, x: u16, y: u16, width: u16, role: Role) {
        for at in x..x.saturating_add(width) {
            self.glyph(at, y, '─', '-', role);
        }
    }

    /// Text over several lines, broken at spaces, in at most `area`; returns the lines used.
    pub(crate) fn wrapped(&mut self, area: Rect, text: &str, role: Role) -> u16 {
        let mut y = area.top();
        let mut line = String::new();
        let flush = |line: &mut String, y: &mut u16, ink: &mut Self| {
            if !line.is_empty() && *y < area.bottom() {
                ink.text(area.left(), *y, area.width, line, role);
                *y += 1;
            }
            line.clear();
        };
        // A line holds at most its width, so what is looked at is bounded by the area.
        let most = usize::from(area.width) * usize::from(area.height);
        let text: String = text.chars().take(most * 4).collect();
        for word in text.split(' ') {
            let wanted = self.width_of(&line) + 1 + self.width_of(word);
            if !line.is_empty() && wanted > area.width {
                flush(&mut line, &mut y, self);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            // A word wider than the line is cut by `text` with its mark; but nothing is lost of a long command: break it.
            while self.width_of(&line) > area.width && area.width > 0 && y < area.bottom() {
                let mut head = String::new();
                for c in line.chars() {
                    head.push(c);
                    if self.width_of(&head) > area.width {
                        head.pop();
                        break;
                    }
                }
                if head.is_empty() {
                    break;
                }
                let rest = line[head.len()..].to_owned();
                flush(&mut head, &mut y, self);
                line = rest;
            }
        }
        flush(&mut line, &mut y, self);
        y - area.top()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::{Charset, Depth};

    const PLAIN: Theme = Theme {
        depth: Depth::Mono,
        charset: Charset::Unicode,
    };

    fn line(buffer: &Buffer, y: u16) -> String {
        (0..buffer.area.width)
            .map(|x| buffer[(x, y)].symbol())
            .collect()
    }

    #[test]
    fn no_control_character_reaches_a_cell() {
        for hostile in pipectl_shared::untrusted::corpus::hostile() {
            let mut buffer = Buffer::empty(Rect::new(0, 0, 40, 2));
            let mut ink = Ink::new(&mut buffer, PLAIN);
            ink.bytes(0, 0, 40, hostile.bytes.as_slice(), Role::Plain);
            ink.wrapped(
                Rect::new(0, 1, 40, 1),
                &String::from_utf8_lossy(&hostile.bytes),
                Role::Plain,
            );
            for cell in &buffer.content {
                assert!(
                    !cell.symbol().chars().any(|c| c.is_control()),
                    "{:?}",
                    cell.symbol()
                );
            }
        }
    }

    #[test]
    fn text_stays_inside_and_says_that_it_was_cut() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        let mut ink = Ink::new(&mut buffer, PLAIN);
        assert_eq!(ink.text(2, 0, 99, "abcdefgh", Role::Plain), 6);
        assert_eq!(ink.text(9, 0, 4, "x", Role::Plain), 0);
        assert_eq!(ink.text(0, 5, 4, "x", Role::Plain), 0);
        assert_eq!(line(&buffer, 0), "  abcde…");
    }

    #[test]
    fn a_long_command_is_broken_and_never_cut() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 10, 4));
        let mut ink = Ink::new(&mut buffer, PLAIN);
        let used = ink.wrapped(
            Rect::new(0, 0, 10, 4),
            "claim --id 1234567890-12345 now",
            Role::Plain,
        );
        assert_eq!(used, 3);
        let all: String = (0..4).map(|y| line(&buffer, y)).collect();
        assert_eq!(all.replace(' ', ""), "claim--id1234567890-12345now");
    }
}
