//! `pipectl status`: how the pipeline is, and waiting until it is well.

use std::time::Duration;

use pipectl_shared::snapshot::{Ledger, Status};
use serde_json::{Value, json};

use super::Verdict;
use super::app::App;
use super::stages;
use crate::client::{Candidate, Client, ClientError, Whole};
use crate::clock::{self, Deadline};
use crate::failure::{Exit, Failure};
use crate::output::human::{
    bytes, count, duration_ms, duration_s, latency_ms, or_unknown, rate, signed,
};
use crate::output::{Document, Span, Text, Tone};

/// How the pipeline is: state, rates, latency, ledger, stages, alerts
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Wait until everything is well, even for a daemon that is not there yet; exit 7 if it takes more than --timeout
    /// (default 60s)
    #[arg(long)]
    wait_healthy: bool,
}

pub(super) fn run(app: &App, args: &Args) -> Verdict {
    if args.wait_healthy {
        let status = wait_healthy(
            app,
            &app.candidates(),
            Deadline::after(app.timeout(Duration::from_secs(60))),
            |_| Ok(true),
        )?;
        app.screen.show(&document(&status)?)?;
        return Ok(Exit::Ok);
    }
    app.view(|client| document(&get(client)?))
}

/// Asks for the `status` document.
pub(super) fn get(client: &mut Client) -> Result<Whole<Status>, ClientError> {
    client.call("status.get", json!({}))
}

/// Polls until the daemon says that it is healthy. `is_ours` is asked for each connection, so that `up` can tell the
/// daemon it started from another one.
pub(super) fn wait_healthy(
    app: &App,
    candidates: &[Candidate],
    deadline: Deadline,
    mut is_ours: impl FnMut(Option<&Client>) -> Result<bool, Failure>,
) -> Result<Whole<Status>, Failure> {
    let mut last: Option<String>;
    loop {
        let patience = deadline
            .slice(Duration::from_secs(5))
            .max(Duration::from_millis(50));
        match app.connect_to(candidates, patience) {
            Ok((mut client, _)) if is_ours(Some(&client))? => match get(&mut client) {
                Ok(status) if status.healthy => return Ok(status),
                Ok(status) => last = Some(why_unwell(&status)),
                Err(error) => last = Some(error.to_string()),
            },
            Ok(_) => last = Some("another daemon answers on the socket".to_owned()),
            Err(error @ (ClientError::OtherProtocol { .. } | ClientError::Forbidden { .. })) => {
                return Err(error.into());
            }
            Err(error) => {
                is_ours(None)?;
                last = Some(error.to_string());
            }
        }
        if deadline.is_over() {
            let why = last.unwrap_or_default();
            return Err(Failure::new(
                Exit::TimedOut,
                format!("wait until the pipeline is healthy: {why}"),
            )
            .hint("see what is wrong with `pipectl status`, or wait longer with --timeout"));
        }
        clock::pause(deadline.slice(Duration::from_millis(100)));
    }
}

fn why_unwell(status: &Status) -> String {
    let state = word(&status.state);
    let stage = status.stages.iter().find_map(|stage| {
        let reason = stage.reason.as_ref()?;
        Some(format!("{}: {reason}", stage.name))
    });
    match status
        .reason
        .clone()
        .or_else(|| status.redis.error.clone())
        .or(stage)
    {
        Some(reason) => format!("{state}: {reason}"),
        None => state,
    }
}

/// The wire's word of a state.
pub(super) fn word(state: &impl serde::Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(word)) => word,
        _ => crate::output::human::UNKNOWN.to_owned(),
    }
}

/// One line under the help: whether a daemon is there.
pub(super) fn hint(app: &App) -> Result<(), Failure> {
    let patience = app.timeout(Duration::from_secs(1));
    let mut text = Text::default();
    match app
        .connect_within(patience)
        .and_then(|mut client| get(&mut client))
    {
        Ok(status) => text.0.extend(head(&status).0.into_iter().take(1)),
        Err(ClientError::Absent(_)) => text.tell(
            Tone::Warn,
            "No daemon answers. Start one with `pipectl up`.",
        ),
        Err(error) => text.tell(Tone::Warn, error.to_string()),
    }
    app.screen.write(&app.screen.render_text(&text))
}

/// The `status` document.
pub(super) fn document(status: &Whole<Status>) -> Result<Document, Failure> {
    let mut text = head(status);
    if !status.stages.is_empty() {
        text.gap();
        text.table(stages::table(&status.stages));
    }
    if !status.alerts.is_empty() {
        text.gap();
        for alert in &status.alerts {
            let tone = if alert.severity == "critical" {
                Tone::Bad
            } else {
                Tone::Warn
            };
            let mut fields = vec![
                Span(tone, alert.severity.clone()),
                Span(Tone::Strong, alert.name.clone()),
                Span(Tone::Plain, alert.message.clone()),
            ];
            if let Some(hint) = &alert.hint {
                fields.push(Span(Tone::Dim, format!("hint: {hint}")));
            }
            text.labelled("alert", fields);
        }
    }
    Document::one("status", status, text)
}

