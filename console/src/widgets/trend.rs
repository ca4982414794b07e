//! A trend line of eighths: one column a point, the scale printed by who calls. A gap is a blank, zero is the lowest bar:
//! never the same glyph for both.

use super::Ink;
use crate::theme::Role;

const UNICODE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// Draws the last `width` points from `x`, the newest at the right end. The scale runs from 0 to the greatest of them,
/// which is returned; `None` when there is no point.
pub(crate) fn trend(
    ink: &mut Ink<'_>,
    x: u16,
    y: u16,
    width: u16,
    points: &[Option<f64>],
    role: Role,
) -> Option<f64> {
    let shown = &points[points.len().saturating_sub(usize::from(width))..];
    let greatest = shown
        .iter()
        .flatten()
        .copied()
        .filter(|value| value.is_finite())
        .reduce(f64::max)?;
    let start = x.saturating_add(width - u16::try_from(shown.len()).unwrap_or(width));
    for (column, point) in (start..).zip(shown) {
        let Some(value) = point.filter(|value| value.is_finite()) else {
            continue;
        };
        let level = if greatest <= 0.0 {
            0
        } else {
            // 0..=7, and only the greatest reaches the top.
            ((value / greatest * 7.0).round().clamp(0.0, 7.0)) as usize
        };
        ink.glyph(column, y, UNICODE[level], ASCII[level], role);
    }
    Some(greatest)
}

/// The same as text for a cell of a table, as long as `points`; a gap is a blank here too.
pub(crate) fn trend_line(points: &[Option<f64>], is_ascii: bool) -> String {
    let glyphs = if is_ascii { ASCII } else { UNICODE };
    let finite = |value: &f64| value.is_finite();
    let greatest = points.iter().flatten().copied().filter(finite);
    let greatest = greatest.fold(0.0, f64::max);
    let glyph = |point: &Option<f64>| match point.filter(finite) {
        None => ' ',
        Some(_) if greatest <= 0.0 => glyphs[0],
        Some(value) => glyphs[(value / greatest * 7.0).round().clamp(0.0, 7.0) as usize],
    };
    points.iter().map(glyph).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::layout::Rect;

    use super::*;
    use crate::theme::{Charset, Depth, Theme};

    fn drawn(points: &[Option<f64>], charset: Charset) -> (String, Option<f64>) {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 1));
        let theme = Theme {
            depth: Depth::Mono,
            charset,
        };
        let greatest = trend(
            &mut Ink::new(&mut buffer, theme),
            0,
            0,
            6,
            points,
            Role::First,
        );
        (
            buffer.content.iter().map(|c| c.symbol()).collect(),
            greatest,
        )
    }

    #[test]
    fn a_gap_is_blank_and_zero_is_a_bar() {
        let points = [Some(0.0), None, Some(4.0), Some(8.0)];
        assert_eq!(
            drawn(&points, Charset::Unicode),
            ("  ▁ ▅█".to_owned(), Some(8.0))
        );
        assert_eq!(
            drawn(&points, Charset::Ascii),
            ("  _ =#".to_owned(), Some(8.0))
        );
        assert_eq!(drawn(&[Some(0.0), Some(0.0)], Charset::Unicode).0, "    ▁▁");
        assert_eq!(
            drawn(&[None, None], Charset::Unicode),
            ("      ".to_owned(), None)
        );
        assert_eq!(
            drawn(&[Some(f64::NAN), Some(f64::INFINITY)], Charset::Unicode).1,
            None
        );
    }
}
