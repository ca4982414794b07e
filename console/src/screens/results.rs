//! Results: what comes out. Totals on top; below one list of the types, then of the greatest products, with count, share,
//! rate and trend; beside it, where there is room, the chosen row and the whole over five minutes.

use std::cmp::Reverse;

use pipectl_shared::snapshot::{Aggregates, Snapshot};
use ratatui::layout::Rect;

use super::body::draw_list;
use super::screen::{List, Screen, Source, no_act, no_items};
use crate::clock;
use crate::model::Model;
use crate::output::human::{UNKNOWN, count, duration_ms, rate};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink, bar, panel, percent, trend, trend_line};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Results,
    group: Group::Data,
    name: "Results",
    letter: 'r',
    about: "What was counted: by type and by product, and live sessions.",
    legend: &[
        "COUNT: entries counted since the results began, each once. SHARE: of all that was counted.",
        "RATE: growth a second over the last 10 s. TREND: growth over the last 2 minutes, 10 s a cell; a blank is unknown.",
        "Types come first, then the greatest products (20 at most), each by count; s sorts otherwise, / finds by name or kind.",
        "Sessions: those that had an entry lately (the window is the pipeline's). Value: sum of the value field.",
        "read: when the daemon read the results from Redis last. ?: it never did.",
    ],
    list: Some(List {
        noun: "results",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| rows(model).len(),
        id: |model, row| {
            rows(model)
                .get(row)
                .map(|row| format!("{} {}", row.kind, row.name))
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Snapshot,
    items: no_items,
    open: None,
    act: no_act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("NAME", 0, 12, 36),
    Column::text("KIND", 2, 7, 7),
    Column::figure("COUNT", 0, 11),
    Column::figure("SHARE", 1, 6),
    Column::figure("RATE 10s", 1, 8),
    Column::text("TREND 2 min", 3, TREND as u16, TREND as u16),
    Column::text("SHARE OF ALL", 4, 12, u16::MAX),
];

/// Points of a trend in the list.
const TREND: usize = 12;
/// Seconds a point; the results are read every other second, so that each has as many reads as the next.
const STEP_S: usize = 10;
/// Points of a trend beside the list.
const LONG: usize = 30;

struct Row<'a> {
    kind: &'static str,
    name: &'a str,
    n: u64,
}

impl Row<'_> {
    /// Its name among the figures over time.
    fn series(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }
}

/// The results, unless they were never read: then their zeros mean nothing.
fn known(model: &Model) -> Option<(&Snapshot, &Aggregates)> {
    let snapshot = model.facts.snapshot()?;
    snapshot.aggregates_age_ms?;
    Some((snapshot, &snapshot.aggregates))
}

fn rows(model: &Model) -> Vec<Row<'_>> {
    let Some((_, results)) = known(model) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (kind, counts) in [
        ("type", &results.event_types),
        ("product", &results.products),
    ] {
        let begin = rows.len();
        rows.extend(counts.iter().map(|(name, n)| Row { kind, name, n: *n }));
        rows[begin..].sort_by_key(|row| Reverse(row.n));
    }
    rows
}

fn share(n: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| n as f64 / total as f64)
}

/// Growth a second over the last ten, as far as they are known.
fn growth(model: &Model, series: &str) -> Option<f64> {
    let points = model.history.last(series, STEP_S + 1, 1);
    let last = points.iter().rposition(Option::is_some)?;
    let mut first = points.iter().position(Option::is_some)?;
    // The results are read every other second: over an odd span one read would be missing or too many.
    if (last - first) % 2 == 1 && points[first + 1].is_some() {
        first += 1;
    }
    match (points[first], points[last]) {
        (Some(a), Some(b)) if last > first && b >= a => Some((b - a) / (last - first) as f64),
        _ => None,
    }
}

