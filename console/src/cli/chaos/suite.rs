//! `pipectl chaos suite smoke|full`: many experiments, one after the other, and a table of what they showed.
//!
//! A pair is one run with both faults in it (`net.latency+worker.kill`). A suite with a `--state` file goes on behind the last
//! row of it.
//!
//! Past 500 lines because a suite is one walk: its steps, its rows, what is kept between two calls, and its table.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pipectl_shared::chaos::{Catalogue, Run, RunParams, Verdict as Outcome};
use pipectl_shared::spec::ParamKind;
use serde::{Deserialize, Serialize};

use super::super::app::App;
use super::super::{Verdict, status};
use super::copy::Copy;
use super::records::{ms, share};
use super::run::{Flags, PlaceArgs, WELL_WAIT, keep, once, params_of};
use super::{Door, list, tone, worst};
use crate::clock::Deadline;
use crate::failure::{Exit, Failure};
use crate::output::human::{count, or_unknown};
use crate::output::{Cell, Column, Document, Table, Text, Tone};

const AFTER_HELP: &str = "\
Examples:
  pipectl chaos suite smoke --copy
  pipectl chaos suite full --copy --rate 5000 --state resilience.json -o md > resilience.md
The same command goes on behind the last row of its --state file. A pair is one run with both faults.";

/// Run many experiments and tell in one table what they showed
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Which
    #[arg(value_enum)]
    which: Which,
    /// Events a second [default: 1000 for smoke, 5000 for full]
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Seed of the first; the others follow
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// File with a row for each run that has ended; a suite that was ended early goes on behind the last
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Which {
    /// Eight experiments that meet each kind of fault, about four minutes
    Smoke,
    /// Every experiment, each of its points, then chosen pairs
    Full,
}

const SMOKE: [&str; 8] = [
    "worker.kill",
    "worker.pause",
    "daemon.kill",
    "redis.kill",
    "redis.flushgroup",
    "net.latency",
    "data.poison",
    "data.duplicate",
];

/// Faults that meet each other where it hurts: a zombie and a lost server, a killed worker on a slow network,
/// duplicates and a group that is made again, a backlog and a new daemon.
const PAIRS: [(&str, &str); 4] = [
    ("worker.pause", "redis.kill"),
    ("net.latency", "worker.kill"),
    ("data.duplicate", "redis.flushgroup"),
    ("data.burst", "daemon.kill"),
];

/// One run that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// What the table shows.
    label: String,
    name: String,
    set: Vec<(String, String)>,
}

/// What is kept between two calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    suite: Which,
    rate: u64,
    seed: u64,
    rows: Vec<Row>,
}

/// One run that was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Row {
    step: String,
    experiment: String,
    verdict: Option<Outcome>,
    why: String,
    id: Option<String>,
    seed: u64,
    detect_ms: Option<f64>,
    mitigate_ms: Option<f64>,
    recover_ms: Option<f64>,
    availability: Option<f64>,
    probes_good: u64,
    probes: u64,
    freshness_worst_ms: Option<f64>,
    lost: Option<u64>,
    duplicated: Option<u64>,
    gone: Option<u64>,
    faults_injected: u64,
    acknowledged: u64,
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    let rate = args.rate.unwrap_or(match args.which {
        Which::Smoke => 1_000,
        Which::Full => 5_000,
    });
    let state = State {
        suite: args.which,
        rate,
        seed: args.seed,
        rows: Vec::new(),
    };
    let mut state = match &args.state {
        Some(path) => resumed(path, state)?,
        None => state,
    };
    if !args.flags.is_dry_run() {
        app.may_change("chaos suite")?;
        if !args.place.copy && !args.flags.is_confirmed() {
            let message = "chaos suite: not confirmed; nothing was done";
            return Err(Failure::new(Exit::Refused, message).hint(
                "add --copy to run it on a private copy, or --yes for the daemon that runs",
            ));
        }
    }
    app.interrupt.cooperate();
    let mut ground = Ground::new(app, args)?;
    let done = steps(app, args, &mut ground, &mut state);
    let all_passed = state
        .rows
        .iter()
        .all(|row| row.verdict == Some(Outcome::Pass));
    ground.end(app, all_passed && done.is_ok());
    if let Ok(Some(steps)) = &done {
        app.screen.show(&plan(steps)?)?;
        return Ok(Exit::Ok);
    }
    // What was found is shown, also when the rest could not be run.
    app.screen.show(&document(&state)?)?;
    done?;
    if app.interrupt.seen() {
        return Err(Failure::silent(Exit::Interrupted));
    }
    Ok(worst(state.rows.iter().filter_map(|row| row.verdict)))
}

