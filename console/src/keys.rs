//! Keys: what a press is called, what it does everywhere, and how a person binds it anew.
//!
//! One table feeds handling, footer and help. Screens see [`Act`]s and never keys, except for the letters of screens,
//! menus and text fields. No terminal here: `terminal` turns its events into [`Key`]s.

use std::collections::BTreeMap;
use std::fmt;

/// One key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A character as typed, with shift applied.
    Char(char),
    /// Control and a character.
    Ctrl(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Char(' ') => f.write_str("Space"),
            Self::Char(c) => write!(f, "{c}"),
            Self::Ctrl(c) => write!(f, "C-{c}"),
            Self::Enter => f.write_str("Enter"),
            Self::Esc => f.write_str("Esc"),
            Self::Tab => f.write_str("Tab"),
            Self::BackTab => f.write_str("S-Tab"),
            Self::Backspace => f.write_str("Backspace"),
            Self::Delete => f.write_str("Delete"),
            Self::Up => f.write_str("Up"),
            Self::Down => f.write_str("Down"),
            Self::Left => f.write_str("Left"),
            Self::Right => f.write_str("Right"),
            Self::Home => f.write_str("Home"),
            Self::End => f.write_str("End"),
            Self::PageUp => f.write_str("PgUp"),
            Self::PageDown => f.write_str("PgDn"),
        }
    }
}

impl Key {
    /// Reads what [`Key`]'s `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        const NAMED: [Key; 15] = [
            Key::Char(' '),
            Key::Enter,
            Key::Esc,
            Key::Tab,
            Key::BackTab,
            Key::Backspace,
            Key::Delete,
            Key::Up,
            Key::Down,
            Key::Left,
            Key::Right,
            Key::Home,
            Key::End,
            Key::PageUp,
            Key::PageDown,
        ];
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if !c.is_control() => return Some(Self::Char(c)),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("C-") {
            let mut chars = rest.chars();
            return match (chars.next(), chars.next()) {
                (Some(c), None) if c.is_ascii_graphic() => Some(Self::Ctrl(c.to_ascii_lowercase())),
                _ => None,
            };
        }
        NAMED
            .into_iter()
            .find(|key| key.to_string().eq_ignore_ascii_case(text))
    }
}

/// What a key does, wherever one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Act {
    Up,
    Down,
    Left,
    Right,
    HalfUp,
    HalfDown,
    PageUp,
    PageDown,
    Top,
    Bottom,
    Open,
    Back,
    NextScreen,
    PreviousScreen,
    Mark,
    Range,
    MarkAll,
    ClearMarks,
    Filter,
    NextMatch,
    PreviousMatch,
    Menu,
    Palette,
    Help,
    Sort,
    Reverse,
    Freeze,
    Copy,
    Export,
    Earlier,
    Later,
    Live,
    Journal,
    Redraw,
    Quit,
    Abort,
}

/// An act with its name in the configuration, its default keys, and what help says.
pub(crate) struct Binding {
    pub(crate) act: Act,
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [Key],
    pub(crate) help: &'static str,
}

const fn bind(act: Act, name: &'static str, keys: &'static [Key], help: &'static str) -> Binding {
    Binding {
        act,
        name,
        keys,
        help,
    }
}

