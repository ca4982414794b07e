//! Overview: is it well? Stages with their state, where every entry went, throughput and latency over time, alerts, last
//! events. What does not fit gives way by importance, from 40x9 on.

use pipectl_shared::snapshot::{Alert, Event, Snapshot, Source, Stage};
use ratatui::layout::Rect;

use super::body::{draw_head, draw_rows, take};
use super::screen::{List, Screen, Source as From, no_act};
use super::stages::{
    Piece, aged, aged_role, amount, draw_pieces, items_of, lag, ledger_terms, open_pending,
    source_state, state_role, state_text, verdict, wrap,
};
use super::trends::{Trend, draw_trends, span};
use crate::clock;
use crate::model::{Item, Model};
use crate::output::human::{count, duration_ms, latency_ms, or_unknown, rate};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink, panel};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Overview,
    group: Group::Health,
    name: "Overview",
    letter: 'o',
    about: "Is it well? Stages, ledger, throughput, latency, alerts, last events.",
    legend: &[
        "Enter on a stage: its pending entries. ?: unknown, which is not 0. ~ before a figure: an estimate, or old.",
        "IN, OUT: entries read and committed a second, over the last 10 s. LAG: entries not delivered yet.",
        "PENDING: delivered and not acknowledged. OLDEST: since the oldest of them was read first; empty: there is none.",
        "P50, P99: from read to commit, over the last minute. ERRORS (failed tries), DEAD: since the daemon started.",
        "Ledger: accepted + spawned = what became of every entry. Balanced: nothing is missing and nothing counts twice.",
        "Trends: each has its own scale from 0 to max; a blank is unknown, the lowest bar is 0.",
    ],
    list: Some(List {
        noun: "stages",
        columns: COLUMNS,
        n_rows: |model| model.facts.snapshot().map_or(0, |s| s.status.stages.len()),
        id: |model, row| stage(model, row).map_or_else(String::new, |stage| stage.name.clone()),
        cells,
    }),
    source: From::Snapshot,
    items,
    open: |model| {
        let row = model.list(Id::Overview).row();
        open_pending(model, row)
    },
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 0, 10, 20),
    Column::text("STATE", 0, 10, 10),
    Column::figure("IN 10s", 2, 7),
    Column::figure("OUT 10s", 1, 7),
    Column::figure("LAG", 0, 7),
    Column::figure("PENDING", 0, 7),
    Column::figure("OLDEST", 3, 6),
    Column::figure("P50 1m", 4, 6),
    Column::figure("P99 1m", 1, 6),
    Column::figure("ERRORS", 5, 6),
    Column::figure("DEAD", 5, 6),
    Column::figure("WORKERS", 6, 7),
    Column::text("DELIVERY", 8, 8, 8),
    Column::text("REASON", 7, 24, u16::MAX),
];

/// From this width of the table on its last column says why; narrower ones need a line for it.
const REASON_AT: u16 = 140;

fn stage(model: &Model, row: usize) -> Option<&Stage> {
    model.facts.snapshot()?.status.stages.get(row)
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(stage) = stage(model, row) else {
        return Vec::new();
    };
    let figure = |value: Option<f64>, show: fn(f64) -> String| Cell::maybe(value, show);
    let entries = |n: u64| Cell::figure(n as f64, amount(n));
    let trouble = |n: u64, role| entries(n).role(if n == 0 { Role::Plain } else { role });
    let oldest = match (stage.pending, stage.oldest_pending_ms) {
        // Nothing pending is no unknown: there is no oldest.
        (Some(0), _) => Cell::text(""),
        (_, oldest) => figure(oldest.map(|ms| ms as f64), |ms| duration_ms(ms as u64)),
    };
    vec![
        Cell::text(&stage.name),
        Cell::text(state_text(model, stage.state)).role(state_role(stage.state)),
        figure(stage.in_per_s, rate),
        figure(stage.out_per_s, rate),
        Cell {
            text: lag(stage),
            ..Cell::maybe(stage.lag.map(|n| n as f64), |_| String::new())
        },
        figure(stage.pending.map(|n| n as f64), |n| amount(n as u64)),
        oldest,
        figure(stage.p50_ms, latency_ms),
        figure(stage.p99_ms, latency_ms),
        trouble(stage.errors, Role::Warn),
        trouble(stage.dead, Role::Warn),
        Cell::figure(f64::from(stage.workers), stage.workers.to_string()),
        Cell::text(&stage.delivery),
        Cell::text(stage.reason.as_deref().unwrap_or("")).role(Role::Warn),
    ]
}

fn items(model: &Model) -> Vec<Item> {
    let row = model.list(Id::Overview).row();
    row.and_then(|row| stage(model, row))
        .map(items_of)
        .unwrap_or_default()
}