/// Runs what is not done yet; with `--dry-run` only says what that is.
fn steps(
    app: &App,
    args: &Args,
    ground: &mut Ground,
    state: &mut State,
) -> Result<Option<Vec<Step>>, Failure> {
    let catalogue = list::catalogue(&mut ground.door(app).open()?)?;
    let steps = steps_of(args.which, &catalogue);
    if args.flags.is_dry_run() {
        return Ok(Some(steps));
    }
    let n = steps.len();
    for (i, step) in steps.iter().enumerate().skip(state.rows.len()) {
        if app.interrupt.seen() {
            break;
        }
        ground.make_well(app, args)?;
        app.note(&format!("pipectl: {} of {n}: {}", i + 1, step.label));
        let seed = args.seed.wrapping_add(i as u64);
        let row = one(app, args, &ground.door(app), step, state.rate, seed)?;
        app.note(&format!(
            "pipectl: {} of {n}: {}: {}: {}",
            i + 1,
            step.label,
            row.verdict.map_or("?", Outcome::word),
            row.why
        ));
        state.rows.push(row);
        if let Some(path) = &args.state {
            save(path, state)?;
        }
    }
    Ok(None)
}

/// One run as a row. A refusal is one, too; a daemon that is gone is not.
fn one(
    app: &App,
    args: &Args,
    door: &Door<'_>,
    step: &Step,
    rate: u64,
    seed: u64,
) -> Result<Row, Failure> {
    let params = RunParams {
        name: step.name.clone(),
        params: params_of(&step.set),
        rate: Some(rate),
        seed: Some(seed),
        reason: args.flags.reason(),
        ..RunParams::default()
    };
    let bare = Row {
        step: step.label.clone(),
        experiment: step.name.clone(),
        seed,
        ..Row::default()
    };
    match once(app, door, &params) {
        Ok(run) => {
            keep(app, door, &run, args.place.out.as_deref())?;
            Ok(row(bare, run))
        }
        Err(failure) if failure.exit == Exit::Refused || failure.exit == Exit::Failed => {
            let verdict = match failure.exit {
                Exit::Refused => Outcome::Refused,
                _ => Outcome::Failed,
            };
            Ok(Row {
                verdict: Some(verdict),
                why: failure.message.unwrap_or_default(),
                ..bare
            })
        }
        Err(other) => Err(other),
    }
}

fn row(bare: Row, run: Run) -> Row {
    let m = run.measurements;
    Row {
        verdict: Some(run.verdict),
        why: run.why,
        id: Some(run.id),
        detect_ms: m.detect_ms,
        mitigate_ms: m.mitigate_ms,
        recover_ms: m.recover_ms,
        availability: m.availability,
        probes_good: m.probes_good,
        probes: m.probes,
        freshness_worst_ms: m.freshness_worst_ms,
        lost: m.lost,
        duplicated: m.duplicated,
        gone: m.gone,
        faults_injected: m.faults_injected,
        acknowledged: m.acknowledged,
        ..bare
    }
}

/// What a suite is, by the catalogue of this daemon.
fn steps_of(which: Which, catalogue: &Catalogue) -> Vec<Step> {
    let plain = |name: &str| Step {
        label: name.to_owned(),
        name: name.to_owned(),
        set: Vec::new(),
    };
    if which == Which::Smoke {
        return SMOKE.iter().map(|name| plain(name)).collect();
    }
    let mut steps = Vec::new();
    for row in &catalogue.rows {
        let mut points = row.spec.params.iter().filter(|param| param.name == "point");
        match points.next().map(|param| &param.kind) {
            Some(ParamKind::Choice(words)) => steps.extend(words.iter().map(|word| Step {
                label: format!("{} {word}", row.spec.name),
                set: vec![("point".to_owned(), word.clone())],
                name: row.spec.name.clone(),
            })),
            _ => steps.push(plain(&row.spec.name)),
        }
    }
    let is_known = |name: &str| catalogue.rows.iter().any(|row| row.spec.name == name);
    for (first, second) in PAIRS {
        if is_known(first) && is_known(second) {
            steps.push(plain(&format!("{first}+{second}")));
        }
    }
    steps
}

