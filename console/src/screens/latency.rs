//! Latency: how long things take, per stage and measure. A table of percentiles; for the row under the cursor the histogram
//! of the last minute, and a heatmap of the last hour with a time cursor.

use pipectl_shared::snapshot::{Latency, Snapshot};
use ratatui::layout::Rect;

use super::body::draw_list;
use super::screen::{List, Screen, Source, no_items};
use crate::clock;
use crate::keys::Act;
use crate::message::Effect;
use crate::model::{Model, Series, Span};
use crate::output::human::{count, latency_ms};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{
    Cell, Column, Heatmap, Ink, bar, bound, draw_heatmap, draw_histogram, fullest, panel,
};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Latency,
    group: Group::Data,
    name: "Latency",
    letter: 'l',
    about: "How long entries take, by stage and measure, over the last minute.",
    legend: &[
        "wait: added to read. service: read to committed. total: added to committed. end_to_end: from _t, or the entry id, to the end.",
        "COUNT and percentiles: of the last minute. p99: 99 of 100 were faster. Percentiles are merged, never averaged.",
        "~: some values began at an entry id's millisecond, so they are right to 1 ms only.",
        "OUT: values over 60 s or under 1 us; counted here and left out of the rest.",
        "Heatmap: a column is a slot of 5 s, a row holds latencies above its label, a shade is a count; log scale, same for all columns.",
        "C on the time axis: an experiment put a fault in; c: it was taken back.",
        "Blank: nothing counted there. A dashed column: nobody looked (the daemon was down). UTC.",
        "[ and ] or Left and Right move the time cursor; L goes back to now. Latencies of slow entries are not corrected for what they held up.",
    ],
    list: Some(List {
        noun: "measures",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| rows(model).len(),
        id: |model, row| {
            rows(model)
                .get(row)
                .map(|row| format!("{} {}", row.stage, row.measure))
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Latency,
    items: no_items,
    open: None,
    act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("STAGE", 0, 8, 18),
    Column::text("MEASURE", 0, 10, 10),
    Column::figure("COUNT", 2, 8),
    Column::figure("p50", 0, 7),
    Column::figure("p90", 5, 7),
    Column::figure("p95", 4, 7),
    Column::figure("p99", 0, 7),
    Column::figure("p99.9", 3, 7),
    Column::figure("MAX", 1, 7),
    Column::figure("OUT", 3, 4),
];

/// Whether the Snapshot tells all of it; a very large pipeline's has no room for that.
pub(crate) fn is_told(snapshot: &Snapshot) -> bool {
    let is_cut = |name| snapshot.truncated.contains_key(name);
    !snapshot.latency.is_empty() && !is_cut("latency") && !is_cut("latency_buckets")
}

/// Rows of the Snapshot, or of the exact document, which is asked for where the Snapshot does not tell all.
fn rows(model: &Model) -> &[Latency] {
    match (model.facts.snapshot(), &model.latency) {
        (Some(snapshot), _) if is_told(snapshot) => &snapshot.latency,
        (_, Some(rows)) => rows,
        (Some(snapshot), None) => &snapshot.latency,
        (None, None) => &[],
    }
}

fn chosen(model: &Model) -> Option<&Latency> {
    let rows = rows(model);
    match model.list(Id::Latency).row() {
        Some(row) => rows.get(row),
        None => None,
    }
}

/// Stage and measure that are looked at.
pub(crate) fn chosen_series(model: &Model) -> Option<Series> {
    chosen(model).map(|row| (row.stage.clone(), row.measure.clone()))
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(row) = rows(model).get(row) else {
        return Vec::new();
    };
    let coarse = if row.coarse { "~" } else { "" };
    let latency =
        |value: Option<f64>| Cell::maybe(value, |ms| format!("{coarse}{}", latency_ms(ms)));
    let out = Cell::figure(row.out_of_range as f64, count(row.out_of_range));
    vec![
        Cell::text(&row.stage),
        Cell::text(&row.measure),
        Cell::figure(row.count as f64, count(row.count)),
        latency(row.p50),
        latency(row.p90),
        latency(row.p95),
        latency(row.p99),
        latency(row.p999),
        latency(row.max),
        out.role(if row.out_of_range > 0 {
            Role::Warn
        } else {
            Role::Plain
        }),
    ]
}

/// Whether the heatmap has room; without it left and right are for the columns of the table.
fn has_chart(width: u16, height: u16) -> bool {
    width >= 60 && height >= 14
}

fn act(model: &mut Model, act: Act) -> Option<Vec<Effect>> {
    let is_earlier = match act {
        Act::Earlier => true,
        Act::Later => false,
        // Header, bar and footer surround the body, and an alert may.
        Act::Left | Act::Right if has_chart(model.size.0, model.size.1.saturating_sub(4)) => {
            act == Act::Left
        }
        _ => return None,
    };
    let Some(series) = chosen_series(model) else {
        model.say("nothing is measured yet");
        return Some(Vec::new());
    };
    if model.move_time(&series, is_earlier).is_none() {
        model.say(if is_earlier {
            "the time cursor is at the oldest slot that is loaded"
        } else {
            "this is now; the newest slot ended up to 5 s ago"
        });
    }
    Some(Vec::new())
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    if !has_chart(area.width, area.height) || chosen(model).is_none() {
        draw_list(model, ink, area, &SCREEN);
        return;
    }
    let n_rows = u16::try_from(model.list(Id::Latency).order.len()).unwrap_or(u16::MAX);
    // The list's own lines are its counts and its titles.
    let wanted = n_rows.saturating_add(2);
    let (table, chart) = if area.width >= 100 {
        let height = wanted.clamp(10, (area.height / 2).max(10));
        split(area, height.min(area.height - 8))
    } else {
        split(area, wanted.min((area.height / 3).max(7)))
    };
    if area.width >= 140 {
        let left = table.width * 45 / 100;
        let middle = table.width * 33 / 100;
        draw_list(
            model,
            ink,
            Rect::new(table.x, table.y, left, table.height),
            &SCREEN,
        );
        let middle = Rect::new(table.x + left + 1, table.y, middle, table.height);
        draw_minute(model, ink, middle);
        let right = middle.right() + 1;
        draw_percentiles(
            model,
            ink,
            Rect::new(right, table.y, table.right() - right, table.height),
        );
    } else if area.width >= 100 {
        let left = table.width * 58 / 100;
        draw_list(
            model,
            ink,
            Rect::new(table.x, table.y, left, table.height),
            &SCREEN,
        );
        let right = table.x + left + 1;
        draw_minute(
            model,
            ink,
            Rect::new(right, table.y, table.right() - right, table.height),
        );
    } else {
        draw_list(model, ink, table, &SCREEN);
    }
    draw_hour(model, ink, chart);
}

fn split(area: Rect, height: u16) -> (Rect, Rect) {
    let height = height.min(area.height);
    (
        Rect::new(area.x, area.y, area.width, height),
        Rect::new(area.x, area.y + height, area.width, area.height - height),
    )
}

/// The histogram of the last minute, or of the slot under the time cursor.
fn draw_minute(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let Some(row) = chosen(model) else { return };
    let series = (row.stage.clone(), row.measure.clone());
    let spans = model.slots.spans(&series, model.slots_upto_ms());
    let at = model.time_cursor(&spans).and_then(|at| spans.get(at));
    let Some(at) = at else {
        let title = format!("Histogram {} {}, last minute", row.stage, row.measure);
        let inner = panel(ink, area, &title, true);
        let marks = [(row.p50, "p50"), (row.p99, "p99"), (row.max, "max")];
        draw_histogram(ink, inner, &row.buckets, &known(&marks));
        return;
    };
    let title = format!("Histogram of {}", interval(at));
    let inner = panel(ink, area, &title, true);
    match at.slot {
        Some(slot) => {
            let marks = [(slot.p50, "p50"), (slot.p99, "p99"), (slot.max, "max")];
            draw_histogram(ink, inner, &slot.buckets, &known(&marks));
        }
        None => {
            ink.wrapped(inner, "no data: nobody looked", Role::Warn);
        }
    }
}

fn known<'a>(marks: &[(Option<f64>, &'a str)]) -> Vec<(f64, &'a str)> {
    marks
        .iter()
        .filter_map(|(ms, name)| Some(((*ms)?, *name)))
        .collect()
}

