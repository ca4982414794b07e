//! From source to expression: a scanner and a recursive descent over its tokens, one function per line of the grammar.

use super::number::Number;
use super::search::Needle;
use super::{Expression, Literal, MAX_BYTES, MAX_DEPTH, Node, Operator, ParseError};
use crate::untrusted;

/// Words of the grammar, which must be quoted to be a field or a literal.
const KEYWORDS: [&str; 4] = ["and", "or", "not", "has"];

/// Longest part of the source that a message repeats, in bytes. Arbitrary.
const QUOTED_BYTES: usize = 40;

pub(super) fn parse(source: &str) -> Result<Expression, ParseError> {
    if source.len() > MAX_BYTES {
        let message = format!(
            "an expression of {} bytes; at most {MAX_BYTES} are allowed",
            source.len()
        );
        return Err(ParseError {
            at: MAX_BYTES,
            message,
        });
    }
    let mut parser = Parser {
        source,
        token: Token::End,
        at: 0,
        end: 0,
    };
    parser.advance()?;
    let root = parser.any(0)?;
    if parser.token != Token::End {
        return Err(parser.unexpected("`and`, `or` or the end"));
    }
    let expression = Expression { root };
    let canonical_bytes = expression.to_string().len();
    if canonical_bytes > MAX_BYTES {
        let message = format!(
            "{canonical_bytes} bytes when written in full; at most {MAX_BYTES} are allowed"
        );
        return Err(ParseError {
            at: source.len(),
            message,
        });
    }
    Ok(expression)
}

/// Whether a word can stand without quotes and mean itself.
pub(super) fn is_bare_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(is_bare) && !KEYWORDS.contains(&word)
}

fn is_bare(c: char) -> bool {
    // What a screen would escape is always quoted, and then written as an escape.
    (c.is_alphanumeric() && !untrusted::is_hidden(c)) || "_.:/-+@$%#".contains(c)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Bare(String),
    Quoted(String),
    Operator(Operator),
    Open,
    Close,
    End,
}

