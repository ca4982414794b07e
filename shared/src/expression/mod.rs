//! A small expression over the fields of an entry, for `filter` and `--match`:
//! `value > 200 and (event_type = purchase or not product = 'x y')`.
//!
//! ```text
//! any     = all ("or" all)*
//! all     = one ("and" one)*
//! one     = "not" one | "(" any ")" | "has" field | field operator literal
//! operator: =  !=  <  <=  >  >=  ~ (contains)
//! field, literal: bare word, 'text' or "text"
//! ```
//! - A bare word is made of letters, digits and `_ . : / - + @ $ % #`. `and`, `or`, `not` and `has` must be quoted to be
//!   words. Inside quotes a backslash begins `\\ \' \" \n \r \t \x7f \u{1f600}`.
//! - Comparison is of numbers where the literal is a bare number and the field holds one, else of bytes. A quoted
//!   literal is always text: `zip = '007'` does not hold for `7`. Whole numbers compare exactly up to 38 digits, all
//!   others as 64-bit floats; what overflows a float is text.
//! - A comparison with a field that the entry lacks does not hold, whatever its operator, `!=` included; so
//!   `not (a = b)` holds for an entry without `a`, and `a != b` does not.
//! - `~` looks for the literal anywhere in the field, byte for byte; the empty text is found in every field.
//!
//! Called by the `filter` operator for each record and by selections of the console. Not a language to grow in: what
//! needs arithmetic or functions is an operator of its own.

mod number;
mod parse;
mod search;

use std::cmp::Ordering;
use std::fmt;

use serde::{Serialize, Serializer};

use self::number::Number;
use self::search::Needle;
use crate::untrusted;

/// Longest source in bytes, as given and in its canonical form.
pub const MAX_BYTES: usize = 4 * 1024;

/// Deepest nesting of `not` and parentheses.
pub const MAX_DEPTH: usize = 32;

/// A parsed expression. Two are equal if they are written the same in canonical form, which is what `Display` and
/// `Serialize` give and what [`Expression::parse`] reads back to an equal expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    root: Node,
}

/// Why a source is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {message}")]
pub struct ParseError {
    /// Where, in bytes from the start of the source; its length when something is missing at the end.
    pub at: usize,
    /// What was expected and what stood there, without control characters.
    pub message: String,
}

impl Expression {
    /// Reads a source.
    ///
    /// # Errors
    /// The first fault, when the source is empty, no expression, over [`MAX_BYTES`] or nested over [`MAX_DEPTH`].
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        parse::parse(source)
    }

    /// Whether it holds for an entry. `field` answers the value of the field with that name, `None` where the entry
    /// has none. Allocates nothing; costs at most one pass over each compared field per comparison.
    pub fn holds<'f>(&self, field: impl Fn(&[u8]) -> Option<&'f [u8]>) -> bool {
        self.root.holds(&field)
    }

    /// The names of the fields that it reads, in order of their first mention, without repetitions.
    pub fn fields(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.root.collect_fields(&mut names);
        names
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// Two or more, none of them `Any`.
    Any(Vec<Node>),
    /// Two or more, none of them `All`.
    All(Vec<Node>),
    Not(Box<Node>),
    Has(String),
    Compare {
        field: String,
        operator: Operator,
        literal: Literal,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    /// Quoted, or a bare word that is no number.
    Text(String),
    /// A bare number as it was written and as it counts.
    Number(String, Number),
    /// The right side of `~`.
    Needle(Needle),
}

type Lookup<'l, 'f> = dyn Fn(&[u8]) -> Option<&'f [u8]> + 'l;

impl Node {
    fn holds(&self, field: &Lookup<'_, '_>) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(field)),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(field)),
            Self::Not(node) => !node.holds(field),
            Self::Has(name) => field(name.as_bytes()).is_some(),
            Self::Compare {
                field: name,
                operator,
                literal,
            } => field(name.as_bytes()).is_some_and(|actual| literal.accepts(*operator, actual)),
        }
    }

    fn collect_fields<'n>(&'n self, names: &mut Vec<&'n str>) {
        match self {
            Self::Any(nodes) | Self::All(nodes) => {
                for node in nodes {
                    node.collect_fields(names);
                }
            }
            Self::Not(node) => node.collect_fields(names),
            Self::Has(name) | Self::Compare { field: name, .. } => {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
    }
}

impl Literal {
    fn accepts(&self, operator: Operator, actual: &[u8]) -> bool {
        let ordering = match self {
            Self::Needle(needle) => return needle.is_in(actual),
            Self::Text(text) => actual.cmp(text.as_bytes()),
            Self::Number(text, number) => match Number::parse(actual) {
                Some(actual) => actual.compare(*number),
                None => actual.cmp(text.as_bytes()),
            },
        };
        match operator {
            Operator::Equal => ordering == Ordering::Equal,
            Operator::Unequal => ordering != Ordering::Equal,
            Operator::Less => ordering == Ordering::Less,
            Operator::AtMost => ordering != Ordering::Greater,
            Operator::Greater => ordering == Ordering::Greater,
            Operator::AtLeast => ordering != Ordering::Less,
            Operator::Contains => false, // Its literal is a needle, and that was answered above.
        }
    }
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Contains => "~",
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(nodes) => write_joined(f, nodes, " or ", |_| false),
            Self::All(nodes) => {
                write_joined(f, nodes, " and ", |node| matches!(node, Self::Any(_)))
            }
            Self::Not(node) => {
                f.write_str("not ")?;
                write_node(f, node, matches!(**node, Self::Any(_) | Self::All(_)))
            }
            Self::Has(name) => write!(f, "has {}", Word(name)),
            Self::Compare {
                field,
                operator,
                literal,
            } => write!(f, "{} {} {literal}", Word(field), operator.sign()),
        }
    }
}

fn write_joined(
    f: &mut fmt::Formatter<'_>,
    nodes: &[Node],
    joint: &str,
    in_parentheses: fn(&Node) -> bool,
) -> fmt::Result {
    for (idx, node) in nodes.iter().enumerate() {
        if idx > 0 {
            f.write_str(joint)?;
        }
        write_node(f, node, in_parentheses(node))?;
    }
    Ok(())
}

fn write_node(f: &mut fmt::Formatter<'_>, node: &Node, in_parentheses: bool) -> fmt::Result {
    if in_parentheses {
        write!(f, "({node})")
    } else {
        write!(f, "{node}")
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A text that looks like a number was quoted, and quoted it must stay to be compared as text.
            Self::Text(text) if Number::parse(text.as_bytes()).is_some() => write_quoted(f, text),
            Self::Text(text) => Word(text).fmt(f),
            Self::Number(text, _) => f.write_str(text),
            Self::Needle(needle) => Word(needle.text()).fmt(f),
        }
    }
}

/// A word, quoted where it must be.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if parse::is_bare_word(self.0) {
            f.write_str(self.0)
        } else {
            write_quoted(f, self.0)
        }
    }
}

/// Control and format characters come out as escapes, so that printing an expression can do a terminal no harm.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "'{}'", untrusted::escape(text).replace('\'', "\\'"))
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
