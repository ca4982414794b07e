//! Test only: the screens of the Snapshot at every size, in every state, with figures that lie, and the rows that their
//! cursors are on.

use pipectl_shared::snapshot::{
    Alert, Consumer, Event, Group, Ledger, Snapshot, Source, Stage, State,
};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::facts::Link;
use crate::keys::{Act, Keymap};
use crate::model::{Item, ItemKind, Model, Options};
use crate::place::Id;
use crate::theme::{Charset, Depth, Theme};
use crate::widgets::Ink;

const IDS: [Id; 4] = [Id::Overview, Id::Topology, Id::Consumers, Id::System];

fn model(charset: Charset) -> Model {
    let options = Options {
        read_only: false,
        theme: Theme {
            depth: Depth::Mono,
            charset,
        },
        keymap: Keymap::default(),
    };
    let mut model = Model::new(options, (80, 24));
    model.facts.link = Link::Up {
        socket: "/run/pipelined/control.sock".to_owned(),
    };
    model
}

fn stage(name: &str, from: &str) -> Stage {
    Stage {
        name: name.to_owned(),
        from: from.to_owned(),
        stream: "events".to_owned(),
        state: State::Running,
        pending: Some(3),
        lag: Some(1),
        ..Stage::default()
    }
}

fn snapshot(stages: Vec<Stage>) -> Snapshot {
    let mut snapshot = Snapshot {
        ts_ms: 1_790_000_000_000,
        ..Snapshot::default()
    };
    snapshot.status.stages = stages;
    snapshot
}

/// Draws a screen with its cursor on a row; its rows of text.
fn drawn(model: &mut Model, id: Id, size: (u16, u16), at: usize) -> Vec<String> {
    model.screen = id;
    model.size = size;
    if let Some(list) = &super::of(id).list {
        let n = (list.n_rows)(model);
        let ids: Vec<String> = (0..n).map(|row| (list.id)(model, row)).collect();
        let view = model.list_mut(id);
        view.reorder((0..n).collect(), |row| ids[row].clone());
        view.go(at, |row| ids[row].clone());
    }
    let mut buffer = Buffer::empty(Rect::new(0, 0, size.0, size.1));
    let mut ink = Ink::new(&mut buffer, model.options.theme);
    ink.is_old = super::stages::is_old(model);
    (super::of(id).draw)(model, &mut ink, Rect::new(0, 0, size.0, size.1));
    (0..size.1)
        .map(|y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect())
        .collect()
}

fn lies() -> Snapshot {
    let mut circle: Vec<Stage> = (0..60)
        .map(|n| stage(&format!("s{n}"), &format!("s{}", (n + 1) % 60)))
        .collect();
    for stage in &mut circle {
        stage.in_per_s = Some(f64::NAN);
        stage.p99_ms = Some(f64::INFINITY);
        stage.lag = Some(u64::MAX);
        stage.pending = Some(u64::MAX);
        stage.oldest_pending_ms = Some(u64::MAX);
        stage.workers = u32::MAX;
        stage.reason = Some("\x1b[2J".repeat(50));
        stage.operators = vec!["\u{202e}evil".to_owned(); 99];
    }
    let mut snapshot = snapshot(circle);
    let text = || "x\u{301}\u{200b}\x07".repeat(60);
    let status = &mut snapshot.status;
    status.uptime_s = f64::NEG_INFINITY;
    status.ledger = Some(Ledger {
        accepted: u64::MAX,
        unaccounted: i64::MIN,
        duplicated: Some(i64::MIN),
        ..Ledger::default()
    });
    status.alerts = (0..300)
        .map(|_| Alert {
            name: text(),
            severity: text(),
            message: text(),
            hint: Some(text()),
            since: text(),
        })
        .collect();
    status.redis.used_memory_bytes = Some(u64::MAX);
    status.redis.max_memory_bytes = Some(1);
    status.redis.error = Some(text());
    status.redis.down_ms = Some(u64::MAX);
    snapshot.host.cpu = Some(f64::MAX);
    snapshot.host.disk_free_bytes = Some(u64::MAX);
    snapshot.host.disk_total_bytes = Some(1);
    snapshot.sources = vec![
        Source {
            name: text(),
            rejected: u64::MAX,
            ..Source::default()
        };
        300
    ];
    snapshot.groups = vec![
        Group {
            group: text(),
            lag: Some(u64::MAX),
            ..Group::default()
        };
        300
    ];
    snapshot.consumers = vec![
        Consumer {
            name: text(),
            reason: Some(text()),
            ..Consumer::default()
        };
        300
    ];
    snapshot.events = (0..20)
        .map(|seq| Event {
            seq,
            ts_ms: u64::MAX,
            message: text(),
            ..Event::default()
        })
        .collect();
    snapshot
}

