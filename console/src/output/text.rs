//! Text for people: lines of fields and tables, coloured by meaning, cut to the terminal. Everything is cleaned here.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::clean;
use super::table::Table;

/// What a piece of text means; the colour follows from it and never says more than the words do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// Beside the point.
    Dim,
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Act on it.
    Bad,
    /// A name or title.
    Strong,
}

impl Tone {
    /// The colour for a state's word.
    pub(crate) fn of_state(state: pipectl_shared::snapshot::State) -> Self {
        use pipectl_shared::snapshot::State;
        match state {
            State::Running => Self::Good,
            State::Starting | State::Draining | State::Paused => Self::Warn,
            State::Degraded | State::Failed => Self::Bad,
        }
    }

    /// Bad unless zero.
    pub(crate) fn bad_if(bad: bool) -> Self {
        if bad { Self::Bad } else { Self::Plain }
    }

    /// Warning when so.
    pub(crate) fn warn_if(warn: bool) -> Self {
        if warn { Self::Warn } else { Self::Plain }
    }

    fn style(self) -> anstyle::Style {
        use anstyle::AnsiColor;
        let style = anstyle::Style::new();
        match self {
            Self::Plain => style,
            Self::Dim => style.dimmed(),
            Self::Good => style.fg_color(Some(AnsiColor::Green.into())),
            Self::Warn => style.fg_color(Some(AnsiColor::Yellow.into())),
            Self::Bad => style.fg_color(Some(AnsiColor::Red.into())).bold(),
            Self::Strong => style.bold(),
        }
    }

    /// The text in this tone, if colours are on. `text` must be clean.
    pub(super) fn paint(self, text: &str, colour: bool) -> String {
        if !colour || self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// A piece of a line; untrusted.
#[derive(Debug, Clone)]
pub(crate) struct Span(pub(crate) Tone, pub(crate) String);

/// A part of a text.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    /// Fields of one line, two spaces apart, wrapped between fields where the terminal is narrow.
    Line(Vec<Span>),
    /// The same, never wrapped by us: what is to be copied stays in one piece where the terminal wraps it.
    Whole(Vec<Span>),
    /// A table.
    Table(Table),
    /// An empty line.
    Gap,
}

/// What a document says to people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Text(pub(crate) Vec<Block>);

impl Text {
    /// Adds a line of one plain field.
    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.tell(Tone::Plain, text);
    }

    /// Adds a line of one field.
    pub(crate) fn tell(&mut self, tone: Tone, text: impl Into<String>) {
        self.0.push(Block::Line(vec![Span(tone, text.into())]));
    }

    /// Adds a line that begins with a dim label.
    pub(crate) fn labelled(&mut self, label: &str, mut fields: Vec<Span>) {
        fields.insert(0, Span(Tone::Dim, format!("{label:<8}")));
        self.0.push(Block::Line(fields));
    }

    /// The same, never wrapped by us.
    pub(crate) fn whole(&mut self, label: &str, mut fields: Vec<Span>) {
        fields.insert(0, Span(Tone::Dim, format!("{label:<8}")));
        self.0.push(Block::Whole(fields));
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, table: Table) {
        self.0.push(Block::Table(table));
    }

    /// Adds an empty line.
    pub(crate) fn gap(&mut self) {
        self.0.push(Block::Gap);
    }

    /// The bytes for a terminal of `width` cells (`None` = as wide as it takes).
    pub(crate) fn render(&self, width: Option<usize>, colour: bool) -> String {
        let mut out = String::new();
        for block in &self.0 {
            match block {
                Block::Gap => out.push('\n'),
                Block::Line(spans) => line(spans, width, colour, &mut out),
                Block::Whole(spans) => line(spans, None, colour, &mut out),
                Block::Table(table) => table.render(width, colour, &mut out),
            }
        }
        out
    }
}

fn line(spans: &[Span], width: Option<usize>, colour: bool, out: &mut String) {
    const INDENT: usize = 2;
    let limit = width.unwrap_or(usize::MAX).max(INDENT + 1);
    let mut used = 0;
    for Span(tone, text) in spans {
        let clean = clean::line(text);
        let mut rest = clean.as_str();
        if used > 0 {
            let needs = 2 + rest.trim_end().width();
            if used + needs > limit {
                out.push('\n');
                out.push_str("  ");
                used = INDENT;
            } else {
                out.push_str("  ");
                used += 2;
            }
        }
        // A field wider than the terminal goes on in the next line; nothing of it is lost.
        loop {
            let (head, tail) = split_at_width(rest, limit.saturating_sub(used).max(1));
            out.push_str(&tone.paint(head, colour));
            used += head.width();
            rest = tail;
            if rest.is_empty() {
                break;
            }
            out.push('\n');
            out.push_str("  ");
            used = INDENT;
        }
    }
    while out.ends_with(' ') {
        out.pop();
    }
    out.push('\n');
}

/// Splits so that the first part has at most `width` cells (but at least one character).
pub(super) fn split_at_width(text: &str, width: usize) -> (&str, &str) {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > width && at > 0 {
            return text.split_at(at);
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(fields: &[&str], width: usize) -> String {
        let spans = fields
            .iter()
            .map(|field| Span(Tone::Plain, (*field).to_owned()))
            .collect();
        Text(vec![Block::Line(spans)]).render(Some(width), false)
    }

    #[test]
    fn a_line_wraps_between_fields() {
        assert_eq!(
            rendered(&["alpha", "beta", "gamma"], 12),
            "alpha  beta\n  gamma\n"
        );
    }

    #[test]
    fn a_field_wider_than_the_terminal_is_kept_whole_over_lines() {
        assert_eq!(rendered(&["abcdefghij"], 6), "abcdef\n  ghij\n");
    }

    #[test]
    fn what_is_to_be_copied_is_not_wrapped() {
        let mut text = Text::default();
        text.whole(
            "equal",
            vec![Span(Tone::Plain, "pipectl plan run 1".to_owned())],
        );
        assert_eq!(
            text.render(Some(10), false),
            "equal     pipectl plan run 1\n"
        );
    }

    #[test]
    fn colours_appear_only_when_asked_for() {
        let mut text = Text::default();
        text.tell(Tone::Bad, "no");
        assert_eq!(text.render(None, false), "no\n");
        assert!(text.render(None, true).contains("\u{1b}["));
    }
}
