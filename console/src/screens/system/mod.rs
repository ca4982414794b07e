//! System: what the pipeline runs on. Host, the daemon's process, Redis, this console's connection, and their load over
//! time.

mod sections;

use ratatui::layout::Rect;
use sections::{connection, daemon, host, redis};

use super::body::take;
use super::screen::{Screen, Source, no_act};
use super::stages::{Piece, aged_role, draw_pieces, wrap};
use super::trends::{Trend, draw_trends, span};
use crate::facts::Link;
use crate::model::{Item, ItemKind, Model};
use crate::output::human::{UNKNOWN, bytes};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Gauge, Ink, gauge, panel};

pub(super) const SCREEN: Screen = Screen {
    id: Id::System,
    group: Group::System,
    name: "System",
    letter: 't',
    about: "What it runs on: host, daemon, Redis, this connection.",
    legend: &[
        "CPU of the host: busy share of all cores. CPU of the daemon: cores in use over the last 10 s; 1.0 is one core.",
        "A bar is full only at 100 %; HIGH from 85 %, FULL from 95 %. kB = 1,000 bytes.",
        "Redis state: up, down, loading, full (out of memory), readonly, misconf (cannot write its disk).",
        "Near its memory limit Redis refuses writes: doors shed new events before that.",
    ],
    list: None,
    source: Source::Snapshot,
    items: |_| {
        vec![Item {
            letter: 'd',
            label: "drain: finish what is in flight, then stop the daemon".to_owned(),
            kind: ItemKind::Command {
                name: "daemon.drain".to_owned(),
                given: Vec::new(),
            },
        }]
    },
    open: None,
    act: no_act,
    draw,
};

/// Bytes with their unit.
fn size(n: u64) -> String {
    format!("{}B", bytes(n))
}

fn size_of(n: f64) -> String {
    // A figure of a series is never negative; an absurd one saturates.
    size(n as u64)
}

/// A word that the daemon may have left out.
fn said(word: &str) -> &str {
    if word.is_empty() { UNKNOWN } else { word }
}

fn share(n: f64) -> String {
    Gauge::new(Some(n)).percent()
}

fn cores(n: f64) -> String {
    format!("{n:.2} cores")
}

fn trends() -> Vec<Trend> {
    vec![
        Trend::new("daemon cores", "daemon.cpu", |n| format!("{n:.2}")),
        Trend::new("daemon memory", "daemon.rss", size_of).second(),
        Trend::new("redis memory", "redis.used_memory", size_of),
        Trend::new("host cpu", "host.cpu", share).second(),
    ]
}