/// Percentiles as bars on a log scale from 1 us on: how steep the tail is. Few values above one make it a guess.
fn draw_percentiles(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let Some(row) = chosen(model) else { return };
    let inner = panel(ink, area, "Percentiles, last minute (log bars)", true);
    let points = [
        ("min", row.min, 1.0),
        ("p50", row.p50, 0.5),
        ("p90", row.p90, 0.1),
        ("p95", row.p95, 0.05),
        ("p99", row.p99, 0.01),
        ("p99.9", row.p999, 0.001),
        ("p99.99", row.p9999, 0.000_1),
        ("max", row.max, 1.0),
    ];
    // From the power of ten below the least to the greatest.
    let log = |ms: f64| (ms.max(0.001) * 1_000.0).log10();
    let finite = |ms: &f64| ms.is_finite();
    let all = || points.iter().filter_map(|(_, ms, _)| *ms).filter(finite);
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(0.0, f64::max);
    let low = if low.is_finite() {
        log(low).floor()
    } else {
        0.0
    };
    let span = (log(high) - low).max(0.1);
    for (y, (name, ms, above)) in (inner.y..inner.bottom()).zip(points) {
        ink.right(inner.x + 6, y, 6, name, Role::Dim);
        let text = ms.map_or_else(|| "?".to_owned(), latency_ms);
        // Fewer than ten values above it: another minute may say something else.
        let is_few = ms.is_some() && row.count as f64 * above < 10.0;
        let text = if is_few { format!("{text} few") } else { text };
        ink.right(inner.x + 17, y, 10, &text, Role::Plain);
        let x = inner.x + 18;
        let room = inner.right().saturating_sub(x);
        if let Some(ms) = ms.filter(finite) {
            let bar = bar((log(ms) - low) / span, room, ink.is_ascii());
            let role = if is_few { Role::Dim } else { Role::First };
            ink.text(x, y, room, &bar, role);
        }
    }
    let y = inner.y.saturating_add(8);
    if y < inner.bottom() {
        let below = "few: fewer than 10 values above it";
        ink.text(inner.x, y, inner.width, below, Role::Dim);
    }
}

