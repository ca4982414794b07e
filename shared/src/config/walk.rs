//! The tree against the catalogue: finds unknown keys and wrong values, and keeps what fits by its full path.

use std::collections::BTreeMap;

use super::catalogue::{self, KEYS, join};
use super::fault::{nearest, shown};
use super::kind::{Kind, Misfit, Rule, Value};
use super::report::Reporter;
use super::tree::{Entry, Item, Node, Place};

/// Stages, sources and operators in one chain at most; arbitrary, and far above what one process can run.
const MANY: usize = 64;

/// Keys that other consumers of streams have and that would lose entries here, with why there is no such key.
const NEVER: [(&str, &str); 2] = [
    (
        "noack",
        "there is no such switch: an entry is acknowledged by the commit that counts it, else a crash loses what was read",
    ),
    (
        "maxlen",
        "there is no such limit: it drops entries that nobody has read; retention.keep trims what every group has finished",
    ),
];

/// A table whose name the file gives, such as `[stage.enrich]`.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) place: Place,
}

/// What stands in the list `operators` of a stage; `kind` is `None` where the fault is already reported.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    pub(super) kind: Option<&'static str>,
    pub(super) place: Place,
}

/// What the tree holds, as far as it is right.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Values by full path, such as `stage.enrich.operators[0].key`.
    pub(super) values: BTreeMap<String, (Value, Place)>,
    /// Paths whose value is there but wrong, so that it is not reported as missing as well.
    pub(super) wrong: Vec<String>,
    pub(super) sources: Vec<Named>,
    pub(super) stages: Vec<Named>,
    /// Operators by the stage's name.
    pub(super) operators: BTreeMap<String, Vec<Operator>>,
}

/// Walks the whole tree.
pub(super) fn walk(root: &Node, report: &mut Reporter<'_>) -> Walked {
    let mut walked = Walked::default();
    if let Item::Table(entries) = &root.item {
        walked.table(entries, "", "", report);
    }
    walked
}

impl Walked {
    /// `pattern` is the table's path in the catalogue, `path` the one in the file.
    fn table(&mut self, entries: &[Entry], pattern: &str, path: &str, report: &mut Reporter<'_>) {
        let known = catalogue::children(pattern);
        for entry in entries {
            let full = join(path, &entry.key);
            if known == ["*"] {
                self.named(entry, pattern, &full, report);
            } else if let Some(key) = catalogue::child(pattern, &entry.key) {
                self.value(&key.kind, key.unit, &entry.node, &full, report);
            } else if known.contains(&entry.key.as_str()) {
                let below = join(pattern, &entry.key);
                match &entry.node.item {
                    Item::Table(inner) => self.table(inner, &below, &full, report),
                    item => {
                        let hint = format!("it is a table: write {}", example(&below, &full));
                        let what = format!("`{full}` cannot be {}", item.noun());
                        report.fault(entry.node.place, &what, Some(&hint));
                        self.wrong.push(full);
                    }
                }
            } else {
                unknown(entry, &known, pattern, path, report);
            }
        }
    }

    /// A table `[stage.NAME]` or `[source.NAME]`.
    fn named(&mut self, entry: &Entry, pattern: &str, full: &str, report: &mut Reporter<'_>) {
        let Item::Table(inner) = &entry.node.item else {
            let hint = if pattern == "stage" || pattern == "source" {
                format!("write [{pattern}.NAME] and its keys below")
            } else {
                "it is a table".to_owned()
            };
            let what = format!("`{}` cannot be {}", shown(full), entry.node.item.noun());
            report.fault(entry.node.place, &what, Some(&hint));
            self.wrong.push(full.to_owned());
            return;
        };
        if let Err(misfit) = Rule::TableName.check(&entry.key) {
            let what = format!("the name of this {pattern}{}", misfit.what);
            let hint = format!("it takes {}", Rule::TableName.takes());
            report.fault(entry.key_place, &what, Some(&hint));
            self.wrong.push(full.to_owned());
            return;
        }
        let list = if pattern == "stage" {
            &mut self.stages
        } else {
            &mut self.sources
        };
        if list.len() == MANY {
            // Said once, at the first of them; `wrong` also keeps their readers from being faults.
            if !self.wrong.iter().any(|path| path == pattern) {
                let what = format!("more than {MANY} tables [{pattern}.NAME]");
                report.fault(entry.key_place, &what, None);
                self.wrong.push(pattern.to_owned());
            }
            self.wrong.push(full.to_owned());
            return;
        }
        list.push(Named {
            name: entry.key.clone(),
            place: entry.key_place,
        });
        self.table(inner, &format!("{pattern}.*"), full, report);
    }

    fn value(
        &mut self,
        kind: &'static Kind,
        unit: &str,
        node: &Node,
        full: &str,
        report: &mut Reporter<'_>,
    ) {
        let node = &open_list(kind, node);
        if matches!(kind, Kind::Operators)
            && let Item::List(items) = &node.item
        {
            self.operators(items, full, report);
            self.values
                .insert(full.to_owned(), (Value::Names(Vec::new()), node.place));
            return;
        }
        match kind.read(&node.item) {
            Ok(value) => {
                self.values.insert(full.to_owned(), (value, node.place));
            }
            Err(misfit) => {
                self.wrong.push(full.to_owned());
                report.misfit(full, node, kind, unit, &misfit);
            }
        }
    }

