//! The files of a run that has ended: for people (`report.md`), for programs (`run.json`, `series.csv`, `ledger.csv`), for CI
//! (`junit.xml`), and the journal with the names that Chaos Toolkit gave them (`journal.json`). `run.json` comes last: where
//! it is, the run has ended and all the others are there.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use pipectl_shared::chaos::{Check, Compared, Measurements, Run, Slot, Verdict};
use serde_json::{Value, json};

use super::chart::chart;
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

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    pipectl_shared::untrusted::escape(text).replace('|', "\\|")
}

fn opt(n: Option<f64>, unit: &str) -> String {
    n.map_or_else(|| "-".to_owned(), |n| format!("{n:.0} {unit}"))
}

/// The report for a person who knows nothing of the run yet.
fn markdown(run: &Run, slots: &[Slot]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = render(&mut out, run, slots);
    out
}

fn render(out: &mut String, run: &Run, slots: &[Slot]) -> std::fmt::Result {
    let m = &run.measurements;
    let mark = match run.verdict {
        Verdict::Pass => "PASS",
        Verdict::Deviated => "DEVIATED",
        Verdict::Aborted => "ABORTED",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Failed => "FAILED",
        Verdict::Refused => "REFUSED",
    };
    writeln!(out, "# {}: {mark}\n", run.experiment)?;
    writeln!(out, "{}.\n", cell(run.why.trim_end_matches('.')))?;
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| Claim | {} |", cell(&run.claim))?;
    writeln!(
        out,
        "| Run | {} by {}, {} |",
        cell(&run.id),
        cell(&run.by),
        rfc3339(run.started_ms)
    )?;
    writeln!(out, "| Targets | {} |", cell(&run.targets.join(", ")))?;
    let params: Vec<_> = run
        .params
        .iter()
        .map(|(k, v)| format!("{k}={}", plain(v)))
        .collect();
    writeln!(out, "| Parameters | {} |", cell(&params.join(" ")))?;
    writeln!(
        out,
        "| Load | {} events/s of the run's own, {} acknowledged, seed {} |",
        run.rate, m.acknowledged, run.seed
    )?;
    let versions: Vec<_> = run
        .versions
        .iter()
        .map(|(k, v)| format!("{k} {v}"))
        .collect();
    writeln!(
        out,
        "| Versions | {}, configuration {} |",
        cell(&versions.join(", ")),
        cell(&run.config_hash)
    )?;
    if !run.hypothesis.is_empty() {
        writeln!(
            out,
            "\n## Hypothesis\n\n| | What | Tolerated | Before | During | After |\n|---|---|---|---|---|---|"
        )?;
        for check in &run.hypothesis {
            let held = match check.held {
                Some(true) => "ok",
                Some(false) => "**NO**",
                None => "?",
            };
            let part = |text: &Option<String>| cell(text.as_deref().unwrap_or(""));
            writeln!(
                out,
                "| {held} | {} | {} | {} | {} | {} |",
                cell(&check.name),
                cell(&check.tolerance),
                part(&check.before),
                part(&check.during),
                part(&check.after)
            )?;
        }
        writeln!(out, "\n`?` could not be measured.")?;
    }
    if m.probes > 0 {
        figures(out, run)?;
    }
    if !slots.is_empty() {
        charts(out, run, slots)?;
    }
    if !run.timeline.is_empty() {
        writeln!(out, "\n## What happened\n\n| Seconds | | |\n|---|---|---|")?;
        for mark in &run.timeline {
            writeln!(
                out,
                "| {}.{} | {} | {} |",
                mark.t_ms / 1_000,
                mark.t_ms % 1_000 / 100,
                cell(&mark.kind),
                cell(&mark.text)
            )?;
        }
    }
    if !run.reverted.is_empty() {
        writeln!(out, "\n## Taken back\n")?;
        for one in &run.reverted {
            let ok = if one.ok { "ok" } else { "**NOT**" };
            writeln!(out, "- {ok} {}: {}", cell(&one.what), cell(&one.found))?;
        }
    }
    if let Some(compared) = &run.compared {
        writeln!(
            out,
            "\n## Against the last run that passed ({})\n",
            cell(&compared.id)
        )?;
        writeln!(
            out,
            "It recovered in {}, availability {}. {}",
            opt(compared.recover_ms, "ms"),
            percent(compared.availability),
            if compared.worse.is_empty() {
                "Nothing is clearly worse now.".to_owned()
            } else {
                format!("Worse now: {}.", cell(&compared.worse.join("; ")))
            }
        )?;
    }
    writeln!(out, "\n## Do it again\n\n```sh")?;
    let set: Vec<_> = run
        .params
        .iter()
        .map(|(k, v)| format!(" --set {k}={}", plain(v)))
        .collect();
    writeln!(
        out,
        "pipectl chaos run {}{} --rate {} --seed {}",
        run.experiment,
        set.concat(),
        run.rate,
        run.seed
    )?;
    writeln!(
        out,
        "pipectl chaos report {} --form series   # the figures behind the charts",
        run.id
    )?;
    writeln!(
        out,
        "```\n\nFiles of this run: `run.json`, `journal.json` (names of Chaos Toolkit), `series.csv`, `ledger.csv` (every event of the run, as its producer saw it), `junit.xml`."
    )
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0))
}