/// Growth a second in `n` steps; the step that is not over yet is left out.
fn steps(model: &Model, series: &str, n: usize) -> Vec<Option<f64>> {
    let mut points = model.history.growth(series, n + 1, STEP_S);
    points.truncate(n);
    points
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let rows = rows(model);
    let (Some(row), Some((_, results))) = (rows.get(row), known(model)) else {
        return Vec::new();
    };
    let share = share(row.n, results.total_count);
    let series = row.series();
    let is_ascii = model.options.theme.is_ascii();
    let trend = trend_line(&steps(model, &series, TREND), is_ascii);
    vec![
        Cell::text(row.name),
        Cell::text(row.kind).role(Role::Dim),
        Cell::figure(row.n as f64, count(row.n)),
        Cell::maybe(share, |share| percent(share * 100.0)),
        Cell::maybe(growth(model, &series), rate),
        Cell::text(trend).role(Role::First),
        Cell::figure(row.n as f64, bar(share.unwrap_or(0.0), 20, is_ascii)).role(Role::First),
    ]
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let Some((snapshot, results)) = known(model) else {
        draw_unknown(model, ink, area);
        return;
    };
    let top = area.height.min(3);
    draw_totals(
        model,
        ink,
        Rect::new(area.x, area.y, area.width, top),
        snapshot,
        results,
    );
    let rest = Rect::new(area.x, area.y + top, area.width, area.height - top);
    if area.width < 100 || rest.height < 12 {
        draw_list(model, ink, rest, &SCREEN);
        return;
    }
    let right = if area.width >= 140 { 52 } else { 34 };
    let left = rest.width - right - 1;
    draw_list(
        model,
        ink,
        Rect::new(rest.x, rest.y, left, rest.height),
        &SCREEN,
    );
    let side = Rect::new(rest.x + left + 1, rest.y, right, rest.height);
    draw_side(model, ink, side, results);
}

fn draw_unknown(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    if model.facts.snapshot().is_none() {
        draw_list(model, ink, area, &SCREEN);
        return;
    }
    let lines = [
        (
            format!("total {UNKNOWN}   rate {UNKNOWN}   sessions {UNKNOWN}"),
            Role::Strong,
        ),
        (
            "unknown: the daemon has not read the results from Redis yet, or no stage aggregates"
                .to_owned(),
            Role::Warn,
        ),
    ];
    let mut y = area.y;
    for (text, role) in lines {
        let left = Rect::new(area.x, y, area.width, area.bottom().saturating_sub(y));
        y += ink.wrapped(left, &text, role);
    }
}

fn draw_totals(
    model: &Model,
    ink: &mut Ink<'_>,
    area: Rect,
    snapshot: &Snapshot,
    results: &Aggregates,
) {
    let value = if ink.is_old { Role::Dim } else { Role::Strong };
    let is_wide = area.width >= 60;
    let per_s = growth(model, "results.total").map_or_else(|| UNKNOWN.to_owned(), rate);
    let mut lines: [Vec<(String, Role)>; 3] = Default::default();
    let is_old = ink.is_old;
    let mut put = |line: usize, name: &str, text: String| {
        let mark = if is_old && text != UNKNOWN { "~" } else { "" };
        let text = format!("{mark}{text}");
        lines[line].push((format!("{name} "), Role::Dim));
        lines[line].push((format!("{text}   "), value));
    };
    let entries = if is_wide { " entries" } else { "" };
    put(
        0,
        "total",
        format!("{}{entries}", count(results.total_count)),
    );
    put(0, if is_wide { "rate over 10 s" } else { "rate" }, per_s);
    if let Some(sum) = results.total_value.filter(|sum| sum.is_finite()) {
        put(0, "value", grouped(sum));
    }
    put(1, "live sessions", count(results.sessions));
    let shown = |n: usize, name: &str| match snapshot.truncated.get(name) {
        Some(left) => format!("{n} of {}", count((n as u64).saturating_add(*left))),
        None => n.to_string(),
    };
    put(1, "types", shown(results.event_types.len(), "event_types"));
    put(1, "products", shown(results.products.len(), "products"));
    let updated = match &results.last_updated {
        None => "never".to_owned(),
        Some(text) => match clock::ms_of_rfc3339(text) {
            Some(at) => {
                let ago = duration_ms(snapshot.ts_ms.saturating_sub(at));
                if is_wide {
                    format!("{text} ({ago} ago)")
                } else {
                    format!("{ago} ago")
                }
            }
            None => text.clone(),
        },
    };
    put(2, "last counted", updated);
    if let Some(age) = snapshot.aggregates_age_ms.filter(|_| is_wide) {
        put(2, "read", format!("{} ago", duration_ms(age)));
    }
    for (y, line) in (area.y..area.bottom()).zip(&lines) {
        let pieces: Vec<(&str, Role)> = line.iter().map(|(t, r)| (t.as_str(), *r)).collect();
        ink.pieces(area.x, y, area.width, &pieces);
    }
}

