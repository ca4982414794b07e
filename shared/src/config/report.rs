//! Collects faults and warnings, and knows how to name the places of files, variables and flags.

use std::collections::BTreeSet;

use toml::de::Error;

use super::fault::Fault;
use super::kind::{Kind, Misfit};
use super::load::{Input, Origin};
use super::tree::{FILE, Item, Node, Place};
use super::walk::hint_of;

/// Faults that are reported one by one; a file with more of them is not a configuration.
const FAULTS_MAX: usize = 100;

/// Collects faults and knows how to name places.
#[derive(Debug)]
pub(super) struct Reporter<'a> {
    file_name: &'a str,
    text: &'a str,
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
    /// Sources after the file.
    overrides: Vec<Override>,
    faults: Vec<Found>,
    warnings: Vec<Found>,
    /// Lines with a fault of syntax: what stands there was not read as it was meant.
    broken: BTreeSet<usize>,
}

/// What to do about an error of the TOML parser, by the beginning of its message.
const SYNTAX_HINTS: [(&str, &str); 5] = [
    ("duplicate key", "keep one of the two"),
    (
        "string values must be quoted",
        "put the text into quotes: key = \"text\"",
    ),
    (
        "missing comma between",
        "is a comma or a `]` missing further up?",
    ),
    ("unclosed array", "a `[` further up has no `]`"),
    ("unclosed inline table", "a `{` further up has no `}`"),
];

/// A fault before its line and column are counted, which takes time in a file that is one long line.
#[derive(Debug)]
struct Found {
    place: Place,
    what: String,
    hint: Option<String>,
}

impl Found {
    fn new(place: Place, what: &str, hint: Option<&str>) -> Self {
        Self {
            place,
            what: what.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }
}

#[derive(Debug)]
struct Override {
    origin: Origin,
    label: String,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(input: &'a Input) -> Self {
        let breaks = input.text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file_name: &input.file_name,
            text: &input.text,
            lines: std::iter::once(0).chain(breaks).collect(),
            overrides: Vec::new(),
            faults: Vec::new(),
            warnings: Vec::new(),
            broken: BTreeSet::new(),
        }
    }

    /// Line and column of a byte of the file, both from 1.
    fn position(&self, offset: usize) -> (u32, u32) {
        let line = self.line(offset);
        let start = self.lines[line - 1];
        let col = self.text[start..]
            .char_indices()
            .take_while(|(at, _)| start + at < offset)
            .count();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (number(line), number(col + 1))
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    fn make(&self, found: &Found) -> Fault {
        let hint = found.hint.as_deref();
        if found.place.source == FILE {
            let (line, col) = self.position(found.place.start);
            return Fault::new(self.file_name, &found.what, hint).at(line, col);
        }
        let over = self.overrides.get(found.place.source - 1);
        let label = over.map_or("--set", |over| over.label.as_str());
        Fault::new(label, &found.what, hint)
    }

    /// Records what makes the configuration unusable.
    pub(super) fn fault(&mut self, place: Place, what: &str, hint: Option<&str>) {
        if place.source == FILE && self.broken.contains(&self.line(place.start)) {
            return;
        }
        self.faults.push(Found::new(place, what, hint));
    }

    /// Records what is probably not meant.
    pub(super) fn warning(&mut self, place: Place, what: &str, hint: Option<&str>) {
        self.warnings.push(Found::new(place, what, hint));
    }

    /// Records a value that does not fit its key.
    pub(super) fn misfit(
        &mut self,
        full: &str,
        node: &Node,
        kind: &Kind,
        unit: &str,
        misfit: &Misfit,
    ) {
        let mut place = misfit.place.unwrap_or(node.place);
        place.start = self.inside(node, place, misfit.at);
        let hint = hint_of(kind, unit, misfit);
        let item = misfit.index.map_or(String::new(), |i| format!("[{i}]"));
        self.fault(
            place,
            &format!("`{full}{item}`{}", misfit.what),
            hint.as_deref(),
        );
    }

    /// The byte `at` of a text in the file, if the text stands there letter by letter; else where it begins.
    fn inside(&self, node: &Node, place: Place, at: usize) -> usize {
        let raw = self.text.get(place.start..place.end).unwrap_or("");
        match &node.item {
            Item::Text(text)
                if place.source == FILE
                    && at > 0
                    && raw.get(1..).is_some_and(|raw| {
                        raw.len() == text.len() + 1 && raw.starts_with(text.as_str())
                    }) =>
            {
                place.start + 1 + at.min(text.len())
            }
            _ => place.start,
        }
    }

    /// Where a value comes from, and where in the file.
    pub(super) fn origin(&self, place: Option<Place>) -> (Origin, Option<(u32, u32)>) {
        match place {
            None => (Origin::Default, None),
            Some(place) if place.source == FILE => (
                Origin::File(self.file_name.to_owned()),
                Some(self.position(place.start)),
            ),
            Some(place) => {
                let over = self.overrides.get(place.source - 1);
                (over.map_or(Origin::Flag, |over| over.origin.clone()), None)
            }
        }
    }

    /// Records faults of syntax; true if nothing behind them can be trusted.
    pub(super) fn syntax(&mut self, errors: &[Error]) -> bool {
        // These spoil one value or one key; after any other error the parser may have taken a table for a list.
        const LOCAL: [&str; 8] = [
            "duplicate key",
            "string values must be quoted",
            "invalid basic string",
            "invalid literal string",
            "invalid boolean",
            "unexpected leading zero",
            "missing escaped value",
            "invalid escape sequence",
        ];
        let is_local = |error: &Error| LOCAL.iter().any(|known| error.message().starts_with(known));
        let damaged = errors.iter().any(|error| !is_local(error));
        // In a damaged file the small faults are most often only consequences of the large ones.
        for error in errors.iter().filter(|error| !damaged || !is_local(error)) {
            let span = error.span().unwrap_or(0..0);
            let what = error.message().replace('\n', ", ");
            let hint = SYNTAX_HINTS
                .iter()
                .find(|(known, _)| what.starts_with(known));
            let hint = hint.map(|(_, hint)| *hint);
            self.faults
                .push(Found::new(Place::new(FILE, &span), &what, hint));
        }
        let lines = self.faults.iter().map(|found| self.line(found.place.start));
        self.broken = lines.collect();
        damaged
    }

    /// Adds a source behind the file and returns its number for a [`Place`].
    pub(super) fn add_source(&mut self, origin: Origin, label: String) -> usize {
        self.overrides.push(Override { origin, label });
        self.overrides.len()
    }

    /// Whether anything makes the configuration unusable so far.
    pub(super) fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// All warnings in the order of their places.
    pub(super) fn warnings(mut self) -> Vec<Fault> {
        let warnings = std::mem::take(&mut self.warnings);
        self.listed(warnings)
    }

    /// All faults in the order of their places; beyond a hundred only their number.
    pub(super) fn faults(mut self) -> Vec<Fault> {
        let faults = std::mem::take(&mut self.faults);
        self.listed(faults)
    }

    fn listed(&self, mut found: Vec<Found>) -> Vec<Fault> {
        found.sort_by_key(|found| (found.place.source, found.place.start));
        let mut faults: Vec<Fault> = found
            .iter()
            .take(FAULTS_MAX)
            .map(|found| self.make(found))
            .collect();
        if let Some(more) = found.len().checked_sub(FAULTS_MAX).filter(|more| *more > 0) {
            faults.push(Fault::new(
                self.file_name,
                &format!("and {more} more"),
                None,
            ));
        }
        faults
    }
}
