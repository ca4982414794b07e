//! Pictures: what every screen and dialog looks like, as text files beside this one. Read them as a person at 02:00 would.
//!
//! `INSTA_UPDATE=always cargo nextest run -p pipectl pictures` takes them anew; then look at the difference. Otherwise a
//! picture that changed, or that nobody took yet, fails its test.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

use super::view;
use crate::fixtures::{self, Desk, Scene, Shown, THEME};
use crate::keys::Key;
use crate::message::{LinkMsg, Msg};
use crate::place::Id;
use crate::screens;
use crate::theme::{Charset, Depth, Theme};
use crate::widgets::Ink;

/// The sizes that every screen is looked at in.
const SIZES: [(u16, u16); 3] = [(40, 12), (80, 24), (160, 45)];

/// The colours that looks are taken in.
const DEPTHS: [Depth; 3] = [Depth::Mono, Depth::Sixteen, Depth::Many];

fn of_screen(id: Id, (columns, rows): (u16, u16)) -> String {
    let name = screens::of(id).name.to_lowercase();
    format!("screen-{name}-{columns}x{rows}")
}

fn of_dialog(title: &str) -> String {
    let title = title.replace(", ", "-").replace(' ', "-");
    format!("dialog-{}", title.to_lowercase())
}

fn in_ascii(id: Id) -> String {
    format!("ascii-{}", screens::of(id).name.to_lowercase())
}

fn of_looks(depth: Depth) -> String {
    format!("looks-{depth:?}").to_lowercase()
}

/// Screens with charts and with a table, as far as they are registered.
fn ascii_screens() -> impl Iterator<Item = Id> {
    let wanted = [Id::Overview, Id::Pending, Id::Latency, Id::Chaos];
    wanted.into_iter().filter(|id| screens::of(*id).id == *id)
}

fn drawn(desk: &Desk) -> Buffer {
    let (columns, rows) = desk.model.size;
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
    let theme = desk.model.options.theme;
    view(&desk.model, &mut Ink::new(&mut buffer, theme));
    buffer
}

/// The characters of a picture, line by line.
fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            // A wide character stands in two cells, of which the second is empty.
            x += u16::try_from(symbol.width().max(1)).unwrap_or(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Adds a picture under a title.
fn add(file: &mut String, title: &str, desk: &Desk) {
    let (columns, rows) = desk.model.size;
    let _infallible = writeln!(file, "==== {title}, {columns}x{rows} ====");
    file.push_str(&text(&drawn(desk)));
}

fn check(name: &str, file: &str) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, file);
    });
}

#[test]
fn pictures_of_every_screen_in_every_state_and_size() {
    for id in fixtures::all_screens() {
        for size in SIZES {
            let mut file = String::new();
            for state in Shown::ALL {
                let desk = state.desk(id, size, THEME);
                let title = format!("{state:?}").to_lowercase();
                add(&mut file, &title, &desk);
            }
            check(&of_screen(id, size), &file);
        }
    }
}

