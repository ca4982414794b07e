//! The configuration as one tree: the file's text, then environment and flags laid over it, each leaf with its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a piece stands: a source (0 is the file, the others count the overrides) and a span of bytes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The source that is the file.
pub(super) const FILE: usize = 0;

impl Place {
    pub(super) fn new(source: usize, span: &Range<usize>) -> Self {
        Self {
            source,
            start: span.start,
            end: span.end,
        }
    }
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) item: Item,
    pub(super) place: Place,
}

/// A value as TOML knows it, or an override's text that only its key can interpret.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Text(String),
    /// `None` if it does not even fit 128 bits.
    Integer(Option<i128>),
    Float,
    Bool(bool),
    Datetime,
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// Text of an environment variable or a flag.
    Raw(String),
}

/// A key in a table, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
}

impl Item {
    /// A lone TOML value, such as a flag's; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = DeValue::parse(text).ok()?;
        Some(node(&value, FILE).item)
    }

    /// What it is, with its article, for "cannot be ...".
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Raw(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with a point",
            Self::Bool(_) => "true or false",
            Self::Datetime => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// The tree of a table that the TOML parser made.
pub(super) fn table(parsed: &Spanned<DeTable<'_>>, source: usize) -> Node {
    Node {
        item: Item::Table(entries(parsed.get_ref(), source)),
        place: Place::new(source, &parsed.span()),
    }
}

fn entries(table: &DeTable<'_>, source: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_place: Place::new(source, &key.span()),
            node: node(value, source),
        })
        .collect();
    // The parser sorts by name; readers count in the order of the file.
    entries.sort_by_key(|entry| entry.key_place.start);
    entries
}

fn node(value: &Spanned<DeValue<'_>>, source: usize) -> Node {
    let place = Place::new(source, &value.span());
    let item = match value.get_ref() {
        DeValue::String(text) => Item::Text(text.to_string()),
        DeValue::Integer(n) => Item::Integer(i128::from_str_radix(n.as_str(), n.radix()).ok()),
        DeValue::Float(_) => Item::Float,
        DeValue::Boolean(b) => Item::Bool(*b),
        DeValue::Datetime(_) => Item::Datetime,
        DeValue::Array(items) => Item::List(items.iter().map(|item| node(item, source)).collect()),
        DeValue::Table(inner) => Item::Table(entries(inner, source)),
    };
    Node { item, place }
}

/// Why an override cannot be laid over the tree.
#[derive(Debug, PartialEq)]
pub(super) enum Blocked {
    /// A part of its path is a list; the text is the path of the list.
    List(String),
    /// A part of its path is a single value; the text is that path.
    Value(String),
}

/// Lays one override over the tree.
///
/// The text of a table in braces is merged key by key, everything else replaces what was there. `loose` lets `_`
/// stand for `-` in a name that is there already, because a shell cannot put `-` into a variable's name.
pub(super) fn lay(
    root: &mut Node,
    path: &[String],
    text: &str,
    source: usize,
    loose: bool,
) -> Result<(), Blocked> {
    let place = Place::new(source, &(0..text.len()));
    // Only brackets and braces are TOML for certain; how to read the rest depends on the key.
    let item = match text.trim_start().chars().next() {
        Some('[' | '{') => match DeValue::parse(text) {
            Ok(value) => node(&value, source).item,
            Err(_) => Item::Raw(text.to_owned()),
        },
        _ => Item::Raw(text.to_owned()),
    };
    lay_node(root, path, 0, Node { item, place }, loose)
}

fn lay_node(
    at: &mut Node,
    path: &[String],
    depth: usize,
    node: Node,
    loose: bool,
) -> Result<(), Blocked> {
    let here = || path[..depth].join(".");
    let entries = match &mut at.item {
        Item::Table(entries) => entries,
        Item::List(_) if depth < path.len() => return Err(Blocked::List(here())),
        _ if depth < path.len() => return Err(Blocked::Value(here())),
        _ => {
            *at = node;
            return Ok(());
        }
    };
    let Some(name) = path.get(depth) else {
        let Item::Table(over) = node.item else {
            *at = node;
            return Ok(());
        };
        for entry in over {
            put(entries, entry);
        }
        return Ok(());
    };
    let known = entries
        .iter()
        .position(|entry| entry.key == *name)
        .or_else(|| {
            let same = |entry: &Entry| loose && entry.key.replace('-', "_") == *name;
            entries.iter().position(same)
        });
    let position = known.unwrap_or_else(|| {
        let place = node.place;
        entries.push(Entry {
            key: name.clone(),
            key_place: place,
            node: Node {
                item: Item::Table(Vec::new()),
                place,
            },
        });
        entries.len() - 1
    });
    if known.is_none() && depth + 1 == path.len() {
        entries[position].node = node;
        return Ok(());
    }
    lay_node(&mut entries[position].node, path, depth + 1, node, loose)
}

/// Puts an entry of an override's table in, key by key where both sides are tables.
fn put(entries: &mut Vec<Entry>, over: Entry) {
    let Some(position) = entries.iter().position(|entry| entry.key == over.key) else {
        entries.push(over);
        return;
    };
    let Entry {
        key: _,
        key_place,
        node: Node { item, place },
    } = over;
    match (&mut entries[position].node.item, item) {
        (Item::Table(old), Item::Table(new)) => {
            for entry in new {
                put(old, entry);
            }
        }
        (_, item) => {
            entries[position].key_place = key_place;
            entries[position].node = Node { item, place };
        }
    }
}