    fn operators(&mut self, items: &[Node], full: &str, report: &mut Reporter<'_>) {
        let stage = full
            .strip_prefix("stage.")
            .and_then(|rest| rest.strip_suffix(".operators"))
            .unwrap_or(full);
        if items.len() > MANY {
            let what = format!("`{full}` has more than {MANY} operators");
            report.fault(items[MANY].place, &what, None);
        }
        let mut chain = Vec::new();
        for (i, node) in items.iter().take(MANY).enumerate() {
            let path = format!("{full}[{i}]");
            let kind = self.operator(node, &path, report);
            chain.push(Operator {
                kind,
                place: node.place,
            });
        }
        self.operators.insert(stage.to_owned(), chain);
    }

    fn operator(
        &mut self,
        node: &Node,
        path: &str,
        report: &mut Reporter<'_>,
    ) -> Option<&'static str> {
        let Item::Table(entries) = &node.item else {
            let what = format!("`{path}` cannot be {}", node.item.noun());
            let hint =
                "an operator is a table, such as { kind = \"validate\", required = [\"id\"] }";
            report.fault(node.place, &what, Some(hint));
            return None;
        };
        let key = catalogue::find("stage.*.operators[*].kind")?;
        let Kind::Choice(kinds) = &key.kind else {
            return None;
        };
        let Some(given) = entries.iter().find(|entry| entry.key == "kind") else {
            let what = format!("`{path}` does not say its kind");
            let hint = format!("add kind: {}", key.takes());
            report.fault(node.place, &what, Some(&hint));
            return None;
        };
        let full = join(path, "kind");
        let kind = match key.kind.read(&given.node.item) {
            Ok(Value::Text(text)) => kinds.iter().copied().find(|kind| *kind == text)?,
            Ok(_) => return None,
            Err(misfit) => {
                report.misfit(&full, &given.node, &key.kind, key.unit, &misfit);
                return None;
            }
        };
        self.table(entries, &format!("stage.*.operators[{kind}]"), path, report);
        Some(kind)
    }
}

/// A list in an override's text that is no valid TOML stays a text; everything else stays as it is.
fn open_list(kind: &Kind, node: &Node) -> Node {
    let mut node = node.clone();
    if let (Item::Raw(text), Kind::Operators | Kind::Fields | Kind::Choices(_)) = (&node.item, kind)
        && let Some(item @ Item::List(_)) = Item::parse(text)
    {
        node.item = item;
    }
    node
}

/// How to write a table that was given as a value.
fn example(pattern: &str, full: &str) -> String {
    let first = catalogue::children(pattern)
        .first()
        .copied()
        .unwrap_or("key");
    match first {
        "*" => format!("[{full}.NAME] and its keys below"),
        first => format!("{full}.{first} = ..."),
    }
}

fn unknown(
    entry: &Entry,
    known: &[&'static str],
    pattern: &str,
    path: &str,
    report: &mut Reporter<'_>,
) {
    let name = shown(&entry.key);
    let table = match path {
        "" => "at the top of the file".to_owned(),
        path if path.contains('[') => format!("in `{path}`"),
        path => format!("in [{path}]"),
    };
    let hint = if let Some((_, why)) = NEVER.iter().find(|(key, _)| *key == entry.key) {
        (*why).to_owned()
    } else if let Some(near) = nearest(&entry.key, known.iter().copied()) {
        format!("did you mean `{near}`?")
    } else if let Some(place) = elsewhere(&entry.key, pattern) {
        format!("`{name}` belongs in {place}")
    } else {
        format!("known here: {}", known.join(", "))
    };
    report.fault(
        entry.key_place,
        &format!("unknown key `{name}` {table}"),
        Some(&hint),
    );
}

/// The table that knows a key of exactly this name, if it is the only one.
fn elsewhere(name: &str, pattern: &str) -> Option<String> {
    let mut keys = KEYS
        .iter()
        .filter(|key| key.name() == name && key.table() != pattern);
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return None;
    };
    Some(match key.table() {
        "" => "the top of the file, above the first [table]".to_owned(),
        table => match table.split_once('[') {
            None => format!("[{}]", table.replace('*', "NAME")),
            Some((_, kind)) => match kind.split_once(']') {
                Some((kind, "")) => format!("an operator of kind \"{kind}\""),
                Some((kind, rest)) => {
                    format!("`{}` of an operator of kind \"{kind}\"", &rest[1..])
                }
                None => return None,
            },
        },
    })
}

/// The fault of a value: the range where that helps, and nothing that may be a secret.
pub(super) fn hint_of(kind: &Kind, unit: &str, misfit: &Misfit) -> Option<String> {
    misfit.hint.clone().or_else(|| match kind {
        // The text of an expression's error says all there is to say.
        Kind::Expression => None,
        _ => Some(format!("it takes {}", kind.takes(unit))),
    })
}
