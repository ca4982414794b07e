//! `pipectl chaos run`: one experiment, once or with several seeds, on the daemon that runs or on a copy.

use std::path::PathBuf;
use std::time::Duration;

use pipectl_shared::chaos::{Form, Preview, Run, RunParams, Started, Verdict as Outcome};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::Verdict;
use super::super::app::App;
use super::copy::Copy;
use super::records::{self, ms, share};
use super::{Door, follow, shown, tone, worst};
use crate::failure::{Exit, Failure};
use crate::output::human::{or_unknown, parse_duration};
use crate::output::{Cell, Column, Document, Format, Span, Table, Text, Tone};

const AFTER_HELP: &str = "\
Examples:
  pipectl chaos run worker.kill --copy
  pipectl chaos run net.latency --for 30s --set delay=200ms --set share=50% --dry-run
  pipectl chaos run redis.kill --yes -o json | jq .verdict
  pipectl chaos run worker.pause --copy --repeat 5 --seed 1
Ctrl-C ends the experiment and waits until everything is taken back; a second one leaves that to the daemon.";

/// Run an experiment: check that all is well, hurt, watch, take back, count, report
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Its name: see `pipectl chaos ls`
    name: String,
    /// How long the fault lasts: 500ms, 30s, 1m [default: the experiment's own]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lasts: Option<String>,
    /// One of its parameters, such as count=2; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Events a second that it sends to count what becomes of them [default: chaos.rate]
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Decides everything random [default: drawn and told]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run it so many times with seeds that follow on each other, and tell median and worst
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    repeat: u64,
    /// Begin it and end; see it with `pipectl chaos ls` and `report`
    #[arg(long, conflicts_with_all = ["repeat", "copy", "out"])]
    no_wait: bool,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    flags: Flags,
}

/// Where it is run, and where its files go.
#[derive(Debug, clap::Args)]
pub(super) struct PlaceArgs {
    /// On a private copy of the pipeline: a daemon and a Redis of their own, without its sources, removed afterwards
    #[arg(long)]
    pub(super) copy: bool,
    /// Configuration of the copy [default: as for `pipelined run`]
    #[arg(long, value_name = "FILE", requires = "copy")]
    pub(super) config: Option<PathBuf>,
    /// Copy the files of the report into this folder
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) out: Option<PathBuf>,
}

