//! The document of a run, line by line.

use pipectl_shared::chaos::{Mark, Run, RunParams, Slot};
use pipectl_shared::snapshot::Ledger;

use super::grid::{Figure, Grid};
use super::lines::{
    RunLine, figures, hypothesis, mark_line, mark_role, pairs, run_command, say, share,
    verdict_role,
};
use crate::clock;
use crate::model::{MARKS_MAX, RunView};
use crate::output::human::{UNKNOWN, count, duration_ms, latency_ms, or_unknown};
use crate::theme::Role;
use crate::widgets::trend_line;

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
    let Some(grid) = Grid::over(slots.iter(), room) else {
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
