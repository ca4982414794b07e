//! A run that has ended, and one that would be begun, for people.

use std::time::Duration;

use pipectl_shared::chaos::{Preview, Run, Verdict};
use pipectl_shared::units::print_duration;
use serde_json::Value;

use super::records::{ms, share};
use super::tone;
use crate::failure::Failure;
use crate::output::human::{UNKNOWN, bytes, count, duration_ms, or_unknown, rate};
use crate::output::{Block, Cell, Column, Document, Span, Table, Text, Tone};

const CHECKS: &[Column] = &[
    Column::text("HYPOTHESIS", 0, 12),
    Column::text("TOLERATED", 0, 10),
    Column::text("BEFORE", 2, 6),
    Column::text("DURING", 1, 6),
    Column::text("AFTER", 1, 6),
    Column::text("HELD", 0, 4),
];

const LATENCIES: &[Column] = &[
    Column::text("LATENCY", 0, 7),
    Column::number("EVENTS", 1),
    Column::number("P50", 0),
    Column::number("P95", 0),
    Column::number("P99", 0),
    Column::number("MAX", 0),
];

/// The document of a run. On a copy its files are gone with it, unless something went wrong.
pub(super) fn document(run: &Run, on_a_copy: bool) -> Result<Document, Failure> {
    Document::one("chaos", run, text(run, on_a_copy))
}

fn text(run: &Run, on_a_copy: bool) -> Text {
    let mut text = Text::default();
    text.0.push(Block::Line(vec![
        Span(Tone::Strong, run.experiment.clone()),
        Span(tone(run.verdict), run.verdict.word().to_owned()),
        Span(Tone::Plain, run.why.clone()),
    ]));
    text.labelled("claim", vec![Span(Tone::Dim, run.claim.clone())]);
    let took = duration_ms(run.ended_ms.saturating_sub(run.started_ms));
    let mut what = vec![Span(Tone::Plain, run.targets.join(", "))];
    if let (Some(from), Some(to)) = (run.injected_t_ms, run.reverted_t_ms) {
        let fault = duration_ms(to.saturating_sub(from));
        what.push(Span(Tone::Plain, format!("fault {fault} of {took}")));
    } else {
        what.push(Span(Tone::Plain, format!("took {took}")));
    }
    what.push(Span(
        Tone::Dim,
        format!("{} events/s, seed {}", count(run.rate), run.seed),
    ));
    text.labelled("on", what);
    text.gap();
    text.table(checks(run));
    text.gap();
    measurements(run, &mut text);
    for reverted in run.reverted.iter().filter(|reverted| !reverted.ok) {
        let what = format!("{}: {}", reverted.what, reverted.found);
        text.labelled("LEFT", vec![Span(Tone::Bad, what)]);
    }
    if let Some(compared) = &run.compared {
        let worse = match compared.worse.is_empty() {
            true => Span(Tone::Good, "nothing is worse".to_owned()),
            false => Span(Tone::Warn, compared.worse.join("; ")),
        };
        let id = Span(Tone::Dim, format!("than {}", compared.id));
        text.labelled("compared", vec![worse, id]);
    }
    text.gap();
    let report = match (on_a_copy, run.verdict) {
        (false, _) => format!("pipectl chaos report {}", run.id),
        (true, Verdict::Pass) => "gone with the copy; --out=DIR keeps it".to_owned(),
        (true, _) => format!("{}/report.md", run.folder),
    };
    text.whole("report", vec![Span(Tone::Plain, report)]);
    if !on_a_copy {
        text.whole("folder", vec![Span(Tone::Dim, run.folder.clone())]);
    }
    let place = if on_a_copy { " --copy" } else { "" };
    let again = format!("{}{place}", command(run));
    text.whole("again", vec![Span(Tone::Dim, again)]);
    text
}

/// The command that repeats a run.
pub(super) fn command(run: &Run) -> String {
    let mut command = format!("pipectl chaos run {}", run.experiment);
    for (name, value) in &run.params {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        command.push_str(&format!(" --set {name}={value}"));
    }
    command.push_str(&format!(" --rate {} --seed {}", run.rate, run.seed));
    command
}

fn checks(run: &Run) -> Table {
    let mut table = Table::new(CHECKS);
    for check in &run.hypothesis {
        let cell = |text: &Option<String>| Cell::new(text.as_deref().unwrap_or_default());
        let held = match check.held {
            Some(true) => Cell::new("yes").tone(Tone::Good),
            Some(false) => Cell::new("NO").tone(Tone::Bad),
            None => Cell::new(UNKNOWN).tone(Tone::Warn),
        };
        table.rows.push(vec![
            Cell::new(&check.name).tone(Tone::Strong),
            Cell::new(&check.tolerance),
            cell(&check.before),
            cell(&check.during),
            cell(&check.after),
            held,
        ]);
    }
    table
}

