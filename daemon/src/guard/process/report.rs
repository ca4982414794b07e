//! The files of a run that has ended: for people (`report.md`), for programs (`run.json`, `series.csv`, `ledger.csv`), for CI
//! (`junit.xml`), and the journal with the names that Chaos Toolkit gave them (`journal.json`). `run.json` comes last: where
//! it is, the run has ended and all the others are there.

mod markdown;

use std::path::Path;

use anyhow::{Context as _, Result};
use pipectl_shared::chaos::{Check, Compared, Measurements, Run, Slot, Verdict};
use serde_json::{Value, json};

use self::markdown::markdown;
use super::runner::{Ended, shelf};
use crate::clock::{Clock as _, System, rfc3339};
use crate::datadir::write_whole;
use crate::guard::Job;
use crate::guard::recover;

/// Earlier runs that are looked through for one to compare with.
const LOOKED_THROUGH: usize = 200;

/// Writes all files.
///
/// # Errors
/// When the disk does not take one.
pub(super) fn write(folder: &Path, job: &Job, ended: &Ended) -> Result<()> {
    let run = &ended.run;
    let put = |name: &str, text: &str| {
        write_whole(&folder.join(name), text.as_bytes()).with_context(|| format!("write {name}"))
    };
    ended
        .load
        .look(|record| record.write(&folder.join("ledger.csv"), &ended.names))
        .context("write ledger.csv")?;
    put("series.csv", &series(&ended.slots))?;
    put("junit.xml", &junit(run))?;
    put("report.md", &markdown(run, &ended.slots))?;
    put(
        "journal.json",
        &serde_json::to_string_pretty(&journal(job, run))?,
    )?;
    put("run.json", &serde_json::to_string_pretty(run)?)
}

/// The document of a run that could not be begun or not be counted.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn write_failure(folder: &Path, job: &Job, why: &str) -> Result<()> {
    let run = Run {
        id: job.id.clone(),
        experiment: job.experiment.clone(),
        claim: job.claim.clone(),
        params: job.params.clone(),
        targets: job.method.targets.clone(),
        seed: job.seed,
        rate: job.scene.rate,
        started_ms: job.started_ms,
        ended_ms: System.now_ms(),
        injected_t_ms: None,
        reverted_t_ms: None,
        verdict: Verdict::Failed,
        why: why.to_owned(),
        hypothesis: Vec::new(),
        measurements: Measurements::default(),
        ledger_before: None,
        ledger_after: None,
        timeline: Vec::new(),
        reverted: Vec::new(),
        judged_by: Vec::new(),
        examples: Vec::new(),
        for_ms: job.method.for_ms,
        compared: None,
        by: job.by.clone(),
        versions: [("pipelined".to_owned(), job.version.clone())].into(),
        config_hash: job.config_hash.clone(),
        folder: folder.display().to_string(),
    };
    let put = |name: &str, text: &str| {
        write_whole(&folder.join(name), text.as_bytes()).with_context(|| format!("write {name}"))
    };
    put("junit.xml", &junit(&run))?;
    put("report.md", &markdown(&run, &[]))?;
    put(
        "journal.json",
        &serde_json::to_string_pretty(&journal(job, &run))?,
    )?;
    put("run.json", &serde_json::to_string_pretty(&run)?)
}

/// The last run of the same experiment with the same parameters that passed, and what is clearly worse now: half as much
/// again and a second more to recover, or a hundredth less available.
pub(super) fn compare(folder: &Path, run: &Run) -> Option<Compared> {
    let mut folders: Vec<_> = std::fs::read_dir(shelf(folder))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path != folder)
        .collect();
    folders.sort();
    let old = folders.iter().rev().take(LOOKED_THROUGH).find_map(|path| {
        let text = std::fs::read(path.join("run.json")).ok()?;
        let old: Run = serde_json::from_slice(&text).ok()?;
        let is_like =
            old.experiment == run.experiment && old.params == run.params && old.rate == run.rate;
        (is_like && old.verdict == Verdict::Pass).then_some(old)
    })?;
    let mut worse = Vec::new();
    let (new, was) = (&run.measurements, &old.measurements);
    if let (Some(now), Some(then)) = (new.recover_ms, was.recover_ms)
        && now > then * 1.5 + 1_000.0
    {
        worse.push(format!("recovery {now:.0} ms, was {then:.0} ms"));
    }
    if let (Some(now), Some(then)) = (new.availability, was.availability)
        && now < then - 0.01
    {
        worse.push(format!(
            "availability {:.2} %, was {:.2} %",
            now * 100.0,
            then * 100.0
        ));
    }
    Some(Compared {
        id: old.id,
        recover_ms: was.recover_ms,
        availability: was.availability,
        worse,
    })
}

fn figure(n: Option<f64>) -> String {
    n.map_or_else(String::new, |n| format!("{n:.1}"))
}

