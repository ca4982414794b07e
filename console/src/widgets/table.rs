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
    let height = usize::from(area.height - 1);
    let rows: Vec<(usize, Vec<Cell>)> = (table.offset..table.n_rows)
        .take(height)
        .map(|row| (row, (table.cells)(row)))
        .collect();
    let places = layout(table.columns, &wanted(ink, table, &rows), inner, table.skip);
    draw_titles(ink, area.y, table, &places);
    for (line, (row, cells)) in rows.iter().enumerate() {
        let y = area.y + 1 + u16::try_from(line).unwrap_or(u16::MAX);
        let is_cursor = table.cursor == Some(*row);
        let is_marked = (table.is_marked)(*row);
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
                    let has_mark = cell.text.starts_with('~');
                    if ink.is_old && !has_mark && matches!(cell.key, SortKey::Figure(_)) {
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
        let mark = match (is_marked, ink.is_old) {
            (true, _) => Some(('*', Role::Mark)),
            // Old rows say so without any colour.
            (false, true) => Some(('~', Role::Dim)),
            (false, false) => None,
        };
        if let Some((glyph, role)) = mark {
            let role = if is_cursor { Role::Cursor } else { role };
            ink.glyph(area.x + 1, y, glyph, glyph, role);
        }
    }
}

/// Cells that each column would like, by its title and by the rows in sight.
fn wanted(ink: &Ink<'_>, table: &Table<'_>, rows: &[(usize, Vec<Cell>)]) -> Vec<u16> {
    let columns = table.columns.iter().enumerate();
    columns
        .map(|(n, column)| {
            let cells = rows.iter().filter_map(|(_, cells)| cells.get(n));
            cells
                .map(|cell| ink.width_within(&cell.text, column.most))
                .chain([ink.width_of(column.title)])
                .max()
                .unwrap_or(0)
        })
        .collect()
}

fn draw_titles(ink: &mut Ink<'_>, y: u16, table: &Table<'_>, places: &[(usize, u16, u16)]) {
    for (n, x, width) in places {
        let column = &table.columns[*n];
        let end = match column.align {
            Align::Left => x + ink.text(*x, y, *width, column.title, Role::Title),
            Align::Right => {
                ink.right(x + width, y, *width, column.title, Role::Title);
                x + width
            }
        };
        // Behind the title, where a column's gap is: a title is never cut for it.
        if let Some((by, reverse)) = table.sort
            && by == *n
        {
            let (unicode, ascii) = if reverse { ('▾', 'v') } else { ('▴', '^') };
            ink.glyph(end, y, unicode, ascii, Role::Title);
        }
    }
}

/// Which columns are shown, where, and how wide. A column wants what its visible cells want, between its least and most;
/// one that is open to the end wants at least that and takes what is left.
fn layout(columns: &[Column], wanted: &[u16], area: Rect, skip: usize) -> Vec<(usize, u16, u16)> {
    let wish = |n: usize| {
        let column = &columns[n];
        wanted
            .get(n)
            .copied()
            .unwrap_or(0)
            .clamp(column.least, column.most.max(column.least))
    };
    let mut shown: Vec<usize> = (0..columns.len())
        .filter(|n| *n == 0 || *n > skip.min(columns.len().saturating_sub(2)))
        .collect();
    // What has rank 0 is shown as wide as it wants to be before anything of a higher rank is shown at all.
    let needed = |shown: &[usize]| -> u32 {
        shown
            .iter()
            .map(|n| {
                let least = if columns[*n].rank == 0 {
                    wish(*n)
                } else {
                    columns[*n].least
                };
                u32::from(least) + 1
            })
            .sum::<u32>()
            .saturating_sub(1)
    };
    let is_core = |shown: &[usize]| {
        let least: u32 = shown.iter().map(|n| u32::from(columns[*n].least) + 1).sum();
        shown.iter().all(|n| columns[*n].rank == 0) && least <= u32::from(area.width) + 1
    };
    while shown.len() > 1 && needed(&shown) > u32::from(area.width) && !is_core(&shown) {
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
    let mut widths: Vec<u16> = shown.iter().map(|n| columns[*n].least).collect();
    let used = widths
        .iter()
        .map(|width| u32::from(*width) + 1)
        .sum::<u32>();
    let mut spare = (u32::from(area.width) + 1).saturating_sub(used);
    let mut give = |width: &mut u16, upto: u16| {
        let more = u32::from(upto.saturating_sub(*width)).min(spare);
        // At most a terminal's width.
        *width += u16::try_from(more).unwrap_or(0);
        spare -= more;
    };
    // First what is wanted, the important ones before the others; then the rest to those that are open to the end.
    let mut by_rank: Vec<usize> = (0..shown.len()).collect();
    by_rank.sort_by_key(|at| columns[shown[*at]].rank);
    for at in &by_rank {
        give(&mut widths[*at], wish(shown[*at]));
    }
    for (at, n) in shown.iter().enumerate() {
        if columns[*n].most == u16::MAX {
            give(&mut widths[at], u16::MAX);
        }
    }
    let mut places = Vec::with_capacity(shown.len());
    let mut x = area.x;
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
        layout(COLUMNS, &[15, 8, 4, 40], Rect::new(0, 0, width, 9), skip)
            .into_iter()
            .map(|(n, _, width)| (n, width))
            .collect()
    }

    #[test]
    fn columns_give_way_by_rank_and_the_id_stays_whole() {
        assert_eq!(shown(80, 0), [(0, 15), (1, 8), (2, 6), (3, 48)]);
        assert_eq!(shown(60, 0), [(0, 15), (1, 8), (2, 6), (3, 28)]);
        assert_eq!(shown(32, 0), [(0, 15), (1, 8), (2, 6)]);
        assert_eq!(shown(27, 0), [(0, 15), (2, 6)]);
        assert_eq!(shown(18, 0), [(0, 15)]);
        assert_eq!(shown(5, 0), [(0, 5)]);
        assert_eq!(shown(24, 2), [(0, 15), (3, 8)]);
    }

    #[test]
    fn a_column_grows_no_further_than_its_rows_need() {
        let places = layout(COLUMNS, &[12, 8, 6, 5], Rect::new(0, 0, 60, 9), 0);
        let widths: Vec<u16> = places.iter().map(|(_, _, width)| *width).collect();
        assert_eq!(widths, [12, 8, 6, 31]);
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