/// Confirmation.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Confirmation")]
pub(super) struct Flags {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking; on a copy nothing is asked
    #[arg(long)]
    yes: bool,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Flags {
    /// Whether nothing is to be done.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether nobody needs to be asked.
    pub(super) fn is_confirmed(&self) -> bool {
        self.yes
    }

    /// Why.
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.clone()
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, such as count=2")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Checked here, so that a typing error is one of usage; the daemon reads the same text.
fn duration(text: &str) -> Result<String, String> {
    match pipectl_shared::units::parse_duration(text) {
        Ok(_) => Ok(text.to_owned()),
        // A bare number is seconds here as for every other flag.
        Err(fault) => match parse_duration(text) {
            Ok(lasts) => Ok(format!("{}ms", lasts.as_millis())),
            Err(_) => Err(fault.to_string()),
        },
    }
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    if !args.flags.dry_run {
        app.may_change("chaos run")?;
    }
    if !args.place.copy {
        return on(app, args, &Door::of_daemon(app)).map(|(exit, _)| exit);
    }
    let mut copy = Copy::start(app, args.place.config.as_deref())?;
    let done = on(app, args, &copy.door(app));
    let is_good = matches!(&done, Ok((_, all_passed)) if *all_passed);
    copy.end(app, is_good);
    done.map(|(exit, _)| exit)
}

/// Runs it where the door leads; also whether every run passed.
fn on(app: &App, args: &Args, door: &Door<'_>) -> Result<(Exit, bool), Failure> {
    let mut params = RunParams {
        name: args.name.clone(),
        params: params_of(&args.set),
        lasts: args.lasts.clone(),
        rate: args.rate,
        seed: args.seed,
        dry_run: true,
        reason: args.flags.reason.clone(),
    };
    let preview: Preview = door.open()?.call("chaos.run", &params)?;
    if args.flags.dry_run {
        app.screen.show(&shown::preview(&preview)?)?;
        let exit = match preview.refused {
            Some(_) => Exit::Refused,
            None => Exit::Ok,
        };
        return Ok((exit, true));
    }
    confirm(app, args, &preview)?;
    params.dry_run = false;
    let first = preview.seed;
    if args.no_wait {
        params.seed = Some(first);
        let started: Started = door.open()?.call("chaos.run", &params)?;
        let mut text = Text::default();
        text.0.push(crate::output::Block::Line(vec![
            Span(Tone::Strong, started.id.clone()),
            Span(Tone::Plain, format!("began, seed {}", started.seed)),
        ]));
        let document = Document::one("chaos-started", &started, text)?;
        app.screen.show(&document)?;
        return Ok((Exit::Ok, true));
    }
    let mut runs = Vec::new();
    for n in 0..args.repeat {
        params.seed = Some(first.wrapping_add(n));
        let run = once(app, door, &params)?;
        keep(app, door, &run, args.place.out.as_deref())?;
        if args.repeat > 1 {
            told(app, n, args.repeat, &run);
        }
        let is_over = app.interrupt.seen();
        runs.push(run);
        if is_over {
            break;
        }
    }
    let exit = worst(runs.iter().map(|run| run.verdict));
    let all_passed = runs.iter().all(|run| run.verdict == Outcome::Pass);
    match &runs[..] {
        [run] if args.repeat == 1 => show(app, door, run, args.place.copy)?,
        _ => app.screen.show(&repeated(&runs)?)?,
    }
    Ok((exit, all_passed))
}

/// Begins a run and follows it to its end.
pub(super) fn once(app: &App, door: &Door<'_>, params: &RunParams) -> Result<Run, Failure> {
    let mut client = door.open()?;
    let started: Started = client.call("chaos.run", params)?;
    app.debug(&format!("{} began, seed {}", started.id, started.seed));
    follow::follow(door, client, &started.id)
}

/// Without `--yes` a person is asked, on a terminal; on a copy there is nothing to lose.
fn confirm(app: &App, args: &Args, preview: &Preview) -> Result<(), Failure> {
    // It would only be refused after the answer.
    if let Some(refused) = &preview.refused {
        return Err(Failure::new(
            Exit::Refused,
            format!("{}: {refused}", args.name),
        ));
    }
    if args.flags.yes || args.place.copy {
        return Ok(());
    }
    let shown = shown::preview(preview)?;
    let refused = || {
        let message = format!("{}: not confirmed; nothing was done", args.name);
        Failure::new(Exit::Refused, message)
            .hint("add --yes, or --copy to run it on a private copy")
    };
    if !app.screen.can_ask {
        app.screen.show(&shown)?;
        return Err(refused());
    }
    app.screen.aside(&shown);
    let question = format!("run {} on {}? [y/N]", args.name, preview.targets.join(", "));
    let answer = app.screen.ask(&question);
    if answer.is_some_and(|a| matches!(a.to_ascii_lowercase().as_str(), "y" | "yes")) {
        return Ok(());
    }
    Err(refused())
}

/// The run as it was asked for; as Markdown its report.
fn show(app: &App, door: &Door<'_>, run: &Run, on_a_copy: bool) -> Result<(), Failure> {
    if app.screen.format != Format::Md {
        return app.screen.show(&shown::document(run, on_a_copy)?);
    }
    let report = records::get(
        &mut door.open_undisturbed()?,
        Some(run.id.clone()),
        Form::Markdown,
    )?;
    app.screen
        .write(&records::cleaned(Form::Markdown, &report.text))
}

/// Copies the files of a run to where they were asked for; an empty path is `chaos-<id>` here.
pub(super) fn keep(
    app: &App,
    door: &Door<'_>,
    run: &Run,
    out: Option<&std::path::Path>,
) -> Result<(), Failure> {
    let Some(out) = out else { return Ok(()) };
    let folder = match out.as_os_str().is_empty() {
        true => PathBuf::from(format!("chaos-{}", run.id)),
        false => out.join(&run.id),
    };
    let failed = |error: std::io::Error| {
        let message = format!("write the report into {}: {error}", folder.display());
        Failure::new(Exit::Failed, message)
    };
    // The daemon's word is not enough to choose a path by.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if run.id.starts_with('.') || !run.id.chars().all(is_plain) {
        let message = "the daemon sent nonsense: an id that is no name of a folder";
        return Err(Failure::new(Exit::Failed, message));
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let mut client = door.open_undisturbed()?;
    for form in [
        Form::Markdown,
        Form::Json,
        Form::Journal,
        Form::Junit,
        Form::Series,
    ] {
        let report = records::get(&mut client, Some(run.id.clone()), form)?;
        std::fs::write(folder.join(form.file()), report.text).map_err(failed)?;
    }
    app.note(&format!("the report is in {}", folder.display()));
    Ok(())
}

/// One of several, as soon as it has ended.
fn told(app: &App, n: u64, of: u64, run: &Run) {
    let m = &run.measurements;
    app.note(&format!(
        "{}/{of}  seed {}  {}  recovered {}  availability {}  lost {}  duplicated {}  {}",
        n + 1,
        run.seed,
        run.verdict.word(),
        ms(m.recover_ms),
        or_unknown(m.availability, share),
        or_unknown(m.lost, |n| n.to_string()),
        or_unknown(m.duplicated, |n| n.to_string()),
        run.why
    ));
}

#[derive(Debug, Serialize)]
struct Repeated<'a> {
    experiment: &'a str,
    verdict: Option<Outcome>,
    median: Figures,
    worst: Figures,
    runs: &'a [Run],
}

/// What is compared between runs; `None` where a run does not know it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Figures {
    recover_ms: Option<f64>,
    availability: Option<f64>,
    lost: Option<f64>,
    duplicated: Option<f64>,
}

