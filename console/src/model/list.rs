//! Where an operator is in a list. The cursor holds on to a row's id, so that rows that come and go never put it on
//! another row without being seen.

use std::collections::BTreeSet;

use super::TextField;

/// Cursor, marks, filter and order of one list.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListView {
    /// Id of the row under the cursor; `None` = the first row.
    pub(crate) cursor: Option<String>,
    /// Position of the cursor in `order`.
    pub(crate) at: usize,
    /// Rows that are shown, as indices of the screen's rows, in order.
    pub(crate) order: Vec<usize>,
    /// Ids of marked rows.
    pub(crate) marks: BTreeSet<String>,
    /// Id of the row where a range begins.
    pub(crate) anchor: Option<String>,
    /// Keeps rows with this text in some cell.
    pub(crate) filter: String,
    /// The filter while it is typed.
    pub(crate) typing: Option<TextField>,
    /// Column that sorts, and whether the other way round; `None` = the screen's own order.
    pub(crate) sort: Option<(usize, bool)>,
    /// First column that is shown behind the first, when they do not all fit.
    pub(crate) column: usize,
}

impl ListView {
    /// Puts the cursor on a position of `order`; `id_of` gives the id of a row.
    pub(crate) fn go(&mut self, at: usize, id_of: impl Fn(usize) -> String) {
        self.at = at.min(self.order.len().saturating_sub(1));
        self.cursor = self.order.get(self.at).map(|row| id_of(*row));
    }

    /// Takes a new order; the cursor stays on its row, or where it was if that row is gone. Says whether it is gone.
    pub(crate) fn reorder(&mut self, order: Vec<usize>, id_of: impl Fn(usize) -> String) -> bool {
        self.order = order;
        if let Some(id) = &self.cursor {
            if let Some(at) = self.order.iter().position(|row| id_of(*row) == *id) {
                self.at = at;
                return false;
            }
            let at = self.at;
            self.go(at, id_of);
            return true;
        }
        self.go(0, id_of);
        false
    }

    /// The row under the cursor, as an index of the screen's rows.
    pub(crate) fn row(&self) -> Option<usize> {
        self.order.get(self.at).copied()
    }

    /// First visible position when `height` rows fit: the cursor stays in view, with a row around it where there is room.
    pub(crate) fn offset(&self, height: usize) -> usize {
        let n = self.order.len();
        if height == 0 || n <= height {
            return 0;
        }
        // Without a stored offset: the cursor sits in the middle once the list is longer than the screen.
        self.at.saturating_sub(height / 2).min(n - height)
    }
}
