//! A table of which only the visible rows are built. Columns that do not fit give way by their rank; ids are never cut
//! before less important columns are gone.

use std::cmp::Ordering;

use ratatui::layout::Rect;

use super::Ink;
use crate::theme::Role;

/// Where a cell's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Figures.
    Right,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its title, with the unit or window where the cells do not say it.
    pub(crate) title: &'static str,
    /// Cells it needs at least.
    pub(crate) least: u16,
    /// Cells it takes at most where there is room; `u16::MAX` = all that is left.
    pub(crate) most: u16,
    /// Which goes first when there is no room: the greatest. 0 stays.
    pub(crate) rank: u8,
    /// Where its text stands.
    pub(crate) align: Align,
}

impl Column {
    /// A column of text.
    pub(crate) const fn text(title: &'static str, rank: u8, least: u16, most: u16) -> Self {
        Self {
            title,
            least,
            most,
            rank,
            align: Align::Left,
        }
    }

    /// A column of figures of a fixed width.
    pub(crate) const fn figure(title: &'static str, rank: u8, width: u16) -> Self {
        Self {
            title,
            least: width,
            most: width,
            rank,
            align: Align::Right,
        }
    }
}

/// How a cell compares with others of its column; unknown comes last either way.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) enum SortKey {
    /// By the cell's text.
    #[default]
    Text,
    /// By a figure.
    Figure(f64),
    /// Nobody knows.
    Unknown,
}

/// One cell; the text is untrusted like all text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Cell {
    /// What is shown.
    pub(crate) text: String,
    /// How.
    pub(crate) role: Role,
    /// How it compares.
    pub(crate) key: SortKey,
}

impl Cell {
    /// Plain text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// A figure as people read it, with the number it sorts by.
    pub(crate) fn figure(value: f64, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            key: SortKey::Figure(value),
            ..Self::default()
        }
    }

    /// A figure that may be unknown: `?`, never 0.
    pub(crate) fn maybe(value: Option<f64>, show: impl FnOnce(f64) -> String) -> Self {
        match value {
            Some(value) => Self::figure(value, show(value)),
            None => Self {
                text: crate::output::human::UNKNOWN.to_owned(),
                role: Role::Dim,
                key: SortKey::Unknown,
            },
        }
    }

    /// The same cell in another look.
    #[must_use]
    pub(crate) fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Whether there is something to compare by.
    pub(crate) fn is_known(&self) -> bool {
        self.key != SortKey::Unknown
    }

    /// Order of two cells of one column; an unknown one comes last.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (&self.key, &other.key) {
            (SortKey::Figure(a), SortKey::Figure(b)) => a.total_cmp(b),
            (SortKey::Unknown, SortKey::Unknown) => Ordering::Equal,
            (SortKey::Unknown, _) => Ordering::Greater,
            (_, SortKey::Unknown) => Ordering::Less,
            _ => self.text.cmp(&other.text),
        }
    }
}

/// What a table shows.
pub(crate) struct Table<'a> {
    /// Its columns.
    pub(crate) columns: &'a [Column],
    /// Rows in all.
    pub(crate) n_rows: usize,
    /// First row that is shown.
    pub(crate) offset: usize,
    /// Row under the cursor.
    pub(crate) cursor: Option<usize>,
    /// Builds the cells of one row, one per column.
    pub(crate) cells: &'a dyn Fn(usize) -> Vec<Cell>,
    /// Whether a row is marked.
    pub(crate) is_marked: &'a dyn Fn(usize) -> bool,
    /// Sorting column, and whether the other way round.
    pub(crate) sort: Option<(usize, bool)>,
    /// Columns passed over behind the first, scrolled by the operator.
    pub(crate) skip: usize,
}

