//! Overview: is it well? Stages with their state, where every entry went, throughput and latency over time, alerts, last
//! events. What does not fit gives way by importance, from 40x9 on.

mod parts;

use parts::{draw_lines, draw_reasons, pipeline_trends};
use pipectl_shared::snapshot::{Snapshot, Stage};
use ratatui::layout::Rect;

use super::balance::verdict;
use super::body::{draw_head, draw_rows, take};
use super::owner::{is_owned, owner_words, part};
use super::screen::{List, Screen, Source, no_act};
use super::stages::{
    Piece, aged, aged_role, amount, draw_pieces, items_of, lag, open_pending, state_role,
    state_text,
};
use crate::model::{Item, Model};
use crate::output::human::{duration_ms, latency_ms, rate};
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
        "WORKERS of an owned stage: owner (this daemon's worker works it) or standby (another daemon's does).",
        "Ledger: accepted + spawned = what became of every entry. Balanced: nothing is missing and nothing counts twice.",
        "Trends: each has its own scale from 0 to max; a blank is unknown, the lowest bar is 0.",
    ],
    list: Some(List {
        noun: "stages",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| model.facts.snapshot().map_or(0, |s| s.status.stages.len()),
        id: |model, row| stage(model, row).map_or_else(String::new, |stage| stage.name.clone()),
        cells,
    }),
    source: Source::Snapshot,
    items,
    open: Some(("its entries", |model| {
        let row = model.list(Id::Overview).row();
        open_pending(model, row)
    })),
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
    Column::text("DELIVERY", 8, 20, 44),
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
        Cell::figure(
            f64::from(stage.workers),
            if is_owned(stage) {
                part(stage).to_owned()
            } else {
                stage.workers.to_string()
            },
        ),
        Cell::text(if is_owned(stage) {
            owner_words(stage)
        } else {
            stage.delivery.clone()
        }),
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