/// The heatmap with the figures of one of its columns below the title.
fn draw_hour(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let Some(row) = chosen(model) else { return };
    let series = (row.stage.clone(), row.measure.clone());
    let title = format!("Heatmap {} {}", row.stage, row.measure);
    let inner = panel(ink, area, &title, area.width >= 100 && area.height >= 16);
    if inner.height < 2 {
        return;
    }
    let spans = model.slots.spans(&series, model.slots_upto_ms());
    if spans.is_empty() {
        let (text, role) = why_no_slots(model, &series);
        ink.wrapped(inner, &text, role);
        return;
    }
    let cursor = model.time_cursor(&spans);
    let at = cursor.unwrap_or(spans.len() - 1);
    let line = Rect::new(inner.x, inner.y, inner.width, 1);
    draw_column_line(ink, line, spans.get(at), cursor.is_some());
    let columns: Vec<_> = spans.iter().map(Span::buckets).collect();
    let ends_ms: Vec<_> = spans.iter().map(|span| span.end_ms).collect();
    let from_ms = ends_ms
        .first()
        .copied()
        .unwrap_or(0)
        .saturating_sub(spans[0].step_ms);
    let faults = model
        .facts
        .faults(from_ms, ends_ms.last().copied().unwrap_or(0));
    let map = Heatmap {
        columns: &columns,
        ends_ms: &ends_ms,
        step_ms: spans[spans.len() - 1].step_ms,
        cursor,
        faults: &faults,
    };
    let rest = Rect::new(inner.x, inner.y + 1, inner.width, inner.height - 1);
    draw_heatmap(ink, rest, &map);
}

fn why_no_slots(model: &Model, series: &Series) -> (String, Role) {
    if let Some(fault) = &model.slots.fault {
        return (format!("no heatmap: {}", fault.message), Role::Warn);
    }
    if model.slots.is_loaded(series) {
        return (
            "the first slot of 5 s is not over yet".to_owned(),
            Role::Dim,
        );
    }
    if model.facts.is_up() {
        ("asking the daemon ...".to_owned(), Role::Dim)
    } else {
        (
            "unknown: the daemon is not connected".to_owned(),
            Role::Warn,
        )
    }
}

/// `13:52:05`
fn time_of_day(ms: u64) -> String {
    let stamp = clock::rfc3339(ms);
    let time = stamp.split('T').nth(1).unwrap_or_default();
    time.trim_end_matches('Z').to_owned()
}

/// `13:52:05-13:52:10`
fn interval(span: &Span<'_>) -> String {
    let from_ms = span.end_ms.saturating_sub(span.step_ms);
    format!("{}-{}", time_of_day(from_ms), time_of_day(span.end_ms))
}

/// `13:52:05+5s`
fn begin_and_length(span: &Span<'_>) -> String {
    let from_ms = span.end_ms.saturating_sub(span.step_ms);
    format!("{}+{}", time_of_day(from_ms), bound(span.step_ms as f64))
}

