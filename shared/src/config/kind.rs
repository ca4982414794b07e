//! What a key may hold: reading one value, its range, and how it is written back.

use std::time::Duration;

use super::fault::{nearest, shown};
use super::server;
use super::tree::{Item, Node, Place};
use super::types::Secret;
use crate::expression::Expression;
use crate::units;

pub use super::names::Rule;

/// What a key may hold; all ranges include both ends.
#[derive(Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Least.
        min: u64,
        /// Greatest.
        max: u64,
    },
    /// A text that follows a rule.
    Text(Rule),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of these words, each at most once.
    Choices(&'static [&'static str]),
    /// A list of field names, each at most once.
    Fields,
    /// A duration such as `"5s"`.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// Two durations such as `"100ms..5s"`.
    DurationRange {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// A number of bytes such as `"64KiB"`.
    Size {
        /// Least, in bytes.
        min: u64,
        /// Greatest, in bytes.
        max: u64,
    },
    /// A rate such as `"1000/s"`.
    Rate {
        /// Least, per second.
        min: f64,
        /// Greatest, per second.
        max: f64,
    },
    /// A share such as `"85%"`.
    Share {
        /// Least, of 1.
        min: f64,
        /// Greatest, of 1.
        max: f64,
    },
    /// Where Redis is.
    Url,
    /// Where a secret is; a wrong one is never repeated.
    Secret,
    /// An expression over the fields of an entry.
    Expression,
    /// A list of tables with a `kind` each; `walk` reads them.
    Operators,
}

/// A value that fits its kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(u64),
    Text(String),
    Names(Vec<String>),
    Duration(Duration),
    Range(Duration, Duration),
    Size(u64),
    Rate(f64),
    Share(f64),
    Secret(Secret),
    Expression(String, Expression),
}

/// Why a value does not fit.
#[derive(Debug, PartialEq)]
pub(super) struct Misfit {
    /// Goes on behind the key's name, its first space or colon included.
    pub(super) what: String,
    /// What to write instead.
    pub(super) hint: Option<String>,
    /// The part of the value that is wrong, if it is not the whole.
    pub(super) place: Option<Place>,
    /// Which item of a list is wrong.
    pub(super) index: Option<usize>,
    /// Bytes into a text at which it is wrong.
    pub(super) at: usize,
}

impl Misfit {
    pub(super) fn new(what: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            what: what.into(),
            hint,
            place: None,
            index: None,
            at: 0,
        }
    }
}