const FIGURES: &[Column] = &[
    Column::text("SEED", 0, 6),
    Column::text("VERDICT", 0, 8),
    Column::number("RECOVER", 0),
    Column::number("AVAIL", 0),
    Column::number("LOST", 0),
    Column::number("DOUBLED", 0),
    Column::text("WHY", 1, 16),
];

fn repeated(runs: &[Run]) -> Result<Document, Failure> {
    let all: Vec<Figures> = runs.iter().map(figures).collect();
    // The run that was worst in one figure need not be so in another: each column has its own.
    let column = |of: fn(&Figures) -> Option<f64>, less_is_worse: bool| {
        let mut known: Vec<f64> = all.iter().filter_map(of).collect();
        known.sort_by(f64::total_cmp);
        let worst = if less_is_worse {
            known.first()
        } else {
            known.last()
        };
        (median(&known), worst.copied())
    };
    let recover = column(|f| f.recover_ms, false);
    let availability = column(|f| f.availability, true);
    let (lost, duplicated) = (column(|f| f.lost, false), column(|f| f.duplicated, false));
    let median = Figures {
        recover_ms: recover.0,
        availability: availability.0,
        lost: lost.0,
        duplicated: duplicated.0,
    };
    let worst_of = Figures {
        recover_ms: recover.1,
        availability: availability.1,
        lost: lost.1,
        duplicated: duplicated.1,
    };
    let verdict = runs
        .iter()
        .map(|run| run.verdict)
        .max_by_key(|verdict| super::rank(*verdict));
    let mut table = Table::new(FIGURES);
    let cells = |f: &Figures| {
        let number = |n: Option<f64>| Cell::new(or_unknown(n, |n| n.to_string()));
        vec![
            Cell::new(ms(f.recover_ms)),
            Cell::new(or_unknown(f.availability, share)),
            number(f.lost),
            number(f.duplicated),
        ]
    };
    for (run, figures) in runs.iter().zip(&all) {
        let mut row = vec![
            Cell::new(run.seed.to_string()),
            Cell::new(run.verdict.word()).tone(tone(run.verdict)),
        ];
        row.extend(cells(figures));
        row.push(Cell::new(&run.why));
        table.rows.push(row);
    }
    for (name, figures) in [("median", &median), ("worst", &worst_of)] {
        let mut row = vec![Cell::new(name).tone(Tone::Strong), Cell::new("")];
        row.extend(cells(figures));
        row.push(Cell::new(""));
        table.rows.push(row);
    }
    let mut text = Text::default();
    text.table(table);
    let body = Repeated {
        experiment: runs.first().map_or("", |run| &run.experiment),
        verdict,
        median,
        worst: worst_of,
        runs,
    };
    Document::one("chaos-repeat", &body, text)
}

#[expect(clippy::cast_precision_loss, reason = "counts of events")]
fn figures(run: &Run) -> Figures {
    let m = &run.measurements;
    Figures {
        recover_ms: m.recover_ms,
        availability: m.availability,
        lost: m.lost.map(|n| n as f64),
        duplicated: m.duplicated.map(|n| n as f64),
    }
}

/// The middle one, or the mean of the two in the middle. `sorted` is.
fn median(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => sorted.get(n / 2).copied(),
        _ => Some(f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])),
    }
}

/// How long something may take until a pipeline is well again.
pub(super) const WELL_WAIT: Duration = Duration::from_secs(90);

/// Parameters of an experiment as `--set` gives them.
pub(super) fn params_of(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 3.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
    }

    #[test]
    fn durations_and_pairs_are_read_before_anything_is_asked() {
        assert_eq!(duration("30s").as_deref(), Ok("30s"));
        assert_eq!(duration("1m30s").as_deref(), Ok("1m30s"));
        assert_eq!(duration("30").as_deref(), Ok("30000ms"));
        assert!(duration("soon").is_err());
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err());
    }
}