/// A way to a dialog from a connected console.
type Way = (&'static str, fn(&mut Desk));

fn stuck_row(desk: &mut Desk) {
    desk.go(Id::Pending);
}

fn bulk(desk: &mut Desk) {
    stuck_row(desk);
    desk.press("x C");
}

fn run_bulk(desk: &mut Desk) {
    bulk(desk);
    desk.press("4 1 8 Enter Tab Tab Enter");
}

fn payload(desk: &mut Desk) {
    stuck_row(desk);
    desk.press("Enter");
}

fn form(desk: &mut Desk) {
    desk.press(":");
    desk.type_text("stage.scale");
    desk.press("Enter");
    desk.type_text("enrich");
    desk.press("Enter 8");
}

const DIALOGS: &[Way] = &[
    ("menu of a row", |desk| {
        stuck_row(desk);
        desk.press("x");
    }),
    ("menu of marked rows", |desk| {
        stuck_row(desk);
        desk.press("Space Space Space x");
    }),
    ("menu of a row in flight", |desk| {
        stuck_row(desk);
        desk.press("G x");
    }),
    ("payload in flight", |desk| {
        stuck_row(desk);
        desk.press("G Enter");
    }),
    ("menu of an owned stage", |desk| {
        desk.go(Id::Overview);
        desk.press("G x");
    }),
    ("form to take over", |desk| {
        desk.go(Id::Overview);
        desk.press("G x o");
    }),
    ("palette", |desk| desk.press(":")),
    ("palette, typed", |desk| {
        desk.press(":");
        desk.type_text("stage");
    }),
    ("palette, nothing fits", |desk| {
        desk.press(":");
        desk.type_text("xyzzy");
    }),
    ("form", form),
    ("form, wrong", |desk| {
        form(desk);
        desk.press("9 Tab Tab Tab Enter");
    }),
    ("form, what it would do", |desk| {
        form(desk);
        desk.press("Tab Tab Tab Enter");
    }),
    ("plan, being made", |desk| {
        stuck_row(desk);
        desk.press("x");
        desk.press_only("C");
    }),
    ("plan, not made", |desk| {
        stuck_row(desk);
        desk.press("x");
        desk.press_only("C");
        desk.answer_with(Err(fixtures::fault(
            "stage enrich has no live worker to hand entries to",
            Some("pipectl resume enrich, or name a consumer"),
        )));
    }),
    ("plan, one entry", |desk| {
        stuck_row(desk);
        desk.press("x c");
    }),
    ("plan, many entries", bulk),
    ("plan, wrong count", |desk| {
        bulk(desk);
        desk.press("4 1 7 Enter Tab Tab Enter");
    }),
    ("plan, sent", |desk| {
        bulk(desk);
        desk.press("4 1 8 Enter Tab Tab");
        desk.press_only("Enter");
    }),
    ("plan, refused", |desk| {
        bulk(desk);
        desk.press("4 1 8 Enter Tab Tab");
        desk.press_only("Enter");
        desk.answer_with(Err(fixtures::fault(
            "the list of plan 8f21c0 is not the one that was confirmed",
            Some("make the plan anew"),
        )));
    }),
    ("plan, running", |desk| {
        run_bulk(desk);
        let plan = desk.plan.clone().expect("it runs");
        desk.tell(LinkMsg::Progress(Box::new(fixtures::running(&plan, 118))));
    }),
    ("plan, cancelling", |desk| {
        run_bulk(desk);
        desk.press_only("c");
    }),
    ("plan, done", |desk| {
        run_bulk(desk);
        let plan = desk.plan.clone().expect("it runs");
        desk.tell(LinkMsg::Progress(Box::new(fixtures::done(&plan))));
        desk.answer_all();
    }),
    ("plan, cancelled", |desk| {
        run_bulk(desk);
        desk.press("c");
    }),
    ("payload, being asked for", |desk| {
        stuck_row(desk);
        desk.press_only("Enter");
    }),
    ("payload as text", payload),
    ("payload, JSON", |desk| {
        payload(desk);
        desk.press("Tab Tab Tab Tab");
    }),
    ("payload as hex", |desk| {
        payload(desk);
        desk.press("h");
    }),
    ("payload, second page of a large field", |desk| {
        payload(desk);
        desk.press("S-Tab ]");
    }),
    ("payload, gone", |desk| {
        stuck_row(desk);
        desk.press_only("Enter");
        desk.answer_with(Err(fixtures::fault(
            "entry 1795183034900-0 is not pending any more",
            Some("somebody finished it"),
        )));
    }),
    ("payload of a dead letter", |desk| {
        desk.go(Id::Dead);
        desk.press("Enter");
    }),
    ("help", |desk| {
        stuck_row(desk);
        desk.press("?");
    }),
    ("help, its end", |desk| {
        stuck_row(desk);
        desk.press("? G");
    }),
    ("journal, nothing yet", |desk| desk.press("@")),
    ("journal", |desk| {
        run_bulk(desk);
        let plan = desk.plan.clone().expect("it runs");
        desk.tell(LinkMsg::Progress(Box::new(fixtures::done(&plan))));
        desk.press("Esc");
        form(desk);
        desk.press("Tab Tab Tab Enter Tab Enter @");
    }),
    ("quit while a plan runs", |desk| {
        run_bulk(desk);
        desk.press("Esc q");
    }),
    ("filter being typed", |desk| {
        stuck_row(desk);
        desk.press("/");
        desk.type_text("idle>60s tries");
    }),
    ("filter, wrong", |desk| {
        stuck_row(desk);
        desk.press("/");
        desk.type_text("idle>soon");
        desk.press("Enter");
    }),
    ("filter that nothing fits", |desk| {
        stuck_row(desk);
        desk.press("/");
        desk.type_text("xyzzy");
        desk.press("Enter");
        desk.model.notice = None;
    }),
    ("marked rows, frozen", |desk| {
        stuck_row(desk);
        desk.press("Space j v j j v f");
    }),
    ("sorted, scrolled sideways", |desk| {
        stuck_row(desk);
        desk.press("s s S Right Right");
    }),
    ("viewer", |desk| {
        desk.role = pipectl_shared::rpc::Role::Viewer;
        desk.greet();
        stuck_row(desk);
        desk.press("x c");
    }),
];

#[test]
fn pictures_of_every_dialog() {
    for (title, way) in DIALOGS {
        let mut file = String::new();
        for size in SIZES {
            let mut desk = Desk::live(size);
            way(&mut desk);
            add(&mut file, title, &desk);
        }
        check(&of_dialog(title), &file);
    }
}

/// Opens the form of an experiment: the cursor goes to it first.
fn drill_form(desk: &mut Desk) {
    desk.go(Id::Chaos);
    desk.press("j j j j j Enter");
}

/// The run is watched from its middle to its end.
fn watch_to_the_end(desk: &mut Desk) {
    desk.set_scene(Scene::Running);
    desk.go(Id::Chaos);
    desk.set_scene(Scene::Deviated);
    desk.pass(1_000);
    desk.answer_all();
    desk.model.notice = None;
}

/// Experiments, scene by scene.
const DRILLS: &[Way] = &[
    ("off", |desk| {
        desk.set_scene(Scene::Off);
        desk.go(Id::Chaos);
    }),
    ("off, asked to run", |desk| {
        desk.set_scene(Scene::Off);
        drill_form(desk);
    }),
    ("idle", |desk| {
        desk.go(Id::Chaos);
        desk.press("j j j j");
    }),
    ("menu", |desk| {
        desk.go(Id::Chaos);
        desk.press("x");
    }),
    ("form", drill_form),
    ("form, a share out of range", |desk| {
        drill_form(desk);
        desk.press("S-Tab S-Tab S-Tab S-Tab S-Tab S-Tab C-u");
        desk.type_text("170%");
        desk.press("Tab Tab Tab Tab Tab Tab Enter");
    }),
    ("what would happen", |desk| {
        drill_form(desk);
        desk.press("Enter");
    }),
    ("what would be refused", |desk| {
        drill_form(desk);
        desk.press_only("Enter");
        let mut preview = fixtures::preview(&pipectl_shared::chaos::RunParams {
            name: "net.latency".to_owned(),
            ..Default::default()
        });
        preview.refused =
            Some("it is not steady: p99 of enrich is 412ms, 100ms is tolerated".to_owned());
        desk.answer_with(Ok(crate::message::Answer::Rehearsed(preview)));
    }),
    ("running", |desk| {
        desk.set_scene(Scene::Running);
        desk.go(Id::Chaos);
    }),
    ("running, the catalogue", |desk| {
        desk.set_scene(Scene::Running);
        desk.go(Id::Chaos);
        desk.press("Esc");
    }),
    ("running, begun just now", |desk| {
        drill_form(desk);
        desk.press("Enter Tab");
        desk.now_ms += 200;
        desk.press_only("Enter");
        let (ticket, question) = desk.asked.pop_front().expect("it is asked");
        let answer = desk.answer_to(&question).map(Box::new);
        desk.tell(LinkMsg::Answer { ticket, answer });
        desk.asked.clear();
    }),
    ("running, asked to stop", |desk| {
        desk.set_scene(Scene::Running);
        desk.go(Id::Chaos);
        desk.press("S");
    }),
    ("running, seen from the overview", |desk| {
        desk.set_scene(Scene::Running);
        desk.go(Id::Overview);
    }),
    ("running, seen from latency", |desk| {
        desk.set_scene(Scene::Running);
        desk.go(Id::Latency);
    }),
    ("ended, deviated", watch_to_the_end),
    ("runs", |desk| {
        desk.set_scene(Scene::Deviated);
        desk.go(Id::Runs);
    }),
    ("document", |desk| {
        desk.set_scene(Scene::Deviated);
        desk.go(Id::Runs);
        desk.press("Enter");
    }),
    ("document, its end", |desk| {
        desk.set_scene(Scene::Deviated);
        desk.go(Id::Runs);
        desk.press("Enter G");
    }),
    ("document, not there", |desk| {
        desk.go(Id::Runs);
        desk.press_only("Enter");
        desk.answer_with(Err(fixtures::fault(
            "no run 20261120T114501-6 in the data folder",
            Some("pipectl chaos history lists those that are there"),
        )));
    }),
    ("lever", |desk| {
        desk.set_scene(Scene::Lever);
        desk.go(Id::Chaos);
    }),
    ("lever, to be pulled", |desk| {
        desk.set_scene(Scene::Running);
        desk.go(Id::Chaos);
        desk.press("x l");
        desk.type_text("the sale begins");
        desk.press("Tab Tab Enter");
    }),
    ("palette", |desk| {
        desk.press(":");
        desk.type_text("chaos");
    }),
    ("journal", |desk| {
        drill_form(desk);
        desk.press("Enter Tab Enter");
        desk.set_scene(Scene::Deviated);
        desk.pass(1_000);
        desk.answer_all();
        desk.press("@");
    }),
];

fn of_drill(title: &str) -> String {
    let title = title.replace(", ", "-").replace(' ', "-");
    format!("chaos-{title}")
}

#[test]
fn pictures_of_experiments() {
    for (title, way) in DRILLS {
        let mut file = String::new();
        for size in SIZES {
            let mut desk = Desk::live(size);
            way(&mut desk);
            add(&mut file, title, &desk);
        }
        check(&of_drill(title), &file);
    }
}

#[test]
fn a_run_is_seen_in_seven_bits_and_without_colour() {
    let theme = Theme {
        depth: Depth::Mono,
        charset: Charset::Ascii,
    };
    for size in SIZES {
        let mut desk = Desk::with(size, theme, false);
        desk.come_up();
        watch_to_the_end(&mut desk);
        let picture = text(&drawn(&desk));
        assert!(picture.is_ascii(), "{picture}");
        assert!(picture.contains("DEVIATED"), "{picture}");
        if size.1 >= 24 {
            assert!(picture.contains("FAULT"), "{picture}");
        }
        desk.press("Enter");
        let picture = text(&drawn(&desk));
        assert!(picture.is_ascii(), "{picture}");
    }
}

#[test]
fn pictures_in_seven_bits_without_colour() {
    let plain = Theme {
        depth: Depth::Mono,
        charset: Charset::Ascii,
    };
    for id in ascii_screens() {
        let mut file = String::new();
        for size in SIZES {
            for state in [Shown::Normal, Shown::Disconnected] {
                let desk = state.desk(id, size, plain);
                let picture = text(&drawn(&desk));
                assert!(picture.is_ascii(), "{picture}");
                add(&mut file, &format!("{state:?}").to_lowercase(), &desk);
            }
        }
        check(&in_ascii(id), &file);
    }
}

#[test]
fn pictures_of_terminals_that_are_too_small() {
    let mut file = String::new();
    for size in [(1, 1), (20, 5), (39, 11), (200, 11), (39, 60)] {
        for state in Shown::ALL {
            let desk = state.desk(Id::Pending, size, THEME);
            add(&mut file, &format!("{state:?}").to_lowercase(), &desk);
        }
    }
    check("small", &file);
}

/// How cells look: each different look has a letter, and what it is stands beneath.
fn looks(buffer: &Buffer) -> String {
    let mut known: Vec<(Color, Color, Modifier)> = Vec::new();
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let look = (cell.fg, cell.bg, cell.modifier);
            if look == (Color::Reset, Color::Reset, Modifier::empty()) {
                line.push(if cell.symbol() == " " { ' ' } else { '.' });
                continue;
            }
            let at = known.iter().position(|other| *other == look);
            let at = at.unwrap_or_else(|| {
                known.push(look);
                known.len() - 1
            });
            line.push(char::from(b'a' + u8::try_from(at).expect("few looks")));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for (at, (fg, bg, modifier)) in known.iter().enumerate() {
        let letter = char::from(b'a' + u8::try_from(at).expect("few looks"));
        let _infallible = writeln!(text, "{letter} = {fg:?} on {bg:?} {modifier:?}");
    }
    text
}

#[test]
fn pictures_of_looks_in_every_depth() {
    for depth in DEPTHS {
        let theme = Theme { depth, ..THEME };
        let mut desk = Shown::Normal.desk(Id::Pending, (80, 24), theme);
        desk.press("j Space j j");
        desk.model.notice = None;
        let buffer = drawn(&desk);
        let file = format!("{}\n{}", text(&buffer), looks(&buffer));
        check(&of_looks(depth), &file);
    }
}

#[test]
fn pictures_change_with_the_size_and_back() {
    let desk = Shown::Normal.desk(Id::Pending, (80, 24), THEME);
    let before = text(&drawn(&desk));
    let mut desk = desk;
    for (columns, rows) in [(1, 1), (0, 0), (300, 100), (80, 24)] {
        desk.take(Msg::Resize(columns, rows));
        drawn(&desk);
    }
    assert_eq!(text(&drawn(&desk)), before);
    desk.take(Msg::Key(Key::Char('j')));
    assert_ne!(text(&drawn(&desk)), before);
}

#[test]
fn no_picture_is_left_of_what_is_gone() {
    let screens = fixtures::all_screens()
        .flat_map(|id| SIZES.into_iter().map(move |size| of_screen(id, size)));
    let known: Vec<String> = screens
        .chain(DIALOGS.iter().map(|(title, _)| of_dialog(title)))
        .chain(DRILLS.iter().map(|(title, _)| of_drill(title)))
        .chain(ascii_screens().map(in_ascii))
        .chain(DEPTHS.into_iter().map(of_looks))
        .chain(["small".to_owned()])
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/view/snapshots");
    let mut n = 0;
    for file in std::fs::read_dir(folder).expect("pictures were taken") {
        let name = file.expect("it can be listed").file_name();
        let name = name.to_string_lossy().into_owned();
        // What a failed test leaves beside a picture ends with `.snap.new`.
        let Some(name) = name.strip_suffix(".snap") else {
            continue;
        };
        n += 1;
        assert!(
            known.iter().any(|known| known == name),
            "nothing takes {name}.snap any more"
        );
    }
    assert_eq!(n, known.len(), "some pictures were not taken");
}
