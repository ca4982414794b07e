//! Chaos: what can be broken on purpose, and the run that is under way. The catalogue is the list; a run takes its place
//! while it is watched, or stands beside it where there is room.
//!
//! ```text
//! chaos is OFF: ...                              LEVER PULLED by ana 3m12s ago: ...
//!   NAME          FAMILY  RISK    LAST        AGO  NOTE
//! > net.latency   net     medium  pass      2h14m  Slower answers of Redis cost time and no events.
//! ── net.latency ────────────────────────────────────────────────────────────────
//! ```

mod banners;
mod document;
mod grid;
mod lines;
mod live;
mod plots;

use pipectl_shared::chaos::{Catalogue, Experiment};
use pipectl_shared::spec::{ParamKind, Risk};
use ratatui::layout::Rect;

pub(crate) use banners::running_words;
pub(crate) use document::run_lines;
pub(crate) use lines::{RunLine, rehearsal_lines, run_command, share, verdict_role};

use super::body::{Line, draw_list_and_row};
use super::screen::{List, Screen, Source};
use crate::keys::Act;
use crate::message::Effect;
use crate::model::{Item, ItemKind, Model, Watch};
use crate::output::human::{duration_ms, latency_ms, or_unknown};
use crate::place::{Group, Id};
use crate::theme::Role;
use crate::widgets::{Cell, Column, Ink};

pub(super) const SCREEN: Screen = Screen {
    id: Id::Chaos,
    group: Group::Drill,
    name: "Chaos",
    letter: 'c',
    about: "What can be broken on purpose, and what came of it last.",
    legend: &[
        "Enter opens the form of an experiment; first it is shown what would happen, then it is asked, then it begins.",
        "S stops what is under way at once: the fault is reverted first, then all is counted. L shows the run, Esc the catalogue.",
        "LAST: verdict of the last run. pass: the hypothesis held. DEVIATED: it did not. aborted: ended early. inconclusive: nothing was hit.",
        "The lever (x) stops what runs and blocks every experiment until it is taken back.",
        "Plots: one time axis from the begin of the run; the hatched FAULT is when the fault is in. canary: the slowest one of a second.",
        "probes: good answers of all at 10 Hz from outside the daemon. A blank is a second that was not measured.",
        "C on the time axes of other screens: a fault was injected; c: it was taken back.",
    ],
    list: Some(List {
        noun: "experiments",
        has_marks: false,
        columns: COLUMNS,
        n_rows: |model| rows(model).len(),
        id: |model, row| {
            rows(model)
                .get(row)
                .map(|row| row.spec.name.clone())
                .unwrap_or_default()
        },
        cells,
    }),
    source: Source::Pages,
    items,
    open: Some(("form", open)),
    act,
    draw,
};

const COLUMNS: &[Column] = &[
    Column::text("NAME", 0, 14, 20),
    Column::text("FAMILY", 4, 6, 8),
    Column::text("RISK", 2, 6, 6),
    Column::text("LAST", 0, 12, 12),
    Column::figure("AGO", 1, 6),
    Column::figure("RECOVER", 5, 7),
    Column::text("NOTE", 3, 22, u16::MAX),
];

fn rows(model: &Model) -> &[Experiment] {
    let catalogue = model.drill.catalogue.as_ref();
    catalogue.map_or(&[], |catalogue| &catalogue.rows)
}

fn here(model: &Model) -> Option<&Experiment> {
    rows(model).get(model.list(Id::Chaos).row()?)
}

/// Milliseconds between an instant of the daemon's clock and now; `None` = nobody knows the time.
pub(super) fn ago(model: &Model, ms: u64) -> Option<u64> {
    let now_ms = model.wall_ms();
    (now_ms > 0).then(|| now_ms.saturating_sub(ms))
}

fn risk(risk: Risk) -> (&'static str, Role) {
    match risk {
        Risk::Low => ("low", Role::Plain),
        Risk::Medium => ("medium", Role::Plain),
        Risk::High => ("HIGH", Role::Warn),
    }
}

/// Why the row cannot run now; the daemon's word, or `[chaos] enabled`.
fn why_not(catalogue: Option<&Catalogue>, row: &Experiment) -> Option<String> {
    let is_off = catalogue.is_some_and(|catalogue| !catalogue.enabled);
    row.refused
        .clone()
        .or_else(|| is_off.then(|| "experiments are off".to_owned()))
}

