//! Parts of the overview: what each section says, and how it is drawn in the rows that it got.

use pipectl_shared::snapshot::{Alert, Source};
use ratatui::layout::Rect;

use super::{Picture, rows};
use crate::clock;
use crate::output::human::{count, latency_ms, or_unknown, rate};
use crate::place::Id;
use crate::screens::balance::ledger_terms;
use crate::screens::body::{stamp, take};
use crate::screens::stages::{Piece, aged, aged_role, amount, draw_pieces, source_state, wrap};
use crate::screens::trends::{Trend, draw_trends, span};
use crate::theme::Role;
use crate::widgets::{Ink, panel};

impl Picture<'_> {
    pub(super) fn flow_lines(&self, ink: &Ink<'_>, width: u16) -> Vec<Vec<Piece>> {
        let status = &self.snapshot.status;
        let value = aged_role(ink, Role::Strong);
        let flow = |name: &str, per_s: Option<f64>| -> Piece {
            let figure = aged(ink, or_unknown(per_s, rate));
            (format!("{name} {figure}"), value)
        };
        let latency = |name: &str, ms: Option<f64>| -> Piece {
            let figure = aged(ink, or_unknown(ms, latency_ms));
            (format!("{name} {figure}"), value)
        };
        let n_alerts = status.alerts.len();
        let alerts = match n_alerts {
            0 => ("no alerts".to_owned(), aged_role(ink, Role::Good)),
            1 => ("1 alert".to_owned(), Role::Warn),
            n => (format!("{n} alerts"), Role::Warn),
        };
        let pieces = [
            flow("in", status.throughput.in_per_s),
            flow("out", status.throughput.out_per_s),
            ("(10 s)".to_owned(), Role::Dim),
            alerts,
            latency("p50", status.latency_ms.p50),
            latency("p95", status.latency_ms.p95),
            latency("p99", status.latency_ms.p99),
            latency("p999", status.latency_ms.p999),
            ("(end to end, 1 min)".to_owned(), Role::Dim),
        ];
        let is_one_line = {
            let all: u16 = pieces.iter().map(|(text, _)| ink.width_of(text) + 2).sum();
            all <= width.saturating_add(2)
        };
        if is_one_line {
            return vec![pieces.to_vec()];
        }
        let mut lines = wrap(ink, &pieces[..4], width);
        lines.extend(wrap(ink, &pieces[4..], width));
        lines
    }

    pub(super) fn ledger_lines(
        &self,
        ink: &Ink<'_>,
        width: u16,
        is_whole: bool,
    ) -> Vec<Vec<Piece>> {
        let mut terms: Vec<Piece> = vec![("ledger".to_owned(), Role::Dim)];
        terms.extend(
            ledger_terms(self.snapshot.status.ledger.as_ref(), is_whole)
                .into_iter()
                .map(|(text, role)| (text, aged_role(ink, role))),
        );
        if ink.is_old && self.snapshot.status.ledger.is_some() {
            terms.insert(1, ("~ old:".to_owned(), Role::Warn));
        }
        wrap(ink, &terms, width)
    }

    /// A source in words: name, state, rate, and what it had to refuse.
    pub(super) fn source_piece(&self, ink: &Ink<'_>, source: &Source) -> Piece {
        let (state, role) = source_state(self.model, source);
        let per_s = aged(ink, or_unknown(source.per_s, rate));
        let mut text = format!("{} {state} {per_s}", source.name);
        if source.rejected > 0 {
            text.push_str(&format!(", rejected {}", count(source.rejected)));
        }
        (text, aged_role(ink, role))
    }

    pub(super) fn source_lines(&self, ink: &Ink<'_>, width: u16) -> Vec<Vec<Piece>> {
        let sources = &self.snapshot.sources;
        if sources.is_empty() {
            let none = "none of its own; any client may add entries".to_owned();
            return vec![vec![("sources".to_owned(), Role::Dim), (none, Role::Dim)]];
        }
        let mut pieces: Vec<Piece> = vec![("sources".to_owned(), Role::Dim)];
        // What is too much for two lines would not be drawn.
        for source in sources.iter().take(12) {
            pieces.push(self.source_piece(ink, source));
        }
        wrap(ink, &pieces, width)
    }

    pub(super) fn draw_sources(&self, ink: &mut Ink<'_>, area: Rect) {
        if self.snapshot.sources.is_empty() {
            let none = "none of its own; any client may add entries to the stream";
            ink.text(area.x, area.y, area.width, none, Role::Dim);
            return;
        }
        let height = usize::from(area.height);
        for (y, source) in (area.y..area.bottom()).zip(self.snapshot.sources.iter().take(height)) {
            let mut pieces = vec![self.source_piece(ink, source)];
            let sent = format!("{} since start", count(source.sent));
            pieces.push((sent, aged_role(ink, Role::Plain)));
            if let Some(reason) = &source.reason {
                pieces.push((reason.clone(), Role::Warn));
            }
            draw_pieces(ink, area.x, y, area.width, &pieces);
        }
    }

    /// Why stages are not running, in their order.
    pub(super) fn reasons(&self) -> Vec<(String, String)> {
        self.snapshot
            .status
            .stages
            .iter()
            .filter_map(|stage| Some((stage.name.clone(), stage.reason.clone()?)))
            .take(20)
            .collect()
    }

    /// Of the whole and then of each stage, that under the cursor first, as far as `height` rows show them.
    pub(super) fn all_trends(&self, height: u16) -> Vec<Trend> {
        let mut trends = pipeline_trends();
        let stages = &self.snapshot.status.stages;
        let room = usize::from(height.saturating_sub(2)).saturating_sub(trends.len()) / 4;
        let first = if room >= stages.len() {
            0
        } else {
            self.model.list(Id::Overview).row().unwrap_or(0)
        };
        for stage in stages
            .iter()
            .cycle()
            .skip(first)
            .take(room.min(stages.len()))
        {
            let of = |figure: &str| format!("stage.{}.{figure}", stage.name);
            // A long name must not take the place of the chart.
            let name: String = stage.name.chars().take(14).collect();
            trends.push(Trend::new(format!("{name} in"), of("in_per_s"), rate).second());
            trends.push(Trend::new(format!("{name} out"), of("out_per_s"), rate));
            trends.push(Trend::new(format!("{name} pending"), of("pending"), entries).second());
            trends.push(Trend::new(
                format!("{name} p99 1m"),
                of("p99_ms"),
                latency_ms,
            ));
        }
        trends
    }

    pub(super) fn draw_trends(
        &self,
        ink: &mut Ink<'_>,
        area: Rect,
        trends: &[Trend],
        is_boxed: bool,
    ) {
        if area.height < 2 {
            return;
        }
        let frame = if is_boxed { 2 } else { 0 };
        let inner = (
            area.width.saturating_sub(frame),
            area.height.saturating_sub(frame.max(1)),
        );
        let title = span(self.model, ink, inner.0, inner.1, trends);
        let inside = panel(ink, area, &title, is_boxed);
        draw_trends(self.model, ink, inside, trends);
    }

    pub(super) fn draw_alerts_and_events(&self, ink: &mut Ink<'_>, area: Rect) {
        let mut left = area;
        let alerts = match self.snapshot.status.alerts.len() {
            0 => 3,
            n => rows(n * 2).saturating_add(2),
        };
        let most = (area.height / 2).max(3);
        self.draw_alerts(ink, take(&mut left, alerts.min(most)), true);
        self.draw_events_panel(ink, left, true);
    }

    pub(super) fn draw_alerts(&self, ink: &mut Ink<'_>, area: Rect, is_boxed: bool) {
        if area.height < 2 {
            return;
        }
        let alerts = &self.snapshot.status.alerts;
        let title = format!("alerts ({})", alerts.len());
        let mut left = panel(ink, area, &title, is_boxed);
        if alerts.is_empty() {
            ink.text(
                left.x,
                left.y,
                left.width,
                "none",
                aged_role(ink, Role::Good),
            );
            return;
        }
        for (n, alert) in alerts.iter().enumerate() {
            let has_hint = alert.hint.is_some() && left.height >= 2;
            if left.height == 0 {
                break;
            }
            let is_last = left.height <= 1 + u16::from(has_hint);
            let n_more = alerts.len() - n - 1;
            draw_alert(
                ink,
                take(&mut left, 1),
                alert,
                if is_last { n_more } else { 0 },
            );
            if let Some(hint) = alert.hint.as_ref().filter(|_| has_hint) {
                let line = take(&mut left, 1);
                let next = [("   next: ", Role::Dim), (hint.as_str(), Role::Key)];
                ink.pieces(line.x, line.y, line.width, &next);
            }
        }
    }

    pub(super) fn n_events(&self) -> usize {
        self.model.facts.n_shown_events()
    }

    pub(super) fn draw_events_panel(&self, ink: &mut Ink<'_>, area: Rect, is_boxed: bool) {
        if area.height < 2 {
            return;
        }
        let inner = panel(ink, area, "last events (UTC)", is_boxed);
        if self.n_events() == 0 {
            ink.text(inner.x, inner.y, inner.width, "none yet", Role::Dim);
            return;
        }
        self.draw_events(ink, inner);
    }

    /// Newest last.
    pub(super) fn draw_events(&self, ink: &mut Ink<'_>, area: Rect) {
        let height = usize::from(area.height);
        let n = self.n_events();
        let events = self.model.facts.events.iter().take(n);
        for (y, event) in (area.y..area.bottom()).zip(events.skip(n.saturating_sub(height))) {
            let time = stamp(&clock::rfc3339(event.ts_ms), self.model);
            let role = match event.level.as_str() {
                "error" => Role::Bad,
                "warning" => Role::Warn,
                "action" => Role::Strong,
                _ => Role::Dim,
            };
            let level = format!(" {:<7} ", event.level);
            let level = if area.width < 60 { " " } else { &level };
            let name = format!("{} ", event.name);
            let name_role = if area.width < 60 { role } else { Role::Plain };
            ink.pieces(
                area.x,
                y,
                area.width,
                &[
                    (&time, Role::Dim),
                    (level, role),
                    (&name, name_role),
                    (&event.message, Role::Plain),
                ],
            );
        }
    }
}