#[test]
fn no_size_no_state_and_no_lie_panics() {
    let table = [
        None,
        Some(Snapshot::default()),
        Some(snapshot(vec![
            stage("enrich", "source"),
            stage("count", "enrich"),
        ])),
        Some(lies()),
    ];
    let widths = [0, 1, 9, 40, 60, 100, 140, 400];
    let heights = [0, 1, 3, 9, 21, 100];
    for told in table {
        for is_old in [false, true] {
            let mut model = model(if is_old {
                Charset::Ascii
            } else {
                Charset::Unicode
            });
            if let Some(snapshot) = &told {
                model.history.take(snapshot);
                model.facts.take(Box::new(snapshot.clone()), 0);
            }
            model.now_ms = if is_old { 60_000 } else { 0 };
            for (n, width) in widths.into_iter().enumerate() {
                for height in heights {
                    for id in IDS {
                        let rows = drawn(&mut model, id, (width, height), n * 8);
                        let is_clean = rows
                            .iter()
                            .flat_map(|row| row.chars())
                            .all(|c| !c.is_control());
                        assert!(is_clean, "{id:?} {width}x{height}");
                    }
                }
            }
        }
    }
}

#[test]
fn at_40x9_state_lag_and_pending_of_stages_and_the_balance_are_seen() {
    let mut model = model(Charset::Unicode);
    let mut told = snapshot(vec![stage("enrich", "source"), stage("count", "enrich")]);
    told.status.ledger = Some(Ledger {
        unaccounted: -2,
        ..Ledger::default()
    });
    model.facts.take(Box::new(told), 0);
    let rows = drawn(&mut model, Id::Overview, (40, 9), 0);
    assert!(rows[0].contains("UNBALANCED: unaccounted -2"), "{rows:?}");
    assert!(
        rows[2].contains("enrich") && rows[2].contains("● RUNNING"),
        "{rows:?}"
    );
    assert!(rows[2].trim_end().ends_with("1       3"), "{rows:?}");
}

#[test]
fn the_stage_under_the_cursor_is_in_view_however_many_there_are() {
    let stages: Vec<Stage> = (0..39)
        .map(|n| {
            stage(
                &format!("stage{n}"),
                if n == 0 { "source" } else { "stage0" },
            )
        })
        .collect();
    let mut model = model(Charset::Ascii);
    model.facts.take(Box::new(snapshot(stages)), 0);
    for size in [(40, 9), (80, 20), (100, 27), (160, 42), (400, 97)] {
        for at in [0, 1, 20, 38] {
            for id in [Id::Overview, Id::Topology] {
                let rows = drawn(&mut model, id, size, at);
                let name = format!(" stage{at} ");
                let is_marked = |row: &String| row.contains(&format!(">{name}"));
                assert!(
                    rows.iter().any(is_marked),
                    "{id:?} {size:?} {at}:\n{}",
                    rows.join("\n")
                );
            }
        }
    }
}

#[test]
fn old_figures_are_marked_and_unknown_ones_are_no_zero() {
    let mut model = model(Charset::Unicode);
    model
        .facts
        .take(Box::new(snapshot(vec![stage("enrich", "source")])), 0);
    for (now_ms, mark) in [(0, ' '), (60_000, '~')] {
        model.now_ms = now_ms;
        let rows = drawn(&mut model, Id::Overview, (80, 21), 0);
        let row = rows.iter().find(|row| row.contains("enrich")).unwrap();
        assert!(
            row.contains(&format!("{mark}3")) && row.contains('?'),
            "{row}"
        );
        let topology = drawn(&mut model, Id::Topology, (80, 21), 0).join("\n");
        assert_eq!(topology.contains("pending ~3"), mark == '~', "{topology}");
    }
}

#[test]
fn left_and_right_follow_the_flow_and_rows_are_in_its_order() {
    let mut model = model(Charset::Unicode);
    let stages = vec![
        stage("late", "first"),
        stage("first", "source"),
        stage("last", "late"),
    ];
    model.facts.take(Box::new(snapshot(stages)), 0);
    drawn(&mut model, Id::Topology, (80, 21), 0);
    let list = super::of(Id::Topology).list.as_ref().unwrap();
    let rows: Vec<String> = (0..3).map(|row| (list.id)(&model, row)).collect();
    assert_eq!(rows, ["first", "late", "last"]);
    let act = super::of(Id::Topology).act;
    let table = [
        (Act::Left, 0),
        (Act::Right, 1),
        (Act::Right, 2),
        (Act::Right, 2),
        (Act::Left, 1),
    ];
    for (way, at) in table {
        assert!(act(&mut model, way).is_some());
        assert_eq!(model.list(Id::Topology).at, at);
    }
    assert!(act(&mut model, Act::Down).is_none());
}

#[test]
fn a_stage_offers_its_entries_and_the_commands_that_name_it() {
    let mut model = model(Charset::Unicode);
    model
        .facts
        .take(Box::new(snapshot(vec![stage("enrich", "source")])), 0);
    for id in [Id::Overview, Id::Topology] {
        assert!(
            (super::of(id).items)(&model).is_empty(),
            "no row yet: {id:?}"
        );
        drawn(&mut model, id, (80, 21), 0);
        let items: Vec<Item> = (super::of(id).items)(&model);
        let commands: Vec<&str> = items
            .iter()
            .filter_map(|item| match &item.kind {
                ItemKind::Command { name, given } => {
                    assert_eq!(given, &[("stage".to_owned(), "enrich".to_owned())]);
                    Some(name.as_str())
                }
                _ => None,
            })
            .collect();
        assert_eq!(commands, ["stage.pause", "stage.resume", "stage.scale"]);
        let (_, open) = super::of(id).open.unwrap();
        open(&mut model);
        assert_eq!(model.screen, Id::Pending);
        assert_eq!(model.list(Id::Pending).filter, "stage=enrich");
    }
}
