//! Rows of a list that the daemon pages: only a few pages are loaded, whatever the length of the list.

use std::collections::VecDeque;

use pipectl_shared::snapshot::Page;

use super::PageWay;

/// Rows a page.
pub(crate) const PAGE_ROWS: u32 = 200;

/// Pages kept; more are dropped at the other end.
const PAGES_MAX: usize = 5;

/// Cursors of pages before the loaded ones that are remembered: a million entries.
const CURSORS_MAX: usize = 10_000;

/// A window of pages.
#[derive(Debug, Clone)]
pub(crate) struct Pages<T> {
    pages: VecDeque<Vec<T>>,
    /// Cursor with which each page from the start of the list was asked; the loaded ones are its last.
    cursors: Vec<Option<String>>,
    /// Cursor of the page behind the last loaded one.
    next: Option<String>,
    /// Rows that match in all, where it is known.
    pub(crate) total: Option<u64>,
    /// Whether an answer ever came.
    pub(crate) is_loaded: bool,
    /// When the last answer came, on the model's clock.
    pub(crate) at_ms: u64,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: VecDeque::new(),
            cursors: Vec::new(),
            next: None,
            total: None,
            is_loaded: false,
            at_ms: 0,
        }
    }
}

impl<T> Pages<T> {
    /// Rows loaded.
    pub(crate) fn len(&self) -> usize {
        self.pages.iter().map(Vec::len).sum()
    }

    /// The row at a position of the loaded ones.
    pub(crate) fn get(&self, mut at: usize) -> Option<&T> {
        for page in &self.pages {
            if at < page.len() {
                return page.get(at);
            }
            at -= page.len();
        }
        None
    }

    /// Rows of the list before the loaded ones, about.
    pub(crate) fn n_before(&self) -> usize {
        (self.cursors.len() - self.pages.len().min(self.cursors.len())) * PAGE_ROWS as usize
    }

    /// Whether there is more behind.
    pub(crate) fn has_after(&self) -> bool {
        self.next.is_some()
    }

    /// Whether there is more before.
    pub(crate) fn has_before(&self) -> bool {
        self.cursors.len() > self.pages.len()
    }

    /// Cursor of the page to ask for.
    pub(crate) fn cursor(&self, way: PageWay, at: usize) -> Option<String> {
        let first = self.cursors.len() - self.pages.len().min(self.cursors.len());
        match way {
            PageWay::First => None,
            PageWay::After => self.next.clone(),
            PageWay::Before => first
                .checked_sub(1)
                .and_then(|at| self.cursors.get(at))
                .cloned()
                .flatten(),
            PageWay::Again => self
                .cursors
                .get(first + self.page_of(at))
                .cloned()
                .flatten(),
        }
    }

    fn page_of(&self, mut at: usize) -> usize {
        for (n, page) in self.pages.iter().enumerate() {
            if at < page.len() {
                return n;
            }
            at -= page.len();
        }
        self.pages.len().saturating_sub(1)
    }

    /// Takes an answer. `at` is the row the cursor was on when it was asked ([`PageWay::Again`]). Returns by how many rows
    /// the loaded ones moved, so that a cursor without an id can follow.
    pub(crate) fn take(
        &mut self,
        page: Page<T>,
        way: PageWay,
        asked_with: Option<String>,
        now_ms: u64,
    ) {
        self.is_loaded = true;
        self.at_ms = now_ms;
        if page.total.is_some() || way == PageWay::First {
            self.total = page.total;
        }
        match way {
            PageWay::First => {
                self.pages.clear();
                self.pages.push_back(page.rows);
                self.cursors = vec![None];
                self.next = page.next;
            }
            PageWay::Again => {
                let first = self.cursors.len() - self.pages.len().min(self.cursors.len());
                let found = (0..self.pages.len())
                    .find(|n| self.cursors.get(first + n) == Some(&asked_with));
                // A page that is no longer loaded answers too late.
                let Some(n) = found else { return };
                self.pages[n] = page.rows;
                if n + 1 == self.pages.len() {
                    self.next = page.next;
                }
            }
            PageWay::After => {
                if self.next != asked_with || self.cursors.len() >= CURSORS_MAX {
                    return;
                }
                self.pages.push_back(page.rows);
                self.cursors.push(asked_with);
                self.next = page.next;
                if self.pages.len() > PAGES_MAX {
                    self.pages.pop_front();
                }
            }
            PageWay::Before => {
                let first = self.cursors.len() - self.pages.len().min(self.cursors.len());
                if first == 0 || self.cursors.get(first - 1) != Some(&asked_with) {
                    return;
                }
                self.pages.push_front(page.rows);
                if self.pages.len() > PAGES_MAX {
                    self.pages.pop_back();
                    self.next = self.cursors.pop().flatten();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(from: u32, next: Option<&str>) -> Page<u32> {
        Page {
            rows: (from..from + PAGE_ROWS).collect(),
            next: next.map(str::to_owned),
            total: Some(1_000_000),
        }
    }

    #[test]
    fn a_window_moves_over_a_long_list_and_back() {
        let mut pages = Pages::default();
        pages.take(page(0, Some("1")), PageWay::First, None, 1);
        for n in 1..20 {
            let cursor = pages.cursor(PageWay::After, 0);
            assert_eq!(cursor, Some(n.to_string()));
            let next = (n + 1).to_string();
            pages.take(page(n * PAGE_ROWS, Some(&next)), PageWay::After, cursor, 1);
        }
        assert_eq!(pages.len(), PAGES_MAX * PAGE_ROWS as usize);
        assert_eq!(pages.get(0), Some(&(15 * PAGE_ROWS)));
        assert_eq!(pages.n_before(), 15 * PAGE_ROWS as usize);
        for n in (0..15).rev() {
            assert!(pages.has_before());
            let cursor = pages.cursor(PageWay::Before, 0);
            pages.take(page(n * PAGE_ROWS, None), PageWay::Before, cursor, 1);
            assert_eq!(pages.get(0), Some(&(n * PAGE_ROWS)));
        }
        assert!(!pages.has_before() && pages.has_after());
        assert_eq!(pages.cursor(PageWay::After, 0), Some("5".to_owned()));
    }

    #[test]
    fn an_answer_that_comes_too_late_changes_nothing() {
        let mut pages = Pages::default();
        pages.take(page(0, Some("1")), PageWay::First, None, 1);
        pages.take(page(9, Some("3")), PageWay::After, Some("2".to_owned()), 1);
        pages.take(page(9, None), PageWay::Before, Some("0".to_owned()), 1);
        pages.take(page(9, None), PageWay::Again, Some("7".to_owned()), 1);
        assert_eq!((pages.len(), pages.get(0)), (200, Some(&0)));
        assert_eq!(pages.cursor(PageWay::After, 0), Some("1".to_owned()));
    }
}