/// Rows for each section, in the order of importance: first what each needs at least, then what each could use.
fn divide(height: u16, wants: &[(u16, u16)]) -> Vec<u16> {
    let mut left = height;
    let mut rows = Vec::with_capacity(wants.len());
    for (least, most) in wants {
        let given = if *least <= left { *least } else { 0 };
        left -= given;
        rows.push(given.min(*most));
    }
    for (given, (least, most)) in rows.iter_mut().zip(wants) {
        // Less than its least is of no use to a section.
        if *given == 0 && *least > 0 {
            continue;
        }
        let more = most.saturating_sub(*given).min(left);
        *given += more;
        left -= more;
    }
    rows
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let view = model.list(Id::Overview);
    let mut area = area;
    if (view.typing.is_some() || !view.filter.is_empty() || !view.marks.is_empty())
        && area.height > 3
        && let Some(list) = &SCREEN.list
    {
        let head = Rect::new(area.x, area.y, area.width, 1);
        draw_head(model, ink, head, &SCREEN, list, view);
        area = Rect::new(area.x, area.y + 1, area.width, area.height - 1);
    }
    let Some(snapshot) = model.facts.snapshot() else {
        draw_rows(model, ink, area, &SCREEN);
        return;
    };
    let picture = Picture { model, snapshot };
    match area.width {
        ..60 => picture.draw_small(ink, area),
        60..100 => picture.draw_single(ink, area),
        100..140 => picture.draw_double(ink, area),
        _ => picture.draw_panes(ink, area),
    }
}

fn rows(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

struct Picture<'a> {
    model: &'a Model,
    snapshot: &'a Snapshot,
}

