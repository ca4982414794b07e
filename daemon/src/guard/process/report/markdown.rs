//! The report for people: what was claimed, what was done, what came of it, in Markdown with charts of text.

use std::fmt::Write as _;

use pipectl_shared::chaos::{Run, Slot, Verdict};
use serde_json::Value;

use super::super::chart::chart;
use crate::clock::rfc3339;

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    pipectl_shared::untrusted::escape(text).replace('|', "\\|")
}

fn opt(n: Option<f64>, unit: &str) -> String {
    n.map_or_else(|| "-".to_owned(), |n| format!("{n:.0} {unit}"))
}

/// The report for a person who knows nothing of the run yet.
pub(super) fn markdown(run: &Run, slots: &[Slot]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = render(&mut out, run, slots);
    out
}

/// What a verdict means and what to do next, for who reads one for the first time.
fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => {
            "The fault was in, the pipeline did what the claim says, and everything was taken back."
        }
        Verdict::Deviated => {
            "The fault was in, and the pipeline did not do what the claim says: see the lines with **NO**. Everything was taken back \
             unless *Taken back* says otherwise. Look at *What happened* and the charts for when it began, and try it again with the \
             same seed."
        }
        Verdict::Aborted => {
            "It was ended early, so it says nothing on the claim. Everything was taken back unless *Taken back* says otherwise."
        }
        Verdict::Inconclusive => {
            "It proves nothing: no fault hit, or what must be known could not be measured."
        }
        Verdict::Failed => {
            "The fault could not be put in, or could not be taken back: see *Taken back* before anything else."
        }
        Verdict::Refused => "Nothing was done.",
    }
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
    writeln!(out, "{}\n", meaning(run.verdict))?;
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
    let params = if params.is_empty() {
        "none".to_owned()
    } else {
        params.join(" ")
    };
    writeln!(
        out,
        "| Parameters | {}; the fault was to last {} s |",
        cell(&params),
        run.for_ms.div_ceil(1_000)
    )?;
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
    if !run.examples.is_empty() {
        writeln!(out, "\n## Lost or doubled, for example\n")?;
        for one in &run.examples {
            writeln!(out, "- {}", cell(one))?;
        }
        writeln!(
            out,
            "\n`ledger.csv` has when each was sent and acknowledged."
        )?;
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
        "pipectl chaos run {}{} --for {}ms --rate {} --seed {}",
        run.experiment,
        set.concat(),
        run.for_ms,
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