/// Where a suite is run: on the daemon that runs, or on copies, of which a broken one is replaced.
enum Ground {
    Daemon,
    Copy(Box<Copy>),
}

impl Ground {
    fn new(app: &App, args: &Args) -> Result<Self, Failure> {
        match args.place.copy {
            false => Ok(Self::Daemon),
            true => Ok(Self::Copy(Box::new(Copy::start(
                app,
                args.place.config.as_deref(),
            )?))),
        }
    }

    fn door<'a>(&self, app: &'a App) -> Door<'a> {
        match self {
            Self::Daemon => Door::of_daemon(app),
            Self::Copy(copy) => copy.door(app),
        }
    }

    /// Waits until the pipeline is well. A copy that stays unwell is put aside for a look and another is started; a daemon
    /// that does ends the suite.
    fn make_well(&mut self, app: &App, args: &Args) -> Result<(), Failure> {
        let candidates = self.door(app).candidates;
        let deadline = Deadline::after(WELL_WAIT);
        let well = status::wait_healthy(app, &candidates, deadline, |_| Ok(true));
        match (well, self) {
            (Ok(_), _) => Ok(()),
            (Err(failure), Self::Daemon) => Err(failure),
            (Err(failure), Self::Copy(copy)) => {
                app.note(&format!("pipectl: {}", failure.message.unwrap_or_default()));
                copy.end(app, false);
                **copy = Copy::start(app, args.place.config.as_deref())?;
                Ok(())
            }
        }
    }

    fn end(&mut self, app: &App, is_good: bool) {
        if let Self::Copy(copy) = self {
            copy.end(app, is_good);
        }
    }
}

/// The state in the file, if it is one of this suite; a new one where there is none.
fn resumed(path: &Path, asked: State) -> Result<State, Failure> {
    let failed = |why: String| {
        Failure::new(
            Exit::Failed,
            format!("read the state {}: {why}", path.display()),
        )
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(asked),
        Err(error) => return Err(failed(error.to_string())),
    };
    let found: State = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if (found.suite, found.rate, found.seed) != (asked.suite, asked.rate, asked.seed) {
        let message = format!(
            "the state {} is of another suite: {:?}, {} events/s, seed {}",
            path.display(),
            found.suite,
            found.rate,
            found.seed
        );
        return Err(Failure::new(Exit::Usage, message)
            .hint("name another file with --state, or remove this one"));
    }
    Ok(found)
}

/// Whole or not at all: a suite that is killed goes on from the row before.
fn save(path: &Path, state: &State) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(
            Exit::Failed,
            format!("write the state {}: {why}", path.display()),
        )
    };
    let text = serde_json::to_string_pretty(state).map_err(|error| failed(error.to_string()))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text + "\n")
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|error| failed(error.to_string()))
}

const COLUMNS: &[Column] = &[
    Column::text("EXPERIMENT", 0, 16),
    Column::text("VERDICT", 0, 8),
    Column::number("DETECT", 3),
    Column::number("RECOVER", 1),
    Column::number("AVAIL", 1),
    Column::number("OLDEST EVENT", 4),
    Column::number("LOST", 1),
    Column::number("DOUBLED", 1),
    Column::number("HITS", 5),
];

#[derive(Debug, Serialize)]
struct Body<'a> {
    suite: Which,
    rate: u64,
    seed: u64,
    verdict: Option<Outcome>,
    availability: Option<f64>,
    probes_good: u64,
    probes: u64,
    lost: u64,
    duplicated: u64,
    acknowledged: u64,
    runs: &'a [Row],
}

