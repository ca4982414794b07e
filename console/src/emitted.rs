//! What reaches the terminal: the bytes of whole sessions over hostile facts, read by a terminal's own parser. Only moves
//! of the cursor, looks of cells, erasing and the cursor's being seen may be among them.

use pipectl_shared::rpc::Bytes;
use pipectl_shared::snapshot::{Field, Page, Snapshot};
use pipectl_shared::untrusted::corpus;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vte::{Params, Parser, Perform};

use crate::fixtures::{self, Desk, THEME};
use crate::message::{Answer, LinkMsg};
use crate::model::{Layer, Model, PageWay};
use crate::place::Id;
use crate::properties::is_unwanted;
use crate::theme::{Charset, Depth, Theme};
use crate::view::view;
use crate::widgets::Ink;

/// Takes note of whatever is not ours.
#[derive(Default)]
struct Reader {
    foreign: Vec<String>,
    n_printed: usize,
}

impl Perform for Reader {
    fn print(&mut self, c: char) {
        self.n_printed += 1;
        if is_unwanted(c) {
            self.foreign.push(format!("text {c:?}"));
        }
    }

    fn execute(&mut self, byte: u8) {
        self.foreign.push(format!("control {byte:#04x}"));
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        self.foreign.push(format!("DCS {action}"));
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        self.foreign.push(format!("OSC {params:?}"));
    }

    fn csi_dispatch(&mut self, params: &Params, between: &[u8], ignore: bool, action: char) {
        let first = params
            .iter()
            .next()
            .and_then(|param| param.first().copied());
        let is_ours = !ignore
            && match (between, action) {
                // The cursor's place, erasing, and how cells look.
                (b"", 'H' | 'J' | 'K' | 'm') => true,
                // The cursor seen or not, the other screen.
                (b"?", 'h' | 'l') => matches!(first, Some(25 | 1049)),
                _ => false,
            };
        if !is_ours {
            self.foreign
                .push(format!("CSI {between:?} {params:?} {action}"));
        }
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.foreign.push(format!("ESC {byte:#04x}"));
    }
}

#[track_caller]
fn check(bytes: &[u8], what: &str) -> usize {
    let mut reader = Reader::default();
    Parser::new().advance(&mut reader, bytes);
    assert!(reader.foreign.is_empty(), "{what}: {:?}", reader.foreign);
    reader.n_printed
}

/// The bytes of a picture on an empty terminal.
fn emitted(model: &Model) -> Vec<u8> {
    let (columns, rows) = model.size;
    let options = TerminalOptions {
        viewport: Viewport::Fixed(Rect::new(0, 0, columns, rows)),
    };
    let mut bytes = Vec::new();
    let backend = CrosstermBackend::new(&mut bytes);
    let mut terminal = Terminal::with_options(backend, options).expect("a Vec takes all");
    terminal
        .draw(|frame| {
            let theme = model.options.theme;
            view(model, &mut Ink::new(frame.buffer_mut(), theme));
        })
        .expect("a Vec takes all");
    drop(terminal);
    bytes
}

