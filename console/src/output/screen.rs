//! Where output goes and what it may look like there: format, width, colour, and who is a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use super::document::Document;
use super::text::Text;
use super::{clean, csv, json, markdown};
use crate::clock;
use crate::failure::{Exit, Failure};

/// How documents are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; unknown is `?`, what does not apply is empty.
    #[default]
    Text,
    /// One JSON document with `schema` and `ts`; unknown is null.
    Json,
    /// One JSON object a line, each with `schema` and `ts`.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// Markdown.
    Md,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// stdout and stderr as one place to write to.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// How documents are written.
    pub(crate) format: Format,
    /// Whether text is coloured.
    pub(crate) colour: bool,
    /// Whether stdout is a terminal.
    pub(crate) stdout_is_terminal: bool,
    /// Whether a person can be asked: stdin and stderr are terminals and `--no-input` was not said.
    pub(crate) can_ask: bool,
    /// Whether a progress bar can be drawn: stderr is a terminal and `--quiet` was not said.
    pub(crate) can_animate: bool,
    width: Option<usize>,
}

impl Screen {
    /// Looks at the process's terminal and environment.
    pub(crate) fn new(format: Format, when: ColorWhen, no_input: bool, quiet: bool) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let stderr_is_terminal = io::stderr().is_terminal();
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let colour = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => stdout_is_terminal && set("NO_COLOR").is_none() && !dumb,
        };
        let columns = set("COLUMNS")
            .and_then(|columns| columns.to_str()?.parse::<usize>().ok())
            .filter(|n| *n > 0);
        let size = || {
            let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
            (size.ws_col > 0).then_some(usize::from(size.ws_col))
        };
        Self {
            format,
            colour,
            stdout_is_terminal,
            can_ask: !no_input && io::stdin().is_terminal() && stderr_is_terminal,
            can_animate: stderr_is_terminal && !quiet && !dumb,
            width: columns.or_else(|| if stdout_is_terminal { size() } else { None }),
        }
    }

    /// Writes a document to stdout.
    pub(crate) fn show(&self, document: &Document) -> Result<(), Failure> {
        self.write(&self.render(document, false)?)
    }

    /// Writes a part of a stream: JSON as lines, CSV with its header only in the first part.
    pub(crate) fn show_part(&self, document: &Document, first: bool) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => json::lines(document, &clock::now_rfc3339()),
            _ => self.render(document, !first)?,
        };
        self.write(&text)
    }

    /// Writes a document on one line of JSON.
    pub(crate) fn show_compact(&self, document: &Document) -> Result<(), Failure> {
        self.write(&json::document(document, &clock::now_rfc3339(), false))
    }

    /// Text for this terminal.
    pub(crate) fn render_text(&self, text: &Text) -> String {
        text.render(self.width, self.colour)
    }

    fn render(&self, document: &Document, headless: bool) -> Result<String, Failure> {
        Ok(match self.format {
            Format::Text => document.text.render(self.width, self.colour),
            Format::Json => {
                json::document(document, &clock::now_rfc3339(), self.stdout_is_terminal)
            }
            Format::Jsonl => json::lines(document, &clock::now_rfc3339()),
            Format::Csv => csv::document(document, headless)?,
            Format::Md => markdown::text(&document.text),
        })
    }

    /// Writes our own text to stdout as it is.
    pub(crate) fn write(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(|error| match error.kind() {
                // `pipectl ... | head`: the reader has what it wanted.
                io::ErrorKind::BrokenPipe => Failure::silent(Exit::Ok),
                _ => Failure::new(Exit::Failed, format!("write to stdout: {error}")),
            })
    }

    /// Writes one cleaned line to stderr. A closed stderr is nobody's loss.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", clean::line(text));
    }

    /// Writes text for people to stderr, cleaned.
    pub(crate) fn aside(&self, document: &Document) {
        let text = document
            .text
            .render(self.width, self.colour && self.can_ask);
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Asks on stderr and returns the answer; `None` when input ended.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{} ", clean::line(question));
        let _ = stderr.flush();
        drop(stderr);
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(answer.trim().to_owned()),
        }
    }
}