/// Every act, in the order of the help.
pub(crate) static BINDINGS: &[Binding] = &[
    bind(Act::Up, "up", &[Key::Up, Key::Char('k')], "one row up"),
    bind(
        Act::Down,
        "down",
        &[Key::Down, Key::Char('j')],
        "one row down",
    ),
    bind(
        Act::Left,
        "left",
        &[Key::Left, Key::Char('h')],
        "left: hidden columns, the cursor of a chart",
    ),
    bind(
        Act::Right,
        "right",
        &[Key::Right],
        "right: hidden columns, the cursor of a chart",
    ),
    bind(Act::HalfUp, "half-up", &[Key::Ctrl('u')], "half a page up"),
    bind(
        Act::HalfDown,
        "half-down",
        &[Key::Ctrl('d')],
        "half a page down",
    ),
    bind(Act::PageUp, "page-up", &[Key::PageUp], "a page up"),
    bind(Act::PageDown, "page-down", &[Key::PageDown], "a page down"),
    bind(
        Act::Top,
        "top",
        &[Key::Char('g'), Key::Home],
        "the first row",
    ),
    bind(
        Act::Bottom,
        "bottom",
        &[Key::Char('G'), Key::End],
        "the last row that is loaded",
    ),
    bind(
        Act::Open,
        "open",
        &[Key::Enter],
        "open what the cursor is on",
    ),
    bind(
        Act::Back,
        "back",
        &[Key::Esc],
        "back one level; never quits",
    ),
    bind(
        Act::NextScreen,
        "next-screen",
        &[Key::Tab],
        "next screen of the group",
    ),
    bind(
        Act::PreviousScreen,
        "previous-screen",
        &[Key::BackTab],
        "previous screen of the group",
    ),
    bind(
        Act::Mark,
        "mark",
        &[Key::Char(' ')],
        "mark the row, or unmark it",
    ),
    bind(
        Act::Range,
        "range",
        &[Key::Char('v')],
        "begin a range; again: mark all rows of it",
    ),
    bind(
        Act::MarkAll,
        "mark-all",
        &[Key::Char('A')],
        "mark all rows that are loaded and match",
    ),
    bind(
        Act::ClearMarks,
        "clear-marks",
        &[Key::Ctrl('\\')],
        "clear all marks",
    ),
    bind(
        Act::Filter,
        "filter",
        &[Key::Char('/')],
        "filter the rows; Enter keeps, Esc clears",
    ),
    bind(
        Act::NextMatch,
        "next-match",
        &[Key::Char('n')],
        "next row that matches",
    ),
    bind(
        Act::PreviousMatch,
        "previous-match",
        &[Key::Char('N')],
        "previous row that matches",
    ),
    bind(
        Act::Menu,
        "menu",
        &[Key::Char('x')],
        "what can be done to the row or the marked ones",
    ),
    bind(
        Act::Palette,
        "palette",
        &[Key::Char(':')],
        "every screen, action and command by name",
    ),
    bind(Act::Help, "help", &[Key::Char('?')], "help of this screen"),
    bind(
        Act::Sort,
        "sort",
        &[Key::Char('s')],
        "sort by the next column",
    ),
    bind(
        Act::Reverse,
        "reverse",
        &[Key::Char('S')],
        "sort the other way round",
    ),
    bind(
        Act::Freeze,
        "freeze",
        &[Key::Char('f')],
        "hold the picture still; the pipeline goes on",
    ),
    bind(
        Act::Copy,
        "copy",
        &[Key::Char('y')],
        "copy the row's id to the clipboard",
    ),
    bind(
        Act::Export,
        "export",
        &[Key::Char('e')],
        "write the list to a CSV file",
    ),
    bind(
        Act::Earlier,
        "earlier",
        &[Key::Char('[')],
        "time cursor of a chart: earlier",
    ),
    bind(
        Act::Later,
        "later",
        &[Key::Char(']')],
        "time cursor of a chart: later",
    ),
    bind(Act::Live, "live", &[Key::Char('L')], "back to now"),
    bind(
        Act::Journal,
        "journal",
        &[Key::Char('@')],
        "what was done from here, with the equal commands",
    ),
    bind(
        Act::Redraw,
        "redraw",
        &[Key::Ctrl('l')],
        "draw everything anew",
    ),
    bind(
        Act::Quit,
        "quit",
        &[Key::Char('q')],
        "quit from a screen; asks while a plan runs",
    ),
    bind(
        Act::Abort,
        "abort",
        &[Key::Ctrl('c')],
        "quit at once, from anywhere",
    ),
];

/// Keys by what they do, defaults changed by the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Keymap {
    acts: BTreeMap<Key, Act>,
}

impl Default for Keymap {
    fn default() -> Self {
        let acts = BINDINGS
            .iter()
            .flat_map(|binding| binding.keys.iter().map(|key| (*key, binding.act)))
            .collect();
        Self { acts }
    }
}

impl Keymap {
    /// Defaults with some acts bound anew. A key that is given is taken from the act that had it.
    ///
    /// # Errors
    /// One sentence per entry that names no act, or no key, or takes Ctrl-C from `abort`.
    pub(crate) fn with(changes: &BTreeMap<String, Vec<String>>) -> Result<Self, Vec<String>> {
        let mut this = Self::default();
        let mut faults = Vec::new();
        for (name, keys) in changes {
            let Some(binding) = BINDINGS.iter().find(|binding| binding.name == name) else {
                let known: Vec<&str> = BINDINGS.iter().map(|binding| binding.name).collect();
                faults.push(format!(
                    "[keys] {name}: no such act; known are {}",
                    known.join(", ")
                ));
                continue;
            };
            this.acts.retain(|_, act| *act != binding.act);
            for text in keys {
                match Key::parse(text) {
                    Some(Key::Ctrl('c')) if binding.act != Act::Abort => {
                        faults.push(format!("[keys] {name}: C-c always quits"));
                    }
                    Some(key) => {
                        this.acts.insert(key, binding.act);
                    }
                    None => faults.push(format!(
                        "[keys] {name}: {text:?} is no key; write a character, C-x, Enter, Esc, Tab, S-Tab, Space, Up, PgUp ..."
                    )),
                }
            }
        }
        this.acts.insert(Key::Ctrl('c'), Act::Abort);
        if faults.is_empty() {
            Ok(this)
        } else {
            Err(faults)
        }
    }

    /// What the key does.
    pub(crate) fn act(&self, key: Key) -> Option<Act> {
        self.acts.get(&key).copied()
    }

    /// The keys of an act, as people write them, such as `Up k`; empty when it has none.
    pub(crate) fn keys_of(&self, act: Act) -> Vec<Key> {
        let default = BINDINGS.iter().find(|binding| binding.act == act);
        let rank = |key: &Key| {
            default
                .and_then(|binding| binding.keys.iter().position(|known| known == key))
                .unwrap_or(usize::MAX)
        };
        let mut keys: Vec<Key> = self
            .acts
            .iter()
            .filter(|(_, bound)| **bound == act)
            .map(|(key, _)| *key)
            .collect();
        keys.sort_by_key(rank);
        keys
    }

    /// The first key of an act for a footer.
    pub(crate) fn label(&self, act: Act) -> Option<String> {
        self.keys_of(act).first().map(ToString::to_string)
    }
}