impl Kind {
    /// What it takes and in which range, to go on after "it takes": `a duration, 100ms to 1m`.
    pub(super) fn takes(&self, unit: &str) -> String {
        let listed = |words: &[&str]| {
            let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            quoted.join(", ")
        };
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { min, max } => {
                let of = match unit {
                    "" => String::new(),
                    _ => format!(" of {unit}"),
                };
                match (min, max) {
                    (min, max) if min == max => min.to_string(),
                    (min, &UNBOUNDED) => format!("a whole number{of}, {} or more", grouped(*min)),
                    _ => format!("a whole number{of}, {} to {}", grouped(*min), grouped(*max)),
                }
            }
            Self::Text(rule) => rule.takes().to_owned(),
            Self::Choice([word]) => format!("only \"{word}\" so far"),
            Self::Choice(words) => format!("one of {}", listed(words)),
            Self::Choices(words) => format!("a list of {}", listed(words)),
            Self::Fields => "a list of field names".to_owned(),
            Self::Duration { min, max } => format!(
                "a duration, {} to {}",
                units::print_duration(*min),
                units::print_duration(*max)
            ),
            Self::DurationRange { min, max } => format!(
                "two durations joined by two dots, {} to {}",
                units::print_duration(*min),
                units::print_duration(*max)
            ),
            Self::Size { min, max } => format!(
                "a size, {} to {}",
                units::print_size(*min),
                units::print_size(*max)
            ),
            Self::Rate { min, max } => format!(
                "a rate, {} to {}",
                units::print_rate(*min),
                units::print_rate(*max)
            ),
            Self::Share { min, max } => format!(
                "a share, {} to {}",
                units::print_percent(*min),
                units::print_percent(*max)
            ),
            Self::Url => server::TAKES_URL.to_owned(),
            Self::Secret => server::TAKES_SECRET.to_owned(),
            Self::Expression => "an expression over the fields of an entry".to_owned(),
            Self::Operators => "a list of operators".to_owned(),
        }
    }

    /// Reads what an environment variable or a flag says: quotes around a text may be left out.
    pub(super) fn read_text(&self, text: &str) -> Result<Value, Misfit> {
        match Item::parse(text) {
            Some(item @ Item::Text(_)) => self.read(&item),
            Some(item) if !self.is_text() => self.read(&item),
            _ if self.is_text() => self.read_inner(text),
            _ => Err(Misfit::new(" cannot be a text", None)),
        }
    }

    /// Whether a value of this kind stands in quotes in the file.
    fn is_text(&self) -> bool {
        !matches!(
            self,
            Self::Bool | Self::Integer { .. } | Self::Choices(_) | Self::Fields | Self::Operators
        )
    }

    /// Reads a value of the file.
    pub(super) fn read(&self, item: &Item) -> Result<Value, Misfit> {
        match (self, item) {
            (_, Item::Raw(text)) => self.read_text(text),
            (Self::Bool, Item::Bool(b)) => Ok(Value::Bool(*b)),
            (Self::Integer { min, max }, Item::Integer(n)) => {
                match n.and_then(|n| u64::try_from(n).ok()) {
                    Some(n) if (*min..=*max).contains(&n) => Ok(Value::Integer(n)),
                    _ => Err(out_of_range(
                        &n.map_or("too large".to_owned(), |n| n.to_string()),
                    )),
                }
            }
            (Self::Choices(words), Item::List(items)) => {
                let one = Self::Choice(words).takes("");
                read_list(items, &one, |text| one_of(text, words))
            }
            (Self::Fields, Item::List(items)) => {
                read_list(items, Rule::Field.takes(), |text| Rule::Field.check(text))
            }
            (Self::Operators, Item::List(_)) => Ok(Value::Names(Vec::new())),
            (_, Item::Text(text)) if self.is_text() => self.read_inner(text),
            _ => Err(self.wrong_type(item)),
        }
    }

    fn wrong_type(&self, item: &Item) -> Misfit {
        let hint = match (self, item) {
            (Self::Duration { .. }, Item::Integer(_) | Item::Float) => {
                Some("write it in quotes with its unit, such as \"5s\"".to_owned())
            }
            (Self::Size { .. }, Item::Integer(_) | Item::Float) => {
                Some("write it in quotes with its unit, such as \"64KiB\"".to_owned())
            }
            (Self::Rate { .. }, Item::Integer(_) | Item::Float) => {
                Some("write it in quotes with its unit, such as \"1000/s\"".to_owned())
            }
            (Self::Share { .. }, Item::Integer(_) | Item::Float) => {
                Some("write it in quotes with a per cent sign, such as \"85%\"".to_owned())
            }
            (Self::Bool | Self::Integer { .. }, Item::Text(_)) => {
                Some("write it without quotes".to_owned())
            }
            (
                Self::Text(_) | Self::Choice(_),
                Item::Integer(_) | Item::Float | Item::Bool(_) | Item::Datetime,
            ) => Some("write it in quotes".to_owned()),
            _ => None,
        };
        Misfit::new(format!(" cannot be {}", item.noun()), hint)
    }

    /// Reads what stands between the quotes.
    fn read_inner(&self, text: &str) -> Result<Value, Misfit> {
        let unit = |error: units::UnitError| Misfit::new(format!(": {error}"), None);
        let in_range = |fits: bool, value: Value| {
            if fits {
                Ok(value)
            } else {
                Err(out_of_range(&format!("\"{}\"", shown(text))))
            }
        };
        match self {
            Self::Text(rule) => rule.check(text).map(|()| Value::Text(text.to_owned())),
            Self::Choice(words) => one_of(text, words).map(|()| Value::Text(text.to_owned())),
            Self::Duration { min, max } => {
                let d = units::parse_duration(text).map_err(unit)?;
                in_range((*min..=*max).contains(&d), Value::Duration(d))
            }
            Self::DurationRange { min, max } => {
                let (from, to) = units::parse_duration_range(text).map_err(unit)?;
                in_range(from >= *min && to <= *max, Value::Range(from, to))
            }
            Self::Size { min, max } => {
                let n = units::parse_size(text).map_err(unit)?;
                in_range((*min..=*max).contains(&n), Value::Size(n))
            }
            Self::Rate { min, max } => {
                let n = units::parse_rate(text).map_err(unit)?;
                in_range((*min..=*max).contains(&n), Value::Rate(n))
            }
            Self::Share { min, max } => {
                let n = units::parse_percent(text).map_err(unit)?;
                in_range((*min..=*max).contains(&n), Value::Share(n))
            }
            Self::Url => server::check_url(text).map(|()| Value::Text(text.to_owned())),
            Self::Secret => server::read_secret(text).map(Value::Secret),
            Self::Expression => match Expression::parse(text) {
                Ok(parsed) => Ok(Value::Expression(text.to_owned(), parsed)),
                Err(error) => Err(Misfit {
                    at: error.at,
                    ..Misfit::new(format!(": {}", error.message), None)
                }),
            },
            Self::Bool
            | Self::Integer { .. }
            | Self::Choices(_)
            | Self::Fields
            | Self::Operators => Err(self.wrong_type(&Item::Text(String::new()))),
        }
    }
}

