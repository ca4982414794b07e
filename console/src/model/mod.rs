//! Everything the console knows: what the daemon told, where the operator is, what is open. `update` changes it, `view`
//! draws it, nothing else holds state. No terminal, no socket, no clock: time comes with the messages.

mod ask;
mod detail;
mod drill;
mod experiment;
mod field;
mod layer;
mod list;
mod pages;
mod selector;
mod slots;

use std::collections::{BTreeMap, HashMap};

use pipectl_shared::rpc::Role;
use pipectl_shared::snapshot::{Audit, Cause, Dead, Latency, Pending};

pub(crate) use detail::{Detail, DetailOf, PayloadView};
pub(crate) use drill::{Drill, MARKS_MAX, Watch};
pub(crate) use experiment::N_COMMON;
pub(crate) use field::TextField;
pub(crate) use layer::{
    Confirm, Focus, Form, FormOf, Item, ItemKind, Layer, Menu, Palette, PlanStep, Rehearsal,
    RunView,
};
pub(crate) use list::ListView;
pub(crate) use pages::{PAGE_ROWS, Pages};
pub(crate) use selector::{has_selection, parse_selector, word};
pub(crate) use slots::{Series, SlotBook, Span};

use crate::facts::Facts;
use crate::history::History;
use crate::keys::Keymap;
use crate::message::{Fault, Ticket};
use crate::place::{Group, Id};
use crate::theme::Theme;

/// What was decided at the start and does not change.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Refuse whatever would change something.
    pub(crate) read_only: bool,
    /// Looks.
    pub(crate) theme: Theme,
    /// Keys.
    pub(crate) keymap: Keymap,
}

/// A word in the footer that goes away by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Untrusted.
    pub(crate) text: String,
    /// Whether something went wrong.
    pub(crate) is_bad: bool,
    /// On the model's clock.
    pub(crate) until_ms: u64,
}

/// Something that was done from this console, with the shell command that does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deed {
    /// Milliseconds since 1970 by the daemon's clock; 0 = unknown.
    pub(crate) ts_ms: u64,
    /// What, in words; untrusted.
    pub(crate) what: String,
    /// The equal shell command; untrusted.
    pub(crate) command: String,
    /// How it ended; `None` while under way; untrusted.
    pub(crate) result: Option<String>,
    /// Plan that it ran, if one.
    pub(crate) plan: Option<String>,
    /// Which answer says how it ended.
    pub(crate) awaits: Purpose,
}

impl Deed {
    /// One that is no plan, and under way.
    pub(crate) fn of(what: &str, command: String, awaits: Purpose) -> Self {
        Self {
            ts_ms: 0,
            what: what.to_owned(),
            command,
            result: None,
            plan: None,
            awaits,
        }
    }
}

/// Deeds kept.
const DEEDS_MAX: usize = 200;

/// Why a question was asked, so that its answer finds its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Rows of a list, where they go, and the cursor they were asked with.
    Rows(Id, PageWay, Option<String>),
    /// The open detail view.
    Detail,
    /// The plan of the open dialog.
    Plan,
    /// A single command.
    Command,
    /// Figures of the latency screen.
    Latency,
    /// One stage's measure over time.
    Slots(Series),
    /// Figures from before the console was there.
    Series,
    /// How far the watched run is, by its id.
    Progress(String),
    /// The document of a run, by its id.
    Document(String),
    /// What an experiment would do.
    Rehearsal,
    /// That an experiment began.
    Begin,
    /// That what runs ends.
    Stop,
    /// That the lever moved.
    Lever,
}

/// Where an answered page goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageWay {
    /// Replaces all.
    First,
    /// Replaces the page that the cursor is on.
    Again,
    /// Behind the last.
    After,
    /// Before the first.
    Before,
}