struct Parser<'a> {
    source: &'a str,
    /// The token under consideration, from `at` to `end`.
    token: Token,
    at: usize,
    end: usize,
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Result<Node, ParseError> {
        let mut nodes = Vec::new();
        loop {
            // `(a or b) or c` is `a or b or c`; flattened, both are written the same.
            match self.all(depth)? {
                Node::Any(inner) => nodes.extend(inner),
                node => nodes.push(node),
            }
            if !self.take_keyword("or")? {
                return Ok(only_or(nodes, Node::Any));
            }
        }
    }

    fn all(&mut self, depth: usize) -> Result<Node, ParseError> {
        let mut nodes = Vec::new();
        loop {
            match self.one(depth)? {
                Node::All(inner) => nodes.extend(inner),
                node => nodes.push(node),
            }
            if !self.take_keyword("and")? {
                return Ok(only_or(nodes, Node::All));
            }
        }
    }

    fn one(&mut self, depth: usize) -> Result<Node, ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take_keyword("not")? {
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_keyword("has")? {
            return Ok(Node::Has(self.field("a field after `has`")?));
        }
        if self.token == Token::Open {
            return self.parenthesised(depth);
        }
        self.comparison()
    }

    fn parenthesised(&mut self, depth: usize) -> Result<Node, ParseError> {
        let opened_at = self.at;
        self.advance()?;
        let node = self.any(depth + 1)?;
        if self.token != Token::Close {
            return Err(self.unexpected(&format!(
                "`and`, `or` or `)` for the `(` at byte {opened_at}"
            )));
        }
        self.advance()?;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, ParseError> {
        let field = self.field("a field, `not`, `has` or `(`")?;
        let Token::Operator(operator) = self.token else {
            return Err(self.unexpected("one of = != < <= > >= ~"));
        };
        self.advance()?;
        let literal = self.literal(operator)?;
        Ok(Node::Compare {
            field,
            operator,
            literal,
        })
    }

    fn field(&mut self, expected: &str) -> Result<String, ParseError> {
        match &mut self.token {
            Token::Bare(word) if KEYWORDS.contains(&word.as_str()) => {
                Err(self.unexpected(expected))
            }
            Token::Quoted(word) if word.is_empty() => {
                Err(self.error("a field name is never empty".to_owned()))
            }
            Token::Bare(word) | Token::Quoted(word) => {
                let word = std::mem::take(word);
                self.advance()?;
                Ok(word)
            }
            Token::Operator(_) | Token::Open | Token::Close | Token::End => {
                Err(self.unexpected(expected))
            }
        }
    }

    fn literal(&mut self, operator: Operator) -> Result<Literal, ParseError> {
        let literal = match &mut self.token {
            Token::Bare(word) if KEYWORDS.contains(&word.as_str()) => {
                return Err(self.unexpected("a value (quote it if it is one)"));
            }
            Token::Bare(word) | Token::Quoted(word) if operator == Operator::Contains => {
                Literal::Needle(Needle::new(std::mem::take(word)))
            }
            Token::Bare(word) => match Number::parse(word.as_bytes()) {
                Some(number) => Literal::Number(std::mem::take(word), number),
                None => Literal::Text(std::mem::take(word)),
            },
            Token::Quoted(word) => Literal::Text(std::mem::take(word)),
            Token::Operator(_) | Token::Open | Token::Close | Token::End => {
                return Err(self.unexpected("a value"));
            }
        };
        self.advance()?;
        Ok(literal)
    }

    fn take_keyword(&mut self, keyword: &str) -> Result<bool, ParseError> {
        let is_it = matches!(&self.token, Token::Bare(word) if word == keyword);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    /// Reads the next token.
    fn advance(&mut self) -> Result<(), ParseError> {
        let rest = &self.source[self.end..];
        let trimmed = rest.trim_start();
        self.at = self.end + (rest.len() - trimmed.len());
        let Some(first) = trimmed.chars().next() else {
            self.token = Token::End;
            self.end = self.at;
            return Ok(());
        };
        let (token, n_bytes) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '\'' | '"' => self.quoted(first)?,
            c if is_bare(c) => {
                let n_bytes = trimmed.find(|c| !is_bare(c)).unwrap_or(trimmed.len());
                (Token::Bare(trimmed[..n_bytes].to_owned()), n_bytes)
            }
            _ => operator(trimmed).ok_or_else(|| self.stray(first))?,
        };
        self.token = token;
        self.end = self.at + n_bytes;
        Ok(())
    }

    /// A quoted word that begins at `at`, and its length in bytes with both quotes.
    fn quoted(&self, quote: char) -> Result<(Token, usize), ParseError> {
        let mut word = String::new();
        let mut chars = self.source[self.at..].char_indices().skip(1);
        while let Some((idx, c)) = chars.next() {
            if c == quote {
                return Ok((Token::Quoted(word), idx + 1));
            }
            if c != '\\' {
                word.push(c);
                continue;
            }
            let escape_at = self.at + idx;
            let escaped = escape(&mut chars.by_ref().map(|(_, c)| c));
            let bad = || ParseError {
                at: escape_at,
                message: r#"no such escape; there are \\ \' \" \n \r \t \x7f \u{1f600}"#.to_owned(),
            };
            word.push(escaped.ok_or_else(bad)?);
        }
        Err(self.error(format!("no closing {quote}")))
    }

    fn stray(&self, c: char) -> ParseError {
        let hint = match c {
            ',' => "; write `and` between comparisons",
            '&' => "; write `and`",
            '|' => "; write `or`",
            '!' => "; write `not`, or `!=` between a field and a value",
            _ => "; quote words that hold such characters",
        };
        self.error(format!(
            "unexpected `{}`{hint}",
            untrusted::escape(c.encode_utf8(&mut [0; 4]))
        ))
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        if self.token == Token::End {
            return self.error(format!("the expression ends where {expected} is expected"));
        }
        let mut cut = QUOTED_BYTES.min(self.end - self.at);
        while !self.source.is_char_boundary(self.at + cut) {
            cut -= 1;
        }
        let found = untrusted::escape(&self.source[self.at..self.at + cut]);
        self.error(format!("expected {expected}, found `{found}`"))
    }

    fn error(&self, message: String) -> ParseError {
        ParseError {
            at: self.at,
            message,
        }
    }
}

fn only_or(mut nodes: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            several(nodes)
        }
        None => several(nodes),
    }
}

fn operator(text: &str) -> Option<(Token, usize)> {
    // Longer signs first, so that `<=` is not read as `<`. `==` is what programmers type.
    const SIGNS: [(&str, Operator); 8] = [
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<=", Operator::AtMost),
        (">=", Operator::AtLeast),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("~", Operator::Contains),
    ];
    let (sign, operator) = SIGNS.iter().find(|(sign, _)| text.starts_with(sign))?;
    Some((Token::Operator(*operator), sign.len()))
}

/// Reads what follows a backslash.
fn escape(chars: &mut dyn Iterator<Item = char>) -> Option<char> {
    match chars.next()? {
        c @ ('\\' | '\'' | '"') => Some(c),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'x' => {
            let code = chars.next()?.to_digit(16)? * 16 + chars.next()?.to_digit(16)?;
            // Above 0x7f it would be unclear whether a byte or a character is meant.
            char::from_u32(code).filter(char::is_ascii)
        }
        'u' => {
            if chars.next()? != '{' {
                return None;
            }
            let mut code = 0_u32;
            for n_digits in 0..=6 {
                match chars.next()? {
                    '}' if n_digits > 0 => return char::from_u32(code),
                    digit => code = code * 16 + digit.to_digit(16)?,
                }
            }
            None
        }
        _ => None,
    }
}