/// The greatest whole number in TOML.
const UNBOUNDED: u64 = i64::MAX as u64;

/// Reads a list in which each text stands once; `takes` says what one of them may be.
fn read_list(
    items: &[Node],
    takes: &str,
    check: impl Fn(&str) -> Result<(), Misfit>,
) -> Result<Value, Misfit> {
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for (i, node) in items.iter().enumerate() {
        let misfit = match &node.item {
            Item::Text(text) if names.contains(text) => Misfit::new(
                format!(" is \"{}\", which stands before it already", shown(text)),
                Some("leave one out".to_owned()),
            ),
            Item::Text(text) => match check(text) {
                Ok(()) => {
                    names.push(text.clone());
                    continue;
                }
                Err(misfit) => misfit,
            },
            other => Misfit::new(format!(" cannot be {}", other.noun()), None),
        };
        return Err(Misfit {
            hint: misfit.hint.or_else(|| Some(format!("it takes {takes}"))),
            place: Some(node.place),
            index: Some(i),
            ..misfit
        });
    }
    Ok(Value::Names(names))
}

fn out_of_range(value: &str) -> Misfit {
    Misfit::new(format!(" is {value}, out of range"), None)
}

fn one_of(text: &str, words: &[&str]) -> Result<(), Misfit> {
    if words.contains(&text) {
        return Ok(());
    }
    let hint = nearest(text, words.iter().copied()).map(|word| format!("did you mean \"{word}\"?"));
    Err(Misfit::new(format!(" cannot be \"{}\"", shown(text)), hint))
}

impl Value {
    /// The value as it would stand in the file.
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Integer(n) => grouped(*n),
            Self::Text(text) => quoted(text),
            Self::Names(names) => {
                let items: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Duration(d) => quoted(&units::print_duration(*d)),
            Self::Range(from, to) => quoted(&units::print_duration_range((*from, *to))),
            Self::Size(n) => quoted(&units::print_size(*n)),
            Self::Rate(n) => quoted(&units::print_rate(*n)),
            Self::Share(n) => quoted(&units::print_percent(*n)),
            Self::Secret(Secret::Env(name)) => quoted(&format!("env:{name}")),
            Self::Secret(Secret::File(path)) => quoted(&format!("file:{path}")),
            Self::Expression(text, _) => quoted(text),
        }
    }
}

/// A text in TOML's quotes, with everything escaped that needs it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A whole number with TOML's underscores, from five digits on.
fn grouped(n: u64) -> String {
    if n < 10_000 {
        n.to_string()
    } else {
        units::human_count(n).replace(',', "_")
    }
}
