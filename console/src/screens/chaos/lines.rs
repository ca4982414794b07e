//! What is read of an experiment line by line: what it would do, what came of a run. Text only; who draws it breaks the
//! lines and scrolls.

use pipectl_shared::chaos::{Check, Mark, Measurements, Run, RunParams, Slot, Verdict};
use pipectl_shared::snapshot::Ledger;
use serde_json::{Map, Value};

use super::plots::{self, Figure};
use crate::clock;
use crate::model::{MARKS_MAX, Rehearsal, RunView};
use crate::output::human::{UNKNOWN, bytes, count, duration_ms, latency_ms, or_unknown, rate};
use crate::output::shell::quote;
use crate::theme::Role;
use crate::widgets::{percent, trend_line};

/// One line; broken by who draws it.
pub(crate) struct RunLine {
    /// How it looks.
    pub(crate) role: Role,
    /// Cells that it is moved in by.
    pub(crate) indent: u16,
    /// What it says; untrusted.
    pub(crate) text: String,
}

fn say(lines: &mut Vec<RunLine>, role: Role, indent: u16, text: impl Into<String>) {
    lines.push(RunLine {
        role,
        indent,
        text: text.into(),
    });
}

/// How a verdict looks.
pub(crate) fn verdict_role(verdict: Verdict) -> Role {
    match verdict {
        Verdict::Pass => Role::Good,
        Verdict::Deviated | Verdict::Failed => Role::Bad,
        Verdict::Aborted | Verdict::Inconclusive | Verdict::Refused => Role::Warn,
    }
}

/// How what happened looks, by its kind.
pub(super) fn mark_role(kind: &str) -> Role {
    match kind {
        "fault" | "hit" => Role::Warn,
        "stop" => Role::Bad,
        "revert" => Role::Good,
        "signal" => Role::Strong,
        "phase" => Role::Title,
        _ => Role::Plain,
    }
}

/// `12.3s  fault   latency 100 ms on 30% of connections`
pub(super) fn mark_line(mark: &Mark) -> String {
    let at = duration_ms(mark.t_ms);
    format!("{at:<6} {:<7} {}", mark.kind, mark.text)
}

/// The shell command that begins the same run.
pub(crate) fn run_command(params: &RunParams) -> String {
    let mut command = format!("pipectl chaos run {}", quote(&params.name));
    let mut option = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            command.push_str(&format!(" {name} {}", quote(value)));
        }
    };
    option("--for", params.lasts.as_deref());
    for pair in pairs(&params.params) {
        option("--set", Some(&pair));
    }
    let number = |n: Option<u64>| n.map(|n| n.to_string());
    option("--rate", number(params.rate).as_deref());
    option("--seed", number(params.seed).as_deref());
    option("--reason", params.reason.as_deref());
    command
}

/// `delay=100ms`, one of each.
fn pairs(params: &Map<String, Value>) -> impl Iterator<Item = String> {
    params.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    })
}

/// What an experiment would do.
pub(crate) fn rehearsal_lines(rehearsal: &Rehearsal) -> Vec<RunLine> {
    let preview = &rehearsal.preview;
    let mut lines = Vec::new();
    let all = &mut lines;
    if let Some(why) = &preview.refused {
        say(all, Role::Bad, 0, format!("would be refused now: {why}"));
    }
    say(all, Role::Strong, 0, preview.claim.clone());
    say(
        all,
        Role::Plain,
        0,
        format!(
            "the fault lasts {}, all of it about {}; {} events/s of its own; seed {}",
            duration_ms(preview.for_ms),
            duration_ms(preview.about_ms),
            count(preview.rate),
            preview.seed
        ),
    );
    let params: Vec<String> = pairs(&preview.params).collect();
    if !params.is_empty() {
        say(all, Role::Plain, 0, format!("with {}", params.join(" ")));
    }
    let mut part = |title: &str, rows: &mut dyn Iterator<Item = String>, none: &str| {
        say(&mut lines, Role::Title, 0, title);
        let before = lines.len();
        for row in rows {
            say(&mut lines, Role::Plain, 2, row);
        }
        if lines.len() == before {
            say(&mut lines, Role::Dim, 2, none);
        }
    };
    part("acts on", &mut preview.targets.iter().cloned(), "nothing");
    let steps = preview.steps.iter().enumerate();
    part(
        "does",
        &mut steps.map(|(n, step)| format!("{}. {step}", n + 1)),
        "nothing",
    );
    part(
        "is taken back by",
        &mut preview.reverts.iter().cloned(),
        "its own end",
    );
    part(
        "holds when",
        &mut preview
            .hypothesis
            .iter()
            .map(|(name, tolerance)| format!("{name} {tolerance}")),
        "it is only measured",
    );
    part(
        "stops early when",
        &mut preview.stop_when.iter().cloned(),
        "you stop it",
    );
    say(&mut lines, Role::Title, 0, "the same in a shell");
    say(&mut lines, Role::Key, 2, run_command(&rehearsal.params));
    lines
}