pub(super) fn pipeline_trends() -> Vec<Trend> {
    vec![
        Trend::new("out", "out_per_s", rate),
        Trend::new("p99 1m", "p99_ms", latency_ms).second(),
        Trend::new("in", "in_per_s", rate),
        Trend::new("pending", "pending", entries).second(),
        Trend::new("lag", "lag", entries),
    ]
}

/// A number of entries in a trend.
fn entries(n: f64) -> String {
    // A figure of a series is never negative; an absurd one saturates.
    amount(n as u64)
}

pub(super) fn draw_lines(ink: &mut Ink<'_>, area: Rect, lines: &[Vec<Piece>]) {
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        draw_pieces(ink, area.x, y, area.width, line);
    }
}

pub(super) fn draw_reasons(ink: &mut Ink<'_>, area: Rect, reasons: &[(String, String)]) {
    for (y, (name, reason)) in (area.y..area.bottom()).zip(reasons) {
        ink.pieces(
            area.x,
            y,
            area.width,
            &[
                ("  ", Role::Plain),
                (name, Role::Strong),
                (": ", Role::Plain),
                (reason, Role::Warn),
            ],
        );
    }
}

fn draw_alert(ink: &mut Ink<'_>, line: Rect, alert: &Alert, n_more: usize) {
    let (mark, role) = if alert.severity == "critical" {
        ("!! CRITICAL ", Role::Bad)
    } else {
        ("!  WARNING ", Role::Warn)
    };
    let more = if n_more == 0 {
        String::new()
    } else {
        format!(" +{n_more} more")
    };
    let more_width = ink.width_of(&more).min(line.width);
    ink.right(line.right(), line.y, more_width, &more, Role::Warn);
    ink.pieces(
        line.x,
        line.y,
        line.width - more_width,
        &[
            (mark, role),
            (&alert.name, Role::Strong),
            (": ", Role::Plain),
            (&alert.message, Role::Plain),
        ],
    );
}