/// A line of a panel.
enum Line {
    /// Pieces, broken where they do not fit.
    Pieces(Vec<Piece>),
    /// Label, share, and what it is a share of.
    Gauge(&'static str, Gauge, String),
}

struct Section {
    title: &'static str,
    lines: Vec<Line>,
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let trends = trends();
    let Some(snapshot) = model.facts.snapshot() else {
        let connection = connection(model, ink);
        let lines = measure(ink, &connection, area.width);
        let mut left = area;
        draw_section(ink, take(&mut left, lines + 1), &connection, false);
        let text = match &model.facts.link {
            Link::Up { .. } => "waiting for the daemon's first figures ...",
            _ => "the rest is unknown until the daemon is reached",
        };
        ink.wrapped(left, text, Role::Dim);
        return;
    };
    let sections = [
        redis(model, ink, snapshot),
        daemon(ink, snapshot),
        host(ink, snapshot),
        connection(model, ink),
    ];
    if area.width < 100 {
        draw_column(model, ink, area, &sections, &trends);
        return;
    }
    // Two panels side by side, twice; trends fill what is left.
    let half = area.width / 2;
    let mut left = area;
    for pair in [[0, 1], [2, 3]] {
        let inner = half.saturating_sub(2);
        let rows = pair.map(|n| measure(ink, &sections[n], inner));
        let rows = rows[0].max(rows[1]) + 2;
        let row = take(&mut left, rows);
        let first = Rect::new(row.x, row.y, half, row.height);
        let second = Rect::new(row.x + half, row.y, row.width - half, row.height);
        draw_section(ink, first, &sections[pair[0]], true);
        draw_section(ink, second, &sections[pair[1]], true);
    }
    draw_load(model, ink, left, &trends, true);
}

/// One below the other with their trends; where that is too much, what matters most without any titles.
fn draw_column(
    model: &Model,
    ink: &mut Ink<'_>,
    area: Rect,
    sections: &[Section],
    trends: &[Trend],
) {
    let mut left = area;
    let rows: Vec<u16> = sections
        .iter()
        .map(|section| measure(ink, section, area.width) + 1)
        .collect();
    if rows.iter().sum::<u16>() <= area.height {
        for (section, rows) in sections.iter().zip(rows) {
            draw_section(ink, take(&mut left, rows), section, false);
        }
        draw_load(model, ink, left, trends, false);
        return;
    }
    // What is full or down first, then who runs and who asks.
    let is_gauge = |line: &Line| matches!(line, Line::Gauge(..));
    for wants_gauge in [true, false] {
        for section in sections {
            for line in &section.lines {
                let is_redis_state = section.title == "redis";
                if (is_gauge(line) || is_redis_state) == wants_gauge {
                    draw_line(ink, &mut left, line);
                }
            }
        }
    }
}

fn draw_load(model: &Model, ink: &mut Ink<'_>, area: Rect, trends: &[Trend], is_boxed: bool) {
    if area.height < 2 {
        return;
    }
    let frame = if is_boxed { 2 } else { 0 };
    let width = area.width.saturating_sub(frame);
    let height = area.height.saturating_sub(frame.max(1));
    let title = span(model, ink, width, height, trends);
    let inner = panel(ink, area, &title, is_boxed);
    draw_trends(model, ink, inner, trends);
}

fn measure(ink: &Ink<'_>, section: &Section, width: u16) -> u16 {
    let lines = section.lines.iter().map(|line| match line {
        Line::Pieces(pieces) => wrap(ink, pieces, width.saturating_sub(1)).len(),
        Line::Gauge(..) => 1,
    });
    u16::try_from(lines.sum::<usize>()).unwrap_or(u16::MAX)
}

fn draw_section(ink: &mut Ink<'_>, area: Rect, section: &Section, is_boxed: bool) {
    if area.height < 2 {
        return;
    }
    let mut left = panel(ink, area, section.title, is_boxed);
    for line in &section.lines {
        draw_line(ink, &mut left, line);
    }
}

fn draw_line(ink: &mut Ink<'_>, left: &mut Rect, line: &Line) {
    match line {
        Line::Pieces(pieces) => {
            for pieces in wrap(ink, pieces, left.width.saturating_sub(1)) {
                let row = take(left, 1);
                if row.height > 0 {
                    draw_pieces(ink, row.x + 1, row.y, row.width.saturating_sub(1), &pieces);
                }
            }
        }
        Line::Gauge(label, share, of) => {
            let row = take(left, 1);
            if row.height > 0 {
                draw_gauge(ink, row, label, *share, of);
            }
        }
    }
}

fn draw_gauge(ink: &mut Ink<'_>, row: Rect, label: &str, share: Gauge, of: &str) {
    let label_width = 10.min(row.width / 4);
    ink.text(row.x + 1, row.y, label_width, label, Role::Dim);
    let x = row.x + 1 + label_width;
    let room = row.right().saturating_sub(x);
    // The bar is what gives way in narrow places: the numbers say the same.
    let bar = match room.saturating_sub(30) {
        0..4 => 0,
        bar => bar.min(30),
    };
    let used = gauge(ink, x, row.y, room, bar, share);
    let x = x + used;
    let (word, warns) = share.verdict();
    let role = aged_role(ink, Role::Plain);
    // A processor has no end that it could reach.
    let word = if label == "cpu" && word == "FULL" {
        "BUSY"
    } else {
        word
    };
    let word = format!("{word:<4}  ");
    let room = row.right().saturating_sub(x);
    ink.pieces(x, row.y, room, &[(&word, warns), (of, role)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_cores_their_name() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(45_100_000), "45.1MB");
        assert_eq!(cores(0.25), "0.25 cores");
        assert_eq!(share(0.004), "<1 %");
    }
}