fn figures(out: &mut String, run: &Run) -> std::fmt::Result {
    let m = &run.measurements;
    writeln!(
        out,
        "\n## Measurements\n\nAll from outside: ten questions a second to the control socket, ten canary events a second, the run's own record of every event.\n\n| | |\n|---|---|"
    )?;
    let by = m
        .detected_by
        .as_deref()
        .map(|by| format!(" ({})", cell(by)))
        .unwrap_or_default();
    writeln!(
        out,
        "| Noticed by the product itself | {}{by} |",
        opt(m.detect_ms, "ms after the first fault")
    )?;
    writeln!(
        out,
        "| Well again while the fault was in | {} |",
        opt(m.mitigate_ms, "ms after the first fault")
    )?;
    writeln!(out, "| Recovered | {} |", opt(m.recover_ms, "ms"))?;
    writeln!(
        out,
        "| Availability | {} ({} of {} probes good, {:.0} ms without a good one at most) |",
        percent(m.availability),
        m.probes_good,
        m.probes,
        m.unavailable_ms
    )?;
    writeln!(
        out,
        "| Oldest event not in the results | {} |",
        opt(m.freshness_worst_ms, "ms")
    )?;
    let count = |n: Option<u64>| n.map_or_else(|| "not known".to_owned(), |n| n.to_string());
    writeln!(
        out,
        "| Lost | {} |\n| Duplicated | {} |",
        count(m.lost),
        count(m.duplicated)
    )?;
    writeln!(
        out,
        "| Gone with Redis | {} |\n| Dead letters of the run | {} |",
        count(m.gone),
        count(m.dead)
    )?;
    let drain = m
        .drain_per_s
        .map(|n| format!(", worked off at {n:.0} entries/s"))
        .unwrap_or_default();
    writeln!(
        out,
        "| Largest backlog | {} entries{drain} |",
        count(m.peak_lag)
    )?;
    if let Some(rss) = m.peak_rss_bytes {
        writeln!(out, "| Most memory of the daemon | {} MiB |", rss >> 20)?;
    }
    writeln!(out, "| Faults that hit | {} |", m.faults_injected)?;
    writeln!(
        out,
        "\n| Canary to result, ms | n | p50 | p95 | p99 | max |\n|---|---|---|---|---|---|"
    )?;
    for phase in ["before", "during", "after"] {
        if let Some(q) = m.latency_ms.get(phase) {
            let f = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"));
            writeln!(
                out,
                "| {phase} | {} | {} | {} | {} | {} |",
                q.n,
                f(q.p50),
                f(q.p95),
                f(q.p99),
                f(q.max)
            )?;
        }
    }
    if !run.judged_by.is_empty() {
        writeln!(
            out,
            "\nLost and duplicated were judged by {}.",
            cell(&run.judged_by.join("; "))
        )?;
    }
    let line = |ledger: Option<&pipectl_shared::snapshot::Ledger>| {
        ledger.map_or_else(
            || "no answer".to_owned(),
            |l| {
                format!(
                    "accepted {} + spawned {} = applied {} + filtered {} + late {} + discarded {} + deduplicated {} + dead {} + lost {} + pending {} + undelivered {} (unaccounted {})",
                    l.accepted, l.spawned, l.applied, l.filtered, l.late, l.discarded, l.deduplicated, l.dead, l.lost, l.pending, l.undelivered, l.unaccounted
                )
            },
        )
    };
    writeln!(
        out,
        "\nThe product's ledger before: {}\n\nand after: {}",
        line(run.ledger_before.as_ref()),
        line(run.ledger_after.as_ref())
    )
}

fn charts(out: &mut String, run: &Run, slots: &[Slot]) -> std::fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
    let s = |ms: u64| ms as f64 / 1_000.0;
    let fault = run
        .injected_t_ms
        .map(|from| (s(from), s(run.reverted_t_ms.unwrap_or(from))));
    let points = |value: fn(&Slot) -> Option<f64>| -> Vec<(f64, Option<f64>)> {
        slots
            .iter()
            .map(|slot| (s(slot.t_ms), value(slot)))
            .collect()
    };
    writeln!(out, "\n## Over time\n\n```text")?;
    write!(
        out,
        "{}",
        chart(
            "Events settled",
            "a second",
            &points(|slot| slot.out_per_s),
            fault
        )
    )?;
    #[expect(clippy::cast_precision_loss, reason = "entries")]
    let lag = points(|slot| slot.lag.map(|n| n as f64));
    write!(out, "\n{}", chart("Backlog", "entries", &lag, fault))?;
    write!(
        out,
        "\n{}",
        chart("Slowest canary", "ms", &points(|slot| slot.p99_ms), fault)
    )?;
    let good = points(|slot| {
        (slot.probes > 0).then(|| f64::from(slot.good) / f64::from(slot.probes) * 100.0)
    });
    write!(
        out,
        "\n{}",
        chart("Availability", "% of probes", &good, fault)
    )?;
    writeln!(
        out,
        "```\n\n`?` is a second in which Redis or the daemon did not answer."
    )
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