/// The exact figures of a column.
fn draw_column_line(ink: &mut Ink<'_>, area: Rect, span: Option<&Span<'_>>, is_pinned: bool) {
    let Some(span) = span else { return };
    let is_wide = area.width >= 100;
    let when = format!(
        "{} {}",
        if is_pinned { "cursor" } else { "newest" },
        if is_wide {
            interval(span)
        } else {
            begin_and_length(span)
        }
    );
    let mut pieces = vec![
        (when, if is_pinned { Role::Key } else { Role::Dim }),
        ("  ".to_owned(), Role::Plain),
    ];
    match span.slot {
        None => pieces.push(("no data: nobody looked".to_owned(), Role::Warn)),
        Some(slot) if slot.count == 0 => {
            pieces.push(("n 0: nothing was measured".to_owned(), Role::Plain));
        }
        Some(slot) => {
            let show = |ms: Option<f64>| ms.map_or_else(|| "?".to_owned(), latency_ms);
            for (name, value) in [
                ("n ", count(slot.count)),
                ("p50 ", show(slot.p50)),
                ("p99 ", show(slot.p99)),
                ("max ", show(slot.max)),
            ] {
                pieces.push((name.to_owned(), Role::Dim));
                pieces.push((format!("{value}  "), Role::Strong));
            }
            if let Some((low, high, n)) = fullest(&slot.buckets) {
                let n = if is_wide {
                    format!("{} in ", count(n))
                } else {
                    String::new()
                };
                pieces.push(("most ".to_owned(), Role::Dim));
                pieces.push((format!("{n}{}-{}", bound(low), bound(high)), Role::Plain));
            }
        }
    }
    if let Some(slot) = span.slot.filter(|slot| slot.out_of_range > 0) {
        let text = format!("  {} out of range", count(slot.out_of_range));
        pieces.push((text, Role::Warn));
    }
    let pieces: Vec<(&str, Role)> = pieces.iter().map(|(t, r)| (t.as_str(), *r)).collect();
    ink.pieces(area.x, area.y, area.width, &pieces);
}

#[cfg(test)]
mod tests {
    use pipectl_shared::snapshot::{Bucket, LatencySlot};
    use proptest::prelude::*;
    use ratatui::buffer::Buffer;

    use super::*;
    use crate::facts::Link;
    use crate::keys::Keymap;
    use crate::message::{Effect, Question};
    use crate::model::Options;
    use crate::theme::{Charset, Depth, Theme};

    fn model(size: (u16, u16)) -> Model {
        let options = Options {
            read_only: false,
            theme: Theme {
                depth: Depth::Mono,
                charset: Charset::Ascii,
            },
            keymap: Keymap::default(),
        };
        let mut model = Model::new(options, size);
        model.screen = Id::Latency;
        model
    }

    fn row(stage: &str, count: u64) -> Latency {
        let ms = (count > 0).then_some(1.5);
        Latency {
            stage: stage.to_owned(),
            measure: "service".to_owned(),
            count,
            p50: ms,
            p99: ms,
            max: ms,
            coarse: stage == "coarse",
            buckets: vec![Bucket {
                le_ms: 1.778,
                count,
            }],
            ..Latency::default()
        }
    }

    /// What `update` does with a Snapshot, as far as this screen goes.
    fn take(model: &mut Model, snapshot: Snapshot) {
        let n = snapshot.latency.len();
        model.facts.take(Box::new(snapshot), 0);
        model.list_mut(Id::Latency).order = (0..n).collect();
    }

    fn told(ts_ms: u64) -> Snapshot {
        Snapshot {
            ts_ms,
            latency: vec![row("one", 0), row("coarse", 5)],
            ..Snapshot::default()
        }
    }

    fn slot(end_ms: u64) -> LatencySlot {
        LatencySlot {
            end_ms,
            step_ms: 5_000,
            count: 7,
            buckets: vec![Bucket {
                le_ms: 1.778,
                count: 7,
            }],
            ..LatencySlot::default()
        }
    }

    fn drawn(model: &Model) -> String {
        let (width, height) = model.size;
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(model, &mut Ink::new(&mut buffer, model.options.theme), area);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        let lines: Vec<String> = (0..height).map(line).collect();
        lines.join("\n")
    }