/// One row a second; an empty field is not known.
fn series(slots: &[Slot]) -> String {
    let mut out = String::from(
        "t_ms,phase,in_per_s,out_per_s,lag,slowest_canary_ms,freshness_ms,good,probes\n",
    );
    for slot in slots {
        let lag = slot.lag.map_or_else(String::new, |n| n.to_string());
        out.push_str(&format!(
            "{},{},{:.1},{},{lag},{},{},{},{}\n",
            slot.t_ms,
            slot.phase.word(),
            slot.in_per_s,
            figure(slot.out_per_s),
            figure(slot.p99_ms),
            figure(slot.fresh_ms),
            slot.good,
            slot.probes
        ));
    }
    out
}

fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no way to write the others.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// One test case a line of the hypothesis.
fn junit(run: &Run) -> String {
    let s = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    let time = s(run.ended_ms.saturating_sub(run.started_ms));
    let suite = xml(&run.experiment);
    let (mut cases, mut failures, mut skipped, mut n) = (String::new(), 0, 0, 0);
    for check in &run.hypothesis {
        n += 1;
        let name = xml(&format!("{} {}", check.name, check.tolerance));
        let is = xml(&found(check));
        let inner = match check.held {
            Some(true) => String::new(),
            Some(false) => {
                failures += 1;
                format!("<failure message=\"{is}\"/>")
            }
            None => {
                skipped += 1;
                format!("<skipped message=\"{is}\"/>")
            }
        };
        cases.push_str(&format!(
            "    <testcase classname=\"chaos.{suite}\" name=\"{name}\">{inner}</testcase>\n"
        ));
    }
    let (verdict, why) = (run.verdict.word(), xml(&run.why));
    let inner = match run.verdict {
        Verdict::Pass => String::new(),
        Verdict::Deviated => {
            failures += 1;
            format!("<failure message=\"{why}\"/>")
        }
        Verdict::Inconclusive | Verdict::Refused => {
            skipped += 1;
            format!("<skipped message=\"{why}\"/>")
        }
        Verdict::Aborted | Verdict::Failed => {
            failures += 1;
            format!("<failure type=\"{verdict}\" message=\"{why}\"/>")
        }
    };
    cases.push_str(&format!(
        "    <testcase classname=\"chaos.{suite}\" name=\"verdict\" time=\"{time}\">{inner}</testcase>\n"
    ));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"chaos.{suite}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{time}\" timestamp=\"{}\" id=\"{}\">\n{cases}  </testsuite>\n</testsuites>\n",
        n + 1,
        rfc3339(run.started_ms),
        xml(&run.id)
    )
}

fn found(check: &Check) -> String {
    let parts = [
        ("before", &check.before),
        ("during", &check.during),
        ("after", &check.after),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter_map(|(when, what)| Some(format!("{when} {}", what.as_ref()?)))
        .collect();
    if parts.is_empty() {
        "not measured".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The journal with Chaos Toolkit's names, and our own beside them.
fn journal(job: &Job, run: &Run) -> Value {
    let status = match run.verdict {
        Verdict::Pass | Verdict::Inconclusive | Verdict::Deviated => "completed",
        Verdict::Aborted => "aborted",
        Verdict::Failed | Verdict::Refused => "failed",
    };
    let met = |when: fn(&Check) -> Option<&String>| {
        let probes: Vec<_> = run
            .hypothesis
            .iter()
            .filter_map(|check| Some(json!({"activity": {"type": "probe", "name": check.name, "tolerance": check.tolerance}, "output": when(check)?, "tolerance_met": check.held})))
            .collect();
        json!({"steady_state_met": run.hypothesis.iter().all(|check| check.held != Some(false)), "probes": probes})
    };
    let activities: Vec<_> = recover::intents(&job.folder)
        .iter()
        .map(|intent| json!({"activity": {"type": "action", "name": intent.act}, "start_ms": run.started_ms + intent.t_ms, "undo": intent.undo}))
        .collect();
    json!({
        "chaoslib-version": null,
        "experiment": {
            "title": run.experiment,
            "description": run.claim,
            "steady-state-hypothesis": {"title": run.claim, "probes": run.hypothesis.iter().map(|c| json!({"type": "probe", "name": c.name, "tolerance": c.tolerance})).collect::<Vec<_>>()},
            "method": job.method.steps,
            "rollbacks": job.method.reverts,
            "configuration": run.params,
        },
        "start": rfc3339(run.started_ms),
        "end": rfc3339(run.ended_ms),
        "duration": run.ended_ms.saturating_sub(run.started_ms) as f64 / 1_000.0,
        "status": status,
        "deviated": run.verdict == Verdict::Deviated,
        "steady_states": {"before": met(|check| check.before.as_ref()), "during": met(|check| check.during.as_ref()), "after": met(|check| check.after.as_ref())},
        "run": activities,
        "rollbacks": run.reverted,
        "verdict": run.verdict,
        "why": run.why,
        "ledger": {"before": run.ledger_before, "after": run.ledger_after},
        "measurements": run.measurements,
        "targets_resolved": run.targets,
        "stop_conditions": job.stops,
        "seed": run.seed,
        "versions": run.versions,
        "config_hash": run.config_hash,
        "timeline": run.timeline,
    })
}