/// The table of resilience.
#[expect(clippy::cast_precision_loss, reason = "counts of probes")]
fn document(state: &State) -> Result<Document, Failure> {
    let rows = &state.rows;
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let (good, probes) = (sum(|row| row.probes_good), sum(|row| row.probes));
    let availability = (probes > 0).then(|| good as f64 / probes as f64);
    let body = Body {
        suite: state.suite,
        rate: state.rate,
        seed: state.seed,
        verdict: rows
            .iter()
            .filter_map(|row| row.verdict)
            .max_by_key(|verdict| super::rank(*verdict)),
        availability,
        probes_good: good,
        probes,
        lost: sum(|row| row.lost.unwrap_or(0)),
        duplicated: sum(|row| row.duplicated.unwrap_or(0)),
        acknowledged: sum(|row| row.acknowledged),
        runs: rows,
    };
    let mut table = Table::new(COLUMNS);
    for row in rows {
        let n = |value: Option<u64>| {
            Cell::new(or_unknown(value, count)).tone(Tone::bad_if(value.is_some_and(|n| n > 0)))
        };
        let verdict = match row.verdict {
            Some(verdict) => Cell::new(verdict.word()).tone(tone(verdict)),
            None => Cell::new("?").tone(Tone::Warn),
        };
        table.rows.push(vec![
            Cell::new(&row.step).tone(Tone::Strong),
            verdict,
            Cell::new(ms(row.detect_ms)),
            Cell::new(ms(row.recover_ms)),
            Cell::new(or_unknown(row.availability, share)),
            Cell::new(ms(row.freshness_worst_ms)),
            n(row.lost),
            n(row.duplicated),
            Cell::new(count(row.faults_injected)),
        ]);
    }
    let mut text = Text::default();
    if rows.is_empty() {
        text.tell(Tone::Dim, "nothing was run");
    } else {
        text.table(table);
        text.gap();
    }
    for row in rows.iter().filter(|row| row.verdict != Some(Outcome::Pass)) {
        text.tell(Tone::Warn, format!("{}: {}", row.step, row.why));
    }
    text.say(format!(
        "{} runs at {} events/s, seed {}: availability {} ({} of {} probes), lost {}, duplicated {} of {} events",
        rows.len(),
        count(state.rate),
        state.seed,
        or_unknown(availability, share),
        count(good),
        count(probes),
        count(body.lost),
        count(body.duplicated),
        count(body.acknowledged),
    ));
    Document::one("chaos-suite", &body, text)
}

/// What would be run.
fn plan(steps: &[Step]) -> Result<Document, Failure> {
    let mut text = Text::default();
    for step in steps {
        text.say(step.label.clone());
    }
    let labels: Vec<_> = steps.iter().map(|step| &step.label).collect();
    Document::one(
        "chaos-suite-plan",
        &serde_json::json!({"steps": labels}),
        text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Outcome, good: u64) -> Row {
        Row {
            step: "worker.kill".to_owned(),
            verdict: Some(verdict),
            probes_good: good,
            probes: 100,
            ..Row::default()
        }
    }

    fn state(rows: Vec<Row>) -> State {
        State {
            suite: Which::Smoke,
            rate: 1_000,
            seed: 1,
            rows,
        }
    }

    #[test]
    fn availability_is_of_all_probes_and_not_a_mean_of_shares() {
        let mut short = row(Outcome::Pass, 1);
        short.probes = 1;
        let document = document(&state(vec![row(Outcome::Deviated, 50), short])).unwrap();
        let body: serde_json::Value = serde_json::from_str(&document.body).unwrap();
        assert_eq!(body["availability"], 51.0 / 101.0);
        assert_eq!(body["verdict"], "deviated");
    }

    #[test]
    fn a_suite_goes_on_behind_the_last_row_and_only_if_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let asked = state(Vec::new());
        assert_eq!(resumed(&path, asked.clone()).unwrap(), asked);
        let begun = state(vec![row(Outcome::Pass, 100)]);
        save(&path, &begun).unwrap();
        assert_eq!(resumed(&path, asked.clone()).unwrap(), begun);
        let other = State {
            seed: 2,
            ..asked.clone()
        };
        assert_eq!(resumed(&path, other).unwrap_err().exit, Exit::Usage);
        fs::write(&path, "{").unwrap();
        assert_eq!(resumed(&path, asked).unwrap_err().exit, Exit::Failed);
    }
}
