//! What every noun needs: the globals, the screen, a way to the daemon, and watching.

use std::time::Duration;

use super::{Globals, Verdict};
use crate::client::{Candidate, Client, ClientError, Places};
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Document, Format, Screen};

/// How long one answer may take unless `--timeout` says otherwise.
const ANSWER: Duration = Duration::from_secs(10);

/// Lives as long as the process.
#[derive(Debug)]
pub(super) struct App {
    pub(super) globals: Globals,
    pub(super) screen: Screen,
    pub(super) interrupt: Interrupt,
    pub(super) places: Places,
}

impl App {
    pub(super) fn new(globals: Globals) -> Self {
        let screen = Screen::new(
            globals.output,
            globals.color,
            globals.no_input,
            globals.quiet,
        );
        Self {
            screen,
            interrupt: Interrupt::install(),
            places: Places::read(),
            globals,
        }
    }

    /// `--timeout`, or what the noun thinks right.
    pub(super) fn timeout(&self, default: Duration) -> Duration {
        self.globals.timeout.unwrap_or(default)
    }

    /// Where the socket may be.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.places.candidates(self.globals.socket.as_deref(), None)
    }

    /// Connects to the first daemon that answers.
    pub(super) fn connect(&self) -> Result<Client, ClientError> {
        self.connect_within(self.timeout(ANSWER))
    }

    /// The same with another patience.
    pub(super) fn connect_within(&self, timeout: Duration) -> Result<Client, ClientError> {
        Ok(self.connect_to(&self.candidates(), timeout)?.0)
    }

    /// The same with candidates of its own; also says which one answered.
    pub(super) fn connect_to(
        &self,
        candidates: &[Candidate],
        timeout: Duration,
    ) -> Result<(Client, Candidate), ClientError> {
        let (client, candidate) = Client::connect_first(candidates, timeout, &self.interrupt)?;
        let hello = client.hello();
        self.debug(&format!(
            "connected to pipelined {} (pid {}) at {} as {} ({:?})",
            hello.version,
            hello.pid,
            candidate.path.display(),
            hello.identity.user,
            hello.role
        ));
        Ok((client, candidate))
    }

    /// Refuses under `--read-only`, before anything is sent.
    pub(super) fn may_change(&self, what: &str) -> Result<(), Failure> {
        if self.globals.read_only {
            return Err(
                Failure::new(Exit::Refused, format!("{what}: refused by --read-only"))
                    .hint("leave --read-only out, or use --dry-run to see what would be done"),
            );
        }
        Ok(())
    }

    /// A note for a person, unless `--quiet`.
    pub(super) fn note(&self, text: &str) {
        if !self.globals.quiet {
            self.screen.note(text);
        }
    }

    /// What is done on the way, with `--verbose`.
    pub(super) fn debug(&self, text: &str) {
        if self.globals.verbose {
            self.screen.note(text);
        }
    }

    /// Shows what `fetch` makes of the daemon: once, or with `--watch` until Ctrl-C. A daemon that goes away while it is
    /// watched is told and waited for.
    pub(super) fn view(&self, fetch: impl Fn(&mut Client) -> Result<Document, Failure>) -> Verdict {
        let Some(every) = self.globals.watch else {
            let document = fetch(&mut self.connect()?)?;
            self.screen.show(&document)?;
            return Ok(Exit::Ok);
        };
        let mut client = Some(self.connect()?);
        let mut first = true;
        loop {
            let next = Deadline::after(every.max(Duration::from_millis(100)));
            match self.fetch_once(&mut client, &fetch) {
                Ok(document) => {
                    self.draw(&document, first)?;
                    first = false;
                }
                Err(failure) if failure.exit == Exit::Usage || failure.exit == Exit::Refused => {
                    return Err(failure);
                }
                Err(failure) => {
                    client = None;
                    let message = failure.message.unwrap_or_default();
                    self.note(&format!(
                        "pipectl: {message}; trying again every {}s",
                        every.as_secs_f32()
                    ));
                }
            }
            clock::pause(next.left().unwrap_or_default());
        }
    }

    fn fetch_once(
        &self,
        client: &mut Option<Client>,
        fetch: &impl Fn(&mut Client) -> Result<Document, Failure>,
    ) -> Result<Document, Failure> {
        if client.is_none() {
            *client = Some(self.connect()?);
        }
        match client {
            Some(client) => fetch(client),
            None => Err(Failure::silent(Exit::Failed)),
        }
    }

    fn draw(&self, document: &Document, first: bool) -> Result<(), Failure> {
        match self.screen.format {
            Format::Text if self.screen.stdout_is_terminal => {
                // Home, and clear below: our own two sequences.
                self.screen.write("\u{1b}[H\u{1b}[2J")?;
                self.screen.write(&format!(
                    "{}  every {}s, Ctrl-C ends\n\n",
                    clock::now_rfc3339(),
                    self.every_s()
                ))?;
                self.screen.show(document)
            }
            Format::Text => {
                if !first {
                    self.screen.write("\n")?;
                }
                self.screen.show(document)
            }
            Format::Json if document.list.is_some() => {
                // One document a line, so a list stays one document.
                self.screen.show_compact(document)
            }
            Format::Json | Format::Jsonl | Format::Csv | Format::Md => {
                self.screen.show_part(document, first)
            }
        }
    }

    fn every_s(&self) -> f32 {
        self.globals.watch.unwrap_or_default().as_secs_f32()
    }
}
