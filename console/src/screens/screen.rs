//! The contract of a screen. A screen is data and pure functions; its state is in the model, its keys are everybody's.

use ratatui::layout::Rect;

use crate::keys::Act;
use crate::message::Effect;
use crate::model::{Item, Model};
use crate::place::{Group, Id};
use crate::widgets::{Cell, Column, Ink};

/// One screen of the gallery.
pub(crate) struct Screen {
    /// Its name in code.
    pub(crate) id: Id,
    /// Where it stands in the bar.
    pub(crate) group: Group,
    /// Its name in the bar.
    pub(crate) name: &'static str,
    /// Jumps to it inside its group; a letter of its name that no act has.
    pub(crate) letter: char,
    /// What question it answers, for help and palette; one sentence.
    pub(crate) about: &'static str,
    /// What its figures and marks mean, for help; line by line.
    pub(crate) legend: &'static [&'static str],
    /// Its list, where it has one.
    pub(crate) list: Option<List>,
    /// The source of what it shows, which is asked for when it opens and from time to time.
    pub(crate) source: Source,
    /// What can be done to the chosen rows; the menu on `x`.
    pub(crate) items: fn(&Model) -> Vec<Item>,
    /// Enter: what opens, in a word for the footer, and how; `None` = nothing.
    pub(crate) open: Option<Open>,
    /// Acts that mean something of its own here; `None` = what they mean everywhere.
    pub(crate) act: fn(&mut Model, Act) -> Option<Vec<Effect>>,
    /// Draws its body. Nothing of it reaches outside the area.
    pub(crate) draw: fn(&Model, &mut Ink<'_>, Rect),
}

/// What Enter opens, in a word, and how.
pub(crate) type Open = (&'static str, fn(&mut Model) -> Vec<Effect>);

/// Where a screen's rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The Snapshot, which comes by itself.
    Snapshot,
    /// Pages that are asked for.
    Pages,
    /// The exact latency document.
    Latency,
}

/// A list on a screen. Rows are numbered as they come; the model's list view orders and filters them.
pub(crate) struct List {
    /// What the rows are, for counts: `entries`.
    pub(crate) noun: &'static str,
    /// Whether rows can be marked, because its menu acts on several at once.
    pub(crate) has_marks: bool,
    /// Columns of its table.
    pub(crate) columns: &'static [Column],
    /// Rows that are there.
    pub(crate) n_rows: fn(&Model) -> usize,
    /// A row's lasting name.
    pub(crate) id: fn(&Model, usize) -> String,
    /// A row's cells, one per column.
    pub(crate) cells: fn(&Model, usize) -> Vec<Cell>,
}

/// For screens without an own meaning of any act.
pub(crate) fn no_act(_: &mut Model, _: Act) -> Option<Vec<Effect>> {
    None
}

/// For screens where nothing can be done.
pub(crate) fn no_items(_: &Model) -> Vec<Item> {
    Vec::new()
}
