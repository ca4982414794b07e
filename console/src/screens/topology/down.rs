//! The flow from top to bottom, for narrow places.

use ratatui::layout::Rect;

use super::picture::Picture;
use super::scroll;
use crate::output::human::{count, or_unknown};
use crate::screens::canvas::Canvas;
use crate::screens::stages::aged;
use crate::theme::Role;
use crate::widgets::{Ink, Node};

impl Picture<'_> {
    /// From top to bottom; branches are indented. Returns the rows used.
    pub(super) fn draw_down(&self, ink: &mut Ink<'_>, area: Rect) -> u16 {
        let n_lines: i64 = if area.height < 15 { 2 } else { 3 };
        let room = i64::from(area.width);
        // Indented as far as a box of 30 cells still fits; deeper ones say in words where they come from.
        let most = ((room - 30) / 4).max(0) * 4;
        let indent = |node: &Node| (node.branches as i64 * 4).min(most);
        let n_sources = (self.snapshot.sources.len().max(1) as i64).min(4);
        let mut places = Vec::with_capacity(self.flow.nodes.len());
        let mut y = 0;
        for (at, node) in self.flow.nodes.iter().enumerate() {
            if node.stage.is_none() {
                places.push(y);
                y += if at == 0 { n_sources + 1 } else { 2 };
                continue;
            }
            // The row above a box is for its arrow.
            y += 1;
            places.push(y);
            y += n_lines + 2;
            if node.children.is_empty() {
                y += 1;
            }
        }
        let total = y;
        let cursor = self.flow.nodes.iter().zip(&places);
        let middle = cursor
            .clone()
            .find(|(node, _)| node.stage.is_some() && node.stage == self.cursor)
            .map_or(0, |(_, y)| y + n_lines / 2);
        let top = scroll(middle, total, i64::from(area.height));
        let mut canvas = Canvas::new(ink, area, 0, top);
        for (at, node) in self.flow.nodes.iter().enumerate().rev() {
            let place = (indent(node), places[at]);
            self.draw_arrow_down(&mut canvas, node, place, n_lines, &places, indent);
        }
        for (at, node) in self.flow.nodes.iter().enumerate() {
            let y = places[at];
            let x = indent(node);
            if !canvas.is_near(y - 1, y + n_lines + 3) {
                continue;
            }
            let Some(stage) = self.stage(node) else {
                self.draw_stream_down(&mut canvas, at, y, n_sources);
                continue;
            };
            let boxed = self.stage_box(canvas.ink, node, n_lines as usize, false);
            let width = (room - x).min(60);
            canvas.draw_box(x, y, width, n_lines, &boxed);
            if node.children.is_empty() {
                let (per_s, role) = self.end(canvas.ink, stage);
                let y = y + n_lines + 2;
                canvas.glyph(x + 2, y, '└', '`', Role::Frame);
                canvas.glyph(x + 3, y, '▶', '>', Role::Frame);
                let used = canvas.text(x + 5, y, &per_s, role);
                canvas.text(x + 6 + used, y, "applied (10 s)", Role::Dim);
            }
        }
        canvas.more(total, false, false);
        u16::try_from(total).unwrap_or(u16::MAX)
    }

    fn draw_stream_down(&self, canvas: &mut Canvas<'_, '_>, at: usize, y: i64, n_sources: i64) {
        let node = &self.flow.nodes[at];
        let (name, length) = self.stream(node);
        let mut y = y;
        if at == 0 {
            for (line, (text, role)) in (y..).zip(self.source_lines(canvas.ink, n_sources as usize))
            {
                canvas.text(2, line, &text, role);
            }
            y += n_sources;
        } else {
            y += 1;
        }
        let kept = aged(canvas.ink, or_unknown(length, count));
        let circle = if node.is_circular {
            "  circle: it reads from itself"
        } else {
            ""
        };
        canvas.glyph(2, y, '▼', 'v', Role::Frame);
        let used = canvas.text(4, y, &format!("stream {name}"), Role::Title);
        let kept = format!("{kept} entries kept{circle}");
        let role = if node.is_circular {
            Role::Bad
        } else {
            Role::Dim
        };
        canvas.text(6 + used, y, &kept, role);
    }

    fn draw_arrow_down(
        &self,
        canvas: &mut Canvas<'_, '_>,
        node: &Node,
        (x, y): (i64, i64),
        n_lines: i64,
        places: &[i64],
        indent: impl Fn(&Node) -> i64,
    ) {
        let Some((at, stage)) = node.parent.zip(self.stage(node)) else {
            return;
        };
        let parent = &self.flow.nodes[at];
        let (per_s, role) = self.arrow(canvas.ink, stage);
        let from = indent(parent);
        if from < x {
            let below = match parent.stage {
                Some(_) => places[at] + n_lines + 2,
                None => y - 1,
            };
            let is_last = parent
                .children
                .last()
                .and_then(|at| self.flow.nodes.get(*at))
                == Some(node);
            // For the stream the trunk begins above its first branch and goes on from branch to branch.
            let start = match parent.stage {
                Some(_) => below,
                None => parent
                    .children
                    .first()
                    .map_or(y, |first| places[*first] - 1),
            };
            canvas.line_down(from + 2, start, y + 1);
            let (unicode, ascii) = if is_last { ('└', '`') } else { ('├', '+') };
            canvas.glyph(from + 2, y + 1, unicode, ascii, Role::Frame);
            canvas.glyph(from + 3, y + 1, '▶', '>', Role::Frame);
            let used = canvas.text(x + 2, y - 1, &per_s, role);
            canvas.text(x + 3 + used, y - 1, "(10 s)", Role::Dim);
            return;
        }
        canvas.glyph(from + 2, y - 1, '▼', 'v', Role::Frame);
        let used = canvas.text(from + 4, y - 1, &per_s, role);
        let is_only = parent.children.len() == 1;
        let words = if is_only {
            "(10 s)".to_owned()
        } else {
            format!("(10 s) from {}", stage.from)
        };
        canvas.text(from + 5 + used, y - 1, &words, Role::Dim);
    }
}