impl Picture<'_> {
    /// The essential: does the sum come out, and how are the stages?
    fn draw_small(&self, ink: &mut Ink<'_>, area: Rect) {
        let mut left = area;
        let ledger = self.snapshot.status.ledger.as_ref();
        let line = take(&mut left, 1);
        let mut pieces: Vec<Piece> = vec![("ledger".to_owned(), Role::Dim)];
        pieces.push(match ledger {
            Some(ledger) => verdict(ledger),
            None => ("? (Redis is away)".to_owned(), Role::Warn),
        });
        if let Some(ledger) = ledger.filter(|ledger| ledger.balanced) {
            let applied = aged(ink, amount(ledger.applied));
            pieces.push((format!("applied {applied}"), aged_role(ink, Role::Plain)));
        }
        draw_pieces(ink, line.x, line.y, line.width, &pieces);
        let n_stages = rows(self.model.list(Id::Overview).order.len());
        let reasons = self.reasons();
        let alerts = match self.snapshot.status.alerts.len() {
            0 => 0,
            n => rows(n * 2).saturating_add(1).min(7),
        };
        let wants = [
            (2.min(left.height), n_stages.saturating_add(1).max(2)),
            (u16::from(!reasons.is_empty()), rows(reasons.len())),
            (1, 2),
            (0, alerts),
            (0, rows(self.n_events())),
        ];
        let given = divide(left.height, &wants);
        draw_rows(self.model, ink, take(&mut left, given[0]), &SCREEN);
        draw_reasons(ink, take(&mut left, given[1]), &reasons);
        let flow = self.flow_lines(ink, left.width);
        draw_lines(ink, take(&mut left, given[2]), &flow);
        self.draw_alerts(ink, take(&mut left, given[3]), false);
        self.draw_events(ink, left);
    }

    /// One column: every section, those that matter most first.
    fn draw_single(&self, ink: &mut Ink<'_>, area: Rect) {
        let flow = self.flow_lines(ink, area.width);
        let sources = self.source_lines(ink, area.width);
        let ledger = self.ledger_lines(ink, area.width, false);
        let reasons = self.reasons();
        let alerts = &self.snapshot.status.alerts;
        let trends = pipeline_trends();
        let n_stages = rows(self.model.list(Id::Overview).order.len());
        let n_alerts = rows(alerts.len() * 2);
        let alert_rows = |n: u16| if alerts.is_empty() { 0 } else { n };
        let wants = [
            (3, n_stages.saturating_add(1).min(area.height / 2).max(3)),
            (1, rows(ledger.len())),
            (3, 3),
            (alert_rows(2), alert_rows(n_alerts.min(4) + 1)),
            (1, rows(flow.len())),
            (u16::from(!reasons.is_empty()), rows(reasons.len()).min(3)),
            (2, rows(self.n_events().max(1) + 1).min(6)),
            (0, rows(sources.len()).min(2)),
            (
                0,
                n_stages
                    .saturating_add(1)
                    .saturating_sub((area.height / 2).max(3)),
            ),
            (0, rows(trends.len() + 1).saturating_sub(3)),
            (0, rows(self.n_events()).saturating_sub(5)),
            (0, n_alerts.saturating_sub(4)),
        ];
        let given = divide(area.height, &wants);
        let n_table = (given[0] + given[8]).min(n_stages.saturating_add(1).max(2));
        let spare = given[0] + given[8] - n_table;
        let mut left = area;
        draw_lines(ink, take(&mut left, given[4]), &flow);
        draw_lines(ink, take(&mut left, given[7]), &sources);
        draw_lines(ink, take(&mut left, given[1]), &ledger);
        draw_rows(self.model, ink, take(&mut left, n_table), &SCREEN);
        draw_reasons(ink, take(&mut left, given[5]), &reasons);
        self.draw_trends(ink, take(&mut left, given[2] + given[9]), &trends, false);
        self.draw_alerts(ink, take(&mut left, given[3] + given[11]), false);
        let events = given[6] + given[10] + spare;
        self.draw_events_panel(ink, take(&mut left, events), false);
    }

    /// The table over the whole width, below it trends beside alerts and events.
    fn draw_double(&self, ink: &mut Ink<'_>, area: Rect) {
        let flow = self.flow_lines(ink, area.width);
        let sources = self.source_lines(ink, area.width);
        let ledger = self.ledger_lines(ink, area.width, area.height >= 26);
        let reasons = self.reasons();
        let n_stages = rows(self.model.list(Id::Overview).order.len());
        let wants = [
            (3, n_stages.saturating_add(1).min(area.height / 2).max(3)),
            (1, rows(ledger.len())),
            (5, 10),
            (1, rows(flow.len())),
            (0, rows(sources.len()).min(2)),
            (u16::from(!reasons.is_empty()), rows(reasons.len()).min(3)),
            (0, area.height),
        ];
        let given = divide(area.height, &wants);
        let mut left = area;
        draw_lines(ink, take(&mut left, given[3]), &flow);
        draw_lines(ink, take(&mut left, given[4]), &sources);
        draw_lines(ink, take(&mut left, given[1]), &ledger);
        draw_rows(self.model, ink, take(&mut left, given[0]), &SCREEN);
        draw_reasons(ink, take(&mut left, given[5]), &reasons);
        let half = left.width / 2;
        let trends = Rect::new(left.x, left.y, half, left.height);
        self.draw_trends(ink, trends, &self.all_trends(left.height), true);
        let right = Rect::new(left.x + half, left.y, left.width - half, left.height);
        self.draw_alerts_and_events(ink, right);
    }

    /// Three panes: stages, trends of all of them, and beside them ledger, sources, alerts, events.
    fn draw_panes(&self, ink: &mut Ink<'_>, area: Rect) {
        let side = (area.width / 3).clamp(50, 80);
        let main = Rect::new(area.x, area.y, area.width - side, area.height);
        let mut right = Rect::new(main.right(), area.y, side, area.height);
        let n_stages = rows(self.model.list(Id::Overview).order.len());
        let inner_width = main.width - 2;
        let reasons = if inner_width >= REASON_AT {
            Vec::new()
        } else {
            self.reasons()
        };
        let flow = self.flow_lines(ink, inner_width);
        let wants = [
            (5, n_stages.saturating_add(3).min(area.height / 2).max(5)),
            (5, 12),
            (1, rows(flow.len())),
            (u16::from(!reasons.is_empty()), rows(reasons.len()).min(4)),
            (0, area.height),
        ];
        let given = divide(main.height, &wants);
        let mut left = main;
        let table = take(&mut left, given[0] + given[2] + given[3]);
        let title = format!("stages ({n_stages})");
        let mut inner = panel(ink, table, &title, true);
        draw_lines(ink, take(&mut inner, given[2]), &flow);
        let n_table = inner.height.saturating_sub(given[3]);
        draw_rows(self.model, ink, take(&mut inner, n_table), &SCREEN);
        draw_reasons(ink, inner, &reasons);
        self.draw_trends(ink, left, &self.all_trends(left.height), true);

        let n_sources = rows(self.snapshot.sources.len()).clamp(1, 6);
        let mut ledger = self.ledger_lines(ink, side - 2, true);
        // The panel's title says it.
        if let Some(first) = ledger.first_mut() {
            first.remove(0);
        }
        let n_ledger = rows(ledger.len()).saturating_add(2).min(right.height / 3);
        let inside = panel(ink, take(&mut right, n_ledger), "ledger", true);
        draw_lines(ink, inside, &ledger);
        let n_sources = (n_sources + 2).min(right.height / 3);
        let inside = panel(ink, take(&mut right, n_sources), "sources (10 s)", true);
        self.draw_sources(ink, inside);
        self.draw_alerts_and_events(ink, right);
    }

    fn flow_lines(&self, ink: &Ink<'_>, width: u16) -> Vec<Vec<Piece>> {
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

    fn ledger_lines(&self, ink: &Ink<'_>, width: u16, is_whole: bool) -> Vec<Vec<Piece>> {
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
    fn source_piece(&self, ink: &Ink<'_>, source: &Source) -> Piece {
        let (state, role) = source_state(self.model, source);
        let per_s = aged(ink, or_unknown(source.per_s, rate));
        let mut text = format!("{} {state} {per_s}", source.name);
        if source.rejected > 0 {
            text.push_str(&format!(", rejected {}", count(source.rejected)));
        }
        (text, aged_role(ink, role))
    }

    fn source_lines(&self, ink: &Ink<'_>, width: u16) -> Vec<Vec<Piece>> {
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

    fn draw_sources(&self, ink: &mut Ink<'_>, area: Rect) {
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
    fn reasons(&self) -> Vec<(String, String)> {
        self.snapshot
            .status
            .stages
            .iter()
            .filter_map(|stage| Some((stage.name.clone(), stage.reason.clone()?)))
            .take(20)
            .collect()
    }

    /// Of the whole and then of each stage, that under the cursor first, as far as `height` rows show them.
    fn all_trends(&self, height: u16) -> Vec<Trend> {
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

    fn draw_trends(&self, ink: &mut Ink<'_>, area: Rect, trends: &[Trend], is_boxed: bool) {
        if area.height < 2 {
            return;
        }
        let frame = if is_boxed { 2 } else { 0 };
        let inner = (
            area.width.saturating_sub(frame),
            area.height.saturating_sub(frame.max(1)),
        );
        let title = span(ink, inner.0, inner.1, trends);
        let inside = panel(ink, area, &title, is_boxed);
        draw_trends(self.model, ink, inside, trends);
    }

    fn draw_alerts_and_events(&self, ink: &mut Ink<'_>, area: Rect) {
        let mut left = area;
        let alerts = match self.snapshot.status.alerts.len() {
            0 => 3,
            n => rows(n * 2).saturating_add(2),
        };
        let most = (area.height / 2).max(3);
        self.draw_alerts(ink, take(&mut left, alerts.min(most)), true);
        self.draw_events_panel(ink, left, true);
    }

    fn draw_alerts(&self, ink: &mut Ink<'_>, area: Rect, is_boxed: bool) {
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

    /// Events of the picture: a held one has none that came later.
    fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        let last_ms = if self.model.facts.is_frozen() {
            self.snapshot.ts_ms
        } else {
            u64::MAX
        };
        let events = self.model.facts.events.iter();
        events.filter(move |event| event.ts_ms <= last_ms)
    }

    fn n_events(&self) -> usize {
        self.model.facts.events.len()
    }

    fn draw_events_panel(&self, ink: &mut Ink<'_>, area: Rect, is_boxed: bool) {
        if area.height < 2 {
            return;
        }
        let inner = panel(ink, area, "last events (UTC)", is_boxed);
        if self.events().next().is_none() {
            ink.text(inner.x, inner.y, inner.width, "none yet", Role::Dim);
            return;
        }
        self.draw_events(ink, inner);
    }

    /// Newest last.
    fn draw_events(&self, ink: &mut Ink<'_>, area: Rect) {
        let height = usize::from(area.height);
        let mut events: Vec<&Event> = self.events().rev().take(height).collect();
        events.reverse();
        for (y, event) in (area.y..area.bottom()).zip(events) {
            let stamp = clock::rfc3339(event.ts_ms);
            let time = stamp.get(11..19).unwrap_or("?");
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
                    (time, Role::Dim),
                    (level, role),
                    (&name, name_role),
                    (&event.message, Role::Plain),
                ],
            );
        }
    }
}

fn pipeline_trends() -> Vec<Trend> {
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

fn draw_lines(ink: &mut Ink<'_>, area: Rect, lines: &[Vec<Piece>]) {
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        draw_pieces(ink, area.x, y, area.width, line);
    }
}

fn draw_reasons(ink: &mut Ink<'_>, area: Rect, reasons: &[(String, String)]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_what_matters_most_and_never_exceed_what_there_is() {
        let wants = [(3, 5), (1, 2), (3, 6), (2, 9)];
        let table: [(u16, [u16; 4]); 6] = [
            (0, [0, 0, 0, 0]),
            (3, [3, 0, 0, 0]),
            (6, [3, 1, 0, 2]),
            (9, [3, 1, 3, 2]),
            (12, [5, 2, 3, 2]),
            (40, [5, 2, 6, 9]),
        ];
        for (height, expected) in table {
            assert_eq!(divide(height, &wants), expected, "{height}");
        }
    }
}