/// `ok        lost = 0   after 0`
fn check_line(check: &Check) -> (Role, String) {
    let (word, role) = match check.held {
        Some(true) => ("ok", Role::Plain),
        Some(false) => ("NOT HELD", Role::Bad),
        None => ("unknown", Role::Warn),
    };
    let found: Vec<String> = [
        ("before", &check.before),
        ("during", &check.during),
        ("after", &check.after),
    ]
    .into_iter()
    .filter_map(|(when, value)| Some(format!("{when} {}", value.as_ref()?)))
    .collect();
    let found = match found.is_empty() {
        true => "not measured".to_owned(),
        false => found.join(", "),
    };
    let line = format!("{word:<9} {} {}   {found}", check.name, check.tolerance);
    (role, line)
}

/// The hypothesis where there is little room: what held in one line.
pub(super) fn hypothesis_in_short(run: &Run) -> Vec<RunLine> {
    let mut lines = Vec::new();
    let mut held = Vec::new();
    for check in &run.hypothesis {
        if check.held == Some(true) {
            held.push(format!("{} {}", check.name, check.tolerance));
        } else {
            let (role, text) = check_line(check);
            say(&mut lines, role, 0, text);
        }
    }
    lines.sort_by_key(|line| line.role != Role::Bad);
    if !held.is_empty() {
        say(
            &mut lines,
            Role::Plain,
            0,
            format!("ok        {}", held.join(", ")),
        );
    }
    lines
}

/// The hypothesis line by line, what did not hold first.
pub(super) fn hypothesis(run: &Run) -> Vec<RunLine> {
    let rank = |check: &&Check| match check.held {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    };
    let mut checks: Vec<&Check> = run.hypothesis.iter().collect();
    checks.sort_by_key(rank);
    checks
        .into_iter()
        .map(|check| {
            let (role, text) = check_line(check);
            RunLine {
                role,
                indent: 0,
                text,
            }
        })
        .collect()
}

/// A share of 1 as percent; 99.97% is not 100%.
pub(crate) fn share(value: Option<f64>) -> String {
    or_unknown(value, |share| {
        // Cut and not rounded: a single bad probe must be seen, and 98.96% are no 99%.
        match share * 100.0 {
            100.0 => "100%".to_owned(),
            of_hundred if (99.9..100.0).contains(&of_hundred) => {
                format!("{:.2}%", (of_hundred * 100.0).floor() / 100.0)
            }
            of_hundred => percent((of_hundred * 10.0).floor() / 10.0),
        }
    })
}

/// What was measured, in four lines.
pub(super) fn figures(found: &Measurements) -> Vec<String> {
    let time = |ms: Option<f64>| or_unknown(ms, latency_ms);
    let n = |n: Option<u64>| or_unknown(n, count);
    let by = match &found.detected_by {
        Some(signal) => format!(" ({signal})"),
        None => String::new(),
    };
    vec![
        format!(
            "detect {}{by}   mitigate {}   recover {}",
            time(found.detect_ms),
            time(found.mitigate_ms),
            time(found.recover_ms)
        ),
        format!(
            "available {} ({} of {} probes), longest gap {}; oldest canary {}",
            share(found.availability),
            count(found.probes_good),
            count(found.probes),
            match found.unavailable_ms {
                0.0 => "0".to_owned(),
                ms => latency_ms(ms),
            },
            time(found.freshness_worst_ms)
        ),
        format!(
            "lost {}   duplicated {}   gone with Redis {}   dead {}   of {} acknowledged",
            n(found.lost),
            n(found.duplicated),
            n(found.gone),
            n(found.dead),
            count(found.acknowledged)
        ),
        format!(
            "faults that hit {}   peak backlog {}   drained at {}   peak memory {}",
            count(found.faults_injected),
            n(found.peak_lag),
            or_unknown(found.drain_per_s, rate),
            or_unknown(found.peak_rss_bytes, |n| format!("{}B", bytes(n)))
        ),
    ]
}

