//! A trend of several rows: one column a point, eighths of a row as its steps. Gap and zero as in the one-row trend.

use ratatui::layout::Rect;

use super::{Ink, trend};
use crate::theme::Role;

const UNICODE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// Draws the last points that fit into `area`, the newest at its right end. The scale runs from 0 to the greatest of
/// them, which is returned; `None` when there is no point.
pub(crate) fn chart(
    ink: &mut Ink<'_>,
    area: Rect,
    points: &[Option<f64>],
    role: Role,
) -> Option<f64> {
    if area.height <= 1 {
        return match area.height {
            0 => None,
            _ => trend(ink, area.x, area.y, area.width, points, role),
        };
    }
    let shown = &points[points.len().saturating_sub(usize::from(area.width))..];
    let known = |point: &Option<f64>| point.filter(|value| value.is_finite());
    let greatest = shown.iter().filter_map(known).reduce(f64::max)?;
    let n_columns = u16::try_from(shown.len()).unwrap_or(area.width);
    for (column, point) in (area.right() - n_columns..).zip(shown) {
        let Some(value) = known(point) else { continue };
        let steps = steps(value, greatest, area.height);
        for row in 0..area.height {
            let here = steps.saturating_sub(u32::from(row) * 8).min(8);
            if here > 0 {
                let at = here as usize - 1;
                let y = area.bottom() - 1 - row;
                ink.glyph(column, y, UNICODE[at], ASCII[at], role);
            }
        }
    }
    Some(greatest)
}

/// Eighths of a row that a value fills: at least one, because an empty column is a gap; all only for the greatest.
fn steps(value: f64, greatest: f64, height: u16) -> u32 {
    let most = u32::from(height) * 8;
    if greatest <= 0.0 {
        return 1;
    }
    // Within 1..=most, so it cannot be cut.
    (value / greatest * f64::from(most))
        .round()
        .clamp(1.0, f64::from(most)) as u32
}

#[cfg(test)]
mod tests {
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::theme::{Charset, Depth, Theme};

    #[test]
    fn a_chart_fills_rows_by_eighths_and_a_gap_stays_blank() {
        let table = [
            (0.0, 1),
            (100.0, 16),
            (50.0, 8),
            (0.1, 1),
            (f64::MAX, 16),
            (-5.0, 1),
        ];
        for (value, expected) in table {
            assert_eq!(steps(value, 100.0, 2), expected, "{value}");
        }
        assert_eq!(steps(0.0, 0.0, 3), 1);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 2));
        let theme = Theme {
            depth: Depth::Mono,
            charset: Charset::Unicode,
        };
        let mut ink = Ink::new(&mut buffer, theme);
        let points = [Some(0.0), None, Some(8.0), Some(4.0)];
        let area = Rect::new(0, 0, 4, 2);
        assert_eq!(chart(&mut ink, area, &points, Role::First), Some(8.0));
        let drawn: String = buffer.content.iter().map(|c| c.symbol()).collect();
        assert_eq!(drawn, "  █ ▁ ██");
    }

    #[test]
    fn no_size_and_no_figure_panics() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 3, 3));
        let theme = Theme {
            depth: Depth::Mono,
            charset: Charset::Ascii,
        };
        let odd = [
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(-1.0),
            Some(f64::MIN_POSITIVE),
        ];
        for (width, height) in [(0, 0), (0, 3), (3, 0), (1, 1), (3, 3), (9, 9)] {
            let mut ink = Ink::new(&mut buffer, theme);
            chart(&mut ink, Rect::new(0, 0, width, height), &odd, Role::First);
            chart(&mut ink, Rect::new(0, 0, width, height), &[], Role::First);
        }
    }
}
