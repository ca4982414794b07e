//! `pipectl ingest FILE|-`: the lines of a file become events, once, however often the command is repeated.

mod feed;
mod input;
mod sender;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Verdict;
use super::app::App;
use crate::client::ClientError;
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::output::human::{count, duration_s, or_unknown, rate};
use crate::output::{Block, Document, Span, Text, Tone, clean};
use feed::{Feed, Format, Mapping};
use input::{Input, Next};
use sender::Sender;

/// Send the lines of a file (or of stdin, `-`) into the pipeline and wait until they are settled
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each line's id comes from the name, its place and its bytes, so the same file sent twice counts once: after Ctrl-C or a \
failure run the same command again. gzip is recognised by its first bytes. A line that cannot be read becomes a dead \
letter.\n\nWithout --timeout it gives up (exit 7) after five minutes in which nothing at all was accepted or settled.")]
pub(super) struct Args {
    /// File, or - for stdin
    file: PathBuf,
    /// What the lines are: ndjson, csv or combined (access log); guessed by name and content when absent
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Which field plays a role (id, key, type, time, value, product, session), such as key=user
    #[arg(long, value_name = "ROLE=FIELD")]
    map: Vec<Mapping>,
    /// Name of the input, part of each line's id (default: the file's name without .gz, or stdin)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Do not wait until the lines are settled
    #[arg(long)]
    no_wait: bool,
}

/// The document.
#[derive(Debug, Default, Serialize)]
struct Done {
    lines: u64,
    accepted: u64,
    deduplicated: u64,
    rejected: u64,
    /// `null` when the daemon could not tell any more.
    dead: Option<u64>,
    seconds: f64,
    settled: bool,
}

/// How long the input may be silent before what is together is sent.
const LINGER: Duration = Duration::from_millis(200);

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    app.may_change("ingest")?;
    let input = Input::open(&args.file)?;
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.file));
    let limit = app.globals.timeout.map(Deadline::after);
    let mut client = app.connect()?;
    app.interrupt.cooperate();
    let begun = clock::monotonic();
    let mut done = Done::default();
    if args.file.as_os_str() == "-" && std::io::stdin().is_terminal() {
        app.note("reading lines from this terminal; Ctrl-D ends");
    }
    let bar = bar(app, &name, input.size);
    let ended = {
        let mut sender = Sender::open(&mut client, &name, limit)?;
        let ended = send(app, args, &name, &input, &mut sender, &bar, &mut done);
        done.accepted = sender.counts.accepted;
        done.deduplicated = sender.counts.deduplicated;
        done.rejected = sender.counts.rejected;
        done.lines = done.accepted + done.rejected;
        if let Some(reason) = &sender.refusal {
            app.note(&format!(
                "pipectl: {} lines were refused: {reason}",
                count(done.rejected)
            ));
        }
        ended
    };
    bar.finish_and_clear();
    done.seconds = begun.elapsed().as_secs_f64();
    match app.screen.show(&document(&done)?) {
        Err(failure) if failure.message.is_some() => return Err(failure),
        _ => {}
    }
    ended?;
    Ok(match (done.rejected, done.accepted) {
        (0, _) => Exit::Ok,
        (_, 0) => Exit::Failed,
        (_, _) => Exit::Partly,
    })
}

/// Reads, pushes and waits. What was read before a fault of the input is pushed and settled first; then the fault is told.
fn send(
    app: &App,
    args: &Args,
    name: &str,
    input: &Input,
    sender: &mut Sender<'_>,
    bar: &ProgressBar,
    done: &mut Done,
) -> Result<(), Failure> {
    let again = |error: ClientError| {
        let failure = match error {
            ClientError::TimedOut { .. } => {
                Failure::new(Exit::TimedOut, "ingest: the daemon takes no more lines")
            }
            ClientError::Interrupted => Failure::new(Exit::Interrupted, "ingest: interrupted"),
            other => Failure::from(other),
        };
        failure.hint("run the same command again: lines that are in already count once")
    };
    let mut feed: Option<Feed> = None;
    let mut head = Vec::new();
    let fault = loop {
        if app.interrupt.seen() {
            return Err(again(ClientError::Interrupted));
        }
        match input.next(LINGER) {
            Next::Bytes(bytes) => match &mut feed {
                Some(feed) => {
                    feed.push(&bytes);
                    take(feed, sender).map_err(|stop| stop.failure(again))?;
                }
                None => {
                    head.extend_from_slice(&bytes);
                    // A first line tells the format; a first chunk without one has to do.
                    if args.format.is_some() || head.contains(&b'\n') || head.len() > 64 * 1024 {
                        take(begin(args, name, &mut head, &mut feed)?, sender)
                            .map_err(|stop| stop.failure(again))?;
                    }
                }
            },
            Next::Nothing => sender.flush().map_err(again)?,
            Next::End => break None,
            Next::Broken(why) => break Some(why),
        }
        progress(bar, input, sender);
    };
    if feed.is_none() && !head.is_empty() {
        begin(args, name, &mut head, &mut feed)?;
    }
    if let Some(feed) = &mut feed {
        // A line that a broken input cut off is no line: sent with another end later, it would count twice.
        if fault.is_none() {
            feed.finish();
        }
        take(feed, sender).map_err(|stop| stop.failure(again))?;
    }
    sender.finish().map_err(again)?;
    progress(bar, input, sender);
    let (closed, settled) = sender.close(!args.no_wait).map_err(again)?;
    done.settled = settled;
    // The daemon counts dead letters only once the session is over.
    let is_over = settled || args.no_wait;
    done.dead = closed.filter(|_| is_over).map(|closed| closed.dead);
    if let Some(why) = fault {
        let message = format!(
            "read {}: {why}; the lines before it are in",
            args.file.display()
        );
        return Err(Failure::new(Exit::Failed, message).hint(
            "send the whole file later under the same name: lines that are in already count once",
        ));
    }
    if !settled && !args.no_wait {
        return Err(Failure::new(
            Exit::TimedOut,
            "ingest: wait until the lines are settled: some are still under way",
        )
        .hint("see `pipectl ledger`, `pipectl pending ls`; or wait longer with --timeout"));
    }
    Ok(())
}