/// The document of a run, for so many cells.
pub(crate) fn run_lines(view: &RunView, width: u16, is_ascii: bool) -> Vec<RunLine> {
    let mut lines = Vec::new();
    if let Some(fault) = &view.fault {
        let hint = fault
            .hint
            .as_ref()
            .map_or(String::new(), |hint| format!(" -- {hint}"));
        let text = format!("{}{hint} (r asks again)", fault.message);
        say(&mut lines, Role::Warn, 0, text);
    }
    let Some(progress) = &view.progress else {
        if view.fault.is_none() {
            say(&mut lines, Role::Dim, 0, "asking the daemon ...");
        }
        return lines;
    };
    let Some(run) = &progress.run else {
        let text = match progress.verdict {
            Some(verdict) => format!("{}: {}", verdict.word(), progress.why),
            None => format!(
                "{}: it has not ended; its document comes with its end",
                progress.running.phase.word()
            ),
        };
        say(&mut lines, Role::Strong, 0, text);
        for mark in last_of(&progress.marks) {
            say(&mut lines, mark_role(&mark.kind), 0, mark_line(mark));
        }
        return lines;
    };
    let verdict = format!("{}: {}", run.verdict.word().to_uppercase(), run.why);
    say(&mut lines, verdict_role(run.verdict), 0, verdict);
    say(&mut lines, Role::Strong, 0, format!("claim: {}", run.claim));
    about(&mut lines, run);
    say(&mut lines, Role::Title, 0, "hypothesis");
    lines.extend(
        hypothesis(run)
            .into_iter()
            .map(|line| RunLine { indent: 2, ..line }),
    );
    say(
        &mut lines,
        Role::Title,
        0,
        "measured (? = not known, or it did not happen)",
    );
    for text in figures(&run.measurements) {
        say(&mut lines, Role::Plain, 2, text);
    }
    for phase in ["before", "during", "after"] {
        if let Some(q) = run.measurements.latency_ms.get(phase) {
            let ms = |ms: Option<f64>| or_unknown(ms, latency_ms);
            let text = format!(
                "canaries {phase:<6} n {}  p50 {}  p95 {}  p99 {}  max {}",
                count(q.n),
                ms(q.p50),
                ms(q.p95),
                ms(q.p99),
                ms(q.max)
            );
            say(&mut lines, Role::Plain, 2, text);
        }
    }
    over_time(&mut lines, &progress.slots, width, is_ascii);
    let marks = if run.timeline.is_empty() {
        &progress.marks
    } else {
        &run.timeline
    };
    say(&mut lines, Role::Title, 0, "what happened");
    for mark in last_of(marks) {
        say(&mut lines, mark_role(&mark.kind), 2, mark_line(mark));
    }
    ended(&mut lines, run);
    lines
}

fn last_of(marks: &[Mark]) -> &[Mark] {
    &marks[marks.len().saturating_sub(MARKS_MAX)..]
}

fn about(lines: &mut Vec<RunLine>, run: &Run) {
    let took = run.ended_ms.saturating_sub(run.started_ms);
    let text = format!(
        "{} by {}, {}, took {}; {} events/s of its own, seed {}",
        run.experiment,
        run.by,
        clock::rfc3339(run.started_ms),
        duration_ms(took),
        count(run.rate),
        run.seed
    );
    say(lines, Role::Plain, 0, text);
    let params: Vec<String> = pairs(&run.params).collect();
    if !params.is_empty() {
        say(lines, Role::Plain, 0, format!("with {}", params.join(" ")));
    }
    if !run.targets.is_empty() {
        say(
            lines,
            Role::Plain,
            0,
            format!("acted on {}", run.targets.join(", ")),
        );
    }
}