fn cells(model: &Model, row: usize) -> Vec<Cell> {
    let Some(row) = rows(model).get(row) else {
        return Vec::new();
    };
    let family = row.spec.name.split('.').next().unwrap_or_default();
    let (risk, risk_role) = risk(row.spec.risk);
    let last = row.last.as_ref();
    let verdict = match last {
        None => Cell::text("never").role(Role::Dim),
        Some(last) => verdict_cell(last.verdict),
    };
    let since = last.and_then(|last| ago(model, last.ended_ms.unwrap_or(last.started_ms)));
    let since = match last {
        None => Cell::text(""),
        Some(_) => Cell::maybe(since.map(|ms| ms as f64), |ms| duration_ms(ms as u64)),
    };
    let recover = match last {
        None => Cell::text(""),
        Some(last) => Cell::maybe(last.recover_ms, latency_ms),
    };
    let note = match &row.refused {
        Some(why) => Cell::text(format!("no: {why}")).role(Role::Warn),
        None => Cell::text(&row.claim),
    };
    vec![
        Cell::text(&row.spec.name),
        Cell::text(family),
        Cell::text(risk).role(risk_role),
        verdict,
        since,
        recover,
        note,
    ]
}

/// A verdict as a cell: word first, look last.
pub(super) fn verdict_cell(verdict: Option<pipectl_shared::chaos::Verdict>) -> Cell {
    use pipectl_shared::chaos::Verdict;
    match verdict {
        None => Cell::text("no end seen").role(Role::Warn),
        Some(verdict @ (Verdict::Deviated | Verdict::Failed)) => {
            Cell::text(verdict.word().to_uppercase()).role(verdict_role(verdict))
        }
        Some(verdict) => Cell::text(verdict.word()).role(verdict_role(verdict)),
    }
}

/// Whether the catalogue and the run have room side by side.
fn has_both(size: (u16, u16)) -> bool {
    size.0 >= 140 && size.1 >= 30
}

/// The run that takes the place of the catalogue, if one does.
fn watched(model: &Model) -> Option<&Watch> {
    let watch = model.drill.watch.as_ref()?;
    (model.drill.is_live || has_both(model.size)).then_some(watch)
}

/// Whether a run is in place of the catalogue, and whether that run has ended.
pub(crate) fn covered_by_run(model: &Model) -> Option<bool> {
    let watch = watched(model).filter(|_| !has_both(model.size))?;
    Some(watch.has_ended())
}

fn is_covered(model: &Model) -> bool {
    covered_by_run(model).is_some()
}

fn open(model: &mut Model) -> Vec<Effect> {
    if is_covered(model) {
        let run = watched(model).filter(|watch| watch.has_ended());
        let run = run.map(|watch| (watch.running.id.clone(), watch.running.experiment.clone()));
        return match run {
            Some((id, experiment)) => model.open_run(id, experiment),
            None => {
                model.say("it has not ended; its document comes with its end");
                Vec::new()
            }
        };
    }
    if let Some(name) = here(model).map(|row| row.spec.name.clone()) {
        model.open_experiment(&name);
    }
    Vec::new()
}

fn items(model: &Model) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(running) = model.running() {
        items.push(Item {
            letter: 's',
            label: format!(
                "chaos.stop -- stop {} now: revert, then count",
                running.experiment
            ),
            kind: ItemKind::Stop,
        });
    }
    if let Some(row) = here(model).filter(|_| !is_covered(model)) {
        let name = &row.spec.name;
        let refused = model
            .why_not_drill()
            .or_else(|| why_not(model.drill.catalogue.as_ref(), row));
        items.push(match refused {
            None => Item {
                letter: 'r',
                label: format!("run {name}: the form, then what would happen"),
                kind: ItemKind::Experiment(name.clone()),
            },
            Some(why) => Item {
                letter: 'r',
                label: format!("run {name} -- no: {why}"),
                kind: ItemKind::Off(why),
            },
        });
        if let Some(last) = &row.last {
            items.push(Item {
                letter: 'd',
                label: format!("document of the last run of {name}"),
                kind: ItemKind::Run(last.id.clone(), name.clone()),
            });
        }
    }
    if let Some(watch) = watched(model).filter(|watch| watch.has_ended()) {
        let running = &watch.running;
        items.push(Item {
            letter: 'w',
            label: format!("document of run {}", running.id),
            kind: ItemKind::Run(running.id.clone(), running.experiment.clone()),
        });
    }
    items.extend(lever_item(model));
    items
}

/// Pull it, or take it back.
fn lever_item(model: &Model) -> Option<Item> {
    let catalogue = model.drill.catalogue.as_ref()?;
    Some(if catalogue.lever.pulled {
        Item {
            letter: 'l',
            label: "chaos.lever -- take it back: experiments may run again".to_owned(),
            kind: ItemKind::Lever(false),
        }
    } else {
        Item {
            letter: 'l',
            label: "chaos.lever -- pull it: stop what runs, block every experiment".to_owned(),
            kind: ItemKind::Lever(true),
        }
    })
}