/// The whole state.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Decided at the start.
    pub(crate) options: Options,
    /// Milliseconds since the console started; grows with the messages.
    pub(crate) now_ms: u64,
    /// Columns and rows of the terminal.
    pub(crate) size: (u16, u16),
    /// What the daemon told.
    pub(crate) facts: Facts,
    /// Figures over time.
    pub(crate) history: History,
    /// The screen that is shown.
    pub(crate) screen: Id,
    /// The screen that was shown last in each group.
    pub(crate) last: BTreeMap<Group, Id>,
    /// Cursor, marks, filter, order of each screen's list.
    pub(crate) lists: HashMap<Id, ListView>,
    /// Pending entries.
    pub(crate) pending: Pages<Pending>,
    /// Dead letters.
    pub(crate) dead: Pages<Dead>,
    /// Dead letters by cause.
    pub(crate) causes: Pages<Cause>,
    /// Rows of the audit file.
    pub(crate) audit: Pages<Audit>,
    /// Latency with its exact percentiles, asked for by the latency screen.
    pub(crate) latency: Option<Vec<Latency>>,
    /// Latency over time.
    pub(crate) slots: SlotBook,
    /// Experiments and their runs.
    pub(crate) drill: Drill,
    /// Time cursor of charts: columns back from now; `None` = now.
    pub(crate) time_back: Option<usize>,
    /// What lies over the screen, bottom first.
    pub(crate) layers: Vec<Layer>,
    /// What was done from here, oldest first.
    pub(crate) deeds: Vec<Deed>,
    /// A word in the footer.
    pub(crate) notice: Option<Notice>,
    /// Commands typed into the palette, newest last.
    pub(crate) palette_past: Vec<String>,
    /// Questions under way.
    pub(crate) asked: HashMap<Ticket, Purpose>,
    /// The last failure of each list, until it succeeds; for the body of the screen.
    pub(crate) faults: HashMap<Id, Fault>,
    /// Next ticket.
    pub(crate) next_ticket: Ticket,
    /// When the shown list was asked for last, on the model's clock.
    pub(crate) refreshed_ms: u64,
}

impl Model {
    /// A console that has heard nothing yet.
    pub(crate) fn new(options: Options, size: (u16, u16)) -> Self {
        Self {
            options,
            now_ms: 0,
            size,
            facts: Facts::default(),
            history: History::default(),
            screen: Id::Overview,
            last: BTreeMap::new(),
            lists: HashMap::new(),
            pending: Pages::default(),
            dead: Pages::default(),
            causes: Pages::default(),
            audit: Pages::default(),
            latency: None,
            slots: SlotBook::default(),
            drill: Drill::default(),
            time_back: None,
            layers: Vec::new(),
            deeds: Vec::new(),
            notice: None,
            palette_past: Vec::new(),
            asked: HashMap::new(),
            faults: HashMap::new(),
            next_ticket: 1,
            refreshed_ms: 0,
        }
    }

    /// The list of a screen; an untouched one when it was never used.
    pub(crate) fn list(&self, id: Id) -> &ListView {
        static UNTOUCHED: std::sync::LazyLock<ListView> =
            std::sync::LazyLock::new(ListView::default);
        self.lists.get(&id).unwrap_or(&UNTOUCHED)
    }

    /// The list of a screen, to change it.
    pub(crate) fn list_mut(&mut self, id: Id) -> &mut ListView {
        self.lists.entry(id).or_default()
    }

    /// Notes what was done from here.
    pub(crate) fn remember(&mut self, mut deed: Deed) {
        deed.ts_ms = self.wall_ms();
        self.deeds.push(deed);
        if self.deeds.len() > DEEDS_MAX {
            self.deeds.remove(0);
        }
    }

    /// Says something in the footer for some seconds.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice {
            text: text.into(),
            is_bad: false,
            until_ms: self.now_ms + 6_000,
        });
    }

    /// The same when something went wrong.
    pub(crate) fn complain(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice {
            text: text.into(),
            is_bad: true,
            until_ms: self.now_ms + 12_000,
        });
    }

    /// Why nothing may be changed from here now, for a person; `None` = it may.
    pub(crate) fn why_not_act(&self) -> Option<String> {
        if self.options.read_only {
            return Some("this console is read-only (--read-only)".to_owned());
        }
        if !self.facts.is_up() {
            return Some("the daemon is not connected".to_owned());
        }
        match self.facts.role() {
            Some(Role::Viewer) => {
                Some("your role is viewer; ask to be added to the group pipelined-ops".to_owned())
            }
            Some(Role::Operator | Role::Admin) => None,
            None => Some("the daemon has not greeted yet".to_owned()),
        }
    }

    /// The plan that runs from this console, if one.
    pub(crate) fn running_plan(&self) -> Option<&str> {
        self.deeds
            .iter()
            .rev()
            .find(|deed| deed.result.is_none())
            .and_then(|deed| deed.plan.as_deref())
    }

    /// Milliseconds since 1970 by the daemon's clock, as far as the last Snapshot tells; 0 = unknown.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.facts.latest().map_or(0, |snapshot| snapshot.ts_ms)
    }
}
