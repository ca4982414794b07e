//! The flow from left to right.

use ratatui::layout::Rect;

use super::picture::Picture;
use super::{BOX_MOST, END, GAP, scroll};
use crate::screens::canvas::Canvas;
use crate::theme::Role;
use crate::widgets::{Ink, Node};

impl Picture<'_> {
    /// From left to right: a column a level, a row of boxes a lane. Returns the rows used.
    pub(super) fn draw_across(&self, ink: &mut Ink<'_>, area: Rect, fits: usize) -> u16 {
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
                self.stage_box(canvas.ink, node, n_lines, width < 28)
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
}