/// `12,345.67`
fn grouped(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let cents = (value.abs() * 100.0).round();
    // Sums beyond 2^63 hundredths saturate, as every absurd figure here.
    let cents = cents as u64;
    format!("{sign}{}.{:02}", count(cents / 100), cents % 100)
}

/// The chosen row, all of them, and sessions, over five minutes.
fn draw_side(model: &Model, ink: &mut Ink<'_>, area: Rect, results: &Aggregates) {
    let rows = rows(model);
    let chosen = model.list(Id::Results).row().and_then(|row| rows.get(row));
    let mut y = area.y;
    let mut section = |ink: &mut Ink<'_>,
                       title: &str,
                       line: &str,
                       series: Vec<Option<f64>>,
                       show: fn(f64) -> String| {
        let room = Rect::new(
            area.x,
            y,
            area.width,
            area.bottom().saturating_sub(y).min(5),
        );
        if room.height < 4 {
            return;
        }
        let inner = panel(ink, room, title, true);
        ink.text(inner.x, inner.y, inner.width, line, Role::Plain);
        let width = inner
            .width
            .min(u16::try_from(series.len()).unwrap_or(u16::MAX));
        let greatest = trend(ink, inner.x, inner.y + 1, width, &series, Role::First);
        let text = match greatest {
            Some(greatest) => format!("5 min, greatest {}", show(greatest)),
            None => "5 min: unknown yet".to_owned(),
        };
        ink.text(inner.x, inner.y + 2, inner.width, &text, Role::Dim);
        y += room.height;
    };
    if let Some(row) = chosen {
        let title = format!("{} {}", row.kind, row.name);
        let share = share(row.n, results.total_count);
        let line = format!(
            "{}  {}  {}",
            count(row.n),
            share.map_or_else(|| UNKNOWN.to_owned(), |share| percent(share * 100.0)),
            growth(model, &row.series()).map_or_else(|| UNKNOWN.to_owned(), rate)
        );
        section(ink, &title, &line, steps(model, &row.series(), LONG), rate);
    }
    let line = format!(
        "{}  {}",
        count(results.total_count),
        growth(model, "results.total").map_or_else(|| UNKNOWN.to_owned(), rate)
    );
    section(ink, "all", &line, steps(model, "results.total", LONG), rate);
    let sessions = model.history.last("results.sessions", LONG, STEP_S);
    let line = format!("{} live", count(results.sessions));
    section(ink, "sessions", &line, sessions, |n| {
        count(n.max(0.0) as u64)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keymap;
    use crate::model::Options;
    use crate::theme::{Charset, Depth, Theme};

    fn model() -> Model {
        let options = Options {
            read_only: false,
            theme: Theme {
                depth: Depth::Mono,
                charset: Charset::Ascii,
            },
            keymap: Keymap::default(),
        };
        Model::new(options, (80, 24))
    }

    fn at(second: u64, age: Option<u64>, clicks: u64) -> Box<Snapshot> {
        Box::new(Snapshot {
            ts_ms: second * 1_000,
            aggregates: Aggregates {
                total_count: clicks + 10,
                event_types: [("click".to_owned(), clicks), ("view".to_owned(), 10)].into(),
                products: [("lamp".to_owned(), 3), ("\u{1b}[2J".to_owned(), 7)].into(),
                ..Aggregates::default()
            },
            aggregates_age_ms: age,
            ..Snapshot::default()
        })
    }

    fn take(model: &mut Model, snapshot: Box<Snapshot>) {
        model.history.take(&snapshot);
        model.facts.take(snapshot, 0);
    }

    #[test]
    fn types_come_first_and_then_products_each_by_count() {
        let mut model = model();
        take(&mut model, at(100, Some(0), 90));
        let names: Vec<_> = rows(&model)
            .iter()
            .map(|row| (row.kind, row.name.to_owned()))
            .collect();
        let expected = [
            ("type", "click"),
            ("type", "view"),
            ("product", "\u{1b}[2J"),
            ("product", "lamp"),
        ];
        assert_eq!(names, expected.map(|(kind, name)| (kind, name.to_owned())));
        let texts: Vec<_> = cells(&model, 0).into_iter().map(|cell| cell.text).collect();
        assert_eq!(texts[..5], ["click", "type", "90", "90.0%", "?"]);
    }

    #[test]
    fn results_that_were_never_read_are_unknown_and_not_zero() {
        let mut model = model();
        take(&mut model, at(100, None, 0));
        assert!(rows(&model).is_empty() && known(&model).is_none());
        assert_eq!(growth(&model, "results.total"), None);
    }

    #[test]
    fn the_rate_is_what_ten_seconds_added_and_unknown_after_a_restart() {
        let mut model = model();
        // Read every other second.
        for second in 100..=111 {
            take(&mut model, at(second, Some(0), second / 2 * 2 * 5));
        }
        assert_eq!(growth(&model, "type.click"), Some(5.0));
        assert_eq!(
            growth(&model, "type.view"),
            Some(0.0),
            "known to stand still"
        );
        assert_eq!(growth(&model, "type.never"), None);
        take(&mut model, at(112, Some(0), 1));
        assert_eq!(growth(&model, "type.click"), None, "it fell");
    }

    fn drawn(model: &Model, width: u16, height: u16) -> String {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = ratatui::buffer::Buffer::empty(area);
        draw(model, &mut Ink::new(&mut buffer, model.options.theme), area);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        let lines: Vec<String> = (0..height).map(line).collect();
        lines.join("\n")
    }

    #[test]
    fn each_state_says_what_it_is() {
        let mut model = model();
        assert!(drawn(&model, 80, 20).contains("connecting to the daemon"));
        take(&mut model, at(100, None, 0));
        let text = drawn(&model, 80, 20);
        assert!(
            text.contains("total ?") && text.contains("unknown"),
            "{text}"
        );
        take(&mut model, at(101, Some(1_500), 90));
        let text = drawn(&model, 80, 20);
        assert!(text.contains("total 100 entries"), "{text}");
        assert!(
            text.contains("last counted never   read 1.5s ago"),
            "{text}"
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_daemon_tells_makes_it_panic(
            width in 0_u16..180,
            height in 0_u16..50,
            counts in proptest::collection::btree_map(".{0,20}", proptest::num::u64::ANY, 0..40),
            total_count in proptest::num::u64::ANY,
            value in proptest::num::f64::ANY,
            updated in ".{0,40}",
        ) {
            let mut model = model();
            let snapshot = Box::new(Snapshot {
                ts_ms: total_count,
                aggregates: Aggregates {
                    total_count,
                    total_value: Some(value),
                    event_types: counts.clone(),
                    products: counts,
                    last_updated: Some(updated),
                    ..Aggregates::default()
                },
                aggregates_age_ms: Some(total_count),
                ..Snapshot::default()
            });
            model.screen = Id::Results;
            take(&mut model, snapshot);
            model.list_mut(Id::Results).order = (0..rows(&model).len()).collect();
            drawn(&model, width, height);
        }
    }

    #[test]
    fn sums_have_groups_and_two_decimals() {
        let table = [
            (0.0, "0.00"),
            (1_234.5, "1,234.50"),
            (-0.999, "-1.00"),
            (f64::MAX, "184,467,440,737,095,516.15"),
        ];
        for (value, expected) in table {
            assert_eq!(grouped(value), expected);
        }
    }
}