/// Puts a stranger's text in place of every text of a document, keys of maps too, words that have a type of their own
/// left as they are.
fn poisoned<T: Serialize + DeserializeOwned>(value: &T, text: &str) -> T {
    fn walk(value: &mut Value, text: &str) {
        match value {
            Value::String(old) => {
                *old = text.to_owned();
            }
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, text)),
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    // Enumerations, which nothing but their words fits.
                    if !matches!(
                        key.as_str(),
                        "state"
                            | "action"
                            | "role"
                            | "scope"
                            | "risk"
                            | "kind"
                            | "phase"
                            | "verdict"
                    ) {
                        walk(value, text);
                    }
                }
                for map_of_names in ["event_types", "products"] {
                    if let Some(Value::Object(names)) = map.get_mut(map_of_names) {
                        *names = [(text.to_owned(), Value::from(1))].into_iter().collect();
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut document = serde_json::to_value(value).expect("it is plain data");
    walk(&mut document, text);
    serde_json::from_value(document).expect("texts are texts")
}

/// Tells a console everything with a stranger's text in it, the screen that is shown last of all.
fn poison(desk: &mut Desk, text: &str) {
    let mut hello = poisoned(&fixtures::hello(desk.role), text);
    hello.specs.truncate(2);
    desk.tell(LinkMsg::Up {
        hello: Box::new(hello),
        socket: text.to_owned(),
    });
    // What was asked now is answered here.
    desk.asked.clear();
    desk.model.asked.clear();
    let first = PageWay::First;
    let model = &mut desk.model;
    let (pending, dead) = (fixtures::pending(), fixtures::dead());
    let (causes, audit) = (fixtures::causes(), fixtures::audit());
    model.pending.take(rows(&pending, text), first, None, 0);
    model.dead.take(rows(&dead, text), first, None, 0);
    model.causes.take(rows(&causes, text), first, None, 0);
    model.audit.take(rows(&audit, text), first, None, 0);
    model.latency = Some(rows(&fixtures::exact_latency(), text).rows);
    // Only these show it, and a run is a long document.
    if matches!(model.screen, Id::Chaos | Id::Runs) {
        let scene = fixtures::Scene::Deviated;
        model.take_catalogue(poisoned(&fixtures::catalogue(fixtures::Scene::Lever), text));
        let runs = fixtures::runs(scene).rows;
        model.drill.runs.take(rows(&runs, text), first, None, 0);
        // All texts are one, and so are the ids.
        model.watch_own(text.to_owned(), text.to_owned());
        let _verdict = model.take_progress(text, Ok(progress_of(text)));
    }
    let mut snapshot: Snapshot = poisoned(&fixtures::snapshot(0), text);
    for (n, event) in snapshot.events.iter_mut().enumerate() {
        event.seq = 1_000 + n as u64;
    }
    // Texts that are named like an enumeration.
    snapshot.status.redis.state = text.to_owned();
    for consumer in &mut snapshot.consumers {
        consumer.state = text.to_owned();
    }
    for source in &mut snapshot.sources {
        source.state = text.to_owned();
        source.kind = text.to_owned();
    }
    // Puts the rows in order, too.
    desk.stats(snapshot);
}

/// A run that has ended, all of whose texts are a stranger's; marks keep their kinds as well.
fn progress_of(text: &str) -> pipectl_shared::chaos::Progress {
    let params = pipectl_shared::chaos::GetParams {
        id: Some(text.to_owned()),
        ..Default::default()
    };
    let mut progress = poisoned(
        &fixtures::progress(fixtures::Scene::Deviated, &params),
        text,
    );
    for mark in &mut progress.marks {
        mark.kind = text.to_owned();
    }
    progress
}

fn rows<T: Serialize + DeserializeOwned>(rows: &[T], text: &str) -> Page<T> {
    Page {
        rows: rows.iter().map(|row| poisoned(row, text)).collect(),
        next: None,
        total: None,
    }
}

/// Ways to everything that can lie over a screen; the daemon answers with the stranger's text where it answers.
fn layers(desk: &mut Desk, text: &str, raw: &[u8], check_it: &mut dyn FnMut(&Desk, &str)) {
    let press = |desk: &mut Desk, keys: &str| {
        for key in keys.split(' ') {
            desk.now_ms += 200;
            desk.press_only(key);
        }
    };
    press(desk, "x");
    check_it(desk, "menu");
    press(desk, "Esc :");
    check_it(desk, "palette");
    press(desk, "Esc ?");
    check_it(desk, "help");
    press(desk, "Esc Enter");
    check_it(desk, "detail without a payload");
    // Elsewhere Enter leads to another screen.
    let is_detail = matches!(desk.model.layers.last(), Some(Layer::Detail(_)));
    if is_detail && desk.model.screen == Id::Pending {
        let mut row = poisoned(&fixtures::pending()[0], text);
        let field = |value: &[u8]| Field {
            name: Bytes::from(raw),
            value: Bytes::from(value),
            size: value.len() as u64,
            offset: 0,
            truncated: false,
        };
        row.fields = Some(vec![field(raw), field(raw)]);
        desk.answer_with(Ok(Answer::PendingEntry(row)));
        check_it(desk, "payload");
        press(desk, "h");
        check_it(desk, "payload as hex");
        desk.asked.clear();
        press(desk, "Esc x c");
        let params = pipectl_shared::plan::PlanParams {
            action: pipectl_shared::plan::Action::Claim,
            select: Default::default(),
            to: Some(text.to_owned()),
        };
        let mut plan = fixtures::plan(&params);
        plan.sample.truncate(3);
        let mut plan = poisoned(&plan, text);
        plan.matched = 1;
        desk.answer_with(Ok(Answer::Plan(plan)));
        check_it(desk, "plan");
        press(desk, "1 Enter Tab Tab Enter");
        check_it(desk, "plan sent");
        desk.answer_with(Err(fixtures::fault(text, Some(text))));
        check_it(desk, "plan refused");
        press(desk, "Esc @");
        check_it(desk, "journal");
    }
    if desk.model.screen == Id::Runs {
        desk.answer_with(Ok(Answer::Run(progress_of(text))));
        check_it(desk, "document");
        press(desk, "G");
        check_it(desk, "the end of a document");
    }
    if desk.model.screen == Id::Chaos {
        desk.model.layers.clear();
        desk.asked.clear();
        let mut catalogue = poisoned(&fixtures::catalogue(fixtures::Scene::Idle), text);
        catalogue.rows.iter_mut().for_each(|row| row.refused = None);
        desk.model.take_catalogue(catalogue);
        let mut hello = poisoned(&fixtures::hello(desk.role), text);
        hello.rights = vec!["chaos".to_owned()];
        let socket = text.to_owned();
        desk.tell(LinkMsg::Up {
            hello: Box::new(hello),
            socket,
        });
        desk.asked.clear();
        let mut snapshot = fixtures::snapshot(0);
        snapshot.seq = 9;
        desk.stats(snapshot);
        desk.model.drill.watch = None;
        press(desk, "Enter");
        check_it(desk, "form of an experiment");
        desk.model.layers.clear();
        let preview = poisoned(&fixtures::preview(&Default::default()), text);
        let rehearsal = crate::model::Rehearsal {
            params: pipectl_shared::chaos::RunParams {
                name: text.to_owned(),
                reason: Some(text.to_owned()),
                ..Default::default()
            },
            preview: pipectl_shared::chaos::Preview {
                refused: Some(text.to_owned()),
                ..preview
            },
            line: 0,
            focus: crate::model::Focus::Cancel,
            fault: Some(fixtures::fault(text, Some(text))),
            is_sent: false,
            opened_ms: 0,
        };
        desk.model
            .layers
            .push(Layer::Rehearsal(Box::new(rehearsal)));
        check_it(desk, "what an experiment would do");
        desk.model.layers.clear();
        desk.model.drill.is_live = true;
        desk.model.watch_own(text.to_owned(), text.to_owned());
        let _verdict = desk.model.take_progress(text, Ok(progress_of(text)));
        check_it(desk, "a run");
    }
    desk.model.layers.clear();
    desk.model.complain(text);
    check_it(desk, "notice");
    desk.model.notice = None;
}

#[test]
fn only_our_own_sequences_reach_the_terminal_whatever_strangers_write() {
    let plain = Theme {
        depth: Depth::Mono,
        charset: Charset::Ascii,
    };
    for hostile in corpus::hostile() {
        let text = String::from_utf8_lossy(&hostile.bytes).into_owned();
        let is_long = text.len() > 20_000;
        for (size, theme) in [((80, 24), THEME), ((160, 45), plain), ((30, 8), THEME)] {
            // One size is enough for the megabytes: they are cut before they are laid out.
            if is_long && size != (80, 24) {
                continue;
            }
            let mut desk = Desk::with(size, theme, false);
            desk.come_up();
            for id in fixtures::all_screens() {
                desk.go(id);
                poison(&mut desk, &text);
                let what = format!("{} on {id:?} at {size:?}", hostile.desc);
                let n = check(&emitted(&desk.model), &what);
                assert!(n > 0, "{what}: nothing was drawn");
                if is_long {
                    continue;
                }
                layers(&mut desk, &text, &hostile.bytes, &mut |desk, layer| {
                    check(&emitted(&desk.model), &format!("{what}, {layer}"));
                });
            }
            desk.tell(LinkMsg::Down {
                why: text.clone(),
                hint: Some(text.clone()),
                retry_in_ms: 1_000,
            });
            check(&emitted(&desk.model), hostile.desc);
        }
    }
}

#[test]
fn a_foreign_sequence_would_be_seen() {
    for (bytes, part) in [
        (&b"\x1b]0;x\x07"[..], "OSC"),
        (b"\x1b[6n", "CSI"),
        (b"\x1bPq\x1b\\", "DCS"),
        (b"\x07", "control"),
        (b"\x1bc", "ESC"),
        ("\u{202e}".as_bytes(), "text"),
        ("\u{9b}2J".as_bytes(), "control"),
        (b"\x1b[?2004h", "CSI"),
    ] {
        let mut reader = Reader::default();
        Parser::new().advance(&mut reader, bytes);
        let seen = reader.foreign.join(" ");
        assert!(seen.contains(part), "{bytes:?}: {seen}");
    }
}