/// Draws title line and rows. Two cells in front of each row are for the cursor and the mark, so that both are seen
/// without any colour.
pub(crate) fn draw_table(ink: &mut Ink<'_>, area: Rect, table: &Table<'_>) {
    if area.width < 4 || area.height == 0 {
        return;
    }
    let inner = Rect::new(area.x + 2, area.y, area.width - 2, area.height);
    let places = layout(table.columns, inner, table.skip);
    for (n, x, width) in &places {
        let column = &table.columns[*n];
        let arrow = match table.sort {
            Some((by, reverse)) if by == *n => match (ink.is_ascii(), reverse) {
                (false, false) => "▴",
                (false, true) => "▾",
                (true, false) => "^",
                (true, true) => "v",
            },
            _ => "",
        };
        let title = format!("{}{arrow}", column.title);
        match column.align {
            Align::Left => ink.text(*x, area.y, *width, &title, Role::Title),
            Align::Right => ink.right(x + width, area.y, *width, &title, Role::Title),
        };
    }
    let height = usize::from(area.height - 1);
    for (line, row) in (table.offset..table.n_rows).take(height).enumerate() {
        let y = area.y + 1 + u16::try_from(line).unwrap_or(u16::MAX);
        let is_cursor = table.cursor == Some(row);
        let is_marked = (table.is_marked)(row);
        let cells = (table.cells)(row);
        for (n, x, width) in &places {
            let Some(cell) = cells.get(*n) else { continue };
            let role = if is_marked && cell.role == Role::Plain {
                Role::Mark
            } else {
                cell.role
            };
            match table.columns[*n].align {
                Align::Left => ink.text(*x, y, *width, &cell.text, role),
                Align::Right => {
                    let start = ink.right(x + width, y, *width, &cell.text, role);
                    // An old figure is marked in the gap before it, so that nothing of it is lost.
                    if ink.is_old && matches!(cell.key, SortKey::Figure(_)) {
                        ink.glyph(start.saturating_sub(1), y, '~', '~', Role::Dim);
                    }
                    start
                }
            };
        }
        if is_cursor {
            ink.paint(Rect::new(area.x, y, area.width, 1), Role::Cursor);
            ink.glyph(area.x, y, '▶', '>', Role::Cursor);
        }
        if is_marked {
            ink.glyph(
                area.x + 1,
                y,
                '*',
                '*',
                if is_cursor { Role::Cursor } else { Role::Mark },
            );
        }
    }
}

/// Which columns are shown, where, and how wide.
fn layout(columns: &[Column], area: Rect, skip: usize) -> Vec<(usize, u16, u16)> {
    let mut shown: Vec<usize> = (0..columns.len())
        .filter(|n| *n == 0 || *n > skip.min(columns.len().saturating_sub(2)))
        .collect();
    let needed = |shown: &[usize]| -> u32 {
        shown
            .iter()
            .map(|n| u32::from(columns[*n].least) + 1)
            .sum::<u32>()
            .saturating_sub(1)
    };
    while shown.len() > 1 && needed(&shown) > u32::from(area.width) {
        // The last of the greatest rank gives way; scrolled tables lose what is furthest right instead.
        let goes = if skip > 0 {
            shown.len() - 1
        } else {
            let greatest = shown.iter().map(|n| columns[*n].rank).max().unwrap_or(0);
            shown
                .iter()
                .rposition(|n| columns[*n].rank == greatest)
                .unwrap_or(shown.len() - 1)
        };
        shown.remove(goes);
    }
    let mut spare = area
        .width
        .saturating_sub(u16::try_from(needed(&shown)).unwrap_or(u16::MAX));
    let mut places = Vec::with_capacity(shown.len());
    let mut x = area.x;
    // Columns that can grow share what is left, those with an upper end first.
    let mut widths: Vec<u16> = shown.iter().map(|n| columns[*n].least).collect();
    for is_open in [false, true] {
        for (at, n) in shown.iter().enumerate() {
            let column = &columns[*n];
            if (column.most == u16::MAX) != is_open {
                continue;
            }
            let more = column.most.saturating_sub(widths[at]).min(spare);
            widths[at] += more;
            spare -= more;
        }
    }
    for (at, n) in shown.iter().enumerate() {
        let width = widths[at].min(area.right().saturating_sub(x));
        places.push((*n, x, width));
        x = x.saturating_add(width + 1);
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("ID", 0, 10, 20),
        Column::text("CONSUMER", 2, 8, 8),
        Column::figure("IDLE", 1, 6),
        Column::text("ERROR", 3, 5, u16::MAX),
    ];

    fn shown(width: u16, skip: usize) -> Vec<(usize, u16)> {
        layout(COLUMNS, Rect::new(0, 0, width, 9), skip)
            .into_iter()
            .map(|(n, _, width)| (n, width))
            .collect()
    }

    #[test]
    fn columns_give_way_by_rank_and_the_id_stays_whole() {
        assert_eq!(shown(60, 0), [(0, 20), (1, 8), (2, 6), (3, 23)]);
        assert_eq!(shown(32, 0), [(0, 10), (1, 8), (2, 6), (3, 5)]);
        assert_eq!(shown(27, 0), [(0, 11), (1, 8), (2, 6)]);
        assert_eq!(shown(18, 0), [(0, 11), (2, 6)]);
        assert_eq!(shown(5, 0), [(0, 5)]);
        assert_eq!(shown(20, 2), [(0, 14), (3, 5)]);
    }

    #[test]
    fn unknown_cells_come_after_known_ones() {
        let unknown = Cell::maybe(None, |_| String::new());
        assert_eq!(
            Cell::figure(9.0, "9").compare(&Cell::figure(10.0, "10")),
            Ordering::Less
        );
        assert_eq!(Cell::figure(9.0, "9").compare(&unknown), Ordering::Less);
    }
}
