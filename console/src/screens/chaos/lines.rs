//! What is read of an experiment line by line: what it would do, what came of a run. Text only; who draws it breaks the
//! lines and scrolls.

use pipectl_shared::chaos::{Check, Mark, Measurements, Run, RunParams, Verdict};
use serde_json::{Map, Value};

use crate::model::Rehearsal;
use crate::output::human::{bytes, count, duration_ms, latency_ms, or_unknown, rate};
use crate::output::shell::quote;
use crate::theme::Role;
use crate::widgets::percent;

/// One line; broken by who draws it.
pub(crate) struct RunLine {
    /// How it looks.
    pub(crate) role: Role,
    /// Cells that it is moved in by.
    pub(crate) indent: u16,
    /// What it says; untrusted.
    pub(crate) text: String,
}

pub(super) fn say(lines: &mut Vec<RunLine>, role: Role, indent: u16, text: impl Into<String>) {
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
pub(super) fn pairs(params: &Map<String, Value>) -> impl Iterator<Item = String> {
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
