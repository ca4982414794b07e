//! Tables: aligned, right-aligned numbers, and on narrow terminals first the least important columns go, then cells are
//! cut with `…`.

use unicode_width::UnicodeWidthStr as _;

use super::clean;
use super::text::{Tone, split_at_width};

const GAP: &str = "  ";

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its header.
    pub(crate) name: &'static str,
    /// Whether its cells are numbers, aligned at the right.
    pub(crate) right: bool,
    /// 0 never goes; the greatest goes first.
    pub(crate) priority: u8,
    /// Cells it can be cut down to; a column of numbers is never cut, because half a number is a lie.
    pub(crate) least: usize,
}

impl Column {
    /// A column of text that can be cut down to `least` cells.
    pub(crate) const fn text(name: &'static str, priority: u8, least: usize) -> Self {
        Self {
            name,
            right: false,
            priority,
            least,
        }
    }

    /// A column of numbers.
    pub(crate) const fn number(name: &'static str, priority: u8) -> Self {
        Self {
            name,
            right: true,
            priority,
            least: usize::MAX,
        }
    }
}

/// A cell; untrusted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

impl Cell {
    /// A plain cell.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            tone: Tone::Plain,
            text: text.into(),
        }
    }

    /// The cell in another tone.
    #[must_use]
    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }
}

/// Rows under columns; every row has as many cells as there are columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    pub(super) fn render(&self, width: Option<usize>, colour: bool, out: &mut String) {
        let clean: Vec<Vec<(Tone, String)>> = self
            .rows
            .iter()
            .map(|row| {
                row.iter()
                    .map(|cell| (cell.tone, clean::line(&cell.text)))
                    .collect()
            })
            .collect();
        let mut widths: Vec<Option<usize>> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let widest = clean
                    .iter()
                    .filter_map(|row| row.get(at))
                    .map(|(_, text)| text.width())
                    .max();
                Some(widest.unwrap_or(0).max(column.name.width()))
            })
            .collect();
        let hidden = width
            .map(|width| fit(self.columns, &mut widths, width))
            .unwrap_or_default();
        let header = self
            .columns
            .iter()
            .map(|column| (Tone::Dim, column.name.to_owned()))
            .collect::<Vec<_>>();
        for row in std::iter::once(&header).chain(&clean) {
            self.row(row, &widths, colour, out);
        }
        if !hidden.is_empty() {
            let note = format!("too narrow for: {}", hidden.join(", ").to_lowercase());
            let (head, tail) =
                split_at_width(&note, width.unwrap_or(usize::MAX).saturating_sub(1).max(1));
            let note = if tail.is_empty() {
                head.to_owned()
            } else {
                format!("{head}…")
            };
            out.push_str(&Tone::Dim.paint(&note, colour));
            out.push('\n');
        }
    }

    fn row(
        &self,
        row: &[(Tone, String)],
        widths: &[Option<usize>],
        colour: bool,
        out: &mut String,
    ) {
        let mut line = String::new();
        let mut pending = String::new();
        for ((column, (tone, text)), width) in self.columns.iter().zip(row).zip(widths) {
            let Some(width) = *width else { continue };
            let text = clean::fit(text, width);
            let pad = " ".repeat(width.saturating_sub(text.width()));
            if column.right {
                line.push_str(&pending);
                line.push_str(&pad);
                line.push_str(&tone.paint(&text, colour));
                pending = GAP.to_owned();
            } else if text.is_empty() {
                pending.push_str(&pad);
                pending.push_str(GAP);
            } else {
                line.push_str(&pending);
                line.push_str(&tone.paint(&text, colour));
                pending = pad + GAP;
            }
        }
        out.push_str(line.trim_end_matches(' '));
        out.push('\n');
    }
}

/// Hides and narrows columns until the table fits. Returns the names of the hidden ones.
fn fit(columns: &[Column], widths: &mut [Option<usize>], limit: usize) -> Vec<&'static str> {
    let total = |widths: &[Option<usize>]| {
        let shown = widths.iter().flatten();
        shown.clone().sum::<usize>() + GAP.len() * shown.count().saturating_sub(1)
    };
    let least = |widths: &[Option<usize>]| {
        let narrow: Vec<Option<usize>> = columns
            .iter()
            .zip(widths)
            .map(|(column, width)| {
                width.map(|width| width.min(column.least.max(column.name.width())))
            })
            .collect();
        total(&narrow)
    };
    let mut hidden = Vec::new();
    while least(widths) > limit {
        let shown = columns
            .iter()
            .zip(widths.iter())
            .enumerate()
            .filter(|(_, (_, width))| width.is_some());
        let Some((at, (column, _))) = shown
            .filter(|(_, (column, _))| column.priority > 0)
            .max_by_key(|(_, (column, _))| column.priority)
        else {
            break;
        };
        hidden.push(column.name);
        widths[at] = None;
    }
    // The widest text column gives first.
    while total(widths) > limit {
        let givers =
            columns
                .iter()
                .zip(widths.iter())
                .enumerate()
                .filter_map(|(at, (column, width))| {
                    let width = (*width)?;
                    (!column.right && width > column.least.max(1)).then_some((width, at))
                });
        let Some((width, at)) = givers.max() else {
            break;
        };
        widths[at] = Some(width - 1);
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("STAGE", 0, 6),
        Column::number("LAG", 1),
        Column::text("REASON", 3, 6),
        Column::number("PENDING", 2),
    ];

    fn table() -> Table {
        let mut table = Table::new(COLUMNS);
        for (stage, lag, reason, pending) in [
            ("normalise", "12,400", "", "0"),
            ("count", "?", "redis is away for a long time", "17"),
        ] {
            table
                .rows
                .push([stage, lag, reason, pending].map(Cell::new).to_vec());
        }
        table
    }

    fn at(width: Option<usize>) -> String {
        let mut out = String::new();
        table().render(width, false, &mut out);
        out
    }

    #[test]
    fn numbers_stand_at_the_right() {
        let expected = "\
STAGE         LAG  REASON                         PENDING
normalise  12,400                                       0
count           ?  redis is away for a long time       17
";
        assert_eq!(at(None), expected);
    }

    #[test]
    fn narrow_terminals_first_cut_text_and_then_hide_columns() {
        let cut = at(Some(40));
        assert!(cut.contains("redis") && cut.contains('…'), "{cut}");
        let hidden = at(Some(30));
        assert!(
            !hidden.contains("REASON") && hidden.contains("too narrow for: reason"),
            "{hidden}"
        );
    }

    #[test]
    fn no_width_makes_a_line_longer_than_the_terminal_while_a_column_can_give() {
        for width in 15..80 {
            for line in at(Some(width)).lines() {
                assert!(line.width() <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn a_number_is_never_cut() {
        for width in 1..80 {
            let made = at(Some(width));
            assert!(
                made.contains("12,400") || !made.contains("12,"),
                "{width}: {made}"
            );
        }
    }

    #[test]
    fn wide_letters_are_counted_as_two_cells() {
        assert_eq!(clean::fit("漢字漢字", 5), "漢字…");
        assert_eq!(clean::fit("漢字", 1), "…");
    }
}