    fn ask(model: &mut Model) -> Option<(String, u64)> {
        let series = chosen_series(model);
        match model.ask_slots(series)? {
            Effect::Ask(_, question) => match *question {
                Question::Slots(params) => Some((params.stage.unwrap(), params.after_ms)),
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn each_state_says_what_it_is() {
        let mut model = model((80, 24));
        assert!(drawn(&model).contains("connecting to the daemon"));
        model.facts.link = Link::Up {
            socket: String::new(),
        };
        take(&mut model, told(1_000));
        let text = drawn(&model);
        assert!(text.contains("asking the daemon"), "{text}");
        assert!(text.contains("~1.5ms"), "{text}");
        let one = text.lines().find(|line| line.contains("> one")).unwrap();
        assert!(one.contains('?') && one.contains(" 0 "), "{one}");
        let name = chosen_series(&model).unwrap();
        model.slots.take(name.clone(), Vec::new());
        assert!(drawn(&model).contains("the first slot of 5 s is not over yet"));
        model
            .slots
            .take(name, vec![slot(1_000_000), slot(1_020_000)]);
        let text = drawn(&model);
        assert!(text.contains("newest 00:16:55+5s  n 7"), "{text}");
        model.move_time(&chosen_series(&model).unwrap(), true);
        model.move_time(&chosen_series(&model).unwrap(), true);
        let text = drawn(&model);
        assert!(text.contains("no data: nobody looked"), "{text}");
    }

    #[test]
    fn slots_are_asked_for_once_and_then_only_what_is_new() {
        let mut model = model((80, 24));
        model.facts.link = Link::Up {
            socket: String::new(),
        };
        take(&mut model, told(1_000_000));
        assert_eq!(ask(&mut model), Some(("one".to_owned(), 0)));
        model.now_ms = 60_000;
        assert_eq!(ask(&mut model), None, "the answer is under way");
        model.asked.clear();
        model.now_ms = 0;
        model
            .slots
            .take(chosen_series(&model).unwrap(), vec![slot(1_000_000)]);
        let table = [
            ("the next slot is not over", 2_500, 1_004_000, None),
            ("it is", 3_000, 1_005_500, Some(1_000_000)),
        ];
        for (desc, now_ms, ts_ms, expected) in table {
            model.now_ms = now_ms;
            take(&mut model, told(ts_ms));
            let after = ask(&mut model).map(|(_, after)| after);
            assert_eq!(after, expected, "{desc}");
        }
        model.asked.clear();
        // Another row has slots of its own.
        model.list_mut(Id::Latency).at = 1;
        assert_eq!(ask(&mut model), Some(("coarse".to_owned(), 0)));
    }

    #[test]
    fn a_picture_that_is_held_shows_nothing_that_came_later() {
        let mut model = model((80, 24));
        take(&mut model, told(1_002_000));
        let name = chosen_series(&model).unwrap();
        model
            .slots
            .take(name.clone(), vec![slot(1_000_000), slot(1_005_000)]);
        let n = |model: &Model| model.slots.spans(&name, model.slots_upto_ms()).len();
        assert_eq!(n(&model), 2);
        model.facts.freeze();
        assert_eq!(n(&model), 1);
    }

    proptest! {
        #[test]
        fn nothing_that_a_daemon_tells_makes_it_panic(
            width in 0_u16..180,
            height in 0_u16..60,
            figures in prop::collection::vec((any::<f64>(), any::<u64>()), 1..6),
            ends in prop::collection::vec(any::<u64>(), 0..6),
            step_ms in any::<u64>(),
            presses in 0_usize..4,
        ) {
            let mut model = model((width, height));
            let buckets: Vec<Bucket> = figures
                .iter()
                .map(|(le_ms, count)| Bucket { le_ms: *le_ms, count: *count })
                .collect();
            let latency = figures
                .iter()
                .map(|(ms, n)| Latency {
                    stage: "\u{1b}[2J\u{202e}".to_owned(),
                    measure: "service".to_owned(),
                    count: *n,
                    p50: Some(*ms),
                    p999: Some(-*ms),
                    max: Some(*ms),
                    buckets: buckets.clone(),
                    out_of_range: *n,
                    ..Latency::default()
                })
                .collect();
            let snapshot = Snapshot { latency, ts_ms: figures[0].1, ..Snapshot::default() };
            take(&mut model, snapshot);
            let slots = ends
                .iter()
                .map(|end_ms| LatencySlot {
                    end_ms: *end_ms,
                    step_ms,
                    count: figures[0].1,
                    p50: Some(figures[0].0),
                    buckets: buckets.clone(),
                    ..LatencySlot::default()
                })
                .collect();
            let name = chosen_series(&model).unwrap();
            model.slots.take(name.clone(), slots);
            for _ in 0..presses {
                model.move_time(&name, true);
            }
            drawn(&model);
        }
    }
}