fn head(status: &Status) -> Text {
    let mut text = Text::default();
    let daemon = &status.daemon;
    let mut line = vec![
        Span(Tone::Strong, status.pipeline.clone()),
        Span(Tone::of_state(status.state), word(&status.state)),
        if status.healthy {
            Span(Tone::Good, "healthy".to_owned())
        } else {
            Span(Tone::Bad, "not healthy".to_owned())
        },
        Span(Tone::Plain, format!("up {}", duration_s(status.uptime_s))),
        Span(
            Tone::Dim,
            format!("pipelined {} pid {}", daemon.version, daemon.pid),
        ),
    ];
    if let Some(reason) = &status.reason {
        line.push(Span(Tone::Warn, reason.clone()));
    }
    text.0.push(crate::output::Block::Line(line));

    let redis = &status.redis;
    let mut fields = vec![
        Span(
            if redis.state == "up" {
                Tone::Good
            } else {
                Tone::Bad
            },
            redis.state.clone(),
        ),
        Span(Tone::Plain, redis.mode.clone()),
        Span(
            Tone::Plain,
            format!(
                "version {}",
                or_unknown(redis.version.clone(), |version| version)
            ),
        ),
        Span(
            Tone::Plain,
            format!("memory {}", or_unknown(redis.used_memory_bytes, bytes)),
        ),
    ];
    if redis.url != redis.mode {
        fields.push(Span(Tone::Dim, redis.url.clone()));
    }
    if let Some(down) = redis.down_ms {
        fields.push(Span(Tone::Bad, format!("down for {}", duration_ms(down))));
    }
    if let Some(error) = &redis.error {
        fields.push(Span(Tone::Bad, error.clone()));
    }
    if redis.spooled > 0 {
        let what = format!("{} events wait in the spool", count(redis.spooled));
        fields.push(Span(Tone::Warn, what));
    }
    text.labelled("redis", fields);

    let flow = &status.throughput;
    let latency = &status.latency_ms;
    text.labelled(
        "flow",
        vec![
            Span(
                Tone::Plain,
                format!("in {}", or_unknown(flow.in_per_s, rate)),
            ),
            Span(
                Tone::Plain,
                format!("out {}", or_unknown(flow.out_per_s, rate)),
            ),
            Span(Tone::Dim, "(10 s)".to_owned()),
        ],
    );
    text.labelled(
        "latency",
        vec![
            Span(
                Tone::Plain,
                format!("p50 {}", or_unknown(latency.p50, latency_ms)),
            ),
            Span(
                Tone::Plain,
                format!("p95 {}", or_unknown(latency.p95, latency_ms)),
            ),
            Span(
                Tone::Plain,
                format!("p99 {}", or_unknown(latency.p99, latency_ms)),
            ),
            Span(
                Tone::Plain,
                format!("p999 {}", or_unknown(latency.p999, latency_ms)),
            ),
            Span(Tone::Dim, "(end to end, 1 min)".to_owned()),
        ],
    );
    match &status.ledger {
        Some(ledger) => text.labelled("ledger", ledger_line(ledger)),
        None => text.labelled(
            "ledger",
            vec![Span(
                Tone::Warn,
                "? (not known while Redis is away)".to_owned(),
            )],
        ),
    }
    text.labelled(
        "daemon",
        vec![
            Span(
                Tone::Plain,
                format!("memory {}", or_unknown(daemon.rss_bytes, bytes)),
            ),
            Span(
                Tone::Plain,
                format!(
                    "cpu {} cores",
                    or_unknown(daemon.cpu_cores, |cores| format!("{cores:.2}"))
                ),
            ),
        ],
    );
    text
}

fn ledger_line(ledger: &Ledger) -> Vec<Span> {
    let estimate = if ledger.estimated { "~" } else { "" };
    let mut fields = vec![Span(
        Tone::Plain,
        format!("accepted {}", count(ledger.accepted)),
    )];
    fields.push(Span(
        Tone::Plain,
        format!("applied {}", count(ledger.applied)),
    ));
    let ends = [
        ("filtered", ledger.filtered, Tone::Plain),
        ("late", ledger.late, Tone::Plain),
        ("discarded", ledger.discarded, Tone::Warn),
        ("deduplicated", ledger.deduplicated, Tone::Plain),
        ("dead", ledger.dead, Tone::Warn),
        ("lost", ledger.lost, Tone::Bad),
        ("rejected", ledger.rejected, Tone::Warn),
    ];
    fields.extend(
        ends.into_iter()
            .filter(|(_, n, _)| *n > 0)
            .map(|(name, n, tone)| Span(tone, format!("{name} {}", count(n)))),
    );
    fields.push(Span(
        Tone::Plain,
        format!("pending {}", count(ledger.pending)),
    ));
    fields.push(Span(
        Tone::Plain,
        format!("undelivered {estimate}{}", count(ledger.undelivered)),
    ));
    if ledger.balanced {
        fields.push(Span(Tone::Good, "balanced".to_owned()));
    } else {
        let duplicated = or_unknown(ledger.duplicated, signed);
        let text = format!(
            "NOT balanced: unaccounted {}, duplicated {duplicated}",
            signed(ledger.unaccounted)
        );
        fields.push(Span(Tone::Bad, text));
    }
    fields
}