fn measurements(run: &Run, text: &mut Text) {
    let m = &run.measurements;
    let plain = |text: String| Span(Tone::Plain, text);
    let n = |value: Option<u64>| or_unknown(value, count);
    let mut times = vec![
        plain(format!("detected {}", ms(m.detect_ms))),
        plain(format!("mitigated {}", ms(m.mitigate_ms))),
        plain(format!("recovered {}", ms(m.recover_ms))),
    ];
    if let Some(by) = &m.detected_by {
        times.push(Span(Tone::Dim, format!("(seen by {by})")));
    }
    text.labelled("times", times);
    text.labelled(
        "probes",
        vec![
            plain(format!(
                "availability {}",
                or_unknown(m.availability, share)
            )),
            plain(format!(
                "{} of {} good",
                count(m.probes_good),
                count(m.probes)
            )),
            plain(format!("longest gap {}", ms(Some(m.unavailable_ms)))),
            plain(format!("oldest event {}", ms(m.freshness_worst_ms))),
        ],
    );
    let bad = |name: &str, value: Option<u64>| {
        Span(
            Tone::bad_if(value.is_some_and(|n| n > 0)),
            format!("{name} {}", n(value)),
        )
    };
    text.labelled(
        "events",
        vec![
            plain(format!("acknowledged {}", count(m.acknowledged))),
            bad("lost", m.lost),
            bad("duplicated", m.duplicated),
            plain(format!("gone with Redis {}", n(m.gone))),
            plain(format!("dead {}", n(m.dead))),
        ],
    );
    text.labelled(
        "load",
        vec![
            plain(format!("faults that hit {}", count(m.faults_injected))),
            plain(format!("peak lag {}", n(m.peak_lag))),
            plain(format!("drained {}", or_unknown(m.drain_per_s, rate))),
            plain(format!(
                "peak memory {}",
                or_unknown(m.peak_rss_bytes, bytes)
            )),
        ],
    );
    let balance = |ledger: &Option<pipectl_shared::ledger::Ledger>| match ledger {
        Some(ledger) if ledger.balanced => "balanced".to_owned(),
        Some(ledger) => format!("NOT balanced (unaccounted {})", ledger.unaccounted),
        None => UNKNOWN.to_owned(),
    };
    text.labelled(
        "ledger",
        vec![
            plain(format!("before {}", balance(&run.ledger_before))),
            plain(format!("after {}", balance(&run.ledger_after))),
        ],
    );
    if !m.latency_ms.is_empty() {
        let mut table = Table::new(LATENCIES);
        for phase in ["before", "during", "after"] {
            if let Some(q) = m.latency_ms.get(phase) {
                table.rows.push(vec![
                    Cell::new(phase),
                    Cell::new(count(q.n)),
                    Cell::new(ms(q.p50)),
                    Cell::new(ms(q.p95)),
                    Cell::new(ms(q.p99)),
                    Cell::new(ms(q.max)),
                ]);
            }
        }
        text.gap();
        text.table(table);
    }
}

/// What would be done.
pub(super) fn preview(preview: &Preview) -> Result<Document, Failure> {
    let mut text = Text::default();
    let time = |ms: u64| print_duration(Duration::from_millis(ms));
    text.0.push(Block::Line(vec![
        Span(Tone::Strong, preview.experiment.clone()),
        Span(Tone::Plain, format!("fault {}", time(preview.for_ms))),
        Span(
            Tone::Plain,
            format!("about {} in all", time(preview.about_ms)),
        ),
        Span(
            Tone::Dim,
            format!("{} events/s, seed {}", count(preview.rate), preview.seed),
        ),
    ]));
    text.labelled("claim", vec![Span(Tone::Plain, preview.claim.clone())]);
    let list = |label: &str, rows: &[String], text: &mut Text| {
        for (n, row) in rows.iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            text.labelled(label, vec![Span(Tone::Plain, row.clone())]);
        }
    };
    list("on", &preview.targets, &mut text);
    list("does", &preview.steps, &mut text);
    list("undoes", &preview.reverts, &mut text);
    let held: Vec<_> = preview
        .hypothesis
        .iter()
        .map(|(name, tolerance)| format!("{name} {tolerance}"))
        .collect();
    list("expects", &held, &mut text);
    list("stops at", &preview.stop_when, &mut text);
    if let Some(refused) = &preview.refused {
        text.labelled("refused", vec![Span(Tone::Bad, refused.clone())]);
    }
    Document::one("chaos-preview", preview, text)
}