fn act(model: &mut Model, act: Act) -> Option<Vec<Effect>> {
    match act {
        Act::Reverse => return Some(model.stop_experiment()),
        Act::Live if !model.drill.is_live && model.drill.watch.is_some() => {
            model.drill.is_live = true;
            model.drill.marks_back = 0;
            // And back to now, as everywhere.
            return None;
        }
        _ if !is_covered(model) => return None,
        _ => {}
    }
    if act == Act::Copy {
        let run = model.drill.watch.as_ref();
        return run.map(|run| vec![Effect::Copy(run.running.id.clone())]);
    }
    let n_marks = model
        .drill
        .watch
        .as_ref()
        .map_or(0, |watch| watch.marks.len());
    let back = &mut model.drill.marks_back;
    let page = usize::from(model.size.1 / 4).max(1);
    let most = n_marks.saturating_sub(1);
    match act {
        Act::Up => *back = (*back + 1).min(most),
        Act::Down => *back = back.saturating_sub(1),
        Act::PageUp | Act::HalfUp => *back = (*back + page).min(most),
        Act::PageDown | Act::HalfDown => *back = back.saturating_sub(page),
        Act::Top => *back = most,
        Act::Bottom => *back = 0,
        Act::Back if !model.facts.is_frozen() => model.drill.is_live = false,
        // What is about the list shows the list.
        Act::Filter | Act::Sort | Act::NextMatch | Act::PreviousMatch => {
            model.drill.is_live = false;
            return None;
        }
        _ => return None,
    }
    Some(Vec::new())
}

fn draw(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let mut left = area;
    banners::draw_banners(model, ink, &mut left);
    match watched(model) {
        Some(watch) if has_both(model.size) => {
            let width = (left.width * 2 / 5).max(56);
            let list = Rect::new(left.x, left.y, width, left.height);
            draw_catalogue(model, ink, list);
            for y in left.y..left.bottom() {
                ink.glyph(left.x + width, y, '│', '|', Role::Frame);
            }
            let x = left.x + width + 2;
            let live = Rect::new(x, left.y, left.right().saturating_sub(x), left.height);
            live::draw_live(model, ink, live, watch);
        }
        Some(watch) => live::draw_live(model, ink, left, watch),
        None => draw_catalogue(model, ink, left),
    }
}

fn draw_catalogue(model: &Model, ink: &mut Ink<'_>, area: Rect) {
    let row = here(model);
    let title = row.map_or("", |row| row.spec.name.as_str());
    let lines = row.map(|row| row_lines(model, row));
    draw_list_and_row(model, ink, area, &SCREEN, title, lines);
}

/// What the table has no room for.
fn row_lines(model: &Model, row: &Experiment) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(why) = &row.refused {
        lines.push(Line::new(Role::Warn, format!("cannot run now: {why}")));
    }
    lines.push(Line::new(Role::Strong, row.claim.clone()));
    if let Some(last) = &row.last {
        let verdict = last.verdict.map_or("no end seen", |verdict| verdict.word());
        let since = ago(model, last.ended_ms.unwrap_or(last.started_ms));
        lines.push(Line::plain(format!(
            "last: {verdict} {} ago, by {}: {}",
            or_unknown(since, duration_ms),
            last.by,
            last.why
        )));
    }
    let params: Vec<String> = row
        .spec
        .params
        .iter()
        .map(|param| {
            let default = param.default.as_deref().unwrap_or("must be given");
            format!("{} {default}{}", param.name, allowed(&param.kind))
        })
        .collect();
    let params = match params.is_empty() {
        true => "no parameters of its own".to_owned(),
        false => params.join("; "),
    };
    lines.push(Line::plain(params));
    if row.copy_only {
        let text = "destroys data: only where [chaos] copy says that nothing is of worth";
        lines.push(Line::new(Role::Warn, text.to_owned()));
    }
    lines.push(Line::new(Role::Dim, row.spec.summary.clone()));
    lines
}

/// ` (1ms to 2s)`; nothing where anything may be given.
pub(crate) fn allowed(kind: &ParamKind) -> String {
    use pipectl_shared::units::print_duration;
    use std::time::Duration;
    match kind {
        ParamKind::Integer { min, max: i64::MAX } => format!(" ({min} or more)"),
        ParamKind::Integer { min, max } => format!(" ({min} to {max})"),
        ParamKind::Span { min_ms, max_ms } => format!(
            " ({} to {})",
            print_duration(Duration::from_millis(*min_ms)),
            print_duration(Duration::from_millis(*max_ms))
        ),
        ParamKind::Share { min, max } => format!(" ({min}% to {max}%)"),
        ParamKind::Choice(words) => format!(" ({})", words.join(", ")),
        ParamKind::Text | ParamKind::Duration | ParamKind::Stage | ParamKind::Consumer => {
            String::new()
        }
    }
}