/// Each figure in a line of its own over the same seconds, the fault marked above them.
fn over_time(lines: &mut Vec<RunLine>, slots: &[Slot], width: u16, is_ascii: bool) {
    const LABEL: usize = 10;
    let room = usize::from(width).saturating_sub(LABEL + 6);
    let Some(grid) = plots::Grid::over(slots.iter(), room) else {
        return;
    };
    let title = format!(
        "over time: {} a cell, F = the fault is in",
        duration_ms(grid.step_ms)
    );
    say(lines, Role::Title, 0, title);
    let fault: String = grid
        .phases(slots.iter())
        .into_iter()
        .map(|phase| match phase {
            Some(pipectl_shared::chaos::Phase::During) => 'F',
            Some(_) => '.',
            None => ' ',
        })
        .collect();
    say(lines, Role::Warn, 2, format!("{:<LABEL$}{fault}", "fault"));
    for figure in Figure::ALL {
        let points = grid.points(slots.iter(), figure);
        let line = trend_line(&points, is_ascii);
        let text = format!("{:<LABEL$}{line}", figure.label());
        say(lines, Role::First, 2, text);
    }
}

/// What the end of a run left: taken back, ledger, comparison, files.
fn ended(lines: &mut Vec<RunLine>, run: &Run) {
    say(lines, Role::Title, 0, "taken back");
    for back in &run.reverted {
        let (word, role) = if back.ok {
            ("ok", Role::Plain)
        } else {
            ("NOT AS BEFORE", Role::Bad)
        };
        say(
            lines,
            role,
            2,
            format!("{word:<9} {}: {}", back.what, back.found),
        );
    }
    if run.reverted.is_empty() {
        say(lines, Role::Dim, 2, "nothing had to be");
    }
    say(lines, Role::Title, 0, "ledger of the pipeline");
    for (when, ledger) in [("before", &run.ledger_before), ("after", &run.ledger_after)] {
        let text = ledger.as_ref().map_or_else(
            || format!("{when:<7}{UNKNOWN}"),
            |ledger| ledger_line(when, ledger),
        );
        say(lines, Role::Plain, 2, text);
    }
    for text in &run.judged_by {
        say(lines, Role::Plain, 2, format!("judged by {text}"));
    }
    if let Some(compared) = &run.compared {
        let text = format!(
            "compared with {}: recover {}, available {}",
            compared.id,
            or_unknown(compared.recover_ms, latency_ms),
            share(compared.availability)
        );
        say(lines, Role::Title, 0, text);
        for worse in &compared.worse {
            say(lines, Role::Warn, 2, format!("worse: {worse}"));
        }
        if compared.worse.is_empty() {
            say(lines, Role::Plain, 2, "nothing is clearly worse");
        }
    }
    say(lines, Role::Title, 0, "files and the same in a shell");
    say(lines, Role::Plain, 2, run.folder.clone());
    let params = RunParams {
        name: run.experiment.clone(),
        params: run.params.clone(),
        rate: Some(run.rate),
        seed: Some(run.seed),
        ..RunParams::default()
    };
    say(lines, Role::Key, 2, run_command(&params));
    let versions: Vec<String> = run
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let text = format!("{}; configuration {}", versions.join(", "), run.config_hash);
    say(lines, Role::Dim, 2, text);
}

fn ledger_line(when: &str, ledger: &Ledger) -> String {
    let balanced = if ledger.balanced {
        "balanced"
    } else {
        "NOT BALANCED"
    };
    format!(
        "{when:<7}{balanced}: accepted {}, applied {}, dead {}, lost {}, pending {}, undelivered {}, unaccounted {}",
        count(ledger.accepted),
        count(ledger.applied),
        count(ledger.dead),
        count(ledger.lost),
        count(ledger.pending),
        count(ledger.undelivered),
        ledger.unaccounted
    )
}