/// Why the lines at hand could not be sent.
enum Stop {
    Client(ClientError),
    Input(Failure),
}

impl Stop {
    fn failure(self, of_client: impl FnOnce(ClientError) -> Failure) -> Failure {
        match self {
            Self::Client(error) => of_client(error),
            Self::Input(failure) => failure,
        }
    }
}

fn take(feed: &mut Feed, sender: &mut Sender<'_>) -> Result<(), Stop> {
    while let Some(line) = feed.next().map_err(Stop::Input)? {
        sender.add(line).map_err(Stop::Client)?;
    }
    Ok(())
}

fn begin<'f>(
    args: &Args,
    name: &str,
    head: &mut Vec<u8>,
    feed: &'f mut Option<Feed>,
) -> Result<&'f mut Feed, Failure> {
    let file = args.file.to_string_lossy();
    let format = args
        .format
        .or_else(|| feed::guess(&file, head))
        .ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("read {file}: what its lines are cannot be guessed"),
            )
            .hint("say --format ndjson, csv or combined")
        })?;
    let feed = feed.insert(Feed::new(format, args.map.clone(), name)?);
    feed.push(&std::mem::take(head));
    Ok(feed)
}

/// The file's base name without `.gz`, or `stdin`.
fn name_of(file: &Path) -> String {
    if file.as_os_str() == "-" {
        return "stdin".to_owned();
    }
    let name = file
        .file_name()
        .unwrap_or(file.as_os_str())
        .to_string_lossy();
    name.strip_suffix(".gz").unwrap_or(&name).to_owned()
}

fn bar(app: &App, name: &str, size: Option<u64>) -> ProgressBar {
    if !app.screen.can_animate {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(size, target);
    let template = match size {
        Some(_) => "{prefix} [{bar:30}] {bytes}/{total_bytes}  {msg}",
        None => "{prefix} {elapsed}  {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(clean::line(name));
    bar
}

fn progress(bar: &ProgressBar, input: &Input, sender: &Sender<'_>) {
    if bar.is_hidden() {
        return;
    }
    let lines = sender.counts.accepted + sender.counts.rejected;
    let seconds = bar.elapsed().as_secs_f64();
    let per_s = if seconds > 0.0 {
        rate(lines as f64 / seconds)
    } else {
        String::new()
    };
    bar.set_message(format!("{} lines  {per_s}", count(lines)));
    bar.set_position(input.n_read());
}

fn document(done: &Done) -> Result<Document, Failure> {
    let per_s = if done.seconds > 0.0 {
        rate(done.lines as f64 / done.seconds)
    } else {
        rate(0.0)
    };
    let fields = vec![
        Span(Tone::Strong, format!("{} lines", count(done.lines))),
        Span(Tone::Plain, format!("accepted {}", count(done.accepted))),
        Span(
            Tone::Plain,
            format!("deduplicated {}", count(done.deduplicated)),
        ),
        Span(
            Tone::warn_if(done.rejected > 0),
            format!("rejected {}", count(done.rejected)),
        ),
        Span(
            Tone::warn_if(done.dead.is_some_and(|n| n > 0)),
            format!("dead {}", or_unknown(done.dead, count)),
        ),
        if done.settled {
            Span(Tone::Good, "settled".to_owned())
        } else {
            Span(Tone::Warn, "not settled".to_owned())
        },
        Span(
            Tone::Dim,
            format!("in {}, {per_s}", duration_s(done.seconds)),
        ),
    ];
    Document::one("ingest", done, Text(vec![Block::Line(fields)]))
}
